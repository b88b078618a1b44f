"""Figures of the limits: they take scans and walls, and compute nothing."""

import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from limjax.limits._architectures import COMPONENTS
from limjax.limits._records import Record
from limjax.limits.figures import FigureData, WallCase
from limjax.limits.scans import Scan
from limjax.plots._style import ACCENT, FLOOR, OTHER, OWN, figure

_COLOURS = {"accelerator": OTHER, "landauer": FLOOR, "lim": OWN, "bound": ACCENT}
_DASHES = ("-", "--", "-.", ":")
_PARTS = {"compute": FLOOR, "memory": OTHER, "update": ACCENT, "consolidation": OWN}


def limit_curves(
    scan: Scan,
    title: str,
    *,
    log_x: bool = True,
    ticks: Sequence[float | int] | None = None,
    floor: float | None = None,
) -> Figure:
    """Curves of a scan, labelled at their right ends; training runs as points.

    Args:
        scan: what to draw.
        title: of the figure.
        log_x: whether the horizontal axis is logarithmic.
        ticks: where the horizontal axis has its numbers; matplotlib's own choice if None.
        floor: lowest energy shown [J].

    Returns:
        The figure.
    """
    fig, (ax,) = figure(9.0, 5.6)
    used: dict[str, int] = {}
    ends = []
    for line in scan.lines:
        order = used.get(line.group, 0)
        used[line.group] = order + 1
        colour = _COLOURS[line.group]
        ax.plot(scan.x, line.values, color=colour, linestyle=_DASHES[order % 4], linewidth=1.6)
        known = np.flatnonzero(np.isfinite(line.values) & (line.values > 0))
        if len(known):
            ends.append((float(line.values[known[-1]]), line.label, colour))
    if scan.band is not None:
        label, low, high = scan.band
        ax.fill_between(scan.x, low, high, color=ACCENT, alpha=0.45, linewidth=0)
        # The middle on a logarithmic axis.
        ends.append((float(np.sqrt(low[-1] * high[-1])), label, "#9a6410"))
    ax.set_yscale("log")
    if log_x:
        ax.set_xscale("log")
    if ticks is not None:
        ax.set_xticks(list(ticks))
    if floor is not None:
        ax.set_ylim(bottom=floor)
    for index, (run, offset) in enumerate(zip(scan.runs, _sides(scan.runs))):
        size, joules = run.details["parameters"], run.si
        low, high = run.range_si
        marker = "o" if run.how == "measured" else "D"
        ax.errorbar(
            size, joules, yerr=[[joules - low], [high - joules]], fmt=marker, color="black", markersize=4, linewidth=0.8
        )
        ax.annotate(
            str(index + 1),
            (size, joules),
            xytext=offset,
            textcoords="offset points",
            fontsize=7,
            ha="center",
            va="center",
        )
    if scan.runs:
        names = "\n".join(f"{index + 1}  {run.name}" for index, run in enumerate(scan.runs))
        ax.text(
            0.015,
            0.985,
            f"training runs\n(● measured, ◆ estimated)\n{names}",
            transform=ax.transAxes,
            fontsize=7,
            va="top",
            linespacing=1.25,
        )
    ax.set_xlim(scan.x[0], scan.x[-1])
    ax.set_xlabel(scan.axis)
    ax.set_ylabel("energy of the training [J]")
    ax.set_title(f"{title}\n{scan.subtitle}", fontsize=10, loc="left")
    _label_ends(ax, ends)
    return fig


def _sides(runs: Sequence[Record]) -> list[tuple[int, int]]:
    """Where each run's number stands: above it, or on the first side where no other run is."""
    candidates = ((0, 8), (0, -8), (8, 0), (-8, 0))
    # Decades to points, roughly: 10 decades of size are 440 points, 39 decades of energy 350.
    spots = [np.array([44 * np.log10(run.details["parameters"]), 9 * np.log10(run.si)]) for run in runs]
    taken, chosen = list(spots), []
    for spot in spots:

        def room(offset: tuple[int, int], spot: np.ndarray = spot) -> float:
            at = spot + np.array(offset)
            return min((np.hypot(*(at - other)) for other in taken if other is not spot), default=np.inf)

        best = next((offset for offset in candidates if room(offset) > 9), max(candidates, key=room))
        chosen.append(best)
        taken.append(spot + np.array(best))
    return chosen


def _label_ends(ax: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Labels right of the axes, moved apart so that none overlaps, with a thin leader to its curve."""
    low, high = np.log10(ax.get_ylim())
    # Fixed from here: were the limits still automatic, every place below could move.
    ax.set_ylim(*ax.get_ylim())
    ends = sorted(ends)
    wanted = np.array([(np.log10(value) - low) / (high - low) for value, _, _ in ends])
    # A curve that leaves through the bottom is labelled there.
    wanted = np.clip(wanted, 0.0, 1.0)
    gap = min(0.042, 1.0 / max(len(ends), 1))
    placed = wanted.copy()
    for _ in range(200):
        for i in range(len(placed) - 1):
            overlap = gap - (placed[i + 1] - placed[i])
            if overlap > 0:
                placed[i] -= overlap / 2
                placed[i + 1] += overlap / 2
        placed = np.clip(placed, 0.0, 1.0)
    for (_, label, colour), at, place in zip(ends, wanted, placed):
        ax.annotate(
            label,
            xy=(1.0, at),
            xytext=(1.03, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=colour,
            fontsize=7.5,
            va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0},
            annotation_clip=False,
        )


def wall_bars(cases: Sequence[WallCase], title: str = "The three walls and compute") -> Figure:
    """What the walls take in each architecture, one panel per workload.

    Args:
        cases: of `figure_data`, one a panel.
        title: of the figure.

    Returns:
        The figure: a point for every part of every architecture on a logarithmic scale, so that what differs between them is seen also
        where all three compute for the same energy, and their totals.
    """
    fig, axes = figure(5.0 * len(cases), 3.9, columns=len(cases), sharey=True)
    for ax, (name, bars) in zip(axes, cases):
        for row, bar in enumerate(bars):
            for place, part in enumerate(COMPONENTS):
                value, y = getattr(bar, part), row + 0.17 * (place - 1.5)
                if value > 0:
                    ax.plot(value, y, "o", color=_PARTS[part], markersize=6)
                    ax.annotate(
                        f"{value:.1e}", (value, y), xytext=(6, -2.5), textcoords="offset points", fontsize=7, color=_PARTS[part]
                    )  # fmt: skip
            if row:
                ax.axhline(row - 0.5, color="0.85", linewidth=0.8)
            ax.annotate(
                f"{bar.total:.2g} J in all", (0.01, row - 0.44), xycoords=("axes fraction", "data"), fontsize=7, va="top"
            )  # fmt: skip
        ax.set_yticks(range(len(bars)), [bar.architecture.replace("-in-", "-\nin-") for bar in bars], fontsize=8)
        ax.set_ylim(len(bars) - 0.5, -0.5)
        ax.set_xscale("log")
        low, high = ax.get_xlim()
        ax.set_xlim(low, high * (high / low) ** 0.14)  # room for the last numbers
        ax.set_title(name, fontsize=9, loc="left")
        ax.set_xlabel("energy of the training [J]")
        ax.grid(False, axis="y")
    handles = [axes[0].plot([], [], "o", color=_PARTS[part], label=part)[0] for part in COMPONENTS]
    fig.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    fig.suptitle(title, fontsize=10, x=0.01, ha="left")
    return fig


def limit_figures(data: FigureData) -> dict[str, Figure]:
    """All figures of one training.

    Args:
        data: from `limjax.limits.figures.figure_data`.

    Returns:
        Figures by the name of the file they belong in.
    """
    return {
        "energy_parameters": limit_curves(data.parameters, "Energy of training against model size"),
        "energy_contraction": limit_curves(
            data.contraction, "Energy of one convergence against its length", log_x=False
        ),
        "energy_time": limit_curves(data.time, "Energy of one convergence against training time"),
        "energy_bits": limit_curves(data.bits, "Energy against precision", log_x=False, ticks=tuple(range(4, 33, 4))),
        "walls": wall_bars(data.walls),
    }


def save_figures(figures: Mapping[str, Figure], folder: str | os.PathLike) -> list[pathlib.Path]:
    """Writes figures as PNG.

    Args:
        figures: by file name without extension.
        folder: where to; made if missing.

    Returns:
        Paths of the files.

    Raises:
        ValueError: if the folder cannot be made or written to.
    """
    target = pathlib.Path(folder)
    paths = []
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, drawn in figures.items():
            paths.append(target / f"{name}.png")
            drawn.savefig(paths[-1])
    except OSError as error:
        raise ValueError(f"The figures cannot be written to {target}: {error.strerror}.") from None
    return paths
