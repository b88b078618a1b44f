"""The numbers that every cell has, checked."""

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from limjax.numerics.checks import WholeNumber, checked_leaf, compute_dtype, stopped_if, whole_number

LevelRange = tuple[ArrayLike, ArrayLike]
"""Lowest and highest level of a cell, or the ends of a device's window [levels]."""


def device_numbers(
    lsb: ArrayLike,
    attempt_rate: ArrayLike,
    step_time: ArrayLike,
    temperature: ArrayLike,
    recovery: ArrayLike,
    min_barrier: ArrayLike,
    max_barrier: ArrayLike,
    levels: LevelRange | None,
    bits: WholeNumber | None,
) -> dict[str, Any]:
    """The numbers that every cell has, checked, for its `__init__`: as in `limjax.ArrheniusCell`.

    Raises:
        ValueError: if a number is not finite or out of its range; the message names it.
    """

    def positive(value, name, remedy, single=False):
        return checked_leaf(value, name, low=0.0, open_low=True, remedy=remedy, single=single)

    barrier_remedy = "Barriers are in kT; 10 is open for training and 50 holds a bit for ten years."
    recovery_remedy = "0 means every raise is paid, 1 a reversible driver."
    numbers: dict[str, Any] = {
        "lsb": positive(lsb, "lsb", "It is the weight of one level, for example 2**-10."),
        "attempt_rate": positive(attempt_rate, "attempt_rate", "It is k0 in 1/s, for example 1e9."),
        "step_time": positive(step_time, "step_time", "It is the duration of one step in s, for example 1e-3.", True),
        "temperature": positive(temperature, "temperature", "Room temperature is 300.0 K."),
        "recovery": checked_leaf(recovery, "recovery", low=0.0, high=1.0, remedy=recovery_remedy),
        "min_barrier": checked_leaf(min_barrier, "min_barrier", low=0.0, remedy=barrier_remedy),
        "max_barrier": positive(max_barrier, "max_barrier", barrier_remedy),
    }
    lowest, highest = numbers["min_barrier"], numbers["max_barrier"]
    # The sum is traced if either of them is, and a traced one cannot be compared here.
    if not isinstance(lowest + highest, jax.core.Tracer) and bool(jnp.any(lowest >= highest)):
        raise ValueError(f"min_barrier must be below max_barrier, got {min_barrier} and {max_barrier} kT.")
    if bits is not None:
        if levels is not None:
            raise ValueError(f"Give levels or bits, not both; got levels={levels!r} and bits={bits!r}.")
        bits = whole_number(bits, "bits", 1, 24, said="from 1 to 24 (what float32 counts exactly)")
        levels = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return numbers | {"levels": None if levels is None else _checked_range(levels)}


def _checked_range(levels: Any) -> Float[Array, "2"]:
    """Lowest and highest level."""
    wanted = "levels must be (lowest, highest) with lowest < highest, got"
    remedy = "They are level numbers, for example levels=(-128, 127)."
    is_traced = False
    try:
        lowest, highest = levels
        is_traced = isinstance(lowest, jax.core.Tracer) or isinstance(highest, jax.core.Tracer)
        is_range = is_traced or bool(lowest < highest)
    except (TypeError, ValueError):
        is_range = False
    if not is_range:
        raise ValueError(f"{wanted} {levels!r}.")
    if not is_traced:
        return checked_leaf(list(levels), "levels", remedy=remedy)
    # Traced ones are compared at run time, as in `checked_leaf`.
    leaves = [checked_leaf(end, "levels", remedy=remedy, single=True) for end in levels]
    ends = jnp.stack([leaf.astype(jnp.result_type(float)) for leaf in leaves])
    return stopped_if(ends, ~(ends[0] < ends[1]), f"{wanted} traced values outside that. {remedy}")


def as_floating(value: ArrayLike) -> Float[Array, "..."]:
    """The value as a float array in the dtype in which heat is computed."""
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return array.astype(jnp.result_type(float))
    return array.astype(compute_dtype(array.dtype))
