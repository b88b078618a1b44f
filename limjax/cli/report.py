"""`limjax report`."""

import json as json_text
import pathlib
import sys
import warnings
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from limjax import runs
from limjax._files import local_path, write_text
from limjax._kept_run import KeptRun
from limjax._page import comparison_page, grouped
from limjax._page._comparison import Group


def report(
    folders: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders of runs.", show_default=False)],
    out: Annotated[
        str | None,
        typer.Option(
            help="Page to write where there are several runs; default comparison.html.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the means and errors to stdout.")] = False,
) -> None:
    """Write report.html of a run again, or put several runs side by side with standard errors over their seeds."""
    console = Console(stderr=json, markup=False)
    if len(folders) == 1 and out is not None:
        raise ValueError(f"--out {out} is for several runs: the page of one stands in its own folder. Leave it out.")
    paths = [local_path(folder, "RUN") for folder in folders]
    # All runs are read, and a run that is given twice is refused, before a page is written.
    groups = grouped([KeptRun.read(path) for path in paths])
    if len(paths) == 1:
        with warnings.catch_warnings(record=True) as left_out:
            warnings.simplefilter("always", RuntimeWarning)
            page = runs.rebuild_page(paths[0])
        for warning in left_out:
            if issubclass(warning.category, RuntimeWarning):  # others are a library's own, about how it draws
                print(f"limjax: {warning.message}", file=sys.stderr)
    else:
        page = local_path(out or "comparison.html", "--out")
        _check_free(page)
        write_text(page, comparison_page(groups))
        console.print(_table(groups))
    console.print(f"Wrote {page}", highlight=False, soft_wrap=True)
    if json:
        print(json_text.dumps([group.to_json() for group in groups], indent=2, allow_nan=False))


def _check_free(page: pathlib.Path) -> None:
    """Only a page is ever overwritten."""
    if page.suffix != ".html" or page.is_dir() or not page.parent.is_dir():
        raise ValueError(f"--out must be an .html file in a folder that exists, got {str(page)!r}.")


def _table(groups: list[Group]) -> Table:
    table = Table(title="Mean ± standard error over the seeds", title_justify="left")
    table.add_column("settings", overflow="fold", min_width=16)
    table.add_column("runs", justify="right", no_wrap=True)
    names = list(groups[0].numbers)
    shown = [name for name in names if any(group.numbers[name][0] is not None for group in groups)]
    if "test accuracy" in shown:
        shown.remove("test loss")
    for name in shown:
        words = name.replace("test ", "test\n").replace(" [kT/parameter]", "\nkT/par.")
        table.add_column(Text(words), justify="right", no_wrap=True)
    for group in groups:
        table.add_row(Text(group.name), str(len(group.runs)), *map(group.cell, shown))
    return table
