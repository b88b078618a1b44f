"""The hop samplers against JAX's own."""

import statistics
from typing import Any

import jax
import jax.numpy as jnp

from limjax.benchmarks._timing import interleaved, median_ratio
from limjax.numerics.counters import key_words, step_words
from limjax.physics._cell import ArrheniusCell
from limjax.physics._hops import exact_step, gaussian_hops


def measure_samplers(elements: int = 1_000_000, rounds: int = 10) -> list[dict[str, Any]]:
    """Time of the hops of one step, random words included, against two `jax.random.poisson` or one `jax.random.normal`.

    "exact" is one barrier for the array, which asks for nothing; "exact, rates of all sizes" a barrier for each parameter, with
    rates from a tenth to ten times the one named.

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
    # One attempt in a step: the barrier is -ln g.
    cell = ArrheniusCell(attempt_rate=1.0, step_time=1.0)
    exact = jax.jit(lambda w, s, d, g: exact_step(0, w, s, cell, d, -g))
    # Without a request both rates are the exchange, as those of the two Poisson counts are.
    nothing = jnp.zeros(elements)
    for rate in (0.01, 1.0, 8.0, 100.0):
        rates, log_rate = jnp.full(elements, rate, jnp.float32), jnp.log(jnp.float32(rate))
        compare("exact", rate, lambda r=rates: two(key, r), lambda g=log_rate: exact(words, step, nothing, g))
    spread = jnp.geomspace(0.1, 10.0, elements, dtype=jnp.float32)
    log_spread = jnp.log(spread)
    compare("exact, rates of all sizes", 1.0, lambda: two(key, spread), lambda: exact(words, step, nothing, log_spread))
    normal = jax.jit(lambda k, a: jnp.sqrt(a) * jax.random.normal(k, (elements,)))
    gaussian = jax.jit(lambda w, s, a: gaussian_hops(*step_words(w, 0, s, (elements,)), a, a))
    variance = jnp.full(elements, 2.0, jnp.float32)
    compare("gaussian", 2.0, lambda: normal(key, variance), lambda: gaussian(words, step, variance))
    return rows
