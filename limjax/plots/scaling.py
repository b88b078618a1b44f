"""Figures of how the energy of training grows with the size of a model, from what was measured to 1e16 parameters."""

import itertools
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from limjax.limits import MeasuredRun, compute_optimal, fit_growth, load_catalogue
from limjax.limits._growth import kt_per_step
from limjax.physics.units import LN2, thermal_energy_joules
from limjax.plots._style import ACCENT, FLOOR, OTHER, OWN, figure

GROWTH_FIGURE = "growth.png"
_BRAIN_WATT, _BRAIN_SYNAPSES, _BRAIN_YEARS = 20.0, 1e15, 20.0
_CHIP = "H100 SXM bf16"


def growth(runs: Sequence[MeasuredRun], largest: float = 1e16, temperature: float = 300.0) -> Figure:
    """Energy of a training against its size: measured points, power law and band, and what else is known of such trainings.

    Args:
        runs: measured runs of at least two sizes.
        largest: where the curves end.
        temperature: of the cells [K].

    Returns:
        The figure. Where the extrapolation begins, the line is dashed.

    Raises:
        ValueError: as `limjax.limits.fit_growth`.
    """
    kt, fit = thermal_energy_joules(temperature), fit_growth(runs)
    fig, (ax,) = figure(8.6, 5.6)
    sizes = np.array([run.parameters for run in runs], float)
    _continued(ax, fit, largest, kt)
    energies = sizes * kt * np.array([run.energy_kt_per_parameter for run in runs])
    ax.plot(sizes, energies, "o", color=OWN, markersize=4, label="measured: heat and barrier work")
    if all(run.law_kt_per_parameter > 0 for run in runs):
        law = fit_growth(runs, "law_kt_per_parameter")
        x = np.geomspace(sizes.min(), largest, 60)
        values = x * kt * np.array([law.predict(n)[0] for n in x])
        ax.plot(x, values, ":", color=FLOOR, label=r"law of the same runs: 2 ln(L0/LT) + 2 n$_\mathrm{eff}$")
    _beside(ax, fit, np.geomspace(sizes.min(), largest, 60), kt)
    ax.axvline(sizes.max(), color="0.6", linewidth=0.8)
    ax.annotate(
        "extrapolation",
        (sizes.max(), 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=8,
        color="0.4",
    )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("parameters")
    ax.set_ylabel("energy of the training [J]")
    power, (low, high) = fit.exponents["parameters"], fit.band()
    ax.set_title(
        f"Energy of training against model size\nkT per parameter as N^{power:.2f} ({low:.2f} to {high:.2f}) over "
        f"{len(fit.sizes)} sizes, {fit.centre['tokens_per_parameter']:.3g} tokens per parameter, {fit.centre['batch_tokens']:,.0f} a step",
        fontsize=10,
        loc="left",
    )
    ax.legend(fontsize=7.5, frameon=False, loc="upper left")
    return fig


def _continued(ax: Any, fit: Any, largest: float, kt: float) -> None:
    """Power law and band, solid where it was measured."""
    for begin, end, style in ((min(fit.sizes), max(fit.sizes), "-"), (max(fit.sizes), largest, "--")):
        x = np.geomspace(begin, end, 40)
        middle, low, high = (x * kt * np.array(part) for part in zip(*(fit.predict(n) for n in x)))
        ax.plot(x, middle, style, color=OWN, linewidth=1.6, label="power law" if style == "-" else None)
        ax.fill_between(x, low, high, color=OWN, alpha=0.2, linewidth=0)


def _beside(ax: Any, fit: Any, x: np.ndarray, kt: float) -> None:
    """What else is known of trainings of these sizes."""
    # 6 FLOP per parameter and token, and tokens in proportion to the parameters.
    flops = 6 * x * x * fit.centre["tokens_per_parameter"]
    ax.plot(x, flops * 8 * LN2 * kt, color=ACCENT, linewidth=1, label="Landauer: 8 bits × ln 2 a FLOP, same tokens")
    catalogue = load_catalogue()
    chip = catalogue.get("accelerator", _CHIP)
    ax.plot(x, flops * chip.joules_per_flop, color=OTHER, linewidth=1, label=f"{_CHIP} at peak, same tokens")
    trainings = catalogue.of("run")
    ax.plot(
        [run.details["parameters"] for run in trainings],
        [run.si for run in trainings],
        "D",
        color="black",
        markersize=4,
        label="training runs of the catalogue",
    )
    paper = compute_optimal(1e15).flops * LN2 * kt
    ax.plot(
        [1e15, 1e15], [4 * paper, 32 * paper], color="#9a6410", linewidth=3, label="1e8 to 1e9 J of the paper, rebuilt"
    )
    brain = _BRAIN_WATT * _BRAIN_YEARS * 365.25 * 86400
    ax.plot([_BRAIN_SYNAPSES], [brain], "*", color="black", markersize=9, label="brain: 20 W for 20 years")


def energy_by_steps(runs: Sequence[MeasuredRun]) -> Figure:
    """Heat and barrier work per parameter against the number of steps, a colour for each batch size, larger marks for larger models.

    Args:
        runs: measured runs.

    Returns:
        The figure. The line is the geometric mean of the energy of a step.

    Raises:
        ValueError: if there is no run.
    """
    if not runs:
        raise ValueError("runs has none: give what `limjax.limits.read_measured` returns.")
    fig, (ax,) = figure(6.4, 4.2)
    sizes = sorted({run.parameters for run in runs})
    for colour, tokens in zip(itertools.cycle((OWN, OTHER, ACCENT, FLOOR)), sorted({run.batch_tokens for run in runs})):
        here = [run for run in runs if run.batch_tokens == tokens]
        ax.scatter(
            [run.steps for run in here],
            [run.energy_kt_per_parameter for run in here],
            [14 * (1 + sizes.index(run.parameters)) for run in here],
            facecolors="none",
            edgecolors=colour,
            label=f"{tokens:,.0f} tokens a step",
        )
    mean, _, _ = kt_per_step(runs)
    ends = np.array([min(run.steps for run in runs), max(run.steps for run in runs)])
    ax.plot(ends, mean * ends, color="0.6", linewidth=1, zorder=0, label=f"{mean:.2g} kT a step")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("optimizer steps")
    ax.set_ylabel("heat and barrier work [kT/parameter]")
    ax.set_title(f"{sizes[0]:,} (smallest mark) to {sizes[-1]:,} parameters", fontsize=10, loc="left")
    ax.legend(fontsize=8, frameon=False)
    return fig


def save_growth_figure(runs: Sequence[MeasuredRun], folder: str | os.PathLike) -> str:
    """Draws `growth` into a folder.

    Args:
        runs: measured runs.
        folder: where to; it exists.

    Returns:
        The name of the file.
    """
    growth(runs).savefig(pathlib.Path(folder) / GROWTH_FIGURE)
    return GROWTH_FIGURE


__all__ = ["energy_by_steps", "growth", "save_growth_figure"]
