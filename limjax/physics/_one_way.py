"""Cells that are left one way: how high a barrier holds them for a time, and how long a barrier does."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from limjax.numerics.checks import checked_leaf


def barrier_that_holds(
    attempt_rate: Float[Array, "..."], time: ArrayLike, failure: ArrayLike, cells: ArrayLike
) -> Float[Array, "..."]:
    """B = ln(n k0 t / -ln(1 - P)) [kT], as `AbstractCell.retention_barrier` documents it."""
    time = checked_leaf(time, "time", low=0.0, open_low=True, remedy="Retention is in seconds; ten years are 3.16e8.")
    # A sum of logarithms, as a product of such numbers may leave the dtype.
    return jnp.log(attempt_rate) + jnp.log(time) + _log_cells(cells) - _log_chance(failure)


def time_that_is_held(
    attempt_rate: Float[Array, "..."], barrier: ArrayLike, failure: ArrayLike, cells: ArrayLike
) -> Float[Array, "..."]:
    """t = -ln(1 - P) e^B / (n k0) [s], as `AbstractCell.retention_time` documents it."""
    barrier = checked_leaf(barrier, "barrier", low=0.0, remedy="Barriers are in kT.")
    return jnp.exp(barrier + _log_chance(failure) - jnp.log(attempt_rate) - _log_cells(cells))


def _log_cells(cells: ArrayLike) -> Float[Array, "..."]:
    return jnp.log(checked_leaf(cells, "cells", low=0.0, open_low=True, remedy="It is how many cells must survive."))


def _log_chance(failure: ArrayLike) -> Float[Array, "..."]:
    """ln(-ln(1 - P)) of a probability of failure."""
    # The upper end is open as well: certain failure needs no barrier at all.
    remedy = "It is a probability above 0 and below 1, for example 1e-4."
    failure = checked_leaf(failure, "failure", low=0.0, open_low=True, high=1 - 1e-7, remedy=remedy)
    # 1 - P is 1 in float32 for P below 3e-8.
    return jnp.log(-jnp.log1p(-failure))
