"""The outer loop: gradient descent on what designs share, for one problem or several at once."""

import enum
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Integer

from limjax.memory._hops import HopsName
from limjax.tuning.gradients import value_and_gradient
from limjax.tuning.objective import Objective
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


class Member:
    """One problem in the outer loop: its limit and the price of it, its seeds, its compiled step.

    Args:
        problem: the problem.
        objective: what is to be made small there.
        variables: the numbers tuned; all members of a loop have the same, around designs of their own.
        seeds: seeds of one outer step.
        hops: how hops are drawn.
        gradient: kind of gradient.
        window: steps per window of "truncated".
        pairs: antithetic pairs of "evolution".
        selection: validation runs per candidate.
    """

    def __init__(
        self,
        problem: Problem,
        objective: Objective,
        variables: Variables,
        seeds: np.ndarray,
        hops: HopsName,
        gradient: str = "reverse",
        window: int | None = None,
        pairs: int = 8,
        selection: int = 32,
    ):
        self.problem, self.objective, self.variables, self.seeds = problem, objective, variables, seeds
        self._hops: HopsName = hops
        self._selection = selection
        self._step = _compiled_step(problem, hops, gradient, window, pairs)
        self._data = problem.data("validation")
        self._plain, self.multiplier = None, 0.0
        if objective.limited == "loss":
            self.multiplier = _TYPICAL_PRICE
            self._plain = _plain_difference(problem, self.design(variables.start()), selection)

    def design(self, point) -> Design:
        """The design of this member at a point."""
        return self.variables.to_design(point)

    def step(self, point, key, offset: int):
        """Objective, mean outcome and gradient at a point, for seeds further on."""
        drawn = self.seeds + np.uint32(offset)
        easier = self._plain(drawn) if self._plain is not None else 0.0
        (value, mean), slope = self._step(
            point, self.variables, self.objective, jnp.asarray(self.multiplier), key, jnp.asarray(drawn),
            jnp.asarray(easier), self._data,
        )  # fmt: skip
        return float(value), mean, slope

    def follow(self, mean: Outcome) -> None:
        """Moves the price of the limit after a step that gave this outcome."""
        if self.objective.limited != "nothing":
            self.multiplier = self.objective.next_multiplier(self.multiplier, mean)

    def judge(self, design: Design) -> "Judgement":
        """How a design does on validation runs of further seeds."""
        outcome = self.problem.run(design, selection_seeds(self._selection), part="validation", hops=self._hops)
        mean = Outcome(*(jnp.mean(x) for x in outcome))
        limited = mean.loss if self.objective.limited == "loss" else mean.energy_kt
        return Judgement(float(limited), float(self.objective.violation(mean)), float(self.objective.goal(mean)))


class Judgement(NamedTuple):
    """A design on validation runs.

    Attributes:
        limited: the limited quantity.
        violation: logarithm of it over its limit.
        goal: what is to be made small.
    """

    limited: float
    violation: float
    goal: float


class Found(NamedTuple):
    """What the loop returns.

    Attributes:
        result: how it ended.
        designs: the design found, one for each member.
        limited: the limited quantity of each on validation runs.
        history: rows of every outer step, one for each member.
    """

    result: TuneCode
    designs: tuple[Design, ...]
    limited: tuple[float, ...]
    history: tuple[tuple[OuterRow, ...], ...]


def descend(
    members: Sequence[Member],
    *,
    outer_steps: int,
    outer_rate: float,
    resample: bool = True,
    seed: int = 0,
    on_progress: Callable[[tuple[OuterRow, ...], float], None] | None = None,
) -> Found:
    """The loop: failures go back to the last good point with a smaller rate; the sum over the members is made small.

    Args:
        members: the problems, whose variables have the same shapes.
        outer_steps: steps of the outer optimizer (Adam with a cosine schedule).
        outer_rate: its peak rate.
        resample: whether every outer step draws new seeds.
        seed: seed of the evolution strategy's directions.
        on_progress: called after every outer step with its rows and the seconds left.

    Returns:
        The best design found, as each member sees it.
    """
    optimizer = optax.scale_by_adam(b1=0.9, b2=0.98)
    point = good = members[0].variables.start()
    state = optimizer.init(point)
    candidates, part = [point], []
    damping, failures = 1.0, 0
    history: list[tuple[OuterRow, ...]] = []
    code, began = TuneCode.completed, time.monotonic()
    try:
        for k in range(outer_steps):
            key = jax.random.fold_in(jax.random.key(seed), k)
            rows, means, slopes = [], [], []
            for member in members:
                value, mean, slope = member.step(point, key, _RESAMPLE * (k + 1) if resample else 0)
                means.append(mean)
                slopes.append(slope)
                rows.append(
                    OuterRow(
                        k, value, float(mean.loss), float(mean.heat_kt), float(mean.actuation_kt), float(mean.seconds),
                        largest(slope), member.multiplier, time.monotonic() - began,
                    )
                )  # fmt: skip
            history.append(tuple(rows))
            if on_progress is not None:
                on_progress(tuple(rows), (outer_steps - k - 1) * rows[-1].seconds / (k + 1))
            if not all(math.isfinite(row.objective) and math.isfinite(row.gradient) for row in rows):
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
            for member, mean in zip(members, means):
                member.follow(mean)
            rate = outer_rate * damping * (0.1 + 0.45 * (1 + math.cos(math.pi * k / outer_steps)))
            slope = jax.tree.map(lambda *x: sum(x[1:], x[0]), *slopes)
            direction, state = optimizer.update(slope, state, point)
            point = jax.tree.map(lambda p, u, rate=rate: p - rate * u, point, direction)
    except KeyboardInterrupt:
        code = TuneCode.interrupted
    if part:
        candidates.append(_mean(part))
    best, is_broken = _select(members, [tuple(m.design(c) for m in members) for c in candidates])
    if code is TuneCode.completed and is_broken:
        code = TuneCode.infeasible
    return Found(code, best.designs, tuple(j.limited for j in best.judgements), tuple(history))


def plain_validation_loss(problem: Problem, design: Design, selection: int = 32) -> float:
    """What training without hop noise reaches on the data that its seeds set aside.

    Args:
        problem: the task and its settings.
        design: any design; without hop noise only its learning rate matters.
        selection: number of seeds.

    Returns:
        Mean over the seeds on which candidates are compared [loss units].
    """
    seeds = selection_seeds(selection)
    return float(np.mean(problem.run(design, seeds, part="validation", hops="mean").loss))


def selection_seeds(count: int) -> Integer[Array, "seeds"]:
    """Seeds on which candidates are compared: neither tuning's nor held out."""
    return jnp.arange(_FIRST_SELECTION, _FIRST_SELECTION + count, dtype=jnp.uint32)


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
def _compiled_step(problem: Problem, hops: HopsName, gradient: str, window: int | None, pairs: int):
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


class _Candidate(NamedTuple):
    designs: tuple[Design, ...]
    judgements: tuple[Judgement, ...]

    @property
    def violation(self) -> float:
        # NaN wins, unlike in max().
        return float(np.max([j.violation for j in self.judgements]))

    @property
    def goal(self) -> float:
        return sum(j.goal for j in self.judgements)

    @property
    def merit(self) -> float:
        """What it is worth once its level is put right, at a typical price of the limit."""
        merit = self.goal + _TYPICAL_PRICE * sum(j.violation for j in self.judgements)
        return merit if math.isfinite(merit) else math.inf

    @property
    def is_broken(self) -> bool:
        return not self.violation <= _FEASIBLE


def _judged(members: Sequence[Member], designs: tuple[Design, ...]) -> _Candidate:
    return _Candidate(designs, tuple(m.judge(d) for m, d in zip(members, designs)))


def _select(members: Sequence[Member], designs: Sequence[tuple[Design, ...]]) -> tuple[_Candidate, bool]:
    """The best of some designs on validation runs of further seeds, and whether it breaks a limit.

    Under a limit the most promising are first raised or lowered as a whole until they just keep it: the gradient of a noisy
    loss settles the shape of a barrier sooner than its level.
    """
    judged = [_judged(members, each) for each in designs]
    if members[0].objective.limited != "nothing":
        promising = sorted(judged, key=lambda c: c.merit)[:_CALIBRATED]
        judged += [found for candidate in promising for found in _calibrated(members, candidate.designs)]
    usable = [c for c in judged if math.isfinite(c.violation) and math.isfinite(c.goal)]
    if not usable:
        return judged[0], True
    best = min(usable, key=lambda c: (c.is_broken, c.violation if c.is_broken else c.goal))
    return best, best.is_broken


def _calibrated(members: Sequence[Member], designs: tuple[Design, ...]) -> Iterator[_Candidate]:
    """Designs on the way to the least whole-barrier shift that keeps the limits, by halving an interval of kT."""
    towards = 1.0 if members[0].objective.limited == "loss" else -1.0
    low, high = (towards * x for x in _SHIFTS)
    for k in range(_HALVINGS + 1):
        shift = high if k == 0 else 0.5 * (low + high)
        moved = tuple(raised(design, shift) for design in designs)
        if any(design is None for design in moved):
            return
        candidate = _judged(members, moved)  # pyright: ignore[reportArgumentType]  # none of them is None
        yield candidate
        if not candidate.is_broken:
            high = shift
        elif k == 0:
            return
        else:
            low = shift
