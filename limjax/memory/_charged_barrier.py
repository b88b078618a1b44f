"""A barrier in a run: the policy, its state, the height it stands at, and the work to move it there."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from limjax.barriers._base import AbstractBarrier, BarrierInputs
from limjax.memory._blocks import Blocks, blocks_or_placeholder
from limjax.memory._field import Field, PerLeaf, PerParameter, Uniform, as_field


class ChargedBarrier(NamedTuple):
    """A barrier policy, its state, and the height it had after the last step.

    Attributes:
        policy: the barrier, whose leaves may be changed between steps.
        state: the policy's own state.
        height: B of the last step [kT].
    """

    policy: AbstractBarrier
    state: Any
    height: Field


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
    # Where cells differ, one height for all is clipped to the range of each and charged at its own recovery: it may
    # differ too.
    if policy.scope == "parameter" or layout.varied:
        blocks = blocks_or_placeholder(params, layout.zeros(leaves))
        seen = blocks if sees_blocks(policy) else params
        return ChargedBarrier(policy, policy.init(seen), PerParameter(jax.tree.map(jnp.zeros_like, blocks)))
    height = Uniform(jnp.zeros((), dtype)) if policy.scope == "global" else PerLeaf(jnp.zeros((len(leaves),), dtype))
    return ChargedBarrier(policy, policy.init(params), height)


def move_barrier(charged: ChargedBarrier, inputs: BarrierInputs, layout: Blocks) -> tuple[ChargedBarrier, Field, Field]:
    """The barrier of this step, the work to bring it there, and where it was clipped to the cell's range.

    Args:
        charged: the barrier as the last step left it.
        inputs: what it may look at.
        layout: of the parameters.

    Returns:
        `(barrier, work [kT], clipped [0 or 1])`.
    """
    cell, policy, in_blocks = inputs.cell, charged.policy, sees_blocks(charged.policy)
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
        # The array starts out at its first barrier; what consolidating it costs at the end is reported apart.
        return cell.actuation(jnp.where(inputs.step == 0, new, old), new)

    height = wanted.map(clip)
    if inputs.loss is not None:
        # A loss that is no number teaches nothing: the barrier stays where it is, shut if it never stood anywhere.
        known = jnp.isfinite(inputs.loss)

        def unless_unknown(new, old):
            shut = jnp.zeros_like(new) + cell.max_barrier.astype(new.dtype)
            return jnp.where(known, new, jnp.where(inputs.step == 0, shut, old))

        height = height.map(unless_unknown, height_before)
        # The policy's state too: a running mean would keep the NaN for good.
        state = jax.tree.map(lambda new, old: jnp.where(known, new, old), state, charged.state)
        # Nothing was wanted, so nothing counts as clipped.
        wanted = wanted.map(lambda b, h: jnp.where(known, b, h), height)
    if layout.moving is not None and not policy.moves_still:
        # A leaf that stands still is charged no work, so that its barrier may not move either: a driver with recovery would be paid for
        # lowering what nobody raised. But the first height is free (`work`), and one height for all moves with those that move: there
        # such a driver still is.
        moves = height.of_leaves(jnp.asarray(layout.moving), layout)
        held = height.map(lambda new, old, m: jnp.where(m | (inputs.step == 0), new, old), height_before, moves)
        wanted = wanted.map(lambda b, new, h: jnp.where(new == h, b, h), height, held)  # what is held is not clipped
        height = held
    return ChargedBarrier(policy, state, height), height_before.map(work, height), wanted.map(is_clipped, height)


def sees_blocks(policy: AbstractBarrier) -> bool:
    """Whether a policy is given blocks in place of leaves: one that cannot tell."""
    return policy.scope == "parameter" and policy.shape_free
