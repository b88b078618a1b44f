"""Heat against physical time at fixed loss: nothing to gain from slowness, and one over time once every barrier is open.

A memory cell hops at most k0 times a second, when its barrier is zero. Training in less time leaves fewer hops per step. The script
takes one barrier schedule for digits-mlp (the learning rate squared), keeps its exchange per step while the step time shrinks
by six orders of magnitude, and clips the barrier at zero:

- time to spare: the exchange the loss allows is reached, heat does not depend on time;
- less: barriers are zero, the exchange is k0 times the step time, heat = Σ d²/(k0 τ), inversely proportional to time.

Where barriers are of a kT or two there are no levels to hop between, and the ladder is only a rough picture: beside it stands what the
landscape behind it takes at least for the same path in the same time. A coordinate of diffusion constant D pays d²/(Dτ) a step without a barrier
and more with one, so that a run pays (Σ|d|)²/(DT) or more (Cauchy and Schwarz); D is k0/10π, as k0 is that of 10 kT. The table ends where a
cell moves a level with every attempt: more than that no cell delivers, whatever its tilt.

Writes `benchmarks/results/time_front.json`, `docs/results/time.md` and `docs/figures/time_front.png`.

    python examples/time_front.py
"""

import argparse
import json
import pathlib

import jax
import numpy as np

import limjax
from limjax.plots._style import FLOOR, OTHER, OWN, figure
from limjax.tasks import get_task
from limjax.tuning import Problem, evaluate, held_out_seeds
from limjax.versions import versions

ROOT = pathlib.Path(__file__).parents[1]


def measure(steps: int, held_out: int, points: int, start: float) -> dict:
    cell = limjax.ArrheniusCell(lsb=2.0**-14, attempt_rate=1e9, step_time=1e-3)
    problem = Problem(get_task("digits-mlp"), cell, steps=steps, batch_size=128, learning_rate=3e-3)
    seeds = held_out_seeds(held_out)
    fall = 2 * np.log(1 / np.maximum(0.5 * (1 + np.cos(np.pi * np.linspace(0, 1, 16))), 2e-3))
    plain = evaluate(problem, limjax.StaticBarrier(9.0), seeds, hops="mean")
    rows = []
    for shift in np.linspace(2.0, -12.0, points):
        barrier = limjax.SplineBarrier(np.maximum(start + fall + shift, 0.0), steps)
        design = problem.design(barrier)
        log_time = design.log_step_time + shift
        design = type(design)(design.barrier, log_time, design.log_rate)
        e = evaluate(problem, design, seeds)
        rows.append(
            {
                "seconds": e.seconds, "heat_kt_per_parameter": float(e.heat_kt_per_parameter.mean()),
                "path_levels": float(e.path_levels.mean()), "test_loss": e.mean_loss, "test_loss_error": e.loss_error,
                "open_share": float(np.mean(start + fall + shift <= 0)),
            }
        )  # fmt: skip
        print(f"{e.seconds:.3g} s: {rows[-1]['heat_kt_per_parameter']:.4g} kT, loss {e.mean_loss:.4f}", flush=True)
    return {
        "task": "digits-mlp", "steps": steps, "held_out": held_out, "attempt_rate": 1e9,
        "plain": {"test_loss": plain.mean_loss, "test_loss_error": plain.loss_error}, "rows": rows,
        "device": str(jax.devices()[0].device_kind), "versions": versions(),
    }  # fmt: skip


def slopes(rows: list[dict]) -> list[float]:
    """Between neighbours: d ln heat / d ln time."""
    log_time, log_heat = (np.log([row[name] for row in rows]) for name in ("seconds", "heat_kt_per_parameter"))
    return [float(x) for x in np.diff(log_heat) / np.diff(log_time)]


def free(content: dict, row: dict) -> float:
    """The least heat of a coordinate that diffuses, for this path in this time [kT]: no barrier, and the same speed throughout."""
    run = limjax.ArrheniusCell(attempt_rate=content["attempt_rate"], step_time=row["seconds"])  # as if it were one step
    return row["path_levels"] ** 2 / float(run.diffusion_per_step())


def draw(content: dict):
    fig, (ax,) = figure()
    rows = content["rows"]
    time, heat = np.array([r["seconds"] for r in rows]), np.array([r["heat_kt_per_parameter"] for r in rows])
    ax.loglog(time, heat, "o-", color=OWN, markersize=4, label="digits-mlp, at plain training's loss")
    steep = int(np.argmin(slopes(rows)))
    near = slice(max(steep - 2, 0), steep + 4)
    ax.loglog(time[near], 1.6 * heat[steep] * time[steep] / time[near], "--", color=OTHER, label="1/time")
    least = np.array([free(content, row) for row in rows])
    ax.loglog(time, least, ":", color=FLOOR, label="a landscape without barriers, at least")
    ax.set_ylim(0.3 * heat.min(), None)
    ax.set_xlabel("physical time of the run [s], at 10⁹ attempts per second")
    ax.set_ylabel("heat per parameter [kT]")
    ax.legend(frameon=False)
    return fig


def page(content: dict) -> str:
    plain = content["plain"]
    lines = [
        "# Heat against time at fixed loss",
        "",
        f"Made by `examples/time_front.py`: {content['task']}, {content['steps']} steps, {content['held_out']} held-out seeds, exact "
        f"hops; plain training's test loss is {plain['test_loss']:.4f} ± {plain['test_loss_error']:.4f}. The exchange per step is "
        "kept as long as the cell can deliver it; below that the barrier is zero and the exchange is attempt rate times step time.",
        "",
        "![Heat against time](../figures/time_front.png)",
        "",
        "Slope is d ln heat / d ln time to the row above: -1 where all barriers are open, as heat is Σ d²/(k0 τ). There the ladder says too "
        "little: the landscape that it stands for takes the next column at least, (Σ|d|)²/(DT) with D = k0/10π, also without any barrier.",
        "",
        "| time [s] | heat [kT per parameter] | slope | a landscape without barriers, at least [kT] | levels per attempt | test loss | steps with an open barrier |",
        "|---|---|---|---|---|---|---|",
    ]
    for r, slope in zip(content["rows"], ["", *(f"{x:.3f}" for x in slopes(content["rows"]))]):
        lines.append(
            f"| {r['seconds']:.2e} | {r['heat_kt_per_parameter']:.4g} | {slope} | {free(content, r):.3g} | "
            f"{r['path_levels'] / (content['attempt_rate'] * r['seconds']):.2g} | {r['test_loss']:.4f} ± {r['test_loss_error']:.4f} | "
            f"{r['open_share']:.0%} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--held-out", type=int, default=8)
    parser.add_argument("--points", type=int, default=15)
    parser.add_argument("--start", type=float, default=5.7, help="first barrier at a step of 1 ms [kT]")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT)
    options = parser.parse_args()
    content = measure(options.steps, options.held_out, options.points, options.start)
    for folder in ("benchmarks/results", "docs/results", "docs/figures"):
        (options.out / folder).mkdir(parents=True, exist_ok=True)
    (options.out / "benchmarks/results/time_front.json").write_text(json.dumps(content, indent=1) + "\n")
    (options.out / "docs/results/time.md").write_text(page(content))
    draw(content).savefig(options.out / "docs/figures/time_front.png")


if __name__ == "__main__":
    main()
