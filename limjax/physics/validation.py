"""One way to turn a user's number into a leaf, and to say what is wrong with it."""

import math
import operator
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def compute_dtype(dtype) -> jnp.dtype:
    """The dtype in which heat is computed: float64 for float64 values, float32 for everything smaller."""
    return jnp.dtype("float64") if jnp.dtype(dtype) == jnp.dtype("float64") else jnp.dtype("float32")


def broadcasting() -> Any:
    """Where numbers of single devices meet arrays of them: meant, also for users who have JAX refuse it (`jax_numpy_rank_promotion`)."""
    return jax.numpy_rank_promotion("allow")


def as_leaf(value) -> Float[Array, "..."]:
    """The value as a strongly typed float array, so that it can be differentiated and changed without recompiling."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.floating):
        return value.astype(compute_dtype(value.dtype))
    with np.errstate(over="ignore"):  # what overflows is refused by the caller, in words
        return jnp.asarray(value, dtype=jnp.result_type(float))


def checked_leaf(
    value,
    name: str,
    *,
    remedy: str,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    single: bool = False,
) -> Float[Array, "..."]:
    """`as_leaf` with a range check: at once for a known value, at run time for a traced one.

    Args:
        value: number, array or tracer.
        name: what the user calls it.
        remedy: what to do about a wrong one, one sentence.
        low: smallest value allowed.
        high: largest value allowed.
        open_low: whether `low` itself is refused.
        single: whether an array is refused, as a number that all cells share.

    Returns:
        The value as an array.

    Raises:
        ValueError: if a known value is not finite, outside the range, or not a number.
    """
    bounds = ""
    if high < math.inf:
        bounds = f" from {low:g} to {high:g}"
    elif low > -math.inf:
        bounds = f" {'above' if open_low else 'at least'} {low:g}"

    def message(got):
        return f"{name} must be a finite number{bounds}, got {got}. {remedy}"

    def is_wrong(x, np):
        return ~np.isfinite(x) | (x <= low if open_low else x < low) | (x > high)

    if not is_real(value):
        raise ValueError(message(repr(value)))
    try:
        leaf = as_leaf(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(message(repr(value))) from None
    if single and leaf.ndim:
        raise ValueError(f"{name} must be one number for all cells, got an array of shape {leaf.shape}. {remedy}")
    if isinstance(leaf, jax.core.Tracer):
        return eqx.error_if(leaf, is_wrong(leaf, jnp), message("a traced value outside that"))
    # Checked in float64 as the user wrote it: float32 would already have turned 1e-50 into 0 and 1e40 into inf.
    wide = np.asarray(value, dtype=np.float64)
    wrong = is_wrong(wide, np)
    if wrong.any():
        raise ValueError(message(repr(value) if wide.ndim == 0 else f"an array that holds {wide[wrong][0]}"))
    narrow = np.asarray(leaf)
    if is_wrong(narrow, np).any() and not np.isclose(narrow, wide, rtol=1e-5, atol=0.0).all():
        raise ValueError(f"{name} = {value!r} is outside what {leaf.dtype} can hold. {remedy}")
    return leaf


def is_real(value) -> bool:
    """Whether it is a real number or an array or list of them: NumPy would read "1" as one, and drop imaginary parts."""
    if isinstance(value, jax.Array):
        return jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
    try:
        dtype = np.asarray(value).dtype
    except (TypeError, ValueError, OverflowError):
        return False
    # Whole numbers beyond 64 bits are objects to NumPy.
    return jnp.issubdtype(dtype, jnp.floating) or dtype.kind in "iu" or (isinstance(value, int) and value is not True)


WholeNumber = int | np.integer
"""What a whole number may be: Python's or NumPy's."""

INT32_MAX = 2**31 - 1
"""Largest number of steps that the counters of a run can hold."""


def is_whole(value: Any) -> bool:
    """Whether it is a whole number: Python's, NumPy's or an array of one; no boolean, no float."""
    if isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) == np.bool_:
        return False
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def whole_number(value: Any, name: str, low: int = 1, high: int | None = None, *, said: str | None = None) -> int:
    """The value as Python's int, whichever library it comes from.

    Args:
        value: what the user gave.
        name: what the user calls it.
        low: smallest value allowed.
        high: largest value allowed, or None.
        said: the bounds in words; None writes them.

    Returns:
        The number.

    Raises:
        ValueError: for anything else.

    Example:
        >>> whole_number(np.int64(3), "steps")
        3
    """
    if is_whole(value):
        number = operator.index(value)
        if number >= low and (high is None or number <= high):
            return number
    if said is None:
        said = f"of at least {low}" if high is None or (is_whole(value) and value < low) else f"from {low} to {high}"
    raise ValueError(f"{name} must be a whole number {said}, got {value!r}.")
