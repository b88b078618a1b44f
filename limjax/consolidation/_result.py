"""What a training through a sequence came to: accuracies, heat, barrier work and copies."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from limjax._summaries import check_record
from limjax.limits import load_catalogue
from limjax.limits._records import Record
from limjax.physics.units import thermal_energy_joules

NON_VOLATILE = ("FeFET", "STT-MRAM", "ReRAM", "PCM", "NOR flash")
"""Memories of the catalogue that keep what is copied to them, and so can hold anchors and importances."""


@dataclasses.dataclass(frozen=True)
class SequenceResult:
    """One training through a sequence.

    Attributes:
        method: what it was, as text.
        seed: of network, examples and hops.
        accuracy: share told right after each task (rows) of each task's test examples (columns).
        heat_kt: update heat of each task, all weights together [kT].
        actuation_kt: barrier work of each task [kT].
        undelivered: share of parameter-steps whose request was beyond the driver.
        parameters: number of weights.
        written: numbers per weight that were copied to long-term memory over the whole sequence.
        kept: numbers per weight that stand there at the end.
        running: numbers per weight that the method changes in every step.
        examples: inputs that were copied there, in numbers.
        barriers: heights at the end, `(lower edges of equal bins [kT], counts)`.
        seconds: wall time [s].
        copy_heat_kt: heat of the same copies if they were written to learning-in-memory cells at full drive, all together; None for
            a training of an earlier version, which did not measure it [kT].
    """

    method: str
    seed: int
    accuracy: tuple[tuple[float, ...], ...]
    heat_kt: tuple[float, ...]
    actuation_kt: tuple[float, ...]
    undelivered: float
    parameters: int
    written: int
    kept: int
    running: int
    examples: int
    barriers: tuple[tuple[float, ...], tuple[int, ...]]
    seconds: float
    copy_heat_kt: float | None = None

    @property
    def matrix(self) -> Float[np.ndarray, "tasks tasks"]:
        """The accuracies as an array."""
        return np.asarray(self.accuracy)

    @property
    def final_accuracy(self) -> float:
        """Mean accuracy over all tasks at the end."""
        return float(self.matrix[-1].mean())

    @property
    def new_accuracy(self) -> float:
        """Mean accuracy of each task when it was just learnt."""
        return float(np.diag(self.matrix).mean())

    @property
    def old_accuracy(self) -> float:
        """Mean accuracy at the end of all tasks but the last."""
        return float(self.matrix[-1, :-1].mean())

    @property
    def backward_transfer(self) -> float:
        """Mean change of a task's accuracy from when it was learnt to the end (Lopez-Paz & Ranzato, arXiv:1706.08840)."""
        return float((self.matrix[-1] - np.diag(self.matrix))[:-1].mean())

    @property
    def forgetting(self) -> float:
        """Mean fall of a task's accuracy from its best to the end (Chaudhry et al., arXiv:1801.10112)."""
        # The last row is the end itself, the last column a task that had no time to be forgotten.
        return float((self.matrix[:-1].max(axis=0) - self.matrix[-1])[:-1].mean())

    def copy_joules(self, bits: int, memory: str | None = None) -> float:
        """Energy at the device to write the copies to a non-volatile memory of the catalogue; not part of the heat.

        Args:
            bits: of a number.
            memory: its name; None takes the one that writes with the least energy.

        Returns:
            Energy [J].
        """
        record = best_memory() if memory is None else load_catalogue().get("memory_cell", memory)
        return (self.written * self.parameters + self.examples) * bits * record.si

    def summary(self, bits: int) -> dict[str, Any]:
        """The numbers of a table."""
        # The cells of a sequence have the temperature that a cell has by default.
        kt = thermal_energy_joules(300.0)
        return {
            "final_accuracy": self.final_accuracy,
            "new_accuracy": self.new_accuracy,
            "old_accuracy": self.old_accuracy,
            "backward_transfer": self.backward_transfer,
            "forgetting": self.forgetting,
            "heat_kt_per_parameter": sum(self.heat_kt) / self.parameters,
            "actuation_kt_per_parameter": sum(self.actuation_kt) / self.parameters,
            "actuation_joules": sum(self.actuation_kt) * kt,
            "heat_joules": sum(self.heat_kt) * kt,
            "copy_joules": self.copy_joules(bits),
            **{f"copy_joules_{_key(name)}": self.copy_joules(bits, name) for name in NON_VOLATILE},
            "copy_heat_kt_per_parameter": None if self.copy_heat_kt is None else self.copy_heat_kt / self.parameters,
            "kept_numbers_per_weight": self.kept + self.examples / self.parameters,
            "running_numbers_per_weight": self.running,
            "undelivered_fraction": self.undelivered,
        }

    def to_json(self) -> dict[str, Any]:
        """All numbers, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "SequenceResult":
        """The result that `to_json` wrote."""

        def tuples(value: Any) -> Any:
            return tuple(tuples(item) for item in value) if isinstance(value, list | tuple) else value

        later = {"copy_heat_kt": None} | dict(content)
        found = cls(**{field.name: tuples(later[field.name]) for field in dataclasses.fields(cls)})
        check_record(found)
        tasks = len(found.heat_kt)
        shapes = {"accuracy": (tasks, tasks), "heat_kt": (tasks,), "actuation_kt": (tasks,)}
        # Who reads a folder takes one number for each task for granted.
        for name, shape in shapes.items():
            if np.array(getattr(found, name), np.float64).shape != shape or not tasks:
                raise ValueError(f"{name!r} is no table of numbers for each task")
        return found


def best_memory() -> Record:
    """The non-volatile memory of the catalogue that writes a bit with the least energy."""
    catalogue = load_catalogue()
    return min((catalogue.get("memory_cell", name) for name in NON_VOLATILE), key=lambda record: record.si)


def _key(memory: str) -> str:
    """The name of a memory as a part of a key."""
    return memory.lower().replace(" ", "_").replace("-", "_")


def table(results: Sequence[SequenceResult], bits: int) -> list[dict[str, Any]]:
    """Means over seeds and their standard errors, one row for each method, in the order they came.

    Args:
        results: trainings of one sequence.
        bits: of a number that is copied.

    Returns:
        Rows with `method`, `seeds`, and for each number of `SequenceResult.summary` its mean and `_error`.
    """
    rows = []
    for method in dict.fromkeys(result.method for result in results):
        mine = [result.summary(bits) for result in results if result.method == method]
        row: dict[str, Any] = {"method": method, "seeds": len(mine)}
        for name in mine[0]:
            # A mean over some of the seeds would stand beside means over all.
            if any(numbers[name] is None for numbers in mine):
                row |= {name: None, f"{name}_error": None}
                continue
            values = np.array([numbers[name] for numbers in mine], np.float64)
            row[name] = float(values.mean())
            row[f"{name}_error"] = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
        rows.append(row)
    return rows
