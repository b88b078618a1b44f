"""Fronts of loss, energy and time: many tuned designs, and which of them no other beats."""

import dataclasses
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool

from limjax import _fingerprints as fingerprints
from limjax.barriers._base import AbstractBarrier
from limjax.barriers._files import barrier_to_json
from limjax.barriers._static import StaticBarrier
from limjax.numerics._result_code import ResultCode
from limjax.numerics.checks import positive_number
from limjax.physics._abstract_cell import AbstractCell
from limjax.tasks import Task
from limjax.training import RunSettings, prepare
from limjax.training._same_run import program
from limjax.tuning._differentiable_run import Design, Problem
from limjax.tuning._fronts import hypervolume, non_dominated
from limjax.tuning._held_out import MISSING, Evaluation, HandMade, evaluate, evaluate_hand_made, hand_made_work
from limjax.tuning._objective import Objective, Weights
from limjax.tuning._one_problem import tuned
from limjax.tuning._pareto_points import ParetoPoint, PointStore
from limjax.tuning._progress import Progress
from limjax.tuning._search import (
    OUTER_STEPS_OF_A_POINT,
    PROGRAMS,
    Search,
    check_names,
    problem_of,
    said,
    starting_barrier,
)

ParetoCode = ResultCode
"""How a sweep ended."""
OnPoint = Callable[[int, int, ParetoPoint], None]


@dataclasses.dataclass(frozen=True)
class Tradeoff:
    """What is traded against what, and where on the way points are wanted.

    Attributes:
        mode: "weights" makes loss + energy weight · kT (+ time weight · s) small; "budget" (ε-constraint) makes the loss
            small within an energy, which also finds the parts of a front that no weighted sum reaches.
        energy: energy weights [loss per kT] or energy limits [kT per parameter], positive; None takes eight over two and
            a half decades.
        time: time weights [loss per s] for a third objective, tuned through the step time; empty for two objectives.

    Raises:
        ValueError: for a wrong mode or number.

    Example:
        >>> [setting["energy"] for setting in Tradeoff("budget", energy=[3.0, 1.0]).settings]
        [3.0, 1.0]
    """

    mode: str = "weights"
    energy: Sequence[float] | None = None
    time: Sequence[float] = ()

    def __post_init__(self):
        if self.mode not in ("weights", "budget"):
            raise ValueError(f'mode must be "weights" or "budget", got {self.mode!r}.')
        # From cheap to dear energy in both modes: each point starts from one that takes a little more of it.
        usual = np.geomspace(1e-4, 3e-2, 8) if self.mode == "weights" else np.geomspace(30.0, 0.5, 8)
        energies = usual if self.energy is None else self.energy
        if not _is_list(energies) or not len(energies):
            raise ValueError(f"energy must be a list of positive numbers, at least one of them; got {self.energy!r}.")
        if not _is_list(self.time):
            raise ValueError(f"time must be a list of positive numbers, or () for none; got {self.time!r}.")
        object.__setattr__(self, "energy", tuple(positive_number(x, "energy") for x in energies))
        object.__setattr__(self, "time", tuple(positive_number(x, "time") for x in self.time))

    @property
    def settings(self) -> list[dict[str, float]]:
        """The points, in the order they are tuned in."""
        return [{"energy": e, "time": t} for t in (self.time or (0.0,)) for e in self.energy or ()]

    def objective(self, setting: dict[str, float]) -> Objective:
        """What a point makes small."""
        if self.mode == "budget":
            return Objective(Weights(0.0, setting["time"]), max_energy_kt=setting["energy"])
        return Objective(Weights(setting["energy"], setting["time"]))


def _is_list(x: Any) -> bool:
    return (isinstance(x, Sequence) and not isinstance(x, str)) or getattr(x, "ndim", 0) == 1


class ParetoResult(NamedTuple):
    """A front.

    Attributes:
        result: how the sweep ended.
        points: all tuned points, in the order of the sweep.
        hypervolume: volume between the front and the reference point, in logarithms of the objectives; NaN without `plain`.
        reference: the reference point of the hypervolume: test loss, energy per parameter [kT] and, with three objectives, time [s].
        objectives: which ones were traded.
        hand_made: hand-made policies on the same seeds.
        plain: the plain optimizer on the same seeds.
        problem: the problem.
    """

    result: ResultCode
    points: tuple[ParetoPoint, ...]
    hypervolume: float
    reference: dict[str, float]
    objectives: tuple[str, ...]
    hand_made: tuple[HandMade, ...]
    plain: Evaluation
    problem: Problem


def pareto_front(
    task: RunSettings | Task | str,
    tradeoff: Tradeoff | None = None,
    search: Search | None = None,
    *,
    cell: AbstractCell | None = None,
    barrier: AbstractBarrier | str | None = None,
    hand_made: bool = True,
    folder: str | os.PathLike[str] | None = None,
    devices: Sequence[Any] | None = None,
    on_progress: OnPoint | None = None,
    progress: Progress | None = None,
    **shorthand: Any,
) -> ParetoResult:
    """Tunes one design per weight or limit, each from the one before, and keeps what no other design beats.

    Args:
        task: the settings of a run, a `Task`, or the name of one.
        tradeoff: which points; None makes one of the keywords `mode`, `energy` and `time`.
        search: how each is tuned; None makes one of keywords. Without a number of outer steps it takes 30 a point; where time
            has weights, the step time is tuned.
        cell: the memory cell; None takes that of the settings.
        barrier: where the first point starts, as in `tune`.
        hand_made: whether the hand-made policies are evaluated as well.
        folder: where finished points are kept; a sweep that was interrupted goes on from there. None keeps nothing.
        devices: the chain of points is cut into one piece per device; None takes all local ones.
        on_progress: called with (points done, points in all, the newest point).
        progress: what is told of every phase from the first second.
        **shorthand: fields of `RunSettings` (`steps`, `batch_size`, ...), `Tradeoff` and `Search`.

    Returns:
        The front. After Ctrl-C nothing more is run.

    Raises:
        ValueError: for a wrong setting, or a folder that holds another sweep.
        TypeError: for an unknown keyword.
    """
    tradeoff = said(Tradeoff, tradeoff, shorthand)
    search = said(Search, search, shorthand).trading(bool(tradeoff.time))
    if search.outer_steps is None:
        search = dataclasses.replace(search, outer_steps=OUTER_STEPS_OF_A_POINT)
    check_names(pareto_front, shorthand, Tradeoff, Search)
    problem = problem_of(task, cell, search, shorthand)
    first = starting_barrier(barrier, problem, task)
    settings = tradeoff.settings
    identity = {} if folder is None else _identity(problem, first) | _identity_of_search(tradeoff, search)
    store = PointStore(folder, identity, _earlier(tradeoff))
    progress = Progress() if progress is None else progress
    seeds = search.test_seeds
    progress.plan(seeds.size, PROGRAMS)
    if hand_made:
        progress.plan(*hand_made_work(problem, seeds.size))
    sweep = _Sweep(problem, tradeoff, search, problem.design(first), store, progress, on_progress)
    plain, judged = MISSING, []
    try:
        # First, so that Ctrl-C keeps them.
        sweep.load()
        progress.did("plain training on the held-out seeds")
        plain = evaluate(problem.plain_problem, StaticBarrier.at_retention(problem.cell), seeds, hops="mean")
        progress.did(runs=seeds.size, program="mean")
        sweep.run(jax.local_devices() if devices is None else list(devices))
        code = ResultCode.completed if len(sweep.found) == len(settings) else ResultCode.interrupted
        if hand_made and code is ResultCode.completed:
            evaluate_hand_made(problem, seeds, on_progress=judged.append, progress=progress)
    except KeyboardInterrupt:
        code = ResultCode.interrupted
    points = [sweep.found[i] for i in sorted(sweep.found)]
    return _front(code, points, bool(tradeoff.time), judged, plain, problem)


class _Sweep:
    """The points of a sweep, tuned in a chain for each device."""

    def __init__(
        self,
        problem: Problem,
        tradeoff: Tradeoff,
        search: Search,
        first: Design,
        store: PointStore,
        progress: Progress,
        on_progress: OnPoint | None,
    ):
        self._problem, self._tradeoff, self._search, self._first = problem, tradeoff, search, first
        self._store, self._progress, self._on_progress = store, progress, on_progress
        self._lock, self._stop = threading.Lock(), threading.Event()
        self.found: dict[int, ParetoPoint] = {}

    def load(self) -> None:
        """Takes the points that are kept, and plans the work on the others."""
        for index, setting in enumerate(self._tradeoff.settings):
            point = self._store.load(index, setting)
            if point is not None:
                self._add(index, point)
            else:
                self._progress.plan(self._search.work(self._tradeoff.objective(setting).limited, only_after=True)[0])

    def run(self, devices: list[Any]) -> None:
        """Tunes what is not kept yet, or as much of it as Ctrl-C leaves."""
        settings = self._tradeoff.settings
        pieces = [piece.tolist() for piece in np.array_split(range(len(settings)), min(len(devices), len(settings)))]
        try:
            if len(pieces) == 1:
                # In this thread: Ctrl-C is raised here and ends a step in the middle, not only after it.
                self._chain(pieces[0], devices[0])
                return
            with ThreadPoolExecutor(len(pieces)) as pool:
                try:
                    for future in [pool.submit(self._chain, piece, d) for piece, d in zip(pieces, devices)]:
                        future.result()
                finally:
                    # Leaving the pool waits for all chains: what ended one, an error as well, ends the others.
                    self._stop.set()
        except KeyboardInterrupt:
            self._stop.set()
            raise

    def _chain(self, indices: list[int], device: Any) -> None:
        start, settings = self._first, self._tradeoff.settings
        for index in indices:
            if index not in self.found:
                if self._stop.is_set():
                    return
                self._progress.did(f"point {index + 1} of {len(settings)}")
                # The thread's own setting. Data and design are not committed to a device, so they follow it.
                with jax.default_device(device):
                    objective = self._tradeoff.objective(settings[index])
                    found = tuned(
                        self._problem, start, objective, self._search, self._progress, self._check, only_after=True
                    )
                if found.result is ResultCode.interrupted:
                    return
                # Also after Ctrl-C: this one was finished.
                point = ParetoPoint.of(settings[index], found)
                self._store.save(index, point)
                self._add(index, point)
            # Of a kept point as well: a sweep that goes on starts its points where the whole one would have.
            start = self.found[index].design

    def _add(self, index: int, point: ParetoPoint) -> None:
        # Chains share no index; the lock is for what is told, one at a time and in order.
        with self._lock:
            self.found[index] = point
            if self._on_progress is not None:
                self._on_progress(len(self.found), len(self._tradeoff.settings), point)

    def _check(self, row: Any, left: float) -> None:
        if self._stop.is_set():
            # Python raises Ctrl-C in the main thread alone; this hands it on to the others between two outer steps.
            raise KeyboardInterrupt


def _identity(problem: Problem, start: AbstractBarrier) -> dict[str, Any]:
    """What all points of a sweep depend on beside the search: settings, and fingerprints of what they do not say."""
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
    # Seeds are the search's, and nothing is compared: no point depends on those of a run.
    kinds = {name: value for name, value in program(run).items() if name not in ("random key", "list of comparisons")}
    # `program` has the structure of both, without the numbers.
    kinds["cell or starting barrier"] = fingerprints.of_arrays([problem.cell, start])
    return settings.to_json() | {"program": kinds}


def _identity_of_search(tradeoff: Tradeoff, search: Search) -> dict[str, Any]:
    """How the points of a sweep are tuned. Hops and seed of a run stand beside it under their own names."""
    whole = {name: int(getattr(search, name)) for name in ("outer_steps", "selection", "pairs")}
    flags = {name: bool(getattr(search, name)) for name in ("tune_learning_rate", "tune_step_time", "resample")}
    return {
        # Python's own numbers and lists: they are compared with what JSON gives back.
        "mode": tradeoff.mode,
        "points": tradeoff.settings,
        **whole,
        **flags,
        "outer_rate": float(search.outer_rate),
        "seeds": np.asarray(search.seeds).tolist(),
        "held_out": np.asarray(search.held_out).tolist(),
        "validation": float(search.validation),
        "gradient": search.gradient,
        "window": None if search.window is None else int(search.window),
        "search_hops": search.hops,
        "search_seed": int(search.seed),
        "numbers": None if search.numbers is None else list(search.numbers),
    }


def _earlier(tradeoff: Tradeoff) -> dict[str, Any]:
    """What sweeps were that do not say it: the defaults of then."""
    usual = _identity_of_search(tradeoff, Search(outer_steps=OUTER_STEPS_OF_A_POINT).trading(bool(tradeoff.time)))
    then = (
        "selection", "pairs", "tune_step_time", "resample", "gradient", "window", "search_hops", "search_seed", "numbers",
    )  # fmt: skip
    unknown = ("memory_device", "stop_at_heat", "stop_at_loss", "max_affinity")  # of a run, which had none of these
    return dict.fromkeys(unknown) | {name: usual[name] for name in then}


def hand_made_on_front(result: ParetoResult) -> Bool[np.ndarray, "policies"]:
    """Which hand-made policies neither a tuned point nor another policy beats.

    Args:
        result: a front with hand-made policies.

    Returns:
        A mask.
    """
    tuned_values = [[getattr(p, name) for name in result.objectives] for p in result.points]
    names = {"test_loss": "mean_loss"}
    policies = [[getattr(h.evaluation, names.get(name, name)) for name in result.objectives] for h in result.hand_made]
    values = np.array([*tuned_values, *policies]).reshape(-1, len(result.objectives))
    return non_dominated(values)[len(tuned_values) :]


def _front(
    code: ResultCode,
    points: Sequence[ParetoPoint],
    with_time: bool,
    policies: Sequence[HandMade],
    plain: Evaluation,
    problem: Problem,
) -> ParetoResult:
    objectives = ("test_loss", "energy_kt_per_parameter", *["seconds"] * with_time)
    # No points make an array without a second axis.
    values = np.array([[getattr(p, name) for name in objectives] for p in points]).reshape(-1, len(objectives))
    # Of points that are equal in everything the first stands on the front for all of them.
    front = non_dominated(values)
    front[np.setdiff1d(np.arange(len(values)), np.unique(values, axis=0, return_index=True)[1])] = False
    reference = {"test_loss": 2 * plain.mean_loss, "energy_kt_per_parameter": plain.energy_kt_per_parameter}
    if with_time and points:
        reference["seconds"] = 2 * max(p.seconds for p in points)
    # A zero makes the volume infinite and a negative number leaves its point out; neither needs a warning.
    with np.errstate(invalid="ignore", divide="ignore"):
        volume = hypervolume(np.log(values[front]), np.log(np.array(list(reference.values())))) if points else 0.0
    if plain.is_missing:
        volume = math.nan
    marked = tuple(p._replace(is_front=bool(f)) for p, f in zip(points, front))
    return ParetoResult(code, marked, volume, reference, objectives, tuple(policies), plain, problem)
