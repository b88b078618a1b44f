"""`limjax continual`."""

import dataclasses
import json as json_text
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from limjax import runs
from limjax.cli import options
from limjax.cli.console import EXIT_CODES, Lines, drawn, shown
from limjax.cli.places import kept_folder
from limjax.consolidation import Comparison, ContinualSettings, best_memory, compare_methods
from limjax.consolidation._run import CONTINUAL_FILE


@dataclasses.dataclass(frozen=True)
class Training:
    """How each of the tasks is trained."""

    steps: Annotated[int, typer.Option(help="Optimizer steps of each task.")] = 400
    batch_size: Annotated[int, typer.Option(help="Examples per step.")] = 64
    learning_rate: Annotated[float, typer.Option(help="Learning rate of Adam.")] = 1e-3
    width: Annotated[int, typer.Option(help="Units of each of the two hidden layers.")] = 64
    plastic: Annotated[float, typer.Option(help="Barrier of a cell that nothing consolidated [kT].")] = 16.0
    max_affinity: Annotated[float, typer.Option(help="Largest affinity of the cells' driver [kT].")] = 6.0
    hops: options.Hops = "exact"


def continual(
    *,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="How not to forget, once or several times: fine-tune, joint, ewc, online-ewc, si, replay or barrier, with numbers after "
            "a colon (ewc:strength=100, barrier:lyapunov:strength=20,budget=0.1). Default fine-tune, ewc, si, barrier and joint."
        ),
    ] = None,
    tasks: Annotated[str, typer.Option(help="split-digits, permuted-digits or rotated-digits.")] = "split-digits",
    scenario: Annotated[str, typer.Option(help="What is known of the task: task, domain or class.")] = "task",
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 3,
    training: Training,
    out: Annotated[
        str | None, typer.Option(help="Folder to write to; what is trained there goes on. Default under runs/.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print continual.json to stdout, progress to stderr.")] = False,
    figures: options.Figures = True,
) -> None:
    """Learn tasks one after the other, and compare ways not to forget by accuracy and energy."""
    console = Console(stderr=json, markup=False)
    settings = ContinualSettings(tasks=tasks, scenario=scenario, **vars(training))
    methods = method or ["fine-tune", "ewc:strength=100", "si:strength=1", "barrier:fisher:strength=20", "joint"]
    folder, is_new = kept_folder(out, CONTINUAL_FILE, "continual")
    with runs.held(folder, is_new=is_new):
        console.print(
            f"limjax continual: {tasks}, {scenario}-incremental, {len(methods)} methods, {seeds} seeds (Ctrl-C saves; the same --out goes on)"
        )
        comparison = compare_methods(settings, methods, seeds, folder, Lines(console).with_time)
    console.print(_table(comparison))
    console.print(
        f'Copies of {settings.copy_bits} bits to {best_memory().name}, joules at the device; "as LIM": heat of the same copies into learning-in-memory '
        "cells at full drive. Heat and barrier work are the model's, at 300 K.",
        highlight=False,
    )
    console.print(f"Outcome: {comparison.result}. {comparison.result.help}", highlight=False)
    files = [CONTINUAL_FILE]
    if figures and comparison.results:
        from limjax.plots.consolidation import save_figures

        files += drawn(lambda: save_figures(comparison, folder))
    console.print(f"Wrote {folder}/: {', '.join(files)} and a file for each training", highlight=False, soft_wrap=True)
    if json:
        print(json_text.dumps(comparison.to_json(), indent=2))
    raise typer.Exit(EXIT_CODES.get(comparison.result, 1))


def _table(comparison: Comparison) -> Table:
    """Means over the seeds of every method, with standard errors of the accuracy."""
    table = Table(title="Means over seeds", title_justify="left", padding=(0, 0), collapse_padding=True)
    table.add_column("method", overflow="fold")
    for name in (
        "final\naccuracy",
        "new",
        "backward\ntransfer",
        "heat\nkT/weight",
        "barrier\nwork J",
        "copies\nJ",
        "as LIM\nkT/weight",
        "kept/\nweight",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for row in comparison.rows:
        error = row["final_accuracy_error"]
        # What rounding leaves of a barrier that never moved is no work.
        work = row["actuation_joules"] if row["actuation_kt_per_parameter"] > 1e-9 else 0.0
        table.add_row(
            row["method"],
            f"{row['final_accuracy']:.3f}" + ("" if error is None else f" ± {error:.3f}"),
            f"{row['new_accuracy']:.3f}",
            f"{row['backward_transfer']:+.3f}",
            shown(row["heat_kt_per_parameter"]),
            f"{work:.2g}",
            f"{row['copy_joules']:.2g}",
            "" if row["copy_heat_kt_per_parameter"] is None else shown(row["copy_heat_kt_per_parameter"], 3),
            shown(row["kept_numbers_per_weight"], 3),
        )
    return table
