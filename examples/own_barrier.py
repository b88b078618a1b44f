"""A barrier of your own in one file: it rises by steps, as a driver with a few voltages would set it, and can be tuned.

python examples/own_barrier.py --steps 200
"""

import argparse
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

import limjax
from limjax.tuning import Tuned, tune


class StairBarrier(limjax.AbstractBarrier):
    """As many equal stretches of the run as there are heights [kT]."""

    name: ClassVar[str] = "stair"
    # What `tune` changes, and what lifts the whole barrier by one kT: these heights, by one.
    tuned: ClassVar[Mapping[str, Tuned]] = {"heights": Tuned()}
    level: ClassVar[tuple[str, float]] = ("heights", 1.0)
    heights: jax.Array
    steps: jax.Array

    def __init__(self, heights, steps):
        self.heights = jnp.asarray(heights, jnp.result_type(float))
        self.steps = jnp.asarray(steps, jnp.result_type(float))

    def evaluate(self, inputs, state):
        count = self.heights.shape[0]
        index = (inputs.step / self.steps * count).astype(jnp.int32)
        return self.heights[jnp.clip(index, 0, count - 1)], state


def main(steps: int, outer_steps: int) -> None:
    start = StairBarrier([10.0, 11.0, 12.0, 13.0], steps)
    run = limjax.train("quadratic", barrier=start, steps=steps, compare=())
    print(f"stair: loss {run.summary['train_loss']:.3g}, {run.summary['heat_kt_per_parameter']:.3g} kT per parameter")
    result = tune("quadratic", barrier=start, steps=steps, outer_steps=outer_steps, seeds=2, held_out=2, outer_rate=0.5)
    heights = ", ".join(f"{height:.1f}" for height in result.barrier.heights)
    print(
        f"tuned: {heights} kT; loss {result.after.mean_loss:.3g}, {result.after.energy_kt_per_parameter:.3g} kT per parameter"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--outer-steps", type=int, default=20)
    options = parser.parse_args()
    main(options.steps, options.outer_steps)
