"""What the gap needs to know of a run, from its summary."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from limjax.numerics.checks import is_real
from limjax.physics.units import thermal_energy_joules

_REMEDY = "Give the folder that `limjax train` wrote, or the summary.json in it."
_NEEDED = ("parameters", "steps", "lsb", "path_levels", "heat_joules", "temperature")


@dataclass(frozen=True)
class RunFacts:
    """A run in numbers.

    Attributes:
        name: what to call it.
        parameters: number of weights.
        steps: optimizer steps that were taken.
        lsb: one level of its cells; of cells that differ the mean. [weight/level]
        path_levels: Σ|d|, levels by which all weights were moved. [levels]
        temperature: of its cells [K].
        heat_joules: closed-form heat of its updates [J].
        flops_per_step: FLOP of a step without the ledger, or None where they are not known.
        summary: everything else that the summary holds.
    """

    name: str
    parameters: int
    steps: int
    lsb: float
    path_levels: float
    temperature: float
    heat_joules: float
    flops_per_step: float | None
    summary: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, summary: Mapping[str, Any], name: str) -> "RunFacts":
        """The facts of a summary.

        Args:
            summary: content of `summary.json`.
            name: what to call the run.

        Returns:
            The facts.

        Raises:
            ValueError: if something is missing or no number; the message names it.
        """
        numbers = {}
        for key in _NEEDED:
            value = summary.get(key)
            # Where cells differ the summary holds a shape and the least, mean and greatest.
            number = _finite(value.get("mean") if isinstance(value, Mapping) else value)
            if number is None or number < 0:
                raise ValueError(f"{name} is no run: {key} must be a number of at least 0, got {value!r}. {_REMEDY}")
            numbers[key] = number
        if not min(numbers["parameters"], numbers["lsb"], numbers["temperature"]) > 0:
            raise ValueError(f"{name} is no run: parameters, lsb and temperature must be above 0. {_REMEDY}")
        flops = _finite(summary.get("flops_per_step"))
        whole = {key: int(numbers.pop(key)) for key in ("parameters", "steps")}
        return cls(name, **whole, **numbers, flops_per_step=flops, summary=summary)

    @property
    def kt(self) -> float:
        """Thermal energy [J]."""
        return thermal_energy_joules(self.temperature)

    @property
    def way(self) -> float:
        """Σ|u|: how far all weights were moved [weight units]."""
        return self.path_levels * self.lsb

    @property
    def memory_joules(self) -> float:
        """Heat of the updates and work of the barriers [J]; both are model heat."""
        return self.heat_joules + (self.joules("actuation_kt") or 0.0)

    def number(self, key: str) -> float | None:
        """A number of the summary, or None where it has none."""
        return _finite(self.summary.get(key))

    def joules(self, key: str) -> float | None:
        """A number of the summary that is in kT, in joules at the temperature of the cells."""
        value = _finite(self.summary.get(key))
        return None if value is None else value * self.kt

    def word_bits(self, weight_range: float) -> int:
        """Bits of a word that tells the levels of a window of weights apart."""
        # A quotient meant as a power of two may come out above it by rounding, and would ask for one bit more.
        return max(1, math.ceil(math.log2(max(weight_range / self.lsb, 2.0)) - 1e-9))


def _finite(value: Any) -> float | None:
    if not isinstance(value, int | float) or not is_real(value) or not math.isfinite(value):
        return None
    return float(value)
