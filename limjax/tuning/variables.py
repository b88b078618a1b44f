"""Which numbers of a design are tuned, and on what scale."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from limjax.barriers.base import AbstractBarrier
from limjax.barriers.learned import MIDDLE, WIDTH, LearnedBarrier
from limjax.tuning.problem import Design


class Scale(NamedTuple):
    """How a tuned number is seen by the optimizer: a step of 1 is `size` in the number or its logarithm.

    Attributes:
        size: what a change of 1 means; a tuple for a row of numbers.
        kind: "linear", "log" (for positive numbers) or "logit" (between 0 and 1).
    """

    size: float | tuple[float, ...]
    kind: str = "linear"


# A step of 1 in the learning rate's logarithm would be too bold.
_RATE_SIZE = 0.3
# Heights in kT; a change of one kT is a factor e in the exchange, and so is one of the logarithms.
_TUNED: dict[str, dict[str, Scale]] = {
    "static": {"height": Scale(1.0)},
    "scheduled": {"offset": Scale(1.0)},
    "lyapunov": {"start": Scale(1.0)},
    "moment": {"scale": Scale(1.0, "log")},
    "rate-matched": {"ratio": Scale(1.0, "log")},
    "fisher": {"price": Scale(2.0, "log")},
    "fowler-nordheim": {"start": Scale(1.0), "time_constant": Scale(1.0, "log")},
    "spline": {"knots": Scale(1.0)},
    "learned": {
        "offset": Scale(1.0),
        # In equal shares of what the features span.
        "slopes": Scale(tuple(0.6 / width for width in WIDTH)),
        "hidden": Scale(0.3),
        "hidden_bias": Scale(0.3),
        "output": Scale(0.3),
    },
}


# What makes a barrier higher everywhere, and how it goes with kT.
_LEVEL: dict[str, tuple[str, float]] = {
    "static": ("height", 1.0),
    "scheduled": ("offset", 1.0),
    "lyapunov": ("start", 1.0),
    "moment": ("scale", -1.0),
    "rate-matched": ("ratio", -1.0),
    "fisher": ("price", 2.0),
    "fowler-nordheim": ("start", 1.0),
    "spline": ("knots", 1.0),
    "learned": ("offset", -1.0),
}


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
        barrier = _centred(self.design.barrier, 1.0)
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
        barrier = _centred(barrier, -1.0)
        rate = values["log_rate"] * _RATE_SIZE if self.learning_rate else self.design.log_rate
        return Design(barrier, values["log_step_time"] if self.step_time else self.design.log_step_time, rate)


def _size(scale: Scale) -> Any:
    return jnp.asarray(scale.size) if isinstance(scale.size, tuple) else scale.size


def _centred(barrier: AbstractBarrier, sign: float) -> AbstractBarrier:
    """Offset of the learned rule in the middle of its features instead of at their zero, so that a slope turns it there.

    The logarithm of a second moment is about -25: a small change of its slope would else move every barrier by kT.
    """
    if not isinstance(barrier, LearnedBarrier):
        return barrier
    moved = barrier.offset + sign * jnp.sum(barrier.slopes * jnp.asarray(MIDDLE, barrier.slopes.dtype), axis=-1)
    return eqx.tree_at(lambda b: b.offset, barrier, moved)


def raised(design: Design, kt: float) -> Design | None:
    """The same design with its whole barrier higher by so many kT, the simplest way to more precision for more heat.

    Args:
        design: the design.
        kt: how much higher [kT].

    Returns:
        The design; None for a barrier of your own, which has no such number that is known here.
    """
    if design.barrier.name not in _LEVEL:
        return None
    field, power = _LEVEL[design.barrier.name]
    value = getattr(design.barrier, field)
    if value is None:  # a start that the run sets
        return None
    moved = value * jnp.exp(power * kt) if field in ("ratio", "price", "scale") else value + power * kt
    return eqx.tree_at(lambda d: getattr(d.barrier, field), design, moved)


def tuned_fields(barrier: AbstractBarrier) -> dict[str, Scale]:
    """The fields of a barrier that tuning changes.

    Args:
        barrier: the barrier.

    Returns:
        Scales by name of the field. A barrier class of your own says which with a class attribute `tuned`, a dict of
        the same form.

    Raises:
        ValueError: if there are none.
    """
    fields: Any = getattr(type(barrier), "tuned", None) or _TUNED.get(barrier.name)
    if not fields:
        raise ValueError(
            f"A {barrier.name!r} barrier has nothing to tune; use a SplineBarrier or a LearnedBarrier, or give your class "
            'an attribute `tuned`, for example {"height": limjax.tuning.Scale(1.0)}.'
        )
    unset = [field for field in fields if getattr(barrier, field, 0.0) is None]
    if unset:
        raise ValueError(
            f"A {barrier.name!r} barrier that leaves out {', '.join(unset)} has it set by the run, not tuned; give it a number."
        )
    return fields


def _forward(x, scale: Scale):
    x = jnp.asarray(x)
    if scale.kind == "log":
        return jnp.log(x)
    return jnp.log(x) - jnp.log1p(-x) if scale.kind == "logit" else x


def _backward(y, scale: Scale):
    if scale.kind == "log":
        return jnp.exp(y)
    return jax.nn.sigmoid(y) if scale.kind == "logit" else y


def largest(tree: PyTree) -> float:
    """Largest absolute value in a tree; NaN or infinity if it holds one."""
    return float(max(np.max(np.abs(np.asarray(x, np.float64))) for x in jax.tree.leaves(tree)))
