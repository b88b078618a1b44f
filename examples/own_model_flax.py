"""A Flax NNX model on physical memory."""

import argparse

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import limjax


class Network(nnx.Module):
    """Two dense layers."""

    def __init__(self, rngs: nnx.Rngs):
        self.first = nnx.Linear(2, 32, rngs=rngs)
        self.second = nnx.Linear(32, 1, rngs=rngs)

    def __call__(self, x):
        return self.second(jax.nn.tanh(self.first(x)))


def main(steps: int) -> None:
    data_key, hop_key = jax.random.split(jax.random.key(0))
    x = jax.random.uniform(data_key, (256, 2), minval=-1.0, maxval=1.0)
    y = jnp.sin(3 * x[:, :1]) * x[:, 1:]

    cell = limjax.ArrheniusCell(lsb=2**-12)
    optimizer = limjax.learning_in_memory(
        optax.adam(optax.cosine_decay_schedule(1e-2, steps)),
        cell,
        limjax.LyapunovBarrier(start=10.0),
        hops="exact",
        key=hop_key,
    )
    graph, params = nnx.split(Network(nnx.Rngs(0)), nnx.Param)
    params = limjax.snap(params, cell)

    def loss_fn(params):
        return jnp.mean((nnx.merge(graph, params)(x) - y) ** 2)

    @jax.jit
    def step(params, state):
        loss, gradient = jax.value_and_grad(loss_fn)(params)
        updates, state = optimizer.update(gradient, state, params, value=loss)
        return optax.apply_updates(params, updates), state, loss

    state = optimizer.init(params)
    loss = jnp.nan
    for _ in range(steps):
        params, state, loss = step(params, state)
    print(f"loss {loss:.4f}")
    print(limjax.report(limjax.get_ledger(state), params, cell))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    main(parser.parse_args().steps)
