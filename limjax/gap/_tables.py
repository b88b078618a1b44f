"""The gap as text: a table for a terminal, CSV, LaTeX and HTML. One column of joules for every run."""

import csv
import html
import io
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from limjax.gap._gap import Gap, grouped
from limjax.gap._lines import GROUPS, Line
from limjax.limits._tables import joules_text

# Names, kinds and sources of a table, and one column of energies.
_OTHER_COLUMNS, _ENERGY_COLUMN = 52, 9
_COLUMNS = ("run", "key", "group", "name", "joules", "low", "high", "kind", "source", "note")


def gap_text(gaps: Sequence[Gap], width: int) -> str:
    """What `limjax gap` prints.

    Args:
        gaps: one for each run.
        width: columns, at least 60.

    Returns:
        Text without colours.
    """
    buffer = io.StringIO()
    console = Console(file=buffer, width=max(width, 60), color_system=None, highlight=False, emoji=False, markup=False)
    sources = _sources(gaps)
    for i, gap in enumerate(gaps):
        number = f" [{i + 1}]" if len(gaps) > 1 else ""
        console.print(
            f"{gap.run.name}{number}: {gap.run.parameters:,} parameters, {gap.run.steps:,} steps, {gap.run.temperature:g} K"
        )
    console.print()
    # Runs that do not fit beside each other get a table below; sources keep their numbers throughout.
    at_once = max(1, (console.width - _OTHER_COLUMNS) // _ENERGY_COLUMN)
    for begin in range(0, len(gaps), at_once):
        console.print(_table(gaps, sources, range(begin, min(begin + at_once, len(gaps)))))
    console.print("Energies of different kinds stand beside each other and are never added.\n")
    for i, source in enumerate(sources):
        console.print(f"({i + 1}) {source}")
    for said in _caveats(gaps):
        console.print(f"\n{said}", end="")
    console.print()
    for gap in gaps:
        console.print()
        head = f"{gap.run.name}. " if len(gaps) > 1 else ""
        console.print(f"{head}Counted: {'. '.join(gap.conventions)}.")
        if gap.missing:
            console.print(f"Not there: {'; '.join(gap.missing)}.")
    for gap in gaps:
        console.print()
        console.print((f"{gap.run.name}. " if len(gaps) > 1 else "") + " ".join(gap.words))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def gap_csv(gaps: Sequence[Gap]) -> str:
    """The lines as CSV, energies in joules.

    Args:
        gaps: one for each run.

    Returns:
        Text with a header.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([f"{name}_joules" if name in ("low", "high") else name for name in _COLUMNS])
    for gap in gaps:
        for line in gap.lines:
            writer.writerow([gap.run.name, *(getattr(line, name) for name in _COLUMNS[1:])])
    return buffer.getvalue()


def gap_latex(gaps: Sequence[Gap]) -> str:
    """The lines as a LaTeX table with booktabs' rules; sources stand below it as comments.

    Args:
        gaps: one for each run.

    Returns:
        A `tabular` environment.
    """
    sources = _sources(gaps)
    heads = ["J"] if len(gaps) == 1 else [_tex(gap.run.name) + " [J]" for gap in gaps]
    interval = ["interval [J]"] if len(gaps) == 1 else []
    rows = [f"\\begin{{tabular}}{{l{'r' * (len(heads) + len(interval))}lr}}", "\\toprule"]
    rows += [" & ".join(["", *heads, *interval, "kind", "source"]) + r" \\", "\\midrule"]
    for group, keys in grouped(gaps).items():
        rows.append(f"\\multicolumn{{{len(heads) + len(interval) + 3}}}{{l}}{{\\emph{{{_tex(GROUPS[group])}}}}} \\\\")
        for key in keys:
            found = [_find(gap, key) for gap in gaps]
            line = next(line for line in found if line is not None)
            values = [_power(line.joules) if line is not None else "--" for line in found]
            ends = [
                f"{_power(line.low)} to {_power(line.high)}" if line.low is not None and line.high is not None else ""
            ]
            kinds, numbers = _whence(found, sources)
            cells = [_tex(line.name), *values, *(ends if interval else []), ", ".join(kinds), ", ".join(numbers)]
            rows.append(" & ".join(cells) + r" \\")
    rows += ["\\bottomrule", "\\end{tabular}"]
    rows += [f"% {number} {source}" for source, number in sources.items()]
    rows += [f"% {said}" for said in _caveats(gaps)]
    return "\n".join(rows) + "\n"


def gap_html(gap: Gap) -> str:
    """The lines of one run as a table of a page.

    Args:
        gap: of the run.

    Returns:
        HTML, a table and a paragraph.
    """
    rows = []
    for group, keys in grouped([gap]).items():
        rows.append(f'<tr><th colspan="5">{html.escape(GROUPS[group])}</th></tr>')
        for key in keys:
            line = gap.line(key)
            cells = (line.name, f"{joules_text(line.joules)} J", _interval(line), line.kind, line.source)
            rows.append(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>")
    missing = f" Not there: {'; '.join(gap.missing)}." if gap.missing else ""
    counted = f"Counted: {'. '.join(gap.conventions)}.{missing}"
    return f"""<table class="gap">
<tr><th></th><th>energy</th><th>interval [J]</th><th>kind</th><th>source</th></tr>
{chr(10).join(rows)}
</table>
<p>{html.escape(" ".join(gap.words))}</p>
<p>{html.escape(" ".join(_caveats([gap])))}</p>
<p>Energies of different kinds are never added. {html.escape(counted)}</p>"""


def _table(all_gaps: Sequence[Gap], sources: dict[str, int], places: range) -> Table:
    """The lines of some of the runs, which are numbered where there are several."""
    gaps = [all_gaps[i] for i in places]
    is_alone = len(all_gaps) == 1
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold")
    for i in places:
        table.add_column("J" if is_alone else f"[{i + 1}] J", justify="right", no_wrap=True)
    if is_alone:
        table.add_column("from", justify="right", no_wrap=True)
        table.add_column("to", justify="right", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("source", justify="right", no_wrap=True)
    for place, (group, keys) in enumerate(grouped(gaps).items()):
        if place:
            table.add_row()
        table.add_row(Text(GROUPS[group], style="bold"))
        for key in keys:
            found = [_find(gap, key) for gap in gaps]
            line = next(line for line in found if line is not None)
            values = ["-" if one is None else joules_text(one.joules) for one in found]
            ends = [_end(line.low), _end(line.high)] if is_alone else []
            kinds, numbers = _whence(found, sources)
            # Below each other, so that names keep their room.
            table.add_row(
                f"  {line.name}", *values, *ends, "\n".join(kinds), "\n".join(f"({number})" for number in numbers)
            )
    return table


def _find(gap: Gap, key: str) -> Line | None:
    return next((line for line in gap.lines if line.key == key), None)


def _whence(found: Sequence[Line | None], sources: dict[str, int]) -> tuple[list[str], list[str]]:
    """Kinds and numbers of the sources of one line in several runs, each once, in the order of the runs."""
    lines = [line for line in found if line is not None]
    return list(dict.fromkeys(line.kind for line in lines)), list(
        dict.fromkeys(str(sources[line.source]) for line in lines)
    )


def _caveats(gaps: Sequence[Gap]) -> list[str]:
    """What every bound is a bound of, a sentence each."""
    found = {
        line.name: line.note for gap in gaps for line in gap.lines if line.kind == "bound" and line.group == "limit"
    }
    return [f"Bound, {name}: {note}." for name, note in found.items() if note]


def _sources(gaps: Sequence[Gap]) -> dict[str, int]:
    keys = {key: None for keys in grouped(gaps).values() for key in keys}
    found = [line for key in keys for gap in gaps if (line := _find(gap, key)) is not None]
    return {source: i + 1 for i, source in enumerate(dict.fromkeys(line.source for line in found))}


def _end(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")


def _interval(line: Line) -> str:
    return "" if line.low is None else f"{_end(line.low)} to {_end(line.high)}"


def _power(value: float | None) -> str:
    if value is None:
        return "--"
    digits, power = f"{value:.2e}".split("e")
    return f"${digits}\\cdot 10^{{{int(power)}}}$"


def _tex(text: str) -> str:
    return "".join(
        f"\\{c}"
        if c in "&%$#_{}"
        else {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}.get(c, c)
        for c in text
    )
