r"""The law of learning-in-memory: the least heat of a descent whose hop noise has to be corrected.

One weight in a quadratic bowl, n levels from the minimum, $L = \langle n^2\rangle$ its Lyapunov function. An optimizer of
contraction u per step (learning rate times curvature) requests $d = -un + ξ$ with $\langle ξ^2\rangle = N$ from minibatches,
and hops of exchange Γ scatter the weight. The requests chase that scatter as well as the distance, and both are paid for:

$$ \dot L = -2uL + N + \langle A\rangle, \qquad \dot Q = \langle 2d\,\mathrm{asinh}(d/2Γ)\rangle, \qquad A = \sqrt{d^2+4Γ^2}. $$

While the barrier is open, Γ well above |d|, this is $A = 2Γ$ and $\dot Q = (u^2L+N)/Γ$, and the optimum is closed: Γ* is a
function of L alone, for a full gradient proportional to it, so that **the barrier rises by the logarithm of the loss as measured**,

$$ Γ^* = γL, \quad γ = u - \frac{\ln(L_0/L_T)}{2T}, \qquad Q^* = \frac{(uT)^2}{uT - \tfrac12\ln(L_0/L_T)} \ge 2\ln\frac{L_0}{L_T}. $$

Time is counted in uT, the contraction; with a learning rate that changes it is Σu. The noise of the minibatches enters as
its scatter $s = N/u^2 = σ^2/h^2$ (σ²: variance of the gradient, h: curvature), how far from the minimum one batch alone believes
it to be. `limjax.limits.approaches` and `limjax.limits.direct` go on where the barrier is not open.

Source: derived in docs/law.md; tests compare with direct optimisation and with exact hops.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from limjax.limits import _arguments, _law_integrals
from limjax.limits._law_integrals import safe_sqrt
from limjax.numerics._guards import finite
from limjax.numerics.checks import Argument, is_known, read, worst


class Convergence(NamedTuple):
    """One convergence at the optimum.

    Attributes:
        heat_kt: heat per parameter [kT].
        contraction: uT, its duration in relaxation times [dimensionless].
        power: C, heat that one more relaxation time would cost, negative where time saves heat [kT].
    """

    heat_kt: Float[Array, "..."]
    contraction: Float[Array, "..."]
    power: Float[Array, "..."]


class Descent(NamedTuple):
    """Heat and loss along a schedule, one value a step.

    Attributes:
        heat_kt: heat of each step per parameter [kT].
        loss: L before each step, and after the last [levels²].
        exchange: Γ of each step [hops].
    """

    heat_kt: Float[Array, "steps"]
    loss: Float[Array, "steps+1"]
    exchange: Float[Array, "steps"]


def _rate(value: object, open_low: bool = True) -> Argument:
    return Argument(
        value, "rate", "It is learning rate times curvature, for example 0.01.", high=1.0, open_low=open_low
    )


def _scatter(value: object) -> Argument:
    remedy = "It is the variance of the gradient over the curvature squared, in levels squared; 0 for a full gradient."
    return Argument(value, "scatter", remedy, open_low=False)


def _loss(value: object, name: str) -> Argument:
    return Argument(value, name, "It is the mean squared distance from the minimum, in levels squared.")


@finite
def open_share(loss_ratio: ArrayLike, contraction: ArrayLike) -> Float[Array, "..."]:
    """γ/u at the optimum: the exchange over uL, 1 - ln(L0/LT)/2uT; one half where the heat is least.

    Args:
        loss_ratio: L0/LT, at least 1.
        contraction: uT [dimensionless].

    Returns:
        γ/u [dimensionless]; not positive where uT is too short for any barrier.

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> f"{open_share(65536.0, 11.0904):.3f}"
        '0.500'
    """
    ratio, theta = _arguments.together(_arguments.loss_ratio(loss_ratio), _arguments.contraction(contraction))
    return 1 - 0.5 * jnp.log(ratio) / theta


@finite
def finite_time_heat(loss_ratio: ArrayLike, contraction: ArrayLike) -> Float[Array, "..."]:
    """Least heat in a given time, (uT)²/(uT - ½ ln(L0/LT)): what `bounds.convergence` gives with a contraction.

    Args:
        loss_ratio: L0/LT, at least 1.
        contraction: uT [dimensionless], above half the logarithm of the ratio.

    Returns:
        Heat per parameter [kT]; NaN where traced arguments are infeasible.

    Raises:
        ValueError: if a known argument is out of its range, or the time too short; the message gives the shortest.

    Example:
        >>> f"{finite_time_heat(65536.0, 1.5 * 5.545):.2f} kT"
        '24.95 kT'
    """
    ratio, theta = _arguments.together(_arguments.loss_ratio(loss_ratio), _arguments.contraction(contraction))
    spare = theta - 0.5 * jnp.log(ratio)
    is_feasible = (spare > 0) & (ratio >= 1)
    if is_known(ratio, theta) and not bool(np.all(is_feasible)):
        got, got_theta = worst(~np.asarray(is_feasible), ratio, theta)
        raise ValueError(
            f"contraction must be above ½ ln(loss_ratio) = {0.5 * np.log(got):.6g}, got {got_theta:g}: at this learning rate "
            f"the loss cannot fall {got:g} times in that time, whatever the barrier. It is cheapest at "
            f"{np.log(got):.6g}."
        )
    # Twice: the derivative of a branch that is not taken must not divide by zero either.
    return jnp.where(is_feasible, theta * theta / jnp.where(is_feasible, spare, 1.0), jnp.nan)


@finite
def contraction_for_heat(loss_ratio: ArrayLike, heat_kt: ArrayLike) -> Float[Array, "..."]:
    """Shortest time within a budget, the inverse of `finite_time_heat`: uT = [Q - √(Q² - 2Q ln(L0/LT))]/2.

    Args:
        loss_ratio: L0/LT, at least 1.
        heat_kt: Q, budget per parameter [kT], at least 2 ln(L0/LT).

    Returns:
        uT [dimensionless]; NaN where traced arguments are infeasible.

    Raises:
        ValueError: if a known argument is out of its range, or the budget below the bound.

    Example:
        >>> f"{contraction_for_heat(65536.0, 24.95320):.3f}"
        '8.318'
    """
    remedy = "It is the energy budget of one parameter in kT, for example 25."
    ratio, heat = _arguments.together(_arguments.loss_ratio(loss_ratio), Argument(heat_kt, "heat_kt", remedy))
    bound = 2 * jnp.log(ratio)
    # Rounding must not refuse the bound itself.
    is_feasible = (heat >= bound * (1 - 8 * jnp.finfo(heat.dtype).eps)) & (ratio >= 1) & (heat > 0)
    if is_known(ratio, heat) and not bool(np.all(is_feasible)):
        got, got_heat = worst(~np.asarray(is_feasible), ratio, heat)
        raise ValueError(
            f"heat_kt must be at least 2 ln(loss_ratio) = {2 * np.log(got):.6g} kT, got {got_heat:g}: no time is long enough."
        )
    spare = jnp.maximum(1 - bound / jnp.where(is_feasible, heat, 1.0), 0.0)
    # ½ Q (1 - √(1-b)) without its cancellation.
    return jnp.where(is_feasible, 0.5 * bound / (1 + safe_sqrt(spare)), jnp.nan)


@finite
def loss_ratio_for_heat(contraction: ArrayLike, heat_kt: ArrayLike) -> Float[Array, "..."]:
    """How far the loss can fall on a budget in a time, the other inverse: L0/LT = exp(2uT(1 - uT/Q)).

    Args:
        contraction: uT [dimensionless], below the budget.
        heat_kt: Q, budget per parameter [kT].

    Returns:
        L0/LT [dimensionless]; 1 where the time is so long that keeping the weight costs the whole budget.

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> f"{loss_ratio_for_heat(8.3178, 24.95320):.3g}"
        '6.55e+04'
    """
    remedy = "It is the energy budget of one parameter in kT, for example 25."
    theta, heat = _arguments.together(_arguments.contraction(contraction), Argument(heat_kt, "heat_kt", remedy))
    return jnp.exp(jnp.maximum(2 * theta * (1 - theta / heat), 0.0))


@finite
def exchange(loss: ArrayLike, rate: ArrayLike, scatter: ArrayLike = 0.0, power: ArrayLike = 0.0) -> Float[Array, "..."]:
    r"""The optimal exchange at a loss, Γ*(L; C): the root of $uCΓ^2/(u^2L+N) - 2Γ + (2uL-N)/2 = 0$ with $N = u^2 s$.

    With the time free, C = 0, it is (2uL - N)/4: it shuts as L falls to the floor N/2u of stochastic gradients. For a full
    gradient it is L times a constant at every C.

    Args:
        loss: L [levels²].
        rate: u, contraction per step [dimensionless], at most 1.
        scatter: s = σ²/h² [levels²].
        power: C, heat that one more relaxation time would cost, as `Convergence.power` [kT]; 0 where the time is free.

    Returns:
        Γ* [hops per step]; NaN below the floor, and where C is too large for the loss to fall at all.

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> f"{exchange(100.0, 0.01):.3f} {exchange(100.0, 0.01, scatter=400.0):.3f} hops"
        '0.500 0.490 hops'
    """
    price = Argument(power, "power", "It is kT per relaxation time, 0 where the time is free.", -np.inf, open_low=False)
    value, u, s, c = _arguments.together(_loss(loss, "loss"), _rate(rate), _scatter(scatter), price)
    above = value - 0.5 * u * s
    # The root that joins C = 0, without cancellation. C is per relaxation time, uC per step: with its u and that of
    # 2uL - N = 2u(L-f) the u² of u²L + N = u²(L+s) cancels.
    share = 1 - c * above / (value + s)
    is_feasible = (above > 0) & (share >= 0)
    return jnp.where(is_feasible, u * above / (1 + safe_sqrt(jnp.where(is_feasible, share, 1.0))), jnp.nan)


@finite
def start_barrier(
    loss: ArrayLike, rate: ArrayLike, attempts: ArrayLike, scatter: ArrayLike = 0.0
) -> Float[Array, "..."]:
    r"""The optimal barrier at the first step, $B_0 = \ln(k_0τ) - \ln g_0$ with $g_0 = (2uL_0-N)/4$.

    Args:
        loss: L0 [levels²].
        rate: u, contraction per step [dimensionless].
        attempts: k0 τ, attempts in one step [dimensionless].
        scatter: s = σ²/h² [levels²].

    Returns:
        B0 [kT]; negative where the attempt rate is too low for the optimum.

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> f"{start_barrier(256.0**2, 0.01, 1e6):.2f} kT"
        '8.02 kT'
    """
    tries = Argument(attempts, "attempts", "It is attempt rate times step time, for example 1e6.")
    value, u, s, k = _arguments.together(_loss(loss, "loss"), _rate(rate), _scatter(scatter), tries)
    return jnp.log(k) - jnp.log(exchange(value, u, s))


@finite
def openness(final_loss: ArrayLike, loss_ratio: ArrayLike, contraction: ArrayLike) -> Float[Array, "..."]:
    """Γ²/(u²L) at the end of the optimum, (γ/u)² LT, where it is least: the open regime holds while it is above about 1.

    Only the end is not open, a smaller share of a longer descent: in its cheapest time the closed form is low by about 1 % over
    ln(L0/LT) at 1, by 10 % over it at 0.25 and by 40 % over it at 0.1. For L0/LT = 65,536 these are 0.1, 0.9 and 3.8 %, for 16
    0.5, 4 and 18 %. `limjax.limits.direct.optimum` goes on beyond.

    Args:
        final_loss: LT [levels²].
        loss_ratio: L0/LT.
        contraction: uT [dimensionless].

    Returns:
        Exchange over request, squared, at the end [dimensionless].

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> f"{openness(1.0, 65536.0, 11.09):.2f} {openness(1.0, 65536.0, 6.654):.2f}"
        '0.25 0.03'
    """
    (last,) = read(_loss(final_loss, "final_loss"))
    share = open_share(loss_ratio, contraction)
    return share * share * last.astype(share.dtype)


@finite
def detuned(factor: ArrayLike) -> Float[Array, "..."]:
    """Heat of an exchange that is `factor` times the optimal one, over the least heat, in its own time: 1/[2f(1 - f/2)], f below 2.

    Args:
        factor: f, exchange over uL/2 [dimensionless], between 0 and 2.

    Returns:
        Heat over 2 ln(L0/LT) [dimensionless].

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> f"{detuned(0.5):.4f} {detuned(1.5):.4f}"
        '1.3333 1.3333'
    """
    (f,) = read(Argument(factor, "factor", "It is exchange over optimal exchange, below 2.", high=2.0))
    return 1 / (f * (2 - f))


@finite
def haste(fraction: ArrayLike) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Energy against speed where gradients have to be averaged: what a learning rate of φ times the fastest costs and takes.

    The fastest learning rate at a loss is hL/σ², where it makes the loss fall quickest. At φ of it, the heat is 1/(1 - φ/2)² times that
    of a slow descent, in 1/[φ(2 - φ)] times the shortest time.

    Args:
        fraction: φ [dimensionless], from 0 to below 2, where the loss stands.

    Returns:
        `(heat, time)`, each over its least value [dimensionless].

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> heat, time = haste(1.0)
        >>> f"{heat:.1f} {time:.1f}"
        '4.0 1.0'
    """
    (phi,) = read(Argument(fraction, "fraction", "It is learning rate over fastest learning rate, below 2.", high=2.0))
    return 4 / ((2 - phi) * (2 - phi)), 1 / (phi * (2 - phi))


@finite
def optimum(
    start: ArrayLike,
    stop: ArrayLike,
    *,
    scatter: ArrayLike = 0.0,
    rate: ArrayLike = 0.0,
    contraction: ArrayLike | None = None,
) -> Convergence:
    r"""Least heat from one loss to another with minibatch noise, in any time or in a given one.

    With $f = us/2$, the floor of stochastic gradients, and $q^2 = 1 - C(L-f)/(L+s)$,

    $$ uT = \int_{L_T}^{L_0}\frac{1+q}{2q}\frac{dL}{L-f}, \qquad Q = \int_{L_T}^{L_0}\frac{(1+q)^2}{2q}\frac{L+s}{(L-f)^2}\,dL. $$

    C = 0, time free, gives $Q = 2\ln\frac{L_0-f}{L_T-f} + 2(s+f)\left[\frac1{L_T-f}-\frac1{L_0-f}\right]$.

    Args:
        start: L0 [levels²].
        stop: LT [levels²], below L0 and above the floor.
        scatter: s = σ²/h² [levels²], 0 for a full gradient.
        rate: u per step [dimensionless], from 0 (slow) to 1; it sets the floor.
        contraction: uT [dimensionless]; None takes the cheapest.

    Returns:
        Heat, time and price of time; NaN where traced arguments are infeasible.

    Raises:
        ValueError: if a known argument is out of its range, the loss is asked to end at or below the floor or above its start, or
            the time is shorter than any barrier allows, or so long that the loss would have to rise first; the message says
            which.

    Example:
        >>> slow = optimum(65536.0, 100.0, scatter=400.0)
        >>> f"{slow.heat_kt:.2f} kT in {slow.contraction:.2f} relaxation times"
        '20.96 kT in 6.49 relaxation times'

    Cost: a time needs 14 (float32) or 20 quadratures of 64 nodes; derivatives cost one.
    """
    first, last, s, u = _arguments.together(
        _loss(start, "start"), _loss(stop, "stop"), _scatter(scatter), _rate(rate, open_low=False)
    )
    floor = 0.5 * u * s
    is_falling = (last < first) & (last > floor)
    if is_known(first, last, floor) and not bool(np.all(is_falling)):
        got0, got, least = worst(~np.asarray(is_falling), first, last, floor)
        if got >= got0:
            raise ValueError(f"stop must be below start, got start={got0:g} and stop={got:g} levels².")
        raise ValueError(
            f"stop must be above {least:g} levels², the floor that stochastic gradients leave at this rate, got {got:g}. "
            "Lower the rate, or average more gradients in a batch."
        )
    safe_first, safe_last = jnp.where(is_falling, first, floor + 2), jnp.where(is_falling, last, floor + 1)
    if contraction is None:
        above, below = safe_first - floor, safe_last - floor
        time = jnp.log(above) - jnp.log(below)
        # 1/below - 1/above over one denominator; divided one by one, as the product of two losses may leave float32.
        heat = 2 * time + 2 * (s + floor) * ((above - below) / above / below)
        return Convergence(*(jnp.where(is_falling, x, jnp.nan) for x in (heat, time, jnp.zeros_like(heat))))
    (theta,) = read(_arguments.contraction(contraction))
    first, last, s, floor, is_falling, theta = jnp.broadcast_arrays(
        safe_first, safe_last, s, floor, is_falling, theta.astype(s.dtype)
    )
    heat, power, shortest, longest = _law_integrals.at_contraction(first, last, s, floor, theta)
    is_feasible = is_falling & (theta > shortest) & (theta < longest)
    if is_known(first, theta) and not bool(np.all(is_feasible)):
        got, low, high = worst(~np.asarray(is_feasible), theta, shortest, longest)
        end = f" and below {high:.6g}" if np.isfinite(high) else ""
        raise ValueError(f"contraction must be above {low:.6g}{end} for these losses, got {got:g}.")
    return Convergence(*(jnp.where(is_feasible, x, jnp.nan) for x in (heat, theta, power)))


@jax.jit
def _along(
    rates: Float[Array, "steps"], start: Float[Array, ""], scatter: Float[Array, ""], factor: Float[Array, ""]
) -> Descent:
    def step(loss: Float[Array, ""], u: Float[Array, ""]) -> tuple[Array, tuple[Array, Array, Array]]:
        noise = u * u * scatter
        # A step of finite length takes 1 - (1-u)² = u(2-u) off the loss, where the law in continuous time has 2u.
        gamma = factor * 0.25 * ((2 - u) * u * loss - noise)
        is_open = gamma > 0
        heat = jnp.where(is_open, (u * u * loss + noise) / jnp.where(is_open, gamma, 1.0), jnp.nan)
        return (1 - u) * (1 - u) * loss + noise + 2 * gamma, (heat, loss, gamma)

    last, (heat, loss, gamma) = jax.lax.scan(step, start, rates)
    return Descent(heat, jnp.append(loss, last), gamma)


@finite
def along_schedule(rates: ArrayLike, start: ArrayLike, scatter: ArrayLike = 0.0, factor: ArrayLike = 1.0) -> Descent:
    r"""Heat and loss along any learning-rate schedule, step by step, with the exchange that is optimal at each loss.

    $$ L' = (1-u)^2L + u^2s + 2Γ, \qquad Q = \frac{u^2(L+s)}Γ, \qquad Γ = \frac{f}{4}\left[u(2-u)L - u^2s\right] $$

    The integral of it is $\int 2\frac{L+s}{L^2}\left(1-\frac{us}{2L}\right)^{-2}dL$, at least
    $2\ln(L_0/L_T) + 2s(1/L_T - 1/L_0)$.

    Args:
        rates: u of each step, learning rate times curvature [dimensionless].
        start: L0 [levels²], a scalar.
        scatter: s = σ²/h² of one step's batch [levels²], a scalar.
        factor: exchange over the optimal one, a scalar; 1 is the optimum.

    Returns:
        Heat, loss and exchange of every step; the heat is NaN in steps that begin below the floor of their learning rate.

    Raises:
        ValueError: if a known argument is out of its range, or `rates` is not one-dimensional.

    Example:
        >>> import jax.numpy as jnp
        >>> run = along_schedule(jnp.full(1000, 0.01), 65536.0)
        >>> f"{run.heat_kt.sum():.1f} kT, loss {run.loss[-1]:.1f}"
        '20.1 kT, loss 3.0'
    """
    scale = Argument(factor, "factor", "It is exchange over optimal exchange, for example 1.")
    u, first, s, f = read(
        Argument(rates, "rates", "They are learning rate times curvature, for example 0.01.", high=1.0, open_low=False),
        _loss(start, "start"),
        _scatter(scatter),
        scale,
    )
    if u.ndim != 1 or first.ndim or s.ndim or f.ndim:
        raise ValueError(
            f"rates must be one-dimensional and the others scalars, got shapes {u.shape}, {first.shape}, {s.shape} and "
            f"{f.shape}; use jax.vmap for several schedules."
        )
    return _along(u, first, s, f)
