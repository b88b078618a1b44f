"""How a design is searched for: the descent, its seeds, its gradient, and what the result is judged on."""

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from limjax.barriers._base import AbstractBarrier
from limjax.memory._hops import HopsName
from limjax.numerics.checks import WholeNumber, positive_number, seed_list, seed_numbers, whole_number
from limjax.physics._abstract_cell import AbstractCell
from limjax.tasks import Task, get_task
from limjax.training import RunSettings
from limjax.tuning._abstract_problem import AbstractProblem, check_share
from limjax.tuning._differentiable_run import Problem
from limjax.tuning._gradients import check_method
from limjax.tuning._held_out import held_out_seeds

Kind = TypeVar("Kind")
# What a differentiated run costs in forward runs, for the time left.
_GRADIENT_RUNS = 5.0
PROGRAMS = 4
"""A step, validation, and runs with and without hop noise."""
OUTER_STEPS, OUTER_STEPS_OF_A_POINT = 60, 30
"""What a search takes that does not say: alone, and for one point of a front, which starts from the point before."""
RESAMPLE = 100_000
"""Every outer step moves the tuning seeds on by so much."""
FIRST_SELECTION = 500
"""Seeds on which candidates are compared count from here: above tuning's, below the held-out ones."""
PARTS = 8
"""Candidates are means of the design over at most so many parts of the descent."""
# Settings of a run that no design is tuned under.
_NOT_TUNED = ("mesh", "storage", "microbatches", "learning_rate_factor", "stop_at_heat", "stop_at_loss")
# What a cell says itself.
_OF_CELL = ("lsb", "attempt_rate", "step_time", "temperature", "bits", "memory_device", "max_affinity")


@dataclasses.dataclass(frozen=True)
class Search:
    """How to search.

    Attributes:
        outer_steps: steps of the outer optimizer (Adam with a cosine schedule); None takes 60, for a point of a front 30.
        outer_rate: its peak rate, in kT of barrier.
        seeds: tuning seeds of one outer step, or how many.
        held_out: seeds of the evaluation, or how many; they are never used in tuning.
        numbers: names of the numbers of the barrier that are tuned, for example ("rule.strength",); None for all that can be.
        tune_learning_rate: whether a factor on the learning-rate schedule is tuned as well (the path is heat too).
        tune_step_time: whether the duration of a step is tuned as well; B >= 0 limits the exchange to k0 times it. A time weight
            asks for it, whatever is said here.
        hops: "gaussian" or "exact" differentiates through the hop noise, "mean" trains without it.
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

    outer_steps: WholeNumber | None = None
    outer_rate: float = 0.3
    seeds: WholeNumber | Sequence[int] = 4
    held_out: WholeNumber | Sequence[int] = 8
    numbers: tuple[str, ...] | None = None
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
        if self.outer_steps is not None:
            whole_number(self.outer_steps, "outer_steps")
        if self.numbers is not None and not (self.numbers and isinstance(self.numbers, tuple)):
            raise ValueError(
                f'numbers must be names such as ("rule.strength",), or None for all; got {self.numbers!r}.'
            )
        positive_number(self.outer_rate, "outer_rate")
        # 500 of them, counted from 500 on, end where the held-out seeds begin.
        not_held_out = "from 1 to 500, so as not to touch the held-out seeds"
        whole_number(self.selection, "selection", 1, 500, said=not_held_out)
        self._check_held_out()
        check_method(self.gradient)
        if self.hops not in ("gaussian", "exact", "mean"):
            raise ValueError(f'hops must be "gaussian", "exact" or "mean", got {self.hops!r}.')
        whole_number(self.pairs, "pairs")
        whole_number(self.seed, "seed", 0, 2**32 - 1)
        check_share(self.validation)
        if self.gradient != "truncated" and self.window is not None:
            raise ValueError(
                f'window is for gradient="truncated", got window={self.window!r} with gradient={self.gradient!r}.'
            )
        if self.window is not None:
            whole_number(self.window, "window")

    def _check_held_out(self) -> None:
        """Refuses an evaluation on seeds that the result was found with."""
        held_out, seeds = (x.astype(np.int64) for x in (self.test_seeds, self.tuning_seeds))
        # Of every step: those before the first move are none of them, and refused all the same.
        moves, rest = np.divmod(held_out[:, None] - seeds[None, :], RESAMPLE)
        is_tuned = (rest == 0) & (moves >= 0) & (moves <= (self.steps if self.resample else 0))
        chosen = np.arange(FIRST_SELECTION, FIRST_SELECTION + int(self.selection))
        wrong = held_out[is_tuned.any(axis=1) | np.isin(held_out, chosen)]
        if wrong.size:
            raise ValueError(
                f"held_out must not contain tuning seeds: an evaluation on them would flatter the result. Seed {wrong[0]} is one: "
                f"tuning takes its seeds moved on by {RESAMPLE:_} at every step, and {chosen[0]} to {chosen[-1]} for the choice."
            )

    @property
    def tuning_seeds(self) -> np.ndarray:
        """The seeds of an outer step, before they are moved on."""
        return seed_numbers(self.seeds, "seeds")

    @property
    def test_seeds(self) -> np.ndarray:
        """The seeds of the evaluation."""
        if np.ndim(self.held_out) == 0:
            return held_out_seeds(whole_number(self.held_out, "held_out"))
        return seed_list(self.held_out, "held_out")

    @property
    def steps(self) -> int:
        """Outer steps, 60 where that is not said."""
        return OUTER_STEPS if self.outer_steps is None else int(self.outer_steps)

    def trading(self, with_time: bool) -> "Search":
        """The search of an objective in which time has a weight or has none: what costs something is tuned."""
        return dataclasses.replace(self, tune_step_time=self.tune_step_time or with_time)

    def window_of(self, steps: int) -> int | None:
        """Steps per window for a run of so many."""
        if self.window is None:
            return max(1, steps // 10) if self.gradient == "truncated" else None
        return int(self.window)

    def step_runs(self, limited: str) -> float:
        """What an outer step costs, in training runs, for an objective that limits this."""
        # Under a limit on the loss every seed is also trained without hop noise, for the control variate.
        return self.tuning_seeds.size * (_GRADIENT_RUNS + (limited == "loss"))

    def work(self, limited: str, only_after: bool = False) -> tuple[int | float, int]:
        """What a search costs at most, in training runs, and by how many programs they are done; `only_after` as in `tuned`."""
        # 12 is `_CALIBRATED` times `_HALVINGS` of `_candidates.py`, which imports this module.
        candidates = min(self.steps, PARTS) + 1 + (0 if limited == "nothing" else 12)
        judged = int(self.selection) * candidates
        # After, before and plain, and the two shares.
        count = 1 if only_after else 5 if self.tune_learning_rate else 3
        evaluated = self.test_seeds.size * count
        return self.steps * self.step_runs(limited) + judged + evaluated, PROGRAMS


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


def check_names(function: Callable[..., Any], shorthand: dict[str, Any], *kinds: type) -> None:
    """Refuses keywords that are neither arguments of a function nor fields of `RunSettings` or of other kinds of objects.

    Raises:
        TypeError: for the first one, with the nearest that there is.
    """
    known = [p for each in (function, RunSettings, *kinds) for p in inspect.signature(each).parameters]
    # `shorthand` is the catch-all itself; what tuning does not follow is never hinted at, and refused by `problem_of`.
    known = [name for name in known if name not in ("shorthand", *_NOT_TUNED)]
    for name in shorthand:
        if name not in known and name not in _NOT_TUNED:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"It takes {', '.join(dict.fromkeys(known))}."
            raise TypeError(f"{function.__name__} takes no {name!r}. {hint}")


def problem_of(
    task: RunSettings | Task | str, cell: AbstractCell | None, search: Search, shorthand: dict[str, Any]
) -> Problem:
    """The problem that settings, or a task and keywords that are settings, describe.

    Raises:
        ValueError: for settings that tuning does not follow, or that are said twice.
    """
    if isinstance(task, RunSettings):
        if shorthand:
            raise ValueError(f"Give {', '.join(shorthand)} to RunSettings, or pass a task instead of settings.")
        settings, chosen = task, get_task(task.task)
        given = {
            name: value
            for name, value in vars(task).items()
            # Settings always have the other numbers of a cell; these are None unless they were asked for.
            if name in (*_NOT_TUNED, "bits", "memory_device", "max_affinity")
        }
        _check_run(settings)
    else:
        given = shorthand
        chosen = get_task(task) if isinstance(task, str) else task
        settings = RunSettings.of(chosen, cell, **shorthand)
    given = {name: value for name, value in given.items() if value is not None}
    for name in _NOT_TUNED:
        if name in given:
            raise ValueError(f"Tuning takes no {name}, got {given[name]!r}; leave it out.")
    twice = [name for name in _OF_CELL if name in given]
    if cell is not None and twice:
        raise ValueError(f"A cell has its own {', '.join(twice)}: give {twice[0]} to the cell, or leave cell= out.")
    return Problem(
        chosen,
        settings.cell() if cell is None else cell,
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        validation=search.validation,
    )


def _check_run(settings: RunSettings) -> None:
    """Refuses what settings say of one run that a search says itself: hops, and the seed unless it draws the cells."""
    if settings.hops != "exact":
        raise ValueError(
            f"Tuned designs are judged with exact hops, but the settings have hops={settings.hops!r}: leave that out, and give "
            "the hops that tuning differentiates through to Search(hops=...)."
        )
    if settings.seed != 0 and settings.memory_device is None:
        raise ValueError(
            f"Tuning has many seeds, but the settings have seed={settings.seed}: leave that out, and give the seeds to "
            "Search(seeds=..., held_out=...)."
        )


def starting_barrier(
    barrier: AbstractBarrier | str | None, problem: AbstractProblem, task: Any = None
) -> AbstractBarrier:
    """Where the search starts: a barrier, its text, that of the settings, or what suits the problem."""
    if barrier is None and isinstance(task, RunSettings):
        barrier = task.barrier
    return problem.starting(barrier)
