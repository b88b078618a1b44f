"""A barrier with knots that can be learned."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from limjax.barriers._base import AbstractBarrier, BarrierInputs, RunShape, Scope, Tuned, with_steps
from limjax.numerics._curves import hermite_curve
from limjax.numerics.checks import checked_leaf

# More is a typing error: a barrier takes its knots along everywhere.
_MOST_KNOTS = 10_000


class SplineBarrier(AbstractBarrier):
    """A cubic curve through equally spaced knots over the run; a row of knots per leaf if two-dimensional.

    Between knots it is the cubic Hermite (Catmull-Rom) interpolant: smooth in time, local, linear in the knots, exact
    for straight lines. After the last step it stays at the last knot.

    Args:
        knots: heights [kT], shape (knots,) for one curve, (leaves, knots) for one curve per parameter leaf in
            `jax.tree.leaves` order.
        steps: number of steps the knots span.

    Raises:
        ValueError: if there are fewer than two knots, a knot is negative or not finite, or steps is not positive.

    Example:
        >>> barrier = SplineBarrier([8.0, 12.0, 16.0, 20.0], steps=1500)
    """

    name: ClassVar[str] = "spline"
    tuned: ClassVar[Mapping[str, Tuned]] = {"knots": Tuned(low=0.0)}
    level: ClassVar[tuple[str, float] | None] = ("knots", 1.0)
    knots: Float[Array, "*rows knots"]
    steps: Float[Array, "*s"]

    def __init__(self, knots: ArrayLike | list[float] | list[list[float]], steps: ArrayLike):
        self.knots = checked_leaf(knots, "every knot of a SplineBarrier", low=0.0, remedy="Knots are heights in kT.")
        if self.knots.ndim not in (1, 2) or self.knots.shape[-1] < 2:
            raise ValueError(
                f"A SplineBarrier needs at least two knots, as (knots,) or (leaves, knots); got shape {self.knots.shape}."
            )
        self.steps = checked_leaf(
            steps, "steps", low=0.0, open_low=True, remedy="It is the length of the run.", single=True
        )

    @classmethod
    def of_run(
        cls, run: RunShape, /, start: float | None = None, stop: float | None = None, knots: float = 8
    ) -> "SplineBarrier":
        """The straight line from `start`, `RunShape.opening` if not told, to `stop`, 5 kT above it, over the run."""
        if not (2 <= knots <= _MOST_KNOTS and knots == int(knots)):
            raise ValueError(
                f"knots of barrier 'spline' must be a whole number from 2 to {_MOST_KNOTS}, got {knots:g}."
            )
        start = run.opening if start is None else start
        return cls(jnp.linspace(start, start + 5 if stop is None else stop, int(knots)), run.steps)

    def stretched(self, steps: int) -> "SplineBarrier":
        return with_steps(self, steps)

    @property
    def scope(self) -> Scope:
        return "global" if self.knots.ndim == 1 else "leaf"

    def evaluate(self, inputs: BarrierInputs, state: Any) -> tuple[Any, Any]:
        # The barrier is made without parameters, and learns here how many leaves they have.
        if self.knots.ndim == 2 and self.knots.shape[0] != len(inputs.gradient):
            raise ValueError(
                f"This SplineBarrier has {self.knots.shape[0]} rows of knots but the parameters have "
                f"{len(inputs.gradient)} leaves; give one row per leaf, or one-dimensional knots for all."
            )
        # The last step is steps - 1, and stands at the last knot.
        progress = inputs.step.astype(self.steps.dtype) / jnp.maximum(self.steps - 1, 1)
        return self.height(progress), state

    def height(self, progress: ArrayLike) -> Float[Array, "..."]:
        """The curve at a share of the run.

        Args:
            progress: 0 at the first step, 1 at the last; clipped to that.

        Returns:
            B [kT]: a scalar, or one per row of knots.
        """
        return hermite_curve(self.knots, jnp.asarray(progress, self.knots.dtype))
