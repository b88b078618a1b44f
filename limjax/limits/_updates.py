"""What counts as one update of a weight: the choice that moves a limit by more than ten orders of magnitude."""

import abc
from typing import Any, NamedTuple

from limjax.limits._arguments import chosen


class Amounts(NamedTuple):
    """How much a training computes, sees and writes: floats or arrays, all but the parameters times any factor."""

    # `workload_energies` gives flops, tokens and steps times kT: a count must be linear in each.
    parameters: Any
    flops: Any
    tokens: Any
    steps: Any


class AbstractUpdate(abc.ABC):
    """A convention of what one update of a weight is.

    Attributes:
        key: what `Workload(updates=...)` takes.
        words: how a table calls it.
        short: how a narrow column calls it.
    """

    key: str
    words: str
    short: str

    @abc.abstractmethod
    def count(self, amounts: Amounts) -> Any:
        """Updates in a whole training, times the factor of the amounts."""


class EveryFlop(AbstractUpdate):
    """Every operation is an update."""

    key, words, short = "flop", "every FLOP", "FLOP"

    def count(self, amounts: Amounts) -> Any:
        return amounts.flops


class EveryToken(AbstractUpdate):
    """Every token updates every parameter."""

    key, words, short = "token", "token × parameter", "token"

    def count(self, amounts: Amounts) -> Any:
        return amounts.parameters * amounts.tokens


class EveryWrite(AbstractUpdate):
    """Every optimizer step updates every parameter."""

    key, words, short = "optimizer", "optimizer write", "write"

    def count(self, amounts: Amounts) -> Any:
        return amounts.parameters * amounts.steps


UPDATES: dict[str, AbstractUpdate] = {update.key: update for update in (EveryFlop(), EveryToken(), EveryWrite())}
"""The conventions by key: flop, token, optimizer."""


def get_update(name: str) -> AbstractUpdate:
    """A convention by its key; `ValueError` if there is none."""
    return chosen(UPDATES, name, "updates")
