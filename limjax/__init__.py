"""limjax: the thermodynamic cost of learning, made differentiable."""

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

from limjax.barriers import (
    AbstractBarrier,
    AbstractRule,
    ConsolidatingBarrier,
    FisherBarrier,
    FisherRule,
    FowlerNordheimBarrier,
    LearnedBarrier,
    LyapunovBarrier,
    LyapunovRule,
    MetaplasticRule,
    MomentBarrier,
    PathIntegralRule,
    RateMatchedBarrier,
    ScheduledBarrier,
    SplineBarrier,
    StaticBarrier,
    UseRule,
    load_barrier,
    save_barrier,
)
from limjax.flax_states import register_when_imported
from limjax.memory import (
    AbstractHops,
    ExactHops,
    GaussianHops,
    Holding,
    LayerReport,
    Ledger,
    LedgerHistory,
    MeanHops,
    Report,
    consolidate,
    get_barrier,
    get_ledger,
    get_ledgers,
    get_memories,
    gradient_tilt,
    holding,
    leaf_totals,
    learning_in_memory,
    lsb_for_bits,
    per_parameter,
    report,
    retain,
    snap,
    spent_kt,
    total,
)
from limjax.memory.comparisons import (
    AbstractComparison,
    EventWrite,
    GatedWrite,
    NoisyEventWrite,
    fair_comparisons,
    run_retention,
)
from limjax.physics._abstract_cell import AbstractCell
from limjax.physics._asymmetric import AsymmetricCell
from limjax.physics._cell import ArrheniusCell
from limjax.tasks import Task, TaskDefaults
from limjax.training import Result, TrainResult, train
from limjax.tuning import ParetoResult, TuneResult, Weights, pareto_front, tune

try:
    __version__ = metadata.version("limjax")
except metadata.PackageNotFoundError:  # a source tree on the path that nobody installed
    __version__ = "0+unknown"

if TYPE_CHECKING:
    from limjax.devices import PulsedCell

# Not needed to train in one's own loop, and some bring matplotlib or orbax with them: imported when they are asked for.
_LAZY = (
    "checkpoints",
    "consolidation",
    "devices",
    "gap",
    "limits",
    "measure",
    "parallel",
    "plots",
    "runs",
    "simulate",
    "sweeps",
)


# What was a module of its own before the memory became a package.
_MOVED = {
    **dict.fromkeys(("blocks", "columns", "hops", "ledger", "optimizer", "step"), "limjax.memory"),
    "comparisons": "limjax.memory.comparisons",
    "levels": "limjax.memory.levels",
}


def __getattr__(name: str) -> Any:
    if name == "PulsedCell":
        return importlib.import_module("limjax.devices").PulsedCell
    if name in _LAZY:
        return importlib.import_module(f"limjax.{name}")
    where = _MOVED.get(name)
    raise AttributeError(f"limjax has no {name!r}{'.' if where is None else f'; what was there is in {where}.'}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY} - {"TYPE_CHECKING", "Any", "importlib", "metadata"})


__all__ = [
    "AbstractBarrier",
    "AbstractCell",
    "AbstractComparison",
    "AbstractHops",
    "AbstractRule",
    "ArrheniusCell",
    "AsymmetricCell",
    "ConsolidatingBarrier",
    "EventWrite",
    "ExactHops",
    "FisherBarrier",
    "FisherRule",
    "FowlerNordheimBarrier",
    "GatedWrite",
    "GaussianHops",
    "Holding",
    "LayerReport",
    "LearnedBarrier",
    "Ledger",
    "LedgerHistory",
    "LyapunovBarrier",
    "LyapunovRule",
    "MeanHops",
    "MetaplasticRule",
    "MomentBarrier",
    "NoisyEventWrite",
    "ParetoResult",
    "PathIntegralRule",
    "PulsedCell",
    "RateMatchedBarrier",
    "Report",
    "Result",
    "ScheduledBarrier",
    "SplineBarrier",
    "StaticBarrier",
    "Task",
    "TaskDefaults",
    "TrainResult",
    "TuneResult",
    "UseRule",
    "Weights",
    "consolidate",
    "fair_comparisons",
    "get_barrier",
    "get_ledger",
    "get_ledgers",
    "get_memories",
    "gradient_tilt",
    "holding",
    "leaf_totals",
    "learning_in_memory",
    "load_barrier",
    "lsb_for_bits",
    "pareto_front",
    "per_parameter",
    "report",
    "retain",
    "run_retention",
    "save_barrier",
    "snap",
    "spent_kt",
    "total",
    "train",
    "tune",
]

register_when_imported()
del register_when_imported
