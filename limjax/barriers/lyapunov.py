"""The barrier that rises by the logarithm of the Lyapunov function."""

from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from limjax.barriers.base import AbstractBarrier, BarrierInputs, required_loss, running_mean
from limjax.physics.numerics import safe_log
from limjax.physics.validation import checked_leaf, compute_dtype


class LyapunovState(NamedTuple):
    """Smoothed loss and the first loss seen."""

    smoothed: Float[Array, ""]
    first: Float[Array, ""]


class LyapunovBarrier(AbstractBarrier):
    r"""$B = B_0 + \ln\frac{L_0 - L_\mathrm{floor}}{\bar L - L_\mathrm{floor}}$ with the smoothed loss $\bar L$.

    In a quadratic bowl this is the exact optimum of heat against final variance (Γ* ∝ L, physics.md section 3). The
    measured loss also contains the hop noise; `floor` takes that and the irreducible loss away, `decay` smooths the
    batch noise, which would be paid for as actuation.

    Args:
        start: B0, barrier at the first step [kT].
        decay: weight of the past in the smoothed loss, 0 (follow each batch) to below 1.
        floor: loss that training cannot remove [loss units].

    Raises:
        ValueError: if a number is out of its range; on update, if no loss was passed.

    Example:
        >>> barrier = LyapunovBarrier(start=10.0)
    """

    name: ClassVar[str] = "lyapunov"
    start: Float[Array, "*s"]
    decay: Float[Array, "*s"]
    floor: Float[Array, "*s"]

    def __init__(self, start: ArrayLike = 10.0, decay: ArrayLike = 0.98, floor: ArrayLike = 0.0):
        self.start = checked_leaf(
            start, "start", low=0.0, remedy="It is the barrier at the first step in kT, for example 10.0."
        )
        self.decay = checked_leaf(
            decay, "decay", low=0.0, high=1.0, remedy="0 follows every batch, 0.98 averages about 50 steps."
        )
        self.floor = checked_leaf(floor, "floor", remedy="It is the loss that training cannot remove, often 0.")

    def init(self, params: PyTree) -> LyapunovState:
        return LyapunovState(jnp.zeros((), jnp.result_type(float)), jnp.ones((), jnp.result_type(float)))

    def evaluate(self, inputs: BarrierInputs, state: LyapunovState) -> tuple[Any, Any]:
        loss = required_loss(inputs, self)
        dtype = jnp.result_type(compute_dtype(loss.dtype), state.smoothed.dtype)
        loss, floor = loss.astype(dtype), self.floor.astype(dtype)
        smoothed = running_mean(state.smoothed.astype(dtype), loss, self.decay, inputs.step)
        first = jnp.where(inputs.step == 0, loss, state.first.astype(dtype))
        barrier = self.start.astype(dtype) + safe_log(first - floor) - safe_log(smoothed - floor)
        return barrier, LyapunovState(smoothed.astype(state.smoothed.dtype), first.astype(state.first.dtype))
