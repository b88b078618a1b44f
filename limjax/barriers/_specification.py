"""Barriers by name, as the CLI and `limjax.train` take them: `lyapunov`, `static:height=20`, `fisher:price=1e5`."""

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from limjax.barriers._base import AbstractBarrier, RunShape
from limjax.barriers._files import load_barrier
from limjax.barriers._registry import BARRIERS
from limjax.physics._abstract_cell import AbstractCell


def barrier_names() -> tuple[str, ...]:
    """Names that `barrier_from_name` knows."""
    return tuple(BARRIERS)


def barrier_from_name(
    specification: str, cell: AbstractCell, steps: int, learning_rate: Callable | float
) -> AbstractBarrier:
    """A barrier from its name and, after a colon, its arguments.

    Args:
        specification: `name` or `name:argument=number,argument=number`. The names and arguments are those of the
            classes, with defaults that suit a run of this length; `static` alone stands at ten years' retention,
            `scheduled` rises with the inverse square of the learning rate. A name that ends in `.json` is a file that
            `limjax tune` or `save_barrier` wrote.
        cell: the memory cell.
        steps: length of the run.
        learning_rate: learning rate, or its optax schedule.

    Returns:
        The barrier.

    Raises:
        ValueError: for an unknown name or argument (the message lists the known ones), or a wrong number.

    Example:
        >>> from limjax import ArrheniusCell
        >>> barrier_from_name("static:height=20", ArrheniusCell(), 100, 1e-3).name
        'static'
    """
    # Before the colon is looked for: a path may have one.
    if specification.endswith(".json"):
        return load_barrier(specification, steps)
    name, _, rest = specification.partition(":")
    if name not in BARRIERS:
        near = difflib.get_close_matches(name, BARRIERS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"Unknown barrier {name!r}; known are {', '.join(BARRIERS)}.{hint}")
    known = text_arguments(BARRIERS[name])
    arguments: dict[str, Any] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if key not in known or not equals:
            raise ValueError(
                f"Barrier {name!r} does not take {item!r}; write name:argument=number, where the arguments of {name!r} are "
                f"{', '.join(known)}."
            )
        try:
            arguments[key] = value if key == "granularity" else float(value)
        except ValueError:
            raise ValueError(f"{key} of barrier {name!r} must be a number, got {value!r}.") from None
    return BARRIERS[name].of_run(RunShape(cell, steps, learning_rate), **arguments)


def text_arguments(kind: type[AbstractBarrier]) -> tuple[str, ...]:
    """Arguments that the text form of a barrier takes: those that its `of_run` names, or its constructor's.

    Args:
        kind: the class of the barrier.

    Returns:
        Their names.

    Example:
        >>> from limjax import StaticBarrier
        >>> text_arguments(StaticBarrier)
        ('height',)
    """
    named = [p for p in inspect.signature(kind.of_run).parameters.values() if p.name != "run"]
    # The `of_run` of the base class hands on whatever the constructor takes.
    if any(p.kind is p.VAR_KEYWORD for p in named):
        return tuple(inspect.signature(kind).parameters)
    return tuple(p.name for p in named)
