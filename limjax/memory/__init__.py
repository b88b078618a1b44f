"""Memory: cells under a barrier that deliver what an optimizer asks for, the ledger of what that dissipates, and its report."""

from limjax.memory._blocks import Blocks
from limjax.memory._consolidate import consolidate
from limjax.memory._field import Field, PerLeaf, PerParameter, Uniform, as_field
from limjax.memory._history import LedgerHistory
from limjax.memory._hops import AbstractHops, ExactHops, GaussianHops, MeanHops
from limjax.memory._layer_report import LayerReport
from limjax.memory._ledger import (
    Ledger,
    get_ledger,
    get_ledgers,
    leaf_totals,
    per_parameter,
    total,
)
from limjax.memory._make_report import report
from limjax.memory._optimizer import gradient_tilt, learning_in_memory
from limjax.memory._report import Report
from limjax.memory._retention import Holding, holding, retain
from limjax.memory._state import LearningInMemoryState, get_barrier, get_memories, get_memory, spent_kt
from limjax.memory.levels import lsb_for_bits, snap

__all__ = [
    "AbstractHops",
    "Blocks",
    "ExactHops",
    "Field",
    "GaussianHops",
    "Holding",
    "LayerReport",
    "LearningInMemoryState",
    "Ledger",
    "LedgerHistory",
    "MeanHops",
    "PerLeaf",
    "PerParameter",
    "Report",
    "Uniform",
    "as_field",
    "consolidate",
    "get_barrier",
    "get_ledger",
    "get_ledgers",
    "get_memories",
    "get_memory",
    "gradient_tilt",
    "holding",
    "leaf_totals",
    "learning_in_memory",
    "lsb_for_bits",
    "per_parameter",
    "report",
    "retain",
    "snap",
    "spent_kt",
    "total",
]
