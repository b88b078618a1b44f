"""What becomes of weights that nothing drives: each hops away from its level at its barrier's own rate."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from limjax.memory._blocks import Blocks
from limjax.memory._field import as_field
from limjax.memory._leaves import Frozen, frozen_leaves, leaf_infos
from limjax.memory._ledger import one_member
from limjax.memory._state import LearningInMemoryState, some_memories
from limjax.memory._step import wide
from limjax.numerics.checks import broadcasting, checked_leaf, is_known, stopped_if
from limjax.numerics.poisson import normal_quantile, unit_uniform
from limjax.physics._abstract_cell import AbstractCell
from limjax.physics._hops import exact_hops

_MANY = 1e6  # hops each way from which on the normal law stands in for the difference of counts


def retain(params: PyTree, state: PyTree, seconds: ArrayLike, *, key: Array, frozen: Frozen | None = None) -> PyTree:
    r"""The weights after a time without drive, one draw of the exact law of the ladder.

    A level is left both ways at the rate $r = k_0 e^{-B}$ each, so that after a time t a weight has moved by the difference of two Poisson
    counts of mean $rt$ (Skellam's law; variance $2rt$ levels²). At the ends of a cell's range hops outwards do not happen: a walk folded
    back there. Nothing is dissipated: at equilibrium no work is done.

    Args:
        params: the weights.
        state: state of the optimizer, which knows cells and the heights their barriers stand at.
        seconds: t, at least 0; may be traced. [s]
        key: `jax.random.key(...)`.
        frozen: leaves whose barriers stay shut, as in `learning_in_memory`: give what the optimizer was given.

    Returns:
        The weights after that time, of the same structure, shapes and dtypes.

    Raises:
        ValueError: for a time below 0, weights of another structure, devices that relax by a law of their own, or a state that took no
            step, which knows no barrier yet.

    Example:
        >>> import jax, jax.numpy as jnp, optax, limjax
        >>> opt = limjax.learning_in_memory(optax.sgd(0.1), limjax.ArrheniusCell(lsb=0.5), limjax.StaticBarrier(20.0))
        >>> params = jnp.zeros(4)
        >>> _, state = opt.update(jnp.ones(4), opt.init(params), params)
        >>> limjax.retain(params, state, 1e-3, key=jax.random.key(0)).tolist()  # 0.002 hops each way
        [0.0, 0.0, 0.0, 0.0]

    Source: continuous-time random walk; J. G. Skellam, J. R. Stat. Soc. 109, 296 (1946).
    """
    remedy = "It is a time in seconds, for example 86400.0 for a day."
    seconds = checked_leaf(seconds, "seconds", low=0.0, remedy=remedy, single=True)
    memories = list(some_memories(state).values())
    paths, treedef = jax.tree_util.tree_flatten_with_path(params)
    leaves, index = [leaf for _, leaf in paths], {path: i for i, (path, _) in enumerate(paths)}
    still = frozen_leaves(frozen, leaf_infos(params))
    keys = jax.random.split(key, len(memories))
    for memory, words in zip(memories, keys):
        if memory.cell.charges:
            raise ValueError(
                "These cells are devices that pulses program: they relax by a law of their own and not by hops on a ladder "
                "(docs/device.md). retain is for cells such as limjax.ArrheniusCell."
            )
        mine = own_leaves(memory, index, len(memories))
        stood = memory.cell, _stepped(memory), [leaves[i] for i in mine], memory.ledger.packed
        for i, moved in zip(mine, _wandered(*stood, seconds, words)):
            leaves[i] = leaves[i] if still[i] else moved
    return treedef.unflatten(leaves)


def _stepped(memory: LearningInMemoryState) -> Any:
    """Where the barriers stand, which a first step sets."""
    said = (
        "This state took no step: its barriers stand nowhere yet. Take one step, or pass the state of a trained model."
    )
    steps = memory.ledger.steps
    if is_known(steps):
        if int(steps) == 0:
            raise ValueError(said)
        return memory.barrier.height
    return stopped_if(memory.barrier.height, steps == 0, said)


def own_leaves(memory: LearningInMemoryState, index: dict[Any, int], memories: int) -> list[int]:
    """Which of the parameters' leaves a memory holds."""
    one_member(memory.ledger)
    start = memory.ledger.start
    if start is None and memories > 1:
        raise ValueError(
            'With several memories of granularity "leaf" nobody knows whose a weight is: keep granularity="parameter".'
        )
    mine = list(index) if start is None else [path for path, _ in jax.tree_util.tree_flatten_with_path(start)[0]]
    if len(mine) != memory.ledger.per_leaf.total.shape[-1] or not set(mine) <= set(index):
        raise ValueError("These parameters do not fit the state: pass those that the optimizer was initialised with.")
    return [index[path] for path in mine]


@eqx.filter_jit
def _wandered(
    cell: AbstractCell, height: Any, leaves: list[Array], is_packed: bool, seconds: Float[Array, ""], key: Array
) -> list[Array]:
    """The leaves of one memory after that time."""
    layout = Blocks(leaves, is_packed)
    with broadcasting():
        lsb = [cell.lsb.astype(wide(leaf).dtype) for leaf in leaves]
        levels = layout.pack([wide(leaf) / unit for leaf, unit in zip(leaves, lsb)])
        moves = []
        for i, (level, barrier) in enumerate(zip(levels, as_field(height).blocks(layout))):
            hops = jnp.broadcast_to(cell.hops_at_rest(barrier, seconds), level.shape)
            words = jax.random.bits(jax.random.fold_in(key, i), (2, *level.shape), jnp.uint32)
            move = exact_hops(words[0], words[1], *[jnp.minimum(hops, _MANY)] * 2)
            # The difference of two counts beyond the whole numbers of a float has none of their digits left; its law is normal by then.
            spread = jnp.sqrt(2 * hops)
            normal = jnp.round(spread * normal_quantile(words[0], level.dtype))
            if cell.levels is None:
                moves.append(jnp.where(hops > _MANY, normal, move))
                continue
            ends = cell.levels.astype(level.dtype)
            # On the ring of `_folded` all places are alike, to 1e-30, once a move spreads over two turns. From 2^20 levels on a float32
            # does not tell them apart in its tails any more, and later nowhere: then the place itself is drawn.
            turn = 2 * (ends[1] - ends[0] + 1)
            anywhere = jnp.floor(turn * unit_uniform(words[0], words[1], level.dtype))
            normal = jnp.where(
                spread > jnp.maximum(2 * turn, 0.125 / float(jnp.finfo(level.dtype).eps)), anywhere, normal
            )
            moves.append(_folded(level, jnp.where(hops > _MANY, normal, move), ends))
        back = zip(leaves, layout.unpack(moves), lsb)
        return [(wide(leaf) + move * unit).astype(leaf.dtype) for leaf, move, unit in back]


def _folded(level: Float[Array, "*s"], move: Float[Array, "*s"], ends: Float[Array, "2"]) -> Float[Array, "*s"]:
    """A move on a ladder with ends, as a free one folded half a level beyond them: hops that the ends stop do not happen."""
    width, whole = ends[1] - ends[0] + 1, jnp.round(level)
    # A period of twice the levels, up and mirrored down: each has two places in it, those at the ends as well. In whole numbers, as a
    # float32 has no halves from 2^23 on.
    place = jnp.mod(whole - ends[0] + move, 2 * width)
    folded = jnp.where(place < width, place, 2 * width - 1 - place) + ends[0]
    # What a weight stands beside its level moves with it, inside the range; what does not move stays where it is.
    return jnp.where(move == 0, 0.0, jnp.clip(folded + (level - whole), ends[0], ends[1]) - level)


class Holding(NamedTuple):
    """Two ways to keep a level where it is, for one cell; arrays where what was asked for is.

    Attributes:
        free_variance: variance of a level that is left alone [levels²].
        raised_barrier: the barrier at which that is the variance wanted [kT].
        actuation_kt: work to raise the barrier there, once [kT].
        refresh_contraction: share of its distance by which each refresh, one in every step, pulls a level back.
        refresh_kt: heat of all refreshes [kT].
    """

    free_variance: Float[np.ndarray, "..."]
    raised_barrier: Float[np.ndarray, "..."]
    actuation_kt: Float[np.ndarray, "..."]
    refresh_contraction: Float[np.ndarray, "..."]
    refresh_kt: Float[np.ndarray, "..."]


def holding(cell: AbstractCell, barrier: ArrayLike, variance: ArrayLike, seconds: ArrayLike) -> Holding:
    r"""What it costs to keep a level within a variance for a time: by refreshing it in every step, or by raising its barrier.

    Left alone it spreads by $2k_0te^{-B}$. **Raised barrier**: $B' = \ln(2k_0t/V)$, once, at the work of actuation, however long the time.
    **Refresh**: each step pulls the level back by the share u of its distance, $V = (1-u)^2V + 2g$, so $u = 1 - \sqrt{1 - 2g/V}$, at the
    heat $u^2V/g$ a step; for small u that is $k_0e^{-B}/V$ kT a second, for ever. Refreshes here know the distance: what reading it costs comes
    on top.

    Args:
        cell: the memory cell.
        barrier: B, at which it is refreshed and from which it is raised [kT].
        variance: V, how far it may stray [levels²]. The open regime, V >> 1, where a pull makes no hops beside those of the exchange: up to
            2g = V/2 the heat is 1 % too low at V = 16, 3 to 6 % at 4 and 13 to 28 % at 1; nearer to 2g = V, where at V = 4 no refresh
            holds the level any more, it says too little.
        seconds: t, for how long, above 0 [s].

    Returns:
        Both costs. Where 2g > V no refresh once a step holds the level, and its heat is infinite.

    Raises:
        ValueError: for a number out of its range.

    Example:
        >>> import limjax
        >>> day = limjax.holding(limjax.ArrheniusCell(), barrier=15.0, variance=4.0, seconds=86400.0)
        >>> f"refresh {day.refresh_kt:.2g} kT, raised to {day.raised_barrier:.1f} kT for {day.actuation_kt:.2f} kT"
        'refresh 7.2e+06 kT, raised to 31.4 kT for 0.38 kT'

    Source: stationary variance of a linear feedback on the ladder; docs/consolidation.md derives it.
    """
    given = {"barrier": barrier, "variance": variance, "seconds": seconds}
    remedies = {
        "barrier": "Barriers are in kT.",
        "variance": "It is in levels², for example 4.0: two levels r.m.s.",
        "seconds": "It is a time in seconds, for example 86400.0 for a day.",
    }
    checked = [
        checked_leaf(v, name, low=0.0, open_low=name != "barrier", remedy=remedies[name]) for name, v in given.items()
    ]
    if not is_known(*checked):
        raise ValueError("holding computes on the host: call it with known numbers, outside of jit and grad.")
    with broadcasting():
        height, wanted, time = jnp.broadcast_arrays(*checked)
        # ln(2k0t/V) from the hops at B itself, which a cell may count in its own way. A barrier that is high enough
        # stays.
        raised = jnp.maximum(height, height + jnp.log(2 * cell.hops_at_rest(height, time)) - jnp.log(wanted))
        share = 2 * cell.exchange(height) / wanted
        # 1 - sqrt(1 - 2g/V) without the difference, which loses its digits where 2g/V is small.
        root = 1 + jnp.sqrt(jnp.maximum(1 - share, 0.0))
        contraction = share / root
        # u²V/g with g = share V/2, and u/share written out: far up both are 0.
        per_step = jnp.where(share > 1, jnp.inf, 2 * contraction / root)
        steps = time / cell.step_time
        costs = (
            2 * cell.hops_at_rest(height, time),
            raised,
            cell.actuation(height, raised),
            contraction,
            per_step * steps,
        )
    return Holding(*(np.asarray(cost) for cost in costs))
