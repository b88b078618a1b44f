"""`limjax scale`."""

import json as json_text
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from limjax import runs
from limjax.cli import options
from limjax.cli.console import EXIT_CODES, Lines, drawn, numbers, shown
from limjax.cli.places import kept_folder
from limjax.limits._measured import SCALING_FILE
from limjax.scaling import ScaleResult, ScaleSettings, measure_growth
from limjax.tuning import Progress


def scale(
    sizes: Annotated[str, typer.Option(help="Numbers of parameters, with commas between them.")] = "1e4,3e4,1e5",
    tokens_per_parameter: Annotated[float, typer.Option(help="Bytes of text seen for each parameter.")] = 20.0,
    seeds: Annotated[int, typer.Option(help="Number of seeds of each size.")] = 3,
    barrier: Annotated[str | None, typer.Option(help="Barrier, with arguments; default moment.")] = None,
    hops: options.Hops = "exact",
    lsb: options.LsbOrBits = None,
    bits: options.Bits = None,
    batch_size: options.BatchSize = None,
    learning_rate: options.LearningRate = None,
    out: Annotated[
        str | None, typer.Option(help="Folder to write to; what is measured there goes on. Default under runs/.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print scaling.json to stdout, progress to stderr.")] = False,
    figures: options.Figures = True,
) -> None:
    """Measure how heat and effective updates grow with the size of a language model."""
    console = Console(stderr=json, markup=False)
    settings = ScaleSettings(
        sizes=tuple(numbers(sizes, "--sizes")),
        seeds=seeds,
        tokens_per_parameter=tokens_per_parameter,
        barrier=barrier,
        hops=hops,
        lsb=lsb,
        bits=bits,
        batch_size=batch_size,
        learning_rate=learning_rate,
    )
    folder, is_new = kept_folder(out, SCALING_FILE, "scale")
    with runs.held(folder, is_new=is_new):
        console.print(f"limjax scale: {settings.runs} trainings (Ctrl-C saves; the same --out goes on)")
        result = measure_growth(settings, folder, Progress(Lines(console).with_time))
    console.print(_table(result))
    content = result.to_json()
    console.print(_said(content), highlight=False)
    console.print(f"Outcome: {result.result}. {result.result.help}", highlight=False)
    files = [SCALING_FILE]
    if figures and len({run.parameters for run in result.runs}) > 1:
        from limjax.plots.scaling import save_growth_figure

        files += drawn(lambda: [save_growth_figure(result.runs, folder)])
    console.print(f"Wrote {folder}/: {', '.join(files)} and the folders of the runs", highlight=False, soft_wrap=True)
    if json:
        print(json_text.dumps(content, indent=2))
    raise typer.Exit(EXIT_CODES.get(result.result, 1))


def _table(result: ScaleResult) -> Table:
    """Means over the seeds of every size."""
    table = Table(title="Per parameter, means over seeds", title_justify="left")
    names = (
        "size",
        "seeds",
        "loss",
        "loss\nplain",
        "heat\nkT",
        "work\nkT",
        "effective\nupdates",
        "law\nkT",
        "heat\n/ law",
    )
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for size in sorted({run.parameters for run in result.runs}):
        here = [run for run in result.runs if run.parameters == size]

        def mean(name: str, here=here) -> float:
            return float(np.mean([getattr(run, name) for run in here]))

        energies = ("heat_kt_per_parameter", "actuation_kt_per_parameter")
        columns = ("loss", "plain_loss", *energies, "effective_updates", "law_kt_per_parameter")
        ratio = mean("heat_kt_per_parameter") / mean("law_kt_per_parameter")
        table.add_row(f"{size:,}", str(len(here)), *(shown(mean(name)) for name in columns), shown(ratio))
    return table


def _said(content: dict) -> str:
    """The powers with their intervals, and how well the largest size was foretold."""
    lines = []
    for name, fit in content["fits"].items():
        if "reason" in fit:
            lines.append(f"{name}: no power law. {fit['reason']}")
            continue
        power, low, high = fit["exponents"]["parameters"]
        sure = f"{100 * fit['confidence']:.0f} %"
        words = f"{name.removesuffix('_per_parameter')} per parameter"
        line = f"{words} grows as N^{power:.3f} ({low:.3f} to {high:.3f} at {sure})"
        check = content["leave_largest_out"][name]
        if "reason" not in check:
            within = "within" if check["is_within"] else "outside"
            line += f"; the largest size from the others: {100 * check['error']:+.1f} %, {within} the band"
        lines.append(line)
    return "\n".join(lines)
