"""How the limits read their arguments: checked on the host, passed through while tracing."""

import math
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from limjax.physics.validation import as_leaf, checked_leaf


class Argument(NamedTuple):
    """One argument of a bound: its value, what the user calls it and the range it must lie in.

    Attributes:
        value: number, array or tracer.
        name: what the user calls it.
        remedy: what to do about a wrong one, one sentence.
        low: end of the range; itself refused if `open_low`.
        high: other end of the range.
        open_low: whether `low` itself is refused.
    """

    value: object
    name: str
    remedy: str
    low: float = 0.0
    high: float = math.inf
    open_low: bool = True


def read(*arguments: Argument) -> list[Float[Array, "..."]]:
    """The arguments as float arrays of one dtype.

    Known values are checked at once. A wrong value among traced ones becomes NaN, so that one bad point of a grid does not
    stop the others.

    Args:
        arguments: the arguments, in the order they are wanted back.

    Returns:
        One array per argument, all float32 or all float64.

    Raises:
        ValueError: if a known value is not finite or outside its range; the message names it.
    """
    leaves = []
    for argument in arguments:
        if isinstance(argument.value, jax.core.Tracer):
            leaf = as_leaf(argument.value)
            is_low = leaf <= argument.low if argument.open_low else leaf < argument.low
            leaves.append(jnp.where(is_low | (leaf > argument.high) | ~jnp.isfinite(leaf), jnp.nan, leaf))
        else:
            leaves.append(
                checked_leaf(
                    argument.value,
                    argument.name,
                    remedy=argument.remedy,
                    low=argument.low,
                    high=argument.high,
                    open_low=argument.open_low,
                )
            )
    dtype = jnp.dtype(np.result_type(*(leaf.dtype for leaf in leaves)))
    return [leaf.astype(dtype) for leaf in leaves]


def is_known(*arrays: Float[Array, "..."]) -> bool:
    """Whether all arrays hold numbers, rather than tracers."""
    return not any(isinstance(array, jax.core.Tracer) for array in arrays)


def broadcast(*arrays: Float[Array, "..."]) -> list[Float[Array, "..."]]:
    """The arrays at their common shape; shapes of different rank must be scalar or agree."""
    return list(jnp.broadcast_arrays(*arrays))


def worst(is_wrong, *arrays) -> list[float]:
    """The entries of each array where `is_wrong` first holds, for a message."""
    index = int(np.argmax(np.broadcast_to(np.asarray(is_wrong), np.shape(is_wrong)).ravel()))
    shape = np.shape(is_wrong)
    return [float(np.broadcast_to(np.asarray(array), shape).ravel()[index]) for array in arrays]
