"""Signs and a threshold in place of gradients: the learning rule of the memristor chip STELLAR, one example at a time.

Zhang et al., Science 381, 1205 (2023), doi:10.1126/science.ade3483, trained on their chip without computing how far a weight should move. An
output has an error of +1, 0 or -1: its sign, and 0 where it stays below a threshold. A unit is active or not. A weight between an active unit
and an error takes one pulse in its direction, whatever the gradient says. That is local, every example is a batch of its own, and nothing
is stored between examples.

Here the rule trains 64-64-10 (one ReLU, square loss, no biases, as on the chip) on the digits of UCI, on devices of the zoo, beside the full
gradient of the same loss, which the same devices get as whole pulses. From the paper's supplement: errors with a threshold, units that are
active above 0.4 of the largest. Not from it: the errors of hidden units, here the signs of what errors of +1, 0 and -1 send back; the size
of the network and its target; and the device, since theirs is a pair with data of its own.

    python examples/stellar.py --devices reram-hfo2,ecram --seeds 3
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import limjax
from limjax.devices import get_device
from limjax.tasks import get_task

HIDDEN, TARGET, ACTIVE = 64, 2.0, 0.4
"""Hidden units; what an output should be for its own class (0 for others); units above this share of the largest are active."""


@jax.custom_vjp
def local(units: jax.Array, weights: jax.Array) -> jax.Array:
    """A layer whose gradient is the rule: an active unit and the sign of an error, nothing else."""
    return units @ weights


def _forward(units, weights):
    return units @ weights, (units, weights)


def _backward(kept, errors):
    units, weights = kept
    signs = jnp.sign(errors)
    active = (units > 0) & (units >= ACTIVE * jnp.max(units, axis=-1, keepdims=True))
    return signs @ weights.T, active.astype(signs.dtype).T @ signs


local.defvjp(_forward, _backward)


def network(threshold: float | None) -> limjax.Task:
    """The task: with a threshold, its gradient is the rule of the chip; with None, the gradient."""
    digits = get_task("digits-mlp")
    layer = jnp.matmul if threshold is None else local

    def init(key):
        first, second = jax.random.split(key)
        return {
            "hidden": 0.1 * jax.random.normal(first, (64, HIDDEN)),
            "output": 0.1 * jax.random.normal(second, (HIDDEN, 10)),
        }

    def outputs(params, batch):
        return layer(jax.nn.relu(layer(batch["image"], params["hidden"])), params["output"])

    def loss(params, batch):
        errors = outputs(params, batch) - TARGET * jax.nn.one_hot(batch["label"], 10)
        if threshold is not None:  # an error that stays below it sends nothing back
            errors = jnp.where(jnp.abs(errors) >= threshold * TARGET, errors, jax.lax.stop_gradient(errors))
        return 0.5 * jnp.sum(errors**2, axis=-1).mean()

    def accuracy(params, batch):
        return jnp.mean((jnp.argmax(outputs(params, batch), axis=-1) == batch["label"]).astype(jnp.float32))

    return limjax.Task("stellar", init, loss, digits.train, digits.test, accuracy)


def trained(device: str, threshold: float | None, rate: float, steps: int, seed: int) -> dict[str, Any]:
    """The summary of one training, one example at a time. The rule moves a weight by one pulse, the gradient by the rate times it."""
    cell = get_device(device).cell(seed=seed)
    return limjax.train(
        network(threshold), cell=cell, optimizer=optax.sgd(rate if threshold is None else float(cell.lsb)), batch_size=1,
        steps=steps, seed=seed, compare=(), granularity="leaf",
    ).summary  # fmt: skip


def ways(rates: list[float], thresholds: list[float]) -> dict[str, tuple[float | None, float]]:
    """Threshold and rate of every row of the table by its name."""
    full: dict[str, tuple[float | None, float]] = {f"gradient, rate {rate:g}": (None, rate) for rate in rates}
    return full | {f"signs, threshold {threshold:g}": (threshold, 0.0) for threshold in thresholds}


def row(device: str, way: str, runs: list[dict[str, Any]]) -> str:
    """One line of the table: means over the seeds, the accuracy with its standard deviation."""
    accuracy = 100 * np.array([run["test_accuracy"] for run in runs])
    spread = f" ± {accuracy.std(ddof=1):.1f}" if len(runs) > 1 else ""
    weights = runs[0]["parameters"]
    pulses, heat = (np.mean([run[key] for run in runs]) for key in ("pulses", "heat_kt"))
    joules = [run["device_joules"] for run in runs]
    energy = "-" if None in joules else f"{np.mean(joules):.2e}"
    return f"| {device} | {way} | {accuracy.mean():.1f}{spread} % | {pulses / weights:.0f} | {energy} | {heat / weights:.3g} |"


def main(devices: list[str], rates: list[float], thresholds: list[float], steps: int, seeds: int) -> None:
    print(
        f"{steps} examples one after the other, {seeds} seed{'s' if seeds > 1 else ''}; LIM heat is that of an ideal drive of the same moves\n"
    )
    print("| memory | update | test accuracy | pulses a weight | device [J] | LIM heat [kT/weight] |")
    print("|---|---|---:|---:|---:|---:|", flush=True)
    for device in devices:
        for way, (threshold, rate) in ways(rates, thresholds).items():
            print(
                row(device, way, [trained(device, threshold, rate, steps, seed) for seed in range(seeds)]), flush=True
            )


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", default="ecram", help="comma-separated names of the zoo")
    parser.add_argument("--rates", type=_numbers, default=[0.003, 0.01], help="of the full gradient, comma-separated")
    parser.add_argument(
        "--thresholds", type=_numbers, default=[0.0, 0.2, 0.5], help="of an error over the target, comma-separated"
    )
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    main(arguments.devices.split(","), arguments.rates, arguments.thresholds, arguments.steps, arguments.seeds)
