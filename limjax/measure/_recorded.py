"""Readings that were recorded: the same windows, again, without the machine."""

import csv
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from limjax.measure._counters import AbstractCounters, Fineness, Reading

_REMEDY = 'A trace is JSON with "readings", a list of {"seconds": s, "joules": {counter: J}}, or CSV with a column seconds and one for each counter.'


class RecordedCounters(AbstractCounters):
    """Counters that give what was recorded, a reading each time they are asked; no time passes.

    Args:
        readings: in the order in which they were taken.
        kind: "measured" or "estimate": what the numbers are.
        method: how they came about.
        fineness: of all counters, seconds and joules.

    Raises:
        ValueError: if there is no reading, or they differ in their counters.

    Example:
        >>> counters = RecordedCounters([Reading(0.0, {"CPU 0": 5.0}), Reading(2.0, {"CPU 0": 25.0})])
        >>> counters.read().joules, counters.read().seconds
        ({'CPU 0': 5.0}, 2.0)
    """

    def __init__(
        self,
        readings: Sequence[Reading],
        kind: str = "measured",
        method: str = "a recorded trace",
        # RAPL's, as `_counters` has it.
        fineness: Fineness = Fineness(1e-3, 6.1e-5),  # noqa: B008  # a tuple
    ):
        if not readings or any(set(reading.joules) != set(readings[0].joules) for reading in readings):
            raise ValueError(
                f"readings must be at least one, all with the same counters, got {len(readings)}. {_REMEDY}"
            )
        self._left = list(readings)[::-1]
        self.kind, self.method, self.reason = kind, method, None
        self.fineness = dict.fromkeys(readings[0].joules, fineness)

    @classmethod
    def of(cls, file: str | os.PathLike[str]) -> "RecordedCounters":
        """The counters of a file.

        Args:
            file: JSON or CSV.

        Returns:
            The counters.

        Raises:
            ValueError: if it cannot be read or holds something else.
        """
        path = pathlib.Path(file)
        try:
            text = path.read_text(encoding="utf-8")
            content: dict[str, Any] = json.loads(text) if path.suffix == ".json" else {"readings": _rows(text)}
            readings = [
                Reading(float(row["seconds"]), {name: float(joules) for name, joules in row["joules"].items()})
                for row in content["readings"]
            ]
        except OSError as error:
            raise ValueError(f"The trace {path} cannot be read: {error.strerror}. {_REMEDY}") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"The trace {path} is damaged ({type(error).__name__}: {error}). {_REMEDY}") from None
        return cls(readings, method=str(content.get("method", f"the trace {path.name}")))

    def read(self) -> Reading:
        if not self._left:
            raise ValueError("The trace has no further reading: it was recorded over fewer windows than are asked for.")
        return self._left.pop()

    def wait(self, seconds: float) -> None:
        pass


def _rows(text: str) -> list[dict[str, Any]]:
    rows = list(csv.DictReader(text.splitlines()))
    return [
        {"seconds": row["seconds"], "joules": {key: value for key, value in row.items() if key != "seconds"}}
        for row in rows
    ]
