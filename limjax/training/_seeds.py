"""Which runs differ in the seed alone, by their summaries."""

from collections.abc import Mapping
from typing import Any

SETTINGS = (
    "task", "barrier_settings", "barrier", "barrier_fingerprint", "hops", "requested_steps", "batch_size", "learning_rate", "lsb", "attempt_rate",
    "step_time", "temperature", "memory_device", "storage", "bits", "stop_at_heat", "stop_at_loss", "learning_rate_factor", "max_affinity",
)  # fmt: skip
"""Keys of a summary that tell runs apart besides the seed."""

WHOLE = ("completed", "spent", "reached")
"""How a run ends that came to the end of its steps, its heat or its loss."""


def ending(summary: Mapping[str, Any]) -> str:
    """How a run ended that did not come to its end, in words; nothing for one that did.

    Args:
        summary: content of `summary.json`.

    Returns:
        Such as "interrupted after 40 steps".
    """
    result = summary.get("result", WHOLE[0])
    return "" if result in WHOLE else f"{result} after {summary.get('steps')} steps"


def apart_from_seed(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """All that tells a run from others of other settings, and how far it came if it did not come to its end.

    Args:
        summary: content of `summary.json`.

    Returns:
        Texts, the same for runs that differ in the seed alone.
    """
    # As texts: a list of factors, or the range of cells that differ, could be no key of a dict.
    return *(repr(summary.get(name)) for name in SETTINGS), ending(summary)
