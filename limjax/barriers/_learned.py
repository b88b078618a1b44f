"""A small rule with learned weights, the same for every parameter, that starts from the theory."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from limjax.barriers._base import (
    AbstractBarrier,
    BarrierInputs,
    RunShape,
    Scope,
    Tuned,
    checked_granularity,
    checked_loss,
    in_scope,
    mean_square,
    required_drift,
    required_loss,
    running_mean,
    running_state,
    with_steps,
)
from limjax.barriers._moment import MomentBarrier, MomentState
from limjax.numerics._elementary import safe_log
from limjax.numerics.checks import checked_leaf

FEATURES = ("progress", "ln speed", "ln moment", "ln loss")
# Middle and half-width of what the features usually span; the network sees (x - middle) / width.
MIDDLE = (0.5, 0.0, -25.0, -1.5)
WIDTH = (0.5, 3.0, 6.0, 1.5)
# A parameter that asks for less than this per step, or whose gradient does not matter, is not told apart from one that
# asks for nothing: its logarithm would run off, and with it the derivative of a barrier that costs nothing.
_SPEED_FLOOR = 1e-3
_MOMENT_FLOOR = 1e-18


class LearnedState(eqx.Module):
    """Running means of the rule's features.

    Attributes:
        moments: mean squared gradient, per parameter or leaf.
        speeds: mean squared request [levels²], per parameter or leaf.
        smoothed: mean loss.
        first: first loss seen.
        law: state of the law's barrier, whose means then stand for `moments` and `speeds`; None without one.
    """

    moments: list[Float[Array, "..."]]
    speeds: list[Float[Array, "..."]]
    smoothed: Float[Array, ""]
    first: Float[Array, ""]
    law: MomentState | None


class LearnedBarrier(AbstractBarrier):
    r"""$\ln g = b + s\cdot f + o\cdot\tanh(W\hat f + c)$ with four features f of the training, one rule for all parameters.

    The features are the share of the run done, the logarithm of the smoothed speed |d| [levels], of the smoothed second
    moment of the gradient times lsb² [loss²/level²], and of the smoothed loss over its first value. With slopes
    (0, 1, -1/2, 0), offset -½ ln price and no output it is the Fisher-matched barrier, the pointwise optimum
    g = |d|/sqrt(2p) of physics.md section 3; the progress and the loss can express how much of the variance survives to
    the end. Nothing in it depends on the network, so that a rule tuned on one task can be used on another.

    With `law` the rule is a correction to the barrier of the law: ln g is that barrier's plus the right-hand side, and zeros
    everywhere are the law itself.

    Args:
        offset: b [ln hops].
        slopes: s, shape (4,), one per feature.
        hidden: W, shape (4, units), on features scaled to about -1 ... 1.
        hidden_bias: c, shape (units,).
        output: o, shape (units,).
        decay: weight of the past in the running means, 0 to 1.
        steps: number of steps of the run, for the progress.
        granularity: "parameter" for one barrier per parameter, "leaf" for one per array from the mean squares over it.
        law: the barrier to correct, of the same granularity, or None for a rule of its own.

    Raises:
        ValueError: if a number is out of its range or the shapes do not fit; on update, if no loss was passed.

    Example:
        >>> barrier = LearnedBarrier.from_law(steps=400)
    """

    name: ClassVar[str] = "learned"
    shape_free: ClassVar[bool] = True
    tuned: ClassVar[Mapping[str, Tuned]] = {
        "offset": Tuned(),
        # In equal shares of what the features span.
        "slopes": Tuned(tuple(0.6 / width for width in WIDTH)),
        "hidden": Tuned(0.3),
        "hidden_bias": Tuned(0.3),
        "output": Tuned(0.3),
    }
    level: ClassVar[tuple[str, float] | None] = ("offset", -1.0)
    offset: Float[Array, "*s"]
    slopes: Float[Array, "*s features"]
    hidden: Float[Array, "*s features units"]
    hidden_bias: Float[Array, "*s units"]
    output: Float[Array, "*s units"]
    decay: Float[Array, "*s"]
    steps: Float[Array, "*s"]
    granularity: Literal["parameter", "leaf"] = eqx.field(static=True)
    law: MomentBarrier | None

    def __init__(
        self,
        offset: ArrayLike,
        slopes: ArrayLike | list[float],
        hidden: ArrayLike | list[list[float]],
        hidden_bias: ArrayLike | list[float],
        output: ArrayLike | list[float],
        decay: ArrayLike = 0.98,
        steps: ArrayLike = 1000.0,
        granularity: Literal["parameter", "leaf"] = "parameter",
        law: MomentBarrier | None = None,
    ):
        remedy = "Weights of the rule are finite numbers."
        self.offset = checked_leaf(offset, "offset", remedy=remedy)
        self.slopes = checked_leaf(slopes, "every slope", remedy=remedy)
        self.hidden = checked_leaf(hidden, "every hidden weight", remedy=remedy)
        self.hidden_bias = checked_leaf(hidden_bias, "every hidden bias", remedy=remedy)
        self.output = checked_leaf(output, "every output weight", remedy=remedy)
        self.decay = checked_leaf(
            decay, "decay", low=0.0, high=1.0, remedy="0 follows every step, 0.98 averages 50.", single=True
        )
        self.steps = checked_leaf(
            steps, "steps", low=0.0, open_low=True, remedy="It is the length of the run.", single=True
        )
        units = self.output.shape
        expected = {"slopes": (4,), "hidden": (4, *units), "hidden_bias": units}
        for field, shape in expected.items():
            if getattr(self, field).shape != shape:
                raise ValueError(f"{field} must have shape {shape}, got {getattr(self, field).shape}.")
        checked_granularity(granularity)
        if law is not None and law.granularity != granularity:
            raise ValueError(f"granularity must be that of law, {law.granularity!r}, got {granularity!r}.")
        self.granularity = granularity
        self.law = law

    @classmethod
    def from_law(cls, steps: int = 1000, units: int = 8, law: MomentBarrier | None = None) -> "LearnedBarrier":
        """The rule that is the barrier of the law, before any learning: where to start tuning.

        Args:
            steps: number of steps of the run.
            units: width of the hidden layer.
            law: the barrier to start as; None takes `MomentBarrier()`.

        Returns:
            The barrier; its offset, slopes and output weights are zero.
        """
        law = MomentBarrier() if law is None else law
        zeros = jnp.zeros(units)
        return cls(0.0, jnp.zeros(4), _hidden(units), zeros, zeros, law.decay, steps, law.granularity, law)

    @classmethod
    def from_theory(
        cls,
        price: float = 1e6,
        steps: int = 1000,
        units: int = 8,
        decay: float = 0.98,
        granularity: Literal["parameter", "leaf"] = "parameter",
    ) -> "LearnedBarrier":
        """The rule that is the Fisher-matched barrier without damping, before any learning.

        Args:
            price: what one unit of loss is worth [kT].
            steps: number of steps of the run.
            units: width of the hidden layer.
            decay: weight of the past in the running means.
            granularity: "parameter" or "leaf".

        Returns:
            The barrier; its output weights are zero.

        Raises:
            ValueError: if the price is not positive.
        """
        checked_leaf(price, "price", low=0.0, open_low=True, remedy="It is in kT per unit of loss.")
        offset, zeros = -0.5 * float(jnp.log(price)), jnp.zeros(units)
        return cls(offset, [0.0, 1.0, -0.5, 0.0], _hidden(units), zeros, zeros, decay, steps, granularity)

    @classmethod
    def of_run(
        cls,
        run: RunShape,
        /,
        scale: float = 1.0,
        decay: float = 0.95,
        granularity: Literal["parameter", "leaf"] = "parameter",
    ) -> "LearnedBarrier":
        """The rule that is the barrier of the law, before any learning."""
        return cls.from_law(run.steps, law=MomentBarrier(scale, decay, granularity=granularity))

    def stretched(self, steps: int) -> "LearnedBarrier":
        return with_steps(self, steps)

    def centred(self, sign: float) -> "LearnedBarrier":
        """The offset in the middle of the features instead of at their zero, so that a slope turns the rule there.

        The logarithm of a second moment is about -25: a small change of its slope would else move every barrier by kT.
        """
        moved = self.offset + sign * jnp.sum(self.slopes * jnp.asarray(MIDDLE, self.slopes.dtype), axis=-1)
        return eqx.tree_at(lambda barrier: barrier.offset, self, moved)

    @property
    def scope(self) -> Scope:
        return self.granularity

    def init(self, params: PyTree) -> LearnedState:
        zero = jnp.zeros((), jnp.result_type(float))
        if self.law is not None:
            return LearnedState([], [], zero, zero, self.law.init(params))
        moments: Any = running_state(params, self.granularity)
        speeds: Any = running_state(params, self.granularity)
        return LearnedState(moments, speeds, zero, zero, None)

    def evaluate(self, inputs: BarrierInputs, state: LearnedState) -> tuple[Any, Any]:
        drift, loss = required_drift(inputs, self), required_loss(inputs, self)

        def follow(old, new):
            square = mean_square(new.astype(old.dtype), self.granularity, inputs.loss)
            return running_mean(old, square, self.decay, inputs.learned)

        if self.law is None:
            law_state, corrected = None, None
            moments = [follow(old, g) for old, g in zip(state.moments, inputs.gradient)]
            speeds = [follow(old, d) for old, d in zip(state.speeds, drift)]
            kept = (moments, speeds)
        else:
            assert state.law is not None
            corrected, law_state = self.law.evaluate(inputs, state.law)
            moments, speeds = law_state.gradients, law_state.requests
            kept = ([], [])
        smoothed = running_mean(state.smoothed, loss.astype(state.smoothed.dtype), self.decay, inputs.learned)
        first = jnp.where(inputs.learned == 0, loss.astype(state.first.dtype), state.first)
        smoothed = checked_loss(smoothed, jnp.zeros((), smoothed.dtype), self)
        # The last step of the run is steps - 1, at progress 1.
        progress = inputs.step.astype(self.steps.dtype) / jnp.maximum(self.steps - 1, 1)
        log_loss = (safe_log(smoothed) - safe_log(first)).astype(self.steps.dtype)
        lsb = inputs.cell.lsb
        barrier = []
        for speed, moment in zip(speeds, moments):
            # Added, and no maximum: the slope in ln|d| falls to 0 smoothly.
            log_speed = 0.5 * jnp.log(speed + _SPEED_FLOOR**2)
            # Per level and not per weight, so that the rule means the same on another ladder.
            log_moment = jnp.log(moment * jnp.square(lsb.astype(moment.dtype)) + _MOMENT_FLOOR)
            features = (jnp.clip(progress, 0, 1), log_speed, log_moment, log_loss)
            barrier.append(self.log_exchange(features))
        if corrected is None:
            barrier = [inputs.cell.barrier(log_exchange) for log_exchange in barrier]
        else:
            # B = ln(k0 τ) - ln g: what the rule adds to ln g comes off the height of the law.
            barrier = [height - log_exchange for height, log_exchange in zip(corrected, barrier)]
        return in_scope(barrier, self.granularity), LearnedState(*kept, smoothed, first, law_state)

    def log_exchange(self, features: tuple[Float[Array, "..."], ...]) -> Float[Array, "..."]:
        """The rule itself.

        Args:
            features: the four features, scalars or arrays of one shape.

        Returns:
            ln g [ln(hops per step)], of their shape.
        """
        shape = jnp.broadcast_shapes(*(f.shape for f in features))
        dtype = features[1].dtype
        columns = [jnp.broadcast_to(f.astype(dtype), shape) for f in features]
        total = jnp.full(shape, self.offset.astype(dtype))
        for i, column in enumerate(columns):
            total = total + self.slopes[i].astype(dtype) * column
        scaled = [(x - middle) / width for x, middle, width in zip(columns, MIDDLE, WIDTH)]
        # Written out, so that XLA makes one pass over the parameters of it: for a matrix product, features and units
        # would be arrays of several times the size of the network.
        for unit in range(self.output.shape[0]):
            inside = jnp.full(shape, self.hidden_bias[unit].astype(dtype))
            for i, x in enumerate(scaled):
                inside = inside + self.hidden[i, unit].astype(dtype) * x
            total = total + self.output[unit].astype(dtype) * jnp.tanh(inside)
        return total


def _hidden(units: int) -> Float[Array, "features units"]:
    """Hidden weights before any learning."""
    # Four inputs of about unit size, each over the root of four: no unit begins saturated.
    return jax.random.normal(jax.random.key(0), (4, units)) / 2.0
