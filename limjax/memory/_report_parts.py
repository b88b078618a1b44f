"""The sums of each memory of a run on the host, one number for each of its parameter arrays."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from limjax.memory._leaves import leaf_name
from limjax.memory._ledger import Ledger, leaf_totals, one_member
from limjax.memory._state import some_memories
from limjax.physics._abstract_cell import AbstractCell


class Part:
    """One memory of a run: its ledger's sums, one number for each of its parameter arrays.

    Args:
        ledger: its ledger.
        cell: its cell.
        params: the parameters at the end, of this and perhaps of other memories.
        start: the parameters at the start, or None if the ledger keeps them.
    """

    def __init__(self, ledger: Ledger, cell: AbstractCell, params: PyTree, start: PyTree | None):
        one_member(ledger)
        self.ledger, self.cell, self.steps = ledger, cell, int(ledger.steps)
        self.leaves = matching_leaves(ledger, params)
        first = self._first(ledger.start if start is None else start)
        sizes = np.array([np.size(leaf) for _, leaf in self.leaves], np.float64)
        kept = ("path", "hops", "heat", "heat_kelvin", "actuation", "saturated", "barrier_clipped", "shallow")
        self.columns = {name: leaf_totals(ledger, name) for name in kept}
        self.columns |= {"parameters": sizes, "parameter_steps": sizes * self.steps}
        self.columns["kelvin"] = sizes * np.mean(np.asarray(cell.temperature, np.float64))
        stopped = ledger.range_clipped is not None
        self.columns["range_clipped"] = leaf_totals(ledger, "range_clipped") if stopped else np.zeros_like(sizes)
        if ledger.realised_heat is not None:
            self.columns["realised_heat"] = leaf_totals(ledger, "realised_heat")
        if first is not None:
            lsb = np.asarray(cell.lsb, np.float64)
            moved = [(np.abs(wide(leaf) - wide(first[path])) / lsb).sum() for path, leaf in self.leaves]
            self.columns["net"] = np.array(moved)
        self.between_levels = 0 if first is None else self._between_levels(first)
        for name, sums in ledger.compare.items():
            self.columns[f"compare/{name}"] = sums.heat.float64() + sums.actuation.float64()

    def _first(self, start: PyTree | None) -> dict[Any, Any] | None:
        """Where its weights started, by path."""
        if start is None:
            return None
        first = dict(flatten(start))
        for path, leaf in self.leaves:
            found = f"shape {np.shape(first[path])}" if path in first else "nothing"
            if found != f"shape {np.shape(leaf)}":
                raise ValueError(
                    f"start has {found} where the parameters have {leaf_name(path)!r} of shape {np.shape(leaf)}: pass the parameters that "
                    "the optimizer was initialised with, before training, or leave it out where the ledger keeps them."
                )
        return first

    def _between_levels(self, first: dict[Any, Any]) -> int:
        """How many weights went whole levels from a place that is none, so that they never stand on one."""
        if self.ledger.realised_heat is None or self.ledger.pulses is not None:
            return 0
        lsb, found = np.asarray(self.cell.lsb, np.float64), 0
        for path, leaf in self.leaves:
            place = wide(leaf) / lsb
            step = place - wide(first[path]) / lsb
            # A weight is a sum of rounded updates: place and step are whole numbers to a few ulp of their size.
            rounding = 1e-3 + 4 * float(jnp.finfo(leaf.dtype).eps) * (np.abs(place) + np.abs(step))
            off = np.abs(place - np.round(place)) > rounding
            if np.all(np.abs(step - np.round(step)) <= rounding):  # hops of whole levels, not normal displacements
                # Only those that hopped: a weight that never moved may stand anywhere.
                found += int(np.sum(off & (np.abs(step) > 0.5)))
        return found


def memories_of(ledger: Ledger | PyTree, cell: AbstractCell | None) -> list[tuple[Ledger, AbstractCell]]:
    """Ledgers and their cells, from a ledger and a cell or from a state."""
    if isinstance(ledger, Ledger):
        if cell is None:
            raise ValueError(
                "A ledger alone does not know its cell: report(ledger, params, cell), or report(state, params) with the whole "
                "state of the optimizer."
            )
        return [(ledger, cell)]
    found = list(some_memories(ledger, ", or a ledger and its cell").values())
    if cell is not None and len(found) > 1:
        raise ValueError(f"This state holds {len(found)} memories, which know their own cells: report(state, params).")
    return [(memory.ledger, memory.cell if cell is None else cell) for memory in found]


def flatten(tree: PyTree) -> list[tuple[Any, Any]]:
    """The leaves with their paths."""
    return jax.tree_util.tree_flatten_with_path(tree)[0]


def matching_leaves(ledger: Ledger, params: PyTree) -> list[tuple[Any, Any]]:
    leaves = flatten(params)
    kept = dict(flatten(ledger.start)) if ledger.start is not None else None
    if kept is not None:
        # A masked ledger keeps only part of the parameters.
        leaves = [(path, leaf) for path, leaf in leaves if path in kept]
        wrong = [path for path, leaf in leaves if np.shape(leaf) != np.shape(kept[path])]
        if len(leaves) != len(kept) or wrong:
            where = jax.tree_util.keystr(wrong[0]) if wrong else f"{len(leaves)} of {len(kept)} arrays found"
            raise ValueError(
                f"These parameters do not fit the ledger ({where}): pass the parameters that the optimizer was "
                "initialised with, after training."
            )
    elif len(leaves) != ledger.hops.total.shape[0]:
        raise ValueError(
            f"The ledger has {ledger.hops.total.shape[0]} leaves but the parameters have {len(leaves)}: pass the "
            "parameters that the optimizer was initialised with."
        )
    return leaves


def wide(x: Any) -> Float[np.ndarray, "..."]:
    """An array on the host in float64."""
    return np.asarray(jnp.asarray(x).astype(jnp.float32) if jnp.asarray(x).dtype == jnp.bfloat16 else x, np.float64)
