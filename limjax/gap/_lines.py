"""The lines of the gap: each an energy with its kind, its interval and its source. Kinds are never added."""

import math
from dataclasses import dataclass

KINDS = ("measured", "simulated", "model", "bound", "estimate")
"""Read from counters of the machine; drawn hop by hop or pulse by pulse; a closed form; never less than this; a published number times a
count."""

GROUPS = {
    "machine": "The machine",
    "read": "Reading the weights",
    "write": "Writing all weights each step",
    "pulses": "Writing these updates by pulses",
    "keep": "Keeping the result",
    "memory": "The memory of this run",
    "limit": "Limits",
}
"""Groups of lines and their titles, in order."""


@dataclass(frozen=True)
class Line:
    """One energy.

    Attributes:
        key: what it is called in files: `heat`, `write/DRAM`, `pulses/ecram`.
        group: one of `GROUPS`.
        name: what it is, in a few words.
        joules: the energy [J].
        kind: one of `KINDS`.
        source: where its numbers come from.
        low: lower end of its interval [J], or None where there is none.
        high: upper end.
        note: what else to know.
    """

    key: str
    group: str
    name: str
    joules: float
    kind: str
    source: str
    low: float | None = None
    high: float | None = None
    note: str = ""

    def __post_init__(self):
        assert self.kind in KINDS and self.group in GROUPS, (self.kind, self.group)


def orders(over: float, under: float) -> float | None:
    """Orders of magnitude from one energy to another, or None where one of them is not above 0.

    Args:
        over: the larger energy [J].
        under: the smaller one [J].

    Returns:
        log10 of their quotient.

    Example:
        >>> orders(1e-2, 1e-15)
        13.0
    """
    return math.log10(over / under) if over > 0 and under > 0 else None
