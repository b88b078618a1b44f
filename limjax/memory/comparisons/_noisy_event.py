"""An event-driven memory that is as noisy as the run: whole levels, written through a low barrier."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from limjax.memory._blocks import Blocks
from limjax.memory._field import Field, PerLeaf
from limjax.memory.comparisons._base import (
    AbstractComparison,
    StepRecord,
    checked_hold,
    gate_slope,
    gate_work,
    heat_slope,
    init_register,
)
from limjax.memory.comparisons._register import whole_levels
from limjax.numerics._roots import monotone_root
from limjax.physics._abstract_cell import VALID_FROM_BARRIER, AbstractCell

# Newton's steps, from 10 kT; half of them reach float32.
_ITERATIONS = 12

ALIKE = (
    'The comparison "noisy-event" is for cells that are alike, and these differ within an array: compare with the others, '
    "limjax.fair_comparisons(cell, steps)."
)
"""What is said where its cells are not."""


class NoisyEventWrite(AbstractComparison):
    r"""One gated write for every whole level that is due, through a barrier as low as the scatter of the compared run allows.

    Requests wait in a register (`_register.py`, not charged) until a whole level is due. Then the
    barrier is lowered to $B_w$, one level is delivered on average with the cell's own scatter, and it is raised again. The write costs

    $$ 2\,\mathrm{asinh}\frac{1}{2g_w} + (1-r)\,[\Delta F(B_h) - \Delta F(B_w)] $$

    and the small finite-time excess. All writes to one array in one step share $B_w$: the barrier at which a write is cheapest,
    $2/\sqrt{1 + 4g_w^2} = (1-r)\,\Delta F'(B_w)$, or the lowest at which the M levels written scatter no more than the run did
    in the same step, $M\sqrt{1 + 4g_w^2} = \sum A$, whichever is higher.

    This is what a free register in front of a ladder finer than the run's noise is worth. A register of many levels would
    make it cheaper still: at the end all of the work would be done where nothing is charged.

    Args:
        hold: barrier between writes, B_h [kT].

    Raises:
        ValueError: if `hold` is not one positive number; in `learning_in_memory`, for cells that differ within an array.

    Example:
        >>> from limjax import ArrheniusCell
        >>> f"{NoisyEventWrite(30.0).cheapest_barrier(ArrheniusCell()):.1f} kT"
        '10.8 kT'

    Source: derived in docs/ledger.md.
    """

    name: ClassVar[str] = "noisy-event"
    words: ClassVar[str] = (
        "event-driven at the run's own scatter: whole levels through a low barrier; the register is free"
    )
    hold: Float[Array, "*s"]

    def __init__(self, hold: ArrayLike):
        self.hold = checked_hold(hold)
        if self.hold.ndim:
            raise ValueError(f"hold must be one number: the writes to an array share a barrier. {ALIKE}")

    def init(self, params: PyTree, layout: Blocks) -> PyTree:
        return init_register(params, layout)

    def charge(self, step: StepRecord, state: PyTree) -> tuple[Field, Field, Any]:
        cell, layout = step.inputs.cell, step.layout
        due, register = whole_levels(state, step.drifts)
        levels, variance = layout.leaf_sums([[jnp.abs(n) for n in due], step.activities])
        barrier = self.write_barrier(cell, levels, variance)
        heat = cell.heat(jnp.ones_like(barrier), barrier)
        work = gate_work(cell, self.hold.astype(barrier.dtype), barrier)
        # Fields are costs per parameter: their sum over the array is the cost of the levels written.
        share = levels / layout.counts(levels.dtype)
        return PerLeaf(heat * share), PerLeaf(work * share), register

    def write_barrier(
        self, cell: AbstractCell, levels: Float[Array, "..."], variance: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """The barrier of one step's writes to an array.

        Args:
            cell: the memory cell.
            levels: M, how many levels are written.
            variance: ΣA, what the compared run's hops inject in the step [levels²].

        Returns:
            B_w [kT], between `cheapest_barrier` and `hold`.
        """
        hold = self.hold.astype(variance.dtype)
        # Where no level is due nothing is charged, whatever the barrier: the 1 only keeps 0 out of the quotient.
        ratio = variance / jnp.maximum(levels, 1)
        # A write of a level scatters by one at least, however high the barrier.
        least = cell.activity(jnp.ones_like(hold), hold)
        lowest = self.cheapest_barrier(cell).astype(variance.dtype)
        barrier = cell.barrier_at_activity(jnp.ones_like(ratio), jnp.maximum(ratio, least))
        return jnp.clip(barrier, lowest, jnp.maximum(hold, lowest))

    def cheapest_barrier(self, cell: AbstractCell) -> Float[Array, "*s"]:
        """The barrier at which writing one level costs least, whatever its scatter.

        Args:
            cell: the memory cell.

        Returns:
            B_w [kT], between 2 kT and `hold`.
        """
        hold = jnp.maximum(self.hold, VALID_FROM_BARRIER)

        def excess(barrier):
            # The slope of the heat rises with the barrier and that of the gate falls: one root, where their sum is
            # least.
            return heat_slope(cell, jnp.ones_like(barrier), barrier) - gate_slope(cell, barrier)

        return monotone_root(excess, jnp.minimum(10.0, hold), VALID_FROM_BARRIER, hold, _ITERATIONS)
