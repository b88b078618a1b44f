"""The points of a front: what is known of each, and the folder that keeps them."""

import math
import os
import pathlib
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from limjax._files import read_json, reason, renew, without_nan, write_json
from limjax.barriers._base import AbstractBarrier
from limjax.barriers._files import barrier_from_json, barrier_to_json
from limjax.numerics._present_names import with_present_names
from limjax.numerics.checks import is_real
from limjax.tuning._differentiable_run import Design
from limjax.tuning._one_problem import TuneResult

_NEW_SWEEP = "Put back the file as the sweep wrote it, or choose a new folder; nothing was changed."
NUMBERS = ("test_loss", "test_loss_error", "energy_kt_per_parameter", "energy_kt_per_parameter_error", "seconds")
"""What is measured of a point on held-out seeds."""
# In the order of NUMBERS, whose last, the seconds, has its first name still.
_EARLIER: dict[str, str] = dict(zip(("loss", "loss_error", "energy_kt", "energy_error"), NUMBERS))
_POINT_AGAIN = "Delete that file to tune its point again; nothing was changed."


class ParetoPoint(NamedTuple):
    """One tuned design on held-out seeds.

    Attributes:
        setting: energy weight or energy limit, and time weight, that it was tuned for.
        result: how its tuning ended.
        design: the tuned design.
        test_loss: mean test loss.
        test_loss_error: its standard error.
        energy_kt_per_parameter: mean heat and barrier work per parameter [kT].
        energy_kt_per_parameter_error: its standard error [kT].
        seconds: physical duration of the run [s].
        is_front: whether no other point of the sweep is at least as good in everything and better in something.
    """

    setting: dict[str, float]
    result: str
    design: Design
    test_loss: float
    test_loss_error: float
    energy_kt_per_parameter: float
    energy_kt_per_parameter_error: float
    seconds: float
    is_front: bool

    @classmethod
    def of(cls, setting: dict[str, float], found: TuneResult) -> "ParetoPoint":
        """The point that tuning for a setting found."""
        after = found.after
        # Not on the front so far: that takes all points, and is marked at the end of the sweep.
        return cls(
            setting, str(found.result), found.design, after.mean_loss, after.loss_error, after.energy_kt_per_parameter,
            after.energy_kt_per_parameter_error, after.seconds, False,
        )  # fmt: skip


class PointStore:
    """Finished points as JSON files, with the settings of the sweep beside them.

    Args:
        folder: where; None keeps nothing.
        settings: all that the points depend on.
        earlier: settings of sweeps whose file does not say them.

    Raises:
        ValueError: for a folder that holds another sweep or cannot be written.
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None, settings: dict[str, Any], earlier: dict[str, Any] | None = None
    ):
        self._folder = None if folder is None else pathlib.Path(folder)
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"There can be no folder {self._folder}: {reason(error)}. Choose another one.") from None
        path = self._folder / "sweep.json"
        if path.exists():
            difference = _difference((earlier or {}) | read_json(path, _NEW_SWEEP), settings)
            if difference is not None:
                raise ValueError(
                    f"{self._folder} holds another sweep: {difference}. Choose a new folder, or repeat the call it was made by; "
                    "nothing was changed."
                )
        try:
            # Also where it is the same: a file of an earlier version then says everything.
            write_json(path, settings)
        except OSError as error:
            raise ValueError(f"{path} cannot be written: {reason(error)}. Choose another folder.") from None

    def load(self, index: int, setting: dict[str, float]) -> ParetoPoint | None:
        """The point of this number, if it was finished."""
        if self._folder is None or not (path := self._folder / f"point-{index:03d}.json").exists():
            return None
        try:
            content = with_present_names(read_json(path, _POINT_AGAIN), _EARLIER)
            # Says itself which file is wrong.
            barrier = barrier_from_json(content["barrier"], str(path))
            point = _point(content, setting, barrier)
        except KeyError as error:
            raise ValueError(f"{path} is damaged: it has no {error}. {_POINT_AGAIN}") from None
        except (TypeError, OverflowError, RecursionError) as error:
            raise ValueError(f"{path} is damaged ({reason(error)}). {_POINT_AGAIN}") from None
        # Last: a file that turned out damaged stays as it was.
        renew(path, _EARLIER)
        return point

    def save(self, index: int, point: ParetoPoint) -> None:
        """Keeps a finished point."""
        if self._folder is not None:
            # In one piece: an interrupted write leaves no file of this name, and the point is tuned again.
            write_json(self._folder / f"point-{index:03d}.json", point_to_json(point))


def _point(content: dict[str, Any], setting: dict[str, float], barrier: AbstractBarrier) -> ParetoPoint:
    """The point that a file describes, of a barrier that is read.

    Raises:
        KeyError: for what it lacks.
        TypeError: for what is no number.
    """

    def number(name):
        if not is_real(content[name]):
            raise TypeError(f"{name} is {content[name]!r}, no number")
        return content[name]

    dtype = jnp.result_type(float)
    design = Design(barrier, *(jnp.asarray(number(name), dtype) for name in ("log_step_time", "log_rate")))
    # null is what `without_nan` wrote.
    numbers = {name: math.nan if content[name] is None else float(number(name)) for name in NUMBERS}
    return ParetoPoint(setting, str(content["result"]), design, **numbers, is_front=False)


def _difference(kept: dict[str, Any], given: dict[str, Any]) -> str | None:
    """In what a sweep differs from the one in its folder, in a few words; None if it is the same."""
    for name, value in given.items():
        if name not in kept:
            return f"it was made by an earlier version and does not say its {name}"
        if kept[name] == value:
            continue
        if isinstance(value, dict) and isinstance(kept[name], dict):  # fingerprints, which say nothing themselves
            names = [key for key in kept[name] | value if kept[name].get(key) != value.get(key)]
            return f"it has another {' and another '.join(names)}"
        return f"it has {name} = {kept[name]!r}, but {value!r} was given"
    return None


def point_to_json(point: ParetoPoint) -> dict[str, Any]:
    """A point as JSON-able numbers, its design included."""
    return without_nan({
        **{name: value for name, value in point._asdict().items() if name != "design"},
        "barrier": barrier_to_json(point.design.barrier),
        "log_step_time": float(point.design.log_step_time),
        "log_rate": np.asarray(point.design.log_rate, np.float64).tolist(),
    })  # fmt: skip
