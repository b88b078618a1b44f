"""Loss and heat of a language model in cells of few bits: which number of bits is cheapest for a given loss.

    python examples/precision_table.py

A cell of b bits has 2^b levels over a range of weights: few bits are coarse levels, or a range that weights run against. Each number of bits
is trained with several ranges and with barriers of several scales (`moment:scale=...`; a smaller scale is quieter and dearer), exact hops, beside
the same training without a memory. Writes `benchmarks/results/precision.json`, `docs/results/precision.md` and `docs/results/precision.png`.
Every pair of bits and range is kept in `--work` as soon as it is measured, and the same command goes on; tasks that are not asked for
stay as they are.
"""

import argparse
import itertools
import json
import pathlib
from collections.abc import Callable
from functools import partial

import jax
import numpy as np

import limjax
from limjax._files import write_json
from limjax.plots._style import OTHER, figure, plain_numbers
from limjax.sweeps import Setting, sweep
from limjax.sweeps._seeds import energy_at, mean_text
from limjax.tasks import Task, get_task
from limjax.versions import machine

ROOT = pathlib.Path(__file__).parents[1]
RESULT = "benchmarks/results/precision.json"
TARGETS = (0.01, 0.02, 0.03, 0.05, 0.08)
STYLES = ("-", "--", ":")
COLOURS = ("#c44536", "#e09f3e", "#8ab17d", "#1f6f8b", "#264653", "#9b5de5")


def measured(task: Task, bits: int, largest: float, scales: list[float], seeds: int, steps: int) -> list[dict]:
    """One row for each scale: every seed's loss and cost per parameter."""
    cell = limjax.ArrheniusCell(lsb=2 * largest / 2.0**bits, bits=bits)
    points = [Setting(f"moment:scale={scale:g}", cell) for scale in scales]
    losses, _, heats, works = sweep(task, points, seeds=seeds, steps=steps, at_once=8)
    return [
        {
            "bits": bits, "range": largest, "lsb": float(cell.lsb), "scale": scale, "test_loss": loss.tolist(),
            "heat_kt_per_parameter": heat.tolist(), "actuation_kt_per_parameter": work.tolist(),
        }
        for scale, loss, heat, work in zip(scales, losses, heats, works)
    ]  # fmt: skip


def without_memory(task: Task, seeds: int, steps: int) -> list[float]:
    """Test loss of each seed where requests are met exactly."""
    losses, *_ = sweep(task, [Setting("static:height=40")], seeds=seeds, hops="mean", steps=steps, at_once=8)
    return losses[0].tolist()


def above(row: dict, plain: list[float]) -> np.ndarray:
    """Relative excess of each seed's loss over the same seed without a memory."""
    return np.array(row["test_loss"]) / np.array(plain) - 1


def cost(row: dict) -> np.ndarray:
    """Heat and barrier work of each seed [kT per parameter]."""
    return np.array(row["heat_kt_per_parameter"]) + np.array(row["actuation_kt_per_parameter"])


def cost_at(rows: list[dict], plain: list[float], target: float) -> tuple[float, float]:
    """Least cost at an excess with its jackknife error; NaN where none is that quiet."""
    return energy_at(np.array([cost(row) for row in rows]), np.array([above(row, plain) for row in rows]), target)


def of_task(name: str, content: dict) -> list[str]:
    """The two tables of a task."""
    rows, plain = content["rows"], content["plain_test_loss"]
    scales = list(dict.fromkeys(row["scale"] for row in rows))
    cells = list(dict.fromkeys((row["bits"], row["range"]) for row in rows))
    at = {(row["bits"], row["range"], row["scale"]): row for row in rows}
    lines = [
        f"## {name}: {content['parameters']:,} parameters, {content['steps']:,} steps",
        "",
        f"{len(plain)} seeds; without a memory the test loss is {mean_text(np.array(plain), '.3f')}. Loss above that of the same seed, and below "
        "it heat and barrier work per parameter, with standard errors:",
        "",
        "| bits | range | level | " + " | ".join(f"scale {scale:g}" for scale in scales) + " |",
        "|---:|---:|---:|" + "---:|" * len(scales),
    ]
    for bits, largest in cells:
        here = [at[bits, largest, scale] for scale in scales]
        told = [f"{mean_text(100 * above(row, plain), '.1f')} %<br>{mean_text(cost(row), '.3g')} kT" for row in here]
        lines.append(f"| {bits} | ±{largest:g} | {here[0]['lsb']:.3g} | {' | '.join(told)} |")
    lines += [
        "",
        "Least heat and work [kT per parameter] at a given loss above bare Adam's, read between the scales in 1/energy, and the range it is for; a dash "
        "where nothing that was tried is that quiet:",
        "",
        "| bits | " + " | ".join(f"{100 * target:g} %" for target in TARGETS) + " |",
        "|---:|" + "---:|" * len(TARGETS),
    ]
    for bits in dict.fromkeys(bits for bits, _ in cells):
        ranges = [
            [row for row in rows if (row["bits"], row["range"]) == (bits, largest)] for b, largest in cells if b == bits
        ]
        told = []
        for target in TARGETS:
            found = [(*cost_at(some, plain, target), some[0]["range"]) for some in ranges]
            value, error, largest = min(found, key=lambda one: np.nan_to_num(one[0], nan=np.inf))
            error = "–" if error != error else f"{error:.2g}"
            told.append("–" if value != value else f"{value:.3g} ± {error} (±{largest:g})")
        lines.append(f"| {bits} | {' | '.join(told)} |")
    return [*lines, ""]


def draw(tasks: dict[str, dict]):
    """Loss against heat, a line for each number of bits, a panel for each task."""
    fig, axes = figure(4.6 * len(tasks), 3.8, len(tasks))
    for ax, (name, content) in zip(axes, tasks.items()):
        rows, plain = content["rows"], content["plain_test_loss"]
        shown = {
            "bits": list(dict.fromkeys(row["bits"] for row in rows)),
            "range": list(dict.fromkeys(row["range"] for row in rows)),
        }
        for (bits, colour), (largest, style) in itertools.product(
            zip(shown["bits"], COLOURS), zip(shown["range"], STYLES)
        ):
            some = [row for row in rows if (row["bits"], row["range"]) == (bits, largest)]
            x = np.array([cost(row).mean() for row in some])
            y = np.array([100 * above(row, plain) for row in some])
            error = y.std(axis=1, ddof=1) / np.sqrt(y.shape[1]) if y.shape[1] > 1 else None
            label = f"{bits} bits, ±{largest:g}"
            ax.errorbar(
                x, y.mean(axis=1), yerr=error, linestyle=style, marker="o", markersize=4, color=colour, label=label
            )
        ax.axhline(0, color=OTHER, linewidth=0.8, linestyle=":")
        ax.set_xscale("log")
        plain_numbers(ax.xaxis)
        ax.set_xlabel("heat and barrier work [kT per parameter]")
        ax.set_ylabel("test loss above bare Adam's [%]")
        ax.set_title(f"{name}, {content['parameters']:,} parameters", fontsize=10)
    axes[0].legend(frameon=False, fontsize=7, ncols=2, handlelength=3)
    return fig


def write(content: dict, out: pathlib.Path) -> None:
    """The page and the figure, from the numbers alone."""
    lines = [
        "# Precision: how many bits are cheapest",
        "",
        "Language models in cells of few bits and several ranges of weights; `moment` barriers of several scales, exact hops. "
        "What follows from it is on [the page of growth](../scale.md#how-many-bits).",
        "",
        *(line for name, one in content["tasks"].items() for line in of_task(name, one)),
        "![Test loss against heat for each number of bits](precision.png)",
        "",
        f"Made by `python examples/precision_table.py` on {content['machine']['device']}; "
        f"{', '.join(f'{name} {number}' for name, number in content['machine']['versions'].items())}.",
    ]
    (out / "docs/results/precision.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    draw(content["tasks"]).savefig(out / "docs/results/precision.png")
    (out / RESULT).write_text(json.dumps(content) + "\n", encoding="utf-8")


def kept(path: pathlib.Path, asked: dict, make: Callable[[], list]) -> list:
    """What a file has for the same numbers, or what is made and written to it."""
    if path.exists() and (found := json.loads(path.read_text()))["asked"] == asked:
        return found["value"]
    value = make()
    write_json(path, {"asked": asked, "value": value})
    print(f"{path.stem}: measured", flush=True)
    return value


def of_name(name: str, options: argparse.Namespace) -> dict:
    """All rows of one task."""
    task = get_task(name)
    steps = task.defaults.steps if options.steps is None else options.steps
    asked = {"steps": steps, "seeds": options.seeds, "scales": options.scales}
    plain = partial(without_memory, task, options.seeds, steps)
    rows = []
    for bits, largest in itertools.product(options.bits, options.ranges):
        make = partial(measured, task, bits, largest, options.scales, options.seeds, steps)
        rows += kept(options.work / f"{name}-{bits}-bits-{largest:g}.json", asked, make)
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(task.init, jax.random.key(0)))),
        "steps": steps,
        "plain_test_loss": kept(options.work / f"{name}-plain.json", asked, plain),
        "rows": rows,
    }


def main(options: argparse.Namespace) -> None:
    for folder in (options.out / "docs/results", options.out / "benchmarks/results", options.work):
        folder.mkdir(parents=True, exist_ok=True)
    path = options.out / RESULT
    before = json.loads(path.read_text())["tasks"] if path.exists() else {}
    write(
        {"tasks": before | {name: of_name(name, options) for name in options.tasks}, "machine": machine()}, options.out
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["language-10k", "language-30k"])
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 6, 8, 12])
    parser.add_argument(
        "--ranges", type=float, nargs="+", default=[1.0, 2.0], help="largest weight that a cell can hold"
    )
    parser.add_argument("--scales", type=float, nargs="+", default=[0.01, 0.03, 0.1, 0.3, 1.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="default the task's, 20 bytes per parameter")
    parser.add_argument(
        "--work", type=pathlib.Path, default=pathlib.Path("runs/precision"), help="folder of finished parts"
    )
    parser.add_argument("--out", type=pathlib.Path, default=ROOT, help="folder with docs/ and benchmarks/")
    main(parser.parse_args())
