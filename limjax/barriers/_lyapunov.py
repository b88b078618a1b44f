"""The barrier that rises by the logarithm of the Lyapunov function."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from limjax.barriers._base import (
    AbstractBarrier,
    BarrierInputs,
    Tuned,
    checked_loss,
    promised_fall,
    required_loss,
    running_mean,
    total_of,
)
from limjax.numerics._elementary import safe_log
from limjax.numerics.checks import checked_leaf, compute_dtype
from limjax.numerics.counters import shards_of

SETTLING_STEPS = 10
"""Steps over which a start that was left out is measured: about the memory of Adam's momentum."""


class LyapunovState(NamedTuple):
    """Smoothed loss, and what the start is measured by.

    Attributes:
        smoothed: running mean of the loss.
        first: L0, the first loss, or the mean over the first steps where the start is measured.
        request: mean squared request per parameter over the first steps [levels²].
        fall: mean fall of the loss that the requests promise per step, over the first steps.
    """

    smoothed: Float[Array, ""]
    first: Float[Array, ""]
    request: Float[Array, ""]
    fall: Float[Array, ""]


class LyapunovBarrier(AbstractBarrier):
    r"""$B = B_0 + \ln\frac{L_0 - L_f}{\bar L - L_f}$ with the smoothed loss $\bar L$, as measured.

    In a quadratic bowl this is the exact optimum: the least heat for a fall of the loss is 2 kT per e-fold and parameter, and the
    barrier that reaches it follows $\Gamma^* = (2uL - N)/4$, u the contraction per step and N the variance of the
    gradient noise in the requests. The loss is the measured one: hop noise belongs in it, taking it out costs several times
    the heat. What `floor` takes out is the noise of stochastic gradients alone.

    Without `start` the law sets it in the first 10 steps: $g_0 = \langle d^2\rangle/2u$, hence
    $B_0 = \ln(k_0\tau) - \ln g_0$, with u from the fall of the loss that the requests promise,
    $2u = P/(L - L_f)$, $P = -\sum_i d_i\,\mathrm{lsb}\,\partial L/\partial w_i$, all of them means over those steps.

    Args:
        start: B0, barrier at the first step [kT]; None lets the law set it from the first requests.
        decay: weight of the past in the smoothed loss, 0 (follow each batch) to below 1; batch noise would be paid for as
            actuation.
        floor: Lf = N/2u, the loss that stochastic gradients alone leave at this learning rate, in a network with what training
            cannot remove at all [loss units]; not the hop noise. The barrier shuts as it is reached.

    Raises:
        ValueError: if a number is out of its range; on update, if no loss was passed, or without `start` in a drive whose
            requests are not fixed (`gradient_tilt`), or for a loss below a floor of 0 or less (a log-likelihood, an ELBO).

    Example:
        >>> barrier = LyapunovBarrier(start=10.0)

    Source: the law of docs/physics.md, section 3, of this project.
    """

    name: ClassVar[str] = "lyapunov"
    per_cell: ClassVar[tuple[str, ...]] = ("start",)
    tuned: ClassVar[Mapping[str, Tuned]] = {"start": Tuned(low=0.0)}
    level: ClassVar[tuple[str, float] | None] = ("start", 1.0)
    start: Float[Array, "..."] | None
    decay: Float[Array, "*s"]
    floor: Float[Array, "*s"]

    def __init__(self, start: ArrayLike | None = None, decay: ArrayLike = 0.98, floor: ArrayLike = 0.0):
        self.start = (
            None
            if start is None
            else checked_leaf(
                start, "start", low=0.0, remedy="It is the barrier at the first step in kT, for example 10.0."
            )
        )
        self.decay = checked_leaf(
            decay,
            "decay",
            low=0.0,
            high=1.0,
            remedy="0 follows every batch, 0.98 averages about 50 steps.",
            single=True,
        )
        self.floor = checked_leaf(
            floor, "floor", remedy="It is the loss that the noise of stochastic gradients leaves, often 0.", single=True
        )

    def init(self, params: PyTree) -> LyapunovState:
        zero = jnp.zeros((), jnp.result_type(float))
        return LyapunovState(zero, zero, zero, zero)

    def evaluate(self, inputs: BarrierInputs, state: LyapunovState) -> tuple[Any, Any]:
        loss = required_loss(inputs, self)
        dtype = jnp.result_type(compute_dtype(loss.dtype), state.smoothed.dtype)
        loss, floor = loss.astype(dtype), self.floor.astype(dtype)
        smoothed = running_mean(state.smoothed.astype(dtype), loss, self.decay, inputs.learned)
        loss = checked_loss(loss, floor, self, smoothed)
        if self.start is None:
            first, request, fall = self._measure(inputs, state, loss)
            # g0 = <d²>/2u and 2u = P/(L - Lf). Until all three means are fixed the start moves with them.
            log_exchange = safe_log(request) + safe_log(first - floor) - safe_log(fall)
            start = inputs.cell.barrier(log_exchange)
        else:
            first, request, fall = (
                jnp.where(inputs.learned == 0, loss, state.first.astype(dtype)),
                state.request,
                state.fall,
            )
            start = self.start.astype(dtype)
        # Below the floor the logarithm is that of the smallest float, -87 in float32: the barrier shuts.
        barrier = start + safe_log(first - floor) - safe_log(smoothed - floor)
        new = (smoothed, first, request, fall)
        # A loop carries the state, whose dtypes must not change with that of the loss.
        return barrier, LyapunovState(*(x.astype(old.dtype) for x, old in zip(new, state)))

    def _measure(self, inputs: BarrierInputs, state: LyapunovState, loss: Float[Array, ""]):
        """Means over the first steps of the loss, the squared request and the promised fall; fixed after them."""
        drift = inputs.drift
        if drift is None:
            raise ValueError(
                "A LyapunovBarrier without a start measures it on the first requests, which gradient_tilt does not fix: "
                "there the barrier is the learning rate. Give it a start in kT, for example LyapunovBarrier(12.0)."
            )
        # With a decay of 1 the running mean is the arithmetic one.
        forever = jnp.ones((), loss.dtype)
        # The number of all parameters: under `shard_map` an array's own size is that of its part.
        size = sum(d.size * shards_of(d, inputs.loss) for d in drift)
        total = sum((total_of(d * d, inputs.loss).astype(loss.dtype) for d in drift), jnp.zeros_like(loss))
        square = total / max(float(size), 1.0)  # as a float: there may be more requests than an int32 counts
        settled = inputs.learned >= SETTLING_STEPS

        def follow(old, new):
            old = old.astype(loss.dtype)
            return jnp.where(settled, old, running_mean(old, new.astype(loss.dtype), forever, inputs.learned))

        return (
            follow(state.first, loss),
            follow(state.request, square),
            follow(state.fall, promised_fall(inputs, drift)),
        )
