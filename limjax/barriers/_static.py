"""A barrier that never moves: today's memory."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from limjax.barriers._base import AbstractBarrier, BarrierInputs, RunShape, Tuned
from limjax.numerics.checks import checked_leaf
from limjax.physics._abstract_cell import AbstractCell
from limjax.physics.units import YEAR_S


class StaticBarrier(AbstractBarrier):
    """A constant barrier. At retention height it is the update wall: Q ≈ 2d (B - ln(k0 τ / d)) for every update.

    Args:
        height: B [kT], at least 0.

    Raises:
        ValueError: if the height is negative or not finite.

    Example:
        >>> from limjax import ArrheniusCell
        >>> f"{StaticBarrier.at_retention(ArrheniusCell()).height:.1f} kT"
        '49.5 kT'
    """

    name: ClassVar[str] = "static"
    per_cell: ClassVar[tuple[str, ...]] = ("height",)
    tuned: ClassVar[Mapping[str, Tuned]] = {"height": Tuned(low=0.0)}
    level: ClassVar[tuple[str, float] | None] = ("height", 1.0)
    height: Float[Array, "..."]

    def __init__(self, height: ArrayLike = 49.5):
        self.height = checked_leaf(
            height,
            "the height of a StaticBarrier",
            low=0.0,
            remedy="It is in kT: 10 is open, 50 holds a bit for years.",
        )

    @classmethod
    def at_retention(
        cls, cell: AbstractCell, years: float = 10.0, failure: float = 1e-4, cells: float = 1.0
    ) -> "StaticBarrier":
        """The barrier that keeps `cells` cells for `years` with failure probability `failure`.

        Args:
            cell: the memory cell.
            years: how long [years].
            failure: probability that any cell fails.
            cells: how many must survive together.

        Returns:
            A static barrier at ln(n k0 t / -ln(1 - P)), or at 0 where no barrier is needed.

        Raises:
            ValueError: if an argument is out of its range.
        """
        return cls(jnp.maximum(cell.retention_barrier(years * YEAR_S, failure, cells), 0.0))

    @classmethod
    def of_run(cls, run: RunShape, /, height: float | None = None) -> "StaticBarrier":
        """The barrier of this height, or at ten years' retention."""
        return cls.at_retention(run.cell) if height is None else cls(height)

    def evaluate(self, inputs: BarrierInputs, state: Any) -> tuple[Any, Any]:
        return jnp.asarray(self.height), state
