"""The machine's energy: counters of GPUs, CPUs and DRAM by zeus, windows of time, and estimates that are called so.

Measured joules stand beside model heat and are never added to it.
"""

from limjax.measure._counters import (
    AbstractCounters,
    AssumedWatts,
    Fineness,
    NoCounters,
    Reading,
    ZeusCounters,
    counters_here,
)
from limjax.measure._recorded import RecordedCounters
from limjax.measure._run import RunMeter, measured_text
from limjax.measure._window import Energy, EnergyWindow, energy_between, energy_window

__all__ = [
    "AbstractCounters",
    "AssumedWatts",
    "Energy",
    "EnergyWindow",
    "Fineness",
    "NoCounters",
    "Reading",
    "RecordedCounters",
    "RunMeter",
    "ZeusCounters",
    "counters_here",
    "energy_between",
    "energy_window",
    "measured_text",
]
