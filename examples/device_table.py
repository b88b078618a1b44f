"""digits-mlp on every device of the zoo: accuracy, joules and seconds at the device, and the heat of an ideal drive of the same moves.

The same in small batches of one with plain gradient descent, where asymmetric devices are known to fail. Beside plain Adam without a device, an ideal symmetric device of 1000 pulses, and the default run on barriers that follow the law. Writes
`docs/results/devices.md` and `benchmarks/results/devices.json`. Takes about ten minutes on two cores.

    python examples/device_table.py --seeds 3
"""

import argparse
import json
import pathlib
import time
from collections.abc import Sequence

import numpy as np
import optax

import limjax
from limjax.devices import Device, device_names, get_device
from limjax.versions import versions

ROOT = pathlib.Path(__file__).parents[1]
TASK = "digits-mlp"
IDEAL = "levels=1000"
SGD_STEPS, SGD_RATE = 15_000, 0.03
KEYS = (
    "test_accuracy",
    "heat_joules",
    "actuation_kt",
    "pulses",
    "device_joules",
    "device_seconds",
    "misplaced_fraction",
)


def run(name: str, device: Device | None, steps: int | None, seeds: int, **options) -> dict:
    """One row: the same task and seeds on one memory."""
    rows = []
    for seed in range(seeds):
        start = time.perf_counter()
        cell = None if device is None else device.cell(seed=seed)
        summary = limjax.train(
            TASK, cell=cell, seed=seed, steps=steps, compare=(), granularity="leaf", **options
        ).summary
        rows.append({key: summary.get(key) for key in (*KEYS, "parameters", "steps", "device", "temperature")})
        print(
            f"{name}, seed {seed}: accuracy {summary['test_accuracy']:.4f}, {time.perf_counter() - start:.1f} s",
            flush=True,
        )
    title = name if device is None else device.title
    one = {"name": name, "title": title, "levels": None if device is None else device.levels, "seeds": rows}
    return one | {"sgd": sgd(name, device, steps, **options)}


def sgd(name: str, device: Device | None, steps: int | None, **options) -> dict:
    """The same memory, written after every single example by plain gradient descent; one seed."""
    summary = limjax.train(
        TASK, cell=None if device is None else device.cell(), optimizer=optax.sgd(SGD_RATE), batch_size=1,
        steps=SGD_STEPS if steps is None else steps, compare=(), granularity="leaf", **options,
    ).summary  # fmt: skip
    print(f"{name}, SGD: accuracy {summary['test_accuracy']:.4f}", flush=True)
    return {key: summary.get(key) for key in (*KEYS, "steps")}


def column(one: dict, key: str) -> np.ndarray | None:
    values = [row[key] for row in one["seeds"]]
    return None if None in values else np.array(values, float)


def page(runs: list[dict]) -> str:
    """The docs page, from the runs alone."""
    first = runs[0]["seeds"]
    count, steps = first[0]["parameters"], first[0]["steps"]
    plain, ideal = (100 * column(one, "test_accuracy").mean() for one in runs[:2])
    lines = [
        "# digits-mlp on every device",
        "",
        f"`{TASK}` ({count:,} parameters), {steps:,} Adam steps, {len(first)} seeds (mean ± standard deviation of the accuracy, means of the "
        "rest), a window of weights from -1 to 1, every request delivered by whole pulses. **Device joules** are those of the pulses at the "
        "device, without lines and drivers; **ideal drive** is the closed-form heat of the same mean moves over the barrier of the device's "
        "retention; their ratio is what the driver wastes. **At once** is what the pulses take at least if all cells are written together. "
        "A dash is a number that nobody gave: it is not filled in. What each device is and where its numbers come from: "
        "[Your device](../device.md), `limjax device show NAME`.",
        "",
        "| memory | pulses end to end | test accuracy, Adam | SGD, one example at a time | pulses a weight | device [J] | ideal drive [J] | device / ideal | at once [s] | misplaced |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in runs:
        accuracy, pulses = column(one, "test_accuracy"), column(one, "pulses")
        joules, seconds, heat = (column(one, key) for key in ("device_joules", "device_seconds", "heat_joules"))
        deviation = accuracy.std(ddof=1) if len(accuracy) > 1 else 0.0
        ratio = None if joules is None else (joules / heat).mean()
        misplaced = column(one, "misplaced_fraction")
        cells = [
            one["name"],
            "-" if one["levels"] is None else f"{one['levels']:,.4g}",
            f"{100 * accuracy.mean():.1f} ± {100 * deviation:.1f} %",
            f"{100 * one['sgd']['test_accuracy']:.1f} %",
            "-" if pulses is None else f"{pulses.mean() / count:.3g}",
            *("-" if x is None else f"{x.mean():.2e}" for x in (joules, heat)),
            "-" if ratio is None else f"{ratio:.2g}",
            "-" if seconds is None else f"{seconds.mean() / count:.2g}",
            "-" if misplaced is None else f"{100 * misplaced.mean():.0f} %",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"An ideal symmetric device of 1000 pulses differs from plain Adam by {ideal - plain:+.2f} points of accuracy. *Misplaced* is what "
        "pulses did beyond or short of what was asked for, over what they did: steps that depend on where a cell stands, on the direction or "
        "on the device. Words of bits (SRAM, DRAM, STT-MRAM, NOR flash) are rewritten whole, eight bits each, whenever the rounded request is "
        f"not zero. **One example at a time** is plain gradient descent with batches of one, rate {SGD_RATE} and "
        f"{runs[0]['sgd']['steps']:,} steps, one seed: every step adds noise, and a weight is drawn to where steps up and down cancel. Adam "
        "on batches of 256 asks for few pulses and mostly in one direction, which hides it. All other "
        "columns are those of the Adam runs. The last row is the default run of `limjax train`, whose barriers follow the law instead of a device's retention: its "
        "heat is what the same training costs on memory that is built for it.",
        "",
        f"Made by `python examples/device_table.py --seeds {len(first)}` on {first[0]['device']}; "
        f"{', '.join(f'{name} {number}' for name, number in versions().items())}.",
    ]
    return "\n".join(lines) + "\n"


def main(steps: int | None, seeds: int, devices: Sequence[str], out: pathlib.Path) -> None:
    still = {"hops": "mean", "barrier": "static"}
    runs = [run("plain Adam", None, steps, seeds, **still)]
    runs.append(run("ideal symmetric", get_device(IDEAL), steps, seeds))
    runs += [run(name, get_device(name), steps, seeds) for name in devices]
    runs.append(run("barriers of the law", None, steps, seeds))
    for folder in ("docs/results", "benchmarks/results"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    text = page(runs)
    (out / "docs/results/devices.md").write_text(text, encoding="utf-8")
    content = {"task": TASK, "versions": versions(), "runs": runs}
    (out / "benchmarks/results/devices.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=None, help="default: the task's")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--devices", default=",".join(device_names()), help="comma-separated, besides the ideal one")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT, help="folder with docs/ and benchmarks/")
    arguments = parser.parse_args()
    main(arguments.steps, arguments.seeds, [name for name in arguments.devices.split(",") if name], arguments.out)
