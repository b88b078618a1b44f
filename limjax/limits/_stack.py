"""The stack of limits for one workload, the law, the headline and the other conventions beside it.

Energies that scale with the number of updates (erasure, direction, precision, readout, a static barrier, the law's 2 kT) depend on
what counts as an update; those of one convergence of every parameter do not. Neither is the limit: the stack is.
"""

import math
from dataclasses import asdict, dataclass, replace

from limjax.limits._conditions import Conditions
from limjax.limits._lines import RECONSTRUCTED_BITS, Training, lines_of
from limjax.limits._records import Catalogue, Record, load_catalogue
from limjax.limits._updates import UPDATES
from limjax.limits._workload import KT_PER_UPDATE, Workload

HARDWARE = "H100 SXM bf16"
"""Accelerator compared with where none is named."""


@dataclass(frozen=True)
class Entry:
    """One line of the stack.

    Attributes:
        name: what is bounded or estimated.
        approach: landauer, bound, estimate, cell, lim, lim-static, lim-constant, lim-rate-matched, lim-loss-following, lim-law or accelerator.
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
    training = Training(workload, assumed, chip)
    entries = []
    for line in lines_of(training):
        energy, text = line.charge(training)
        energies = (energy * training.kt, energy * training.kt / workload.parameters)
        entries.append(
            Entry(line.name, line.approach, *energies, text, line.source, line.reconstruction, line.per_update)
        )
    return Stack(workload, assumed, tuple(entries), _headline(training), _law(training), chip)


def _headline(training: Training) -> Headline:
    low, high = (training.erasure_joules(bits) for bits in RECONSTRUCTED_BITS)
    return Headline(
        lim_low_joules=low,
        lim_high_joules=high,
        landauer_joules=training.erasure_joules(training.workload.bits),
        accelerator_joules=training.accelerator_joules,
        orders_below_accelerator=math.log10(training.accelerator_joules / high),
    )


def _law(training: Training) -> LawEnergies:
    amounts, heat = training.workload.amounts, training.law_kt_per_parameter
    # The order of `UPDATES`: flop, token, optimizer.
    flop, token, write = (KT_PER_UPDATE * update.count(amounts) * training.kt for update in UPDATES.values())
    return LawEnergies(
        loss_ratio=training.conditions.ratio(training.workload.bits),
        kt_per_parameter=heat,
        convergence_joules=heat * training.workload.parameters * training.kt,
        flop_joules=flop,
        token_joules=token,
        write_joules=write,
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

    def text(self, width: int = 100) -> str:
        """The law, the headline and the table of conventions side by side, with one line of assumptions each.

        Args:
            width: columns of the terminal, at least 60.

        Returns:
            Text without colours.
        """
        from limjax.limits._tables import limits_text  # rich is not needed where nothing is printed

        return limits_text(self, width)

    def csv(self) -> str:
        """One row for each line and convention, comma-separated with a header; energies in joules.

        Example:
            >>> energy_limits(7e9, tokens=2e12).csv().splitlines()[0].split(",")[:4]
            ['line', 'approach', 'scaling', 'one_update_is_every']
        """
        from limjax.limits._export import csv_text

        return csv_text(self)

    def latex(self) -> str:
        """A `tabular` with a column per convention, for a document that loads booktabs."""
        from limjax.limits._export import latex_text

        return latex_text(self)


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

    beside = [replace(asked, updates=update) for update in UPDATES]
    if asked.optimum is not None:
        other = "chinchilla" if scaling == "kaplan" else "kaplan"
        beside += [replace(asked, scaling=other, updates=update) for update in ("flop", "optimizer")]
    stacks = [
        build_stack(workload, hardware=hardware, conditions=conditions, catalogue=records)
        # Frozen dataclasses compare by their fields: what was asked for is not repeated beside itself.
        for workload in (asked, *(workload for workload in beside if workload != asked))
    ]
    chips = sorted(records.of("accelerator"), key=lambda chip: chip.joules_per_flop)
    return Limits(stacks[0], tuple(stacks[1:]), chips[0], chips[-1])
