"""`limjax pareto`."""

import json as json_text
import os
import pathlib
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from limjax import runs
from limjax.barriers.specification import barrier_from_name
from limjax.cli.console import Lines, drawn, numbers, saved, say_lost
from limjax.files import local_path
from limjax.tasks import get_task
from limjax.training import RunSettings
from limjax.tuning import ParetoCode, ParetoResult, pareto_front
from limjax.tuning.saving import PARETO, pareto_summary, save_pareto


def pareto(
    task: Annotated[str, typer.Option(help="What to train.")] = "digits-mlp",
    barrier: Annotated[
        str | None,
        typer.Option(help="Where to start: a barrier with arguments, or a .json file. Default a spline of 16 knots."),
    ] = None,
    mode: Annotated[
        str, typer.Option(help="weights (weighted sums) or budget (least loss within an energy).")
    ] = "weights",
    points: Annotated[int, typer.Option(help="Number of points along the energy axis.")] = 8,
    energy: Annotated[
        str | None, typer.Option(help="Smallest and largest energy weight, or energy limit [kT], as `1e-4,3e-2`.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Time weights [loss per s] for a third objective, as `0.01,0.1,1`.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps; default the task's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per step; default the task's.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate; default the task's.")] = None,
    lsb: Annotated[float | None, typer.Option(help="One level, in weight units; default the task's.")] = None,
    step_time: Annotated[float, typer.Option(help="Duration of one step [s].")] = 1e-3,
    outer_steps: Annotated[int, typer.Option(help="Outer steps per point.")] = 30,
    outer_rate: Annotated[float, typer.Option(help="Their rate [kT].")] = 0.3,
    seeds: Annotated[int, typer.Option(help="Number of tuning seeds.")] = 4,
    held_out: Annotated[int, typer.Option(help="Number of seeds the result is judged on.")] = 8,
    tune_learning_rate: Annotated[
        bool, typer.Option("--tune-learning-rate", help="Tune the learning-rate schedule as well.")
    ] = False,
    hand_made: Annotated[
        bool, typer.Option("--hand-made/--no-hand-made", help="Evaluate a grid of hand-made barriers as well.")
    ] = True,
    out: Annotated[
        str | None, typer.Option(help="Folder to write to; an interrupted sweep there goes on. Default under runs/.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print pareto.json to stdout, progress to stderr.")] = False,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw the figure.")] = True,
) -> None:
    """Trade loss against energy (and time): a front of tuned barriers, beside every hand-made one."""
    console = Console(stderr=json, markup=False)
    chosen = get_task(task)
    settings = RunSettings.of(
        chosen, steps=steps, batch_size=batch_size, learning_rate=learning_rate, lsb=lsb, step_time=step_time
    )
    cell = settings.cell()
    if barrier is not None:  # a wrong name is said before a folder is made
        barrier_from_name(barrier, cell, settings.steps, settings.learning_rate)
    energies, times = _energies(energy, points, mode), [] if time is None else numbers(time, "--time")
    folder, is_new = _sweep_folder(out, f"pareto-{task}")
    lines = Lines(console)
    with runs.held(folder, is_new=is_new):
        console.print(f"limjax pareto: {task} (Ctrl-C keeps the finished points; the same --out goes on)")
        result = pareto_front(
            chosen,
            cell,
            barrier,
            mode=mode,  # pyright: ignore[reportArgumentType]  # checked there
            energy=energies,
            time=times,
            steps=settings.steps,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            outer_steps=outer_steps,
            outer_rate=outer_rate,
            seeds=seeds,
            held_out=held_out,
            tune_learning_rate=tune_learning_rate,
            hand_made=hand_made,
            folder=folder,
            on_progress=lambda done, count, point: lines.say(_line(done, count, point), always=True),
        )
        summary, files = pareto_summary(result), [PARETO, "pareto.npz"]
        problem = saved(lambda: save_pareto(result, folder), folder, files)
        if figures and result.points:
            from limjax.plots.tuning import save_pareto_figure

            files += drawn(lambda: save_pareto_figure(result, folder))
    console.print(_table(result))
    console.print(
        f"Hypervolume {result.hypervolume:.4g}. Outcome: {result.result}. {result.result.help}", highlight=False
    )
    if json:
        print(json_text.dumps(summary, indent=2))
    if problem is not None:
        unsaved = {} if (folder / PARETO).exists() else {PARETO: summary}
        raise typer.Exit(say_lost(console, folder, [problem], unsaved))
    console.print(f"Wrote {folder}/: {', '.join(files)}", highlight=False, soft_wrap=True)
    raise typer.Exit(0 if result.result is ParetoCode.completed else 130)


def _energies(text: str | None, points: int, mode: str) -> list[float]:
    """Points between the two ends given, in equal ratios."""
    if points < 1:
        raise ValueError(f"--points must be at least 1, got {points}.")
    low, high = (1e-4, 3e-2) if mode == "weights" else (30.0, 0.5)
    if text is not None:
        ends = numbers(text, "--energy")
        if len(ends) != 2:
            raise ValueError(f"--energy needs two numbers, smallest and largest, as 1e-4,3e-2; got {text!r}.")
        low, high = ends
    return np.geomspace(low, high, points).tolist()


def _line(done: int, count: int, point) -> str:
    return (
        f"point {done}/{count}: loss {point.loss:.4f} ± {point.loss_error:.4f}, {point.energy_kt:.4g} kT/parameter, "
        f"{point.seconds:.3g} s"
    )


def _table(result: ParetoResult) -> Table:
    table = Table(title="Front", title_justify="left")
    for name in ("loss", "± s.e.", "kT/parameter", "± s.e.", "seconds", "on the front"):
        table.add_column(name, justify="right")
    for p in result.points:
        values = (p.loss, p.loss_error, p.energy_kt, p.energy_error, p.seconds)
        table.add_row(*(f"{x:.4g}" for x in values), "yes" if p.is_front else "")
    return table


def _sweep_folder(out: str | None, default_name: str) -> tuple[pathlib.Path, bool]:
    """A new folder, or that of a sweep to go on with; and whether it is new."""
    if out is not None:
        folder = local_path(out, "--out")
        if folder.is_dir() and os.path.lexists(folder / "sweep.json"):
            for path in folder.iterdir():
                if path.is_symlink() or (path.suffix in (".json", ".npz") and not path.is_file()):
                    raise ValueError(
                        f"{path} is no file of a sweep: move it away, or choose a new folder. Nothing was overwritten."
                    )
            return folder, False
    return runs.new_folder(out, default_name), True
