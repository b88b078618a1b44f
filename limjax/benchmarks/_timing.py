"""Times that can be compared: all candidates in turn, round after round."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax


def interleaved(calls: dict[str, Callable[[], Any]], rounds: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Wall times of some calls, each waited for, one round of all of them after another.

    A machine that slows down for a while slows down every candidate, so ratios within a round hold.

    Args:
        calls: functions without arguments, by name.
        rounds: rounds that count.
        warm_up: rounds before them that do not.

    Returns:
        Times [s] per round, by name.

    Example:
        >>> len(interleaved({"nothing": lambda: 0}, rounds=3)["nothing"])
        3
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warm_up + rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            jax.block_until_ready(call())
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def median_ratio(times: list[float], reference: list[float]) -> float:
    """Median over the rounds of a time over the reference's in the same round."""
    return statistics.median(t / r for t, r in zip(times, reference))
