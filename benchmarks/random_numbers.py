"""Random numbers of a step: JAX's generators against counter-based ones that fuse with the update.

Every candidate adds Gaussian hops to an array of weights, which is what a step does with random words; JAX's draw
normals with `jax.random.normal`, the fused ones feed `normal_quantile`. The floor is the same update with words that are not
random at all. Writes `benchmarks/results/random_numbers_<platform>.json`. Runs unchanged on a GPU.
"""

import argparse

import jax
import jax.numpy as jnp
from beside_floor import tell

from limjax.benchmarks import interleaved
from limjax.numerics.counters import threefry_words
from limjax.numerics.poisson import normal_quantile


def philox_words(key, counter, rounds: int = 10):
    """Philox-2x32 (Salmon et al. 2011); the high word of a product is put together from halves, as JAX has no such product."""
    multiplier, weyl = 0xD256D193, 0x9E3779B9
    low_half = jnp.uint32(0xFFFF)

    def high_word(x):
        a, b = multiplier >> 16, multiplier & 0xFFFF
        c, d = x >> 16, x & low_half
        middle = jnp.uint32(a) * d + ((jnp.uint32(b) * d) >> 16)
        other = jnp.uint32(b) * c + (middle & low_half)
        return jnp.uint32(a) * c + (middle >> 16) + (other >> 16)

    x0, x1, k = counter, jnp.zeros_like(counter), key[0]
    for _ in range(rounds):
        x0, x1 = high_word(x0) ^ k ^ x1, jnp.uint32(multiplier) * x0
        k = k + jnp.uint32(weyl)
    return x0, x1


def candidates(elements: int):
    """Updates of one array by name: functions of (weights, step)."""
    words = jnp.asarray([3, 7], jnp.uint32)

    def of_jax(implementation):
        def update(x, step):
            key = jax.random.fold_in(jax.random.key(0, impl=implementation), step)
            return x + 0.1 * jax.random.normal(key, x.shape)

        return update

    def fused(make):
        def update(x, step):
            index = jax.lax.iota(jnp.uint32, elements)
            return x + 0.1 * normal_quantile(make(index, step.astype(jnp.uint32)))

        return update

    return {
        "floor: no randomness": fused(lambda i, s: i * jnp.uint32(2654435761) + s),
        "fused Threefry-2x32, 13 rounds (limjax)": fused(lambda i, s: threefry_words(words, i, s)[0]),
        "fused Threefry-2x32, 20 rounds": fused(lambda i, s: threefry_words(words, i, s, 20)[0]),
        "fused Philox-2x32, 10 rounds": fused(lambda i, s: philox_words(words + s, i)[0]),
        "jax.random threefry2x32": of_jax("threefry2x32"),
        "jax.random rbg": of_jax("rbg"),
        "jax.random unsafe_rbg": of_jax("unsafe_rbg"),
    }


def main(elements: int, rounds: int) -> None:
    calls, held = {}, {}
    for name, update in candidates(elements).items():
        compiled = jax.jit(update, donate_argnums=0)
        held[name] = jnp.zeros(elements), jnp.asarray(0, jnp.int32)

        def call(name=name, compiled=compiled):
            x, step = held[name]
            held[name] = compiled(x, step), step + 1
            return held[name][0]

        calls[name] = call
    tell("random_numbers", "generator", f"{elements:,} Gaussian hops", interleaved(calls, rounds), elements)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    main(options.elements, options.rounds)
