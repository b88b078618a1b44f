"""Figures of continual learning: what is remembered, what it cost, and how high the barriers stand."""

import itertools
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from limjax.consolidation import Comparison, SequenceResult
from limjax.plots._style import ACCENT, OTHER, OWN, figure

FIGURES = ("accuracy_matrix.png", "heat_per_task.png", "barriers.png")
_APART = 0.01  # in accuracy: nearer points have one label
_COLOURS = (OWN, OTHER, ACCENT, "#6b705c", "#7b4b94", "#2f4858", "#b56576", "#355070")


def accuracy_matrices(comparison: Comparison) -> Figure:
    """Accuracy of each task (columns) after each task (rows), a mean over seeds, for each method.

    Args:
        comparison: finished trainings.

    Returns:
        The figure.
    """
    methods = _by_method(comparison)
    fig, axes = figure(2.6 * len(methods) + 0.8, 3.2, len(methods))
    image = None
    for ax, (name, results) in zip(axes, methods.items()):
        matrix = np.mean([result.matrix for result in results], axis=0)
        image = ax.imshow(matrix, vmin=0, vmax=1, cmap="viridis", origin="upper")
        ax.grid(visible=False)
        ax.set_title(f"{name}\nfinal {matrix[-1].mean():.3f}", fontsize=8)
        ax.set_xlabel("task")
        ticks = np.arange(0, len(matrix), max(1, len(matrix) // 5))
        ax.set_xticks(ticks, [str(t + 1) for t in ticks])
        ax.set_yticks(ticks, [str(t + 1) for t in ticks])
    axes[0].set_ylabel("after task")
    if image is not None:
        fig.colorbar(image, ax=axes, label="accuracy", fraction=0.03)
    return fig


def heat_per_task(comparison: Comparison) -> Figure:
    """Update heat of each task (solid) and work to raise barriers (dashed), per weight, a mean over seeds.

    Args:
        comparison: finished trainings.

    Returns:
        The figure.
    """
    fig, (ax,) = figure(6.4, 4.0)
    for colour, (name, results) in zip(itertools.cycle(_COLOURS), _by_method(comparison).items()):
        size = results[0].parameters
        heat = np.mean([result.heat_kt for result in results], axis=0) / size
        work = np.mean([result.actuation_kt for result in results], axis=0) / size
        number = np.arange(1, len(heat) + 1)
        ax.plot(number, heat, "o-", color=colour, markersize=3, linewidth=1.2, label=name)
        if work.max() > 0:
            ax.plot(number[work > 0], work[work > 0], "s--", color=colour, markersize=3, linewidth=1)
    ax.set_yscale("log")
    ax.set_xlabel("task")
    ax.set_ylabel("kT per weight")
    ax.set_title("Heat of updates; dashed: work to raise barriers", fontsize=10, loc="left")
    ax.legend(fontsize=7.5, frameon=False)
    return fig


def barrier_histogram(comparison: Comparison) -> Figure:
    """How many weights stand behind how high a barrier at the end, all seeds together.

    Args:
        comparison: finished trainings.

    Returns:
        The figure.
    """
    fig, (ax,) = figure(6.4, 4.0)
    for colour, (name, results) in zip(itertools.cycle(_COLOURS), _by_method(comparison).items()):
        edges = np.concatenate([result.barriers[0] for result in results])
        counts = np.concatenate([result.barriers[1] for result in results])
        if len(results[0].barriers[0]) == 1:  # one barrier for all says nothing here
            continue
        # Edges are the lower ones of bins of half a kT: counted at the middle, none falls beside its bin by rounding.
        bins = np.arange(edges.min(), edges.max() + 1, 0.5).tolist()
        ax.hist(edges + 0.25, bins=bins, weights=counts / counts.sum(), histtype="step", color=colour, label=name)
    ax.axvline(comparison.settings.plastic, color="0.5", linewidth=0.8)
    ax.set_xlabel("barrier [kT]")
    ax.set_ylabel("share of weights")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=7.5, frameon=False)
    return fig


def trade_off(grids: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]) -> Figure:
    """Accuracy on old tasks at the end against accuracy on new ones, along the strengths of each method; colour is heat.

    Args:
        grids: by sequence, by kind of method and by method, numbers of `SequenceResult.summary`.

    Returns:
        The figure, a panel for each sequence.
    """
    fig, axes = figure(4.2 * len(grids) + 0.6, 4.2, len(grids))
    for ax, (sequence, kinds) in zip(axes, grids.items()):
        rows = [row for methods in kinds.values() for row in methods.values()]
        low, high = (f(row["heat_kt_per_parameter"] for row in rows) for f in (min, max))
        points = None
        for marker, (kind, methods) in zip(itertools.cycle("osD^vP*X"), kinds.items()):
            x, y, heat = (
                [row[name] for row in methods.values()]
                for name in ("new_accuracy", "old_accuracy", "heat_kt_per_parameter")
            )
            ax.plot(x, y, "-", color="0.75", linewidth=0.8, zorder=1)
            points = ax.scatter(x, y, c=heat, marker=marker, vmin=low, vmax=high, s=28, label=kind, zorder=2)
        ax.set_title(sequence, fontsize=10, loc="left")
        ax.set_xlabel("accuracy on new tasks")
        if points is not None:
            fig.colorbar(points, ax=ax, label="heat [kT per weight]")
    axes[0].set_ylabel("accuracy on old tasks at the end")
    axes[0].legend(fontsize=7, frameon=False)
    return fig


def old_against_new(content: Mapping[str, Any]) -> Figure:
    """Accuracy on old tasks against new ones as barriers may spend more work: a grid, a front by gradients, colour is heat.

    Args:
        content: `plain`, `grid` and `front` with numbers of `SequenceResult.summary`, their `_error`, and `budget` [kT].

    Returns:
        The figure.
    """
    fig, (ax,) = figure(6.8, 4.6)
    every = [content["plain"], *content["grid"], *content["front"]]
    low, high = (f(row["heat_kt_per_parameter"] for row in every) for f in (min, max))
    strengths = sorted({row["strength"] for row in content["grid"]})
    # Each set of points has its marker, however many strengths the grid has.
    sets = [
        (f"grid, strength {s:g}", marker, [row for row in content["grid"] if row["strength"] == s])
        for s, marker in zip(strengths, itertools.cycle("osDv^P<>"))
    ]
    sets += [("tuned by gradients", "*", content["front"]), ("no consolidation", "X", [content["plain"]])]
    points = None
    for label, marker, some in sets:
        is_front = marker == "*"
        x, y, heat = ([row[name] for row in some] for name in ("new_accuracy", "old_accuracy", "heat_kt_per_parameter"))
        ax.plot(x, y, "-", color=ACCENT if is_front else "0.8", linewidth=1.5 if is_front else 0.8, zorder=1)
        errors = [[row[f"{name}_error"] for row in some] for name in ("new_accuracy", "old_accuracy")]
        ax.errorbar(x, y, errors[1], errors[0], fmt="none", ecolor="0.75", elinewidth=0.6, zorder=1)
        size = 130 if is_front else 30
        points = ax.scatter(
            x, y, c=heat, marker=marker, vmin=low, vmax=high, s=size, label=label, zorder=3 if is_front else 2,
            edgecolors="black" if is_front else "none", linewidths=0.6,
        )  # fmt: skip
    told: list[tuple[float, float]] = []
    for row in content["grid"]:
        place = (row["new_accuracy"], row["old_accuracy"])
        # A budget that no barrier reaches does what the one before it does, and stands on its point.
        if row["strength"] == strengths[-1] and not any(math.dist(place, other) < _APART for other in told):
            told.append(place)
            ax.annotate(f"{row['budget']:g} kT", place, (5, -9), textcoords="offset points", fontsize=6.5, color="0.4")
    ax.set_xlabel("accuracy on new tasks, just learnt")
    ax.set_ylabel("accuracy on old tasks at the end")
    for handle in ax.legend(fontsize=7.5, frameon=False).legend_handles:
        if handle is not None:
            handle.set(array=None, facecolor="0.55")
    if points is not None:
        fig.colorbar(points, ax=ax, label="heat [kT per weight]")
    return fig


def save_figures(comparison: Comparison, folder: str | os.PathLike[str]) -> list[str]:
    """Draws all figures into a folder.

    Args:
        comparison: finished trainings.
        folder: where to; it exists.

    Returns:
        The names of the files.
    """
    for name, draw in zip(FIGURES, (accuracy_matrices, heat_per_task, barrier_histogram)):
        draw(comparison).savefig(pathlib.Path(folder) / name)
    return list(FIGURES)


def _by_method(comparison: Comparison) -> dict[str, list[SequenceResult]]:
    names = dict.fromkeys(result.method for result in comparison.results)
    return {name: [result for result in comparison.results if result.method == name] for name in names}


__all__ = ["accuracy_matrices", "barrier_histogram", "heat_per_task", "old_against_new", "save_figures", "trade_off"]
