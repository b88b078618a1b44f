"""An Equinox model in a training loop of one's own: wrap the optimizer, pass the loss, read the ledger."""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import limjax


def main(steps: int) -> None:
    model_key, data_key, hop_key = jax.random.split(jax.random.key(0), 3)
    x = jax.random.uniform(data_key, (256, 2), minval=-1.0, maxval=1.0)
    y = jnp.sin(3 * x[:, :1]) * x[:, 1:]

    cell = limjax.ArrheniusCell(lsb=2**-12, attempt_rate=1e9, step_time=1e-3)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        limjax.learning_in_memory(
            optax.adam(optax.cosine_decay_schedule(1e-2, steps)),
            cell,
            limjax.LyapunovBarrier(start=10.0),
            hops="exact",
            key=hop_key,
        ),
    )
    model = eqx.nn.MLP(2, 1, 32, 2, key=model_key)
    params, static = eqx.partition(model, eqx.is_inexact_array)
    params = limjax.snap(params, cell)

    def loss_fn(params):
        prediction = jax.vmap(eqx.combine(params, static))(x)
        return jnp.mean((prediction - y) ** 2)

    @jax.jit
    def step(params, state):
        loss, gradient = jax.value_and_grad(loss_fn)(params)
        updates, state = optimizer.update(gradient, state, params, value=loss)
        return optax.apply_updates(params, updates), state, loss

    state = optimizer.init(params)
    for i in range(steps):
        params, state, loss = step(params, state)
        if i % max(1, steps // 5) == 0:
            print(f"step {i}: loss {loss:.4f}, barrier {limjax.get_barrier(state):.2f} kT")
    print(limjax.report(limjax.get_ledger(state), params, cell))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    main(parser.parse_args().steps)
