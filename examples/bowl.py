"""Cells in a bowl by exact hops, with the barriers of the law: what the scripts that measure the law share.

The bowl is limjax's quadratic task, the memory `limjax.learning_in_memory` with `hops="exact"`, and the heat that of its
ledger. Many cells share one barrier, which reads their mean loss; the whole is repeated with other random numbers, and
standard errors are those of the repetitions.
"""

import functools
import json
import math
import pathlib
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import limjax
from limjax.barriers import AbstractBarrier, BarrierInputs
from limjax.limits import law
from limjax.tasks import quadratic
from limjax.versions import versions

ROOT = pathlib.Path(__file__).parents[1]
LSB = 2.0**-10
CELL = limjax.ArrheniusCell(lsb=LSB, attempt_rate=1e9, step_time=1e-3)
ATTEMPTS = 1e6
STEP = 0.01
"""Relaxation times in a step: short, so that closed forms in continuous time apply to a few per mille."""


class Estimate(NamedTuple):
    """A mean over repetitions and its standard error."""

    mean: float
    error: float

    @staticmethod
    def of(samples) -> "Estimate":
        samples = np.asarray(samples, np.float64)
        return Estimate(float(samples.mean()), float(samples.std(ddof=1) / np.sqrt(samples.size)))

    def __format__(self, form: str) -> str:
        return f"{self.mean:{form}} ± {self.error:.2g}"


class Run(NamedTuple):
    """What a bowl of cells cost and where it ended, per cell.

    Attributes:
        heat: of the ledger [kT].
        realised_heat: tilt times the levels moved, summed over the hops drawn [kT].
        actuation: work of moving the barrier [kT].
        loss: mean squared distance from the minimum at the end [levels²].
        mean: mean distance at the end [levels].
        variance: of the distance at the end [levels²].
        along: the law along the loss of this run as measured, its integral over dL [kT]; of no meaning at a loss of zero.
        over_along: heat over it.
    """

    heat: Estimate
    realised_heat: Estimate
    actuation: Estimate
    loss: Estimate
    mean: Estimate
    variance: Estimate
    along: Estimate
    over_along: Estimate

    def row(self) -> dict[str, float]:
        """The numbers by name, as they are stored."""
        energies = ("heat", "realised_heat", "actuation", "along")
        names = {name: f"{name}_kt" if name in energies else name for name in self._fields}
        values = {names[name]: value.mean for name, value in self._asdict().items()}
        return values | {f"{names[name]}_error": value.error for name, value in self._asdict().items()}


class LawBarrier(AbstractBarrier):
    """The law's exchange at the loss as measured, by `limjax.limits.law.exchange`.

    Args:
        cells: how many cells the loss is summed over.
        descent: learning rate and minibatch noise.
        factor: exchange over the law's.
        power: C, price of time [kT per relaxation time].
    """

    name: ClassVar[str] = "law"
    cells: jax.Array
    descent: "Descent"
    factor: jax.Array
    power: jax.Array

    def __init__(self, cells: float, descent: "Descent", factor: float = 1.0, power: float = 0.0):
        self.cells, self.factor, self.power = (jnp.asarray(x, jnp.float32) for x in (cells, factor, power))
        self.descent = descent.as_arrays()

    def evaluate(self, inputs: BarrierInputs, state: Any) -> tuple[Any, Any]:
        assert inputs.loss is not None
        loss = 2 * inputs.loss / self.cells
        # A whole step takes u(2 - u) off the loss and adds u² s; the law is written for 2u and u² s.
        half = 1 - 0.5 * self.descent.rate(loss)
        gamma = law.exchange(loss, self.descent.rate(loss) * half, self.descent.scatter / half**2, self.power)
        return inputs.cell.barrier(jnp.log(self.factor * gamma)), state


class Descent(NamedTuple):
    """Learning rate and minibatch noise of a descent.

    Attributes:
        cap: u, contraction per step.
        scatter: s = σ²/h² of one step's batch [levels²]; 0 for a full gradient.
        fraction: φ, no more than this share of the fastest contraction L/s.
    """

    cap: Any
    scatter: Any = 0.0
    fraction: Any = math.inf

    def as_arrays(self) -> "Descent":
        return Descent(*(jnp.asarray(x, jnp.float32) for x in self))

    def rate(self, loss):
        """u at a loss."""
        is_noisy = jnp.asarray(self.scatter) > 0
        fastest = self.fraction * (loss / jnp.where(is_noisy, self.scatter, 1.0))
        return jnp.where(is_noisy, jnp.minimum(self.cap, fastest), self.cap)


def contraction(time: float, steps: int) -> float:
    """u of each of so many equal steps that take uT = `time` together: 1 - e^(-uT/steps)."""
    return -math.expm1(-time / steps)


def measured_loss_barrier(share: float, descent: Descent, start: float) -> limjax.LyapunovBarrier:
    """Exchange in proportion to the loss as measured: γ = `share` u, as the Lyapunov barrier of limjax.

    Args:
        share: γ/u.
        descent: with the learning rate.
        start: m0 [levels].

    Returns:
        The barrier.
    """
    return limjax.LyapunovBarrier(barrier_of(share * start**2, descent), decay=0.0)


def barrier_of(exchange: float, descent: Descent) -> float:
    """Barrier of an exchange in hops per relaxation time [kT]; a step is u(2 - u)/2 of one for the noise it keeps."""
    return math.log(ATTEMPTS) - math.log(exchange * descent.cap * (1 - 0.5 * descent.cap))


def run(
    barrier: AbstractBarrier,
    descent: Descent,
    steps: int,
    start: float,
    *,
    cells: int = 4096,
    repetitions: int = 16,
    seed: int = 0,
) -> Run:
    """Lets cells descend the bowl by exact hops.

    Args:
        barrier: any barrier of limjax.
        descent: learning rate and noise.
        steps: how many.
        start: m0 [levels].
        cells: cells that share the barrier and the loss it reads.
        repetitions: independent runs.
        seed: of the random numbers.

    Returns:
        Heat, loss and the law, with standard errors.
    """
    keys = jax.random.split(jax.random.key(seed), repetitions)
    out = jax.tree.map(
        np.asarray, _run(barrier, descent.as_arrays(), jnp.int32(steps), jnp.float32(start), keys, cells)
    )
    bad = out.pop("saturated") + out.pop("barrier_clipped") + out.pop("shallow")
    if np.any(bad):
        raise RuntimeError("The barrier left the range in which the ladder holds; use a larger attempt rate.")
    out["over_along"] = out["heat"] / out["along"]
    return Run(**{name: Estimate.of(out[name]) for name in Run._fields})


@functools.partial(jax.jit, static_argnums=5)
def _run(barrier, descent, steps, start, keys, cells):
    task = quadratic(cells=cells, start_levels=1.0, lsb=LSB)

    def one(key):
        hop_key, batch_key = jax.random.split(key)
        opt = limjax.learning_in_memory(
            optax.sgd(1.0), CELL, barrier, hops="exact", key=hop_key, granularity="leaf", compare=()
        )

        def step(k, carry):
            params, state, along = carry
            summed, gradient = jax.value_and_grad(task.loss)(params, None)
            loss = 2 * summed / cells
            u = descent.rate(loss)
            batch = jnp.sqrt(descent.scatter) * jax.random.normal(jax.random.fold_in(batch_key, k), (cells,))
            request = {"w": u * LSB * (gradient["w"] * LSB + batch)}
            updates, state = opt.update(request, state, params, value=summed)
            params = optax.apply_updates(params, updates)
            after = 2 * task.loss(params, None) / cells
            # ∫ 2 (L+s)/L² (1 - us/2L)^-2 dL of the loss as it was measured; trapezoids lose nothing where it goes up and down.
            slopes = [law_slope(x, descent) for x in (loss, after)]
            return params, state, along + 0.5 * (slopes[0] + slopes[1]) * (loss - after)

        params = jax.tree.map(lambda x: start * x, task.init(key))
        params, state, along = jax.lax.fori_loop(0, steps, step, (params, opt.init(params), jnp.zeros(())))
        ledger = limjax.get_ledger(state)
        levels = params["w"] / LSB
        sums = {
            name: jnp.sum(ledger.entry(name).total) / cells
            for name in ("heat", "realised_heat", "actuation", "saturated", "barrier_clipped", "shallow")
        }
        return {
            **sums,
            "loss": jnp.mean(levels**2),
            "mean": jnp.mean(levels),
            "variance": jnp.var(levels),
            "along": along,
        }

    return jax.lax.map(one, keys)


def law_slope(loss, descent: Descent):
    """-dQ/dL of the law along a learning-rate schedule: 2 (L+s)/L² (1 - us/2L)^-2 [kT/level²]."""
    loss = jnp.maximum(loss, 1e-6)
    floor = 0.5 * descent.rate(loss) * descent.scatter
    return 2 * (loss + descent.scatter) / (loss - floor) ** 2


def device() -> dict[str, Any]:
    """What a result is stored with: device and versions."""
    chip = jax.devices()[0]
    return {"device": f"{chip.platform}:{chip.device_kind}", "versions": versions()}


def store(content: dict[str, Any], out: pathlib.Path, name: str) -> None:
    """Writes results as `benchmarks/results/NAME.json`, and makes the folders of the docs."""
    for folder in ("benchmarks/results", "docs/results", "docs/figures"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    (out / f"benchmarks/results/{name}.json").write_text(json.dumps(content, indent=1) + "\n")
