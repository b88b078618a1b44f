"""Fronts of loss, energy and time: many tuned designs, and which of them no other beats."""

import enum
import math
import os
import pathlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from limjax import fingerprints
from limjax.barriers.base import AbstractBarrier
from limjax.barriers.files import barrier_from_json, barrier_to_json
from limjax.barriers.static import StaticBarrier
from limjax.files import read_json, reason, write_json
from limjax.physics.abstract_cell import AbstractCell
from limjax.tasks import Task, get_task
from limjax.training import RunSettings, prepare
from limjax.training.same_run import program
from limjax.tuning.descent import TuneCode
from limjax.tuning.held_out import Evaluation, HandMade, evaluate, evaluate_hand_made, held_out_seeds
from limjax.tuning.objective import Weights
from limjax.tuning.problem import Design, Problem
from limjax.tuning.tune import starting_barrier, tune

_NEW_SWEEP = "Put back the file as the sweep wrote it, or choose a new folder; nothing was changed."
_POINT_AGAIN = "Delete that file to tune its point again; nothing was changed."


class ParetoCode(enum.StrEnum):
    """How a sweep ended."""

    completed = "completed"
    interrupted = "interrupted"

    @property
    def help(self) -> str:
        """What it means and what to do."""
        return {
            "completed": "All points were tuned and evaluated.",
            "interrupted": "The sweep was stopped; the same call with the same folder takes up the points that are missing.",
        }[self.value]


class ParetoPoint(NamedTuple):
    """One tuned design on held-out seeds.

    Attributes:
        setting: energy weight or energy limit, and time weight, that it was tuned for.
        result: how its tuning ended.
        design: the tuned design.
        loss: mean test loss.
        loss_error: its standard error.
        energy_kt: mean heat and barrier work per parameter [kT].
        energy_error: its standard error [kT].
        seconds: physical duration of the run [s].
        is_front: whether no other point of the sweep is at least as good in everything and better in something.
    """

    setting: dict[str, float]
    result: str
    design: Design
    loss: float
    loss_error: float
    energy_kt: float
    energy_error: float
    seconds: float
    is_front: bool


class ParetoResult(NamedTuple):
    """A front.

    Attributes:
        result: how the sweep ended.
        points: all tuned points, in the order of the sweep.
        hypervolume: volume between the front and the reference point, in logarithms of the objectives.
        reference: the reference point of the hypervolume: loss, energy [kT] and, with three objectives, time [s].
        objectives: which ones were traded.
        hand_made: hand-made policies on the same seeds.
        plain: the plain optimizer on the same seeds.
        problem: the problem.
    """

    result: ParetoCode
    points: tuple[ParetoPoint, ...]
    hypervolume: float
    reference: dict[str, float]
    objectives: tuple[str, ...]
    hand_made: tuple[HandMade, ...]
    plain: Evaluation
    problem: Problem


def non_dominated(points: Float[np.ndarray, "points objectives"]) -> Bool[np.ndarray, "points"]:
    """Which points no other point beats; smaller is better, and equal points keep each other.

    Args:
        points: one row per point. Rows with NaN are beaten.

    Returns:
        A mask.

    Example:
        >>> non_dominated(np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0]])).tolist()
        [True, True, False]
    """
    points = np.asarray(points, np.float64)
    finite = np.all(np.isfinite(points), axis=1)
    no_worse = np.all(points[:, None, :] <= points[None, :, :], axis=2)
    better = np.any(points[:, None, :] < points[None, :, :], axis=2)
    beats = np.logical_and(np.logical_and(no_worse, better), np.reshape(finite, (-1, 1)))
    return np.logical_and(finite, np.logical_not(np.any(beats, axis=0)))


def hypervolume(
    points: Float[np.ndarray, "points objectives"], reference: Sequence[float] | Float[np.ndarray, "objectives"]
) -> float:
    """Volume of what the points beat, up to a reference point; smaller objectives are better.

    Slices along the last objective (Zitzler & Thiele, IEEE Trans. Evol. Comput. 3, 257 (1999)); exact for any number of
    objectives, meant for a few hundred points in two or three.

    Args:
        points: one row per point; those that do not beat the reference in everything are left out.
        reference: worst value of each objective.

    Returns:
        The volume.

    Example:
        >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), [3.0, 3.0])
        3.0
    """
    limit = np.asarray(reference, np.float64)
    points = np.asarray(points, np.float64).reshape(-1, limit.size)
    points = points[(points < limit).all(axis=1)]
    if points.size == 0:
        return 0.0
    if limit.size == 1:
        return float(limit[0] - points.min())
    points = points[np.argsort(points[:, -1])]
    heights = np.append(points[1:, -1], limit[-1]) - points[:, -1]
    return float(
        sum(h * hypervolume(points[: i + 1, :-1], limit[:-1]) for i, h in enumerate(heights) if h > 0)
    )  # fmt: skip


def pareto_front(
    task: Task | str,
    cell: AbstractCell | None = None,
    barrier: AbstractBarrier | str | None = None,
    *,
    mode: str = "weights",
    energy: Sequence[float] | None = None,
    time: Sequence[float] = (),
    steps: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    tune_learning_rate: bool = False,
    outer_steps: int = 30,
    outer_rate: float = 0.3,
    seeds: int | Sequence[int] = 4,
    held_out: int = 8,
    validation: float = 0.2,
    hand_made: bool = True,
    folder: str | os.PathLike[str] | None = None,
    devices: Sequence[Any] | None = None,
    on_progress: Callable[[int, int, ParetoPoint], None] | None = None,
) -> ParetoResult:
    """Tunes one design per weight or limit, each from the one before, and keeps what no other design beats.

    Args:
        task: a `Task`, or the name of one.
        cell: the memory cell; None takes the task's.
        barrier: where the first point starts, as in `tune`.
        mode: "weights" makes loss + energy weight · kT (+ time weight · s) small; "budget" (ε-constraint) makes the loss
            small within an energy, which also finds the parts of a front that no weighted sum reaches.
        energy: energy weights [loss per kT] or energy limits [kT per parameter], positive; None takes eight over two and
            a half decades.
        time: time weights [loss per s] for a third objective, tuned through the step time; empty for two objectives.
        steps: training steps; None takes the task's.
        batch_size: examples per step; None takes the task's.
        learning_rate: peak learning rate; None takes the task's.
        tune_learning_rate: whether the learning rate is tuned as well.
        outer_steps: outer steps per point.
        outer_rate: peak outer rate.
        seeds: tuning seeds, or how many.
        held_out: number of held-out seeds.
        validation: share of the training data set aside for validation.
        hand_made: whether the hand-made policies are evaluated as well.
        folder: where finished points are kept; a sweep that was interrupted goes on from there. None keeps nothing.
        devices: the chain of points is cut into one piece per device; None takes all local ones.
        on_progress: called with (points done, points in all, the newest point).

    Returns:
        The front.

    Raises:
        ValueError: for a wrong setting, or a folder that holds another sweep.
    """
    if mode not in ("weights", "budget"):
        raise ValueError(f'mode must be "weights" or "budget", got {mode!r}.')
    default = np.geomspace(1e-4, 3e-2, 8) if mode == "weights" else np.geomspace(30.0, 0.5, 8)
    energies = [float(x) for x in (default if energy is None else energy)]
    times = [float(x) for x in time]
    if not energies or any(not (math.isfinite(x) and x > 0) for x in (*energies, *times)):
        raise ValueError(f"energy and time must be positive numbers, got energy={energies}, time={times}.")
    problem = Problem(
        get_task(task) if isinstance(task, str) else task, cell, steps=steps, batch_size=batch_size,
        learning_rate=learning_rate, validation=validation,
    )  # fmt: skip
    settings = [{"energy": e, "time": t} for t in (times or [0.0]) for e in energies]
    store = _Store(folder, {} if folder is None else _identity(problem, barrier) | {
        "mode": mode,
        "points": settings,
        "outer_steps": int(outer_steps),
        "outer_rate": float(outer_rate),
        "seeds": np.asarray(seeds).tolist(),
        "held_out": int(held_out),
        "validation": float(validation),
        "tune_learning_rate": bool(tune_learning_rate),
    })  # fmt: skip
    test_seeds = held_out_seeds(held_out)
    found: dict[int, ParetoPoint] = {}
    lock, stop = threading.Lock(), threading.Event()

    def chain(indices, device):
        start = None
        for index in indices:
            if stop.is_set():
                return
            point = store.load(index, settings[index])
            if point is None:
                with jax.default_device(device):
                    point = _tuned_point(problem, settings[index], mode, barrier, start, test_seeds, bool(times), dict(
                        tune_learning_rate=tune_learning_rate, outer_steps=outer_steps, outer_rate=outer_rate, seeds=seeds,
                        on_progress=lambda row, left: _raise_if(stop),
                    ))  # fmt: skip
                if point is None:
                    return
                store.save(index, point)
            start = point.design
            with lock:
                found[index] = point
                if on_progress is not None:
                    on_progress(len(found), len(settings), point)

    devices = jax.local_devices() if devices is None else list(devices)
    pieces = [piece.tolist() for piece in np.array_split(range(len(settings)), min(len(devices), len(settings)))]
    code = ParetoCode.completed
    try:
        if len(pieces) == 1:
            chain(pieces[0], devices[0])
        else:
            with ThreadPoolExecutor(len(pieces)) as pool:
                try:
                    for future in [pool.submit(chain, piece, d) for piece, d in zip(pieces, devices)]:
                        future.result()
                finally:
                    stop.set()
    except KeyboardInterrupt:
        stop.set()
    if len(found) < len(settings):
        code = ParetoCode.interrupted
    policies: list[HandMade] = []
    plain = _plain(problem, test_seeds)
    if hand_made and code is ParetoCode.completed:
        try:
            policies = evaluate_hand_made(problem, test_seeds)
        except KeyboardInterrupt:
            code = ParetoCode.interrupted
    return _front(code, [found[i] for i in sorted(found)], bool(times), policies, plain, problem)


def _identity(problem: Problem, barrier: AbstractBarrier | str | None) -> dict[str, Any]:
    """What all points of a sweep depend on beside the search: settings, and fingerprints of what they do not say."""
    start = starting_barrier(barrier, problem)
    barrier_to_json(start)  # points are kept as files: what no file can hold is refused before the work
    settings = RunSettings.of(
        problem.task,
        problem.cell,
        barrier=start.name,
        steps=problem.steps,
        batch_size=problem.batch_size,
        learning_rate=problem.learning_rate,
    )
    run = prepare(settings, problem.task, cell=problem.cell, barrier=start, compare=())
    kinds = {name: value for name, value in program(run).items() if name not in ("random key", "list of comparisons")}
    kinds["cell or starting barrier"] = fingerprints.of_arrays([problem.cell, start])
    return settings.to_json() | {"program": kinds}


def _raise_if(stop):
    if stop.is_set():
        raise KeyboardInterrupt


def _tuned_point(problem, setting, mode, barrier, start, test_seeds, with_time, options) -> ParetoPoint | None:
    """One point, or None if it was interrupted."""
    goal: dict[str, Any] = {"weights": Weights(setting["energy"], setting["time"])}
    if mode == "budget":
        goal = {"weights": Weights(0.0, setting["time"]), "max_energy_kt": setting["energy"]}
    result = tune(
        problem.task, barrier=barrier, start=start, problem=problem, held_out=test_seeds.tolist(), tune_step_time=with_time,
        **goal, **options,
    )  # fmt: skip
    if result.result is TuneCode.interrupted:
        return None
    after = result.after
    cost = after.heat_kt + after.actuation_kt
    error = float(cost.std(ddof=1) / math.sqrt(cost.size)) if cost.size > 1 else math.nan
    return ParetoPoint(
        setting, str(result.result), result.design, after.mean_loss, after.loss_error, after.energy_kt, error,
        after.seconds, False,
    )  # fmt: skip


def _plain(problem: Problem, seeds) -> Evaluation:
    return evaluate(problem, StaticBarrier.at_retention(problem.cell), seeds, hops="mean")


def _front(code, points, with_time, policies, plain, problem) -> ParetoResult:
    objectives = ("loss", "energy_kt", "seconds") if with_time else ("loss", "energy_kt")
    values = np.array([[getattr(p, name) for name in objectives] for p in points]).reshape(-1, len(objectives))
    front = non_dominated(values)
    reference = {"loss": 2 * plain.mean_loss, "energy_kt": plain.energy_kt}
    if with_time and points:
        reference["seconds"] = 2 * max(p.seconds for p in points)
    with np.errstate(invalid="ignore", divide="ignore"):
        volume = hypervolume(np.log(values[front]), np.log(np.array(list(reference.values())))) if points else 0.0
    marked = tuple(p._replace(is_front=bool(f)) for p, f in zip(points, front))
    return ParetoResult(code, marked, volume, reference, objectives, tuple(policies), plain, problem)


class _Store:
    """Finished points as JSON files, with the settings of the sweep beside them."""

    def __init__(self, folder, settings: dict[str, Any]):
        self._folder = None if folder is None else pathlib.Path(folder)
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"There can be no folder {self._folder}: {reason(error)}. Choose another one.") from None
        path = self._folder / "sweep.json"
        if path.exists():
            difference = _difference(read_json(path, _NEW_SWEEP), settings)
            if difference is not None:
                raise ValueError(
                    f"{self._folder} holds another sweep: {difference}. Choose a new folder, or repeat the call it was made by; "
                    "nothing was changed."
                )
        try:
            write_json(path, settings)
        except OSError as error:
            raise ValueError(f"{path} cannot be written: {reason(error)}. Choose another folder.") from None

    def load(self, index: int, setting: dict[str, float]) -> ParetoPoint | None:
        if self._folder is None or not (path := self._folder / f"point-{index:03d}.json").exists():
            return None
        content = read_json(path, _POINT_AGAIN)
        try:
            design = Design(
                barrier_from_json(content["barrier"], str(path)), np.float32(content["log_step_time"]) + jax.numpy.zeros(()),
                jax.numpy.asarray(content["log_rate"], jax.numpy.result_type(float)),
            )  # fmt: skip
            numbers = {
                name: float(content[name]) for name in ("loss", "loss_error", "energy_kt", "energy_error", "seconds")
            }
            return ParetoPoint(setting, str(content["result"]), design, **numbers, is_front=False)
        except KeyError as error:
            raise ValueError(f"{path} is damaged: it has no {error}. {_POINT_AGAIN}") from None
        except (TypeError, OverflowError) as error:
            raise ValueError(f"{path} is damaged ({reason(error)}). {_POINT_AGAIN}") from None

    def save(self, index: int, point: ParetoPoint) -> None:
        if self._folder is not None:
            write_json(self._folder / f"point-{index:03d}.json", point_to_json(point))


def _difference(kept: dict[str, Any], given: dict[str, Any]) -> str | None:
    """In what a sweep differs from the one in its folder, in a few words; None if it is the same."""
    for name, value in given.items():
        if name not in kept:
            return f"it was made by an earlier version and does not say its {name}"
        if kept[name] == value:
            continue
        if isinstance(value, dict) and isinstance(kept[name], dict):  # fingerprints, which say nothing themselves
            return f"it has another {' and another '.join(key for key in value if kept[name].get(key) != value[key])}"
        return f"it has {name} = {kept[name]!r}, but {value!r} was given"
    return None


def point_to_json(point: ParetoPoint) -> dict[str, Any]:
    """A point as JSON-able numbers, its design included."""
    return {
        **{name: value for name, value in point._asdict().items() if name != "design"},
        "barrier": barrier_to_json(point.design.barrier),
        "log_step_time": float(point.design.log_step_time),
        "log_rate": np.asarray(point.design.log_rate, np.float64).tolist(),
    }
