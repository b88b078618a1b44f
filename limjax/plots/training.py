"""Figures of a training run."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import ArrayLike, Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from limjax.memory import LedgerHistory, Report
from limjax.plots._style import ACCENT, FLOOR, OTHER, OWN, figure
from limjax.training import HistoryRow
from limjax.training._loop import EVALUATION_BATCH

_LEGEND_LAYERS = 12
_NOTHING = 1e-12


def loss_and_heat(history: Sequence[HistoryRow], landauer_kt_per_parameter: float | None = None) -> Figure:
    """Loss and cumulative heat per parameter against the step.

    Args:
        history: rows of a run.
        landauer_kt_per_parameter: ln 2 times the number of updates of the whole history, drawn as a line that grows with them [kT].

    Returns:
        The figure.
    """
    fig, (left, right) = figure(10.0, 3.8, columns=2)
    step = [row.step for row in history]
    left.plot(step, [row.loss for row in history], color=OWN, label="training loss (mean of the chunk)")
    if any(math.isfinite(row.test_loss) for row in history):
        left.plot(
            step,
            [row.test_loss for row in history],
            color=ACCENT,
            label=f"test loss (first {EVALUATION_BATCH} examples)",
        )
    _log_if_positive(left, [row.loss for row in history])
    left.set_xlabel("step")
    left.set_ylabel("loss")
    left.legend(frameon=False)
    right.plot(step, [row.heat_kt_per_parameter for row in history], color=OWN, label="update heat")
    # The work of a barrier that stands still is what rounding leaves of it, and would stretch the axis down to 1e-21.
    work = [
        row.actuation_kt_per_parameter if row.actuation_kt_per_parameter > _NOTHING else math.nan for row in history
    ]
    right.plot(step, work, color=ACCENT, label="barrier work")
    right.plot(
        step,
        [row.static_heat_kt_per_parameter for row in history],
        color=OTHER,
        label="same updates, static barrier (ten years)",
    )
    compared = [row.compared_kt_per_parameter for row in history]
    right.plot(step, compared, color=OTHER, linestyle="--", label="same updates, cheapest other memory")
    if landauer_kt_per_parameter is not None and step:
        line = [landauer_kt_per_parameter * x / step[-1] for x in step]
        right.plot(step, line, color=FLOOR, linestyle=":", label="ln 2 per update")
    _log_if_positive(right, [row.heat_kt_per_parameter for row in history])
    right.set_xlabel("step")
    right.set_ylabel("cumulative cost per parameter [kT]")
    # Above the axes: the curves fill four decades, and no corner is sure to be free.
    right.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize="small")
    return fig


def barrier_height(history: Sequence[HistoryRow], retention_kt: float | None = None) -> Figure:
    """Mean barrier against the step.

    Args:
        history: rows of a run.
        retention_kt: barrier that holds a bit for ten years, drawn as a line [kT].

    Returns:
        The figure.
    """
    fig, (ax,) = figure()
    ax.plot([row.step for row in history], [row.barrier_kt for row in history], color=OWN, label="this run")
    if retention_kt is not None:
        ax.axhline(retention_kt, color=OTHER, linestyle="--", label="ten years' retention")
    ax.set_ylim(bottom=0)
    ax.set_xlabel("step")
    ax.set_ylabel("barrier, mean over parameters [kT]")
    ax.legend(frameon=False)
    return fig


def barrier_against_loss(history: Sequence[HistoryRow], initial_loss: float) -> Figure:
    """Mean barrier against ln(L0/L), beside the law, which rises by one kT for every e-fold that the loss falls.

    Args:
        history: rows of a run.
        initial_loss: L0, the training loss at the start.

    Returns:
        The figure; rows with a loss that is no positive number are left out.
    """
    rows = [row for row in history if row.loss > 0 and math.isfinite(row.loss) and math.isfinite(row.barrier_kt)]
    fig, (ax,) = figure()
    x, y = np.log([initial_loss / row.loss for row in rows]), np.array([row.barrier_kt for row in rows])
    ax.plot(x, y, "o-", color=OWN, markersize=3, linewidth=0.8, label="this run, in the order of its steps")
    if rows:
        ends = np.array([min(0.0, x.min()), x.max()])
        ax.plot(ends, y[0] - x[0] + ends, "--", color=FLOOR, label="law: the first point's barrier + ln(L0/L)")
    ax.set_xlabel("ln(L0/L), training loss of the chunk")
    ax.set_ylabel("barrier, mean over parameters [kT]")
    ax.legend(frameon=False)
    return fig


def heat_per_layer(report: Report) -> Figure:
    """Cost per parameter of every layer, beside the cheapest comparison.

    Args:
        report: table of a run.

    Returns:
        The figure.
    """
    rows = report.layers
    fig, (ax,) = figure(6.4, 1.4 + 0.55 * len(rows))
    position = np.arange(len(rows))
    count = np.array([max(row.parameters, 1) for row in rows])
    own = np.array([row.heat_kt + row.actuation_kt for row in rows]) / count
    # Points, not bars: a logarithmic axis has no zero that a bar could begin at.
    _labelled(ax, own, position - 0.15, OWN, "this run: heat and barrier work")
    if report.compared_with is not None:
        other = np.array([row.compared_kt for row in rows]) / count
        _labelled(
            ax, other, position - 0.15, OTHER, f"same updates: {_elided(report.compared_with)}".replace("$", r"\$")
        )
    ax.axvline(
        report.landauer_kt / max(report.total.parameters, 1), color=FLOOR, linestyle=":", label="ln 2 per update"
    )
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.set_xlim(10.0 ** math.floor(math.log10(low)), high * 4)
    ax.set_yticks(position, [_elided(row.name) for row in rows], parse_math=False)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel("cost of the whole run per parameter [kT]")
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize="small")
    return fig


def heat_over_time(history: LedgerHistory, *, per_parameter: bool = True) -> Figure:
    """Heat of each layer since the start, and how fast it goes, against the step; of any loop.

    Args:
        history: of the loop.
        per_parameter: whether the heat of a layer is divided by its number of parameters.

    Returns:
        The figure.

    Raises:
        ValueError: if nothing was recorded.

    Example:
        >>> import jax.numpy as jnp, optax, limjax
        >>> params = {"w": jnp.ones(3)}
        >>> opt = limjax.learning_in_memory(optax.sgd(0.1), limjax.ArrheniusCell(), limjax.StaticBarrier(10.0))
        >>> state = opt.init(params)
        >>> history = limjax.LedgerHistory.of(state, params)
        >>> for _ in range(3):
        ...     updates, state = opt.update(params, state, params)
        ...     history = history.record(state)
        >>> len(heat_over_time(history).axes)
        2
    """
    step = history.step
    if not step.size:
        raise ValueError(
            f"This history has no rows: history = history.record(state) after every update adds one every {history.every} steps."
        )
    names, sizes = history.layers.names, np.array(history.layers.parameters)
    heat = history.column("heat") / (np.maximum(sizes, 1) if per_parameter else 1)
    # The first row has no row before it: its rate is the mean since the ledger began.
    rate = np.diff(heat, axis=0, prepend=0.0) / np.diff(step, prepend=0)[:, None]
    unit = "kT per parameter" if per_parameter else "kT"
    fig, (left, right) = figure(10.0, 3.8, columns=2)
    ways = "-", "--", ":", "-."
    colours = colormaps["viridis"](np.linspace(0, 0.8, len(names)))
    for ax, values, label in ((left, heat, f"heat since the start [{unit}]"), (right, rate, f"heat per step [{unit}]")):
        for i, name in enumerate(names):
            style = ways[i % len(ways)]
            ax.plot(step, values[:, i], style, color=colours[i], label=_elided(name, 24).replace("$", r"\$"))
        if ax is right and np.any(values > 0):
            ax.set_yscale("log")
        else:
            ax.set_ylim(bottom=0)
        ax.set_xlabel("step")
        ax.set_ylabel(label)
    handles, labels = left.get_legend_handles_labels()
    shown = slice(0, _LEGEND_LAYERS)
    fig.legend(handles[shown], labels[shown], loc="outside upper center", ncols=4, frameon=False, fontsize="small")
    return fig


def _labelled(
    ax: Axes, values: Float[np.ndarray, "layers"], position: Float[np.ndarray, "layers"], colour: str, label: str
) -> None:
    """Points with their values beside them."""
    ax.plot(values, position, "o", color=colour, markersize=7, label=label)
    for x, y in zip(values, position):
        ax.annotate(_short(x), (x, y), xytext=(8, -3.5), textcoords="offset points", fontsize="small", color=colour)


def heat_map(heat: ArrayLike, name: str) -> Figure:
    """Heat of every weight of one matrix.

    Args:
        heat: heat per parameter [kT], two-dimensional.
        name: what the matrix is called.

    Returns:
        The figure.
    """
    heat = np.asarray(heat, np.float64)
    fig, (ax,) = figure(5.6, 4.6)
    ax.grid(False)
    positive = heat[heat > 0]
    if positive.size:
        low = max(positive.min(), positive.max() * 1e-4)
        # Weights that never moved stay white instead of stretching the scale to zero.
        image = ax.imshow(
            np.where(heat > 0, heat, np.nan), aspect="auto", cmap="viridis", norm=LogNorm(low, positive.max())
        )
    else:
        image = ax.imshow(heat, aspect="auto", cmap="viridis")
    fig.colorbar(image, ax=ax, label="heat of the whole run [kT]")
    ax.set_title(f"{_elided(name)} (white: never moved)", fontsize="medium", parse_math=False)
    ax.set_xlabel("column")
    ax.set_ylabel("row")
    return fig


def _elided(name: str, width: int = 40) -> str:
    """A name that leaves room for the figure."""
    return name if len(name) <= width else f"{name[: width // 3]}…{name[-(width - width // 3 - 1) :]}"


def _short(x: float) -> str:
    return f"{x:,.0f}" if x >= 1e3 else f"{x:.3g}"


def _log_if_positive(ax: Axes, values: Sequence[float]) -> None:
    if values and min(values) > 0:
        ax.set_yscale("log")
