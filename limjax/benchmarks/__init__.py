"""What limjax costs on this machine: ratios against named references in the same run."""

from limjax.benchmarks._memory import measure_memory
from limjax.benchmarks._samplers import measure_samplers
from limjax.benchmarks._startup import measure_startup
from limjax.benchmarks._steps import compiled_step, measure_activities, measure_steps, step_modes, steps_per_wait
from limjax.benchmarks._timing import interleaved, median_ratio
from limjax.benchmarks._training import compiled_run, measure_training, training_variants

__all__ = [
    "compiled_run",
    "compiled_step",
    "interleaved",
    "measure_activities",
    "measure_memory",
    "measure_samplers",
    "measure_startup",
    "measure_steps",
    "measure_training",
    "median_ratio",
    "step_modes",
    "steps_per_wait",
    "training_variants",
]
