"""What a weight update costs in NeuroSim's example, 400-100-10 on Ag:a-Si, priced from voltage, conductance and pulse width.

The authors' program is reported to give about 115 fJ for each weight and step. One pulse takes V² G t, 56 pJ in the middle of the window (3.2
or 2.8 V, 300 µs, 3.1 to 38.5 nS; `limjax device show ag-a-si`): 115 fJ are one pulse for 490 weights and steps. How many are given depends
on the rates and on how requests are rounded. MLP+NeuroSim rounds to the nearest of 97 pulses from end to end, and so drops every update
below half a pulse; limjax rounds by chance and delivers them in the mean.

The network here is theirs (black and white pixels, sigmoids, squared error, batches of one, weights from -1 to 1); the images are UCI's
digits enlarged to 20 by 20 in place of MNIST.

    python examples/neurosim_pulses.py
"""

import argparse
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from limjax.devices import get_device
from limjax.tasks import get_task

REPORTED = 115e-15
RATES = ((0.4, 0.2), (0.2, 0.2), (0.1, 0.1))
SIZES = (400, 100, 10)


def images() -> tuple[jax.Array, jax.Array]:
    """Black and white images of 20 by 20, and labels as rows with a single one."""
    train = get_task("digits-mlp").train
    assert train is not None
    small = jnp.asarray(train["image"]).reshape(-1, 8, 8)
    large = jax.image.resize(small, (small.shape[0], 20, 20), "linear").reshape(-1, 400)
    return (large > 0.5).astype(jnp.float32), jax.nn.one_hot(train["label"], 10)


def loss(weights, image, label):
    hidden = jax.nn.sigmoid(image @ weights[0])
    return jnp.sum((label - jax.nn.sigmoid(hidden @ weights[1])) ** 2)


def pulses_per_step(rates: tuple[float, float], levels: float, steps: int) -> tuple[float, float]:
    """Pulses for each weight and step: rounded by chance, in the mean, and to the nearest."""
    pictures, labels = images()
    first, second, drawn = jax.random.split(jax.random.key(0), 3)
    start = tuple(
        jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)
        for key, shape in zip((first, second), itertools.pairwise(SIZES))
    )

    def step(carry, i):
        weights, counts = carry
        gradients = jax.grad(loss)(weights, pictures[i], labels[i])
        updates = [rate * gradient for rate, gradient in zip(rates, gradients)]
        requests = [jnp.abs(update) * levels / 2 for update in updates]  # a window of weights of 2
        chance = sum(jnp.sum(request) for request in requests)
        nearest = sum(jnp.sum(jnp.floor(request + 0.5)) for request in requests)
        moved = tuple(jnp.clip(w - update, -1.0, 1.0) for w, update in zip(weights, updates))
        return (moved, (counts[0] + chance, counts[1] + nearest)), None

    order = jax.random.randint(drawn, (steps,), 0, pictures.shape[0])
    (_, counts), _ = jax.jit(lambda: jax.lax.scan(step, (start, (0.0, 0.0)), order))()
    each = steps * sum(a * b for a, b in itertools.pairwise(SIZES))
    return float(counts[0]) / each, float(counts[1]) / each


def main(steps: int) -> None:
    device = get_device("ag-a-si")
    ways = [device.pulse_energy(way) for way in ("up", "down")]
    joules = float(np.mean([way.joules(np.float32(0.5)) for way in ways if way is not None]))
    print(
        f"one pulse in the middle of the window: {1e12 * joules:.1f} pJ; reported: {1e15 * REPORTED:.0f} fJ a weight and step"
    )
    for rates in RATES:
        chance, nearest = pulses_per_step(rates, device.levels, steps)
        print(
            f"rates {rates[0]} and {rates[1]}: {1e15 * nearest * joules:.0f} fJ rounded to the nearest pulse, "
            f"{1e15 * chance * joules:.0f} fJ rounded by chance"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=8000, help="images of one epoch of the example")
    main(parser.parse_args().steps)
