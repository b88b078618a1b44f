"""One step of the memory: the barrier moves, every cell is charged, hops are drawn."""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree, UInt32

from limjax.barrier_state import BarrierValue, ChargedBarrier, map_value, move_barrier, per_block
from limjax.barriers.base import BarrierInputs
from limjax.blocks import Blocks
from limjax.comparisons.base import ChargedComparison, StepRecord
from limjax.ledger import VALID_FROM_BARRIER, Ledger
from limjax.numerics.checks import compute_dtype
from limjax.numerics.counters import step_words, told_apart
from limjax.physics import hops as hop_sampling
from limjax.physics.cell import ArrheniusCell
from limjax.physics.response import cell_response

Hops = Literal["mean", "gaussian", "exact"]


class LearningInMemoryState(NamedTuple):
    """State of `learning_in_memory` and `gradient_tilt`. Every number in it is a leaf.

    Attributes:
        ledger: what was dissipated.
        cell: the memory cell.
        barrier: the barrier policy and where it stands.
        compare: what the run is compared with, by name.
        optimizer_memory: cell and barrier that hold the optimizer's own state, or None.
        key: two words of randomness, or None without hop noise.
        inner: state of the wrapped optimizer.
        given: the numbers of cell, barrier and comparisons that the optimizer was last made with, in one array: what
            `optax.inject_hyperparams` changes is told from what was changed in this state by hand.
    """

    ledger: Ledger
    cell: ArrheniusCell
    barrier: ChargedBarrier
    compare: dict[str, ChargedComparison]
    optimizer_memory: tuple[ArrheniusCell, ChargedBarrier] | None
    key: UInt32[Array, "2"] | None
    inner: Any
    given: Float[Array, "numbers"]


def memory_step(
    state: LearningInMemoryState,
    inputs: BarrierInputs,
    half_tilts: list[Float[Array, "..."]] | None,
    leaves: list[Array],
    params: PyTree | None,
    hops: Hops,
    still: tuple[bool, ...],
    optimizer_heat: Float[Array, "state_leaves"] | None = None,
    max_move: float | None = None,
) -> tuple[list[Array], LearningInMemoryState]:
    """One step of the memory: move the barrier, charge every cell, draw the hops."""
    cell, ledger = state.cell, state.ledger
    if not leaves:  # a mask that leaves nothing: there is nothing to move and no block to add to
        return leaves, state._replace(ledger=dataclasses.replace(ledger, steps=ledger.steps + 1))
    layout = Blocks(leaves, ledger.packed)
    barrier, work, clipped = move_barrier(state.barrier, inputs, layout)
    heights = per_block(barrier.height, layout)
    log_exchanges = [cell.log_exchange(height) for height in heights]
    if half_tilts is None:
        assert inputs.drift is not None
        drifts, held = layout.pack(inputs.drift), None
    else:
        tilted = [_tilted_drift(*item, max_move) for item in zip(layout.pack(half_tilts), heights, log_exchanges)]
        drifts, held = [drift for drift, _ in tilted], [is_held for _, is_held in tilted]
    responses = [cell_response(*item) for item in zip(drifts, log_exchanges)]
    affinities = [affinity for affinity, _ in responses]
    activities = [activity for _, activity in responses]
    if held is None:
        held = [cell.is_saturated(drift, height) for drift, height in zip(drifts, heights)]

    moves = _draw(hops, state.key, ledger.steps, drifts, log_exchanges, activities)
    moves, ends = _inside(cell, moves, drifts, params, layout, hops)
    if moves is not None:
        moved = [_to_weight(move, cell, leaf) for move, leaf in zip(layout.unpack(moves), leaves)]
    elif half_tilts is not None:
        moved = [_to_weight(drift, cell, leaf) for drift, leaf in zip(layout.unpack(drifts), leaves)]
    else:
        moved = leaves
    moved = [jnp.zeros_like(move) if f else move for move, f in zip(moved, still)]

    heats = [drift * affinity for drift, affinity in zip(drifts, affinities)]
    entries = {
        "heat": heats,
        "heat_kelvin": [heat * cell.temperature.astype(heat.dtype) for heat in heats],
        "path": [jnp.abs(drift) for drift in drifts],
        "saturated": [is_held.astype(drift.dtype) for is_held, drift in zip(held, drifts)],
        "actuation": work,
        "hops": activities,
        "barrier_clipped": clipped,
        "shallow": map_value(barrier.height, lambda b: (b < VALID_FROM_BARRIER).astype(b.dtype)),
    }
    if hops != "mean":
        assert moves is not None
        entries["realised_heat"] = [affinity * move for affinity, move in zip(affinities, moves)]
    if ends is not None:
        entries["range_clipped"] = ends
    compare = {}
    given = inputs if inputs.drift is not None else inputs._replace(drift=layout.unpack(drifts))
    record = StepRecord(given, layout, drifts, heights, activities)
    for name, (policy, policy_state) in state.compare.items():
        entries[f"compare/{name}/heat"], entries[f"compare/{name}/actuation"], policy_state = policy.charge(
            record, policy_state
        )
        compare[name] = ChargedComparison(policy, policy_state)
    kept = {name: value for name, value in entries.items() if name in ledger.blocks}
    sums = leaf_sums({name: value for name, value in entries.items() if name not in ledger.blocks}, layout)
    if any(still):
        # What does not move keeps its barrier shut: nothing is charged to it.
        moving = jnp.asarray([not f for f in still])
        sums = {name: jnp.where(moving, value, 0.0) for name, value in sums.items()}
        shares = layout.spread(moving.astype(jnp.result_type(float)))
        kept = {
            name: [jnp.where(share > 0, v, jnp.zeros_like(v)) for v, share in zip(value, shares)]
            for name, value in kept.items()
        }
    ledger = ledger.add(kept | sums, optimizer_heat)
    return moved, state._replace(ledger=ledger, barrier=barrier, compare=compare)


def _tilted_drift(half_tilt, barrier, log_exchange, max_move=None):
    """Mean move 2g sinh(F/2) of a tilted cell [levels], and where the tilt was held: at the barrier, or at the largest move."""
    if max_move is not None:
        move = jnp.full(jnp.shape(log_exchange), max_move, log_exchange.dtype)
        barrier = jnp.minimum(barrier, 0.5 * cell_response(move, log_exchange)[0])
    held = jnp.clip(half_tilt, -barrier, barrier)
    is_small = jnp.abs(held) < 1
    direct = 2 * jnp.exp(log_exchange) * jnp.sinh(jnp.where(is_small, held, 1.0))
    # ln g inside the exponentials: for |F|/2 <= B they stay below k0 τ, where g and sinh alone may not be floats.
    wide = jnp.exp(log_exchange + held) - jnp.exp(log_exchange - held)
    return jnp.where(is_small, direct, wide), jnp.abs(half_tilt) > barrier


def _draw(hops, key, step: Int[Array, ""], drifts, log_exchanges, activities):
    """Displacements of one step, per block [levels], or None where they are the drifts themselves."""
    if hops == "mean":
        return None
    moves = []
    for i, (drift, log_exchange, activity) in enumerate(zip(drifts, log_exchanges, activities)):
        own = told_apart(key, drift)
        if hops == "exact":
            moves.append(hop_sampling.exact_step(i, own, step, drift, log_exchange))
        else:
            moves.append(hop_sampling.gaussian_hops(*step_words(own, i, step, drift.shape), drift, activity))
    return moves


def _inside(cell: ArrheniusCell, moves, drifts, params, layout: Blocks, hops):
    """The displacements that keep the weights inside the cell's range, and which were stopped at its end."""
    if cell.levels is None:
        return moves, None
    if params is None:
        raise ValueError(
            "This cell has a lowest and highest level: call `optimizer.update(gradients, state, params)` with the "
            "parameters, or leave `levels` and `bits` out of the cell."
        )
    # Divided: a weight at the end of the range must not come out an ulp beyond it.
    levels = layout.pack([wide(p) / cell.lsb.astype(compute_dtype(p.dtype)) for p in jax.tree.leaves(params)])
    inside, stopped = [], []
    for level, move in zip(levels, drifts if moves is None else moves):
        level = jnp.round(level) if hops == "exact" else level
        wanted = level + move
        allowed = cell.clip_levels(wanted)
        inside.append(allowed - level)
        stopped.append((allowed != wanted).astype(level.dtype))
    return inside, stopped


def _to_weight(displacement, cell: ArrheniusCell, like):
    return (displacement * cell.lsb.astype(displacement.dtype)).astype(like.dtype)


def leaf_sums(entries: dict[str, BarrierValue], layout: Blocks) -> dict[str, Float[Array, "leaves"]]:
    """Sums of per-parameter quantities over each leaf, whatever the form of the barrier they came from."""
    listed = {name: value for name, value in entries.items() if isinstance(value, list)}
    dtype = jnp.result_type(float)
    sizes = jnp.asarray(layout.sizes, dtype)
    sums = dict(zip(listed, layout.leaf_sums(list(listed.values()))))
    return sums | {name: value.astype(dtype) * sizes for name, value in entries.items() if not isinstance(value, list)}


def wide(x: Array) -> Float[Array, "..."]:
    """The array in the dtype in which heat is computed."""
    same = x.astype(compute_dtype(x.dtype))
    # XLA keeps more digits of a bfloat16 than it has, where it is widened again: what is charged would not be what is handed out. Not
    # for float16, whose subnormal numbers this would drop.
    return jax.lax.reduce_precision(same, 8, 7) if x.dtype == jnp.bfloat16 else same


def to_levels(update: Array, cell: ArrheniusCell) -> Float[Array, "..."]:
    """Changes of weights in levels."""
    # Times the reciprocal, within an ulp: XLA on a CPU would write the quotients to memory to divide only once.
    return wide(update) * (1 / cell.lsb.astype(compute_dtype(update.dtype)))
