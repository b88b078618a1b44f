"""limjax: the thermodynamic cost of learning, made differentiable."""

from limjax.barriers import (
    AbstractBarrier,
    FisherBarrier,
    FowlerNordheimBarrier,
    LearnedBarrier,
    LyapunovBarrier,
    MomentBarrier,
    RateMatchedBarrier,
    ScheduledBarrier,
    SplineBarrier,
    StaticBarrier,
    load_barrier,
    save_barrier,
)
from limjax.comparisons import (
    AbstractComparison,
    EventWrite,
    GatedWrite,
    NoisyEventWrite,
    fair_comparisons,
    run_retention,
)
from limjax.devices import PulsedCell
from limjax.flax_states import register_when_imported
from limjax.ledger import Ledger, get_ledger, get_ledgers, leaf_totals, per_parameter, total
from limjax.levels import lsb_for_bits, snap
from limjax.optimizer import get_barrier, gradient_tilt, learning_in_memory
from limjax.physics.abstract_cell import AbstractCell
from limjax.physics.asymmetric import AsymmetricCell
from limjax.physics.cell import ArrheniusCell
from limjax.report import LayerReport, Report, report
from limjax.tasks import Task, TaskDefaults
from limjax.training import Result, TrainResult, train
from limjax.tuning import ParetoResult, TuneResult, Weights, pareto_front, tune

__version__ = "0.1.0"

__all__ = [
    "AbstractBarrier",
    "AbstractCell",
    "AbstractComparison",
    "ArrheniusCell",
    "AsymmetricCell",
    "EventWrite",
    "FisherBarrier",
    "FowlerNordheimBarrier",
    "GatedWrite",
    "LayerReport",
    "LearnedBarrier",
    "Ledger",
    "LyapunovBarrier",
    "MomentBarrier",
    "NoisyEventWrite",
    "ParetoResult",
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
    "Weights",
    "fair_comparisons",
    "get_barrier",
    "get_ledger",
    "get_ledgers",
    "gradient_tilt",
    "leaf_totals",
    "learning_in_memory",
    "load_barrier",
    "lsb_for_bits",
    "pareto_front",
    "per_parameter",
    "report",
    "run_retention",
    "save_barrier",
    "snap",
    "total",
    "train",
    "tune",
]

register_when_imported()
del register_when_imported
