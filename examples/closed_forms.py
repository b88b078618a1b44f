"""Every closed form of the docs that concerns a noisy run, beside exact hops.

Hops are drawn one by one from the Poisson laws of limjax; heat is the tilt times the levels moved, or the ledger's. Each row says
where the form stands, what it gives, what the hops gave with their standard error, and whether it claims to hold there.

Writes `benchmarks/results/closed_forms.json` and `docs/results/closed_forms.md`.

    python examples/closed_forms.py                # about two minutes on two cores
"""

import argparse
import functools
import json
import math
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from bowl import (
    ATTEMPTS,
    CELL,
    ROOT,
    STEP,
    Descent,
    Estimate,
    LawBarrier,
    Run,
    barrier_of,
    contraction,
    device,
    measured_loss_barrier,
    run,
    store,
)

import limjax
from limjax.limits import approaches, bounds, law, mean_path
from limjax.numerics.counters import key_words, step_words
from limjax.physics import ArrheniusCell, exact_hops, exact_step, hop_rates

BLOCKS = 64
# One attempt in a step: the barrier is -ln g.
UNIT = ArrheniusCell(attempt_rate=1.0, step_time=1.0)


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        section: heading it stands under.
        where: function or page.
        form: the closed form.
        case: its arguments.
        formula: what it gives.
        hops: what exact hops gave.
        error: standard error of that.
        holds: "yes", or what it is not, where the form does not claim to hold.
    """

    section: str
    where: str
    form: str
    case: str
    formula: float
    hops: float
    error: float
    holds: str = "yes"


def row(section, where, form, case, formula, measured: Estimate, holds: str = "yes") -> Row:
    made = Row(section, where, form, case, float(formula), measured.mean, measured.error, holds)
    print(f"{form} ({case}): {made.formula:.5g}, hops {measured.mean:.5g} ± {measured.error:.2g}", flush=True)
    return made


# One step of one cell.


class Hops(NamedTuple):
    """Hops of many cells in one step, in blocks: levels moved, hops up and down, and the tilt."""

    moved: np.ndarray
    up: np.ndarray
    down: np.ndarray
    affinity: float

    def estimate(self, statistic) -> Estimate:
        """A statistic of every block, and its standard error."""
        return Estimate.of([statistic(*columns) for columns in zip(self.moved, self.up, self.down)])

    @property
    def heat(self) -> Estimate:
        """Tilt times the levels moved [kT]."""
        return self.estimate(lambda moved, up, down: self.affinity * moved.mean())


def hops(drift: float, exchange: float, cells: int, seed: int = 0) -> Hops:
    """One step of a request; hops up and down are counted in another draw at the cell's rates."""
    shape = (BLOCKS, cells // BLOCKS)
    d, log_g = jnp.full(shape, drift, jnp.float32), jnp.log(jnp.float32(exchange))
    moved = np.asarray(exact_step(0, key_words(jax.random.key(seed)), jnp.int32(0), UNIT, d, -log_g), np.float64)
    up, down = hop_rates(jnp.float32(drift), log_g)
    return Hops(moved, *counts(float(up), float(down), shape, seed), 2 * math.asinh(drift / (2 * exchange)))


def counts(up: float, down: float, shape: tuple[int, int], seed: int) -> list[np.ndarray]:
    """Poisson counts of the hops up and down at given rates."""
    key, nothing = key_words(jax.random.key(seed)), jnp.zeros(shape)
    return [
        np.asarray(exact_hops(*step_words(key, leaf, jnp.int32(1), shape), nothing + rate, nothing), np.float64)
        for leaf, rate in ((1, up), (2, down))
    ]


def one_step(options) -> list[Row]:
    section, rows = "One step of one cell", []
    for d, g in ((1.0, 0.5), (0.1, 3.0), (2.0, 1e-6), (50.0, 0.3)):
        drawn, case = hops(d, g, options.samples), f"d = {d:g}, g = {g:g}"
        activity = math.hypot(d, 2 * g)
        rows += [
            row(section, "physics, `cell.heat`", "Q = 2d asinh(d/2g)", case, 2 * d * math.asinh(d / (2 * g)), drawn.heat),
            row(section, "physics, `cell.activity`", "variance A = √(d² + 4g²)", case, activity, drawn.estimate(lambda m, u, v: m.var())),
            row(section, "physics, `cell.activity`", "mean number of hops A", case, activity, drawn.estimate(lambda m, u, v: np.mean(u + v))),
        ]  # fmt: skip
        down = g * g * 2 / (activity + d)
        if down > 1e-6:
            rows.append(row(section, "physics, `cell.hop_rates`", "hops down (A - d)/2", case, down, drawn.estimate(lambda m, u, v: v.mean())))  # fmt: skip
        if d >= 1:
            relative = drawn.estimate(lambda m, u, v, f=drawn.affinity: f * m.mean() * m.var() / m.mean() ** 2)
            rows.append(row(section, "physics, `bounds.hopping_precision`", "QA/d² = F coth(F/2)", case, bounds.hopping_precision(drawn.affinity), relative))  # fmt: skip
    drawn = hops(10.0, 1.0, options.samples, seed=2)
    rows += [
        row(section, "limits, `bounds.jump_count`", "2d atanh(d/A)", "d = 10, g = 1", bounds.jump_count(10.0, math.hypot(10, 2)), drawn.heat),
        row(section, "limits, `bounds.transport`", "W²/Dτ with D τ = g", "d = 10, g = 1", bounds.transport(100.0, 1.0, 1.0), drawn.heat,
            "no bound of a ladder, only of a landscape with its own D"),
    ]  # fmt: skip
    rate, attempts, height = 5.0, 1e4, 7.0
    affinity, g = float(bounds.drive(rate, attempts, height)), attempts * math.exp(-height)
    up, down = counts(g * math.exp(affinity / 2), g * math.exp(-affinity / 2), (BLOCKS, options.samples // BLOCKS), 3)
    net = Estimate.of((up - down).mean(axis=1))
    rows.append(row(section, "limits, `bounds.drive`", "net rate at the tilt 2 asinh(r e^B/2k0)", "r = 5/s, k0 = 10⁴/s, B = 7 kT", rate, net))  # fmt: skip
    for error in (0.1, 0.01):
        affinity = float(bounds.hop_affinity(error))
        drawn = hops(2 * 0.5 * math.sinh(affinity / 2), 0.5, options.samples, seed=4)
        heat = drawn.estimate(lambda m, u, v, f=affinity: f * (u - v).sum() / (u + v).sum())
        rows.append(row(section, "limits, `bounds.direction_error`", "(1-2ε) ln((1-ε)/ε), mean heat of a hop", f"ε = {error:g}", bounds.direction_error(error), heat))  # fmt: skip
    return rows


def retention(options) -> list[Row]:
    """A level that nobody drives, until its first hop either way."""
    section, height, g, steps = "Retention", 8.0, 1e-3, 100
    key = key_words(jax.random.key(5))
    shape = (BLOCKS, options.samples // 16 // BLOCKS)

    @jax.jit
    def escaped():
        def step(k, held):
            moved = exact_step(0, key, k, UNIT, jnp.zeros(shape), -jnp.log(jnp.float32(g)))
            return held & (moved == 0)

        return jax.lax.fori_loop(0, steps, step, jnp.ones(shape, bool))

    lost = 1 - np.asarray(escaped()).mean(axis=1)
    measured, attempts = Estimate.of(lost), g * math.exp(height)
    case = f"B = {height:g} kT, k0 t = {attempts * steps:.0f}"
    barriers = {
        ways: Estimate.of([float(bounds.retention(float(steps), p, 1.0, attempts, ways=ways)) for p in lost])
        for ways in (1, 2)
    }
    one_way = "no: the rate of a two-state cell, half that of a level, 0.69 kT too low"
    return [
        row(section, "limits, `bounds.retention(ways=2)`", "P = 1 - exp(-2 k0 t e^-B)", case, -math.expm1(-2 * g * steps), measured),
        row(section, "physics, `cell.retention_barrier`", "P = 1 - exp(-k0 t e^-B)", case, -math.expm1(-g * steps), measured, one_way),
        row(section, "limits, `bounds.retention(ways=2)`", "B for the P that the hops gave, against the true B", case, height, barriers[2]),
        row(section, "limits, `bounds.retention(ways=1)`", "B for the P that the hops gave, against the true B", case, height, barriers[1], one_way),
    ]  # fmt: skip


# The gradient as the drive.


@functools.partial(jax.jit, static_argnums=(3,))
def _tilted(barrier, start, steps, cells, keys):
    stiffness = jnp.float32(TILT / (COUPLING * float(CELL.lsb) ** 2))

    def one(key):
        opt = limjax.gradient_tilt(CELL, barrier, COUPLING, hops="exact", key=key, granularity="leaf")

        def step(_, carry):
            w, state = carry
            updates, state = opt.update(stiffness * w, state)
            return w + updates, state

        w = jnp.full(cells, start) * CELL.lsb
        w, state = jax.lax.fori_loop(0, steps, step, (w, opt.init(w)))
        ledger = limjax.get_ledger(state)
        sums = {name: jnp.sum(ledger.entry(name).total) / cells for name in ("heat", "realised_heat", "hops")}
        # s L'' w², whose mean in the state e^{-sL} is 1.
        return {**sums, "energy": COUPLING * stiffness * jnp.mean(w * w)}

    return jax.lax.map(one, keys)


TILT, COUPLING = 0.01, 100.0
"""s lsb² L'', the tilt of a weight one level off the minimum [kT], and s [kT per unit of loss]."""


def tilted(pull: float, start: float, steps: int, options) -> dict[str, np.ndarray]:
    """A quadratic under `gradient_tilt` with g s lsb² L'' = `pull`, from `start` levels."""
    barrier = limjax.StaticBarrier(math.log(ATTEMPTS) - math.log(pull / TILT))
    keys = jax.random.split(jax.random.key(6), options.repetitions)
    return jax.tree.map(np.asarray, _tilted(barrier, jnp.float32(start), jnp.int32(steps), options.cells, keys))


def gradient_as_drive(options) -> list[Row]:
    section, rows = "The gradient as the drive", []
    where = "physics, `gradient_tilt`"
    for pull in (0.02, 0.2, 0.5, 1.0):
        settle = math.ceil(12 / pull)
        before, after = (tilted(pull, 0.0, n, options) for n in (settle, settle + 200))
        case = f"lr L'' = {pull:g}"
        energy = Estimate.of(after["energy"])
        rows += [
            row(section, where, "variance of e^{-sL}, times s L''", case, 1.0, energy, "yes" if pull < 0.05 else "only for lr L'' << 1"),
            row(section, where, "1/(1 - lr L''/2)", case, 1 / (1 - pull / 2), energy),
            row(section, where, "heat of a step at rest, lr L''/(1 - lr L''/2)", case, pull / (1 - pull / 2),
                Estimate.of((after["heat"] - before["heat"]) / 200)),
        ]  # fmt: skip
    start, pull = 100.0, 0.02
    made = tilted(pull, start, 300, options)
    fall = 0.5 * (TILT * start**2 - made["energy"])
    noise = 0.5 * TILT * made["hops"]
    case = f"from {start:g} levels, lr L'' = {pull:g}, 300 steps"
    heat = Estimate.of(made["heat"])
    rows += [
        row(section, where, "[s (L0 - L) + ½ s lsb² L'' ΣA]/(1 - lr L''/2)", case, np.mean(fall + noise) / (1 - pull / 2), heat),
        row(section, where, "s (L0 - L)", case, np.mean(fall), heat, "without the noise terms"),
    ]  # fmt: skip
    return rows


# Descents of a bowl.


def descend(options, barrier, time: float, start: float, step: float = STEP) -> Run:
    steps = max(round(time / step), 4)
    descent = Descent(contraction(time, steps))
    cells = options.cells if steps < 10_000 else options.cells // 8
    return run(barrier(descent), descent, steps, start, cells=cells, repetitions=options.repetitions)


def the_law(options) -> list[Row]:
    section, rows, start, final = "The law", [], 1024.0, 64.0
    least = math.log(start**2 / final)
    for factor, name in ((0.75, "0.75 ln(L0/LT)"), (1.0, "ln(L0/LT)"), (2.0, "2 ln(L0/LT)")):
        share = float(law.open_share(start**2 / final, factor * least))
        made = descend(options, lambda d, s=share: measured_loss_barrier(s, d, start), factor * least, start)
        case = f"1024 levels to 64 levels², uT = {name}"
        rows += [
            row(section, "law, `bounds.convergence`", "(uT)²/(uT - ½ ln(L0/LT))", case, law.finite_time_heat(start**2 / final, factor * least), made.heat),
            row(section, "law, `law.open_share`", "final loss", case, final, made.loss),
        ]  # fmt: skip
    for factor in (0.5, 1.5):
        made = descend(options, lambda d, f=factor: LawBarrier(options.cells, d, f), least / (2 - factor), start)
        rows.append(row(section, "law, `law.detuned`", "1/[2f(1 - f/2)], along the measured loss", f"f = {factor:g}", law.detuned(factor), made.over_along))  # fmt: skip
    # A contraction in proportion to the loss: L falls as 1/t.
    start, final, first = 256.0, 1024.0, 0.02
    descent = Descent(first, 1e-3, first / start**2 * 1e-3)
    steps = round((start**2 / final - 1) / first)
    made = run(LawBarrier(options.cells, descent), descent, steps, start, cells=options.cells, repetitions=options.repetitions)  # fmt: skip
    case = "u ∝ L, 256 levels to 1024 levels²"
    rows += [
        row(section, "law, `law.along_schedule`", "2 ln(L0/LT) also where the loss falls as 1/t", case, 2 * math.log(start**2 / final), made.heat),
        row(section, "law, `law.along_schedule`", "final loss", case, final, made.loss),
    ]  # fmt: skip
    return rows


def minibatches(options) -> list[Row]:
    section, rows, size = "Minibatch noise", [], {"cells": options.cells, "repetitions": options.repetitions}
    start, final, scatter, rate = 256.0, 100.0, 400.0, 0.005
    free = law.optimum(start**2, final, scatter=scatter, rate=rate)
    for factor in (0.8, 1.0, 1.5):
        best = free if factor == 1 else law.optimum(start**2, final, scatter=scatter, rate=rate, contraction=factor * float(free.contraction))  # fmt: skip
        descent = Descent(rate, scatter)
        steps = round(float(best.contraction) / -math.log1p(-rate))
        made = run(LawBarrier(options.cells, descent, power=float(best.power)), descent, steps, start, **size)
        case = f"s = 400, 256 levels to 100 levels², uT = {float(best.contraction):.2f}"
        rows += [
            row(section, "law, `law.optimum`", "least heat" if factor == 1 else "least heat in a time", case, best.heat_kt, made.heat),
            row(section, "law, `law.exchange`", "final loss", case, final, made.loss),
        ]  # fmt: skip
    start, final, scatter = 200.0, 1e4, 1e6
    averaged = scatter * (1 / final - 1 / start**2)
    slow = bounds.convergence(start**2 / final, averaged=averaged)
    for fraction in (0.25, 0.5, 1.0):
        heat, time = (float(x) for x in law.haste(fraction))
        descent = Descent(0.9, scatter, fraction)
        steps = round(2 * averaged * time)
        made = run(LawBarrier(options.cells, descent), descent, steps, start, **size)
        case = f"φ = {fraction:g}, s = 10⁶, 200 levels to 10⁴ levels²"
        rows += [
            row(section, "law, `law.haste`", "[2 ln(L0/LT) + 2n]/(1 - φ/2)²", case, heat * float(slow), made.heat),
            row(section, "law, `law.haste`", "final loss in 2n/[φ(2 - φ)] steps", case, final, made.loss),
        ]  # fmt: skip
    return rows


CASES = ((100.0, 14.875, 4.0), (256.0, 1.0, 6.654), (256.0, 1.0, 8.318), (256.0, 1.0, 11.09))


def mean_decay(exchange: float, power: float):
    """Barrier of G = exchange e^{-power θ} on a timetable, G in hops per relaxation time."""

    def barrier(descent: Descent):
        first, theta = barrier_of(exchange, descent), -math.log1p(-descent.cap)
        return limjax.ScheduledBarrier(optax.linear_schedule(first, first + 1e5 * power * theta, 100_000))

    return barrier


def four_approaches(options) -> list[Row]:
    section, rows = "Approaches with their noise paid for", []
    for start, variance, time in CASES:
        final = variance + (start * math.exp(-time)) ** 2
        case = f"m0 = {start:g}, LT = {final:.4g}, uT = {time:g}"
        arguments = [jnp.float32(x) for x in (start, time, final)]
        for approach in approaches.APPROACHES:
            heat, log_scale, _, _ = approaches.solve(approach, *arguments, None)
            scale = math.exp(float(log_scale))
            barrier = {
                "constant": lambda d, g=scale: limjax.StaticBarrier(barrier_of(g, d)),
                "rate_matched": mean_decay(scale * start, 1.0),
                "loss_following": lambda d, g=scale, m=start: measured_loss_barrier(g, d, m),
            }[approach.name]
            made = descend(options, barrier, time, start)
            where = f"law, `approaches`: {approach.name.replace('_', '-')}"
            rows += [
                row(section, where, "heat by moments", case, heat, made.heat),
                row(section, where, "final loss", case, final, made.loss),
            ]
    for height in (30.0, float(CELL.retention_barrier(10 * 365.25 * 86400.0))):
        time, start = 6.654, 256.0
        heat, loss = approaches.static(start, time, height, ATTEMPTS * time / STEP)
        made = descend(options, lambda d, b=height: limjax.StaticBarrier(b), time, start)
        case = f"B = {height:.1f} kT, m0 = {start:g}, uT = {time:g}"
        rows.append(row(section, "law, `approaches.static`", "heat by moments", case, heat, made.heat))
        holds = "roughly: below one level² a weight is not Gaussian"
        rows.append(row(section, "law, `approaches.static`", "final loss", case, loss, made.loss, holds))
    return rows


def price_of(start: float, time: float, variance: float) -> float:
    """μ at which the mean-path optimum ends at a variance, by bisection in its logarithm."""
    low, high = -30.0, 10.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        is_large = float(mean_path.lyapunov(start, time, math.exp(middle)).variance) > variance
        low, high = (middle, high) if is_large else (low, middle)
    return math.exp(0.5 * (low + high))


def mean_paths(options) -> list[Row]:
    section, rows, start, time = "Mean path, where the spread is small beside the distance", [], 2000.0, 1.0
    price, ratio, exchange = 0.5, 0.5, 400.0
    # Γ = v/√(2μ) e^{T-t}, falling as the square of the distance.
    scale = start * math.exp(time) / math.sqrt(2 * price)
    forms = {
        "lyapunov": (mean_path.lyapunov(start, time, price), mean_decay(scale, 2.0), f"μ = {price:g}"),
        "rate_matched": (mean_path.rate_matched(start, time, ratio), mean_decay(ratio * start, 1.0), f"κ = {ratio:g}"),
        "constant": (
            mean_path.constant(start, time, math.log(exchange * time)),
            lambda d: limjax.StaticBarrier(barrier_of(exchange, d)),
            f"Γ = {exchange:g}",
        ),
    }
    for name, (expected, barrier, case) in forms.items():
        made = descend(options, barrier, time, start, 0.001)
        case = f"m0 = {start:g}, aT = {time:g}, {case}"
        rows.append(row(section, f"`mean_path.{name}`", "heat", case, expected.heat_kt, made.heat))
        rows.append(row(section, f"`mean_path.{name}`", "variance", case, expected.variance, made.variance))
    made = descend(options, lambda d: limjax.StaticBarrier(30.0), time, start, 0.001)
    rows.append(row(section, "`mean_path.minimum_variance`", "m0 x (1 - x)", f"m0 = {start:g}, aT = {time:g}, B = 30 kT", mean_path.minimum_variance(start, time), made.variance))  # fmt: skip
    section = "Mean path, where it is not"
    for start, variance, time in CASES:
        price = price_of(start, time, variance)
        expected = mean_path.lyapunov(start, time, price)
        # The last starts with so much exchange that the barrier would be shallow in a longer step.
        step = STEP if time < 10 else 0.05 * STEP
        made = descend(options, mean_decay(start * math.exp(time) / math.sqrt(2 * price), 2.0), time, start, step)
        case = f"m0 = {start:g}, s = {variance:g}, aT = {time:g}"
        holds = "no: the requests that pull hop noise back are free in it"
        rows.append(row(section, "`mean_path.lyapunov`", "heat", case, expected.heat_kt, made.heat, holds))
        rows.append(row(section, "`mean_path.lyapunov`", "variance", case, expected.variance, made.variance, holds))
    made = descend(options, lambda d: measured_loss_barrier(0.5, d, 256.0), math.log(65536.0), 256.0)
    moved = 256.0 - made.mean.mean
    rows.append(row(section, "`bounds.precision`", "2/δ² of a steady drive", f"256 ± {made.variance.mean**0.5:.1f} levels under the law's barrier", 2 * moved**2 / made.variance.mean, made.heat, "no bound of a run with feedback"))  # fmt: skip
    return rows


PARTS = {
    "step": one_step, "retention": retention, "tilt": gradient_as_drive, "law": the_law, "minibatch": minibatches,
    "approaches": four_approaches, "mean_path": mean_paths,
}  # fmt: skip


def page(content: dict[str, Any]) -> str:
    rows = [Row(**r) for r in content["rows"]]
    held = [r for r in rows if r.holds == "yes"]
    lines = [
        "# Closed forms beside exact hops",
        "",
        f"Made by `examples/closed_forms.py`: {len(rows)} comparisons of a closed form, or of the moments behind one, with hops drawn from "
        "their Poisson laws. Heat is the tilt times the levels that were moved, or the ledger's; energies are in kT, losses and variances in "
        f"levels². Descents are {content['repetitions']} runs of {content['cells']:,} cells, single steps {content['samples']:,} cells; ± is the standard error. "
        "The last column says where a form does not claim to hold: there the deviation is the point.",
        "",
        f"Where they claim to hold, the forms are within {max(abs(r.hops / r.formula - 1) for r in held if _is_sharp(r)):.1%} of the hops "
        f"wherever the hops' own standard error is below 1 %, and the median deviation is {np.median([abs(r.hops / r.formula - 1) for r in held]):.1%}. "
        "Deviations of several standard errors are the forms' own: a descent has steps of finite length, the law holds while the barrier is "
        "open, and moments take a weight for Gaussian, which a ladder below one level² is not.",
    ]
    for section in dict.fromkeys(r.section for r in rows):
        lines += [
            "",
            f"## {section}",
            "",
            "| where | form | case | formula | exact hops | deviation | claims to hold |",
        ]
        lines.append("|---|---|---|---:|---:|---:|---|")
        for r in (r for r in rows if r.section == section):
            deviation = r.hops / r.formula - 1
            shown = f"{deviation:+.1%}" if abs(deviation) < 2 else f"× {r.hops / r.formula:,.3g}"
            places = max(0, 1 - math.floor(math.log10(r.error))) if r.error else 2
            lines.append(
                f"| {r.where} | {r.form} | {r.case} | {r.formula:,.5g} | {r.hops:,.{places}f} ± {r.error:.{places}f} | {shown} | {r.holds} |"
            )
    lines += [
        "",
        "Not here, because no hops of a ladder are in them: erasure and the two-level bit (`bounds.erasure`, `two_level_erasure`, checked "
        "against master equations in the tests), actuation (reversible work), and the cosine landscape behind the ladder "
        "([when the ladder is right](../ladder.md), [simulations](simulation.md)). More on [the law](law.md) and on [many curvatures](curvatures.md).",
        "",
        f"Device: {content['device']}; " + ", ".join(f"{k} {v}" for k, v in content["versions"].items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def _is_sharp(r: Row) -> bool:
    return r.error < 0.01 * abs(r.hops)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=4096, help="cells that share a barrier")
    parser.add_argument("--repetitions", type=int, default=16)
    parser.add_argument("--samples", type=int, default=2**22, help="cells of a single step")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"comma-separated: {', '.join(PARTS)}")
    parser.add_argument("--page", action="store_true", help="only the page, from the stored results")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT, help="folder with docs/ and benchmarks/")
    options = parser.parse_args()
    if options.page:
        content = json.loads((options.out / "benchmarks/results/closed_forms.json").read_text())
    else:
        rows = [r for name in options.parts.split(",") for r in PARTS[name](options)]
        sizes = {"cells": options.cells, "repetitions": options.repetitions, "samples": options.samples}
        content = {**sizes, "rows": [r._asdict() for r in rows], **device()}
        store(content, options.out, "closed_forms")
    (options.out / "docs/results/closed_forms.md").write_text(page(content))


if __name__ == "__main__":
    main()
