"""What one cell needs and costs: from bits, range and retention to barrier, hold time and heat."""

import math
from typing import NamedTuple

import jax

from limjax.numerics.checks import WholeNumber, checked_leaf, whole_number
from limjax.physics._cell import ArrheniusCell
from limjax.physics.units import YEAR_S


class CellSizing(NamedTuple):
    """What one memory cell needs to hold a weight, and what moving it costs.

    Attributes:
        levels: number of levels.
        lsb: one level [weight].
        retention_barrier_kt: barrier that holds the weight for the time asked [kT].
        hold_seconds_open: how long the open barrier holds it with the same failure probability [s].
        open_barrier_kt: the open barrier [kT].
        actuation_kt: work to raise the barrier from open to retention, once [kT].
        actuation_joules: the same [J].
        update_kt_open: heat of moving one level in one step with the barrier open [kT].
        update_kt_shut: the same at retention [kT].
        update_joules_open: the same as `update_kt_open` [J].
        update_joules_shut: the same as `update_kt_shut` [J].
        landauer_kt: ln 2 per bit stored [kT].
    """

    levels: int
    lsb: float
    retention_barrier_kt: float
    hold_seconds_open: float
    open_barrier_kt: float
    actuation_kt: float
    actuation_joules: float
    update_kt_open: float
    update_kt_shut: float
    update_joules_open: float
    update_joules_shut: float
    landauer_kt: float


def size_cell(
    bits: WholeNumber = 8,
    weight_range: float = 2.0,
    retention_years: float = 10.0,
    failure: float = 1e-4,
    temperature: float = 300.0,
    open_barrier: float = 10.0,
    attempt_rate: float = 1e9,
    step_time: float = 1e-3,
) -> CellSizing:
    """Sizes a cell for a weight.

    Args:
        bits: bits of the weight.
        weight_range: largest minus smallest weight it must hold, and one level: the range is parted into 2^bits levels.
        retention_years: how long it must hold it [years].
        failure: probability that it does not.
        temperature: temperature [K].
        open_barrier: barrier while training [kT].
        attempt_rate: k0 [1/s].
        step_time: duration of one step [s].

    Returns:
        The sizes and costs.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> f"{size_cell(bits=8).retention_barrier_kt:.2f} kT"
        '49.50 kT'
    """
    bits = whole_number(bits, "bits", 1, 24, said="from 1 to 24")
    for value, name, low, high, remedy in (
        (weight_range, "weight_range", 1e-30, 1e30, "It is the largest minus the smallest weight."),
        (retention_years, "retention_years", 1e-20, 1e20, "It is in years, for example 10."),
        (failure, "failure", 1e-30, 0.999999, "It is the probability that the weight is lost, for example 1e-4."),
        (temperature, "temperature", 1e-9, 1e9, "Room temperature is 300 K."),
        (open_barrier, "open_barrier", 0.0, 1e4, "It is in kT, for example 10."),
        (attempt_rate, "attempt_rate", 1e-6, 1e30, "It is k0 in 1/s, for example 1e9."),
        (step_time, "step_time", 1e-20, 1e20, "It is in seconds, for example 1e-3."),
    ):
        # Only the check counts: the leaf may be float32, and the numbers go on in float64.
        checked_leaf(value, name, low=low, high=high, remedy=remedy)
    # Exponentials of barriers leave float32.
    with jax.enable_x64(True):
        return _sized(bits, weight_range, retention_years, failure, temperature, open_barrier, attempt_rate, step_time)


def _sized(
    bits: int,
    weight_range: float,
    retention_years: float,
    failure: float,
    temperature: float,
    open_barrier: float,
    attempt_rate: float,
    step_time: float,
) -> CellSizing:
    levels = 2**bits
    cell = ArrheniusCell(weight_range / levels, attempt_rate, step_time, temperature)
    retention = float(cell.retention_barrier(retention_years * YEAR_S, failure))
    if not open_barrier < retention:
        raise ValueError(
            f"open_barrier must be below the barrier that holds the weight, {retention:.4g} kT for {retention_years:g} years at an "
            f"error of {failure:g}, got {open_barrier:g}. Ask for a longer retention, or train with a lower barrier."
        )
    shut, opened = float(cell.heat(1.0, retention)), float(cell.heat(1.0, open_barrier))
    actuation = float(cell.actuation(open_barrier, retention))
    return CellSizing(
        levels=levels,
        lsb=weight_range / levels,
        retention_barrier_kt=retention,
        hold_seconds_open=float(cell.retention_time(open_barrier, failure)),
        open_barrier_kt=open_barrier,
        actuation_kt=actuation,
        actuation_joules=cell.joules(actuation),
        update_kt_open=opened,
        update_kt_shut=shut,
        update_joules_open=cell.joules(opened),
        update_joules_shut=cell.joules(shut),
        landauer_kt=bits * math.log(2.0),
    )
