"""Which numbers of a design are tuned, and on what scale."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from limjax.barriers.base import AbstractBarrier
from limjax.tuning.problem import Design


class Scale(NamedTuple):
    """How a tuned number is seen by the optimizer: a step of 1 is `size` in the number or its logarithm.

    Attributes:
        size: what a change of 1 means.
        kind: "linear", "log" (for positive numbers) or "logit" (between 0 and 1).
    """

    size: float
    kind: str = "linear"


# A step of 1 in the learning rate's logarithm would be too bold.
_RATE_SIZE = 0.3
# Heights in kT; a change of one kT is a factor e in the exchange, and so is one of the logarithms.
_TUNED: dict[str, dict[str, Scale]] = {
    "static": {"height": Scale(1.0)},
    "scheduled": {"offset": Scale(1.0)},
    "lyapunov": {"start": Scale(1.0)},
    "rate-matched": {"ratio": Scale(1.0, "log")},
    "fisher": {"price": Scale(2.0, "log")},
    "fowler-nordheim": {"start": Scale(1.0), "time_constant": Scale(1.0, "log")},
    "spline": {"knots": Scale(1.0)},
    "learned": {
        "offset": Scale(1.0),
        "slopes": Scale(0.2),
        "hidden": Scale(0.3),
        "hidden_bias": Scale(0.3),
        "output": Scale(0.3),
    },
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
        values = {
            field: _forward(getattr(self.design.barrier, field), scale) / scale.size
            for field, scale in tuned_fields(self.design.barrier).items()
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
            value = _backward(values[field] * scale.size, scale)
            barrier = eqx.tree_at(lambda b, field=field: getattr(b, field), barrier, value)
        rate = values["log_rate"] * _RATE_SIZE if self.learning_rate else self.design.log_rate
        return Design(barrier, values["log_step_time"] if self.step_time else self.design.log_step_time, rate)


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
