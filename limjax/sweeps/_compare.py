"""Barriers side by side on one task: every barrier with every seed, beside plain training, with standard errors."""

import dataclasses
import math
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from limjax import _fingerprints as fingerprints
from limjax import parallel
from limjax._files import local_path, read_json, reason, renew, without_nan, write_json
from limjax.barriers._base import AbstractBarrier
from limjax.barriers._specification import barrier_from_name
from limjax.memory._hops import HopsName, hops_of
from limjax.numerics._present_names import with_present_names
from limjax.numerics._result_code import ResultCode
from limjax.numerics.checks import WholeNumber, seed_numbers
from limjax.physics._cell import ArrheniusCell
from limjax.sweeps._seeds import energy_at
from limjax.sweeps._sweep import Setting, SweepResult, reached, sweep
from limjax.tasks import Task, get_task
from limjax.training import RunKeys, RunSettings, plain_step
from limjax.training._same_run import of_schedules

COMPARE, PLAIN = "compare.json", "plain training"
_REMEDY = "Put back the file as it was written, or choose a new folder; nothing was changed."
# Earlier files have each number, its mean and its error without `per_parameter`; energy was called cost.
_EARLIER = {
    f"{before}{name}{behind}": f"{before}{now}_per_parameter{behind}"
    for name, now in (("heat_kt", "heat_kt"), ("actuation_kt", "actuation_kt"), ("cost_kt", "energy_kt"))
    for before, behind in (("", ""), ("mean_", ""), ("", "_error"))
}
# A barrier's name and, where that does not say all of its numbers, their fingerprint.
_Which = tuple[str, str]
# What `repr` makes of arrays of many numbers, `f32[12]`, and of functions; and a file, whose content may change.
_UNSAID = re.compile(r"\w\[|<|\.json$")
_SAME = ("task", "steps", "batch_size", "learning_rate", "lsb", "hops", "seeds")


@dataclasses.dataclass(frozen=True)
class Compared:
    """One barrier of a comparison.

    Attributes:
        barrier: what it was called, or "plain training".
        test_loss: of each seed.
        test_accuracy: of each seed, NaN where the task has none.
        heat_kt_per_parameter: update heat per parameter of each seed [kT], NaN for plain training.
        actuation_kt_per_parameter: barrier work per parameter of each seed [kT], NaN for plain training.
        fingerprint: of the barrier's numbers, where its name does not say them; rows of earlier versions have none.
    """

    barrier: str
    test_loss: Float[np.ndarray, "seeds"]
    test_accuracy: Float[np.ndarray, "seeds"]
    heat_kt_per_parameter: Float[np.ndarray, "seeds"]
    actuation_kt_per_parameter: Float[np.ndarray, "seeds"]
    fingerprint: str = ""

    @property
    def is_of(self) -> _Which:
        """What this is a row of, as wanted rows are looked up."""
        return self.barrier, self.fingerprint

    @property
    def energy_kt_per_parameter(self) -> Float[np.ndarray, "seeds"]:
        """Heat and barrier work together, per parameter [kT]."""
        return self.heat_kt_per_parameter + self.actuation_kt_per_parameter

    def mean(self, name: str) -> tuple[float, float]:
        """Mean over the seeds of one of the attributes, and its standard error, NaN for a single seed."""
        values = getattr(self, name)
        error = np.std(values, ddof=1) / math.sqrt(values.size) if values.size > 1 else math.nan
        return float(np.mean(values)), float(error)

    def to_json(self) -> dict[str, Any]:
        """Every number and the means, as JSON can hold them."""
        names = SweepResult._fields
        named = {"barrier": self.barrier} | ({"fingerprint": self.fingerprint} if self.fingerprint else {})
        content: dict[str, Any] = {**named, **{name: getattr(self, name).tolist() for name in names}}
        for name in (*names, "energy_kt_per_parameter"):
            content[f"mean_{name}"], content[f"{name}_error"] = self.mean(name)
        return without_nan(content)


@dataclasses.dataclass(frozen=True)
class CompareResult:
    """Barriers side by side.

    Attributes:
        result: how it ended.
        settings: what all runs have in common: `task`, `steps`, `batch_size`, `learning_rate`, `lsb`, `hops`, `seeds`.
        rows: what was trained, in the order that was asked for; plain training first.
    """

    result: ResultCode
    settings: dict[str, Any]
    rows: tuple[Compared, ...]

    @property
    def plain(self) -> Compared | None:
        """Plain training, if it was asked for and is there."""
        return next((row for row in self.rows if row.barrier == PLAIN), None)

    @property
    def labels(self) -> list[str]:
        """What each row is called in a table or a figure: its barrier, numbered from the second on where several have one name."""
        names = [row.barrier for row in self.rows]
        count = [names[:i].count(name) + 1 for i, name in enumerate(names)]
        return [name if i == 1 else f"{name} ({i})" for name, i in zip(names, count)]

    def lost(self, row: Compared) -> tuple[float, float]:
        """Points of test accuracy that a barrier lost against plain training of the same seeds, paired, with the standard error."""
        if self.plain is None:
            return math.nan, math.nan
        # Seed by seed, before the mean: start and batches are the same in both, and their scatter drops out.
        points = 100 * (self.plain.test_accuracy - row.test_accuracy)
        # `mean` averages an attribute, so the differences take the place of one.
        return dataclasses.replace(row, test_loss=points).mean("test_loss")

    def excess(self, row: Compared) -> Float[np.ndarray, "seeds"]:
        """How far each seed's test loss is above that of plain training with the same seed, as a share of it.

        Args:
            row: one of the rows.

        Returns:
            0.01 for a loss that is one percent above.

        Raises:
            ValueError: without plain training, for a row of another number of seeds, or where plain training's loss is not positive.
        """
        if self.plain is None:
            raise ValueError("There is no plain training among the rows to compare with: ask for it with plain=True.")
        plain = self.plain.test_loss
        if row.test_loss.shape != plain.shape:
            raise ValueError(
                f"The row has {row.test_loss.size} seeds and plain training {plain.size}: take a row of this comparison."
            )
        if not (plain > 0).all():
            raise ValueError(
                f"A share of the loss needs one above 0; plain training's is {plain.min():g}: compare `test_loss` itself."
            )
        return row.test_loss / plain - 1

    def energy_at(self, rows: Sequence[Compared], target: float) -> tuple[float, float]:
        """What it costs to come so close to plain training's loss, read between barriers that are quieter and dearer than one another.

        Barriers of one form and several scales of the exchange, for example `moment:scale=0.3`, `0.1` and `0.03`. Hops that scatter less are
        dearer in nearly the same proportion, so that it is read in 1/energy. Two forms compared at one excess say which is better.

        Args:
            rows: those barriers.
            target: excess of the mean test loss that is to be reached, as a share.

        Returns:
            Heat and barrier work per parameter, and its standard error by a jackknife over seeds [kT]. That of the cheapest row where it is as
            quiet already, NaN where none is; a row with a loss that is no number does not count. An error is NaN for one seed, and where no row
            is quiet enough without one of the seeds.

        Raises:
            ValueError: without a row, for plain training, which dissipates nothing, and as `excess`.

        Example:
            >>> losses, energies = {"plain training": 2.0, "a": 2.08, "b": 2.02}, {"plain training": math.nan, "a": 5.0, "b": 20.0}
            >>> rows = tuple(
            ...     Compared(name, np.full(2, loss), np.zeros(2), np.full(2, energies[name]), np.zeros(2)) for name, loss in losses.items()
            ... )
            >>> found = CompareResult(ResultCode.completed, {}, rows)
            >>> f"{found.energy_at(rows[1:], 0.02)[0]:.1f} kT"
            '10.0 kT'
        """
        if not rows:
            raise ValueError("rows must hold at least one barrier of the comparison; got none.")
        if any(row.barrier == PLAIN for row in rows):
            raise ValueError("rows must be of barriers; plain training dissipates nothing.")
        excess = np.array([self.excess(row) for row in rows])
        energy = np.array([row.energy_kt_per_parameter for row in rows])
        return energy_at(energy, excess, target)

    def __str__(self) -> str:
        from limjax.sweeps._table import compare_text  # rich is not needed where nothing is printed

        return compare_text(self)

    def to_json(self) -> dict[str, Any]:
        """The content of `compare.json`."""
        return {**self.settings, "result": str(self.result), "rows": [row.to_json() for row in self.rows]}


def compare(
    task: Task | str,
    barriers: Sequence[str | AbstractBarrier],
    *,
    seeds: WholeNumber | Sequence[int] = 5,
    folder: str | pathlib.Path | None = None,
    hops: HopsName = "exact",
    steps: WholeNumber | None = None,
    batch_size: WholeNumber | None = None,
    learning_rate: float | None = None,
    lsb: float | None = None,
    plain: bool = True,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> CompareResult:
    """Trains a task with several barriers and several seeds, all seeds of a barrier in one compiled loop.

    Args:
        task: a `Task`, or the name of one.
        barriers: barriers, or their names with arguments (`"lyapunov:start=8"`).
        seeds: seeds of initialisation, batches and hops, or how many.
        folder: where `compare.json` is kept after every barrier, made if it is not there; one that is there goes on, and may be given
            more barriers. A barrier file that changed, like any barrier of other numbers, is another barrier.
        hops: "mean", "gaussian" or "exact".
        steps: training steps; None takes the task's, as in the next three.
        batch_size: examples per step.
        learning_rate: peak learning rate.
        lsb: one level [weight/level].
        plain: whether to train without a memory as well, with the same seeds.
        on_progress: called before each barrier with how many are done, how many there are, and its name.

    Returns:
        The comparison. Ctrl-C ends it after the barrier under way, with the result `interrupted`.

    Raises:
        ValueError: if there is no barrier, one is named twice or unknown, a number is wrong, or the folder holds another comparison or cannot be made.

    Example:
        >>> found = compare("quadratic", ["static:height=10", "static:height=14"], seeds=2, hops="mean", steps=50, plain=False)
        >>> heats = [row.mean("heat_kt_per_parameter")[0] for row in found.rows]
        >>> [row.barrier for row in found.rows], heats[0] < heats[1]
        (['static:height=10', 'static:height=14'], True)
    """
    task = get_task(task) if isinstance(task, str) else task
    settings = RunSettings.of(task, steps=steps, batch_size=batch_size, learning_rate=learning_rate, lsb=lsb, hops=hops)
    numbers = seed_numbers(seeds, "seeds").tolist()
    # Only to refuse a wrong name before anything is trained.
    hops_of(hops)
    points = _points(task, settings, barriers)
    # Neither the barriers nor `plain`: a folder may be given more of them later.
    common = {name: getattr(settings, name) for name in _SAME if name != "seeds"} | {"seeds": numbers}
    path = None if folder is None else local_path(folder, "folder") / COMPARE
    known = {} if path is None or not path.exists() else _kept(path, common)
    wanted = [(PLAIN, "")] * plain + list(points)
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"folder {path.parent} cannot be made ({reason(error)}): choose another.") from None

    def so_far(code: ResultCode, which: Sequence[_Which] = wanted) -> CompareResult:
        return CompareResult(code, common, tuple(known[each] for each in which if each in known))

    with parallel.interrupts_noted() as interrupted:
        for each in wanted:
            if each in known:
                continue
            if interrupted():
                return so_far(ResultCode.interrupted)
            if on_progress is not None:
                on_progress(len([other for other in wanted if other in known]), len(wanted), each[0])
            known[each] = _trained(task, settings, each, points.get(each), numbers)
            if path is not None:
                # If the process is killed after this, the file is all there is: it must not say completed too early.
                ending = ResultCode.completed if all(other in known for other in wanted) else ResultCode.interrupted
                # Rows of earlier calls stay in the file, whatever was asked for this time.
                write_json(path, so_far(ending, [*dict.fromkeys([*wanted, *known])]).to_json())
    return so_far(ResultCode.completed)


def _points(task: Task, settings: RunSettings, barriers: Sequence[str | AbstractBarrier]) -> dict[_Which, Setting]:
    """The settings of the sweep by what their barriers are called and made of; a wrong name is said before any work."""
    if not barriers or isinstance(barriers, str):
        raise ValueError(f'barriers must be a list of barriers such as ["lyapunov", "static"]; got {barriers!r}.')
    cell = ArrheniusCell(lsb=settings.lsb)
    schedule = task.defaults.make_schedule(settings.learning_rate, settings.steps)
    points: dict[_Which, Setting] = {}
    for barrier in barriers:
        name, made = (barrier, None) if isinstance(barrier, str) else (repr(barrier), barrier)
        if made is None:
            made = barrier_from_name(name, cell, settings.steps, schedule)
        # The one that was looked at is trained: its file may be another one by then.
        which = name, _fingerprint(made) if _UNSAID.search(name) else ""
        if which in points:
            raise ValueError(f"barriers names {name!r} twice.")
        points[which] = Setting(made, cell, settings.learning_rate)
    return points


def _fingerprint(barrier: AbstractBarrier) -> str:
    """Of a barrier's class and fields, its numbers, and its functions of the step: the name of a file says none of them."""
    numbers = fingerprints.of_arrays(eqx.filter(barrier, eqx.is_array_like))
    return fingerprints.combined(fingerprints.of_structure(barrier), numbers, *of_schedules(barrier))


def _kept(path: pathlib.Path, common: dict[str, Any]) -> dict[_Which, Compared]:
    """What a file has already, if it is of the same runs.

    Rows of earlier versions have no fingerprint: they stay in the file, and count where the name says all.
    """
    content = read_json(path, _REMEDY)
    for name, value in common.items():
        if content.get(name) != value:
            raise ValueError(
                f"{path} is a comparison with {name} = {content.get(name)!r}, but {value!r} was asked for: give the same, or choose a "
                "new folder. Nothing was changed."
            )
    try:
        rows = [
            Compared(
                row["barrier"], *(_numbers(row[name], len(common["seeds"])) for name in SweepResult._fields),
                fingerprint=str(row.get("fingerprint", "")),
            )
            for row in with_present_names(content["rows"], _EARLIER)
        ]  # fmt: skip
        known = {row.is_of: row for row in rows}
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError):
        raise ValueError(f"{path} is damaged: its rows are no comparison of barriers. {_REMEDY}") from None
    # Only a file that was read as a whole is written again.
    renew(path, _EARLIER)
    return known


def _numbers(values: Any, count: int) -> Float[np.ndarray, "seeds"]:
    array = np.array(values, np.float64)  # None becomes NaN
    if array.shape != (count,):
        raise ValueError(array.shape)
    return array


def _trained(task: Task, settings: RunSettings, which: _Which, point: Setting | None, seeds: list[int]) -> Compared:
    name, fingerprint = which
    if point is None:
        losses, accuracies = _plain(task, settings, seeds)
        nothing = np.full(len(seeds), math.nan)
        return Compared(name, losses, accuracies, nothing, nothing)
    found = sweep(task, [point], seeds=seeds, hops=settings.hops, steps=settings.steps, batch_size=settings.batch_size)  # pyright: ignore
    return Compared(name, *(array[0] for array in found), fingerprint=fingerprint)


def _plain(task: Task, settings: RunSettings, seeds: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Test loss and accuracy of plain training, all seeds in one loop."""
    inner = task.defaults.make_optimizer(task.defaults.make_schedule(settings.learning_rate, settings.steps))
    step = plain_step(task, inner, settings.batch_size)

    def one(seed, train, test):
        keys = RunKeys.of(seed)
        params = task.init(keys.start)
        carry = params, inner.init(params)
        params, _ = jax.lax.fori_loop(0, settings.steps, lambda i, c: step(c, i, train, keys.data), carry)
        return reached(task, params, test)

    data = (jax.tree.map(jnp.asarray, tree) for tree in (task.train, task.test))
    # Data have no axis of runs: all seeds read one copy.
    found = jax.jit(jax.vmap(one, in_axes=(0, None, None)))(jnp.asarray(seeds, jnp.uint32), *data)
    losses, accuracies = (np.asarray(x, np.float64) for x in found)
    return losses, accuracies
