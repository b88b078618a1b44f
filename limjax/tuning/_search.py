"""How a design is searched for: the descent, its seeds, its gradient, and what the result is judged on."""

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from limjax.barriers._base import AbstractBarrier
from limjax.barriers._specification import barrier_from_name
from limjax.barriers._spline import SplineBarrier
from limjax.memory._hops import HopsName
from limjax.numerics.checks import WholeNumber, positive_number, whole_number
from limjax.physics._abstract_cell import AbstractCell
from limjax.tasks import Task, get_task
from limjax.training import RunSettings
from limjax.tuning._differentiable_run import Problem
from limjax.tuning._held_out import held_out_seeds

Kind = TypeVar("Kind")
# What a differentiated run costs in forward runs, for the time left.
_GRADIENT_RUNS = 5.0
PROGRAMS = 4
"""A step, validation, and runs with and without hop noise."""


@dataclasses.dataclass(frozen=True)
class Search:
    """How to search.

    Attributes:
        outer_steps: steps of the outer optimizer (Adam with a cosine schedule).
        outer_rate: its peak rate, in kT of barrier.
        seeds: tuning seeds of one outer step, or how many.
        held_out: seeds of the evaluation, or how many; they are never used in tuning.
        tune_learning_rate: whether a factor on the learning-rate schedule is tuned as well (the path is heat too).
        tune_step_time: whether the duration of a step is tuned as well; B >= 0 limits the exchange to k0 times it.
        hops: "gaussian" differentiates through the hop noise, "mean" trains without it.
        gradient: "reverse", "forward", "truncated" or "evolution", see `limjax.tuning.value_and_gradient`.
        window: steps per window of "truncated"; None takes a tenth of the run.
        pairs: antithetic pairs of "evolution".
        seed: seed of its directions.
        resample: whether every outer step draws new seeds; False repeats the same ones.
        validation: share of the training data set aside for validation.
        selection: validation runs per candidate when the result is chosen, 1 to 500; their scatter is what the choice can see.

    Raises:
        ValueError: for a wrong number; the message names it.

    Example:
        >>> Search(outer_steps=20, seeds=2).tuning_seeds.tolist()
        [0, 1]
    """

    outer_steps: WholeNumber = 60
    outer_rate: float = 0.3
    seeds: WholeNumber | Sequence[int] = 4
    held_out: WholeNumber | Sequence[int] = 8
    tune_learning_rate: bool = False
    tune_step_time: bool = False
    hops: HopsName = "gaussian"
    gradient: str = "reverse"
    window: WholeNumber | None = None
    pairs: WholeNumber = 8
    seed: WholeNumber = 0
    resample: bool = True
    validation: float = 0.2
    selection: WholeNumber = 32

    def __post_init__(self):
        whole_number(self.outer_steps, "outer_steps")
        positive_number(self.outer_rate, "outer_rate")
        not_held_out = "from 1 to 500, so as not to touch the held-out seeds"
        whole_number(self.selection, "selection", 1, 500, said=not_held_out)
        if np.intersect1d(self.test_seeds, self.tuning_seeds).size:
            raise ValueError("held_out must not contain tuning seeds: an evaluation on them would flatter the result.")
        if self.gradient != "truncated" and self.window is not None:
            raise ValueError(
                f'window is for gradient="truncated", got window={self.window!r} with gradient={self.gradient!r}.'
            )
        if self.window is not None:
            whole_number(self.window, "window")

    @property
    def tuning_seeds(self) -> np.ndarray:
        """The seeds of an outer step, before they are moved on."""
        seeds = self.seeds
        values = np.arange(whole_number(seeds, "seeds")) if np.ndim(seeds) == 0 else np.asarray(seeds)
        if values.ndim != 1 or values.size == 0 or values.min() < 0:
            raise ValueError(
                f"seeds must be a positive number, or a list of whole numbers of at least 0; got {seeds!r}."
            )
        return values.astype(np.uint32)

    @property
    def test_seeds(self) -> np.ndarray:
        """The seeds of the evaluation."""
        if np.ndim(self.held_out) == 0:
            return held_out_seeds(whole_number(self.held_out, "held_out"))
        return np.asarray(self.held_out).astype(np.uint32)

    def window_of(self, steps: int) -> int | None:
        """Steps per window for a run of so many."""
        if self.window is None:
            return max(1, steps // 10) if self.gradient == "truncated" else None
        return int(self.window)

    def step_runs(self, limited: str) -> float:
        """What an outer step costs, in training runs, for an objective that limits this."""
        return self.tuning_seeds.size * (_GRADIENT_RUNS + (limited == "loss"))

    def work(self, limited: str) -> tuple[int | float, int]:
        """What a search costs at most, in training runs, and by how many programs they are done."""
        candidates = min(int(self.outer_steps), 8) + 1 + (0 if limited == "nothing" else 14)
        judged = int(self.selection) * candidates
        evaluated = self.test_seeds.size * (5 if self.tune_learning_rate else 3)
        return int(self.outer_steps) * self.step_runs(limited) + judged + evaluated, PROGRAMS


def said(kind: type[Kind], given: Kind | None, shorthand: dict[str, Any]) -> Kind:
    """The object given, or one made of those keywords that are its arguments, which are taken out of `shorthand`.

    Raises:
        ValueError: for an object of another kind, or if the object and its arguments are given both.
    """
    own = {name: shorthand.pop(name) for name in inspect.signature(kind).parameters if name in shorthand}
    if given is None:
        return kind(**own)
    if not isinstance(given, kind):
        raise ValueError(
            f"Expected an object of limjax.tuning.{kind.__name__}, got {given!r}. Cell and barrier are passed by name: cell=, "
            "barrier=."
        )
    if own:
        raise ValueError(f"Give {', '.join(own)} to {kind.__name__}(...), or leave that object out.")
    return given


def problem_of(
    task: RunSettings | Task | str, cell: AbstractCell | None, search: Search, shorthand: dict[str, Any]
) -> Problem:
    """The problem that settings, or a task and keywords that are settings, describe."""
    if isinstance(task, RunSettings):
        if shorthand:
            raise ValueError(f"Give {', '.join(shorthand)} to RunSettings, or pass a task instead of settings.")
        settings, chosen = task, get_task(task.task)
        for name in ("mesh", "storage", "microbatches", "learning_rate_factor"):
            if getattr(settings, name) is not None:
                raise ValueError(f"Tuning takes no {name}, got {getattr(settings, name)!r}; leave it out.")
    else:
        chosen = get_task(task) if isinstance(task, str) else task
        settings = RunSettings.of(chosen, cell, **shorthand)
    return Problem(
        chosen,
        settings.cell() if cell is None else cell,
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        validation=search.validation,
    )


def starting_barrier(
    barrier: AbstractBarrier | str | None, problem: Problem, task: RunSettings | Task | str | None = None
) -> AbstractBarrier:
    """Where the search starts: a barrier, its text, that of the settings, or a spline of 16 knots."""
    if barrier is None and isinstance(task, RunSettings):
        barrier = task.barrier
    if barrier is None:
        return SplineBarrier(np.linspace(9.0, 16.0, 16), problem.steps)
    if isinstance(barrier, str):
        schedule = problem.task.defaults.make_schedule(problem.learning_rate, problem.steps)
        return barrier_from_name(barrier, problem.cell, problem.steps, schedule)
    return barrier
