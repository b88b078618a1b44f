"""The memory array as the optimizer: learning rate, heat balance, saturation, and the stationary state exp(-sL)."""

import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from scipy import stats

import limjax

pytestmark = pytest.mark.optax

CELL = limjax.ArrheniusCell(lsb=2**-10, attempt_rate=1e9, step_time=1e-3)
LSB = 2.0**-10


def test_small_tilt_is_gradient_descent_with_learning_rate_g_s_lsb_squared():
    coupling, barrier = 50.0, 11.0
    gradient = {"w": jnp.linspace(-1.0, 1.0, 41), "b": jnp.asarray([1e-6, 0.0])}
    opt = limjax.gradient_tilt(CELL, limjax.StaticBarrier(barrier), coupling)
    updates, state = opt.update(gradient, opt.init(gradient))
    rate = float(CELL.exchange(barrier)) * coupling * LSB**2
    expected, _ = optax.sgd(rate).update(gradient, optax.sgd(rate).init(gradient))
    # sinh(F/2) = F/2 (1 + F²/24 ...), and |F| is at most 0.05 here.
    for u, e in zip(jax.tree.leaves(updates), jax.tree.leaves(expected)):
        np.testing.assert_allclose(u, e, rtol=(coupling * LSB) ** 2 / 24 + 2e-6, atol=0)
    assert int(limjax.get_ledger(state).steps) == 1


@pytest.mark.parametrize("coupling", [10.0, 1e4])
def test_move_and_heat_of_any_tilt(coupling):
    """d = 2g sinh(F/2) and Q = d F, from small tilts to large ones."""
    barrier = 12.0
    gradient = jnp.asarray([-2.0, -1e-3, 0.0, 0.5, 2.0])
    opt = limjax.gradient_tilt(CELL, limjax.StaticBarrier(barrier), coupling)
    updates, state = jax.jit(opt.update)(gradient, opt.init(gradient))
    tilt = -coupling * LSB * np.asarray(gradient, np.float64)
    drift = 2 * 1e6 * math.exp(-barrier) * np.sinh(tilt / 2)
    np.testing.assert_allclose(np.asarray(updates) / LSB, drift, rtol=1e-5)
    ledger = limjax.get_ledger(state)
    np.testing.assert_allclose(limjax.per_parameter(ledger, "heat"), drift * tilt, rtol=1e-5)
    np.testing.assert_allclose(limjax.per_parameter(ledger, "path"), np.abs(drift), rtol=1e-5)


def heat_and_drop(steps, hops="mean", cells=3):
    """Heat and s·(loss drop) per cell of a descent of fixed duration in a quadratic bowl, in `steps` steps."""
    coupling, stiffness, duration = 2000.0, 1.0, 40.0
    cell = limjax.ArrheniusCell(lsb=LSB, attempt_rate=1e9, step_time=1e-3 / steps)
    # g = Γ T / steps and a = Γ s k lsb² = 1 / 40 per unit time.
    rate = 1.0 / (duration * coupling * stiffness * LSB**2)
    barrier = math.log(1e6 / steps) - math.log(rate * duration / steps)
    opt = limjax.gradient_tilt(cell, limjax.StaticBarrier(barrier), coupling, hops=hops, key=jax.random.key(0))

    def loss(w):
        return 0.5 * stiffness * jnp.sum(w * w)

    @jax.jit
    def run(w):
        def step(carry, _):
            w, state = carry
            updates, state = opt.update(jax.grad(loss)(w), state)
            return (w + updates, state), None

        return jax.lax.scan(step, (w, opt.init(w)), None, length=steps)[0]

    start = jnp.full((cells,), 0.5)
    end, state = run(start)
    return limjax.total(limjax.get_ledger(state)) / cells, coupling * float(loss(start) - loss(end)) / cells


def test_heat_is_the_coupling_times_the_loss_drop(x64):
    """To first order in the step: the difference halves with it."""
    errors = []
    for steps in (20, 40, 80):
        heat, drop = heat_and_drop(steps)
        errors.append(heat / drop - 1)
    assert 0 < errors[-1] < 0.01
    orders = np.log2(np.asarray(errors[:-1]) / np.asarray(errors[1:]))
    np.testing.assert_allclose(orders, 1.0, atol=0.05)


def test_saturated_tilt_is_counted_and_held():
    barrier = 5.0
    cell = limjax.ArrheniusCell(lsb=1.0, attempt_rate=1e9, step_time=1e-6)
    gradient = jnp.asarray([9.9, 10.1, -1000.0, 0.0])
    opt = limjax.gradient_tilt(cell, limjax.StaticBarrier(barrier), 1.0)
    state = opt.init(gradient)
    updates, state = opt.update(gradient, state)
    limit = 1e3 * (1 - math.exp(-2 * barrier))
    np.testing.assert_allclose(updates[1:], [-limit, limit, 0.0], rtol=1e-5)
    assert abs(float(updates[0])) < limit
    np.testing.assert_array_equal(limjax.per_parameter(limjax.get_ledger(state), "saturated"), [0, 1, 1, 0])
    _, state = opt.update(gradient, state)
    assert limjax.total(limjax.get_ledger(state), "saturated") == 4
    # Heat of a held cell: the move times the tilt at the barrier, 2B.
    heat = limjax.per_parameter(limjax.get_ledger(state), "heat")
    np.testing.assert_allclose(heat[1:3], 2 * limit * 2 * barrier, rtol=1e-4)
    table = limjax.report(limjax.get_ledger(state), gradient, cell)
    assert any("tilt exceeded the barrier" in warning for warning in table.warnings)


@pytest.mark.parametrize("hops", ["gaussian", "exact"])
def test_stationary_state_is_the_boltzmann_distribution(hops):
    """Independent cells in one bowl: w is normal with variance 1/(s k).

    Steps of a finite pull η = g s k lsb² leave the variance 1/(s k (1 - η/2)), here 1 % more. 5.5 standard errors for
    variance and mean (false alarm 4e-8 each), Kolmogorov-Smirnov at 1e-7; the start is forgotten to e^-16.
    """
    cells, coupling, stiffness, pull, steps = 65536, 1000.0, 2.0, 0.02, 400
    exchange = pull / (coupling * stiffness * LSB**2)
    barrier = math.log(1e6) - math.log(exchange)
    opt = limjax.gradient_tilt(CELL, limjax.StaticBarrier(barrier), coupling, hops=hops, key=jax.random.key(2))

    @jax.jit
    def run():
        def step(carry, _):
            w, state = carry
            updates, state = opt.update(stiffness * w, state)
            return (w + updates, state), None

        w = jnp.zeros(cells)
        return jax.lax.scan(step, (w, opt.init(w)), None, length=steps)[0]

    w, state = run()
    w = np.asarray(w, np.float64)
    variance = 1 / (coupling * stiffness * (1 - pull / 2))
    assert abs(w.var() / variance - 1) < 5.5 * math.sqrt(2 / cells)
    assert abs(w.mean()) < 5.5 * math.sqrt(variance / cells)
    if hops == "exact":
        level = w / LSB
        np.testing.assert_array_equal(level, np.round(level))
        # Uniform within a level: the distribution between the rungs.
        w = w + LSB * np.random.default_rng(0).uniform(-0.5, 0.5, cells)
        variance += LSB**2 / 12
    assert stats.kstest(w / math.sqrt(variance), "norm").pvalue > 1e-7
    ledger = limjax.get_ledger(state)
    assert limjax.total(ledger, "saturated") == 0
    # Realised heat F·Δn has the mean Σ d F, and the variance Σ F² A.
    tilt2 = (coupling * stiffness * LSB**2) ** 2 * variance / LSB**2
    error = math.sqrt(tilt2 * limjax.total(ledger, "hops"))
    assert abs(limjax.total(ledger, "realised_heat") - limjax.total(ledger, "heat")) < 5.5 * error


@pytest.mark.parametrize(
    "barrier",
    [limjax.RateMatchedBarrier(), limjax.RateMatchedBarrier(granularity="leaf"), limjax.FisherBarrier()],
    ids=["rate-matched", "rate-matched-leaf", "fisher"],
)
def test_barriers_that_follow_the_request_are_refused(barrier):
    opt = limjax.gradient_tilt(CELL, barrier, 10.0)
    with pytest.raises(ValueError, match=r"follows the requested step.*static"):
        opt.update(jnp.ones(2), opt.init(jnp.ones(2)))


@pytest.mark.slow
def test_barriers_that_follow_loss_and_time():
    for barrier in (
        limjax.LyapunovBarrier(11.0),
        limjax.SplineBarrier([11.0, 12.0], 4),
        limjax.FowlerNordheimBarrier(11.0, 1e-3),
        limjax.ScheduledBarrier(optax.linear_schedule(11.0, 13.0, 4)),
    ):
        opt = limjax.gradient_tilt(CELL, barrier, 100.0, hops="exact", key=jax.random.key(0))
        params = jnp.ones(4)
        state = opt.init(params)
        for loss in (2.0, 1.0, 0.5):
            updates, new = opt.update(params, state, params, value=jnp.asarray(loss), other="ignored")
            assert jax.tree.structure(new) == jax.tree.structure(state)
            state = new
        assert np.isfinite(updates).all() and float(limjax.get_barrier(state)) > 11.0


def test_coupling_is_a_leaf_of_the_state():
    opt = limjax.gradient_tilt(CELL, limjax.StaticBarrier(11.0), 10.0)
    gradient = jnp.ones(3)
    state = opt.init(gradient)
    traced = []

    @jax.jit
    def update(gradient, state):
        traced.append(None)
        return opt.update(gradient, state)

    first, _ = update(gradient, state)
    second, _ = update(gradient, state._replace(inner=jnp.float32(20.0)))
    assert len(traced) == 1
    np.testing.assert_allclose(second, 2 * first, rtol=(20 * LSB) ** 2 / 24 + 1e-6)

    def move(coupling):
        opt = limjax.gradient_tilt(CELL, limjax.StaticBarrier(11.0), coupling)
        return opt.update(gradient, opt.init(gradient))[0][0]

    assert float(jax.grad(move)(10.0)) == pytest.approx(float(first[0]) / 10.0, rel=1e-4)


@pytest.mark.slow
def test_comparison_dtypes_and_granularity():
    for dtype in (jnp.float32, jnp.bfloat16):
        params = {"a": jnp.ones((2, 3), dtype), "b": jnp.ones((), dtype)}
        totals = []
        for granularity in ("parameter", "leaf"):
            opt = limjax.gradient_tilt(
                CELL, limjax.StaticBarrier(11.0), 100.0, granularity=granularity, compare=(limjax.StaticBarrier(40.0),)
            )
            updates, state = opt.update(params, opt.init(params), params)
            assert all(u.dtype == dtype for u in jax.tree.leaves(updates))
            ledger = limjax.get_ledger(state)
            totals.append(limjax.total(ledger))
            drift = float(limjax.total(ledger, "path")) / 7
            static = ledger.compare["static"].heat.float64().sum()
            assert static == pytest.approx(7 * float(CELL.heat(drift, 40.0)), rel=1e-5)
        assert totals[0] == pytest.approx(totals[1], rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"coupling": 0.0}, ["coupling", "0.0", "100.0"]),
        ({"coupling": -1.0}, ["coupling", "-1.0"]),
        ({"coupling": math.nan}, ["coupling", "nan"]),
        ({"coupling": 1.0, "hops": "exact"}, ["exact", "key"]),
        ({"coupling": 1.0, "hops": "some"}, ["'some'"]),
        ({"coupling": 1.0, "granularity": "layer"}, ["granularity", "'layer'"]),
    ],
)
def test_wrong_settings_are_named(arguments, said):
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError) as error:
            limjax.gradient_tilt(CELL, limjax.StaticBarrier(11.0), **arguments)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    for word in said:
        assert word in str(error.value)


@pytest.mark.slow
def test_range_is_kept():
    cell = limjax.ArrheniusCell(lsb=0.25, levels=(-2, 2))
    opt = limjax.gradient_tilt(cell, limjax.StaticBarrier(8.0), 10.0, hops="exact", key=jax.random.key(0))
    params = jnp.asarray([0.0, 0.5, -0.5])
    updates, state = opt.update(jnp.asarray([-5.0, -5.0, 5.0]), opt.init(params), params)
    np.testing.assert_array_equal(params + updates, [0.5, 0.5, -0.5])
    assert limjax.total(limjax.get_ledger(state), "range_clipped") == 3


@pytest.mark.slow
@pytest.mark.parametrize("hops", ["mean", "exact"])
def test_largest_move_keeps_a_curved_loss_from_throwing_cells_off(hops):
    """A bowl with lr L'' of 5: 32 levels from its minimum a cell is thrown a million; with a bound it settles within it."""
    cell, barrier = limjax.ArrheniusCell(lsb=2**-6), limjax.StaticBarrier(13.0)
    curvature = 2.0
    coupling = 5.0 / (float(cell.exchange(13.0)) * 2**-12 * curvature)

    def run(max_move, steps=40):
        opt = limjax.gradient_tilt(
            cell, barrier, coupling, hops=hops, key=jax.random.key(0), max_move=max_move, compare=()
        )
        w = jnp.full(50, 0.5)
        state, seen = opt.init(w), []
        for _ in range(steps):
            moves, state = jax.jit(opt.update)(curvature * w, state)
            w = w + moves
            seen.append(float(jnp.abs(w).mean()) * 2**6)
        return seen, state

    free, _ = run(None, steps=1)
    assert free[0] > 1e5
    bounded, state = run(4.0)
    assert bounded[-1] < 8 and max(bounded) <= 32
    assert limjax.total(limjax.get_ledger(state), "saturated") > 0
    heat, path = (limjax.total(limjax.get_ledger(state), name) for name in ("heat", "path"))
    assert path <= 40 * 50 * 4.0 * (1 + 1e-5)
    assert heat <= path * float(cell.affinity(4.0, 13.0)) * (1 + 1e-5)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_largest_move_is_positive(bad):
    with pytest.raises(ValueError, match="max_move must be a finite number above 0"):
        limjax.gradient_tilt(limjax.ArrheniusCell(), limjax.StaticBarrier(10.0), 1.0, max_move=bad)
