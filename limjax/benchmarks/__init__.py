"""What limjax costs on this machine: ratios against named references in the same run."""

from limjax.benchmarks.memory import measure_memory
from limjax.benchmarks.samplers import measure_samplers
from limjax.benchmarks.startup import measure_startup
from limjax.benchmarks.steps import measure_activities, measure_steps
from limjax.benchmarks.training import measure_training

__all__ = [
    "measure_activities",
    "measure_memory",
    "measure_samplers",
    "measure_startup",
    "measure_steps",
    "measure_training",
]
