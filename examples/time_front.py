"""Heat against physical time at fixed loss: the 1/time law of slow training and the wall of fast training.

A memory cell hops at most k0 times a second, when its barrier is zero. Training in less time leaves fewer hops per step, and
an update that is large against them must be driven. The script takes one barrier schedule for digits-mlp (the learning rate
squared), keeps its exchange per step while the step time shrinks by six orders of magnitude, and clips the barrier at zero:

- time to spare: the exchange the loss allows is reached, heat does not depend on time;
- less: every barrier is zero, the exchange is k0 times the step time, heat = Σ d²/(k0 τ), inversely proportional to time;
- much less: an update outruns its hops, heat = Σ 2d ln(d/(k0 τ)): each factor e of speed costs 2 kT per level travelled.

Writes `benchmarks/results/time_front.json`, `docs/results/time.md` and `docs/figures/time_front.png`.

    python examples/time_front.py
"""

import argparse
import itertools
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
    for shift in np.linspace(2.0, -28.0, points):
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


def slopes(rows: list[dict]) -> list[dict]:
    """Between neighbours: d ln heat / d ln time, and d heat / d ln time in units of -2 kT per level of path."""
    out = []
    for slow, fast in itertools.pairwise(rows):
        span = np.log(slow["seconds"] / fast["seconds"])
        path = 0.5 * (slow["path_levels"] + fast["path_levels"])
        out.append(
            {
                "seconds": float(np.sqrt(slow["seconds"] * fast["seconds"])),
                "power": float(np.log(slow["heat_kt_per_parameter"] / fast["heat_kt_per_parameter"]) / span),
                "wall": float((fast["heat_kt_per_parameter"] - slow["heat_kt_per_parameter"]) / span / (2 * path)),
                "open_share": min(slow["open_share"], fast["open_share"]),
            }
        )
    return out


def draw(content: dict):
    fig, (ax,) = figure()
    rows = content["rows"]
    time, heat = np.array([r["seconds"] for r in rows]), np.array([r["heat_kt_per_parameter"] for r in rows])
    ax.loglog(time, heat, "o-", color=OWN, markersize=4, label="digits-mlp, at plain training's loss")
    steep = min(slopes(rows), key=lambda s: s["power"])
    anchor = np.exp(np.interp(-np.log(steep["seconds"]), -np.log(time), np.log(heat)))
    near = (time > steep["seconds"] / 30) & (time < steep["seconds"] * 30)
    ax.loglog(time[near], anchor * steep["seconds"] / time[near], "--", color=OTHER, label="1/time")
    last = rows[-1]
    wall = last["heat_kt_per_parameter"] - 2 * last["path_levels"] * np.log(time / last["seconds"])
    keep = wall > 0.15 * last["heat_kt_per_parameter"]
    ax.loglog(time[keep], wall[keep], ":", color=FLOOR, label="2 kT per level and factor e of speed")
    ax.set_ylim(0.5 * heat.min(), 2 * heat.max())
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
        "| time [s] | heat [kT per parameter] | test loss | steps with an open barrier |",
        "|---|---|---|---|",
    ]
    for r in content["rows"]:
        lines.append(
            f"| {r['seconds']:.2e} | {r['heat_kt_per_parameter']:.4g} | {r['test_loss']:.4f} ± {r['test_loss_error']:.4f} | "
            f"{r['open_share']:.0%} |"
        )
    lines += [
        "",
        "Slopes between neighbours. Where all barriers are open and an update is small against the hops, heat is Σ d²/(k0 τ) and "
        "the power is -1. Where it is large, heat is Σ 2d ln(d/(k0 τ)) and the last column is 1.",
        "",
        "| time [s] | d ln heat / d ln time | -d heat / d ln time, over 2 kT per level of path |",
        "|---|---|---|",
    ]
    lines += [f"| {s['seconds']:.2e} | {s['power']:.3f} | {s['wall']:.3f} |" for s in slopes(content["rows"])]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--held-out", type=int, default=8)
    parser.add_argument("--points", type=int, default=31)
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
