"""What the same training would cost elsewhere: arithmetic, reads and writes, counted from the run and priced by published numbers."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from limjax.devices import Device
from limjax.gap._chance import NORMAL_95
from limjax.gap._facts import RunFacts
from limjax.gap._lines import Line
from limjax.limits import Catalogue, Record
from limjax.physics.units import LN2

KEPT_IN = ("NOR flash", "PCM", "ReRAM", "FeFET")
"""Memories of the catalogue that keep the trained weights without power."""

_RAISED = 1e-6  # kT per parameter: barriers that stood higher at the end have nothing to be raised by


def arithmetic(run: RunFacts, chip: Record) -> Iterator[Line]:
    """The least that an accelerator takes for the FLOP of the training: peak and board power."""
    if run.flops_per_step is None:
        return
    flops = run.flops_per_step * run.steps
    low, high = chip.range_si
    note = f"{flops:.3g} FLOP by XLA's count, {chip.joules_per_flop * 1e12:.3g} pJ each at peak and board power; the interval ends at 40 % of peak"
    source = f"XLA cost analysis of the step without a ledger; {chip.source}"
    joules = flops * chip.joules_per_flop
    yield Line(
        "arithmetic", "machine", f"arithmetic, {chip.name}", joules, "bound", source, flops * low, flops * high, note
    )


def reading(run: RunFacts, catalogue: Catalogue, bits: int, reads: float) -> Iterator[Line]:
    """Bringing every weight to the arithmetic, forward and backward, at every step."""
    count = float(run.parameters) * run.steps * reads * bits
    for record in catalogue.of("access"):
        yield _priced(f"read/{record.name}", "read", f"from {record.name}", count, record)


def writing(run: RunFacts, catalogue: Catalogue, bits: int) -> Iterator[Line]:
    """Writing every weight back at every step, as a word of bits."""
    for record in catalogue.of("memory_cell"):
        count = float(run.parameters) * run.steps * bits
        yield _priced(f"write/{record.name}", "write", f"to {record.name}", count, record)


def keeping(run: RunFacts, catalogue: Catalogue, bits: int) -> Iterator[Line]:
    """Copying the trained weights once into a memory that keeps them; raising the barriers of this run instead."""
    for record in catalogue.of("memory_cell"):
        if record.name in KEPT_IN:
            count = float(run.parameters) * bits
            yield _priced(f"keep/{record.name}", "keep", f"copied once to {record.name}", count, record)
    raised = run.joules("consolidation_kt")
    if raised and (run.number("consolidation_kt") or 0.0) > _RAISED * run.parameters:
        note = "work of raising every barrier from the end of the run to ten years"
        yield Line(
            "keep/barrier", "keep", "barriers raised to ten years", raised, "model", "docs/physics.md", note=note
        )


def _priced(key: str, group: str, name: str, bits: float, record: Record) -> Line:
    low, high = (bits * end for end in record.range_si)
    return Line(key, group, name, bits * record.si, "estimate", record.source, low, high, record.note)


def pulses(run: RunFacts, device: Device, weight_range: float, catalogue: Catalogue) -> Line | None:
    """What a device takes for the updates of this run, or None where the energy of its pulses is not known.

    An analog device gets Σ|u| in its own nominal pulses, which is the mean of what whole pulses rounded by chance are. A word of bits is
    rewritten where its rounded level changes: at most at every step, and at most once for each of its levels.
    """
    known = _energies(device)
    if not known:
        return None
    bits = device.si("word_bits")
    count = run.way * device.levels / weight_range
    if bits is not None:
        count = bits * min(count, float(run.parameters * run.steps))
    low, high = _spread(device, known, catalogue)
    sources = dict.fromkeys(
        number.source for name, number in device.numbers.items() if name.startswith(("pulse_energy", "voltage"))
    )
    said = f"{count:.3g} pulses" if bits is None else f"{count:.3g} bits rewritten at most"
    note = f"{said} at {np.mean(known):.3g} J in the mean over the window"
    interval = (None, None) if low == high else (count * low, count * high)
    joules = count * float(np.mean(known))
    return Line(f"pulses/{device.name}", "pulses", device.name, joules, "estimate", "; ".join(sources), *interval, note)


def _energies(device: Device) -> list[float]:
    """Energies of a pulse up and down over the window [J]; none where they are not known."""
    ways = [device.pulse_energy(way) for way in ("up", "down")]
    # Joule heat follows the conductance, which changes from one end of the window to the other.
    places = jnp.linspace(0.0, 1.0, 5, dtype=jnp.float32)
    return [
        float(joules)
        for way in ways
        # A mean over the one direction that is known would stand for both.
        if way is not None and None not in ways
        for joules in np.asarray(way.joules(places))
    ]


def _spread(device: Device, energies: list[float], catalogue: Catalogue) -> tuple[float, float]:
    """Least and greatest energy of a pulse: over the window, the two directions, its standard error or the range of its record [J]."""
    low, high = min(energies), max(energies)
    for name, number in device.numbers.items():
        if not name.startswith("pulse_energy"):
            continue
        if number.error is not None:
            spread = NORMAL_95 * number.error * number.si / max(number.value, 1e-300)
            low, high = min(low, max(number.si - spread, 0.0)), max(high, number.si + spread)
        # A number taken from the catalogue has its source, value and unit: then the range of the record holds.
        for record in catalogue.of("memory_cell"):
            if (record.source, record.value, record.unit) == (number.source, number.value, f"{number.unit}/bit"):
                low, high = min(low, record.range_si[0]), max(high, record.range_si[1])
    return low, high


def landauer(run: RunFacts) -> Line:
    """ln 2 for one bit erased per weight and step."""
    joules = LN2 * run.parameters * run.steps * run.kt
    note = (
        "one bit erased per weight and step; no theorem says that an update erases one, so that heat may lie below it"
    )
    return Line("landauer", "limit", "Landauer, one bit per update", joules, "bound", "Landauer 1961", note=note)
