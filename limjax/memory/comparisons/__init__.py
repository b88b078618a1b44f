"""What a run is compared with. A new comparison is one new file and one line here."""

from limjax.memory.comparisons._barrier import BarrierComparison
from limjax.memory.comparisons._base import AbstractComparison, StepRecord, checked_hold, gate_work, init_register
from limjax.memory.comparisons._event import EventWrite
from limjax.memory.comparisons._gated import GatedWrite, best_request
from limjax.memory.comparisons._names import (
    FAIR,
    STATIC,
    comparison_words,
    fair_comparisons,
    named_comparisons,
    run_retention,
)
from limjax.memory.comparisons._noisy_event import NoisyEventWrite
from limjax.memory.comparisons._register import whole_levels

__all__ = [
    "FAIR",
    "STATIC",
    "AbstractComparison",
    "BarrierComparison",
    "EventWrite",
    "GatedWrite",
    "NoisyEventWrite",
    "StepRecord",
    "best_request",
    "checked_hold",
    "comparison_words",
    "fair_comparisons",
    "gate_work",
    "init_register",
    "named_comparisons",
    "run_retention",
    "whole_levels",
]
