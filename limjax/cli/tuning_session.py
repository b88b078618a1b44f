"""What `limjax tune` and `limjax pareto` do around the library: settings, progress, the output folder."""

import contextlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from limjax import runs
from limjax.barriers.files import barrier_to_json
from limjax.barriers.specification import barrier_from_name
from limjax.barriers.spline import SplineBarrier
from limjax.cli.console import attempted, drawn, say_lost
from limjax.files import local_path
from limjax.numerics.checks import positive_number
from limjax.physics.abstract_cell import AbstractCell
from limjax.tasks import Task
from limjax.tuning import ParetoCode, TuneCode, Weights, evaluate_hand_made, held_out_seeds, pareto_front, tune
from limjax.tuning.saving import BARRIER, PARETO, TUNE, pareto_summary, save_pareto, save_tune, tune_summary

_LINE_SECONDS = 2.0


def parse_max_loss(text: str | None) -> float | str | None:
    """A number, or the word plain.

    Raises:
        ValueError: for anything else.
    """
    if text is None or text == "plain":
        return text
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--max-loss must be a number or `plain`, got {text!r}.") from None


def energies(text: str | None, points: int, mode: str) -> list[float]:
    """Points between the two ends given, in equal ratios.

    Raises:
        ValueError: if there are not two positive ends, or no points.
    """
    if points < 1:
        raise ValueError(f"--points must be at least 1, got {points}.")
    low, high = (1e-4, 3e-2) if mode == "weights" else (30.0, 0.5)
    if text is not None:
        ends = _numbers(text, "--energy")
        if len(ends) != 2:
            raise ValueError(f"--energy needs two numbers, smallest and largest, as 1e-4,3e-2; got {text!r}.")
        low, high = ends
    return np.geomspace(low, high, points).tolist()


def times(text: str | None) -> list[float]:
    """Time weights from a list of numbers."""
    return [] if text is None else _numbers(text, "--time")


def _numbers(text: str, option: str) -> list[float]:
    try:
        values = [float(x) for x in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} must be numbers with commas between them, got {text!r}.") from None
    return [positive_number(x, option) for x in values]


def spline_per_layer(task: Task, barrier: str | None, steps: int | None) -> SplineBarrier:
    """One row of knots per parameter array.

    Raises:
        ValueError: if another barrier was asked for as well.
    """
    import jax

    if barrier is not None:
        raise ValueError(f"--per-layer starts from its own spline; leave out --barrier {barrier}.")
    count = len(jax.tree.leaves(jax.eval_shape(task.init, jax.random.key(0))))
    knots = np.tile(np.linspace(9.0, 16.0, 12), (count, 1))
    return SplineBarrier(knots, task.defaults.steps if steps is None else steps)


def run_tuning(
    task: Task,
    cell: AbstractCell,
    barrier: Any,
    options: dict[str, Any],
    *,
    hand_made: bool,
    out: str | None,
    json_output: bool,
    figures: bool,
) -> int:
    """Tunes, compares with hand-made policies, writes the folder and prints what came out.

    Returns:
        The exit code: 0, 1 if tuning diverged or the limit could not be met, 130 if it was interrupted.

    Raises:
        ValueError: for wrong input; nothing was written then.
    """
    console = Console(stderr=json_output, markup=False)
    options = {**options, "weights": Weights(*options["weights"])}
    if isinstance(barrier, str):  # a wrong name is said before a folder is made
        barrier_from_name(barrier, cell, options["steps"] or task.defaults.steps, task.defaults.learning_rate)
    folder = runs.new_folder(out, f"tune-{task.name}")
    with runs.held(folder):
        console.print(f"limjax tune: {task.name}, {options['outer_steps']} outer steps (Ctrl-C keeps the best so far)")
        result = tune(task, cell, barrier, **options, on_progress=_Lines(console, options["outer_steps"]))
        code = {TuneCode.completed: 0, TuneCode.interrupted: 130}.get(result.result, 1)
        policies = []
        if hand_made and result.result is not TuneCode.interrupted:
            console.print("Evaluating hand-made barriers on the held-out seeds ...")
            seeds = held_out_seeds(options["held_out"])
            try:
                policies = evaluate_hand_made(result.problem, seeds, on_progress=_Dots(console))
            except KeyboardInterrupt:
                console.print("Interrupted; the tuned barrier is saved without that comparison.")
                code = 130
        summary, files = tune_summary(result, policies), [TUNE, BARRIER, "tune.npz"]
        problem = _saved(lambda: save_tune(result, folder, policies), folder, files)
        if figures:
            from limjax.plots.tuning import save_tune_figures

            files += drawn(lambda: save_tune_figures(result, policies, folder))
        console.print(_tune_table(summary))
        console.print(f"Outcome: {result.result}. {result.result.help}", highlight=False)
        if json_output:
            print(json.dumps(summary, indent=2))
        if problem is None:
            console.print(f"Wrote {folder}/: {', '.join(files)}", highlight=False, soft_wrap=True)
            return code
        unsaved = {TUNE: summary, BARRIER: barrier_to_json(result.barrier)}
        unsaved = {name: content for name, content in unsaved.items() if not (folder / name).exists()}
        return say_lost(console, folder, [problem], unsaved)


def run_pareto(
    task: Task,
    cell: AbstractCell,
    barrier: str | None,
    options: dict[str, Any],
    *,
    out: str | None,
    json_output: bool,
    figures: bool,
) -> int:
    """Sweeps, writes the folder and prints the front.

    Returns:
        The exit code: 0, or 130 if it was interrupted.

    Raises:
        ValueError: for wrong input.
    """
    console = Console(stderr=json_output, markup=False)
    if isinstance(barrier, str):
        barrier_from_name(barrier, cell, options["steps"] or task.defaults.steps, task.defaults.learning_rate)
    folder, is_new = _sweep_folder(out, f"pareto-{task.name}")

    def progress(done, count, point):
        print(
            f"point {done}/{count}: loss {point.loss:.4f} ± {point.loss_error:.4f}, {point.energy_kt:.4g} kT/parameter, "
            f"{point.seconds:.3g} s",
            file=sys.stderr if console.stderr else sys.stdout,
            flush=True,
        )

    with runs.held(folder, is_new=is_new):
        console.print(f"limjax pareto: {task.name} (Ctrl-C keeps the finished points; the same --out goes on)")
        result = pareto_front(task, cell, barrier, **options, folder=folder, on_progress=progress)
        summary, files = pareto_summary(result), [PARETO, "pareto.npz"]
        problem = _saved(lambda: save_pareto(result, folder), folder, files)
        if figures and result.points:
            from limjax.plots.tuning import save_pareto_figure

            files += drawn(lambda: save_pareto_figure(result, folder))
    table = Table(title="Front", title_justify="left")
    for name in ("loss", "± s.e.", "kT/parameter", "± s.e.", "seconds", "on the front"):
        table.add_column(name, justify="right")
    for p in result.points:
        numbers = (p.loss, p.loss_error, p.energy_kt, p.energy_error, p.seconds)
        table.add_row(*(f"{x:.4g}" for x in numbers), "yes" if p.is_front else "")
    console.print(table)
    console.print(
        f"Hypervolume {result.hypervolume:.4g}. Outcome: {result.result}. {result.result.help}", highlight=False
    )
    if json_output:
        print(json.dumps(summary, indent=2))
    if problem is not None:
        return say_lost(console, folder, [problem], {} if (folder / PARETO).exists() else {PARETO: summary})
    console.print(f"Wrote {folder}/: {', '.join(files)}", highlight=False, soft_wrap=True)
    return 0 if result.result is ParetoCode.completed else 130


def _saved(save: Callable[[], Any], folder: pathlib.Path, files: list[str]) -> str | None:
    """Saves, arrays last; says what went wrong, and leaves no half of a file."""
    problem = attempted(save, ", ".join(files))
    if problem is not None:
        for name in files:
            if name.endswith(".npz"):
                with contextlib.suppress(OSError):
                    (folder / name).unlink()
    return problem


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


def _tune_table(summary: dict[str, Any]) -> Table:
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


class _Lines:
    """A line per outer step, not more often than every two seconds."""

    def __init__(self, console: Console, count: int):
        self._console, self._count, self._last = console, count, 0.0

    def __call__(self, row, left: float) -> None:
        now = time.monotonic()
        if now - self._last < _LINE_SECONDS and row.step not in (0, self._count - 1):
            return
        self._last = now
        print(
            f"outer step {row.step + 1}/{self._count}  loss {row.loss:.4f}  heat {row.heat_kt:.3g} + work "
            f"{row.actuation_kt:.3g} kT/parameter  {left:.0f} s left",
            file=sys.stderr if self._console.stderr else sys.stdout,
            flush=True,
        )


class _Dots:
    """A line per family of hand-made policies."""

    def __init__(self, console: Console):
        self._console, self._family = console, None

    def __call__(self, policy) -> None:
        if policy.family != self._family:
            self._family = policy.family
            print(f"  {policy.family}", file=sys.stderr if self._console.stderr else sys.stdout, flush=True)
