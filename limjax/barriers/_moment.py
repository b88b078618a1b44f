"""The barrier of the law: every cell reads its own Lyapunov function off the second moment of its requests."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from limjax.barriers._base import (
    AbstractBarrier,
    BarrierInputs,
    Scope,
    Tuned,
    checked_granularity,
    checked_loss,
    in_scope,
    mean_square,
    promised_fall,
    required_drift,
    required_loss,
    running_mean,
    running_state,
    total_of,
)
from limjax.numerics._elementary import safe_log
from limjax.numerics.checks import checked_leaf
from limjax.numerics.counters import shards_of

# Share of the steepest fall below which the alignment of requests and gradients is not followed.
_LEAST_ALIGNMENT = 0.01


class MomentState(NamedTuple):
    """Running means, and the largest promise there was.

    Attributes:
        requests: mean squared request [levels²], per parameter or leaf.
        gradients: mean squared gradient [loss²/weight²], per parameter or leaf.
        loss: mean loss.
        fall: mean fall of the loss that the requests promise per step.
        peak: largest such mean so far.
    """

    requests: list[Float[Array, "..."]]
    gradients: list[Float[Array, "..."]]
    loss: Float[Array, ""]
    fall: Float[Array, ""]
    peak: Float[Array, ""]


class MomentBarrier(AbstractBarrier):
    r"""$g_i = s_i/2u$ with $s_i = \overline{d_i^2}$ and the contraction u measured in the run, shared out by curvature.

    The law of the bowl is $\Gamma^* = \langle d^2\rangle/2u = uL/2$: the least heat for a fall of the loss, 2 kT per e-fold.
    The contraction u per step needs no setting. The requests promise a fall of the loss of
    $P = -\sum_i d_i\,\mathrm{lsb}\,\partial L/\partial w_i$ per step, in a bowl $2u(L - L_f)$. With the loss, that is one measure of u.
    The other needs no floor: at the law the loss above it, and with it P, falls by u per step, half of what the requests
    contract (by (2 - scale)u at a scale below 1), so that u is the number of e-folds of P per step since its peak. The
    larger of the two counts:

    $$ 2u = \max\left(\frac{\bar P}{\bar L - L_f},\; \frac{2}{2 - \min(\mathrm{scale}, 1)}\,\frac1t \ln\frac{\max \bar P}{\bar P}\right) , \qquad
       \sum_i q_i\,g_i = \mathrm{scale}\cdot\frac{\bar P}{2u}, \qquad g_i \propto \sqrt{s_i/q_i}, \qquad
       q_i \propto \sqrt{\overline{(\partial L/\partial w_i)^2}}, \qquad \sum_i q_i s_i = \bar P . $$

    The second equation says how much disturbance is made in all: hops that give back half of what the requests win. The others
    share it out so that the heat $\sum s_i/g_i$ is least at that disturbance; $q_i$, the price of a hop in units of the
    relaxation, is the curvature as Adam takes it. If all parameters are alike, this is $g = s/2u$ for each. With plain
    gradient descent in a bowl the first measure gives exactly $u(L - L_f)/2$, and with $L_f = N/2u$ the law with
    gradient noise, $(2uL - N)/4$.

    Args:
        scale: exchange in units of the law's, above 0; 1 is the law, less is dearer and quieter.
        decay: weight of the past in the running means, 0 to 1.
        floor: Lf, loss that the noise of stochastic gradients leaves at this learning rate, with what training cannot remove
            at all [loss units]; not the hop noise. 0 leaves it to the second measure.
        granularity: "parameter" for one barrier per parameter (two arrays of memory), "leaf" for one per array.

    Raises:
        ValueError: if a number is out of its range; on update, if no loss was passed, with `gradient_tilt`, or for a mean loss below
            a floor of 0 or less (a log-likelihood, an ELBO).

    Cost: two running means per parameter and one scalar product of requests and gradients per step.

    Example:
        >>> barrier = MomentBarrier()

    Source: the law of docs/physics.md, section 3, of this project.
    """

    name: ClassVar[str] = "moment"
    tuned: ClassVar[Mapping[str, Tuned]] = {"scale": Tuned(log=True)}
    level: ClassVar[tuple[str, float] | None] = ("scale", -1.0)
    shape_free: ClassVar[bool] = True
    scale: Float[Array, "*s"]
    decay: Float[Array, "*s"]
    floor: Float[Array, "*s"]
    granularity: Literal["parameter", "leaf"] = eqx.field(static=True)

    def __init__(
        self,
        scale: ArrayLike = 1.0,
        decay: ArrayLike = 0.95,
        floor: ArrayLike = 0.0,
        granularity: Literal["parameter", "leaf"] = "parameter",
    ):
        self.scale = checked_leaf(
            scale, "scale", low=0.0, open_low=True, remedy="1 is the law; less is dearer.", single=True
        )
        self.decay = checked_leaf(
            decay, "decay", low=0.0, high=1.0, remedy="0 follows every step, 0.95 averages 20.", single=True
        )
        self.floor = checked_leaf(
            floor, "floor", remedy="It is the loss that gradient noise leaves, often 0.", single=True
        )
        checked_granularity(granularity)
        self.granularity = granularity

    @property
    def scope(self) -> Scope:
        return self.granularity

    def init(self, params: PyTree) -> MomentState:
        zero = jnp.zeros((), jnp.result_type(float))
        requests: Any = running_state(params, self.granularity)
        gradients: Any = running_state(params, self.granularity)
        return MomentState(requests, gradients, zero, zero, zero)

    def evaluate(self, inputs: BarrierInputs, state: MomentState) -> tuple[Any, Any]:
        drift, loss = required_drift(inputs, self), required_loss(inputs, self)
        # A leaf's mean stands for all its elements, and is the same on all shards: `total_of` does not add it up again.
        sizes = [1 if self.granularity == "parameter" else d.size * shards_of(d, inputs.loss) for d in drift]

        def follow(old, new):
            square = mean_square(new.astype(old.dtype), self.granularity, inputs.loss)
            return running_mean(old, square, self.decay, inputs.learned)

        def total(values):
            """Sum over all parameters."""
            sums = [size * total_of(value, inputs.loss).astype(mean.dtype) for size, value in zip(sizes, values)]
            return sum(sums, jnp.zeros_like(mean))

        requests = [follow(old, d) for old, d in zip(state.requests, drift)]
        gradients = [follow(old, g) for old, g in zip(state.gradients, inputs.gradient)]
        mean = running_mean(state.loss, loss.astype(state.loss.dtype), self.decay, inputs.learned)
        mean = checked_loss(mean, self.floor.astype(mean.dtype), self)
        fall = running_mean(state.fall, promised_fall(inputs, drift), self.decay, inputs.learned)

        # Not `sqrt`, whose slope is infinite at 0: derivatives of parameters without a gradient would be NaN.
        slopes = [jnp.exp(0.5 * safe_log(v)) for v in gradients]
        # ln of sqrt(s/q) and of q s, up to a factor that all parameters share and the two sums take out.
        log_shares = [0.5 * safe_log(s) - 0.25 * safe_log(v) for s, v in zip(requests, gradients)]
        promised = total([q * s for q, s in zip(slopes, requests)])
        disturbed = total([q * jnp.exp(share) for q, share in zip(slopes, log_shares)])
        # Requests that go uphill on average, as momentum at a turn, say nothing about relaxation: a small part of what they
        # would promise straight downhill keeps the exchange finite.
        lsb = inputs.cell.lsb.astype(mean.dtype)
        lsb = jnp.sqrt(mean_square(lsb, "leaf", inputs.loss)) if lsb.ndim else lsb
        # Cauchy-Schwarz: no requests and gradients of these sizes promise more.
        straight = lsb * jnp.exp(0.5 * (safe_log(total(requests)) + safe_log(total(gradients))))
        promise = jnp.maximum(fall, _LEAST_ALIGNMENT * straight)
        peak = jnp.maximum(state.peak, promise)
        scale, steps = self.scale.astype(mean.dtype), (inputs.learned + 1).astype(mean.dtype)
        # A bowl settles no more beyond twice the law; from the law on its fall is counted as the law's.
        fall_per_contraction = 1 - 0.5 * jnp.minimum(scale, 1)
        log_relaxation = jnp.maximum(
            safe_log(promise) - safe_log(mean - self.floor.astype(mean.dtype)),
            # At the peak itself, as in the first step, this is ln tiny and leaves the word to the other measure.
            safe_log((safe_log(peak) - safe_log(promise)) / (steps * fall_per_contraction)),
        )
        # g = level · share and q = slope · P/Σ slope s: Σ q g = scale · P/2u gives the level, from which P drops out.
        log_level = jnp.log(scale) - log_relaxation + safe_log(promised) - safe_log(disturbed)
        barrier = [inputs.cell.barrier(log_level.astype(share.dtype) + share) for share in log_shares]
        return in_scope(barrier, self.granularity), MomentState(requests, gradients, mean, fall, peak)
