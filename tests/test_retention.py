"""Leakage: what becomes of weights that nothing drives, against the master equation, and what it costs to hold them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import limjax

pytestmark = pytest.mark.optax
CELLS = 100_000


def _left_alone(cell, barrier, level, seconds, cells=CELLS):
    """Levels after a time, of cells that all stood on one level under that barrier."""
    optimizer = limjax.learning_in_memory(optax.sgd(0.0), cell, limjax.StaticBarrier(barrier), compare=())
    params = jnp.full((cells,), level * float(cell.lsb))
    _, state = optimizer.update(jnp.zeros_like(params), optimizer.init(params), params)
    return np.asarray(limjax.retain(params, state, seconds, key=jax.random.key(7))) / float(cell.lsb)


def _master_equation(rate, seconds, levels, start):
    """Probabilities on a ladder of so many levels with reflecting ends, from the spectrum of its generator."""
    generator = rate * (np.eye(levels, k=1) + np.eye(levels, k=-1))
    generator -= np.diag(generator.sum(axis=0))
    values, vectors = np.linalg.eigh(generator)
    return vectors @ (np.exp(values * seconds) * vectors[start])


@pytest.mark.parametrize(("barrier", "seconds"), [(18.0, 0.05), pytest.param(12.0, 1e-3, marks=pytest.mark.slow)])
def test_levels_spread_as_the_master_equation_says(barrier, seconds):
    cell = limjax.ArrheniusCell(lsb=0.25, attempt_rate=1e9)
    found = _left_alone(cell, barrier, 3, seconds)
    assert (found == np.round(found)).all()
    rate, half = 1e9 * np.exp(-barrier), 60
    expected = _master_equation(rate, seconds, 2 * half + 1, half)
    counts = np.bincount((found - 3 + half).astype(int), minlength=2 * half + 1)
    error = np.sqrt(np.maximum(expected * (1 - expected), 1e-7) / CELLS)
    # 121 levels, six standard errors each: a false alarm in 2.4e-7 of cases.
    assert (np.abs(counts / CELLS - expected) < 6 * error).all()
    variance = 2 * float(cell.hops_at_rest(barrier, seconds))
    assert variance == pytest.approx(2 * rate * seconds, rel=1e-5)
    assert found.var() == pytest.approx(variance, rel=6 * np.sqrt((2 + 1 / variance) / CELLS))


def test_hops_out_of_the_range_do_not_happen():
    cell = limjax.ArrheniusCell(lsb=0.25, attempt_rate=1e9, bits=3)  # levels -4 ... 3
    for seconds in (1e-3, 1.0):  # 6 hops each way, and long after equilibrium
        found = _left_alone(cell, 12.0, -3, seconds)
        expected = _master_equation(1e9 * np.exp(-12.0), seconds, 8, 1)
        counts = np.bincount((found + 4).astype(int), minlength=8)
        assert (np.abs(counts / CELLS - expected) < 6 * np.sqrt(expected * (1 - expected) / CELLS)).all()


@pytest.mark.slow
def test_it_is_what_steps_without_a_request_do():
    # Jump simulation: the hops of 50 steps in which nothing is asked for.
    cell = limjax.ArrheniusCell(lsb=1.0, step_time=1e-3)
    optimizer = limjax.learning_in_memory(
        optax.sgd(0.0), cell, limjax.StaticBarrier(14.0), hops="exact", key=jax.random.key(3), compare=(), track=()
    )
    params = jnp.zeros(20_000)

    @jax.jit
    def run(params, state):
        def step(carry, _):
            updates, state = optimizer.update(jnp.zeros_like(params), carry[1], carry[0])
            return (carry[0] + updates, state), None

        return jax.lax.scan(step, (params, state), None, 50)[0]

    walked, state = run(params, optimizer.init(params))
    left = limjax.retain(params, state, 50e-3, key=jax.random.key(4))
    variance = 2 * 50 * float(cell.exchange(14.0))
    for levels in (np.asarray(walked), np.asarray(left)):
        # Six standard errors of the variance of a Skellam law, 2V² + V over the number of cells.
        assert abs(levels.var() - variance) < 6 * np.sqrt((2 * variance**2 + variance) / levels.size)
    assert limjax.total(limjax.get_ledger(state)) == 0


@pytest.mark.slow
def test_every_layer_leaks_by_its_own_barrier():
    groups = {
        "open": (limjax.ArrheniusCell(lsb=0.5), limjax.StaticBarrier(12.0)),
        "": (limjax.ArrheniusCell(lsb=0.5), limjax.StaticBarrier(60.0)),
    }
    optimizer = limjax.learning_in_memory(optax.sgd(0.0), groups, compare=())
    params = {"open": jnp.ones((50, 20)), "shut": jnp.ones(30)}
    _, state = jax.jit(optimizer.update)(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    after = limjax.retain(params, state, 1.0, key=jax.random.key(0))
    assert (after["shut"] == 1.0).all() and after["open"].shape == (50, 20)
    variance = 0.25 * 2e9 * np.exp(-12.0)
    assert float(jnp.var(after["open"])) == pytest.approx(variance, rel=6 * np.sqrt(2 / 1000))
    still = limjax.retain(params, state, 0.0, key=jax.random.key(0))
    assert (still["open"] == 1.0).all()


def test_wrong_input_is_named():
    optimizer = limjax.learning_in_memory(optax.sgd(0.0), limjax.ArrheniusCell(), limjax.StaticBarrier(12.0))
    state = optimizer.init(jnp.ones(3))
    with pytest.raises(ValueError, match="seconds must be a finite number at least 0, got -1"):
        limjax.retain(jnp.ones(3), state, -1.0, key=jax.random.key(0))
    with pytest.raises(ValueError, match="do not fit the state"):
        limjax.retain({"w": jnp.ones(3)}, state, 1.0, key=jax.random.key(0))
    with pytest.raises(ValueError, match="no limjax state"):
        limjax.retain(jnp.ones(3), (), 1.0, key=jax.random.key(0))
    device = limjax.learning_in_memory(optax.sgd(0.0), limjax.PulsedCell())
    with pytest.raises(ValueError, match="law of their own"):
        limjax.retain(jnp.ones(3), device.init(jnp.ones(3)), 1.0, key=jax.random.key(0))
    with pytest.raises(ValueError, match="variance must be a finite number above 0"):
        limjax.holding(limjax.ArrheniusCell(), 12.0, 0.0, 1.0)


@pytest.mark.parametrize("variance", [16.0, pytest.param(100.0, marks=pytest.mark.slow)])
def test_a_refreshed_level_stays_within_its_variance_at_that_heat(variance):
    # Feedback on hopping cells, simulated through the optimizer itself; the ledger adds up the heat.
    cell, barrier, steps = limjax.ArrheniusCell(lsb=1.0), 13.5, 400
    costs = limjax.holding(cell, barrier, variance, steps * 1e-3)
    optimizer = limjax.learning_in_memory(
        optax.sgd(float(costs.refresh_contraction)), cell, limjax.StaticBarrier(barrier), hops="exact",
        key=jax.random.key(5), compare=(), track=(),
    )  # fmt: skip
    start = jnp.round(jnp.sqrt(variance) * jax.random.normal(jax.random.key(6), (4000,)))

    @jax.jit
    def run(params, state):
        def step(carry, _):
            updates, state = optimizer.update(carry[0], carry[1], carry[0])
            return (carry[0] + updates, state), jnp.var(carry[0])

        return jax.lax.scan(step, (params, state), None, steps)

    (_, state), variances = run(start, optimizer.init(start))
    # The open regime: d²/4g² of the scatter and d²/24g² of the heat are left out, u²V/8g² and its third.
    left_out = float(costs.refresh_contraction) ** 2 * variance / 8 / float(cell.exchange(barrier)) ** 2
    assert np.mean(np.asarray(variances)) == pytest.approx(variance, rel=0.02 + left_out)
    heat = limjax.total(limjax.get_ledger(state)) / 4000
    assert heat == pytest.approx(float(costs.refresh_kt), rel=0.02 + left_out)


def test_the_costs_of_holding():
    cell = limjax.ArrheniusCell()
    costs = limjax.holding(cell, jnp.array([15.0, 25.0, 60.0]), 4.0, 86400.0)
    far = limjax.holding(cell, 110.0, 4.0, 86400.0)  # hops that a float32 does not hold
    assert far.refresh_kt == pytest.approx(0.0, abs=1e-30) and far.raised_barrier == 110.0
    np.testing.assert_allclose(costs.free_variance, 2e9 * 86400 * np.exp(-np.array([15.0, 25.0, 60.0])), rtol=1e-4)
    raised = np.log(2e9 * 86400 / 4)
    np.testing.assert_allclose(costs.raised_barrier, [raised, raised, 60.0], rtol=1e-5)
    np.testing.assert_allclose(2 * np.asarray(cell.hops_at_rest(costs.raised_barrier[:2], 86400.0)), 4.0, rtol=1e-4)
    # Small shares: k0 e^-B / V kT a second.
    np.testing.assert_allclose(costs.refresh_kt[1:], 1e9 * np.exp(-np.array([25.0, 60.0])) / 4 * 86400, rtol=1e-3)
    assert costs.actuation_kt[0] > costs.actuation_kt[1] > 0 == costs.actuation_kt[2]
    assert np.isinf(limjax.holding(cell, 8.0, 4.0, 1.0).refresh_kt)


def test_more_hops_than_a_float_counts_spread_as_their_variance_says():
    """From 3e6 hops each way to 3e14: the difference of two such counts would have no digit left."""
    for barrier, seconds in ((6.0, 1.2), (2.0, 3e6)):
        cell = limjax.ArrheniusCell(lsb=1.0)
        found = _left_alone(cell, barrier, 0, seconds, 20_000)
        assert found.var() == pytest.approx(2 * 1e9 * np.exp(-barrier) * seconds, rel=5 * np.sqrt(2 / 20_000))
        assert len(np.unique(found)) > 1000


@pytest.mark.parametrize(
    ("bits", "barrier", "seconds"),
    # 17,000 to 6e8 hops each way a second: within a turn of the ladder, round and round it, beyond the digits of a float32, beyond its range.
    [(12, 11.0, 300.0), (8, 10.0, 1e3), (8, 10.0, 3e8), (3, 0.5, 3e8), (8, 0.5, 1e38)],
)
def test_a_range_is_filled_however_long_the_time(bits, barrier, seconds):
    cell = limjax.ArrheniusCell(lsb=2.0**-7, attempt_rate=1e9, bits=bits)
    found, levels = _left_alone(cell, barrier, 1, seconds, 40_000), 2**bits
    assert (found == np.round(found)).all()
    # The heat equation between reflecting ends, from the images of the start; a spread over several turns leaves all levels alike.
    spread, place = np.sqrt(2e9 * np.exp(-barrier) * seconds), np.arange(levels)
    law = np.ones(levels)
    if spread < 4 * levels:
        turns = 2 * levels * np.arange(-40, 41)[:, None]
        start = levels // 2 + 1
        images = stats.norm.pdf(turns + np.concatenate([place - start, place + start + 1]), scale=spread).sum(axis=0)
        law = images.reshape(2, levels).sum(axis=0)
    counts = np.bincount((found + levels // 2).astype(int), minlength=levels).reshape(min(levels, 128), -1).sum(axis=1)
    expected = (law / law.sum() * len(found)).reshape(len(counts), -1).sum(axis=1)
    assert stats.chisquare(counts, expected).pvalue > 1e-6


def test_what_is_frozen_stays_and_what_took_no_step_is_refused():
    params = {"a": jnp.zeros(64), "b": jnp.zeros(64)}
    optimizer = limjax.learning_in_memory(
        optax.sgd(0.0), limjax.ArrheniusCell(), limjax.StaticBarrier(12.0), frozen=["a"], compare=()
    )
    state, key = optimizer.init(params), jax.random.key(0)
    with pytest.raises(ValueError, match="took no step"):
        limjax.retain(params, state, 1.0, key=key)
    _, state = optimizer.update(params, state, params)
    left = limjax.retain(params, state, 1.0, key=key, frozen=["a"])
    assert (left["a"] == 0).all() and (left["b"] != 0).any()
    left = limjax.retain(params, state, 1.0, key=key, frozen=[])  # no prefix, nothing frozen
    assert (left["a"] != 0).any() and (left["b"] != 0).any()


def test_weights_between_levels_stay_inside_the_range():
    cell = limjax.ArrheniusCell(lsb=1.0, bits=4)
    found = _left_alone(cell, 12.0, 6.7, 1.0, 4000)
    assert found.min() >= -8 and found.max() <= 7 and found.std() > 3
