"""The barrier that prices noise by the curvature: the pointwise optimum with a measured second moment."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from limjax.barriers._base import (
    AbstractBarrier,
    BarrierInputs,
    RunShape,
    Scope,
    Tuned,
    mean_of_known,
    required_drift,
    running_mean,
    running_state,
)
from limjax.numerics._elementary import safe_log
from limjax.numerics.checks import checked_leaf


class FisherBarrier(AbstractBarrier):
    r"""$g = |d| / \sqrt{2p}$ with the price of variance $p = \tfrac12\,\mathrm{price}\,\mathrm{lsb}^2\,(\overline{g^2} + \mathrm{damping}\,\langle\overline{g^2}\rangle)$.

    The pointwise optimum of physics.md section 3, with the curvature replaced by the running second moment of the
    gradient (the Fisher diagonal, what Adam keeps anyway). `price` is what one unit of loss is worth in kT, paid anew in every step that a
    disturbance lasts: the larger, the higher the barrier. Where the gradient of the training data is small its square says little of the
    curvature, and an optimizer that asks there as much as elsewhere, as Adam, would be scattered without end: `damping`, as second-order optimizers have,
    adds a share of the mean over all parameters.

    Args:
        price: kT per unit of loss, above 0.
        decay: weight of the past in the second moment (and in the speed), 0 to 1.
        damping: share of the mean second moment over all parameters with a gradient (of this memory, on all shards) that is added to each, at least 0.
        smooth_speed: whether |d| is the running root mean square instead of this step's request, which saves the
            actuation of a barrier that jumps with every batch and costs one more array per parameter.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> barrier = FisherBarrier(price=1e3)
    """

    name: ClassVar[str] = "fisher"
    tuned: ClassVar[Mapping[str, Tuned]] = {"price": Tuned(2.0, log=True)}
    level: ClassVar[tuple[str, float] | None] = ("price", 2.0)
    shape_free: ClassVar[bool] = True
    per_cell: ClassVar[tuple[str, ...]] = ("price",)
    price: Float[Array, "..."]
    decay: Float[Array, "*s"]
    damping: Float[Array, "*s"]
    smooth_speed: bool = eqx.field(static=True)

    def __init__(
        self, price: ArrayLike = 3e8, decay: ArrayLike = 0.98, smooth_speed: bool = True, damping: ArrayLike = 0.1
    ):
        self.price = checked_leaf(price, "price", low=0.0, open_low=True, remedy="It is in kT per unit of loss.")
        self.decay = checked_leaf(
            decay, "decay", low=0.0, high=1.0, remedy="0 follows every step, 0.98 averages 50.", single=True
        )
        self.damping = checked_leaf(
            damping,
            "damping",
            low=0.0,
            remedy="It is a share of the mean over all parameters; 0 trusts every curvature.",
            single=True,
        )
        if not isinstance(smooth_speed, bool):
            raise ValueError(f"smooth_speed must be True or False, got {smooth_speed!r}.")
        self.smooth_speed = smooth_speed

    @classmethod
    def of_run(cls, run: RunShape, /, price: float = 3e8, decay: float = 0.98, damping: float = 0.1) -> "FisherBarrier":
        """The barrier of this price."""
        return cls(price, decay, damping=damping)

    @classmethod
    def of_file(cls, arguments: Mapping[str, Any]) -> "FisherBarrier":
        """Files without a damping are of barriers without one."""
        return cls(**{"damping": 0.0, **arguments})

    @property
    def scope(self) -> Scope:
        return "parameter"

    def init(self, params: PyTree) -> tuple[PyTree, PyTree]:
        moments = running_state(params, "parameter")
        # An array per parameter less where nothing is smoothed.
        return moments, running_state(params, "parameter") if self.smooth_speed else []

    def evaluate(self, inputs: BarrierInputs, state: Any) -> tuple[Any, Any]:
        drift = required_drift(inputs, self)
        moments = [
            running_mean(old, jnp.square(g.astype(old.dtype)), self.decay, inputs.learned)
            for old, g in zip(state[0], inputs.gradient)
        ]
        # Over all parameters that have a gradient, whose curvatures are in one unit of loss.
        mean = mean_of_known(moments, [m > 0 for m in moments], inputs.loss)
        least = self.damping * mean.astype(self.damping.dtype)
        if self.smooth_speed:
            speeds = [
                running_mean(old, jnp.square(d.astype(old.dtype)), self.decay, inputs.learned)
                for old, d in zip(state[1], drift)
            ]
            log_speeds = [0.5 * safe_log(square) for square in speeds]
        else:
            speeds = []
            # A cell that is asked for nothing in this step gets ln tiny, -87 in float32, and is all but shut.
            log_speeds = [safe_log(jnp.abs(d)) for d in drift]
        # ln g = ln|d| - ½ ln(2p), and 2p = price lsb² <gradient²>.
        # A sum of logarithms: the product of a large price, a small level and a squared gradient need not be a float.
        log_scale = jnp.log(self.price) + 2 * jnp.log(inputs.cell.lsb)
        barrier = [
            # Without any curvature a disturbance has no price: what is asked for then goes through the lowest barrier.
            inputs.cell.barrier(log_speed - 0.5 * (log_scale.astype(m.dtype) + safe_log(m + least.astype(m.dtype))))
            for log_speed, m in zip(log_speeds, moments)
        ]
        return barrier, (moments, speeds)
