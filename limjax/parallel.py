"""More than one device: meshes, shardings, gradients that do not depend on the number of devices, several hosts.

A mesh has two axes, `data` and `model`. Every device works on its own part of the batch; large parameter arrays, their
optimizer state and their ledger are split over `model` and gathered for the gradient (as ZeRO and FSDP do).

Floating-point sums depend on their order, and a hop is a threshold: a gradient that differs in its last digit sooner or
later gives another hop, and another run. So gradients are summed here in one fixed order, a balanced tree over
micro-batches, wherever those were computed. Every device gets its share of all the gradients, sums it, and passes the result on: along one
axis that is the traffic of an all-reduce, along two axes at most twice that.
"""

import contextlib
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from limjax.memory._blocks import PACK_BELOW
from limjax.numerics.checks import WholeNumber, compute_dtype, is_whole, whole_number

AXES = ("data", "model")
"""Names of the axes of a mesh."""


def make_mesh(shape: str | dict[str, int] | None = None) -> Mesh:
    """A mesh over all devices of all processes.

    Args:
        shape: sizes of the axes, as `"data=4,model=2"` or a dict; an axis left out has size 1. None puts all devices on
            `data`.

    Returns:
        The mesh, with axes `data` and `model`.

    Raises:
        ValueError: for an axis that is unknown or named twice, a size that is not a positive whole number, or sizes that do
            not multiply to the number of devices.

    Example:
        >>> make_mesh("data=1").shape["model"]
        1
    """
    devices = devices_here()
    if shape is None:
        shape = {"data": len(devices)}
    sizes = _parsed(shape) if isinstance(shape, str) else dict(shape)
    for name, size in sizes.items():
        if name not in AXES:
            raise ValueError(f'A mesh has the axes "data" and "model", got {name!r}; write for example data=4,model=2.')
        sizes[name] = whole_number(size, f"The size of the mesh axis {name}")
    grid = tuple(sizes.get(name, 1) for name in AXES)
    if math.prod(grid) != len(devices):
        raise ValueError(
            f"A mesh of data={grid[0]}, model={grid[1]} needs {math.prod(grid)} devices, but {len(devices)} are here. Choose "
            "sizes whose product is that; on a CPU, XLA_FLAGS=--xla_force_host_platform_device_count=8 makes eight."
        )
    return Mesh(np.asarray(devices).reshape(grid), AXES)


def parameter_shardings(tree: PyTree, mesh: Mesh | AbstractMesh, params: PyTree | None = None) -> PyTree:
    """How a tree lies on a mesh: arrays shaped like a large parameter are split over `model`, the rest is copied.

    The rule looks at the shape alone: an array of at least `PACK_BELOW` (`limjax/memory/_blocks.py`) elements is split along its longest
    axis whose length `model` divides. So parameters, moments and ledger blocks lie alike.

    Args:
        tree: parameters, an optimizer state, or anything that holds them; arrays or `jax.ShapeDtypeStruct`s.
        mesh: from `make_mesh`.
        params: the parameters, if `tree` holds more than them: only shapes that occur there are split.

    Returns:
        A `NamedSharding` for every leaf.

    Example:
        >>> import jax.numpy as jnp
        >>> parameter_shardings({"w": jnp.zeros((256, 256))}, make_mesh())["w"].is_fully_replicated
        True
    """
    shapes = {tuple(leaf.shape) for leaf in jax.tree.leaves(tree if params is None else params)}

    def sharding(leaf):
        shape = tuple(np.shape(leaf))
        axis = _split_axis(shape, mesh) if shape in shapes else None
        return NamedSharding(mesh, PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, "model"))

    return jax.tree.map(sharding, tree)


def place(tree: PyTree, shardings: PyTree) -> PyTree:
    """Puts host arrays, equal on all processes, onto a mesh.

    Args:
        tree: arrays that every process holds in full.
        shardings: one sharding for all, or a tree of them.

    Returns:
        Global arrays.
    """

    def put(x, sharding):
        host = np.asarray(x)
        # Every process fills the shards of its own devices and sends nothing.
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    if isinstance(shardings, NamedSharding):
        return jax.tree.map(lambda x: put(x, shardings), tree)
    return jax.tree.map(put, tree, shardings)


def init_state(init: Callable[[PyTree], PyTree], params: PyTree, mesh: Mesh) -> PyTree:
    """An optimizer's state on a mesh, sharded like the parameters and never whole on one device.

    Args:
        init: `optimizer.init`.
        params: parameters on the mesh.
        mesh: the mesh.

    Returns:
        The state; its arrays that are shaped like parameters lie as those do.
    """
    shardings = parameter_shardings(jax.eval_shape(init, params), mesh, params)
    return jax.jit(init, out_shardings=shardings)(params)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array that every device holds in full."""
    return NamedSharding(mesh, PartitionSpec())


def value_and_grad(
    loss: Callable[[PyTree, Any], Any], mesh: Mesh, microbatches: int | None = None
) -> Callable[[PyTree, PyTree], tuple[Array, PyTree]]:
    """Loss and gradient of a batch that is spread over all devices, the same bits on any number of them.

    The batch is cut into micro-batches, each device differentiates its own ones after another, and losses and gradients
    are averaged in the order of a balanced tree. With the same number of micro-batches, results on two meshes are equal
    bit for bit if the numbers of devices are powers of two (other numbers: equal to rounding).

    Args:
        loss: mean loss of parameters on a batch, as in `Task`.
        mesh: from `make_mesh`.
        microbatches: how many, a multiple of the number of devices, which is also the default.

    Returns:
        A function of `(params, batch)`, to be called under `jax.jit`; parameters lie as `parameter_shardings` says, the
        leading axis of the batch is a multiple of `microbatches`. It returns the loss and the gradient, sharded like the
        parameters.

    Raises:
        ValueError: if the micro-batches do not divide over the devices, or the batch over the micro-batches.

    Cost: the traffic of one all-gather of the parameters and of one all-reduce of the gradient per axis of the mesh;
    memory for the whole parameters and one gradient per local micro-batch.
    """
    count = check_mesh(mesh).devices.size
    pieces = check_microbatches(microbatches, count)
    split = PartitionSpec(AXES)

    def run(params, batch):
        if batch is None:  # nothing to spread: every device differentiates the same loss
            return jax.value_and_grad(loss)(params, None)
        sizes = [x.shape[0] for x in jax.tree.leaves(batch)]
        if len(set(sizes)) > 1:
            raise ValueError(f"All arrays of a batch need the same leading axis, the examples; got {sizes}.")
        size = sizes[0]
        check_batch(size, pieces)
        specs = jax.tree.map(lambda s: s.spec, parameter_shardings(params, mesh))
        axes = [_split_axis(tuple(p.shape), mesh) for p in jax.tree.leaves(params)]

        def local(params, batch):
            leaves, treedef = jax.tree.flatten(params)
            whole = treedef.unflatten([
                leaf if axis is None else jax.lax.all_gather(leaf, "model", axis=axis, tiled=True)
                for leaf, axis in zip(leaves, axes)
            ])  # fmt: skip
            own = jax.tree.map(lambda x: x.reshape(pieces // count, size // pieces, *x.shape[1:]), batch)
            # No vmap: its batch would be of another size on another mesh, and its kernels might sum in another order.
            losses, gradients = jax.lax.map(lambda piece: jax.value_and_grad(loss)(whole, piece), own)
            mean = _summed(losses, mesh, None) / pieces
            sums = [_summed(g, mesh, axis) / pieces for g, axis in zip(jax.tree.leaves(gradients), axes)]
            return mean, treedef.unflatten(sums)

        # Gathered results are the same on all devices, which the check of varying axes cannot tell.
        mapped = jax.shard_map(
            local, mesh=mesh, in_specs=(specs, split), out_specs=(PartitionSpec(), specs), check_vma=False
        )
        return mapped(params, batch)

    return run


def check_mesh(mesh: Mesh) -> Mesh:
    """Refuses a mesh that was made elsewhere and has other axes.

    Args:
        mesh: any mesh.

    Returns:
        The mesh.

    Raises:
        ValueError: if its axes are not `data` and `model`.
    """
    if tuple(mesh.axis_names) != AXES:
        raise ValueError(
            f'A mesh needs the axes "data" and "model", got {mesh.axis_names}; limjax.parallel.make_mesh makes one, or '
            'rename yours: Mesh(devices, ("data", "model")).'
        )
    return mesh


def check_microbatches(microbatches: WholeNumber | None, devices: int) -> int:
    """The number of micro-batches of a batch.

    Args:
        microbatches: what was asked for, or None for one per device.
        devices: number of devices.

    Returns:
        The number.

    Raises:
        ValueError: if it is not a positive multiple of the number of devices.
    """
    if microbatches is None:
        return devices
    if not is_whole(microbatches) or microbatches < 1 or microbatches % devices:
        raise ValueError(
            f"microbatches must be a multiple of the {devices} devices of the mesh, got {microbatches!r}; "
            f"for example {devices}."
        )
    return int(microbatches)


def check_batch(size: int, microbatches: int) -> None:
    """Refuses a batch that cannot be cut into equal micro-batches.

    Args:
        size: examples in a batch.
        microbatches: how many pieces.

    Raises:
        ValueError: if the one does not divide the other.
    """
    if size % microbatches:
        raise ValueError(
            f"A batch of {size} cannot be cut into {microbatches} micro-batches; use a batch size that is a multiple of "
            f"{microbatches}, for example {microbatches * max(1, round(size / microbatches))}."
        )


def initialize(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> tuple[int, int]:
    """Joins this process to a run on several hosts, one process per host; to be called before anything else uses JAX.

    Args:
        coordinator: `host:port` of process 0; None lets JAX find it, which works under SLURM, Open MPI and on TPU pods.
        processes: how many there are; needed with a coordinator.
        process: number of this one; needed with a coordinator.

    Returns:
        `(number of this process, number of processes)`.

    Raises:
        ValueError: if the coordinator is given without the two numbers, or JAX cannot join; the message says why.
    """
    if coordinator is not None and (processes is None or process is None):
        raise ValueError(
            "A coordinator needs the number of processes and the number of this one: --coordinator host:port "
            "--processes 2 --process 0."
        )
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"The processes could not be joined: {error}. Give --coordinator host:port, --processes and --process, or start "
            "under SLURM (srun), Open MPI or on a TPU pod, where JAX finds them itself."
        ) from None
    return jax.process_index(), jax.process_count()


def any_process(*values: bool) -> tuple[bool, ...]:
    """For each question whether any process says yes, so that all of them do the same; all have to ask.

    Args:
        values: what this process says.

    Returns:
        As many answers, the same on every process.

    Example:
        >>> any_process(True, False)
        (True, False)
    """
    if jax.process_count() == 1:
        return values
    from jax.experimental import multihost_utils

    said = multihost_utils.process_allgather(np.asarray(values))
    return tuple(bool(answer) for answer in np.any(said, axis=0))


_outer: Callable[[], bool] | None = None


@contextlib.contextmanager
def interrupts_noted() -> Iterator[Callable[[], bool]]:
    """Inside, Ctrl-C, SIGTERM and SIGHUP are noted instead of raised, so that nothing is left half done.

    A process that left a computation in the middle would leave the others of its run waiting for it for ever, and one that left
    a save in the middle would lose it. The third signal is raised as KeyboardInterrupt, for a computation that does not end.
    Handlers of somebody else, and ignored signals (`nohup`), are left alone. Inside another `interrupts_noted` this is that one.

    Yields:
        A function that says whether there was one.
    """
    global _outer
    if _outer is not None:
        yield _outer
        return
    count = 0

    def note(number, frame):
        nonlocal count
        count += 1
        if count > 2:
            raise KeyboardInterrupt

    def was_noted():
        return count > 0

    usual = {}
    if threading.current_thread() is threading.main_thread():  # Python lets no other one set handlers
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
                usual[number] = signal.signal(number, note)
    if usual:  # one that notes nothing, in another thread, is nobody's outer one
        _outer = was_noted
    try:
        yield was_noted
    finally:
        if usual:
            _outer = None
        for number, handler in usual.items():
            signal.signal(number, handler)


def devices_here() -> list[Any]:
    """The devices that JAX finds.

    Returns:
        All of them.

    Raises:
        ValueError: if there is none of the kind that was asked for; the message says how to go on.
    """
    try:
        return jax.devices()
    except Exception as error:  # an assertion without words, a RuntimeError, ...: it depends on the platform
        said = " ".join(str(error).split())[:160]
    asked = os.environ.get("JAX_PLATFORMS") or jax.config.jax_platforms or "the default platform"  # pyright: ignore[reportAttributeAccessIssue]
    raise ValueError(
        f"JAX finds no device for JAX_PLATFORMS={asked}{f' ({said})' if said else ''}: set JAX_PLATFORMS=cpu, or leave it unset, to "
        "run without an accelerator; for one, install JAX with its plugin, for example pip install 'jax[cuda13]'."
    )


def spread(tree: PyTree) -> PyTree:
    """Spreads independent runs over the devices of this process: splits the leading axis where their number divides it.

    Args:
        tree: arrays with one leading axis of runs.

    Returns:
        The tree, on as many of the devices as divide the number of runs.
    """
    size = jax.tree.leaves(tree)[0].shape[0]
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if size % n == 0)
    if count == 1:
        return tree
    mesh = Mesh(np.asarray(devices[:count]), ("runs",))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec("runs")))


def _parsed(text: str) -> dict[str, int]:
    try:
        pairs = [(name.strip(), int(size)) for name, _, size in (part.partition("=") for part in text.split(","))]
    except ValueError:
        raise ValueError(f"A mesh is written as data=4,model=2, got {text!r}.") from None
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"A mesh names each of its axes once, as in data=4,model=2, got {text!r}.")
    return dict(pairs)


def _split_axis(shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> int | None:
    """The longest axis that can be split over `model`, or None."""
    parts = mesh.shape["model"]
    axes = [i for i, n in enumerate(shape) if n % parts == 0]
    if parts == 1 or math.prod(shape) < PACK_BELOW or not axes:
        return None
    return max(axes, key=lambda i: shape[i])


def _summed(x: Array, mesh: Mesh, split_axis: int | None) -> Array:
    """Sum over the leading axis and over all devices in the order of a balanced tree; split over `model` if asked.

    Devices are numbered data first, so neighbours on `model` hold neighbouring micro-batches and are summed first. Half
    precision is summed in float32.
    """
    own = x.dtype
    x = _tree_sum(x.astype(compute_dtype(own)))
    models, datas = mesh.shape["model"], mesh.shape["data"]
    if split_axis is not None:
        pieces = jnp.stack(jnp.split(x, models, axis=split_axis))
        x = _tree_sum(jax.lax.all_to_all(pieces, "model", 0, 0))
    else:
        x = _all_summed(x, "model", models)
    return _all_summed(x, "data", datas).astype(own)


def _all_summed(x: Array, axis: str, count: int) -> Array:
    if count == 1:
        return x
    flat = x.reshape(-1)
    padded = jnp.pad(flat, (0, -flat.size % count)).reshape(count, -1)
    part = _tree_sum(jax.lax.all_to_all(padded, axis, 0, 0))
    return jax.lax.all_gather(part, axis, tiled=True)[: flat.size].reshape(x.shape)


def _tree_sum(x: Array) -> Array:
    # Runs of the odd factor first, then pairs: what one of 2, 4, 8, ... devices sums is then a subtree of the whole.
    pairs = x.shape[0] & -x.shape[0]  # the largest power of two that divides it
    runs = x.reshape(pairs, x.shape[0] // pairs, *x.shape[1:])
    total = runs[:, 0]
    for i in range(1, runs.shape[1]):
        total = total + runs[:, i]
    while total.shape[0] > 1:
        total = total[0::2] + total[1::2]
    return total[0]
