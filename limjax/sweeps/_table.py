"""A comparison as a table."""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from limjax.sweeps._compare import Compared, CompareResult

_NOTHING = 1e-9
"""Work of a barrier that stands still is what rounding leaves of it [kT]."""


def compare_text(result: "CompareResult") -> str:
    """What `print` shows of a comparison, without colours."""
    buffer = io.StringIO()
    Console(file=buffer, width=100, color_system=None).print(compare_table(result))
    return buffer.getvalue().rstrip()


def compare_table(result: "CompareResult", of_loss: bool = False) -> Table:
    """One line per barrier; what is lost against plain training is paired by seed. `of_loss` shows the loss also where there is an accuracy."""
    s = result.settings
    table = Table(
        title=f"{s['task']}, {s['steps']} steps, hops {s['hops']}, {len(s['seeds'])} seeds: mean ± standard error",
        title_justify="left",
    )
    table.add_column("barrier", overflow="fold")
    # Only NaN differs from itself.
    has_accuracy = not of_loss and any(
        row.mean("test_accuracy")[0] == row.mean("test_accuracy")[0] for row in result.rows
    )
    columns = ["test\naccuracy", "points\nlost"] if has_accuracy else ["test\nloss", "above\nplain %"]
    for column in (*columns, "heat\nkT/parameter", "work\nkT/parameter"):
        table.add_column(column, justify="right", no_wrap=True)
    for label, row in zip(result.labels, result.rows):
        is_plain = row is result.plain
        if has_accuracy:
            cells = [_pair(row.mean("test_accuracy"), 4), "" if is_plain else _pair(result.lost(row), 2)]
        else:
            cells = [_pair(row.mean("test_loss")), "" if is_plain else _pair(_percent_above(result, row), 1)]
        energies = (row.mean(name) for name in ("heat_kt_per_parameter", "actuation_kt_per_parameter"))
        # As Text: rich would read the brackets of an array in a barrier's name as markup.
        table.add_row(Text(label), *cells, *map(_pair, energies))
    return table


def excess_lines(result: "CompareResult", targets: Sequence[float]) -> list[str]:
    """Heat and work with which the barriers of each name come so close to plain training's loss.

    Args:
        result: a comparison with plain training.
        targets: excesses of the test loss, as shares.

    Returns:
        One line for each, of all names.

    Raises:
        ValueError: as `CompareResult.energy_at`.
    """
    rows = [row for row in result.rows if row is not result.plain]
    forms = dict.fromkeys(row.barrier.partition(":")[0] for row in rows)
    lines = []
    for target in targets:
        told = []
        for form in forms:
            energy, error = result.energy_at([row for row in rows if row.barrier.partition(":")[0] == form], target)
            words = "not reached" if energy != energy else f"{_pair((energy, error))} kT/parameter"
            told.append(f"{form} {words}")
        lines.append(f"Heat and work for a loss {100 * target:g} % above plain training's: {'; '.join(told)}.")
    return lines


def _percent_above(result: "CompareResult", row: "Compared") -> tuple[float, float]:
    try:
        percent = 100 * result.excess(row)
    except ValueError:  # no plain training, or a loss that no share can be taken of
        return math.nan, math.nan
    return float(percent.mean()), float(percent.std(ddof=1) / np.sqrt(percent.size)) if percent.size > 1 else math.nan


def _pair(values: tuple[float, float], places: int | None = None) -> str:
    mean, error = values
    if mean != mean:
        return "–"
    if places is None and abs(mean) < _NOTHING:
        return "0"
    form, error_form = (".3g", ".2g") if places is None else (f".{places}f",) * 2
    return f"{mean:{form}} ± {'–' if error != error else format(error, error_form)}"
