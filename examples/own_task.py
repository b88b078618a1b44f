"""A task of your own in one file: a network, its loss and its data, for `train`, `sweep` and `tune` alike.

python examples/own_task.py --steps 200
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import limjax


def two_moons(examples: int = 512, noise: float = 0.1, seed: int = 0) -> limjax.Task:
    """Two half circles that a small network tells apart."""
    rng = np.random.default_rng(seed)
    angle, label = rng.uniform(0, np.pi, examples), rng.integers(0, 2, examples)
    x = np.where(label, 1 - np.cos(angle), np.cos(angle)) + noise * rng.standard_normal(examples)
    y = np.where(label, 0.5 - np.sin(angle), np.sin(angle)) + noise * rng.standard_normal(examples)
    data = {"x": np.stack([x, y], 1).astype(np.float32), "label": label.astype(np.int32)}
    half = examples // 2
    network = eqx.nn.MLP(2, 2, 16, 2, key=jax.random.key(0))
    _, structure = eqx.partition(network, eqx.is_array)

    def init(key):
        return eqx.filter(eqx.nn.MLP(2, 2, 16, 2, key=key), eqx.is_array)

    def logits(params, batch):
        return jax.vmap(eqx.combine(params, structure))(batch["x"])

    def loss(params, batch):
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits(params, batch)), batch["label"][:, None], axis=1)
        return -jnp.mean(chosen)

    def accuracy(params, batch):
        return jnp.mean(jnp.argmax(logits(params, batch), -1) == batch["label"])

    return limjax.Task(
        name="two-moons",
        init=init,
        loss=loss,
        train={name: value[:half] for name, value in data.items()},
        test={name: value[half:] for name, value in data.items()},
        accuracy=accuracy,
        defaults=limjax.TaskDefaults(steps=200, batch_size=32, learning_rate=1e-2, lsb=2.0**-8),
    )


def main(steps: int) -> None:
    result = limjax.train(two_moons(), steps=steps)
    print(result.report)
    print(f"test accuracy {result.summary['test_accuracy']:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    main(parser.parse_args().steps)
