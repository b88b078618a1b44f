"""How every figure looks."""

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

OWN, OTHER, FLOOR, ACCENT = "#1f6f8b", "#c44536", "#6b705c", "#e09f3e"
"""Colours of this run, of the barrier compared with, of a bound, and of what needs attention."""


def figure(width: float = 6.4, height: float = 4.0, columns: int = 1, **options) -> tuple[Figure, list[Axes]]:
    """A figure with plain axes that is not registered with pyplot, so that nothing has to be closed."""
    fig = Figure(figsize=(width, height), layout="constrained", dpi=150)
    axes = fig.subplots(1, columns, squeeze=False, **options)[0]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(True, color="0.92", linewidth=0.8)
        ax.set_axisbelow(True)
    return fig, list(axes)


def plain_numbers(axis: Axis) -> None:
    """Marks 1, 2 and 5 of each decade of a logarithmic axis of a few decades, with plain numbers that do not run into each other."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


__all__ = ["ACCENT", "FLOOR", "OTHER", "OWN", "figure", "plain_numbers"]
