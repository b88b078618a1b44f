"""Many curvatures: one barrier for all modes, one for each, and preconditioned requests.

A quadratic with curvatures spread over three decades. Plain gradient descent contracts the modes at rates in proportion to their
curvature, preconditioned requests contract all alike. What is held equal is the final **total** loss: it is what a user sees, and
each way may spread it over the modes as it can. Heat by exact hops of limjax and by the moments of the weights in NumPy.

Writes `benchmarks/results/curvatures.json`, `docs/results/curvatures.md` and `docs/figures/law_curvatures.png`.

    python examples/curvatures.py                  # about two minutes on two cores
"""

import argparse
import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from bowl import LSB, ROOT, Estimate, device, store

import limjax
from limjax.barriers import AbstractBarrier, BarrierInputs, required_drift
from limjax.plots.law import curvatures_figure

CELL = limjax.ArrheniusCell(lsb=LSB, attempt_rate=1e9, step_time=1.0)
START, SHARE = 1024.0, 2.0
"""m0 of every mode [levels], and the mean of curvature times L at the end, for a largest curvature of 1."""
FASTEST = 0.2
"""Contraction of the stiffest mode in a step of plain descent."""
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(16)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


class Way(NamedTuple):
    """A way to set requests and barriers.

    Attributes:
        name: what the table calls it.
        requests: "plain" or "preconditioned".
        rates: u of every mode in a step.
        steps: how many.
        exchange: Γ of every mode [hops per step] from a scale, the step and every mode's L [levels²].
        barrier: the same as a barrier of limjax, from the scale.
    """

    name: str
    requests: str
    rates: np.ndarray
    steps: int
    exchange: Callable[[float, int, np.ndarray], np.ndarray]
    barrier: Callable[[float], AbstractBarrier]


class RequestBarrier(AbstractBarrier):
    """One barrier for each leaf, from the mean square of its requests: Γ = max(factor <d²>, least).

    Args:
        factor: Γ over <d²>, one for each leaf [hops/level²].
        least: what Γ does not fall below [hops per step].
    """

    name: ClassVar[str] = "requests"
    factor: jax.Array
    least: jax.Array

    def __init__(self, factor: np.ndarray, least: np.ndarray | float = 0.0):
        self.factor = jnp.asarray(factor, jnp.float32)
        self.least = jnp.broadcast_to(jnp.asarray(least, jnp.float32), self.factor.shape)

    @property
    def scope(self):
        return "leaf"

    def evaluate(self, inputs: BarrierInputs, state: Any) -> tuple[Any, Any]:
        squares = jnp.stack([jnp.mean(jnp.square(d)) for d in required_drift(inputs, self)])
        return inputs.cell.barrier(jnp.log(jnp.maximum(self.factor * squares, self.least))), state


class Timetable(AbstractBarrier):
    """One barrier for each leaf on the law's timetable, Γ = first e^(slope step).

    On a timetable, because an exchange that follows a measured loss with γ near u is a critical process: nothing pulls the loss
    of a few cells back to its mean.

    Args:
        first: Γ at the start [hops per step].
        slope: change of its logarithm in a step.
    """

    name: ClassVar[str] = "timetable"
    first: jax.Array
    slope: jax.Array

    def __init__(self, first: np.ndarray, slope: np.ndarray):
        self.first, self.slope = jnp.asarray(first, jnp.float32), jnp.asarray(slope, jnp.float32)

    @property
    def scope(self):
        return "leaf"

    def evaluate(self, inputs: BarrierInputs, state: Any) -> tuple[Any, Any]:
        return inputs.cell.barrier(jnp.log(self.first) + self.slope * inputs.step), state


def ways(curvatures: np.ndarray, fastest: float) -> list[Way]:
    """The ways compared; a mode's target is an equal share of the final loss where it has a barrier of its own."""
    h = curvatures
    target = SHARE / h
    attempts = float(np.exp(CELL.log_attempts()))
    plain = fastest * h / h.max()
    # Where the softest mode is at its cheapest.
    plain_steps = round(np.log(START**2 / target.max()) / plain.min())

    def one(rates, steps, requests):
        first = float(np.mean(h) * START**2)

        def exchange(scale, step, loss):
            return np.full(h.size, scale * float(h @ loss) / h.size)

        def barrier(scale):
            return limjax.LyapunovBarrier(float(np.log(attempts) - np.log(scale * first)), decay=0.0)

        return Way("one for all, total loss", requests, rates, steps, exchange, barrier)

    def each(rates, steps, requests):
        # The L of a mode falls by the same factor in every step.
        slope = np.log(target / START**2) / steps
        share = 0.5 * (np.exp(slope) - (1 - rates) ** 2)
        return Way(
            "one each, the law", requests, rates, steps, lambda scale, step, loss: scale * share * START**2 * np.exp(slope * step),
            lambda scale: Timetable(scale * share * START**2, slope),
        )  # fmt: skip

    def held(rates, steps, requests):
        least = rates * (1 - 0.5 * rates)
        return Way(
            "one each, <d²>/2u until its share is reached", requests, rates, steps,
            lambda scale, step, loss: np.maximum(0.5 * rates * loss, scale * least * target),
            lambda scale: RequestBarrier(0.5 / rates, scale * least * target),
        )  # fmt: skip

    slow = 0.01
    together = np.full(h.size, slow)
    # All modes alike: the law's cheapest time is the logarithm of the loss ratio, for one barrier that of the total loss.
    total_steps = round(np.log(START**2 * np.mean(h) / SHARE) / slow)
    share_steps = round(np.mean(np.log(START**2 / target)) / slow)
    return [
        one(plain, plain_steps, "plain"),
        held(plain, plain_steps, "plain"),
        each(plain, plain_steps, "plain"),
        one(together, total_steps, "preconditioned"),
        each(together, share_steps, "preconditioned"),
    ]


def moments(way: Way, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Heat [kT] and final L [levels²] of every mode: mean and variance step by step, averages over a Gaussian."""
    mean, variance = np.full(way.rates.size, START), np.zeros(way.rates.size)
    heat, u = np.zeros(way.rates.size), way.rates
    for step in range(way.steps):
        gamma = way.exchange(scale, step, mean * mean + variance)
        d = u * (mean + np.sqrt(variance) * NODES[:, None])
        heat += 2 * WEIGHTS @ (d * np.arcsinh(d / (2 * gamma)))
        variance = (1 - u) ** 2 * variance + WEIGHTS @ np.hypot(d, 2 * gamma)
        mean = (1 - u) * mean
    return heat, mean * mean + variance


def solved(way: Way, curvatures: np.ndarray) -> float:
    """The scale at which the total loss ends at its target, by the secant rule in logarithms."""

    def excess(log_scale):
        return np.log(np.mean(curvatures * moments(way, np.exp(log_scale))[1]) / SHARE)

    # A loss that falls too little or not at all lies above; of one barrier, half of what the contraction takes off is the law's.
    low, high = (np.log(x * way.rates.max() * 0.5) for x in (0.5, 1.0)) if "total" in way.name else (np.log(0.9), 0.0)
    f_low, f_high = excess(low), excess(high)
    for _ in range(12):
        step = np.clip(f_high * (high - low) / (f_high - f_low), -0.5, 0.5)
        low, f_low, high = high, f_high, high - step
        f_high = excess(high)
        if abs(f_high) < 1e-4:
            break
    return float(np.exp(high))


def hops(way: Way, scale: float, curvatures: np.ndarray, cells: int, repetitions: int) -> dict[str, np.ndarray]:
    """Heat and final L of every mode by exact hops, (repetitions, modes), and what the ledger's flags counted."""
    keys = jax.random.split(jax.random.key(0), repetitions)
    return jax.tree.map(
        np.asarray, _hops(way.barrier(scale), jnp.asarray(way.rates, jnp.float32), jnp.asarray(curvatures, jnp.float32), way.steps, keys, cells)
    )  # fmt: skip


@functools.partial(jax.jit, static_argnums=5)
def _hops(barrier, rates, curvatures, steps, keys, cells):
    def total_loss(weights):
        return 0.5 * sum(h * jnp.sum(jnp.square(w / LSB)) for h, w in zip(curvatures, weights))

    def one(key):
        opt = limjax.learning_in_memory(
            optax.sgd(1.0), CELL, barrier, hops="exact", key=key, granularity="leaf", compare=()
        )

        def step(_, carry):
            weights, state = carry
            # Gradient over curvature is the distance: of every mode its share u is asked for, preconditioned or not.
            loss, gradient = jax.value_and_grad(total_loss)(weights)
            requests = [u * LSB**2 / h * g for u, h, g in zip(rates, curvatures, gradient)]
            updates, state = opt.update(requests, state, weights, value=loss)
            return optax.apply_updates(weights, updates), state

        weights = [jnp.full(cells, START * LSB) for _ in range(curvatures.size)]
        weights, state = jax.lax.fori_loop(0, steps, step, (weights, opt.init(weights)))
        ledger = limjax.get_ledger(state)
        flags = sum(jnp.sum(ledger.entry(name).total) for name in ("saturated", "barrier_clipped", "shallow"))
        loss = jnp.stack([jnp.mean(jnp.square(w / LSB)) for w in weights])
        return {"heat": ledger.heat.total / cells, "loss": loss, "flags": flags}

    return jax.lax.map(one, keys)


def measure(options) -> dict[str, Any]:
    curvatures = np.logspace(-options.decades, 0, options.modes)
    rows = []
    for way in ways(curvatures, options.fastest):
        scale = solved(way, curvatures)
        heat, loss = moments(way, scale)
        drawn = hops(way, scale, curvatures, options.cells, options.repetitions)
        if np.any(drawn["flags"]):
            raise RuntimeError("The barrier left the range in which the ladder holds; use a larger attempt rate.")
        total = Estimate.of(drawn["heat"].mean(axis=1))
        ended = Estimate.of((curvatures * drawn["loss"]).mean(axis=1))
        each = [Estimate.of(column) for column in drawn["heat"].T]
        rows.append(
            {
                "name": way.name, "requests": way.requests, "steps": way.steps, "scale": scale,
                "contraction": [float(x) for x in way.steps * -np.log1p(-way.rates)],
                "moments_kt": float(heat.mean()), "moments_loss": float(np.mean(curvatures * loss)),
                "heat_kt": total.mean, "heat_kt_error": total.error, "loss": ended.mean, "loss_error": ended.error,
                "modes": {
                    "moments_kt": heat.tolist(), "heat_kt": [e.mean for e in each], "heat_kt_error": [e.error for e in each],
                    "share": (curvatures * drawn["loss"]).mean(axis=0).tolist(),
                },
            }
        )  # fmt: skip
        print(f"{way.requests}, {way.name}: {total:.1f} kT, moments {heat.mean():.1f}; loss {ended:.3f}", flush=True)
    return {
        "curvatures": curvatures.tolist(), "start_levels": START, "final_loss": SHARE, "fastest": options.fastest,
        "cells": options.cells, "repetitions": options.repetitions, "rows": rows, **device(),
    }  # fmt: skip


def page(content: dict[str, Any]) -> str:
    h, rows = np.array(content["curvatures"]), content["rows"]
    shares = 2 * np.log(content["start_levels"] ** 2 * h / content["final_loss"])
    plain = [r for r in rows if r["requests"] == "plain"]
    best_plain, best = min(plain, key=lambda r: r["heat_kt"]), min(rows, key=lambda r: r["heat_kt"])
    lines = [
        "# Many curvatures",
        "",
        f"Made by `examples/curvatures.py`. A quadratic of {h.size} curvatures from {h.min():g} to {h.max():g}, every mode "
        f"{content['start_levels']:g} levels from its minimum at the start. Plain gradient descent contracts the stiffest mode by "
        f"{content['fastest']:g} in a step and the softest {h.max() / h.min():,.0f} times less; preconditioned requests contract all modes by the same 0.01. "
        f"{content['cells']} cells a mode with exact hops, {content['repetitions']} repetitions; moments are NumPy's own.",
        "",
        f"**Held equal is the final total loss**, a mean of curvature × L of {content['final_loss']:g}, because that is what a training is judged "
        "by; each way may spread it over the modes as it can. The cheapest spread is equal shares: the law makes 2 ln(L0/LT) for each mode, and "
        "of all LT with one sum of h LT the product is largest where the h LT are equal.",
        "",
        "| requests | barrier | steps | moments [kT] | exact hops [kT] | final loss reached | heat of the softest, stiffest mode [kT] |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for r in rows:
        heats = r["modes"]["heat_kt"]
        lines.append(
            f"| {r['requests']} | {r['name']} | {r['steps']:,} | {r['moments_kt']:.1f} | {r['heat_kt']:.1f} ± {r['heat_kt_error']:.1g} | "
            f"{r['loss']:.3f} ± {r['loss_error']:.3f} | {heats[0]:.1f}, {heats[-1]:,.1f} |"
        )
    worst = max(plain, key=lambda r: r["heat_kt"])
    lines += [
        "",
        "![Heat of every mode against its curvature](../figures/law_curvatures.png)",
        "",
        f"- **Preconditioning is what saves**: {best_plain['heat_kt'] / best['heat_kt']:.0f} times. The law for equal shares, each mode in its own "
        f"cheapest time, gives {shares.mean():.1f} kT on average whatever the curvatures are; in one time for all it is a little more.",
        f"- **A barrier of its own saves a mode next to nothing under plain requests**: {worst['heat_kt']:,.0f} against {best_plain['heat_kt']:,.0f} kT. A stiff "
        "mode has u_i T relaxation times while the softest one learns, and each costs 1 kT at the least, whatever the barrier does: "
        "(uT)²/(uT - ½ ln(L0/LT)) is about uT + ½ ln(L0/LT) for long times. It is the requests that go on chasing noise. Fewer of them, by "
        "preconditioning or by a learning rate that falls, is the remedy.",
        "- Under preconditioned requests one barrier for all is nearly as good as one each: it leaves all modes with one L and so with unequal "
        "shares of the loss, and needs a smaller L of the soft ones than equal shares would.",
        "",
        "This is for full gradients and modes that start equally far away.",
        "",
        f"Device: {content['device']}; " + ", ".join(f"{k} {v}" for k, v in content["versions"].items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", type=int, default=7)
    parser.add_argument("--decades", type=float, default=3.0, help="spread of the curvatures")
    parser.add_argument("--cells", type=int, default=512, help="cells of every mode")
    parser.add_argument("--repetitions", type=int, default=6)
    parser.add_argument(
        "--fastest", type=float, default=FASTEST, help="contraction of the stiffest mode in a plain step"
    )
    parser.add_argument("--page", action="store_true", help="only the page and figure, from the stored results")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT, help="folder with docs/ and benchmarks/")
    options = parser.parse_args()
    if options.page:
        content = json.loads((options.out / "benchmarks/results/curvatures.json").read_text())
    else:
        content = measure(options)
        store(content, options.out, "curvatures")
    (options.out / "docs/results/curvatures.md").write_text(page(content))
    curvatures_figure(content).savefig(options.out / "docs/figures/law_curvatures.png")


if __name__ == "__main__":
    main()
