"""Counters of energy: of the machine by zeus, a number of watts that is assumed, or none."""

import abc
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from limjax.numerics.checks import positive_number

INSTALL = "pip install 'limjax[measure]'"
# How often a counter is refreshed, and the least that it tells apart. NVML: about every 100 ms, in mJ (Yang, Adamek & Armour 2024,
# arXiv:2312.02741, who also find that A100 and H100 sample a quarter of the time only). RAPL: every 1 ms, in 15.3 µJ or 61 µJ (Intel
# SDM, volume 3, chapter on power and thermal management).
_GPU, _RAPL = (0.1, 1e-3), (1e-3, 6.1e-5)


class Reading(NamedTuple):
    """What counters say at one moment.

    Attributes:
        seconds: on a clock that never goes back [s].
        joules: by counter, since a moment that is always the same [J].
    """

    seconds: float
    joules: dict[str, float]


class Fineness(NamedTuple):
    """How finely a counter counts.

    Attributes:
        seconds: between two of its values [s].
        joules: least difference of two values [J].
    """

    seconds: float
    joules: float


class AbstractCounters(abc.ABC):
    """Counters that only go up. A new kind is a class with `read`.

    Attributes:
        kind: "measured" or "estimate": what its numbers are.
        method: how they come about, in one line.
        reason: why there are none, one sentence, or None.
        fineness: by counter.
    """

    kind: str
    method: str
    reason: str | None
    fineness: Mapping[str, Fineness]

    @abc.abstractmethod
    def read(self) -> Reading:
        """What the counters say now."""

    def wait(self, seconds: float) -> None:
        """Lets time pass.

        Args:
            seconds: how long [s].
        """
        time.sleep(seconds)


class NoCounters(AbstractCounters):
    """A machine without counters that can be read: there is no number, and a sentence that says why.

    Args:
        reason: the sentence.
    """

    def __init__(self, reason: str):
        self.kind, self.method, self.reason, self.fineness = "measured", "no counter", reason, {}

    def read(self) -> Reading:
        return Reading(time.monotonic(), {})


class AssumedWatts(AbstractCounters):
    """A power that is assumed, times the time: an estimate, and called one everywhere.

    Args:
        watts: of the whole machine [W].

    Raises:
        ValueError: if it is not positive.

    Example:
        >>> counters = AssumedWatts(65.0)
        >>> counters.kind, counters.method
        ('estimate', '65 W assumed at all times, times the time')
    """

    def __init__(self, watts: float):
        self.watts = positive_number(
            watts, "assume_watts", "It is the power that is assumed of the whole machine, for example 65."
        )
        self.kind, self.method = "estimate", f"{self.watts:g} W assumed at all times, times the time"
        self.reason, self.fineness = None, {"assumed": Fineness(0.0, 0.0)}
        self._start = time.monotonic()

    def read(self) -> Reading:
        now = time.monotonic()
        return Reading(now, {"assumed": (now - self._start) * self.watts})


class ZeusCounters(AbstractCounters):
    """The machine's own counters, read by zeus: total energy of GPUs (NVML, AMD SMI), CPU packages and DRAM (RAPL).

    They are those of whole devices, whoever uses them. Reading RAPL needs root or the zeus daemon; zeus starts a process that counts
    RAPL's overflows, so that a script needs the usual `if __name__ == "__main__":`.

    Raises:
        ImportError: if zeus is not installed.

    Source: https://ml.energy/zeus, You, Chung & Chowdhury, NSDI 2023.
    """

    def __init__(self):
        from zeus import device  # pyright: ignore[reportMissingImports]  # an extra

        self._sources: dict[str, Callable[[], float]] = {}
        fineness: dict[str, Fineness] = {}
        problems = []
        for find, said in ((self._gpus, "GPU"), (self._cpus, "CPU and DRAM")):
            try:
                found, fine = find(device)
            except (
                Exception
            ) as error:  # zeus has a class for each of a driver's moods, and unofficial packages raise their own
                problems.append(f"{said}: {_first_sentence(error)}")
                continue
            self._sources |= found
            fineness |= dict.fromkeys(found, Fineness(*fine))
        self.kind, self.fineness = "measured", fineness
        self.method = f"counters of {', '.join(self._sources) or 'nothing'}, read by zeus {_version()}"
        why = f" ({'; '.join(problems)})" if problems else ""
        self.reason = None if self._sources else f"this machine has no energy counter that can be read{why}"

    @staticmethod
    def _gpus(device: Any) -> tuple[dict[str, Callable[[], float]], tuple[float, float]]:
        gpus = device.get_gpus()
        counting = [i for i in range(len(gpus)) if gpus.supports_get_total_energy_consumption(i)]
        if not counting:
            raise RuntimeError("none of them counts its energy")
        named = {f"GPU {i} ({gpus.get_name(i)})": i for i in counting}
        # zeus counts in millijoules.
        return {name: lambda i=i: gpus.get_total_energy_consumption(i) / 1e3 for name, i in named.items()}, _GPU

    @staticmethod
    def _cpus(device: Any) -> tuple[dict[str, Callable[[], float]], tuple[float, float]]:
        cpus = device.get_cpus()
        found: dict[str, Callable[[], float]] = {}
        for i in range(len(cpus)):
            found[f"CPU {i}"] = lambda i=i: cpus.get_total_energy_consumption(i).cpu_mj / 1e3
            if cpus.supports_get_dram_energy_consumption(i):
                found[f"DRAM {i}"] = lambda i=i: cpus.get_total_energy_consumption(i).dram_mj / 1e3
        if not found:
            raise RuntimeError("there is none")
        return found, _RAPL

    def read(self) -> Reading:
        return Reading(time.monotonic(), {name: float(source()) for name, source in self._sources.items()})


def counters_here(assume_watts: float | None = None) -> AbstractCounters:
    """The counters of this machine; where there is none, the power that is assumed, or none.

    Args:
        assume_watts: power of the whole machine, taken where no counter can be read [W]; None for no number then.

    Returns:
        The counters.

    Raises:
        ValueError: if zeus is not installed and nothing is assumed, or `assume_watts` is not positive.
    """
    assumed = None if assume_watts is None else AssumedWatts(assume_watts)
    try:
        counters = ZeusCounters()
    except ImportError as error:
        if assumed is not None:
            return assumed
        raise ValueError(
            f"Reading the machine's energy needs zeus, which is not here ({error}): {INSTALL}, or --assume-watts W "
            "(assume_watts=W) for an estimate."
        ) from None
    if counters.reason is None:
        return counters
    return assumed or NoCounters(counters.reason)


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("zeus")
    except metadata.PackageNotFoundError:
        return "of unknown version"


def _first_sentence(error: BaseException) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words.split(". ")[0].rstrip(".")[:120]
