"""Comparisons at the door: by name, as objects, and the set that a run is compared with."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import Array, ArrayLike, Float

from limjax.barriers._base import AbstractBarrier
from limjax.barriers._static import StaticBarrier
from limjax.memory.comparisons._barrier import BarrierComparison
from limjax.memory.comparisons._base import AbstractComparison
from limjax.memory.comparisons._event import EventWrite
from limjax.memory.comparisons._gated import GatedWrite
from limjax.memory.comparisons._noisy_event import ALIKE, NoisyEventWrite
from limjax.physics._abstract_cell import AbstractCell

STATIC, RUN_STATIC = "static", "run-static"
"""A barrier that never moves: at ten years' retention, and for the run only."""

FAIR = (RUN_STATIC, GatedWrite.name, EventWrite.name, NoisyEventWrite.name)
"""What a run is compared with in fairness: memories that hold for the run only, the last two with a register that is free."""

_WORDS = {
    STATIC: "a static barrier that holds ten years, written every step: today's memory, not a rival",
    RUN_STATIC: "a static barrier that holds for the run only, written every step",
    **{kind.name: kind.words for kind in (GatedWrite, EventWrite, NoisyEventWrite)},
}

Comparable = AbstractBarrier | AbstractComparison | str
"""What `compare=` takes: a barrier, a comparison, or the name of one."""


def run_retention(cell: AbstractCell, steps: ArrayLike, failure: ArrayLike = 1e-4) -> Float[Array, "*s"]:
    """Barrier that holds one cell for a run and no longer: ln(k0 · steps · τ / -ln(1 - P)).

    Args:
        cell: the memory cell; its step lasts τ.
        steps: number of steps of the run.
        failure: P, probability that the cell fails.

    Returns:
        B [kT].

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> from limjax import ArrheniusCell
        >>> f"{run_retention(ArrheniusCell(), 1500):.2f} kT"
        '30.34 kT'
    """
    return cell.retention_barrier(steps * cell.step_time, failure)


def fair_comparisons(
    cell: AbstractCell, steps: int, *, failure: float = 1e-4, error: float = 0.01, registers: bool = True
) -> dict[str, AbstractComparison]:
    """The memories that a run of known length is compared with: all hold for the run only.

    Args:
        cell: the memory cell.
        steps: number of steps of the run.
        failure: probability that a cell at the barrier between writes fails during the run.
        error: probability that a sure event-driven hop goes the wrong way.
        registers: whether to include the event-driven ones, which keep one number per parameter each.

    Returns:
        Comparisons by name: `run-static`, `gated`, `event`, `noisy-event`; without the last, which is for cells that are alike, where
        the cell's numbers vary.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> from limjax import ArrheniusCell
        >>> list(fair_comparisons(ArrheniusCell(), steps=1500))
        ['run-static', 'gated', 'event', 'noisy-event']
    """
    left_out = () if registers else (EventWrite.name, NoisyEventWrite.name)
    made = _fair(cell, run_retention(cell, steps, failure), error)
    return {name: make() for name, make in made.items() if name not in left_out}


def _fair(
    cell: AbstractCell, hold: Float[Array, "*s"], error: float = 0.01
) -> dict[str, Callable[[], AbstractComparison]]:
    """How each of them is made: a gate's table takes a moment, and one may be asked for alone."""
    fair: dict[str, Callable[[], AbstractComparison]] = {
        RUN_STATIC: lambda: BarrierComparison(StaticBarrier(hold)),
        GatedWrite.name: lambda: GatedWrite(hold, cell),
        EventWrite.name: lambda: EventWrite(hold, error),
        NoisyEventWrite.name: lambda: NoisyEventWrite(hold),
    }
    if cell.varied:
        del fair[NoisyEventWrite.name]
    return fair


def named_comparisons(
    compare: Sequence[Comparable] | Mapping[str, Comparable] | Callable[[AbstractCell], Any] | None,
    cell: AbstractCell,
    steps: int | None = None,
) -> dict[str, AbstractComparison]:
    """Comparisons by name, from whatever `compare=` was given.

    Args:
        compare: barriers, comparisons or names, in a sequence (called by their own names) or a dict by name; None for a
            static barrier at ten years' retention; a function of the cell that returns one of these.
        cell: the memory cell.
        steps: number of steps of the run, which the names of memories that hold for it need.

    Returns:
        Comparisons by name.

    Raises:
        ValueError: for an unknown name, a name that needs `steps`, or two comparisons of one name.
    """
    if callable(compare):
        return named_comparisons(compare(cell), cell, steps)
    if compare is None:
        compare = (STATIC,)
    if isinstance(compare, str):
        compare = (compare,)
    if not isinstance(compare, Mapping):
        names = [one if isinstance(one, str) else one.name for one in compare]
        if len(set(names)) != len(names):
            raise ValueError(f"Two barriers to compare with have one name, got {names}; pass a dict of names instead.")
        compare = dict(zip(names, compare))
    return {name: _comparison(one, cell, steps) for name, one in compare.items()}


def comparison_words(name: str) -> str | None:
    """What a comparison of this name is, in words; None for one that is not this library's."""
    return _WORDS.get(name)


def _comparison(one: Comparable, cell: AbstractCell, steps: int | None) -> AbstractComparison:
    if isinstance(one, AbstractComparison):
        return one
    if isinstance(one, AbstractBarrier):
        return BarrierComparison(one)
    if one == STATIC:
        return BarrierComparison(StaticBarrier.at_retention(cell))
    if one not in FAIR:
        raise ValueError(f"Unknown comparison {one!r}; known are {STATIC}, {', '.join(FAIR)}.")
    if steps is None:
        raise ValueError(
            f'"{one}" holds for the run only, so the length of the run must be known: pass '
            "compare=limjax.fair_comparisons(cell, steps=...), or one of its entries."
        )
    fair = _fair(cell, run_retention(cell, steps))
    if one not in fair:
        raise ValueError(ALIKE)
    return fair[one]()
