"""Figures of tuning: the front, the tuned barrier against the theory, where the heat goes."""

import itertools
import math
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from limjax.plots._style import ACCENT, FLOOR, OTHER, OWN, figure, plain_numbers
from limjax.training import TrainResult
from limjax.tuning import (
    Evaluation,
    HandMade,
    OuterRow,
    ParetoResult,
    Problem,
    TuneResult,
    held_out_seeds,
    train_design,
)

_FAMILY_MARKS = "osD^v<>PXh"


def front(result: ParetoResult) -> Figure:
    """Test loss against energy: tuned points with standard errors, hand-made policies, the plain optimizer's loss.

    Args:
        result: of `pareto_front`.

    Returns:
        The figure.
    """
    fig, (ax,) = figure(7.6, 4.6)
    # Policies of more than thrice the plain loss would press the others together.
    _hand_made_points(ax, result.hand_made, 3 * result.plain.mean_loss)
    points = result.points
    ax.errorbar(
        [p.energy_kt_per_parameter for p in points], [p.test_loss for p in points],
        xerr=[p.energy_kt_per_parameter_error for p in points], yerr=[p.test_loss_error for p in points],
        fmt="o", color=OWN, markersize=5, capsize=2, label="tuned", zorder=4,
    )  # fmt: skip
    best = sorted((p.energy_kt_per_parameter, p.test_loss) for p in points if p.is_front)
    if best:
        ax.plot(*zip(*best), color=OWN, linewidth=1.2, zorder=3)
    _plain_line(ax, result.plain)
    _finish(ax)
    return fig


def time_front(result: ParetoResult) -> Figure:
    """Energy against physical time of a three-objective sweep, coloured by loss.

    Args:
        result: of `pareto_front` with time weights.

    Returns:
        The figure.
    """
    fig, (ax,) = figure()
    points = result.points
    energies, losses = [p.energy_kt_per_parameter for p in points], [p.test_loss for p in points]
    drawn = ax.scatter([p.seconds for p in points], energies, c=losses, zorder=3)
    fig.colorbar(drawn, ax=ax, label="test loss")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("physical time of the run [s]")
    ax.set_ylabel("heat and barrier work per parameter [kT]")
    return fig


def loss_against_energy(result: TuneResult, hand_made: Sequence[HandMade]) -> Figure:
    """The tuned design among the hand-made policies.

    Args:
        result: of `tune`.
        hand_made: evaluated policies.

    Returns:
        The figure.
    """
    fig, (ax,) = figure(7.6, 4.6)
    _hand_made_points(ax, hand_made, 3 * result.plain.mean_loss)
    for name, evaluation, color in (("start", result.before, FLOOR), ("tuned", result.after, OWN)):
        ax.errorbar(
            [evaluation.energy_kt_per_parameter], [evaluation.mean_loss], yerr=[evaluation.loss_error], fmt="*",
            markersize=13, color=color, capsize=2, label=name, zorder=4,
        )  # fmt: skip
    _plain_line(ax, result.plain)
    _finish(ax)
    return fig


def descent(history: Sequence[OuterRow]) -> Figure:
    """Validation loss and cost against the outer step.

    Args:
        history: of `tune`.

    Returns:
        The figure.
    """
    fig, (left, right) = figure(10.0, 3.6, columns=2)
    steps = [row.step for row in history]
    left.plot(steps, [row.loss for row in history], color=OWN)
    left.set_ylabel("validation loss, mean over tuning seeds")
    right.plot(steps, [row.heat_kt_per_parameter for row in history], color=OWN, label="update heat")
    right.plot(steps, [row.actuation_kt_per_parameter for row in history], color=ACCENT, label="barrier work")
    right.set_ylabel("cost per parameter [kT]")
    right.set_yscale("log")
    right.legend(frameon=False)
    for ax in (left, right):
        ax.set_xlabel("outer step")
    return fig


def barrier_against_theory(run: TrainResult) -> Figure:
    """The mean barrier against ln(L0/L), beside the theory's line of slope one.

    Args:
        run: a training run with the tuned barrier.

    Returns:
        The figure.
    """
    fig, (left, right) = figure(10.0, 3.8, columns=2)
    steps = np.array([row.step for row in run.history])
    barrier = np.array([row.barrier_kt for row in run.history])
    loss = np.array([row.loss for row in run.history])
    left.plot(steps, barrier, color=OWN)
    left.set_xlabel("step")
    left.set_ylabel("barrier, mean over parameters [kT]")
    positive = loss > 0
    descended = np.log(loss[positive][0] / loss[positive])
    right.plot(descended, barrier[positive], ".-", color=OWN, label="tuned")
    # The line that has the right slope and goes through the middle of the points.
    offset = float(np.median(barrier[positive] - descended))
    ends = np.array([descended.min(), descended.max()])
    right.plot(ends, offset + ends, color=OTHER, linestyle="--", label=r"theory: $B = B_0 + \ln(L_0/L)$")
    right.set_xlabel(r"$\ln(L_0/L)$, training loss")
    right.set_ylabel("barrier, mean over parameters [kT]")
    right.legend(frameon=False)
    return fig


def where_the_heat_goes(run: TrainResult) -> Figure:
    """Heat and barrier work by layer, and by time.

    Args:
        run: a training run with the tuned barrier.

    Returns:
        The figure.
    """
    fig, (left, right) = figure(10.0, 3.8, columns=2)
    layers = run.report.layers
    place = np.arange(len(layers))
    heat, work = (
        np.array([getattr(layer, name) / max(layer.parameters, 1) for layer in layers])
        for name in ("heat_kt", "actuation_kt")
    )
    left.barh(place, heat, color=OWN, label="update heat")
    left.barh(place, work, left=heat, color=ACCENT, label="barrier work")
    left.set_yticks(place, [layer.name for layer in layers], fontsize="small")
    left.invert_yaxis()
    left.set_xlabel("cost per parameter [kT]")
    left.legend(frameon=False, fontsize="small")
    # Rows are cumulative: a difference belongs to the steps before its row, hence `pre`.
    steps = np.array([0, *(row.step for row in run.history)])
    columns = (("heat_kt_per_parameter", OWN, "update heat"), ("actuation_kt_per_parameter", ACCENT, "barrier work"))
    for name, color, label in columns:
        total = np.array([0.0, *(getattr(row, name) for row in run.history)])
        right.step(steps[1:], np.diff(total) / np.diff(steps), where="pre", color=color, label=label)
    right.set_xlabel("step")
    right.set_ylabel("cost per parameter and step [kT]")
    right.set_yscale("log")
    right.legend(frameon=False, fontsize="small")
    return fig


def save_tune_figures(result: TuneResult, hand_made: Sequence[HandMade], folder: str | os.PathLike[str]) -> list[str]:
    """Trains once with the tuned design and writes all figures of `limjax tune`; of one that Ctrl-C ended, only the descent.

    Args:
        result: of `tune`.
        hand_made: evaluated policies, or none.
        folder: existing folder.

    Returns:
        The names of the files.
    """
    figures = {}
    if not result.after.is_missing:  # after Ctrl-C nothing more is run
        figures["front"] = loss_against_energy(result, hand_made)
        if isinstance(result.problem, Problem):  # a sequence of tasks is no single run
            # A seed that tuning has not seen.
            run = train_design(result.problem, result.design, int(held_out_seeds(1)[0]))
            figures |= {"barrier": barrier_against_theory(run), "heat": where_the_heat_goes(run)}
    if result.history:
        figures["descent"] = descent(result.history)
    return _save(figures, folder)


def save_pareto_figure(result: ParetoResult, folder: str | os.PathLike[str]) -> list[str]:
    """Writes the figures of `limjax pareto`.

    Args:
        result: of `pareto_front`.
        folder: existing folder.

    Returns:
        The names of the files.
    """
    figures = {"front": front(result)}
    if "seconds" in result.objectives:
        figures["time"] = time_front(result)
    return _save(figures, folder)


def _save(figures: dict[str, Figure], folder: str | os.PathLike[str]) -> list[str]:
    for name, drawn in figures.items():
        drawn.savefig(pathlib.Path(folder) / f"{name}.png")
    return [f"{name}.png" for name in figures]


def _hand_made_points(ax: Axes, hand_made: Sequence[HandMade], worst: float) -> None:
    families = list(dict.fromkeys(policy.family for policy in hand_made))
    for mark, family in zip(itertools.cycle(_FAMILY_MARKS), families):
        shown = [p.evaluation for p in hand_made if p.family == family and p.evaluation.mean_loss < worst]
        if shown:
            ax.plot(
                [e.energy_kt_per_parameter for e in shown], [e.mean_loss for e in shown], mark, color=OTHER, alpha=0.55,
                markersize=5, markerfacecolor="none", label=family,
            )  # fmt: skip


def _plain_line(ax: Axes, plain: Evaluation) -> None:
    ax.axhline(plain.mean_loss, color=FLOOR, linestyle="--", label="plain optimizer, no hop noise")
    if math.isfinite(plain.loss_error):
        ax.axhspan(plain.mean_loss - plain.loss_error, plain.mean_loss + plain.loss_error, color=FLOOR, alpha=0.15)


def _finish(ax: Axes) -> None:
    ax.set_xscale("log")
    ax.set_yscale("log")
    plain_numbers(ax.yaxis)
    ax.set_xlabel("heat and barrier work per parameter [kT]")
    ax.set_ylabel("test loss")
    ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
