"""Arguments that several laws share: what they are, and the range they must lie in."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from limjax.numerics.checks import Argument, broadcast, positive_number, read


def together(*arguments: Argument) -> list[Float[Array, "..."]]:
    """The arguments as arrays of one dtype and shape."""
    return broadcast(*read(*arguments))


def loss_ratio(value: Any) -> Argument:
    """L0/LT."""
    return Argument(value, "loss_ratio", "It is first loss over last, for example 65536.", low=1.0, open_low=False)


def contraction(value: Any, example: str = "ln(loss_ratio)", high: float = math.inf) -> Argument:
    """uT."""
    remedy = f"It is training time over relaxation time, uT, for example {example}."
    return Argument(value, "contraction", remedy, high=high)


def distance(value: Any) -> Argument:
    """m0."""
    return Argument(value, "distance", "It is how far the weight moves, in levels, for example 256.")


def probability(value: Any, name: str, high: float = 1 - 1e-7) -> Argument:
    """A probability that is neither 0 nor, up to rounding, 1."""
    # Between 1 - 1e-7 and 1 there is one float32, and ln(1 - p) would have no digits.
    return Argument(value, name, "It is a probability above 0 and below 1, for example 1e-3.", high=high)


def attempt_rate(value: Any) -> Argument:
    """k0 [1/s]."""
    return Argument(value, "attempt_rate", "It is k0 in 1/s, for example 1e9.")


def barrier(value: Any, name: str = "barrier", remedy: str = "Barriers are in kT.") -> Argument:
    """A height of a barrier [kT]."""
    return Argument(value, name, remedy, open_low=False)


def chosen(table: Mapping[str, Any], key: str, name: str) -> Any:
    """An entry of a table.

    Raises:
        ValueError: if there is none; the message names the argument and the keys.
    """
    if key not in table:
        raise ValueError(f"{name} must be one of {', '.join(table)}, got {key!r}.")
    return table[key]


class Number(NamedTuple):
    """What a number of a frozen record is, the range in which it makes sense, and whether None may stand for it."""

    remedy: str
    low: float = 0.0
    high: float = math.inf
    optional: bool = False


def settle(record: Any, numbers: Mapping[str, Number]) -> None:
    """Turns fields of a frozen dataclass into positive floats.

    Raises:
        ValueError: if one is no positive number in its range.
    """
    for name, number in numbers.items():
        value = getattr(record, name)
        if not (number.optional and value is None):
            # Called from `__post_init__`, before anyone else has the frozen record.
            checked = positive_number(value, name, number.remedy, number.low, number.high)
            object.__setattr__(record, name, checked)
