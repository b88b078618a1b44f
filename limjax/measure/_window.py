"""A window of time and the energy in it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax

from limjax.measure._counters import AbstractCounters, Reading, counters_here


@dataclass(frozen=True)
class Energy:
    """What counters counted in a window.

    Attributes:
        seconds: length of the window [s].
        joules: by counter [J].
        uncertainty: by counter [J]: what its power gives between two values of the counter, and the least that it tells apart. The
            calibration of the sensor is not in it.
        kind: "measured" or "estimate".
        method: how the numbers came about.
    """

    seconds: float
    joules: dict[str, float]
    uncertainty: dict[str, float]
    kind: str
    method: str

    @property
    def total(self) -> float | None:
        """All counters together [J]; None without one."""
        return sum(self.joules.values()) if self.joules else None

    @property
    def total_uncertainty(self) -> float:
        """Of the total [J], as if all were wrong the same way."""
        return sum(self.uncertainty.values())

    @property
    def watts(self) -> float | None:
        """Mean power [W]; None without a counter or a length."""
        return None if self.total is None or self.seconds <= 0 else self.total / self.seconds

    def as_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            "kind": self.kind,
            "method": self.method,
            "seconds": self.seconds,
            "joules": self.total,
            "uncertainty_joules": self.total_uncertainty if self.joules and self.kind == "measured" else None,
            "watts": self.watts,
            "counters": {
                name: {"joules": joules, "uncertainty_joules": self.uncertainty[name]}
                for name, joules in self.joules.items()
            },
        }

    def __str__(self) -> str:
        if self.total is None:
            return f"no energy is known: {self.method}"
        margin = "" if self.kind == "estimate" else f" ± {self.total_uncertainty:.2g}"
        return f"{self.total:.4g}{margin} J in {self.seconds:.3g} s ({self.kind}: {self.method})"


def energy_between(first: Reading, last: Reading, counters: AbstractCounters) -> Energy:
    """The energy between two readings.

    Args:
        first: at the beginning.
        last: at the end.
        counters: that were read.

    Returns:
        The energy.

    Raises:
        ValueError: if a counter or the clock went back: it was reset meanwhile.
    """
    seconds = last.seconds - first.seconds
    joules = {name: last.joules[name] - begin for name, begin in first.joules.items()}
    back = [name for name, value in joules.items() if value < 0] + ["the clock"] * (seconds < 0)
    if back:
        raise ValueError(f"{', '.join(back)} went back during the window: it was reset, or has overflowed")
    uncertainty = {}
    for name, value in joules.items():
        fine = counters.fineness[name]
        # Each reading is up to one period of the counter old: the difference is off by what one period takes at most.
        power = value / seconds if seconds > 0 else 0.0
        uncertainty[name] = power * fine.seconds + fine.joules
    return Energy(seconds, joules, uncertainty, counters.kind, counters.method)


@dataclass
class EnergyWindow:
    """What `energy_window` hands out: filled when the window has ended.

    Attributes:
        energy: of the window, or None before its end and where there is none.
        reason: why there is no energy, one sentence, or None.
    """

    energy: Energy | None = None
    reason: str | None = field(default=None)


@contextlib.contextmanager
def energy_window(
    counters: AbstractCounters | None = None, *, assume_watts: float | None = None
) -> Iterator[EnergyWindow]:
    """Counts the energy that the machine takes inside, from idle device to idle device.

    Everything that JAX has under way is waited for at both ends. What else runs on the machine is counted too, and so is compiling: call
    a function once before the window to leave that out.

    Args:
        counters: that are read; None for those of this machine (`limjax.measure.counters_here`).
        assume_watts: power that is assumed where no counter can be read [W], which makes it an estimate.

    Yields:
        The window, whose `energy` is there when it has ended.

    Raises:
        ValueError: if zeus is not installed and nothing is assumed.

    Example:
        >>> import jax.numpy as jnp
        >>> from limjax.measure import AssumedWatts, energy_window
        >>> with energy_window(AssumedWatts(20.0)) as window:
        ...     y = jnp.ones((64, 64)) @ jnp.ones((64, 64))
        >>> window.energy.kind, f"{window.energy.watts:.1f} W"
        ('estimate', '20.0 W')

    Cost: two readings of each counter, less than a millisecond.
    """
    found = counters_here(assume_watts) if counters is None else counters
    window = EnergyWindow(reason=found.reason)
    first = settled_reading(found)
    try:
        yield window
    finally:
        # Also where the body has raised: its exception goes on, and what it took is known.
        if found.reason is None:
            try:
                window.energy = energy_between(first, settled_reading(found), found)
            except Exception as error:  # a counter that fails takes no result with it
                window.reason = str(error) or type(error).__name__


def settled_reading(counters: AbstractCounters) -> Reading:
    """What counters say when nothing of JAX is under way any more."""
    jax.effects_barrier()
    # JAX returns before the device has computed: without this the work would fall into the next window.
    jax.block_until_ready([array for array in jax.live_arrays() if not array.is_deleted()])
    return counters.read()
