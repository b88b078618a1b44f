"""Training a task on physical memory: settings, preparation, the compiled loop, its history, checkpoints and outcome."""

from limjax.training.loop import seeded_run, training_step
from limjax.training.prepare import Run, RunKeys, prepare, starting_params
from limjax.training.result import UNSAVED, HistoryRow, Result, TrainResult
from limjax.training.run import execute, train
from limjax.training.settings import RunSettings

__all__ = [
    "UNSAVED",
    "HistoryRow",
    "Result",
    "Run",
    "RunKeys",
    "RunSettings",
    "TrainResult",
    "execute",
    "prepare",
    "seeded_run",
    "starting_params",
    "train",
    "training_step",
]
