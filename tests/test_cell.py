"""One memory cell against float64 references, closed forms and the reference values."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unchecked import unchecked_types

from limjax import ArrheniusCell
from limjax.physics.actuation import finite_time_excess, free_energy
from limjax.physics.sizing import size_cell
from limjax.physics.units import YEAR_S, kt_to_electronvolts, kt_to_joules, thermal_energy_joules

# k0 τ = 1e6, in numbers float32 holds exactly.
CELL = ArrheniusCell(attempt_rate=1e9, step_time=2.0**-10)
# Barriers for g = 1e6 ... 1e-30 of that cell, and requests up to the end of the ladder's range.
LOG_ATTEMPTS = math.log(1e9 * 2.0**-10)
BARRIERS = (LOG_ATTEMPTS - np.linspace(math.log(1e6), math.log(1e-30), 90)).astype(np.float32)
DRIFTS = np.concatenate([[0.0], np.geomspace(1e-12, 1e6, 90)]).astype(np.float32)


@pytest.fixture(scope="module")
def grid():
    """Requests of both signs, barriers, and g from exactly those numbers in float64."""
    drift, barrier = np.meshgrid(np.concatenate([-DRIFTS, DRIFTS]), BARRIERS)
    # The cell's own ln(k0 τ) is a float32; what it does with it is what is tested here.
    log_attempts = float(CELL.log_attempts())
    assert log_attempts == pytest.approx(LOG_ATTEMPTS, abs=2e-6)
    g = np.exp(log_attempts - barrier.astype(np.float64))
    return drift, barrier, drift.astype(np.float64), g


def rounding(barrier):
    """Relative error of g from rounding ln g = ln(k0 τ) - B to a float32: half its last place, and a few ulp more."""
    return 2.0**-24 * np.abs(LOG_ATTEMPTS - barrier.astype(np.float64)) + 1e-6


def test_affinity_heat_and_activity_over_the_whole_range(grid):
    drift, barrier, d, g = grid
    half = np.arcsinh(d / (2 * g))
    tolerance = rounding(barrier)
    at = jnp.asarray(drift), jnp.asarray(barrier)
    affinity, heat, activity, exchange = jax.jit(
        lambda d, b: (CELL.affinity(d, b), CELL.heat(d, b), CELL.activity(d, b), CELL.exchange(b))
    )(*at)
    for got, expected in ((affinity, 2 * half), (heat, 2 * d * half), (activity, np.hypot(d, 2 * g)), (exchange, g)):
        assert got.dtype == jnp.float32
        error = np.abs(np.asarray(got, np.float64) - expected)
        assert (error <= tolerance * np.abs(expected) + 1e-37).all()
    assert (np.asarray(heat) >= 0).all()
    assert (np.asarray(heat)[d == 0] == 0).all()


def test_gradient_over_the_whole_range(grid):
    """dQ/dd = F + 2d/A, dQ/dB = 2d²/A, dA/dB = -4g²/A."""
    drift, barrier, d, g = grid
    a = np.hypot(d, 2 * g)
    flat = jnp.asarray(drift.ravel()), jnp.asarray(barrier.ravel())
    heat_d, heat_b = jax.jit(jax.vmap(jax.grad(CELL.heat, (0, 1))))(*flat)
    act_d, act_b = jax.jit(jax.vmap(jax.grad(CELL.activity, (0, 1))))(*flat)
    tolerance = 2 * rounding(barrier)
    for got, expected in (
        (heat_d, 2 * np.arcsinh(d / (2 * g)) + 2 * d / a),
        (heat_b, 2 * d * (d / a)),
        (act_d, d / a),
        (act_b, -4 * g * (g / a)),
    ):
        error = np.abs(np.asarray(got, np.float64).reshape(d.shape) - expected)
        assert (error <= tolerance * np.abs(expected) + 1e-37).all()


def test_gradient_is_finite_at_zero_request_for_every_barrier():
    for f in (CELL.heat, CELL.affinity, CELL.activity):
        slopes = jax.vmap(jax.grad(f, (0, 1)), (None, 0))(jnp.float32(0.0), jnp.asarray(BARRIERS))
        assert np.isfinite(slopes).all()
    slope = jax.vmap(jax.grad(CELL.heat, (0, 1)), (None, 0))(jnp.float32(0.0), jnp.asarray(BARRIERS))
    np.testing.assert_array_equal(slope, 0.0)


def test_float64(x64):
    cell = ArrheniusCell(attempt_rate=1e9, step_time=1e-3)
    barrier = jnp.linspace(0.0, 80.0, 41)[:, None] * jnp.ones((1, 60))
    drift = jnp.concatenate([jnp.zeros(1), jnp.geomspace(1e-12, 1e6, 59)])[None, :] * jnp.ones((41, 1))
    g, d = 1e6 * np.exp(-np.asarray(barrier)), np.asarray(drift)
    assert cell.heat(drift, barrier).dtype == jnp.float64
    np.testing.assert_allclose(cell.heat(drift, barrier), 2 * d * np.arcsinh(d / (2 * g)), rtol=3e-13)
    np.testing.assert_allclose(cell.activity(drift, barrier), np.hypot(d, 2 * g), rtol=3e-13)


def test_heat_against_finite_differences(x64):
    cell = ArrheniusCell()
    for d, b in ((0.3, 10.0), (-2.0, 15.0), (40.0, 3.0), (1e-3, 30.0)):
        by_d, by_b = jax.grad(cell.heat, (0, 1))(d, b)
        h = 1e-6 * max(abs(d), 1e-3)
        assert float(by_d) == pytest.approx(float(cell.heat(d + h, b) - cell.heat(d - h, b)) / (2 * h), rel=1e-6)
        assert float(by_b) == pytest.approx(float(cell.heat(d, b + 1e-5) - cell.heat(d, b - 1e-5)) / 2e-5, rel=1e-6)


def test_python_numbers_and_bfloat16():
    """Whole numbers and Python floats are taken as float32, bf16 is widened before anything is computed."""
    assert CELL.heat(1, 10).dtype == jnp.float32
    assert float(CELL.heat(1, 10)) == float(CELL.heat(1.0, 10.0))
    with jax.numpy_dtype_promotion("standard"):
        wide, narrow = CELL.heat(jnp.float32(0.3125), 12.0), CELL.heat(jnp.bfloat16(0.3125), 12.0)
        assert narrow.dtype == jnp.float32 and float(narrow) == float(wide)
        assert CELL.activity(jnp.bfloat16(1.0), jnp.bfloat16(12.0)).dtype == jnp.float32
        assert CELL.exchange(jnp.bfloat16(12.0)).dtype == jnp.float32
        assert CELL.actuation(jnp.bfloat16(10.0), jnp.bfloat16(14.0)).dtype == jnp.float32


# Invariants.


@given(st.floats(2.0**-20, 1e5, width=32), st.floats(0.0, 75.0, width=32))
def test_thermodynamic_uncertainty(d, barrier):
    """Q·A/d² >= 2, and it equals F coth(F/2); to the rounding of float32."""
    heat, activity = float(CELL.heat(d, barrier)), float(CELL.activity(d, barrier))
    affinity = float(CELL.affinity(d, barrier))
    product = heat / d * activity / d
    assert product >= 2 * (1 - 1e-6)
    assert product == pytest.approx(affinity / math.tanh(affinity / 2), rel=3e-6)


@given(st.floats(-1e5, 1e5, width=32), st.floats(0.0, 70.0, width=32))
def test_rates_obey_local_detailed_balance(d, barrier):
    """up - down = d, and ln(up/down) = F."""
    up, down = (float(x) for x in CELL.hop_rates(d, barrier))
    assert up - down == pytest.approx(d, rel=1e-6, abs=1e-6 * max(up, down))
    if min(up, down) > 1e-35:
        assert math.log(up / down) == pytest.approx(float(CELL.affinity(d, barrier)), abs=3e-5)


@given(st.floats(0.0, 70.0, width=32))
def test_barrier_inverts_exchange(barrier):
    assert float(CELL.barrier(CELL.log_exchange(barrier))) == pytest.approx(barrier, abs=2e-5)


def test_limits_of_open_and_shut_barrier():
    g = float(CELL.exchange(2.0))
    assert float(CELL.heat(1.0, 2.0)) == pytest.approx(1 / g, rel=1e-5)
    # The update wall: 2d (B - ln(k0 τ / d)).
    assert float(CELL.heat(3.0, 50.0)) == pytest.approx(6 * (50 - LOG_ATTEMPTS + math.log(3)), rel=1e-6)


def test_saturation_is_where_the_tilt_exceeds_the_barrier():
    """F/2 > B exactly when |d| > k0 τ (1 - e^-2B)."""
    for barrier in (0.5, 2.0, 10.0, 40.0):
        edge = math.exp(LOG_ATTEMPTS) * (1 - math.exp(-2 * barrier))
        for sign in (1, -1):
            assert not bool(CELL.is_saturated(sign * edge * (1 - 1e-4), barrier))
            assert bool(CELL.is_saturated(sign * edge * (1 + 1e-4), barrier))
    assert not bool(CELL.is_saturated(0.0, 0.0))


# Reference values.


def cell_with_exchange(g):
    """Attempts and barrier for one exchange, in float64."""
    return ArrheniusCell(attempt_rate=1e9, step_time=1e-3), math.log(1e6) - math.log(g)


@pytest.mark.parametrize(
    "name", ["cell_step_d1_g0.5", "cell_step_d0.01_g3.0", "cell_step_d2.0_g1e-06", "cell_step_d0.001_g1e-20", "cell_step_d50_g0.3"]
)  # fmt: skip
def test_reference_cell_steps(name, reference, x64):
    entry = reference[name]
    cell, barrier = cell_with_exchange(entry["inputs"]["exchange_hops"])
    d, rel = float(entry["inputs"]["drift_levels"]), entry["tolerance"]["rel"]
    assert float(cell.affinity(d, barrier)) == pytest.approx(entry["expected"]["affinity_kT"], rel=rel)
    assert float(cell.heat(d, barrier)) == pytest.approx(entry["expected"]["heat_kT"], rel=rel)
    assert float(cell.activity(d, barrier)) == pytest.approx(entry["expected"]["activity"], rel=rel)


def test_all_reference_cell_steps_are_tested(reference):
    assert sum(name.startswith("cell_step_") for name in reference) == 5


def test_reference_landauer(reference):
    entry = reference["landauer_bound_300K"]
    temperature, expected, rel = float(entry["inputs"]["T_K"]), entry["expected"], entry["tolerance"]["rel"]
    assert thermal_energy_joules(temperature) == pytest.approx(expected["kT_J"], rel=rel)
    assert kt_to_joules(math.log(2), temperature) == pytest.approx(expected["kT_ln2_J"], rel=rel)
    assert kt_to_electronvolts(math.log(2), temperature) == pytest.approx(expected["kT_ln2_eV"], rel=rel)
    assert ArrheniusCell(temperature=300.0).joules(1.0) == pytest.approx(expected["kT_J"], rel=rel)


def test_reference_biased_hopping(reference, x64):
    """Rates 3 and 1: a request of 2 at the exchange sqrt(3), for which the cell must give them back."""
    entry = reference["biased_hopping_entropy_rate_TUR"]
    plus, minus, expected = entry["inputs"]["k_plus"], entry["inputs"]["k_minus"], entry["expected"]
    rel = entry["tolerance"]["rel"]
    cell, barrier = cell_with_exchange(math.sqrt(plus * minus))
    d = plus - minus
    assert d == expected["net_rate"]
    up, down = cell.hop_rates(d, barrier)
    assert float(up) == pytest.approx(plus, rel=rel) and float(down) == pytest.approx(minus, rel=rel)
    heat, activity = float(cell.heat(d, barrier)), float(cell.activity(d, barrier))
    assert activity == pytest.approx(expected["diffusion_var_rate"], rel=rel)
    assert heat == pytest.approx(expected["entropy_rate_kB"], rel=rel)
    assert float(cell.affinity(d, barrier)) == pytest.approx(expected["affinity"], rel=rel)
    assert heat * activity / d**2 == pytest.approx(expected["tur_product"], rel=rel)


def test_reference_uncertainty_near_equilibrium(reference, x64):
    entry = reference["hopping_TUR_near_equilibrium_limit"]
    cell, barrier = cell_with_exchange(1.0)
    d = 2 * math.sinh(entry["inputs"]["affinity"] / 2)
    assert float(cell.affinity(d, barrier)) == pytest.approx(entry["inputs"]["affinity"], rel=1e-9)
    product = float(cell.heat(d, barrier) * cell.activity(d, barrier)) / d**2
    assert product == pytest.approx(entry["expected"]["tur_product"], rel=entry["tolerance"]["rel"])


@pytest.mark.parametrize("name", ["barrier_force_tradeoff_B40", "barrier_force_tradeoff_B20"])
def test_reference_force_against_barrier(name, reference, x64):
    entry = reference[name]
    inputs, rel = entry["inputs"], entry["tolerance"]["rel"]
    cell = ArrheniusCell(attempt_rate=inputs["attempt_rate_per_s"], step_time=1.0)
    d = inputs["required_net_rate_per_s"]
    assert float(cell.affinity(d, inputs["barrier_kT"])) == pytest.approx(
        entry["expected"]["force_per_step_kT"], rel=rel
    )
    assert float(cell.heat(d, inputs["barrier_kT"])) == pytest.approx(entry["expected"]["power_kT_per_s"], rel=rel)


@pytest.mark.parametrize("name", ["arrhenius_retention_10y_single_bit", "arrhenius_retention_10y_1Gb_1e-4"])
def test_reference_retention(name, reference, x64):
    entry = reference[name]
    inputs = entry["inputs"]
    cell = ArrheniusCell(attempt_rate=1 / inputs["attempt_time_s"])
    barrier = cell.retention_barrier(inputs["time_s"], inputs["fail_prob"], inputs["n_bits"])
    assert float(barrier) == pytest.approx(entry["expected"]["barrier_kT"], rel=entry["tolerance"]["rel"])


@pytest.mark.parametrize("barrier", ["0.5", "2", "5", "10", "20", "40", "60"])
def test_reference_free_energy_through_actuation(barrier, reference, x64):
    """What the cell charges for a raise from zero, less the finite-time excess, is the free energy."""
    entry = reference[f"barrier_free_energy_{barrier}"]
    stop = jnp.float64(entry["inputs"]["barrier_kT"])
    cell = ArrheniusCell()
    excess = finite_time_excess(jnp.float64(0.0), stop, cell.diffusion_per_step())
    work = float(cell.actuation(0.0, stop) - excess)
    assert work == pytest.approx(entry["expected"]["work_kT"], rel=entry["tolerance"]["rel"])
    assert 0 < float(excess) < 1e-5


# Retention and actuation.


def test_retention_in_float32():
    assert float(CELL.retention_barrier(10 * YEAR_S)) == pytest.approx(49.50, abs=5e-3)


@given(st.floats(1e-3, 1e12), st.floats(1e-6, 0.99), st.floats(1.0, 1e9))
def test_retention_barrier_and_time_are_inverse(time, failure, cells):
    # Below this time the barrier would have to be negative: the cell fails even without one.
    if time < -1.01 * math.log1p(-failure) / (1e9 * cells):
        return
    barrier = CELL.retention_barrier(time, failure, cells)
    assert float(CELL.retention_time(barrier, failure, cells)) == pytest.approx(time, rel=3e-5)


def test_retention_grows_as_it_should():
    base = float(CELL.retention_barrier(1.0))
    assert float(CELL.retention_barrier(math.e)) == pytest.approx(base + 1, abs=1e-5)
    assert float(CELL.retention_barrier(1.0, cells=math.e)) == pytest.approx(base + 1, abs=1e-5)
    assert float(CELL.retention_barrier(1.0, failure=1e-6)) == pytest.approx(base + math.log(100), abs=1e-3)


@pytest.mark.parametrize("recovery", [0.0, 0.3, 1.0])
def test_actuation_and_recovery(recovery):
    cell = ArrheniusCell(recovery=recovery)
    raised, lowered = float(cell.actuation(10.0, 14.0)), float(cell.actuation(14.0, 10.0))
    change = float(free_energy(jnp.float32(14.0)) - free_energy(jnp.float32(10.0)))
    excess = float(finite_time_excess(jnp.float32(10.0), jnp.float32(14.0), cell.diffusion_per_step()))
    assert raised == pytest.approx(change + excess, abs=1e-6)
    assert lowered == pytest.approx(-recovery * change + excess, abs=1e-6)
    assert float(cell.actuation(12.0, 12.0)) == 0.0


def test_consolidation_costs_about_two_and_a_half_kt():
    """From an open barrier of zero to ten years' retention: ½ ln(πB)."""
    assert float(CELL.actuation(0.0, 49.5)) == pytest.approx(0.5 * math.log(math.pi * 49.5), rel=0.01)


def test_sizing(x64):
    sizing = size_cell(bits=8, weight_range=2.0)
    assert sizing.levels == 256 and sizing.lsb == 2.0**-7
    assert sizing.retention_barrier_kt == pytest.approx(49.50, abs=5e-3)
    cell = ArrheniusCell(2.0**-7)
    assert sizing.update_kt_open == pytest.approx(float(cell.heat(1.0, 10.0)))
    assert sizing.update_kt_shut == pytest.approx(float(cell.heat(1.0, sizing.retention_barrier_kt)), rel=1e-6)
    assert sizing.actuation_joules == pytest.approx(cell.joules(sizing.actuation_kt))
    assert sizing.hold_seconds_open == pytest.approx(float(cell.retention_time(10.0)))
    assert sizing.landauer_kt == pytest.approx(8 * math.log(2))
    for wrong in (
        {"bits": 0},
        {"bits": 2.5},
        {"bits": True},
        {"bits": 25},
        {"weight_range": 0.0},
        {"temperature": -1.0},
    ):
        with unchecked_types(), pytest.raises(ValueError, match=r"got .*\."):
            size_cell(**wrong)
