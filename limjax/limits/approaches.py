r"""Ways to set the barrier during one convergence, with the hop noise they make paid for, open or not.

A weight starts `distance` m0 levels from the minimum of a bowl and its requests contract towards it. Its mean falls as
$m = m_0e^{-θ}$, θ = ut, and its variance v and heat Q follow

$$ \frac{dv}{dθ} = -2v + \Big\langle\sqrt{d^2+4G^2}\Big\rangle, \qquad \frac{dQ}{dθ} = \langle 2d\,\mathrm{asinh}(d/2G)\rangle, \qquad
   d \sim \mathcal N(m, v), $$

with the exchange G in hops per relaxation time and the loss $L = m^2+v$. An
approach is what G follows; how large it is follows from the final loss. Only the loss-following one is the law's optimum, and only it
has a closed form; the averages are Gauss-Hermite sums, the time is integrated by Runge-Kutta steps.

Source: docs/law.md; tests compare with exact hops and with NumPy code of their own.
"""

import abc
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from limjax.limits import _arguments
from limjax.numerics._elementary import safe_log
from limjax.numerics._guards import finite
from limjax.numerics._quadrature import gauss_hermite
from limjax.numerics._roots import monotone_root
from limjax.numerics.checks import Argument, is_known, read, worst
from limjax.physics._response import cell_response
from limjax.physics.units import LN2

_Values = Float[Array, "..."]

MAX_CONTRACTION = 60.0
"""Largest uT: beyond it the Runge-Kutta steps are too long."""

_STEPS = 128
# Enough by halving alone: a bracket of some 50 in ln G shrinks to 3e-6 and to 3e-9.
_ITERATIONS = {"float32": 24, "float64": 34}
_NODES, _WEIGHTS = gauss_hermite(32)
# An exchange of e^-45 per relaxation time is as good as none: hops are then those of the requests alone.
_SHUT = -45.0


class HeatAndLoss(NamedTuple):
    """What an approach costs and where it ends.

    Attributes:
        heat_kt: heat per parameter [kT].
        loss: final mean squared distance from the minimum [levels²].
    """

    heat_kt: Float[Array, "..."]
    loss: Float[Array, "..."]


class AbstractApproach(eqx.Module):
    """What the exchange follows during one convergence. Final subclasses give its logarithm up to a constant.

    Attributes:
        name: in results.
        title: in tables and figures.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    @abc.abstractmethod
    def log_shape(self, progress: Float[Array, ""], mean: _Values, loss: _Values) -> _Values:
        """ln G up to a constant.

        Args:
            progress: θ/uT, from 0 to 1.
            mean: m, mean distance [levels].
            loss: L = m² + v [levels²].

        Returns:
            ln G + constant.
        """

    @abc.abstractmethod
    def open_log_scale(self, distance: _Values, contraction: _Values, final_loss: _Values) -> _Values:
        """The constant that meets a final loss if the barrier is open all along; the true one is at most that.

        Args:
            distance: m0 [levels].
            contraction: uT.
            final_loss: LT [levels²].

        Returns:
            ln G - `log_shape`.
        """


class ConstantExchange(AbstractApproach):
    """A barrier that does not move."""

    name: ClassVar[str] = "constant"
    title: ClassVar[str] = "best constant barrier"

    def log_shape(self, progress: Float[Array, ""], mean: _Values, loss: _Values) -> _Values:
        return jnp.zeros_like(loss)

    def open_log_scale(self, distance: _Values, contraction: _Values, final_loss: _Values) -> _Values:
        # L = G + (L0 - G) x², at most LT/(1 - x²).
        return jnp.log(final_loss) - jnp.log(-jnp.expm1(-2 * contraction))


class RateMatched(AbstractApproach):
    """Exchange in proportion to the speed of the mean path."""

    name: ClassVar[str] = "rate_matched"
    title: ClassVar[str] = "rate-matched"

    def log_shape(self, progress: Float[Array, ""], mean: _Values, loss: _Values) -> _Values:
        return jnp.log(mean)

    def open_log_scale(self, distance: _Values, contraction: _Values, final_loss: _Values) -> _Values:
        # 2κ m0 (x - x²) is what an open barrier injects and keeps.
        injected = 2 * jnp.exp(-contraction) * -jnp.expm1(-contraction)
        return jnp.log(final_loss) - jnp.log(distance) - jnp.log(injected)


class LossFollowing(AbstractApproach):
    """Exchange in proportion to the loss as measured, hop noise included: the law."""

    name: ClassVar[str] = "loss_following"
    title: ClassVar[str] = "loss-following"

    def log_shape(self, progress: Float[Array, ""], mean: _Values, loss: _Values) -> _Values:
        return safe_log(loss)

    def open_log_scale(self, distance: _Values, contraction: _Values, final_loss: _Values) -> _Values:
        # γ/u of the law. It is not positive where even the mean does not come down to LT: such points are infeasible,
        # and here the logarithm must only not be NaN.
        share = 1 - (jnp.log(distance) - 0.5 * jnp.log(final_loss)) / contraction
        return jnp.log(jnp.maximum(share, jnp.finfo(share.dtype).eps))


class Knots(AbstractApproach):
    """A free curve: ln G between knots at equal distances in θ.

    Attributes:
        log_exchange: ln G at the knots, at least two.
    """

    name: ClassVar[str] = "free"
    title: ClassVar[str] = "free curve"
    log_exchange: Float[Array, "knots"]

    def log_shape(self, progress: Float[Array, ""], mean: _Values, loss: _Values) -> _Values:
        last = self.log_exchange.shape[0] - 1
        at = progress.astype(self.log_exchange.dtype) * last
        # The last Runge-Kutta stage is at the last knot itself, which belongs to the interval before it.
        left = jnp.clip(jnp.floor(at), 0, last - 1).astype(jnp.int32)
        share = at - left.astype(at.dtype)
        value = (1 - share) * self.log_exchange[left] + share * self.log_exchange[left + 1]
        return jnp.broadcast_to(value.astype(loss.dtype), loss.shape)

    def open_log_scale(self, distance: _Values, contraction: _Values, final_loss: _Values) -> _Values:
        # An open barrier injects 2∫G e^{-2(uT-θ)}dθ. Half the sum over the knots is less than that where they are close, the sum
        # over the middles between them always, as a straight line in logarithms has more than its middle on average.
        curve = self.log_exchange.astype(contraction.dtype)
        left = jnp.asarray(np.linspace(-2, 0, curve.shape[0]), curve.dtype)
        axis = (1,) * contraction.ndim + (-1,)
        kept = curve.reshape(axis) + contraction[..., None] * left.reshape(axis)
        middles = jax.nn.logsumexp(0.5 * (kept[..., 1:] + kept[..., :-1]), axis=-1) + LN2
        injected = jnp.minimum(jax.nn.logsumexp(kept, axis=-1), middles)
        return jnp.log(final_loss) - injected - jnp.log(contraction / (curve.shape[0] - 1))


APPROACHES: tuple[AbstractApproach, ...] = (ConstantExchange(), RateMatched(), LossFollowing())
"""The barriers chosen for the task; a static one is not chosen, see `static`."""


def _contraction(value: object) -> Argument:
    return _arguments.contraction(value, "2 ln(distance)", MAX_CONTRACTION)


def _final_loss(value: object) -> Argument:
    return Argument(value, "final_loss", "It is the final mean squared distance in levels squared, for example 1.")


def _ceiling(value: object) -> Argument:
    remedy = "It is the logarithm of the largest exchange, in hops per relaxation time."
    return Argument(value, "log_ceiling", remedy, low=-np.inf, open_low=False)


def descend(
    approach: AbstractApproach,
    distance: ArrayLike,
    contraction: ArrayLike,
    log_scale: ArrayLike,
    *,
    log_ceiling: ArrayLike | None = None,
) -> HeatAndLoss:
    """Heat and final loss of an approach at a given size of its exchange, by the moments of the weight.

    Args:
        approach: what the exchange follows.
        distance: m0 [levels].
        contraction: uT [dimensionless], at most 60.
        log_scale: ln G - `approach.log_shape`.
        log_ceiling: ln of the largest exchange the cell can make [ln(hops per relaxation time)]; None for no limit.

    Returns:
        Heat [kT] and final loss [levels²].

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> heat, loss = descend(ConstantExchange(), 256.0, 6.0, 0.0)
        >>> f"{heat:.0f} kT, {loss:.2f} levels²"
        '2337 kT, 1.77 levels²'

    Cost: 128 Runge-Kutta steps of 4 x 32 Gauss-Hermite nodes; errors below 0.7 % (loss, rate-matched at uT = 60), of heat below 0.3 %.
    """
    scale = Argument(log_scale, "log_scale", "It is a logarithm of hops.", low=-np.inf, open_low=False)
    m0, theta, size = _arguments.together(_arguments.distance(distance), _contraction(contraction), scale)
    return integrate(approach, m0, theta, size, _read_ceiling(log_ceiling, m0))[0]


def _read_ceiling(log_ceiling: ArrayLike | None, like: _Values) -> _Values | None:
    if log_ceiling is None:
        return None
    (ceiling,) = read(_ceiling(log_ceiling))
    return jnp.broadcast_to(ceiling.astype(like.dtype), like.shape)


@eqx.filter_jit
def integrate(
    approach: AbstractApproach, m0: _Values, theta: _Values, log_scale: _Values, ceiling: _Values | None
) -> tuple[HeatAndLoss, Float[Array, "steps ..."]]:
    """`descend` for checked arrays of one shape and dtype, with the loss after every step."""
    dtype = m0.dtype
    axis = (1,) * m0.ndim + (-1,)
    nodes, weights = (jnp.asarray(x, dtype).reshape(axis) for x in (_NODES, _WEIGHTS))

    def slopes(progress: Float[Array, ""], variance: _Values) -> tuple[_Values, _Values]:
        # Time is in relaxation times, as G is: the request is then the distance itself, without u.
        mean = m0 * jnp.exp(-theta * progress)
        log_exchange = log_scale + approach.log_shape(progress, mean, mean * mean + variance)
        if ceiling is not None:
            log_exchange = jnp.minimum(log_exchange, ceiling)
        # A point has no spread, and its root no derivative.
        spread = jnp.sqrt(variance + 1e-7 * mean * mean + 1e-12)
        request = mean[..., None] + spread[..., None] * nodes
        # `cell_response` holds down to e^-80 in float32. Shut further than e^-75 a cell hops as often as it must, |d|, and each hop
        # costs 2 (ln|d| - ln G).
        affinity, activity = cell_response(
            request, jnp.broadcast_to(jnp.maximum(log_exchange, -75.0)[..., None], request.shape)
        )
        noise, heat = jnp.sum(weights * activity, axis=-1), jnp.sum(weights * request * affinity, axis=-1)
        return theta * (noise - 2 * variance), theta * (heat + 2 * noise * jnp.maximum(-75.0 - log_exchange, 0.0))

    def step(carry: tuple[_Values, _Values], progress: Float[Array, ""]) -> tuple[tuple[_Values, _Values], _Values]:
        variance, heat = carry
        h = jnp.asarray(1 / _STEPS, dtype)
        v1, q1 = slopes(progress, variance)
        v2, q2 = slopes(progress + 0.5 * h, variance + 0.5 * h * v1)
        v3, q3 = slopes(progress + 0.5 * h, variance + 0.5 * h * v2)
        v4, q4 = slopes(progress + h, variance + h * v3)
        # A step that overshoots must leave no negative number to the root in `slopes`.
        variance = jnp.maximum(variance + h / 6 * (v1 + 2 * (v2 + v3) + v4), 0.0)
        loss = jnp.square(m0 * jnp.exp(-theta * (progress + h))) + variance
        return (variance, heat + h / 6 * (q1 + 2 * (q2 + q3) + q4)), loss

    starts = jnp.asarray(np.arange(_STEPS) / _STEPS, dtype)
    (_, heat), losses = jax.lax.scan(step, (jnp.zeros_like(m0), jnp.zeros_like(m0)), starts)
    return HeatAndLoss(heat, losses[-1]), losses


def heat(
    approach: AbstractApproach,
    distance: ArrayLike,
    contraction: ArrayLike,
    final_loss: ArrayLike,
    *,
    log_ceiling: ArrayLike | None = None,
) -> Float[Array, "..."]:
    """Heat of an approach for a range, a speed and a final loss, its noise paid for.

    Args:
        approach: what the exchange follows; its size is solved for.
        distance: m0 [levels].
        contraction: uT [dimensionless], at most 60.
        final_loss: LT, mean squared distance at the end [levels²].
        log_ceiling: ln of the largest exchange the cell can make [ln(hops per relaxation time)]; None for no limit. Where it leaves
            less than the final loss, the exchange is the ceiling all along and the descent ends lower than asked.

    Returns:
        Heat per parameter [kT]; NaN where traced arguments are infeasible.

    Raises:
        ValueError: if a known argument is out of its range, or the final loss is below what the hops of the requests alone
            leave; the message gives the least.

    Example:
        >>> " ".join(f"{approach.name} {heat(approach, 256.0, 11.09, 1.0):.4g}" for approach in APPROACHES)
        'constant 2408 rate_matched 22.44 loss_following 22.45'

    Cost: about 25 (float32) or 35 times `descend` and its derivative; derivatives cost one.
    """
    m0, theta, last = _arguments.together(
        _arguments.distance(distance), _contraction(contraction), _final_loss(final_loss)
    )
    result, _, is_feasible, least = solve(approach, m0, theta, last, _read_ceiling(log_ceiling, m0))
    if is_known(is_feasible) and not bool(np.all(is_feasible)):
        got_m0, got_theta, got, limit = worst(~np.asarray(is_feasible), m0, theta, last, least)
        if got >= got_m0**2:
            raise ValueError(f"final_loss must be below distance² = {got_m0**2:g} levels², got {got:g}.")
        raise ValueError(
            f"A final loss of {got:g} levels² cannot be reached from {got_m0:g} levels in a contraction of {got_theta:g}, "
            f"whatever the barrier: the hops of the requests alone leave {limit:.6g}. Ask for more than that, or give more "
            "time."
        )
    return result


@eqx.filter_jit
def solve(
    approach: AbstractApproach, m0: _Values, theta: _Values, last: _Values, ceiling: _Values | None
) -> tuple[_Values, _Values, Bool[Array, "..."], _Values]:
    """`heat` for checked arrays: heat, ln of the scale, whether there is one, and the least final loss."""
    # That exchange at the start; one that follows speed or loss is smaller still from there on.
    shut = jnp.full_like(m0, _SHUT) - approach.log_shape(jnp.zeros((), m0.dtype), m0, m0 * m0)
    least = integrate(approach, m0, theta, shut, ceiling)[0].loss
    is_feasible = (last > least * (1 + 1e-5)) & (last < m0 * m0) & (m0 > 0) & (theta > 0) & (theta <= MAX_CONTRACTION)
    # Infeasible points look for some loss in between: their NaN would reach derivatives through the `where`.
    target = jnp.where(is_feasible, last, 0.5 * (least + m0 * m0))
    # A is at least 2G: the same exchange scatters more where the barrier is not open, so without a ceiling the root is
    # below the open one, but for the errors of the integration.
    guess = high = approach.open_log_scale(m0, theta, target) + 1e-3
    low = jnp.minimum(shut, guess - 1)
    is_ceiling = jnp.zeros_like(is_feasible)
    if ceiling is not None:
        # What is cut at the start has to be made up for later, at most until all is cut.
        high = jnp.maximum(high, ceiling - _lowest_shape(approach, m0, theta, least))
        most = integrate(approach, m0, theta, high, ceiling)[0].loss
        # No scale has more hops: the root would have no derivative, and NaN would come through the `where` below.
        is_ceiling = target >= most * (1 - 1e-5)
        # Any loss in between serves, without a derivative: that of `most` may not be finite.
        between = jax.lax.stop_gradient(jnp.sqrt(least) * jnp.sqrt(most))
        target = jnp.where(is_ceiling, between, target)

    def residual(log_scale: _Values) -> _Values:
        return jnp.log(integrate(approach, m0, theta, log_scale, ceiling)[0].loss) - jnp.log(target)

    root = monotone_root(residual, guess, low, high, _ITERATIONS[m0.dtype.name])
    log_scale = jnp.where(is_ceiling, high, root)
    # Outside of the search: the root is differentiated as an implicit function, the heat by the chain rule.
    result = integrate(approach, m0, theta, log_scale, ceiling)[0].heat_kt
    return jnp.where(is_feasible, result, jnp.nan), log_scale, is_feasible, least


def _lowest_shape(approach: AbstractApproach, m0: _Values, theta: _Values, least: _Values) -> _Values:
    """The least of `log_shape` over the stages of the integration, none of which has less loss than a shut cell's last."""
    stages = jnp.asarray(np.linspace(0, 1, 2 * _STEPS + 1), m0.dtype)
    shapes = jax.vmap(lambda progress: approach.log_shape(progress, m0 * jnp.exp(-theta * progress), least))(stages)
    return jnp.min(shapes, axis=0)


@finite
def static(distance: ArrayLike, contraction: ArrayLike, barrier: ArrayLike, attempts: ArrayLike) -> HeatAndLoss:
    """Heat and final loss when the barrier that keeps the weight afterwards also stands during training: the update wall.

    Args:
        distance: m0 [levels].
        contraction: uT [dimensionless], at most 60.
        barrier: B [kT].
        attempts: k0 T, attempts over the whole training [dimensionless].

    Returns:
        Heat [kT] and final loss [levels²]; the loss is that of the hops the requests cause, as a closed cell adds none.

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> heat, loss = static(256.0, 11.09, 49.5, 1e9 * 1e4)
        >>> f"{heat:.0f} kT"
        '13660 kT'
    """
    m0, theta, height, tries = _arguments.together(
        _arguments.distance(distance),
        _contraction(contraction),
        _arguments.barrier(barrier, remedy="Barriers are in kT; 50 holds a bit for ten years."),
        Argument(attempts, "attempts", "It is attempt rate times training time, for example 1e9 * 1e4."),
    )
    # k0 T e^-B hops each way in the whole training, over its uT relaxation times.
    return integrate(ConstantExchange(), m0, theta, jnp.log(tries) - height - jnp.log(theta), None)[0]
