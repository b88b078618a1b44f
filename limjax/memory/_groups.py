"""Several memories in one model: a cell and a barrier for each layer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import PyTree

from limjax.barriers._base import AbstractBarrier
from limjax.memory._leaves import is_under, leaf_name
from limjax.physics._abstract_cell import AbstractCell

CellAndBarrier = tuple[AbstractCell, AbstractBarrier]
Groups = Mapping[str, Any] | Callable[[str], Any]
"""A cell and barrier for each layer: a dict from path prefix to both ("" is the rest), or a function of a leaf's path."""


class GroupedState(NamedTuple):
    """State of an optimizer on several memories.

    Attributes:
        memories: the states by group.
        inner: state of the wrapped optimizer, which sees all parameters.
    """

    memories: dict[str, Any]
    inner: Any


class Grouping(NamedTuple):
    """Which leaf belongs to which memory.

    Attributes:
        members: cell and barrier by group, in the order of the leaves.
        labels: the group of each leaf, by its path.
    """

    members: dict[str, CellAndBarrier]
    labels: dict[str, str]

    def part(self, tree: PyTree, label: str) -> PyTree:
        """The tree with the leaves of one group, masked elsewhere."""
        # optax's own mask, by which `part_of_tree` gives each memory a key of its own.
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf if self.labels.get(leaf_name(path), label) == label else optax.MaskedNode(), tree
        )


def grouping(tree: PyTree, groups: Groups) -> Grouping:
    """Sorts the leaves of a tree into groups.

    Args:
        tree: parameters or updates.
        groups: cell and barrier for each layer.

    Returns:
        The groups that have leaves.

    Raises:
        ValueError: for a leaf of no group, a prefix that fits no leaf, or two leaves of one path.
        TypeError: for anything but a cell and a barrier.
    """
    names = [leaf_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
    if len(set(names)) != len(names):
        raise ValueError(f"Two parameters have one path, {', '.join(names)}: no path tells which cell they are on.")
    if isinstance(groups, Mapping):
        labels = _by_prefix(names, list(groups))
        members = {label: groups[label] for label in labels.values()}
    else:
        labels, members = _by_function(names, groups)
    for label, pair in members.items():
        if not (
            isinstance(pair, tuple | list)
            and len(pair) == 2
            and isinstance(pair[0], AbstractCell)
            and isinstance(pair[1], AbstractBarrier)
        ):
            raise TypeError(f"The group {label!r} must be (cell, barrier), got {pair!r}.")
    return Grouping(members, labels)


def check_prefixes(tree: PyTree, groups: Groups) -> None:
    """Refuses a prefix that fits no leaf of the parameters."""
    names = [leaf_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
    for prefix in groups if isinstance(groups, Mapping) and names else ():
        if prefix and not any(is_under(name, prefix) for name in names):
            raise ValueError(f"The group {prefix!r} fits no parameter; there are {', '.join(names)}.")


def merged(tree: PyTree, parts: Sequence[PyTree]) -> PyTree:
    """One tree of the parts that `Grouping.part` made, with the structure of the whole."""
    leaves = {path: leaf for part in parts for path, leaf in jax.tree_util.tree_flatten_with_path(part)[0]}
    return jax.tree_util.tree_map_with_path(lambda path, _: leaves[path], tree)


def _by_prefix(names: list[str], prefixes: list[str]) -> dict[str, str]:
    labels = {}
    for name in names:
        fitting = [prefix for prefix in prefixes if not prefix or is_under(name, prefix)]
        if not fitting:
            raise ValueError(
                f'The parameter {name!r} is in no group of {", ".join(map(repr, prefixes))}: name it, or give "" for the rest.'
            )
        # All of them are prefixes of one path: the longest says most, and "" is for what no other names.
        labels[name] = max(fitting, key=len)
    return labels


def _by_function(names: list[str], function: Callable[[str], CellAndBarrier]) -> tuple[dict[str, str], dict[str, Any]]:
    """Leaves for which the function gives the same two objects are one group, called by the first of them."""
    given: dict[tuple[int, int], str] = {}
    # All that it gave is kept until the end, or another object could get the number of one that is gone.
    pairs = {name: function(name) for name in names}
    labels = {}
    for name, pair in pairs.items():
        cell, barrier = pair if isinstance(pair, tuple | list) and len(pair) == 2 else (pair, None)
        labels[name] = given.setdefault((id(cell), id(barrier)), name)
    return labels, {label: pairs[label] for label in labels.values()}
