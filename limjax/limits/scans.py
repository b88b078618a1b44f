"""Limits along one axis, as arrays: what the figures draw."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from limjax.limits import approaches, bounds
from limjax.limits._conditions import DEFAULT_TIME_S, OPEN_BARRIER_KT, Conditions
from limjax.limits._convergences import Course
from limjax.limits._lines import RECONSTRUCTED_BITS
from limjax.limits._records import Catalogue, Record, load_catalogue
from limjax.limits._workload import KT_PER_UPDATE, Workload
from limjax.limits.approaches import APPROACHES, AbstractApproach, ConstantExchange
from limjax.numerics._guards import finite
from limjax.numerics.checks import finite_number, positive_number, whole_number
from limjax.physics.units import LN2, thermal_energy_joules

_MOST_POINTS = 1_000_000
DRAWN_HARDWARE = ("V100 SXM2 fp16", "H100 SXM bf16", "B200 fp4")


class Line(NamedTuple):
    """One curve.

    Attributes:
        label: its name.
        group: landauer, lim, accelerator or bound.
        values: y at each x, NaN where there is none.
    """

    label: str
    group: str
    values: np.ndarray


class Band(NamedTuple):
    """A range that is filled.

    Attributes:
        label: its name.
        low: lower end at each x [J].
        high: upper end [J].
    """

    label: str
    low: np.ndarray
    high: np.ndarray


class Scan(NamedTuple):
    """Curves over one axis.

    Attributes:
        axis: what x is, with its unit.
        x: where.
        lines: the curves [J].
        band: of the reconstruction, or None.
        runs: training runs to draw as points.
        subtitle: what is held fixed.
    """

    axis: str
    x: np.ndarray
    lines: tuple[Line, ...]
    band: Band | None
    runs: tuple[Record, ...]
    subtitle: str


def plain(value: float) -> str:
    """A number for a title: 1e15 rather than 1e+15.

    Args:
        value: the number.

    Returns:
        Its text.
    """
    return f"{finite_number(value, 'value'):.3g}".replace("e+", "e").replace("e0", "e")


def _axis(low: float, high: float, points: int) -> np.ndarray:
    """Places at equal ratios from low to high, all three checked."""
    ends = (
        positive_number(low, "low", "It is where the axis begins."),
        positive_number(high, "high", "It is where the axis ends."),
    )
    return np.geomspace(*ends, whole_number(points, "points", 1, _MOST_POINTS))


def _one_convergence(assumed: Conditions, bits: ArrayLike, whole: np.ndarray | float) -> list[Line]:
    """Static, constant and law, for so many weights in joules per kT; NaN where the final loss is out of reach."""
    barrier, attempts = assumed.retention_barrier, assumed.attempt_rate * DEFAULT_TIME_S

    # Traced, so that what is out of reach leaves a gap instead of raising.
    @jax.jit
    def heats(values: Float[Array, "..."]) -> tuple[Array, Array, Array]:
        course = Course.of(values, assumed.loss_ratio, assumed.contraction_factor)
        return course.static_heat(barrier, attempts), course.heat(ConstantExchange()), course.law_heat()

    titles = ("static barrier", "constant barrier", "law")
    return [
        Line(f"LIM, {title}, one convergence", "lim", whole * np.asarray(value, np.float64))
        for title, value in zip(titles, heats(jnp.asarray(bits, jnp.result_type(float))))
    ]


@finite
def scan_parameters(
    low: float = 1e6,
    high: float = 1e16,
    *,
    bits: int = 8,
    batch: float = 1e6,
    points: int = 81,
    conditions: Conditions | None = None,
    catalogue: Catalogue | None = None,
) -> Scan:
    """Energy against the number of parameters, with published runs.

    Args:
        low: smallest number of parameters.
        high: largest.
        bits: precision [bits].
        batch: tokens per optimizer step.
        points: how many sizes.
        conditions: what the cells are like.
        catalogue: accelerators and runs.

    Returns:
        The curves.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> len(scan_parameters(points=5).runs)
        8
    """
    assumed = Conditions() if conditions is None else conditions
    records = load_catalogue() if catalogue is None else catalogue
    x = _axis(low, high, points)
    # The ends as they were given: the error is to name one of them, and not a size between.
    for size in x[[0, -1]].tolist():
        Workload(size, bits=bits, batch=batch)
    kt = thermal_energy_joules(assumed.temperature)
    asked = [Workload(size, batch=batch, updates="optimizer") for size in x.tolist()]
    kaplan, writes = np.array([(one.total_flops, one.update_count) for one in asked]).T
    chinchilla = np.array([replace(one, scaling="chinchilla").total_flops for one in asked])
    lines = [
        Line(f"{name}, {title}", "accelerator", flops * records.get("accelerator", name).joules_per_flop)
        for name, title, flops in (
            (DRAWN_HARDWARE[0], "Kaplan", kaplan),
            (DRAWN_HARDWARE[2], "Kaplan", kaplan),
            (DRAWN_HARDWARE[1], "Chinchilla", chinchilla),
        )
    ]
    lines += [
        Line("Landauer per FLOP, Chinchilla", "landauer", chinchilla * bits * LN2 * kt),
        Line("Landauer per FLOP, Kaplan", "landauer", kaplan * bits * LN2 * kt),
        Line("law, 2 kT per FLOP, Kaplan", "lim", kaplan * KT_PER_UPDATE * kt),
        Line("law, 2 kT per optimizer write, Kaplan", "lim", writes * KT_PER_UPDATE * kt),
    ]
    lines += _one_convergence(assumed, bits, x * kt)
    few, many = (kaplan * b * LN2 * kt for b in RECONSTRUCTED_BITS)
    return Scan(
        "number of parameters",
        x,
        tuple(lines),
        Band("LIM, arXiv v1 (reconstruction, 4 to 32 bits)", few, many),
        tuple(records.of("run")),
        f"{bits} bits, {assumed.temperature:g} K",
    )


@finite
def scan_contraction(
    parameters: float = 1e15, *, bits: int = 8, points: int = 81, conditions: Conditions | None = None
) -> Scan:
    """Energy of one convergence against training time in relaxation times, at fixed size and precision.

    Args:
        parameters: number of parameters.
        bits: precision [bits].
        points: how many times.
        conditions: what the cells are like.

    Returns:
        The curves over uT; NaN where the final loss is out of reach.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> scan_contraction(points=3).axis
        'training time in relaxation times, uT'
    """
    assumed = Conditions() if conditions is None else conditions
    points = whole_number(points, "points", 1, _MOST_POINTS)
    workload = Workload(parameters, bits=bits)
    whole = workload.parameters * thermal_energy_joules(assumed.temperature)
    distance, ratio = 2.0**bits, assumed.ratio(bits)
    # From the shortest time the closed form allows, dense where the heat falls steeply.
    span = np.log(ratio)
    x = np.minimum(span * (0.5 + 2.5 * np.linspace(0.01, 1, points) ** 2), approaches.MAX_CONTRACTION)
    heats = {approach.title: _heats(approach, distance, x, distance**2 / ratio) for approach in APPROACHES}
    # `averaged` keeps its default, which is not traced: that is the closed form.
    heats["law, open barrier"] = np.asarray(jax.jit(bounds.convergence)(jnp.full(points, ratio), jnp.asarray(x)))
    lines = [Line(title, "lim", heat.astype(np.float64) * whole) for title, heat in heats.items()]
    lines.append(Line("law, in any time", "bound", np.full_like(x, 2 * span) * whole))
    lines.append(Line(f"Landauer, {bits} ln 2 once", "landauer", np.full_like(x, bits * LN2) * whole))
    subtitle = (
        f"{plain(workload.parameters)} parameters, {distance:g} levels, L0/LT = {plain(ratio)}, hop noise paid for"
    )
    return Scan("training time in relaxation times, uT", x, tuple(lines), None, (), subtitle)


def _heats(
    approach: AbstractApproach,
    distance: float,
    contraction: np.ndarray,
    final_loss: float,
    log_ceiling: Float[Array, "points"] | None = None,
) -> np.ndarray:
    """Heat of an approach at many times; NaN where the final loss is out of reach."""
    # Traced, as in `_one_convergence`.
    heat = jax.jit(lambda theta, ceiling: approaches.heat(approach, distance, theta, final_loss, log_ceiling=ceiling))
    return np.asarray(heat(jnp.asarray(contraction, jnp.result_type(float)), log_ceiling), np.float64)


@finite
def scan_time(
    parameters: float = 1e15,
    low: float = 1e-6,
    high: float = 1e13,
    *,
    bits: int = 8,
    points: int = 81,
    conditions: Conditions | None = None,
) -> Scan:
    """Energy of one convergence against training time in seconds, at fixed size, precision and attempt rate.

    The exchange never exceeds that of a barrier of 2 kT, which is what makes short trainings dear. Much longer than the retention
    time, a static barrier would no longer be as precise as the others.

    Args:
        parameters: number of parameters.
        low: shortest time [s].
        high: longest time [s].
        bits: precision [bits].
        points: how many times.
        conditions: what the cells are like.

    Returns:
        The curves over seconds.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> [line.label for line in scan_time(points=3).lines][0]
        'static barrier'
    """
    assumed = Conditions() if conditions is None else conditions
    x = _axis(low, high, points)
    # Made for its checks: of its numbers only the parameters are used.
    workload = Workload(parameters, bits=bits, time=float(x[0]))
    whole = workload.parameters * thermal_energy_joules(assumed.temperature)
    distance, theta, ratio = 2.0**bits, assumed.contraction(bits), assumed.ratio(bits)
    log_attempts = np.log(x) + np.log(assumed.attempt_rate)
    barrier = assumed.retention_barrier
    # One number per time, as `approaches.static` has it: all times in one call.
    scale = jnp.asarray(log_attempts - barrier - np.log(theta), jnp.result_type(float))
    static = approaches.descend(ConstantExchange(), distance, theta, scale).heat_kt
    # k0 T e^-2 over uT: hops per relaxation time of a cell that is as open as one with levels can be.
    ceiling = jnp.asarray(log_attempts - OPEN_BARRIER_KT - np.log(theta), scale.dtype)
    lines = [Line("static barrier", "lim", np.asarray(static, np.float64) * whole)]
    lines += [
        Line(way.title, "lim", _heats(way, distance, np.full(points, theta), distance**2 / ratio, ceiling) * whole)
        for way in APPROACHES
    ]
    lines.append(Line("law, open barrier", "bound", np.full_like(x, float(bounds.convergence(ratio, theta))) * whole))
    lines.append(Line(f"Landauer, {bits} ln 2 once", "landauer", np.full_like(x, bits * LN2) * whole))
    subtitle = (
        f"{plain(workload.parameters)} parameters, {distance:g} levels, uT = {theta:.3g}, L0/LT = {plain(ratio)}, "
        f"k0 = {plain(assumed.attempt_rate)}/s, static {barrier:.1f} kT"
    )
    return Scan("training time [s]", x, tuple(lines), None, (), subtitle)


@finite
def scan_bits(
    parameters: float = 1e15,
    *,
    hardware: str = "H100 SXM bf16",
    conditions: Conditions | None = None,
    catalogue: Catalogue | None = None,
) -> Scan:
    """Energy against bits per weight, 2 to 32, at fixed size and Kaplan's computation.

    Args:
        parameters: number of parameters.
        hardware: accelerator compared with.
        conditions: what the cells are like.
        catalogue: where the hardware is looked up.

    Returns:
        The curves.

    Raises:
        ValueError: if a number is out of its range, or the hardware unknown.

    Example:
        >>> scan_bits().x[[0, -1]].tolist()
        [2.0, 32.0]
    """
    assumed = Conditions() if conditions is None else conditions
    workload = Workload(parameters)
    chip = (load_catalogue() if catalogue is None else catalogue).get("accelerator", hardware)
    kt = thermal_energy_joules(assumed.temperature)
    x = np.arange(2.0, 33.0)
    writes = workload.parameters * workload.total_steps
    lines = [
        Line(chip.name, "accelerator", np.full_like(x, workload.total_flops * chip.joules_per_flop)),
        Line("Landauer per FLOP", "landauer", workload.total_flops * x * LN2 * kt),
        Line("Landauer per optimizer write", "landauer", writes * x * LN2 * kt),
        Line("law, 2 kT per FLOP", "lim", np.full_like(x, workload.total_flops * KT_PER_UPDATE * kt)),
        *_one_convergence(assumed, x, workload.parameters * kt),
    ]
    subtitle = f"{plain(workload.parameters)} parameters, Kaplan, L0/LT = "
    subtitle += "4^bits" if assumed.loss_ratio is None else plain(assumed.loss_ratio)
    return Scan("bits per weight", x, tuple(lines), None, (), subtitle)
