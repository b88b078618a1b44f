"""What a run gives: how it ended, its history, its summary."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from limjax import _fingerprints as fingerprints
from limjax.memory import Ledger, LedgerHistory, Report, get_barrier, get_ledger, leaf_totals, report
from limjax.memory._field import as_field
from limjax.memory._history import COLUMNS, HostRow, layers_of
from limjax.memory._ledger import Comparison
from limjax.memory._state import get_memory
from limjax.memory.comparisons._names import STATIC
from limjax.numerics._hosts import whole
from limjax.numerics._result_code import ResultCode
from limjax.numerics.checks import broadcasting
from limjax.physics._abstract_cell import AbstractCell
from limjax.physics.units import YEAR_S
from limjax.training._flops import flops_per_step
from limjax.training._loop import EVALUATION_BATCH, Loop
from limjax.training._plain import PlainRun
from limjax.training._prepare import Run
from limjax.training._verdict import verdict
from limjax.versions import device_name, versions

UNSAVED = "no checkpoint of the end"
"""How the warning of a report begins that says the last checkpoint could not be written."""


_PLAIN = tuple(f"plain_{name}" for name in PlainRun._fields)

LayerSums = list[list[float]]
"""One number per recorded column and layer."""

Result = ResultCode
"""How a run ended."""


class HistoryRow(NamedTuple):
    """Where a run stood after a chunk of steps.

    Attributes:
        step: steps taken.
        loss: mean training loss over the chunk.
        test_loss: loss on up to 256 test examples (NaN without test data).
        test_accuracy: accuracy on the same examples, 0 to 1 (NaN where the task has none).
        heat_kt_per_parameter: cumulative update heat per parameter [kT].
        actuation_kt_per_parameter: cumulative barrier work per parameter [kT].
        static_heat_kt_per_parameter: the same requests under a static barrier at ten years' retention, per parameter [kT] (NaN if
            not compared).
        compared_kt_per_parameter: the same requests on the other memory that was cheapest so far, per parameter [kT] (NaN
            without one).
        barrier_kt: mean barrier of the last step [kT].
        seconds: wall time since the start, over all resumptions [s].
    """

    step: int
    loss: float
    test_loss: float
    test_accuracy: float
    heat_kt_per_parameter: float
    actuation_kt_per_parameter: float
    static_heat_kt_per_parameter: float
    compared_kt_per_parameter: float
    barrier_kt: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """A finished, interrupted or failed run.

    Attributes:
        result: how it ended.
        params: the parameters (of the last good state).
        state: the optimizer's state.
        history: one row per chunk.
        report: the table per layer.
        summary: the numbers of `summary.json`.
        layers: heat, barrier work, path and hops of each layer at the rows of `history`.
    """

    result: Result
    params: PyTree
    state: PyTree
    history: tuple[HistoryRow, ...]
    report: Report
    summary: dict[str, Any]
    layers: LedgerHistory

    @property
    def ledger(self) -> Ledger:
        """The ledger of the run."""
        return get_ledger(self.state)


def history_row(
    loop: Loop, carry: tuple[PyTree, PyTree], step: int, loss: float, seconds: float
) -> tuple[HistoryRow, LayerSums]:
    """Where the run stands, and each layer of it."""
    params, state = carry
    ledger = get_ledger(state)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    per_leaf = {name: leaf_totals(ledger, name) for name in COLUMNS}
    layers = layers_of([ledger], params)
    per_layer = np.zeros((len(COLUMNS), len(layers.names)))
    # A fancy-indexed += would add one of the leaves that share a layer; this adds all of them.
    np.add.at(per_layer.T, list(layers.of_leaves[0]), np.stack(list(per_leaf.values()), axis=1))
    test_loss, test_accuracy = loop.evaluate(params, loop.test_data, EVALUATION_BATCH)
    others = {name: _comparison_kt(sums) / count for name, sums in ledger.compare.items()}
    row = HistoryRow(
        step=step,
        loss=loss,
        test_loss=test_loss,
        test_accuracy=test_accuracy,
        heat_kt_per_parameter=float(per_leaf["heat"].sum()) / count,
        actuation_kt_per_parameter=float(per_leaf["actuation"].sum()) / count,
        static_heat_kt_per_parameter=others.get(STATIC, math.nan),
        compared_kt_per_parameter=min(others.values(), default=math.nan),
        barrier_kt=float(get_barrier(state)),
        seconds=seconds,
    )
    return row, per_layer.tolist()


class Ending(NamedTuple):
    """How a run ended, beside its parameters and state.

    Attributes:
        result: how.
        history: one row per chunk.
        per_layer: the sums of each layer at the last rows of it; a run that an earlier version began has none at the first.
        initial_loss: training loss at the start.
        wall_seconds: over all resumptions [s].
        unsaved: why the last checkpoint could not be written, or None.
        measured: what the machine's counters said, or None where they were not asked.
    """

    result: Result
    history: list[HistoryRow]
    per_layer: list[LayerSums]
    initial_loss: float
    wall_seconds: float
    unsaved: str | None
    measured: dict[str, Any] | None = None


def summarised(run: Run, loop: Loop, carry: tuple[PyTree, PyTree], ending: Ending) -> TrainResult:
    """The result of a run, with its report and summary."""
    cell = run.cell
    params, state = carry
    test_loss, test_accuracy = loop.evaluate(params, loop.test_data)
    train_loss = loop.training_loss(params)
    # On several hosts every process comes by here, and gathers the same arrays in the same order.
    params, state = jax.tree.map(whole, (loop.weights(params), state))
    ledger = get_ledger(state)
    table = report(ledger, params, cell, loss_ratio=_loss_ratio(ending.initial_loss, train_loss))
    # Counted before the next one: a checkpoint that is missing says nothing against the numbers.
    doubts = len(table.warnings)
    if ending.unsaved is not None:
        said = f"{UNSAVED}: {ending.unsaved} The run cannot be resumed from there; its numbers are whole"
        table = dataclasses.replace(table, warnings=(*table.warnings, said))
    total = table.total
    summary = {
        **_told(run),
        "steps": table.steps,
        "parameters": total.parameters,
        "initial_loss": _finite_or_none(ending.initial_loss),
        "train_loss": _finite_or_none(train_loss),
        "test_loss": _finite_or_none(test_loss),
        "test_accuracy": _finite_or_none(test_accuracy),
        "heat_kt": total.heat_kt,
        "heat_kt_per_parameter": total.heat_kt / total.parameters,
        "heat_joules": total.heat_joules,
        "realised_heat_kt": table.realised_kt,
        "actuation_kt": total.actuation_kt,
        "consolidation_kt": total.parameters * _raise_kt(cell, state, params),
        "path_levels": total.path_levels,
        "net_levels": total.net_levels,
        "hops_mean": total.hops,
        "saturated_fraction": total.saturated_fraction,
        "barrier_clipped_fraction": table.barrier_clipped_fraction,
        "static_heat_kt": total.static_kt,
        "comparisons_kt": table.comparisons,
        "compared_with": table.compared_with,
        "ratio": total.ratio,
        "bowl_bound_kt_per_parameter": table.bowl_bound_kt_per_parameter,
        "above_bowl_bound": table.above_bowl_bound,
        "landauer_kt": table.landauer_kt,
        "final_barrier_kt": float(get_barrier(state)),
        **({} if table.device is None else table.device.to_dict()),
        "flops_per_step": _counted_flops(run, params),
        **({} if ending.measured is None else {"measured": ending.measured}),
        "warnings": list(table.warnings),
        "wall_seconds": ending.wall_seconds,
        "device": device_name(),
        "versions": versions(),
        "result": str(ending.result),
        "help": ending.result.help,
        "report": table.to_dict(),
        # Null until `beside_plain` fills them in: the keys of a summary are always the same.
        **dict.fromkeys(_PLAIN),
    }
    summary["verdict"] = verdict(summary, doubts)
    return TrainResult(
        ending.result, params, state, tuple(ending.history), table, summary, _layers(ledger, params, ending)
    )


def _raise_kt(cell: AbstractCell, state: PyTree, params: PyTree) -> float:
    """Work of the last raise, to ten years (docs/ledger.md), mean over the parameters.

    From each height that there is: the work is concave in it, and from the mean height would be too small.
    """
    retention, sizes = cell.retention_barrier(10 * YEAR_S), [leaf.size for leaf in jax.tree.leaves(params)]
    with broadcasting():  # cells that differ against the barriers of a leaf
        work = as_field(get_memory(state).barrier.height).map(lambda b: cell.actuation(b, retention.astype(b.dtype)))
    return float(work.mean(sizes)[0])


def beside_plain(result: TrainResult, plain: PlainRun) -> TrainResult:
    """A result with the plain run of its seed in its summary, and the verdict that follows from both."""
    doubts = sum(not said.startswith(UNSAVED) for said in result.report.warnings)
    numbers = {name: _finite_or_none(value) for name, value in zip(_PLAIN, plain)}
    summary = result.summary | numbers
    return dataclasses.replace(result, summary=summary | {"verdict": verdict(summary, doubts)})


def _layers(ledger: Ledger, params: PyTree, ending: Ending) -> LedgerHistory:
    # A run that an earlier version began has sums for its last rows only.
    known = ending.history[len(ending.history) - len(ending.per_layer) :]
    rows = [HostRow(row.step, row.loss, row.barrier_kt, sums) for row, sums in zip(known, ending.per_layer)]
    return LedgerHistory.of_rows(layers_of([ledger], params), rows)


def _counted_flops(run: Run, params: PyTree) -> float | None:
    try:
        return flops_per_step(run.task, run.inner, run.settings.batch_size, params)
    except Exception:  # the run is over: a count that fails takes none of its numbers with it
        return None


def _told(run: Run) -> dict[str, Any]:
    """What the summary says of the settings."""
    said = run.settings.to_json()
    mesh = None if run.mesh is None else dict(run.mesh.shape)
    if run.settings.memory_device is not None:
        from limjax.devices import get_device  # only where it is asked for: it takes a quarter of all imports

        said["memory_assumed"] = list(get_device(run.settings.memory_device).assumed)
    if run.cell.write_joules is not None:
        said["write_joules"] = run.cell.write_joules
    # The settings know a barrier of one's own by its name alone: its numbers tell it from others of its kind.
    numbers = fingerprints.combined(fingerprints.of_structure(run.barrier), fingerprints.of_arrays(run.barrier))
    named = {"barrier": run.barrier.name, "barrier_settings": said["barrier"], "barrier_fingerprint": numbers}
    return said | {"requested_steps": said.pop("steps"), "mesh": mesh, **named}


def rows_to_json(history: list[HistoryRow]) -> list[list[Any]]:
    """The history as a checkpoint has it: JSON has no NaN."""
    return [[None if isinstance(v, float) and not math.isfinite(v) else v for v in row] for row in history]


def rows_from_json(rows: list[list[Any]]) -> list[HistoryRow]:
    """The history of a checkpoint."""
    return [HistoryRow(int(row[0]), *(math.nan if v is None else float(v) for v in row[1:])) for row in rows]


def _loss_ratio(initial: float, final: float) -> float | None:
    """L0/LT; 0 where one of them is not a positive number, which the report says; None without a training loss."""
    if math.isnan(initial):
        return None
    return initial / final if min(initial, final) > 0 and math.isfinite(final) else 0.0


def _comparison_kt(sums: Comparison) -> float:
    return float(np.sum(sums.heat.float64()) + np.sum(sums.actuation.float64()))


def _finite_or_none(x: float) -> float | None:
    return x if math.isfinite(x) else None
