"""The figure of the gap: every energy of a training on one logarithmic scale, told apart by markers as well as by colours."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from limjax.gap import GROUPS, KINDS, Gap, Line, grouped
from limjax.plots._style import ACCENT, OTHER, OWN, figure

_STYLES = {
    "measured": ("s", OTHER, True),
    "simulated": ("^", OWN, True),
    "model": ("o", OWN, True),
    "bound": ("|", "black", True),
    "estimate": ("D", ACCENT, False),
}
"""Marker, colour, and whether it is filled, of every kind."""


def gap_figure(gaps: Sequence[Gap]) -> Figure:
    """Energies as points with their intervals, one panel for each run.

    Args:
        gaps: from `limjax.gap.energy_gap`.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no run, or none of its energies is above 0.
    """
    rows = _rows(gaps)
    shown = [line.joules for gap in gaps for line in gap.lines if line.joules > 0]
    if not shown:
        raise ValueError("There is nothing to draw: no run has an energy above 0.")
    fig, axes = figure(2.6 + 5.0 * len(gaps), 1.4 + 0.19 * len(rows), columns=len(gaps), sharey=True, sharex=True)
    for ax, gap in zip(axes, gaps):
        _panel(ax, gap, rows)
        ax.set_title(gap.run.name, fontsize=10, loc="left")
        ax.set_xlabel("energy of the training [J]")
    ends = [end for gap in gaps for line in gap.lines for end in (line.low, line.high, line.joules) if end]
    axes[0].set_xlim(min(ends) / 5, max(ends) * 5)
    axes[0].set_ylim(len(rows) - 0.3, -0.9)
    axes[0].set_yticks(range(len(rows)), [name for _, name in rows], fontsize=8)
    for label, (key, _) in zip(axes[0].get_yticklabels(), rows):
        label.set_fontweight("bold" if key in GROUPS else "normal")
    used = [kind for kind in KINDS if any(line.kind == kind for gap in gaps for line in gap.lines)]
    fig.legend(
        handles=[
            *map(_handle, used),
            Line2D([], [], color=OWN, linewidth=0.8, linestyle="--", label="heat of the run"),
        ],
        loc="outside lower center",
        ncols=len(used) + 1,
        fontsize=8,
        frameon=False,
    )
    return fig


def _rows(gaps: Sequence[Gap]) -> list[tuple[str, str]]:
    """Key and name of every row: groups with their lines below."""
    names = {line.key: line.name for gap in gaps for line in gap.lines}
    return [
        row
        for group, keys in grouped(gaps).items()
        for row in ((group, GROUPS[group]), *((key, names[key]) for key in keys))
    ]


def _panel(ax: Axes, gap: Gap, rows: Sequence[tuple[str, str]]) -> None:
    ax.set_xscale("log")
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    places = {key: place for place, (key, _) in enumerate(rows)}
    for place, (key, _) in enumerate(rows):
        if key in GROUPS and place:
            ax.axhline(place - 0.5, color="0.8", linewidth=0.8)
    for line in gap.lines:
        if line.joules > 0:
            _point(ax, line, places[line.key])
    heat = gap.line("heat").joules
    if heat > 0:
        ax.axvline(heat, color=OWN, linewidth=0.8, linestyle="--", zorder=0)


def _point(ax: Axes, line: Line, place: int) -> None:
    marker, colour, filled = _STYLES[line.kind]
    # A lower end of 0 has no place on a logarithmic axis: the interval is then drawn six decades down.
    if line.low is not None and line.high is not None:
        ax.plot([max(line.low, line.joules / 1e6), line.high], [place, place], color="0.45", linewidth=1.4, zorder=1)
    face = colour if filled else "white"
    size = 11 if marker == "|" else 6
    ax.plot(
        line.joules, place, marker=marker, color=colour, markerfacecolor=face, markersize=size, markeredgewidth=1.6 if marker == "|" else 1.1, zorder=2
    )  # fmt: skip


def _handle(kind: str) -> Line2D:
    marker, colour, filled = _STYLES[kind]
    face = colour if filled else "white"
    return Line2D([], [], linestyle="", marker=marker, color=colour, markerfacecolor=face, markersize=7, label=kind)
