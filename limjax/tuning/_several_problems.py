"""One barrier for several problems at once: a rule that is meant for tasks it was not tuned on."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from limjax.barriers._base import AbstractBarrier
from limjax.memory._hops import HopsName
from limjax.numerics._result_code import ResultCode
from limjax.tuning._differentiable_run import Design, Problem
from limjax.tuning._held_out import MISSING, Evaluation, evaluate
from limjax.tuning._members import Member, plain_validation_loss
from limjax.tuning._objective import Objective
from limjax.tuning._outer_steps import OuterRow, descend
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
        limits: the losses that had to be kept on validation data.
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
    outer_steps: int = 40,
    outer_rate: float = 0.1,
    seeds: int | Sequence[int] = 4,
    held_out: int = 8,
    selection: int = 32,
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
        The result; Ctrl-C, limits that cannot be met and divergence are result codes.

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
    counts = [seeds] * len(problems) if isinstance(seeds, int) else list(seeds)
    if not problems or len(counts) != len(problems) or min(counts) < 1:
        raise ValueError(f"{len(problems)} problems need as many numbers of seeds of at least 1, got seeds={seeds!r}.")
    if max_loss is not None and len(max_loss) != len(problems):
        raise ValueError(f"max_loss needs one loss for each of the {len(problems)} problems, got {max_loss!r}.")
    # Its seeds stand for all here, in the check against the held-out ones and the time left; members have their own.
    search = Search(
        outer_steps=outer_steps, outer_rate=outer_rate, seeds=counts[0], held_out=held_out, selection=selection, hops=hops,
        tune_learning_rate=tune_learning_rate,
    )  # fmt: skip
    # Only the length differs: the numbers that are tuned have the same shapes everywhere, and are shared.
    starts = [problem.design(barrier.stretched(problem.steps)) for problem in problems]
    if max_loss is None:
        max_loss = [plain_validation_loss(problem, start, selection) for problem, start in zip(problems, starts)]
    members = [
        Member(
            problem, Objective(max_loss=limit), Variables(start, learning_rate=tune_learning_rate), search,
            np.arange(count, dtype=np.uint32),
        )
        for problem, start, limit, count in zip(problems, starts, max_loss, counts)
    ]  # fmt: skip
    progress = Progress()
    progress.plan(len(problems) * search.work("loss")[0], PROGRAMS)
    found = descend(members, search, progress, on_progress)
    tests, is_stopped = search.test_seeds, found.result is ResultCode.interrupted

    def evaluated(designs: Sequence[Design], hops: HopsName = "exact") -> tuple[Evaluation, ...]:
        return tuple(MISSING if is_stopped else evaluate(p, d, tests, hops=hops) for p, d in zip(problems, designs))

    return RuleResult(
        result=found.result,
        barrier=found.designs[0].barrier,
        designs=found.designs,
        history=found.history,
        limits=tuple(float(limit) for limit in max_loss),
        nearest=found.limited,
        before=evaluated(starts),
        after=evaluated(found.designs),
        plain=evaluated([problem.plain(start) for problem, start in zip(problems, starts)], "mean"),
    )
