"""A barrier on a timetable."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from limjax.barriers.base import AbstractBarrier, BarrierInputs
from limjax.barriers.functions import FunctionByValue
from limjax.numerics.checks import as_leaf, checked_leaf


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
        start = as_leaf(self.schedule(jnp.zeros((), jnp.int32))) + self.offset
        checked_leaf(start, "the scheduled barrier at step 0", low=0.0, remedy="Schedules are in kT and not below 0.")

    def evaluate(self, inputs: BarrierInputs, state: Any) -> tuple[Any, Any]:
        return as_leaf(self.schedule(inputs.step)) + self.offset, state


def _in_a_tree(schedule: Callable[[Any], Any]) -> Any:
    """The schedule as a node of a tree; those that are one already keep their leaves."""
    is_node = isinstance(schedule, eqx.Module | jax.tree_util.Partial | FunctionByValue)
    return schedule if is_node else FunctionByValue(schedule)
