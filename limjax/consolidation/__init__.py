"""Continual learning on one memory: tasks in a sequence, ways not to forget, and what each of them costs."""

from limjax.consolidation._methods import (
    EWC,
    AbstractMethod,
    BarrierConsolidation,
    Copies,
    FineTune,
    Joint,
    OnlineEWC,
    Replay,
    SynapticIntelligence,
    method_of,
)
from limjax.consolidation._result import NON_VOLATILE, SequenceResult, best_memory, table
from limjax.consolidation._run import Comparison, compare_methods, train_sequence
from limjax.consolidation._sequence import (
    Examples,
    TaskSequence,
    get_sequence,
    permuted_digits,
    rotated_digits,
    split_digits,
)
from limjax.consolidation._settings import ContinualSettings
from limjax.consolidation._tuned_sequence import SequenceProblem

__all__ = [
    "EWC",
    "NON_VOLATILE",
    "AbstractMethod",
    "BarrierConsolidation",
    "Comparison",
    "ContinualSettings",
    "Copies",
    "Examples",
    "FineTune",
    "Joint",
    "OnlineEWC",
    "Replay",
    "SequenceProblem",
    "SequenceResult",
    "SynapticIntelligence",
    "TaskSequence",
    "best_memory",
    "compare_methods",
    "get_sequence",
    "method_of",
    "permuted_digits",
    "rotated_digits",
    "split_digits",
    "table",
    "train_sequence",
]
