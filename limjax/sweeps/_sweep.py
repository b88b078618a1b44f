"""Many short runs at once: settings times seeds, vectorised and spread over the devices of this machine."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from limjax import parallel
from limjax.barriers._base import AbstractBarrier
from limjax.barriers._specification import barrier_from_name
from limjax.memory import AbstractHops, get_ledger
from limjax.memory._hops import HopsName, hops_of
from limjax.numerics.checks import WholeNumber, positive_number, seed_numbers
from limjax.physics._abstract_cell import AbstractCell
from limjax.physics._cell import ArrheniusCell
from limjax.tasks import Task, get_task
from limjax.training import RunSettings, seeded_run
from limjax.training._settings import barrier_name


@dataclasses.dataclass(frozen=True)
class Setting:
    """One point of a sweep.

    Attributes:
        barrier: the barrier, or its name with arguments (`"lyapunov:start=8"`), which is made for the cell, the steps and the
            learning rate of the point.
        cell: the memory cell; None takes the task's lsb and the usual cell.
        learning_rate: peak learning rate; None takes the task's.

    Raises:
        TypeError: for a barrier or a cell that is none.
        ValueError: for a learning rate that is not positive.

    Example:
        >>> Setting("lyapunov:start=8", learning_rate=1e-3).barrier
        'lyapunov:start=8'
    """

    barrier: AbstractBarrier | str
    cell: AbstractCell | None = None
    learning_rate: float | None = None

    def __post_init__(self):
        barrier_name(self.barrier)
        if self.cell is not None and not isinstance(self.cell, AbstractCell):
            raise TypeError(f"cell must be a memory cell such as limjax.ArrheniusCell(), or None; got {self.cell!r}.")
        if self.learning_rate is not None:
            positive_number(self.learning_rate, "learning_rate")


class SweepResult(NamedTuple):
    """Outcomes of a sweep; every array has the shape (settings, seeds).

    Attributes:
        test_loss: loss on the test data, or of the parameters for a task without data.
        test_accuracy: share of the test data that is right; NaN where the task has none.
        heat_kt_per_parameter: update heat per parameter [kT].
        actuation_kt_per_parameter: barrier work per parameter [kT].
    """

    test_loss: Float[np.ndarray, "settings seeds"]
    test_accuracy: Float[np.ndarray, "settings seeds"]
    heat_kt_per_parameter: Float[np.ndarray, "settings seeds"]
    actuation_kt_per_parameter: Float[np.ndarray, "settings seeds"]


def sweep(
    task: Task | str,
    settings: Sequence[Setting],
    *,
    seeds: WholeNumber | Sequence[int] = 4,
    hops: HopsName | AbstractHops = "exact",
    steps: WholeNumber | None = None,
    batch_size: WholeNumber | None = None,
    at_once: int = 64,
    on_progress: Callable[[int, int], None] | None = None,
) -> SweepResult:
    """Trains every setting with every seed, many runs in one compiled loop.

    Settings whose barriers differ in numbers only share a compilation and run side by side; other kinds of barriers follow
    one another. The run of a setting and a seed is that of `limjax.train` with the same arguments: to rounding with
    `hops="mean"`, and as another draw of the same noise otherwise, since a hop is a threshold that a last digit can cross.

    Args:
        task: a `Task`, or the name of one.
        settings: the points of the sweep.
        seeds: seeds of initialisation, batches and hops, or how many.
        hops: "mean", "gaussian", "exact" or an object such as `limjax.ExactHops()`.
        steps: training steps; None takes the task's.
        batch_size: examples per step; None takes the task's.
        at_once: runs in one loop; the memory of all of them is needed at a time. They are spread over as many of this
            process's devices as divide their number.
        on_progress: called after every loop with the runs done and the runs in all.

    Returns:
        The outcomes.

    Raises:
        ValueError: if there is no setting, a number is not positive, or a barrier has no such name.

    Example:
        >>> import limjax
        >>> points = [Setting(limjax.StaticBarrier(b)) for b in (10.0, 14.0)]
        >>> result = sweep("quadratic", points, seeds=2, hops="mean", steps=50)
        >>> low, high = result.heat_kt_per_parameter
        >>> result.heat_kt_per_parameter.shape, bool((high > low).all())
        ((2, 2), True)
    """
    task = get_task(task) if isinstance(task, str) else task
    numbers = seed_numbers(seeds, "seeds")
    if not settings or at_once < 1:
        raise ValueError(
            f"A sweep needs settings and at least one run at once; got {len(settings)} settings, {numbers.size} seeds, "
            f"at_once={at_once}."
        )
    run_settings = RunSettings.of(task, steps=steps, batch_size=batch_size)
    groups: dict[Any, list[int]] = {}
    points = [_point(task, setting, run_settings.steps) for setting in settings]
    for i, point in enumerate(points):
        # Static fields are in the structure, shapes and dtypes of numbers are not.
        shapes = tuple((x.shape, x.dtype) for x in jax.tree.leaves(point))
        groups.setdefault((jax.tree.structure(point), shapes), []).append(i)
    shape = (len(settings), numbers.size)
    outcomes = [np.full(shape, np.nan) for _ in SweepResult._fields]
    done, total = 0, len(settings) * numbers.size
    train = jax.tree.map(jnp.asarray, task.train)
    test = jax.tree.map(jnp.asarray, task.test)
    for members in groups.values():
        run = _compiled(task, run_settings, hops_of(hops))
        pairs = [(i, j) for i in members for j in range(numbers.size)]
        for begin in range(0, len(pairs), at_once):
            # A last chunk that is shorter compiles once more.
            chunk = pairs[begin : begin + at_once]
            # A point stands there once for each of its seeds, so that runs have one axis that `spread` can divide.
            stacked = jax.tree.map(lambda *x: jnp.stack(x), *(points[i] for i, _ in chunk))
            chosen = jnp.asarray([numbers[j] for _, j in chunk], jnp.uint32)
            found = run(*parallel.spread((stacked, chosen)), train, test)
            for array, values in zip(outcomes, found):
                array[tuple(np.array(chunk).T)] = np.asarray(values, np.float64)
            done += len(chunk)
            if on_progress is not None:
                on_progress(done, total)
    return SweepResult(*outcomes)


def _point(task: Task, setting: Setting, steps: int) -> tuple[AbstractBarrier, AbstractCell, Array]:
    cell = ArrheniusCell(lsb=task.defaults.lsb) if setting.cell is None else setting.cell
    rate = task.defaults.learning_rate if setting.learning_rate is None else setting.learning_rate
    barrier = setting.barrier
    if isinstance(barrier, str):
        barrier = barrier_from_name(barrier, cell, steps, task.defaults.make_schedule(rate, steps))
    return barrier, cell, jnp.asarray(rate, jnp.result_type(float))


def reached(task: Task, params: PyTree, test: PyTree) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Test loss and test accuracy, each NaN where the task has none.

    Args:
        task: the task.
        params: parameters after training.
        test: the task's test data, which may be traced.

    Returns:
        `(loss, accuracy)`.
    """
    nothing = jnp.asarray(jnp.nan, jnp.result_type(float))
    # A task without any data has a loss of its parameters; one that only lacks test data has no test loss.
    loss = task.loss(params, test) if test is not None or task.train is None else nothing
    return loss, nothing if task.accuracy is None or test is None else task.accuracy(params, test)


def _compiled(task: Task, settings: RunSettings, hops: AbstractHops):
    """All runs of one structure, as one compiled function of (points, seeds, training data, test data)."""

    def one(point, seed, train, test):
        barrier, cell, rate = point
        inner = task.defaults.make_optimizer(task.defaults.make_schedule(rate, settings.steps))
        carry, step = seeded_run(task, cell, barrier, inner, hops, seed, settings.batch_size)
        params, state = jax.lax.fori_loop(0, settings.steps, lambda _, c: step(c, train), carry)
        ledger, count = get_ledger(state), sum(leaf.size for leaf in jax.tree.leaves(params))
        return (
            *reached(task, params, test),
            jnp.sum(ledger.heat.total) / count,
            jnp.sum(ledger.actuation.total) / count,
        )

    # Data have no axis of runs: all of them read one copy.
    return jax.jit(jax.vmap(one, in_axes=(0, 0, None, None)))
