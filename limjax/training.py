"""Training a task on physical memory: the compiled loop, its history, checkpoints and outcome."""

import contextlib
import dataclasses
import enum
import importlib
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from limjax import fingerprints, parallel
from limjax.barriers.base import AbstractBarrier
from limjax.barriers.scheduled import ScheduledBarrier
from limjax.barriers.specification import barrier_from_name
from limjax.comparisons.names import FAIR, STATIC, Comparable, named_comparisons
from limjax.comparisons.noisy_event import NoisyEventWrite
from limjax.hops import HopsName
from limjax.ledger import Comparison, Granularity, Ledger, get_ledger, leaf_totals
from limjax.levels import apply_updates, snap, to_levels, to_weights
from limjax.numerics.checks import INT32_MAX, WholeNumber, is_whole, positive_number, whole_number
from limjax.numerics.hosts import whole
from limjax.optimizer import get_barrier, get_memory, learning_in_memory
from limjax.physics.abstract_cell import AbstractCell
from limjax.physics.cell import ArrheniusCell
from limjax.physics.units import YEAR_S
from limjax.report import Report, report
from limjax.tasks import Task, get_task
from limjax.tasks.task import log_rate_factor

_HISTORY_ROWS = 50
_CALL_SECONDS = 1.0
_EVALUATION_BATCH = 256
UNSAVED = "no checkpoint of the end"
"""How the warning of a report begins that says the last checkpoint could not be written."""
_TRAIN_LOSS_EXAMPLES = 4096


class Result(enum.StrEnum):
    """How a run ended."""

    completed = "completed"
    interrupted = "interrupted"
    nonfinite = "nonfinite"

    @property
    def help(self) -> str:
        """What it means and what to do."""
        return {
            "completed": "All steps were taken.",
            "interrupted": "The run was stopped and saved; the same command with --resume takes it to its end.",
            "nonfinite": (
                "The loss or a weight became infinite or NaN; the last good state was kept. Lower the learning rate, raise "
                "the barrier (less hop noise) or use a finer lsb."
            ),
        }[self.value]


class HistoryRow(NamedTuple):
    """Where a run stood after a chunk of steps.

    Attributes:
        step: steps taken.
        loss: mean training loss over the chunk.
        test_loss: loss on up to 256 test examples (NaN without test data).
        test_accuracy: accuracy on the same examples, 0 to 1 (NaN where the task has none).
        heat_kt: cumulative update heat per parameter [kT].
        actuation_kt: cumulative barrier work per parameter [kT].
        static_heat_kt: the same requests under a static barrier at ten years' retention, per parameter [kT] (NaN if not compared).
        compared_kt: the same requests on the other memory that was cheapest so far, per parameter [kT] (NaN without one).
        barrier_kt: mean barrier of the last step [kT].
        seconds: wall time since the start, over all resumptions [s].
    """

    step: int
    loss: float
    test_loss: float
    test_accuracy: float
    heat_kt: float
    actuation_kt: float
    static_heat_kt: float
    compared_kt: float
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
    """

    result: Result
    params: PyTree
    state: PyTree
    history: tuple[HistoryRow, ...]
    report: Report
    summary: dict[str, Any]

    @property
    def ledger(self) -> Ledger:
        """The ledger of the run."""
        return get_ledger(self.state)


def train(
    task: Task | str,
    *,
    cell: AbstractCell | None = None,
    barrier: AbstractBarrier | str | None = None,
    optimizer: optax.GradientTransformation | None = None,
    hops: HopsName = "exact",
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
    on_progress: Callable[[HistoryRow, float], None] | None = None,
    mesh: str | dict[str, int] | Mesh | None = None,
    microbatches: WholeNumber | None = None,
    storage: str | None = None,
) -> TrainResult:
    """Trains a task with a heat ledger.

    Batches are drawn with replacement from keys that depend on the seed and the step alone, so a resumed run is bit for
    bit the run that was never stopped.

    Args:
        task: a `Task`, or the name of one (`limjax.tasks.task_names()`).
        cell: the memory cell; None takes 1 GHz, 1 ms per step, 300 K and the task's lsb.
        barrier: a barrier, or its name with arguments (`"lyapunov:start=8"`); None takes the task's.
        optimizer: the optimizer to wrap; None takes Adam with the task's schedule.
        hops: "mean", "gaussian" or "exact". With hop noise the weights start on the ladder.
        steps: number of steps; None takes the task's.
        batch_size: examples per step; None takes the task's.
        learning_rate: peak learning rate; None takes the task's.
        learning_rate_factor: factors on the task's schedule at equal distances over the run, at least two, with a smooth
            curve between their logarithms: `learning_rate_factor` of a tuned design's `tune.json`. None for no factor.
        seed: seed of initialisation, batches and hops.
        granularity: of the ledger.
        compare: other memories to charge for the same updates, as objects or names (`limjax.comparisons`). None takes a static
            barrier at ten years' retention and four that hold for the run only: `limjax.fair_comparisons`, of which the two
            event-driven ones keep a number per parameter each and are left out with `granularity="leaf"`. All together they
            make a step of the digits task about a quarter longer; `()` for none.
        checkpoints: folder for checkpoints, or None for none.
        resume: whether to continue from the newest checkpoint there, if there is one. Settings, optimizer, loss, data, schedule,
            comparisons and random keys have to be those it was saved with; only the mesh may be another one.
        checkpoint_seconds: wall time between checkpoints [s].
        on_progress: called after every chunk with the new history row and the seconds left.
        mesh: devices to train on, as `"data=4,model=2"` (`limjax.parallel.make_mesh`); None takes one device. Every process
            of a run on several hosts calls `train` with the same arguments.
        microbatches: on a mesh, in how many pieces a batch is differentiated, a multiple of the number of devices; None
            takes that number, or that of the run to resume. Runs with equal `microbatches` are equal bit for bit on meshes of 1, 2, 4, 8, ... devices.
        storage: "int8" or "int16" keeps the weights as level numbers (`limjax.levels`), for exact hops and a cell with a
            range that fits; None keeps floats. The run is the same.

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
        return _train(
            task,
            cell=cell,
            barrier=barrier,
            optimizer=optimizer,
            hops=hops,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_factor=learning_rate_factor,
            seed=seed,
            granularity=granularity,
            compare=compare,
            checkpoints=checkpoints,
            resume=resume,
            checkpoint_seconds=checkpoint_seconds,
            on_progress=on_progress,
            mesh=mesh,
            microbatches=microbatches,
            storage=storage,
        )


def _train(
    task, *, cell, barrier, optimizer, hops, steps, batch_size, learning_rate, learning_rate_factor, seed, granularity,
    compare, checkpoints, resume, checkpoint_seconds, on_progress, mesh, microbatches, storage,
) -> TrainResult:  # fmt: skip
    """`train`, while signals are noted instead of raised."""
    task = get_task(task) if isinstance(task, str) else task
    steps = whole_number(task.defaults.steps if steps is None else steps, "steps", 1, INT32_MAX)
    batch_size = whole_number(task.defaults.batch_size if batch_size is None else batch_size, "batch_size")
    rate = task.defaults.learning_rate if learning_rate is None else learning_rate
    rate = positive_number(rate, "learning_rate")
    seed = whole_number(seed, "seed", 0, 2**32 - 1, said="from 0 to 2**32 - 1")
    if task.train is not None:
        task.check_batch_size(batch_size)
    cell = ArrheniusCell(lsb=task.defaults.lsb) if cell is None else cell
    schedule = task.defaults.make_schedule(rate, steps, log_rate_factor(learning_rate_factor))
    barrier = task.defaults.barrier if barrier is None else barrier
    if isinstance(barrier, str):
        barrier = barrier_from_name(barrier, cell, steps, schedule)
    inner = task.defaults.make_optimizer(schedule) if optimizer is None else optimizer
    init_key, data_key, hop_key = jax.random.split(jax.random.key(seed), 3)
    if compare is None:
        fair = FAIR if granularity == "parameter" else FAIR[:2]
        compare = (STATIC, *(name for name in fair if not cell.varied or name != NoisyEventWrite.name))
    others = named_comparisons(compare, cell, steps)

    def program():
        drawn_from = None if optimizer is not None else schedule
        # The numbers of a comparison by name follow from the cell and the length, which are compared themselves.
        asked = compare.values() if isinstance(compare, Mapping) else compare
        own = [item for item in asked or () if not isinstance(item, str)]
        return _program(task, inner, drawn_from, barrier, others, own, batch_size, (init_key, data_key, hop_key))

    opt = learning_in_memory(inner, cell, barrier, hops=hops, key=hop_key, granularity=granularity, compare=others)
    params = task.init(init_key)
    if storage is not None:
        to_levels((), cell, storage)
        if hops != "exact":
            raise ValueError(f'storage="{storage}" keeps whole levels, which needs hops="exact"; got hops={hops!r}.')
    if hops != "mean":
        params = snap(params, cell)
    if mesh is not None:
        mesh = parallel.check_mesh(mesh) if isinstance(mesh, Mesh) else parallel.make_mesh(mesh)
    elif microbatches is not None:
        raise ValueError('microbatches needs a mesh: pass mesh="data=1", or leave it out.')
    elif jax.process_count() > 1:
        raise ValueError(
            f"{jax.process_count()} processes would each train the same run alone: pass a mesh over all {jax.device_count()} "
            f'devices, for example mesh="data={jax.device_count()}".'
        )
    settings = {
        "task": task.name,
        "requested_steps": steps,
        "barrier": barrier.name,
        "hops": hops,
        "seed": seed,
        "batch_size": batch_size,
        "learning_rate": rate,
        "learning_rate_factor": None if learning_rate_factor is None else [float(x) for x in learning_rate_factor],
        **{name: _recorded(getattr(cell, name)) for name in ("lsb", "attempt_rate", "step_time", "temperature")},
        "mesh": None if mesh is None else dict(mesh.shape),
        "microbatches": microbatches,
        "storage": storage,
    }
    with _opened(checkpoints) as store:
        newest = store.latest() if store is not None and resume else None
        notes: dict[str, Any] = {"history": [], "loss_sum": 0.0, "settings": {}}
        if store is not None and newest is not None:
            notes = _checked_notes(store.notes(newest), lambda cause: store.unreadable(newest, cause))
        if mesh is not None:
            wanted = notes["settings"].get("microbatches") if microbatches is None else microbatches
            settings["microbatches"] = parallel.check_microbatches(wanted, mesh.devices.size)
        if store is not None and newest is not None:
            store.check_same_run(notes["settings"], settings)
            same_versions = notes.get("versions") == versions()
            given = {k: v for k, v in program().items() if same_versions or k not in _TRACED}
            store.check_same_program(notes.get("fingerprints", {}), given, fingerprints.UNKNOWN)
        if mesh is None:
            state = opt.init(params)
        else:
            params = parallel.place(params, parallel.parameter_shardings(params, mesh))
            state = parallel.init_state(opt.init, params, mesh)
        levels_of = None if storage is None else (cell, jax.tree.map(lambda p: p.dtype, params))
        loop = _Loop(task, opt, batch_size, data_key, mesh, settings["microbatches"], levels_of)
        carry = (params if storage is None else to_levels(params, cell, storage)), state
        initial_loss = loop.training_loss(carry[0])
        if store is not None:
            if newest is None:
                store.check_room(carry)
            else:
                carry = store.restore(newest, carry, notes.get("checksums"))
                _check_same_memory(carry[1], state)
            notes["fingerprints"] = notes.get("fingerprints") or program()
            notes["versions"] = notes.get("versions") or versions()
        return _run(loop, carry, notes, cell, steps, store, checkpoint_seconds, on_progress, settings, initial_loss)


# Fingerprints of traced programs, which are the same only under the same versions of JAX and its kin.
_TRACED = ("optimizer", "loss", "schedule", "barrier", "list of comparisons")


def _program(task: Task, inner, schedule, barrier, others, own, batch_size: int, keys) -> dict[str, str]:
    """Fingerprints of all that numbers in the settings do not say."""
    params = jax.eval_shape(task.init, keys[0])
    inner = optax.with_extra_args_support(inner)

    def update(gradient, params, loss):
        return inner.update(gradient, inner.init(params), params, value=loss)

    def batch_of(x):
        return jax.ShapeDtypeStruct((batch_size, *np.shape(x)[1:]), jnp.asarray(x[:1]).dtype)

    def policy(tree):
        scheduled = [b for b in jax.tree.leaves(tree, is_leaf=_is_scheduled) if _is_scheduled(b)]
        drawn = [fingerprints.of_function(b.schedule, jax.ShapeDtypeStruct((), jnp.int32)) for b in scheduled]
        return fingerprints.combined(fingerprints.of_structure(tree), *drawn)

    step = jax.ShapeDtypeStruct((), jnp.int32)
    found = {
        "random key": fingerprints.of_key(*keys),
        "training data": fingerprints.of_arrays(task.train),
        "test data": fingerprints.of_arrays(task.test),
        "loss": fingerprints.of_function(task.loss, params, jax.tree.map(batch_of, task.train)),
        "optimizer": fingerprints.of_function(update, params, params, jax.ShapeDtypeStruct((), jnp.result_type(float))),
        "barrier": policy(barrier),
        "list of comparisons": fingerprints.combined(policy(others), fingerprints.of_arrays(own)),
    }
    if schedule is not None:
        found["schedule"] = fingerprints.of_function(schedule, step)
    return found


def _is_scheduled(x: Any) -> bool:
    return isinstance(x, ScheduledBarrier)


def _checked_notes(notes: dict[str, Any], damaged: Callable[[str], ValueError]) -> dict[str, Any]:
    """The notes of a checkpoint, or an error that names what is wrong with them."""
    kinds = {
        "history": list,
        "loss_sum": int | float,
        "settings": dict,
        "fingerprints": dict,
        "versions": dict,
        "checksums": dict,
    }
    for name, kind in kinds.items():
        value = notes.get(name)
        if name not in notes:
            if name in ("history", "settings"):
                raise damaged(f"notes/metadata has no {name!r}")
        elif not isinstance(value, kind) or isinstance(value, bool):
            raise damaged(f"{name!r} in notes/metadata is {str(value)[:40]}")
    for i, row in enumerate(notes["history"]):
        is_row = isinstance(row, list) and len(row) == len(HistoryRow._fields) and is_whole(row[0])
        if not is_row or not all(v is None or (isinstance(v, int | float) and not isinstance(v, bool)) for v in row):
            raise damaged(
                f"row {i} of 'history' in notes/metadata is {str(row)[:40]}, not {len(HistoryRow._fields)} numbers"
            )
    return notes


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


def _check_same_memory(saved: PyTree, given: PyTree) -> None:
    """Refuses a restored state whose cell or barrier has other numbers than the ones asked for: it holds its own."""
    before, now = get_memory(saved), get_memory(given)
    pairs = zip(
        jax.tree_util.tree_leaves_with_path({"cell": before.cell, "barrier": before.barrier.policy}),
        jax.tree.leaves({"cell": now.cell, "barrier": now.barrier.policy}),
    )
    for (path, old), new in pairs:
        if not np.array_equal(np.asarray(old), np.asarray(new)):
            raise ValueError(
                f"The checkpoint is of a run with another {path[0].key}: {jax.tree_util.keystr(path[1:])} is "
                f"{np.asarray(old)}, but {np.asarray(new)} was given. A resumed run keeps its settings: pass the same ones, or "
                "start a new run in another folder."
            )


def training_step(
    task: Task,
    optimizer: optax.GradientTransformationExtraArgs,
    batch_size: int,
    value_and_grad: Callable[[PyTree, PyTree], tuple[Array, PyTree]] | None = None,
    levels_of: tuple[AbstractCell, PyTree] | None = None,
) -> Callable[[tuple[PyTree, PyTree], PyTree, Array], tuple[tuple[PyTree, PyTree], Array]]:
    """One step of training: draw a batch by the step's number, differentiate the loss, update.

    Args:
        task: the task.
        optimizer: a `learning_in_memory` optimizer, or a chain with one.
        batch_size: examples per step.
        value_and_grad: loss and gradient of parameters and a batch; None takes `jax.value_and_grad(task.loss)`.
        levels_of: the cell whose level numbers stand for the parameters, and the dtypes of these; None for parameters that
            are weights.

    Returns:
        A function of `((params, state), training data, key)` that returns the new `(params, state)` and the loss.
    """

    differentiated = jax.value_and_grad(task.loss) if value_and_grad is None else value_and_grad

    def batch_at(data, step, key):
        if data is None:
            return None
        size = jax.tree.leaves(data)[0].shape[0]
        index = jax.random.randint(jax.random.fold_in(key, step), (batch_size,), 0, size)
        return jax.tree.map(lambda x: x[index], data)

    def one_step(carry, data, key):
        params, state = carry
        batch = batch_at(data, get_ledger(state).steps, key)
        weights = params if levels_of is None else to_weights(params, *levels_of)
        loss, gradient = differentiated(weights, batch)
        updates, state = optimizer.update(gradient, state, weights, value=loss)
        if levels_of is None:
            return (optax.apply_updates(params, updates), state), loss
        # A whole number cannot be NaN: the loss says it instead.
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(u)) for u in jax.tree.leaves(updates)]))
        return (apply_updates(params, updates, levels_of[0]), state), jnp.where(finite, loss, jnp.nan)

    return one_step


def _shardings(carry: tuple[PyTree, PyTree], mesh: Mesh) -> PyTree:
    return parallel.parameter_shardings(carry, mesh, carry[0])


class _Loop:
    """The compiled parts of a run."""

    def __init__(
        self,
        task: Task,
        optimizer: optax.GradientTransformationExtraArgs,
        batch_size: int,
        data_key: Array,
        mesh: Mesh | None = None,
        microbatches: int | None = None,
        levels_of: tuple[AbstractCell, PyTree] | None = None,
    ):
        self.task = task
        self.weights = jax.jit(lambda p: p if levels_of is None else to_weights(p, *levels_of))
        if mesh is None:
            self.train_data = jax.tree.map(jnp.asarray, task.train)
            self.test_data = jax.tree.map(jnp.asarray, task.test)
            gradient, self._data_key = None, data_key
        else:
            everywhere = parallel.replicated(mesh)
            self.train_data = parallel.place(task.train, everywhere)
            self.test_data = parallel.place(task.test, everywhere)
            self._data_key = jax.random.wrap_key_data(parallel.place(jax.random.key_data(data_key), everywhere))
            gradient = parallel.value_and_grad(task.loss, mesh, microbatches)

        one_step = training_step(task, optimizer, batch_size, gradient, levels_of)

        def advance(carry, total, data, key, count):
            def body(_, loop):
                carry, total, finite = loop
                carry, loss = one_step(carry, data, key)
                if mesh is not None:
                    carry = jax.lax.with_sharding_constraint(carry, _shardings(carry, mesh))
                loss = loss.astype(total.dtype)
                return carry, total + loss, finite & jnp.isfinite(loss)

            carry, total, finite = jax.lax.fori_loop(0, count, body, (carry, total, jnp.array(True)))
            finite &= jnp.all(jnp.stack([jnp.all(jnp.isfinite(p)) for p in jax.tree.leaves(carry[0])]))
            return carry, total, finite

        # The number of steps is traced, so that a remainder or a resumed run does not compile again.
        self._advance = jax.jit(advance)
        self._loss = jax.jit(task.loss)
        self._accuracy = None if task.accuracy is None else jax.jit(task.accuracy)

    def advance(self, carry, loss_sum: float, count: int):
        """Takes some steps; returns the new carry, the sum of the losses so far, and whether all is finite."""
        # NumPy: on several hosts a JAX number of this process alone could not join the arrays of all.
        total = np.asarray(loss_sum, jnp.result_type(float))
        carry, total, finite = self._advance(carry, total, self.train_data, self._data_key, np.int32(count))
        return carry, float(total), bool(finite)

    def training_loss(self, params) -> float:
        """Mean loss over (the first thousands of) the training data."""
        return self.evaluate(params, self.train_data, _TRAIN_LOSS_EXAMPLES)[0]

    def evaluate(self, params, data, limit: int | None = None) -> tuple[float, float]:
        """Mean loss and accuracy over (the first `limit` of) a data set, in pieces."""
        params = self.weights(params)
        if data is None:
            return (float(self._loss(params, None)), math.nan) if self.task.train is None else (math.nan, math.nan)
        size = jax.tree.leaves(data)[0].shape[0]
        size = size if limit is None else min(size, limit)
        losses, accuracies, weights = [], [], []
        for begin in range(0, size, _EVALUATION_BATCH):
            stop = min(begin + _EVALUATION_BATCH, size)
            piece = jax.tree.map(lambda x, begin=begin, stop=stop: x[begin:stop], data)
            losses.append(float(self._loss(params, piece)))
            accuracies.append(math.nan if self._accuracy is None else float(self._accuracy(params, piece)))
            weights.append(stop - begin)
        return float(np.average(losses, weights=weights)), float(np.average(accuracies, weights=weights))


def _run(
    loop, carry, notes, cell, steps, store, checkpoint_seconds, on_progress, settings, initial_loss
) -> TrainResult:
    history = [_row_from_json(row) for row in notes["history"]]
    loss_sum = notes.get("loss_sum", 0.0)
    taken = int(get_ledger(carry[1]).steps)
    before = history[-1].seconds if history else 0.0
    # A row of history after every chunk; between them calls of a second or so, to hear Ctrl-C and to save.
    chunk, piece = max(1, math.ceil(steps / _HISTORY_ROWS)), 1
    result = Result.completed
    started = saved = time.monotonic()
    timed = None

    unsaved: list[str] = []

    def save():
        if store is None:
            return
        rows = [[None if isinstance(v, float) and not math.isfinite(v) else v for v in row] for row in history]
        kept = {name: notes[name] for name in ("fingerprints", "versions")}
        now = {"history": rows, "loss_sum": loss_sum, "settings": settings, **kept}
        try:
            store.save(int(get_ledger(carry[1]).steps), carry, now)
            unsaved.clear()
        except OSError as error:  # the training goes on: its numbers can still be kept
            unsaved[:] = [str(error)]

    try:
        with parallel.interrupts_noted() as interrupted:
            if any(parallel.any_process(interrupted())):
                result = Result.interrupted
            while taken < steps and result is Result.completed:
                # Chunks end at whole multiples, so that a resumed run evaluates where the other would have.
                count = min(piece, chunk - taken % chunk, steps - taken)
                called = time.monotonic()
                new_carry, new_sum, finite = loop.advance(carry, loss_sum, count)
                slow = time.monotonic() - called > _CALL_SECONDS
                if not finite:
                    result = Result.nonfinite
                    break
                reached = taken + count
                ended = reached % chunk == 0 or reached == steps
                if ended:
                    mean = new_sum / (reached - (reached - 1) // chunk * chunk)
                    history.append(_history_row(loop, new_carry, reached, mean, before + time.monotonic() - started))
                carry, taken, loss_sum = new_carry, reached, 0.0 if ended else new_sum
                now = time.monotonic()
                if ended and on_progress is not None:
                    timed = (taken, now) if timed is None else timed
                    speed = (taken - timed[0]) / max(now - timed[1], 1e-9)
                    on_progress(history[-1], (steps - taken) / speed if speed > 0 else math.nan)
                stop, due, slow = parallel.any_process(interrupted(), now - saved > checkpoint_seconds, slow)
                piece = max(1, piece // 2) if slow else 2 * piece
                if stop:
                    result = Result.interrupted
                    break
                if due:
                    save()
                    saved = time.monotonic()
    except KeyboardInterrupt:
        if jax.process_count() > 1:  # the third one: the others cannot be asked to save any more
            raise
        result = Result.interrupted
        history = [row for row in history if row.step <= int(get_ledger(carry[1]).steps)]
    with parallel.interrupts_noted():
        save()
    wall_seconds = before + time.monotonic() - started
    return _result(loop, carry, cell, steps, history, result, settings, wall_seconds, initial_loss, unsaved)


def _history_row(loop: _Loop, carry, step: int, loss: float, seconds: float) -> HistoryRow:
    params, state = carry
    ledger = get_ledger(state)
    count = _parameter_count(params)
    test_loss, test_accuracy = loop.evaluate(params, loop.test_data, _EVALUATION_BATCH)
    others = {name: _comparison_kt(sums) / count for name, sums in ledger.compare.items()}
    return HistoryRow(
        step=step,
        loss=loss,
        test_loss=test_loss,
        test_accuracy=test_accuracy,
        heat_kt=float(leaf_totals(ledger, "heat").sum()) / count,
        actuation_kt=float(leaf_totals(ledger, "actuation").sum()) / count,
        static_heat_kt=others.get(STATIC, math.nan),
        compared_kt=min(others.values(), default=math.nan),
        barrier_kt=float(get_barrier(state)),
        seconds=seconds,
    )


def _result(loop, carry, cell, steps, history, result, settings, wall_seconds, initial_loss, unsaved) -> TrainResult:
    params, state = carry
    test_loss, test_accuracy = loop.evaluate(params, loop.test_data)
    train_loss = loop.training_loss(params)
    params, state = jax.tree.map(whole, (loop.weights(params), state))
    ledger = get_ledger(state)
    table = report(ledger, params, cell, loss_ratio=_loss_ratio(initial_loss, train_loss))
    if unsaved:
        said = f"{UNSAVED}: {unsaved[0]} The run cannot be resumed from there; its numbers are whole"
        table = dataclasses.replace(table, warnings=(*table.warnings, said))
    total = table.total
    retention = cell.retention_barrier(10 * YEAR_S)
    summary = {
        **settings,
        "steps": table.steps,
        "requested_steps": steps,
        "parameters": total.parameters,
        "initial_loss": _finite_or_none(initial_loss),
        "train_loss": train_loss,
        "test_loss": _finite_or_none(test_loss),
        "test_accuracy": _finite_or_none(test_accuracy),
        "heat_kt": total.heat_kt,
        "heat_kt_per_parameter": total.heat_kt / total.parameters,
        "heat_joules": total.heat_joules,
        "realised_heat_kt": table.realised_kt,
        "actuation_kt": total.actuation_kt,
        "consolidation_kt": total.parameters * float(jnp.mean(cell.actuation(get_barrier(state), retention))),
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
        "warnings": list(table.warnings),
        "wall_seconds": wall_seconds,
        "device": _device(),
        "versions": versions(),
        "result": str(result),
    }
    return TrainResult(result, params, state, tuple(history), table, summary)


def _row_from_json(row: list[Any]) -> HistoryRow:
    """A history row from a checkpoint, where JSON has no NaN."""
    return HistoryRow(int(row[0]), *(math.nan if value is None else float(value) for value in row[1:]))


def _recorded(value: Any) -> float | dict[str, Any]:
    """A cell's number for the settings of a run; of numbers that vary from device to device shape, mean and range."""
    numbers = np.asarray(value, np.float64)
    if numbers.ndim == 0:
        return float(numbers)
    least, mean, greatest = float(numbers.min()), float(numbers.mean()), float(numbers.max())
    return {"shape": list(numbers.shape), "least": least, "mean": mean, "greatest": greatest}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that determine a run's numbers."""
    packages = ("limjax", "jax", "jaxlib", "equinox", "optax", "numpy")
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


def _version(name: str) -> str:
    """That of the module which runs, whether it was installed or lies in a folder on the path."""
    return getattr(importlib.import_module(name), "__version__", None) or metadata.version(name)


def _device() -> str:
    device = jax.devices()[0]
    return f"{device.platform}:{device.device_kind}"


def _loss_ratio(initial: float, final: float) -> float | None:
    """L0/LT; 0 where one of them is not a positive number, which the report says; None without a training loss."""
    if math.isnan(initial):
        return None
    return initial / final if min(initial, final) > 0 and math.isfinite(final) else 0.0


def _comparison_kt(sums: Comparison) -> float:
    return float(np.sum(sums.heat.float64()) + np.sum(sums.actuation.float64()))


def _parameter_count(params: PyTree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _finite_or_none(x: float) -> float | None:
    return x if math.isfinite(x) else None
