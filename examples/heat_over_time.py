"""Heat of each layer over time in a loop of one's own, and a budget: a `lax.while_loop` that ends when the heat is spent."""

import argparse

import jax
import jax.numpy as jnp
import optax

import limjax

parser = argparse.ArgumentParser()
parser.add_argument("--budget", type=float, default=30.0, help="heat and barrier work per parameter [kT]")
parser.add_argument("--steps", type=int, default=2000, help="steps at most")
parser.add_argument("--figure", default=None, help="file to draw to, such as heat.png")
arguments = parser.parse_args()

keys = jax.random.split(jax.random.key(0), 4)
params = {
    "encoder": {"weight": 0.3 * jax.random.normal(keys[0], (8, 32)), "bias": jnp.zeros(32)},
    "head": {"weight": 0.2 * jax.random.normal(keys[1], (32, 1))},
}
x = jax.random.normal(keys[2], (256, 8))
y = jnp.sin(x[:, :1]) + 0.5 * x[:, 1:2]
count = sum(leaf.size for leaf in jax.tree.leaves(params))

cell = limjax.ArrheniusCell(lsb=2**-10)
opt = limjax.learning_in_memory(optax.adam(1e-2), cell, limjax.MomentBarrier(), hops="exact", key=keys[3])
params = limjax.snap(params, cell)
state = opt.init(params)
history = limjax.LedgerHistory.of(state, params, every=5)


def loss_of(params):
    hidden = jnp.tanh(x @ params["encoder"]["weight"] + params["encoder"]["bias"])
    return jnp.mean((hidden @ params["head"]["weight"] - y) ** 2)


def goes_on(carry):
    _, state, _ = carry
    steps = limjax.get_ledger(state).steps
    return (limjax.spent_kt(state) < arguments.budget * count) & (steps < arguments.steps)


def step(carry):
    params, state, history = carry
    loss, gradient = jax.value_and_grad(loss_of)(params)
    updates, state = opt.update(gradient, state, params, value=loss)
    return optax.apply_updates(params, updates), state, history.record(state, loss)


params, state, history = jax.jit(lambda carry: jax.lax.while_loop(goes_on, step, carry))((params, state, history))

spent = float(limjax.spent_kt(state)) / count
print(
    f"{limjax.get_ledger(state).steps} steps, loss {loss_of(params):.4f}, {spent:.2f} kT per parameter of {arguments.budget:g}"
)
for name, size, heat in zip(history.layers.names, history.layers.parameters, history.column("heat")[-1]):
    print(f"{name}: {heat / size:.2f} kT per parameter by step {history.step[-1]}")
if arguments.figure is not None:
    limjax.plots.training.heat_over_time(history).savefig(arguments.figure)
