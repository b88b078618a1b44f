"""Weights stored as what they are: whole numbers of levels, one or two bytes each.

With exact hops a weight is `lsb` times a whole number, and a cell of 8 bits has 256 of them. Stored as int8 it takes a
quarter of a float32's memory and loses nothing; unlike floats, levels do not drift when `lsb` is not a power of two.
"""

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from limjax.physics.cell import ArrheniusCell


def to_levels(params: PyTree, cell: ArrheniusCell, storage: str = "int16") -> PyTree:
    """Levels of weights: the nearest ones, inside the cell's range.

    Args:
        params: weights, any pytree of float arrays.
        cell: the memory cell; its range must fit the storage.
        storage: "int8", "int16" or "int32".

    Returns:
        Level numbers, of the same structure and shapes.

    Raises:
        ValueError: if the cell has no range or one that the storage cannot hold.

    Example:
        >>> import jax.numpy as jnp
        >>> to_levels(jnp.array([0.3, -9.0]), ArrheniusCell(lsb=0.25, bits=4), "int8").tolist()
        [1, -8]
    """
    dtype = _checked(cell, storage)

    def leaf(p):
        return cell.clip_levels(jnp.round(p.astype(jnp.float32) / cell.lsb.astype(jnp.float32))).astype(dtype)

    return jax.tree.map(leaf, params)


def to_weights(levels: PyTree, cell: ArrheniusCell, dtypes: Any = jnp.float32) -> PyTree:
    """Weights at levels: `lsb` times the level number.

    Args:
        levels: level numbers.
        cell: the memory cell.
        dtypes: of the weights, one for all or a tree of them.

    Returns:
        Weights of the same structure and shapes.

    Example:
        >>> import jax.numpy as jnp
        >>> to_weights(jnp.array([1, -8], jnp.int8), ArrheniusCell(lsb=0.25, bits=4)).tolist()
        [0.25, -2.0]
    """
    lsb = cell.lsb.astype(jnp.float32)
    dtypes = jax.tree.broadcast(dtypes, levels)
    return jax.tree.map(lambda n, dtype: (n.astype(jnp.float32) * lsb).astype(dtype), levels, dtypes)


def apply_updates(levels: PyTree, updates: PyTree, cell: ArrheniusCell) -> PyTree:
    """The levels after a step: what `optax.apply_updates` is to float weights.

    Args:
        levels: level numbers.
        updates: from `learning_in_memory(..., hops="exact")` or `gradient_tilt(..., hops="exact")`; `lsb` times whole
            numbers, inside the cell's range. Exact up to half the levels that the updates' dtype counts exactly: 2^23 in
            float32, 2^7 in bfloat16. Must be finite: a level cannot be NaN.
        cell: the memory cell.

    Returns:
        New level numbers, of the same dtypes.

    Example:
        >>> import jax.numpy as jnp
        >>> apply_updates(jnp.array([1], jnp.int8), jnp.array([-0.75]), ArrheniusCell(lsb=0.25, bits=4)).tolist()
        [-2]
    """

    def leaf(n, u):
        moved = n.astype(jnp.float32) + jnp.round(u.astype(jnp.float32) / cell.lsb.astype(jnp.float32))
        return cell.clip_levels(moved).astype(n.dtype)

    return jax.tree.map(leaf, levels, updates)


def _checked(cell: ArrheniusCell, storage: str) -> np.dtype:
    if storage not in ("int8", "int16", "int32"):
        raise ValueError(f'Levels are stored as "int8", "int16" or "int32", got {storage!r}.')
    dtype = np.dtype(storage)
    bits = 8 * dtype.itemsize
    if cell.levels is None:
        raise ValueError(
            f"Storage as {storage} needs a cell with a lowest and highest level, or a weight could leave what {storage} can "
            f"hold: ArrheniusCell(bits={min(bits, 24)})."
        )
    if not isinstance(cell.levels, jax.core.Tracer):
        lowest, highest = (float(x) for x in cell.levels)
        bounds = np.iinfo(dtype)
        if lowest < bounds.min or highest > bounds.max:
            raise ValueError(
                f"{storage} holds levels from {bounds.min} to {bounds.max}, but this cell has {lowest:.0f} to {highest:.0f}; use "
                f"a wider storage or bits={bits}."
            )
        if max(-lowest, highest) > 2**24:
            raise ValueError(
                f"Steps are counted in float32, exact up to 16777216 levels either way, but this cell has {lowest:.0f} to "
                f"{highest:.0f}; use bits=24 or fewer."
            )
    return dtype
