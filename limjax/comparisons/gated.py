"""A memory that is opened to be written: each cell that moves has its barrier lowered and raised again, every step."""

import itertools
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from limjax.barrier_state import BarrierValue
from limjax.comparisons.base import AbstractComparison, StepRecord, checked_hold, gate_work
from limjax.ledger import VALID_FROM_BARRIER
from limjax.physics.actuation import free_energy_slope
from limjax.physics.cell import ArrheniusCell

# The write barriers, from the run's barrier (0) to `hold` (1).
_SHARES = (0.0, 0.1, 0.2, 0.35, 0.6, 1.0)


class GatedWrite(AbstractComparison):
    r"""The barrier is lowered from `hold` to a write barrier at every step, the cell moved by d levels, and raised again.

    A write at the barrier $B_w$ costs

    $$ q(B_w) = 2d\,\mathrm{asinh}\frac{d}{2g_w} + (1-r)\,[\Delta F(B_h) - \Delta F(B_w)] $$

    and the small finite-time excess. It scatters by $\sqrt{d^2 + 4g_w^2}$, no more than the run where $B_w \ge B$. q is convex in
    $B_w$, with its least value where $2d^2/\sqrt{d^2 + 4g_w^2} = c(B_w) = (1-r)\,\Delta F'(B_w)$, that is, $B_w$ is the best
    write barrier for the request

    $$ d^*(B_w) = \sqrt{\tfrac18\left(c^2 + \sqrt{c^4 + 64\,c^2 g_w^2}\right)}. $$

    Larger requests are written lower, down to the run's own barrier B, smaller ones higher up, and the smallest through `hold`,
    where opening the cell does not pay. The comparison has six write barriers from B to `hold` and takes for every cell and
    step the one that belongs to its request. Where the run stands at 11 kT or above that costs at most 11 % more than the least for
    a single request, and 1 % on the average of requests from 1e-4 to 10 levels; for lower barriers it is coarser. To choose
    it is a controller's work, and not charged.

    Args:
        hold: barrier between writes, B_h [kT].

    Raises:
        ValueError: if `hold` is not a positive number.

    Example:
        >>> f"{float(GatedWrite(30.0).hold):.0f} kT"
        '30 kT'

    Source: derived in docs/ledger.md.
    """

    name: ClassVar[str] = "gated"
    words: ClassVar[str] = "gated write: a cell's barrier is lowered, the cell moved, the barrier raised, every step"
    hold: Float[Array, "*s"]

    def __init__(self, hold: ArrayLike):
        self.hold = checked_hold(hold)

    def charge(self, step: StepRecord, state: Any) -> tuple[BarrierValue, BarrierValue, Any]:
        cell = step.inputs.cell
        costs = [self._cost(cell, *item) for item in zip(step.drifts, step.heights)]
        return [heat for heat, _ in costs], [work for _, work in costs], state

    def _cost(self, cell: ArrheniusCell, drift, height):
        hold = self.hold.astype(drift.dtype)
        lowest = jnp.minimum(jnp.maximum(height, VALID_FROM_BARRIER), hold)
        heights = [lowest + share * (hold - lowest) for share in _SHARES]
        request = jnp.abs(drift)
        write, work = heights[0], gate_work(cell, hold, heights[0])
        for below, above in itertools.pairwise(heights):
            is_small = request < best_request(cell, 0.5 * (below + above))
            write = jnp.where(is_small, above, write)
            work = jnp.where(is_small, gate_work(cell, hold, above), work)
        return cell.heat(drift, write), work


def best_request(cell: ArrheniusCell, barrier: Float[Array, "..."]) -> Float[Array, "..."]:
    """The request for which a write barrier is the cheapest of all, d*(B_w).

    Args:
        cell: the memory cell.
        barrier: B_w [kT].

    Returns:
        d* [levels].

    Example:
        >>> import jax.numpy as jnp
        >>> f"{best_request(ArrheniusCell(), jnp.float32(12.0)):.2f}"
        '0.52'
    """
    slope = (1 - cell.recovery.astype(barrier.dtype)) * free_energy_slope(barrier)
    exchange = jnp.exp(cell.log_exchange(barrier))
    return jnp.sqrt(0.125 * slope * (slope + jnp.sqrt(slope * slope + 64 * exchange * exchange)))
