"""Which leaves of the parameters are cells, and which of those move in a step."""

import collections
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

Frozen = Callable[[str], bool] | Sequence[str] | PyTree
"""Leaves that never move: a function of a leaf's path, path prefixes, or a tree of booleans like the parameters."""

_KNOWN = ("float16", "bfloat16", "float32", "float64")


def leaf_name(path: Any) -> str:
    """A leaf's path as words: `encoder/0/weight`."""
    # A bare array has an empty path, and messages need a word for it.
    return jax.tree_util.keystr(path, simple=True, separator="/") or "parameters"


def check_parameters(params: PyTree) -> None:
    """Refuses what cannot be a memory cell, before anything is made of it.

    Args:
        params: parameters, or `jax.ShapeDtypeStruct`s of them; None leaves are no parameters.

    Raises:
        TypeError: for a leaf that is no array of 16-, 32- or 64-bit floats; the message names it and what to do.
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        dtype = getattr(leaf, "dtype", None)
        if dtype is not None and str(dtype) in _KNOWN and hasattr(leaf, "shape"):
            continue
        name = leaf_name(path)
        if dtype is None:
            got = f"{type(leaf).__name__} {leaf!r}" if isinstance(leaf, int | float | complex) else type(leaf).__name__
            remedy = (
                "Make it an array, jnp.asarray(value, jnp.float32)."
                if isinstance(leaf, int | float)
                else "Pass the arrays alone: eqx.filter(model, eqx.is_inexact_array), or nnx.state(model, nnx.Param)."
            )
        else:
            got = f"an array of {dtype}"
            remedy = (
                "Keep real and imaginary part as two real arrays: each is a cell of its own."
                if jnp.issubdtype(dtype, jnp.complexfloating)
                else "Leave it out of what is trained (eqx.partition, optax.masked), or make it a float array."
            )
        raise TypeError(f"The parameter {name!r} must be a float array to be held in memory cells, got {got}. {remedy}")


def check_variation(params: PyTree, varied: dict[str, Any]) -> None:
    """Refuses arrays of cell and barrier numbers that do not fit the parameters.

    Args:
        params: parameters, or `jax.ShapeDtypeStruct`s of them.
        varied: the arrays, by what the user calls them.

    Raises:
        ValueError: if one of them does not broadcast to the shape of a parameter array; the message names both.
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        for name, value in varied.items():
            shape = tuple(np.shape(value))
            try:
                # To the shape of the leaf itself: numbers that would widen it are for more cells than there are.
                fits = np.broadcast_shapes(shape, leaf.shape) == tuple(leaf.shape)
            except ValueError:
                fits = False
            if not fits:
                raise ValueError(
                    f"{name} of shape {shape} does not broadcast to the parameter {leaf_name(path)!r} of shape "
                    f"{tuple(leaf.shape)}. Give one number, or each array its own cell and barrier: "
                    f"learning_in_memory(optimizer, {{{leaf_name(path)!r}: (cell, barrier), ...}})."
                )


class LeafInfo(NamedTuple):
    """One leaf of the parameters an optimizer was initialised with.

    Attributes:
        name: its path.
        shape: its shape.
        dtype: name of its dtype.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str


def leaf_infos(params: PyTree) -> tuple[LeafInfo, ...]:
    """What is known of each leaf, in `jax.tree.leaves` order."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return tuple(LeafInfo(leaf_name(path), tuple(leaf.shape), str(leaf.dtype)) for path, leaf in leaves)


def known_leaves(
    count: int, start: PyTree | None, params: PyTree | None, seen: Sequence[LeafInfo], updates: PyTree
) -> Sequence[LeafInfo]:
    """The leaves an optimizer was initialised with, from the first thing that tells them.

    Args:
        count: how many there are.
        start: the parameters at the start, if the ledger keeps them.
        params: the parameters of this step, if they were passed.
        seen: what the optimizer object was last initialised with.
        updates: updates, which have all of them if none is None.

    Returns:
        What is known of each leaf.

    Raises:
        ValueError: if leaves are missing and nothing tells which.
    """
    # What belongs to this state first: the object may have initialised another tree of as many leaves since.
    for tree in (start, params):
        if tree is not None and len(infos := leaf_infos(tree)) == count:
            return infos
    if len(seen) == count:
        return seen
    infos = leaf_infos(updates)
    if len(infos) == count:
        return infos
    raise ValueError(
        f"The updates have {len(infos)} arrays, the optimizer was initialised with {count}: pass the parameters as well, "
        "optimizer.update(updates, state, params), so that it is known which have none."
    )


def flatten_updates(updates: PyTree, infos: Sequence[LeafInfo]) -> tuple[list[Any], Callable[[list[Any]], PyTree]]:
    """One update for every leaf of the parameters, None where there is none.

    Args:
        updates: updates, in which leaves may be None as `eqx.partition` makes them.
        infos: the leaves of the parameters.

    Returns:
        `(leaves, unflatten)`.

    Raises:
        ValueError: if these are not updates of those parameters.
    """
    leaves, structure = jax.tree.flatten(updates)
    places = list(range(len(leaves)))
    if len(leaves) != len(infos):
        # Some leaves are None: told by their paths from what was None among the parameters as well.
        found = jax.tree_util.tree_flatten_with_path(updates, is_leaf=lambda x: x is None)[0]
        structure = jax.tree.structure(updates, is_leaf=lambda x: x is None)
        leaves = [leaf for _, leaf in found]
        places = [i for i, info in _matched([leaf_name(path) for path, _ in found], infos)]
    taken = [leaves[i] for i in places]
    if (
        len(taken) != len(infos)
        or any(leaf is not None and tuple(leaf.shape) != info.shape for leaf, info in zip(taken, infos))
        # An update that is left over would belong to no parameter.
        or sum(leaf is not None for leaf in leaves) != sum(leaf is not None for leaf in taken)
    ):
        got = [
            f"{leaf_name(path)} {tuple(leaf.shape)}" for path, leaf in jax.tree_util.tree_flatten_with_path(updates)[0]
        ]
        raise ValueError(
            "These are no updates of the parameters the optimizer was initialised with: they have "
            f"{', '.join(got) or 'no arrays'}; the parameters have {', '.join(f'{i.name} {i.shape}' for i in infos)}. "
            "Initialise it with the parameters that are trained, None or zeros where there is nothing to update."
        )

    def unflatten(new: list[Any]) -> PyTree:
        filled = list(leaves)
        for place, leaf in zip(places, new):
            filled[place] = leaf
        return structure.unflatten(filled)

    return taken, unflatten


def _matched(names: list[str], infos: Sequence[LeafInfo]):
    """Positions among `names` of the parameters, in order."""
    # Both are in tree order, so that one pass finds all that are there.
    wanted = iter(infos)
    info = next(wanted, None)
    for i, name in enumerate(names):
        if info is not None and info.name == name:
            yield i, info
            info = next(wanted, None)


def frozen_leaves(frozen: Frozen | None, infos: Sequence[LeafInfo]) -> tuple[bool, ...]:
    """For each leaf whether it is frozen.

    Args:
        frozen: which leaves are.
        infos: the leaves of the parameters.

    Returns:
        One truth value per leaf.

    Raises:
        ValueError: if a path prefix fits no leaf, or a tree of booleans has another number of leaves.
    """
    names = [info.name for info in infos]
    # An empty list holds no prefixes; an empty tree of booleans is not like any parameters.
    if frozen is None or (isinstance(frozen, list | tuple) and not frozen):
        return (False,) * len(names)
    if callable(frozen):
        return tuple(bool(frozen(name)) for name in names)
    flags = jax.tree.leaves(frozen)
    if flags and all(isinstance(flag, str) for flag in flags):
        for prefix in flags:
            if not any(is_under(name, prefix) for name in names):
                raise ValueError(f"frozen={prefix!r} fits no parameter; there are {', '.join(names)}.")
        return tuple(any(is_under(name, prefix) for prefix in flags) for name in names)
    if len(flags) != len(names) or not all(isinstance(flag, bool | np.bool_) for flag in flags):
        raise ValueError(
            "frozen must be a function of a parameter's path, path prefixes, or a tree of booleans like the parameters "
            f"({', '.join(names)}), got {frozen!r}."
        )
    return tuple(bool(flag) for flag in flags)


def is_under(name: str, prefix: str) -> bool:
    """Whether a path lies under a prefix of whole words."""
    return name == prefix or name.startswith(prefix.rstrip("/") + "/")


def part_of_tree(params: PyTree) -> int | None:
    """A number that tells apart the parts of one tree that `optax.multi_transform` gives to several optimizers.

    Args:
        params: parameters, masked where another optimizer has them.

    Returns:
        A checksum of the paths present, or None for a tree that is not masked.
    """

    def is_masked(x):
        return isinstance(x, optax.MaskedNode)

    leaves = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_masked)[0]
    if not any(is_masked(leaf) for _, leaf in leaves):
        return None
    # A checksum and no `hash`: that of a text differs from process to process, and so would the hops.
    return zlib.crc32("\n".join(leaf_name(path) for path, leaf in leaves if not is_masked(leaf)).encode())


def skipped_step(inner_state: PyTree, updates: list[Array]) -> Any:
    """Whether the wrapped optimizer rejected this step (`optax.apply_if_finite`), or None where it never does.

    Updates that are not finite it has accepted, after as many errors in a row as it was told to bear.
    """

    def may_reject(x):
        return isinstance(x, optax.ApplyIfFiniteState)

    states = [x for x in jax.tree.leaves(inner_state, is_leaf=may_reject) if may_reject(x)]
    # The cells are written in one step: if one part of the optimizer rejects it, all of them wait.
    if not states:
        return None
    is_finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(update)) for update in updates])) if updates else True
    return ~jnp.all(jnp.stack([state.last_finite for state in states])) & is_finite


def layer_path(path: Any) -> Any:
    """The layer a leaf belongs to: its path without the last key, or the whole path if that is all there is."""
    # Flax NNX wraps each array in a variable, whose content is one key deeper.
    path = path[:-1] if len(path) > 1 and getattr(path[-1], "name", None) == "value" else path
    return path[:-1] if len(path) > 1 else path


def leaf_names(paths: list[Any]) -> list[str]:
    """Paths in a tree as names with slashes, no two of them equal: where keys hold slashes, some are written in full.

    Args:
        paths: as `jax.tree_util.tree_flatten_with_path` gives them.

    Returns:
        A name for each.

    Example:
        >>> import jax
        >>> tree = {"a": {"b": 1.0, "c": 2.0}, "a/b": 3.0}
        >>> leaf_names([path for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]])
        ["['a']['b']", 'a/c', "['a/b']"]
    """
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
    counts = collections.Counter(names)
    return [name if counts[name] == 1 else jax.tree_util.keystr(path) for name, path in zip(names, paths)]
