"""What was dissipated: the ledger's pytree, its start and its totals.

Three kinds of energy never meet here: `heat` is the model's closed form, `realised_heat` is what the simulated hops
dissipated, and joules measured on the machine that runs the program are not in the ledger at all.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from limjax.memory._blocks import Blocks, blocks_or_placeholder
from limjax.memory._columns import COLUMNS, NAMES, Setup
from limjax.numerics.sums import CompensatedSum

Granularity = Literal["parameter", "leaf"]


class Comparison(NamedTuple):
    """What the same requests would have cost on another memory; one sum per leaf.

    Attributes:
        heat: update heat [kT], shape (leaves,).
        actuation: barrier work [kT], shape (leaves,).
    """

    heat: CompensatedSum
    actuation: CompensatedSum


class Ledger(eqx.Module):
    """Running sums over all steps so far.

    "Leaf" entries are arrays of shape (leaves,), in `jax.tree.leaves` order: sums over the parameters of each leaf.
    "Parameter" entries hold one number per parameter, as a list of blocks; `per_parameter` gives them
    the structure of the parameters. With `granularity="leaf"` they are leaf entries too.

    The leaf entries lie in one array, one row each, because a compiled step pays for every array it touches.

    The columns of `_columns.py` are read by name, `ledger.heat`, each a `CompensatedSum`, or None if it is not kept.

    Attributes:
        steps: number of steps.
        blocks: the parameter entries by name, each a `CompensatedSum` of a list of blocks.
        per_leaf: all leaf entries, a `CompensatedSum` of shape (rows, leaves).
        rows: what the rows of `per_leaf` are called.
        packed: whether small leaves share a block.
        optimizer_heat: heat of the optimizer's own state [kT], shape (state leaves,), or None if not charged.
        start: the parameters at the start, or None with `granularity="leaf"`.
    """

    steps: Int[Array, ""]
    blocks: dict[str, CompensatedSum]
    per_leaf: CompensatedSum
    optimizer_heat: CompensatedSum | None
    start: PyTree | None
    rows: tuple[str, ...] = eqx.field(static=True)
    packed: bool = eqx.field(static=True, default=True)

    def layout(self) -> Blocks:
        """How the parameter entries lie in memory; for a ledger that keeps its start."""
        return Blocks(jax.tree.leaves(self.start), self.packed)

    def leaf_sizes(self) -> list[int] | None:
        """Number of parameters of each leaf, or None where the start is not kept."""
        return None if self.start is None else [leaf.size for leaf in jax.tree.leaves(self.start)]

    def entry(self, name: str) -> CompensatedSum | None:
        """One of the sums by name, or None if this ledger does not keep it."""
        if name in self.blocks:
            return self.blocks[name]
        if name not in self.rows:
            return None
        row = self.rows.index(name)
        return jax.tree.map(lambda x: x[row], self.per_leaf)

    def __getattr__(self, name: str) -> Any:
        """A column of `_columns.py` by its name: a `CompensatedSum`, or None if this ledger does not keep it."""
        if name not in NAMES:
            raise AttributeError(f"A ledger has no {name!r}. Its columns are {', '.join(NAMES)}.")
        return self.entry(name)

    @property
    def compare(self) -> dict[str, Comparison]:
        """What other memories would have cost, by name."""
        # Only rows of comparisons hold a slash: `realised_heat` is none of them.
        names = [row.removesuffix("/heat").removeprefix("compare/") for row in self.rows if row.endswith("/heat")]
        return {
            name: Comparison(self._kept(f"compare/{name}/heat"), self._kept(f"compare/{name}/actuation"))
            for name in names
        }

    def add(
        self,
        entries: dict[str, Any],
        optimizer_heat: Float[Array, "state_leaves"] | None,
    ) -> "Ledger":
        """The ledger with one step added.

        Args:
            entries: what the step adds, by name: lists of blocks for parameter entries, arrays for leaf entries.
            optimizer_heat: heat of the optimizer's own state [kT], if it is charged.

        Returns:
            The new ledger.
        """
        return Ledger(
            steps=self.steps + 1,
            blocks={name: sums.add(entries[name]) for name, sums in self.blocks.items()},
            per_leaf=self.per_leaf.add(jnp.stack([entries[name] for name in self.rows])),
            optimizer_heat=None if self.optimizer_heat is None else self.optimizer_heat.add(optimizer_heat),
            start=self.start,
            rows=self.rows,
            packed=self.packed,
        )

    def without_entries(self) -> "Ledger":
        """The ledger with a step added in which there was nothing to charge."""
        return dataclasses.replace(self, steps=self.steps + 1)

    def _kept(self, name: str) -> CompensatedSum:
        entry = self.entry(name)
        assert entry is not None
        return entry


Ledger.__doc__ = f"{Ledger.__doc__}\n    Columns:\n" + "".join(f"        {c.name}: {c.words}.\n" for c in COLUMNS)


def init_ledger(
    params: PyTree,
    *,
    track: tuple[str, ...] | None,
    compensated: bool,
    setup: Setup,
    compare: tuple[str, ...],
    optimizer_leaves: int | None,
    packed: bool = True,
) -> Ledger:
    """An empty ledger for parameters of this structure.

    Args:
        params: parameters, or `jax.ShapeDtypeStruct`s of them.
        track: what is kept per parameter, or None for nothing, not even the start.
        compensated: whether the sums keep what rounding drops.
        setup: what decides which columns there are.
        compare: names of the comparisons.
        optimizer_leaves: number of charged arrays in the optimizer's state, or None.
        packed: whether small leaves share a block.

    Returns:
        The ledger.
    """
    leaves = jax.tree.leaves(params)
    dtype = jnp.result_type(float)
    columns = [column for column in COLUMNS if column.kept(setup)]
    in_blocks = [column.name for column in columns if column.name in (track or ()) and column.tracked(setup)]
    rows = [column.name for column in columns if column.name not in in_blocks]
    rows += [f"compare/{name}/{what}" for name in compare for what in ("heat", "actuation")]

    def block_sum(name):
        zeros = Blocks(leaves, packed).zeros(leaves)
        counts = NAMES[name].counts
        if counts:
            # A float32 sum of ones stops at 16.7 million.
            zeros = [jnp.zeros_like(block, dtype=jnp.int32) for block in zeros]
        # Sums of whole numbers drop nothing that would have to be kept.
        return CompensatedSum.zeros(blocks_or_placeholder(params, zeros), compensated and not counts)

    optimizer_heat = None
    if optimizer_leaves is not None:
        optimizer_heat = CompensatedSum.zeros(jnp.zeros((optimizer_leaves,), dtype), compensated)
    return Ledger(
        steps=jnp.zeros((), jnp.int32),
        blocks={name: block_sum(name) for name in in_blocks},
        per_leaf=CompensatedSum.zeros(jnp.zeros((len(rows), len(leaves)), dtype), compensated),
        optimizer_heat=optimizer_heat,
        start=None if track is None else jax.tree.map(_copy, params),
        rows=tuple(rows),
        packed=packed,
    )


def _copy(p: Any) -> Array:
    # A copy: the same buffer in parameters and state could not be donated to one jitted call.
    return jnp.zeros_like(p) if isinstance(p, jax.ShapeDtypeStruct) else jnp.array(p, copy=True)


def get_ledger(state: PyTree) -> Ledger:
    """The ledger inside any optax state, however deep in `optax.chain` and its kin.

    Args:
        state: state of an optimizer that contains one `learning_in_memory` or `gradient_tilt`.

    Returns:
        The ledger.

    Raises:
        ValueError: if there is none, or more than one (then use `get_ledgers`).

    Example:
        >>> import jax, jax.numpy as jnp, optax, limjax
        >>> opt = limjax.learning_in_memory(optax.sgd(0.1), limjax.ArrheniusCell(), limjax.StaticBarrier(10.0))
        >>> int(limjax.get_ledger(opt.init({"w": jnp.zeros(3)})).steps)
        0
    """
    ledgers = get_ledgers(state)
    if len(ledgers) != 1:
        found = "holds no ledger" if not ledgers else f"holds {len(ledgers)} ledgers: {', '.join(ledgers)}"
        remedy = (
            "Pass the state that `optimizer.init` or `optimizer.update` of a limjax optimizer returned."
            if not ledgers
            else "Use limjax.get_ledgers(state), which returns them by path."
        )
        raise ValueError(f"The state {found}. {remedy}")
    return next(iter(ledgers.values()))


def get_ledgers(state: PyTree) -> dict[str, Ledger]:
    """All ledgers inside an optax state, by their path in it (`optax.multi_transform` may hold several).

    Args:
        state: state of any optimizer.

    Returns:
        Ledgers by path.
    """
    found = jax.tree_util.tree_flatten_with_path(state, is_leaf=lambda x: isinstance(x, Ledger))[0]
    return {jax.tree_util.keystr(path): leaf for path, leaf in found if isinstance(leaf, Ledger)}


def one_member(ledger: Ledger) -> None:
    """Refuses the ledgers of several members of an ensemble at once, with the way to one of them."""
    if ledger.steps.ndim:
        raise ValueError(
            f"This ledger holds the members of an ensemble, {' x '.join(map(str, ledger.steps.shape))} of them: take one, "
            "jax.tree.map(lambda x: x[i], state), and its parameters likewise."
        )


def leaf_totals(ledger: Ledger, name: str) -> Float[np.ndarray, "leaves"]:
    """One of the ledger's sums per leaf, in float64 on the host.

    Args:
        ledger: the ledger.
        name: `heat`, `path`, `saturated`, `actuation`, `hops`, `heat_kelvin`, `realised_heat`, `range_clipped`,
            `barrier_clipped` or `shallow`.

    Returns:
        One number per leaf: sums over its parameters.

    Raises:
        ValueError: if this ledger does not keep that sum.
    """
    one_member(ledger)
    entry = getattr(ledger, name)
    if entry is None:
        raise ValueError(
            f"This ledger keeps no {name}: it is there only with hop noise, a level range or a charge for it."
        )
    if name not in ledger.blocks:
        return entry.float64()
    layout = ledger.layout()
    totals = np.zeros(len(layout.sizes))
    for group, block in zip(layout.groups, _on_host(entry, NAMES[name].counts)):
        if len(group) == 1:
            totals[group[0]] = block.sum()
        else:
            ends = np.cumsum([layout.sizes[i] for i in group])
            totals[group] = [block[end - layout.sizes[i] : end].sum() for i, end in zip(group, ends)]
    return totals


def leaf_sums(ledger: Ledger, name: str) -> Float[Array, "leaves"]:
    """`leaf_totals` where the ledger lies, in the dtype of its sums: traceable, and without what rounding dropped.

    Args:
        ledger: the ledger.
        name: of a sum that it keeps.

    Returns:
        One number per leaf.
    """
    sums = ledger._kept(name)
    if name not in ledger.blocks:
        return sums.total
    layout = ledger.layout()
    # Without leaves a placeholder stands there. Counts as floats: an int32 wraps where many are added.
    blocks = sums.total if layout.sizes else []
    blocks = [x.astype(jnp.result_type(float)) for x in blocks] if NAMES[name].counts else blocks
    return layout.leaf_sums([blocks])[0]


def _on_host(entry: CompensatedSum, counts: bool) -> PyTree:
    """Blocks in float64, summed where they lie but for the last step: that is all a host sees of arrays on other hosts' devices."""
    if not counts:
        return jax.tree.map(_partly_summed, entry).float64()
    # The sum of 4096 large counts is more than an int32 holds, those of their halves are not.
    upper = jax.tree.map(lambda x: _partly_summed(x >> 16), entry).float64()
    lower = jax.tree.map(lambda x: _partly_summed(x & 0xFFFF), entry).float64()
    return jax.tree.map(lambda high, low: 2.0**16 * high + low, upper, lower)


@jax.jit
def _partly_summed(x: Array) -> Array:
    """Sums of at most 4096 neighbours of a large array, in two passes of 64; small or odd ones as they are."""
    for _ in range(2):
        # A flat block may hold several leaves, whose ends such sums would straddle.
        if x.ndim > 1 and x.shape[-1] % 64 == 0:
            x = jnp.sum(x.reshape(*x.shape[:-1], x.shape[-1] // 64, 64), axis=-1)
    return x


def per_parameter(ledger: Ledger, name: str = "heat") -> PyTree:
    """One of the ledger's sums for every parameter, in float64 on the host.

    Args:
        ledger: a ledger of granularity "parameter".
        name: `heat`, `path` or `saturated`; `actuation` where the barrier differs between parameters.

    Returns:
        NumPy arrays in the structure of the parameters.

    Raises:
        ValueError: if this ledger keeps only sums per leaf of it.

    Example:
        >>> import jax.numpy as jnp, optax, limjax
        >>> opt = limjax.learning_in_memory(optax.sgd(0.1), limjax.ArrheniusCell(), limjax.StaticBarrier(10.0))
        >>> limjax.per_parameter(limjax.get_ledger(opt.init({"w": jnp.zeros(3)})))
        {'w': array([0., 0., 0.])}
    """
    one_member(ledger)
    if name not in ledger.blocks:
        raise ValueError(
            f'This ledger keeps {name} per leaf, not per parameter; use leaf_totals(ledger, "{name}"), or make the '
            'optimizer with granularity="parameter" and it among `track`.'
        )
    treedef = jax.tree.structure(ledger.start)
    return treedef.unflatten(ledger.layout().unpack(ledger.blocks[name].float64()))


def total(ledger: Ledger, name: str = "heat") -> float:
    """Sum of one of the ledger's entries over all parameters, in float64 on the host.

    Args:
        ledger: the ledger.
        name: see `leaf_totals`.

    Returns:
        The total: kT for `heat`, `actuation` and `realised_heat`.

    Raises:
        ValueError: if this ledger does not keep that sum.
    """
    return float(leaf_totals(ledger, name).sum())
