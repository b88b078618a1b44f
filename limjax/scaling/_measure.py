"""The numbers of one training with a memory, per parameter and per kind of layer."""

import math
from typing import Any

import jax
import numpy as np

from limjax.memory._leaves import leaf_names
from limjax.numerics._present_names import per_parameter
from limjax.scaling._requests import Bins, RequestSums, Signal, effective_updates, request_sums
from limjax.training import RunSettings, TrainResult

_DIGITS = "0123456789"
_PER_PARAMETER = per_parameter("heat_kt", "actuation_kt") | {"path_levels": "path_levels", "hops": "hops"}
"""Means over the parameters, by the numbers of a layer that they are of."""


def measurement(result: TrainResult, settings: RunSettings, batch_tokens: int) -> dict[str, Any]:
    """What a finished run measured.

    Args:
        result: of a run whose optimizer was `watched`.
        settings: of the run.
        batch_tokens: tokens per step.

    Returns:
        Numbers by name, ready for JSON: those of `limjax.limits.MeasuredRun` but for the loss without a memory, and per kind of
        layer. Energies, paths, hops and effective updates are means per parameter; `promised_efolds` is the sum of the promised
        falls of the loss over the loss, of the whole network and of each kind's part in it, and `bin_promises` and `bin_losses` are
        what it is made of. These three are of the steps that `Bins` counts, which are not quite all.
    """
    summary, sums = result.summary, request_sums(result.state)
    bins = Bins.of(settings.steps)
    losses, promises = np.asarray(sums.losses, np.float64) / bins.steps, np.asarray(sums.promises, np.float64)
    kinds = _by_kind(result, sums, bins, losses, promises / losses[:, None])
    count = sum(kind["parameters"] for kind in kinds.values())

    def mean(name: str) -> float:
        return sum(kind[name] * kind["parameters"] for kind in kinds.values()) / count

    averaged = {name: mean(name) for name in (*_PER_PARAMETER.values(), "effective_updates", "unresolved")}
    # The law of a bowl, 2 ln(L0/LT) and 2 kT for every gradient that is averaged (docs/law.md).
    fall = math.log(summary["initial_loss"] / summary["train_loss"])
    return {
        "task": settings.task,
        "parameters": count,
        "tokens": batch_tokens * settings.steps,
        "batch_tokens": batch_tokens,
        "lsb": settings.lsb,
        "bits": settings.bits,
        "seed": settings.seed,
        "steps": settings.steps,
        "barrier": summary["barrier"],
        "hops_kind": settings.hops,
        "learning_rate": settings.learning_rate,
        **averaged,
        "convergence_kt_per_parameter": 2 * fall,
        "law_kt_per_parameter": 2 * fall + 2 * averaged["effective_updates"],
        "initial_loss": summary["initial_loss"],
        "train_loss": summary["train_loss"],
        "loss": summary["test_loss"],
        "wall_seconds": summary["wall_seconds"],
        "warnings": summary["warnings"],
        "promised_efolds": sum(kind["promised_efolds"] for kind in kinds.values()),
        "bin_losses": losses.tolist(),
        "bin_promises": promises.sum(axis=1).tolist(),
        "kinds": kinds,
    }


def kind_of(layer: str) -> str:
    """The kind of a layer: its name without the number.

    Example:
        >>> kind_of("attention12/in")
        'attention'
    """
    return layer.split("/")[0].rstrip(_DIGITS)


def _by_kind(
    result: TrainResult, sums: RequestSums, bins: Bins, losses: np.ndarray, promised_shares: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Means per parameter of every kind of layer, from the mean loss of every bin and the promises of every leaf over it."""
    leaves = jax.tree_util.tree_flatten_with_path(result.params)[0]
    # In the order of the leaves, which is that of the columns of the sums.
    names = [kind_of(name) for name in leaf_names([path for path, _ in leaves])]
    sizes = np.array([leaf.size for _, leaf in leaves])
    found = {}
    for kind in dict.fromkeys(names):
        index = np.flatnonzero([name == kind for name in names])
        layers = [layer for layer in result.report.layers if kind_of(layer.name) == kind]
        size = int(sizes[index].sum())
        signal = Signal.of(sums, bins, index)
        updates = effective_updates(signal, losses, result.summary["initial_loss"])
        found[kind] = {
            "parameters": size,
            **{name: sum(getattr(layer, whole) for layer in layers) / size for whole, name in _PER_PARAMETER.items()},
            "effective_updates": updates.per_parameter,
            "unresolved": updates.unresolved,
            # Of the loss of all parameters: those of the kinds add up.
            "promised_efolds": float(promised_shares[:, index].sum()),
            "signal": signal.share.tolist(),
            "signal_error": signal.error.tolist(),
        }
    return found
