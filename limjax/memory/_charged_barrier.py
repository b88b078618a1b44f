"""A barrier in a run: the policy, its state, the height it stands at, and the work to move it there."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

from limjax.barriers._base import AbstractBarrier, BarrierInputs
from limjax.memory._blocks import Blocks, blocks_or_placeholder
from limjax.memory._field import Field, Only, PerLeaf, PerParameter, Uniform, as_field


class ChargedBarrier(NamedTuple):
    """A barrier policy, its state, and the height it had after the last step.

    Attributes:
        policy: the barrier, whose leaves may be changed between steps.
        state: the policy's own state.
        height: B of the last step [kT].
        known: steps so far whose loss was a number, or of which none was given.
        stands: which leaves have moved in such a step. Where one first does its barrier starts out, and from there on it is charged.
    """

    policy: AbstractBarrier
    state: Any
    height: Field
    known: Int[Array, ""]
    stands: Bool[Array, "leaves"]


def init_barrier(policy: AbstractBarrier, params: PyTree, layout: Blocks) -> ChargedBarrier:
    """A barrier before its first step.

    Args:
        policy: the barrier.
        params: parameters, or `jax.ShapeDtypeStruct`s of them.
        layout: which of them share a block, and whether cells differ within a leaf.

    Returns:
        The barrier with its state.
    """
    leaves = jax.tree.leaves(params)
    dtype = jnp.result_type(float)
    known, stands = jnp.zeros((), jnp.int32), jnp.zeros((len(leaves),), bool)
    # Where cells differ, one height for all is clipped to the range of each and charged at its own recovery: it may
    # differ too.
    if policy.scope == "parameter" or layout.varied:
        blocks = blocks_or_placeholder(params, layout.zeros(leaves))
        seen = blocks if sees_blocks(policy) else params
        return ChargedBarrier(
            policy, policy.init(seen), PerParameter(jax.tree.map(jnp.zeros_like, blocks)), known, stands
        )
    height = Uniform(jnp.zeros((), dtype)) if policy.scope == "global" else PerLeaf(jnp.zeros((len(leaves),), dtype))
    return ChargedBarrier(policy, policy.init(params), height, known, stands)


def move_barrier(charged: ChargedBarrier, inputs: BarrierInputs, layout: Blocks) -> tuple[ChargedBarrier, Only, Field]:
    """The barrier of this step, the work to bring it there, and where it was clipped to the cell's range.

    Args:
        charged: the barrier as the last step left it.
        inputs: what it may look at.
        layout: of the parameters.

    Returns:
        `(barrier, work [kT], clipped [0 or 1])`. A leaf that has not moved before is charged no work: there the barrier starts out, and
        what consolidating it costs at the end is reported apart.
    """
    cell, policy, in_blocks = inputs.cell, charged.policy, sees_blocks(charged.policy)
    is_first = charged.known == 0
    inputs = inputs._replace(known=charged.known)
    if policy.moves_still:
        inputs = inputs._replace(started=layout.spread_truths(charged.stands) if in_blocks else list(charged.stands))
    if in_blocks:
        drift = None if inputs.drift is None else layout.pack(inputs.drift)
        weights = None if inputs.weights is None else layout.pack(inputs.weights)
        inputs = inputs._replace(drift=drift, gradient=layout.pack(inputs.gradient), weights=weights)
    height_before = as_field(charged.height)  # the numbers themselves, where a state was edited by hand
    given, state = policy.evaluate(inputs, charged.state)
    wanted = height_before.like(given, policy.scope, layout, in_blocks)

    def clip(b):
        return jnp.clip(b, cell.min_barrier.astype(b.dtype), cell.max_barrier.astype(b.dtype))

    def is_clipped(b, clipped):
        return (b != clipped).astype(clipped.dtype)

    def work(old, new):
        return cell.actuation(jnp.where(is_first, new, old), new)

    height = wanted.map(clip)
    moving = jnp.ones_like(charged.stands) if layout.moving is None else jnp.asarray(layout.moving)
    known = jnp.ones((), bool) if inputs.loss is None else jnp.isfinite(inputs.loss)
    if inputs.loss is not None:
        # A loss that is no number teaches nothing: the barrier stays where it is, shut if it never stood anywhere.
        def unless_unknown(new, old):
            shut = jnp.zeros_like(new) + cell.max_barrier.astype(new.dtype)
            return jnp.where(known, new, jnp.where(is_first, shut, old))

        height = height.map(unless_unknown, height_before)
        # The policy's state too: a running mean would keep the NaN for good.
        state = jax.tree.map(lambda new, old: jnp.where(known, new, old), state, charged.state)
        # Nothing was wanted, so nothing counts as clipped.
        wanted = wanted.map(lambda b, h: jnp.where(known, b, h), height)
    charged_leaves = charged.stands
    if layout.moving is not None and not policy.moves_still:
        # A leaf that stands still keeps its barrier; one height for all moves with those that move, and all are charged.
        free = height.joined(moving) | ~height.joined(charged.stands)
        charged_leaves &= free
        held = height.map(lambda new, old, f: jnp.where(f, new, old), height_before, height.of_leaves(free, layout))
        wanted = wanted.map(lambda b, new, h: jnp.where(new == h, b, h), height, held)  # what is held is not clipped
        height = held
    moved = ChargedBarrier(
        policy, state, height, charged.known + known.astype(charged.known.dtype), charged.stands | (moving & known)
    )
    charged_work = Only((height_before.map(work, height), charged_leaves))
    return moved, charged_work, wanted.map(is_clipped, height)


def sees_blocks(policy: AbstractBarrier) -> bool:
    """Whether a policy is given blocks in place of leaves: one that cannot tell."""
    return policy.scope == "parameter" and policy.shape_free
