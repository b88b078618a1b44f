"""`limjax tune`."""

import json as json_text
from typing import Annotated, Any, Literal

import jax
import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from limjax import runs
from limjax.barriers.files import barrier_to_json
from limjax.barriers.specification import barrier_from_name
from limjax.barriers.spline import SplineBarrier
from limjax.cli.console import Lines, drawn, saved, say_lost
from limjax.tasks import Task, get_task
from limjax.training import RunSettings
from limjax.tuning import HandMade, TuneCode, TuneResult, Weights, evaluate_hand_made, held_out_seeds
from limjax.tuning import tune as tune_design
from limjax.tuning.saving import BARRIER, TUNE, save_tune, tune_summary


def tune(
    task: Annotated[str, typer.Option(help="What to train.")] = "digits-mlp",
    barrier: Annotated[
        str | None,
        typer.Option(help="Where to start: a barrier with arguments, or a .json file. Default a spline of 16 knots."),
    ] = None,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="One spline per parameter array.")] = False,
    energy_weight: Annotated[float, typer.Option(help="Loss units per kT of cost per parameter.")] = 3e-3,
    time_weight: Annotated[float, typer.Option(help="Loss units per second; tunes the step time if above 0.")] = 0.0,
    max_loss: Annotated[
        str | None,
        typer.Option(help="Least energy at this validation loss: a number, or `plain` for plain training's."),
    ] = None,
    max_energy: Annotated[float | None, typer.Option(help="Least loss within this energy [kT per parameter].")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps; default the task's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per step; default the task's.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate; default the task's.")] = None,
    lsb: Annotated[float | None, typer.Option(help="One level, in weight units; default the task's.")] = None,
    attempt_rate: Annotated[float, typer.Option(help="Attempt rate k0 [1/s].")] = 1e9,
    step_time: Annotated[float, typer.Option(help="Duration of one step [s].")] = 1e-3,
    temperature: Annotated[float, typer.Option(help="Temperature of the cells [K].")] = 300.0,
    outer_steps: Annotated[int, typer.Option(help="Steps of the outer optimizer.")] = 60,
    outer_rate: Annotated[float, typer.Option(help="Its rate [kT].")] = 0.3,
    seeds: Annotated[int, typer.Option(help="Number of tuning seeds.")] = 4,
    held_out: Annotated[int, typer.Option(help="Number of seeds the result is judged on.")] = 8,
    tune_learning_rate: Annotated[
        bool, typer.Option("--tune-learning-rate", help="Tune the learning-rate schedule as well.")
    ] = False,
    gradient: Annotated[str, typer.Option(help="reverse, forward, truncated or evolution.")] = "reverse",
    hand_made: Annotated[
        bool, typer.Option("--hand-made/--no-hand-made", help="Compare with a grid of hand-made barriers.")
    ] = True,
    out: Annotated[str | None, typer.Option(help="Folder to write to; default the next free one under runs/.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print tune.json to stdout, progress to stderr.")] = False,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw the figures.")] = True,
) -> None:
    """Optimise the barrier by gradients through whole training runs."""
    console = Console(stderr=json, markup=False)
    chosen = get_task(task)
    settings = RunSettings.of(
        chosen,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        lsb=lsb,
        attempt_rate=attempt_rate,
        step_time=step_time,
        temperature=temperature,
    )
    cell, start = settings.cell(), _start(chosen, settings.steps, barrier, per_layer)
    if isinstance(start, str):  # a wrong name is said before a folder is made
        barrier_from_name(start, cell, settings.steps, settings.learning_rate)
    limit = _max_loss(max_loss)
    folder = runs.new_folder(out, f"tune-{task}")
    lines = Lines(console)
    with runs.held(folder):
        console.print(f"limjax tune: {task}, {outer_steps} outer steps (Ctrl-C keeps the best so far)")
        result = tune_design(
            chosen,
            cell,
            start,
            weights=Weights(energy_weight, time_weight),
            max_loss=limit,
            max_energy_kt=max_energy,
            steps=settings.steps,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            outer_steps=outer_steps,
            outer_rate=outer_rate,
            seeds=seeds,
            held_out=held_out,
            tune_learning_rate=tune_learning_rate,
            tune_step_time=time_weight > 0,
            gradient=gradient,  # pyright: ignore[reportArgumentType]  # checked there
            on_progress=lambda row, left: lines.say(_line(row, outer_steps, left), row.step in (0, outer_steps - 1)),
        )
        code = {TuneCode.completed: 0, TuneCode.interrupted: 130}.get(result.result, 1)
        policies = []
        if hand_made and result.result is not TuneCode.interrupted:
            policies, stopped = _hand_made(console, result, held_out)
            code = 130 if stopped else code
        summary, files = tune_summary(result, policies), [TUNE, BARRIER, "tune.npz"]
        problem = saved(lambda: save_tune(result, folder, policies), folder, files)
        if figures:
            from limjax.plots.tuning import save_tune_figures

            files += drawn(lambda: save_tune_figures(result, policies, folder))
        console.print(_table(summary))
        console.print(f"Outcome: {result.result}. {result.result.help}", highlight=False)
        if json:
            print(json_text.dumps(summary, indent=2))
        if problem is None:
            console.print(f"Wrote {folder}/: {', '.join(files)}", highlight=False, soft_wrap=True)
            raise typer.Exit(code)
        unsaved = {TUNE: summary, BARRIER: barrier_to_json(result.barrier)}
        unsaved = {name: content for name, content in unsaved.items() if not (folder / name).exists()}
        raise typer.Exit(say_lost(console, folder, [problem], unsaved))


def _start(task: Task, steps: int, barrier: str | None, per_layer: bool) -> str | SplineBarrier | None:
    """Where tuning starts; with `per_layer` one row of knots per parameter array."""
    if not per_layer:
        return barrier
    if barrier is not None:
        raise ValueError(f"--per-layer starts from its own spline; leave out --barrier {barrier}.")
    count = len(jax.tree.leaves(jax.eval_shape(task.init, jax.random.key(0))))
    return SplineBarrier(np.tile(np.linspace(9.0, 16.0, 12), (count, 1)), steps)


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


def _line(row: Any, count: int, left: float) -> str:
    return (
        f"outer step {row.step + 1}/{count}  loss {row.loss:.4f}  heat {row.heat_kt:.3g} + work {row.actuation_kt:.3g} "
        f"kT/parameter  {left:.0f} s left"
    )


def _hand_made(console: Console, result: TuneResult, held_out: int) -> tuple[list[HandMade], bool]:
    """The grid of hand-made barriers on the held-out seeds, and whether it was stopped."""
    console.print("Evaluating hand-made barriers on the held-out seeds ...")
    lines, families = Lines(console), set()

    def progress(policy):
        if policy.family not in families:
            families.add(policy.family)
            lines.say(f"  {policy.family}", always=True)

    try:
        return evaluate_hand_made(result.problem, held_out_seeds(held_out), on_progress=progress), False
    except KeyboardInterrupt:
        console.print("Interrupted; the tuned barrier is saved without that comparison.")
        return [], True


def _table(summary: dict[str, Any]) -> Table:
    table = Table(
        title=Text(f"Tuned barrier of {summary['task']}, {summary['seeds']} held-out seeds"), title_justify="left"
    )
    for name in ("", "test loss", "± s.e.", "heat [kT/parameter]", "barrier work [kT/parameter]"):
        table.add_column(name, justify="left" if not name else "right")

    def row(name, e):
        numbers = ("test_loss", "test_loss_error", "heat_kt_per_parameter", "actuation_kt_per_parameter")
        table.add_row(Text(name), *(f"{e[key]:.4g}" for key in numbers))

    table.add_row(
        "plain optimizer", f"{summary['plain_test_loss']:.4g}", f"{summary['plain_test_loss_error']:.4g}", "", ""
    )
    row("start", summary["before"])
    row("tuned", summary)
    for name, e in summary["shares"].items():
        row(f"only the {name.replace('_', ' ')} tuned", e)
    best = summary["best_hand_made"]
    if best is not None:
        row(f"best hand-made as good as plain: {best['barrier']}, {best['setting']}", best)
    return table
