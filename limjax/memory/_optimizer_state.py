"""The optimizer's own state as memory: which of its arrays are kept per parameter, and what writing them costs."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from limjax.barriers._base import BarrierInputs
from limjax.memory._blocks import Blocks
from limjax.memory._charged_barrier import ChargedBarrier, move_barrier
from limjax.memory._field import PerParameter, leaf_sums
from limjax.memory._leaves import LeafInfo, leaf_name
from limjax.memory._step import to_levels
from limjax.physics._abstract_cell import AbstractCell


def stored_arrays(optimizer: optax.GradientTransformation, state: PyTree, infos: Sequence[LeafInfo]) -> list[Array]:
    """The float arrays an optimizer keeps for the parameters: momentum, second moments, their factors and the like.

    Told by structure and not by shape: what `optax.tree.map_params` finds, or, for an optimizer that cannot be initialised without
    parameters, what lies under the path of a parameter. Counters, schedules and injected hyper-parameters are the controller's.

    Args:
        optimizer: the optimizer.
        state: its state.
        infos: the parameters' leaves.

    Returns:
        The arrays.

    Example:
        >>> from limjax.memory._leaves import leaf_infos
        >>> optimizer, params = optax.inject_hyperparams(optax.adam)(1e-3), jnp.ones(())
        >>> len(stored_arrays(optimizer, optimizer.init(params), leaf_infos(params)))
        2
    """
    try:
        kept = optax.tree.map_params(optimizer, lambda x: x, state, transform_non_params=lambda x: None)
        found = jax.tree.leaves(kept)
    except Exception:  # an optimizer of any library may fail in any way on a placeholder
        found = [leaf for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0] if _is_under(path, leaf, infos)]
    return [leaf for leaf in found if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)]


def _is_under(path: Any, leaf: Any, infos: Sequence[LeafInfo]) -> bool:
    name = f"/{leaf_name(path)}/"
    if len(infos) == 1 and infos[0].name == leaf_name(()):
        # One bare array has no path: its state has its shape, perhaps several times.
        shape = infos[0].shape
        return getattr(leaf, "ndim", 0) > 0 and tuple(leaf.shape[leaf.ndim - len(shape) :]) == shape
    return any(f"/{info.name}/" in name for info in infos)


def charge_optimizer(
    memory: tuple[AbstractCell, ChargedBarrier],
    before: Sequence[Array],
    after: Sequence[Array],
    inputs: BarrierInputs,
    packed: bool,
) -> tuple[tuple[AbstractCell, ChargedBarrier], Float[Array, "arrays"]]:
    """Heat and barrier work of one step's writes to the optimizer's own state.

    Args:
        memory: cell and barrier that hold it.
        before: the arrays before the step.
        after: the arrays after it.
        inputs: what the run's barrier saw.
        packed: whether small arrays share a block, as those of the parameters do.

    Returns:
        The memory, and the cost of each array [kT].
    """
    cell, barrier = memory
    drift = [to_levels(b - a, cell) for a, b in zip(before, after)]
    layout = Blocks(drift, packed)
    # Here the stored numbers are what is written: their changes stand for the requests, and no weights go with them.
    barrier, work, _ = move_barrier(
        barrier, inputs._replace(drift=drift, gradient=drift, cell=cell, weights=None), layout
    )
    heats = [cell.heat(d, height) for d, height in zip(layout.pack(drift), barrier.height.blocks(layout))]
    sums = leaf_sums({"heat": PerParameter(heats), "actuation": work}, layout)
    return (cell, barrier), sums["heat"] + sums["actuation"]
