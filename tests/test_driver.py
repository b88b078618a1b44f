"""A drive that can run out: what a driver of finite affinity delivers, what of it is counted, kept or dropped."""

import hashlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cell_around import CellAround

import limjax
from limjax._fingerprints import of_structure
from limjax.physics import AbstractCell
from limjax.tasks import get_task
from limjax.training import RunSettings, execute, prepare

BARRIERS = np.linspace(1.0, 40.0, 14)


def test_the_largest_move_is_the_one_of_the_largest_affinity(x64):
    for affinity in (1e-6, 1.0, 8.0, 60.0):
        cell = limjax.ArrheniusCell(max_affinity=affinity)
        most = np.asarray(cell.largest_move(jnp.asarray(BARRIERS)))
        free = limjax.ArrheniusCell()
        # The route back: the affinity that this move needs is the driver's, or twice the barrier where that is less.
        needed = free.affinity(most, BARRIERS)
        np.testing.assert_allclose(needed, np.minimum(affinity, 2 * np.asarray(BARRIERS)), rtol=1e-9)
        np.testing.assert_allclose(
            cell.reach(jnp.asarray(BARRIERS))[1],
            AbstractCell.reach(cell, jnp.asarray(BARRIERS))[1],
            rtol=1e-12,
        )
    assert jnp.isinf(limjax.ArrheniusCell().largest_move(10.0))


def test_float32_holds_it_from_open_to_shut():
    cell = limjax.ArrheniusCell(max_affinity=30.0)
    most = cell.largest_move(jnp.float32(80.0))
    expected = 2 * np.exp(np.log(1e6) - 80.0) * np.sinh(15.0)
    assert float(most) == pytest.approx(expected, rel=2e-5)
    with pytest.raises(ValueError, match="max_affinity must be a finite number above 0, got 0"):
        limjax.ArrheniusCell(max_affinity=0.0)


def test_its_slopes_are_those_of_finite_differences(x64):
    def most(affinity, barrier):
        return limjax.ArrheniusCell(max_affinity=affinity).largest_move(barrier)

    for affinity, barrier in ((3.0, 10.0), (20.0, 14.0), (30.0, 3.0)):
        point = jnp.asarray(affinity, jnp.float64), jnp.asarray(barrier, jnp.float64)
        slopes = jax.grad(most, argnums=(0, 1))(*point)
        for k, slope in enumerate(slopes):
            up, down = (most(*(x + sign * 1e-5 * (i == k) for i, x in enumerate(point))) for sign in (1, -1))
            assert float(slope) == pytest.approx(float(up - down) / 2e-5, rel=1e-6, abs=1e-9)


def test_a_lattice_walk_at_the_largest_affinity_moves_by_it():
    # The master equation of a long ring of levels, tilted by F_max: an independent route to d_max.
    rate, barrier, affinity, levels = 5.0, 2.0, 3.0, 101
    cell = limjax.ArrheniusCell(attempt_rate=rate, step_time=1.0, max_affinity=affinity)
    up, down = rate * np.exp(-barrier + affinity / 2), rate * np.exp(-barrier - affinity / 2)
    generator = np.zeros((levels, levels))
    for n in range(levels):
        generator[(n + 1) % levels, n] += up
        generator[(n - 1) % levels, n] += down
        generator[n, n] -= up + down
    pieces = 400
    p = np.zeros(levels)
    p[levels // 2] = 1.0
    for _ in range(pieces):  # Taylor's fourth order in steps of 1/400
        term = p
        for k in range(1, 5):
            term = generator @ term / (k * pieces)
            p = p + term
    assert p @ (np.arange(levels) - levels // 2) == pytest.approx(float(cell.largest_move(barrier)), rel=1e-5)


def _trained(cell, requests, *, keep=False, hops="mean", barrier=14.0, steps=1, **books):
    optimizer = limjax.learning_in_memory(
        optax.sgd(1.0),
        cell,
        limjax.StaticBarrier(barrier),
        hops=hops,
        key=jax.random.key(1),
        keep_undelivered=keep,
        **books,
    )
    params = jnp.zeros_like(requests)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(-requests, state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params, state


@pytest.mark.optax
@pytest.mark.parametrize("hops", ["mean", pytest.param("exact", marks=pytest.mark.slow)])
def test_requests_beyond_the_driver_are_cut_counted_and_charged_at_its_affinity(hops):
    lsb, affinity = 0.5, 4.0
    cell = limjax.ArrheniusCell(lsb=lsb, max_affinity=affinity)
    most = float(cell.largest_move(14.0))
    requests = jnp.concatenate([jnp.full(4000, 3.0), jnp.full(4000, -40.0), jnp.full(4000, 0.125)])
    params, state = _trained(cell, requests, hops=hops)
    ledger = limjax.get_ledger(state)
    assert most == pytest.approx(6.03, rel=1e-3)
    # 3.0 is 6 levels, -40 is 80, 1/8 a quarter: only the second kind is beyond.
    assert limjax.total(ledger, "undelivered") == 4000
    assert limjax.total(ledger, "undelivered_path") == pytest.approx(4000 * (80 - most), rel=1e-5)
    assert limjax.total(ledger, "path") == pytest.approx(4000 * (6 + most + 0.25), rel=1e-5)
    free = limjax.ArrheniusCell()
    heat = 4000 * (float(free.heat(6.0, 14.0)) + most * affinity + float(free.heat(0.25, 14.0)))
    assert limjax.total(ledger, "heat") == pytest.approx(heat, rel=1e-5)
    moved = np.asarray(params).reshape(3, -1) / lsb
    expected, variance = np.array([6.0, -most, 0.25]), np.asarray(free.activity(jnp.array([6.0, most, 0.25]), 14.0))
    # Five standard errors of 4000 cells: a false alarm in 6e-7 of cases.
    tolerance = 1e-5 if hops == "mean" else 5 * np.sqrt(variance / 4000)
    assert (np.abs(moved.mean(axis=1) - expected) < tolerance).all()
    if hops == "mean":  # what can be delivered is the optimizer's own update, bit for bit
        assert (params[:4000] == 3.0).all() and (params[8000:] == 0.125).all()


@pytest.mark.optax
def test_what_is_kept_arrives_and_what_is_dropped_does_not():
    cell, requests = limjax.ArrheniusCell(lsb=0.5, max_affinity=4.0), jnp.array([20.0, 0.5])
    optimizer = limjax.learning_in_memory(optax.sgd(1.0), cell, limjax.StaticBarrier(14.0), keep_undelivered=True)
    params = jnp.zeros(2)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    most = 0.5 * float(cell.largest_move(14.0))
    for step in range(10):
        updates, state = update(-requests * (step == 0), state, params)
        params = optax.apply_updates(params, updates)
        assert float(params[0]) == pytest.approx(min(20.0, (step + 1) * most), rel=1e-6)
    np.testing.assert_allclose(np.asarray(params), [20.0, 0.5], rtol=1e-6)
    assert limjax.total(limjax.get_ledger(state), "undelivered") == 6
    dropped, _ = _trained(cell, requests)
    assert float(dropped[0]) == pytest.approx(most, rel=1e-6)
    with pytest.raises(ValueError, match="give the cell a max_affinity"):
        limjax.learning_in_memory(
            optax.sgd(1.0), limjax.ArrheniusCell(), limjax.StaticBarrier(9.0), keep_undelivered=True
        )


@pytest.mark.optax
@pytest.mark.parametrize("hops", ["mean", pytest.param("exact", marks=pytest.mark.slow)])
def test_a_driver_that_is_never_out_changes_no_bit(hops):
    requests = jax.random.normal(jax.random.key(0), (300,))
    plain, before = _trained(limjax.ArrheniusCell(), requests, hops=hops, steps=3)
    strong, after = _trained(limjax.ArrheniusCell(max_affinity=200.0), requests, hops=hops, steps=3)
    assert (plain == strong).all()
    assert limjax.total(limjax.get_ledger(before)) == limjax.total(limjax.get_ledger(after))
    assert limjax.get_ledger(before).undelivered is None and limjax.total(limjax.get_ledger(after), "undelivered") == 0


@pytest.mark.optax
def test_a_gradient_tilts_no_further_than_the_driver():
    cell = limjax.ArrheniusCell(lsb=0.5, max_affinity=4.0)
    optimizer = limjax.gradient_tilt(cell, limjax.StaticBarrier(14.0), coupling=1.0)
    updates, state = jax.jit(optimizer.update)(jnp.array([-6.0, 30.0]), optimizer.init(jnp.zeros(2)))
    most, small = float(cell.largest_move(14.0)), float(cell.tilted(jnp.asarray(1.5), jnp.asarray(14.0))[0])
    np.testing.assert_allclose(np.asarray(updates) / 0.5, [small, -most], rtol=1e-6)
    ledger = limjax.get_ledger(state)
    assert limjax.total(ledger, "undelivered") == 1 and limjax.total(ledger, "saturated") == 0


class WeakCell(CellAround):
    """A user's own cell with a driver that can run out: one more property."""

    cell: limjax.AsymmetricCell
    most: float = eqx.field(static=True)

    driver_affinity = property(lambda self: jnp.asarray(self.most))

    def response(self, drift, barrier):
        return self.cell.response(drift, barrier)

    def tilted(self, half_tilt, barrier, max_move=None):
        return self.cell.tilted(half_tilt, barrier, max_move)


@pytest.mark.slow
@pytest.mark.optax
def test_any_cell_may_have_such_a_driver():
    cell = WeakCell(limjax.AsymmetricCell(0.2, lsb=0.5), 4.0)
    params, state = _trained(cell, jnp.array([1e4, -1e4]))
    g = float(cell.exchange(14.0))
    expected = [g * (np.exp(0.2 * 4) - np.exp(-0.8 * 4)), -g * (np.exp(0.8 * 4) - np.exp(-0.2 * 4))]
    np.testing.assert_allclose(np.asarray(params) / 0.5, expected, rtol=1e-5)
    assert limjax.total(limjax.get_ledger(state), "undelivered") == 2
    with pytest.raises(ValueError, match="has no driver_affinity"):
        limjax.AsymmetricCell().reach(jnp.asarray(10.0))


def test_settings_say_it():
    settings = RunSettings.of(get_task("quadratic"), steps=20, hops="mean", max_affinity=1e-3)
    assert RunSettings.from_json(settings.to_json()) == settings
    assert float(settings.cell().max_affinity) == pytest.approx(1e-3)
    with pytest.raises(ValueError, match="max_affinity"):
        RunSettings.of(get_task("quadratic"), memory_device="ecram", max_affinity=3.0)


@pytest.mark.slow
@pytest.mark.optax
def test_a_run_has_it_in_its_ledger():
    settings = RunSettings.of(get_task("quadratic"), steps=20, hops="mean", max_affinity=1e-3)
    result = execute(prepare(settings, compare=()))
    assert limjax.total(limjax.get_ledger(result.state), "undelivered") > 0


def test_what_cannot_be_asked_for_again_is_refused():
    cell = limjax.ArrheniusCell(max_affinity=4.0)
    used = limjax.ConsolidatingBarrier(14.0, limjax.UseRule())
    with pytest.raises(ValueError, match="rule of use"):
        limjax.learning_in_memory(optax.sgd(0.1), cell, used, keep_undelivered=True).init(jnp.zeros(2))
    kept = limjax.learning_in_memory(optax.sgd(0.1), cell, limjax.StaticBarrier(14.0), keep_undelivered=True)
    with pytest.raises(ValueError, match="bfloat16"):
        kept.init(jnp.zeros(2, jnp.bfloat16))


def test_a_leaf_that_is_not_updated_keeps_what_it_is_owed():
    cell = limjax.ArrheniusCell(lsb=1.0, max_affinity=4.0)
    opt = limjax.learning_in_memory(optax.sgd(1.0), cell, limjax.StaticBarrier(16.0), keep_undelivered=True)
    params = {"a": jnp.zeros(3), "b": jnp.zeros(3)}
    ten = jax.tree.map(lambda p: p - 10.0, params)
    _, state = opt.update(ten, opt.init(params), params)
    owed = np.asarray(state.residual[0])
    assert (owed > 5).all()
    _, state = opt.update({"a": None, "b": ten["b"]}, state, params)
    np.testing.assert_array_equal(state.residual[0], owed)
    assert (np.asarray(state.residual[1]) > owed).all()


def test_a_cell_without_such_a_driver_is_the_cell_of_earlier_runs():
    """Its fingerprint is that of a cell which lacks the field, so that runs from before it go on."""
    for bits, last in ((None, "None"), (8, "*")):
        cell = limjax.ArrheniusCell(bits=bits)
        now = str(jax.tree.structure(cell))
        assert now.endswith(f"{last}, None]))")
        before = now[: -len(", None]))")] + "]))"
        assert of_structure(cell) == hashlib.blake2b(f"{len(before)}:{before}".encode(), digest_size=12).hexdigest()
        assert of_structure(cell) != of_structure(limjax.ArrheniusCell(bits=bits, max_affinity=3.0))
