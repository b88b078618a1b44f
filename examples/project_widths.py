"""How far a weight moves per step, measured on networks of several widths, and what that says about a larger one.

Short runs of the digits perceptron and of the character transformer at their own learning rate, four widths or more each.
The path per parameter and step is fitted as a power of the number of parameters and projected. Projecting keeps the heat per
level of path; its own trend is fitted beside it, to show how far that holds. Writes `benchmarks/results/widths.json`. Takes
about ten minutes on two cores; `--quick` takes one.
"""

import argparse
import json
import math
import pathlib
import platform

import limjax
from limjax.limits import PowerLawFit, Workload, fit_path, fit_power_law, path_per_step, project
from limjax.tasks import char_transformer, digits_mlp
from limjax.versions import versions

ROOT = pathlib.Path(__file__).parents[1]
NETWORKS = {
    "digits-mlp": (digits_mlp, (16, 32, 64, 128, 256), 600),
    "char-transformer": (char_transformer, (16, 32, 64, 128), 200),
}
KEPT = (
    "parameters",
    "steps",
    "heat_kt",
    "actuation_kt",
    "path_levels",
    "static_heat_kt",
    "landauer_kt",
    "train_loss",
    "test_loss",
    "test_accuracy",
    "seed",
    "device",
)
SIZES = (1e9, 1e12, 1e15)


def measure(name: str, widths: tuple[int, ...], steps: int, seeds: int) -> list[dict]:
    make = NETWORKS[name][0]
    runs = []
    for width in widths:
        for seed in range(seeds):
            summary = limjax.train(make(width=width), steps=steps, seed=seed).summary
            run = {"width": width, **{key: summary[key] for key in KEPT}, "path_per_step": path_per_step(summary)}
            runs.append(run)
            print(
                f"{name}, width {width}, seed {seed}: {run['parameters']:,} parameters, "
                f"{run['path_per_step']:.4f} levels per parameter and step",
                flush=True,
            )
    return runs


def as_content(fit: PowerLawFit) -> dict:
    return {
        "exponent": fit.exponent,
        "exponent_low": fit.exponent_low,
        "exponent_high": fit.exponent_high,
        "confidence": fit.confidence,
        "at_mean_size": math.exp(fit.intercept + fit.exponent * fit.mean_log_x),
        "scatter_of_ln": fit.scatter,
        "points": fit.points,
        "fitted_parameters": list(fit.fitted),
    }


def projections(name: str, runs: list[dict]) -> dict:
    """The fits, and the widest run projected to larger networks trained as long as Kaplan's law says."""
    path = fit_path(runs)
    heat = fit_power_law([r["parameters"] for r in runs], [r["heat_kt"] / r["path_levels"] for r in runs])
    for said, fit in (("path per parameter and step", path), ("heat per level of path", heat)):
        print(
            f"{name}: {said} ∝ N^{fit.exponent:.3f} ({fit.exponent_low:.3f} to {fit.exponent_high:.3f} at 95 %), "
            f"{fit.points} runs"
        )
    rows = []
    for size in SIZES:
        projection = project(runs[-1], Workload(size), path)
        rows.append(projection.as_dict())
        print(
            f"  {size:.0e} parameters: {projection.heat_joules:.1e} J of updates "
            f"({projection.heat_low_joules:.0e} to {projection.heat_high_joules:.0e}), static barrier "
            f"{projection.static_heat_joules:.1e} J, {projection.extrapolation:.0e} times beyond the measured sizes"
        )
    return {"path_fit": as_content(path), "heat_per_level_fit": as_content(heat), "projections": rows}


def main(quick: bool, seeds: int, out: pathlib.Path) -> None:
    content = {
        "machine": {"system": platform.system(), "processor": platform.machine()},
        "versions": versions(),
        "networks": {},
    }
    for name, (_, widths, steps) in NETWORKS.items():
        chosen, taken = ((4, 8, 12, 16), 20) if quick else (widths, steps)
        runs = measure(name, chosen, taken, seeds)
        content["machine"]["device"] = runs[0]["device"]
        content["networks"][name] = {"steps": taken, "runs": runs, **projections(name, runs)}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=2) + "\n")
    print(f"Written to {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few steps of small networks, to see that it runs")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "benchmarks/results/widths.json")
    arguments = parser.parse_args()
    main(arguments.quick, arguments.seeds, arguments.out)
