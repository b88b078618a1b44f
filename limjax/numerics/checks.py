"""One way to turn a user's number into a leaf, and to say what is wrong with it."""

import dataclasses
import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from limjax.numerics.counters import axes_of, over_shards


def compute_dtype(dtype: Any) -> jnp.dtype:
    """The dtype in which heat is computed: float64 for float64 values, float32 for everything smaller."""
    return jnp.dtype("float64") if jnp.dtype(dtype) == jnp.dtype("float64") else jnp.dtype("float32")


def broadcasting() -> Any:
    """Where numbers of single devices meet arrays of them: meant, also for users who have JAX refuse it (`jax_numpy_rank_promotion`)."""
    return jax.numpy_rank_promotion("allow")


def as_leaf(value: Any) -> Float[Array, "..."]:
    """The value as a strongly typed float array, so that it can be differentiated and changed without recompiling."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.floating):
        return value.astype(compute_dtype(value.dtype))
    with np.errstate(over="ignore"):  # what overflows is refused by the caller, in words
        return jnp.asarray(value, dtype=jnp.result_type(float))


def stopped_if(values: PyTree, is_wrong: Bool[Array, "..."], message: str) -> Any:
    """Values, or the end of the program with a message where something traced is wrong: `equinox.error_if`, also under `shard_map`.

    Args:
        values: what goes on.
        is_wrong: what is wrong; one is enough.
        message: what the error says.

    Returns:
        The values.
    """
    leaves, treedef = jax.tree.flatten(values)
    if not any(map(axes_of, [is_wrong, *leaves])):
        return eqx.error_if(values, is_wrong, message)
    # Equinox gives both branches the type of what is the same on all devices: ask for all of them, and of a number that is.
    anywhere = over_shards(jnp.any(is_wrong).astype(jnp.float32)) > 0
    nothing = eqx.error_if(jnp.zeros(()), anywhere, message)
    # Added to every leaf, as a check whose result nobody uses would be dropped.
    return treedef.unflatten([leaf + nothing.astype(leaf.dtype) for leaf in leaves])


def checked_leaf(
    value: Any,
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
        return f"{name} must be a finite number{bounds}, got {elided(got)}. {remedy}"

    def is_wrong(x, np):
        # No comparison holds of NaN, hence the first term.
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
        return stopped_if(leaf, is_wrong(leaf, jnp), message("a traced value outside that"))
    # Checked in float64 as the user wrote it: float32 would already have turned 1e-50 into 0 and 1e40 into inf.
    wide = np.asarray(value, dtype=np.float64)
    wrong = is_wrong(wide, np)
    if wrong.any():
        raise ValueError(message(repr(value) if wide.ndim == 0 else f"an array that holds {wide[wrong][0]}"))
    narrow = np.asarray(leaf)
    # Numbers below the smallest normal one are 0 to XLA: where 0 itself is refused, so are they.
    # A bound that is no float32 itself, such as 0.1, may be crossed by rounding alone, which is no error: hence the
    # comparison with what the user wrote.
    is_lost = open_low and low == 0 and (np.abs(narrow) < np.finfo(narrow.dtype).tiny).any()
    if is_lost or (is_wrong(narrow, np).any() and not np.isclose(narrow, wide, rtol=1e-5, atol=0.0).all()):
        raise ValueError(f"{name} = {value!r} is outside what {leaf.dtype} can hold. {remedy}")
    return leaf


def elided(text: str) -> str:
    """What a user gave, for a message that stays one paragraph: whole numbers of hundreds of digits are cut."""
    return text if len(text) <= 80 else f"{text[:30]}… ({len(text)} characters)"


def varied_numbers(tree: Any, names: Sequence[str]) -> dict[str, Array]:
    """Which of these numbers of an object are arrays, one for each device, by name."""
    values = {name: getattr(tree, name) for name in names}
    return {name: value for name, value in values.items() if value is not None and value.ndim}


_BEYOND_FLOATS = 2**1023


def is_real(value: Any) -> bool:
    """Whether it is a real number or an array or list of them: NumPy would read "1" as one, and drop imaginary parts."""
    if isinstance(value, jax.Array):
        return jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
    if isinstance(value, int):
        # Python's have no end: one that no float can hold is no number here, so that nobody's `float()` overflows.
        return not isinstance(value, bool) and abs(value) < _BEYOND_FLOATS
    try:
        dtype = np.asarray(value).dtype
    except (TypeError, ValueError, OverflowError):
        return False
    return jnp.issubdtype(dtype, jnp.floating) or dtype.kind in "iu"


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
        # Nobody comes near the largest counter: it is named only where it is exceeded.
        is_low = high == INT32_MAX and is_whole(value) and value < low
        said = f"of at least {low}" if high is None or is_low else f"from {low} to {high}"
    raise ValueError(f"{name} must be a whole number {said}, got {elided(repr(value))}.")


def seed_list(seeds: Any, name: str) -> np.ndarray:
    """A list of seeds as an array.

    Args:
        seeds: what the user gave.
        name: what the user calls it.

    Returns:
        The seeds, as unsigned 32-bit numbers.

    Raises:
        ValueError: for anything else.
    """
    try:
        values = np.asarray(seeds)
    except (TypeError, ValueError):  # lists of several lengths
        values = np.zeros(0)
    is_list = values.ndim == 1 and values.size > 0 and values.dtype.kind in "iu"
    if not is_list or values.min() < 0 or values.max() >= 2**32:
        raise ValueError(
            f"{name} must be a positive number, or a list of whole numbers from 0 to 2**32 - 1; got {elided(repr(seeds))}."
        )
    return values.astype(np.uint32)


def seed_numbers(seeds: Any, name: str) -> np.ndarray:
    """The seeds of a list as `seed_list` gives them, or the first so many where a number says how many.

    Raises:
        ValueError: for what is neither.
    """
    return np.arange(whole_number(seeds, name)).astype(np.uint32) if is_whole(seeds) else seed_list(seeds, name)


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
    # NumPy's promotion: users may have set JAX to refuse mixed dtypes.
    dtype = jnp.dtype(np.result_type(*(leaf.dtype for leaf in leaves)))
    return [leaf.astype(dtype) for leaf in leaves]


def is_known(*trees: Any) -> bool:
    """Whether all arrays in these trees hold numbers, rather than tracers."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


def broadcast(*arrays: Float[Array, "..."]) -> list[Float[Array, "..."]]:
    """The arrays at their common shape; shapes of different rank must be scalar or agree."""
    return list(jnp.broadcast_arrays(*arrays))


def worst(is_wrong: ArrayLike, *arrays: ArrayLike) -> list[float]:
    """The entries of each array where `is_wrong` first holds, for a message."""
    index = int(np.argmax(np.asarray(is_wrong)))
    shape = np.shape(is_wrong)
    return [float(np.broadcast_to(np.asarray(array), shape).ravel()[index]) for array in arrays]


def positive_number(value: object, name: str, remedy: str = "", low: float = 0.0, high: float = math.inf) -> float:
    """The value as a positive, finite Python float.

    Args:
        value: what the user gave.
        name: what the user calls it.
        remedy: what to do about a wrong one.
        low: smallest number that makes sense, where that is not any positive one.
        high: largest.

    Returns:
        The number.

    Raises:
        ValueError: if it is none.

    Example:
        >>> positive_number(3, "rate")
        3.0
    """
    if not is_real(value):
        number = math.nan
    else:
        try:
            number = float(value)  # pyright: ignore[reportArgumentType]
        except (TypeError, OverflowError):
            number = math.nan
    wanted = "a positive number"
    if math.isfinite(number) and number > 0:
        if low <= number <= high:
            return number
        wanted += f" from {low:g} to {high:g}" if high < math.inf else f" of at least {low:g}"
    got = repr(value)
    if isinstance(value, float) and len(got) > 8:
        got = f"{value:g}"
    raise ValueError(f"{name} must be {wanted}, got {elided(str(got))}. {remedy}".rstrip())


def finite_number(value: object, name: str, remedy: str = "") -> float:
    """The value as a finite Python float; `ValueError` names it otherwise.

    Args:
        value: what the user gave.
        name: what the user calls it.
        remedy: what to do about a wrong one.

    Returns:
        The number.

    Example:
        >>> finite_number(-3, "work")
        -3.0
    """
    try:
        number = float(value) if is_real(value) and np.ndim(value) == 0 else math.nan  # pyright: ignore
    except OverflowError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {str(value)[:40]!r}. {remedy}".rstrip())
    return number


def shown(module: Any) -> str:
    """A module as the call that makes one like it, with its numbers in place of their types.

    Args:
        module: a dataclass of arrays and whatever else.

    Returns:
        The text; arrays of more than eight numbers and traced ones appear by their type.
    """
    values = {field.name: getattr(module, field.name) for field in dataclasses.fields(module) if field.repr}
    return f"{type(module).__name__}({', '.join(f'{name}={_number_text(value)}' for name, value in values.items())})"


def _number_text(value: Any) -> str:
    if not isinstance(value, jax.Array | np.ndarray) or isinstance(value, jax.core.Tracer) or value.size > 8:
        return eqx.tree_pformat(value)
    # An array that was donated is deleted, and one that lies on other hosts cannot be read here.
    is_here = isinstance(value, np.ndarray) or (not value.is_deleted() and value.is_fully_addressable)
    if not is_here or not jnp.issubdtype(value.dtype, jnp.number):
        return eqx.tree_pformat(value)
    if value.ndim == 0:
        return f"{value.item():.7g}"
    return "[" + ", ".join(_number_text(np.asarray(row)) for row in np.asarray(value)) + "]"
