"""The density equation against closed forms, the washboard's quadrature and trajectories."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limjax.physics.washboard import drift as washboard_drift
from limjax.physics.washboard import effective_diffusion
from limjax.simulate import (
    CosineWashboard,
    Grid,
    LinearProtocol,
    MovingTrap,
    QuarticDoubleWell,
    StiffnessTrap,
    TrappedDoubleWell,
    boltzmann,
    constant_protocol,
    fokker_planck,
    friction,
    full_control_erasure,
    generator,
    mean_with_error,
    moving_trap_linear_work,
    moving_trap_optimum,
    near_equilibrium_protocol,
    overdamped,
    relaxation_rates,
    stiffness_optimum,
    transport,
)
from limjax.simulate._density import _bernoulli

GRID = Grid(-7.0, 12.0, 200)


@pytest.mark.slow
@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("height", [4, 8])
def test_relaxation_rates_of_the_quartic_well(reference, height, wide):
    """The same in 32-bit programs: what is known is computed in float64."""
    entry = reference[f"quartic_double_well_rate_Eb{height}"]
    with jax.enable_x64(wide):
        rates = relaxation_rates(QuarticDoubleWell(height=float(height)), 0.0, Grid(-2.5, 2.5, 800), 2)
    assert 0 <= float(rates[0]) < 1e-9
    assert float(rates[1]) == pytest.approx(entry["expected"]["exact_relaxation_eigenvalue"], rel=2e-4)


def test_relaxation_rates_refuse_what_they_cannot_do():
    grid = Grid(-2.5, 2.5, 40)
    with pytest.raises(ValueError, match="diffusion must be a finite number above 0, got -1"):
        relaxation_rates(QuarticDoubleWell(height=4.0), 0.0, grid, diffusion=-1.0)
    with pytest.raises(ValueError, match="cannot be traced in 32-bit floats"):
        jax.jit(lambda h: relaxation_rates(QuarticDoubleWell(height=h), 0.0, grid))(4.0)
    with pytest.raises(ValueError, match="transport cannot be traced in 32-bit floats"):
        jax.jit(lambda b: transport(CosineWashboard(), [b, 1.0], Grid(0.0, 1.0, 20, True)).drift)(4.0)
    with jax.enable_x64(True):
        traced = jax.jit(lambda h: relaxation_rates(QuarticDoubleWell(height=h), 0.0, grid))(4.0)
    assert float(traced[1]) == pytest.approx(
        float(relaxation_rates(QuarticDoubleWell(height=4.0), 0.0, grid)[1]), rel=1e-6
    )


def test_closed_forms_refuse_wrong_numbers_and_keep_their_digits():
    for call in (
        lambda: moving_trap_linear_work(1.0, -1.0),
        lambda: moving_trap_optimum(1.0, 0.0),
        lambda: stiffness_optimum(-1.0, 1.0, 1.0),
        lambda: stiffness_optimum(1.0, 1.0, math.nan),
    ):
        with pytest.raises(ValueError, match="must be a positive number"):
            call()
    # t + e^-t - 1 = t²/2 - t³/6 + …
    assert moving_trap_linear_work(3.0, 1e-5) == pytest.approx(9 * (0.5 - 1e-5 / 6 + 1e-10 / 24), rel=1e-14)
    assert np.isfinite(stiffness_optimum(1e-9, 1.0, 1.0))


@pytest.mark.slow
def test_trajectories_relax_at_that_rate(reference):
    """An independent route to the eigenvalue: the population of one well decays."""
    rate = reference["quartic_double_well_rate_Eb4"]["expected"]["exact_relaxation_eigenvalue"]
    n = 20_000
    start = jnp.abs(
        jnp.asarray(
            np.random.default_rng(0).choice([1.0], n) + 0.15 * np.random.default_rng(1).normal(size=n), jnp.float32
        )
    )
    run = overdamped(
        QuarticDoubleWell(height=4.0), constant_protocol(0.0, 12.0), start, jax.random.key(0), steps=12_000,
        observer=lambda s: jnp.mean(jnp.sign(s.position)), frames=12,
    )  # fmt: skip
    slope = -np.polyfit(np.asarray(run.times)[1:], np.log(np.asarray(run.frames)[1:]), 1)[0]
    assert slope == pytest.approx(rate, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("barrier", "affinity"), [(0.5, 0.3), (4.0, 0.0), (4.0, 2.0), (10.0, 6.0)])
def test_transport_of_the_washboard_is_its_quadrature(x64, barrier, affinity):
    grid = Grid(-0.5, 0.5, 400, True)
    found = transport(CosineWashboard(), [barrier, affinity], grid)
    if affinity:
        exact = float(washboard_drift(jnp.asarray(barrier), jnp.asarray(affinity)))
        assert float(found.drift) == pytest.approx(exact, rel=1e-3)
    else:
        assert float(found.diffusion) == pytest.approx(float(effective_diffusion(jnp.asarray(barrier))), rel=1e-3)
        assert abs(float(found.drift)) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("barrier", [15.0, 10.0])
def test_transport_over_a_high_barrier_in_32_bit_programs(barrier):
    """The drift lies five orders below the rates between cells; both numbers against quadratures."""
    found = transport(CosineWashboard(), [barrier, 1.0], Grid(0.0, 1.0, 200, True))
    exact = float(washboard_drift(jnp.asarray(barrier), jnp.asarray(1.0)))
    assert found.drift.dtype == jnp.float32 and float(found.drift) == pytest.approx(exact, rel=2e-3)
    still = transport(CosineWashboard(), [barrier, 0.0], Grid(0.0, 1.0, 200, True))
    assert float(still.diffusion) == pytest.approx(float(effective_diffusion(jnp.asarray(barrier))), rel=2e-3)


@pytest.mark.parametrize("rise", [-200.0, -100.0, -5.0, 5.0, 39.0, 41.0, 60.0, 87.0, 89.0, 100.0, 1000.0])
def test_rates_between_cells_have_a_slope_at_any_rise(rise):
    """z/(e^z - 1) and its derivative, written with e^-|z|, which does not overflow."""
    small = math.exp(-abs(rise))
    value = abs(rise) * small / (1 - small) + max(-rise, 0.0)
    slope = small * (1 - abs(rise) - small) / (1 - small) ** 2
    found = jax.value_and_grad(_bernoulli)(jnp.asarray(rise))
    assert [float(x) for x in found] == pytest.approx([value, slope if rise > 0 else -1 - slope], rel=1e-5, abs=1e-36)


@pytest.mark.slow
def test_probability_is_kept_positive_and_boltzmann_is_stationary(x64):
    """Euler keeps positivity at any step; equilibrium does not move with either scheme."""
    sharp = jnp.zeros(200).at[30].set(1.0)
    jolt = LinearProtocol(0.0, 5.0, 1.0)
    run = fokker_planck(MovingTrap(), jolt, GRID, steps=5, start=sharp, scheme="euler")
    assert float(run.lowest) >= 0 and float(jnp.sum(run.probability)) == pytest.approx(1, abs=1e-12)
    for scheme in ("sdirk", "euler"):
        still = fokker_planck(MovingTrap(), constant_protocol(1.0, 3.0), GRID, steps=10, scheme=scheme)
        assert np.allclose(still.probability, boltzmann(MovingTrap(), 1.0, GRID), atol=1e-13)
        assert abs(float(still.entropy_production)) < 1e-12
    matrix = generator(MovingTrap(), 1.0, GRID)
    assert np.allclose(matrix.sum(axis=0), 0, atol=1e-10)
    assert np.allclose(matrix @ boltzmann(MovingTrap(), 1.0, GRID), 0, atol=1e-10)


@pytest.mark.slow
def test_work_converges_with_second_order_in_both_steps(x64):
    exact = moving_trap_linear_work(5.0, 1.0)
    drag = LinearProtocol(0.0, 5.0, 1.0)

    def work(cells, steps):
        return float(fokker_planck(MovingTrap(), drag, Grid(-7.0, 12.0, cells), steps=steps).work)

    in_time = [abs(work(3200, n) - work(3200, 640)) for n in (10, 20, 40)]
    assert all(3.3 < in_time[i] / in_time[i + 1] < 4.7 for i in range(2)), in_time
    in_space = [abs(work(n, 640) - exact) for n in (50, 100, 200)]
    assert all(3.3 < in_space[i] / in_space[i + 1] < 4.7 for i in range(2)), in_space
    assert work(800, 400) == pytest.approx(exact, rel=2e-4)


def test_first_and_second_law(x64):
    result = fokker_planck(StiffnessTrap(), LinearProtocol(1.0, 4.0, 0.3), Grid(-8.0, 8.0, 300), steps=200)
    assert float(result.work) == pytest.approx(float(result.heat + result.energy_change), abs=1e-12)
    assert float(result.entropy_production) > 0
    # Work beyond the free energy is what the entropy production says, up to how far the end is from equilibrium.
    assert float(result.work) > math.log(2)
    slow = fokker_planck(StiffnessTrap(), LinearProtocol(1.0, 4.0, 200.0), Grid(-8.0, 8.0, 600), steps=2000)
    assert float(slow.work) == pytest.approx(math.log(2), abs=5e-3)


@pytest.mark.slow
def test_gradient_of_the_work_against_finite_differences(x64):
    def work(knots):
        protocol = LinearProtocol(0.0, 1.0, 1.0, knots)
        return fokker_planck(MovingTrap(), protocol, Grid(-6.0, 7.0, 60), steps=25).work

    knots = jnp.asarray([0.3, 0.45, 0.8])
    slope = jax.grad(work)(knots)
    for i in range(3):
        step = jnp.zeros(3).at[i].set(1e-5)
        assert float(slope[i]) == pytest.approx(float((work(knots + step) - work(knots - step)) / 2e-5), rel=1e-6)


def test_float32_agrees_with_float64():
    drag = LinearProtocol(0.0, 5.0, 1.0)
    single = float(fokker_planck(MovingTrap(), drag, GRID, steps=200).work)
    with jax.enable_x64(True):
        double = float(fokker_planck(MovingTrap(), LinearProtocol(0.0, 5.0, 1.0), GRID, steps=200).work)
    assert single == pytest.approx(double, rel=1e-4)


# Slow driving.


@pytest.mark.slow
def test_friction_of_the_stiffness_trap(reference, x64):
    entry = reference["harmonic_stiffness_friction"]
    grid = Grid(-9.0, 9.0, 1500)
    for k in (1.0, 2.0, 4.0):
        assert float(friction(StiffnessTrap(), k, grid)) == pytest.approx(1 / (4 * k**3), rel=2e-4)
    assert entry["expected"]["friction_at_k1"] == 0.25
    inputs = entry["inputs"]
    protocol, excess = near_equilibrium_protocol(StiffnessTrap(), inputs["k_i"], inputs["k_f"], inputs["tau"], grid)
    assert excess == pytest.approx(entry["expected"]["L2_over_tau"], rel=1e-3)
    # That is what slow driving costs beyond the free energy, from the density equation.
    work = float(fokker_planck(StiffnessTrap(), protocol, Grid(-8.0, 8.0, 800), steps=2000).work)
    assert work - math.log(2) == pytest.approx(excess, rel=0.06)


@pytest.mark.slow
def test_crossing_reproduces_linear_and_near_equilibrium_values(reference):
    entry = reference["engel_barrier_crossing_10kT"]
    grid = Grid(-2.2, 2.2, 600)
    linear = float(fokker_planck(TrappedDoubleWell(), LinearProtocol(-1.0, 1.0, 44.0), grid, steps=2000).work)
    assert linear == pytest.approx(entry["expected"]["W_linear_FP"], rel=entry["tolerance"]["rel"])
    slow, excess = near_equilibrium_protocol(TrappedDoubleWell(), -1.0, 1.0, 44.0, grid)
    assert excess == pytest.approx(entry["expected"]["friction_length_sq_over_T"], rel=entry["tolerance"]["rel"])
    work = float(fokker_planck(TrappedDoubleWell(), slow, grid, steps=2000).work)
    assert work == pytest.approx(entry["expected"]["W_near_equilibrium_protocol_FP"], rel=entry["tolerance"]["rel"])


# Full control.


@pytest.mark.parametrize("time", ["0.01", "0.1", "1.0", "10.0"])
def test_full_control_erasure(reference, x64, time):
    expected = reference["full_control_bit_erasure_quartic_Eb4"]["expected"]
    found = full_control_erasure(QuarticDoubleWell(height=4.0), 0.0, -2.5, 2.5, float(time), cells=2000)
    assert found.work == pytest.approx(expected[f"full_control_tau_{time}"], rel=5e-3)
    assert found.local_equilibrium_work == pytest.approx(expected[f"local_eq_tau_{time}"], rel=5e-3)
    # No better end exists nearby: any mixture with local equilibrium's quantiles costs more.
    assert found.work <= found.local_equilibrium_work


class _Transported:
    """The potential that moves each quantile at constant speed: U = -ln p - (1/D) ∫ velocity, on a grid in time and space."""

    def __init__(self, start, stop, time, grid, frames):
        share = (np.arange(frames) + 0.5) / frames
        x = np.asarray(grid.centers)
        rows = []
        for s in share:
            place = (1 - s) * start + s * stop
            speed = (stop - start) / time
            density = 1 / start.size / np.gradient(place)
            middle = -np.log(density)
            flow = np.concatenate([[0.0], np.cumsum(0.5 * (speed[1:] + speed[:-1]) * np.diff(place))])
            energy = middle - flow
            inside = np.interp(x, place, energy)
            # Beyond the last quantiles: walls.
            out = np.maximum(place[0] - x, 0) + np.maximum(x - place[-1], 0)
            rows.append(inside + 400 * out**2 + 30 * out)
        self.table = jnp.asarray(np.stack(rows))
        self.grid = grid

    def __call__(self, x, control):
        row = jnp.clip(jnp.floor(control * self.table.shape[0]).astype(jnp.int32), 0, self.table.shape[0] - 1)
        return jnp.interp(x, self.grid.centers, jnp.take(self.table, row, axis=0))


@pytest.mark.slow
def test_full_control_erasure_runs_as_promised(x64):
    """The optimal potential put into the density equation: what it dissipates is W2²/(D τ)."""
    time, grid = 1.0, Grid(-2.2, 2.2, 1100)
    found = full_control_erasure(QuarticDoubleWell(height=4.0), 0.0, -2.5, 2.5, time, cells=8000)
    moved = _Transported(found.start, found.stop, time, grid, 400)
    start = boltzmann(QuarticDoubleWell(height=4.0), 0.0, grid)
    run = fokker_planck(moved, LinearProtocol(0.0, 1.0, time), grid, steps=400, start=start)
    dissipated = np.mean((found.stop - found.start) ** 2) / time
    assert float(run.entropy_production) == pytest.approx(dissipated, rel=5e-3)
    right = float(jnp.sum(jnp.where(grid.centers > -0.02, run.probability, 0)))
    assert right > 0.98
    assert float(jnp.sum(grid.centers * run.probability)) == pytest.approx(found.stop.mean(), abs=0.01)


# Schmiedl and Seifert's closed forms.


def test_stiffness_optimum(reference):
    for first, last in ((1.0, 2.0), (2.0, 1.0)):
        entry = reference[f"schmiedl_seifert_stiffness_{first:g}_{last:g}_t1.0"]
        assert stiffness_optimum(first, last, 1.0) == pytest.approx(entry["expected"]["work"], rel=1e-7)


def test_errors():
    drag = LinearProtocol(0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="in order"):
        Grid(1.0, -1.0, 10)
    with pytest.raises(ValueError, match="at least 3"):
        Grid(-1.0, 1.0, 2)
    with pytest.raises(ValueError, match="scheme"):
        fokker_planck(MovingTrap(), drag, GRID, steps=10, scheme="rk4")
    with pytest.raises(ValueError, match="periodic"):
        fokker_planck(MovingTrap(), drag, Grid(0.0, 1.0, 10, True), steps=10)
    with pytest.raises(ValueError, match="periodic"):
        transport(CosineWashboard(), [1.0, 1.0], Grid(0.0, 1.0, 10))
    with pytest.raises(ValueError, match=r"diffusion must be one number.*shape \(200,\)"):
        fokker_planck(MovingTrap(), drag, GRID, steps=10, diffusion=jnp.ones(200))
    with pytest.raises(ValueError, match="steps"):
        fokker_planck(MovingTrap(), drag, GRID, steps=0)
    with pytest.raises(ValueError, match="positive"):
        full_control_erasure(QuarticDoubleWell(), 0.0, -2.0, 2.0, -1.0)
    assert mean_with_error(jnp.asarray([1.0, 3.0])) == (2.0, 1.0)
