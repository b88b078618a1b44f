"""Erasing a bit: the work without a limit of time, and the optimum of a two-level system in a given one."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from limjax.limits._arguments import together
from limjax.numerics._elementary import asinh
from limjax.numerics._roots import monotone_root
from limjax.numerics.checks import Argument, is_known, read, worst
from limjax.physics.units import LN2

_Values = Float[Array, "..."]
_ITERATIONS = {"float32": 12, "float64": 16}


def optimum(*arguments: Argument) -> tuple[_Values, _Values]:
    """Production and heat for Γτ, p0 and pf; NaN or an error where no drive is fast enough."""
    if not is_known(*(argument.value for argument in arguments)):
        # Nothing can be raised and no wider dtype had inside a trace: infeasible points become NaN.
        time, p0, pf = together(*arguments)
        return _solve_two_level(time, p0, pf, _is_erasable(time, p0, pf))
    # Time and least time nearly cancel, and so do the two ends: what is known is computed in float64 whatever the default.
    dtype = read(*arguments)[0].dtype
    with jax.enable_x64(True):
        wide = [argument._replace(value=np.asarray(argument.value, np.float64)) for argument in arguments]
        time, p0, pf = together(*wide)
        is_feasible = _is_erasable(time, p0, pf)
        if not bool(np.all(is_feasible)):
            got, got0, gotf = worst(~np.asarray(is_feasible), time, p0, pf)
            if gotf >= got0:
                raise ValueError(f"stop must be below start, got start={got0:g} and stop={gotf:g}.")
            raise ValueError(
                f"An occupation cannot fall from {got0:g} to {gotf:g} in a rate times time of {got:g}: it relaxes no faster "
                f"than e^-Γτ. The nearest feasible rate_time is any above {np.log(got0 / gotf):.6g}."
            )
        production, heat = (np.asarray(x) for x in _solve_two_level(time, p0, pf, is_feasible))
    return jnp.asarray(production, dtype), jnp.asarray(heat, dtype)


def entropy(p: _Values) -> _Values:
    """Binary entropy in nats, for 0 < p < 1."""
    return -p * jnp.log(p) - (1 - p) * jnp.log1p(-p)


def reset_work(eps: _Values) -> _Values:
    """ln 2 - h(ε), for 0 <= ε <= 1/2."""
    # Near 1/2 the two terms cancel; with δ = 1 - 2ε the difference is δ atanh δ + ½ ln(1 - δ²).
    delta = 1 - 2 * eps
    is_near_half = eps > 0.25
    small = jnp.where(is_near_half, delta, 0.0)
    near = small * jnp.arctanh(small) + 0.5 * jnp.log1p(-small * small)
    # 0 ln 0 is 0. The slope there, minus infinity, is given as 0, which keeps the gradient of a grid finite.
    is_zero = eps <= 0
    inside = jnp.where(is_near_half | is_zero, 0.1, eps)
    far = LN2 - jnp.where(is_zero, 0.0, entropy(inside))
    return jnp.where(is_near_half, near, far)


def _is_erasable(time: _Values, p0: _Values, pf: _Values) -> Bool[Array, "..."]:
    # Closer to the least time than this, their difference has no digits left.
    shortest = jnp.log(p0) - jnp.log(pf)
    return (pf < p0) & (time - shortest > 64 * jnp.finfo(time.dtype).eps * (1 + shortest)) & (pf > 0) & (p0 < 1)


@jax.jit
def _solve_two_level(
    time: _Values, p0: _Values, pf: _Values, is_feasible: Bool[Array, "..."]
) -> tuple[_Values, _Values]:
    # Infeasible points solve some feasible problem: their NaN would reach derivatives through the last `where`.
    p0, pf = jnp.where(is_feasible, p0, 0.5), jnp.where(is_feasible, pf, 0.1)
    shortest = jnp.log(p0) - jnp.log(pf)
    asked = jnp.where(is_feasible, time, 10.0)
    # The speed, Γ√(K w(1-w)), is at most Γ√K/2: no K is below e^`low`. Where that may be no float any more the first order in 1/Γτ is exact.
    is_slow = 2 * jnp.log(2 * (p0 - pf) / asked) < math.log(float(jnp.finfo(asked.dtype).tiny)) + 1
    time = jnp.where(is_slow, 1e6, asked)
    length = jnp.arcsin(1 - 2 * pf) - jnp.arcsin(1 - 2 * p0)
    # K of a slow erasure, (𝓛/Γτ)² by the thermodynamic length, and of a fast one, (p0-pf)/(Γτ - shortest).
    guess = jnp.log((length / time) ** 2 + (p0 - pf) / (time - shortest))

    def residual(u: _Values) -> _Values:
        # Beyond the shortest the time falls with K by as many decades as it has: in logarithms the residual is nearly
        # straight, and it increases, as `monotone_root` asks.
        duration = _two_level_time(u, pf) - _two_level_time(u, p0)
        return jnp.log(time - shortest) - jnp.log(duration - shortest)

    # When slow the fast term of the guess is too large, about Γτ times.
    low = 2 * jnp.log(2 * (p0 - pf) / time) - 0.1
    log_k = monotone_root(residual, guess, low, guess + 12.0, _ITERATIONS[guess.dtype.name])
    production = _two_level_production(log_k, pf) - _two_level_production(log_k, p0)
    production = jnp.where(is_slow, length**2 / asked, production)
    heat = production + entropy(p0) - entropy(pf)
    return jnp.where(is_feasible, production, jnp.nan), jnp.where(is_feasible, heat, jnp.nan)


def _two_level_parts(log_k: _Values, p: _Values) -> tuple[_Values, _Values, _Values, _Values, _Values]:
    k = jnp.exp(log_k)
    q = 1 - 2 * p
    spread = 4 * p * (1 - p)
    root = jnp.sqrt(k + spread)
    # arcsin(q/√(1+K)) without its infinite slope at q² = 1 + K.
    return k, q, spread, root, jnp.arctan2(q, root)


def _two_level_time(log_k: _Values, p: _Values) -> _Values:
    k, q, spread, root, angle = _two_level_parts(log_k, p)
    # atanh(q√K/r) - ½ ln(1-q²), joined so that each stays finite as K grows.
    scaled = q * jnp.sqrt(k)
    # Not `abs`, whose derivative at q = 0, a bit that starts unbiased, is that of neither side.
    total = jnp.log(root + jnp.where(q > 0, scaled, -scaled))
    joined = jnp.where(q > 0, total - jnp.log(spread), jnp.log1p(k) - total)
    return angle / jnp.sqrt(k) + joined - 0.5 * jnp.log1p(k)


def _two_level_production(log_k: _Values, p: _Values) -> _Values:
    k, q, spread, _, angle = _two_level_parts(log_k, p)
    ratio = jnp.sqrt(k / spread)
    # asinh(q √(K / (1-q²)(1+K))) is atanh(q√K/r).
    return jnp.sqrt(k) * angle + q * asinh(ratio) - asinh(q * ratio / jnp.sqrt(1 + k))
