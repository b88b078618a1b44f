"""What each layer dissipated over the steps of any loop: a pytree of bounded size that is handed on from step to step."""

import csv
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from limjax._files import local_path, write_whole
from limjax.memory._event_file import scalar_events
from limjax.memory._leaves import layer_path, leaf_names
from limjax.memory._ledger import Ledger, leaf_sums, one_member
from limjax.memory._report_parts import matching_leaves
from limjax.memory._state import get_barrier, get_memories, some_memories
from limjax.numerics.checks import whole_number

COLUMNS = {"heat": "heat_kt", "actuation": "actuation_kt", "path": "path_levels", "hops": "hops"}
"""The sums of a ledger that are recorded, and what files call them."""


class Layers(NamedTuple):
    """The layers of a run.

    Attributes:
        names: their paths in the parameters.
        parameters: how many parameters each has.
        of_leaves: for each memory of the run the layer of each of its parameter arrays.
    """

    names: tuple[str, ...]
    parameters: tuple[int, ...]
    of_leaves: tuple[tuple[int, ...], ...]


class HostRow(NamedTuple):
    """One row of a history on the host.

    Attributes:
        step: steps taken.
        loss: of the step, or NaN.
        barrier: mean barrier of the step [kT].
        sums: one number per column of `COLUMNS` and layer, since the start.
    """

    step: int
    loss: float
    barrier: float
    sums: Sequence[Sequence[float]]


class LedgerHistory(eqx.Module):
    """Heat, barrier work, path and hops of each layer over the steps of a loop.

    A pytree: make it before the loop and hand it on with the state, `history = history.record(state)`, under `jax.jit` and as a carry of
    `jax.lax.scan` too. It has a fixed number of rows; when all are taken, every second one is kept and `every` doubles, so that a run
    of any length needs O(rows · layers) memory, and recording costs one pass over the ledger every so many steps.

    Attributes:
        steps: steps taken at each row, shape (rows,).
        sums: what was recorded, as `COLUMNS` has it, summed since the start and over the parameters of a layer, shape
            (columns, rows, layers).
        barrier: mean barrier of the last step [kT], shape (rows,).
        loss: the loss that was given, NaN where none was, shape (rows,).
        count: number of rows taken.
        every: steps between rows.
        layers: names and sizes of the layers.

    Example:
        >>> import jax, jax.numpy as jnp, optax, limjax
        >>> params = {"encoder": {"w": jnp.ones(3)}, "head": {"w": jnp.ones(2)}}
        >>> opt = limjax.learning_in_memory(optax.sgd(0.1), limjax.ArrheniusCell(), limjax.StaticBarrier(10.0))
        >>> state = opt.init(params)
        >>> history = LedgerHistory.of(state, params, every=2)
        >>> for _ in range(5):
        ...     updates, state = opt.update(params, state, params)
        ...     params = optax.apply_updates(params, updates)
        ...     history = history.record(state)
        >>> history.step.tolist(), history.layers.names, bool(history.column("heat")[1, 0] > history.column("heat")[0, 0])
        ([2, 4], ('encoder', 'head'), True)
    """

    steps: Int[Array, "rows"]
    sums: Float[Array, "columns rows layers"]
    barrier: Float[Array, "rows"]
    loss: Float[Array, "rows"]
    count: Int[Array, ""]
    every: Int[Array, ""]
    layers: Layers = eqx.field(static=True)

    @classmethod
    def of(cls, state: PyTree, params: PyTree, *, every: int = 1, rows: int = 128) -> "LedgerHistory":
        """An empty history for a loop.

        Args:
            state: of the optimizer, as `optimizer.init` returned it; it may hold several memories.
            params: the parameters it was initialised with.
            every: steps between rows, at the start.
            rows: rows that are kept at most; even.

        Returns:
            The history.

        Raises:
            ValueError: if there is no limjax state in `state`, the parameters do not fit it, or a number is wrong.
        """
        every = whole_number(every, "every")
        rows = whole_number(rows, "rows", 2)
        if rows % 2:
            raise ValueError(f"rows must be even, because every second one is dropped when all are taken; got {rows}.")
        memories = some_memories(state)
        layers = layers_of([memory.ledger for memory in memories.values()], params)
        dtype = jnp.result_type(float)
        return cls(
            steps=jnp.zeros(rows, jnp.int32),
            sums=jnp.zeros((len(COLUMNS), rows, len(layers.names)), dtype),
            barrier=jnp.zeros(rows, dtype),
            loss=jnp.full(rows, jnp.nan, dtype),
            count=jnp.zeros((), jnp.int32),
            every=jnp.asarray(every, jnp.int32),
            layers=layers,
        )

    @classmethod
    def of_rows(cls, layers: Layers, rows: Sequence[HostRow]) -> "LedgerHistory":
        """A finished history from numbers on the host, such as those of `limjax.train` or of a file.

        Args:
            layers: names and sizes of the layers.
            rows: one per recorded step, in their order.

        Returns:
            The history, with all rows taken.
        """
        dtype, every = jnp.result_type(float), np.diff([0, *(row.step for row in rows)])
        sums = np.array([row.sums for row in rows], np.float64).reshape(len(rows), len(COLUMNS), len(layers.names))
        return cls(
            steps=jnp.asarray([row.step for row in rows], jnp.int32),
            sums=jnp.asarray(np.swapaxes(sums, 0, 1), dtype),
            barrier=jnp.asarray([row.barrier for row in rows], dtype),
            loss=jnp.asarray([row.loss for row in rows], dtype),
            count=jnp.asarray(len(rows), jnp.int32),
            every=jnp.asarray(max(every, default=1), jnp.int32),
            layers=layers,
        )

    def record(self, state: PyTree, loss: Float[Array, ""] | float | None = None) -> "LedgerHistory":
        """The history with a row for this state, if `every` steps were taken since the last one; otherwise as it is.

        Args:
            state: of the optimizer after an update.
            loss: of this step, kept beside the heat; None for none, which is kept as NaN (`jax_debug_nans` takes it for an error).

        Returns:
            The history.

        Raises:
            ValueError: if the state has other memories than the one that the history was made for.
        """
        ledgers = [memory.ledger for memory in get_memories(state).values()]
        if len(ledgers) != len(self.layers.of_leaves):
            raise ValueError(
                f"This state holds {len(ledgers)} limjax memories, and the history was made for {len(self.layers.of_leaves)}: "
                "LedgerHistory.of(state, params) makes one for this state."
            )
        for ledger in ledgers:
            one_member(ledger)
        # Compiled as one, so that a loop outside of `jit` compiles it once.
        return _recorded(self, state, jnp.asarray(jnp.nan if loss is None else loss, self.loss.dtype))

    def _with_row_if_due(self, state: PyTree, loss: Float[Array, ""]) -> "LedgerHistory":
        ledgers = [memory.ledger for memory in get_memories(state).values()]
        # The largest: a memory whose optimizer rejected a step has counted one less.
        step = jnp.max(jnp.stack([ledger.steps for ledger in ledgers]))
        last = jnp.where(self.count > 0, self.steps[jnp.maximum(self.count - 1, 0)], 0)
        # By the multiples of `every` in between, so that a loop that records only now and then misses none of them.
        due = step // self.every > last // self.every
        # A branch: a step without a row then makes no pass over the ledger.
        return jax.lax.cond(due, lambda: self._with_row(state, ledgers, step, loss), lambda: self)

    def _with_row(self, state: PyTree, ledgers: list[Ledger], step: Int[Array, ""], loss: Any) -> "LedgerHistory":
        at = self.count
        sums = jnp.stack([self._per_layer([leaf_sums(ledger, name) for ledger in ledgers]) for name in COLUMNS])
        filled = LedgerHistory(
            steps=self.steps.at[at].set(step),
            sums=self.sums.at[:, at].set(sums.astype(self.sums.dtype)),
            barrier=self.barrier.at[at].set(get_barrier(state).astype(self.barrier.dtype)),
            loss=self.loss.at[at].set(jnp.asarray(loss, self.loss.dtype)),
            count=at + 1,
            every=self.every,
            layers=self.layers,
        )
        return jax.lax.cond(filled.count == self.steps.shape[0], _thinned, lambda full: full, filled)

    def _per_layer(self, leaves: list[Float[Array, "_"]]) -> Float[Array, "layers"]:
        places = np.array([place for group in self.layers.of_leaves for place in group], int)
        sums = jnp.concatenate([x.astype(self.sums.dtype) for x in leaves])
        return jnp.zeros(len(self.layers.names), self.sums.dtype).at[places].add(sums)

    @property
    def step(self) -> Int[np.ndarray, "taken"]:
        """Steps taken at each row, on the host."""
        return np.asarray(self.steps)[: int(self.count)]

    def column(self, name: str) -> Float[np.ndarray, "taken layers"]:
        """One of the recorded sums in float64 on the host: since the start, over the parameters of a layer.

        Args:
            name: `heat`, `actuation` [kT], `path` [levels] or `hops`.

        Returns:
            One row per recorded step.

        Raises:
            ValueError: for another name.
        """
        if name not in COLUMNS:
            raise ValueError(f"A history has no {name!r}; it has {', '.join(COLUMNS)}.")
        return np.asarray(self.sums[list(COLUMNS).index(name)], np.float64)[: int(self.count)]

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes one line per row: `step,loss,barrier_kt,heat_kt/<layer>,...,actuation_kt/<layer>,...`.

        Args:
            path: file to write; its folder must exist.

        Raises:
            OSError: if it cannot be written.
        """
        content = [[repr(value) for value in row] for row in self._rows()]
        header = ["step", *self._tags()]

        def write(file: Any) -> None:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(content)

        write_whole(local_path(path, "path"), write, "w")

    def to_tensorboard(self, path: str | os.PathLike[str]) -> None:
        """Writes the rows as scalars that TensorBoard shows; it need not be installed.

        Args:
            path: file to write. TensorBoard looks for names with `tfevents` in them: `runs/one/heat.tfevents`.

        Raises:
            ValueError: for a file name that TensorBoard would not look at.
            OSError: if it cannot be written.
        """
        file = local_path(path, "path")
        if "tfevents" not in file.name:
            raise ValueError(
                f"path must be a file with tfevents in its name, such as heat.tfevents; got {file.name!r}."
            )
        content = scalar_events(self.step.tolist(), self._tags(), [row[1:] for row in self._rows()])
        write_whole(file, lambda out: out.write(content))

    def _tags(self) -> list[str]:
        tags = [f"{unit}/{layer}" for unit in COLUMNS.values() for layer in self.layers.names]
        return ["loss", "barrier_kt", *tags]

    def _rows(self) -> list[list[Any]]:
        columns = np.concatenate([self.column(name) for name in COLUMNS], axis=1)
        beside = np.stack([np.asarray(self.loss), np.asarray(self.barrier)], axis=1)[: int(self.count)]
        return [[step, *row] for step, row in zip(self.step.tolist(), np.hstack([beside, columns]).tolist())]


def _thinned(full: LedgerHistory) -> LedgerHistory:
    """A full history with every second row, the newest among them, and rows half as often from here on."""
    half = full.steps.shape[0] // 2

    def halved(x: Array, axis: int = 0) -> Array:
        # From the second row on: their number is even, so that the newest stays.
        kept = jax.lax.slice_in_dim(x, 1, None, 2, axis)
        return jnp.concatenate([kept, jnp.zeros_like(kept)], axis)

    return LedgerHistory(
        steps=halved(full.steps),
        sums=halved(full.sums, 1),
        barrier=halved(full.barrier),
        loss=halved(full.loss),
        count=jnp.full_like(full.count, half),
        every=2 * full.every,
        layers=full.layers,
    )


def layers_of(ledgers: list[Ledger], params: PyTree) -> Layers:
    """The layers of all memories of a run together, in the order of the parameters.

    Args:
        ledgers: of the memories.
        params: all parameters.

    Returns:
        The layers.
    """
    order = {path: i for i, (path, _) in enumerate(jax.tree_util.tree_flatten_with_path(params)[0])}
    found = [matching_leaves(ledger, params) for ledger in ledgers]
    paths = sorted((path for leaves in found for path, _ in leaves), key=order.__getitem__)
    places = {layer: i for i, layer in enumerate(dict.fromkeys(map(layer_path, paths)))}
    sizes = np.zeros(len(places), int)
    for path, leaf in (pair for leaves in found for pair in leaves):
        sizes[places[layer_path(path)]] += np.size(leaf)
    return Layers(
        tuple(name or "parameters" for name in leaf_names(list(places))),
        tuple(sizes.tolist()),
        tuple(tuple(places[layer_path(path)] for path, _ in leaves) for leaves in found),
    )


@eqx.filter_jit
def _recorded(history: LedgerHistory, state: PyTree, loss: Float[Array, ""]) -> LedgerHistory:
    return history._with_row_if_due(state, loss)
