"""An auxiliary memory for devices on which plain gradient descent fails: two devices for each weight, after tiki-taka.

Where the steps of a device depend on where it stands, noise in the gradient alone draws a weight to the place where they cancel. Gokmen & Haensch
(2020, doi:10.3389/fnins.2020.00103) let a fast memory take the gradients, noise and all, and hand on what stays of them to a slow memory now
and then: what the fast one is drawn to is 0, the slow one is moved by what pulls it away from there. A weight is the sum of both.

That asks for weight 0 where steps up and down are equal, which in hardware is a reference device: without it the fast memory is drawn
elsewhere, and hands on what it never learned.

One example at a time, plain gradient descent: the same device alone, and with an auxiliary one.

    python examples/auxiliary_memory.py --devices pcm,reram-hfo2 --seeds 3
"""

import argparse
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import limjax
from limjax.devices import Device, Number, get_device
from limjax.devices._response import device_response
from limjax.tasks import get_task

RATE, SHARE, EVERY = 0.03, 0.005, 5
"""Learning rate, and the share of the fast memory that is handed on every so many steps."""


def two_memories(task: limjax.Task) -> limjax.Task:
    """The task with a fast memory beside the slow one; it starts at 0."""

    def weights(params):
        return jax.tree.map(jnp.add, params["slow"], params["fast"])

    def init(key):
        slow = task.init(key)
        return {"slow": slow, "fast": jax.tree.map(jnp.zeros_like, slow)}

    accuracy = task.accuracy
    assert accuracy is not None
    return limjax.Task(
        f"{task.name}, two memories",
        init,
        lambda params, batch: task.loss(weights(params), batch),
        task.train,
        task.test,
        lambda params, batch: accuracy(weights(params), batch),
    )


def auxiliary(rate: float, share: float, every: int) -> optax.GradientTransformation:
    """Gradient descent on the fast memory; every few steps a share of where it stands moves the slow one."""

    def init(params: Any) -> Any:
        return jnp.zeros((), jnp.int32)

    def update(gradients: Any, step: Any, params: Any = None) -> tuple[Any, Any]:
        due = step % every == every - 1
        slow = jax.tree.map(lambda fast: jnp.where(due, share * fast, jnp.zeros_like(fast)), params["fast"])
        return {"slow": slow, "fast": jax.tree.map(lambda g: -rate * g, gradients["fast"])}, step + 1

    return optax.GradientTransformation(init, update)


def with_reference(device: Device) -> Device:
    """The device with weight 0 at the place of its window where steps up and down are equal."""
    rows = device_response(device, 1001)
    place = min(rows, key=lambda row: abs(row.step_up - row.step_down)).position
    year, source = next((number.year, number.source) for number in device.numbers.values())
    zero = Number("zero", place, "1", year, source, "derived", note="where steps up and down are equal")
    return dataclasses.replace(device, numbers={**device.numbers, "zero": zero})


def trained(task: limjax.Task, device: Device, optimizer: Any, steps: int, seed: int) -> dict[str, Any]:
    """The summary of one training, one example at a time."""
    return limjax.train(
        task, cell=device.cell(seed=seed), optimizer=optimizer, batch_size=1, steps=steps, seed=seed, compare=(),
        granularity="leaf",
    ).summary  # fmt: skip


def main(devices: list[str], steps: int, seeds: int) -> None:
    digits = get_task("digits-mlp")
    ways = {
        "alone": (digits, optax.sgd(RATE)),
        "with an auxiliary memory": (two_memories(digits), auxiliary(RATE, SHARE, EVERY)),
    }
    for name in devices:
        device = with_reference(get_device(name))
        for words, (task, optimizer) in ways.items():
            runs = [trained(task, device, optimizer, steps, seed) for seed in range(seeds)]
            accuracy = 100 * np.array([run["test_accuracy"] for run in runs])
            pulses = np.mean([run["pulses"] for run in runs])
            joules = [run["device_joules"] for run in runs]
            energy = "energy not known" if None in joules else f"{np.mean(joules):.2e} J at the device"
            spread = "" if seeds == 1 else f" ± {accuracy.std(ddof=1):.1f}"
            print(f"{name} {words}: {accuracy.mean():.1f}{spread} %, {pulses:.3g} pulses, {energy}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", default="pcm,reram-hfo2", help="comma-separated")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    main(arguments.devices.split(","), arguments.steps, arguments.seeds)
