"""Figure of barriers side by side."""

import math

from matplotlib.figure import Figure

from limjax.plots._style import ACCENT, FLOOR, OTHER, OWN, figure, plain_numbers
from limjax.sweeps import CompareResult

COMPARE_FIGURE = "compare.png"
_FEW_DECADES = 300.0


def barriers(result: CompareResult) -> Figure:
    """What every barrier reached against what it cost, with standard errors over the seeds; plain training as a line.

    Args:
        result: of `limjax.sweeps.compare`.

    Returns:
        The figure.

    Raises:
        ValueError: if no barrier was trained.

    Example:
        >>> from limjax.sweeps import compare
        >>> found = compare("quadratic", ["static:height=10"], seeds=2, hops="mean", steps=20)
        >>> barriers(found).axes[0].get_ylabel()
        'test loss'
    """
    labelled = [(label, row) for label, row in zip(result.labels, result.rows) if row is not result.plain]
    rows = [row for _, row in labelled]
    if not rows:
        raise ValueError("This comparison has no barrier: it was stopped before the first one was trained.")
    name = "test_loss" if any(math.isnan(row.mean("test_accuracy")[0]) for row in rows) else "test_accuracy"
    fig, (ax,) = figure(6.4, 4.2)
    colours, markers = (OWN, OTHER, ACCENT, FLOOR), "osD^vP*"
    for i, (label, row) in enumerate(labelled):
        (x, dx), (y, dy) = row.mean("energy_kt_per_parameter"), row.mean(name)
        colour, marker = colours[i % len(colours)], markers[i % len(markers)]
        known = dx == dx  # of a single seed there is no error
        ax.errorbar(
            x,
            y,
            xerr=dx if known else None,
            yerr=dy if known else None,
            fmt=marker,
            color=colour,
            capsize=3,
            # matplotlib takes what stands between two dollar signs for mathematics.
            label=label.replace("$", r"\$"),
        )
    if result.plain is not None:
        level, error = result.plain.mean(name)
        ax.axhline(level, color=FLOOR, linestyle="--", linewidth=1, label="plain training")
        if error == error:
            ax.axhspan(level - error, level + error, color=FLOOR, alpha=0.15, linewidth=0)
    costs = [row.mean("energy_kt_per_parameter")[0] for row in rows]
    if min(costs) > 0:
        ax.set_xscale("log")
        if max(costs) < _FEW_DECADES * min(costs):
            plain_numbers(ax.xaxis)
    ax.set_xlabel(f"heat and barrier work per parameter [kT], {len(result.settings['seeds'])} seeds")
    ax.set_ylabel(name.replace("_", " "))
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize="small")
    return fig
