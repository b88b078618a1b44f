"""Which numbers of a design are tuned, and on what scale."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from limjax.barriers._base import AbstractBarrier, Tuned
from limjax.tuning._differentiable_run import Design

# A step of 1 in the learning rate's logarithm would be too bold.
_RATE_SIZE = 0.3


class Variables(eqx.Module):
    """A design as a flat dictionary of unbounded, scaled numbers, and back.

    Attributes:
        design: where to start; everything that is not tuned keeps its value.
        learning_rate: whether the learning-rate factor is tuned.
        step_time: whether the step time is tuned.
    """

    design: Design
    learning_rate: bool = eqx.field(static=True, default=False)
    step_time: bool = eqx.field(static=True, default=False)

    def start(self) -> dict[str, Float[Array, "..."]]:
        """The numbers of the design to start from.

        Raises:
            ValueError: if the barrier has nothing to tune.
        """
        barrier = self.design.barrier.centred(1.0)
        values = {
            field: _forward(getattr(barrier, field), scale) / _size(scale)
            for field, scale in tuned_fields(barrier).items()
        }
        if self.learning_rate:
            values["log_rate"] = self.design.log_rate / _RATE_SIZE
        if self.step_time:
            values["log_step_time"] = self.design.log_step_time
        return values

    def to_design(self, values: dict[str, Float[Array, "..."]]) -> Design:
        """The design with these numbers."""
        barrier = self.design.barrier
        for field, scale in tuned_fields(barrier).items():
            value = _backward(values[field] * _size(scale), scale)
            barrier = eqx.tree_at(lambda b, field=field: getattr(b, field), barrier, value)
        barrier = barrier.centred(-1.0)
        rate = values["log_rate"] * _RATE_SIZE if self.learning_rate else self.design.log_rate
        return Design(barrier, values["log_step_time"] if self.step_time else self.design.log_step_time, rate)


def _size(scale: Tuned) -> Any:
    return jnp.asarray(scale.size) if isinstance(scale.size, tuple) else scale.size


def raised(design: Design, kt: float) -> Design | None:
    """The same design with its whole barrier higher by so many kT, the simplest way to more precision for more heat.

    Args:
        design: the design.
        kt: how much higher [kT].

    Returns:
        The design; None for a barrier that does not say how (`AbstractBarrier.level`).
    """
    barrier = design.barrier.raised(kt)
    return None if barrier is None else eqx.tree_at(lambda d: d.barrier, design, barrier)


def tuned_fields(barrier: AbstractBarrier) -> Mapping[str, Tuned]:
    """The numbers of a barrier that tuning changes, as its class attribute `tuned` says.

    Args:
        barrier: the barrier.

    Returns:
        How they are tuned, by name.

    Raises:
        ValueError: if there are none.
    """
    if not barrier.tuned:
        raise ValueError(
            f"A {barrier.name!r} barrier has nothing to tune; use a SplineBarrier or a LearnedBarrier, or give your class "
            'an attribute `tuned`, for example {"height": limjax.tuning.Tuned(1.0)}.'
        )
    unset = [field for field in barrier.tuned if getattr(barrier, field, 0.0) is None]
    if unset:
        raise ValueError(
            f"A {barrier.name!r} barrier that leaves out {', '.join(unset)} has it set by the run, not tuned; give it a number."
        )
    return barrier.tuned


def _forward(x, scale: Tuned):
    return jnp.log(jnp.asarray(x)) if scale.log else jnp.asarray(x)


def _backward(y, scale: Tuned):
    return jnp.exp(y) if scale.log else y


def largest(tree: PyTree) -> float:
    """Largest absolute value in a tree; NaN or infinity if it holds one."""
    return float(max(np.max(np.abs(np.asarray(x, np.float64))) for x in jax.tree.leaves(tree)))
