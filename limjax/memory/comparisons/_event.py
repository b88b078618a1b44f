"""An event-driven memory: a level is written when a whole one is due, and surely."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from limjax.memory._blocks import Blocks
from limjax.memory._field import Field, PerParameter
from limjax.memory.comparisons._base import AbstractComparison, StepRecord, checked_hold, gate_work, init_register
from limjax.memory.comparisons._register import whole_levels
from limjax.numerics.checks import checked_leaf
from limjax.physics._abstract_cell import VALID_FROM_BARRIER, AbstractCell


class EventWrite(AbstractComparison):
    r"""One gated write of one hop for every whole level that is due, wrong with a stated probability.

    Requests wait in a register (`_register.py`, not charged) until a whole level is due. Then the barrier
    is lowered, the tilt $F = \ln((1-ε)/ε)$ put on, and the gate shuts behind the first hop, which goes the wrong way with
    probability ε. One written level costs

    $$ (1-2ε)\ln\frac{1-ε}{ε} + (1-r)\,[\Delta F(B_h) - \Delta F(B_w)] $$

    and the small finite-time excess. The write barrier is the highest at which the hop comes within the step but for a share ε:
    $2 k_0 τ e^{-B_w}\cosh(F/2) = \ln(1/ε)$ for a symmetric cell.

    Args:
        hold: barrier between writes, B_h [kT].
        error: ε, probability that a hop goes the wrong way, above 0 and below 1/2.

    Raises:
        ValueError: if `hold` or `error` is out of its range.

    Example:
        >>> from limjax import ArrheniusCell
        >>> heat, work = EventWrite(30.0, error=0.01).costs(ArrheniusCell())
        >>> f"{heat:.2f} + {work:.2f} kT per level"
        '4.50 + 0.37 kT per level'

    Source: the heat of a hop by local detailed balance; derived in docs/ledger.md.
    """

    name: ClassVar[str] = "event"
    words: ClassVar[str] = "event-driven: one sure hop when a whole level is due; the register before it is free"
    per_cell: ClassVar[tuple[str, ...]] = ("hold",)
    hold: Float[Array, "..."]
    error: Float[Array, "*s"]

    def __init__(self, hold: ArrayLike, error: ArrayLike = 0.01):
        self.hold = checked_hold(hold)
        self.error = checked_leaf(
            error,
            "error",
            low=0.0,
            open_low=True,
            # At 1/2 there is no tilt that tells up from down; `checked_leaf` has no open upper end.
            high=0.5 - 1e-7,
            remedy="It is the probability that a hop goes the wrong way, for example 0.01.",
            single=True,
        )

    def init(self, params: PyTree, layout: Blocks) -> PyTree:
        return init_register(params, layout)

    def charge(self, step: StepRecord, state: PyTree) -> tuple[Field, Field, Any]:
        due, register = whole_levels(state, step.drifts)
        heat, work = self.costs(step.inputs.cell)
        levels = PerParameter(due).map(jnp.abs)
        return levels.map(lambda n: n * heat.astype(n.dtype)), levels.map(lambda n: n * work.astype(n.dtype)), register

    def costs(self, cell: AbstractCell) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """Mean heat, and work at the gate, of one level written.

        Args:
            cell: the memory cell.

        Returns:
            `(heat, work)` [kT].
        """
        # Local detailed balance: of the hops under a tilt F the share 1/(1 + e^F) goes against it.
        tilt = jnp.log1p(-self.error) - jnp.log(self.error)
        return (1 - 2 * self.error) * tilt, gate_work(cell, self.hold, self.write_barrier(cell))

    def write_barrier(self, cell: AbstractCell) -> Float[Array, "..."]:
        """The barrier of a write: the highest at which a hop comes within one step but for a share ε.

        Args:
            cell: the memory cell.

        Returns:
            B_w [kT], between 2 kT and `hold`.
        """
        tilt = jnp.log1p(-self.error) - jnp.log(self.error)
        rate = jnp.minimum(cell.rate_at_tilt(tilt), cell.rate_at_tilt(-tilt))  # of a hop up and one down, the slower
        # Of hops that come λ times a step on the mean none comes with probability e^-λ, which is to be ε.
        barrier = cell.log_attempts() + jnp.log(rate) - jnp.log(-jnp.log(self.error))
        return jnp.clip(barrier, VALID_FROM_BARRIER, self.hold)
