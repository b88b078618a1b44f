"""An own training loop on several devices: parameters, moments and ledger split over the mesh, batches over all of it.

Runs anywhere: without several devices it makes eight of the CPU. On a pod, start one process per host and call
`limjax.parallel.initialize()` first.

    python examples/several_devices.py --mesh data=4,model=2
"""

import argparse
import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import jax
import jax.numpy as jnp
import numpy as np
import optax

import limjax
from limjax import parallel


def main(steps: int, shape: str) -> None:
    mesh = parallel.make_mesh(shape)

    def init(key):
        first, second, third = jax.random.split(key, 3)
        return {
            "in": 0.1 * jax.random.normal(first, (32, 512)),
            "middle": 0.04 * jax.random.normal(second, (512, 512)),
            "out": 0.04 * jax.random.normal(third, (512, 1)),
        }

    def loss(params, batch):
        hidden = jnp.tanh(jnp.tanh(batch["x"] @ params["in"]) @ params["middle"])
        return jnp.mean((hidden @ params["out"] - batch["y"]) ** 2)

    cell = limjax.ArrheniusCell()
    opt = limjax.learning_in_memory(
        optax.adam(1e-3), cell, limjax.LyapunovBarrier(start=11.0), hops="exact", key=jax.random.key(0)
    )
    params = limjax.snap(init(jax.random.key(1)), cell)
    params = parallel.place(params, parallel.parameter_shardings(params, mesh))
    state = parallel.init_state(opt.init, params, mesh)
    print(f"one large array lies as {params['middle'].sharding.spec} on {dict(mesh.shape)}")

    gradient = parallel.value_and_grad(loss, mesh)

    def step(params, state, batch):
        value, grads = gradient(params, batch)
        updates, state = opt.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state, value

    # The shardings of the results are those of the arguments, whose memory they take over.
    shardings = jax.tree.map(lambda x: x.sharding, (params, state))
    step = jax.jit(step, donate_argnums=(0, 1), out_shardings=(*shardings, parallel.replicated(mesh)))
    random = np.random.default_rng(0)
    for i in range(steps):
        x = random.normal(size=(256, 32)).astype(np.float32)
        batch = parallel.place({"x": x, "y": np.sin(x[:, :1])}, parallel.replicated(mesh))
        params, state, value = step(params, state, batch)
        if i % 20 == 0 or i == steps - 1:
            print(f"step {i}: loss {float(value):.4f}")
    print(limjax.report(limjax.get_ledger(state), params, cell))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument(
        "--mesh", default=None, help="for example data=4,model=2; default all devices, half of them on model"
    )
    options = parser.parse_args()
    count = jax.device_count()
    main(options.steps, options.mesh or (f"data={count // 2},model=2" if count % 2 == 0 else f"data={count}"))
