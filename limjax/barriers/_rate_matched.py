"""The barrier that keeps the tilt constant: exchange in proportion to the speed."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from limjax.barriers._base import (
    AbstractBarrier,
    BarrierInputs,
    RunShape,
    Scope,
    Tuned,
    checked_granularity,
    in_scope,
    mean_square,
    required_drift,
    running_mean,
    running_state,
)
from limjax.numerics._elementary import safe_log
from limjax.numerics.checks import checked_leaf


class RateMatchedBarrier(AbstractBarrier):
    """g = κ v with the speed v = sqrt(running mean of d²): every hop is tilted by the same 2 asinh(1/2κ).

    Args:
        ratio: κ, exchange hops per requested level, above 0.
        decay: weight of the past in the running mean; 0 follows each step's request and pays the jitter as actuation.
        granularity: "parameter" for one speed per parameter (one array of memory), "leaf" for the root mean square of
            each leaf.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> barrier = RateMatchedBarrier(ratio=2.0, granularity="leaf")
    """

    name: ClassVar[str] = "rate-matched"
    tuned: ClassVar[Mapping[str, Tuned]] = {"ratio": Tuned(log=True)}
    level: ClassVar[tuple[str, float] | None] = ("ratio", -1.0)
    shape_free: ClassVar[bool] = True
    per_cell: ClassVar[tuple[str, ...]] = ("ratio",)
    ratio: Float[Array, "..."]
    decay: Float[Array, "*s"]
    granularity: Literal["parameter", "leaf"] = eqx.field(static=True)

    def __init__(
        self,
        ratio: ArrayLike = 2.0,
        decay: ArrayLike = 0.98,
        granularity: Literal["parameter", "leaf"] = "parameter",
    ):
        self.ratio = checked_leaf(ratio, "ratio", low=0.0, open_low=True, remedy="It is exchange hops per level moved.")
        self.decay = checked_leaf(
            decay, "decay", low=0.0, high=1.0, remedy="0 follows every step, 0.98 averages 50.", single=True
        )
        checked_granularity(granularity)
        self.granularity = granularity

    @classmethod
    def of_run(
        cls,
        run: RunShape,
        /,
        ratio: float = 2.0,
        decay: float = 0.98,
        granularity: Literal["parameter", "leaf"] = "leaf",
    ) -> "RateMatchedBarrier":
        """One barrier per array: the mean over it does not jump with every batch, and costs no memory."""
        return cls(ratio, decay, granularity)

    @property
    def scope(self) -> Scope:
        return self.granularity

    def init(self, params: PyTree) -> PyTree:
        return running_state(params, self.granularity)

    def evaluate(self, inputs: BarrierInputs, state: list[Float[Array, "..."]]) -> tuple[Any, Any]:
        drift = required_drift(inputs, self)
        squares = [mean_square(d, self.granularity, inputs.loss) for d in drift]
        means = [
            running_mean(old, new.astype(old.dtype), self.decay, inputs.learned) for old, new in zip(state, squares)
        ]
        # A mean of 0 counts as the smallest float: in float32 44 kT above the barrier of one level a step.
        barrier = [inputs.cell.barrier(0.5 * safe_log(mean) + jnp.log(self.ratio).astype(mean.dtype)) for mean in means]
        return in_scope(barrier, self.granularity), means
