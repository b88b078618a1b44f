"""What the ledger keeps, column by column. A new column is one line of `COLUMNS`."""

import operator
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from limjax.memory._field import Field, Only, Summable
from limjax.physics._abstract_cell import VALID_FROM_BARRIER, AbstractCell


class StepOutcome(NamedTuple):
    """What happened in one step, as fields over the parameters.

    Attributes:
        cell: the memory cell.
        drifts: requests d [levels].
        affinities: F [kT].
        activities: A [hops].
        held: where the tilt had eaten the barrier.
        moves: displacements that were drawn [levels], or None where they are the requests.
        ends: 1 where a move was stopped at the end of the cell's range, or None for cells without one.
        height: the barrier B [kT].
        work: work to move the barrier there [kT].
        clipped: 1 where the barrier was clipped to the cell's range.
        charges: what pulses took, by name, for cells that are written by them.
        withheld: what was asked for and is beyond the driver [levels], or None for a driver without an end.
    """

    cell: AbstractCell
    drifts: Field
    affinities: Field
    activities: Field
    held: Field
    moves: Field | None
    ends: Field | None
    height: Field
    work: Only
    clipped: Field
    charges: dict[str, Field]
    withheld: Field | None = None


class Setup(NamedTuple):
    """What decides which columns a ledger has.

    Attributes:
        noisy: whether hops are drawn.
        has_range: whether the cell has a lowest and highest level.
        barrier_per_parameter: whether the barrier differs between parameters.
        charges: what the cell's pulses are charged for (`AbstractCell.charges`).
        has_driver_end: whether the cell's driver has a largest affinity.
    """

    noisy: bool
    has_range: bool
    barrier_per_parameter: bool
    charges: tuple[str, ...] = ()
    has_driver_end: bool = False


def _always(setup: Setup) -> bool:
    return True


def _never(setup: Setup) -> bool:
    return False


class Column(NamedTuple):
    """One column of the ledger.

    Attributes:
        name: what it is called, in code and files.
        of: what one step adds to it.
        words: what it is, with its unit.
        tracked: whether it can be kept per parameter.
        counts: whether it counts: in whole numbers, where it is kept per parameter.
        kept: whether a ledger of some set-up has it.
        scale: what its sums are multiplied by, one number, or None. A column that is another times a number is then summed with it:
            a GPU wrote the numbers of both to memory.
    """

    name: str
    of: Callable[[StepOutcome], Summable]
    words: str
    tracked: Callable[[Setup], bool] = _never
    counts: bool = False
    kept: Callable[[Setup], bool] = _always
    scale: Callable[[StepOutcome], Array | None] | None = None


def _heat(step: StepOutcome) -> Field:
    return step.drifts.map(operator.mul, step.affinities)


def _one_temperature(step: StepOutcome) -> Array | None:
    return None if step.cell.temperature.ndim else step.cell.temperature


def _heat_kelvin(step: StepOutcome) -> Field:
    # The same sum as `heat`: its row is multiplied by the one temperature once it is summed (`Column.scale`).
    if _one_temperature(step) is not None:
        return _heat(step)
    return _heat(step).map(lambda heat: heat * step.cell.temperature.astype(heat.dtype))


def _realised_heat(step: StepOutcome) -> Field:
    assert step.moves is not None
    return step.affinities.map(operator.mul, step.moves)


def _range_clipped(step: StepOutcome) -> Field:
    assert step.ends is not None
    return step.ends


def _withheld(step: StepOutcome) -> Field:
    assert step.withheld is not None
    return step.withheld.map(jnp.abs)


def _charge(name: str, words: str) -> Column:
    """A column that a cell's pulses fill: it stands beside model heat and is never added to it."""
    return Column(name, lambda step: step.charges[name], words, kept=lambda setup: name in setup.charges)


COLUMNS = (
    Column(
        "hops",
        lambda step: step.activities,
        "mean number of hops ΣA, also the variance that the hops injected [levels²]",
    ),
    Column(
        "heat_kelvin",
        _heat_kelvin,
        "update heat times the temperature of its step, so that k_B times it is joules [kT K]",
        scale=_one_temperature,
    ),
    Column(
        "barrier_clipped", lambda step: step.clipped, "parameter-steps whose barrier was clipped to the cell's range"
    ),
    Column(
        "shallow",
        lambda step: step.height.map(lambda b: (b < VALID_FROM_BARRIER).astype(b.dtype)),
        "parameter-steps with a barrier below 2 kT, where the ladder is a rough picture",
    ),
    Column("heat", _heat, "update heat Σ d·F of the closed form [kT]", tracked=_always),
    Column("path", lambda step: step.drifts.map(jnp.abs), "requested path Σ|d| [levels]", tracked=_always),
    Column(
        "saturated",
        lambda step: step.held.map(lambda held, drift: held.astype(drift.dtype), step.drifts),
        "steps in which the tilt exceeded the barrier",
        tracked=_always,
        counts=True,
    ),
    Column(
        "actuation",
        lambda step: step.work,
        "work to move the barrier [kT]; per parameter where it differs between them",
        tracked=lambda setup: setup.barrier_per_parameter,
    ),
    Column(
        "realised_heat",
        _realised_heat,
        # Hops stopped at the end of a range are not in it, while `heat` charges requests in full.
        "Σ F·Δn of the hops drawn [kT], whose mean is `heat` for a cell without a range; None without hop noise",
        kept=lambda setup: setup.noisy,
    ),
    Column(
        "range_clipped",
        _range_clipped,
        "parameter-steps that ended at the end of the cell's range; None without a range",
        kept=lambda setup: setup.has_range,
    ),
    Column(
        "undelivered",
        lambda step: _withheld(step).map(lambda rest: (rest > 0).astype(rest.dtype)),
        "parameter-steps whose request was beyond the driver's largest affinity; None for a driver without an end",
        kept=lambda setup: setup.has_driver_end,
    ),
    Column(
        "undelivered_path",
        _withheld,
        "Σ|requested - delivered| of them [levels]; `path` and `heat` are of what was delivered",
        kept=lambda setup: setup.has_driver_end,
    ),
    _charge("pulses", "pulses that were given; None for a cell without pulses, as all that follow"),
    _charge("misplaced", "Σ|delivered - requested|: what the dependence on the state did to the requests [levels]"),
    _charge("device_joules", "energy of the pulses at the device [J]; None where it is not known"),
    _charge(
        "device_seconds",
        "duration of the pulses, as if cells were written one after the other [s]; None where not known",
    ),
)
"""Every column; those that can be kept per parameter are leaf sums where they are not."""

NAMES = {column.name: column for column in COLUMNS}

# Asked with a set-up in which all is kept per parameter that can be.
TRACKED = tuple(column.name for column in COLUMNS if column.tracked(Setup(True, True, True)))
"""Sums that can be kept per parameter."""
