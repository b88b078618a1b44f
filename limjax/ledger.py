"""What was dissipated: the ledger's pytree, its start and its totals.

Three kinds of energy never meet here: `heat` is the model's closed form, `realised_heat` is what the simulated hops
dissipated, and joules measured on the machine that runs the program are not in the ledger at all.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from limjax.blocks import Blocks, blocks_or_placeholder
from limjax.physics.numerics import CompensatedSum

Granularity = Literal["parameter", "leaf"]

VALID_FROM_BARRIER = 2.0
"""Barrier [kT] below which the ladder is no longer a good picture of a continuous landscape (docs/ladder.md)."""


class Comparison(NamedTuple):
    """What the same requests would have cost under another barrier; one sum per leaf.

    Attributes:
        heat: update heat [kT], shape (leaves,).
        actuation: barrier work [kT], shape (leaves,).
    """

    heat: CompensatedSum
    actuation: CompensatedSum


class Ledger(NamedTuple):
    """Running sums over all steps so far.

    "Leaf" entries are arrays of shape (leaves,), in `jax.tree.leaves` order: sums over the parameters of each leaf.
    "Parameter" entries hold one number per parameter, as a list of blocks (`limjax.blocks`); `per_parameter` gives them
    the structure of the parameters. With `granularity="leaf"` they are leaf entries too.

    Attributes:
        steps: number of steps.
        heat: update heat Σ d·F of the closed form [kT]; parameter.
        path: requested path Σ|d| [levels]; parameter.
        saturated: steps in which the tilt exceeded the barrier; parameter.
        actuation: work to move the barrier [kT]; parameter if the barrier differs between parameters, else leaf.
        hops: mean number of hops ΣA, also the variance the hops injected [levels²]; leaf.
        realised_heat: Σ F·Δn of the hops drawn [kT], whose mean is `heat`; leaf; None without hop noise.
        range_clipped: parameter-steps that ended at the end of the cell's range; leaf; None without a range.
        barrier_clipped: parameter-steps whose barrier was clipped to the cell's range; leaf.
        shallow: parameter-steps with a barrier below 2 kT, where the ladder is a rough picture; leaf.
        compare: what other barriers would have cost, by name.
        optimizer_heat: heat of the optimizer's own state [kT], shape (state leaves,), or None if not charged.
        start: the parameters at the start, or None with `granularity="leaf"`.
    """

    steps: Int[Array, ""]
    heat: CompensatedSum
    path: CompensatedSum
    saturated: CompensatedSum
    actuation: CompensatedSum
    hops: CompensatedSum
    realised_heat: CompensatedSum | None
    range_clipped: CompensatedSum | None
    barrier_clipped: CompensatedSum
    shallow: CompensatedSum
    compare: dict[str, Comparison]
    optimizer_heat: CompensatedSum | None
    start: PyTree | None


def init_ledger(
    params: PyTree,
    *,
    granularity: Granularity,
    compensated: bool,
    actuation_per_parameter: bool,
    noisy: bool,
    has_range: bool,
    compare: tuple[str, ...],
    optimizer_leaves: int | None,
) -> Ledger:
    """An empty ledger for parameters of this structure.

    Args:
        params: parameters, or `jax.ShapeDtypeStruct`s of them.
        granularity: one entry per parameter or one per leaf.
        compensated: whether the sums keep what rounding drops.
        actuation_per_parameter: whether the barrier differs between parameters.
        noisy: whether hops are drawn.
        has_range: whether the cell has a lowest and highest level.
        compare: names of the barriers to compare with.
        optimizer_leaves: number of charged arrays in the optimizer's state, or None.

    Returns:
        The ledger.
    """
    per_leaf = jnp.zeros((len(jax.tree.leaves(params)),), jnp.result_type(float))

    def leaf_sum():
        return CompensatedSum.zeros(per_leaf, compensated)

    def parameter_sum(compensated):
        if granularity == "leaf":
            return leaf_sum()
        leaves = jax.tree.leaves(params)
        return CompensatedSum.zeros(blocks_or_placeholder(params, Blocks(leaves).zeros(leaves)), compensated)

    return Ledger(
        steps=jnp.zeros((), jnp.int32),
        heat=parameter_sum(compensated),
        path=parameter_sum(compensated),
        # Whole numbers: a plain float32 sum of ones is exact up to 16.7 million steps.
        saturated=parameter_sum(False),
        actuation=parameter_sum(compensated) if actuation_per_parameter else leaf_sum(),
        hops=leaf_sum(),
        realised_heat=leaf_sum() if noisy else None,
        range_clipped=leaf_sum() if has_range else None,
        barrier_clipped=leaf_sum(),
        shallow=leaf_sum(),
        compare={name: Comparison(leaf_sum(), leaf_sum()) for name in compare},
        optimizer_heat=None
        if optimizer_leaves is None
        else CompensatedSum.zeros(jnp.zeros((optimizer_leaves,), jnp.result_type(float)), compensated),
        start=None if granularity == "leaf" else jax.tree.map(_copy, params),
    )


def _copy(p):
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


def leaf_totals(ledger: Ledger, name: str) -> Float[np.ndarray, "leaves"]:
    """One of the ledger's sums per leaf, in float64 on the host.

    Args:
        ledger: the ledger.
        name: `heat`, `path`, `saturated`, `actuation`, `hops`, `realised_heat`, `range_clipped`, `barrier_clipped` or
            `shallow`.

    Returns:
        One number per leaf: sums over its parameters.

    Raises:
        ValueError: if this ledger does not keep that sum.
    """
    entry = getattr(ledger, name)
    if entry is None:
        raise ValueError(
            f"This ledger keeps no {name}: it is there only with hop noise, a level range or a charge for it."
        )
    values = entry.float64()
    if isinstance(values, np.ndarray):
        return values
    return np.array([leaf.sum() for leaf in Blocks(jax.tree.leaves(ledger.start)).unpack(values)])


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
    entry = getattr(ledger, name)
    if entry is None or not isinstance(entry.total, list):
        raise ValueError(
            f'This ledger keeps {name} per leaf, not per parameter; use leaf_totals(ledger, "{name}"), or make the '
            'optimizer with granularity="parameter".'
        )
    leaves, treedef = jax.tree.flatten(ledger.start)
    return treedef.unflatten(Blocks(leaves).unpack(entry.float64()))


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
