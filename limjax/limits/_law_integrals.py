"""The law's integrals over a descent with minibatch noise, in a given time: what `limjax.limits.law.optimum` solves."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from limjax.numerics._quadrature import gauss_legendre
from limjax.numerics._roots import monotone_root

Values = Float[Array, "..."]
_ITERATIONS = {"float32": 14, "float64": 20}
# Below the reach of the quadrature: 1 - C/Cmax = e^-40 is not told from 0 in float64.
_SLOWEST = {"float32": 14.0, "float64": 30.0}
_NODES, _WEIGHTS = gauss_legendre(64)


def safe_sqrt(x: Values) -> Values:
    """The root with derivative zero instead of infinity at zero."""
    is_positive = x > 0
    return jnp.where(is_positive, jnp.sqrt(jnp.where(is_positive, x, 1.0)), 0.0)


@jax.jit
def at_contraction(
    first: Values, last: Values, s: Values, floor: Values, theta: Values
) -> tuple[Values, Values, Values, Values]:
    """Heat and power of the optimum in a given time, and the shortest and longest time it exists for."""
    span = jnp.log(first - floor) - jnp.log(last - floor)
    shortest = 0.5 * span
    # (L-f)/(L+s) grows with L: as C rises q reaches zero at the start first, where the loss then stands still.
    limit = (first + s) / (first - floor)
    # The caller refuses times that are too short; here they must only not turn the guess, a logarithm, into NaN.
    bounded = jnp.maximum(theta, shortest * (1 + 8 * jnp.finfo(theta.dtype).eps))
    slowest = _SLOWEST[theta.dtype.name]
    # For a full gradient q is the same all along, and known.
    guess = -2 * (jnp.log(shortest) - jnp.log(bounded - shortest))

    def time(w: Values) -> Values:
        return _quadrature(w, first, s, floor, span)[0]

    # With noise q vanishes at the start alone, where 1/q can be integrated. Without it the time has no end.
    longest = jnp.where(s > 0, time(jnp.full_like(theta, slowest)), jnp.inf)
    target = jnp.where(s > 0, jnp.minimum(bounded, longest), bounded)
    root = monotone_root(
        lambda w: jnp.log(time(w)) - jnp.log(target),
        jnp.where(s > 0, jnp.minimum(guess, slowest), guess),
        # w < 0 is C < 0, haste; C = 0, the cheapest time, is w = 0. Without noise the guess is the root, in any time.
        jnp.minimum(-2 * slowest, guess - 4),
        jnp.where(s > 0, slowest, jnp.maximum(2 * slowest, guess + 1)),
        _ITERATIONS[theta.dtype.name],
    )
    _, heat = _quadrature(root, first, s, floor, span)
    return heat, -limit * jnp.expm1(-root), shortest, longest


def _quadrature(w: Values, first: Values, s: Values, floor: Values, span: Values) -> tuple[Values, Values]:
    """uT and heat for C = Cmax (1 - e^-w), where Cmax is the price at which the loss stands still at its start."""
    # y = ln(L - f) from its end down, in √: q has a root at the start as C nears Cmax.
    axis = (1,) * w.ndim + (-1,)
    x = jnp.asarray(_NODES, w.dtype).reshape(axis)
    weight = jnp.asarray(2 * _WEIGHTS, w.dtype).reshape(axis) * x * span[..., None]
    above = (first - floor)[..., None] * jnp.exp(-span[..., None] * x * x)
    value = above + floor[..., None]
    # (L-f)/(L+s) over its value at the start, and what that lacks to 1, without cancellation: nothing for s = 0.
    lacking = (
        (s + floor)[..., None] * (first[..., None] - value) / ((first - floor)[..., None] * (value + s[..., None]))
    )
    shut = jnp.exp(-w)[..., None]
    # q² = 1 - (1 - e^-w)(1 - lacking), multiplied out.
    q = safe_sqrt(lacking + shut * (1 - lacking))
    time = jnp.sum(weight * (1 + q) / (2 * q), axis=-1)
    heat = jnp.sum(weight * (1 + q) * (1 + q) / (2 * q) * (value + s[..., None]) / above, axis=-1)
    return time, heat
