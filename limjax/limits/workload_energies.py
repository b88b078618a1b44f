"""Heat of one convergence by every approach, and the main lines of the stack for many workloads at once."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from limjax.limits import approaches, bounds
from limjax.limits.approaches import ConstantExchange, LossFollowing, RateMatched
from limjax.limits.conditions import DEFAULT_TIME_S
from limjax.limits.law import loss_ratio_argument
from limjax.limits.scaling import get_law
from limjax.limits.workload import UPDATES
from limjax.numerics.checks import Argument, read
from limjax.physics.units import LN2, thermal_energy_joules

KT_PER_UPDATE = 2.0
"""The law's price of one effective update: a gradient that has to be averaged [kT per parameter]."""


class ConvergenceHeat(NamedTuple):
    """Heat of one convergence of one parameter, with its hop noise paid for, by approach [kT].

    Attributes:
        static: the barrier that keeps it afterwards.
        constant: the best constant barrier.
        rate_matched: exchange in proportion to the speed.
        loss_following: exchange in proportion to the measured loss.
        law: the same in closed form, for an open barrier.
    """

    static: Float[Array, "..."]
    constant: Float[Array, "..."]
    rate_matched: Float[Array, "..."]
    loss_following: Float[Array, "..."]
    law: Float[Array, "..."]


def convergence_heat(
    bits: ArrayLike,
    loss_ratio: ArrayLike | None = None,
    contraction_factor: ArrayLike = 1.0,
    *,
    retention_barrier: ArrayLike = 49.5,
    attempts: ArrayLike = 1e9 * DEFAULT_TIME_S,
) -> ConvergenceHeat:
    """Heat of one convergence from 2^b levels, in uT = factor × ln(L0/LT), by every approach.

    Args:
        bits: b [bits].
        loss_ratio: L0/LT; None takes 4^b, which ends at one level².
        contraction_factor: uT over its cheapest value [dimensionless], above one half.
        retention_barrier: height of the static barrier [kT].
        attempts: k0 T of the static barrier [dimensionless].

    Returns:
        Heat per parameter, one array each [kT]. The static barrier ends where the hops of its requests leave it.

    Raises:
        ValueError: if a known argument is out of its range or infeasible.

    Example:
        >>> heat = convergence_heat(8.0)
        >>> f"{heat.constant:.0f} {heat.rate_matched:.2f} {heat.loss_following:.2f} {heat.law:.2f}"
        '2408 22.44 22.45 22.18'
    """
    (b,) = read(Argument(bits, "bits", "It is the precision of a weight, for example 8."))
    distance = jnp.exp2(b)
    if loss_ratio is None:
        log_ratio = 2 * LN2 * b
    else:
        (ratio,) = read(loss_ratio_argument(loss_ratio))
        log_ratio = jnp.log(ratio).astype(b.dtype)
    final = jnp.exp(2 * LN2 * b - log_ratio)
    contraction = jnp.asarray(contraction_factor, b.dtype) * log_ratio
    return ConvergenceHeat(
        approaches.static(distance, contraction, retention_barrier, attempts).heat_kt,
        approaches.heat(ConstantExchange(), distance, contraction, final),
        approaches.heat(RateMatched(), distance, contraction, final),
        approaches.heat(LossFollowing(), distance, contraction, final),
        bounds.convergence(jnp.exp(log_ratio), contraction),
    )


class WorkloadEnergies(NamedTuple):
    """Energies of a training for scans over many workloads, as arrays [J].

    Attributes:
        landauer: updates × b × kT ln 2.
        accelerator: FLOP × energy per FLOP.
        law: updates × 2 kT.
        convergence: one convergence of every weight by the law.
    """

    landauer: Float[Array, "..."]
    accelerator: Float[Array, "..."]
    law: Float[Array, "..."]
    convergence: Float[Array, "..."]


def workload_energies(
    parameters: ArrayLike,
    bits: ArrayLike = 8.0,
    contraction_factor: ArrayLike = 1.0,
    *,
    loss_ratio: ArrayLike | None = None,
    scaling: str = "kaplan",
    updates: str = "flop",
    batch: float = 1e6,
    joules_per_flop: ArrayLike = 7.08e-13,
    temperature: float = 300.0,
) -> WorkloadEnergies:
    """The main lines of the stack as a pure function: differentiable, and vectorised by `jax.vmap`.

    Args:
        parameters: number of parameters.
        bits: precision [bits].
        contraction_factor: uT over its cheapest value [dimensionless].
        loss_ratio: L0/LT; None takes 4^b.
        scaling: scaling law.
        updates: what counts as an update.
        batch: tokens per optimizer step.
        joules_per_flop: of the accelerator [J/FLOP].
        temperature: of the cells [K].

    Returns:
        Energies [J]; NaN where traced arguments are infeasible.

    Raises:
        ValueError: if a name is unknown, or a known argument out of its range.

    Cost: a million workloads take a few milliseconds on two CPU cores.

    Example:
        >>> energies = workload_energies(1e15)
        >>> f"{energies.landauer:.2e} {energies.law:.2e} {energies.convergence:.2e} J"
        '2.29e+08 8.28e+07 9.19e-05 J'
    """
    scaling_law = get_law(scaling)
    if updates not in UPDATES:
        raise ValueError(f"updates must be one of {', '.join(UPDATES)}, got {updates!r}.")
    size = jnp.asarray(parameters, jnp.result_type(float))
    b = jnp.asarray(bits, size.dtype)
    kt = thermal_energy_joules(temperature)
    # kT first: the number of updates alone may leave float32, and kT times small numbers underflows it.
    if updates == "flop":
        counted = kt * scaling_law.flops(size)
    else:
        per_parameter = kt * scaling_law.tokens(size)
        counted = per_parameter * size if updates == "token" else per_parameter / batch * size
    ratio = jnp.exp2(2 * b) if loss_ratio is None else jnp.asarray(loss_ratio, size.dtype)
    contraction = jnp.asarray(contraction_factor, size.dtype) * jnp.log(ratio)
    return WorkloadEnergies(
        LN2 * b * counted,
        scaling_law.flops(size) * jnp.asarray(joules_per_flop, size.dtype),
        KT_PER_UPDATE * counted,
        size * kt * bounds.convergence(ratio, contraction),
    )
