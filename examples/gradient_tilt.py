"""The memory array as the optimizer: the gradient tilts the cells, and nothing else trains the weights.

Checks two laws. Without hop noise, the heat of the whole run is the coupling times the fall of the loss. With it, the
loss settles where a temperature of 1/coupling puts it: half of 1/coupling for every weight of a quadratic loss.
"""

import argparse

import jax
import jax.numpy as jnp
import optax

import limjax

CELL = limjax.ArrheniusCell(lsb=2**-8)
BARRIER = limjax.StaticBarrier(12.0)
COUPLING = 50.0  # kT of tilt per unit of loss
TARGET = jax.random.normal(jax.random.key(0), (1000,))


def loss_fn(w):
    return 0.5 * jnp.sum((w - TARGET) ** 2)


def descend(optimizer, steps):
    """Weights and ledger after some steps from zero."""

    @jax.jit
    def step(w, state):
        loss, gradient = jax.value_and_grad(loss_fn)(w)
        updates, state = optimizer.update(gradient, state, w, value=loss)
        return optax.apply_updates(w, updates), state

    w = jnp.zeros_like(TARGET)
    state = optimizer.init(w)
    for _ in range(steps):
        w, state = step(w, state)
    return w, limjax.get_ledger(state)


def main(steps: int) -> None:
    rate = float(CELL.exchange(BARRIER.height)) * COUPLING * float(CELL.lsb) ** 2
    print(f"a barrier of {float(BARRIER.height):g} kT is a learning rate of g s lsb² = {rate:.2e}")

    w, ledger = descend(limjax.gradient_tilt(CELL, BARRIER, COUPLING), steps)
    start, end = float(loss_fn(jnp.zeros_like(TARGET))), float(loss_fn(w))
    heat, fall = limjax.total(ledger), COUPLING * (start - end)
    print(f"mean moves: loss {start:.1f} -> {end:.3f} in {steps} steps")
    print(f"  heat {heat:.1f} kT, coupling times the fall of the loss {fall:.1f} kT, ratio {heat / fall:.4f}")

    noisy = limjax.gradient_tilt(CELL, BARRIER, COUPLING, hops="exact", key=jax.random.key(1))
    w, _ = descend(noisy, steps)
    # Equipartition: the sum of n squared normals of variance 1/coupling, halved, and its standard deviation.
    expected, spread = 0.5 * TARGET.size / COUPLING, (0.5 * TARGET.size) ** 0.5 / COUPLING
    print(f"exact hops: loss {start:.1f} -> {float(loss_fn(w)):.2f}")
    print(f"  a temperature of 1/coupling gives {expected:.2f} +- {spread:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    main(parser.parse_args().steps)
