"""`limjax tune`."""

import dataclasses
import json as json_text
from typing import Annotated, Any, Literal

import jax
import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from limjax import runs
from limjax.barriers._base import AbstractBarrier
from limjax.barriers._files import barrier_to_json
from limjax.barriers._spline import SplineBarrier
from limjax.cli import options
from limjax.cli.console import EXIT_CODES, Lines, drawn, ended, saved, shown
from limjax.numerics._result_code import ResultCode
from limjax.tasks import get_task
from limjax.training import RunSettings
from limjax.tuning import Objective, Problem, Progress, Search, Weights, evaluate_hand_made
from limjax.tuning import tune as tune_design
from limjax.tuning._held_out import hand_made_work
from limjax.tuning._result_files import BARRIER, TUNE, save_tune, tune_summary, verdict
from limjax.tuning._search import problem_of, starting_barrier


@dataclasses.dataclass(frozen=True)
class Goal:
    """What makes one barrier better than another."""

    energy_weight: Annotated[
        float, typer.Option(help="Loss units per kT of cost per parameter, where no limit is set.")
    ] = 3e-3
    time_weight: Annotated[float, typer.Option(help="Loss units per second; tunes the step time if above 0.")] = 0.0
    max_loss: Annotated[
        str | None,
        typer.Option(help="Least energy at this validation loss: a number, or `plain` for plain training's."),
    ] = None
    max_energy: Annotated[float | None, typer.Option(help="Least loss within this energy [kT per parameter].")] = None


@dataclasses.dataclass(frozen=True)
class RunsOfCells(options.TunedRuns):
    """The training runs, with what else is known of their cells."""

    attempt_rate: Annotated[float, typer.Option(help="Attempt rate k0 [1/s].")] = 1e9
    temperature: Annotated[float, typer.Option(help="Temperature of the cells [K].")] = 300.0


def tune(
    *,
    task: options.TaskName = "digits-mlp",
    barrier: options.Start = None,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="One spline per parameter array.")] = False,
    goal: Goal,
    training: RunsOfCells,
    outer: options.TuningSearch,
    gradient: Annotated[str, typer.Option(help="reverse, forward, truncated or evolution.")] = "reverse",
    hand_made: options.GridOfHandMade = True,
    out: options.NewFolder = None,
    json: Annotated[bool, typer.Option("--json", help="Print tune.json to stdout, progress to stderr.")] = False,
    figures: options.Figures = True,
) -> None:
    """Optimise the barrier by gradients through whole training runs."""
    console = Console(stderr=json, markup=False)
    settings = RunSettings.of(get_task(task), **vars(training))
    objective = Objective(Weights(goal.energy_weight, goal.time_weight), _max_loss(goal.max_loss), goal.max_energy)
    search = Search(gradient=gradient, tune_step_time=goal.time_weight > 0, **vars(outer))
    problem = problem_of(settings, None, search, {})
    start = _start(problem, barrier, per_layer)
    folder = runs.new_folder(out, f"tune-{task}")
    with runs.held(folder):
        console.print(
            f"limjax tune: {task}, {outer.outer_steps} outer steps (Ctrl-C keeps the last of them and saves at once)"
        )
        progress = Progress(Lines(console).with_time)
        if hand_made:
            progress.plan(*hand_made_work(problem, search.test_seeds.size))
        result = tune_design(settings, objective, search, barrier=start, problem=problem, progress=progress)
        files, policies = [TUNE, BARRIER, "tune.npz"], []
        # Before the hand-made barriers are evaluated, which takes long and may be stopped.
        lost = saved(lambda: save_tune(result, folder), folder, files)
        code = EXIT_CODES.get(result.result, 1)
        if hand_made and result.result is not ResultCode.interrupted:
            try:
                policies = evaluate_hand_made(problem, search.test_seeds, progress=progress)
                lost = saved(lambda: save_tune(result, folder, policies), folder, files)
            except KeyboardInterrupt:
                console.print("Interrupted; the tuned barrier is saved without that comparison.")
                code = 130
        summary = tune_summary(result, policies)
        if figures:
            from limjax.plots.tuning import save_tune_figures

            files += drawn(lambda: save_tune_figures(result, policies, folder))
        console.print(_table(summary))
        console.print(f"Outcome: {result.result}. {result.result.help}", highlight=False)
        console.print(verdict(result), highlight=False)
        if json:
            print(json_text.dumps(summary, indent=2))
        raise ended(console, folder, files, lost, {TUNE: summary, BARRIER: barrier_to_json(result.barrier)}, code)


def _start(problem: Problem, barrier: str | None, per_layer: bool) -> AbstractBarrier:
    """Where tuning starts; with `per_layer` one row of knots per parameter array."""
    if not per_layer:
        return starting_barrier(barrier, problem)  # a wrong name is said before a folder is made
    if barrier is not None:
        raise ValueError(f"--per-layer starts from its own spline; leave out --barrier {barrier}.")
    count = len(jax.tree.leaves(jax.eval_shape(problem.task.init, jax.random.key(0))))
    return SplineBarrier(np.tile(np.linspace(9.0, 16.0, 12), (count, 1)), problem.steps)


def _max_loss(text: str | None) -> float | Literal["plain"] | None:
    """A number, or the word plain."""
    if text is None:
        return None
    if text == "plain":
        return "plain"
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--max-loss must be a number or `plain`, got {text!r}.") from None


def _table(summary: dict[str, Any]) -> Table:
    table = Table(
        title=Text(f"Tuned barrier of {summary['task']}, {summary['seeds']} held-out seeds"), title_justify="left"
    )
    for name in ("", "test loss", "± s.e.", "heat [kT/parameter]", "barrier work [kT/parameter]"):
        table.add_column(name, justify="left" if not name else "right")

    def row(name, e):
        numbers = ("test_loss", "test_loss_error", "heat_kt_per_parameter", "actuation_kt_per_parameter")
        table.add_row(Text(name), *(shown(e[key]) for key in numbers))

    plain = (shown(summary["plain_test_loss"]), shown(summary["plain_test_loss_error"]))
    table.add_row("plain optimizer", *plain, "", "")
    row("start", summary["before"])
    row("tuned", summary)
    for name, e in summary["shares"].items():
        row(f"only the {name.replace('_', ' ')} tuned", e)
    best = summary["best_hand_made"]
    if best is not None:
        row(f"best hand-made as good as plain: {best['barrier']}, {best['setting']}", best)
    return table
