"""The hop samplers against JAX's own."""

import statistics
from typing import Any

import jax
import jax.numpy as jnp

from limjax.benchmarks.timing import interleaved, median_ratio
from limjax.physics.hops import exact_hops, gaussian_hops
from limjax.physics.random import key_words, step_words


def measure_samplers(elements: int = 1_000_000, rounds: int = 10) -> list[dict[str, Any]]:
    """Time of the hops of one step, random words included, against two `jax.random.poisson` or one `jax.random.normal`.

    Args:
        elements: parameters.
        rounds: rounds of the timing.

    Returns:
        Rows with `sampler`, `rate`, `seconds`, `jax_seconds` and `ratio` (JAX's time over ours).
    """
    key, step = jax.random.key(0), jnp.int32(3)
    words = key_words(key)
    rows = []

    def compare(sampler, rate, reference, ours):
        times = interleaved({"jax": reference, "limjax": ours}, rounds, warm_up=1)
        rows.append(
            {
                "sampler": sampler,
                "rate": rate,
                "seconds": statistics.median(times["limjax"]),
                "jax_seconds": statistics.median(times["jax"]),
                "ratio": median_ratio(times["jax"], times["limjax"]),
            }
        )

    two = jax.jit(lambda k, r: jax.random.poisson(k, r) - jax.random.poisson(jax.random.fold_in(k, 1), r))
    exact = jax.jit(lambda w, s, r: exact_hops(*step_words(w, 0, s, (elements,)), r, r))
    for rate in (0.01, 1.0, 8.0, 100.0):
        rates = jnp.full(elements, rate, jnp.float32)
        compare("exact", rate, lambda r=rates: two(key, r), lambda r=rates: exact(words, step, r))
    normal = jax.jit(lambda k, a: jnp.sqrt(a) * jax.random.normal(k, (elements,)))
    gaussian = jax.jit(lambda w, s, a: gaussian_hops(*step_words(w, 0, s, (elements,)), a, a))
    spread = jnp.full(elements, 2.0, jnp.float32)
    compare("gaussian", 2.0, lambda: normal(key, spread), lambda: gaussian(words, step, spread))
    return rows
