"""Cells that differ from device to device: an array is what as many single cells are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import limjax

SHAPE = (3, 2)
SPREAD = jnp.exp(0.3 * jax.random.normal(jax.random.key(0), SHAPE))
STEPS = 4


GRADIENTS = 0.02 * jax.random.normal(jax.random.key(10), (STEPS, *SHAPE))
LOSSES = 1.0 / jnp.arange(1, STEPS + 1)


def run(cell, barrier, gradients=GRADIENTS, **options):
    """Some steps of gradient descent: the state and the weights."""
    opt = limjax.learning_in_memory(optax.sgd(0.1), cell, barrier, key=jax.random.key(1), **options)
    params = {"w": jnp.ones(gradients.shape[1:])}

    def step(carry, given):
        params, state = carry
        updates, state = opt.update({"w": given[0]}, state, params, value=given[1])
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, opt.init(params)), (gradients, LOSSES))[0][::-1]


def one_by_one(cell, barrier, **options):
    """Each of the six cells as a single one: a list of states and weights."""

    def spread(x):
        return jnp.broadcast_to(x, SHAPE).reshape(-1) if jnp.ndim(x) < 3 else x

    singles = jax.tree.map(spread, cell), jax.tree.map(spread, barrier), GRADIENTS.reshape(STEPS, -1).T
    made = jax.jit(jax.vmap(lambda c, b, g: run(c, b, g, **options)))(*singles)
    return [jax.tree.map(lambda x, i=i: x[i], made) for i in range(6)]


CELLS = {
    "attempt rates": limjax.ArrheniusCell(attempt_rate=1e9 * SPREAD),
    "one lsb per column": limjax.ArrheniusCell(lsb=jnp.array([2.0**-10, 2.0**-8])),
    "one temperature per row": limjax.ArrheniusCell(temperature=jnp.array([[300.0], [77.0], [4.0]])),
    "recovery and range of the driver": limjax.ArrheniusCell(
        recovery=jnp.array([0.0, 0.5]), min_barrier=9.0 * SPREAD, max_barrier=11.0 * SPREAD
    ),
    "alike": limjax.ArrheniusCell(),
}
BARRIERS = {
    "static": limjax.StaticBarrier(10.0 * SPREAD),
    "lyapunov": limjax.LyapunovBarrier(10.0 * SPREAD),
    "rate-matched": limjax.RateMatchedBarrier(2.0 * SPREAD),
    # Without damping, which is a share of the mean over all cells: one alone has another.
    "fisher": limjax.FisherBarrier(1e7 * SPREAD, damping=0.0),
    "fowler-nordheim": limjax.FowlerNordheimBarrier(10.0, 1e-3 * SPREAD),
    "scheduled": limjax.ScheduledBarrier(optax.linear_schedule(8.0, 12.0, STEPS), offset=SPREAD),
    "one for all": limjax.StaticBarrier(10.0),
}


CASES = [(cell, "one for all") for cell in CELLS if cell != "alike"]
CASES += [("alike", barrier) for barrier in BARRIERS if barrier != "one for all"] + [("attempt rates", "fisher")]


@pytest.mark.representatives(4)
@pytest.mark.parametrize(("cell", "barrier"), CASES)
def test_an_array_of_cells_is_as_many_single_cells(cell, barrier):
    cells, policy = CELLS[cell], BARRIERS[barrier]
    state, _ = jax.jit(lambda: run(cells, policy, compare=()))()
    singles = one_by_one(cells, policy, compare=())
    for name in ("heat", "path", "actuation", "saturated"):
        got = limjax.per_parameter(limjax.get_ledger(state), name)["w"]
        want = np.reshape([limjax.total(limjax.get_ledger(single), name) for single, _ in singles], SHAPE)
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_sums_per_array_are_those_of_its_cells():
    """Comparisons, joules, levels and barrier of the array against six single cells."""
    cells = limjax.ArrheniusCell(attempt_rate=1e9 * SPREAD, temperature=jnp.array([300.0, 77.0]))
    barrier, fair = limjax.StaticBarrier(10.0 * SPREAD), lambda cell: limjax.fair_comparisons(cell, STEPS)
    state, params = run(cells, barrier, compare=fair)
    table = limjax.report(state, params)
    assert set(table.comparisons) == {"run-static", "gated", "event"}
    singles = one_by_one(cells, barrier, compare=fair)
    tables = [limjax.report(*single) for single in singles]
    for name, cost in table.comparisons.items():
        assert cost == pytest.approx(sum(single.comparisons[name] for single in tables), rel=2e-5), name
    assert table.total.heat_joules == pytest.approx(sum(single.total.heat_joules for single in tables), rel=2e-5)
    assert table.total.net_levels == pytest.approx(sum(single.total.net_levels for single in tables), rel=1e-5)
    mean = np.mean([float(limjax.get_barrier(single)) for single, _ in singles])
    assert float(limjax.get_barrier(state)) == pytest.approx(mean, rel=1e-6)


@pytest.mark.representatives(1)
@pytest.mark.parametrize(
    "barrier", [limjax.MomentBarrier(), limjax.LyapunovBarrier(), limjax.LearnedBarrier.from_law(4)]
)
def test_barriers_of_the_law_set_the_exchange_whatever_the_attempt_rate(barrier):
    """The law is about the exchange: cells ten times as fast stand ln 10 higher, at the same heat."""
    rates = jnp.where(jnp.arange(2) == 0, 1e9, 1e10)
    varied, _ = run(limjax.ArrheniusCell(attempt_rate=rates), barrier)
    alike, _ = run(limjax.ArrheniusCell(), barrier)
    heat = [limjax.per_parameter(limjax.get_ledger(state))["w"] for state in (varied, alike)]
    np.testing.assert_allclose(heat[0], heat[1], rtol=1e-4)
    if barrier.name == "lyapunov":
        rise, same = (float(limjax.get_barrier(state)) for state in (varied, alike))
        assert rise - same == pytest.approx(0.5 * np.log(10), abs=1e-4)


def test_exact_hops_stay_on_each_cells_ladder():
    lsb = jnp.array([2.0**-7, 3.0**-4])
    cell = limjax.ArrheniusCell(lsb=lsb, bits=6)
    opt = limjax.learning_in_memory(
        optax.sgd(0.1), cell, limjax.StaticBarrier(12.0), hops="exact", key=jax.random.key(0)
    )
    params = limjax.snap({"w": jnp.full(SHAPE, 0.11)}, cell)
    updates, state = opt.update({"w": GRADIENTS[0]}, opt.init(params), params)
    levels = np.asarray(optax.apply_updates(params, updates)["w"] / lsb[None])
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    assert np.abs(levels).max() < 32 and limjax.total(limjax.get_ledger(state), "hops") > 0


def test_what_does_not_fit_is_named_before_any_step():
    params = {"w": jnp.ones((4, 3)), "b": jnp.ones(3)}
    spread = jnp.ones((4, 3))
    cell = limjax.ArrheniusCell(attempt_rate=1e9 * spread)
    said = r"attempt_rate of shape \(4, 3\) does not broadcast to the parameter 'b' of shape \(3,\).*own cell"
    with pytest.raises(ValueError, match=said):
        limjax.learning_in_memory(optax.sgd(0.1), cell, limjax.StaticBarrier(10.0)).init(params)
    with pytest.raises(ValueError, match=r"height of StaticBarrier of shape \(4, 3\).*'b'"):
        limjax.gradient_tilt(limjax.ArrheniusCell(), limjax.StaticBarrier(10.0 * spread), 1.0).init(params)
    with pytest.raises(ValueError, match="noisy-event"):
        limjax.learning_in_memory(
            optax.sgd(0.1), cell, limjax.StaticBarrier(10.0), compare=(limjax.NoisyEventWrite(30.0),)
        )
    with pytest.raises(ValueError, match=r"attempt_rate of optimizer_memory"):
        alike = limjax.ArrheniusCell(), limjax.StaticBarrier(10.0)
        limjax.learning_in_memory(optax.sgd(0.1), *alike, optimizer_memory=(cell, alike[1]))


@pytest.mark.parametrize(
    "make",
    [
        lambda x: limjax.ArrheniusCell(step_time=x),
        lambda x: limjax.LyapunovBarrier(10.0, decay=x),
        lambda x: limjax.LyapunovBarrier(10.0, floor=x),
        lambda x: limjax.MomentBarrier(x),
        lambda x: limjax.RateMatchedBarrier(1.0, decay=x),
        lambda x: limjax.EventWrite(30.0, error=x / 10),
    ],
)
def test_numbers_that_all_cells_share_are_refused_as_arrays_where_they_are_made(make):
    with pytest.raises(ValueError, match=r"must be one number for all cells, got an array of shape \(2,\)"):
        make(jnp.array([0.5, 0.6]))


@pytest.mark.slow
@pytest.mark.optax
def test_a_run_of_the_library_on_cells_that_vary():
    cell = limjax.ArrheniusCell(lsb=2.0**-10, temperature=300.0, attempt_rate=jnp.linspace(0.5e9, 2e9, 4))
    task = limjax.Task("bowl", lambda key: jnp.ones(4), lambda p, batch: jnp.sum(p**2))
    result = limjax.train(task, cell=cell, barrier=limjax.StaticBarrier(10.0), hops="exact", steps=5)
    assert result.summary["attempt_rate"]["greatest"] == 2e9 and result.summary["heat_kt"] > 0
