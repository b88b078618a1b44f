"""The outer loop: gradient descent on the design of a run."""

import enum
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from limjax.barriers.base import AbstractBarrier
from limjax.barriers.specification import barrier_from_name
from limjax.barriers.spline import SplineBarrier
from limjax.optimizer import Hops
from limjax.physics.cell import ArrheniusCell
from limjax.tasks import Task, get_task
from limjax.tuning.gradients import value_and_gradient
from limjax.tuning.held_out import Evaluation, evaluate, held_out_seeds
from limjax.tuning.objective import Budget, Objective, Weights
from limjax.tuning.problem import Design, Outcome, Problem
from limjax.tuning.variables import Variables, largest, raised

_TOLERATED_FAILURES = 5
# Tuning seeds are small numbers plus multiples of this, selection seeds lie below the held-out ones.
_RESAMPLE = 100_000
_FIRST_SELECTION = 500
# Candidates are means of the design over so many parts of the descent.
_PARTS = 8
# A limit counts as kept within half a percent: the seeds' own scatter is larger.
_FEASIBLE = 0.005
# So many candidates are raised or lowered until they keep the limit, between these shifts [kT], in so many halvings.
_CALIBRATED, _SHIFTS, _HALVINGS = 2, (-4.0, 4.0), 6
# Of a logarithm of the loss in logarithms of the energy, near a loss that is hardly worse than plain training's.
_TYPICAL_PRICE = 15.0


class TuneCode(enum.StrEnum):
    """How tuning ended."""

    completed = "completed"
    interrupted = "interrupted"
    infeasible = "infeasible"
    diverged = "diverged"

    @property
    def help(self) -> str:
        """What it means and what to do."""
        return {
            "completed": "All outer steps were taken; the best design seen is returned.",
            "interrupted": "Tuning was stopped; the best design so far is returned.",
            "infeasible": (
                "No design met the limit; the one nearest to it is returned, and its value is in the history. Loosen the "
                "limit, take more outer steps, or give the barrier more freedom."
            ),
            "diverged": (
                "The outcome or its gradient was not finite again and again, even with smaller steps; the best design before "
                "that is returned. Lower the training's learning rate, the outer rate or the energy weight, check the data "
                'for NaN, or use gradient="evolution".'
            ),
        }[self.value]


class OuterRow(NamedTuple):
    """One outer step, averaged over the tuning seeds.

    Attributes:
        step: outer step, from 0.
        objective: what is made small.
        loss: validation loss.
        heat_kt: update heat per parameter [kT].
        actuation_kt: barrier work per parameter [kT].
        time_seconds: physical duration of the run [s].
        gradient: largest component of the gradient, in scaled numbers.
        multiplier: price of the limit, 0 without one.
        seconds: wall time since the start [s].
    """

    step: int
    objective: float
    loss: float
    heat_kt: float
    actuation_kt: float
    time_seconds: float
    gradient: float
    multiplier: float
    seconds: float


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
    cell: ArrheniusCell | None = None,
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
    hops: Hops = "gaussian",
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
    outer_steps = _count(outer_steps, "outer_steps")
    if not (math.isfinite(outer_rate) and outer_rate > 0):
        raise ValueError(f"outer_rate must be a positive number, got {outer_rate!r}.")
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
        start = problem.design(_barrier(barrier, problem))
    tuning_seeds = _seeds(seeds)
    if not 1 <= _count(selection, "selection") <= 500:
        raise ValueError(f"selection must be from 1 to 500, so as not to touch the held-out seeds; got {selection}.")
    test_seeds = held_out_seeds(held_out) if isinstance(held_out, int) else np.asarray(held_out)
    if set(test_seeds.tolist()) & set(tuning_seeds.tolist()):
        raise ValueError("held_out must not contain tuning seeds: an evaluation on them would flatter the result.")
    if gradient == "truncated":
        window = max(1, problem.steps // 10) if window is None else _count(window, "window")
    elif window is not None:
        raise ValueError(f'window is for gradient="truncated", got window={window!r} with gradient={gradient!r}.')
    if max_loss == "plain":
        max_loss = plain_validation_loss(problem, start, selection)
    objective = Objective(weights or Weights(), Budget(max_loss, max_energy_kt))
    variables = Variables(start, learning_rate=tune_learning_rate, step_time=tune_step_time)
    code, design, nearest, history = _descend(
        problem, objective, variables, hops, outer_steps, outer_rate, tuning_seeds, resample, seed, gradient, window,
        pairs, selection, on_progress,
    )  # fmt: skip
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
        result=code,
        barrier=design.barrier,
        design=design,
        history=history,
        before=before,
        after=evaluate(problem, design, test_seeds),
        plain=evaluate(problem, start, test_seeds, hops="mean"),
        shares=shares,
        nearest=nearest if objective.limited != "nothing" else None,
        problem=problem,
    )


def plain_validation_loss(problem: Problem, design: Design, selection: int = 32) -> float:
    """What training without hop noise reaches on the data that its seeds set aside.

    Args:
        problem: the task and its settings.
        design: any design; without hop noise only its learning rate matters.
        selection: number of seeds.

    Returns:
        Mean over the seeds on which candidates are compared [loss units].
    """
    seeds = _selection_seeds(selection)
    return float(np.mean(problem.run(design, seeds, part="validation", hops="mean").loss))


def _selection_seeds(count: int):
    return jnp.arange(_FIRST_SELECTION, _FIRST_SELECTION + count, dtype=jnp.uint32)


def _descend(
    problem, objective, variables, hops, outer_steps, outer_rate, seeds, resample, seed, gradient, window, pairs,
    selection, on_progress,
):  # fmt: skip
    """The loop: every step is one compiled call; failures go back to the last good point with a smaller rate."""
    data = problem.data("validation")

    step = _compiled_step(problem, hops, gradient, window, pairs)
    optimizer = optax.scale_by_adam(b1=0.9, b2=0.98)
    point = good = variables.start()
    state = optimizer.init(point)
    candidates, part = [point], []
    multiplier, damping, failures = _TYPICAL_PRICE if objective.limited == "loss" else 0.0, 1.0, 0
    history: list[OuterRow] = []
    plain = _plain_difference(problem, variables.to_design(point), selection) if objective.limited == "loss" else None
    code, began = TuneCode.completed, time.monotonic()
    try:
        for k in range(outer_steps):
            key = jax.random.fold_in(jax.random.key(seed), k)
            drawn = seeds + np.uint32(_RESAMPLE * (k + 1)) if resample else seeds
            easier = plain(drawn) if plain is not None else 0.0
            (value, mean), slope = step(
                point, variables, objective, jnp.asarray(multiplier), key, jnp.asarray(drawn), jnp.asarray(easier), data
            )
            steepest = largest(slope)
            row = OuterRow(
                k, float(value), float(mean.loss), float(mean.heat_kt), float(mean.actuation_kt), float(mean.seconds),
                steepest, multiplier, time.monotonic() - began,
            )  # fmt: skip
            history.append(row)
            if on_progress is not None:
                on_progress(row, (outer_steps - k - 1) * row.seconds / (k + 1))
            if not (math.isfinite(row.objective) and math.isfinite(steepest)):
                failures += 1
                # If not even the start was finite, there is nothing to go back to.
                if failures > _TOLERATED_FAILURES or len(history) == failures:
                    code = TuneCode.diverged
                    break
                damping *= 0.5
                point, state = good, optimizer.init(good)
                continue
            good = point
            part.append(point)
            if len(part) >= max(1, outer_steps // _PARTS):
                candidates.append(_mean(part))
                part = []
            multiplier = objective.next_multiplier(multiplier, mean) if objective.limited != "nothing" else 0.0
            rate = outer_rate * damping * (0.1 + 0.45 * (1 + math.cos(math.pi * k / outer_steps)))
            direction, state = optimizer.update(slope, state, point)
            point = jax.tree.map(lambda p, u, rate=rate: p - rate * u, point, direction)
    except KeyboardInterrupt:
        code = TuneCode.interrupted
    if part:
        candidates.append(_mean(part))
    design, is_broken, nearest = _select(
        problem, objective, [variables.to_design(c) for c in candidates], hops, selection
    )
    if code is TuneCode.completed and is_broken:
        code = TuneCode.infeasible
    return code, design, nearest, tuple(history)


def _plain_difference(problem: Problem, start: Design, selection: int) -> Callable[[np.ndarray], float]:
    """How much less training without hop noise loses on some seeds than on the seeds of the selection, as a control variate.

    What a seed sets aside may be easy or hard, which scatters losses by far more than a barrier changes them.
    """
    usual = plain_validation_loss(problem, start, selection)

    def difference(seeds: np.ndarray) -> float:
        outcome = problem.run(start, jnp.asarray(seeds, jnp.uint32), part="validation", hops="mean")
        value = float(np.mean(outcome.loss)) - usual
        # A run that diverges even without hop noise is reported by the outer loop.
        return value if math.isfinite(value) else 0.0

    return difference


@functools.lru_cache(maxsize=32)
def _compiled_step(problem: Problem, hops: Hops, gradient: str, window: int | None, pairs: int):
    """One outer step as a compiled function, kept for the next call with the same problem."""

    @eqx.filter_jit
    def step(point, variables, objective, multiplier, key, seeds, easier, data):
        def function(point):
            design = variables.to_design(point)
            outcomes = jax.vmap(lambda s: problem.outcome(design, s, data, hops, window))(seeds)
            mean = jax.tree.map(jnp.mean, outcomes)
            mean = mean._replace(loss=mean.loss - easier.astype(mean.loss.dtype))
            return objective.value(mean, multiplier), mean

        return value_and_gradient(function, gradient, pairs=pairs)(point, key)

    return step


def _mean(points):
    return jax.tree.map(lambda *x: jnp.mean(jnp.stack(x), axis=0), *points)


def _select(problem: Problem, objective: Objective, designs: Sequence[Design], hops: Hops, selection: int):
    """The best of some designs on validation runs of further seeds.

    Under a limit the most promising are first raised or lowered as a whole until they just keep it: the gradient of a noisy
    loss settles the shape of a barrier sooner than its level.
    """

    def judge(design):
        outcome = problem.run(design, _selection_seeds(selection), part="validation", hops=hops)
        mean = Outcome(*(jnp.mean(x) for x in outcome))
        return mean, float(objective.violation(mean)), float(objective.goal(mean))

    judged = [(design, *judge(design)) for design in designs]
    if objective.limited != "nothing":
        promising = sorted(judged, key=lambda j: _merit(j[2], j[3]))[:_CALIBRATED]
        judged += [found for design, *_ in promising for found in _calibrated(design, objective, judge)]

    def rank(entry):
        _, _, violation, goal = entry
        is_broken = not violation <= _FEASIBLE
        return is_broken, violation if is_broken else goal

    usable = [j for j in judged if math.isfinite(j[2]) and math.isfinite(j[3])]
    if not usable:
        return designs[0], True, math.nan
    design, mean, violation, _ = min(usable, key=rank)
    limited = mean.loss if objective.limited == "loss" else mean.energy_kt
    return design, not violation <= _FEASIBLE, float(limited)


def _merit(violation: float, goal: float) -> float:
    """What a design is worth once its level is put right, at a typical price of the limit."""
    merit = goal + _TYPICAL_PRICE * violation
    return merit if math.isfinite(merit) else math.inf


def _calibrated(design: Design, objective: Objective, judge):
    """Designs on the way to the least whole-barrier shift that keeps the limit, by halving an interval of kT."""
    towards = 1.0 if objective.limited == "loss" else -1.0
    low, high = (towards * x for x in _SHIFTS)
    for k in range(_HALVINGS + 1):
        shift = high if k == 0 else 0.5 * (low + high)
        moved = raised(design, shift)
        if moved is None:
            return
        mean, violation, goal = judge(moved)
        yield moved, mean, violation, goal
        if violation <= _FEASIBLE:
            high = shift
        elif k == 0:
            return
        else:
            low = shift


def _barrier(barrier: AbstractBarrier | str | None, problem: Problem) -> AbstractBarrier:
    if barrier is None:
        return SplineBarrier(np.linspace(9.0, 16.0, 16), problem.steps)
    if isinstance(barrier, str):
        schedule = problem.task.defaults.make_schedule(problem.learning_rate, problem.steps)
        return barrier_from_name(barrier, problem.cell, problem.steps, schedule)
    return barrier


def _seeds(seeds: int | Sequence[int]) -> np.ndarray:
    values = np.arange(_count(seeds, "seeds")) if isinstance(seeds, int) else np.asarray(seeds)
    if values.ndim != 1 or values.size == 0 or values.min() < 0:
        raise ValueError(f"seeds must be a positive number, or a list of whole numbers of at least 0; got {seeds!r}.")
    return values.astype(np.uint32)


def _count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}.")
    return value
