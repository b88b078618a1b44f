"""Weights stored as what they are: whole numbers of levels, one or two bytes each.

With exact hops a weight is `lsb` times a whole number, and a cell of 8 bits has 256 of them. Stored as int8 it takes a
quarter of a float32's memory and loses nothing; unlike floats, levels do not drift when `lsb` is not a power of two.
"""

import math
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from limjax.memory._groups import Groups, grouping, merged
from limjax.memory._leaves import check_parameters, leaf_name
from limjax.memory._step import wide
from limjax.numerics.checks import WholeNumber, broadcasting, compute_dtype, is_known, whole_number
from limjax.physics._abstract_cell import AbstractCell


def snap(params: PyTree, cell: AbstractCell | Groups) -> PyTree:
    """Puts every weight on the nearest level of the cell's ladder, inside its range.

    Args:
        params: parameters, any pytree of float arrays.
        cell: the memory cell, whose `levels` or `bits` set the range; or a cell and barrier for each layer, as in
            `learning_in_memory`.

    Returns:
        The parameters, of the same structure, shapes and dtypes, each `lsb` times a whole number.

    Raises:
        ValueError: if a dtype cannot tell all levels of the cell's range apart.
        TypeError: for a parameter that is no float array; the message names it.

    Warns:
        UserWarning: if weights lie beyond the range: what share of them is clipped, by how much, and in which array most.

    Example:
        >>> from limjax import ArrheniusCell
        >>> import jax.numpy as jnp
        >>> float(snap(jnp.array(0.3), ArrheniusCell(lsb=0.25)))
        0.25
    """
    check_parameters(params)
    if not isinstance(cell, AbstractCell):
        found = grouping(params, cell)
        return merged(params, [snap(found.part(params, label), pair[0]) for label, pair in found.members.items()])
    levels = cell.levels
    reach = 0.0 if levels is None or isinstance(levels, jax.core.Tracer) else float(np.max(np.abs(np.asarray(levels))))

    def snap_leaf(p):
        # Up to here a float holds every whole number: the digits of its mantissa and the leading one that is not
        # stored.
        exact = 2.0 ** (jnp.finfo(p.dtype).nmant + 1)
        if reach > exact:
            raise ValueError(
                f"{p.dtype} counts levels exactly only up to {exact:.0f}, but this cell has levels up to {reach:.0f}: use "
                "float32 parameters or fewer bits."
            )
        return _snapped(p, cell)

    snapped = jax.tree.map(snap_leaf, params)
    if levels is not None:
        _warn_of_clipping(params, cell)
    return snapped


@eqx.filter_jit  # one program for a shape, and not one for each operation
def _snapped(p: Array, cell: AbstractCell) -> Array:
    lsb = cell.lsb.astype(compute_dtype(p.dtype))
    with broadcasting():
        return (cell.clip_levels(jnp.round(wide(p) / lsb)) * lsb).astype(p.dtype)


def lsb_for_bits(params: PyTree, bits: WholeNumber) -> dict[str, float]:
    """The finest ladder for every parameter array on which cells of so many bits hold all of its weights.

    Powers of two, so that weights lie on the ladder exactly. Leave room where weights will grow: training moves them.

    Args:
        params: trained or initial weights, any pytree of float arrays.
        bits: bits of the cell, 2 to 24.

    Returns:
        lsb by the array's path [weight/level]; 2^-10 for an array of zeros. With a cell and barrier for each it makes groups for
        `learning_in_memory` and `snap`.

    Raises:
        ValueError: for `bits` out of its range, or a weight that is not finite.
        TypeError: for a parameter that is no float array.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"dense": {"w": jnp.array([0.4, -1.0]), "b": jnp.array([0.01])}}
        >>> lsb = lsb_for_bits(params, bits=8)
        >>> lsb["dense/w"], lsb["dense/b"]
        (0.015625, 0.0001220703125)
        >>> from limjax import ArrheniusCell, StaticBarrier
        >>> groups = {path: (ArrheniusCell(lsb=x, bits=8), StaticBarrier(12.0)) for path, x in lsb.items()}
        >>> snap(params, groups)["dense"]["w"].tolist()
        [0.40625, -1.0]
    """
    check_parameters(params)
    # The range has one level more below zero than above: the shorter side decides, so that either sign fits.
    highest = 2 ** (whole_number(bits, "bits", 2, 24, said="from 2 to 24") - 1) - 1
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        top = float(jnp.max(jnp.abs(wide(leaf)), initial=0.0))
        if not math.isfinite(top):
            raise ValueError(
                f"The parameter {leaf_name(path)!r} holds a weight that is not finite: no ladder reaches it."
            )
        found[leaf_name(path)] = 2.0 ** math.ceil(math.log2(top / highest)) if top > 0 else 2.0**-10
    return found


def _warn_of_clipping(params: PyTree, cell: AbstractCell) -> None:
    """Says what share of the weights lies beyond the cell's range, if they are known and any does."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    # Inside of `jit` no weight is known: clipping goes unsaid.
    if not is_known(params, cell):
        return
    count, beyond, change, square, worst = 0, 0, 0.0, 0.0, (0.0, "")
    for path, leaf in leaves:
        weights = np.asarray(wide(leaf), np.float64)
        levels = weights / np.asarray(cell.lsb, np.float64)
        lowest, highest = np.asarray(cell.levels, np.float64)
        # What rounds to the end of the range is not clipped.
        clipped = (levels < lowest - 0.5) | (levels > highest + 0.5)
        excess = (levels - np.clip(levels, lowest, highest)) * np.asarray(cell.lsb, np.float64)
        count, beyond = count + weights.size, beyond + int(clipped.sum())
        change, square = change + float((excess**2).sum()), square + float((weights**2).sum())
        worst = max(worst, (float(clipped.mean()) if weights.size else 0.0, leaf_name(path)))
    if beyond:
        warnings.warn(
            f"snap clipped {100 * beyond / count:.3g} % of the weights to the cell's range, by {100 * math.sqrt(change / square):.3g} % "
            f"of the weights' own size (r.m.s.); most in {worst[1]!r}, {100 * worst[0]:.3g} %. Use a coarser lsb or more bits: "
            "limjax.lsb_for_bits(params, bits) finds the lsb of every array.",
            stacklevel=3,
        )


def to_levels(params: PyTree, cell: AbstractCell, storage: str = "int16") -> PyTree:
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
        >>> from limjax import ArrheniusCell
        >>> import jax.numpy as jnp
        >>> to_levels(jnp.array([0.3, -9.0]), ArrheniusCell(lsb=0.25, bits=4), "int8").tolist()
        [1, -8]
    """
    dtype = _checked(cell, storage)

    def leaf(p):
        return cell.clip_levels(jnp.round(p.astype(jnp.float32) / cell.lsb.astype(jnp.float32))).astype(dtype)

    with broadcasting():
        return jax.tree.map(leaf, params)


def to_weights(levels: PyTree, cell: AbstractCell, dtypes: Any = jnp.float32) -> PyTree:
    """Weights at levels: `lsb` times the level number.

    Args:
        levels: level numbers.
        cell: the memory cell.
        dtypes: of the weights, one for all or a tree of them.

    Returns:
        Weights of the same structure and shapes.

    Example:
        >>> from limjax import ArrheniusCell
        >>> import jax.numpy as jnp
        >>> to_weights(jnp.array([1, -8], jnp.int8), ArrheniusCell(lsb=0.25, bits=4)).tolist()
        [0.25, -2.0]
    """
    lsb = cell.lsb.astype(jnp.float32)
    dtypes = jax.tree.broadcast(dtypes, levels)
    with broadcasting():
        return jax.tree.map(lambda n, dtype: (n.astype(jnp.float32) * lsb).astype(dtype), levels, dtypes)


def apply_updates(levels: PyTree, updates: PyTree, cell: AbstractCell) -> PyTree:
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
        >>> from limjax import ArrheniusCell
        >>> import jax.numpy as jnp
        >>> apply_updates(jnp.array([1], jnp.int8), jnp.array([-0.75]), ArrheniusCell(lsb=0.25, bits=4)).tolist()
        [-2]
    """

    def leaf(n, u):
        # Updates are whole numbers times lsb, rounded: whole again before they are added. Clipped as floats, since
        # integers of the storage would wrap around first.
        moved = n.astype(jnp.float32) + jnp.round(u.astype(jnp.float32) / cell.lsb.astype(jnp.float32))
        return cell.clip_levels(moved).astype(n.dtype)

    with broadcasting():
        return jax.tree.map(leaf, levels, updates)


def _checked(cell: AbstractCell, storage: str) -> np.dtype:
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
