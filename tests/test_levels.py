"""Weights as level numbers train as weights as floats do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import limjax
from limjax.memory.levels import apply_updates, to_levels, to_weights

CELL = limjax.ArrheniusCell(lsb=2**-6, bits=8)


@pytest.mark.slow
@pytest.mark.representatives(1)
@pytest.mark.optax
@pytest.mark.parametrize("storage, bits", [("int8", 8), ("int16", 12)])
def test_training_on_levels_is_training_on_floats(storage, bits):
    cell = limjax.ArrheniusCell(lsb=2**-6 if bits == 8 else 2**-9, bits=bits)
    options = dict(cell=cell, steps=60, barrier="lyapunov:start=12", hops="exact", compare=())
    floats = limjax.train("digits-mlp", **options)
    levels = limjax.train("digits-mlp", storage=storage, **options)
    assert limjax.total(floats.ledger, "path") > 1e3
    for a, b in zip(jax.tree.leaves((floats.params, floats.ledger)), jax.tree.leaves((levels.params, levels.ledger))):
        np.testing.assert_array_equal(a, b)
    assert levels.summary["test_loss"] == floats.summary["test_loss"]


@pytest.mark.slow
@pytest.mark.optax
def test_levels_do_not_drift_where_lsb_is_no_power_of_two():
    cell = limjax.ArrheniusCell(lsb=1e-3, bits=16)
    opt = limjax.learning_in_memory(
        optax.sgd(0.1), cell, limjax.StaticBarrier(12.0), hops="exact", key=jax.random.key(0)
    )
    params = limjax.snap(jax.random.normal(jax.random.key(1), (500,)), cell)
    levels, state, other = to_levels(params, cell), opt.init(params), opt.init(params)

    @jax.jit
    def step(params, state, levels, other):
        updates, state = opt.update(params, state, params)
        weights = to_weights(levels, cell)
        moves, other = opt.update(weights, other, weights)
        return optax.apply_updates(params, updates), state, apply_updates(levels, moves, cell), other

    for _ in range(200):
        params, state, levels, other = step(params, state, levels, other)
    # Floats pick up rounding: at most 2e5 hops each with a chance of 1e-6 to turn out otherwise, and each parameter goes
    # its own way. Ten per cent of them would be an error of the arithmetic.
    assert np.mean(np.round(np.asarray(params, np.float64) / 1e-3) == np.asarray(levels)) > 0.9
    assert levels.dtype == jnp.int16


@settings(deadline=None)
@given(st.lists(st.integers(-128, 127), min_size=1, max_size=20))
def test_levels_and_weights_are_inverse(numbers):
    levels = jnp.asarray(numbers, jnp.int8)
    again = to_levels(to_weights(levels, CELL), CELL, "int8")
    np.testing.assert_array_equal(levels, again)


def test_the_range_ends_where_the_cell_ends():
    cell = limjax.ArrheniusCell(lsb=1.0, levels=(-3, 5))
    assert to_levels(jnp.array([-9.0, 9.0]), cell, "int8").tolist() == [-3, 5]
    assert apply_updates(jnp.array([4, -3], jnp.int8), jnp.array([9.0, -9.0]), cell).tolist() == [5, -3]


@pytest.mark.parametrize(
    "cell, storage, message",
    [
        (limjax.ArrheniusCell(), "int8", r"needs a cell with a lowest and highest level.*bits=8"),
        (limjax.ArrheniusCell(bits=12), "int8", "from -128 to 127, but this cell has -2048 to 2047"),
        (CELL, "uint8", "got 'uint8'"),
    ],
)
def test_wrong_storage_is_refused(cell, storage, message):
    with pytest.raises(ValueError, match=message):
        to_levels(jnp.zeros(2), cell, storage)


@pytest.mark.slow
@pytest.mark.optax
def test_an_update_that_is_not_finite_ends_the_run_as_it_does_with_floats():
    """The gradient of a root at 0 is NaN where the loss is not; a level has no NaN to show it."""
    task = limjax.Task(
        name="root",
        init=lambda key: {"w": jnp.ones(4)},
        loss=lambda params, batch: jnp.sum(jnp.sqrt(jnp.square(params["w"] - 1))),
    )
    results = [
        limjax.train(
            task, cell=limjax.ArrheniusCell(lsb=2**-3, bits=8), hops="exact", steps=20, storage=storage, compare=()
        )
        for storage in (None, "int8")
    ]
    assert [r.result for r in results] == [limjax.Result.nonfinite] * 2
    assert all(np.isfinite(r.params["w"]).all() for r in results)


@pytest.mark.slow
@pytest.mark.optax
def test_half_precision_weights_are_stored_as_levels():
    base = limjax.tasks.digits_mlp(width=8, depth=1)
    task = dataclasses.replace(base, init=lambda key: jax.tree.map(lambda p: p.astype(jnp.bfloat16), base.init(key)))
    options = dict(
        cell=limjax.ArrheniusCell(lsb=2**-5, bits=8), hops="exact", steps=20, barrier="static:height=14", compare=()
    )
    floats, levels = (limjax.train(task, storage=storage, **options) for storage in (None, "int8"))
    for a, b in zip(jax.tree.leaves(floats.params), jax.tree.leaves(levels.params)):
        assert a.dtype == b.dtype == jnp.bfloat16
        np.testing.assert_array_equal(a, b)


def test_storage_needs_exact_hops():
    with pytest.raises(ValueError, match=r"needs hops=.exact.*got hops='mean'"):
        limjax.train("digits-mlp", cell=CELL, hops="mean", storage="int8", steps=1)
