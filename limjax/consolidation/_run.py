"""A training through a sequence, and a comparison of methods over seeds that can be stopped and goes on."""

import pathlib
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from limjax._files import read_as, read_json, read_part, write_json
from limjax.consolidation._learn import Data, Learner, Medium, Place, accuracies, learnt, remembered, started
from limjax.consolidation._methods import AbstractMethod, method_of
from limjax.consolidation._result import SequenceResult, table
from limjax.consolidation._sequence import TaskSequence, get_sequence
from limjax.consolidation._settings import ContinualSettings
from limjax.memory import as_field, get_ledger, get_memories, total
from limjax.numerics._result_code import ResultCode
from limjax.numerics.checks import whole_number
from limjax.parallel import interrupts_noted
from limjax.versions import machine

CONTINUAL_FILE = "continual.json"
_REMEDY = "Remove that file, and the training is done again."
_BIN_KT = 0.5


def train_sequence(
    settings: ContinualSettings,
    method: AbstractMethod | str = "fine-tune",
    seed: int = 0,
    *,
    sequence: TaskSequence | None = None,
    on_task: Callable[[int, float], None] | None = None,
) -> SequenceResult:
    """Learns the tasks of a sequence one after the other on one memory.

    Args:
        settings: network, optimizer, cell, and the sequence's name.
        method: how it tries not to forget: an object of `limjax.consolidation` or its text, such as "ewc:strength=100".
        seed: of network, examples and hops.
        sequence: tasks of your own; None takes those that the settings name.
        on_task: called after every task with its number and the mean accuracy over the tasks so far.

    Returns:
        The result. After the last task nothing is consolidated: no other task follows.

    Raises:
        ValueError: for a wrong name or number.

    Example:
        >>> from limjax.consolidation import ContinualSettings, train_sequence
        >>> result = train_sequence(ContinualSettings("split-digits", "task", steps=2, width=4), "fine-tune")
        >>> result.matrix.shape
        (5, 5)
    """
    text = method if isinstance(method, str) else method.name
    method = method_of(method) if isinstance(method, str) else method
    sequence = get_sequence(settings.tasks, settings.scenario) if sequence is None else sequence
    return trained_on(Medium.of(settings, method), settings, method, seed, sequence, text, on_task)


def trained_on(
    medium: Medium,
    settings: ContinualSettings,
    method: AbstractMethod,
    seed: int,
    sequence: TaskSequence,
    text: str,
    on_task: Callable[[int, float], None] | None = None,
) -> SequenceResult:
    """`train_sequence` on a memory with a learning rate of its own."""
    begun = time.monotonic()
    place, test, tasks = Place.of(sequence), Data.of(sequence.test), len(sequence.train)
    learner = started(settings, method, medium, place, jnp.asarray(whole_number(seed, "seed", 0), jnp.int32))
    rows, sums, copied = [], np.zeros((tasks + 1, 2)), 0.0
    for k in range(tasks):
        stage = jnp.asarray(k, jnp.int32)
        learner = learnt(settings, method, medium, place, learner, stage)
        # Waits for the device: Ctrl-C and the seconds are then those of tasks that are done.
        rows.append(np.asarray(accuracies(learner.params, test, place.competing[k]), np.float64))
        ledger = get_ledger(learner.state)
        # The ledger runs on. What consolidating a task takes is charged in the first step of the next one.
        sums[k + 1] = total(ledger), total(ledger, "actuation")
        if on_task is not None:
            on_task(k, float(rows[-1][: k + 1].mean()))
        if k + 1 < tasks:
            # A copy overwrites the last one: cells move by the difference.
            before = method.long_term(learner.kept)
            learner = remembered(method, place, learner, stage)
            pairs = zip(before, method.long_term(learner.kept))
            shown = [place.train.image[k][learner.shown[k]]] if method.replayed else []
            copied += sum(levels_moved(*pair, settings.copy_bits) for pair in pairs)
            # Examples overwrite nothing: each goes to new cells, which stand at 0.
            copied += sum(levels_moved(jnp.zeros_like(x), x, settings.copy_bits) for x in shown)
    costs = np.diff(sums, axis=0).T.tolist()
    parameters = sum(leaf.size for leaf in jax.tree.leaves(learner.params))
    return SequenceResult(
        method=text,
        seed=int(seed),
        accuracy=tuple(tuple(row.tolist()) for row in rows),
        heat_kt=tuple(costs[0]),
        actuation_kt=tuple(costs[1]),
        undelivered=_undelivered(learner, parameters),
        parameters=parameters,
        written=method.copies.written * (tasks - 1),
        kept=method.copies.written,
        running=method.running,
        examples=method.replayed * (tasks - 1) * sequence.train[0].image.shape[-1],
        barriers=_histogram(learner),
        seconds=time.monotonic() - begun,
        copy_heat_kt=settings.max_affinity * copied,
    )


def levels_moved(before: PyTree, after: PyTree, bits: int) -> float:
    """How many levels cells have to move to hold other numbers, each array scaled to its largest number of either sign.

    Args:
        before: the numbers that stood there.
        after: those that are written.
        bits: of a number, one of them its sign.

    Returns:
        The sum over all numbers. [levels]
    """
    # With one bit, a sign alone, a number still has a level to move by.
    top = max(1, 2 ** (bits - 1) - 1)

    def levels(x):
        x = np.asarray(x, np.float64)
        largest = np.abs(x).max(initial=0.0)
        return np.round(x * (top / largest)) if largest > 0 else x

    moves = jax.tree.map(lambda old, new: np.abs(levels(new) - levels(old)).sum(), before, after)
    return float(sum(jax.tree.leaves(moves)))


def _undelivered(learner: Learner, parameters: int) -> float:
    ledger = get_ledger(learner.state)
    return total(ledger, "undelivered") / parameters / max(int(ledger.steps), 1)


def _histogram(learner: Learner) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """How many barriers stand how high."""
    (memory,) = get_memories(learner.state).values()
    sizes = [leaf.size for leaf in jax.tree.leaves(learner.params)]
    field = as_field(memory.barrier.height).value
    heights = np.concatenate([np.ravel(block) for block in field]) if isinstance(field, list) else np.ravel(field)
    # One barrier for all, as the static one has, stands for every weight.
    counts = np.ones(len(heights)) if isinstance(field, list) else np.full(len(heights), sum(sizes) / len(heights))
    low = _BIN_KT * np.floor(heights.min() / _BIN_KT)
    edges = np.arange(low, heights.max() + _BIN_KT, _BIN_KT)
    # Rounding may put the highest beyond the last edge.
    number = np.minimum(((heights - low) / _BIN_KT).astype(int), len(edges) - 1)
    found = np.bincount(number, weights=counts, minlength=len(edges))
    return tuple(edges.tolist()), tuple(round(float(x)) for x in found)


class Comparison(NamedTuple):
    """What was trained so far.

    Attributes:
        result: how it ended.
        settings: what all trainings share.
        results: the trainings, method by method.
    """

    result: ResultCode
    settings: ContinualSettings
    results: list[SequenceResult]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Means over seeds, one row for each method."""
        return table(self.results, self.settings.copy_bits)

    def to_json(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "settings": self.settings.to_json(),
            "result": str(self.result),
            "machine": machine(),
            "methods": self.rows,
            "trainings": [result.to_json() for result in self.results],
        }


def compare_methods(
    settings: ContinualSettings,
    methods: Sequence[str],
    seeds: int,
    folder: pathlib.Path,
    say: Callable[[str, float], None] | None = None,
) -> Comparison:
    """Trains every method with every seed, or goes on with that; finished trainings are not done again.

    Args:
        settings: what all of them share.
        methods: methods as text, such as "ewc:strength=100".
        seeds: number of seeds.
        folder: where results are kept, a file for each training and `continual.json`; it exists.
        say: told what is being done, and the seconds left (NaN before anything is known).

    Returns:
        The trainings so far. After Ctrl-C the one that runs ends its task and is dropped; nothing more is trained.

    Raises:
        ValueError: for a wrong method or number, a folder that was trained with other settings, or a training of an earlier version whose
            method gave other results.
    """
    # Wrong names and numbers are found before anything is written or trained.
    for text in methods:
        method_of(text)
    slugs = [_slug(text) for text in methods]
    twice = [text for i, text in enumerate(methods) if slugs.index(slugs[i]) < i]
    if twice:
        raise ValueError(
            f"The method {twice[0]!r} is given twice: name every method once, with --seeds for more trainings of it."
        )
    whole_number(seeds, "seeds")
    _same_settings(settings, folder)
    jobs = [(text, seed, folder / f"{_slug(text)}-seed-{seed}.json") for text in methods for seed in range(seeds)]
    # A training's file is written in one piece when it is done: where there is one, nothing is left to do.
    waiting = [job for job in jobs if not job[2].exists()]
    for text, _, path in jobs:
        _same_format(path, method_of(text).format)
    code, timed = ResultCode.completed, []
    sequence = get_sequence(settings.tasks, settings.scenario)

    def found(code: ResultCode) -> Comparison:
        done = [read_as(path, SequenceResult.from_json, _REMEDY) for _, _, path in jobs if path.exists()]
        return Comparison(code, settings, done)

    with interrupts_noted() as interrupted:
        # Written before the first training too: a killed process leaves its settings, which the next one is held to.
        write_json(folder / CONTINUAL_FILE, found(code).to_json() | {"result": "running"})
        for number, (text, seed, path) in enumerate(waiting):
            # The median, as the first training of a method compiles and is not like the others.
            left = float(np.median(timed)) * (len(waiting) - number) if timed else float("nan")

            # A part of a sequence is no result: what was learnt before Ctrl-C is dropped.
            def told(task: int, accuracy: float, text=text, seed=seed, left=left) -> None:
                if say is not None:
                    say(f"{text}, seed {seed}: task {task + 1}/{len(sequence.train)}, accuracy {accuracy:.3f}", left)
                if interrupted():
                    raise _StoppedError

            try:
                result = train_sequence(settings, text, seed, sequence=sequence, on_task=told)
            except _StoppedError:
                code = ResultCode.interrupted
                break
            timed.append(result.seconds)
            write_json(path, result.to_json() | {"format": method_of(text).format})
        comparison = found(code)
        write_json(folder / CONTINUAL_FILE, comparison.to_json())
    return comparison


class _StoppedError(Exception):
    """A training that was stopped between two tasks."""


def _same_settings(settings: ContinualSettings, folder: pathlib.Path) -> None:
    path = folder / CONTINUAL_FILE
    if not path.exists():
        return
    saved = read_part(path, "settings", _REMEDY)
    for name, value in settings.to_json().items():
        if saved.get(name) != value:
            raise ValueError(
                f"{folder} has {name} = {saved.get(name)!r}, but {value!r} was given: trainings of one comparison share everything but the "
                "method and the seed. Give the same, or another --out; nothing was changed."
            )


def _same_format(path: pathlib.Path, wanted: int) -> None:
    """Refuses a finished training that this version would not repeat."""
    # Files from before formats were counted have none, and are of the first.
    found = read_json(path, _REMEDY).get("format", 1) if path.exists() else wanted
    if found != wanted:
        raise ValueError(
            f"{path} is of another version of limjax, whose method of this name gave other results (format {found!r}, here {wanted}): remove that "
            "file, and the training is done again, or give another --out; nothing was changed."
        )


def _slug(text: str) -> str:
    """The method as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.+]+", "-", text)
