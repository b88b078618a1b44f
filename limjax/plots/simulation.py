"""Figures of simulated systems: protocol, trajectories, work and heat, and one memory cell by every route."""

import os
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from limjax.plots._style import ACCENT, FLOOR, OTHER, OWN, figure, plain_numbers
from limjax.simulate import SYSTEMS, CellComparison, SystemRun
from limjax.simulate._protocols import AbstractKnotProtocol

_CONTROLS = {
    "trap": ("trap centre [thermal lengths]",),
    "crossing": ("trap centre [half the distance of the wells]",),
    "erasure": ("switch c0 [thermal lengths]", "wells ±c1 [thermal lengths]"),
    "cell": ("barrier B [kT]", "affinity F [kT per level]"),
}
_POSITIONS = {
    "trap": "position [thermal lengths]",
    "crossing": "position [half the distance of the wells]",
    "erasure": "position [thermal lengths]",
    "cell": "position [levels]",
}
_TIMES = {
    "trap": "time [relaxation times]",
    "crossing": "time [(half distance)²/D]",
    "erasure": "time [1/ω0]",
    "cell": "time [level²/D]",
}


def protocol_figure(run: SystemRun) -> Figure:
    """What was run, with its jumps, beside the system's own protocol.

    Args:
        run: of `simulate_system`.

    Returns:
        The figure, one panel per control.
    """
    labels = _CONTROLS[run.system]
    fig, axes = figure(4.8 * len(labels), 3.6, len(labels))
    reference, reference_name = SYSTEMS[run.system].reference()
    drawn = [(run.protocol, run.protocol_name, OWN)]
    if run.protocol_name != reference_name:
        drawn.insert(0, (reference, reference_name, OTHER))
    for protocol, name, colour in drawn:
        times, values = _curve(protocol)
        for ax, value in zip(axes, values.T, strict=True):
            ax.plot(times, value, color=colour, label=name)
    for ax, label in zip(axes, labels, strict=True):
        ax.set_xlabel(_TIMES[run.system])
        ax.set_ylabel(label)
    axes[0].legend(frameon=False)
    return fig


def _curve(protocol: AbstractKnotProtocol) -> tuple[Float[np.ndarray, "times"], Float[np.ndarray, "times controls"]]:
    """Times and controls, (times, controls), with the fixed ends before and after."""
    duration = float(protocol.duration)
    share = np.linspace(0, 1, 801)
    inside = np.asarray(jax.vmap(protocol)(jnp.asarray(share, protocol.knots.dtype)))
    ends = [np.asarray(x)[None] for x in (protocol.initial, protocol.final)]
    # Each fixed end at two times, outside and at the end of the protocol: its jumps are vertical lines.
    values = np.concatenate([ends[0], ends[0], inside, ends[1], ends[1]])
    times = np.concatenate([[-0.05, 0.0], share, [1.0, 1.05]]) * duration
    return times, values.reshape(times.size, -1)


def trajectories_figure(run: SystemRun) -> Figure:
    """Positions of a few trajectories in time.

    Args:
        run: of `simulate_system`.

    Returns:
        The figure.
    """
    fig, (ax,) = figure()
    times, frames = np.asarray(run.trajectories.times), np.asarray(run.trajectories.frames)
    ax.plot(times, frames, color=OWN, linewidth=0.7, alpha=0.6)
    if run.system in ("trap", "crossing"):
        when, values = _curve(run.protocol)
        ax.plot(when, values[:, 0], color=OTHER, linewidth=1.5, label="trap centre")
        ax.legend(frameon=False)
    ax.set_xlabel(_TIMES[run.system])
    ax.set_ylabel(_POSITIONS[run.system])
    return fig


def work_and_heat_figure(run: SystemRun) -> Figure:
    """How work and heat are distributed over the trajectories.

    Args:
        run: of `simulate_system`.

    Returns:
        The figure.
    """
    fig, axes = figure(9.6, 3.6, 2)
    density = run.fokker_planck_work_kt
    for ax, values, name in zip(axes, (run.trajectories.work, run.trajectories.heat), ("work", "heat"), strict=True):
        samples = np.asarray(values, float)
        ax.hist(samples, bins=80, density=True, color=OWN, alpha=0.75)
        ax.axvline(samples.mean(), color=OTHER, label=f"mean {samples.mean():.3f} kT")
        if name == "work" and density is not None:
            ax.axvline(density, color=ACCENT, linestyle="--", label=f"density equation {density:.3f} kT")
        if name == "work":
            ax.axvline(0.0, color=FLOOR, linewidth=1, label="free energy, 0 kT")
        ax.set_xlabel(f"{name} of a trajectory [kT]")
        ax.set_ylabel("probability per kT")
        ax.legend(frameon=False)
    return fig


def descent_figure(run: SystemRun) -> Figure:
    """The cost while the protocol was optimised.

    Args:
        run: an optimised run.

    Returns:
        The figure.

    Raises:
        ValueError: if the run was not optimised.
    """
    if run.optimised is None:
        raise ValueError("This run was not optimised; there is no descent to draw.")
    fig, (ax,) = figure()
    ax.plot([row.step for row in run.optimised.history], [row.cost for row in run.optimised.history], color=OWN)
    ax.set_yscale("log")
    ax.set_xlabel("step of the descent")
    ax.set_ylabel("cost [kT]")
    return fig


def comparison_figure(rows: Sequence[CellComparison]) -> Figure:
    """Drift and validity of the ledger's closed form: one cell by jumps, by the exact washboard and by trajectories.

    Args:
        rows: of `compare_cell`.

    Returns:
        The figure: left the drift, right its ratio to the closed form with the 1, 5 and 20 % bands.
    """
    fig, (left, right) = figure(11.0, 4.2, 2)
    barriers = sorted({row.barrier for row in rows})
    for number, barrier in enumerate(barriers):
        chosen = sorted((row for row in rows if row.barrier == barrier), key=lambda row: row.affinity)
        colour = f"C{number}"
        x = [row.affinity for row in chosen]
        name = f"B = {barrier:g} kT"
        left.plot(x, [row.ladder_drift for row in chosen], color=colour, label=f"{name}, closed form")
        left.plot(x, [row.washboard_drift for row in chosen], color=colour, linestyle="--")
        for ax, scale in ((left, np.ones(len(chosen))), (right, np.array([row.ladder_drift for row in chosen]))):
            for marker, key in (("s", "jump_drift"), ("o", "langevin_drift")):
                values = np.array([getattr(row, key) for row in chosen])
                ax.errorbar(
                    x, values[:, 0] / scale, yerr=values[:, 1] / scale, fmt=marker, color=colour, markersize=4,
                    markerfacecolor="white" if marker == "s" else colour, linestyle="none", capsize=2,
                )  # fmt: skip
        right.plot(x, [row.ratio for row in chosen], color=colour, linestyle="--", label=name)
    for share in (0.01, 0.05, 0.2):
        right.axhspan(1 - share, 1 + share, color=FLOOR, alpha=0.12, linewidth=0)
    for style, name in (("s", "jump trajectories"), ("o", "Langevin trajectories")):
        left.plot([], [], style, color="0.3", markerfacecolor="white" if style == "s" else "0.3", label=name)
    left.plot([], [], "--", color="0.3", label="washboard, exact")
    left.set_yscale("log")
    for ax in (left, right):
        ax.set_xscale("log")
        plain_numbers(ax.xaxis)
    left.set_ylabel("drift [levels per level²/D]")
    right.set_ylabel("drift over the ledger's closed form")
    right.set_ylim(0.4, 1.4)
    for ax in (left, right):
        ax.set_xlabel("affinity F [kT per level]")
        ax.legend(frameon=False, fontsize=8)
    return fig


def save_simulation_figures(
    run: SystemRun, folder: str | os.PathLike, rows: Sequence[CellComparison] = ()
) -> list[str]:
    """Writes all figures of a run as PNG.

    Args:
        run: of `simulate_system`.
        folder: existing folder.
        rows: of `compare_cell`, for the memory cell.

    Returns:
        Names of the files.
    """
    figures = {
        "protocol": protocol_figure(run),
        "trajectories": trajectories_figure(run),
        "work_and_heat": work_and_heat_figure(run),
    }
    if run.optimised is not None:
        figures["descent"] = descent_figure(run)
    if rows:
        figures["ledger"] = comparison_figure(rows)
    for name, fig in figures.items():
        fig.savefig(pathlib.Path(folder) / f"{name}.png")
    return [f"{name}.png" for name in figures]
