"""What consolidation took in a measured run of `limjax continual`: work and heat of barriers, and numbers that were copied."""

import json
import math
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
        actuation_kt_per_parameter: barrier work per weight [kT].
        later_heat_kt_per_parameter: how much more heat per weight its updates took than fine-tuning's in the same run, below 0
            where they took less; None where the run has no fine-tuning with a finite heat [kT].
        copy_method: who copied, or None.
        copy_accuracy: its final accuracy.
        copied_bits: bits written to long-term memory per weight.
        copy_heat_kt_per_parameter: heat of writing these to learning-in-memory cells per weight, None for a run that does not
            say [kT].
        result: how the run ended, "completed" or for example "interrupted"; None for a file that does not say.
    """

    tasks: str
    scenario: str
    barrier_method: str | None
    barrier_accuracy: float | None
    actuation_kt_per_parameter: float | None
    later_heat_kt_per_parameter: float | None
    copy_method: str | None
    copy_accuracy: float | None
    copied_bits: float | None
    copy_heat_kt_per_parameter: float | None = None
    result: str | None = None

    @property
    def barrier_kt_per_parameter(self) -> float | None:
        """Barrier work and, where it was measured and is above 0, heat of later updates per weight; None if no method raised barriers [kT]."""
        if self.actuation_kt_per_parameter is None:
            return None
        # Less heat than fine-tuning is said in `barrier_words` and not taken off, so that the wall is never below the
        # barrier work.
        return self.actuation_kt_per_parameter + max(self.later_heat_kt_per_parameter or 0.0, 0.0)

    @property
    def assumptions(self) -> str:
        """Where it is from, in one line."""
        how = "" if self.result in (None, "completed") else f", a run that is {self.result}"
        return f"consolidation as measured on {self.tasks} ({self.scenario}-incremental{how})"

    @property
    def barrier_words(self) -> str:
        """What the barriers took per weight, and what is not in it."""
        if self.later_heat_kt_per_parameter is None:
            later = "later heat not measured, add --method fine-tune to the run"
        elif self.later_heat_kt_per_parameter < 0:
            less = f"{-self.later_heat_kt_per_parameter:.3g} kT less heat of updates"
            later = f"{less} than fine-tuning per weight, not taken off"
        else:
            later = f"{self.later_heat_kt_per_parameter:.3g} kT of later heat per weight"
        return f"{self.barrier_method}, {self.actuation_kt_per_parameter:.3g} kT of barrier and {later}"


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
    # The file is at fault in each: JSON nested too deeply, say, or a training of 0 parameters.
    except (KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
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
        finite_number(row["final_accuracy"], "final_accuracy")
        # The rows, means over seeds, do not hold what was copied: it stands with the single trainings.
        row["copied_bits"] = bits * _copied(row["method"], content["trainings"])
    raised = _best([row for row in rows if row["actuation_kt_per_parameter"] > 1e-9])
    copied = _best([row for row in rows if row["copied_bits"] > 0])
    plain = next((row for row in rows if row["method"] == "fine-tune"), None)
    # NaN where either was not measured, and then None below.
    later = _heat(raised) - _heat(plain)

    def of(row, name):
        return None if row is None else finite_number(row[name], name)

    return MeasuredConsolidation(
        tasks=str(settings["tasks"]),
        scenario=str(settings["scenario"]),
        barrier_method=None if raised is None else str(raised["method"]),
        barrier_accuracy=of(raised, "final_accuracy"),
        actuation_kt_per_parameter=of(raised, "actuation_kt_per_parameter"),
        later_heat_kt_per_parameter=later if math.isfinite(later) else None,
        copy_method=None if copied is None else str(copied["method"]),
        copy_accuracy=of(copied, "final_accuracy"),
        copied_bits=of(copied, "copied_bits"),
        copy_heat_kt_per_parameter=None if copied is None else copied.get("copy_heat_kt_per_parameter"),
        result=str(content["result"]) if "result" in content else None,
    )


def _heat(row: dict[str, Any] | None) -> float:
    """Update heat per weight, NaN where it was not measured [kT]."""
    heat = None if row is None else row["heat_kt_per_parameter"]
    return math.nan if heat is None else float(heat)


def _copied(method: str, trainings: list[dict[str, Any]]) -> float:
    """Numbers that a method wrote to long-term memory per weight, a mean over its trainings."""
    mine = [one["written"] + one["examples"] / one["parameters"] for one in trainings if one["method"] == method]
    if not mine:
        raise ValueError(f"no training of its method {method!r} is in it")
    return sum(mine) / len(mine)


def _best(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    return max(rows, key=lambda row: row["final_accuracy"], default=None)
