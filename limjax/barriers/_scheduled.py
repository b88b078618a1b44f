"""A barrier on a timetable."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from limjax.barriers._base import AbstractBarrier, BarrierInputs, RunShape, Tuned
from limjax.barriers._functions import FunctionByValue
from limjax.numerics._elementary import safe_log
from limjax.numerics.checks import as_leaf, checked_leaf

_MOST_RATES = 100_000  # that are looked at for the largest one


class ScheduledBarrier(AbstractBarrier):
    """B(step) = schedule(step) + offset, for any optax schedule in kT.

    Args:
        schedule: function of the step count that returns kT, for example `optax.linear_schedule(8.0, 20.0, 1000)`. A
            schedule that is itself a pytree (an Equinox module) keeps its leaves differentiable.
        offset: added to the schedule [kT]; the leaf to differentiate for schedules that are plain functions.

    Raises:
        ValueError: if the schedule cannot be called, or gives a negative or non-finite barrier at step 0.

    Example:
        >>> import optax
        >>> barrier = ScheduledBarrier(optax.linear_schedule(8.0, 20.0, 1000))
    """

    name: ClassVar[str] = "scheduled"
    per_cell: ClassVar[tuple[str, ...]] = ("offset",)
    tuned: ClassVar[Mapping[str, Tuned]] = {"offset": Tuned()}
    level: ClassVar[tuple[str, float] | None] = ("offset", 1.0)
    schedule: Any
    offset: Float[Array, "..."]

    def __init__(self, schedule: Callable[[Any], Any], offset: ArrayLike = 0.0):
        if not callable(schedule):
            raise ValueError(
                f"ScheduledBarrier needs a function of the step that returns kT, got {schedule!r}. For a constant use "
                "StaticBarrier(kT)."
            )
        self.offset = checked_leaf(offset, "offset", remedy="It is added to the schedule, in kT.")
        # A plain function is not a leaf that jit or scan could carry; it becomes part of the tree's structure.
        self.schedule = _in_a_tree(schedule)
        # Called with an array, as in a step: a schedule that cannot take one fails here, and not in a compiled step.
        start = as_leaf(self.schedule(jnp.zeros((), jnp.int32))) + self.offset
        checked_leaf(start, "the scheduled barrier at step 0", low=0.0, remedy="Schedules are in kT and not below 0.")

    @classmethod
    def of_run(cls, run: RunShape, /, start: float | None = None, power: float = 2.0) -> "ScheduledBarrier":
        """The barrier that rises as the learning rate falls: B = start + ln (lr0/lr)^power, lr0 the largest rate of the run.

        Without `start` it stands at `RunShape.opening` there.
        """
        schedule = _WithTheRate(run.opening if start is None else start, power, run.learning_rate)
        return cls(dataclasses.replace(schedule, peak=schedule.largest_before(run.steps)))

    def arguments(self) -> dict[str, Any]:
        """Refused: a file holds numbers, and this barrier a function."""
        raise ValueError(
            "A 'scheduled' barrier holds a function and cannot be saved; put its values into a SplineBarrier."
        )

    def evaluate(self, inputs: BarrierInputs, state: Any) -> tuple[Any, Any]:
        return as_leaf(self.schedule(inputs.step)) + self.offset, state


# No closure: pickle finds the class by its name, and `FunctionByValue` compares the fields.
@dataclasses.dataclass(frozen=True)
class _WithTheRate:
    """Γ* ∝ v · sqrt(1/p), both of which fall as the learning rate does: B rises by ln (lr0/lr)^power."""

    start: float
    power: float
    learning_rate: Any
    # Step of the largest rate, lr0. Not the first one: before a warm-up from 0 that is 0, and the cells would stand open from then on.
    peak: int = 0

    def __call__(self, step: ArrayLike) -> Float[Array, "..."]:
        # A rate that ends at 0 ends at a barrier that is finite and far above the cell's, which clips it.
        return self.start + self.power * (safe_log(self._rate(self.peak)) - safe_log(self._rate(step)))

    def largest_before(self, steps: int) -> int:
        """The step of the largest rate of a run; of a very long one some steps are left out."""
        if not callable(self.learning_rate):
            return 0
        tried = jnp.arange(0, max(steps, 1), 1 + steps // _MOST_RATES, dtype=jnp.int32)
        try:  # in a loop and not in a `vmap`, of which callbacks know nothing
            rates = jax.lax.map(self._rate, tried)
        except jax.errors.ConcretizationTypeError:  # a schedule in plain Python, for a loop without `jit`
            rates = jnp.stack([self._rate(step) for step in tried])
        return int(tried[jnp.argmax(rates)])

    def _rate(self, step: ArrayLike) -> Float[Array, "..."]:
        value = self.learning_rate(step) if callable(self.learning_rate) else self.learning_rate
        return jnp.asarray(value, jnp.result_type(float))


def _in_a_tree(schedule: Callable[[Any], Any]) -> Any:
    """The schedule as a node of a tree; those that are one already keep their leaves."""
    is_node = isinstance(schedule, eqx.Module | jax.tree_util.Partial | FunctionByValue)
    return schedule if is_node else FunctionByValue(schedule)
