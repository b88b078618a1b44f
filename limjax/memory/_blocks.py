"""How per-parameter ledgers lie in memory: large leaves as they are, small ones packed into one flat array.

A compiled step costs about a microsecond for every array it touches on a CPU, and a kernel launch on a GPU, however
small the array. A network of many small leaves would spend its time on that; packed, it is one array. Large leaves keep
their shape, and with it their sharding.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from limjax.numerics.checks import compute_dtype

PACK_BELOW = 2**15
"""Leaves with fewer parameters than this are packed together."""


class Blocks:
    """The layout of a list of leaves: which of them share a flat array.

    Args:
        leaves: arrays or `jax.ShapeDtypeStruct`s, in `jax.tree.leaves` order.
        packed: whether small leaves share an array. Without, every leaf is a block of its own shape.
        varied: whether cells differ within a leaf. Then nothing is packed, so that their numbers broadcast against the leaves, and
            every parameter has a barrier of its own.
        still: which leaves stand still in a step; none if empty.
    """

    def __init__(self, leaves: Sequence[Any], packed: bool = True, varied: bool = False, still: Sequence[bool] = ()):
        packed = packed and not varied
        self.packed, self.varied = packed, varied
        self.moving = None if not any(still) else np.array([not f for f in still])
        self.shapes = [tuple(leaf.shape) for leaf in leaves]
        self.sizes = [int(np.prod(shape)) for shape in self.shapes]
        self.dtypes = [compute_dtype(leaf.dtype) for leaf in leaves]
        small: dict[Any, list[int]] = {}
        self.groups: list[list[int]] = []
        for i, size in enumerate(self.sizes):
            if size >= PACK_BELOW or not packed:
                self.groups.append([i])
            elif self.dtypes[i] in small:
                small[self.dtypes[i]].append(i)
            else:
                # The list itself goes into `groups`: small leaves that come later join it there.
                small[self.dtypes[i]] = [i]
                self.groups.append(small[self.dtypes[i]])

    def pack(self, leaves: list[Float[Array, "..."]]) -> list[Float[Array, "..."]]:
        """Blocks from leaves."""
        return [
            leaves[group[0]] if len(group) == 1 else jnp.concatenate([leaves[i].reshape(-1) for i in group])
            for group in self.groups
        ]

    def unpack(self, blocks: PyTree) -> list[Any]:
        """Leaves from blocks, which may be NumPy arrays."""
        leaves: list[Any] = [None] * len(self.sizes)
        for group, block in zip(self.groups, blocks):
            for i, piece in zip(group, self._pieces(group, block)):
                leaves[i] = piece.reshape(self.shapes[i])
        return leaves

    def zeros(self, leaves: list[Any]) -> list[Float[Array, "..."]]:
        """Blocks of zeros; large ones with the sharding of their leaf."""
        return [
            jnp.zeros_like(leaves[group[0]], dtype=self.dtypes[group[0]])
            if len(group) == 1
            else jnp.zeros(sum(self.sizes[i] for i in group), self.dtypes[group[0]])
            for group in self.groups
        ]

    def spread(self, per_leaf: Float[Array, "leaves"]) -> list[Float[Array, "..."]]:
        """One number per leaf, in a form that broadcasts against the blocks."""
        return [
            per_leaf[group[0]].astype(self.dtypes[group[0]])
            if len(group) == 1
            else jnp.concatenate([jnp.broadcast_to(per_leaf[i], (self.sizes[i],)) for i in group]).astype(
                self.dtypes[group[0]]
            )
            for group in self.groups
        ]

    def spread_truths(self, per_leaf: Bool[Array, "leaves"]) -> list[Bool[Array, "..."]]:
        """One truth value per leaf, likewise."""
        # Looked up and not concatenated, which XLA on a CPU would do again for every number that it chooses: three times slower.
        return [
            per_leaf[group[0]] if len(group) == 1 else per_leaf[np.repeat(group, [self.sizes[i] for i in group])]
            for group in self.groups
        ]

    def of_blocks(self, per_block: list[Float[Array, ""]], dtype: Any) -> Float[Array, "leaves"]:
        """For each leaf the one number of the block that holds it; the inverse of `spread` where no block has several."""
        owner = np.empty(len(self.sizes), int)
        for i, group in enumerate(self.groups):
            owner[group] = i
        return jnp.stack([number.astype(dtype) for number in per_block])[owner]

    def counts(self, dtype: Any) -> Float[Array, "leaves"]:
        """Number of parameters of each leaf, to divide its sums by: 1 for an empty one, whose sums are 0."""
        return jnp.asarray(np.maximum(self.sizes, 1), dtype)

    def leaf_sums(self, entries: list[list[Float[Array, "..."]]]) -> Float[Array, "entries leaves"]:
        """Sums over each leaf of some entries, each a list of blocks.

        Packed leaves are summed for all entries at once: on a CPU a reduction of a few numbers costs a microsecond or two.
        """
        sums: list[Any] = [None] * len(self.sizes)
        dtype = jnp.result_type(float)
        for group, blocks in zip(self.groups, zip(*entries)):
            if len(group) == 1:
                sums[group[0]] = jnp.stack([jnp.sum(block).astype(dtype) for block in blocks])
                continue
            # Row by row: XLA on a CPU computes what it stacks inside of the copy, element by element, in several times as long.
            rows = jnp.zeros((len(blocks), *blocks[0].shape), blocks[0].dtype)
            for row, block in enumerate(blocks):
                rows = jax.lax.dynamic_update_index_in_dim(rows, block.astype(rows.dtype), row, 0)
            ends = np.cumsum([self.sizes[i] for i in group])
            for i, end in zip(group, ends):
                sums[i] = jnp.sum(rows[:, end - self.sizes[i] : end], axis=1).astype(dtype)
        return jnp.stack(sums, axis=1) if sums and entries else jnp.zeros((len(entries), len(self.sizes)), dtype)

    def _pieces(self, group: list[int], block: Any) -> list[Any]:
        if len(group) == 1:
            return [block]
        # On the host, so that the slices have ends known to the compiler.
        ends = np.cumsum([self.sizes[i] for i in group])
        return [block[end - self.sizes[i] : end] for i, end in zip(group, ends)]


def blocks_or_placeholder(params: PyTree, blocks: list[Any]) -> PyTree:
    """The blocks, or the parameters themselves where they have no leaves.

    `optax.tree.map_params` initialises with a placeholder in place of the parameters and looks for it in the state.
    """
    return blocks if jax.tree.leaves(params) else params
