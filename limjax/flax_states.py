"""limjax's states in `flax.serialization`, for those who have Flax; nothing is imported for those who have not.

Flax serialises NamedTuples, dicts and lists by itself, and other classes that were registered with it. It may be imported after
limjax: then the classes are registered when it is.
"""

import importlib.abc
import importlib.util
import sys
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from limjax.barriers._base import AbstractBarrier
from limjax.memory import Field, Ledger
from limjax.memory.comparisons import AbstractComparison

_MODULE = "flax.serialization"


def register(*classes: type) -> None:
    """Lets `flax.serialization` write and read modules of these classes; without Flax it does nothing.

    Args:
        classes: Equinox modules and other pytrees. limjax's own are registered already, and so are your barriers and comparisons where they are
            part of an optimizer's state.
    """
    flax = sys.modules.get(_MODULE)
    if flax is None or not hasattr(flax, "register_serialization_state"):
        return
    for cls in classes:
        functions = (_ledger_to_state, _ledger_from_state) if cls is Ledger else (_to_state, _from_state)
        # `register_all` runs at every ledger that is written or read: a class that is known already is no error.
        flax.register_serialization_state(cls, *functions, override=True)


def register_all() -> None:
    """Registers all of limjax's modules, and all barriers and comparisons that are defined so far."""
    own = [cls for cls in _subclasses(eqx.Module) + _subclasses(Field) if cls.__module__.startswith("limjax.")]
    register(*own, *_subclasses(AbstractBarrier), *_subclasses(AbstractComparison))


def _subclasses(cls: type) -> list[type]:
    return [found for sub in cls.__subclasses__() for found in (sub, *_subclasses(sub))]


def _ledger_to_state(ledger: Ledger) -> dict[str, Any]:
    # The ledger comes first in every state: what follows may be a barrier that was defined after Flax was imported.
    register_all()
    return _to_state(ledger)


def _ledger_from_state(ledger: Ledger, state: dict[str, Any]) -> Ledger:
    register_all()
    return _from_state(ledger, state)


def _to_state(module: PyTree) -> dict[str, Any]:
    leaves = jax.tree_util.tree_flatten_with_path(module)[0]
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _from_state(module: PyTree, state: Any) -> PyTree:
    wanted = _to_state(module)
    if isinstance(module, Field):  # before they were fields, barriers were the numbers themselves, or lists of them
        if not isinstance(state, dict):
            state = {".value": state}
        elif all(key.isdigit() for key in state):
            state = {f".value[{key}]": x for key, x in state.items()}
    if wanted.keys() != state.keys():
        differing = ", ".join(sorted(wanted.keys() ^ state.keys()))
        raise ValueError(
            f"The stored {type(module).__name__} is of another kind: {differing} is only in one of the two."
        )
    return jax.tree.structure(module).unflatten([state[path] for path in wanted])


class _OnImport(importlib.abc.MetaPathFinder):
    """Registers the classes as soon as Flax is imported."""

    def find_spec(self, fullname: str, path: Any, target: Any = None):
        if fullname != _MODULE:
            return None
        # First, or the search below would come back here.
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        # There is nothing to register with until the module has run, so its loader is wrapped.
        usual = spec.loader.exec_module

        def exec_module(module):
            usual(module)
            register_all()

        spec.loader.exec_module = exec_module
        return spec


def register_when_imported() -> None:
    """Registers the classes now if Flax is here, else when it is imported."""
    if _MODULE in sys.modules:
        register_all()
    elif not any(isinstance(finder, _OnImport) for finder in sys.meta_path):
        # In front: the first finder that knows a module ends the search.
        sys.meta_path.insert(0, _OnImport())
