r"""The energy-speed-precision frontier of one learning parameter, in closed form and without cancellation.

A weight starts `distance` m0 levels from its target and closes in as m(t) = m0 e^{-at} for a time T; hops scatter it
and the final variance is s. Everything depends on m0, on the contraction aT and on s; x = e^{-aT} below. The four
approaches differ in who sets the exchange rate Γ(t), that is the barrier B = ln(k0/Γ):

* Lyapunov-optimal, Γ ∝ m²: least heat of all schedules. One number κ = sqrt(2/μ) (μ: price of variance) fixes it,

$$ s = m_0 x\,(R + κ D), \qquad Q = 2 m_0 \left[(1-x)\,\mathrm{asinh}\tfrac{x}{κ} + \tfrac{x}{κ} D - x E\right] $$

  with R = (1-x²)/(√(1+κ²)+√(x²+κ²)), D = asinh(κR/x) and E = asinh((1-x²)/(√(x²+κ²)+x√(1+κ²))).
* rate-matched, Γ = κv: Q = m0 (1-x) ln((r+1)/(r-1)) with r = s / (m0 x (1-x)).
* constant Γ = a m0 κ/2: Q = 2 m0 [E + (1-x) asinh(x/κ) - R].
* static: constant Γ with the barrier that holds the state afterwards, the update wall.

The forms of `physics.md` section 3 are the same functions; written as there they lose all digits in float32 when
the contraction is small or the barrier low. R, D and E are differences of roots and of asinh taken before rounding.

Whatever the barrier does, s > m0 x (1-x): each level of net motion is at least one hop. A request below is
infeasible: known arguments raise `ValueError` with the nearest feasible value, traced ones give NaN there.

The noise of one cell is small beside its distance (linear noise): the request follows the mean path.

Source: derived in docs/limits.md from standard stochastic thermodynamics; tests compare with quadrature, with direct
optimisation and with a simulation.
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from limjax.limits.inputs import Argument, broadcast, is_known, read, worst
from limjax.limits.roots import monotone_root

Approach = Literal["lyapunov", "rate_matched", "constant"]
APPROACHES: tuple[Approach, ...] = ("lyapunov", "rate_matched", "constant")
"""Barriers chosen for the task; the static barrier is not chosen and has functions of its own."""

MAX_CONTRACTION = 40.0
"""Largest aT: beyond it e^{2aT} leaves float32, and what is left of any range is below 1e-17 of it."""

HEAT_FALLS_FROM = 1.3
"""Contraction from which on, at fixed variance, waiting longer always costs less."""

_LN2 = float(np.log(2.0))
_ITERATIONS = {"float32": 5, "float64": 7}
_OUTER_ITERATIONS = {"float32": 30, "float64": 45}
# Above this x, asinh(x) = ln 2x to the dtype, and x² may overflow.
_LARGE = {"float32": 1e4, "float64": 1e8}


class HeatAndVariance(NamedTuple):
    """What a barrier schedule costs and how precise it leaves the weight.

    Attributes:
        heat_kt: heat per parameter [kT].
        variance: final variance [levels²].
    """

    heat_kt: Float[Array, "..."]
    variance: Float[Array, "..."]


# -- arguments ---------------------------------------------------------------------------------------------------------


def _distance(value):
    return Argument(value, "distance", "It is how far the weight moves, in levels, for example 256.")


def _contraction(value):
    return Argument(
        value,
        "contraction",
        "It is the training time in units of the convergence time (aT), for example 1.2 ln(distance).",
        high=MAX_CONTRACTION,
    )


def _variance(value):
    return Argument(value, "variance", "It is the final variance in levels squared, for example 1.")


def _heat(value):
    return Argument(value, "heat_kt", "It is the energy budget of one parameter in kT, for example 10.")


# -- shared pieces -----------------------------------------------------------------------------------------------------


def _hypot(a, b):
    larger, smaller = jnp.maximum(a, b), jnp.minimum(a, b)
    ratio = smaller / larger
    return larger * jnp.sqrt(1 + ratio * ratio)


def _asinh(x):
    is_large = x > _LARGE[x.dtype.name]
    bounded = jnp.where(is_large, 1.0, x)
    square = bounded * bounded
    small = jnp.log1p(bounded + square / (1 + jnp.sqrt(1 + square)))
    return jnp.where(is_large, _LN2 + jnp.log(jnp.where(is_large, x, 1.0)), small)


def _asinh_exp(w):
    """asinh(e^w), also where e^w is beyond the dtype."""
    is_large = w > 9.0
    return jnp.where(
        is_large, w + _LN2 + 0.25 * jnp.exp(-2 * jnp.where(is_large, w, 9.0)), _asinh(jnp.exp(jnp.minimum(w, 9.0)))
    )


class _Path(NamedTuple):
    """x = e^{-aT}, 1/x, 1 - x and 1 - x², each to full precision."""

    x: Float[Array, "..."]
    growth: Float[Array, "..."]
    moved: Float[Array, "..."]
    moved_squared: Float[Array, "..."]

    @staticmethod
    def of(contraction):
        return _Path(
            jnp.exp(-contraction),
            jnp.exp(contraction),
            -jnp.expm1(-contraction),
            -jnp.expm1(-2 * contraction),
        )

    def roots(self, log_kappa):
        """The differences of roots and of asinh that the closed forms share; κ may be anything from e^-80 to e^80."""
        # Everything is divided by max(1, κ), so that no square and no inverse square leaves float32.
        capped, shrink = jnp.exp(jnp.minimum(log_kappa, 0.0)), jnp.exp(-jnp.maximum(log_kappa, 0.0))
        one, end = _hypot(shrink, capped), _hypot(self.x * shrink, capped)
        # √(1+κ²/x²): dividing by it instead of by √(x²+κ²) keeps the derivatives finite.
        grown = _hypot(shrink, capped * self.growth)
        root_spread = self.moved_squared * (shrink / (one + end))
        return _Roots(
            root_spread=root_spread,
            spread=_asinh(capped * (self.moved_squared * self.growth / (one + end))),
            affinity_spread=_asinh(shrink * (self.moved_squared * self.growth / (grown + one))),
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
    m0, theta = read(_distance(distance), _contraction(contraction))
    path = _Path.of(theta)
    return m0 * path.x * path.moved


def minimum_contraction(distance: ArrayLike, variance: ArrayLike) -> Float[Array, "..."]:
    """Shortest contraction at which a final variance becomes reachable: the long root of m0 x (1 - x) = s.

    Args:
        distance: m0 [levels].
        variance: s [levels²].

    Returns:
        aT [dimensionless]; zero where s is at least m0/4, which every contraction reaches.

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> f"{minimum_contraction(256.0, 1.0):.4f}"
        '5.5412'
    """
    m0, s = read(_distance(distance), _variance(variance))
    ratio = s / m0
    is_limited = ratio < 0.25
    bounded = jnp.where(is_limited, ratio, 0.125)
    return jnp.where(is_limited, jnp.log1p(jnp.sqrt(1 - 4 * bounded)) - jnp.log(2 * bounded), 0.0)


def _feasible(m0, theta, s):
    """Excess of s over the shot noise relative to m0 x, made safe where there is none; and whether there is some."""
    path = _Path.of(theta)
    excess = s / m0 * path.growth - path.moved
    is_feasible = (excess > 0) & (m0 > 0) & (s > 0) & (theta > 0) & (theta <= MAX_CONTRACTION)
    return path, jnp.where(is_feasible, excess, 1.0), is_feasible


def _refuse_infeasible(m0, theta, s, is_feasible):
    if not is_known(m0, theta, s) or bool(np.all(is_feasible)):
        return
    got_m0, got_theta, got_s = worst(~np.asarray(is_feasible), m0, theta, s)
    least = float(minimum_variance(got_m0, got_theta))
    remedy = f"The nearest feasible variance is any above {least:.6g}"
    needed = float(minimum_contraction(got_m0, got_s))
    if needed > got_theta:
        remedy += f"; the nearest feasible contraction for {got_s:g} is any above {needed:.6g}"
    raise ValueError(
        f"A final variance of {got_s:g} levels² cannot be reached from {got_m0:g} levels in a contraction of "
        f"{got_theta:g}, whatever the barrier: the hops of the net motion alone leave {least:.6g}. {remedy}."
    )


@functools.partial(jax.jit, static_argnums=0)
def _heat_or_nan(approach, m0, theta, s):
    """Heat and whether the request is feasible; compiled once, as the host's calls would else trace every time."""
    path, excess, is_feasible = _feasible(m0, theta, s)
    if approach == "lyapunov":
        heat = 2 * m0 * _lyapunov_heat(path, _lyapunov_log_kappa(path, excess, theta))
    elif approach == "rate_matched":
        heat = _rate_matched(path, m0, excess)
    else:
        heat = 2 * m0 * _constant_heat(path, theta, _constant_log_kappa(path, excess, theta))
    return jnp.where(is_feasible, heat, jnp.nan), is_feasible


@jax.jit
def _price(m0, theta, s):
    path, excess, is_feasible = _feasible(m0, theta, s)
    log_kappa = _lyapunov_log_kappa(path, excess, theta)
    return jnp.where(is_feasible, jnp.exp(_LN2 - 2 * log_kappa), jnp.nan), is_feasible


def _answer(approach, m0, theta, s):
    heat, is_feasible = _heat_or_nan(approach, m0, theta, s)
    _refuse_infeasible(m0, theta, s, is_feasible)
    return heat


# -- Lyapunov-optimal --------------------------------------------------------------------------------------------------


def _lyapunov_excess(path, log_kappa):
    """s/(m0 x) - (1-x) as a function of ln κ, without its own cancellation; its derivative in κ is D."""
    roots = path.roots(log_kappa)
    return jnp.exp(log_kappa) * (roots.spread - roots.correction)


def _lyapunov_heat(path, log_kappa):
    """Q / 2 m0 as a function of ln κ."""
    roots = path.roots(log_kappa)
    c = path.x * jnp.exp(-log_kappa)
    return path.moved * _asinh(c) + c * roots.spread - path.x * roots.affinity_spread


def _lyapunov_log_kappa(path, excess, theta):
    shift = 2 * path.x * theta / path.moved
    # Exact for a price of variance near zero and near infinity, and within a factor of three between.
    root = jnp.sqrt(excess) * jnp.sqrt(excess + 4 * theta * shift)
    guess = jnp.log((excess + root) / (2 * theta))

    def residual(u):
        return jnp.log(_lyapunov_excess(path, u)) - jnp.log(excess)

    low, high = guess - 3.0, guess + 3.0
    return monotone_root(residual, guess, low, high, _ITERATIONS[guess.dtype.name])


def lyapunov_heat(distance: ArrayLike, contraction: ArrayLike, variance: ArrayLike) -> Float[Array, "..."]:
    r"""Least heat of any barrier schedule for a range, a speed and a precision.

    $$ Q = 2 m_0 \left[\mathrm{asinh}\,c + c\,\mathrm{asinh}\tfrac1c - x\,\mathrm{asinh}\tfrac{c}{x}
       - c\,\mathrm{asinh}\tfrac{x}{c}\right], \qquad c = \sqrt{μ/2}\,x $$

    with μ set by the variance. The schedule that reaches it is Γ(t) ∝ m(t)²: the barrier rises by the logarithm of
    the loss. It also holds for power-law convergence, with ln(m0/m(T)) as the contraction.

    Args:
        distance: m0, initial distance from the target [levels].
        contraction: aT, training time over convergence time [dimensionless], at most 40.
        variance: s, final variance [levels²].

    Returns:
        Heat per parameter [kT]; NaN where traced arguments are infeasible.

    Raises:
        ValueError: if a known argument is out of its range, or the variance is below the shot noise; the message
            gives the nearest feasible value.

    Example:
        >>> f"{lyapunov_heat(256.0, 6.654212933375474, 1.0):.3f} kT"
        '10.789 kT'

    Cost: 5 Newton steps in float32, 7 in float64; derivatives cost one evaluation.

    Source: docs/limits.md, "The optimal barrier".
    """
    m0, theta, s = broadcast(*read(_distance(distance), _contraction(contraction), _variance(variance)))
    return _answer("lyapunov", m0, theta, s)


def variance_price(distance: ArrayLike, contraction: ArrayLike, variance: ArrayLike) -> Float[Array, "..."]:
    """Price of variance at the Lyapunov optimum: μ = -dQ/ds, the heat saved by one more level² of final variance.

    Args:
        distance: m0 [levels].
        contraction: aT [dimensionless].
        variance: s [levels²].

    Returns:
        μ [kT/level²]; NaN where traced arguments are infeasible.

    Raises:
        ValueError: as `lyapunov_heat`.

    Example:
        >>> f"{variance_price(100.0, 4.0, 14.875):.3f}"
        '0.500'
    """
    m0, theta, s = broadcast(*read(_distance(distance), _contraction(contraction), _variance(variance)))
    price, is_feasible = _price(m0, theta, s)
    _refuse_infeasible(m0, theta, s, is_feasible)
    return price


def lyapunov_at_price(distance: ArrayLike, contraction: ArrayLike, price: ArrayLike) -> HeatAndVariance:
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
        >>> heat, variance = lyapunov_at_price(100.0, 4.0, 0.5)
        >>> f"{heat:.3f} kT, {variance:.3f} levels²"
        '7.290 kT, 14.875 levels²'
    """
    remedy = "It is the heat one is ready to pay per level squared of final variance, for example 0.5."
    m0, theta, mu = broadcast(*read(_distance(distance), _contraction(contraction), Argument(price, "price", remedy)))
    return _lyapunov_at(m0, theta, mu)


@jax.jit
def _lyapunov_at(m0, theta, mu):
    path = _Path.of(theta)
    log_kappa = 0.5 * (_LN2 - jnp.log(mu))
    variance = m0 * path.x * (path.moved + _lyapunov_excess(path, log_kappa))
    return HeatAndVariance(2 * m0 * _lyapunov_heat(path, log_kappa), variance)


# -- rate-matched ------------------------------------------------------------------------------------------------------


def rate_matched_heat(distance: ArrayLike, contraction: ArrayLike, variance: ArrayLike) -> Float[Array, "..."]:
    """Heat when the exchange follows the speed, Γ = κ v: Q = m0 (1-x) ln((r+1)/(r-1)), r = s/(m0 x (1-x)).

    Args:
        distance: m0 [levels].
        contraction: aT [dimensionless].
        variance: s [levels²].

    Returns:
        Heat per parameter [kT]; NaN where traced arguments are infeasible.

    Raises:
        ValueError: if a known argument is out of its range or infeasible.

    Example:
        >>> f"{rate_matched_heat(100.0, 4.0, 14.875004571):.2f} kT"
        '23.85 kT'
    """
    m0, theta, s = broadcast(*read(_distance(distance), _contraction(contraction), _variance(variance)))
    return _answer("rate_matched", m0, theta, s)


def _rate_matched(path, m0, excess):
    return m0 * path.moved * jnp.log1p(2 * path.moved / excess)


def rate_matched_at_ratio(distance: ArrayLike, contraction: ArrayLike, ratio: ArrayLike) -> HeatAndVariance:
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
        >>> heat, variance = rate_matched_at_ratio(256.0, 6.0, 2.0)
        >>> f"{heat:.3f} kT, {variance:.4f} levels²"
        '126.389 kT, 2.6099 levels²'
    """
    remedy = "It is the exchange rate over the speed, for example 2."
    m0, theta, kappa = broadcast(
        *read(_distance(distance), _contraction(contraction), Argument(ratio, "ratio", remedy))
    )
    path = _Path.of(theta)
    heat = 2 * m0 * path.moved * _asinh(0.5 / kappa)
    return HeatAndVariance(heat, _hypot(jnp.ones_like(kappa), 2 * kappa) * m0 * path.x * path.moved)


# -- constant ----------------------------------------------------------------------------------------------------------

# asinh(u) = Σ c_n u^(2n+1)
_ASINH_SERIES = tuple(
    (-1) ** n * np.prod([(2 * j - 1) / (2 * j) for j in range(1, n + 1)]) / (2 * n + 1) for n in range(10)
)
_SERIES_BELOW = 0.25
_MIN_LOG_KAPPA = -60.0


def _constant_excess(path, theta, log_kappa):
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


def _constant_heat(path, theta, log_kappa):
    """Q / 2 m0 for constant exchange; κ may be e^{-1000}."""
    # The roots see κ only beside x; far below it they no longer depend on it.
    roots = path.roots(jnp.maximum(log_kappa, _MIN_LOG_KAPPA))
    last_affinity = _asinh_exp(-theta - log_kappa)
    return roots.affinity_spread + path.moved * last_affinity - roots.root_spread


def _constant_log_kappa(path, excess, theta):
    # excess ~ κ²(1-x³)/6x² below x and κ(1-x²)/2x above.
    cubic = -jnp.expm1(-3 * theta)
    scaled = excess * path.x
    shift = 3 * path.x * path.moved_squared / cubic
    root = jnp.sqrt(scaled) * jnp.sqrt(scaled + 2 * path.moved_squared * shift)
    guess = jnp.log((scaled + root) / path.moved_squared)

    def residual(u):
        return jnp.log(_constant_excess(path, theta, u)) - jnp.log(excess)

    return monotone_root(residual, guess, guess - 3.0, guess + 3.0, _ITERATIONS[guess.dtype.name])


def constant_heat(distance: ArrayLike, contraction: ArrayLike, variance: ArrayLike) -> Float[Array, "..."]:
    r"""Heat of the best constant barrier: the lowest one whose hops still leave the variance asked for.

    $$ Q = \tfrac2a\,[G(a m_0) - G(a m_0 x)],\qquad G(w) = w\,\mathrm{asinh}\tfrac{w}{2Γ} - \sqrt{w^2+4Γ^2} $$

    Args:
        distance: m0 [levels].
        contraction: aT [dimensionless].
        variance: s [levels²].

    Returns:
        Heat per parameter [kT]; NaN where traced arguments are infeasible. It does not fall to zero with time: see
        `constant_plateau`.

    Raises:
        ValueError: if a known argument is out of its range or infeasible.

    Example:
        >>> f"{constant_heat(100.0, 4.0, 14.875004571):.1f} kT"
        '238.1 kT'

    Cost: 5 Newton steps in float32, 7 in float64.
    """
    m0, theta, s = broadcast(*read(_distance(distance), _contraction(contraction), _variance(variance)))
    return _answer("constant", m0, theta, s)


def constant_plateau(distance: ArrayLike, variance: ArrayLike) -> Float[Array, "..."]:
    """Heat of the best constant barrier as the contraction grows without end, its infimum.

    Q = 2 m0 [asinh(1/κ) - √(1+κ²) + κ] with κ = 2s/m0: slow training never makes a fixed barrier free.

    Args:
        distance: m0 [levels].
        variance: s [levels²].

    Returns:
        Heat per parameter [kT].

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> f"{constant_plateau(256.0, 1.0):.0f} kT"
        '2331 kT'
    """
    m0, s = broadcast(*read(_distance(distance), _variance(variance)))
    kappa = 2 * s / m0
    one = _hypot(jnp.ones_like(kappa), kappa)
    return 2 * m0 * (_asinh(1 / kappa) - 1 / (one + kappa))


def constant_at_exchange(distance: ArrayLike, contraction: ArrayLike, log_hops: ArrayLike) -> HeatAndVariance:
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
        >>> heat, variance = constant_at_exchange(256.0, 6.0, jnp.log(0.3 * 6))
        >>> f"{heat:.1f} kT, {variance:.4f} levels²"
        '2944.1 kT, 0.7177 levels²'
    """
    remedy = "It is the logarithm of exchange rate times training time."
    m0, theta, log_hops = broadcast(
        *read(
            _distance(distance),
            _contraction(contraction),
            Argument(log_hops, "log_hops", remedy, low=-np.inf, open_low=False),
        )
    )
    return _constant_at(m0, theta, log_hops)


@jax.jit
def _constant_at(m0, theta, log_hops):
    path = _Path.of(theta)
    log_kappa = _LN2 + log_hops - jnp.log(theta) - jnp.log(m0)
    heat = 2 * m0 * _constant_heat(path, theta, log_kappa)
    excess = _constant_excess(path, theta, jnp.maximum(log_kappa, _MIN_LOG_KAPPA))
    variance = m0 * path.x * (path.moved + excess)
    return HeatAndVariance(heat, variance)


# -- static ------------------------------------------------------------------------------------------------------------


def static_heat(
    distance: ArrayLike, contraction: ArrayLike, barrier: ArrayLike, attempts: ArrayLike
) -> Float[Array, "..."]:
    """Heat when the barrier that keeps the weight afterwards also stands during training: the update wall.

    A constant barrier with ΓT = k0 T e^{-B}; for high barriers Q ≈ 2 m0 (B - ln(k0 T / (aT m0)) ...).

    Args:
        distance: m0 [levels].
        contraction: aT [dimensionless].
        barrier: B [kT].
        attempts: k0 T, attempts over the whole training [dimensionless].

    Returns:
        Heat per parameter [kT]. The variance it leaves is `constant_at_exchange(...).variance`.

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> f"{static_heat(256.0, 6.65, 50.0, 1e9 * 1e4):.0f} kT"
        '13558 kT'
    """
    m0, theta, log_hops = _static_log_hops(distance, contraction, barrier, attempts)
    return constant_at_exchange(m0, theta, log_hops).heat_kt


def _static_log_hops(distance, contraction, barrier, attempts):
    m0, theta, height, tries = read(
        _distance(distance),
        _contraction(contraction),
        Argument(barrier, "barrier", "Barriers are in kT; 50 holds a bit for ten years.", open_low=False),
        Argument(attempts, "attempts", "It is attempt rate times training time, for example 1e9 * 1e4."),
    )
    return m0, theta, jnp.log(tries) - height


def attempts_for_heat(
    distance: ArrayLike, contraction: ArrayLike, barrier: ArrayLike, heat_kt: ArrayLike
) -> Float[Array, "..."]:
    """Logarithm of the attempts a static barrier needs to stay within a budget: inverse of `static_heat`.

    Training time is e^(result)/k0: exponential in the barrier.

    Args:
        distance: m0 [levels].
        contraction: aT [dimensionless].
        barrier: B [kT].
        heat_kt: budget per parameter [kT].

    Returns:
        ln(k0 T) [dimensionless].

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> needed = attempts_for_heat(256.0, 6.65, 50.0, 1e4)
        >>> f"{static_heat(256.0, 6.65, 50.0, jnp.exp(needed)):.0f}"
        '10000'
    """
    remedy = "Barriers are in kT; 50 holds a bit for ten years."
    m0, theta, height, budget = broadcast(
        *read(
            _distance(distance),
            _contraction(contraction),
            Argument(barrier, "barrier", remedy, open_low=False),
            _heat(heat_kt),
        )
    )
    path = _Path.of(theta)
    log_kappa = _constant_log_kappa_from_heat(path, theta, budget / (2 * m0))
    return log_kappa + height + jnp.log(theta) + jnp.log(m0) - _LN2


@jax.jit
def _constant_log_kappa_from_heat(path, theta, per_distance):
    """ln κ with Q/2m0 = `per_distance` for constant exchange."""
    # Q/2m0 ~ (1-x²)/2κ for an open barrier, (1-x) ln(2/κ) + … for a shut one.
    open_guess = jnp.log(path.moved_squared) - jnp.log(2 * per_distance)
    shut_guess = _LN2 + (path.x * theta / path.moved) - 1 - per_distance / path.moved
    guess = jnp.where(per_distance < 0.5 * path.moved, open_guess, shut_guess)

    def residual(u):
        return jnp.log(per_distance) - jnp.log(_constant_heat(path, theta, u))

    iterations = 2 * _ITERATIONS[guess.dtype.name]
    return monotone_root(residual, guess, guess - 6.0, guess + 6.0, iterations)


# -- inverse problems --------------------------------------------------------------------------------------------------


def approach_heat(
    approach: Approach, distance: ArrayLike, contraction: ArrayLike, variance: ArrayLike
) -> Float[Array, "..."]:
    """Heat of one of the chosen barriers by name: `lyapunov`, `rate_matched` or `constant`.

    Args:
        approach: which barrier.
        distance: m0 [levels].
        contraction: aT [dimensionless].
        variance: s [levels²].

    Returns:
        Heat per parameter [kT].

    Raises:
        ValueError: for an unknown name, and as the function of that approach.
    """
    return _heat_function(approach)(distance, contraction, variance)


def _heat_function(approach):
    functions = {
        "lyapunov": lyapunov_heat,
        "rate_matched": rate_matched_heat,
        "constant": constant_heat,
    }
    if approach not in functions:
        raise ValueError(f"approach must be one of {', '.join(functions)}, got {approach!r}.")
    return functions[approach]


def contraction_for_heat(
    approach: str, distance: ArrayLike, variance: ArrayLike, heat_kt: ArrayLike
) -> Float[Array, "..."]:
    """Training time, in convergence times, from which on the heat stays within a budget.

    The search starts at max(ln(m0/√s), `minimum_contraction`, 1.3): before it the weight is further from its target
    than its own noise, or the variance out of reach. Beyond it the heat only falls.

    Args:
        approach: `lyapunov`, `rate_matched` or `constant`.
        distance: m0 [levels].
        variance: s [levels²], below m0²; for `constant` at most m0/4.
        heat_kt: budget per parameter [kT].

    Returns:
        aT [dimensionless]: the start of the search where that is within the budget already; NaN where traced
        arguments are infeasible.

    Raises:
        ValueError: if a known argument is out of its range, the variance is not below m0² (there is nothing to
            learn), or no time is long enough; the message gives the nearest feasible value.

    Example:
        >>> f"{contraction_for_heat('lyapunov', 256.0, 1.0, 10.789056):.4f}"
        '6.6542'

    Cost: about 30 (float32) or 45 (float64) evaluations of the heat; derivatives cost one.
    """
    _heat_function(approach)
    m0, s, budget = broadcast(*read(_distance(distance), _variance(variance), _heat(heat_kt)))
    is_learning = (s < m0 * m0) & (m0 > 0) & (s > 0) & (budget > 0)
    if is_known(m0, s, budget) and not bool(np.all(is_learning)):
        got_m0, got_s = worst(~np.asarray(is_learning), m0, s)
        raise ValueError(
            f"variance must be below distance² = {got_m0**2:g} levels², got {got_s:g}: the start is already as "
            "precise as asked, and there is nothing to learn."
        )
    if approach == "constant":
        is_tight = s <= 0.25 * m0
        if is_known(m0, s, budget) and not bool(np.all(is_tight)):
            got_m0, got_s = worst(~np.asarray(is_tight), m0, s)
            raise ValueError(
                f"For a constant barrier the variance must be at most distance/4 = {got_m0 / 4:g} levels², got {got_s:g}: "
                "above it waiting longer no longer lowers its heat."
            )
        is_learning = is_learning & is_tight
    m0, s = jnp.where(is_learning, m0, 2.0), jnp.where(is_learning, s, 0.5)
    budget = jnp.where(is_learning, budget, 1.0)
    # The start moves with m0 and s; a hair above the shot-noise limit the heat is finite.
    limit = minimum_contraction(m0, s) * (1 + 8 * float(jnp.finfo(m0.dtype).eps))
    start = jnp.maximum(jnp.maximum(jnp.log(m0) - 0.5 * jnp.log(s), limit), HEAT_FALLS_FROM)
    infimum = constant_plateau(m0, s) if approach == "constant" else jnp.zeros_like(m0)
    is_reachable = budget > infimum
    if is_known(m0, s, budget) and not bool(np.all(is_reachable)):
        got_m0, got_s, got = worst(~np.asarray(is_reachable), m0, s, budget)
        raise ValueError(
            f"No training time brings a constant barrier down to {got:g} kT for {got_m0:g} levels and a variance of "
            f"{got_s:g}: its heat approaches a floor from above. The nearest feasible budget is any above "
            f"{float(constant_plateau(got_m0, got_s)):.6g} kT; a barrier that rises while learning has no such floor."
        )
    budget = jnp.where(is_reachable, budget, 2 * infimum + 1)

    result, is_late = _solve_contraction(approach, m0, s, budget, start)
    if is_known(m0, s, budget) and bool(np.any(is_late)):
        got_m0, got_s, got = worst(np.asarray(is_late), m0, s, budget)
        least = float(_heat_or_nan(approach, *(jnp.asarray(v, m0.dtype) for v in (got_m0, MAX_CONTRACTION, got_s)))[0])
        raise ValueError(
            f"A budget of {got:g} kT needs a contraction beyond {MAX_CONTRACTION:g} for {got_m0:g} levels and a variance "
            f"of {got_s:g}; the nearest feasible budget there is {least:.6g} kT."
        )
    return jnp.where(is_learning & is_reachable & ~is_late, result, jnp.nan)


@functools.partial(jax.jit, static_argnums=0)
def _solve_contraction(approach, m0, s, budget, start):
    """Contraction at which the heat is the budget, and whether it lies beyond the largest one."""

    def residual(theta):
        value = _heat_or_nan(approach, m0, theta, s)[0]
        # At the very limit the heat is infinite, so longer training is needed.
        value = jnp.where(jnp.isnan(value), jnp.inf, value)
        return jnp.log(budget) - jnp.log(value)

    is_free = residual(start) >= 0
    is_late = residual(jnp.full_like(start, MAX_CONTRACTION)) < 0
    # Where the start is within the budget, solve a copy of the problem that has a root, and drop its answer.
    is_trivial = is_free | is_late

    def guarded(theta):
        value = residual(theta)
        # Infinite heat (too short) and heat below the smallest number (long enough) still have a sign.
        value = jnp.where(jnp.isinf(value), jnp.sign(value), value)
        return jnp.where(is_trivial, theta - start - 1, value)

    root = monotone_root(guarded, start + 1.0, start, MAX_CONTRACTION, _OUTER_ITERATIONS[start.dtype.name])
    return jnp.where(is_free, start, root), is_late


def variance_for_heat(
    approach: str, distance: ArrayLike, contraction: ArrayLike, heat_kt: ArrayLike
) -> Float[Array, "..."]:
    """Precision that a budget and a time buy: the final variance at which the heat is exactly the budget.

    Args:
        approach: `lyapunov`, `rate_matched` or `constant` (a static barrier is a constant one).
        distance: m0 [levels].
        contraction: aT [dimensionless].
        heat_kt: budget per parameter [kT], any positive one.

    Returns:
        s [levels²], above `minimum_variance`, or equal to it in the last digit for a very large budget.

    Raises:
        ValueError: if a known argument is out of its range, or the approach unknown.

    Example:
        >>> f"{variance_for_heat('lyapunov', 256.0, 6.654212933375474, 10.789056):.4f}"
        '1.0000'
    """
    _heat_function(approach)
    m0, theta, budget = broadcast(*read(_distance(distance), _contraction(contraction), _heat(heat_kt)))
    path = _Path.of(theta)
    if approach == "rate_matched":
        excess = 2 * path.moved / jnp.expm1(budget / (m0 * path.moved))
    elif approach == "constant":
        log_kappa = _constant_log_kappa_from_heat(path, theta, budget / (2 * m0))
        excess = _constant_excess(path, theta, jnp.maximum(log_kappa, _MIN_LOG_KAPPA))
    else:
        excess = _lyapunov_excess(path, _lyapunov_log_kappa_from_heat(path, theta, budget / (2 * m0)))
    return m0 * path.x * (path.moved + excess)


@jax.jit
def _lyapunov_log_kappa_from_heat(path, theta, per_distance):
    # Beyond this κ the variance is the least there is to any precision, and a larger budget buys nothing.
    per_distance = jnp.minimum(per_distance, _lyapunov_heat(path, jnp.full_like(theta, -80.0)))
    # Q/2m0 ~ x aT / κ for an open barrier, (1-x) ln(2x/κ) + … for a shut one.
    open_guess = jnp.log(theta) - theta - jnp.log(per_distance)
    shut_guess = _LN2 + 1 - theta - (per_distance - path.x * theta) / path.moved
    middle = -0.5 * theta
    is_shut = per_distance > 1.5 * path.moved
    is_open = per_distance < path.x * theta
    guess = jnp.where(is_shut, shut_guess, jnp.where(is_open, open_guess, jnp.maximum(open_guess, middle)))

    def residual(u):
        return jnp.log(per_distance) - jnp.log(_lyapunov_heat(path, u))

    iterations = 3 * _ITERATIONS[guess.dtype.name]
    return monotone_root(residual, guess, guess - 40.0, guess + 40.0, iterations)


# -- schedules ---------------------------------------------------------------------------------------------------------


def optimal_exchange(
    fraction: ArrayLike, distance: ArrayLike, contraction: ArrayLike, variance: ArrayLike
) -> Float[Array, "..."]:
    r"""The Lyapunov-optimal exchange along the training, Γ*(t) T = aT m0 κ e^{-2at} / 2x.

    $$ Γ^*(t) = v(t)/\sqrt{2p(t)},\quad p(t) = μ e^{-2a(T-t)} \quad⇒\quad B^*(t) = B_0 + \ln\frac{L(0)}{L(t)} $$

    Args:
        fraction: t/T, how far through the training [0 to 1].
        distance: m0 [levels].
        contraction: aT [dimensionless].
        variance: s [levels²].

    Returns:
        Γ*(t) T, hops each way if this rate held for the whole training [hops]. Divided by k0 e^{-B_min} it is the
        shortest training time the attempt rate allows.

    Raises:
        ValueError: as `lyapunov_heat`.

    Example:
        >>> start, end = (optimal_exchange(f, 100.0, 4.0, 14.875004571) for f in (0.0, 1.0))
        >>> f"falls by e^-{jnp.log(start / end):.2f}"
        'falls by e^-8.00'
    """
    along = read(Argument(fraction, "fraction", "It is t/T, from 0 to 1.", high=1.0, open_low=False))[0]
    m0, theta, price = read(
        _distance(distance),
        _contraction(contraction),
        Argument(variance_price(distance, contraction, variance), "price", ""),
    )
    along = along.astype(theta.dtype)
    log_kappa = 0.5 * (_LN2 - jnp.log(price))
    return 0.5 * m0 * theta * jnp.exp(log_kappa + theta * (1 - 2 * along))
