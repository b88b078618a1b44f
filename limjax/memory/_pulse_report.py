"""What the pulses of a device took, for the report of a run."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from limjax.memory._ledger import Ledger, total

_MISPLACED = 0.2


@dataclasses.dataclass(frozen=True)
class PulseReport:
    """What pulses took in a run, beside model heat and never added to it.

    Attributes:
        pulses: how many were given.
        device_joules: their energy at the device [J], or None where it is not known.
        device_seconds: their duration, as if one cell was written after the other [s], or None.
        misplaced_levels: Σ|delivered - requested| [levels].
        path_levels: Σ|delivered| [levels].
        ideal_joules: heat of an ideal drive of the same moves over the device's barrier [J].
        parameters: number of cells.
    """

    pulses: float
    device_joules: float | None
    device_seconds: float | None
    misplaced_levels: float
    path_levels: float
    ideal_joules: float
    parameters: int

    @property
    def wasted(self) -> float | None:
        """Energy of the pulses over the heat of an ideal drive of the same moves: what the driver wastes."""
        if self.device_joules is None or self.ideal_joules <= 0:
            return None
        return self.device_joules / self.ideal_joules

    @property
    def misplaced_fraction(self) -> float:
        """What was delivered and not asked for, or asked for and not delivered, over what was delivered."""
        return self.misplaced_levels / max(self.path_levels, 1e-300)

    def to_dict(self) -> dict[str, Any]:
        """All numbers, ready for JSON."""
        return {
            "pulses": self.pulses,
            "device_joules": self.device_joules,
            "device_seconds": self.device_seconds,
            "device_over_ideal_drive": self.wasted,
            "misplaced_fraction": self.misplaced_fraction,
        }

    def __str__(self) -> str:
        said = [f"{self.pulses:.4g} pulses ({self.pulses / max(self.parameters, 1):.3g} per parameter)"]
        if self.device_joules is None:
            said.append("energy not known")
        else:
            said.append(f"{self.device_joules:.3g} J at the device")
        if self.device_seconds is not None:
            each = self.device_seconds / max(self.parameters, 1)
            said.append(f"{self.device_seconds:.3g} s one cell after the other, {each:.3g} s at least all at once")
        line = f"Device: {', '.join(said)}."
        if self.wasted is not None:
            line += f" That is {self.wasted:.3g} times the heat above, of an ideal drive of the same mean moves."
        return line

    def warnings(self) -> Iterator[str]:
        """What makes the run doubtful."""
        if self.misplaced_fraction > _MISPLACED:
            yield (
                f"what the pulses did differs from what was asked for by {100 * self.misplaced_fraction:.3g} % of the path: their steps "
                "depend on where a cell stands, or on which device it is. Where steps up and down differ a weight is drawn to the place "
                "where they cancel, not to the least loss. What helps: a symmetric device, weight 0 where steps are equal (zero), a "
                "wider window (larger lsb), a larger batch, or an auxiliary memory that collects updates first."
            )


def pulse_report(ledgers: Sequence[Ledger], ideal_joules: float, parameters: int) -> PulseReport | None:
    """What pulses took, from the ledgers of a run.

    Args:
        ledgers: of its memories.
        ideal_joules: heat of their moves in the ledger [J].
        parameters: number of cells.

    Returns:
        The sums, or None where no memory is written by pulses, or not all are.
    """
    if not ledgers or any(ledger.pulses is None for ledger in ledgers):
        return None

    def summed(name: str) -> float | None:
        if any(getattr(ledger, name) is None for ledger in ledgers):
            return None
        return sum(total(ledger, name) for ledger in ledgers)

    return PulseReport(
        pulses=summed("pulses") or 0.0,
        device_joules=summed("device_joules"),
        device_seconds=summed("device_seconds"),
        misplaced_levels=summed("misplaced") or 0.0,
        path_levels=summed("path") or 0.0,
        ideal_joules=ideal_joules,
        parameters=parameters,
    )
