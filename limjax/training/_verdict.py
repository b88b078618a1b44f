"""What a run comes to, in a sentence: heat saved, accuracy lost, share of the hops that was noise; no praise for what did not learn."""

import math
from collections.abc import Mapping
from typing import Any

LEARNED = 0.5
"""Share of the fall of a plain run's training loss from which on a run has learned; without a plain run the loss has to fall to
nine tenths."""
_FELL = 0.9


def verdict(summary: Mapping[str, Any], warnings: int) -> str:
    """Sentences for the end of a run.

    Args:
        summary: its numbers, with `plain_train_loss`, `plain_test_loss` and `plain_test_accuracy`, None where no plain run was made.
        warnings: how many warnings of its report stand against the numbers.

    Returns:
        One to three sentences. A ratio to other memories is given only if the run learned and no warning stands.

    Example:
        >>> run = {"result": "completed", "steps": 9, "parameters": 10, "initial_loss": 2.0, "train_loss": 1.9, "heat_kt": 5.0,
        ...        "actuation_kt": 0.0, "ratio": 1e4, "plain_train_loss": 0.1}
        >>> verdict(run, 0)
        'It did not learn: its training loss went from 2 to 1.9, that of a plain run of the same seed to 0.1. What it dissipated is no saving.'
    """
    if summary["steps"] == 0:
        return "It ended before its first step: there is nothing to judge."
    if summary["result"] in ("interrupted", "nonfinite", "stopped"):
        return "It did not come to its end: there is nothing to judge yet."
    if not _learned(summary):
        plain = summary.get("plain_train_loss")
        beside = "" if plain is None else f", that of a plain run of the same seed to {plain:.4g}"
        last = summary.get("train_loss")
        ended = "no finite number" if last is None else f"{last:.4g}"
        return (
            f"It did not learn: its training loss went from {summary['initial_loss']:.4g} to {ended}{beside}. "
            "What it dissipated is no saving."
        )
    said = [_beside_plain(summary)]
    if summary.get("hops") == "mean":
        said.append(
            "Hop noise was left out (hops mean): what it costs in accuracy is not known, and no saving is claimed."
        )
        return " ".join(said)
    if warnings:
        said.append("A warning stands, so no saving is claimed.")
    elif summary.get("ratio") is not None:
        cost = (summary["heat_kt"] + summary["actuation_kt"]) / summary["parameters"]
        said.append(
            f"Heat and barrier work: {cost:.3g} kT per parameter; the cheapest other memory ({summary['compared_with']}) would have taken "
            f"{summary['ratio']:.3g} times as much for the same updates."
        )
    if summary.get("net_levels") is not None and summary.get("hops_mean"):
        # N levels net take at least N hops, but these are a mean and the displacement was drawn: 1 can be passed.
        noise = 1 - min(summary["net_levels"] / summary["hops_mean"], 1)
        said.append(f"{100 * noise:.3g} % of the hops were undone again by others.")
    return " ".join(said)


def _learned(summary: Mapping[str, Any]) -> bool:
    first, last, plain = (summary.get(name) for name in ("initial_loss", "train_loss", "plain_train_loss"))
    if first is None:
        return True  # nothing to tell by
    if last is None or not (math.isfinite(first) and math.isfinite(last)):
        return False
    if plain is not None and math.isfinite(plain) and plain < first:
        return first - last >= LEARNED * (first - plain)
    return last <= _FELL * first


def _beside_plain(summary: Mapping[str, Any]) -> str:
    accuracy, plain = summary.get("test_accuracy"), summary.get("plain_test_accuracy")
    if accuracy is not None and plain is not None:
        lost = 100 * (plain - accuracy)
        # Less than half of the last digit printed is no difference.
        said = f"{abs(lost):.2f} points {'below' if lost > 0 else 'above'}" if abs(lost) >= 0.005 else "equal to"
        return f"Test accuracy {accuracy:.4f}, {said} a plain run of the same seed ({plain:.4f})."
    for name, words in (("test_loss", "Test loss"), ("train_loss", "Training loss")):
        loss, plain = summary.get(name), summary.get(f"plain_{name}")
        if loss is not None and plain is not None:
            return f"{words} {loss:.4g}; a plain run of the same seed: {plain:.4g}."
    return "It learned; `--plain` trains without a memory beside it and says what that cost in accuracy."
