"""What consolidation took in a measured run of `limjax continual`: work and heat of barriers, and numbers that were copied."""

import json
import os
import pathlib
from dataclasses import dataclass
from typing import Any

from limjax.numerics.checks import finite_number

CONTINUAL_FILE = "continual.json"
"""What `limjax continual` writes and `limjax limits --consolidation-from` reads."""


@dataclass(frozen=True)
class MeasuredConsolidation:
    """Consolidation per weight over a whole measured sequence, by raising barriers and by copying.

    Of the methods of a run those are taken that kept most: of the barriers' and of the copying ones the one with the highest final
    accuracy each.

    Attributes:
        tasks: name of the sequence.
        scenario: "task", "domain" or "class".
        barrier_method: who raised barriers, or None if no method of the run did.
        barrier_accuracy: its final accuracy.
        work_kt: barrier work per weight [kT].
        later_heat_kt: how much more heat per weight its updates took than fine-tuning's in the same run, 0 if less or not measured [kT].
        copy_method: who copied, or None.
        copy_accuracy: its final accuracy.
        copied_bits: bits written to long-term memory per weight.
        lim_copy_heat_kt: heat of writing these to learning-in-memory cells per weight, None for a run that does not say [kT].
    """

    tasks: str
    scenario: str
    barrier_method: str | None
    barrier_accuracy: float | None
    work_kt: float | None
    later_heat_kt: float | None
    copy_method: str | None
    copy_accuracy: float | None
    copied_bits: float | None
    lim_copy_heat_kt: float | None = None

    @property
    def barrier_kt(self) -> float | None:
        """Barrier work and heat of later updates per weight, or None if no method raised barriers [kT]."""
        if self.work_kt is None or self.later_heat_kt is None:
            return None
        return self.work_kt + self.later_heat_kt

    @property
    def assumptions(self) -> str:
        """Where it is from, in one line."""
        return f"consolidation as measured on {self.tasks} ({self.scenario}-incremental)"


def read_consolidation(path: str | os.PathLike[str]) -> MeasuredConsolidation:
    """What consolidation took in a run of `limjax continual`.

    Args:
        path: its folder, or the file `continual.json` in it.

    Returns:
        The numbers per weight.

    Raises:
        ValueError: if it cannot be read, holds something else, or no method of it raised barriers or copied; the message says what.
    """
    file = pathlib.Path(path)
    file = file / CONTINUAL_FILE if file.is_dir() else file
    remedy = f"Give --consolidation-from the folder of `limjax continual`, or its {CONTINUAL_FILE}."
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        found = _of_run(content)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}. {remedy}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} holds no trainings through a sequence ({error}). {remedy}") from None
    if found.barrier_method is None and found.copy_method is None:
        raise ValueError(
            f"No method in {file} raised barriers or copied anything: add one, for example --method barrier."
        )
    return found


def _of_run(content: dict[str, Any]) -> MeasuredConsolidation:
    settings, rows = content["settings"], content["methods"]
    bits = finite_number(settings["copy_bits"], "copy_bits")
    for row in rows:
        row["copied_bits"] = bits * _copied(row["method"], content["trainings"])
    raised = _best([row for row in rows if row["actuation_kt_per_parameter"] > 1e-9])
    copied = _best([row for row in rows if row["copied_bits"] > 0])
    plain = next((row for row in rows if row["method"] == "fine-tune"), None)
    later = None
    if raised is not None:
        heat = finite_number(raised["heat_kt_per_parameter"], "heat_kt_per_parameter")
        later = 0.0 if plain is None else max(0.0, heat - plain["heat_kt_per_parameter"])

    def of(row, name):
        return None if row is None else finite_number(row[name], name)

    return MeasuredConsolidation(
        tasks=str(settings["tasks"]),
        scenario=str(settings["scenario"]),
        barrier_method=None if raised is None else str(raised["method"]),
        barrier_accuracy=of(raised, "final_accuracy"),
        work_kt=of(raised, "actuation_kt_per_parameter"),
        later_heat_kt=later,
        copy_method=None if copied is None else str(copied["method"]),
        copy_accuracy=of(copied, "final_accuracy"),
        copied_bits=of(copied, "copied_bits"),
        lim_copy_heat_kt=None if copied is None else copied.get("copy_heat_kt_per_parameter"),
    )


def _copied(method: str, trainings: list[dict[str, Any]]) -> float:
    """Numbers that a method wrote to long-term memory per weight, a mean over its trainings."""
    mine = [one["written"] + one["examples"] / one["parameters"] for one in trainings if one["method"] == method]
    return sum(mine) / len(mine)


def _best(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    return max(rows, key=lambda row: row["final_accuracy"], default=None)
