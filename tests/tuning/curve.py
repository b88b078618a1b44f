"""The smallest problem that learns anything, and a barrier of every kind."""

import jax
import jax.numpy as jnp
import numpy as np

import limjax
from limjax.tasks import Task


def curve_task(dtype=np.float32):
    """The smallest network that learns anything: what takes time in these tests is compiling."""
    x = np.linspace(-1, 1, 40, dtype=dtype).reshape(-1, 1)
    data = {"x": x, "y": np.sin(3 * x)}

    def init(key):
        return {
            "a": jax.random.normal(key, (1, 3), dtype),
            "b": jnp.linspace(-1, 1, 3, dtype=dtype),
            "c": jnp.ones((3, 1), dtype),
        }

    def loss(p, batch):
        return jnp.mean((jnp.tanh(batch["x"] @ p["a"] + p["b"][None, :]) @ p["c"] - batch["y"]) ** 2)

    return Task("curve", init, loss, data, data)


BARRIERS = {
    "spline": lambda: limjax.SplineBarrier([9.0, 11.0, 12.0, 14.0], 36),
    "spline per layer": lambda: limjax.SplineBarrier(np.tile([9.0, 12.0, 14.0], (3, 1)), 36),
    "learned": lambda: limjax.LearnedBarrier.from_theory(1e6, 36, units=3),
    "learned on the law": lambda: limjax.LearnedBarrier.from_law(36, units=3),
    "learned per leaf": lambda: limjax.LearnedBarrier.from_theory(1e6, 36, units=3, granularity="leaf"),
    "lyapunov": lambda: limjax.LyapunovBarrier(10.0),
    "fisher": lambda: limjax.FisherBarrier(1e6),
    "rate-matched": lambda: limjax.RateMatchedBarrier(2.0),
    "fowler-nordheim": lambda: limjax.FowlerNordheimBarrier(10.0, 0.01),
}


START = limjax.SplineBarrier([13.0, 13.0], 36)
# Always the same numbers of seeds, so that the evaluations compile once for all tests.
FEW = dict(task="", barrier=START, seeds=2, held_out=2, outer_rate=0.5)
