"""The limits as rows for a spreadsheet, and as a table for a paper."""

import csv
import io
import math
from typing import Any

from limjax.limits._stack import Limits
from limjax.limits._updates import get_update

COLUMNS: tuple[str, ...] = (
    "line", "approach", "scaling", "one_update_is_every", "flop", "updates", "joules", "joules_per_parameter",
    "assumptions", "source",
)  # fmt: skip


def rows_of(limits: Limits) -> list[dict[str, Any]]:
    """One row for each line and convention.

    Args:
        limits: from `energy_limits`.

    Returns:
        Rows by the names of `COLUMNS`. Lines that do not depend on what counts as an update are there once, with empty `scaling`,
        `one_update_is_every` and `updates`.
    """
    rows = []
    for k, stack in enumerate((limits.stack, *limits.others)):
        workload = stack.workload
        for entry in stack.entries:
            if k and not entry.per_update:
                continue
            convention = {
                "scaling": "given" if workload.optimum is None else workload.optimum.law.title,
                "one_update_is_every": workload.updates,
                "updates": workload.update_count,
            }
            rows.append(
                {
                    "line": entry.name,
                    "approach": entry.approach,
                    **(convention if entry.per_update else dict.fromkeys(convention, "")),
                    "flop": workload.total_flops if entry.per_update else "",
                    "joules": entry.joules,
                    "joules_per_parameter": entry.joules_per_parameter,
                    "assumptions": entry.assumptions,
                    "source": entry.source,
                }
            )
    return rows


def csv_text(limits: Limits) -> str:
    """The rows as comma-separated values with a header."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows_of(limits))
    return out.getvalue()


def latex_text(limits: Limits) -> str:
    """The lines as a `tabular` with a column per convention, for a document that loads booktabs."""
    stacks = (limits.stack, *limits.others)
    titles = ["given" if s.workload.optimum is None else s.workload.optimum.law.title for s in stacks]
    shorts = [get_update(s.workload.updates).short for s in stacks]
    lines = [
        f"% Energy of training {limits.stack.workload.parameters:g} parameters [J], by limjax limits",
        rf"\begin{{tabular}}{{l{'r' * len(stacks)}}}",
        r"\toprule",
        " & ".join(["tokens", *map(_words, titles)]) + r" \\",
        " & ".join(["one update is every", *map(_words, shorts)]) + r" \\",
        r"\midrule",
    ]
    for i, entry in enumerate(limits.stack.entries):
        # `lines_of` gives every stack the same lines in the same order: index i is the same line under each convention.
        cells = [_number(s.entries[i].joules) for s in stacks] if entry.per_update else [_number(entry.joules)]
        if not entry.per_update:
            cells = [rf"\multicolumn{{{len(stacks)}}}{{c}}{{{cells[0]}}}"]
        lines.append(" & ".join([_words(entry.name), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "--"
    if value == 0:
        return "$0$"
    mantissa, exponent = f"{value:.2e}".split("e")
    # As `joules_text`: from 999.5 on `.3g` rounds up to 1000 and writes 1e+03.
    return f"${value:.3g}$" if 0.01 <= value < 999.5 else rf"${mantissa}\times10^{{{int(exponent)}}}$"


def _words(text: str) -> str:
    # Before the replacements below, whose own $ and \ must stay.
    for sign in "&%_#$":
        text = text.replace(sign, "\\" + sign)
    return text.replace("½", r"$\frac{1}{2}$").replace("×", r"$\times$")
