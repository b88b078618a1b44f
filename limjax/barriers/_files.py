"""Barriers as JSON files: what tuning writes and `limjax train --barrier FILE` reads."""

import json
import os
import pathlib
from typing import Any

from limjax._files import write_json
from limjax.barriers._base import AbstractBarrier
from limjax.barriers._registry import BARRIERS

FORMAT = "limjax-barrier-1"


def barrier_to_json(barrier: AbstractBarrier) -> dict[str, Any]:
    """A barrier as JSON-able numbers.

    Args:
        barrier: any barrier but a scheduled one, whose schedule is a function.

    Returns:
        `{"format", "barrier", "arguments"}`.

    Raises:
        ValueError: for a barrier that numbers cannot describe.

    Example:
        >>> from limjax import StaticBarrier
        >>> barrier_to_json(StaticBarrier(20.0))["arguments"]
        {'height': 20.0}
    """
    # By the class and not its name alone: a class of one's own may bear the name of one in the library.
    if type(barrier) is not BARRIERS.get(barrier.name):
        raise ValueError(
            f"A {type(barrier).__name__} is a class of your own, which no file can name; save its numbers yourself, or put its "
            "values into a SplineBarrier."
        )
    arguments = barrier.arguments()
    nested = {name: barrier_to_json(value) for name, value in arguments.items() if isinstance(value, AbstractBarrier)}
    return {"format": FORMAT, "barrier": barrier.name, "arguments": arguments | nested}


def barrier_from_json(content: Any, where: str = "The barrier") -> AbstractBarrier:
    """The barrier that `barrier_to_json` described.

    Args:
        content: what it returned.
        where: what to call it in an error.

    Returns:
        The barrier.

    Raises:
        ValueError: if it is not a description of a barrier.
    """
    name = content.get("barrier") if isinstance(content, dict) else None
    if (
        not isinstance(content, dict)
        or content.get("format") != FORMAT
        or not isinstance(name, str)
        or name not in BARRIERS
    ):
        raise ValueError(
            f'{where} is not a limjax barrier: expected JSON with "format": "{FORMAT}" and "barrier" one of '
            f"{', '.join(BARRIERS)}. `limjax tune` writes such a file as barrier.json."
        )
    try:
        # Arguments are numbers, lists and words: an object among them can only be a barrier that this one holds.
        arguments = {
            name: barrier_from_json(value, f"{name} of {where}") if isinstance(value, dict) else value
            for name, value in content["arguments"].items()
        }
        return BARRIERS[content["barrier"]].of_file(arguments)
    # Wrong numbers are refused by the class, whose ValueError says more and passes.
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{where} has wrong arguments for a {content['barrier']!r} barrier: {error}.") from None


def save_barrier(barrier: AbstractBarrier, path: str | os.PathLike[str]) -> None:
    """Writes a barrier to a JSON file, in one piece: a link is replaced.

    Args:
        barrier: any barrier but a scheduled one.
        path: the file.

    Raises:
        ValueError: for a barrier that cannot be saved.
    """
    write_json(pathlib.Path(path), barrier_to_json(barrier))


def load_barrier(path: str | os.PathLike[str], steps: int | None = None) -> AbstractBarrier:
    """Reads a barrier from a JSON file.

    Args:
        path: the file.
        steps: length of the run it is for: a barrier that spans a run is stretched to it. None keeps what was saved.

    Returns:
        The barrier.

    Raises:
        ValueError: if the file is missing or holds no barrier.
    """
    path = pathlib.Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"The barrier file {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or nested without end
        raise ValueError(f"The barrier file {path} is not JSON: {error}.") from None
    barrier = barrier_from_json(content, f"The file {path}")
    return barrier if steps is None else barrier.stretched(steps)
