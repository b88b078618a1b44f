"""Work to move a barrier of each parameter: the rational function of float32 against the Bessel function that it replaces.

Every candidate reads the heights before and after a step and writes the work, the floor their difference. A step with a memory of
`MomentBarrier` on each side says what that is of the whole. Writes `benchmarks/results/barrier_work_<platform>.json`. Runs unchanged on a GPU.
"""

import argparse
import contextlib
import functools

import jax
import jax.numpy as jnp
import optax
from beside_floor import tell

from limjax import ArrheniusCell, MomentBarrier, learning_in_memory
from limjax.allocator import keep_freed_memory
from limjax.benchmarks import interleaved
from limjax.physics import actuation


def by_bessel(start: jax.Array, stop: jax.Array) -> jax.Array:
    """ΔF(stop) - ΔF(start) as in float64, by -ln i0e(B/2) and near zero its series."""
    return actuation._by_bessel(stop) - actuation._by_bessel(start)


@contextlib.contextmanager
def bessel_in_use():
    """The package as it would be with the Bessel function."""
    own = actuation._free_energy_change
    actuation._free_energy_change = by_bessel
    try:
        yield
    finally:
        actuation._free_energy_change = own


def works(elements: int) -> dict:
    start = jax.random.uniform(jax.random.key(0), (elements,), minval=5.0, maxval=25.0)
    stop = start + 0.01 * jax.random.normal(jax.random.key(1), (elements,))
    candidates = {
        "floor: the difference of the heights": lambda a, b: b - a,
        "rational function (limjax)": lambda a, b: actuation.actuation_work(a, b, 0.0),
        "Bessel function": by_bessel,
    }
    return {name: functools.partial(jax.jit(work), start, stop) for name, work in candidates.items()}


def steps(elements: int) -> dict:
    side = round(elements**0.5)
    calls = {}
    for name, made in (
        ("step with MomentBarrier, rational function (limjax)", contextlib.nullcontext()),
        ("step with MomentBarrier, Bessel function", bessel_in_use()),
    ):
        params = jax.random.normal(jax.random.key(2), (side, side))
        optimizer = learning_in_memory(
            optax.adam(1e-3), ArrheniusCell(), MomentBarrier(), granularity="leaf", compare=()
        )
        state = [jax.jit(optimizer.init)(params)]

        def step(gradient, state, optimizer=optimizer):
            return optimizer.update(gradient, state, value=jnp.ones(()))

        with made:
            compiled = jax.jit(step, donate_argnums=1).lower(params, state[0]).compile()

        def call(compiled=compiled, state=state, params=params):
            updates, state[0] = compiled(params, state[0])
            return updates

        calls[name] = call
    return calls


def main(elements: int, rounds: int) -> None:
    keep_freed_memory()
    seconds = interleaved(works(elements) | steps(elements), rounds)
    tell("barrier_work", "what", f"{elements:,} barriers moved", seconds, elements)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    main(options.elements, options.rounds)
