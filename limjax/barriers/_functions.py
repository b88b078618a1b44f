"""Functions as values: two of the same code and numbers are equal, and they can be pickled.

A schedule such as `optax.cosine_decay_schedule(...)` is a function made inside a function. Python can neither pickle one nor tell
that two of them are the same, so a run that holds one could not be sent to another process, or would be another tree when it
comes back.
"""

import builtins
import dataclasses
import importlib
import io
import marshal
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


@jax.tree_util.register_static
class FunctionByValue:
    """A function that equals another one with the same code, defaults and closed-over values. In a tree it is a part of the structure.

    Args:
        function: any callable.
    """

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.function(*args, **options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FunctionByValue) and _same(self.function, other.function)

    def __hash__(self) -> int:
        # Of the code alone: equal functions have equal code, while what they close over may have no hash.
        return hash(getattr(self.function, "__code__", type(self.function)))

    def __repr__(self) -> str:
        return f"<function {getattr(self.function, '__qualname__', type(self.function).__qualname__)}>"

    def __deepcopy__(self, memo: Any) -> "FunctionByValue":
        # Else a copy would go through `__reduce__`, and not every schedule can be pickled.
        return self

    def __reduce__(self):
        file = io.BytesIO()
        try:
            _Pickler(file).dump(self.function)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise pickle.PicklingError(
                f"The schedule {self!r} refers to something that cannot be pickled ({error}): put the barrier's values into a "
                "SplineBarrier, which is numbers alone."
            ) from None
        # Bytecode belongs to one version of Python, which is kept beside it and compared before anything is unpickled.
        return _loaded, (sys.version_info[:2], file.getvalue())


def _loaded(version: tuple[int, int], content: bytes) -> FunctionByValue:
    if tuple(version) != sys.version_info[:2]:
        raise pickle.UnpicklingError(
            f"This schedule was pickled by Python {version[0]}.{version[1]} and cannot be read by "
            f"{sys.version_info[0]}.{sys.version_info[1]}: use the same Python, or put the barrier's values into a SplineBarrier, "
            "which is numbers alone."
        )
    return FunctionByValue(pickle.loads(content))


class _Pickler(pickle.Pickler):
    """Pickles functions that no module holds by their code and what they refer to."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.ModuleType):
            return importlib.import_module, (obj.__name__,)
        # What a module holds under its name is pickled by that name, as usual.
        if not isinstance(obj, types.FunctionType) or _is_importable(obj):
            return NotImplemented
        cells = () if obj.__closure__ is None else obj.__closure__
        content = [cell.cell_contents for cell in cells]
        # What a script defines is not there in another process; what a module defines is.
        used = {name: obj.__globals__[name] for name in _names(obj.__code__) if name in obj.__globals__}
        own = used if obj.__module__ == "__main__" else {}
        made = marshal.dumps(obj.__code__), obj.__module__, obj.__qualname__, len(cells)
        state = content, own, obj.__defaults__, obj.__kwdefaults__
        # Made first and filled afterwards: a function that refers to itself then finds itself in the pickler's memo.
        return _empty_function, made, state, None, None, _fill_function


def _is_importable(function: types.FunctionType) -> bool:
    # `__main__` is another script, or none, in the process that unpickles.
    if function.__module__ in (None, "__main__"):
        return False
    found: Any = sys.modules.get(function.__module__)
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is function


def _names(code: types.CodeType) -> set[str]:
    # Functions and lambdas inside are constants of the code, with global names of their own.
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*inner)


def _empty_function(code: bytes, module: str, qualname: str, cells: int) -> types.FunctionType:
    names: dict[str, Any] = {"__builtins__": builtins, "__name__": module}
    if module != "__main__":
        names = vars(importlib.import_module(module))
    closure = tuple(types.CellType() for _ in range(cells))
    function = types.FunctionType(marshal.loads(code), names, closure=closure)
    function.__module__, function.__qualname__ = module, qualname
    return function


def _fill_function(function: types.FunctionType, state: tuple[Any, ...]) -> None:
    content, own, defaults, keyword_defaults = state
    for cell, value in zip(function.__closure__ or (), content):
        cell.cell_contents = value
    # For a function of a module nothing is in `own`: these globals are the module's namespace itself.
    function.__globals__.update(own)
    function.__defaults__, function.__kwdefaults__ = defaults, keyword_defaults


def _same(a: Any, b: Any, asked: frozenset[tuple[int, int]] = frozenset()) -> bool:
    # A function that refers to itself asks for itself again: it is the same if nothing else differs.
    if a is b or (id(a), id(b)) in asked:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, types.FunctionType):
        parts = [(f.__defaults__, f.__kwdefaults__, [c.cell_contents for c in f.__closure__ or ()]) for f in (a, b)]
        asked |= {(id(a), id(b))}
        return a.__code__ == b.__code__ and a.__module__ == b.__module__ and _same(parts[0], parts[1], asked)
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        return all(_same(getattr(a, field.name), getattr(b, field.name), asked) for field in dataclasses.fields(a))
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(_same(x, y, asked) for x, y in zip(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key], asked) for key in a)
    if isinstance(a, np.ndarray | jax.Array):
        # The dtype too: equal schedules share a compiled program, which has their arrays as constants.
        return a.dtype == b.dtype and a.shape == b.shape and bool(np.array_equal(np.asarray(a), np.asarray(b)))
    try:
        return bool(a == b)
    except Exception:  # what cannot be compared is not known to be the same
        return False
