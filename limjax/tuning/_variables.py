"""Which numbers of a design are tuned, and on what scale."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from limjax.barriers._base import AbstractBarrier, Tuned
from limjax.tuning._abstract_problem import Design

# A step of 1 in the learning rate's logarithm would be too bold.
_RATE_SIZE = 0.3


class Variables(eqx.Module):
    """A design as a flat dictionary of unbounded, scaled numbers, and back.

    Attributes:
        design: where to start; everything that is not tuned keeps its value.
        learning_rate: whether the learning-rate factor is tuned.
        step_time: whether the step time is tuned.
        numbers: names of the barrier's numbers that are tuned; None for all that can be.
    """

    design: Design
    learning_rate: bool = eqx.field(static=True, default=False)
    step_time: bool = eqx.field(static=True, default=False)
    numbers: tuple[str, ...] | None = eqx.field(static=True, default=None)

    def start(self) -> dict[str, Float[Array, "..."]]:
        """The numbers of the design to start from.

        Raises:
            ValueError: if the barrier has nothing to tune, or a number whose logarithm is tuned is 0.
        """
        barrier = self.design.barrier.centred(1.0)
        values = {
            field: _forward(attrgetter(field)(barrier), scale) / _size(scale)
            for field, scale in tuned_fields(barrier, self.numbers).items()
        }
        for field, value in values.items():
            # Barriers of this library hold finite numbers only, so this is the logarithm of 0.
            if not jnp.all(jnp.isfinite(value)):
                raise ValueError(f"Tuning moves the logarithm of {field}: start it above 0, not from {barrier!r}.")
        if self.learning_rate:
            values["log_rate"] = self.design.log_rate / _RATE_SIZE
        if self.step_time:
            # Its size is 1: a factor e in time is a factor e in exchange, as 1 kT of barrier is.
            values["log_step_time"] = self.design.log_step_time
        return values

    def to_design(self, values: dict[str, Float[Array, "..."]]) -> Design:
        """The design with these numbers."""
        # Centred as in `start`, also where only some numbers are replaced: the way back moves all of them.
        barrier = self.design.barrier.centred(1.0)
        for field, scale in tuned_fields(barrier, self.numbers).items():
            value = _backward(values[field] * _size(scale), scale)
            barrier = eqx.tree_at(attrgetter(field), barrier, value)
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


def tuned_fields(barrier: AbstractBarrier, numbers: tuple[str, ...] | None = None) -> Mapping[str, Tuned]:
    """The numbers of a barrier that tuning changes, as its class attribute `tuned` says.

    Args:
        barrier: the barrier.
        numbers: names of some of them; None for all.

    Returns:
        How they are tuned, by name; a number of a part is `part.number`.

    Raises:
        ValueError: if there are none, or one that is not there.
    """
    known = barrier.tuned_numbers()
    if not known:
        raise ValueError(
            f"A {barrier.name!r} barrier has nothing to tune; use a SplineBarrier or a LearnedBarrier, or give your class "
            'an attribute `tuned`, for example {"height": limjax.tuning.Tuned(1.0)}.'
        )
    unknown = [name for name in numbers or () if name not in known]
    if unknown:
        raise ValueError(f"A {barrier.name!r} barrier has no {unknown[0]!r} to tune; it has {', '.join(known)}.")
    chosen = known if numbers is None else {name: known[name] for name in numbers}
    unset = [field for field in chosen if getattr(barrier, field, 0.0) is None]  # numbers of parts are always set
    if unset:
        raise ValueError(
            f"A {barrier.name!r} barrier that leaves out {', '.join(unset)} has it set by the run, not tuned; give it a number."
        )
    return chosen


def _forward(x: ArrayLike, scale: Tuned) -> Array:
    return jnp.log(jnp.asarray(x)) if scale.log else jnp.asarray(x)


def _backward(y: Float[Array, "*s"], scale: Tuned) -> Float[Array, "*s"]:
    if scale.log:
        return jnp.exp(y)
    # The slope stays that of y: a number that has come below could not come back otherwise.
    return y + jax.lax.stop_gradient(jnp.maximum(y, scale.low) - y)


def largest(tree: PyTree) -> float:
    """Largest absolute value in a tree; NaN or infinity if it holds one."""
    # Not Python's max, which drops a NaN that is not first.
    return float(np.max([np.max(np.abs(np.asarray(x, np.float64))) for x in jax.tree.leaves(tree)]))
