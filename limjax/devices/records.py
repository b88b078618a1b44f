"""Devices as files: every number with its unit, year, source and how it was obtained; what is missing is missing.

The zoo is `limjax/devices/zoo/*.toml`; a file that `limjax device fit` wrote, or one of your own, has the same form.
"""

import difflib
import functools
import math
import os
import pathlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from limjax.devices.energy import AbstractPulseEnergy, CapacitiveEnergy, GivenEnergy, OhmicEnergy
from limjax.devices.pulsed_cell import Pulse, PulsedCell, Retention
from limjax.devices.spread import DeviceSpread, PulseNoise
from limjax.devices.steps import LAWS, AbstractSteps, ExponentialSteps, LinearSteps, SoftBoundsSteps
from limjax.limits.records import load_catalogue
from limjax.numerics.checks import is_real, whole_number
from limjax.physics.units import BOLTZMANN_J_PER_K, ELEMENTARY_CHARGE_C

ZOO = pathlib.Path(__file__).parent / "zoo"
"""The folder of the devices that come with limjax."""

HOW = ("measured", "specified", "fitted", "estimated", "derived", "projected", "chosen")
"""How a number may have been obtained: `derived` from others by what the note says, `projected` to devices that were not made, `chosen`
where the device leaves it open."""

_SCALES = {"m": 1e-3, "µ": 1e-6, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15, "a": 1e-18}
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
NUMBERS = {
    **_ONCE,
    **{name + way: said for name, said in _EITHER.items() for way in ("", "_up", "_down")},
}
"""Every number a device may have: its unit and what it is."""

_FAILURE = 1e-4  # that a retention time is meant for, as in `AbstractCell.retention_barrier`
_ATTEMPT_RATE = 1e9


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


@dataclass(frozen=True)
class Device:
    """A device: its law of steps and what is known of it.

    Attributes:
        name: what files and options call it.
        title: what it is, in a few words.
        law: of its steps.
        numbers: by name.
        note: what else to know.
    """

    name: str
    title: str
    law: str
    numbers: Mapping[str, Number]
    note: str = ""

    def si(self, name: str, way: str = "") -> float | None:
        """A number in SI units, for one direction or both; None where it is not known."""
        found = self.numbers.get(f"{name}_{way}" if way else name) or self.numbers.get(name)
        return None if found is None else found.si

    @property
    def levels(self) -> float:
        """Nominal pulses from one end of the window to the other; of a word of bits its steps."""
        bits = self.si("word_bits")
        return float(self.si("levels") or 0.0) if bits is None else 2.0**bits - 1

    @property
    def missing(self) -> tuple[str, ...]:
        """What a run would use and is not known, in words."""
        energy = "" if all(self._energy(way) for way in ("up", "down")) else "the energy of a pulse"
        time = "" if all(self.si("pulse_time", way) for way in ("up", "down")) else "the width of a pulse"
        noise = "" if {"noise", "noise_levels", "word_bits"} & set(self.numbers) else "noise from cycle to cycle"
        spread = "" if {"spread_size", "word_bits"} & set(self.numbers) else "spread between devices"
        kept = "" if self._retention(300.0) is not None else "retention"
        return tuple(said for said in (energy, time, noise, spread, kept) if said)

    @property
    def assumed(self) -> tuple[str, ...]:
        """What a cell of it takes for granted, in words."""
        said = []
        if self._retention(300.0) is None:
            said.append(
                "retention is not known: its barrier is the one that holds ten years at an attempt rate of 1 GHz"
            )
        elif "attempt_rate" not in self.numbers:
            said.append("the attempt rate is not known: 1 GHz")
        noise = [words for words in self.missing if words.startswith(("noise", "spread"))]
        if noise:
            said.append(f"{' and '.join(noise)} {'are' if len(noise) > 1 else 'is'} not known and left out")
        said += [
            f"{number.name.replace('_', ' ')} = {number} is chosen: {number.note}"
            for number in self.numbers.values()
            if number.how == "chosen"
        ]
        return tuple(said)

    def cell(
        self,
        *,
        weight_range: float = 2.0,
        lsb: float | None = None,
        temperature: float = 300.0,
        step_time: float = 1e-3,
        seed: int = 0,
    ) -> PulsedCell:
        """A memory cell of this device.

        Args:
            weight_range: weight from one end of its window to the other, half of it on either side of 0.
            lsb: weight of one nominal pulse, in place of that. [weight/level]
            temperature: of the devices. [K]
            step_time: duration of an optimizer step. [s]
            seed: which devices they are.

        Returns:
            The cell.

        Raises:
            ValueError: if a number is out of its range.

        Example:
            >>> from limjax.devices import get_device
            >>> get_device("ecram").cell(weight_range=2.0).lsb.round(4)
            Array(0.002, dtype=float32)
        """
        own = {
            name: self.si(name) or 0.0
            for name in ("noise", "noise_levels", "spread_size", "spread_asymmetry", "spread_window", "stuck")
        }
        noise = PulseNoise(own["noise"], own["noise_levels"]) if own["noise"] or own["noise_levels"] else None
        spread = DeviceSpread(own["spread_size"], own["spread_asymmetry"], own["spread_window"], own["stuck"], seed)
        is_spread = any(own[name] for name in ("spread_size", "spread_asymmetry", "spread_window", "stuck"))
        bits, zero = self.si("word_bits"), self.si("zero")
        zero = 0.5 if zero is None else zero
        return PulsedCell(
            self._pulse("up"),
            self._pulse("down"),
            lsb=weight_range / self.levels if lsb is None else lsb,
            levels=(-zero * self.levels, (1 - zero) * self.levels),
            noise=noise,
            spread=spread if is_spread else None,
            retention=self._retention(temperature),
            step_time=step_time,
            temperature=temperature,
            word_bits=None if bits is None else int(bits),
        )

    def _pulse(self, way: str) -> Pulse:
        return Pulse(self._steps(way), self.si("size", way) or 1.0, self._energy(way), self.si("pulse_time", way))

    def _steps(self, way: str) -> AbstractSteps:
        if self.law == "soft-bounds":
            return SoftBoundsSteps(self.si("bound", way) or 1.0)
        return ExponentialSteps(self.si("nonlinearity", way) or 1.0) if self.law == "exponential" else LinearSteps()

    def _energy(self, way: str) -> AbstractPulseEnergy | None:
        joules, volts, seconds = (self.si(name, way) for name in ("pulse_energy", "voltage", "pulse_time"))
        low, high, farads = self.si("conductance_low"), self.si("conductance_high"), self.si("capacitance")
        if joules is not None:
            return GivenEnergy(joules)
        if volts is not None and farads is not None:
            return CapacitiveEnergy(volts, farads)
        if None not in (volts, seconds, low, high):
            return OhmicEnergy(volts, low, high, seconds)  # pyright: ignore[reportArgumentType]  # none of them is None
        return None

    def _retention(self, temperature: float) -> Retention | None:
        rate, rest = self.si("attempt_rate") or _ATTEMPT_RATE, self.si("rest")
        activation, held, stability = (
            self.si(name) for name in ("activation_energy", "retention_time", "thermal_stability")
        )
        per_kelvin = BOLTZMANN_J_PER_K / ELEMENTARY_CHARGE_C
        if activation is None and stability is not None:
            activation = stability * per_kelvin * 300.0
        if activation is None and held is not None:
            tested = self.si("retention_temperature") or temperature
            activation = per_kelvin * tested * max(math.log(rate * held / -math.log1p(-_FAILURE)), 0.0)
        return None if activation is None else Retention(activation, rate, rest)

    def to_toml(self) -> str:
        """The file of this device."""
        lines = [f"name = {_quoted(self.name)}", f"title = {_quoted(self.title)}", f"law = {_quoted(self.law)}"]
        lines += [f"note = {_quoted(self.note)}"] if self.note else []
        for number in self.numbers.values():
            lines += [
                "",
                f"[numbers.{number.name}]",
                f"value = {float(number.value)!r}",
                f"unit = {_quoted(number.unit)}",
            ]
            lines += (
                [] if number.error is None or not math.isfinite(number.error) else [f"error = {float(number.error)!r}"]
            )
            lines += [f"year = {number.year}", f"source = {_quoted(number.source)}", f"how = {_quoted(number.how)}"]
            lines += [f"note = {_quoted(number.note)}"] if number.note else []
        return "\n".join(lines) + "\n"


def device_names() -> list[str]:
    """The devices of the zoo."""
    return sorted(path.stem for path in ZOO.glob("*.toml"))


def get_device(name: str | os.PathLike[str]) -> Device:
    """A device of the zoo by its name, or of a file.

    Args:
        name: such as "ecram", or the path of a TOML file.

    Returns:
        The device.

    Raises:
        ValueError: for a name that is not known, or a file that is wrong.

    Example:
        >>> get_device("ecram").law
        'soft-bounds'
    """
    text = os.fspath(name)
    if text.endswith(".toml") or os.sep in text:
        return read_device(text)
    if text not in device_names():
        near = difflib.get_close_matches(text.lower(), device_names(), 3, 0.5)
        hint = f"Near names: {', '.join(near)}." if near else f"Known: {', '.join(device_names())}."
        raise ValueError(
            f"There is no device {text!r}. {hint} Or give the path of a .toml file (limjax device fit writes one)."
        )
    return _of_zoo(text)


@functools.cache
def _of_zoo(name: str) -> Device:
    return read_device(ZOO / f"{name}.toml")


def read_device(file: str | os.PathLike[str]) -> Device:
    """The device of one file, checked.

    Args:
        file: its path.

    Returns:
        The device.

    Raises:
        ValueError: if it cannot be read, or a number is wrong; the message names the file and the number.
    """
    path = pathlib.Path(file)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"The device file {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"The device file {path} is not valid TOML: {error}.") from None
    unknown = sorted(set(content) - {"name", "title", "law", "note", "numbers"})
    if unknown or not all(isinstance(content.get(key), str) for key in ("name", "title", "law")):
        said = f"unknown entry {unknown[0]!r}" if unknown else "name, title and law must be texts"
        raise ValueError(
            f"{path}: {said}. A device has name, title, law, perhaps a note, and its numbers as [numbers.levels] and so on."
        )
    if content["law"] not in LAWS:
        raise ValueError(f"{path}: law must be one of {', '.join(LAWS)}, got {content['law']!r}.")
    tables = content.get("numbers", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ValueError(f"{path}: write numbers as [numbers.levels] with value, unit, year, source and how.")
    numbers = {name: _number(f"{path}: {name}", name, table) for name, table in tables.items()}
    device = Device(content["name"], content["title"], content["law"], numbers, content.get("note", ""))
    if not device.levels >= 1:
        raise ValueError(
            f"{path}: levels, the nominal pulses from end to end of the window, must be known and at least 1 (or word_bits)."
        )
    needed = {"exponential": "nonlinearity"}.get(device.law)
    if needed and any(device.si(needed, way) is None for way in ("up", "down")):
        raise ValueError(f"{path}: the law {device.law} needs {needed}, or {needed}_up and {needed}_down.")
    return device


def _number(where: str, name: str, table: Mapping[str, Any]) -> Number:
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
        if not is_real(table[key]) or not math.isfinite(table[key]) or table[key] < 0 or isinstance(table[key], bool):
            raise ValueError(f"{where}: {key} must be a number of at least 0, got {table[key]!r}.")
    for key in ("unit", "source", "how", *(key for key in ("note",) if key in table)):
        if not isinstance(table[key], str) or not table[key].strip():
            raise ValueError(f"{where}: {key} must be a text, got {table[key]!r}.")
    wanted = NUMBERS[name][0]
    if table["unit"] != wanted and not (
        len(wanted) == 1 and table["unit"][1:] == wanted and table["unit"][0] in _SCALES
    ):
        raise ValueError(f"{where}: unit must be {_UNITS[wanted]}, got {table['unit']!r}.")
    if table["how"] not in HOW:
        raise ValueError(f"{where}: how must be one of {', '.join(HOW)}, got {table['how']!r}.")
    whole_number(table["year"], f"{where}: year", 1900, 2100)
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


def _referred(where: str, name: str, table: Mapping[str, Any]) -> Number:
    """A number that stands in the catalogue of the limits: an energy for one bit."""
    if name != "pulse_energy" or set(table) - {"catalogue", "note"} or not isinstance(table["catalogue"], str):
        raise ValueError(
            f'{where}: only pulse_energy may refer to the catalogue, as catalogue = "PCM", perhaps with a note.'
        )
    record = load_catalogue().get("memory_cell", table["catalogue"])
    note = f"Range {record.low:g} to {record.high:g} {record.unit}; {record.note} {table.get('note', '')}".strip()
    return Number(
        name, record.value, record.unit.removesuffix("/bit"), record.year, record.source, record.how, None, note
    )


def _scale(unit: str) -> float:
    if unit in _UNITS:
        return 1.0
    return _SCALES[unit[0]]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
