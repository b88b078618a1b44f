"""Where the ladder of levels stands for the cosine landscape: prints tables, draws docs/figures.

Run from the repository: python examples/ladder_validity.py [folder of the figure]
"""

import pathlib
import sys

import jax
import matplotlib

matplotlib.use("Agg")
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from limjax.physics.washboard import (
    arrhenius_ratio,
    exchange,
    kramers_exchange,
    ladder_validity,
    validity_map,
)

TOLERANCES = (0.01, 0.05, 0.2)
BARRIERS = (2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0)
MATCHED = 10.0
FOLDER = pathlib.Path(__file__).parents[1] / "docs" / "figures"
COLOURS = ("#08519c", "#238b45", "#cc4c02")


def tables() -> str:
    """The three tables of docs/ladder.md, as markdown."""
    barrier = jnp.array(BARRIERS)
    blocks = []
    for quantity in ("drift", "heat"):
        limits = np.asarray(validity_map(barrier, TOLERANCES, quantity)).T
        lines = [f"{quantity}: largest F/2B", "| B [kT] | 1 % | 5 % | 20 % |", "|---:|---:|---:|---:|"]
        for b, row in zip(BARRIERS, limits):
            lines.append(f"| {b:.0f} | " + " | ".join(f"{x:.3f}" for x in row) + " |")
        blocks.append("\n".join(lines))
    kramers = kramers_exchange(barrier, 1.0) / exchange(barrier, 1.0)
    arrhenius = arrhenius_ratio(barrier, jnp.full_like(barrier, MATCHED))
    lines = [
        "exchange over exact exchange",
        "| B [kT] | Kramers | Arrhenius, equal at 10 kT | as a barrier shift [kT] |",
        "|---:|---:|---:|---:|",
    ]
    for b, k, a in zip(BARRIERS, kramers, arrhenius):
        lines.append(f"| {b:.0f} | {k:.3f} | {a:.3f} | {jnp.log(a) + 0.0:.2f} |")
    blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def figure():
    """Left: contours of the ladder's error. Right: ratio of approximate to exact exchange."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.4), width_ratios=(1.35, 1), layout="constrained")
    barrier = jnp.geomspace(1.0, 80.0, 90)
    fraction = jnp.geomspace(0.01, 1.0, 90)
    ratio = ladder_validity(barrier[None, :], fraction[:, None])
    levels = np.concatenate([[1.0], 1 + np.array(TOLERANCES), [2.0, 10.0, 1e30]])
    shades = ["#ffffff", "#f3f3f3", "#e8e8e8", "#dcdcdc", "#cfcfcf", "#c0c0c0"]
    left.contourf(barrier, fraction, np.asarray(ratio), levels, colors=shades)
    for label, position in (("2", (36, 0.47)), ("10", (40, 0.77))):
        left.text(*position, f"drift > {label} times too large", fontsize=8, color="0.15", ha="center", va="center")
    drift = validity_map(barrier, TOLERANCES)
    heat = validity_map(barrier, TOLERANCES, "heat")
    for tolerance, colour, d, h in zip(TOLERANCES, COLOURS, drift, heat):
        left.plot(barrier, d, color=colour, lw=2, label=f"drift {tolerance:.0%} too large")
        left.plot(barrier, h, color=colour, lw=1.5, ls="--", label=f"heat {tolerance:.0%} too small")
    left.axvspan(1.0, 2.0, facecolor="none", edgecolor="0.55", hatch="///", lw=0)
    left.text(
        1.41,
        0.0125,
        "no wells to speak of",
        rotation=90,
        ha="center",
        va="bottom",
        fontsize=8,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )
    left.set(
        xscale="log",
        yscale="log",
        xlim=(1, 80),
        ylim=(0.01, 1),
        xlabel="barrier B [kT]",
        ylabel="tilt F/2B",
        title="Ladder against the exact washboard",
    )
    left.set_xticks([1, 2, 5, 10, 20, 40, 80], labels=["1", "2", "5", "10", "20", "40", "80"])
    left.set_yticks([0.01, 0.1, 1], labels=["0.01", "0.1", "1"])
    left.minorticks_off()
    handles, labels = left.get_legend_handles_labels()
    order = (0, 2, 4, 1, 3, 5)
    left.legend(
        [handles[i] for i in order], [labels[i] for i in order], fontsize=8, loc="lower right", ncols=2, framealpha=0.95
    )

    exact = exchange(barrier, 1.0)
    right.axhline(1.0, color="0.3", lw=1, label="exact, D τ / I₀(B/2)²")
    right.plot(
        barrier, kramers_exchange(barrier, 1.0) / exact, color=COLOURS[0], lw=2, label="Kramers, D τ π B exp(-B)"
    )
    right.plot(
        barrier,
        arrhenius_ratio(barrier, jnp.full_like(barrier, MATCHED)),
        color=COLOURS[2],
        lw=2,
        label=f"Arrhenius, k₀ τ exp(-B), equal at {MATCHED:.0f} kT",
    )
    right.set(
        xscale="log",
        yscale="log",
        xlim=(1, 80),
        ylim=(0.1, 10),
        xlabel="barrier B [kT]",
        ylabel="exchange / exact exchange",
        title="Exchange at zero tilt",
    )
    right.set_xticks([1, 2, 5, 10, 20, 40, 80], labels=["1", "2", "5", "10", "20", "40", "80"])
    right.set_yticks([0.1, 0.2, 0.5, 1, 2, 5, 10], labels=["0.1", "0.2", "0.5", "1", "2", "5", "10"])
    right.minorticks_off()
    right.grid(alpha=0.3)
    right.legend(fontsize=8, loc="upper right")
    return figure


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with jax.enable_x64(True):
        print(tables())
        figure().savefig(folder / "ladder_validity.png", dpi=150)
