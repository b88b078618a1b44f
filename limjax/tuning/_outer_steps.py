"""The outer loop of tuning: descent on what designs share, for one problem or several at once."""

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from limjax.numerics._outer_loop import Evaluated, outer_loop
from limjax.numerics._result_code import ResultCode
from limjax.tuning._abstract_problem import Design
from limjax.tuning._candidates import selected
from limjax.tuning._members import Member
from limjax.tuning._progress import Progress
from limjax.tuning._search import PARTS, RESAMPLE, Search
from limjax.tuning._variables import largest

TuneCode = ResultCode
"""How tuning ended."""
OnRows = Callable[[tuple["OuterRow", ...], float], None]


class OuterRow(NamedTuple):
    """One outer step, averaged over the tuning seeds.

    Attributes:
        step: outer step, from 0.
        objective: what is made small.
        loss: validation loss.
        heat_kt_per_parameter: update heat per parameter [kT].
        actuation_kt_per_parameter: barrier work per parameter [kT].
        time_seconds: physical duration of the run [s].
        gradient: largest component of the gradient, in scaled numbers.
        multiplier: price of the limit, 0 without one.
        seconds: wall time since the start [s].
    """

    step: int
    objective: float
    loss: float
    heat_kt_per_parameter: float
    actuation_kt_per_parameter: float
    time_seconds: float
    gradient: float
    multiplier: float
    seconds: float


class Found(NamedTuple):
    """What the loop returns.

    Attributes:
        result: how it ended.
        designs: the design found, one for each member.
        limited: the limited quantity of each on validation runs; NaN if Ctrl-C left no time for them.
        history: rows of every outer step, one for each member.
    """

    result: ResultCode
    designs: tuple[Design, ...]
    limited: tuple[float, ...]
    history: tuple[tuple[OuterRow, ...], ...]


def descend(members: Sequence[Member], search: Search, progress: Progress, on_rows: OnRows | None = None) -> Found:
    """Makes the sum over the members small and chooses the best design on the way.

    Args:
        members: the problems, whose variables have the same shapes.
        search: how.
        progress: told of every step.
        on_rows: called after every outer step with its rows and the seconds left.

    Returns:
        The best design found, as each member sees it. After Ctrl-C, which is to end at once, that of the last steps.
    """
    descent = _Descent(members, search, progress, on_rows)
    progress.did(f"compiling the first of {search.steps} outer steps")
    code = outer_loop(
        descent.evaluate,
        descent.accept,
        members[0].variables.start(),
        steps=search.steps,
        # The second moment remembers 1/(1 - 0.98) = 50 steps, about a whole search; Adam's usual 0.999 is 1,000.
        optimizer=optax.chain(optax.scale_by_adam(b1=0.9, b2=0.98), optax.scale(-1.0)),
        schedule=optax.cosine_decay_schedule(search.outer_rate, search.steps, alpha=0.1),
    )
    candidates, history = descent.candidates(), tuple(descent.history)
    if code is not ResultCode.interrupted:
        best, was_stopped = selected(members, candidates, progress)
        if was_stopped:
            code = ResultCode.interrupted
        # Only a search that ran to its end may say that nothing keeps the limit.
        elif code is ResultCode.completed and best is not None and best.is_broken:
            code = ResultCode.infeasible
        if best is not None:
            return Found(code, best.designs, tuple(j.limited for j in best.judgements), history)
    return Found(code, candidates[-1], (math.nan,) * len(members), history)


class _Descent:
    """The members as the loop sees them, and the points it went through."""

    def __init__(self, members: Sequence[Member], search: Search, progress: Progress, on_rows: OnRows | None):
        self._members, self._search, self._progress, self._on_rows = members, search, progress, on_rows
        # The start is a candidate too: a descent that only does harm returns it.
        self._means, self._part, self._found = [], [], [members[0].variables.start()]
        self._key, self._began = jax.random.key(int(search.seed)), time.monotonic()
        self.history: list[tuple[OuterRow, ...]] = []

    def evaluate(self, point: dict[str, Float[Array, "..."]], k: int, state: PyTree) -> Evaluated:
        """Objective and gradient over all members, on seeds of this step."""
        del state
        key = jax.random.fold_in(self._key, k)
        rows, self._means, slopes = [], [], []
        for member in self._members:
            value, mean, slope = member.step(point, key, RESAMPLE * (k + 1) if self._search.resample else 0)
            self._means.append(mean)
            slopes.append(slope)
            rows.append(
                OuterRow(
                    k, value, float(mean.loss), float(mean.heat_kt_per_parameter), float(mean.actuation_kt_per_parameter),
                    float(mean.seconds), largest(slope), member.multiplier, time.monotonic() - self._began,
                )
            )  # fmt: skip
        # Also of steps that are not finite and will be refused: they show where a descent diverges.
        self.history.append(tuple(rows))
        words = f"outer step {k + 1}/{self._search.steps}: " + "; ".join(
            f"loss {r.loss:.4f}, heat {r.heat_kt_per_parameter:.3g} + work {r.actuation_kt_per_parameter:.3g} kT/parameter"
            for r in rows
        )
        runs = sum(self._search.step_runs(m.objective.limited) for m in self._members)
        self._progress.did(words, runs, "outer step")
        if self._on_rows is not None:
            self._on_rows(tuple(rows), self._progress.left)
        # A step that is wrong for one of them is taken for none: the point is shared.
        finite = all(math.isfinite(row.objective) and math.isfinite(row.gradient) for row in rows)
        return Evaluated(sum(row.objective for row in rows), jax.tree.map(lambda *x: sum(x[1:], x[0]), *slopes), finite)

    def accept(self, point: dict[str, Float[Array, "..."]], found: Evaluated) -> bool:
        """Keeps the point, and moves the prices of the limits."""
        del found
        self._part.append(point)
        if len(self._part) >= -(-self._search.steps // PARTS):
            self._found.append(_mean(self._part))
            self._part = []
        # After the evaluation, so that value and slope of a step are at one price.
        for member, mean in zip(self._members, self._means):
            member.follow(mean)
        return False

    def candidates(self) -> list[tuple[Design, ...]]:
        """The start and the means over parts of the descent, as each member sees them."""
        points = [*self._found, *([_mean(self._part)] if self._part else [])]
        return [tuple(member.design(point) for member in self._members) for point in points]


def _mean(points: list[dict[str, Float[Array, "..."]]]) -> dict[str, Float[Array, "..."]]:
    return jax.tree.map(lambda *x: jnp.mean(jnp.stack(x), axis=0), *points)
