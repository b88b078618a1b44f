"""What is trained: size, computation, data, precision and time, one training or many at once."""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from limjax.limits._arguments import Number, settle
from limjax.limits._conditions import DEFAULT_TIME_S
from limjax.limits._convergences import Course
from limjax.limits._scaling import ComputeOptimal, compute_optimal, get_law
from limjax.limits._updates import Amounts, get_update
from limjax.numerics._guards import finite
from limjax.numerics.checks import Argument, positive_number, read, whole_number
from limjax.physics.units import LN2, thermal_energy_joules

MAX_BITS = 32
KT_PER_UPDATE = 2.0
"""The law's price of one effective update: a gradient that has to be averaged [kT per parameter]."""
# Between a thought experiment and a slip of the finger; products of them stay within float64.
_NUMBERS = {
    "parameters": Number("It is the number of trained weights, for example 1e15.", 1.0, 1e30),
    "flops": Number("It is the FLOP of the whole training, for example 1e28.", 1.0, 1e90, optional=True),
    "tokens": Number("It is how many tokens are seen, for example 3e12.", 1.0, 1e60, optional=True),
    "steps": Number("It is how many optimizer steps are taken, for example 1e6.", 1.0, 1e60, optional=True),
    "batch": Number("It is tokens per optimizer step, for example 1e6.", 1.0, 1e30),
    "time": Number("It is the duration of the training in seconds; 90 days are 7.8e6.", 1e-20, 1e20, optional=True),
}
_AGREEMENT = 0.01


@dataclass(frozen=True)
class Workload:
    """One training, with everything the limits need to know about it.

    Give one of `flops`, `tokens` and `steps`, or none: then `scaling` says how much. Two may be given if they agree to
    1 % with flops = 6 × parameters × tokens and tokens = steps × batch.

    Args:
        parameters: number of trained weights.
        flops: operations of the whole training [FLOP].
        tokens: tokens (or examples) seen.
        steps: optimizer steps.
        batch: tokens per optimizer step.
        bits: precision of a stored weight, 1 to 32 [bits].
        updates: what counts as one update: `flop`, `token` (token × parameter) or `optimizer` (a write).
        time: duration of the training [s], or None where it does not matter.
        scaling: law used where none of flops, tokens and steps is given.

    Raises:
        ValueError: if a number is out of its range, a name unknown, or two numbers are in conflict.

    Example:
        >>> workload = Workload(1e15, updates="optimizer")
        >>> f"{workload.total_flops:.3g} FLOP, {workload.update_count:.3g} updates"
        '9.99e+27 FLOP, 3.01e+21 updates'
    """

    parameters: float
    flops: float | None = None
    tokens: float | None = None
    steps: float | None = None
    batch: float = 1e6
    bits: int = 8
    updates: str = "flop"
    time: float | None = None
    scaling: str = "kaplan"

    def __post_init__(self):
        settle(self, _NUMBERS)
        # 8.0 is 8; 8.5 stays for the check to refuse.
        bits = int(self.bits) if isinstance(self.bits, float) and self.bits.is_integer() else self.bits
        object.__setattr__(self, "bits", whole_number(bits, "bits", 1, MAX_BITS))
        get_update(self.updates)
        get_law(self.scaling)
        self._check_conflicts()

    def _check_conflicts(self) -> None:
        said = {}
        if self.flops is not None:
            said[f"flops={self.flops:g} (over 6 × parameters)"] = self.flops / (6 * self.parameters)
        if self.tokens is not None:
            said[f"tokens={self.tokens:g}"] = self.tokens
        if self.steps is not None:
            said[f"steps={self.steps:g} (times batch {self.batch:g})"] = self.steps * self.batch
        if said and max(said.values()) > (1 + _AGREEMENT) * min(said.values()):
            stated = " and ".join(f"{name} means {tokens:.4g} tokens" for name, tokens in said.items())
            raise ValueError(
                f"The workload is in conflict: {stated}, with flops = 6 × parameters × tokens. Give one of flops, tokens "
                "and steps, or numbers that agree to 1 %."
            )

    @property
    def optimum(self) -> ComputeOptimal | None:
        """What the scaling law says, or None where the workload was given."""
        if (self.flops, self.tokens, self.steps) != (None, None, None):
            return None
        return compute_optimal(self.parameters, self.scaling)

    @property
    def total_tokens(self) -> float:
        """Tokens seen: given, from steps or FLOP, or by the scaling law."""
        if self.tokens is not None:
            return self.tokens
        if self.steps is not None:
            return self.steps * self.batch
        if self.flops is not None:
            return self.flops / (6 * self.parameters)
        return compute_optimal(self.parameters, self.scaling).tokens

    @property
    def total_flops(self) -> float:
        """FLOP: given, 6 × parameters × tokens, or by the scaling law [FLOP]."""
        if self.flops is not None:
            return self.flops
        # Not 6ND for a scaling law: Kaplan's FLOP and tokens are two fits, which it meets within a factor of two.
        optimum = self.optimum
        return 6 * self.parameters * self.total_tokens if optimum is None else optimum.flops

    @property
    def total_steps(self) -> float:
        """Optimizer steps, at least one."""
        return self.steps if self.steps is not None else max(self.total_tokens / self.batch, 1.0)

    @property
    def update_count(self) -> float:
        """Updates of single weights over the training, as `updates` counts them."""
        return get_update(self.updates).count(self.amounts)

    @property
    def amounts(self) -> Amounts:
        """What the training computes, sees and writes."""
        return Amounts(self.parameters, self.total_flops, self.total_tokens, self.total_steps)

    @property
    def duration(self) -> float:
        """How long the training takes: given, or 90 days [s]."""
        return DEFAULT_TIME_S if self.time is None else self.time

    @property
    def duration_text(self) -> str:
        """The same in a few words."""
        return f"training time {self.duration:.3g} s" + (" (90 days assumed)" if self.time is None else "")

    @property
    def step_time(self) -> float:
        """How long one optimizer step takes [s]."""
        return self.duration / self.total_steps

    @property
    def levels(self) -> float:
        """How far a weight goes, from one end of its range to the other [levels]."""
        return 2.0**self.bits

    @property
    def counted(self) -> str:
        """What counts as an update, as a clause."""
        return f"{get_update(self.updates).words} is one update"

    @property
    def convention(self) -> str:
        """Where the computation comes from and what counts as an update, in a few words."""
        optimum = self.optimum
        return f"{'given' if optimum is None else optimum.law.title}, {get_update(self.updates).words}"

    @property
    def assumptions(self) -> str:
        """The same in one line with the range of the scaling law."""
        optimum = self.optimum
        amount = "computation as given" if optimum is None else optimum.note
        return f"{amount}; {self.counted} ({self.update_count:.3g} in all)"

    def as_dict(self) -> dict:
        """Everything given and derived, ready for JSON."""
        optimum = self.optimum
        return {
            **asdict(self),
            "flops": self.total_flops,
            "tokens": self.total_tokens,
            "steps": self.total_steps,
            "update_count": self.update_count,
            "scaling": None if optimum is None else self.scaling,
            "is_extrapolated": optimum is not None and optimum.is_extrapolated,
            "extrapolation": 1.0 if optimum is None else optimum.extrapolation,
            "assumptions": self.assumptions,
        }


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


@finite
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
    update = get_update(updates)
    size, b, price = read(
        Argument(parameters, "parameters", "It is the number of trained weights, for example 1e15."),
        Argument(bits, "bits", "It is the precision of a weight, for example 8."),
        Argument(joules_per_flop, "joules_per_flop", "It is in J/FLOP, for example 7e-13.", open_low=False),
    )
    batch = positive_number(batch, "batch", "It is tokens per optimizer step, for example 1e6.")
    kt = thermal_energy_joules(temperature)
    # kT first: the number of updates alone may leave float32, and kT times small numbers underflows it.
    flops, tokens = scaling_law.flops(size), kt * scaling_law.tokens(size)
    # kT in the place of steps is the one step that a training has at least.
    counted = update.count(Amounts(size, kt * flops, tokens, jnp.maximum(tokens / batch, kt)))
    course = Course.of(b, loss_ratio, contraction_factor)
    return WorkloadEnergies(
        LN2 * b * counted,
        flops * price,
        KT_PER_UPDATE * counted,
        size * kt * course.law_heat(),
    )
