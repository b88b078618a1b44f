"""Pieces of a page."""

import html
import importlib.resources
import json
from collections.abc import Iterable, Sequence
from typing import Any

from limjax._files import without_nan


def text(value: Any) -> str:
    """Anything as text of a page."""
    return html.escape(str(value))


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, last_is_total: bool = False, words: bool = False
) -> str:
    """A table whose first column are names and whose others are numbers; wider than the window it scrolls by itself.

    Args:
        header: of each column, as text.
        rows: cells as text.
        last_is_total: whether the last row is a sum of the others.
        words: whether the last column is one of words.

    Returns:
        The markup.
    """
    kinds = [""] * (len(header) - 1) + [" class=words" if words else ""]
    head = "".join(f"<th scope=col{kind}>{text(name)}</th>" for kind, name in zip(kinds, header, strict=True))
    lines = [
        f"<th scope=row>{text(row[0])}</th>"
        + "".join(f"<td{kind}>{text(cell)}</td>" for kind, cell in zip(kinds[1:], row[1:], strict=True))
        for row in rows
    ]
    marked = [
        f"<tr{' class=total' if last_is_total and i == len(lines) - 1 else ''}>{line}</tr>"
        for i, line in enumerate(lines)
    ]
    return f"<div class=wide><table class=numbers><thead><tr>{head}</tr></thead><tbody>{''.join(marked)}</tbody></table></div>"


def plot(name: str, views: dict[str, Any]) -> str:
    """A plot that answers the pointer, drawn by `plot.js` from these numbers.

    Args:
        name: of the plot in its page.
        views: by the word on its button: `{"series": [{"name", "x", "y", "dashed"?}], "x": label, "y": label, "unit": text}`; the first may
            ask for a logarithmic axis at the start, `"log": True`.

    Returns:
        The markup; without JavaScript it says where the numbers are.
    """
    # No "</script>" can stand in the data.
    data = json.dumps(without_nan(views), allow_nan=False).replace("<", "\\u003c")
    return (
        f'<div class=plot id="{text(name)}"><noscript>Without JavaScript: the numbers are in history.csv and layers.csv.</noscript>'
        f'<script type="application/json">{data}</script></div>'
    )


def page(title: str, body: str) -> str:
    """A whole page.

    Args:
        title: of the window.
        body: its content.

    Returns:
        HTML that asks nothing of a network.
    """
    style, script = (_file(name) for name in ("style.css", "plot.js"))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)}</title><style>
{style}</style></head><body>
{body}
<script>
{script}</script>
</body></html>
"""


def _file(name: str) -> str:
    return importlib.resources.files("limjax._page").joinpath(name).read_text(encoding="utf-8")
