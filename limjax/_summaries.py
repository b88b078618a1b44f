"""What a `summary.json` has to hold, in one place: whoever reads the folder of a run reads it here."""

import dataclasses
import math
import pathlib
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from limjax._files import read_json

_Check = Callable[[Any], bool]


def read_summary(path: pathlib.Path, remedy: str, needed: tuple[str, ...] = ()) -> dict[str, Any]:
    """Reads the summary of a run.

    What a run of an earlier version did not know may be missing; what is there must be what `limjax train` writes there.

    Args:
        path: the file `summary.json`.
        remedy: what to do about a damaged one, one sentence.
        needed: keys that must be there.

    Returns:
        Its content.

    Raises:
        ValueError: if it cannot be read, or a key is missing or holds something else; the message names file, key and value.
    """
    content = read_json(path, remedy)
    for key in needed:
        if key not in content:
            raise ValueError(f"{path} is damaged: it has no {key!r}. {remedy}")
    for key, (is_right, words) in _KINDS.items():
        if key in content and not is_right(content[key]):
            raise ValueError(f"{path} is damaged: {key!r} must be {words}, got {shortened(content[key])}. {remedy}")
    return content


def shortened(value: Any) -> str:
    """A value in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_number(value: Any) -> bool:
    """Whether it is a number, perhaps infinite or none at all as after a diverged step, but one that a float can hold."""
    # JSON has whole numbers of any length, and beyond 2^1024 `float` raises.
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1000)


def _is_amount(value: Any) -> bool:
    # Written so that NaN passes, which a run that diverged may have.
    return _is_number(value) and not value < 0


def _is_count(value: Any) -> bool:
    # What NumPy's int64 holds.
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _or_none(check: _Check) -> _Check:
    return lambda value: value is None or check(value)


def _list_of(check: _Check) -> _Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _is_of_cell(value: Any) -> bool:
    """A number of a cell, or of cells that differ their least, mean and greatest."""
    if isinstance(value, Mapping):
        return all(_is_positive(value.get(name)) for name in ("least", "mean", "greatest"))
    return _is_positive(value)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and 0 < value < math.inf


def _is_measured(value: Any) -> bool:
    """What counters of the machine said: joules and what belongs to them are numbers where they are there."""
    if value is None:
        return True
    if not isinstance(value, Mapping):
        return False
    numbers = [x for key, x in value.items() if key.endswith(("joules", "seconds", "watts"))]
    return all(x is None or _is_number(x) for x in numbers) and _or_none(_is_count)(value.get("steps"))


_NUMBER = (_is_number, "a number")
_AMOUNT = (_is_amount, "a number of at least 0")
_COUNT = (_is_count, "a whole number of at least 0")
_TEXT = (_is_text, "text")
_OF_CELL = (_is_of_cell, "a positive number, or least, mean and greatest")


def _maybe(kind: tuple[_Check, str]) -> tuple[_Check, str]:
    return _or_none(kind[0]), f"{kind[1]} or null"


_KINDS: dict[str, tuple[_Check, str]] = {
    **dict.fromkeys(("task", "barrier", "barrier_settings", "hops", "result", "help", "verdict"), _TEXT),
    **dict.fromkeys(("device", "memory_device", "storage", "barrier_fingerprint"), _maybe(_TEXT)),
    **dict.fromkeys(("seed", "steps", "requested_steps", "parameters", "batch_size"), _COUNT),
    **dict.fromkeys(("heat_kt", "heat_joules", "path_levels"), _AMOUNT),
    "actuation_kt": _NUMBER,
    **dict.fromkeys(("lsb", "attempt_rate", "step_time", "temperature"), _OF_CELL),
    **dict.fromkeys(
        (
            "initial_loss", "train_loss", "test_loss", "test_accuracy", "plain_test_loss", "plain_test_accuracy",
            "realised_heat_kt", "consolidation_kt", "bowl_bound_kt_per_parameter", "net_levels",
        ),
        _maybe(_NUMBER),
    ),
    **dict.fromkeys(
        ("static_heat_kt", "pulses", "device_joules", "device_seconds", "write_joules", "flops_per_step", "wall_seconds"), _maybe(_AMOUNT)
    ),
    "warnings": (_or_none(_list_of(_is_text)), "a list of texts"),
    "measured": (_is_measured, "an object of numbers or null"),
    "versions": (_or_none(lambda value: isinstance(value, Mapping)), "an object or null"),
    "report": (lambda value: isinstance(value, Mapping), "an object"),
}  # fmt: skip
"""What a key of a summary must be, and that in words."""


def check_record(record: Any) -> None:
    """Refuses a record whose fields hold something else than they say.

    Args:
        record: a dataclass of numbers and texts; fields of other kinds are not looked at.

    Raises:
        ValueError: naming the first field that is wrong.
    """
    hints = typing.get_type_hints(type(record))
    for field in dataclasses.fields(record):
        value, hint = getattr(record, field.name), hints[field.name]
        kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        # Tuples, mappings and other records are checked by whoever knows what is in them.
        if not set(kinds) <= set(_OF_TYPE):
            continue
        if not any(_OF_TYPE[kind](value) for kind in kinds):
            raise ValueError(f"{field.name!r} is {shortened(value)}")


_OF_TYPE: dict[Any, _Check] = {
    float: _is_number,
    int: _is_count,
    bool: lambda value: isinstance(value, bool),
    str: _is_text,
    type(None): lambda value: value is None,
}
