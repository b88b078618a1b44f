"""The limits as text for a terminal."""

import io
import math

from rich import box
from rich.console import Console
from rich.table import Table

from limjax.limits._lines import HEADLINE_VERSION, RECONSTRUCTED_BITS
from limjax.limits._stack import Limits
from limjax.limits._updates import get_update
from limjax.limits.scans import plain
from limjax.physics.units import thermal_energy_joules


def joules_text(value: float) -> str:
    """An energy in a few digits: 8.28e7, 24.9, or a dash where there is none."""
    if not math.isfinite(value):
        return "-"
    # From 999.5 on `.3g` rounds up to 1000 and writes it with an exponent, in a form of its own.
    text = f"{value:#.3g}".rstrip(".") if 0.01 <= value < 999.5 else f"{value:.2e}"
    return text.replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")


def limits_text(limits: Limits, width: int) -> str:
    """What `limjax limits` prints.

    Args:
        limits: from `energy_limits`.
        width: columns, at least 60.

    Returns:
        Text without colours.
    """
    buffer = io.StringIO()
    console = Console(file=buffer, width=max(width, 60), color_system=None, highlight=False, emoji=False, markup=False)
    _opening(limits, console)
    _conventions(limits, console)
    _convergences(limits, console)
    _assumptions(limits, console)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i == 0)
    return table


def _opening(limits: Limits, console: Console) -> None:
    stack, asked = limits.stack, limits.stack.workload
    law, head, chip = stack.law, stack.headline, stack.hardware
    temperature = stack.conditions.temperature
    console.print(
        f"Energy limits of training {plain(asked.parameters)} parameters at {asked.bits} bits, {temperature:g} K "
        f"(1 kT = {thermal_energy_joules(temperature):.3e} J)"
    )
    console.print()

    def below(value: float) -> str:
        return f"{math.log10(head.accelerator_joules / value):.1f}"

    table = _table("", "J", f"orders below\n{chip.name}")
    rows = (
        (f"law, one convergence, {law.kt_per_parameter:.3g} kT", law.convergence_joules),
        ("law, 2 kT per optimizer write", law.write_joules),
        ("law, 2 kT per token × parameter", law.token_joules),
        ("law, 2 kT per FLOP", law.flop_joules),
    )
    for name, value in rows:
        table.add_row(name, joules_text(value), below(value))
    low, high = RECONSTRUCTED_BITS
    table.add_row(
        f"{low} to {high} bits × kT ln 2 an update *",
        f"{joules_text(head.lim_low_joules)} to {joules_text(head.lim_high_joules)}",
        f"{below(head.lim_high_joules)} to {below(head.lim_low_joules)}",
    )
    lowest, highest = (asked.total_flops * c.joules_per_flop for c in (limits.thriftiest, limits.thirstiest))
    table.add_row(f"{chip.name}, at peak", joules_text(head.accelerator_joules), "0")
    table.add_row(
        f"{limits.thriftiest.name} to {limits.thirstiest.name}", f"{joules_text(lowest)} to {joules_text(highest)}"
    )
    console.print(table)
    if any(entry.reconstruction for entry in stack.entries):
        console.print(
            f"* A reconstruction of the 1e8 to 1e9 J and the 6 to 7 orders in {HEADLINE_VERSION}. It rests on the scaling law and on "
            "what counts as an update: the other columns below."
        )
    else:
        console.print(f"* Here {asked.convention.removeprefix('given, ')} is one update.")
    console.print(
        "What a memory has to pay lies between the first line, one convergence of every weight, and the fourth, every FLOP a gradient that "
        "is averaged; which of them counts is a question of what an update is."
    )


def _conventions(limits: Limits, console: Console) -> None:
    stacks = [limits.stack, *limits.others]
    is_given = limits.stack.workload.optimum is None
    computed = ", computation as given" if is_given else ""
    console.print(f"\nEnergy by convention [J]{computed} (token: token × parameter; write: optimizer write)\n")
    titles = [stack.workload.convention.split(", ")[0].split()[0].replace("Chinchilla", "Chinch.") for stack in stacks]
    titles = [""] * len(stacks) if is_given else titles
    table = _table(
        "one update is every",
        *(f"{title}\n{get_update(stack.workload.updates).short}".lstrip("\n") for title, stack in zip(titles, stacks)),
    )
    table.add_row("FLOP", *(joules_text(stack.workload.total_flops) for stack in stacks))
    table.add_row("updates", *(joules_text(stack.workload.update_count) for stack in stacks))
    for index, entry in enumerate(limits.stack.entries):
        if entry.per_update:
            table.add_row(entry.name, *(joules_text(stack.entries[index].joules) for stack in stacks))
    console.print(table)


def _convergences(limits: Limits, console: Console) -> None:
    kt = thermal_energy_joules(limits.stack.conditions.temperature)
    console.print("\nEnergy of one convergence of every weight, whatever counts as an update\n")
    table = _table("", "J", "kT per parameter")
    for entry in limits.stack.entries:
        if not entry.per_update:
            table.add_row(entry.name, joules_text(entry.joules), joules_text(entry.joules_per_parameter / kt))
    console.print(table)


def _assumptions(limits: Limits, console: Console) -> None:
    console.print("\nAssumptions\n")
    console.print(
        "None of these lines is the limit by itself, and none holds the energy of computing gradients. The second table charges every "
        "update as if it were averaged, erased, aimed or read by itself; the third charges one convergence of each weight."
    )
    seen = dict.fromkeys(
        f"{stack.workload.optimum.note}; {stack.workload.optimum.law.source}"
        if stack.workload.optimum
        else "computation as given"
        for stack in (limits.stack, *limits.others)
    )
    said = [*seen, f"an optimizer step is {limits.stack.workload.batch:g} tokens"]
    said += [f"{entry.name}: {entry.assumptions} ({entry.source})" for entry in limits.stack.entries]
    points = Table.grid(padding=(0, 1, 0, 0))
    for text in said:
        points.add_row("-", text)
    console.print(points)
