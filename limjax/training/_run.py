"""Training a task on physical memory: the loop over calls, signals and checkpoints."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import PyTree

from limjax import _fingerprints as fingerprints
from limjax import parallel
from limjax._files import without_nan
from limjax.barriers._base import AbstractBarrier
from limjax.barriers._static import StaticBarrier
from limjax.measure import AbstractCounters, RunMeter
from limjax.memory import AbstractHops, get_ledger
from limjax.memory._hops import HopsName, hops_of
from limjax.memory._ledger import Granularity
from limjax.memory.comparisons._names import Comparable
from limjax.memory.levels import to_levels
from limjax.numerics.checks import WholeNumber
from limjax.physics._abstract_cell import AbstractCell
from limjax.physics._cell import ArrheniusCell
from limjax.tasks import Task, get_task
from limjax.training._loop import Loop
from limjax.training._prepare import Run, prepare
from limjax.training._result import (
    Ending,
    HistoryRow,
    LayerSums,
    Result,
    TrainResult,
    history_row,
    rows_from_json,
    rows_to_json,
    summarised,
)
from limjax.training._same_run import TRACED, check_same_memory, checked_notes, program
from limjax.training._settings import RunSettings, barrier_name, mesh_text
from limjax.versions import versions

OnProgress = Callable[[HistoryRow, float], Any]
"""What is called after every chunk: the new row of history and the seconds left. True ends the run."""

_HISTORY_ROWS = 50
_CALL_SECONDS = 1.0


def train(
    task: Task | str,
    *,
    cell: AbstractCell | None = None,
    barrier: AbstractBarrier | str | None = None,
    optimizer: optax.GradientTransformation | None = None,
    hops: HopsName | AbstractHops = "exact",
    steps: WholeNumber | None = None,
    batch_size: WholeNumber | None = None,
    learning_rate: float | None = None,
    learning_rate_factor: Sequence[float] | None = None,
    seed: WholeNumber = 0,
    granularity: Granularity = "parameter",
    compare: Sequence[Comparable] | Mapping[str, Comparable] | None = None,
    checkpoints: str | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 30.0,
    on_progress: OnProgress | None = None,
    mesh: str | dict[str, int] | Mesh | None = None,
    microbatches: WholeNumber | None = None,
    storage: str | None = None,
    counters: AbstractCounters | None = None,
    stop_at_heat: float | None = None,
    stop_at_loss: float | None = None,
) -> TrainResult:
    """Trains a task with a heat ledger.

    Batches are drawn with replacement from keys that depend on the seed and the step alone, so a resumed run is bit for
    bit the run that was never stopped.

    Args:
        task: a `Task`, or the name of one (`limjax.tasks.task_names()`).
        cell: the memory cell; None takes 1 GHz, 1 ms per step, 300 K and the task's lsb.
        barrier: a barrier, or its name with arguments (`"lyapunov:start=8"`); None takes the task's, or that of a
            device that has one.
        optimizer: the optimizer to wrap; None takes Adam with the task's schedule.
        hops: "mean", "gaussian", "exact" or an object such as `limjax.ExactHops()`. With hop noise the weights start on the ladder.
        steps: number of steps; None takes the task's.
        batch_size: examples per step; None takes the task's.
        learning_rate: peak learning rate; None takes the task's.
        learning_rate_factor: factors on the task's schedule at equal distances over the run, at least two, with a smooth
            curve between their logarithms: `learning_rate_factor` of a tuned design's `tune.json`. None for no factor.
        seed: seed of initialisation, batches and hops.
        granularity: of the ledger.
        compare: other memories to charge for the same updates, as objects or names (`limjax.memory.comparisons`). None takes a static
            barrier at ten years' retention and four that hold for the run only: `limjax.fair_comparisons`, of which the two
            event-driven ones keep a number per parameter each and are left out with `granularity="leaf"`. All together they
            make a step of the digits task about a quarter longer; `()` for none.
        checkpoints: folder for checkpoints, or None for none.
        resume: whether to continue from the newest checkpoint there, if there is one. Settings, optimizer, loss, data, schedule,
            comparisons and random keys have to be those it was saved with; only the mesh may be another one.
        checkpoint_seconds: wall time between checkpoints [s].
        on_progress: called after every chunk (a fiftieth of the steps) with the new history row and the seconds left. Where it
            returns True the run ends there with the result `stopped`, saved like any other; anything else goes on.
        mesh: devices to train on, as `"data=4,model=2"` (`limjax.parallel.make_mesh`); None takes one device. Every process
            of a run on several hosts calls `train` with the same arguments.
        microbatches: on a mesh, in how many pieces a batch is differentiated, a multiple of the number of devices; None
            takes that number, or that of the run to resume. Runs with equal `microbatches` are equal bit for bit on meshes of 1, 2, 4, 8, ... devices.
        storage: "int8" or "int16" keeps the weights as level numbers (`limjax.memory.levels`), for exact hops and a cell with a
            range that fits; None keeps floats. The run is the same.
        counters: of the machine's energy (`limjax.measure.counters_here()`), which the summary then says under `measured`; None for none.
        stop_at_heat: budget of heat and barrier work together, per parameter [kT]: the run ends after the step that spends it, the
            same step whether or not it was interrupted before. A resumed run may be given another one. None for no budget.
        stop_at_loss: the run ends where the training loss, mean over a chunk, is at most this. None trains on.

    Returns:
        The result. Ctrl-C, SIGTERM, SIGHUP and a non-finite loss end the run with a result code, not with an exception: the state
        is saved first, also before the first step. On several hosts a signal to one stops all within a second or two. The third
        signal is raised. A checkpoint that cannot be written is a warning in the report; the run goes on.

    Raises:
        ValueError: for a wrong setting; the message names it and the remedy.

    Example:
        >>> result = train("quadratic", hops="mean", steps=100)
        >>> str(result.result)
        'completed'
    """
    parallel.devices_here()
    with parallel.interrupts_noted():
        # Noted from here on: a signal while the run is being made, too, ends it with a result and a checkpoint.
        task = get_task(task) if isinstance(task, str) else task
        cell = ArrheniusCell(lsb=task.defaults.lsb) if cell is None else cell
        if barrier is None:
            barrier = task.defaults.barrier if cell.own_barrier is None else StaticBarrier(cell.own_barrier)
        kind = hops_of(hops)
        devices = (
            None if mesh is None else parallel.check_mesh(mesh) if isinstance(mesh, Mesh) else parallel.make_mesh(mesh)
        )
        settings = RunSettings.of(
            task,
            cell,
            barrier=barrier_name(barrier),
            hops=kind.name,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_factor=learning_rate_factor,
            seed=seed,
            mesh=None if devices is None else mesh_text(devices.shape),
            microbatches=microbatches,
            storage=storage,
            stop_at_heat=stop_at_heat,
            stop_at_loss=stop_at_loss,
        )
        run = prepare(
            settings,
            task,
            cell=cell,
            barrier=barrier if isinstance(barrier, AbstractBarrier) else None,
            hops=kind,
            optimizer=optimizer,
            compare=compare,
            granularity=granularity,
            mesh=devices,
        )
        return execute(run, checkpoints, resume, checkpoint_seconds, on_progress, counters)


def execute(
    run: Run,
    checkpoints: str | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 30.0,
    on_progress: OnProgress | None = None,
    counters: AbstractCounters | None = None,
) -> TrainResult:
    """Trains a prepared run to its end; arguments, outcome and errors are those of `train`.

    Args:
        run: of `limjax.training.prepare`.
        checkpoints: folder for checkpoints, or None for none.
        resume: whether to continue from the newest checkpoint there, if there is one.
        checkpoint_seconds: wall time between checkpoints [s].
        on_progress: called after every chunk with the new history row and the seconds left; True ends the run.
        counters: of the machine's energy, or None. With them everything is compiled before the training, apart from it.

    Returns:
        The result.
    """
    parallel.devices_here()
    with parallel.interrupts_noted(), _opened(checkpoints) as store:
        newest = store.latest() if store is not None and resume else None
        if store is None or newest is None:
            run, notes = run.settled(), {"history": [], "loss_sum": 0.0}
        else:
            run, notes = _continued(run, store, newest)
        carry, loop = _started(run)
        # At the start, which follows from the seed: of a resumed run, before the checkpoint takes its place.
        initial_loss = loop.training_loss(carry[0])
        if store is not None and newest is None:
            # A resumed run has written one already.
            store.check_room(carry)
        if store is not None and newest is not None:
            state = carry[1]
            # The state at the start is the pattern: it says structure, shapes, dtypes and where arrays lie.
            carry = store.restore(newest, carry, notes.get("checksums"))
            check_same_memory(carry[1], state)
        if store is not None:
            # Those of the first save are handed on: they were traced under the versions that stand beside them.
            notes["fingerprints"] = notes.get("fingerprints") or program(run)
            notes["versions"] = notes.get("versions") or versions()
        meter = None if counters is None else _metered(counters, loop, carry)
        journey = _Journey(run, loop, carry, notes, store)
        before = journey.taken
        with contextlib.nullcontext() if meter is None else meter.window("training"):
            result, seconds = journey.to_end(checkpoint_seconds, on_progress)
        # Joules per step of this sitting: steps before a resume were not in the window.
        measured = None if meter is None else meter.summary(journey.taken - before)
        history, per_layer = journey.to_here(seconds)
        ending = Ending(result, history, per_layer, initial_loss, seconds, journey.unsaved, measured)
        return summarised(run, loop, journey.carry, ending)


def _metered(counters: AbstractCounters, loop: Loop, carry: tuple[PyTree, PyTree]) -> RunMeter:
    """A meter that has seen the idle machine, and compiling apart from the training."""
    meter = RunMeter(counters)
    meter.idle()
    with meter.window("compilation"):
        # No step and one row: all that the training runs is compiled, and its energy stands apart.
        loop.advance(carry, 0.0, 0)
        history_row(loop, carry, 0, math.nan, 0.0)
    return meter


def _continued(run: Run, store: Any, newest: int) -> tuple[Run, dict[str, Any]]:
    """The run with the settings of the one that was saved, which are the same, and the notes of its checkpoint."""
    notes = checked_notes(store.notes(newest), lambda cause: store.unreadable(newest, cause))
    try:
        saved = RunSettings.from_json(notes["settings"])
    except ValueError as error:
        raise store.unreadable(newest, f"'settings' in notes/metadata: {error}") from None
    settings = run.settings
    if settings.microbatches is None and run.mesh is not None:
        # Else the mesh of now would set it, and gradients would be summed in another order.
        settings = dataclasses.replace(settings, microbatches=saved.microbatches)
    # Of a barrier and a cell the checkpoint has the numbers themselves, and their kinds among the fingerprints.
    given = vars(settings) | {"barrier": run.barrier.name}
    # `bits` is known where the run came from the command line; the range that it means is among the cell's numbers.
    known = RunSettings.names_in(notes["settings"]) - {"bits"}
    saved.continued(f"The run with checkpoints in {store.folder}", {k: v for k, v in given.items() if k in known})
    run = run.settled(settings)
    same_versions = notes.get("versions") == versions()
    fresh = {name: value for name, value in program(run).items() if same_versions or name not in TRACED}
    store.check_same_program(notes.get("fingerprints", {}), fresh, fingerprints.UNKNOWN)
    return run, notes


def _started(run: Run) -> tuple[tuple[PyTree, PyTree], Loop]:
    """Parameters and state at the start, on their devices, and the compiled parts."""
    params = run.params()
    if run.mesh is None:
        state = run.optimizer.init(params)
    else:
        params = parallel.place(params, parallel.parameter_shardings(params, run.mesh))
        state = parallel.init_state(run.optimizer.init, params, run.mesh)
    storage = run.settings.storage
    if storage is None:
        return (params, state), Loop(run)
    dtypes = jax.tree.map(lambda p: p.dtype, params)
    # The state was made of the weights: the optimizer never sees level numbers, nor the dtype they are kept in.
    return (to_levels(params, run.cell, storage), state), Loop(run, (run.cell, dtypes))


@contextlib.contextmanager
def _opened(folder: str | None) -> Iterator[Any]:
    """The checkpoints in a folder, or None without one."""
    if folder is None:
        yield None
        return
    from limjax.checkpoints import Checkpoints  # orbax takes a second to import

    store = Checkpoints(folder)
    try:
        yield store
    finally:
        store.close()


class _Journey:
    """A run under way: where it stands, and what a checkpoint of it holds."""

    def __init__(self, run: Run, loop: Loop, carry: tuple[PyTree, PyTree], notes: dict[str, Any], store: Any):
        self._run, self._loop, self._notes, self._store = run, loop, notes, store
        self.carry = carry
        self.history = rows_from_json(notes["history"])
        self._per_layer = [*notes.get("layers", [])]
        self.unsaved: str | None = None
        self._loss_sum = notes.get("loss_sum", 0.0)
        self.taken = int(get_ledger(carry[1]).steps)
        self._before = self.history[-1].seconds if self.history else 0.0
        self._started = time.monotonic()

    def to_end(self, checkpoint_seconds: float, on_progress: OnProgress | None):
        """Trains until all steps are taken, a signal comes or a number is not finite; saves; returns how it ended, and the seconds."""
        try:
            with parallel.interrupts_noted() as interrupted:
                result = self._train(interrupted, checkpoint_seconds, on_progress)
        except KeyboardInterrupt:
            if jax.process_count() > 1:  # the third one: the others cannot be asked to save any more
                raise
            result = Result.interrupted
            # `_advance` adds the row of a chunk before it moves the carry: an interrupt between leaves one too many.
            earlier = len(self.history) - len(self._per_layer)
            self.history = [row for row in self.history if row.step <= int(get_ledger(self.carry[1]).steps)]
            self._per_layer = self._per_layer[: max(len(self.history) - earlier, 0)]
        self._save()
        return result, self._seconds()

    def to_here(self, seconds: float) -> tuple[list[HistoryRow], list[LayerSums]]:
        """The history with a row for where the run ended; checkpoints have none between chunks, where a run that goes on has none."""
        steps = int(get_ledger(self.carry[1]).steps)
        before = self.history[-1].step if self.history else 0
        if steps <= before:
            return self.history, self._per_layer
        row, sums = history_row(self._loop, self.carry, steps, self._loss_sum / (steps - before), seconds)
        return [*self.history, row], [*self._per_layer, sums]

    def _train(
        self, interrupted: Callable[[], bool], checkpoint_seconds: float, on_progress: OnProgress | None
    ) -> Result:
        steps = self._run.settings.steps
        # A row of history after every chunk; between them calls of a second or so, to hear Ctrl-C and to save.
        chunk, piece = max(1, math.ceil(steps / _HISTORY_ROWS)), 1
        saved, timed = self._started, None
        # All processes leave together: one that stayed would wait for the others for ever.
        if any(parallel.any_process(interrupted())):
            return Result.interrupted
        while self.taken < steps:
            # Chunks end at whole multiples, so that a resumed run evaluates where the other would have.
            count = min(piece, chunk - self.taken % chunk, steps - self.taken)
            called, asked = time.monotonic(), False
            # Before the call: a resumed run whose target is met takes no further step.
            if self._is_reached():
                return Result.reached
            wanted = self.taken + count
            if not self._advance(count, chunk):
                return Result.nonfinite
            now = time.monotonic()
            slow = now - called > _CALL_SECONDS
            if on_progress is not None and self.history and self.history[-1].step == self.taken:
                # Time is taken from the first row on, behind compiling.
                timed = (self.taken, now) if timed is None else timed
                speed = (self.taken - timed[0]) / max(now - timed[1], 1e-9)
                said = on_progress(self.history[-1], (steps - self.taken) / speed if speed > 0 else math.nan)
                # A callback that returns a number, a text or an array does not mean to end the run.
                asked = isinstance(said, bool | np.bool_) and bool(said)
            # Only a budget ends the loop on the device before its count.
            if self.taken < wanted:
                return Result.spent
            # One answer for all, also to how long a call took: the next one has as many steps on every process.
            stop, asked, due, slow = parallel.any_process(interrupted(), asked, now - saved > checkpoint_seconds, slow)
            piece = max(1, piece // 2) if slow else 2 * piece
            if stop:
                return Result.interrupted
            if asked and self.taken < steps:
                return Result.stopped
            if due:
                self._save()
                saved = time.monotonic()
        return Result.completed

    def _is_reached(self) -> bool:
        target = self._run.settings.stop_at_loss
        return target is not None and bool(self.history) and self.history[-1].loss <= target

    def _advance(self, count: int, chunk: int) -> bool:
        """Takes some steps, and a row of history at the end of a chunk; keeps the last good state if a number is not finite."""
        carry, total, finite, taken = self._loop.advance(self.carry, self._loss_sum, count)
        if not finite:
            return False
        # The budget was spent before: no step, no loss to average, and no second row for the same step.
        if taken == 0:
            return True
        reached = self.taken + taken
        ended = reached % chunk == 0 or reached == self._run.settings.steps
        if ended:
            # The last chunk of a run may be shorter than the others.
            mean = total / (reached - (reached - 1) // chunk * chunk)
            row, sums = history_row(self._loop, carry, reached, mean, self._seconds())
            self.history.append(row)
            self._per_layer.append(sums)
        # Last, so that an interrupt in between leaves the state of the call before.
        self.carry, self.taken, self._loss_sum = carry, reached, 0.0 if ended else total
        return True

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def _save(self) -> None:
        if self._store is None:
            return
        notes = {
            "history": rows_to_json(self.history),
            "layers": without_nan(self._per_layer),
            "loss_sum": self._loss_sum,
            "settings": self._run.settings.to_json() | {"barrier": self._run.barrier.name},
            **{name: self._notes[name] for name in ("fingerprints", "versions")},
        }
        try:
            self._store.save(int(get_ledger(self.carry[1]).steps), self.carry, notes)
            self.unsaved = None
        except OSError as error:  # the training goes on: its numbers can still be kept
            self.unsaved = str(error)
