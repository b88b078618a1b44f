"""From settings and objects to everything a run needs, checked, before any work is done."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from limjax import parallel
from limjax.barriers._base import AbstractBarrier
from limjax.barriers._specification import barrier_from_name
from limjax.memory import AbstractHops, learning_in_memory
from limjax.memory._hops import hops_of
from limjax.memory._ledger import Granularity
from limjax.memory.comparisons import AbstractComparison, NoisyEventWrite
from limjax.memory.comparisons._names import FAIR, STATIC, Comparable, named_comparisons
from limjax.memory.levels import snap, to_levels
from limjax.physics._abstract_cell import AbstractCell
from limjax.tasks import Task, get_task
from limjax.tasks._task import log_rate_factor
from limjax.training._settings import RunSettings, mesh_text

Gradient = Callable[[PyTree, PyTree], tuple[Array, PyTree, dict[str, Any]]]
"""Loss, gradient and what the optimizer is told besides, of parameters and a batch."""


class RunKeys(NamedTuple):
    """What is random in a run, each by a key of its own.

    Attributes:
        start: of the parameters.
        data: of the batches.
        hops: of the hops.
    """

    start: Array
    data: Array
    hops: Array

    @classmethod
    def of(cls, seed: Any) -> "RunKeys":
        """The keys of a seed, which may be traced."""
        return cls(*jax.random.split(jax.random.key(seed), 3))


def starting_params(task: Task, cell: AbstractCell, hops: AbstractHops, key: Array) -> PyTree:
    """The parameters at the start: on the ladder, where hops will leave them there."""
    params = task.init(key)
    return snap(params, cell) if hops.is_noisy else params


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything a run needs.

    Attributes:
        settings: what it is, in numbers and words.
        task: the task.
        cell: the memory cell.
        hops: how cells move.
        barrier: the barrier.
        inner: the optimizer that is wrapped.
        schedule: its learning rate, or None for an optimizer of the user's own.
        compare: the other memories, by name.
        own_comparisons: those of them that the user made.
        optimizer: the wrapped optimizer.
        keys: what is random.
        mesh: the devices, or None for one.
        gradient: the gradient of a batch, or None for that of the task's loss.
    """

    settings: RunSettings
    task: Task
    cell: AbstractCell
    hops: AbstractHops
    barrier: AbstractBarrier
    inner: optax.GradientTransformation
    schedule: Callable[[Any], Any] | None
    compare: dict[str, AbstractComparison]
    own_comparisons: tuple[Comparable, ...]
    optimizer: optax.GradientTransformationExtraArgs
    keys: RunKeys
    mesh: Mesh | None
    gradient: Gradient | None = None

    def params(self) -> PyTree:
        """The parameters at the start."""
        return starting_params(self.task, self.cell, self.hops, self.keys.start)

    def settled(self, settings: RunSettings | None = None) -> "Run":
        """The run with these settings, or its own, and the number of micro-batches that its mesh asks for.

        Raises:
            ValueError: if the batch or the micro-batches do not divide.
        """
        settings = self.settings if settings is None else settings
        if self.mesh is None:
            return dataclasses.replace(self, settings=settings)
        pieces = parallel.check_microbatches(settings.microbatches, self.mesh.devices.size)
        if self.task.train is not None:
            parallel.check_batch(settings.batch_size, pieces)
        # Written down, because it is the order in which gradients are summed: another mesh goes on with the same.
        return dataclasses.replace(self, settings=dataclasses.replace(settings, microbatches=pieces))


def prepare(
    settings: RunSettings,
    task: Task | None = None,
    *,
    cell: AbstractCell | None = None,
    barrier: AbstractBarrier | None = None,
    hops: AbstractHops | None = None,
    optimizer: optax.GradientTransformation | None = None,
    compare: Sequence[Comparable] | Mapping[str, Comparable] | None = None,
    granularity: Granularity = "parameter",
    mesh: Mesh | None = None,
    gradient: Gradient | None = None,
) -> Run:
    """Makes what settings name, unless it is given, and checks that it fits together.

    Args:
        settings: what the run is.
        task: the task, or None for the one the settings name; and so on.
        cell: the memory cell.
        barrier: the barrier.
        hops: how cells move.
        optimizer: the optimizer to wrap.
        compare: other memories, as in `limjax.train`.
        granularity: of the ledger.
        mesh: the devices.
        gradient: the gradient of a batch; only without a mesh, which adds gradients up in an order of its own.

    Returns:
        The run. Nothing was computed yet.

    Raises:
        ValueError: for what is wrong; the message names it and the remedy.
    """
    task = get_task(settings.task) if task is None else task
    if task.train is not None:
        task.check_batch_size(settings.batch_size)
    cell = settings.cell() if cell is None else cell
    if settings.storage is not None:
        # Of no parameters at all: a range that the storage cannot hold is refused before anything is made.
        to_levels((), cell, settings.storage)
    factor = log_rate_factor(settings.learning_rate_factor)
    schedule = task.defaults.make_schedule(settings.learning_rate, settings.steps, factor)
    if barrier is None:
        barrier = barrier_from_name(settings.barrier, cell, settings.steps, schedule)
    inner = task.defaults.make_optimizer(schedule) if optimizer is None else optimizer
    if compare is None:
        # The event-driven ones keep a number for each parameter, and `noisy-event` takes the cells for alike.
        fair = FAIR if granularity == "parameter" else FAIR[:2]
        compare = (STATIC, *(name for name in fair if not cell.varied or name != NoisyEventWrite.name))
    asked = compare.values() if isinstance(compare, Mapping) else compare
    others = named_comparisons(compare, cell, settings.steps)
    keys = RunKeys.of(settings.seed)
    hops = hops_of(settings.hops) if hops is None else hops
    if mesh is not None and settings.mesh is None:
        settings = dataclasses.replace(settings, mesh=mesh_text(mesh.shape))
    if settings.mesh is not None and mesh is None:
        mesh = parallel.make_mesh(settings.mesh)
    elif mesh is None and jax.process_count() > 1:
        raise ValueError(
            f"{jax.process_count()} processes would each train the same run alone: pass a mesh over all {jax.device_count()} "
            f'devices, for example mesh="data={jax.device_count()}".'
        )
    if gradient is not None and mesh is not None:
        raise ValueError(
            "gradient is for runs without a mesh, which adds gradients up in an order of its own: leave one of them out."
        )
    wrapped = learning_in_memory(
        inner, cell, barrier, hops=hops, key=keys.hops, granularity=granularity, compare=others
    )
    return Run(
        settings=settings,
        task=task,
        cell=cell,
        hops=hops,
        barrier=barrier,
        inner=inner,
        # The rate of an optimizer of one's own is in its program, whose fingerprint has it.
        schedule=schedule if optimizer is None else None,
        compare=others,
        # The numbers of a comparison by name follow from the cell and the length, which are compared themselves.
        own_comparisons=tuple(item for item in asked or () if not isinstance(item, str)),
        optimizer=wrapped,
        keys=keys,
        mesh=mesh,
        gradient=gradient,
    )
