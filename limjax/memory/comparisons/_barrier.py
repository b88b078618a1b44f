"""Another barrier on the same cells, written every step."""

from typing import Any, ClassVar

from jaxtyping import Array, PyTree

from limjax.barriers._base import AbstractBarrier
from limjax.memory._blocks import Blocks
from limjax.memory._charged_barrier import ChargedBarrier, init_barrier, move_barrier
from limjax.memory._field import Field, Only, PerParameter
from limjax.memory.comparisons._base import AbstractComparison, StepRecord


class BarrierComparison(AbstractComparison):
    """The same requests under another barrier: Q = 2d asinh(d/2g) of every step, and the work of moving that barrier.

    Attributes:
        barrier: the barrier; `compare=` wraps one in this class by itself.

    Example:
        >>> from limjax import StaticBarrier
        >>> BarrierComparison(StaticBarrier(30.0)).barrier.name
        'static'
    """

    name: ClassVar[str] = "barrier"
    words: ClassVar[str] = "another barrier, written every step"
    barrier: AbstractBarrier

    @property
    def varied(self) -> dict[str, Array]:
        return self.barrier.varied

    @property
    def reads_weights(self) -> bool:
        return self.barrier.reads_weights

    def init(self, params: PyTree, layout: Blocks) -> Any:
        # Without the policy: the one of this object is what `charge` asks, also when its numbers have been changed
        # between steps.
        return tuple(init_barrier(self.barrier, params, layout)[1:])

    def charge(self, step: StepRecord, state: tuple[Any, ...]) -> tuple[Field, Only, Any]:
        moved, work, _ = move_barrier(ChargedBarrier(self.barrier, *state), step.inputs, step.layout)
        heights = moved.height.blocks(step.layout)
        heats = [step.inputs.cell.heat(*item) for item in zip(step.drifts, heights)]
        return PerParameter(heats), work, tuple(moved[1:])
