"""What a training through a sequence is, in numbers and words."""

import dataclasses
from typing import Any

from limjax.consolidation._sequence import SEQUENCES, check_scenario
from limjax.memory._hops import hops_of
from limjax.numerics.checks import INT32_MAX, positive_number, whole_number
from limjax.physics._cell import ArrheniusCell


@dataclasses.dataclass(frozen=True)
class ContinualSettings:
    """What all methods of a comparison share: tasks, network, optimizer and cell.

    Attributes:
        tasks: name of the sequence.
        scenario: "task", "domain" or "class".
        steps: optimizer steps of each task.
        batch_size: examples per step.
        learning_rate: of Adam, whose state goes on from task to task.
        width: units of each of the two hidden layers.
        plastic: barrier of a cell that nothing consolidated [kT].
        max_affinity: largest affinity of the cells' driver, for every method alike [kT].
        lsb: one level [weight/level].
        hops: "mean", "gaussian" or "exact".
        copy_bits: bits of a number that a method copies.

    Raises:
        ValueError: for a wrong setting; the message names it.

    Example:
        >>> ContinualSettings("split-digits", "domain", steps=100).width
        64
    """

    tasks: str = "split-digits"
    scenario: str = "task"
    steps: int = 400
    batch_size: int = 64
    learning_rate: float = 1e-3
    width: int = 64
    plastic: float = 16.0
    max_affinity: float = 6.0
    lsb: float = 2**-10
    hops: str = "exact"
    copy_bits: int = 8

    def __post_init__(self):
        if self.tasks not in SEQUENCES:
            raise ValueError(f"tasks must be one of {', '.join(SEQUENCES)}, got {self.tasks!r}.")
        check_scenario(self.scenario)
        for name in ("steps", "batch_size", "width", "copy_bits"):
            whole_number(getattr(self, name), name, 1, INT32_MAX)
        for name in ("learning_rate", "plastic", "max_affinity", "lsb"):
            positive_number(getattr(self, name), name)
        # Refuses a name that is none.
        hops_of(self.hops)

    def cell(self) -> ArrheniusCell:
        """The memory cell."""
        return ArrheniusCell(lsb=self.lsb, max_affinity=self.max_affinity)

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON can hold them."""
        return dataclasses.asdict(self)
