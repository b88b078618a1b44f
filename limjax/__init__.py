"""limjax: the thermodynamic cost of learning, made differentiable."""

from limjax.barriers import (
    AbstractBarrier,
    FisherBarrier,
    FowlerNordheimBarrier,
    LyapunovBarrier,
    RateMatchedBarrier,
    ScheduledBarrier,
    SplineBarrier,
    StaticBarrier,
)
from limjax.ledger import Ledger, get_ledger, get_ledgers, leaf_totals, per_parameter, total
from limjax.optimizer import get_barrier, gradient_tilt, learning_in_memory, snap
from limjax.physics.cell import ArrheniusCell
from limjax.report import LayerReport, Report, report
from limjax.tasks import Task, TaskDefaults
from limjax.training import Result, TrainResult, train

__version__ = "0.1.0"

__all__ = [
    "AbstractBarrier",
    "ArrheniusCell",
    "FisherBarrier",
    "FowlerNordheimBarrier",
    "LayerReport",
    "Ledger",
    "LyapunovBarrier",
    "RateMatchedBarrier",
    "Report",
    "Result",
    "ScheduledBarrier",
    "SplineBarrier",
    "StaticBarrier",
    "Task",
    "TaskDefaults",
    "TrainResult",
    "get_barrier",
    "get_ledger",
    "get_ledgers",
    "gradient_tilt",
    "leaf_totals",
    "learning_in_memory",
    "per_parameter",
    "report",
    "snap",
    "total",
    "train",
]
