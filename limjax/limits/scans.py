"""Limits along one axis, as arrays: what the figures draw."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from limjax.limits import frontier
from limjax.limits.records import Catalogue, Record, load_catalogue
from limjax.limits.scaling import LAWS
from limjax.limits.stack import DEFAULT_TIME_S, OPEN_BARRIER_KT, RECONSTRUCTED_BITS, Conditions, convergence_heat
from limjax.limits.workload import Workload
from limjax.physics.units import LN2, thermal_energy_joules

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


class Scan(NamedTuple):
    """Curves over one axis.

    Attributes:
        axis: what x is, with its unit.
        x: where.
        lines: the curves [J].
        band: `(label, low, high)` of the reconstruction [J], or None.
        runs: training runs to draw as points.
        subtitle: what is held fixed.
    """

    axis: str
    x: np.ndarray
    lines: tuple[Line, ...]
    band: tuple[str, np.ndarray, np.ndarray] | None
    runs: tuple[Record, ...]
    subtitle: str


def plain(value: float) -> str:
    """A number for a title: 1e15 rather than 1e+15.

    Args:
        value: the number.

    Returns:
        Its text.
    """
    return f"{value:.3g}".replace("e+", "e").replace("e0", "e")


def _law(name, values):
    log_flops, power = LAWS[name].log_flops, LAWS[name].flops_exponent
    return np.exp(log_flops + power * np.log(values))


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
    for size in (low, high):
        Workload(size, bits=bits, batch=batch)
    x = np.geomspace(low, high, points)
    kt = thermal_energy_joules(assumed.temperature)
    kaplan, chinchilla = _law("kaplan", x), _law("chinchilla", x)
    tokens = np.exp(LAWS["kaplan"].log_tokens + LAWS["kaplan"].tokens_exponent * np.log(x))
    lines = [
        Line(
            f"{name}, {title}",
            "accelerator",
            flops * records.get("accelerator", name).joules_per_flop,
        )
        for name, title, flops in (
            (DRAWN_HARDWARE[0], "Kaplan", kaplan),
            (DRAWN_HARDWARE[2], "Kaplan", kaplan),
            (DRAWN_HARDWARE[1], "Chinchilla", chinchilla),
        )
    ]
    lines += [
        Line("Landauer per FLOP, Chinchilla", "landauer", chinchilla * bits * LN2 * kt),
        Line("Landauer per FLOP, Kaplan", "landauer", kaplan * bits * LN2 * kt),
        Line("Landauer per optimizer write, Kaplan", "landauer", x * np.maximum(tokens / batch, 1) * bits * LN2 * kt),
    ]
    heats = convergence_heat(
        float(bits),
        assumed.variance,
        assumed.contraction_factor,
        retention_barrier=assumed.retention_barrier,
        attempts=assumed.attempt_rate * DEFAULT_TIME_S,
    )
    titles = ("LIM, static barrier", "LIM, constant barrier", "LIM, rate-matched", "LIM, Lyapunov-optimal")
    lines += [Line(title, "lim", x * float(heat) * kt) for title, heat in zip(titles, heats)]
    few, many = (kaplan * b * LN2 * kt for b in RECONSTRUCTED_BITS)
    return Scan(
        "number of parameters",
        x,
        tuple(lines),
        ("LIM, arXiv v1 (reconstruction, 4 to 32 bits)", few, many),
        tuple(records.of("run")),
        f"{bits} bits, {assumed.temperature:g} K",
    )


def scan_contraction(
    parameters: float = 1e15, *, bits: int = 8, points: int = 81, conditions: Conditions | None = None
) -> Scan:
    """Energy of one convergence against training time in convergence times, at fixed size and precision.

    Args:
        parameters: number of parameters.
        bits: precision [bits].
        points: how many times.
        conditions: what the cells are like.

    Returns:
        The curves over aT; NaN where the variance is out of reach.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> scan_contraction(points=3).axis
        'training time in convergence times, aT'
    """
    assumed = Conditions() if conditions is None else conditions
    workload = Workload(parameters, bits=bits)
    whole = workload.parameters * thermal_energy_joules(assumed.temperature)
    distance = float(2**bits)
    start = max(float(frontier.minimum_contraction(distance, assumed.variance)), 0.1)
    # Dense at the start, where the heat falls steeply.
    x = start * 1.0005 + (min(2.5 * bits * LN2 + 1, frontier.MAX_CONTRACTION) - start) * np.linspace(0, 1, points) ** 2

    def heat(function):
        # One by one: compiled for one number, and used by the stack as well.
        return np.array([float(function(distance, theta, assumed.variance)) for theta in x.tolist()])

    lines = [
        Line("best constant barrier", "lim", heat(frontier.constant_heat)),
        Line("rate-matched", "lim", heat(frontier.rate_matched_heat)),
        Line("Lyapunov-optimal", "lim", heat(frontier.lyapunov_heat)),
        Line(f"Landauer, {bits} ln 2 once", "landauer", np.full_like(x, bits * LN2)),
    ]
    lines = [Line(line.label, line.group, line.values.astype(np.float64) * whole) for line in lines]
    subtitle = f"{plain(workload.parameters)} parameters, {distance:g} levels to a variance of {assumed.variance:g}"
    return Scan("training time in convergence times, aT", x, tuple(lines), None, (), subtitle)


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

    The schedules are held to exchange rates the cell can make: their heat is at least that of a barrier open all the
    time, and the larger of the two is drawn. Much longer than the retention time, a static barrier would no longer be as
    precise as the others.

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
    workload = Workload(parameters, bits=bits, time=low)
    whole = workload.parameters * thermal_energy_joules(assumed.temperature)
    distance, theta = float(2**bits), assumed.contraction_factor * bits * LN2
    x = np.geomspace(low, high, points)
    log_attempts = jnp.asarray(np.log(x) + np.log(assumed.attempt_rate), jnp.result_type(float))
    barrier = assumed.retention_barrier
    static = frontier.constant_at_exchange(distance, theta, log_attempts - barrier).heat_kt
    opened = frontier.constant_at_exchange(distance, theta, log_attempts - OPEN_BARRIER_KT).heat_kt

    def held(function):
        heat = float(function(distance, theta, assumed.variance))
        return np.maximum(np.asarray(opened, np.float64), heat) * whole

    lines = (
        Line("static barrier", "lim", np.asarray(static, np.float64) * whole),
        Line("best constant barrier", "lim", held(frontier.constant_heat)),
        Line("rate-matched", "lim", held(frontier.rate_matched_heat)),
        Line("Lyapunov-optimal", "lim", held(frontier.lyapunov_heat)),
        Line("always open (keeps nothing)", "bound", np.asarray(opened, np.float64) * whole),
        Line(f"Landauer, {bits} ln 2 once", "landauer", np.full_like(x, bits * LN2) * whole),
    )
    subtitle = (
        f"{plain(workload.parameters)} parameters, {distance:g} levels, aT = {theta:.3g}, variance {assumed.variance:g}, "
        f"k0 = {plain(assumed.attempt_rate)}/s, static {barrier:.1f} kT"
    )
    return Scan("training time [s]", x, lines, None, (), subtitle)


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
    heats = np.array(
        [
            convergence_heat(
                bits,
                assumed.variance,
                assumed.contraction_factor,
                retention_barrier=assumed.retention_barrier,
                attempts=assumed.attempt_rate * DEFAULT_TIME_S,
            )
            for bits in x.tolist()
        ],
        np.float64,
    ).T
    writes = workload.parameters * workload.total_steps
    titles = ("LIM, static barrier", "LIM, constant barrier", "LIM, rate-matched", "LIM, Lyapunov-optimal")
    lines = [
        Line(chip.name, "accelerator", np.full_like(x, workload.total_flops * chip.joules_per_flop)),
        Line("Landauer per FLOP", "landauer", workload.total_flops * x * LN2 * kt),
        Line("Landauer per optimizer write", "landauer", writes * x * LN2 * kt),
        *(Line(title, "lim", workload.parameters * kt * heat) for title, heat in zip(titles, heats)),
    ]
    subtitle = f"{plain(workload.parameters)} parameters, Kaplan, variance {assumed.variance:g} level², "
    subtitle += f"aT = {assumed.contraction_factor:g} ln(levels)"
    return Scan("bits per weight", x, tuple(lines), None, (), subtitle)
