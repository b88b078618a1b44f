"""The law, measured: energy against speed for one final precision, by exact hops of limjax's quadratic task.

Cells start 256 levels from the minimum of a bowl and end with a mean squared distance of one level². The law says that the least
heat in a time T is (uT)²/(uT - ½ ln L0/LT), least of all 2 ln L0/LT at uT = ln L0/LT. Runs under a barrier that follows the
measured loss are put on that curve; constant barriers, and the one that holds for ten years, stand where they end. Two more tables:
the four rows of the physics page beside the optimum found directly, and runs with minibatch noise.

Writes `benchmarks/results/law.json`, `docs/results/law.md` and `docs/figures/law_energy_speed.png`.

    python examples/law_figure.py                  # about two minutes on two cores
    python examples/law_figure.py --page           # the page and figure again, from the stored results
"""

import argparse
import json
import math
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
from bowl import (
    ATTEMPTS,
    CELL,
    ROOT,
    STEP,
    Descent,
    LawBarrier,
    barrier_of,
    contraction,
    device,
    measured_loss_barrier,
    run,
    store,
)

import limjax
from limjax.limits import approaches, bounds, direct, law
from limjax.physics.units import YEAR_S
from limjax.plots.law import energy_speed_figure

START, FINAL = 256.0, 1.0
RATIO = START**2 / FINAL
LEAST = math.log(RATIO)
# Relaxation times of the runs on the curve; of the detuned two, those in which half and 1.5 times the optimum end.
TIMES = (6.2, 6.654, 8.318, LEAST, 15.0, 30.0, 45.0)
DETUNED = {0.5: LEAST / 1.5, 1.5: LEAST / 0.5}
FIXED_TIMES = (6.654, LEAST, 20.0, 45.0)
ROWS = ((100.0, 14.875, 4.0), (256.0, 1.0, 6.654), (256.0, 1.0, 8.318), (256.0, 1.0, 11.09))
CURVE_TIMES = (6.2, 6.3, 6.45, 6.654, 6.9, 7.3, 7.8, 8.4, 9.5, 11.09, 13.0, 16.0, 22.0, 32.0, 50.0)
FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5)


def steps_of(time: float, step: float) -> tuple[int, Descent]:
    """How many steps of about that many relaxation times, and the learning rate that makes them exact."""
    steps = max(round(time / step), 4)
    return steps, Descent(contraction(time, steps))


def solved(approach: approaches.AbstractApproach, start: float, time: float, final: float) -> tuple[float, float]:
    """Size of an approach's exchange that ends at a loss, and its heat by moments [kT]."""
    heat, log_scale, is_feasible, _ = approaches.solve(approach, *(jnp.float32(x) for x in (start, time, final)), None)
    if not bool(is_feasible):
        raise ValueError(f"{approach.name} cannot reach {final:g} levels² in {time:g} relaxation times.")
    return math.exp(float(log_scale)), float(heat)


def on_the_curve(options) -> list[dict]:
    """Runs under the measured-loss barrier, over time."""
    rows = []
    for factor, time in [(None, t) for t in options.times] + [(f, t) for f, t in DETUNED.items()]:
        share, moments = solved(approaches.LossFollowing(), START, time, FINAL)
        steps, descent = steps_of(time, options.step)
        made = run(measured_loss_barrier(share, descent, START), descent, steps, START, **options.size)
        rows.append({"contraction": time, "factor": factor, "share": share, "moments_kt": moments, **made.row()})
        print(f"uT {time:.2f}: {made.heat:.2f} kT, loss {made.loss:.3f} levels²", flush=True)
    return rows


def fixed(options) -> dict[str, list[dict]]:
    """The best constant barrier for the final loss, and the static one that holds for ten years."""
    rows: dict[str, list[dict]] = {"constant": [], "static": []}
    static = limjax.StaticBarrier.at_retention(CELL)
    for time in options.fixed_times:
        steps, descent = steps_of(time, options.step)
        exchange, moments = solved(approaches.ConstantExchange(), START, time, FINAL)
        constant = limjax.StaticBarrier(barrier_of(exchange, descent))
        attempts = ATTEMPTS * time / options.step
        heat, _ = approaches.static(START, time, float(static.height), attempts)
        for name, barrier, expected in (("constant", constant, moments), ("static", static, float(heat))):
            made = run(barrier, descent, steps, START, **options.size)
            rows[name].append({"contraction": time, "moments_kt": expected, **made.row()})
            print(f"{name}, uT {time:.2f}: {made.heat:.1f} kT, loss {made.loss:.3f} levels²", flush=True)
    return rows


def curves(options) -> dict[str, Any]:
    """The law, the direct optimum and the two fixed barriers as functions of time."""
    grid = np.geomspace(5.75, 50.0, 120)
    law_kt = np.asarray(law.finite_time_heat(RATIO, grid), float)
    found = [direct.optimum(START, t, FINAL, **options.search) for t in options.curve_times]
    held = float(CELL.retention_barrier(10 * YEAR_S))
    static_kt = [
        float(approaches.static(START, t, held, ATTEMPTS * t / options.step).heat_kt) for t in options.curve_times
    ]
    constant_kt = [solved(approaches.ConstantExchange(), START, t, FINAL)[1] for t in options.curve_times]
    times = list(options.curve_times)
    return {
        "law": {"contraction": grid.tolist(), "heat_kt": law_kt.tolist()},
        "direct": {
            "contraction": times,
            "heat_kt": [f.heat_kt for f in found],
            "is_converged": [f.is_converged for f in found],
        },
        "constant": {"contraction": times, "heat_kt": constant_kt},
        "static": {"contraction": times, "heat_kt": static_kt},
    }


def four_rows(options) -> list[dict]:
    """The rows of the physics page: law, direct optimum and exact hops."""
    rows = []
    for start, variance, time in options.rows:
        final = variance + (start * math.exp(-time)) ** 2
        share, moments = solved(approaches.LossFollowing(), start, time, final)
        best = direct.optimum(start, time, final, **options.search)
        steps, descent = steps_of(time, options.step)
        made = run(measured_loss_barrier(share, descent, start), descent, steps, start, **options.size)
        rows.append(
            {
                "start_levels": start, "variance": variance, "contraction": time, "final_loss": final,
                "openness": float(law.openness(final, start**2 / final, time)),
                "law_kt": float(law.finite_time_heat(start**2 / final, time)),
                "direct_kt": best.heat_kt, "moments_kt": moments, "slope": best.slope, **made.row(),
            }
        )  # fmt: skip
        print(f"m0 {start:g}, uT {time:g}: {made.heat:.2f} kT, direct {best.heat_kt:.2f}", flush=True)
    return rows


def detuned(options) -> list[dict]:
    """Exchange at a multiple of the law's, from 256 levels to a loss of 4 levels²: heat over the law's along the measured loss."""
    rows = []
    for factor in options.factors:
        time = math.log(START**2 / 4.0) / (2 - factor)
        steps, descent = steps_of(time, options.step)
        made = run(LawBarrier(options.size["cells"], descent, factor), descent, steps, START, **options.size)
        rows.append({"factor": factor, "expected": float(law.detuned(factor)), "contraction": time, **made.row()})
        print(f"factor {factor:g}: {made.over_along:.4f}, law {rows[-1]['expected']:.4f}", flush=True)
    return rows


NOISY = (
    # name, m0, s, final loss, cap, φ
    ("slow: u = 0.02", 256.0, 400.0, 100.0, 0.02, math.inf),
    ("half the fastest at the end: u = 0.125", 256.0, 400.0, 100.0, 0.125, math.inf),
    ("the fastest at the end: u = 0.25", 256.0, 400.0, 100.0, 0.25, math.inf),
    ("half the fastest all along: u = L/2s, at most 0.02", 1000.0, 1e6, 1e4, 0.02, 0.5),
    ("the fastest all along: u = L/s, at most 0.02", 1000.0, 1e6, 1e4, 0.02, 1.0),
)


def schedule(start: float, final: float, descent: Descent) -> np.ndarray:
    """Learning rates, step by step, until the loss under the law's barrier is down to the final one."""
    loss, rates = start**2, []
    while loss > final:
        u = float(np.minimum(descent.cap, descent.fraction * loss / descent.scatter))
        rates.append(u)
        # Of what the step takes off, hops put half back.
        loss -= 0.5 * (u * (2 - u) * loss - u * u * descent.scatter)
    return np.array(rates)


def noisy(options) -> list[dict]:
    """Descents with minibatch noise: heat against the law along the loss as measured."""
    rows = []
    for name, start, scatter, final, cap, fraction in options.noisy:
        descent = Descent(cap, scatter, fraction)
        rates = schedule(start, final, descent)
        expected = law.along_schedule(rates, start**2, scatter)
        averaged = scatter * (1 / final - 1 / start**2)
        made = run(LawBarrier(options.size["cells"], descent), descent, len(rates), start, **options.size)
        rows.append(
            {
                "name": name, "start_levels": start, "scatter": scatter, "final_loss": final, "steps": len(rates),
                "averaged": averaged, "bound_kt": float(bounds.convergence(start**2 / final, averaged=averaged)),
                "schedule_kt": float(jnp.sum(expected.heat_kt)), "schedule_loss": float(expected.loss[-1]),
                "openness": float(expected.exchange[-1] ** 2 / (rates[-1] ** 2 * (final + scatter))), **made.row(),
            }
        )  # fmt: skip
        print(f"{name}: {made.heat:.2f} kT, along the measured loss {made.along:.2f}", flush=True)
    return rows


def page(content: dict[str, Any]) -> str:
    points, fixed_rows = content["curve"], content["fixed"]
    least = min((p for p in points if p["factor"] is None), key=lambda p: p["heat_kt"])
    cheapest = min(fixed_rows["constant"], key=lambda p: p["heat_kt"])
    lines = [
        "# The law, measured",
        "",
        f"Made by `examples/law_figure.py`. Every point is {content['cells'] * content['repetitions']:,} cells of the quadratic task with exact "
        f"(Poisson) hops, in {content['repetitions']} independent runs whose {content['cells']:,} cells share one barrier; errors are standard "
        "errors over the runs, heat is the ledger's, in kT per parameter. [The law](../law.md) is derived with its noise paid for: "
        "requests that pull hop noise back are charged like all others.",
        "",
        "## Energy against speed",
        "",
        "![Energy against time for one final precision: the law with its minimum, runs on it, fixed barriers above](../figures/law_energy_speed.png)",
        "",
        f"Cells start {START:g} levels from the minimum and end at a loss of {FINAL:g} level², whatever the time. The law's least is "
        f"2 ln {RATIO:,.0f} = {2 * LEAST:.2f} kT, at uT = {LEAST:.2f}; the run at that time took {least['heat_kt']:.2f} ± "
        f"{least['heat_kt_error']:.2f}. **Haste and slowness both cost**: in a short time few hops are affordable and each must be driven, in "
        "a long one each relaxation time chases the scatter of the last. The best constant barrier never goes below "
        f"{cheapest['heat_kt']:,.0f} kT. The barrier that holds for ten years does not end at that loss but at the one of the last column; "
        f"a relaxation time is {1 / content['step']:.0f} steps of 1 ms there, at 10⁹ attempts a second.",
        "",
        "| barrier | uT | law [kT] | moments [kT] | exact hops [kT] | barrier work [kT] | final loss [levels²] |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for p in sorted(points, key=lambda p: p["contraction"]):
        note = "" if p["factor"] is None else f", {p['factor']:g} times the least's exchange"
        known = float(law.finite_time_heat(RATIO, p["contraction"]))
        lines.append(
            f"| measured loss{note} | {p['contraction']:.2f} | {known:.2f} | {p['moments_kt']:.2f} | {_tail(p)}"
        )
    for name, rows in fixed_rows.items():
        title = {"constant": "best constant", "static": "static, ten years"}[name]
        lines += [f"| {title} | {p['contraction']:.2f} | | {p['moments_kt']:,.0f} | {_tail(p, ',.0f')}" for p in rows]
    lines += [
        "",
        "*Moments* are those of `limjax.limits.approaches`, mean and variance with Gaussian averages; below one level², where a weight is mostly on "
        "its level, they are some percent high. Work of moving the barrier is not in the law; it comes on top and is small.",
        "",
        "## Four rows",
        "",
        "The law in the open regime, the optimum over all exchanges that are functions of time (`limjax.limits.direct`: 16 free knots, "
        "heat by moments), and exact hops under the barrier on the measured loss. *Openness* is Γ²/(u²L) at the end; where it is well below "
        "1 the cell closes before the end and the closed form is low.",
        "",
        "| m0 | variance | uT | openness | law [kT] | direct optimum [kT] | exact hops [kT] | hops over optimum | final loss, asked | reached |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for r in content["rows"]:
        lines.append(
            f"| {r['start_levels']:g} | {r['variance']:g} | {r['contraction']:g} | {r['openness']:.2f} | {r['law_kt']:.2f} | {r['direct_kt']:.2f} | "
            f"{_pm(r, 'heat_kt')} | {r['heat_kt'] / r['direct_kt'] - 1:+.1%} | {r['final_loss']:.3f} | {_pm(r, 'loss', '.3f')} |"
        )
    lines += [
        "",
        "## The wrong size of the exchange",
        "",
        f"From {START:g} levels to 4 levels², with f times the exchange uL/2 of the least: heat over that of the law along the measured loss, "
        "against 1/[2f(1 - f/2)] (`law.detuned`). Being wrong by half costs a third.",
        "",
        "| f | uT | 1/[2f(1 - f/2)] | exact hops | deviation |",
        "|---:|---:|---:|---:|---:|",
    ]
    for r in content["detuned"]:
        lines.append(
            f"| {r['factor']:g} | {r['contraction']:.2f} | {r['expected']:.4f} | {_pm(r, 'over_along', '.4f')} | {r['over_along'] / r['expected'] - 1:+.1%} |"
        )
    lines += [
        "",
        "## Gradients that have to be averaged",
        "",
        "Minibatch noise of scatter s = σ²/h² in every request, the law's barrier on the measured loss. *Bound* is 2 ln(L0/LT) plus 2 kT for every "
        "gradient that has to be averaged, the limit of a slow descent; *law* is ∫ 2 (L+s)/L² (1 - us/2L)⁻² dL along the loss of the run; "
        "*by steps* is `law.along_schedule`, the same sum for steps that are not short.",
        "",
        "| learning rate | s [levels²] | final loss [levels²] | bound [kT] | law [kT] | by steps [kT] | exact hops [kT] | over law | over steps | final loss reached |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for r in content["noisy"]:
        lines.append(
            f"| {r['name']} | {r['scatter']:,.0f} | {r['final_loss']:,.0f} | {r['bound_kt']:.2f} | {_pm(r, 'along_kt')} | {r['schedule_kt']:.2f} | "
            f"{_pm(r, 'heat_kt')} | {r['over_along'] - 1:+.1%} | {r['heat_kt'] / r['schedule_kt'] - 1:+.1%} | {_pm(r, 'loss', ',.1f')} |"
        )
    lines += [
        "",
        "Haste costs here as it does without noise: at the fastest learning rate all along, where each batch alone moves the weight by as much as "
        "is left, the heat is near four times that of a slow descent (`law.haste`). At the rates that are the fastest only at the end, 0.125 and 0.25 "
        "in a step, steps are not short, so the sum by steps is the law and the integral is low.",
        "",
        f"Device: {content['device']}; " + ", ".join(f"{k} {v}" for k, v in content["versions"].items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def _pm(row: dict, name: str, form: str = ".2f") -> str:
    return f"{row[name]:{form}} ± {row[name + '_error']:{form.replace(',', '')}}"


def _tail(row: dict, form: str = ".2f") -> str:
    return f"{_pm(row, 'heat_kt', form)} | {row['actuation_kt']:.2f} | {_pm(row, 'loss', '.3f')} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=4096, help="cells that share a barrier")
    parser.add_argument("--repetitions", type=int, default=16)
    parser.add_argument("--step", type=float, default=STEP, help="relaxation times in a step")
    parser.add_argument("--quick", action="store_true", help="a taste, for tests")
    parser.add_argument("--page", action="store_true", help="only the page and figure, from the stored results")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT, help="folder with docs/ and benchmarks/")
    options = parser.parse_args()
    options.times, options.fixed_times, options.factors = TIMES, FIXED_TIMES, FACTORS
    options.rows, options.noisy, options.curve_times = ROWS, NOISY, CURVE_TIMES
    options.search = {"knots": 16, "iterations": 80}
    if options.quick:
        options.cells, options.repetitions, options.step = 256, 3, 0.05
        options.rows, options.noisy, options.curve_times = ROWS[3:], NOISY[:1], CURVE_TIMES[9:10]
        options.search = {"knots": 3, "iterations": 1}
        options.times, options.fixed_times, options.factors = (LEAST,), (LEAST,), (0.5,)
    options.size = {"cells": options.cells, "repetitions": options.repetitions}
    if options.page:
        content = json.loads((options.out / "benchmarks/results/law.json").read_text())
    else:
        content = {
            "start_levels": START, "final_loss": FINAL, "step": options.step, **options.size, "curve": on_the_curve(options),
            "fixed": fixed(options), "curves": curves(options), "rows": four_rows(options), "detuned": detuned(options),
            "noisy": noisy(options), **device(),
        }  # fmt: skip
        store(content, options.out, "law")
    (options.out / "docs/results/law.md").write_text(page(content))
    energy_speed_figure(content).savefig(options.out / "docs/figures/law_energy_speed.png")


if __name__ == "__main__":
    main()
