"""Several runs side by side: those that differ in the seed alone are one line with its standard error."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from limjax._kept_run import KeptRun, finite
from limjax._page._html import page, plot, table, text
from limjax.training._seeds import SETTINGS, apart_from_seed, ending

_NUMBERS = {
    "test accuracy": lambda run: run.summary.get("test_accuracy"),
    "test loss": lambda run: run.summary.get("test_loss"),
    "heat [kT/parameter]": lambda run: run.summary["heat_kt"] / max(run.summary["parameters"], 1),
    "work [kT/parameter]": lambda run: run.summary["actuation_kt"] / max(run.summary["parameters"], 1),
}


class Group(NamedTuple):
    """Runs that differ in the seed alone.

    Attributes:
        name: the settings in which it differs from the other groups.
        runs: of it.
        numbers: mean and standard error by name; None where a run has no such number, or the error of a single run.
    """

    name: str
    runs: tuple[KeptRun, ...]
    numbers: dict[str, tuple[float | None, float | None]]

    def cell(self, name: str) -> str:
        """Mean and standard error in words."""
        mean, error = self.numbers[name]
        if mean is None:
            return "–"
        return f"{mean:.3g}" if error is None else f"{mean:.4g} ± {error:.2g}"

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return {
            "name": self.name,
            "runs": [run.name for run in self.runs],
            "seeds": [run.summary["seed"] for run in self.runs],
            "results": [run.summary["result"] for run in self.runs],
            "means": {name: mean for name, (mean, _) in self.numbers.items()},
            "errors": {name: error for name, (_, error) in self.numbers.items()},
        }


def grouped(runs: Sequence[KeptRun]) -> list[Group]:
    """Runs by everything but their seed.

    Args:
        runs: of any tasks and barriers.

    Returns:
        The groups, in the order of their first runs.

    Raises:
        ValueError: if two runs are the same run, seed included: they would make a standard error of nothing.
    """
    kinds: dict[tuple[str, ...], list[KeptRun]] = {}
    for run in runs:
        kinds.setdefault(apart_from_seed(run.summary), []).append(run)
    for members in kinds.values():
        seeds = [run.summary["seed"] for run in members]
        for i, seed in enumerate(seeds):
            if seed in seeds[:i]:
                raise ValueError(
                    f"{members[seeds.index(seed)].name} and {members[i].name} are the same run twice (seed {seed}): leave one out."
                )
    differing = [name for i, name in enumerate(SETTINGS) if len({kind[i] for kind in kinds}) > 1]
    names = [_name(members[0].summary, differing) for members in kinds.values()]
    if "barrier_settings" in differing:
        # They mostly say all that tells the barriers apart; barriers of one's own may have the same ones.
        for left_out in ({"barrier", "barrier_fingerprint"}, {"barrier"}):
            said = [name for name in differing if name not in left_out]
            shorter = [_name(members[0].summary, said) for members in kinds.values()]
            if len({*shorter}) == len(shorter):
                names = shorter
                break
    return [
        Group(name, tuple(members), {key: _mean(map(read, members)) for key, read in _NUMBERS.items()})
        for name, members in zip(names, kinds.values())
    ]


def _name(summary: dict[str, Any], settings: Sequence[str]) -> str:
    """What a group is called: what it has of these settings, and how it ended if that was not the end of its steps."""
    said = [_said(name, summary[name]) for name in settings if summary.get(name) is not None]
    said = said or [str(summary["task"]), str(summary.get("barrier_settings") or summary["barrier"])]
    return ", ".join([*said, *filter(None, [ending(summary)])])


def _said(setting: str, value: Any) -> str:
    if setting == "barrier_fingerprint":  # barriers of one kind with other numbers
        return f"barrier {value[:8]}"
    return str(value) if setting in ("task", "barrier", "barrier_settings") else f"{setting.replace('_', ' ')} {value}"


def _mean(values: Any) -> tuple[float | None, float | None]:
    found = list(values)
    # A mean over those that have the number would be one of other runs than the line says.
    if not found or any(x is None or not math.isfinite(x) for x in found):
        return None, None
    error = float(np.std(found, ddof=1) / math.sqrt(len(found))) if len(found) > 1 else None
    return float(np.mean(found)), error


def comparison_page(groups: Sequence[Group]) -> str:
    """The page of several runs.

    Args:
        groups: of `grouped`.

    Returns:
        HTML in one file.
    """
    header = ["settings", "runs", *_NUMBERS]
    rows = [[group.name, str(len(group.runs)), *(group.cell(name) for name in _NUMBERS)] for group in groups]
    warned = [run for group in groups for run in group.runs if run.summary.get("warnings")]
    unfinished = [run for group in groups for run in group.runs if ending(run.summary)]
    notes = "".join(
        f"<p class=warning>{text(words)}: {text(', '.join(run.name for run in found))}.</p>"
        for words, found in (("A warning stands in", warned), ("Ended before all steps were taken", unfinished))
        if found
    )
    verdicts = [[run.name, str(run.summary.get("verdict", "–"))] for group in groups for run in group.runs]
    said = "".join(f"<li><b>{text(name)}</b>: {text(words)}</li>" for name, words in verdicts)
    return page(
        "limjax: runs side by side",
        f"<h1>{sum(len(group.runs) for group in groups)} runs side by side</h1>\n"
        "<p>Runs that differ in the seed alone are one line: mean ± standard error. Runs that were stopped before their end stand apart.</p>\n"
        f"{table(header, rows)}{notes}\n<h2>Heat over the steps</h2>\n{plot('runs', _views(groups))}\n"
        f"<h2>Verdicts</h2>\n<ul>{said}</ul>",
    )


def _views(groups: Sequence[Group]) -> dict[str, Any]:
    columns = {
        "heat": ("heat_kt_per_parameter", "heat [kT per parameter]", "kT per parameter"),
        "loss": ("loss", "training loss", ""),
        "barrier": ("barrier_kt", "mean barrier [kT]", "kT"),
    }
    return {
        word: {"series": [_mean_series(group, name) for group in groups], "x": "step", "y": label, "unit": unit}
        for word, (name, label, unit) in columns.items()
    }


def _mean_series(group: Group, name: str) -> dict[str, Any]:
    """The mean over the runs at the steps that all of them have."""
    common = set.intersection(*({row.step for row in run.history} for run in group.runs))
    steps = sorted(common)
    values = [[getattr(row, name) for row in run.history if row.step in common] for run in group.runs]
    mean = np.mean(values, axis=0) if steps else []
    return {"name": group.name, "x": steps, "y": finite(mean)}
