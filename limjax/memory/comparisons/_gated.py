"""A memory that is opened to be written: each cell that moves has its barrier lowered and raised again, every step."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from limjax.memory._field import Field, PerLeaf, PerParameter
from limjax.memory.comparisons._base import (
    AbstractComparison,
    StepRecord,
    checked_hold,
    gate_slope,
    gate_work,
    heat_slope,
)
from limjax.numerics._elementary import safe_log
from limjax.numerics._roots import monotone_root
from limjax.numerics.checks import broadcasting
from limjax.physics._abstract_cell import VALID_FROM_BARRIER, AbstractCell
from limjax.physics.units import LN2

# Write barriers of the table, from the lowest with levels to `hold`: about 2 kT apart.
_WRITES = 16


class GatedWrite(AbstractComparison):
    r"""The barrier is lowered from `hold` to a write barrier at every step, the cell moved by d levels, and raised again.

    A write at the barrier $B_w$ costs

    $$ q(B_w) = 2d\,\mathrm{asinh}\frac{d}{2g_w} + (1-r)\,[\Delta F(B_h) - \Delta F(B_w)] $$

    and the small finite-time excess. It scatters by $\sqrt{d^2 + 4g_w^2}$, no more than the run where $B_w \ge B$. q is convex in
    $B_w$, with its least value where $2d^2/\sqrt{d^2 + 4g_w^2} = c(B_w) = (1-r)\,\Delta F'(B_w)$, that is, $B_w$ is the best
    write barrier for the request

    $$ d^*(B_w) = \sqrt{\tfrac18\left(c^2 + \sqrt{c^4 + 64\,c^2 g_w^2}\right)}. $$

    Larger requests are written lower, down to the run's own barrier B, smaller ones higher up, and the smallest through `hold`,
    where opening the cell does not pay. The comparison has a table of 16 write barriers and takes for every cell and step the one
    that belongs to its request, or the run's own barrier where that is higher, which costs at most 6 % more than the least.
    To choose it is a controller's work, and not charged.

    Args:
        hold: barrier between writes, B_h [kT].
        cell: the memory cell, for which the table is made.

    Raises:
        ValueError: if `hold` is not a positive number.

    Example:
        >>> from limjax import ArrheniusCell
        >>> f"{float(GatedWrite(30.0, ArrheniusCell()).hold):.0f} kT"
        '30 kT'

    Source: derived in docs/ledger.md.
    """

    name: ClassVar[str] = "gated"
    words: ClassVar[str] = "gated write: a cell's barrier is lowered, the cell moved, the barrier raised, every step"
    per_cell: ClassVar[tuple[str, ...]] = ("hold",)
    hold: Float[Array, "*s"]
    writes: Float[Array, "writes *s"]
    works: Float[Array, "writes *s"]
    limits: Float[Array, "limits *s"]

    def __init__(self, hold: ArrayLike, cell: AbstractCell):
        hold = checked_hold(hold)
        # One table for each cell where they differ.
        self.hold = jnp.broadcast_to(
            hold, jnp.broadcast_shapes(hold.shape, cell.attempt_rate.shape, cell.recovery.shape)
        )
        self.writes, self.works, self.limits = _table(cell, self.hold)

    def charge(self, step: StepRecord, state: Any) -> tuple[Field, Field, Any]:
        cell, layout = step.inputs.cell, step.layout
        chosen = [self._chosen(*item) for item in zip(step.drifts, step.heights)]
        heats = PerParameter([cell.heat(drift, write) for drift, (write, _, _) in zip(step.drifts, chosen)])
        gates = [self._gate(cell, height) for height in step.heights]
        if any(gate.ndim for gate in gates):
            works = [jnp.where(own, gate, work) for gate, (_, work, own) in zip(gates, chosen)]
            return heats, PerParameter(works), state
        # Counted, not chosen cell by cell: XLA on a CPU would compute the one gate's free energy again for each of them.
        owns = [own.astype(work.dtype) for _, work, own in chosen]
        others = [jnp.where(own, 0.0, work) for _, work, own in chosen]
        own, other = layout.leaf_sums([owns, others])
        # A block has one gate, whose leaves are alike: several of them in a block with heights of their own have an array.
        gate = layout.of_blocks(gates, own.dtype)
        works = (own * gate + other) / layout.counts(own.dtype)
        return heats, PerLeaf(works), state

    def _chosen(
        self, drift: Float[Array, "..."], height: Float[Array, "..."]
    ) -> tuple[Float[Array, "..."], Float[Array, "..."], Bool[Array, "..."]]:
        """Write barrier of each cell, the table's work at the gate, and where the run's own barrier is the one."""
        dtype = drift.dtype
        request = jnp.abs(drift)
        write = jnp.broadcast_to(self.writes[0].astype(dtype), drift.shape)
        work = jnp.broadcast_to(self.works[0].astype(dtype), drift.shape)
        # Sums, not a chain of choices, with which XLA on a CPU takes several times as long.
        for limit, up, more in zip(self.limits, jnp.diff(self.writes, axis=0), jnp.diff(self.works, axis=0)):
            is_small = (request < limit.astype(dtype)).astype(dtype)
            write = write + up.astype(dtype) * is_small
            work = work + more.astype(dtype) * is_small
        # Equal accuracy: through a barrier below the run's own a write would scatter by more than the run does.
        lowest = jnp.minimum(height, self.hold.astype(dtype))
        return jnp.maximum(write, lowest), work, write < lowest

    def _gate(self, cell: AbstractCell, height: Float[Array, "..."]) -> Float[Array, "..."]:
        hold = self.hold.astype(height.dtype)
        return gate_work(cell, hold, jnp.minimum(height, hold))


@eqx.filter_jit  # operation by operation it takes seconds to compile
def _table(
    cell: AbstractCell, hold: Float[Array, "*s"]
) -> tuple[Float[Array, "writes *s"], Float[Array, "writes *s"], Float[Array, "limits *s"]]:
    """The write barriers, the work to go there and back, and the requests that part them."""
    writes = jnp.linspace(jnp.minimum(VALID_FROM_BARRIER, hold), hold, _WRITES)
    with broadcasting():
        # The request for which the barrier half-way is best parts those that are written through its two neighbours.
        return writes, gate_work(cell, hold, writes), best_request(cell, 0.5 * (writes[:-1] + writes[1:]))


def best_request(cell: AbstractCell, barrier: Float[Array, "..."]) -> Float[Array, "..."]:
    """The request for which a write barrier is the cheapest of all, d*(B_w).

    Args:
        cell: the memory cell.
        barrier: B_w [kT].

    Returns:
        d* [levels].

    Example:
        >>> from limjax import ArrheniusCell
        >>> import jax.numpy as jnp
        >>> f"{best_request(ArrheniusCell(), jnp.float32(12.0)):.2f}"
        '0.52'
    """
    # With full recovery the gate costs nothing: c = 0 has no logarithm, and the smallest float puts d* next to 0.
    slope = jnp.maximum(gate_slope(cell, barrier), jnp.finfo(barrier.dtype).tiny)
    # Between d = c/2, the answer where hops are rare, and that where they are many, d² = c g.
    guess = jnp.log(slope) - LN2

    def excess(log_drift):
        # In logarithms nearly a straight line: the slope is 2 where hops are many and 1 where they are rare.
        return safe_log(heat_slope(cell, jnp.exp(log_drift), barrier)) - jnp.log(slope)

    return jnp.exp(monotone_root(excess, guess, guess - 60.0, guess + 60.0, 40))
