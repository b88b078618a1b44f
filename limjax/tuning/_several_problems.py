"""One barrier for several problems at once: a rule that is meant for tasks it was not tuned on."""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from limjax.barriers._base import AbstractBarrier
from limjax.memory._hops import HopsName
from limjax.numerics._result_code import ResultCode
from limjax.numerics.checks import WholeNumber, is_whole, positive_number
from limjax.tuning._abstract_problem import AbstractProblem, Design
from limjax.tuning._differentiable_run import Problem
from limjax.tuning._held_out import MISSING, Evaluation, evaluate
from limjax.tuning._members import Member, plain_validation_loss
from limjax.tuning._objective import Objective
from limjax.tuning._outer_steps import Found, OuterRow, descend
from limjax.tuning._progress import Progress
from limjax.tuning._search import PROGRAMS, Search
from limjax.tuning._variables import Variables


class RuleResult(NamedTuple):
    """What tuning on several problems found; tuples have one entry for each problem.

    Attributes:
        result: how it ended.
        barrier: the tuned barrier, for the length of the first problem's runs (`AbstractBarrier.stretched` for others).
        designs: the tuned designs: the same barrier and learning-rate factor, each for its problem's length.
        history: rows of every outer step.
        limits: the losses that had to be kept on validation data; NaN where Ctrl-C came before plain training had given them.
        nearest: the losses of the returned designs there.
        before: held-out evaluations of the barrier that tuning started from.
        after: held-out evaluations of the tuned one.
        plain: held-out evaluations of the plain optimizer.
    """

    result: ResultCode
    barrier: AbstractBarrier
    designs: tuple[Design, ...]
    history: tuple[tuple[OuterRow, ...], ...]
    limits: tuple[float, ...]
    nearest: tuple[float, ...]
    before: tuple[Evaluation, ...]
    after: tuple[Evaluation, ...]
    plain: tuple[Evaluation, ...]


def tune_rule(
    problems: Sequence[Problem],
    barrier: AbstractBarrier,
    *,
    max_loss: Sequence[float] | None = None,
    tune_learning_rate: bool = False,
    hops: HopsName = "gaussian",
    outer_steps: WholeNumber = 40,
    outer_rate: float = 0.1,
    seeds: WholeNumber | Sequence[int] = 4,
    held_out: WholeNumber = 8,
    selection: WholeNumber = 32,
    on_progress: Callable[[tuple[OuterRow, ...], float], None] | None = None,
) -> RuleResult:
    """Tunes one barrier so that several problems take little energy together, each within a loss of its own.

    Makes the sum of the logarithms of the energies small. What one run cannot tell, how a rule should depend on the length
    of training or on the size of the network, several can: use it for a `LearnedBarrier` that is to be applied elsewhere.

    Args:
        problems: tasks with their settings; lengths may differ.
        barrier: where to start. One number per array only fits networks of as many arrays.
        max_loss: the validation loss that each has to keep; None takes each one's `plain_validation_loss`.
        tune_learning_rate: whether a factor on the learning-rate schedules, the same for all, is tuned as well.
        hops: "gaussian" differentiates through the hop noise, "mean" trains without it.
        outer_steps: steps of the outer optimizer.
        outer_rate: its peak rate, in kT of barrier.
        seeds: how many tuning seeds of one outer step, for all problems or for each.
        held_out: number of seeds of the evaluation.
        selection: validation runs per candidate, 1 to 500.
        on_progress: called after every outer step with its rows and the seconds left.

    Returns:
        The result; Ctrl-C, limits that cannot be met and divergence are result codes. After Ctrl-C nothing more is run, and what was
        not evaluated yet is missing.

    Raises:
        ValueError: if there is no problem, or a number of seeds or limits does not fit them.

    Example:
        >>> import limjax
        >>> from limjax.tasks import get_task
        >>> lengths = [Problem(get_task("quadratic"), steps=n) for n in (20, 40)]
        >>> result = tune_rule(lengths, limjax.SplineBarrier([9.0, 12.0], 20), max_loss=[1e5, 1e5], seeds=1, held_out=1,
        ...                    outer_steps=1, selection=1)
        >>> [float(d.barrier.steps) for d in result.designs]
        [20.0, 40.0]

    Source: docs/tuning.md.
    """
    counts = [seeds] * len(problems) if np.ndim(seeds) == 0 else list(seeds)  # pyright: ignore[reportArgumentType]
    if not problems or len(counts) != len(problems) or not all(is_whole(n) and int(n) >= 1 for n in counts):  # pyright: ignore
        raise ValueError(f"{len(problems)} problems need as many numbers of seeds of at least 1, got seeds={seeds!r}.")
    if max_loss is not None and len(max_loss) != len(problems):
        raise ValueError(f"max_loss needs one loss for each of the {len(problems)} problems, got {max_loss!r}.")
    counts = [operator.index(count) for count in counts]  # pyright: ignore[reportArgumentType]
    # Its seeds stand for all here, the most of them, in the check against the held-out ones and the time left; members have their own.
    search = Search(
        outer_steps=outer_steps, outer_rate=outer_rate, seeds=max(counts), held_out=held_out, selection=selection, hops=hops,
        tune_learning_rate=tune_learning_rate,
    )  # fmt: skip
    # Only the length differs: the numbers that are tuned have the same shapes everywhere, and are shared.
    starts = tuple(problem.design(barrier.stretched(problem.steps)) for problem in problems)
    # NaN until plain training has given them.
    limits = [math.nan] * len(problems) if max_loss is None else [positive_number(x, "max_loss") for x in max_loss]
    objectives = [Objective(max_loss="plain" if max_loss is None else limit) for limit in limits]
    progress = Progress()
    progress.plan(len(problems) * search.work("loss")[0], PROGRAMS)
    try:
        for i, (problem, start) in enumerate(zip(problems, starts)):
            objectives[i] = objectives[i].settled(
                functools.partial(plain_validation_loss, problem, start, int(selection))
            )
            limits[i] = float(objectives[i].limit) if max_loss is None else limits[i]
        members = [
            Member(problem, objective, Variables(start, learning_rate=tune_learning_rate), search, np.arange(count, dtype=np.uint32))
            for problem, start, objective, count in zip(problems, starts, objectives, counts)
        ]  # fmt: skip
    except KeyboardInterrupt:
        # Before the first outer step there is no other design than the start.
        found = Found(ResultCode.interrupted, starts, (math.nan,) * len(problems), ())
    else:
        found = descend(members, search, progress, on_progress)
    code, made = _evaluated(found, problems, starts, search)
    return RuleResult(
        result=code,
        barrier=found.designs[0].barrier,
        designs=found.designs,
        history=found.history,
        limits=tuple(limits),
        nearest=found.limited,
        **made,
    )


def _evaluated(
    found: Found, problems: Sequence[Problem], starts: Sequence[Design], search: Search
) -> tuple[ResultCode, dict[str, tuple[Evaluation, ...]]]:
    """Held-out evaluations of what was found and of what it is compared with, as many as Ctrl-C leaves, and how it ended."""
    code, count = found.result, len(problems)
    # In this order: what Ctrl-C leaves is the tuned designs first, then what they are compared with.
    wanted: dict[str, tuple[list[AbstractProblem], Sequence[Design], HopsName]] = {
        "after": ([*problems], found.designs, "exact"),
        "plain": ([p.plain_problem for p in problems], [p.plain(start) for p, start in zip(problems, starts)], "mean"),
        "before": ([*problems], starts, "exact"),
    }
    made = {name: [MISSING] * count for name in wanted}
    try:
        for name, (ran, designs, hops) in wanted.items() if code is not ResultCode.interrupted else ():
            for i in range(count):
                made[name][i] = evaluate(ran[i], designs[i], search.test_seeds, hops=hops)
    except KeyboardInterrupt:
        code = ResultCode.interrupted
    return code, {name: tuple(each) for name, each in made.items()}
