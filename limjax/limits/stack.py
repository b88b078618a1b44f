"""The stack of limits for one workload, the conventions side by side, the law and the headline beside them.

Energies that scale with the number of updates (erasure, direction, precision, readout, a static barrier, the law's 2 kT) depend on
what counts as an update; those of one convergence of every parameter do not. Neither is the limit: the stack is.
"""

import math
from dataclasses import asdict, dataclass, replace

from limjax.limits import bounds, neighbours
from limjax.limits.conditions import DEFAULT_TIME_S, OPEN_BARRIER_KT, Conditions
from limjax.limits.law import exchange
from limjax.limits.records import Catalogue, Record, load_catalogue
from limjax.limits.workload import UPDATES, Workload
from limjax.limits.workload_energies import KT_PER_UPDATE, convergence_heat
from limjax.physics.units import LN2, thermal_energy_joules

HARDWARE = "H100 SXM bf16"
"""Accelerator compared with where none is named."""

RECONSTRUCTED_BITS = (4, 32)
"""Precisions over which the reconstruction of the headline ranges."""

HEADLINE_VERSION = "the abstract of arXiv:2402.14878 v1 (v2 repeats the energy, v3 and v4 do not)"
LAW_LINE = "LIM law, one convergence"
_PROJECT = "docs/limits.md"


@dataclass(frozen=True)
class Entry:
    """One line of the stack.

    Attributes:
        name: what is bounded or estimated.
        approach: landauer, bound, cell, lim, lim-static, lim-constant, lim-rate-matched, lim-loss-following, lim-law or accelerator.
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
    """The numbers of the published headline for one workload, reconstructed.

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
class LawEnergies:
    """The law for one workload: one convergence of every weight, and 2 kT per effective update by convention.

    Attributes:
        loss_ratio: L0/LT of the convergence.
        kt_per_parameter: its heat [kT].
        convergence_joules: the same for all parameters [J].
        flop_joules: 2 kT if every FLOP is an effective update [J].
        token_joules: 2 kT if every token × parameter is one [J].
        write_joules: 2 kT if every optimizer write is one [J].
    """

    loss_ratio: float
    kt_per_parameter: float
    convergence_joules: float
    flop_joules: float
    token_joules: float
    write_joules: float


@dataclass(frozen=True)
class Stack:
    """All lines for one workload.

    Attributes:
        workload: what is trained.
        conditions: what the cells are like.
        entries: the lines.
        headline: the numbers of the published headline.
        law: the numbers of the law.
        hardware: the accelerator compared with.
    """

    workload: Workload
    conditions: Conditions
    entries: tuple[Entry, ...]
    headline: Headline
    law: LawEnergies
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
        """Workload, stack, headline and law, ready for JSON."""
        law = asdict(self.law)
        convergence = {
            "kt_per_parameter": law.pop("kt_per_parameter"),
            "joules": law.pop("convergence_joules"),
            "loss_ratio": law.pop("loss_ratio"),
        }
        return {
            "workload": self.workload.as_dict(),
            "stack": [entry.as_dict() for entry in self.entries],
            "headline": asdict(self.headline),
            "convergence": convergence,
            "law": law,
        }


def build_stack(
    workload: Workload,
    *,
    hardware: str = HARDWARE,
    conditions: Conditions | None = None,
    catalogue: Catalogue | None = None,
) -> Stack:
    """The stack of limits of one workload.

    Args:
        workload: what is trained.
        hardware: accelerator compared with, by its name in the catalogue.
        conditions: what the cells are like; the defaults if None.
        catalogue: where the hardware is looked up; the package's if None.

    Returns:
        The lines, the headline and the law.

    Raises:
        ValueError: if the hardware is unknown (with near names) or a number out of its range.

    Example:
        >>> stack = build_stack(Workload(1e15))
        >>> f"{stack.headline.lim_low_joules:.2e} to {stack.headline.lim_high_joules:.2e} J, law {stack.law.flop_joules:.1e} J"
        '1.15e+08 to 9.18e+08 J, law 8.3e+07 J'
    """
    assumed = Conditions() if conditions is None else conditions
    chip = (load_catalogue() if catalogue is None else catalogue).get("accelerator", hardware)
    law = _law(workload, assumed)
    headline = _headline(workload, assumed, chip)
    kt, size = thermal_energy_joules(assumed.temperature), workload.parameters

    def line(name: str, approach: str, energy_kt: float, assumptions: str, source: str, **options) -> Entry:
        return Entry(name, approach, energy_kt * kt, energy_kt * kt / size, assumptions, source, **options)

    entries = [
        *_per_update(workload, assumed, line),
        *_per_convergence(workload, assumed, law, line),
        *_reconstructed(workload, assumed, headline, line),
        line(
            f"accelerator, {chip.name}",
            "accelerator",
            headline.accelerator_joules / kt,
            f"{chip.joules_per_flop * 1e12:.3g} pJ/FLOP: peak and board power, a lower bound",
            chip.source,
        ),
    ]
    return Stack(workload, assumed, tuple(entries), headline, law, chip)


def _per_update(workload: Workload, assumed: Conditions, line) -> list[Entry]:
    count, bits, size = workload.update_count, workload.bits, workload.parameters
    counted = f"{UPDATES[workload.updates]} is one update"
    barrier = assumed.retention_barrier
    step_time = _duration(workload)[0] / workload.total_steps
    return [
        line(
            "LIM law, per effective update",
            "lim-law",
            KT_PER_UPDATE * count,
            f"2 kT per parameter and gradient averaged, {counted} and every one has to be averaged; requests held during a step; memory alone, without control",
            "docs/law.md",
        ),
        line(
            "training-set energy",
            "bound",
            float(neighbours.training_set_energy(size, workload.total_tokens)),
            "2 N D kT or more, quasi-static analog network, every token counted once whatever counts as an update here; formula as in "
            "the abstract, up to a factor of order one",
            "Tkachenko 2025, arXiv:2503.09980 v3",
        ),
        line(
            "controller's information",
            "bound",
            count * float(neighbours.controller_information(assumed.signal_to_noise)),
            f"½ ln(1+SNR) kT per update, a Gaussian reading of SNR {assumed.signal_to_noise:g} used once and forgotten, computing left "
            "out; an estimate, not a bound",
            "after Sagawa & Ueda 2009, doi:10.1103/PhysRevLett.102.250602",
        ),
        line(
            "Landauer erasure",
            "landauer",
            count * bits * LN2,
            f"b ln 2 per update, {counted}; a yardstick, as no theorem says that an update erases its bits",
            "Landauer 1961",
        ),
        line(
            "direction error",
            "cell",
            count * float(bounds.direction_error(assumed.error)),
            f"one hop per update, wrong with probability {assumed.error:g}; a cost of this cell",
            "local detailed balance",
        ),
        line(
            "precision (TUR)",
            "bound",
            count * float(bounds.precision(assumed.relative_error)),
            f"2/δ² per update, relative error δ = {assumed.relative_error:g}, steady drive or hops that do not depend on the level, without feedback",
            "Barato & Seifert 2015, doi:10.1103/PhysRevLett.114.158101",
        ),
        line(
            "readout",
            "bound",
            count * bits * LN2,
            "b bits measured and forgotten once per update",
            "Sagawa & Ueda 2009, doi:10.1103/PhysRevLett.102.250602",
        ),
        line(
            "static barrier, per update",
            "lim-static",
            count * float(bounds.drive(1.0 / step_time, assumed.attempt_rate, barrier)),
            f"one level per update over {barrier:.1f} kT (10-year retention by default, one way), one hop per step of {step_time:.2g} s",
            _PROJECT,
        ),
    ]


def _duration(workload: Workload) -> tuple[float, str]:
    time = DEFAULT_TIME_S if workload.time is None else workload.time
    return time, f"training time {time:.3g} s" + (" (90 days assumed)" if workload.time is None else "")


def _per_convergence(workload: Workload, assumed: Conditions, law: LawEnergies, line) -> list[Entry]:
    size, bits = workload.parameters, workload.bits
    time, time_text = _duration(workload)
    barrier = assumed.retention_barrier
    distance, contraction = 2.0**bits, assumed.contraction(bits)
    # Known numbers here, so that what cannot be reached is refused with the nearest feasible one.
    heats = convergence_heat(
        float(bits),
        assumed.loss_ratio,
        assumed.contraction_factor,
        retention_barrier=barrier,
        attempts=assumed.attempt_rate * time,
    )
    open_hops = assumed.attempt_rate * math.exp(-OPEN_BARRIER_KT) * time
    crossing = f"each parameter crosses {distance:g} levels once, uT = {contraction:.3g}"
    travel = f"{crossing}, {assumed.ratio_text(bits)}; the requests chase the hop noise as well"
    # g0 per relaxation time over the open rate: the optimum needs that long for the first of them.
    shortest = contraction * float(exchange(distance**2, 1.0)) * time / open_hops
    # `bounds.jump_count` at the activity of a barrier that is open all the time, also where that is none.
    speed = 2 * distance * math.asinh(distance / (2 * open_hops))

    def one(name: str, approach: str, heat: float, text: str, source: str = _PROJECT) -> Entry:
        return line(name, approach, size * heat, text, source, per_update=False)

    return [
        one(
            "speed",
            "bound",
            speed,
            f"{distance:g} levels net in hops of one level, never below {OPEN_BARRIER_KT:g} kT, {time_text}; nothing chased",
            "Dechant 2022, doi:10.1088/1751-8121/ac4ac0",
        ),
        one(
            "actuation",
            "bound",
            float(bounds.actuation(0.0, barrier)),
            f"every barrier raised once to {barrier:.1f} kT",
        ),
        one(
            "LIM, static barrier",
            "lim-static",
            float(heats.static),
            f"{crossing}; barrier {barrier:.1f} kT, {time_text}",
        ),
        one("LIM, best constant barrier", "lim-constant", float(heats.constant), travel),
        one("LIM, rate-matched", "lim-rate-matched", float(heats.rate_matched), travel),
        one("LIM, loss-following", "lim-loss-following", float(heats.loss_following), travel),
        one(
            LAW_LINE,
            "lim-law",
            law.kt_per_parameter,
            f"2 ln(L0/LT) at uT = ln(L0/LT), {assumed.ratio_text(bits)}, full gradient, open barrier; the attempt rate allows it in "
            f"{shortest:.2g} s or more; memory alone, without control",
            "docs/law.md",
        ),
    ]


def _reconstructed(workload: Workload, assumed: Conditions, headline: Headline, line) -> list[Entry]:
    is_paper = (
        workload.optimum is not None
        and workload.scaling == "kaplan"
        and workload.updates == "flop"
        and assumed.temperature == 300.0
    )
    kt = thermal_energy_joules(assumed.temperature)
    what = (
        "our reconstruction, as the abstract does not say how its number comes about"
        if is_paper
        else "the paper uses other inputs"
    )
    return [
        line(
            f"LIM, {bits} bits per update",
            "lim",
            joules / kt,
            f"{bits} bits × kT ln 2 per update, {UPDATES[workload.updates]} is one update; {what}",
            f"Chen et al. 2024, {HEADLINE_VERSION}" if is_paper else _PROJECT,
            reconstruction=is_paper,
        )
        for bits, joules in zip(RECONSTRUCTED_BITS, (headline.lim_low_joules, headline.lim_high_joules))
    ]


def _headline(workload: Workload, assumed: Conditions, chip: Record) -> Headline:
    kt = thermal_energy_joules(assumed.temperature)
    low, high = (workload.update_count * b * LN2 * kt for b in RECONSTRUCTED_BITS)
    accelerator = workload.total_flops * chip.joules_per_flop
    return Headline(
        lim_low_joules=low,
        lim_high_joules=high,
        landauer_joules=workload.update_count * workload.bits * LN2 * kt,
        accelerator_joules=accelerator,
        orders_below_accelerator=math.log10(accelerator / high),
    )


def _law(workload: Workload, assumed: Conditions) -> LawEnergies:
    kt = thermal_energy_joules(assumed.temperature)
    ratio = assumed.ratio(workload.bits)
    # In float64 on the host: 4^32 is within float32, but its rounding would show.
    per_parameter = 2 * math.log(ratio)
    if assumed.contraction_factor != 1.0:
        theta = assumed.contraction(workload.bits)
        per_parameter = theta * theta / (theta - 0.5 * math.log(ratio))
    tokens = workload.parameters * workload.total_tokens
    writes = workload.parameters * workload.total_steps
    flop, token, write = (KT_PER_UPDATE * count * kt for count in (workload.total_flops, tokens, writes))
    return LawEnergies(ratio, per_parameter, per_parameter * workload.parameters * kt, flop, token, write)


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

    def text(self, width: int = 100) -> str:
        """The law, the headline and the table of conventions side by side, with one line of assumptions each.

        Args:
            width: columns of the terminal, at least 60.

        Returns:
            Text without colours.
        """
        from limjax.limits.tables import limits_text  # rich is not needed where nothing is printed

        return limits_text(self, width)


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
