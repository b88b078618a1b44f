"""One way to turn a user's number into a leaf, and to say what is wrong with it."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def compute_dtype(dtype) -> jnp.dtype:
    """The dtype in which heat is computed: float64 for float64 values, float32 for everything smaller."""
    return jnp.dtype("float64") if jnp.dtype(dtype) == jnp.dtype("float64") else
    jnp.dtype("float32")


def as_leaf(value) -> Float[Array, "..."]:
    """The value as a strongly typed float array, so that it can be differentiated and changed without recompiling."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.floating):
        return value.astype(compute_dtype(value.dtype))
    return jnp.asarray(value, dtype=jnp.result_type(float))


def checked_leaf(
    value,
    name: str,
    *,
    remedy: str,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
) -> Float[Array, "..."]:
    """`as_leaf` with a range check: at once for a known value, at run time for a traced one.

    Args:
        value: number, array or tracer.
        name: what the user calls it.
        remedy: what to do about a wrong one, one sentence.
        low: smallest value allowed.
        high: largest value allowed.
        open_low: whether `low` itself is refused.

    Returns:
        The value as an array.

    Raises:
        ValueError: if a known value is not finite or outside the range.
    """
    bounds = f"{'above' if open_low else 'at least'} {low:g}" if high == math.inf else f"from
    {low:g} to {high:g}" message = f"{name} must be a finite number{'' if low == -math.inf else ' '
    + bounds}, got {{got}}. {remedy}" try:
        leaf = as_leaf(value)
    except (TypeError, ValueError):
        raise ValueError(message.format(got=repr(value))) from None

    def is_wrong(x, np):
        return ~np.isfinite(x) | (x <= low if open_low else x < low) | (x > high)

    if isinstance(leaf, jax.core.Tracer):
        return eqx.error_if(leaf, is_wrong(leaf, jnp), message.format(got="a wrong value while
        tracing"))
    # Checked in float64 from what the user wrote: float32 would already have turned 1e-50 into 0
    # and 1e40 into inf.
    wide = np.asarray(value, dtype=np.float64)
    if is_wrong(wide, np).any():
        raise ValueError(message.format(got=repr(value) if wide.ndim == 0 else f"an array holding
    {wide[is_wrong(wide, np)][0]}"))
    if not np.isfinite(np.asarray(leaf)).all() or (open_low and low == 0 and (np.asarray(leaf) ==
        0).any()): raise ValueError(f"{name} = {value!r} is outside what {leaf.dtype} can hold.
        {remedy}")
    return leaf
