"""Numbers of devices: each with its unit, year, source and how it was obtained."""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from limjax.numerics.checks import is_real, whole_number

HOW = ("measured", "specified", "fitted", "estimated", "derived", "projected", "chosen")
"""How a number may have been obtained: `derived` from others by what the note says, `projected` to devices that were not made, `chosen`
where the device leaves it open."""

# The micro sign, and the Greek letter that looks like it and stands on other keyboards.
_SCALES = {"m": 1e-3, "\u00b5": 1e-6, "\u03bc": 1e-6, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15, "a": 1e-18}
_UNITS = {
    "J": "an energy such as pJ", "s": "a time such as ns", "V": "volts", "S": "a conductance such as µS", "F": "a capacitance such as fF",
    "eV": "eV", "1/s": "1/s", "K": "K", "1": "1, a plain number",
}  # fmt: skip

_EITHER = {  # of up and down alike, or of one of them with _up or _down behind
    "size": ("1", "step in the middle of the window over that of the nominal pulse"),
    "bound": ("1", "where soft bounds end, in windows from where pulses come from"),
    "nonlinearity": ("1", "how steps fall over the window: e^-ν"),
    "pulse_energy": ("J", "what one pulse takes at the device"),
    "voltage": ("V", "of a pulse"),
    "pulse_time": ("s", "width of a pulse"),
}
_ONCE = {
    "levels": ("1", "nominal pulses from one end of the window to the other"),
    "zero": ("1", "place in the window that stands for weight 0, from 0 to 1; the middle if nothing is said"),
    "noise": ("1", "standard deviation of a step over the step where the cell stands"),
    "noise_levels": ("1", "standard deviation of a step in nominal pulses"),
    "spread_size": ("1", "standard deviation of the step between devices"),
    "spread_asymmetry": ("1", "of what steps up have more and steps down less"),
    "spread_window": ("1", "of the width of the window between devices"),
    "stuck": ("1", "share of the devices that no pulse moves"),
    "conductance_low": ("S", "at the low end of the window"),
    "conductance_high": ("S", "at the high end"),
    "capacitance": ("F", "that a pulse charges"),
    "activation_energy": ("eV", "of retention loss"),
    "attempt_rate": ("1/s", "of retention loss"),
    "retention_time": ("s", "how long it holds, where no activation energy is known"),
    "retention_temperature": ("K", "at which it does"),
    "thermal_stability": ("1", "barrier over k_B T at 300 K"),
    "rest": ("1", "where in the window it relaxes to"),
    "endurance": ("1", "cycles it survives"),
    "word_bits": ("1", "cells of one bit that hold a weight together"),
}
_SHARES = ("zero", "stuck", "rest")  # not above 1
# Not 0: what is made of them is their logarithm, or over them.
_POSITIVE = ("attempt_rate", "retention_time", "retention_temperature")
NUMBERS = {
    **_ONCE,
    **{name + way: said for name, said in _EITHER.items() for way in ("", "_up", "_down")},
}
"""Every number a device may have: its unit and what it is."""


@dataclass(frozen=True)
class Number:
    """One number of a device.

    Attributes:
        name: one of `NUMBERS`.
        value: in `unit`.
        unit: its unit, perhaps with a prefix.
        year: of the source.
        source: where it was published.
        how: one of `HOW`.
        error: its standard error in `unit`, or None.
        note: what else to know.
    """

    name: str
    value: float
    unit: str
    year: int
    source: str
    how: str
    error: float | None = None
    note: str = ""

    @property
    def si(self) -> float:
        """The value in J, s, V, S, F, eV, 1/s, K or as a plain number."""
        return self.value * _scale(self.unit)

    def __str__(self) -> str:
        value = f"{self.value:g}" if self.error is None else f"{self.value:.4g} ± {self.error:.2g}"
        return value if self.unit == "1" else f"{value} {self.unit}"


def number_of(where: str, name: str, table: Mapping[str, Any]) -> Number:
    """A number from its table in a file, checked.

    Args:
        where: what to call it in messages.
        name: one of `NUMBERS`.
        table: value, unit, year, source, how, perhaps error and note; or a record of the catalogue that has them.

    Returns:
        The number.

    Raises:
        ValueError: if something is missing or wrong.
    """
    if name not in NUMBERS:
        near = difflib.get_close_matches(name, NUMBERS, 3, 0.6)
        raise ValueError(
            f"{where} is no number of a device. {'Near' if near else 'Known'}: {', '.join(near or NUMBERS)}."
        )
    if "catalogue" in table:
        return _referred(where, name, table)
    missing = [key for key in ("value", "unit", "year", "source", "how") if key not in table]
    if missing:
        raise ValueError(
            f"{where} lacks {', '.join(missing)}. Every number says where it comes from; one that is not known is left out."
        )
    unknown = sorted(set(table) - {"value", "unit", "year", "source", "how", "error", "note"})
    if unknown:
        raise ValueError(f"{where} has an unknown entry {unknown[0]!r}.")
    for key in ("value", *(key for key in ("error",) if key in table)):
        if not is_real(table[key]) or np.ndim(table[key]) or not math.isfinite(table[key]) or table[key] < 0:
            raise ValueError(f"{where}: {key} must be a number of at least 0, got {table[key]!r}.")
    for key in ("unit", "source", "how", *(key for key in ("note",) if key in table)):
        if not isinstance(table[key], str) or not table[key].strip():
            raise ValueError(f"{where}: {key} must be a text, got {table[key]!r}.")
    wanted = NUMBERS[name][0]
    # A prefix goes before units of one letter only: eV, 1/s and plain numbers are written as they are.
    if table["unit"] != wanted and not (
        len(wanted) == 1 and wanted.isalpha() and table["unit"][1:] == wanted and table["unit"][0] in _SCALES
    ):
        raise ValueError(f"{where}: unit must be {_UNITS[wanted]}, got {table['unit']!r}.")
    if table["how"] not in HOW:
        raise ValueError(f"{where}: how must be one of {', '.join(HOW)}, got {table['how']!r}.")
    whole_number(table["year"], f"{where}: year", 1900, 2100)
    _check_range(f"{where}: value", name, table["value"])
    return Number(
        name,
        float(table["value"]),
        table["unit"],
        table["year"],
        table["source"],
        table["how"],
        table.get("error"),
        table.get("note", ""),
    )


def _check_range(what: str, name: str, value: float | int) -> None:
    if name in _SHARES and value > 1:
        raise ValueError(f"{what} must be a share from 0 to 1, got {value!r}: {NUMBERS[name][1]}.")
    if name in _POSITIVE and value == 0:
        raise ValueError(f"{what} must be above 0, got {value!r}. One that is not known is left out.")
    if name == "word_bits":
        # Files may write 8.0.
        whole_number(int(value) if value == int(value) else value, what, 1, 24)


def _referred(where: str, name: str, table: Mapping[str, Any]) -> Number:
    """A number that stands in the catalogue of the limits: an energy for one bit."""
    if name != "pulse_energy" or set(table) - {"catalogue", "note"} or not isinstance(table["catalogue"], str):
        raise ValueError(
            f'{where}: only pulse_energy may refer to the catalogue, as catalogue = "PCM", perhaps with a note.'
        )
    from limjax.limits._records import load_catalogue  # not needed to train on other devices

    record = load_catalogue().get("memory_cell", table["catalogue"])
    # The range of a record is no standard error, and so becomes part of the note.
    note = f"Range {record.low:g} to {record.high:g} {record.unit}; {record.note} {table.get('note', '')}".strip()
    # A record is the energy of writing one bit: it is taken for that of one pulse.
    return Number(
        name, record.value, record.unit.removesuffix("/bit"), record.year, record.source, record.how, None, note
    )


def _scale(unit: str) -> float:
    if unit in _UNITS:
        return 1.0
    return _SCALES[unit[0]]
