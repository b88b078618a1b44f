"""Figures of the law: energy against speed for one final precision."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from limjax.plots._style import FLOOR, OTHER, OWN, figure


def energy_speed_figure(content: Mapping[str, Any]) -> Figure:
    """The law's curve with its minimum, runs on it, the direct optimum, and fixed barriers far above.

    Args:
        content: what `examples/law_figure.py` stores: `curves` by name with `contraction` and `heat_kt`, the runs `curve` with a
            `factor` of the least's exchange or None, and `fixed` runs by name; heat in kT per parameter.

    Returns:
        The figure: left the neighbourhood of the law, right all barriers.
    """
    fig, (near, far) = figure(10.4, 4.6, 2, width_ratios=(1.55, 1))
    curves, points = content["curves"], content["curve"]
    for ax in (near, far):
        _line(ax, curves["law"], OWN, linewidth=2.2)
        _line(ax, curves["direct"], "0.25", linewidth=0.9)
        for is_detuned in (False, True):
            chosen = [p for p in points if (p["factor"] is not None) == is_detuned]
            _points(ax, chosen, OWN, "s" if is_detuned else "o", hollow=is_detuned)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlim(5.5, 55)
        ax.minorticks_off()
    near.set_xticks([6, 8, 11, 15, 20, 30, 50], labels=["6", "8", "11", "15", "20", "30", "50"])
    far.set_xticks([6, 10, 20, 50], labels=["6", "10", "20", "50"])
    near.set_xlabel("← faster          training time uT [relaxation times]          slower →")
    far.set_xlabel("training time uT [relaxation times]")
    near.set_ylabel("heat [kT per parameter]")
    ratio = content["start_levels"] ** 2 / content["final_loss"]
    least = 2 * np.log(ratio)
    near.plot([0.5 * least], [0.93 * least], marker="^", color="black", markersize=6, zorder=4)
    near.text(
        0.5 * least, 0.88 * least, f"least: $2\\,\\ln(L_0/L_T)$ = {least:.1f} kT\nat $uT = \\ln(L_0/L_T)$", ha="center", va="top", fontsize=9.5
    )  # fmt: skip
    near.text(35, 33, "law\n" r"$\frac{(uT)^2}{uT-\frac{1}{2}\ln(L_0/L_T)}$", color=OWN, fontsize=12, va="center")
    thin = curves["direct"]
    # Interpolated in logarithms: the line is straight between its points on these axes.
    beside = float(np.exp(np.interp(np.log(7.0), np.log(thin["contraction"]), np.log(thin["heat_kt"]))))
    near.annotate(
        "optimum found directly, also where\nthe cells close before the end", (7.0, beside), (8.2, 1.75 * beside), color="0.25", fontsize=9,
        va="center", arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.8},
    )  # fmt: skip
    for p in points:
        if p["factor"] is not None:
            is_low = p["factor"] < 1
            size = "half" if p["factor"] == 0.5 else f"{p['factor']:g} times"
            near.annotate(
                f"{size} the least's exchange", (p["contraction"], p["heat_kt"]),
                (9, 3) if is_low else (4, -7), textcoords="offset points", fontsize=9, color=OWN, ha="left", va="bottom" if is_low else "top",
            )  # fmt: skip
    near.set_ylim(15, 130)
    near.set_yticks([20, 30, 40, 60, 80, 100], labels=["20", "30", "40", "60", "80", "100"])
    near.plot([], [], "o", color=OWN, markersize=5, label="exact hops, barrier on the measured loss")
    near.legend(frameon=False, fontsize=9, loc="upper right")
    for name, colour, text in (
        ("constant", OTHER, "best constant barrier"),
        ("static", FLOOR, "static barrier, ten years"),
    ):
        _line(far, curves[name], colour, linewidth=1.5)
        _points(far, content["fixed"][name], colour, "o")
        middle = np.interp(17.0, curves[name]["contraction"], curves[name]["heat_kt"])
        far.text(17.0, 1.35 * middle, text, color=colour, fontsize=9.5, ha="center", va="bottom")
    far.text(17.0, 0.72 * least, "barrier on the measured loss", color=OWN, fontsize=9.5, ha="center", va="top")
    far.set_ylim(10, 6e4)
    near.set_title(
        f"From {content['start_levels']:g} levels away to a loss of {content['final_loss']:g} level²", fontsize=10.5
    )
    far.set_title("The same beside fixed barriers", fontsize=10.5)
    return fig


def _line(ax: Axes, curve: Mapping[str, Any], colour: str, **options) -> None:
    ax.plot(curve["contraction"], curve["heat_kt"], color=colour, zorder=2, **options)


def _points(ax: Axes, rows: list[Mapping[str, Any]], colour: str, marker: str, hollow: bool = False) -> None:
    x, y, error = ([row[key] for row in rows] for key in ("contraction", "heat_kt", "heat_kt_error"))
    ax.errorbar(
        x,
        y,
        yerr=error,
        fmt=marker,
        color=colour,
        markerfacecolor="white" if hollow else colour,
        markersize=5,
        capsize=2,
        zorder=3,
    )


def curvatures_figure(content: Mapping[str, Any]) -> Figure:
    """Heat of every mode of a quadratic against its curvature, for several requests and barriers.

    Args:
        content: what `examples/curvatures.py` stores: `curvatures`, and `rows` with a `name`, `requests` and `modes` that hold
            `moments_kt`, `heat_kt` and `heat_kt_error`.

    Returns:
        The figure: lines by moments, points by exact hops.
    """
    fig, (ax,) = figure(6.4, 4.2)
    styles = {}
    for row in content["rows"]:
        colour = OTHER if row["requests"] == "plain" else OWN
        rank = styles[row["requests"]] = styles.get(row["requests"], -1) + 1
        line, marker = (("-", "o"), ("--", "s"), (":", "^"))[rank]
        modes = row["modes"]
        ax.plot(content["curvatures"], modes["moments_kt"], line, color=colour, linewidth=1.4)
        ax.errorbar(
            content["curvatures"], modes["heat_kt"], yerr=modes["heat_kt_error"], fmt=marker, color=colour, markersize=5,
            markerfacecolor="white", capsize=2, label=f"{row['requests']}; {row['name']}",
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("curvature of the mode, over the largest")
    ax.set_ylabel("heat of the mode [kT per parameter]")
    ax.legend(frameon=False, fontsize=8, loc="upper left")
    return fig
