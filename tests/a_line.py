"""A task of one line, and the arguments of a short run of it."""

import jax.numpy as jnp
import numpy as np

import limjax


def line(slope=2.0, power=2):
    x = np.linspace(-1, 1, 64, dtype=np.float32)

    def loss(params, batch):
        return jnp.mean(jnp.abs(params["w"] * batch["x"] - batch["y"]) ** power)

    data = {"x": x, "y": slope * x}
    return limjax.Task("line", lambda key: {"w": jnp.zeros(1)}, loss, train=data, test=data)


GIVEN = dict(steps=8, batch_size=8, checkpoints=None, compare=(), barrier="lyapunov:start=9")
