"""A comparison as a table."""

import dataclasses
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from limjax.barriers._registry import BARRIERS

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
    above = [] if has_accuracy else [_percent_above(result, row) for row in result.rows]
    has_share = any(mean == mean for mean, _ in above)
    columns = ["test\naccuracy", "points\nlost"] if has_accuracy else ["test loss", *["above\nplain %"] * has_share]
    for column in (*columns, "heat\nkT/parameter", "work\nkT/parameter"):
        table.add_column(column, justify="right", no_wrap=True)
    for i, (label, row) in enumerate(zip(result.labels, result.rows)):
        is_plain = row is result.plain
        if has_accuracy:
            cells = [_pair(row.mean("test_accuracy"), 4), "" if is_plain else _pair(result.lost(row), 2)]
        else:
            cells = [_pair(row.mean("test_loss")), *["" if is_plain else _pair(above[i], 1)] * has_share]
        energies = (row.mean(name) for name in ("heat_kt_per_parameter", "actuation_kt_per_parameter"))
        # As Text: rich would read the brackets of an array in a barrier's name as markup.
        table.add_row(Text(label), *cells, *map(_pair, energies))
    return table


class AtExcess(NamedTuple):
    """What barriers of one form cost at an excess of the loss.

    Attributes:
        form: their name, with the arguments that they share.
        barriers: the barriers.
        excess: of the test loss over plain training's, as a share.
        energy_kt_per_parameter: heat and barrier work [kT], NaN where none comes so close.
        energy_kt_per_parameter_error: its standard error [kT], NaN for one seed.
        is_bound: whether the cheapest comes so close already, so that less may do.
    """

    form: str
    barriers: list[str]
    excess: float
    energy_kt_per_parameter: float
    energy_kt_per_parameter_error: float
    is_bound: bool

    def __str__(self) -> str:
        if self.energy_kt_per_parameter != self.energy_kt_per_parameter:
            return f"{self.form} not reached"
        most = "at most " if self.is_bound else ""
        return f"{self.form} {most}{_pair((self.energy_kt_per_parameter, self.energy_kt_per_parameter_error))} kT/parameter"


def energies_at(result: "CompareResult", targets: Sequence[float]) -> list[AtExcess]:
    """What it costs to come so close to plain training's loss, for barriers that differ in the level of the exchange alone.

    Args:
        result: a comparison with plain training.
        targets: excesses of the test loss, as shares.

    Returns:
        One for each excess and form.

    Raises:
        ValueError: as `CompareResult.energy_at`.
    """
    forms: dict[str, list[Compared]] = {}
    for row in result.rows:
        if row is not result.plain:
            forms.setdefault(_form(row.barrier), []).append(row)
    loudest = {form: _excess_of_cheapest(result, rows) for form, rows in forms.items()}
    return [
        AtExcess(form, [row.barrier for row in rows], target, *result.energy_at(rows, target), loudest[form] <= target)
        for target in targets
        for form, rows in forms.items()
    ]


def _excess_of_cheapest(result: "CompareResult", rows: Sequence["Compared"]) -> float:
    """The mean excess of the cheapest of the rows that count, those whose numbers are finite; infinite if none does."""
    means = [(row.mean("energy_kt_per_parameter")[0], float(result.excess(row).mean())) for row in rows]
    return min((pair for pair in means if all(map(math.isfinite, pair))), default=(math.nan, math.inf))[1]


def _form(barrier: str) -> str:
    """A barrier's name with its arguments but for the one that sets how much exchange there is."""
    name, _, rest = barrier.partition(":")
    if barrier.endswith(".json") or name not in BARRIERS or (level := BARRIERS[name].level) is None:
        return barrier
    others = [item for item in rest.split(",") if item and item.partition("=")[0] != level[0]]
    return name + (f":{','.join(others)}" if others else "")


def _percent_above(result: "CompareResult", row: "Compared") -> tuple[float, float]:
    """By how many percent a row's loss is above plain training's, NaN where there is no such share."""
    try:
        percent = 100 * result.excess(row)
    except ValueError:  # no plain training, or a loss that no share can be taken of
        return math.nan, math.nan
    # `mean` averages an attribute, so the percents take the place of one.
    return dataclasses.replace(row, test_loss=percent).mean("test_loss")


def _pair(values: tuple[float, float], places: int | None = None) -> str:
    mean, error = values
    if mean != mean:
        return "–"
    if places is None and abs(mean) < _NOTHING:
        return "0"
    form, error_form = (".3g", ".2g") if places is None else (f".{places}f",) * 2
    return f"{mean:{form}} ± {'–' if error != error else format(error, error_form)}"
