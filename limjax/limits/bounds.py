r"""Least heat of one operation on one memory cell, and of one convergence of it.

Each is a line of its own; a limit is their stack, never one number. `convergence` is the law of `limjax.limits.law` as one
function. `drive`, `hop_affinity`, `direction_error` and `hopping_precision` are costs of this cell, a ladder with local detailed balance; another
device may pay less. `erasure`, `precision`, `transport` and `jump_count` are theorems under the conditions they name.

Source: docs/limits.md and the works named at each function.
"""

import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from limjax.limits import _arguments, _erasure, law
from limjax.limits._arguments import probability
from limjax.numerics._elementary import asinh_exp
from limjax.numerics._guards import finite
from limjax.numerics.checks import Argument, is_known, read, worst
from limjax.physics.actuation import free_energy
from limjax.physics.units import LN2


def convergence(
    loss_ratio: ArrayLike, contraction: ArrayLike | None = None, averaged: ArrayLike = 0.0
) -> Float[Array, "..."]:
    r"""The law of learning-in-memory: least heat per parameter to bring the loss of a bowl down.

    $$ Q = 2\ln\frac{L_0}{L_T} + 2 n_\mathrm{avg}, \qquad\text{or in a given time}\qquad
       Q = \frac{(uT)^2}{uT - \frac12\ln(L_0/L_T)} $$

    2 kT for every e-fold of the loss, 4 ln 2 for every bit of precision, and 2 kT for every gradient that has to be averaged.
    Speed costs and so does slowness, as the requests chase the hop noise all the time: the least is at uT = ln(L0/LT).

    Args:
        loss_ratio: L0/LT, how many times the loss falls, at least 1.
        contraction: uT, training time over relaxation time; None takes the cheapest.
        averaged: σ²/h² (1/LT - 1/L0), how many independent gradients the final precision averages; 0 for a full gradient.

    Returns:
        Heat per parameter [kT]; NaN where traced arguments are infeasible.

    Raises:
        ValueError: if a known argument is out of its range, or the time shorter than any barrier allows.

    Example:
        >>> f"{convergence(65536.0):.2f} kT, {convergence(65536.0, 8.0):.2f} in less time, {convergence(65536.0, averaged=10.0):.2f}"
        '22.18 kT, 26.07 in less time, 42.18'

    Source: docs/law.md; it holds while the barrier is open (`limjax.limits.law.openness`), for one bowl: a network is none.
    """
    count = Argument(averaged, "averaged", "It is how many gradients are averaged, for example 100.", open_low=False)
    ratio, n = _arguments.together(_arguments.loss_ratio(loss_ratio), count)
    if contraction is None:
        return jnp.where(ratio >= 1, 2 * jnp.log(jnp.maximum(ratio, 1.0)) + 2 * n, jnp.nan)
    # Of what the caller gave: under `vmap` and `jit` the arrays made of it are traced, and the closed form would be missed.
    if not isinstance(averaged, jax.core.Tracer) and not np.any(np.asarray(averaged)):
        return law.finite_time_heat(ratio, contraction)
    if is_known(ratio) and bool(np.any(ratio <= 1)):
        raise ValueError("loss_ratio must be above 1 where gradients are averaged in a given time, got 1.")
    return law.optimum(ratio, jnp.ones_like(ratio), scatter=n / (1 - 1 / ratio), contraction=contraction).heat_kt


def erasure(error: ArrayLike = 0.0, bits: ArrayLike = 1.0) -> Float[Array, "..."]:
    r"""Least work to reset unbiased bits when each may end wrong: $Q \ge b\,[\ln 2 - h(ε)]$.

    Args:
        error: ε, probability that a bit is wrong afterwards, 0 to 1/2.
        bits: b, how many bits.

    Returns:
        Work, and heat less the entropy given up [kT].

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> f"{erasure():.6f} {erasure(1e-3):.6f}"
        '0.693147 0.685240'

    Source: Landauer, IBM J. Res. Dev. 5, 183 (1961); h is the binary entropy.
    """
    eps, b = read(
        Argument(error, "error", "It is the probability of a wrong bit, from 0 to 0.5.", high=0.5, open_low=False),
        Argument(bits, "bits", "It is how many bits are reset, for example 8."),
    )
    return b * _erasure.reset_work(eps)


def isothermal_lift(error: ArrayLike) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The slow erasure of a two-level bit by lifting one level: how high, and the work.

    E = ln((1-ε)/ε) and W = ln 2 + ln(1-ε). The work is above ln 2 - h(ε) by εE, which dropping the level returns.

    Args:
        error: ε, probability that the bit is wrong afterwards, above 0 and at most 1/2.

    Returns:
        `(energy, work)` [kT].

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> energy, work = isothermal_lift(1e-3)
        >>> f"{energy:.4f} {work:.6f}"
        '6.9068 0.692147'
    """
    (eps,) = read(probability(error, "error", high=0.5))
    return jnp.log1p(-eps) - jnp.log(eps), LN2 + jnp.log1p(-eps)


def hop_affinity(error: ArrayLike) -> Float[Array, "..."]:
    r"""Tilt at which a hop goes the right way with probability 1 - ε: $F = \ln\frac{1-ε}{ε}$.

    Args:
        error: ε, probability that the hop goes the wrong way, above 0 and at most 1/2.

    Returns:
        F [kT]; the mean heat of a hop is `direction_error`.

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> f"{hop_affinity(1e-3):.3f} kT"
        '6.907 kT'

    Source: local detailed balance, k_up/k_down = e^F.
    """
    (eps,) = read(probability(error, "error", high=0.5))
    return jnp.log1p(-eps) - jnp.log(eps)


def direction_error(error: ArrayLike) -> Float[Array, "..."]:
    r"""Mean heat of a hop that goes the right way with probability 1 - ε: $Q = (1-2ε)\ln\frac{1-ε}{ε}$.

    Each hop along the tilt releases the affinity F = ln((1-ε)/ε), each one against it takes it back. A cost of this cell.

    Args:
        error: ε, probability that the hop goes the wrong way, above 0 and at most 1/2.

    Returns:
        Mean heat per hop [kT].

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> f"{direction_error(1e-3):.3f} kT"
        '6.893 kT'

    Source: local detailed balance, k_up/k_down = e^F.
    """
    (eps,) = read(probability(error, "error", high=0.5))
    return (1 - 2 * eps) * hop_affinity(eps)


@finite
def precision(relative_error: ArrayLike) -> Float[Array, "..."]:
    r"""Heat of a steady drive that moves by n ± δn: $Q \ge 2/δ^2$ (thermodynamic uncertainty relation).

    It binds a steady drive without feedback. A weight that contracts towards its target forgets early noise and may stay
    below it: `convergence`. Drives that change in time obey another relation (docs/neighbours.md).

    Args:
        relative_error: δ, standard deviation of the displacement over its mean.

    Returns:
        Heat [kT].

    Raises:
        ValueError: if a known argument is not positive.

    Example:
        >>> f"{precision(0.1):.0f} kT"
        '200 kT'

    Source: Barato & Seifert, Phys. Rev. Lett. 114, 158101 (2015), doi:10.1103/PhysRevLett.114.158101.
    """
    (delta,) = read(Argument(relative_error, "relative_error", "It is standard deviation over mean, for example 0.1."))
    return 2 / (delta * delta)


def hopping_precision(affinity: ArrayLike) -> Float[Array, "..."]:
    r"""What hops on a ladder pay for precision: heat × relative variance = $F\coth(F/2) \ge 2$.

    Args:
        affinity: F, drive per level [kT], not negative.

    Returns:
        Q δ² [kT], 2 at zero drive.

    Raises:
        ValueError: if a known argument is negative.

    Example:
        >>> f"{hopping_precision(1.0986122886681098):.6f}"
        '2.197225'

    Source: Barato & Seifert, Phys. Rev. Lett. 114, 158101 (2015), eq. 6.
    """
    (force,) = read(Argument(affinity, "affinity", "It is the drive per level in kT.", open_low=False))
    is_small = force < 0.1
    square = jnp.where(is_small, force * force, 0.0)
    series = 2 * (1 + square * (1 / 12 - square * (1 / 720 - square * (1 / 30240))))
    return jnp.where(is_small, series, force / jnp.tanh(0.5 * jnp.where(is_small, 1.0, force)))


@finite
def drive(net_rate: ArrayLike, attempt_rate: ArrayLike, barrier: ArrayLike) -> Float[Array, "..."]:
    r"""Affinity that pushes hops over a barrier at a net rate: r = 2 k0 e^{-B} sinh(F/2), so F = 2 asinh(r e^B / 2k0).

    Args:
        net_rate: r [1/s].
        attempt_rate: k0 [1/s].
        barrier: B [kT].

    Returns:
        F, heat per net hop [kT]; times r it is the power [kT/s].

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> f"{drive(1.0, 1e12, 40.0):.4f} kT, {drive(1.0, 1e12, 20.0):.7f} kT"
        '24.7380 kT, 0.0004852 kT'
    """
    net = Argument(net_rate, "net_rate", "It is net hops per second.")
    rate, attempts, height = read(net, _arguments.attempt_rate(attempt_rate), _arguments.barrier(barrier))
    return 2 * asinh_exp(jnp.log(rate) - jnp.log(attempts) + height - LN2)


@finite
def transport(distance_squared: ArrayLike, diffusion: ArrayLike, time: ArrayLike) -> Float[Array, "..."]:
    r"""Heat of moving a distribution over a continuous landscape in a given time: $Q \ge W_2^2/(Dτ)$.

    D is the diffusion constant of the landscape without its barrier, for a cell `ArrheniusCell.diffusion_per_step` over τ. It
    is no bound of the ladder, where hops of one level at an exchange g take over (g = 1, d = 10: 46.2 < 100 kT); there it is
    `jump_count`. For two Gaussians W2² = (m1-m0)² + (s1-s0)².

    Args:
        distance_squared: W2², squared Wasserstein distance [levels²].
        diffusion: D [levels²/s].
        time: τ [s].

    Returns:
        Entropy production [kT].

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> f"{transport(1.25, 1.0, 2.0):.3f} kT"
        '0.625 kT'

    Source: Aurell, Gawedzki, Mejia-Monasterio, Mohayaee & Muratore-Ginanneschi, J. Stat. Phys. 147, 487 (2012),
    doi:10.1007/s10955-012-0478-x.
    """
    square, rate, duration = read(
        Argument(distance_squared, "distance_squared", "It is the squared distance in levels².", open_low=False),
        Argument(diffusion, "diffusion", "It is the diffusion constant in levels²/s."),
        Argument(time, "time", "It is the duration in seconds."),
    )
    return square / rate / duration


def jump_count(path: ArrayLike, hops: ArrayLike) -> Float[Array, "..."]:
    r"""Heat of a net displacement made with a given mean number of hops: $Q \ge 2 d\,\mathrm{atanh}(d/A)$.

    A uniform drive reaches it: F = 2 atanh(d/A) is the cell's own law.

    Args:
        path: d, net levels moved [levels].
        hops: A, mean number of hops in both directions [hops], above d.

    Returns:
        Entropy production [kT]; NaN where traced arguments are infeasible.

    Raises:
        ValueError: if a known argument is out of its range, or there are not more hops than levels.

    Example:
        >>> f"{jump_count(1.0, 2**0.5):.4f} kT"
        '1.7627 kT'

    Source: Dechant, J. Phys. A 55, 094001 (2022), doi:10.1088/1751-8121/ac4ac0.
    """
    d, total = _arguments.together(
        Argument(path, "path", "It is the net levels moved.", open_low=False),
        Argument(hops, "hops", "It is the mean number of hops, above the path."),
    )
    is_feasible = total > d
    if is_known(d, total) and not bool(np.all(is_feasible)):
        got_d, got = worst(~np.asarray(is_feasible), d, total)
        raise ValueError(
            f"hops must be above the path, as each level of net motion takes at least one: got {got:g} hops for "
            f"{got_d:g} levels. The nearest feasible number is any above {got_d:g}."
        )
    bounded = jnp.where(is_feasible, total, 2 * d + 1)
    return jnp.where(is_feasible, d * (jnp.log1p(2 * d / (bounded - d))), jnp.nan)


def two_level_minimum_time(start: ArrayLike, stop: ArrayLike) -> Float[Array, "..."]:
    """Shortest Γτ in which an occupation can fall from p0 to pf: ln(p0/pf), whatever is paid.

    Args:
        start: p0, occupation before.
        stop: pf, occupation after, at most p0.

    Returns:
        Γτ, total rate times duration [dimensionless].

    Raises:
        ValueError: if a known argument is not a probability.

    Example:
        >>> f"{two_level_minimum_time(0.5, 0.01):.4f}"
        '3.9120'
    """
    p0, pf = read(probability(start, "start"), probability(stop, "stop"))
    return jnp.log(p0) - jnp.log(pf)


def two_level_erasure(
    rate_time: ArrayLike, start: ArrayLike = 0.5, stop: ArrayLike = 1e-3
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    r"""Least entropy production of a two-level bit whose occupation falls from p0 to pf in a time τ.

    The rates add up to Γ and obey detailed balance; the energy of the level is driven freely. The optimum keeps
    $K = \dot p^2 / [Γ^2 w (1-w)]$ constant (w: equilibrium occupation of the moment), and with q = 1 - 2p

    $$ Γτ = \left[\frac{\arcsin(q/\sqrt{1+K})}{\sqrt K} + \mathrm{atanh}\frac{q\sqrt K}{r}
            - \tfrac12\ln(1-q^2)\right]_{q_0}^{q_f}, \quad r = \sqrt{1+K-q^2} $$
    $$ Σ = \left[\sqrt K \arcsin\frac{q}{\sqrt{1+K}} + q\,\mathrm{asinh}\sqrt{\frac{K}{1-q^2}}
            - \mathrm{atanh}\frac{q\sqrt K}{r}\right]_{q_0}^{q_f} $$

    Args:
        rate_time: Γτ [dimensionless], above ln(p0/pf).
        start: p0, occupation before.
        stop: pf, occupation after, below p0.

    Returns:
        `(entropy_production, heat)` [kT]; heat = production + h(p0) - h(pf). NaN where traced arguments are infeasible.

    Raises:
        ValueError: if a known argument is out of its range, or the time is too short for any drive.

    Example:
        >>> production, heat = two_level_erasure(10.0, 0.5, 0.1)
        >>> f"{production:.5f} {heat:.5f}"
        '0.09103 0.45910'

    Cost: 12 Newton steps in float32, 16 in float64; derivatives cost one.

    Source: the problem is that of Esposito, Kawai, Lindenberg & Van den Broeck, EPL 89, 20003 (2010), doi:10.1209/0295-5075/89/20003,
    and Diana, Bagci & Esposito, Phys. Rev. E 87, 012111 (2013); integrals in docs/limits.md.
    """
    time = Argument(rate_time, "rate_time", "It is total rate times duration, above ln(start/stop).")
    return _erasure.optimum(time, probability(start, "start"), probability(stop, "stop"))


@finite
def slow_two_level_erasure(rate_time: ArrayLike, start: ArrayLike, stop: ArrayLike) -> Float[Array, "..."]:
    """Entropy production of a slow two-level erasure, from the thermodynamic length: 𝓛²/(Γτ), 𝓛 = Δ arcsin(1 - 2p).

    Args:
        rate_time: Γτ [dimensionless].
        start: p0.
        stop: pf.

    Returns:
        Entropy production [kT], below that of `two_level_erasure`.

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> f"{slow_two_level_erasure(100.0, 0.5, 0.1):.6f}"
        '0.008599'

    Source: Sivak & Crooks, Phys. Rev. Lett. 108, 190602 (2012), doi:10.1103/PhysRevLett.108.190602.
    """
    duration = Argument(rate_time, "rate_time", "It is total rate times duration.")
    time, p0, pf = read(duration, probability(start, "start"), probability(stop, "stop"))
    length = jnp.arcsin(1 - 2 * pf) - jnp.arcsin(1 - 2 * p0)
    return length * length / time


@finite
def retention(
    time: ArrayLike, failure: ArrayLike = 1e-4, cells: ArrayLike = 1.0, attempt_rate: ArrayLike = 1e9, ways: int = 1
) -> Float[Array, "..."]:
    """Barrier that holds cells for a time: B = ln(w n k0 t / -ln(1-P)).

    Args:
        time: t [s].
        failure: P, probability that any of the cells fails.
        cells: n, how many must survive together.
        attempt_rate: k0 [1/s], each way.
        ways: w, how many neighbours a level is lost to: 1 for a two-state cell, as device papers count, 2 on a ladder.

    Returns:
        B [kT], not negative.

    Raises:
        ValueError: if a known argument is out of its range, or `ways` is neither 1 nor 2.

    Example:
        >>> f"{retention(315576000.0):.2f} kT one way, {retention(315576000.0, ways=2):.2f} kT both ways"
        '49.50 kT one way, 50.20 kT both ways'

    Source: Arrhenius escape, P = 1 - exp(-w n k0 t e^-B).
    """
    if ways not in (1, 2):
        raise ValueError(f"ways must be 1 (two-state cell) or 2 (level of a ladder), got {ways!r}.")
    duration = Argument(time, "time", "Retention is in seconds; ten years are 3.16e8.")
    count = Argument(cells, "cells", "It is how many cells must survive.")
    t, p, n, k0 = read(duration, probability(failure, "failure"), count, _arguments.attempt_rate(attempt_rate))
    rate = (LN2 if ways == 2 else 0.0) + jnp.log(n) + jnp.log(k0) + jnp.log(t)
    return jnp.maximum(rate - jnp.log(-jnp.log1p(-p)), 0.0)


def actuation(start: ArrayLike, stop: ArrayLike, recovery: ArrayLike = 0.0) -> Float[Array, "..."]:
    """Reversible work to move a barrier: ΔF(stop) - ΔF(start) when raised, times the recovered share when lowered.

    Args:
        start: barrier before [kT].
        stop: barrier after [kT].
        recovery: share of the free energy the driver gets back on lowering, 0 to 1.

    Returns:
        Work [kT]; not positive when lowering.

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> f"{actuation(0.0, 40.0):.3f} kT"
        '2.410 kT'

    Source: ΔF(B) = B/2 - ln I0(B/2), `limjax.physics.actuation.free_energy`.
    """
    before, after, share = _arguments.together(
        _arguments.barrier(start, "start"),
        _arguments.barrier(stop, "stop"),
        Argument(recovery, "recovery", "It is a share from 0 to 1.", high=1.0, open_low=False),
    )
    change = free_energy(after) - free_energy(before)
    return jnp.where(change < 0, share * change, change)
