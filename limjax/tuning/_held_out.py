"""How good a design is on seeds that tuning has not seen, and how good hand-made policies are."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from limjax.barriers._base import AbstractBarrier
from limjax.barriers._fisher import FisherBarrier
from limjax.barriers._fowler_nordheim import FowlerNordheimBarrier
from limjax.barriers._lyapunov import LyapunovBarrier
from limjax.barriers._moment import MomentBarrier
from limjax.barriers._rate_matched import RateMatchedBarrier
from limjax.barriers._spline import SplineBarrier
from limjax.barriers._static import StaticBarrier
from limjax.memory._hops import HopsName
from limjax.training import TrainResult, train
from limjax.tuning._abstract_problem import AbstractProblem, Design
from limjax.tuning._differentiable_run import Problem
from limjax.tuning._progress import Progress

HELD_OUT_FROM = 1000
"""First of the held-out seeds; tuning seeds count from 0."""


class Evaluation(NamedTuple):
    """Test loss and cost of a design, one number per seed.

    Attributes:
        loss: test loss after training on all training data.
        heat_kt_per_parameter: update heat per parameter [kT].
        actuation_kt_per_parameter: barrier work per parameter [kT].
        path_levels: requested path per parameter [levels].
        seconds: physical duration of a run [s].
    """

    loss: Float[np.ndarray, "seeds"]
    heat_kt_per_parameter: Float[np.ndarray, "seeds"]
    actuation_kt_per_parameter: Float[np.ndarray, "seeds"]
    path_levels: Float[np.ndarray, "seeds"]
    seconds: float

    @property
    def is_missing(self) -> bool:
        """Whether it was not made, because of Ctrl-C."""
        return self.loss.size == 0

    @property
    def mean_loss(self) -> float:
        """Mean test loss."""
        return mean_with_error(self.loss)[0]

    @property
    def loss_error(self) -> float:
        """Standard error of the mean test loss; NaN for one seed."""
        return mean_with_error(self.loss)[1]

    @property
    def energy_kt_per_parameter(self) -> float:
        """Mean heat and barrier work per parameter [kT]."""
        return mean_with_error(self.heat_kt_per_parameter + self.actuation_kt_per_parameter)[0]

    @property
    def energy_kt_per_parameter_error(self) -> float:
        """Its standard error [kT]; NaN for one seed."""
        return mean_with_error(self.heat_kt_per_parameter + self.actuation_kt_per_parameter)[1]

    def is_no_worse_than(self, other: "Evaluation") -> bool:
        """Whether the mean test loss is at most the other's plus one standard error of the other."""
        error = other.loss_error
        # One seed has no error: the bare losses decide.
        return self.mean_loss <= other.mean_loss + (0.0 if math.isnan(error) else error)


MISSING = Evaluation(*(np.zeros(0) for _ in range(4)), seconds=math.nan)
"""In place of an evaluation that was not made; its means are NaN."""


def mean_with_error(values: Float[np.ndarray, "seeds"]) -> tuple[float, float]:
    """Mean and standard error of numbers of independent seeds; NaN where there are too few of them."""
    mean = float(values.mean()) if values.size else math.nan
    return mean, float(values.std(ddof=1) / math.sqrt(values.size)) if values.size > 1 else math.nan


def held_out_seeds(count: int) -> np.ndarray:
    """The first held-out seeds.

    Args:
        count: how many.

    Returns:
        Whole numbers from `HELD_OUT_FROM`.
    """
    return np.arange(HELD_OUT_FROM, HELD_OUT_FROM + count).astype(np.uint32)


def evaluate(
    problem: AbstractProblem,
    design: Design | AbstractBarrier,
    seeds: Sequence[int] | np.ndarray,
    *,
    hops: HopsName = "exact",
) -> Evaluation:
    """Trains with a design on all training data, once per seed, and measures on the test data.

    Args:
        problem: the task and its settings.
        design: the design, or only its barrier.
        seeds: whole numbers, `held_out_seeds(8)` for example.
        hops: "exact" as in real runs, "mean" for the plain optimizer.

    Returns:
        The evaluation.
    """
    if isinstance(design, AbstractBarrier):
        design = problem.design(design)
    outcome = problem.run(design, jnp.asarray(np.asarray(seeds), jnp.uint32), part="test", hops=hops)
    # On the host in float64, so that the means over seeds do not round again.
    loss, heat, actuation, path = (np.asarray(x, np.float64) for x in outcome[:4])
    # The duration is the design's, the same for all seeds.
    return Evaluation(loss, heat, actuation, path, float(outcome.seconds[0]))


LAW_FAMILIES = ("lyapunov by the law", "moment")
"""Families of `hand_made_policies` that the law sets; the others need a number to be chosen for every run."""


class HandMade(NamedTuple):
    """One hand-made policy and how it did.

    Attributes:
        family: kind of barrier.
        setting: its arguments in words.
        barrier: the barrier.
        evaluation: held-out evaluation.
    """

    family: str
    setting: str
    barrier: AbstractBarrier
    evaluation: Evaluation


def hand_made_policies(problem: Problem) -> dict[str, dict[str, AbstractBarrier]]:
    """Families of eight hand-made barriers each, that cover what is sensible for any run, and the two that the law sets.

    Args:
        problem: the problem, for its length and its learning-rate schedule.

    Returns:
        Barriers by family and setting.
    """
    starts = (9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0)
    schedule = problem.task.defaults.make_schedule(problem.learning_rate, problem.steps)
    progress = np.linspace(0, 1, 33)
    rates = np.array([float(schedule(p * (problem.steps - 1))) for p in progress])
    # g is best at |d|/sqrt(2p), and both the request and 1/sqrt(p) fall as the rate does: B rises by 2 ln (lr0/lr).
    # The last steps of a cosine have hardly any rate; the barrier need not follow by more than 2 ln 10⁴ = 18 kT.
    fall = np.log(rates[0] / np.maximum(rates, rates[0] * 1e-4))
    duration = problem.steps * float(problem.cell.step_time)
    return {
        "static": {f"{b + 2:g} kT": StaticBarrier(b + 2) for b in starts},
        "learning rate squared": {
            f"start {b:g} kT": SplineBarrier(b + 2 * fall, problem.steps) for b in starts
        },
        "linear": {
            f"{b:g} to {b + rise:g} kT": SplineBarrier([b, b + rise], problem.steps)
            for b in (9.0, 10.0, 11.0, 12.0)
            for rise in (4.0, 8.0)
        },
        "lyapunov": {f"start {b:g} kT": LyapunovBarrier(b) for b in starts},
        "rate-matched": {
            f"ratio {r:g}": RateMatchedBarrier(r, granularity="leaf") for r in (0.25, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0, 8.0)
        },
        "fisher": {f"price {p:g} kT": FisherBarrier(p) for p in 10.0 ** np.arange(7.0, 10.75, 0.5)},
        "fowler-nordheim": {
            f"start {b:g} kT, time constant {share:g} of the run": FowlerNordheimBarrier(b, share * duration)
            for b in (9.0, 10.0, 11.0, 12.0)
            for share in (0.002, 0.05)
        },
        "lyapunov by the law": {"no start": LyapunovBarrier()},
        "moment": {f"scale {k:g}": MomentBarrier(k) for k in 2.0 ** np.arange(-3.0, 5.0)},
    }  # fmt: skip


def hand_made_work(problem: Problem, seeds: int) -> tuple[int, int]:
    """How many training runs all hand-made policies take, and by how many programs."""
    families = hand_made_policies(problem)
    return seeds * sum(map(len, families.values())), len(families)


def evaluate_hand_made(
    problem: Problem,
    seeds: Sequence[int] | np.ndarray,
    *,
    policies: dict[str, dict[str, AbstractBarrier]] | None = None,
    on_progress: Callable[[HandMade], None] | None = None,
    progress: Progress | None = None,
) -> list[HandMade]:
    """Evaluates a grid of hand-made policies on held-out seeds.

    Args:
        problem: the task and its settings.
        seeds: the same held-out seeds that the tuned design is judged on.
        policies: barriers by family and setting; None takes `hand_made_policies`.
        on_progress: called after every policy.
        progress: told of every family.

    Returns:
        All of them, in order.
    """
    results = []
    for family, settings in (hand_made_policies(problem) if policies is None else policies).items():
        if progress is not None:
            progress.did(f"hand-made barriers on the held-out seeds: {family}")
        for setting, barrier in settings.items():
            result = HandMade(family, setting, barrier, evaluate(problem, barrier, seeds))
            results.append(result)
            if progress is not None:
                # Barriers of a family differ in numbers alone: the first compiles for all.
                progress.did(runs=len(seeds), program=family)
            if on_progress is not None:
                on_progress(result)
    return results


def best_hand_made(results: Sequence[HandMade], plain: Evaluation) -> HandMade | None:
    """The policy of least energy among those whose test loss is no worse than the plain optimizer's.

    Chosen on the held-out seeds themselves, which favours the hand-made policies.

    Args:
        results: evaluated policies.
        plain: evaluation of the plain optimizer on the same seeds.

    Returns:
        The best, or None if none is good enough.
    """
    good = [r for r in results if r.evaluation.is_no_worse_than(plain)]
    return min(good, key=lambda r: r.evaluation.energy_kt_per_parameter, default=None)


def energy_at_loss(results: Sequence[tuple[float, float]], loss: float) -> float | None:
    """What the best of some policies cost at a loss that none of them has exactly.

    The logarithm of the energy, interpolated between those that no other beats in both loss and energy.

    Args:
        results: `(loss, energy [kT])` of each policy.
        loss: the loss to compare at.

    Returns:
        The energy [kT]; None outside the losses of the front.

    Example:
        >>> f"{energy_at_loss([(1.0, 8.0), (2.0, 2.0), (3.0, 9.0)], 1.5):.2f} kT"
        '4.00 kT'
    """
    # By loss, then by energy: of equal losses only the cheapest can be on the front.
    points = np.array(sorted(results), np.float64).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    if not points.size:
        return None
    # In order of rising loss a policy is beaten in neither if it is cheaper than all before it.
    front = points[points[:, 1] < np.minimum.accumulate(np.concatenate([[math.inf], points[:-1, 1]]))]
    # np.interp would go on flat, as if the ends had been seen there; a NaN loss ends here too.
    if not front[0, 0] <= loss <= front[-1, 0]:
        return None
    return float(np.exp(np.interp(loss, front[:, 0], np.log(front[:, 1]))))


def train_design(problem: Problem, design: Design, seed: int, *, hops: HopsName = "exact") -> TrainResult:
    """One training run with a design, with the full per-parameter ledger and history of `limjax.train`.

    Args:
        problem: the task and its settings.
        design: the design.
        seed: whole number.
        hops: as in `limjax.train`.

    Returns:
        The run.
    """
    cell = eqx.tree_at(lambda c: c.step_time, problem.cell, jnp.exp(design.log_step_time))
    return train(
        problem.task,
        cell=cell,
        barrier=design.barrier,
        # With the number below Adam's root that tuning had: this is to be the run that was judged.
        optimizer=problem.task.defaults.make_optimizer(problem.schedule(design), differentiable=True),
        hops=hops,
        steps=problem.steps,
        batch_size=problem.batch_size,
        learning_rate=problem.learning_rate,
        seed=seed,
    )
