"""Devices as files: every number with its unit, year, source and how it was obtained; what is missing is missing.

The zoo is `limjax/devices/zoo/*.toml`; a file that `limjax device fit` wrote, or one of your own, has the same form.
"""

import datetime
import difflib
import functools
import math
import os
import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from limjax.devices._energy import AbstractPulseEnergy, CapacitiveEnergy, GivenEnergy, OhmicEnergy
from limjax.devices._numbers import NUMBERS, Number, number_of
from limjax.devices._pulsed_cell import Pulse, PulsedCell, Retention
from limjax.devices._spread import DeviceSpread, PulseNoise
from limjax.devices._steps import LAWS, AbstractSteps, ExponentialSteps, LinearSteps, SoftBoundsSteps
from limjax.limits._records import read_toml
from limjax.physics.units import BOLTZMANN_J_PER_K, ELEMENTARY_CHARGE_C

ZOO = pathlib.Path(__file__).parent / "zoo"
"""The folder of the devices that come with limjax."""

_FAILURE = 1e-4  # that a retention time is meant for, as in `AbstractCell.retention_barrier`
_ATTEMPT_RATE = 1e9
_ROOM = 300.0  # [K]


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
        # 0 where it is not known, which `_checked` refuses.
        return float(self.si("levels") or 0.0) if bits is None else 2.0**bits - 1

    @property
    def missing(self) -> tuple[str, ...]:
        """What a run would use and is not known, in words."""
        energy = "" if all(self.pulse_energy(way) for way in ("up", "down")) else "the energy of a pulse"
        time = "" if all(self.si("pulse_time", way) is not None for way in ("up", "down")) else "the width of a pulse"
        # Words of bits have neither noise nor spread: nothing is missing there.
        noise = "" if {"noise", "noise_levels", "word_bits"} & set(self.numbers) else "noise from cycle to cycle"
        spread = "" if {"spread_size", "word_bits"} & set(self.numbers) else "spread between devices"
        kept = "" if self._retention() is not None else "retention"
        return tuple(said for said in (energy, time, noise, spread, kept) if said)

    @property
    def assumed(self) -> tuple[str, ...]:
        """What a cell of it takes for granted, in words."""
        said = []
        if self._retention() is None:
            said.append(
                "retention is not known: its barrier is the one that holds ten years at an attempt rate of 1 GHz"
            )
        elif "attempt_rate" not in self.numbers:
            said.append("the attempt rate is not known: 1 GHz")
        held_alone = not {"activation_energy", "thermal_stability"} & set(self.numbers)
        if held_alone and "retention_time" in self.numbers and "retention_temperature" not in self.numbers:
            said.append(f"at which temperature it holds is not known: {_ROOM:g} K")
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
        bits, zero = self.si("word_bits"), _given(self.si("zero"), 0.5)
        return PulsedCell(
            self._pulse("up"),
            self._pulse("down"),
            lsb=weight_range / self.levels if lsb is None else lsb,
            levels=(-zero * self.levels, (1 - zero) * self.levels),
            noise=noise,
            spread=spread if is_spread else None,
            retention=self._retention(),
            step_time=step_time,
            temperature=temperature,
            word_bits=None if bits is None else int(bits),
        )

    def _pulse(self, way: str) -> Pulse:
        size = _given(self.si("size", way), 1.0)
        return Pulse(self._steps(way), size, self.pulse_energy(way), self.si("pulse_time", way))

    def _steps(self, way: str) -> AbstractSteps:
        if self.law == "soft-bounds":
            return SoftBoundsSteps(_given(self.si("bound", way), 1.0))
        if self.law == "exponential":
            return ExponentialSteps(_given(self.si("nonlinearity", way), 1.0))
        return LinearSteps()

    def pulse_energy(self, way: str) -> AbstractPulseEnergy | None:
        """What a pulse takes in one direction, "up" or "down"; None where that is not known."""
        joules, volts, seconds = (self.si(name, way) for name in ("pulse_energy", "voltage", "pulse_time"))
        low, high, farads = self.si("conductance_low"), self.si("conductance_high"), self.si("capacitance")
        # What was published of the pulse itself goes before what is computed from voltages.
        if joules is not None:
            return GivenEnergy(joules)
        if volts is not None and farads is not None:
            return CapacitiveEnergy(volts, farads)
        if None not in (volts, seconds, low, high):
            return OhmicEnergy(volts, low, high, seconds)  # pyright: ignore[reportArgumentType]  # none of them is None
        return None

    def _retention(self) -> Retention | None:
        rate, rest = _given(self.si("attempt_rate"), _ATTEMPT_RATE), self.si("rest")
        activation, held, stability = (
            self.si(name) for name in ("activation_energy", "retention_time", "thermal_stability")
        )
        per_kelvin = BOLTZMANN_J_PER_K / ELEMENTARY_CHARGE_C
        # Three ways to say it, the most direct first; Δ is by its definition over kT at 300 K.
        if activation is None and stability is not None:
            activation = stability * per_kelvin * _ROOM
        if activation is None and held is not None:
            # `AbstractCell.retention_barrier` of one cell for that time, at the temperature of the test, as an energy: that of a material
            # does not follow the temperature of a run.
            # A device that forgets sooner than it attempts has no barrier, not a negative one.
            tested = _given(self.si("retention_temperature"), _ROOM)
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
                # repr reads back as the same number; that of a NumPy float would write its type too.
                f"value = {float(number.value)!r}",
                f"unit = {_quoted(number.unit)}",
            ]
            # `number_of` would refuse an infinite error when the file is read.
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
    """A device of the zoo by its name, of a file, or of a few numbers.

    Args:
        name: such as "ecram", the path of a TOML file, or a text such as "levels=1000,pulse_energy=1fJ,pulse_time=10ms", where law
            may be one of the items.

    Returns:
        The device.

    Raises:
        ValueError: for a name that is not known, or a file that is wrong.

    Example:
        >>> get_device("ecram").law
        'soft-bounds'
        >>> str(get_device("levels=1000,pulse_energy=1fJ").numbers["pulse_energy"])
        '1 fJ'
    """
    text = os.fspath(name)
    # A path may have an = in it.
    if "=" in text and not text.endswith(".toml"):
        return _of_text(text)
    if text.endswith(".toml") or os.sep in text:
        return read_device(text)
    if text not in device_names():
        near = difflib.get_close_matches(text.lower(), device_names(), 3, 0.5)
        hint = f"Near names: {', '.join(near)}." if near else f"Known: {', '.join(device_names())}."
        raise ValueError(
            f"There is no device {text!r}. {hint} Or give the path of a .toml file (limjax device fit writes one)."
        )
    return _of_zoo(text)


def _of_text(text: str) -> Device:
    """A device of numbers that are given as they are."""
    pairs = [item.strip().partition("=") for item in text.split(",")]
    items = {key: value for key, _, value in pairs}
    law = items.pop("law", "linear")
    numbers = {}
    for key, item in items.items():
        # An e is the number's only before digits: that of 5eV is its unit's.
        found = re.fullmatch(
            r"([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)\s*([a-zA-Z\u00b5\u03bc/1]*)", item.strip()
        )
        if found is None:
            raise ValueError(
                f"device {text!r}: expected {key}=number, perhaps with a unit, such as pulse_time=10ms; got {key}={item}."
            )
        # A name that is no number's goes on to `number_of`, which says which ones are near.
        unit = found[2] or NUMBERS.get(key, ("1",))[0]
        table = {
            "value": float(found[1]),
            "unit": unit,
            "year": datetime.date.today().year,
            "source": "given as text",
            "how": "specified",
        }
        numbers[key] = number_of(f"device {text!r}: {key}", key, table)
    return _checked(f"device {text!r}", Device(text, "Numbers given as text", law, numbers))


@functools.cache
def _of_zoo(name: str) -> Device:
    # Kept for the life of the process, unlike files of a user, which may change between two calls.
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
    content = read_toml(path, "device")
    unknown = sorted(set(content) - {"name", "title", "law", "note", "numbers"})
    if unknown or not all(isinstance(content.get(key), str) for key in ("name", "title", "law")):
        said = f"unknown entry {unknown[0]!r}" if unknown else "name, title and law must be texts"
        raise ValueError(
            f"{path}: {said}. A device has name, title, law, perhaps a note, and its numbers as [numbers.levels] and so on."
        )
    tables = content.get("numbers", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ValueError(f"{path}: write numbers as [numbers.levels] with value, unit, year, source and how.")
    numbers = {name: number_of(f"{path}: {name}", name, table) for name, table in tables.items()}
    return _checked(
        str(path), Device(content["name"], content["title"], content["law"], numbers, content.get("note", ""))
    )


def _checked(where: str, device: Device) -> Device:
    if device.law not in LAWS:
        raise ValueError(f"{where}: law must be one of {', '.join(LAWS)}, got {device.law!r}.")
    if not device.levels >= 1:
        raise ValueError(
            f"{where}: levels, the nominal pulses from end to end of the window, must be known and at least 1 (or word_bits)."
        )
    # A bound that is not given is the end of the window; there is no such natural ν.
    if device.law == "exponential" and any(device.si("nonlinearity", way) is None for way in ("up", "down")):
        raise ValueError(f"{where}: the law exponential needs nonlinearity, or nonlinearity_up and nonlinearity_down.")
    return device


def _given(value: float | None, default: float) -> float:
    """A number, or what stands for one that is not known; 0 is known."""
    return default if value is None else value


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
