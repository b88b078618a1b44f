"""Plain Adam beside learning-in-memory on digits-mlp over five seeds: accuracy, heat, what a static barrier would cost.

Writes `docs/results/digits.md` and `benchmarks/results/digits.json`.
"""

import argparse
import json
import pathlib

import numpy as np

import limjax
from limjax.training import versions

ROOT = pathlib.Path(__file__).parents[1]
POLICIES = {
    "plain Adam, static barrier": {"hops": "mean", "barrier": "static"},
    "Lyapunov barrier (the default)": {"hops": "exact"},
    "scheduled, inverse square of the learning rate": {"hops": "exact", "barrier": "scheduled:start=11"},
    "rate-matched": {"hops": "exact", "barrier": "rate-matched"},
}
COLUMNS = ("test_accuracy", "test_loss", "heat_kt_per_parameter", "actuation_kt_per_parameter", "ratio")


def run(steps: int | None, seeds: int) -> list[dict]:
    rows = []
    for name, settings in POLICIES.items():
        values = []
        for seed in range(seeds):
            summary = limjax.train("digits-mlp", seed=seed, steps=steps, **settings).summary
            cost = summary["heat_kt"] + summary["actuation_kt"]
            values.append(
                {
                    **{key: summary[key] for key in COLUMNS[:3]},
                    "actuation_kt_per_parameter": summary["actuation_kt"] / summary["parameters"],
                    "ratio": summary["static_heat_kt"] / cost,
                    "seed": seed,
                    "landauer_kt_per_parameter": summary["landauer_kt"] / summary["parameters"],
                }
            )
            print(f"{name}, seed {seed}: {values[-1]}", flush=True)
        rows.append({"policy": name, "settings": settings, "seeds": values})
    return rows


def page(rows: list[dict], steps: int) -> str:
    lines = [
        "# Digits: accuracy and heat",
        "",
        f"`digits-mlp` (8,970 parameters), {steps} Adam steps, {len(rows[0]['seeds'])} seeds, mean ± standard deviation over "
        "the seeds. Heat and barrier work are per parameter, for the whole run. The ratio is the cost of the same updates "
        "under a barrier that holds a bit for ten years over the cost of the run. Made by `examples/digits_table.py`.",
        "",
        "| policy | test accuracy | test loss | heat [kT] | barrier work [kT] | ratio |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = []
        for column, form in zip(COLUMNS, ("{:.4f}", "{:.4f}", "{:,.1f}", "{:.3f}", "{:,.0f}")):
            values = np.array([value[column] for value in row["seeds"]])
            cells.append(f"{form.format(values.mean())} ± {form.format(values.std(ddof=1) if len(values) > 1 else 0.0)}")
        lines.append(f"| {row['policy']} | {' | '.join(cells)} |")
    landauer = rows[0]["seeds"][0]["landauer_kt_per_parameter"]
    lines += ["", f"ln 2 per parameter and step comes to {landauer:,.0f} kT.", ""]
    lines.append("Versions: " + ", ".join(f"{name} {number}" for name, number in versions().items()) + ".")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=None, help="default: the task's")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT, help="folder with docs/ and benchmarks/")
    arguments = parser.parse_args()
    results = run(arguments.steps, arguments.seeds)
    steps = arguments.steps or limjax.tasks.get_task("digits-mlp").defaults.steps
    for folder in ("docs/results", "benchmarks/results"):
        (arguments.out / folder).mkdir(parents=True, exist_ok=True)
    (arguments.out / "docs/results/digits.md").write_text(page(results, steps))
    content = {"versions": versions(), "steps": steps, "rows": results}
    (arguments.out / "benchmarks/results/digits.json").write_text(json.dumps(content, indent=2) + "\n")
