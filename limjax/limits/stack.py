"""The stack of bounds for one workload, the conventions side by side, and the headline they reproduce.

Energies that scale with the number of updates (erasure, direction, precision, readout, a static barrier) depend on what
counts as an update; those of one convergence of every parameter (speed, actuation, the frontier) do not. Neither is the
limit: the stack is.
"""

import math
import textwrap
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from limjax.limits import bounds, frontier
from limjax.limits.records import Catalogue, Record, load_catalogue
from limjax.limits.scaling import get_law, positive
from limjax.limits.workload import UPDATES, Workload
from limjax.physics.units import LN2, YEAR_S, thermal_energy_joules

HARDWARE = "H100 SXM bf16"
"""Accelerator compared with where none is named."""

RECONSTRUCTED_BITS = (4, 32)
"""Precisions over which the reconstruction of the headline ranges."""

DEFAULT_TIME_S = 90 * 86400.0
OPEN_BARRIER_KT = 2.0
_COLUMNS = 118
HEADLINE_VERSION = "the abstract of arXiv:2402.14878 v1 (v2 repeats the energy, v3 and v4 do not)"


@dataclass(frozen=True)
class Conditions:
    """What the cells and the learning are assumed to be like; every line of the stack names those it uses.

    Args:
        temperature: of the bath [K].
        error: probability that a hop goes the wrong way.
        relative_error: standard deviation of an update over its mean.
        variance: final variance of a weight [levels²].
        contraction_factor: training time over the shortest useful one, aT = factor × ln(range).
        attempt_rate: k0 [1/s].
        retention_time: how long a static barrier must hold a weight [s].
        retention_failure: probability that it fails to.

    Raises:
        ValueError: if a number is out of its range.
    """

    temperature: float = 300.0
    error: float = 1e-3
    relative_error: float = 1.0
    variance: float = 1.0
    contraction_factor: float = 1.2
    attempt_rate: float = 1e9
    retention_time: float = 10 * YEAR_S
    retention_failure: float = 1e-4

    def __post_init__(self):
        for name, remedy in (
            ("temperature", "Room temperature is 300 K."),
            ("error", "It is a probability below one half, for example 1e-3."),
            ("relative_error", "It is standard deviation over mean, for example 1."),
            ("variance", "It is in levels squared, for example 1."),
            ("contraction_factor", "It is the training time over the shortest useful one, for example 1.2."),
            ("attempt_rate", "It is k0 in 1/s, for example 1e9."),
            ("retention_time", "It is in seconds; ten years are 3.16e8."),
            ("retention_failure", "It is a probability, for example 1e-4."),
        ):
            object.__setattr__(self, name, positive(getattr(self, name), name, remedy))
        for name, end in (("error", 0.5), ("retention_failure", 1.0)):
            if getattr(self, name) >= end:
                raise ValueError(f"{name} must be below {end:g}, got {getattr(self, name):g}. It is a probability.")

    @property
    def retention_barrier(self) -> float:
        """Barrier that holds a weight for the retention time [kT]."""
        return float(bounds.retention(self.retention_time, self.retention_failure, attempt_rate=self.attempt_rate))


@dataclass(frozen=True)
class Entry:
    """One line of the stack.

    Attributes:
        name: what is bounded or estimated.
        approach: landauer, bound, lim, lim-static, lim-constant, lim-rate-matched, lim-lyapunov or accelerator.
        joules: energy of the whole training [J].
        joules_per_parameter: the same per parameter [J].
        assumptions: what it rests on, in one line.
        source: where it comes from.
        reconstruction: whether it rebuilds a published number whose derivation was not published.
        per_update: whether it scales with the number of updates.
    """

    name: str
    approach: str
    joules: float
    joules_per_parameter: float
    assumptions: str
    source: str
    reconstruction: bool = False
    per_update: bool = True

    def as_dict(self) -> dict:
        """The fields of the JSON output."""
        content = asdict(self)
        del content["per_update"]
        return content


@dataclass(frozen=True)
class Headline:
    """The numbers of the headline for one workload.

    Attributes:
        lim_low_joules: updates × 4 bits × kT ln 2 [J].
        lim_high_joules: updates × 32 bits × kT ln 2 [J].
        landauer_joules: updates × b × kT ln 2 at the workload's precision [J].
        accelerator_joules: FLOP × energy per FLOP at peak [J].
        orders_below_accelerator: log10 of accelerator over `lim_high_joules`, the cautious end.
    """

    lim_low_joules: float
    lim_high_joules: float
    landauer_joules: float
    accelerator_joules: float
    orders_below_accelerator: float


@dataclass(frozen=True)
class Stack:
    """All lines for one workload.

    Attributes:
        workload: what is trained.
        conditions: what the cells are like.
        entries: the lines.
        headline: the numbers of the headline.
        hardware: the accelerator compared with.
    """

    workload: Workload
    conditions: Conditions
    entries: tuple[Entry, ...]
    headline: Headline
    hardware: Record

    def entry(self, name: str) -> Entry:
        """The line of that name.

        Args:
            name: as in `entries`.

        Returns:
            The line.

        Raises:
            ValueError: if there is none.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise ValueError(f"The stack has no line {name!r}; it has {', '.join(e.name for e in self.entries)}.")

    def as_dict(self) -> dict:
        """Workload, stack and headline, ready for JSON."""
        return {
            "workload": self.workload.as_dict(),
            "stack": [entry.as_dict() for entry in self.entries],
            "headline": asdict(self.headline),
        }


class ConvergenceHeat(NamedTuple):
    """Heat of one convergence of one parameter from its whole range, by approach [kT].

    Attributes:
        static: the barrier that keeps it afterwards.
        constant: the best constant barrier.
        rate_matched: exchange in proportion to the speed.
        lyapunov: the least of all schedules.
    """

    static: Float[Array, "..."]
    constant: Float[Array, "..."]
    rate_matched: Float[Array, "..."]
    lyapunov: Float[Array, "..."]


def convergence_heat(
    bits: ArrayLike,
    variance: ArrayLike = 1.0,
    contraction_factor: ArrayLike = 1.2,
    *,
    retention_barrier: ArrayLike = 49.5,
    attempts: ArrayLike = 1e9 * DEFAULT_TIME_S,
) -> ConvergenceHeat:
    """Heat of one convergence from 2^b levels to a final variance, in aT = factor × b ln 2, by the four approaches.

    Args:
        bits: b [bits].
        variance: s [levels²].
        contraction_factor: aT over ln(range) [dimensionless].
        retention_barrier: height of the static barrier [kT].
        attempts: k0 T of the static barrier [dimensionless].

    Returns:
        Heat per parameter, one array each [kT].

    Raises:
        ValueError: if a known argument is out of its range or infeasible.

    Example:
        >>> heat = convergence_heat(8.0)
        >>> f"{heat.constant:.0f} {heat.rate_matched:.1f} {heat.lyapunov:.2f}"
        '2377 175.0 10.79'
    """
    b = jnp.asarray(bits, jnp.result_type(float))
    distance = jnp.exp2(b)
    contraction = jnp.asarray(contraction_factor, b.dtype) * b * LN2
    return ConvergenceHeat(
        frontier.static_heat(distance, contraction, retention_barrier, attempts),
        frontier.constant_heat(distance, contraction, variance),
        frontier.rate_matched_heat(distance, contraction, variance),
        frontier.lyapunov_heat(distance, contraction, variance),
    )


class WorkloadEnergies(NamedTuple):
    """Energies of a training for scans over many workloads, as arrays [J].

    Attributes:
        landauer: updates × b × kT ln 2.
        accelerator: FLOP × energy per FLOP.
        constant: one convergence, best constant barrier.
        rate_matched: one convergence, exchange in proportion to the speed.
        lyapunov: one convergence, least of all schedules.
    """

    landauer: Float[Array, "..."]
    accelerator: Float[Array, "..."]
    constant: Float[Array, "..."]
    rate_matched: Float[Array, "..."]
    lyapunov: Float[Array, "..."]


def workload_energies(
    parameters: ArrayLike,
    bits: ArrayLike = 8.0,
    contraction_factor: ArrayLike = 1.2,
    *,
    variance: ArrayLike = 1.0,
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
        contraction_factor: aT over ln(range) [dimensionless].
        variance: final variance of a weight [levels²].
        scaling: scaling law.
        updates: what counts as an update.
        batch: tokens per optimizer step.
        joules_per_flop: of the accelerator [J/FLOP].
        temperature: of the cells [K].

    Returns:
        Energies [J]; NaN where traced arguments are infeasible.

    Raises:
        ValueError: if a name is unknown, or a known argument out of its range.

    Cost: a million workloads take a few tenths of a second on two CPU cores.

    Example:
        >>> f"{workload_energies(1e15).landauer:.2e} J"
        '2.29e+08 J'
    """
    law = get_law(scaling)
    if updates not in UPDATES:
        raise ValueError(f"updates must be one of {', '.join(UPDATES)}, got {updates!r}.")
    size = jnp.asarray(parameters, jnp.result_type(float))
    b = jnp.asarray(bits, size.dtype)
    flops = law.flops(size)
    kt = thermal_energy_joules(temperature)
    if updates == "flop":
        landauer = (kt * LN2) * b * flops
    else:
        per_parameter = (kt * LN2) * b * law.tokens(size)
        landauer = per_parameter * size if updates == "token" else per_parameter / batch * size
    distance = jnp.exp2(b)
    contraction = jnp.asarray(contraction_factor, size.dtype) * b * LN2
    whole = size * kt
    return WorkloadEnergies(
        landauer,
        flops * jnp.asarray(joules_per_flop, size.dtype),
        whole * frontier.constant_heat(distance, contraction, variance),
        whole * frontier.rate_matched_heat(distance, contraction, variance),
        whole * frontier.lyapunov_heat(distance, contraction, variance),
    )


def build_stack(
    workload: Workload,
    *,
    hardware: str = HARDWARE,
    conditions: Conditions | None = None,
    catalogue: Catalogue | None = None,
) -> Stack:
    """The stack of bounds of one workload.

    Args:
        workload: what is trained.
        hardware: accelerator compared with, by its name in the catalogue.
        conditions: what the cells are like; the defaults if None.
        catalogue: where the hardware is looked up; the package's if None.

    Returns:
        The lines and the headline.

    Raises:
        ValueError: if the hardware is unknown (with near names) or a number out of its range.

    Example:
        >>> stack = build_stack(Workload(1e15))
        >>> f"{stack.headline.lim_low_joules:.2e} to {stack.headline.lim_high_joules:.2e} J"
        '1.15e+08 to 9.18e+08 J'
    """
    assumed = Conditions() if conditions is None else conditions
    chip = (load_catalogue() if catalogue is None else catalogue).get("accelerator", hardware)
    kt = thermal_energy_joules(assumed.temperature)
    count, size, bits = workload.update_count, workload.parameters, workload.bits
    counted = f"{UPDATES[workload.updates]} is one update"
    is_paper = (
        workload.optimum is not None
        and workload.scaling == "kaplan"
        and workload.updates == "flop"
        and assumed.temperature == 300.0
    )
    low_bits, high_bits = RECONSTRUCTED_BITS
    headline = _headline(workload, chip, kt)
    time = DEFAULT_TIME_S if workload.time is None else workload.time
    time_text = f"training time {time:.3g} s" + (" (90 days assumed)" if workload.time is None else "")
    step_time = time / workload.total_steps
    barrier = assumed.retention_barrier
    distance = float(2**bits)
    contraction = assumed.contraction_factor * bits * LN2
    # Known numbers here, so that an infeasible variance is refused with the nearest feasible one.
    heats = convergence_heat(
        float(bits),
        assumed.variance,
        assumed.contraction_factor,
        retention_barrier=barrier,
        attempts=assumed.attempt_rate * time,
    )
    crossing = f"each parameter crosses {distance:g} levels once, aT = {contraction:.3g}"
    travel = f"{crossing}, final variance {assumed.variance:g} level²"
    open_rate = assumed.attempt_rate * math.exp(-OPEN_BARRIER_KT)
    shortest = float(bounds.optimal_exchange(0.0, distance, contraction, assumed.variance)) / open_rate
    static_update = float(bounds.drive(1.0 / step_time, assumed.attempt_rate, barrier))
    project = "docs/limits.md"
    lines = [
        ("Landauer erasure", "landauer", count * bits * LN2, f"b ln 2 per update, {counted}", "Landauer 1961", True),
        (
            "direction error",
            "bound",
            count * float(bounds.direction_error(assumed.error)),
            f"one hop per update, wrong with probability {assumed.error:g}",
            "local detailed balance",
            True,
        ),
        (
            "precision (TUR)",
            "bound",
            count * float(bounds.precision(assumed.relative_error)),
            f"2/δ² per update, relative error δ = {assumed.relative_error:g}, steady drive without feedback",
            "Barato & Seifert 2015, doi:10.1103/PhysRevLett.114.158101",
            True,
        ),
        (
            "readout",
            "bound",
            count * bits * LN2,
            "b bits measured and forgotten once per update",
            "Sagawa & Ueda 2009, doi:10.1103/PhysRevLett.102.250602",
            True,
        ),
        (
            "static barrier, per update",
            "lim-static",
            count * static_update,
            f"one level per update over {barrier:.1f} kT (10-year retention by default), one hop per step of {step_time:.2g} s",
            project,
            True,
        ),
        (
            "speed",
            "bound",
            size * float(bounds.transport(distance**2, open_rate, time)),
            f"W²/Dτ with D = k0 e^-{OPEN_BARRIER_KT:g}, {time_text}",
            "Aurell et al. 2012, doi:10.1007/s10955-012-0478-x",
            False,
        ),
        (
            "actuation",
            "bound",
            size * float(bounds.actuation(0.0, barrier)),
            f"every barrier raised once to {barrier:.1f} kT, nothing recovered",
            project,
            False,
        ),
        (
            "LIM, static barrier",
            "lim-static",
            size * float(heats.static),
            f"{crossing}; barrier {barrier:.1f} kT, {time_text}",
            project,
            False,
        ),
        ("LIM, best constant barrier", "lim-constant", size * float(heats.constant), travel, project, False),
        ("LIM, rate-matched", "lim-rate-matched", size * float(heats.rate_matched), travel, project, False),
        (
            "LIM, Lyapunov-optimal",
            "lim-lyapunov",
            size * float(heats.lyapunov),
            f"{travel}; the attempt rate allows it in {shortest:.2g} s or more; memory alone, without control",
            project,
            False,
        ),
    ]
    entries = [
        Entry(name, approach, energy * kt, energy * kt / size, text, source, per_update=per_update)
        for name, approach, energy, text, source, per_update in lines
    ]
    paper = f"Chen et al. 2024, {HEADLINE_VERSION}"
    for label, joules, b in (
        (f"LIM, {low_bits} bits per update", headline.lim_low_joules, low_bits),
        (f"LIM, {high_bits} bits per update", headline.lim_high_joules, high_bits),
    ):
        text = f"{b} bits × kT ln 2 per update, {counted}"
        text += (
            "; our reconstruction, as the abstract does not say how its number comes about"
            if is_paper
            else "; the paper uses other inputs"
        )
        entries.append(Entry(label, "lim", joules, joules / size, text, paper if is_paper else project, is_paper))
    entries.append(
        Entry(
            f"accelerator, {chip.name}",
            "accelerator",
            headline.accelerator_joules,
            headline.accelerator_joules / size,
            f"{chip.joules_per_flop * 1e12:.3g} pJ/FLOP: peak and board power, a lower bound",
            chip.source,
        )
    )
    return Stack(workload, assumed, tuple(entries), headline, chip)


def _headline(workload, chip, kt):
    low, high = (workload.update_count * b * LN2 * kt for b in RECONSTRUCTED_BITS)
    accelerator = workload.total_flops * chip.joules_per_flop
    return Headline(
        lim_low_joules=low,
        lim_high_joules=high,
        landauer_joules=workload.update_count * workload.bits * LN2 * kt,
        accelerator_joules=accelerator,
        orders_below_accelerator=math.log10(accelerator / high),
    )


@dataclass(frozen=True)
class Limits:
    """The stack asked for, and the same under the other conventions.

    Attributes:
        stack: the one asked for.
        others: the other conventions, for the columns beside it.
        thriftiest: the accelerator of the catalogue with the least energy per FLOP.
        thirstiest: the one with the most.
    """

    stack: Stack
    others: tuple[Stack, ...]
    thriftiest: Record
    thirstiest: Record

    def as_dict(self) -> dict:
        """The stack asked for followed by the per-update lines of the other conventions, ready for JSON."""
        content = self.stack.as_dict()
        for other in self.others:
            for entry in other.entries:
                if entry.per_update:
                    beside = replace(entry, name=f"{entry.name} ({other.workload.convention})")
                    content["stack"].append(beside.as_dict())
        return content

    def text(self) -> str:
        """The table of conventions side by side, with one line of assumptions each."""
        return _text(self)


def energy_limits(
    parameters: float,
    *,
    flops: float | None = None,
    tokens: float | None = None,
    steps: float | None = None,
    batch: float = 1e6,
    bits: int = 8,
    scaling: str = "kaplan",
    updates: str = "flop",
    time: float | None = None,
    hardware: str = HARDWARE,
    conditions: Conditions | None = None,
    catalogue: Catalogue | None = None,
) -> Limits:
    """Every limit of one training, and how it moves with the conventions: what `limjax limits` prints.

    Args:
        parameters: number of trained weights.
        flops: operations of the whole training [FLOP]; the scaling law says if none of flops, tokens, steps is given.
        tokens: tokens seen.
        steps: optimizer steps.
        batch: tokens per optimizer step.
        bits: precision of a stored weight, 1 to 32 [bits].
        scaling: kaplan, chinchilla, chinchilla-3 or besiroglu.
        updates: what counts as an update: flop, token or optimizer.
        time: duration of the training [s].
        hardware: accelerator compared with.
        conditions: what the cells are like.
        catalogue: where the hardware is looked up.

    Returns:
        The stack and its neighbours.

    Raises:
        ValueError: if something is wrong with the workload or the hardware is unknown; one paragraph that says what.

    Example:
        >>> limits = energy_limits(1e15)
        >>> f"{limits.stack.headline.orders_below_accelerator:.1f} orders"
        '6.9 orders'
    """
    asked = Workload(parameters, flops, tokens, steps, batch, bits, updates, time, scaling)
    records = load_catalogue() if catalogue is None else catalogue

    def of(workload):
        return build_stack(workload, hardware=hardware, conditions=conditions, catalogue=records)

    if asked.optimum is None:
        candidates = [(scaling, kind) for kind in UPDATES]
    else:
        beside = "chinchilla" if scaling == "kaplan" else "kaplan"
        candidates = [(scaling, kind) for kind in UPDATES] + [(beside, "flop"), (beside, "optimizer")]
    others = [
        replace(asked, scaling=law, updates=kind) for law, kind in candidates if (law, kind) != (scaling, updates)
    ]
    chips = sorted(records.of("accelerator"), key=lambda chip: chip.joules_per_flop)
    return Limits(of(asked), tuple(of(workload) for workload in others), chips[0], chips[-1])


def _joules(value):
    if not math.isfinite(value):
        return "-"
    return f"{value:.3g}" if 0.01 <= value < 1e4 else f"{value:.2e}"


def _text(limits):
    stacks = [limits.stack, *limits.others]
    asked = limits.stack.workload
    kt = thermal_energy_joules(limits.stack.conditions.temperature)
    head, chip = limits.stack.headline, limits.stack.hardware
    low, high = RECONSTRUCTED_BITS
    lowest, highest = (asked.total_flops * c.joules_per_flop for c in (limits.thriftiest, limits.thirstiest))
    lines = [
        f"Energy limits of training {asked.parameters:.3g} parameters at {asked.bits} bits and "
        f"{limits.stack.conditions.temperature:g} K (1 kT = {kt:.3e} J)",
        f"Convention: {asked.convention} is one update. LIM is learning-in-memory.",
        "",
    ]
    lines += _aligned(
        [
            [f"LIM, {low} to {high} bits", f"{_joules(head.lim_low_joules)} to {_joules(head.lim_high_joules)} J"],
            [f"Landauer, {asked.bits} bits", f"{_joules(head.landauer_joules)} J"],
            [f"{chip.name}, at peak", f"{_joules(head.accelerator_joules)} J"],
            [
                "accelerators, at peak",
                f"{_joules(lowest)} J ({limits.thriftiest.name}) to {_joules(highest)} J ({limits.thirstiest.name})",
            ],
            [
                f"{chip.name} over LIM",
                f"{head.orders_below_accelerator:.1f} (at {high} bits) to "
                f"{math.log10(head.accelerator_joules / head.lim_low_joules):.1f} (at {low} bits) orders of magnitude",
            ],
        ],
        left=True,
    )
    is_reconstruction = any(entry.reconstruction for entry in limits.stack.entries)
    if is_reconstruction:
        lines += _wrapped(
            f"This is a reconstruction of the 1e8 to 1e9 J and the 6 to 7 orders in {HEADLINE_VERSION}. It rests on the "
            "scaling law and on what counts as an update: the other columns below."
        )
    lines += ["", "Energy by convention [J]", ""]
    titles = [stack.workload.convention.split(", ") for stack in stacks]
    rows = [["computation by", *(title[0] for title in titles)], ["one update is", *(title[1] for title in titles)]]
    rows.append(["FLOP", *(f"{stack.workload.total_flops:.2e}" for stack in stacks)])
    rows.append(["updates", *(f"{stack.workload.update_count:.2e}" for stack in stacks)])
    for index, entry in enumerate(limits.stack.entries):
        if entry.per_update:
            cells = [
                _joules(stack.entries[index].joules) + (" *" if stack.entries[index].reconstruction else "  ")
                for stack in stacks
            ]
            rows.append([entry.name, *cells])
    lines += _aligned(
        [[row[0], *(cell if cell.endswith((" *", "  ")) else f"{cell}  " for cell in row[1:])] for row in rows]
    )
    if is_reconstruction:
        lines.append("* reconstruction of the published range")
    lines += ["", "Energy of one convergence of every weight, whatever counts as an update", ""]
    rows = [["", "J", "kT per parameter"]]
    for entry in limits.stack.entries:
        if not entry.per_update:
            rows.append([entry.name, _joules(entry.joules), _joules(entry.joules_per_parameter / kt)])
    lines += _aligned(rows)
    lines += ["", "Assumptions", ""]
    lines += _wrapped(
        "None of these lines is the limit by itself, and none holds the energy of computing gradients. The first table "
        "charges every update as if it were erased, aimed or read by itself; the second charges only the way each weight "
        "travels once, with no memory of the detours.",
    )
    seen = dict.fromkeys(
        f"{stack.workload.optimum.note}; {stack.workload.optimum.law.source}"
        if stack.workload.optimum
        else "computation as given"
        for stack in stacks
    )
    said = [*seen, f"an optimizer step is {asked.batch:g} tokens"]
    said += [f"{entry.name}: {entry.assumptions} ({entry.source})" for entry in limits.stack.entries]
    for text in said:
        lines += _wrapped(text, "- ")
    return "\n".join(lines)


def _wrapped(text, mark=""):
    return textwrap.wrap(
        text,
        _COLUMNS,
        initial_indent=mark,
        subsequent_indent=" " * len(mark),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _aligned(rows, left=False):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.ljust(width) if left else cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        ).rstrip()
        for row in rows
    ]


__all__ = [
    "Conditions",
    "ConvergenceHeat",
    "Entry",
    "Headline",
    "Limits",
    "Stack",
    "WorkloadEnergies",
    "build_stack",
    "convergence_heat",
    "energy_limits",
    "workload_energies",
]
