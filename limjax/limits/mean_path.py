r"""Closed forms of the mean path: what a descent costs whose requests do not chase the hop noise.

A weight starts `distance` m0 levels from its target, closes in as m(t) = m0 e^{-at} for a time T, and its requests follow
that path alone. Hops scatter it to a final variance s, and nobody asks it back. That is what a noiseless run pays (hops
"mean"), and a limit of the law where the spread stays small beside the distance; **it is not what a noisy run pays**: with
the corrections paid for, the same schedules cost 19 instead of 7.3 kT, and 22.4 instead of 0.0038 (`limjax.limits.approaches`, docs/law.md).

With x = e^{-aT} and μ the price of variance, κ = sqrt(2/μ) for the schedule Γ ∝ m² that is best here,

$$ s = m_0 x\,(R + κ D), \qquad Q = 2 m_0 \left[(1-x)\,\mathrm{asinh}\tfrac{x}{κ} + \tfrac{x}{κ} D - x E\right] $$

with R = (1-x²)/(√(1+κ²)+√(x²+κ²)), D = asinh(κR/x) and E = asinh((1-x²)/(√(x²+κ²)+x√(1+κ²))): differences of roots and
of asinh taken before rounding, as written in full they lose all digits in float32. For a constant Γ = a m0 κ/2,
Q = 2 m0 [E + (1-x) asinh(x/κ) - R]; for Γ = κv, Q = 2 m0 (1-x) asinh(1/2κ).

Source: docs/law.md; tests compare with quadrature.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from limjax.limits import _arguments
from limjax.numerics._elementary import asinh, asinh_exp
from limjax.numerics._guards import finite
from limjax.numerics.checks import Argument, read
from limjax.physics.units import LN2

_Values = Float[Array, "..."]

MAX_CONTRACTION = 40.0
"""Largest aT: beyond it e^{2aT} leaves float32."""


class HeatAndVariance(NamedTuple):
    """What a barrier schedule costs and how precise it leaves the weight.

    Attributes:
        heat_kt: heat per parameter [kT].
        variance: final variance [levels²].
    """

    heat_kt: Float[Array, "..."]
    variance: Float[Array, "..."]


def _contraction(value: object) -> Argument:
    remedy = "It is the training time in units of the convergence time (aT), for example 1.2 ln(distance)."
    return Argument(value, "contraction", remedy, high=MAX_CONTRACTION)


def _hypot(a: _Values, b: _Values) -> _Values:
    # Squares of e^±80 would leave float32; that of a ratio below 1 does not.
    larger, smaller = jnp.maximum(a, b), jnp.minimum(a, b)
    ratio = smaller / larger
    return larger * jnp.sqrt(1 + ratio * ratio)


class _Path(NamedTuple):
    """x = e^{-aT}, 1/x, 1 - x and 1 - x², each to full precision."""

    x: Float[Array, "..."]
    growth: Float[Array, "..."]
    moved: Float[Array, "..."]
    moved_squared: Float[Array, "..."]

    @staticmethod
    def of(contraction: _Values) -> "_Path":
        return _Path(
            jnp.exp(-contraction), jnp.exp(contraction), -jnp.expm1(-contraction), -jnp.expm1(-2 * contraction)
        )

    def roots(self, log_kappa: _Values) -> "_Roots":
        """The differences of roots and of asinh that the closed forms share; κ may be anything from e^-80 to e^80."""
        # Everything is divided by max(1, κ), so that no square and no inverse square leaves float32.
        capped, shrink = jnp.exp(jnp.minimum(log_kappa, 0.0)), jnp.exp(-jnp.maximum(log_kappa, 0.0))
        one, end = _hypot(shrink, capped), _hypot(self.x * shrink, capped)
        # √(1+κ²/x²): dividing by it instead of by √(x²+κ²) keeps the derivatives finite.
        grown = _hypot(shrink, capped * self.growth)
        root_spread = self.moved_squared * (shrink / (one + end))
        return _Roots(
            root_spread=root_spread,
            spread=asinh(capped * (self.moved_squared * self.growth / (one + end))),
            affinity_spread=asinh(shrink * (self.moved_squared * self.growth / (grown + one))),
            correction=capped
            * shrink
            * (self.growth * (self.moved + root_spread) / ((shrink + grown) * (shrink + one))),
        )


class _Roots(NamedTuple):
    """R = √(1+κ²) - √(x²+κ²), D = asinh(κ/x) - asinh(κ), E = asinh(1/κ) - asinh(x/κ), and D - excess/κ."""

    root_spread: Float[Array, "..."]
    spread: Float[Array, "..."]
    affinity_spread: Float[Array, "..."]
    correction: Float[Array, "..."]


@finite
def minimum_variance(distance: ArrayLike, contraction: ArrayLike) -> Float[Array, "..."]:
    """Least final variance of any barrier schedule: m0 x (1 - x), the shot noise of the net motion.

    Args:
        distance: m0, initial distance from the target [levels].
        contraction: aT, training time over convergence time [dimensionless].

    Returns:
        Variance that no finite heat reaches, only approaches [levels²].

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> f"{minimum_variance(256.0, 6.0):.4f}"
        '0.6330'
    """
    m0, theta = read(_arguments.distance(distance), _contraction(contraction))
    path = _Path.of(theta)
    return m0 * path.x * path.moved


def _lyapunov_excess(path: _Path, log_kappa: _Values) -> _Values:
    """s/(m0 x) - (1-x) as a function of ln κ, without its own cancellation; its derivative in κ is D."""
    roots = path.roots(log_kappa)
    return jnp.exp(log_kappa) * (roots.spread - roots.correction)


def _lyapunov_heat(path: _Path, log_kappa: _Values) -> _Values:
    """Q / 2 m0 as a function of ln κ."""
    roots = path.roots(log_kappa)
    c = path.x * jnp.exp(-log_kappa)
    return path.moved * asinh(c) + c * roots.spread - path.x * roots.affinity_spread


@finite
def lyapunov(distance: ArrayLike, contraction: ArrayLike, price: ArrayLike) -> HeatAndVariance:
    """Heat and final variance of the schedule Γ = v / sqrt(2 μ e^{-2a(T-t)}).

    Args:
        distance: m0 [levels].
        contraction: aT [dimensionless].
        price: μ, what one level² of final variance costs [kT/level²].

    Returns:
        Heat [kT] and variance [levels²].

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> heat, variance = lyapunov(100.0, 4.0, 0.5)
        >>> f"{heat:.3f} kT, {variance:.3f} levels²"
        '7.290 kT, 14.875 levels²'
    """
    remedy = "It is the heat one is ready to pay per level squared of final variance, for example 0.5."
    m0, theta, mu = _arguments.together(
        _arguments.distance(distance), _contraction(contraction), Argument(price, "price", remedy)
    )
    return _lyapunov_at(m0, theta, mu)


@jax.jit
def _lyapunov_at(m0: _Values, theta: _Values, mu: _Values) -> HeatAndVariance:
    path = _Path.of(theta)
    log_kappa = 0.5 * (LN2 - jnp.log(mu))
    variance = m0 * path.x * (path.moved + _lyapunov_excess(path, log_kappa))
    return HeatAndVariance(2 * m0 * _lyapunov_heat(path, log_kappa), variance)


@finite
def rate_matched(distance: ArrayLike, contraction: ArrayLike, ratio: ArrayLike) -> HeatAndVariance:
    """Heat and final variance of Γ = κ v: Q = 2 m0 (1-x) asinh(1/2κ), s = √(1+4κ²) m0 x (1-x).

    Args:
        distance: m0 [levels].
        contraction: aT [dimensionless].
        ratio: κ, exchange rate over speed [1/level].

    Returns:
        Heat [kT] and variance [levels²].

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> heat, variance = rate_matched(256.0, 6.0, 2.0)
        >>> f"{heat:.3f} kT, {variance:.4f} levels²"
        '126.389 kT, 2.6099 levels²'
    """
    remedy = "It is the exchange rate over the speed, for example 2."
    m0, theta, kappa = _arguments.together(
        _arguments.distance(distance), _contraction(contraction), Argument(ratio, "ratio", remedy)
    )
    path = _Path.of(theta)
    heat = 2 * m0 * path.moved * asinh(0.5 / kappa)
    return HeatAndVariance(heat, _hypot(jnp.ones_like(kappa), 2 * kappa) * m0 * path.x * path.moved)


# asinh(u) = Σ c_n u^(2n+1)
_ASINH_SERIES = tuple(
    (-1) ** n * np.prod([(2 * j - 1) / (2 * j) for j in range(1, n + 1)]) / (2 * n + 1) for n in range(10)
)
# The first term left out is below 1e-14 here.
_SERIES_BELOW = 0.25
_MIN_LOG_KAPPA = -60.0


def _constant_excess(path: _Path, theta: _Values, log_kappa: _Values) -> _Values:
    """s/(m0 x) - (1-x) for constant exchange, κ = 2Γ/(a m0)."""
    kappa = jnp.exp(log_kappa)
    u = jnp.exp(log_kappa + theta)
    unit = jnp.ones_like(kappa)
    one, grown = _hypot(unit, kappa), _hypot(unit, u)
    # (√(1+u²) - 1) - x (√(1+κ²) - 1), its terms positive so that a small contraction loses no digits.
    from_roots = 0.5 * (u * (u / (grown + one)) * path.moved_squared + path.moved * kappa * (kappa / (1 + one)))
    # D/u - (1-x), of second order in u = κ/x: its series where u is small, else the difference itself.
    is_small = u < _SERIES_BELOW
    bounded = jnp.where(is_small, u, _SERIES_BELOW)
    series = sum(float(_ASINH_SERIES[n]) * bounded ** (2 * n) * -jnp.expm1(-(2 * n + 1) * theta) for n in range(1, 10))
    large = jnp.where(is_small, 1.0, u)
    difference = path.roots(log_kappa).spread / large - path.moved
    return from_roots + 0.5 * jnp.where(is_small, series, difference)


def _constant_heat(path: _Path, theta: _Values, log_kappa: _Values) -> _Values:
    """Q / 2 m0 for constant exchange; κ may be e^{-1000}."""
    # The roots see κ only beside x; far below it they no longer depend on it.
    roots = path.roots(jnp.maximum(log_kappa, _MIN_LOG_KAPPA))
    last_affinity = asinh_exp(-theta - log_kappa)
    return roots.affinity_spread + path.moved * last_affinity - roots.root_spread


@finite
def constant(distance: ArrayLike, contraction: ArrayLike, log_hops: ArrayLike) -> HeatAndVariance:
    """Heat and final variance of a constant barrier with ΓT hops each way over the whole training.

    Args:
        distance: m0 [levels].
        contraction: aT [dimensionless].
        log_hops: ln(ΓT), logarithm of the hops each way over the training, at zero tilt [ln(hops)].

    Returns:
        Heat [kT] and variance [levels²].

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> heat, variance = constant(256.0, 6.0, jnp.log(0.3 * 6))
        >>> f"{heat:.1f} kT, {variance:.4f} levels²"
        '2944.1 kT, 0.7177 levels²'
    """
    remedy = "It is the logarithm of exchange rate times training time."
    m0, theta, log_hops = _arguments.together(
        _arguments.distance(distance),
        _contraction(contraction),
        Argument(log_hops, "log_hops", remedy, low=-np.inf, open_low=False),
    )
    return _constant_at(m0, theta, log_hops)


@jax.jit
def _constant_at(m0: _Values, theta: _Values, log_hops: _Values) -> HeatAndVariance:
    path = _Path.of(theta)
    log_kappa = LN2 + log_hops - jnp.log(theta) - jnp.log(m0)
    heat = 2 * m0 * _constant_heat(path, theta, log_kappa)
    # So far down the variance is the shot noise of the net motion alone, and κ must stay a normal float32.
    excess = _constant_excess(path, theta, jnp.maximum(log_kappa, _MIN_LOG_KAPPA))
    variance = m0 * path.x * (path.moved + excess)
    return HeatAndVariance(heat, variance)
