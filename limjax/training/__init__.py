"""Training a task on physical memory: settings, preparation, the compiled loop, its history, checkpoints and outcome."""

from limjax.training._flops import flops_per_step
from limjax.training._loop import seeded_run, training_step
from limjax.training._plain import PlainRun, plain_run, plain_step
from limjax.training._prepare import Run, RunKeys, prepare, starting_params
from limjax.training._result import UNSAVED, HistoryRow, Result, TrainResult, beside_plain
from limjax.training._run import execute, train
from limjax.training._settings import RunSettings

__all__ = [
    "UNSAVED",
    "HistoryRow",
    "PlainRun",
    "Result",
    "Run",
    "RunKeys",
    "RunSettings",
    "TrainResult",
    "beside_plain",
    "execute",
    "flops_per_step",
    "plain_run",
    "plain_step",
    "prepare",
    "seeded_run",
    "starting_params",
    "train",
    "training_step",
]
