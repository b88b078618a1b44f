"""A comparison as a table."""

import io
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from limjax.sweeps._compare import CompareResult

_NOTHING = 1e-9
"""Work of a barrier that stands still is what rounding leaves of it [kT]."""


def compare_text(result: "CompareResult") -> str:
    """What `print` shows of a comparison, without colours."""
    buffer = io.StringIO()
    Console(file=buffer, width=100, color_system=None).print(compare_table(result))
    return buffer.getvalue().rstrip()


def compare_table(result: "CompareResult") -> Table:
    """One line per barrier; the points lost are paired by seed with plain training."""
    s = result.settings
    table = Table(
        title=f"{s['task']}, {s['steps']} steps, hops {s['hops']}, {len(s['seeds'])} seeds: mean ± standard error",
        title_justify="left",
    )
    table.add_column("barrier", overflow="fold")
    # Only NaN differs from itself.
    has_accuracy = any(row.mean("test_accuracy")[0] == row.mean("test_accuracy")[0] for row in result.rows)
    columns = ["test\naccuracy", "points\nlost"] if has_accuracy else ["test loss"]
    for column in (*columns, "heat\nkT/parameter", "work\nkT/parameter"):
        table.add_column(column, justify="right", no_wrap=True)
    for label, row in zip(result.labels, result.rows):
        is_plain = row is result.plain
        reached = [_pair(row.mean("test_accuracy"), 4), "" if is_plain else _pair(result.lost(row), 2)]
        cells = reached if has_accuracy else [_pair(row.mean("test_loss"))]
        energies = (row.mean(name) for name in ("heat_kt_per_parameter", "actuation_kt_per_parameter"))
        # As Text: rich would read the brackets of an array in a barrier's name as markup.
        table.add_row(Text(label), *cells, *map(_pair, energies))
    return table


def _pair(values: tuple[float, float], places: int | None = None) -> str:
    mean, error = values
    if mean != mean:
        return "–"
    if places is None and abs(mean) < _NOTHING:
        return "0"
    form, error_form = (".3g", ".2g") if places is None else (f".{places}f",) * 2
    return f"{mean:{form}} ± {'–' if error != error else format(error, error_form)}"
