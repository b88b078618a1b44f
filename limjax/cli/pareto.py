"""`limjax pareto`."""

import dataclasses
import json as json_text
import math
import pathlib
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from limjax import runs
from limjax.cli import options
from limjax.cli.console import Lines, drawn, ended, numbers, saved, shown
from limjax.cli.places import kept_folder
from limjax.numerics._result_code import ResultCode
from limjax.tasks import get_task
from limjax.training import RunSettings
from limjax.tuning import ParetoPoint, ParetoResult, Progress, Search, Tradeoff, pareto_front
from limjax.tuning._pareto_points import NUMBERS
from limjax.tuning._pareto_sweep import hand_made_on_front
from limjax.tuning._result_files import PARETO, is_finished, pareto_summary, save_pareto
from limjax.tuning._search import problem_of, starting_barrier


@dataclasses.dataclass(frozen=True)
class SearchPerPoint(options.TuningSearch):
    """How the barrier of one point is looked for; it begins with that of the point before."""

    outer_steps: Annotated[int, typer.Option(help="Outer steps per point.")] = 30


def pareto(
    *,
    task: options.TaskName = "digits-mlp",
    barrier: options.Start = None,
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
    training: options.TunedRuns,
    outer: SearchPerPoint,
    hand_made: options.GridOfHandMade = True,
    out: Annotated[
        str | None, typer.Option(help="Folder to write to; an interrupted sweep there goes on. Default under runs/.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print pareto.json to stdout, progress to stderr.")] = False,
    figures: options.Figures = True,
) -> None:
    """Trade loss against energy (and time): a front of tuned barriers, beside every hand-made one."""
    console = Console(stderr=json, markup=False)
    settings = RunSettings.of(get_task(task), **vars(training))
    tradeoff = Tradeoff(mode, _energies(energy, points, mode), [] if time is None else numbers(time, "--time"))
    search = Search(tune_step_time=time is not None, **vars(outer))
    start = starting_barrier(
        barrier, problem_of(settings, None, search, {})
    )  # a wrong name is said before a folder is made
    folder, is_new = kept_folder(out, "sweep.json", f"pareto-{task}")
    if not is_new:
        _check_kinds(folder)
    lines = Lines(console)
    with runs.held(folder, is_new=is_new):
        console.print(f"limjax pareto: {task} (Ctrl-C keeps the finished points; the same --out goes on)")
        result = pareto_front(
            settings,
            tradeoff,
            search,
            barrier=start,
            hand_made=hand_made,
            folder=folder,
            on_progress=lambda done, count, point: lines.say(_line(done, count, point), always=True),
            progress=Progress(lines.with_time),
        )
        summary, files, problem = pareto_summary(result), [], None
        # A sweep that was interrupted does not take the place of a front that was completed.
        if result.result is ResultCode.completed or not is_finished(folder):
            files = [PARETO, "pareto.npz"]
            problem = saved(lambda: save_pareto(result, folder), folder, files)
        else:
            console.print(f"The finished front in {folder} stays as it was.", highlight=False, soft_wrap=True)
        if figures and result.points and files:
            from limjax.plots.tuning import save_pareto_figure

            files += drawn(lambda: save_pareto_figure(result, folder))
    console.print(_table(result))
    console.print(
        f"Hypervolume {result.hypervolume:.4g}. Outcome: {result.result}. {result.result.help}", highlight=False
    )
    if json:
        print(json_text.dumps(summary, indent=2))
    code = 0 if result.result is ResultCode.completed else 130
    raise ended(console, folder, files, problem, {PARETO: summary}, code)


def _energies(text: str | None, points: int, mode: str) -> list[float]:
    """Points between the two ends given, in equal ratios."""
    if points < 1:
        raise ValueError(f"--points must be at least 1, got {points}.")
    # From the loose end to the tight one: each point starts from the design of the one before.
    low, high = (1e-4, 3e-2) if mode == "weights" else (30.0, 0.5)
    if text is not None:
        ends = numbers(text, "--energy")
        if len(ends) != 2:
            raise ValueError(f"--energy needs two numbers, smallest and largest, as 1e-4,3e-2; got {text!r}.")
        low, high = sorted(ends, reverse=mode == "budget")
    return np.geomspace(low, high, points).tolist()


def _line(done: int, count: int, point: ParetoPoint) -> str:
    error = f" ± {point.test_loss_error:.4f}" if math.isfinite(point.test_loss_error) else ""
    return (
        f"point {done}/{count}: loss {point.test_loss:.4f}{error}, "
        f"{point.energy_kt_per_parameter:.4g} kT/parameter, {point.seconds:.3g} s"
    )


def _table(result: ParetoResult) -> Table:
    """The points, equal ones once, and the hand-made barriers that no point beats."""
    table = Table(title="Front", title_justify="left")
    for name in ("loss", "± s.e.", "kT/parameter", "± s.e.", "seconds", "on the front"):
        table.add_column(name, justify="right")
    rows = [tuple(getattr(p, name) for name in NUMBERS) for p in result.points]
    for i, (row, p) in enumerate(zip(rows, result.points)):
        if row not in rows[:i]:
            table.add_row(*map(shown, row), "yes" if p.is_front else "")
    for policy, is_front in zip(result.hand_made, hand_made_on_front(result)):
        e = policy.evaluation
        if is_front:
            row = (e.mean_loss, e.loss_error, e.energy_kt_per_parameter, e.energy_kt_per_parameter_error, e.seconds)
            table.add_row(*map(shown, row), Text(f"{policy.family}, {policy.setting}"))
    return table


def _check_kinds(folder: pathlib.Path) -> None:
    """Refuses the folder of a sweep to go on with in which something else stands where its files belong."""
    for path in folder.iterdir():
        if path.is_symlink() or (path.suffix in (".json", ".npz") and not path.is_file()):
            raise ValueError(
                f"{path} is no file of a sweep: move it away, or choose a new folder. Nothing was overwritten."
            )
