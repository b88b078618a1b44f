"""Arrays that lie on the devices of several hosts."""

import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec


def whole(x: Any) -> Any:
    """An array that this host can read: what lies partly on other hosts is gathered, the rest is as it was.

    Every host has to call this in the same order. The devices hold the array whole only for as long as it takes.

    Args:
        x: an array, or anything else.

    Returns:
        The array, in NumPy if it was spread over hosts.

    Example:
        >>> whole(1.0)
        1.0
    """
    if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
        return x
    assert isinstance(x.sharding, NamedSharding)
    gathered = _gather(NamedSharding(x.sharding.mesh, PartitionSpec()))(x)
    return np.asarray(gathered)


# One jitted identity for each mesh, whose output sharding makes XLA gather: a new lambda would compile at every call.
@functools.cache
def _gather(sharding: NamedSharding):
    return jax.jit(lambda x: x, out_shardings=sharding)
