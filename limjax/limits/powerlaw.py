r"""The frontier when learning converges as a power of time, L ∝ (1 + t/t_c)^{-α}, instead of exponentially.

The distance falls as m(t) = m0 (1 + t/t_c)^{-α/2}. What a hop's noise still costs at the end depends on why it does:

* `schedule`: the bowl is quadratic and the learning rate decays, dn = -a(t) n dt with a(t) = (α/2)/(t_c + t). Noise
  shrinks as the distance does, S(t) = m(T)/m(t).
* `flow`: the learning rate is constant and the bowl flattens towards its bottom, so that dn/dt ∝ -|n|^{1+2/α}. Noise
  shrinks faster than the distance: S(t) = v(T)/v(t) = (m(T)/m(t))^{1+2/α}.

With the price of variance p(t) = μ S(t)², the pointwise minimum of 2 v asinh(v/2Γ) + p √(v²+4Γ²) is again

$$ Γ^*(t) = v(t)/\sqrt{2p(t)} $$

For `schedule` Γ* ∝ v m ∝ -dL/dt: **the exchange follows the rate at which the loss falls**, and the barrier rises by
ln(L'(0)/L'(t)) = (1+α) ln(1 + t/t_c). For exponential convergence that is the loss itself. Heat and variance depend
on the path only through m0 and m(T), so `lyapunov_heat` and `rate_matched_heat` hold with ln(m0/m(T)) as the
contraction; a constant barrier does not have this freedom and pays more.

Source: docs/limits.md; tests compare with direct optimisation of a free schedule.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from limjax.limits.frontier import MAX_CONTRACTION, HeatAndVariance, _asinh_exp, lyapunov_heat, variance_price
from limjax.limits.inputs import Argument, broadcast, is_known, read, worst
from limjax.limits.roots import monotone_root

Noise = Literal["schedule", "flow"]
_NODES = 192
_ITERATIONS = {"float32": 12, "float64": 16}
_LN2 = float(np.log(2.0))


def _arguments(distance, exponent, duration):
    return (
        Argument(distance, "distance", "It is how far the weight moves, in levels, for example 256."),
        Argument(exponent, "exponent", "It is α in L ~ t^-α, for example 1."),
        Argument(duration, "duration", "It is the training time in units of t_c, for example 1e4."),
    )


def power_law_contraction(exponent: ArrayLike, duration: ArrayLike) -> Float[Array, "..."]:
    """Contraction of a power-law convergence: ln(m0/m(T)) = (α/2) ln(1 + T/t_c).

    Args:
        exponent: α in L ∝ (1 + t/t_c)^-α.
        duration: T/t_c [dimensionless].

    Returns:
        What stands for aT in the frontier [dimensionless].

    Raises:
        ValueError: if a known argument is not positive.

    Example:
        >>> f"{power_law_contraction(1.0, 1e4):.3f}"
        '4.605'
    """
    alpha, time = read(*_arguments(1.0, exponent, duration)[1:])
    return 0.5 * alpha * jnp.log1p(time)


def power_law_minimum_variance(
    distance: ArrayLike, exponent: ArrayLike, duration: ArrayLike, noise: Noise = "schedule"
) -> Float[Array, "..."]:
    """Least final variance of a power-law convergence: ∫ v S² dt = m0 (x - x^{2ν})/(2ν - 1).

    Args:
        distance: m0 [levels].
        exponent: α.
        duration: T/t_c [dimensionless].
        noise: `schedule` (ν = 1) or `flow` (ν = 1 + 2/α).

    Returns:
        Variance that no finite heat reaches [levels²].

    Raises:
        ValueError: if a known argument is out of its range, or `noise` is unknown.

    Example:
        >>> f"{power_law_minimum_variance(256.0, 1.0, 1e4):.3f}"
        '2.534'
    """
    m0, alpha, time = broadcast(*read(*_arguments(distance, exponent, duration)))
    theta, nu = 0.5 * alpha * jnp.log1p(time), _survival_exponent(noise, alpha)
    return m0 * jnp.exp(-theta) * -jnp.expm1(-(2 * nu - 1) * theta) / (2 * nu - 1)


def _survival_exponent(noise, alpha):
    if noise not in ("schedule", "flow"):
        raise ValueError(f"noise must be schedule or flow, got {noise!r}.")
    return jnp.ones_like(alpha) if noise == "schedule" else 1 + 2 / alpha


def _quadrature(theta):
    """Nodes z = ln(m/m0) in [-θ, 0] and weights, on a new last axis."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    half = 0.5 * theta[..., None]
    shape = (1,) * theta.ndim + (_NODES,)
    nodes = jnp.asarray(nodes, theta.dtype).reshape(shape)
    return half * (nodes - 1), half * jnp.asarray(weights, theta.dtype).reshape(shape)


@jax.jit
def _by_survival(m0, theta, nu, log_kappa):
    """Heat and excess variance of Γ = v κ / 2S, with ln S = -ν(θ + z)."""
    z, weights = _quadrature(theta)
    log_survival = -nu[..., None] * (theta[..., None] + z)
    u = log_kappa[..., None]
    heat = jnp.sum(weights * jnp.exp(z) * 2 * _asinh_exp(log_survival - u), axis=-1)
    # S √(S²+κ²) - S² = S κ² / (√(S²+κ²) + S), all in logarithms relative to the larger of S and κ.
    larger = jnp.maximum(log_survival, u)
    ratio_s, ratio_k = jnp.exp(log_survival - larger), jnp.exp(u - larger)
    extra = jnp.exp(log_survival + u) * ratio_k / (jnp.sqrt(ratio_s**2 + ratio_k**2) + ratio_s)
    return m0 * heat, m0 * jnp.sum(weights * jnp.exp(z) * extra, axis=-1)


def power_law_heat(
    distance: ArrayLike,
    exponent: ArrayLike,
    duration: ArrayLike,
    variance: ArrayLike,
    noise: Noise = "schedule",
) -> Float[Array, "..."]:
    """Least heat of any barrier schedule when the loss falls as a power of time.

    Args:
        distance: m0 [levels].
        exponent: α in L ∝ (1 + t/t_c)^-α.
        duration: T/t_c [dimensionless].
        variance: s, final variance [levels²].
        noise: `schedule`, the same as `lyapunov_heat` with `power_law_contraction`; or `flow`, by quadrature.

    Returns:
        Heat per parameter [kT]; NaN where traced arguments are infeasible.

    Raises:
        ValueError: if a known argument is out of its range, the variance below the shot noise (with the nearest
            feasible one), or `noise` unknown.

    Example:
        >>> by_schedule = power_law_heat(256.0, 1.0, 1e5, 1.0)
        >>> f"{by_schedule:.3f} kT, {power_law_heat(256.0, 1.0, 1e5, 1.0, noise='flow'):.4f} kT"
        '91.679 kT, 0.3322 kT'

    Cost: `flow` takes 192 quadrature nodes at each of 12 (float32) or 16 (float64) Newton steps.
    """
    m0, alpha, time, s = broadcast(
        *read(
            *_arguments(distance, exponent, duration),
            Argument(variance, "variance", "It is the final variance in levels squared, for example 1."),
        )
    )
    nu = _survival_exponent(noise, alpha)
    if noise == "schedule":
        return lyapunov_heat(m0, _bounded_contraction(alpha, time), s)
    theta = _bounded_contraction(alpha, time)
    log_kappa, is_feasible = _flow_log_kappa(m0, theta, nu, s)
    return jnp.where(is_feasible, _by_survival(m0, theta, nu, log_kappa)[0], jnp.nan)


def _bounded_contraction(alpha, time):
    theta = 0.5 * alpha * jnp.log1p(time)
    if is_known(theta) and bool(np.any(theta > MAX_CONTRACTION)):
        got_alpha, got = worst(np.asarray(theta > MAX_CONTRACTION), alpha, time)
        raise ValueError(
            f"A power law of exponent {got_alpha:g} over a duration of {got:g} contracts by more than e^{MAX_CONTRACTION:g}; "
            f"the nearest feasible duration is {np.expm1(2 * MAX_CONTRACTION / got_alpha):.6g}."
        )
    return theta


def _flow_log_kappa(m0, theta, nu, s):
    least = m0 * jnp.exp(-theta) * -jnp.expm1(-(2 * nu - 1) * theta) / (2 * nu - 1)
    excess = s - least
    is_feasible = excess > 0
    if is_known(m0, theta, nu, s) and not bool(np.all(is_feasible)):
        got_s, got_least = worst(~np.asarray(is_feasible), s, least)
        raise ValueError(
            f"A final variance of {got_s:g} levels² cannot be reached, whatever the barrier: the hops of the net motion "
            f"alone leave {got_least:.6g}. The nearest feasible variance is any above {got_least:.6g}."
        )
    return _solve_flow(m0, theta, nu, jnp.where(is_feasible, excess, 1.0)), is_feasible


@jax.jit
def _solve_flow(m0, theta, nu, excess):
    # excess ~ κ m0 ∫ S dm for an open barrier.
    weight = jnp.exp(-theta) * jnp.where(nu > 1, -jnp.expm1(-(nu - 1) * theta) / jnp.where(nu > 1, nu - 1, 1.0), theta)
    open_guess = jnp.log(excess) - jnp.log(m0 * weight)
    guess = jnp.where(open_guess > 0, open_guess, 0.5 * open_guess)

    def residual(u):
        return jnp.log(_by_survival(m0, theta, nu, u)[1]) - jnp.log(excess)

    return monotone_root(residual, guess, guess - 30.0, guess + 30.0, _ITERATIONS[guess.dtype.name])


def power_law_exchange(
    time: ArrayLike,
    distance: ArrayLike,
    exponent: ArrayLike,
    duration: ArrayLike,
    variance: ArrayLike,
    noise: Noise = "schedule",
) -> Float[Array, "..."]:
    """The optimal exchange along a power-law convergence, Γ*(t) t_c = v(t) t_c / sqrt(2 μ S(t)²).

    Args:
        time: t/t_c, from 0 to `duration`.
        distance: m0 [levels].
        exponent: α.
        duration: T/t_c [dimensionless].
        variance: s [levels²].
        noise: `schedule` or `flow`.

    Returns:
        Γ*(t) t_c [hops each way per t_c]. For `schedule` it falls as (1 + t/t_c)^{-1-α}; for `flow` as the square of the
        speed, (1 + t/t_c)^{-2-α}.

    Raises:
        ValueError: as `power_law_heat`.

    Example:
        >>> first, last = (power_law_exchange(t, 256.0, 1.0, 1e5, 1.0) for t in (0.0, 99.0))
        >>> f"{first / last:.0f}"
        '10000'
    """
    m0, alpha, end, s, now = read(
        *_arguments(distance, exponent, duration),
        Argument(variance, "variance", "It is the final variance in levels squared, for example 1."),
        Argument(time, "time", "It is t/t_c, from 0 to the duration.", open_low=False),
    )
    theta, nu = _bounded_contraction(alpha, end), _survival_exponent(noise, alpha)
    if noise == "schedule":
        log_kappa = 0.5 * (_LN2 - jnp.log(variance_price(m0, theta, s)))
    else:
        log_kappa, is_feasible = _flow_log_kappa(m0, theta, nu, s)
        log_kappa = jnp.where(is_feasible, log_kappa, jnp.nan)
    log_speed = jnp.log(0.5 * m0 * alpha) - (0.5 * alpha + 1) * jnp.log1p(now)
    log_survival = -nu * (theta - 0.5 * alpha * jnp.log1p(now))
    return jnp.exp(log_speed + log_kappa - _LN2 - log_survival)


def power_law_constant(
    distance: ArrayLike, exponent: ArrayLike, duration: ArrayLike, exchange: ArrayLike, noise: Noise = "schedule"
) -> HeatAndVariance:
    """Heat and final variance of a constant barrier along a power-law convergence, by quadrature.

    Args:
        distance: m0 [levels].
        exponent: α.
        duration: T/t_c [dimensionless].
        exchange: Γ t_c [hops each way per t_c].
        noise: `schedule` or `flow`.

    Returns:
        Heat [kT] and variance [levels²].

    Raises:
        ValueError: if a known argument is out of its range, or `noise` unknown.

    Example:
        >>> heat, variance = power_law_constant(256.0, 1.0, 1e4, 1e-3)
        >>> f"{heat:.0f} kT, {variance:.2f} levels²"
        '4518 kT, 11.01 levels²'

    Cost: 192 quadrature nodes.
    """
    m0, alpha, time, gamma = broadcast(
        *read(
            *_arguments(distance, exponent, duration),
            Argument(exchange, "exchange", "It is exchange rate times t_c, for example 1e-3."),
        )
    )
    theta, nu = _bounded_contraction(alpha, time), _survival_exponent(noise, alpha)
    z, weights = _quadrature(theta)
    # speed at m = m0 e^z, times t_c
    log_speed = jnp.log(0.5 * m0 * alpha)[..., None] + (1 + 2 / alpha[..., None]) * z
    log_half = log_speed - _LN2 - jnp.log(gamma)[..., None]
    heat = m0 * jnp.sum(weights * jnp.exp(z) * 2 * _asinh_exp(log_half), axis=-1)
    # hops per level moved, √(1 + 4Γ²/v²)
    larger = jnp.maximum(-log_half, 0.0)
    log_hops = larger + 0.5 * jnp.log(jnp.exp(-2 * larger) + jnp.exp(2 * (-log_half - larger)))
    log_survival = -nu[..., None] * (theta[..., None] + z)
    variance = m0 * jnp.sum(weights * jnp.exp(z + 2 * log_survival + log_hops), axis=-1)
    return HeatAndVariance(heat, variance)
