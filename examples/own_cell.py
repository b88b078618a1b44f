"""A memory cell of your own in one file: an ohmic cell, whose tilt is proportional to its speed.

Hops between neighbours with the rates of a particle that diffuses down a straight slope,

    k+ = g F / (1 - e^-F),    k- = k+ e^-F,

keep local detailed balance, k+ / k- = e^F, and move d = g F levels a step: the heat d F = d²/g is Joule's, without the
logarithm of an Arrhenius cell. Ledger, comparisons and exact hops ask the cell alone; nothing else has to know of it.

Source: the exponential fitting of Scharfetter & Gummel, IEEE Trans. Electron Devices 16, 64 (1969), read as hop rates.

    python examples/own_cell.py --steps 100
"""

import argparse
import dataclasses

import jax
import jax.numpy as jnp
import optax

import limjax
from limjax.physics import Response


class OhmicCell(limjax.AbstractCell):
    """A cell with d = g F and A = d coth(F/2)."""

    lsb: jax.Array
    attempt_rate: jax.Array
    step_time: jax.Array
    temperature: jax.Array
    recovery: jax.Array
    min_barrier: jax.Array
    max_barrier: jax.Array
    levels: jax.Array | None

    def __init__(self, **numbers):
        # The numbers every cell has, checked by the cell of the paper, which has the same.
        usual = limjax.ArrheniusCell(**numbers)
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(usual, field.name))

    def response(self, drift, barrier):
        exchange = self.exchange(barrier)
        affinity = drift / exchange
        # x coth x = x (1 + 2/(e^2x - 1)), 1 where nothing is asked for; the smaller rate without a difference of large ones.
        size = jnp.abs(affinity)
        is_small = size < 1e-3
        bounded = jnp.where(is_small, 1.0, size)
        smaller = exchange * jnp.where(is_small, 1 - size / 2 + size**2 / 12, bounded / jnp.expm1(bounded))
        larger = smaller + jnp.abs(drift)
        up, down = jnp.where(drift < 0, smaller, larger), jnp.where(drift < 0, larger, smaller)
        return Response(affinity, up + down, up, down)

    def tilted(self, half_tilt, barrier, max_move=None):
        exchange = self.exchange(barrier)
        limit = barrier if max_move is None else jnp.minimum(barrier, 0.5 * max_move / exchange)
        return 2 * exchange * jnp.clip(half_tilt, -limit, limit), jnp.abs(half_tilt) > limit


def main(steps: int) -> None:
    target = jnp.linspace(-1.0, 1.0, 1000)
    for cell in (limjax.ArrheniusCell(), OhmicCell()):
        optimizer = limjax.learning_in_memory(
            optax.sgd(0.05), cell, limjax.StaticBarrier(14.0), hops="exact", key=jax.random.key(0)
        )
        weights = limjax.snap(jnp.zeros(1000), cell)
        state = optimizer.init(weights)

        @jax.jit
        def step(weights, state, optimizer=optimizer):
            loss, gradient = jax.value_and_grad(lambda w: 0.5 * jnp.sum((w - target) ** 2))(weights)
            updates, state = optimizer.update(gradient, state, weights, value=loss)
            return optax.apply_updates(weights, updates), state, loss

        for _ in range(steps):
            weights, state, loss = step(weights, state)
        ledger = limjax.get_ledger(state)
        print(
            f"{type(cell).__name__}: loss {float(loss):.4g}, heat {limjax.total(ledger) / 1000:.4g} kT per parameter, "
            f"realised {limjax.total(ledger, 'realised_heat') / 1000:.4g}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    main(parser.parse_args().steps)
