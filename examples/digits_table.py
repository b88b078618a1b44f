"""Accuracy and heat on digits: plain Adam on today's memory beside every barrier of limjax, over five seeds.

Writes `docs/results/digits.md` and `benchmarks/results/digits.json`. Takes a quarter of an hour on two cores. Every run is kept at once
in the file of `--runs`, one line each; with the same file an interrupted table goes on. Remove it after a change of limjax.
"""

import argparse
import functools
import json
import pathlib
import time
from collections.abc import Callable, Sequence

import numpy as np

import limjax
from limjax.barriers import barrier_names
from limjax.memory.comparisons._names import FAIR, STATIC, comparison_words
from limjax.tasks import get_task
from limjax.versions import versions

ROOT = pathlib.Path(__file__).parents[1]
TASK = "digits-mlp"
NAMES = (STATIC, *FAIR)
PLAIN = {"hops": "mean", "barrier": "static"}


def settings(barriers: Sequence[str]) -> dict[str, dict[str, str]]:
    """Runs by name: plain Adam, `limjax train` as it is without options, and the other barriers with their defaults."""
    default = get_task(TASK).defaults.barrier
    others = {name: {"hops": "exact", "barrier": name} for name in barriers if name != default}
    return {"plain Adam, static": PLAIN, f"{default} (default)": {"hops": "exact", "barrier": default}, **others}


class Kept:
    """Runs that are done, a JSON line each, by their settings and the versions that made them."""

    def __init__(self, path: pathlib.Path | None):
        self._path, self._rows = path, {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                one = json.loads(line)
                self._rows[json.dumps(one["key"])] = one["row"]

    def row(self, key: list, make: Callable[[], dict]) -> dict:
        name = json.dumps(key)
        if name not in self._rows:
            self._rows[name] = make()
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a") as file:
                    file.write(json.dumps({"key": key, "row": self._rows[name]}) + "\n")
        return self._rows[name]


def all_runs(barriers: Sequence[str], steps: int | None, seeds: int, kept: Kept) -> list[dict]:
    """Every barrier with the first seed, then with the second: a table with fewer seeds is whole early."""
    made = [{"name": name, "options": options, "seeds": []} for name, options in settings(barriers).items()]
    for seed in range(seeds):
        for one in made:
            key = [TASK, one["options"], steps, seed, versions()]
            make = functools.partial(one_run, one["name"], one["options"], steps, seed)
            one["seeds"].append(kept.row(key, make))
    return made


def one_run(name: str, options: dict[str, str], steps: int | None, seed: int) -> dict:
    """The numbers of one training."""
    start = time.perf_counter()
    summary = limjax.train(TASK, seed=seed, steps=steps, **options).summary
    if summary["result"] != "completed":  # Ctrl-C ends a training in good order; it must end the table too
        raise SystemExit(
            f"{name}, seed {seed}: {summary['result']} after {summary['steps']} steps. Runs that are done are kept."
        )
    parameters, cost = summary["parameters"], summary["heat_kt"] + summary["actuation_kt"]
    row = {
        "seed": seed,
        "test_accuracy": summary["test_accuracy"],
        "test_loss": summary["test_loss"],
        "heat_kt_per_parameter": summary["heat_kt_per_parameter"],
        "actuation_kt_per_parameter": summary["actuation_kt"] / parameters,
        "landauer_kt_per_parameter": summary["landauer_kt"] / parameters,
        "ratio": summary["ratio"],
        "ratios": {name: other / cost for name, other in summary["comparisons_kt"].items()},
        "above_bowl_bound": summary["above_bowl_bound"],
        "device": summary["device"],
        "parameters": parameters,
        "steps": summary["steps"],
    }
    print(
        f"{name}, seed {seed}: accuracy {summary['test_accuracy']:.4f}, {time.perf_counter() - start:.1f} s",
        flush=True,
    )
    return row


def page(runs: list[dict]) -> str:
    """The docs page, from the runs alone."""
    first = runs[0]["seeds"]
    points = 100 * (_column(runs[1], "test_accuracy") - _column(runs[0], "test_accuracy"))
    lines = [
        "# Digits: accuracy and heat",
        "",
        f"`{TASK}` ({first[0]['parameters']:,} parameters), {first[0]['steps']:,} Adam steps, {len(first)} seeds, mean ± standard deviation over the "
        "seeds. Costs are per parameter and for the whole run. The columns behind them are ratios: what the same updates would cost on "
        "another memory, over heat and barrier work of the run. The **cheapest** of these is the gain that can be claimed; "
        "*static* holds ten years and is no rival. Model heat of the weight memory alone: see "
        "[the ledger](../ledger.md#what-it-is-compared-with).",
        "",
        f"| barrier | test accuracy | points lost | heat [kT] | barrier work [kT] | {' | '.join(NAMES)} | cheapest | heat and work over 2 ln(L0/LT) |",
        "|---|---:|---:|---:|---:|" + "---:|" * (len(NAMES) + 2),
    ]
    columns = {
        "test_accuracy": "{:.4f}",
        "heat_kt_per_parameter": "{:,.1f}",
        "actuation_kt_per_parameter": "{:.3f}",
    }
    for one in runs:
        cells = [_mean_and_deviation(_column(one, key), form) for key, form in columns.items()]
        lost = 100 * (_column(runs[0], "test_accuracy") - _column(one, "test_accuracy"))
        cells.insert(1, _mean_and_deviation(lost, "{:.2f}"))
        for name in NAMES:
            cells.append(_ratio(np.array([row["ratios"][name] for row in one["seeds"]])))
        cells += [_ratio(_column(one, "ratio")), _ratio(_column(one, "above_bowl_bound"))]
        lines.append(f"| {one['name']} | {' | '.join(cells)} |")
    lines += ["", *[f"- **{name}**: {comparison_words(name)}." for name in NAMES]]
    lines += [
        "",
        f"Points lost are those of plain Adam with the same seed less the run's own: {_mean_and_deviation(-points, '{:.2f}')} for "
        f"{runs[1]['name']}. One example of the test set of 360 is {100 / 360:.2f} points. ln 2 per parameter and step comes to "
        f"{first[0]['landauer_kt_per_parameter']:,.0f} kT.",
        "",
        'Plain Adam is `hops="mean"`: the updates arrive exactly, so its heat is the static barrier\'s. In all other rows the '
        "hops are drawn exactly, with each barrier's defaults on the command line. *learned* begins as *moment*, and untuned is the same to "
        "the bit; *consolidating* is for tasks that come one after the other. How the ratios depend on the level is in "
        "[another table](comparisons.md).",
        "",
        "Made by `python examples/digits_table.py` on "
        f"{first[0]['device']}; {', '.join(f'{name} {number}' for name, number in versions().items())}.",
    ]
    return "\n".join(lines) + "\n"


def _ratio(values: np.ndarray) -> str:
    return _mean_and_deviation(values.astype(float), "{:,.0f}" if np.nanmean(values.astype(float)) >= 30 else "{:.2f}")


def _column(one: dict, key: str) -> np.ndarray:
    return np.array([row[key] for row in one["seeds"]])


def _mean_and_deviation(values: np.ndarray, form: str) -> str:
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return f"{form.format(values.mean())} ± {form.replace('+', '').format(deviation)}"


def main(steps: int | None, seeds: int, barriers: Sequence[str], out: pathlib.Path, kept: Kept) -> None:
    runs = all_runs(barriers, steps, seeds, kept)
    for folder in ("docs/results", "benchmarks/results"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    text = page(runs)
    (out / "docs/results/digits.md").write_text(text)
    content = {"task": TASK, "versions": versions(), "runs": runs}
    (out / "benchmarks/results/digits.json").write_text(json.dumps(content, indent=2) + "\n")
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=None, help="default: the task's")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--barriers", default=",".join(barrier_names()), help="comma-separated, besides the default")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT, help="folder with docs/ and benchmarks/")
    parser.add_argument("--runs", type=pathlib.Path, default=None, help="file of finished runs, read and added to")
    arguments = parser.parse_args()
    kept = Kept(arguments.runs)
    main(arguments.steps, arguments.seeds, [b for b in arguments.barriers.split(",") if b], arguments.out, kept)
