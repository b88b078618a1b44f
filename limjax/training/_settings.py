"""What a run is, in numbers and words: checked, kept as JSON beside it, and compared when the run goes on."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from limjax.barriers._base import AbstractBarrier
from limjax.numerics.checks import INT32_MAX, is_real, positive_number, whole_number
from limjax.physics._abstract_cell import AbstractCell
from limjax.physics._cell import ArrheniusCell
from limjax.tasks import Task
from limjax.tasks._task import log_rate_factor

_TEXTS = {
    "task": "the name of a task",
    "barrier": "the name of a barrier, perhaps with arguments: lyapunov:start=8",
    "hops": "the name of a kind of hops, such as exact",
    "mesh": "a text such as data=4,model=2",
    "storage": "int8, int16 or int32",
    "memory_device": "the name of a device or a file",
}
_CELL = ("lsb", "attempt_rate", "step_time", "temperature")
_BUDGETS = ("stop_at_heat", "stop_at_loss")
# What checkpoints of earlier versions call the steps.
_EARLIER = {"requested_steps": "steps"}


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """What a run is, in numbers and words.

    A run is made of objects as well, a cell or a barrier of your own; those that no number here describes are told apart by
    fingerprints (`_same_run.py`).

    Attributes:
        task: name of the task.
        steps: number of steps.
        batch_size: examples per step.
        learning_rate: peak learning rate.
        lsb: one level [weight/level]; of cells that differ shape, least, mean and greatest, here and in the next three.
        barrier: name of the barrier, perhaps with its arguments.
        hops: name of the kind of hops.
        attempt_rate: k0 [1/s].
        step_time: duration of a step [s].
        temperature: of the cells [K].
        seed: of initialisation, batches and hops.
        learning_rate_factor: factors on the schedule at equal distances over the run, or None.
        bits: bits of a cell, or None for no end.
        storage: "int8" or "int16" for weights kept as level numbers, or None.
        mesh: devices, as `"data=4,model=2"`, or None for one.
        microbatches: in how many pieces a batch is differentiated, or None.
        stop_at_heat: heat and barrier work per parameter at which the run ends [kT], or None for no budget.
        stop_at_loss: training loss, mean over a fiftieth of the run, at which it ends, or None.
        memory_device: the device that keeps the weights, a name of the zoo or a file (`limjax.devices.get_device`), or None.
        max_affinity: largest affinity that the cells' driver can give [kT], or None for no end.

    Raises:
        ValueError: for a wrong number; the message names it.

    Example:
        >>> from limjax.tasks import get_task
        >>> settings = RunSettings.of(get_task("quadratic"), steps=10)
        >>> settings.steps, settings.hops, RunSettings.from_json(settings.to_json()) == settings
        (10, 'exact', True)
    """

    task: str
    steps: int
    batch_size: int
    learning_rate: float
    lsb: Any
    barrier: str
    hops: str
    attempt_rate: Any
    step_time: Any
    temperature: Any
    seed: int
    learning_rate_factor: tuple[float, ...] | None = None
    bits: int | None = None
    storage: str | None = None
    mesh: str | None = None
    microbatches: int | None = None
    memory_device: str | None = None
    stop_at_heat: float | None = None
    stop_at_loss: float | None = None
    max_affinity: Any = None

    def __post_init__(self):
        for name, value in _checked(vars(self)).items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, task: Task, cell: AbstractCell | None = None, /, **given: Any) -> "RunSettings":
        """Settings for a task, with the task's own for those that are not given or None.

        Args:
            task: the task.
            cell: the memory cell, whose numbers are taken over.
            **given: settings by name.

        Returns:
            The settings.

        Raises:
            ValueError: for a wrong one.
        """
        own = {
            name: getattr(task.defaults, name) for name in ("steps", "batch_size", "learning_rate", "lsb", "barrier")
        }
        own["barrier"] = barrier_name(own["barrier"])
        own |= {"hops": "exact", "seed": 0, "attempt_rate": 1e9, "step_time": 1e-3, "temperature": 300.0}
        if cell is not None:
            own |= {name: _recorded(getattr(cell, name)) for name in _CELL}
            if cell.driver_affinity is not None:
                own["max_affinity"] = _recorded(cell.driver_affinity)
        given = {name: value for name, value in given.items() if value is not None}
        if given.get("memory_device") is not None:
            own |= _of_device(given)
        # Few bits span the weights only with coarser levels, unless a cell, a device or `lsb` says how coarse they are.
        if cell is None and not {"lsb", "memory_device"} & set(given) and isinstance(given.get("bits"), int):
            own["lsb"] = task.defaults.lsb_for(given["bits"])
        # Checked before it is made as well: where annotations are enforced, their error would come first.
        settings = cls(**_checked(own | {"task": task.name} | given))
        if task.train is not None:
            task.check_batch_size(settings.batch_size)
        return settings

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "RunSettings":
        """Settings as `to_json` wrote them, or as an earlier version did.

        Args:
            content: what the file holds.

        Returns:
            The settings.

        Raises:
            ValueError: if one is missing or wrong; the message names it.
        """
        fields = dataclasses.fields(cls)
        content = {_EARLIER.get(name, name): value for name, value in content.items()}
        known = {field.name: content[field.name] for field in fields if field.name in content}
        missing = [f.name for f in fields if f.name not in known and f.default is dataclasses.MISSING]
        if missing:
            raise ValueError(f"there is no {missing[0]!r}")
        # Earlier versions kept the sizes of a mesh by axis, as `summary.json` still does.
        if isinstance(known.get("mesh"), Mapping):
            known["mesh"] = mesh_text(known["mesh"])
        return cls(**_checked(known))

    @classmethod
    def names_in(cls, content: Mapping[str, Any]) -> set[str]:
        """The settings that a file of this or an earlier version knows."""
        return {_EARLIER.get(name, name) for name in content}

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON can hold them."""
        content = dataclasses.asdict(self)
        factor = self.learning_rate_factor
        return content | {"learning_rate_factor": None if factor is None else list(factor)}

    def cell(self) -> AbstractCell:
        """The memory cell with these numbers."""
        if self.memory_device is not None:
            from limjax.devices import get_device  # only where it is asked for: it takes a quarter of all imports

            numbers = {name: getattr(self, name) for name in ("lsb", "step_time", "temperature", "seed")}
            return get_device(self.memory_device).cell(**numbers)
        numbers = {name: getattr(self, name) for name in _CELL}
        return ArrheniusCell(**numbers, bits=self.bits, max_affinity=self.max_affinity)

    def continued(self, where: str, given: Mapping[str, Any]) -> "RunSettings":
        """These settings for a run that goes on: only the mesh and what ends it early may be others.

        Args:
            where: what has these settings, for messages: "The run in runs/one".
            given: what is asked for, by name.

        Returns:
            The settings with that mesh and those budgets.

        Raises:
            ValueError: if something else is asked for than the run has; the message names it.
        """
        for name, value in given.items():
            saved = getattr(self, name)
            if name in _BUDGETS or _same(name, saved, value):
                continue
            why = " (gradients would be summed in another order)" if name in ("mesh", "microbatches") else ""
            new = ' with mesh "data=1" and 8 microbatches' if name == "mesh" and saved is None else ""
            raise ValueError(
                f"{where} has {name} = {saved!r}, but {value!r} was given{why}. A resumed run keeps its settings: leave that out "
                f"or give the same, or start a new run in another folder{new}. Nothing was changed."
            )
        return dataclasses.replace(self, **{name: given[name] for name in ("mesh", *_BUDGETS) if name in given})


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as the types they are meant to be, or an error that names the one that is wrong."""
    for name, words in _TEXTS.items():
        value = values.get(name)
        if not isinstance(value, str) and (value is not None or name in ("task", "barrier", "hops")):
            raise ValueError(f"{name} must be {words}, got {value!r}.")
    factor, bits, pieces = (values.get(name) for name in ("learning_rate_factor", "bits", "microbatches"))
    log_rate_factor(factor)
    hops = values["hops"]
    if values.get("storage") is not None and hops != "exact":
        raise ValueError(
            f'storage="{values["storage"]}" keeps whole levels, which needs hops="exact" (--hops exact); got hops={hops!r}.'
        )
    if pieces is not None and values.get("mesh") is None:
        raise ValueError('microbatches needs a mesh: pass mesh="data=1" (--mesh data=1), or leave it out.')
    return {
        **values,
        # What the int32 that counts the ledger's steps can hold.
        "steps": whole_number(values["steps"], "steps", 1, INT32_MAX),
        "batch_size": whole_number(values["batch_size"], "batch_size", 1, INT32_MAX),
        "learning_rate": positive_number(values["learning_rate"], "learning_rate"),
        # Without x64 JAX keeps the low 32 bits of a seed: a larger one would be the run of another.
        "seed": whole_number(values["seed"], "seed", 0, 2**32 - 1, said="from 0 to 2**32 - 1"),
        "learning_rate_factor": None if factor is None else tuple(float(x) for x in factor),
        "bits": None if bits is None else whole_number(bits, "bits"),
        "microbatches": None if pieces is None else whole_number(pieces, "microbatches"),
        **{name: _checked_number(values[name], name) for name in _CELL},
        **{name: _budget(values.get(name), name) for name in _BUDGETS},
        "max_affinity": None if (most := values.get("max_affinity")) is None else _checked_number(most, "max_affinity"),
    }


def _budget(value: Any, name: str) -> float | None:
    """Where a run ends early, or None for a budget without end."""
    if value is None or (is_real(value) and not np.ndim(value) and float(value) == np.inf):
        return None
    return positive_number(value, name, "inf, or leaving it out, is a run to its last step.")


def _of_device(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that follow from the device, in place of the task's own."""
    from limjax.devices import get_device

    if not isinstance(given["memory_device"], str):
        raise ValueError(f"memory_device must be the name of a device or a file, got {given['memory_device']!r}.")
    wrong = [name for name in ("bits", "storage", "attempt_rate", "max_affinity") if name in given]
    if wrong:
        raise ValueError(
            f"{wrong[0]} is what a device says of itself: leave it out, or leave out the device (--device)."
        )
    numbers = {
        name: _checked_number(given[name], name) for name in ("lsb", "step_time", "temperature") if name in given
    }
    cell = get_device(given["memory_device"]).cell(**numbers)
    rate, lsb = float(cell.attempt_rate), float(cell.lsb)
    # As text, which settings are made of: the run that reads them back has the same barrier to the last bit.
    return {"lsb": lsb, "attempt_rate": rate, "barrier": f"static:height={float(cell.own_barrier):.6g}"}


def _checked_number(value: Any, name: str) -> Any:
    """A number of the cell, which checks its range itself."""
    if isinstance(value, Mapping):
        return value
    if not is_real(value) or np.ndim(value):
        raise ValueError(f"{name} must be a number, got {value!r}.")
    return float(value)


def barrier_name(barrier: Any) -> str:
    """What the settings call a barrier: its text, or the name of an object.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(barrier, AbstractBarrier):
        return barrier.name
    if not isinstance(barrier, str):
        raise TypeError(f"barrier must be a barrier such as limjax.StaticBarrier(10.0), or its name; got {barrier!r}.")
    return barrier


def _recorded(value: Any) -> float | dict[str, Any]:
    """A cell's number; of numbers that vary from device to device shape, mean and range."""
    numbers = np.asarray(value, np.float64)
    if numbers.ndim == 0:
        return float(numbers)
    least, mean, greatest = float(numbers.min()), float(numbers.mean()), float(numbers.max())
    return {"shape": list(numbers.shape), "least": least, "mean": mean, "greatest": greatest}


def mesh_text(shape: Mapping[str, int]) -> str:
    """The sizes of a mesh as the settings have them: `data=4,model=2`."""
    return ",".join(f"{axis}={size}" for axis, size in shape.items())


def _same(name: str, saved: Any, given: Any) -> bool:
    if name == "mesh":  # another mesh is another way to compute the same run, if gradients were summed in its order
        return (saved is None) == (given is None)
    if name in _CELL and isinstance(saved, float) and isinstance(given, float):
        # One may be as it was typed, the other as the cell holds it.
        return bool(np.float32(saved) == np.float32(given))
    return saved == (tuple(given) if isinstance(given, list) else given)
