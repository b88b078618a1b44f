"""The memory array as the optimizer: the gradient tilts the cells, and the heat is the coupling times the fall of the loss."""

import argparse

import jax
import jax.numpy as jnp
import optax

import limjax


def main(steps: int) -> None:
    cell = limjax.ArrheniusCell(lsb=2**-8)
    coupling = 50.0  # kT of tilt per unit of loss: the inverse temperature of the stationary state
    target = jax.random.normal(jax.random.key(0), (1000,))
    optimizer = limjax.gradient_tilt(cell, limjax.StaticBarrier(12.0), coupling)

    def loss_fn(w):
        return 0.5 * jnp.sum((w - target) ** 2)

    @jax.jit
    def step(w, state):
        loss, gradient = jax.value_and_grad(loss_fn)(w)
        updates, state = optimizer.update(gradient, state, w, value=loss)
        return optax.apply_updates(w, updates), state

    w = jnp.zeros(1000)
    state = optimizer.init(w)
    start = loss_fn(w)
    for _ in range(steps):
        w, state = step(w, state)
    heat = limjax.total(limjax.get_ledger(state))
    fall = coupling * float(start - loss_fn(w))
    rate = float(cell.exchange(12.0)) * coupling * float(cell.lsb) ** 2
    print(f"learning rate the barrier sets: g s lsb² = {rate:.2e}")
    print(f"loss {float(start):.1f} -> {float(loss_fn(w)):.3f} in {steps} steps")
    print(f"heat {heat:.1f} kT, coupling x fall of the loss {fall:.1f} kT, ratio {heat / fall:.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    main(parser.parse_args().steps)
