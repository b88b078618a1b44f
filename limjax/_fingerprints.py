"""What a run was made of, as short strings that are equal where it would be the same run again."""

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.extend import core
from jaxtyping import Array, PyTree

UNKNOWN = "unknown"
"""Of a program that cannot be traced: equal to everything."""


def of_arrays(tree: PyTree) -> str:
    """Of the numbers in a tree, where they stand in it, and their kind.

    Args:
        tree: arrays and numbers.

    Returns:
        The fingerprint.

    Example:
        >>> of_arrays({"x": np.ones(3)}) == of_arrays({"x": np.ones(3)}) != of_arrays({"y": np.ones(3)})
        True
    """
    hashed = hashlib.blake2b(digest_size=12)
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        _add(hashed, jax.tree_util.keystr(path))
        _add_array(hashed, leaf)
    return hashed.hexdigest()


def of_function(function: Callable[..., Any], *arguments: PyTree) -> str:
    """Of what a function computes, with the constants in it; names and places in the source do not matter.

    Args:
        function: the function.
        arguments: what it takes, arrays or `jax.ShapeDtypeStruct`s.

    Returns:
        The fingerprint, or `UNKNOWN` for a function that cannot be traced.
    """
    try:
        program = jax.make_jaxpr(function)(*arguments)
    except Exception:  # what is wrong with it is said where it is used
        return UNKNOWN
    hashed = hashlib.blake2b(digest_size=12)
    # Addresses and the names of nested functions differ between processes and spellings, not between programs.
    text = re.sub(r"0x[0-9a-f]+|(?<=name=)[^\s\]]+", "", str(program))
    _add(hashed, re.sub(r"<function [^>]*>|<[^<>]* object at >", "", text))
    # The text gives the shape of an array, not its numbers: these are added one by one.
    for constant in _constants(program):
        _add_array(hashed, constant)
    return hashed.hexdigest()


def of_structure(tree: PyTree) -> str:
    """Of a tree without its numbers: classes, fields and names.

    Args:
        tree: any tree.

    Returns:
        The fingerprint.
    """
    hashed = hashlib.blake2b(digest_size=12)
    text = re.sub(r"<function [^>]*>|0x[0-9a-f]+", "", str(jax.tree.structure(tree)))
    # A cell without an end of its driver is the cell it was before there were such ends: its runs go on.
    _add(hashed, re.sub(r"(ArrheniusCell\[[^]]*\], \[[^]]*), None\]", r"\1]", text))
    return hashed.hexdigest()


def of_key(*keys: Array) -> str:
    """Of random keys and the generator they are for.

    Args:
        keys: from `jax.random.key`.

    Returns:
        The fingerprint.
    """
    # The same words of a key give other numbers under another generator, or the same one in its other mode.
    partitionable = jax.config.jax_threefry_partitionable  # pyright: ignore[reportAttributeAccessIssue]
    return of_arrays([str(jax.random.key_impl(keys[0])), partitionable, [jax.random.key_data(key) for key in keys]])


def combined(*parts: str) -> str:
    """One fingerprint of several; `UNKNOWN` if one of them is."""
    if UNKNOWN in parts:
        return UNKNOWN
    return hashlib.blake2b("/".join(parts).encode(), digest_size=12).hexdigest()


def _add(hashed: Any, text: str) -> None:
    # With its length first, no two sequences of texts run together to the same bytes.
    hashed.update(f"{len(text)}:{text}".encode())


def _add_array(hashed: Any, leaf: Any) -> None:
    if isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    _add(hashed, f"{array.dtype.name}{array.shape}")
    # The bytes of an array of objects are addresses.
    if array.dtype.hasobject:
        _add(hashed, repr(leaf))
    else:
        # Flattened first: NumPy gives an array without axes no view of another size.
        hashed.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _constants(program: Any) -> Iterator[Any]:
    """Arrays and numbers that are written into a program, in its order."""
    if isinstance(program, core.ClosedJaxpr | core.Jaxpr):
        # One class in JAX 0.12, where a program is its own `jaxpr`; before, constants lay in a ClosedJaxpr around it.
        yield from getattr(program, "consts", ())
        for equation in getattr(program, "jaxpr", program).eqns:
            for variable in equation.invars:
                if isinstance(variable, core.Literal):
                    yield variable.val
            for value in equation.params.values():
                yield from _constants(value)
    elif isinstance(program, tuple | list):
        for part in program:
            yield from _constants(part)
