"""The numbers an optimizer was made with, and how they reach its state."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from limjax.memory._leaves import LeafInfo, leaf_infos


def copied(tree: PyTree) -> PyTree:
    """The same tree with arrays of its own: a state may be donated, what the user made must not go with it."""
    return jax.tree.map(lambda x: jnp.array(x, copy=True) if eqx.is_array(x) else x, tree)


class Numbers:
    """Cell, barrier, comparisons (and coupling) of one optimizer object.

    A state holds copies of them, which may be edited or restored, and counts. But `optax.inject_hyperparams` makes a new optimizer
    object at every update and never initialises it: then what differs from what the state was last given takes effect.

    Args:
        tree: `(cell, barrier, comparisons by name)` or `(cell, barrier, comparisons by name, coupling)`.
    """

    def __init__(self, tree: tuple[Any, ...]):
        self.tree = tree
        self.in_use = False
        self.leaves: tuple[LeafInfo, ...] = ()

    def used_for(self, params: PyTree) -> None:
        """Notes that this object initialises a state, and for which parameters."""
        self.in_use, self.leaves = True, leaf_infos(params)

    def copies(self) -> tuple[Any, ...]:
        """The tree with arrays of its own."""
        return copied(self.tree)

    def flat(self) -> Float[Array, "numbers"]:
        """All numbers in one array, as a step pays for every array it touches."""
        leaves = [jnp.asarray(leaf, jnp.result_type(float)).reshape(-1) for leaf in jax.tree.leaves(self.tree)]
        return jnp.concatenate(leaves) if leaves else jnp.zeros(0)

    def into(self, state: Any) -> Any:
        """The state with the numbers that changed since it was last given some."""
        if self.in_use:
            return state
        now = self.flat()
        if now.shape != state.given.shape:
            raise ValueError(
                f"This optimizer has {now.size} numbers in its cell, barrier and comparisons, the state was made with "
                f"{state.given.size}: make it with the same kinds of cell, barrier and comparisons."
            )
        # Number by number, as the values may be traced: only what is new may take the place of what was edited in the
        # state.
        is_changed, start, changed = now != state.given, 0, []
        for leaf in jax.tree.leaves(self.tree):
            size = jnp.size(leaf)
            changed.append(is_changed[start : start + size].reshape(jnp.shape(leaf)))
            start += size
        flags = jax.tree.unflatten(jax.tree.structure(self.tree), changed)

        def newer(mine, flag, theirs):
            return jax.tree.map(lambda m, f, t: jnp.where(f, jnp.asarray(m, t.dtype), t), mine, flag, theirs)

        cell, barrier, named, *coupling = self.tree
        is_cell, is_barrier, is_named, *is_coupling = flags
        compare = {
            name: kept._replace(policy=newer(named[name], is_named[name], kept.policy))
            for name, kept in state.compare.items()
        }
        state = state._replace(
            cell=newer(cell, is_cell, state.cell),
            barrier=state.barrier._replace(policy=newer(barrier, is_barrier, state.barrier.policy)),
            compare=compare,
            given=now,
        )
        return state._replace(inner=newer(coupling[0], is_coupling[0], state.inner)) if coupling else state
