"""Barriers by name, as the CLI and `limjax.train` take them: `lyapunov`, `static:height=20`, `fisher:price=1e5`."""

import dataclasses
import difflib
import inspect
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from limjax.barriers.base import AbstractBarrier
from limjax.barriers.files import load_barrier
from limjax.barriers.fisher import FisherBarrier
from limjax.barriers.fowler_nordheim import FowlerNordheimBarrier
from limjax.barriers.learned import LearnedBarrier
from limjax.barriers.lyapunov import LyapunovBarrier
from limjax.barriers.moment import MomentBarrier
from limjax.barriers.rate_matched import RateMatchedBarrier
from limjax.barriers.scheduled import ScheduledBarrier
from limjax.barriers.spline import SplineBarrier
from limjax.barriers.static import StaticBarrier
from limjax.numerics.elementary import safe_log
from limjax.physics.abstract_cell import AbstractCell

_MOST_KNOTS = 10_000


def barrier_names() -> tuple[str, ...]:
    """Names that `barrier_from_name` knows."""
    return tuple(_MAKERS)


def barrier_from_name(
    specification: str, cell: AbstractCell, steps: int, learning_rate: Callable | float
) -> AbstractBarrier:
    """A barrier from its name and, after a colon, its arguments.

    Args:
        specification: `name` or `name:argument=number,argument=number`. The names and arguments are those of the
            classes, with defaults that suit a run of this length; `static` alone stands at ten years' retention,
            `scheduled` rises with the inverse square of the learning rate. A name that ends in `.json` is a file that
            `limjax tune` or `save_barrier` wrote.
        cell: the memory cell.
        steps: length of the run.
        learning_rate: learning rate, or its optax schedule.

    Returns:
        The barrier.

    Raises:
        ValueError: for an unknown name or argument (the message lists the known ones), or a wrong number.

    Example:
        >>> from limjax import ArrheniusCell
        >>> barrier_from_name("static:height=20", ArrheniusCell(), 100, 1e-3).name
        'static'
    """
    if specification.endswith(".json"):
        return load_barrier(specification, steps)
    name, _, rest = specification.partition(":")
    if name not in _MAKERS:
        near = difflib.get_close_matches(name, _MAKERS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"Unknown barrier {name!r}; known are {', '.join(_MAKERS)}.{hint}")
    maker = _MAKERS[name]
    known = [p for p in inspect.signature(maker).parameters if p not in ("cell", "total_steps", "learning_rate")]
    arguments: dict[str, float | str] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if key not in known or not equals:
            raise ValueError(
                f"Barrier {name!r} does not take {item!r}; write name:argument=number, where the arguments of {name!r} are "
                f"{', '.join(known)}."
            )
        try:
            arguments[key] = value if key == "granularity" else float(value)
        except ValueError:
            raise ValueError(f"{key} of barrier {name!r} must be a number, got {value!r}.") from None
    return maker(cell=cell, total_steps=steps, learning_rate=learning_rate, **arguments)


def _static(cell, total_steps, learning_rate, height=None):
    return StaticBarrier.at_retention(cell) if height is None else StaticBarrier(height)


def _scheduled(cell, total_steps, learning_rate, start=9.0, power=2.0):
    return ScheduledBarrier(_WithTheRate(start, power, learning_rate))


@dataclasses.dataclass(frozen=True)
class _WithTheRate:
    """Γ* ∝ v · sqrt(1/p), both of which fall as the learning rate does: B rises by ln (lr0/lr)^power."""

    start: float
    power: float
    learning_rate: Any

    def __call__(self, step):
        return self.start + self.power * (safe_log(self._rate(0)) - safe_log(self._rate(step)))

    def _rate(self, step):
        value = self.learning_rate(step) if callable(self.learning_rate) else self.learning_rate
        return jnp.asarray(value, jnp.result_type(float))


def _lyapunov(cell, total_steps, learning_rate, start=None, decay=0.98, floor=0.0):
    return LyapunovBarrier(start, decay, floor)


def _moment(cell, total_steps, learning_rate, scale=1.0, decay=0.95, floor=0.0, granularity="parameter"):
    return MomentBarrier(scale, decay, floor, granularity)  # pyright: ignore[reportArgumentType]  # checked there


def _rate_matched(cell, total_steps, learning_rate, ratio=2.0, decay=0.98, granularity="leaf"):
    return RateMatchedBarrier(ratio, decay, granularity)  # pyright: ignore[reportArgumentType]  # checked there


def _fisher(cell, total_steps, learning_rate, price=1e4, decay=0.98):
    return FisherBarrier(price, decay)


def _fowler_nordheim(cell, total_steps, learning_rate, start=9.0, time_constant=None):
    # By default the barrier rises by about ln 50 over the run.
    return FowlerNordheimBarrier(
        start, total_steps * float(cell.step_time) / 50 if time_constant is None else time_constant
    )


def _spline(cell, total_steps, learning_rate, start=9.0, stop=16.0, knots=8):
    if not (2 <= knots <= _MOST_KNOTS and knots == int(knots)):
        raise ValueError(f"knots of barrier 'spline' must be a whole number from 2 to {_MOST_KNOTS}, got {knots:g}.")
    return SplineBarrier(jnp.linspace(start, stop, int(knots)), total_steps)


def _learned(cell, total_steps, learning_rate, scale=1.0, decay=0.95, granularity="parameter"):
    law = MomentBarrier(scale, decay, granularity=granularity)  # pyright: ignore[reportArgumentType]  # checked there
    return LearnedBarrier.from_law(total_steps, law=law)


_MAKERS = {
    "static": _static,
    "scheduled": _scheduled,
    "lyapunov": _lyapunov,
    "moment": _moment,
    "rate-matched": _rate_matched,
    "fisher": _fisher,
    "fowler-nordheim": _fowler_nordheim,
    "spline": _spline,
    "learned": _learned,
}
