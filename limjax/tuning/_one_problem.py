"""Tuning a design: from a task and what is to be made small to a barrier, judged on held-out seeds."""

from collections.abc import Callable
from typing import Any, NamedTuple

from limjax.barriers._base import AbstractBarrier
from limjax.numerics._result_code import ResultCode
from limjax.physics._abstract_cell import AbstractCell
from limjax.tasks import Task
from limjax.training import RunSettings
from limjax.tuning._abstract_problem import AbstractProblem, Design
from limjax.tuning._held_out import MISSING, Evaluation, evaluate
from limjax.tuning._members import Member, plain_validation_loss
from limjax.tuning._objective import Objective
from limjax.tuning._outer_steps import OuterRow, descend
from limjax.tuning._progress import Progress
from limjax.tuning._search import Search, check_names, problem_of, said, starting_barrier
from limjax.tuning._variables import Variables


class TuneResult(NamedTuple):
    """What tuning found.

    Attributes:
        result: how it ended.
        barrier: the tuned barrier.
        design: the whole tuned design: barrier, step time, learning-rate factor.
        history: one row per outer step.
        before: held-out evaluation of the design that tuning started from.
        after: held-out evaluation of the tuned design.
        plain: held-out evaluation of the plain optimizer, without hop noise; of a sequence of tasks it is fine-tuning.
        shares: held-out evaluations with only the barrier or only the learning rate tuned, where both were.
        nearest: the limited quantity of the returned design on validation runs, where a limit was set; NaN if it was not run.
        problem: the problem, to evaluate more.
    """

    result: ResultCode
    barrier: AbstractBarrier
    design: Design
    history: tuple[OuterRow, ...]
    before: Evaluation
    after: Evaluation
    plain: Evaluation
    shares: dict[str, Evaluation]
    nearest: float | None
    problem: AbstractProblem


def tune(
    task: RunSettings | Task | AbstractProblem | str,
    objective: Objective | None = None,
    search: Search | None = None,
    *,
    cell: AbstractCell | None = None,
    barrier: AbstractBarrier | str | None = None,
    start: Design | None = None,
    problem: AbstractProblem | None = None,
    on_progress: Callable[[OuterRow, float], None] | None = None,
    progress: Progress | None = None,
    **shorthand: Any,
) -> TuneResult:
    r"""Gradient descent on the barrier through whole training runs.

    Makes loss + energy weight · kT per parameter + time weight · seconds small, or the energy under a limit on the loss, or
    the loss under a limit on the energy. The loss is measured on validation data that the runs do not train on.

    Every outer step draws new seeds: with the same ones again and again, a barrier of many knots learns to shape that
    one realisation of the noise into a good direction, and does badly on any other. Because single steps are noisy, the
    candidates for the result are means of the design over parts of the descent, and the best of them on further
    validation runs is returned.

    Args:
        task: the settings of a run, a `Task`, the name of one, or a problem that is ready (`limjax.consolidation.SequenceProblem`). Settings keep `hops` and `seed` as they are by default: the
            search has its own, and the result is judged with exact hops.
        objective: what is to be made small; None makes one of the keywords `weights`, `max_loss` and `max_energy_kt`.
        search: how to search; None makes one of the keywords that are its fields: `outer_steps=20, seeds=2`. Without a number
            of outer steps it takes 60; where time has a weight, the step time is tuned.
        cell: the memory cell; None takes that of the settings: 1 GHz, 1 ms per step, 300 K and the task's lsb.
        barrier: where to start, a barrier or its name with arguments; None takes the one of the settings, and for a task a
            spline of 16 knots that rises from 9 to 16 kT. What is tuned depends on its class (`limjax.tuning.tuned_fields`).
        start: a whole design to start from, instead of `barrier`.
        problem: a `Problem` to use again with its compiled runs, instead of task, cell and settings.
        on_progress: called after every outer step with its row and the seconds left over all phases.
        progress: what is told of every phase from the first second.
        **shorthand: fields of `RunSettings` (`steps`, `batch_size`, `learning_rate`, ...), `Objective` and `Search`.

    Returns:
        The result; Ctrl-C, a limit that cannot be met and divergence are result codes, with the best design so far. After
        Ctrl-C nothing more is run: the design is that of the last steps, and what was not evaluated yet is missing.

    Raises:
        ValueError: for a wrong setting, or one that is said twice or that tuning would not follow.
        TypeError: for an unknown keyword.

    Cost: "reverse" takes four to five times the wall time of the forward runs and the memory of 2√steps of them.

    Example:
        >>> import limjax
        >>> from limjax.tuning import Objective, Search
        >>> few = Search(outer_steps=2, seeds=1, held_out=1)
        >>> objective = Objective(limjax.Weights(energy=1.0))
        >>> result = limjax.tune("quadratic", objective, few, barrier=limjax.StaticBarrier(9.0), steps=40)
        >>> str(result.result)
        'completed'

    Source: docs/tuning.md; checkpointing after Griewank & Walther, ACM TOMS 26, 19 (2000).
    """
    # Each takes its own keywords out of `shorthand`; fields of `RunSettings` are left over, and what nobody knows.
    objective, search = said(Objective, objective, shorthand), said(Search, search, shorthand)
    check_names(tune, shorthand, Objective, Search)
    search = search.trading(bool(objective.time > 0))
    if isinstance(task, AbstractProblem):
        if problem not in (None, task):
            raise ValueError("The task is a problem itself: leave problem= out, or give the other one as the task.")
        problem = task
    if problem is None:
        assert not isinstance(task, AbstractProblem)
        problem = problem_of(task, cell, search, shorthand)
    elif shorthand or cell is not None:
        raise ValueError(
            f"A problem has its own {', '.join([*shorthand, *['cell'] * (cell is not None)])}; leave that out."
        )
    elif search.validation not in (Search.validation, problem.validation):
        raise ValueError(
            f"A problem has its own validation = {problem.validation}, got {search.validation}; leave that out."
        )
    if search.gradient == "truncated" and not problem.windows:
        raise ValueError(
            f"{type(problem).__name__} is differentiated as a whole, got gradient='truncated': use gradient='reverse'."
        )
    if start is not None and barrier is not None:
        raise ValueError(f"Start from a whole design (start=) or from a barrier, not both; got barrier={barrier!r}.")
    if start is None:
        start = problem.design(starting_barrier(barrier, problem, task))
    progress = Progress() if progress is None else progress
    progress.plan(*search.work(objective.limited))
    return tuned(problem, start, objective, search, progress, on_progress)


def tuned(
    problem: AbstractProblem,
    start: Design,
    objective: Objective,
    search: Search,
    progress: Progress,
    on_progress: Callable[[OuterRow, float], None] | None = None,
    only_after: bool = False,
) -> TuneResult:
    """`tune` of objects that are ready, whose work is planned; `only_after` leaves out what the result is compared with."""
    try:
        if objective.is_plain:
            progress.did("training without hop noise, for the loss to keep")
        objective = objective.settled(lambda: plain_validation_loss(problem, start, int(search.selection)))
        flags = {"learning_rate": search.tune_learning_rate, "step_time": search.tune_step_time}
        variables = Variables(start, **flags, numbers=search.numbers)
        member = Member(problem, objective, variables, search)
    except KeyboardInterrupt:
        # Before the first outer step there is no other design than the start.
        code, design, history, nearest = ResultCode.interrupted, start, (), float("nan")
    else:
        report = None if on_progress is None else lambda rows, left: on_progress(rows[0], left)
        found = descend([member], search, progress, report)
        code, design, nearest = found.result, found.designs[0], found.limited[0]
        history = tuple(rows[0] for rows in found.history)
    # In this order: what Ctrl-C leaves is the tuned design first, then what it is compared with.
    wanted: dict[str, tuple[AbstractProblem, Design, Any]] = {
        "after": (problem, design, "exact"),
        "plain": (problem.plain_problem, problem.plain(start), "mean"),
        "before": (problem, start, "exact"),
    }
    if search.tune_learning_rate:
        wanted["barrier"] = problem, Design(design.barrier, design.log_step_time, start.log_rate), "exact"
        wanted["learning_rate"] = problem, Design(start.barrier, start.log_step_time, design.log_rate), "exact"
    made: dict[str, Evaluation] = dict.fromkeys(wanted, MISSING)
    chosen = () if code is ResultCode.interrupted else ("after",) if only_after else tuple(wanted)
    try:
        for name in chosen:
            ran, each, hops = wanted[name]
            progress.did(f"held-out seeds: {name.replace('_', ' ')}")
            made[name] = evaluate(ran, each, search.test_seeds, hops=hops)
            progress.did(runs=search.test_seeds.size, program=hops)
    except KeyboardInterrupt:
        code = ResultCode.interrupted
    return TuneResult(
        result=code,
        barrier=design.barrier,
        design=design,
        history=history,
        nearest=None if objective.limited == "nothing" else nearest,
        problem=problem,
        **{name: made.pop(name) for name in ("before", "after", "plain")},
        # What is left of them after the three.
        shares=made,
    )
