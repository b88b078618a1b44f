"""Batches that are rejected, losses that are no Lyapunov functions, and what can be a cell."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from exact_loops import CELL, OPEN, exact, ledger_of
from flax import nnx

import limjax

pytestmark = pytest.mark.optax


# Batches that are rejected, losses that are no Lyapunov functions.


@pytest.mark.representatives(1)
@pytest.mark.parametrize(
    "barrier", [limjax.LyapunovBarrier(10.0), limjax.FisherBarrier(1e4), OPEN], ids=lambda b: b.name
)
def test_a_rejected_batch_leaves_weights_barrier_and_ledger_as_they_are(barrier):
    opt = exact(optax.apply_if_finite(optax.adam(1e-2), 5), barrier)
    params, step = jnp.ones(4), jax.jit(opt.update)
    state = opt.init(params)
    for _ in range(3):
        _, state = step(jnp.full(4, 0.1), state, params, value=1.0)
    updates, after = step(jnp.asarray([0.1, jnp.nan, 0.1, 0.1]), state, params, value=jnp.nan)
    assert not np.any(updates)
    for old, new in zip(jax.tree.leaves(state._replace(inner=())), jax.tree.leaves(after._replace(inner=()))):
        np.testing.assert_array_equal(old, new)
    updates, after = step(jnp.full(4, 0.1), after, params, value=1.0)
    assert np.isfinite(updates).all() and np.isfinite(float(limjax.get_barrier(after)))


def test_after_as_many_errors_as_it_bears_an_optimizer_hands_on_what_it_makes():
    """Optax accepts the third batch that is not finite: weights die there, as without a memory, and not at the next good one."""
    inner = optax.apply_if_finite(optax.sgd(0.1, momentum=0.9), max_consecutive_errors=2)
    ways = []
    for opt in (inner, limjax.learning_in_memory(inner, CELL, OPEN)):
        params, step, way = jnp.ones(2), jax.jit(opt.update), []
        state = opt.init(params)
        for i in range(7):
            updates, state = step(params * jnp.nan if 2 <= i < 5 else params, state, params)
            params = optax.apply_updates(params, updates)
            way.append(params)
        ways.append(np.stack(way))
    np.testing.assert_array_equal(*ways)
    assert np.isfinite(ways[0][3]).all() and np.isnan(ways[0][4]).all()


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_loss_of_zero_is_a_loss(decay):
    """B0 + ln(L0/L) goes on from the first loss, also where the running mean was 0 for a while: 0.5^200 is 0 in float32."""
    opt = limjax.learning_in_memory(optax.sgd(1e-2), CELL, limjax.LyapunovBarrier(10.0, decay=decay))
    state, step = opt.init(jnp.ones(4)), jax.jit(opt.update)
    heights = []
    for loss in (1.0, *[0.0] * 200, *[1e-2] * 30):
        _, state = step(jnp.full(4, 0.1), state, value=loss)
        heights.append(float(limjax.get_barrier(state)))
    assert heights[0] == pytest.approx(10.0) and heights[200] == float(CELL.max_barrier)
    assert heights[-1] == pytest.approx(10 + np.log(100), abs=1e-3)


@pytest.mark.parametrize("barrier", [limjax.LyapunovBarrier(10.0), limjax.MomentBarrier(), limjax.LyapunovBarrier()])
def test_first_losses_that_are_no_numbers_do_not_count(barrier):
    opt, heats = limjax.learning_in_memory(optax.sgd(1e-2), CELL, barrier), []
    params, step = jnp.ones(4), jax.jit(opt.update)
    for bad in (0, 3):
        state, before = opt.init(params), 0.0
        for i in range(bad + 5):
            before = limjax.total(limjax.get_ledger(state)) if i == bad else before
            _, state = step(jnp.zeros(4) if i < bad else params, state, params, value=jnp.inf if i < bad else 1.0)
        heats.append(limjax.total(limjax.get_ledger(state)) - before)
    assert heats[1] == pytest.approx(heats[0], rel=1e-5)


def test_whole_numbers_and_variables_go_in_as_gradients_and_losses():
    opt = limjax.learning_in_memory(optax.sgd(0.1), CELL, limjax.MomentBarrier())
    params = jnp.ones(2)
    for value in (nnx.Variable(jnp.ones(())), 1, np.ones(1), jnp.float16(1.0)):
        updates, state = opt.update(jnp.ones(2, jnp.int32), opt.init(params), params, value=value)
        np.testing.assert_allclose(updates, -0.1)
        assert np.isfinite(float(limjax.get_barrier(state)))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (jnp.ones(4), r"got float32 of shape \(4,\)"),
        ((1.0, {"aux": 2.0}), "got a tuple.*has_aux"),
        (1.0 + 2.0j, "got complex64"),
        ("1.0", "got a str"),
    ],
)
def test_what_is_no_loss_is_named(value, said):
    opt = limjax.learning_in_memory(optax.sgd(1e-2), CELL, limjax.LyapunovBarrier(10.0))
    with pytest.raises(ValueError, match=f"value= must be the loss.*{said}"):
        opt.update(jnp.ones(2), opt.init(jnp.ones(2)), value=value)


def test_a_loss_that_is_no_number_never_enters_a_mean():
    opt = limjax.learning_in_memory(optax.sgd(1e-2), CELL, limjax.LyapunovBarrier(10.0))
    step = jax.jit(opt.update)
    for bad, when in itertools.product((jnp.nan, jnp.inf), (0, 2)):
        state = opt.init(jnp.ones(4))
        for i in range(6):
            _, state = step(jnp.full(4, 0.1), state, value=bad if i == when else 2.0)
        assert float(limjax.get_barrier(state)) == pytest.approx(10.0, abs=1e-5)


@pytest.mark.representatives(1)
@pytest.mark.parametrize(
    "barrier",
    [limjax.LyapunovBarrier(10.0), limjax.LyapunovBarrier(), limjax.MomentBarrier(), limjax.LearnedBarrier.from_law(9)],
    ids=["lyapunov", "lyapunov by the law", "moment", "learned"],
)
def test_losses_below_zero_say_what_to_do(barrier):
    opt = limjax.learning_in_memory(optax.sgd(1e-2), CELL, barrier)
    with pytest.raises(ValueError, match=r"follows the logarithm of the loss.*floor=.*RateMatchedBarrier.*Got -1"):
        opt.update(jnp.ones(2), opt.init(jnp.ones(2)), value=-1.0)
    with pytest.raises(Exception, match="follows the logarithm of the loss"):
        jax.block_until_ready(jax.jit(opt.update)(jnp.ones(2), opt.init(jnp.ones(2)), value=-1.0))


def test_a_floor_below_the_loss_makes_it_a_lyapunov_function():
    law = limjax.learning_in_memory(optax.sgd(1e-2), CELL, limjax.MomentBarrier(floor=-5.0))
    plain = limjax.learning_in_memory(optax.sgd(1e-2), CELL, limjax.MomentBarrier())
    states = law.init(jnp.ones(2)), plain.init(jnp.ones(2))
    for loss in (-1.0, -3.0):
        states = tuple(o.update(jnp.ones(2), s, value=v)[1] for o, s, v in zip((law, plain), states, (loss, loss + 5)))
    assert float(limjax.get_barrier(states[0])) == pytest.approx(float(limjax.get_barrier(states[1])), abs=1e-4)
    floor = limjax.learning_in_memory(optax.sgd(1e-2), CELL, limjax.LyapunovBarrier(10.0, decay=0.0, floor=-5.0))
    state = floor.init(jnp.ones(2))
    for loss in (-1.0, -3.0):
        _, state = floor.update(jnp.ones(2), state, value=loss)
    assert float(limjax.get_barrier(state)) == pytest.approx(10 + np.log(2), abs=1e-5)


# What can be a cell.


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"a": jnp.ones(2), "b": {"c": jnp.ones(2, jnp.complex64)}}, r"'b/c'.*complex64.*real and imaginary"),
        ({"table": jnp.ones(2, jnp.int32)}, r"'table'.*int32.*Leave it out"),
        ({"flag": jnp.ones(2, bool)}, r"'flag'.*bool"),
        ({"gain": 1.0}, r"'gain'.*float 1\.0.*jnp\.asarray"),
        (eqx.nn.MLP(2, 2, 4, 1, key=jax.random.key(0)), r"function|jit|custom_jvp.*eqx\.filter"),
    ],
)
def test_what_is_no_cell_is_named(params, words):
    for opt in (limjax.learning_in_memory(optax.identity(), CELL, OPEN), limjax.gradient_tilt(CELL, OPEN, 1.0)):
        with pytest.raises(TypeError, match=words):
            opt.init(params)
    with pytest.raises(TypeError, match=words):
        limjax.snap(params, CELL)


def test_mixed_precision_and_nothing_at_all():
    params = {"half": jnp.ones(3, jnp.bfloat16), "small": jnp.ones(2, jnp.float16), "whole": jnp.ones(2)}
    opt = exact(optax.sgd(0.1))
    updates, state = opt.update(params, opt.init(params), params)
    assert jax.tree.map(lambda x: x.dtype, updates) == jax.tree.map(lambda x: x.dtype, params)
    assert limjax.total(ledger_of(state)) > 0
    for empty in ({}, {"w": jnp.zeros((0, 3))}, None):
        updates, state = opt.update(empty, opt.init(empty), empty)
        assert jax.tree.structure(updates) == jax.tree.structure(empty)


def test_saturations_are_counted_beyond_what_float32_counts():
    opt = limjax.learning_in_memory(optax.sgd(1.0), limjax.ArrheniusCell(attempt_rate=1e3), OPEN, compare=())
    state = opt.init(jnp.ones(3))
    count = state.ledger.blocks["saturated"]
    many = count._replace(total=[jnp.full_like(x, 2**24) for x in count.total])
    blocks = state.ledger.blocks | {"saturated": many}
    state = state._replace(ledger=eqx.tree_at(lambda ledger: ledger.blocks, state.ledger, blocks))
    for _ in range(3):
        _, state = opt.update(jnp.ones(3), state)
    assert limjax.per_parameter(ledger_of(state), "saturated").tolist() == [2**24 + 3] * 3


# Donated buffers.


@pytest.mark.representatives(1)
@pytest.mark.parametrize(
    "barrier", [limjax.LyapunovBarrier(), limjax.SplineBarrier([9.0, 12.0], 10), OPEN], ids=lambda b: b.name
)
def test_donated_states_take_nothing_of_the_users_with_them(barrier):
    memory = (CELL, OPEN)
    opt = exact(optax.adam(1e-2), barrier, optimizer_memory=memory)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state):
        value, gradient = jax.value_and_grad(lambda p: jnp.sum((p - 1) ** 2))(params)
        updates, state = opt.update(gradient, state, params, value=value)
        return optax.apply_updates(params, updates), state

    for _ in range(2):
        params = jnp.zeros(3)
        state = opt.init(params)
        for _ in range(2):
            params, state = step(params, state)
        limjax.report(ledger_of(state), params, CELL)
    jax.tree.map(lambda x: x + 0, (CELL, barrier, memory))
