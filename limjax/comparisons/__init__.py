"""What a run is compared with. A new comparison is one new file and one line here."""

from limjax.comparisons.barrier import BarrierComparison
from limjax.comparisons.base import AbstractComparison, ChargedComparison, StepRecord
from limjax.comparisons.event import EventWrite
from limjax.comparisons.gated import GatedWrite
from limjax.comparisons.names import FAIR, STATIC, comparison_words, fair_comparisons, named_comparisons, run_retention
from limjax.comparisons.noisy_event import NoisyEventWrite

__all__ = [
    "FAIR",
    "STATIC",
    "AbstractComparison",
    "BarrierComparison",
    "ChargedComparison",
    "EventWrite",
    "GatedWrite",
    "NoisyEventWrite",
    "StepRecord",
    "comparison_words",
    "fair_comparisons",
    "named_comparisons",
    "run_retention",
]
