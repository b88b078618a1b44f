"""Trajectories against Gaussian theory, an independent solver and the fluctuation relations."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from limjax.simulate import (
    CosineWashboard,
    LinearProtocol,
    MovingTrap,
    QuarticDoubleWell,
    SplineProtocol,
    StiffnessTrap,
    SwitchedDoubleWell,
    TrappedDoubleWell,
    constant_protocol,
    crooks,
    detailed_balance,
    equilibrium,
    jarzynski,
    mean_with_error,
    moments,
    moving_trap_linear_work,
    overdamped,
    positions,
    reversed_protocol,
    tur,
    underdamped,
)
from limjax.simulate._langevin import normals


def noise(key, step, count):
    return normals(key, jnp.asarray(step, jnp.int32), (count,), jnp.result_type(float))


def gauss(key, count, variance=1.0):
    return math.sqrt(variance) * jax.random.normal(jax.random.key(key), (count,))


def within(value, expected, error, deviations=4.5):
    """True if a sample mean agrees; 4.5 standard errors fail once in 150,000 checks."""
    return abs(value - expected) < deviations * error


# Work and heat.


@pytest.mark.parametrize("method", ["heun", "euler"])
def test_work_of_a_dragged_trap_is_gaussian_with_its_reference_moments(reference, method):
    expected = reference["moving_trap_linear_protocol"]["expected"]
    n = 40_000
    run = overdamped(
        MovingTrap(), LinearProtocol(0.0, 5.0, 1.0), gauss(0, n), jax.random.key(1), steps=400, method=method
    )
    work, error = mean_with_error(run.work)
    assert within(work, expected["mean_work"], error, 5)
    assert within(float(jnp.var(run.work)), expected["var_work"], expected["var_work"] * math.sqrt(2 / n))
    # First law, trajectory by trajectory.
    assert float(jnp.max(jnp.abs(run.work - run.heat - run.energy_change))) < 1e-4
    assert moving_trap_linear_work(5.0, 1.0) == pytest.approx(expected["mean_work"], rel=1e-12)


def test_jumps_of_the_protocol_are_exact():
    """All of the change in one jump: the work is the energy difference where the particle stands."""
    start = gauss(0, 1000)
    run = overdamped(
        MovingTrap(), LinearProtocol(0.0, 2.0, 0.5, [2.0, 2.0]), start, jax.random.key(1), steps=50, observer=positions
    )
    assert np.allclose(run.work, 0.5 * (start - 2) ** 2 - 0.5 * start**2, atol=1e-5)
    assert np.allclose(run.energy_change, 0.5 * (run.position - 2) ** 2 - 0.5 * start**2, atol=1e-5)


def test_jarzynski_on_a_quench_and_a_slow_drag(reference):
    entry = reference["stiffness_quench_jarzynski"]
    n = 100_000
    quench = LinearProtocol(1.0, 4.0, 0.1, [4.0, 4.0])
    run = overdamped(StiffnessTrap(), quench, gauss(0, n), jax.random.key(1), steps=20)
    work, error = mean_with_error(run.work)
    assert within(work, entry["expected"]["mean_work"], error)
    check = jarzynski(run.work, entry["expected"]["delta_F"])
    assert abs(check.deviations) < 3 and check.standard_error < 0.01
    drag = overdamped(MovingTrap(), LinearProtocol(0.0, 1.0, 1.0), gauss(2, n), jax.random.key(3), steps=100)
    check = jarzynski(drag.work)
    assert abs(check.deviations) < 3 and check.standard_error < 0.01


def test_crooks_on_the_reference_drag():
    """Work of 9 kT with ΔF = 0: the exponential mean is out of reach of any sample, the two directions together are not."""
    drag = LinearProtocol(0.0, 5.0, 1.0)
    forth = overdamped(MovingTrap(), drag, gauss(0, 100_000), jax.random.key(1), steps=200)
    back = overdamped(MovingTrap(), reversed_protocol(drag), 5.0 + gauss(2, 100_000), jax.random.key(3), steps=200)
    check = crooks(forth.work, back.work)
    assert abs(check.slope.deviations) < 4 and abs(check.free_energy.deviations) < 4
    assert check.free_energy.standard_error < 0.1


def test_crooks_sees_a_free_energy_and_a_wrong_direction():
    squeeze = LinearProtocol(1.0, 4.0, 0.5)
    forth = overdamped(StiffnessTrap(), squeeze, gauss(0, 50_000), jax.random.key(1), steps=200)
    back = overdamped(StiffnessTrap(), reversed_protocol(squeeze), gauss(2, 50_000, 0.25), jax.random.key(3), steps=200)
    check = crooks(forth.work, back.work, math.log(2))
    assert abs(check.slope.deviations) < 4 and abs(check.free_energy.deviations) < 4
    wrong = crooks(back.work, forth.work, math.log(2))
    assert abs(wrong.free_energy.deviations) > 20


def test_work_in_two_dimensions_is_the_sum_over_the_axes():
    protocol = LinearProtocol([0.0, 0.0], [2.0, 1.0], 1.0)
    start = jax.random.normal(jax.random.key(0), (40_000, 2))
    run = overdamped(MovingTrap(), protocol, start, jax.random.key(1), steps=100)
    work, error = mean_with_error(run.work)
    assert within(work, moving_trap_linear_work(2.0, 1.0) + moving_trap_linear_work(1.0, 1.0), error)
    assert run.position.shape == (40_000, 2)


# Integrators.


def test_noise_is_white():
    z = jnp.stack([noise(jax.random.key(0), k, 50_000) for k in range(8)])
    corr = np.corrcoef(np.asarray(z))
    assert np.abs(corr - np.eye(8)).max() < 5 / math.sqrt(50_000)
    assert np.abs(np.corrcoef(z[0, :-1], z[0, 1:])[0, 1]) < 5 / math.sqrt(50_000)
    assert abs(float(jnp.var(z)) - 1) < 5 * math.sqrt(2 / 400_000)


@pytest.mark.parametrize(("method", "order"), [("heun", 2.0), ("euler", 1.0)])
def test_weak_order(x64, method, order):
    """Second moment of an Ornstein-Uhlenbeck process; the scheme is linear, so that its exact moment follows from x = ax + b ξ."""
    start = jnp.asarray([0.7])
    truth = 1 + (0.49 - 1) * math.exp(-2.0)

    def moment(steps):
        """The scheme's second moment, its coefficients taken from one step of the code itself."""
        dt = 1.0 / steps
        one = constant_protocol(0.0, dt)

        def step(x, key):
            return overdamped(MovingTrap(), one, x, key, steps=1, method=method).position

        key = jax.random.key(0)
        xi = float(noise(key, 0, 1)[0])
        shift = float(step(jnp.zeros(1), key)[0])
        a = float(step(jnp.ones(1), key)[0]) - shift
        b = shift / xi
        m = float(start[0]) ** 2
        for _ in range(steps):
            m = a * a * m + b * b
        return m

    errors = [abs(moment(n) - truth) for n in (8, 16, 32)]
    rates = [math.log2(errors[i] / errors[i + 1]) for i in range(2)]
    assert all(abs(rate - order) < 0.2 for rate in rates), (errors, rates)


def _step(x, dw, dt, method):
    """The schemes as the textbook writes them, in a quartic well."""
    force = jax.vmap(lambda x: -jax.grad(QuarticDoubleWell(height=1.0))(x, jnp.zeros(())))
    kick, a = math.sqrt(2) * dw, force(x)
    return x + 0.5 * dt * (a + force(x + dt * a + kick)) + kick if method == "heun" else x + dt * a + kick


@functools.partial(jax.jit, static_argnums=(1, 2))
def _path(increments, steps, method):
    start = jnp.full(increments.shape[1], 0.5)
    coarse = increments.reshape(steps, -1, increments.shape[1]).sum(1)
    return jax.lax.scan(lambda x, dw: (_step(x, dw, 0.5 / steps, method), None), start, coarse)[0]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["heun", "euler"])
def test_strong_order_is_one(x64, method):
    """Additive noise: both schemes converge path by path with order 1; the code's step is the one written here."""
    fine = 1024
    increments = math.sqrt(0.5 / fine) * jax.random.normal(jax.random.key(0), (fine, 2000))
    best = _path(increments, fine, "heun")
    errors = [float(jnp.sqrt(jnp.mean((_path(increments, n, method) - best) ** 2))) for n in (16, 32, 64)]
    rates = [math.log2(errors[i] / errors[i + 1]) for i in range(2)]
    assert all(0.85 < rate < 1.35 for rate in rates), (errors, rates)
    # One step of the library on its own noise is one step of the scheme above.
    key, dt = jax.random.key(3), 0.5 / 16
    start = jnp.full(2000, 0.5)
    run = overdamped(QuarticDoubleWell(height=1.0), constant_protocol(0.0, dt), start, key, steps=1, method=method)
    dw = math.sqrt(dt) * noise(key, 0, 2000)
    assert np.allclose(run.position, _step(start, dw, dt, method))


@pytest.mark.slow
@pytest.mark.optax
def test_agrees_with_diffrax(x64):
    """An independent solver on the same Brownian path comes to the same place."""
    diffrax = pytest.importorskip("diffrax")
    potential, dt, steps = QuarticDoubleWell(height=2.0), 1e-3, 500
    key = jax.random.key(5)
    dw = jnp.stack([math.sqrt(dt) * noise(key, k, 4) for k in range(steps)])
    path = jnp.concatenate([jnp.zeros((1, 4)), jnp.cumsum(dw, axis=0)])
    times = jnp.arange(steps + 1) * dt
    control = diffrax.LinearInterpolation(times, path)
    drift = diffrax.ODETerm(lambda t, x, _: -jax.vmap(jax.grad(potential), in_axes=(0, None))(x, jnp.zeros(())))
    shaking = diffrax.ControlTerm(lambda t, x, _: diffrax_identity(x), control)
    start = jnp.asarray([0.5, -0.3, 1.1, 0.0])
    solution = diffrax.diffeqsolve(
        diffrax.MultiTerm(drift, shaking), diffrax.Heun(), 0.0, dt * steps, dt, start, max_steps=steps + 1
    )
    run = overdamped(potential, constant_protocol(0.0, dt * steps), start, key, steps=steps)
    assert np.allclose(run.position, solution.ys[-1], atol=1e-8)


def diffrax_identity(x):
    return math.sqrt(2) * jnp.eye(x.shape[0])


def test_underdamped_thermostat_is_exact_for_a_free_particle():
    """BAOAB's Ornstein-Uhlenbeck step has no error in the velocity at any step."""
    n, damping, mass, time = 100_000, 0.7, 2.0, 1.5
    flat = StiffnessTrap()
    v0 = jnp.full(n, 1.3)
    run = underdamped(
        flat, constant_protocol(0.0, time), jnp.zeros(n), v0, jax.random.key(0), steps=3, damping=damping, mass=mass
    )
    kept = math.exp(-damping * time)
    variance = (1 - kept**2) / mass
    assert run.velocity is not None
    assert within(float(jnp.mean(run.velocity)), 1.3 * kept, math.sqrt(variance / n))
    assert within(float(jnp.var(run.velocity)), variance, variance * math.sqrt(2 / n))


def test_underdamped_moments_of_an_oscillator_and_second_order(x64):
    """Second moments against the exact Lyapunov solution; the error falls fourfold with half the step."""
    damping, stiffness, time = 1 / 7, 1.0, 3.0
    drift = np.array([[0.0, 1.0], [-stiffness, -damping]])
    spread = np.array([[0.0, 0.0], [0.0, 2 * damping]])
    settled = linalg.solve_continuous_lyapunov(drift, -spread)
    flow = linalg.expm(drift * time)
    start = np.diag([0.3, 0.2])
    truth = settled + flow @ (start - settled) @ flow.T

    def covariance(steps):
        """Moments of the scheme by its own linear map, taken from single steps of the code."""
        one = constant_protocol(stiffness, time / steps)
        key = jax.random.key(0)
        xi = float(noise(key, 0, 1)[0])

        def step(x, v):
            run = underdamped(StiffnessTrap(), one, jnp.asarray([x]), jnp.asarray([v]), key, steps=1, damping=damping)
            assert run.velocity is not None
            return np.array([float(run.position[0]), float(run.velocity[0])])

        shift = step(0.0, 0.0)
        a = np.stack([step(1.0, 0.0) - shift, step(0.0, 1.0) - shift], axis=1)
        b = (shift / xi)[:, None]
        c = start
        for _ in range(steps):
            c = a @ c @ a.T + b @ b.T
        return c

    errors = [np.abs(covariance(n) - truth).max() for n in (10, 20, 40)]
    assert all(3.4 < errors[i] / errors[i + 1] < 4.6 for i in range(2)), errors


def test_underdamped_drag_keeps_the_first_law_and_jarzynski():
    n = 50_000
    x, v = gauss(0, n), gauss(1, n)
    run = underdamped(MovingTrap(), LinearProtocol(0.0, 1.0, 2.0), x, v, jax.random.key(2), steps=100, damping=0.5)
    assert abs(jarzynski(run.work).deviations) < 3
    assert float(jnp.max(jnp.abs(run.work - run.heat - run.energy_change))) < 1e-4
    # Second law on the average.
    work, error = mean_with_error(run.work)
    assert work > -3 * error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("potential", "control", "low", "high"),
    [
        (QuarticDoubleWell(height=4.0), 0.0, -2.5, 2.5),
        (CosineWashboard(), [14.0, 0.0], -0.5, 0.5),
        (TrappedDoubleWell(), 0.2, -2.2, 2.2),
        (SwitchedDoubleWell(0.2), [0.5, 1.0], -6.0, 6.0),
    ],
    ids=["quartic", "washboard", "trapped", "switched"],
)
def test_equilibrium_is_stationary(potential, control, low, high):
    start = equilibrium(potential, control, jax.random.key(0), 40_000, low, high)
    run = overdamped(potential, constant_protocol(control, 0.05), start, jax.random.key(1), steps=500)
    for power in (1, 2):
        change, error = mean_with_error(run.position**power - start**power)
        assert within(change, 0.0, error)
    # Boltzmann average by quadrature.
    x = np.linspace(low, high, 20_001)
    u = np.asarray(jax.vmap(potential, in_axes=(0, None))(jnp.asarray(x, jnp.float32), jnp.asarray(control)), float)
    weight = np.exp(-(u - u.min()))
    mean, error = mean_with_error(start**2)
    assert within(mean, (weight * x**2).sum() / weight.sum(), error)


def test_equilibrium_obeys_detailed_balance_and_a_ring_current_does_not():
    potential = QuarticDoubleWell(height=2.0)
    start = equilibrium(potential, 0.0, jax.random.key(0), 50_000, -2.5, 2.5)
    run = overdamped(potential, constant_protocol(0.0, 0.2), start, jax.random.key(1), steps=400)
    bins = lambda x: np.digitize(np.asarray(x), [-0.7, 0.0, 0.7])  # noqa: E731
    check = detailed_balance(bins(start), bins(run.position), 4)
    assert abs(check.deviations) < 4
    tilted = overdamped(
        CosineWashboard(), constant_protocol([1.0, 3.0], 0.1),
        equilibrium(CosineWashboard(), [1.0, 0.0], jax.random.key(2), 50_000, -0.5, 0.5), jax.random.key(3), steps=400,
    )  # fmt: skip
    third = lambda x: np.floor(np.mod(np.asarray(x) + 0.5, 1.0) * 3).astype(int).clip(0, 2)  # noqa: E731
    first = equilibrium(CosineWashboard(), [1.0, 0.0], jax.random.key(2), 50_000, -0.5, 0.5)
    assert detailed_balance(third(first), third(tilted.position), 3).deviations > 20


def test_uncertainty_relation_of_a_driven_washboard():
    protocol = constant_protocol([2.0, 3.0], 2.0)
    start = equilibrium(CosineWashboard(), [2.0, 0.0], jax.random.key(0), 10_000, -0.5, 0.5)
    run = overdamped(CosineWashboard(), protocol, start, jax.random.key(1), steps=2000)
    check = tur(run.position - start, run.heat)
    assert check.value > 2 - 3 * check.standard_error


def test_observer_sees_moments_in_time():
    run = overdamped(
        MovingTrap(), constant_protocol(0.0, 1.0), jnp.full(50_000, 2.0), jax.random.key(0), steps=200,
        observer=moments, frames=4,
    )  # fmt: skip
    mean, variance = run.frames
    assert np.allclose(run.times, [0.25, 0.5, 0.75, 1.0])
    assert np.allclose(mean, 2 * np.exp(-run.times), atol=0.02)
    assert np.allclose(variance, 1 - np.exp(-2 * run.times), atol=0.03)


# Gradients.


@pytest.mark.slow
def test_pathwise_gradient_against_finite_differences(x64):
    start = gauss(0, 50).astype(jnp.float64)

    def cost(knots):
        protocol = LinearProtocol(0.0, 1.0, 1.0, knots)
        return jnp.mean(overdamped(QuarticDoubleWellInTrap(), protocol, start, jax.random.key(1), steps=40).work)

    knots = jnp.asarray([0.2, 0.5, 0.9])
    slope = jax.grad(cost)(knots)
    for i in range(3):
        step = jnp.zeros(3).at[i].set(1e-6)
        assert float(slope[i]) == pytest.approx(float((cost(knots + step) - cost(knots - step)) / 2e-6), rel=1e-6)


def QuarticDoubleWellInTrap():
    well = QuarticDoubleWell(height=1.0)
    return lambda x, c: well(x, c) + 0.5 * (x - c) ** 2


def _largest_buffer(steps):
    def cost(knots):
        protocol = LinearProtocol(0.0, 1.0, 1.0, knots)
        return jnp.mean(overdamped(MovingTrap(), protocol, jnp.zeros(2000), jax.random.key(0), steps=steps).work)

    compiled = jax.jit(jax.grad(cost)).lower(jnp.asarray([0.2, 0.8])).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_memory_of_a_gradient_grows_like_the_root_of_the_steps():
    few, many = _largest_buffer(625), _largest_buffer(10_000)
    assert many < 1.5 * math.sqrt(16) * few
    assert many < 0.1 * 10_000 * 2000 * 4


# Wrong input.


def test_errors_name_the_value_and_the_remedy():
    drag, start, key = LinearProtocol(0.0, 1.0, 1.0), jnp.zeros(10), jax.random.key(0)
    with pytest.raises(ValueError, match="duration"):
        LinearProtocol(0.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="knot"):
        LinearProtocol(0.0, 1.0, 1.0, [0.0, math.nan])
    with pytest.raises(ValueError, match="at least 2"):
        SplineProtocol(0.0, 1.0, 1.0, 1)
    with pytest.raises(ValueError, match="diffusion"):
        overdamped(MovingTrap(), drag, start, key, steps=10, diffusion=0.0)
    with pytest.raises(ValueError, match="steps"):
        overdamped(MovingTrap(), drag, start, key, steps=0)
    with pytest.raises(ValueError, match="damping"):
        underdamped(MovingTrap(), drag, start, start, key, steps=10, damping=-1.0)
    with pytest.raises((ValueError, TypeError), match="velocity"):
        underdamped(MovingTrap(), drag, start, jnp.zeros(9), key, steps=10, damping=1.0)
    with pytest.raises(ValueError, match=r"unstable.*Take more than 50 steps"):
        overdamped(MovingTrap(100.0), drag, start, key, steps=10)
    with pytest.raises(ValueError, match="unstable"):
        underdamped(MovingTrap(100.0), drag, start, start, key, steps=4, damping=1.0)
    with pytest.raises(ValueError, match="method"):
        overdamped(MovingTrap(), drag, start, key, steps=10, method="milstein")
    with pytest.raises(ValueError, match="frames"):
        overdamped(MovingTrap(), drag, start, key, steps=10, observer=positions, frames=3)
    bad = LinearProtocol(0.0, 1.0, 1.0)
    object.__setattr__(bad, "knots", jnp.asarray([0.0, jnp.nan]))
    with pytest.raises(ValueError, match="nan"):
        overdamped(MovingTrap(), bad, start, key, steps=10)
    with pytest.raises(ValueError, match="not finite for 1 of 3"):
        jarzynski(jnp.asarray([1.0, jnp.nan, 2.0]))
    with pytest.raises(ValueError, match="diffusion must be one number"):
        overdamped(MovingTrap(), drag, start, key, steps=10, diffusion=jnp.ones(10))
    with pytest.raises(ValueError, match="mass must be one number"):
        underdamped(MovingTrap(), drag, start, start, key, steps=10, damping=1.0, mass=jnp.ones(10))


@pytest.mark.parametrize(
    ("forward", "reverse", "says"),
    [
        ([5.0, 6.0], [3.0, 4.0], "does not overlap"),
        ([0.0, 1.0], [-5.0, -6.0], "does not overlap"),
        ([1.0, 2.0], [-1.0, 0.0], "does not overlap"),
        ([1.0, 1.0], [-1.0, -1.0], "1 kT in every run.*no spread"),
    ],
)
def test_crooks_refuses_work_that_any_slope_fits(forward, reverse, says):
    with pytest.raises(ValueError, match=says):
        crooks(np.asarray(forward), np.asarray(reverse))


def test_deviations_without_an_error_keep_their_sign():
    assert jarzynski(np.full(10, -1.0), 0.0).deviations == -math.inf
    assert jarzynski(np.full(10, 1.0), 0.0).deviations == math.inf
    assert jarzynski(np.full(10, 1.0), 1.0).deviations == 0


def test_a_step_is_judged_where_particles_move():
    """A trap of stiffness 100 would ask for 50 steps; here it is let go at once, before anything moves."""
    start = gauss(0, 8, 0.01)
    run = overdamped(StiffnessTrap(), LinearProtocol(100.0, 1.0, 1.0, [1.0, 1.0]), start, jax.random.key(1), steps=10)
    assert np.allclose(run.work, -99 / 2 * start**2, rtol=1e-5)


def test_trajectories_in_a_trace_of_the_key_alone():
    trap, drag, start, key = MovingTrap(), LinearProtocol(0.0, 1.0, 1.0), jnp.zeros(4), jax.random.key(0)
    one = jnp.asarray(1.0)
    for run in (
        lambda k: overdamped(trap, drag, start, k, steps=10, diffusion=one).work,
        lambda k: underdamped(trap, drag, start, start, k, steps=10, damping=1.0, mass=one).work,
    ):
        assert jax.eval_shape(run, key).shape == (4,)
    # The potential itself may be traced too, where nothing else is.
    closed = lambda a: overdamped(lambda x, c: a * x * x, drag, start, key, steps=1).work  # noqa: E731
    assert jax.eval_shape(closed, jnp.asarray(1.0)).shape == (4,)
