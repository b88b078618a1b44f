"""Tuning a design: from a task and what is to be made small to a barrier, judged on held-out seeds."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from limjax.barriers.base import AbstractBarrier
from limjax.barriers.specification import barrier_from_name
from limjax.barriers.spline import SplineBarrier
from limjax.memory._hops import HopsName
from limjax.numerics.checks import positive_number, whole_number
from limjax.physics.abstract_cell import AbstractCell
from limjax.tasks import Task, get_task
from limjax.tuning.descent import Member, OuterRow, TuneCode, descend, plain_validation_loss
from limjax.tuning.held_out import Evaluation, evaluate, held_out_seeds
from limjax.tuning.objective import Budget, Objective, Weights
from limjax.tuning.problem import Design, Problem
from limjax.tuning.variables import Variables


class TuneResult(NamedTuple):
    """What tuning found.

    Attributes:
        result: how it ended.
        barrier: the tuned barrier.
        design: the whole tuned design: barrier, step time, learning-rate factor.
        history: one row per outer step.
        before: held-out evaluation of the design that tuning started from.
        after: held-out evaluation of the tuned design.
        plain: held-out evaluation of the plain optimizer, without hop noise.
        shares: held-out evaluations with only the barrier or only the learning rate tuned, where both were.
        nearest: the limited quantity of the returned design on validation runs, where a limit was set.
        problem: the problem, to evaluate more.
    """

    result: TuneCode
    barrier: AbstractBarrier
    design: Design
    history: tuple[OuterRow, ...]
    before: Evaluation
    after: Evaluation
    plain: Evaluation
    shares: dict[str, Evaluation]
    nearest: float | None
    problem: Problem


def tune(
    task: Task | str,
    cell: AbstractCell | None = None,
    barrier: AbstractBarrier | str | None = None,
    *,
    weights: Weights | None = None,
    max_loss: float | Literal["plain"] | None = None,
    max_energy_kt: float | None = None,
    tune_learning_rate: bool = False,
    tune_step_time: bool = False,
    steps: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    hops: HopsName = "gaussian",
    outer_steps: int = 60,
    outer_rate: float = 0.3,
    seeds: int | Sequence[int] = 4,
    held_out: int | Sequence[int] = 8,
    resample: bool = True,
    seed: int = 0,
    gradient: str = "reverse",
    window: int | None = None,
    pairs: int = 8,
    validation: float = 0.2,
    selection: int = 32,
    start: Design | None = None,
    problem: Problem | None = None,
    on_progress: Callable[[OuterRow, float], None] | None = None,
) -> TuneResult:
    r"""Gradient descent on the barrier through whole training runs.

    Makes `weights` (loss + energy · kT per parameter + time · seconds) small, or the energy under a limit on the loss, or
    the loss under a limit on the energy. The loss is measured on validation data that the runs do not train on.

    Every outer step draws new seeds: with the same ones again and again, a barrier of many knots learns to shape that
    one realisation of the noise into a good direction, and does badly on any other. Because single steps are noisy, the
    candidates for the result are means of the design over parts of the descent, and the best of them on further
    validation runs is returned.

    Args:
        task: a `Task`, or the name of one.
        cell: the memory cell; None takes 1 GHz, 1 ms per step, 300 K and the task's lsb.
        barrier: where to start, a barrier or its name with arguments; None takes a spline of 16 knots that rises from 9
            to 16 kT. What is tuned depends on its class (`limjax.tuning.tuned_fields`).
        weights: prices of energy and time in loss units; None takes 3e-3 per kT and nothing per second.
        max_loss: reach this validation loss with the least energy; "plain" is `plain_validation_loss`.
        max_energy_kt: reach the least validation loss within this energy per parameter [kT].
        tune_learning_rate: whether a factor on the learning-rate schedule is tuned as well (the path is heat too).
        tune_step_time: whether the duration of a step is tuned as well; B >= 0 limits the exchange to k0 times it.
        steps: training steps; None takes the task's.
        batch_size: examples per step; None takes the task's.
        learning_rate: peak learning rate; None takes the task's.
        hops: "gaussian" differentiates through the hop noise, "mean" trains without it.
        outer_steps: steps of the outer optimizer (Adam with a cosine schedule).
        outer_rate: its peak rate, in kT of barrier.
        seeds: tuning seeds of one outer step, or how many.
        resample: whether every outer step draws new seeds; False repeats the same ones.
        held_out: seeds of the evaluation, or how many; they are never used in tuning.
        seed: seed of the evolution strategy's directions.
        gradient: "reverse", "forward", "truncated" or "evolution", see `limjax.tuning.value_and_gradient`.
        window: steps per window of "truncated"; None takes a tenth of the run.
        pairs: antithetic pairs of "evolution".
        validation: share of the training data set aside for validation.
        selection: validation runs per candidate when the result is chosen, 1 to 500; their scatter is what the choice can see.
        start: a whole design to start from, instead of `barrier`.
        problem: a `Problem` to use again with its compiled runs, instead of task, cell and settings.
        on_progress: called after every outer step with its row and the seconds left.

    Returns:
        The result; Ctrl-C, a limit that cannot be met and divergence are result codes, with the best design so far.

    Raises:
        ValueError: for a wrong setting.

    Cost: "reverse" takes four to five times the wall time of the forward runs and the memory of 2√steps of them.

    Example:
        >>> import limjax
        >>> result = limjax.tune("quadratic", barrier=limjax.StaticBarrier(9.0), steps=40, seeds=1, held_out=1,
        ...                      outer_steps=2, weights=limjax.Weights(energy=1.0))
        >>> str(result.result)
        'completed'

    Source: docs/tuning.md; checkpointing after Griewank & Walther, ACM TOMS 26, 19 (2000).
    """
    outer_steps = whole_number(outer_steps, "outer_steps")
    outer_rate = positive_number(outer_rate, "outer_rate")
    if problem is None:
        problem = Problem(
            get_task(task) if isinstance(task, str) else task,
            cell,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            validation=validation,
        )
    if start is None:
        start = problem.design(starting_barrier(barrier, problem))
    tuning_seeds = _seeds(seeds)
    selection = whole_number(selection, "selection")
    if selection > 500:
        raise ValueError(f"selection must be from 1 to 500, so as not to touch the held-out seeds; got {selection}.")
    test_seeds = held_out_seeds(whole_number(held_out, "held_out")) if np.ndim(held_out) == 0 else np.asarray(held_out)
    if set(test_seeds.tolist()) & set(tuning_seeds.tolist()):
        raise ValueError("held_out must not contain tuning seeds: an evaluation on them would flatter the result.")
    if gradient == "truncated":
        window = max(1, problem.steps // 10) if window is None else whole_number(window, "window")
    elif window is not None:
        raise ValueError(f'window is for gradient="truncated", got window={window!r} with gradient={gradient!r}.')
    if max_loss == "plain":
        max_loss = plain_validation_loss(problem, start, selection)
    objective = Objective(weights or Weights(), Budget(max_loss, max_energy_kt))
    variables = Variables(start, learning_rate=tune_learning_rate, step_time=tune_step_time)
    member = Member(problem, objective, variables, tuning_seeds, hops, gradient, window, pairs, selection)
    report = None if on_progress is None else lambda rows, left: on_progress(rows[0], left)
    found = descend(
        [member], outer_steps=outer_steps, outer_rate=outer_rate, resample=resample, seed=seed, on_progress=report
    )
    design = found.designs[0]
    before = evaluate(problem, start, test_seeds)
    shares = {}
    if tune_learning_rate:
        only_barrier = Design(design.barrier, design.log_step_time, start.log_rate)
        only_rate = Design(start.barrier, start.log_step_time, design.log_rate)
        shares = {
            "barrier": evaluate(problem, only_barrier, test_seeds),
            "learning_rate": evaluate(problem, only_rate, test_seeds),
        }
    return TuneResult(
        result=found.result,
        barrier=design.barrier,
        design=design,
        history=tuple(rows[0] for rows in found.history),
        before=before,
        after=evaluate(problem, design, test_seeds),
        plain=evaluate(problem, start, test_seeds, hops="mean"),
        shares=shares,
        nearest=found.limited[0] if objective.limited != "nothing" else None,
        problem=problem,
    )


def starting_barrier(barrier: AbstractBarrier | str | None, problem: Problem) -> AbstractBarrier:
    """Where tuning starts: a barrier, its text, or a spline of 16 knots."""
    if barrier is None:
        return SplineBarrier(np.linspace(9.0, 16.0, 16), problem.steps)
    if isinstance(barrier, str):
        schedule = problem.task.defaults.make_schedule(problem.learning_rate, problem.steps)
        return barrier_from_name(barrier, problem.cell, problem.steps, schedule)
    return barrier


def _seeds(seeds: int | Sequence[int]) -> np.ndarray:
    values = np.arange(whole_number(seeds, "seeds")) if np.ndim(seeds) == 0 else np.asarray(seeds)
    if values.ndim != 1 or values.size == 0 or values.min() < 0:
        raise ValueError(f"seeds must be a positive number, or a list of whole numbers of at least 0; got {seeds!r}.")
    return values.astype(np.uint32)
