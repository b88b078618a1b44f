"""A barrier in a run: the policy, its state, the height it stands at, and the work to move it there."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from limjax.barriers.base import AbstractBarrier, BarrierInputs
from limjax.blocks import Blocks, blocks_or_placeholder

# A number per parameter in the form it is known in: a scalar, one number per leaf as an array, or a list of blocks.
BarrierValue = Float[Array, ""] | Float[Array, "leaves"] | list[Float[Array, "..."]]


class ChargedBarrier(NamedTuple):
    """A barrier policy, its state, and the height it had after the last step.

    Attributes:
        policy: the barrier, whose leaves may be changed between steps.
        state: the policy's own state.
        height: B of the last step [kT].
    """

    policy: AbstractBarrier
    state: Any
    height: BarrierValue


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
    if policy.scope == "parameter" or layout.varied:
        blocks = blocks_or_placeholder(params, layout.zeros(leaves))
        seen = blocks if _sees_blocks(policy) else params
        return ChargedBarrier(policy, policy.init(seen), jax.tree.map(jnp.zeros_like, blocks))
    height = jnp.zeros(() if policy.scope == "global" else (len(leaves),), dtype)
    return ChargedBarrier(policy, policy.init(params), height)


def move_barrier(
    charged: ChargedBarrier, inputs: BarrierInputs, layout: Blocks
) -> tuple[ChargedBarrier, BarrierValue, BarrierValue]:
    """The barrier of this step, the work to bring it there, and where it was clipped to the cell's range.

    Args:
        charged: the barrier as the last step left it.
        inputs: what it may look at.
        layout: of the parameters.

    Returns:
        `(barrier, work [kT], clipped [0 or 1])`.
    """
    cell = inputs.cell
    if _sees_blocks(charged.policy):
        drift = None if inputs.drift is None else layout.pack(inputs.drift)
        inputs = inputs._replace(drift=drift, gradient=layout.pack(inputs.gradient))
    wanted, state = charged.policy.evaluate(inputs, charged.state)
    if isinstance(charged.height, list):
        if not isinstance(wanted, list):
            wanted = list(wanted) if charged.policy.scope == "leaf" else [wanted] * len(charged.height)
        elif not layout.varied and not _sees_blocks(charged.policy):
            forms = zip(wanted, layout.shapes, layout.dtypes)
            wanted = layout.pack([jnp.broadcast_to(b.astype(dtype), shape) for b, shape, dtype in forms])
        wanted = [
            b if b.shape == h.shape else jnp.zeros_like(h) + b.astype(h.dtype) for b, h in zip(wanted, charged.height)
        ]

    def clip(b, old):
        b = b.astype(old.dtype)
        return jnp.clip(b, cell.min_barrier.astype(b.dtype), cell.max_barrier.astype(b.dtype))

    def is_clipped(b, clipped):
        return (b.astype(clipped.dtype) != clipped).astype(clipped.dtype)

    def work(old, new):
        # The array starts out at its first barrier; what consolidating it costs at the end is reported apart.
        return cell.actuation(jnp.where(inputs.step == 0, new, old), new)

    height = map_value(wanted, clip, charged.height)
    if inputs.loss is not None:
        # A loss that is no number teaches nothing: the barrier stays where it is, shut if it never stood anywhere.
        known = jnp.isfinite(inputs.loss)

        def unless_unknown(new, old):
            shut = jnp.zeros_like(new) + cell.max_barrier.astype(new.dtype)
            return jnp.where(known, new, jnp.where(inputs.step == 0, shut, old))

        height = map_value(height, unless_unknown, charged.height)
        state = jax.tree.map(lambda new, old: jnp.where(known, new, old), state, charged.state)
        wanted = map_value(wanted, lambda b, h: jnp.where(known, b.astype(h.dtype), h), height)
    return (
        ChargedBarrier(charged.policy, state, height),
        map_value(charged.height, work, height),
        map_value(wanted, is_clipped, height),
    )


def _sees_blocks(policy: AbstractBarrier) -> bool:
    """Whether a policy is given blocks in place of leaves: one that cannot tell."""
    return policy.scope == "parameter" and policy.shape_free


def map_value(value: BarrierValue, function: Callable, *others: BarrierValue) -> BarrierValue:
    """A function of numbers per parameter, in whichever of the three forms."""
    if isinstance(value, list):
        return [function(*items) for items in zip(value, *others)]
    return function(value, *others)


def per_block(value: BarrierValue, layout: Blocks) -> list[Float[Array, "..."]]:
    """Numbers per parameter in a form that broadcasts against the blocks."""
    if isinstance(value, list):
        return value
    if value.ndim == 0:
        return [value.astype(layout.dtypes[group[0]]) for group in layout.groups]
    return layout.spread(value)
