"""What a comparison is: a rule that says what a step's requests would have cost on another memory."""

import abc
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from limjax.barriers._base import BarrierInputs
from limjax.memory._blocks import Blocks, blocks_or_placeholder
from limjax.memory._field import Field, Summable
from limjax.numerics.checks import checked_leaf, varied_numbers
from limjax.physics import actuation
from limjax.physics._abstract_cell import AbstractCell


class StepRecord(NamedTuple):
    """What the run did in one step. Lists hold one array per block of the layout.

    Attributes:
        inputs: step, loss, requests and gradients per leaf, and the cell.
        layout: which leaves share a block.
        drifts: requests d [levels].
        heights: the run's barrier, broadcastable to the requests [kT].
        activities: variance that the run's hops inject [levels²].
    """

    inputs: BarrierInputs
    layout: Blocks
    drifts: list[Float[Array, "..."]]
    heights: list[Float[Array, "..."]]
    activities: list[Float[Array, "..."]]


class AbstractComparison(eqx.Module):
    """Another memory that is charged for the same requests. Final subclasses say what a step costs on it.

    `name` is how tables and JSON call it, `words` what a report says it is.
    """

    name: ClassVar[str]
    words: ClassVar[str]
    per_cell: ClassVar[tuple[str, ...]] = ()

    @property
    def varied(self) -> dict[str, Array]:
        """The numbers that differ between the cells of one array, by name: those of `per_cell` that are arrays."""
        return varied_numbers(self, self.per_cell)

    @property
    def reads_weights(self) -> bool:
        """Whether it looks at the weights, so that `update` needs the parameters."""
        return False

    def init(self, params: PyTree, layout: Blocks) -> Any:
        """State for parameters of this structure; none by default.

        Args:
            params: parameters, or `jax.ShapeDtypeStruct`s of them.
            layout: which of them share a block.

        Returns:
            A pytree of arrays.
        """
        del params, layout
        return ()

    @abc.abstractmethod
    def charge(self, step: StepRecord, state: Any) -> tuple[Field, Summable, Any]:
        """What the requests of one step would have cost.

        Args:
            step: what the run did.
            state: the comparison's state.

        Returns:
            `(heat, actuation, state)`: costs per parameter [kT] as fields, or as lists of blocks, one number for each leaf or one for
            all; and the new state.
        """


class ChargedComparison(NamedTuple):
    """A comparison and its state.

    Attributes:
        policy: the comparison, whose leaves may be changed between steps.
        state: its own state.
    """

    policy: AbstractComparison
    state: Any


def checked_hold(hold: ArrayLike) -> Float[Array, "..."]:
    """The barrier at which a memory keeps its weights between writes, checked."""
    return checked_leaf(
        hold,
        "hold",
        low=0.0,
        open_low=True,
        remedy="It is the barrier between writes in kT; `limjax.run_retention(cell, steps)` holds a cell for a run.",
    )


def gate_work(cell: AbstractCell, hold: Float[Array, "..."], write: Float[Array, "..."]) -> Float[Array, "..."]:
    """Work to lower one barrier from `hold` to `write` and raise it again [kT]; nothing comes back without `recovery`."""
    dtype = write.dtype
    raised = actuation.free_energy(hold) - actuation.free_energy(write)
    length = actuation.thermodynamic_length(hold) - actuation.thermodynamic_length(write)
    # The way up costs what the way down gives back the share r of; each way has the excess of a move in one step.
    return (1 - cell.recovery.astype(dtype)) * raised + 2 * length * length / cell.diffusion_per_step(dtype)


def heat_slope(cell: AbstractCell, drift: Float[Array, "..."], barrier: Float[Array, "..."]) -> Float[Array, "..."]:
    """How much more a request costs per kT of barrier, dQ/dB at fixed d: 2d²/A for an Arrhenius cell."""
    # From the heat itself, whatever the cell: it works element by element, so that one tangent of ones gives every
    # slope.
    return jax.jvp(lambda b: cell.heat(drift, b), (barrier,), (jnp.ones_like(barrier),))[1]


def gate_slope(cell: AbstractCell, barrier: Float[Array, "..."]) -> Float[Array, "..."]:
    """How much less the gate's work is per kT by which a write barrier is higher, (1 - r) ΔF'(B)."""
    # Without the finite-time excess, which counts only where the barrier moves about as fast as a well relaxes
    # (docs/physics.md).
    return (1 - cell.recovery.astype(barrier.dtype)) * actuation.free_energy_slope(barrier)


def init_register(params: PyTree, layout: Blocks) -> PyTree:
    """Zeros for what was requested and not yet written, per parameter, as blocks."""
    return blocks_or_placeholder(params, layout.zeros(jax.tree.leaves(params)))
