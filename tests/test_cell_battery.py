"""What every memory cell must pass: a new cell is one more line of CELLS."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cell_around import CellAround

import limjax
from limjax.memory.comparisons import EventWrite, GatedWrite, NoisyEventWrite
from limjax.physics import Response, exact_step

CELLS = {
    "arrhenius": lambda: limjax.ArrheniusCell(lsb=0.5),
    "asymmetric 0.2": lambda: limjax.AsymmetricCell(0.2, lsb=0.5),
    "asymmetric 0.5": lambda: limjax.AsymmetricCell(0.5, lsb=0.5),
    "asymmetric 0.95": lambda: limjax.AsymmetricCell(0.95, lsb=0.5),
    "pulsed": lambda: limjax.PulsedCell(lsb=0.5),
}
DRIFTS = np.concatenate([-np.geomspace(1e4, 1e-6, 25), [0.0], np.geomspace(1e-6, 1e4, 25)])


class LossyCell(CellAround):
    """A cell whose driver takes `loss` times the energy that its hops need: a user's own, of two methods."""

    cell: limjax.ArrheniusCell
    loss: float = eqx.field(static=True)

    def response(self, drift, barrier):
        affinity, *rest = self.cell.response(drift, barrier)
        return Response(self.loss * affinity, *rest)

    def tilted(self, half_tilt, barrier, max_move=None):
        return self.cell.tilted(half_tilt / self.loss, barrier, max_move)


@pytest.fixture(params=CELLS)
def cell(request):
    return CELLS[request.param]()


@pytest.mark.parametrize("barrier", [1.0, 12.0, 25.0])
def test_rates_request_affinity_and_activity_are_of_one_piece(x64, cell, barrier):
    cell = jax.tree.map(lambda x: x.astype(jnp.float64), cell)
    drift = jnp.asarray(DRIFTS)
    affinity, activity, up, down = cell.response(drift, jnp.asarray(barrier))
    np.testing.assert_allclose(up - down, drift, rtol=1e-9, atol=1e-12 * activity.max())
    np.testing.assert_allclose(up + down, activity, rtol=1e-12)
    is_told = np.asarray(down > 1e-290) & np.asarray(up > 1e-290)
    # Local detailed balance; the larger rate over the smaller keeps the digits of a small tilt in log1p.
    smaller = np.minimum(up, down)
    np.testing.assert_allclose(
        np.abs(affinity)[is_told], np.log1p(np.abs(drift) / smaller)[is_told], rtol=1e-8, atol=1e-300
    )
    assert (np.sign(affinity) == np.sign(drift)).all()
    at_rest = cell.response(jnp.zeros(()), jnp.asarray(barrier))
    assert at_rest.affinity == 0 and float(at_rest.activity) == pytest.approx(2 * float(cell.exchange(barrier)))
    # Thermodynamic uncertainty (Barato & Seifert 2015): variance times heat is at least twice the square of the mean.
    assert (np.asarray(activity * affinity * drift) >= 2 * DRIFTS**2 * (1 - 1e-9)).all()


@pytest.mark.representatives(1)
def test_float32_extremes_are_finite_and_nan_stays(cell):
    drift = jnp.concatenate([jnp.geomspace(1e-37, 1e6, 40), -jnp.geomspace(1e-37, 1e6, 40), jnp.zeros(1)])
    for barrier in (0.0, 20.0, 80.0):
        b = jnp.float32(barrier)
        for values in cell.response(drift, b):
            assert np.isfinite(values).all() and values.dtype == jnp.float32
        slopes = jax.vmap(jax.grad(lambda d, b=b: cell.response(d, b).affinity * d))(drift)
        assert np.isfinite(slopes).all()
    assert np.isnan(cell.heat(jnp.float32(np.nan), jnp.float32(10.0)))


def test_requests_far_below_the_exchange_need_the_linear_affinity():
    """F = d/g, also where d/2g is below the smallest float32."""
    cell, drift = limjax.AsymmetricCell(0.3), jnp.asarray([1e-28, -1e-31, 4e-32, -3e-32, 1e-33, -1e-37])
    affinity, slope = jax.jit(jax.vmap(jax.value_and_grad(lambda d: cell.response(d, jnp.float32(0.0)).affinity)))(
        drift
    )
    exchange = 1e9 * 1e-3
    np.testing.assert_allclose(affinity, np.asarray(drift, np.float64) / exchange, rtol=1e-5, atol=1.2e-38)
    np.testing.assert_allclose(slope, 1 / exchange, rtol=1e-5)
    assert not np.any(cell.heat(drift[-2:], 0.0))


@pytest.mark.representatives(3)
@pytest.mark.parametrize("drift", [-30.0, -0.4, 0.02, 5.0])
def test_gradients_against_finite_differences(x64, cell, drift):
    wide = jax.tree.map(lambda x: x.astype(jnp.float64), cell)

    def outputs(numbers):
        made = eqx.tree_at(lambda c: c.attempt_rate, wide, numbers[2] * wide.attempt_rate)
        if isinstance(made, limjax.AsymmetricCell):
            made = eqx.tree_at(lambda c: c.transfer, made, numbers[3] * wide.transfer)
        response = made.response(numbers[0], numbers[1])
        return jnp.stack(response)

    at = jnp.asarray([drift, 13.0, 1.0, 1.0])
    got = jax.jacfwd(outputs)(at)
    steps = np.diag([1e-5 * abs(drift), 1e-5, 1e-5, 1e-5])
    wanted = np.stack([(outputs(at + s) - outputs(at - s)) / (2 * s.sum()) for s in steps], axis=1)
    np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=1e-9 * np.abs(wanted).max())
    twice = jax.hessian(lambda d: wide.response(d, jnp.asarray(13.0)).affinity)(at[0])
    h = 1e-5 * abs(drift)
    slope = jax.grad(lambda d: wide.response(d, jnp.asarray(13.0)).affinity)
    assert float(twice) == pytest.approx(float((slope(at[0] + h) - slope(at[0] - h)) / (2 * h)), rel=1e-5)


@pytest.mark.representatives(2)
def test_a_tilt_moves_by_the_request_that_needs_it_and_is_held_at_the_barrier(cell):
    barrier = jnp.float32(14.0)
    drift = jnp.asarray([-300.0, -2.0, -1e-4, 0.0, 1e-3, 0.7, 900.0])
    affinity = cell.response(drift, barrier).affinity
    moved, held = cell.tilted(0.5 * affinity, barrier)
    np.testing.assert_allclose(moved, drift, rtol=2e-5)
    assert not held.any()
    moved, held = cell.tilted(jnp.asarray([-1e4, 1e4]), barrier)
    assert held.all() and np.isfinite(moved).all()
    np.testing.assert_allclose(jnp.abs(moved), jnp.exp(cell.log_attempts()), rtol=1e-3)
    assert cell.is_saturated(2 * moved, barrier).all() and not cell.is_saturated(0.5 * moved, barrier).any()
    moved, held = cell.tilted(jnp.asarray([-1e3, 0.0, 1e3]), barrier, 3.0)
    np.testing.assert_allclose(moved, [-3.0, 0.0, 3.0], rtol=1e-5)
    assert held.tolist() == [True, False, True]


@pytest.mark.representatives(2)
def test_bounds_and_inverses(cell):
    rng = np.random.default_rng(1)
    drift, barrier = jnp.asarray(rng.normal(size=200), jnp.float32), jnp.asarray(rng.uniform(9, 20, 200), jnp.float32)
    _, activity, up, down = cell.response(drift, barrier)
    lowest, highest, smaller = cell.rate_bounds(drift, barrier)
    assert (np.minimum(up, down) >= lowest * (1 - 1e-5)).all() and (np.maximum(up, down) <= highest * (1 + 1e-5)).all()
    assert (np.minimum(up, down) <= smaller * (1 + 1e-5)).all() and smaller <= highest
    # Told from the activity only where hops that the request does not need are more than rounding.
    free = np.asarray(activity - np.abs(drift) > 1e-2 * activity)
    np.testing.assert_allclose(cell.barrier_at_activity(drift, activity)[free], barrier[free], atol=2e-3)
    tilt = jnp.asarray([-6.0, -0.5, 2.0])
    moved, _ = cell.tilted(0.5 * tilt, jnp.float32(30.0))
    expected = cell.response(moved, jnp.float32(30.0)).activity / cell.exchange(jnp.float32(30.0))
    np.testing.assert_allclose(cell.rate_at_tilt(tilt), expected, rtol=1e-5)


@pytest.mark.representatives(4)
@pytest.mark.parametrize("drift, barrier", [(0.3, 13.0), (-1.5, 14.0), (20.0, 12.0)])
def test_exact_hops_have_the_cells_mean_and_variance(cell, drift, barrier):
    key, cells = jnp.asarray([3, 4], jnp.uint32), 200_000
    moved = np.asarray(
        jax.jit(exact_step, static_argnums=0)(0, key, jnp.int32(0), cell, jnp.full(cells, drift), jnp.float32(barrier)),
        np.float64,
    )
    variance = float(cell.activity(drift, barrier))
    assert abs(moved.mean() - drift) < 5 * np.sqrt(variance / cells)
    # Of a difference of Poisson counts the fourth central moment is 3A² + A.
    assert abs(moved.var() - variance) < 5 * np.sqrt((2 * variance**2 + variance) / cells)
    assert (moved == np.round(moved)).all()


@pytest.mark.representatives(3)
@pytest.mark.optax
@pytest.mark.parametrize("hops", ["gaussian", "exact"])
def test_ledger_hops_and_comparison_agree(cell, hops):
    check_one_heat(cell, hops)


@pytest.mark.slow
@pytest.mark.optax
def test_a_users_own_cell_is_charged_everywhere_alike():
    """Its driver takes a hundred times the energy: so say the ledger, the hops and the comparison with the same barrier."""
    plain = limjax.ArrheniusCell(lsb=0.5)
    lossy = check_one_heat(LossyCell(plain, 100.0), "exact")
    assert lossy == pytest.approx(100 * check_one_heat(plain, "exact"), rel=1e-5)


def check_one_heat(cell, hops):
    barrier, steps, size = limjax.StaticBarrier(13.0), 3, 40_000
    opt = limjax.learning_in_memory(
        optax.identity(), cell, barrier, hops=hops, key=jax.random.key(1), compare={"same": barrier}
    )
    requests = {"w": cell.lsb * jnp.linspace(-2.0, 3.0, size)}
    update, state = jax.jit(opt.update), opt.init(requests)
    for _ in range(steps):
        moved, state = update(requests, state)
    ledger = limjax.get_ledger(state)
    drift = requests["w"] / cell.lsb
    expected = steps * float(jnp.sum(cell.heat(drift, 13.0)))
    assert float(ledger.heat.float64()[0].sum()) == pytest.approx(expected, rel=1e-5)
    assert float(ledger.compare["same"].heat.total.sum()) == pytest.approx(expected, rel=1e-5)
    affinity, activity = cell.affinity(drift, 13.0), cell.activity(drift, 13.0)
    scatter = np.sqrt(steps * float(jnp.sum(affinity**2 * activity)))
    assert abs(float(ledger.realised_heat.total.sum()) - expected) < 5 * scatter
    assert moved["w"].shape == (size,)
    return expected


@pytest.mark.optax
def test_tilts_are_charged_their_own_heat(cell):
    opt = limjax.gradient_tilt(cell, limjax.StaticBarrier(13.0), coupling=2.0)
    gradient = jnp.asarray([-3.0, -0.2, 0.0, 0.4, 5.0])
    moved, state = jax.jit(opt.update)(gradient, opt.init(gradient))
    tilt = -2.0 * cell.lsb * gradient
    np.testing.assert_allclose(limjax.get_ledger(state).heat.total[0], moved / cell.lsb * tilt, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("up", [True, False])
def test_event_driven_writes_come_in_time_both_ways(cell, up):
    memory = EventWrite(30.0, error=0.01)
    tilt = float(np.log(99.0)) * (1 if up else -1)
    barrier = memory.write_barrier(cell)
    rate = cell.rate_at_tilt(tilt) * cell.exchange(barrier)
    assert float(jnp.exp(-rate)) <= 0.01 * (1 + 1e-3)
    moved, _ = cell.tilted(jnp.float32(0.5 * tilt), barrier)
    assert float(jnp.abs(moved) / rate) == pytest.approx(0.98, abs=1e-4)


@pytest.mark.slow
@pytest.mark.representatives(1)
def test_gates_open_where_they_cost_least(cell):
    """The write barrier that the comparisons take for a request, against a search."""
    noisy = NoisyEventWrite(30.0)
    candidates = jnp.linspace(2.0, 30.0, 2000)

    def costs(drift):
        work = jax.vmap(lambda b: cell.actuation(30.0, b) + cell.actuation(b, 30.0))(candidates)
        return cell.heat(jnp.full_like(candidates, drift), candidates) + work

    assert float(noisy.cheapest_barrier(cell)) == pytest.approx(float(candidates[np.argmin(costs(1.0))]), abs=0.1)
    gated = GatedWrite(30.0, cell)
    for write, limit in zip(0.5 * (gated.writes[:-1] + gated.writes[1:]), gated.limits):
        if write > 8.0:
            best = float(candidates[np.argmin(costs(float(limit)))])
            assert best == pytest.approx(float(write), abs=0.1)
