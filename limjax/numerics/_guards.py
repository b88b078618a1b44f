"""What public functions of numbers do with extreme ones: a finite result, or an error that names the argument."""

import functools
import inspect
import math
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from limjax.numerics.checks import finite_number

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

LARGEST = 1e15
"""A barrier or an affinity beyond it is a slip of the pen: squares of it still fit into float32."""


def element(
    value: Any, name: str, remedy: str = "", low: float = -LARGEST, high: float = LARGEST
) -> Float[Array, "..."]:
    """A number of a function that works element by element: arrays pass as they are, a number is checked.

    Args:
        value: array or tracer, or a number of Python or NumPy.
        name: what the user calls it.
        remedy: what to do about a wrong one.
        low: smallest number that makes sense.
        high: largest.

    Returns:
        The array, or the number as one that takes the dtype of what it meets.

    Raises:
        ValueError: for what is no number, or one that is out of its range.

    Example:
        >>> float(element(3, "barrier", low=0.0))
        3.0
    """
    # Entries of arrays are not looked at: a tracer has no number yet, and looking would wait for the device.
    if isinstance(value, jax.Array) or (isinstance(value, np.ndarray) and value.ndim):
        return jnp.asarray(value)
    number = finite_number(value, name, remedy)
    if not low <= number <= high:
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}, got {number:g}. {remedy}".rstrip())
    return jnp.asarray(number)


def finite(function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """Refuses what has no finite value, by the names of the arguments, where all of them are numbers of Python or NumPy.

    Numbers that are each in their range may together leave what a float holds, in the result or on the way to it. Under `jax.jit` and
    for arrays of JAX, where one bad point of a grid should not stop the others, the result is then infinite or NaN.

    Args:
        function: of numbers.

    Returns:
        The function with that check.
    """
    signature = inspect.signature(function)

    def said(args: Any, kwargs: Any) -> str:
        given = signature.bind(*args, **kwargs).arguments
        return ", ".join(f"{name} = {_short(value)}" for name, value in given.items())

    def refused(args: Any, kwargs: Any) -> ValueError:
        return ValueError(
            f"{function.__name__} has no finite value at {said(args, kwargs)}: it, or a number on the way to it, is beyond "
            f"what {jnp.result_type(float)} can hold. Give numbers nearer to 1."
        )

    @functools.wraps(function)
    def checked(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves((args, kwargs))):
            # Numbers of a computation, which may have failed for reasons of its own: NaN stays NaN, and nothing waits for the device.
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except (OverflowError, ZeroDivisionError, FloatingPointError):
            raise refused(args, kwargs) from None
        except ValueError as error:
            # What is wrong may be a number that was made of the arguments: they are named beside it.
            if any(re.search(rf"\b{name}\b", str(error)) for name in signature.bind(*args, **kwargs).arguments):
                raise
            raise ValueError(f"{error} That was {function.__name__} at {said(args, kwargs)}.") from None
        leaves = jax.tree.leaves(result)
        # Under `jax.jit` operations on plain numbers are traced too: a result may be a tracer though no argument was.
        if any(isinstance(leaf, jax.core.Tracer) or np.ndim(leaf) for leaf in leaves):
            return result
        if not all(math.isfinite(leaf) for leaf in leaves if np.issubdtype(np.asarray(leaf).dtype, np.number)):
            raise refused(args, kwargs)
        return result

    return checked


def _short(value: Any) -> str:
    is_number = isinstance(value, float | jax.Array | np.number) and not np.ndim(value)
    return f"{float(value):g}" if is_number else str(value)[:40]
