"""What the folder of a run keeps, from a result or from its files: all that its figures and its page need."""

import csv
import dataclasses
import math
import os
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from limjax._files import damage
from limjax._summaries import check_record, read_summary, shortened
from limjax.memory import LedgerHistory, Report
from limjax.memory._history import COLUMNS, HostRow, Layers
from limjax.numerics._present_names import per_parameter, with_present_names
from limjax.training import HistoryRow, TrainResult

SUMMARY, LEDGER, HISTORY, LAYERS = "summary.json", "ledger.npz", "history.csv", "layers.csv"
_REMEDY = "Give the folder of a run that `limjax train` wrote; nothing was changed."


@dataclasses.dataclass(frozen=True)
class KeptRun:
    """A run as its folder keeps it.

    Attributes:
        name: what it is called: its folder.
        summary: the numbers of `summary.json`.
        history: rows of `history.csv`.
        report: the table per layer, or None for a run of an earlier version, which did not keep it.
        layers: of `layers.csv`, or None likewise.
        matrix: name and heat of the largest matrix, or None where heat is not kept per parameter.
    """

    name: str
    summary: dict[str, Any]
    history: tuple[HistoryRow, ...]
    report: Report | None
    layers: LedgerHistory | None
    matrix: tuple[str, np.ndarray] | None

    @classmethod
    def of(cls, result: TrainResult, name: str, arrays: dict[str, np.ndarray]) -> "KeptRun":
        """A run from its result and the arrays of its ledger."""
        return cls(name, result.summary, result.history, result.report, result.layers, largest_matrix(arrays))

    @classmethod
    def read(cls, folder: pathlib.Path) -> "KeptRun":
        """A run from its folder.

        Raises:
            ValueError: if it is none, or a file of it is damaged; the message names it.
        """
        if not (folder / SUMMARY).is_file():
            raise ValueError(f"{folder} holds no {SUMMARY}, so it is no finished run. {_REMEDY}")
        summary = read_summary(folder / SUMMARY, _REMEDY, _NEEDED)
        # `path` goes along with what is read, so that the error names the file that is damaged.
        path = folder / SUMMARY
        try:
            report = _report(summary["report"]) if "report" in summary else None
            path = folder / HISTORY
            history = _history(_rows(path))
            path = folder / LAYERS
            # The names and sizes of the layers stand in the report alone: without it the columns cannot be told.
            layers = None if report is None or not path.exists() else _layers(_rows(path), report)
            path = folder / LEDGER
            matrix = None
            if path.exists():
                # A pickle would run the code of whoever wrote the folder.
                with np.load(path, allow_pickle=False) as arrays:
                    matrix = largest_matrix(dict(arrays))
        except _DAMAGE as error:
            raise ValueError(f"{path} is damaged ({damage(error)}). {_REMEDY}") from None
        return cls(os.fspath(folder), summary, history, report, layers, matrix)


_NEEDED = (
    "task",
    "barrier",
    "hops",
    "seed",
    "steps",
    "requested_steps",
    "parameters",
    "heat_kt",
    "actuation_kt",
    "result",
    "attempt_rate",
)
_EARLIER = per_parameter("heat_kt", "actuation_kt", "static_heat_kt", "compared_kt")
"""Columns of `history.csv` that earlier versions named as the whole network's energies."""
_DAMAGE = (
    OSError, ValueError, TypeError, KeyError, IndexError, OverflowError, EOFError, NotImplementedError, csv.Error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What reading a damaged file ends in."""


def _report(content: dict[str, Any]) -> Report:
    """The table per layer, every number of it one."""
    if not isinstance(content.get("layers"), list):
        raise ValueError(f"'layers' of its 'report' is {shortened(content.get('layers'))}")
    report = Report.from_dict(content)
    for record in (report, report.total, *report.layers):
        check_record(record)
    for name, cost in report.comparisons.items():
        # To Python True is an int, and would count as 1 kT.
        if isinstance(cost, bool) or not isinstance(cost, int | float):
            raise ValueError(f"the comparison {name!r} is {cost!r}")
    return report


def _rows(path: pathlib.Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def _history(rows: list[list[str]]) -> tuple[HistoryRow, ...]:
    header = with_present_names(dict.fromkeys(rows[0]), _EARLIER)
    if tuple(header) != HistoryRow._fields:
        raise ValueError("its columns are not those of a history")
    numbers = [[float(x) for x in row] for row in rows[1:]]
    return tuple(HistoryRow(int(row[0]), *row[1:]) for row in numbers)


def _layers(rows: list[list[str]], report: Report) -> LedgerHistory:
    names = tuple(layer.name for layer in report.layers)
    wanted = [f"{unit}/{name}" for unit in COLUMNS.values() for name in names]
    if rows[0] != ["step", "loss", "barrier_kt", *wanted]:
        raise ValueError("its columns are not the layers of the run")
    numbers = [[float(x) for x in row] for row in rows[1:]]
    kept = [HostRow(int(row[0]), row[1], row[2], np.reshape(row[3:], (len(COLUMNS), -1)).tolist()) for row in numbers]
    return LedgerHistory.of_rows(Layers(names, tuple(layer.parameters for layer in report.layers), ()), kept)


def largest_matrix(arrays: dict[str, np.ndarray]) -> tuple[str, np.ndarray] | None:
    """Name and heat of the largest matrix among the arrays of a ledger, or None."""
    found = [
        (name, heat)
        for name, heat in arrays.items()
        if name.startswith("heat_kt/") and heat.ndim == 2 and np.issubdtype(heat.dtype, np.number)
    ]
    if not found:
        return None
    name, heat = max(found, key=lambda item: item[1].size)
    return name.removeprefix("heat_kt/"), heat


def finite(values: Any) -> list[float | None]:
    """Numbers as JSON can hold them."""
    return [float(x) if math.isfinite(x) else None for x in values]
