"""A twin of a network that was trained in hardware: 64-54-10, batches of 50, 1,600 updates, 11 % of the devices stuck.

Li et al., Nat. Commun. 9, 2385 (2018), doi:10.1038/s41467-018-04484-2, trained it on a 128 by 64 array of hafnium-oxide memristors and
measured 91.71 % on 10,000 images of MNIST scaled to 8 by 8. Here it learns the 8 by 8 digits of UCI (1,437 images to train and 360 to
test, an easier set), on pulses with steps that do not depend on the state, as the array's transistors make them; how finely they step and
how much they scatter is assumed. What carries over is the question of the paper: what do stuck devices cost a training that does not know of
them, and what does it cost the same network if they get stuck when it has learned?

    python examples/silicon_twin.py --seeds 3
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax

import limjax
from limjax.devices import get_device
from limjax.tasks import get_task

MEASURED = 0.9171
STUCK = (0.0, 0.11, 0.3)
ASSUMED = "levels=200,noise=0.3"


def twin() -> limjax.Task:
    """The network: two matrices, no biases, a ReLU between them."""
    digits = get_task("digits-mlp")

    def init(key):
        first, second = jax.random.split(key)
        return {
            "hidden": jax.random.normal(first, (64, 54)) * (2 / 64) ** 0.5,
            "output": jax.random.normal(second, (54, 10)) * (2 / 54) ** 0.5,
        }

    def logits(params, batch):
        return jax.nn.relu(batch["image"] @ params["hidden"]) @ params["output"]

    def loss(params, batch):
        return optax.softmax_cross_entropy_with_integer_labels(logits(params, batch), batch["label"]).mean()

    def accuracy(params, batch):
        return jnp.mean((jnp.argmax(logits(params, batch), axis=-1) == batch["label"]).astype(jnp.float32))

    return limjax.Task("silicon-twin", init, loss, digits.train, digits.test, accuracy)


def trained(task: limjax.Task, stuck: float, steps: int, seed: int) -> tuple[limjax.TrainResult, float]:
    """One training, and its accuracy if that share of other devices falls to weight 0 afterwards."""
    cell = get_device(f"{ASSUMED},stuck={stuck}").cell(weight_range=4.0, seed=seed)
    result = limjax.train(
        task, cell=cell, optimizer=optax.sgd(0.2), steps=steps, batch_size=50, seed=seed, compare=(), granularity="leaf"
    )
    keys = jax.random.split(jax.random.key(1000 + seed), 2)
    broken = {
        name: jnp.where(jax.random.uniform(key, w.shape) < stuck, 0.0, w)
        for key, (name, w) in zip(keys, result.params.items())
    }
    assert task.accuracy is not None
    return result, float(task.accuracy(broken, task.test))


def main(steps: int, seeds: int) -> None:
    task = twin()
    print(f"measured on the array, 11 % stuck, MNIST at 8 by 8: {100 * MEASURED:.2f} %")
    for stuck in STUCK:
        runs = [trained(task, stuck, steps, seed) for seed in range(seeds)]
        during = np.array([result.summary["test_accuracy"] for result, _ in runs])
        after = np.array([accuracy for _, accuracy in runs])
        error = during.std(ddof=1) if seeds > 1 else float("nan")
        pulses = np.mean([result.summary["pulses"] / result.summary["parameters"] for result, _ in runs])
        print(
            f"simulated, {100 * stuck:.0f} % stuck: {100 * during.mean():.2f} ± {100 * error:.2f} % if they are from the start, "
            f"{100 * after.mean():.2f} % if others break afterwards; {pulses:.0f} pulses a weight",
            flush=True,
        )
    print(f"assumed: {ASSUMED}, a window of weights from -2 to 2; {seeds} seeds, {steps} updates of 50 images")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    main(arguments.steps, arguments.seeds)
