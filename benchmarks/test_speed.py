"""The cases of `limjax bench` for pytest-benchmark, which compares two states of the code:

pytest benchmarks -n 0 --benchmark-save before
pytest benchmarks -n 0 --benchmark-compare
"""

import jax
import jax.numpy as jnp
import pytest

from limjax.benchmarks import compiled_run, compiled_step, step_modes, training_variants
from limjax.numerics.counters import key_words, step_words
from limjax.physics import ArrheniusCell, exact_step, gaussian_hops
from limjax.tasks import get_task


@pytest.mark.parametrize("parameters", [10_000, 1_000_000])
@pytest.mark.parametrize("mode", step_modes())
def test_step(benchmark, mode, parameters):
    compiled, arguments = compiled_step(mode, parameters)
    params, state, gradient, loss = arguments()
    held = [params, state]

    def step():
        held[:] = compiled(*held, gradient, loss)  # donated: each call takes over the buffers of the one before
        jax.block_until_ready(held)

    benchmark.extra_info["parameters"] = parameters
    benchmark(step)


@pytest.mark.parametrize("rate", [0.01, 1.0, 8.0, 100.0])
@pytest.mark.parametrize("kind", ["exact", "gaussian"])
def test_sampler(benchmark, kind, rate, elements=1_000_000):
    words, rates = key_words(jax.random.key(0)), jnp.full(elements, rate, jnp.float32)
    if kind == "exact":
        cell, drift = ArrheniusCell(attempt_rate=1.0, step_time=1.0), jnp.zeros(elements)
        draw = jax.jit(lambda step: exact_step(0, words, step, cell, drift, -jnp.log(jnp.float32(rate))))
    else:
        draw = jax.jit(lambda step: gaussian_hops(*step_words(words, 0, step, (elements,)), rates, rates))
    jax.block_until_ready(draw(jnp.int32(0)))
    benchmark(lambda: jax.block_until_ready(draw(jnp.int32(1))))


@pytest.mark.parametrize("variant", training_variants(get_task("digits-mlp")))
def test_training_steps(benchmark, variant, steps=50):
    task = get_task("digits-mlp")
    compiled, arguments = compiled_run(task, training_variants(task)[variant], task.defaults.batch_size, steps)
    jax.block_until_ready(compiled(*arguments))
    benchmark.extra_info["steps"] = steps
    benchmark(lambda: jax.block_until_ready(compiled(*arguments)))
