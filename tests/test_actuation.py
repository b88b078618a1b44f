"""Barrier moves against the partition function, quadrature of the friction, and finite differences."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

import limjax
from limjax.memory._field import PerLeaf, PerParameter
from limjax.physics.actuation import (
    actuation_work,
    finite_time_excess,
    free_energy,
    free_energy_slope,
    thermodynamic_length,
)
from limjax.training._result import _raise_kt


def exact_free_energy(barrier):
    """-ln of the mean of e^-U over one period; the series of 1 - i0e keeps small barriers exact."""
    half = np.asarray(barrier, float) / 2
    w = half**2 / 4
    excess = sum(w**k / float(special.factorial(k)) ** 2 for k in range(1, 12))
    return np.where(half < 0.5, half - np.log1p(excess), -np.log(special.i0e(half)))


def friction(barrier, panels=200, order=16):
    """ζ(B) by quadrature of Π²/p; Π is integrated from the top, where it is smallest."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    width = 0.5 / panels
    x = width * (np.arange(panels)[:, None] + (nodes + 1) / 2)
    force = (np.cos(2 * np.pi * x) - 1) / 2
    density = np.exp(barrier * force) / special.i0e(barrier / 2)
    mean = (density * force * weights).sum() * width
    slope = density * (force - mean)
    coefficients = np.linalg.inv(np.polynomial.legendre.legvander(nodes, order - 1))
    to_end = np.empty((order, order))
    for j in range(order):
        integral = np.polynomial.legendre.legint(coefficients[:, j])
        to_end[:, j] = np.polynomial.legendre.legval(1, integral) - np.polynomial.legendre.legval(nodes, integral)
    panel = (slope * weights).sum(1) * width / 2
    beyond = np.r_[np.cumsum(panel[::-1])[::-1][1:], 0]
    cumulative = -(beyond[:, None] + slope @ to_end.T * width / 2)
    return 2 * (cumulative**2 / density * weights).sum() * width / 2


@pytest.fixture(scope="module")
def lengths():
    """Barriers and ℓ by quadrature of sqrt ζ."""
    nodes, weights = np.polynomial.legendre.leggauss(10)
    edges = np.r_[np.linspace(0, 2, 6), np.geomspace(2, 400, 31)[1:], 50.0]
    edges.sort()
    pieces = [
        (b - a) / 2 * sum(w * np.sqrt(friction(a + (b - a) * (t + 1) / 2)) for t, w in zip(nodes, weights))
        for a, b in itertools.pairwise(edges)
    ]
    return edges[1:], np.cumsum(pieces)


def test_reference_values(reference, x64):
    names = [name for name in reference if name.startswith("barrier_free_energy_")]
    assert len(names) == 7
    for name in names:
        entry = reference[name]
        value = free_energy(jnp.float64(entry["inputs"]["barrier_kT"]))
        assert float(value) == pytest.approx(entry["expected"]["work_kT"], rel=1e-12)


def test_reference_length(reference, x64):
    entry = reference["barrier_thermodynamic_length_0_50"]
    squared = finite_time_excess(jnp.float64(0.0), jnp.float64(50.0), 1.0)
    expected = entry["expected"]["length_squared"]
    assert float(squared) == pytest.approx(expected, **entry["tolerance"])


def test_free_energy_float32():
    barrier = np.r_[np.geomspace(1e-6, 1, 5000), np.linspace(0.9, 200, 100_000)].astype(np.float32)
    value = np.asarray(jax.jit(free_energy)(jnp.asarray(barrier)))
    assert value.dtype == np.float32
    assert np.max(np.abs(value / exact_free_energy(barrier) - 1)) < 1e-6


def test_free_energy_float32_from_zero_to_beyond_every_barrier():
    assert float(free_energy(jnp.float32(0.0))) == 0
    barrier = np.geomspace(1e-20, 1e12, 20_000).astype(np.float32)
    value = np.asarray(jax.jit(free_energy)(jnp.asarray(barrier)), np.float64)
    wide = barrier.astype(float)
    asymptotic = 0.5 * np.log(np.pi * wide) - 1 / (4 * wide)  # and beyond 1e4 kT nothing that float32 could hold
    exact = np.where(wide < 1e4, exact_free_energy(np.minimum(barrier, 1e4)), asymptotic)
    exact = np.where(wide < 1e-3, wide / 2 - wide**2 / 16, exact)
    np.testing.assert_allclose(value, exact, rtol=1e-6)


@pytest.mark.parametrize("move", [1e-3, 1.0, 40.0])
def test_work_float32_keeps_its_error_for_every_move(move):
    """Both ways, and within 5e-7 kT of the difference of two free energies in float64."""
    low = np.linspace(0, 60, 20_001).astype(np.float32)
    high = (low + np.float32(move)).astype(np.float32)
    exact = exact_free_energy(high) - exact_free_energy(low)
    work = jax.jit(actuation_work)
    np.testing.assert_allclose(work(jnp.asarray(low), jnp.asarray(high), 1.0), exact, rtol=0, atol=5e-7)
    np.testing.assert_allclose(work(jnp.asarray(high), jnp.asarray(low), 1.0), -exact, rtol=0, atol=5e-7)
    same = np.asarray(work(jnp.asarray(low), jnp.asarray(low), 1.0))
    assert not np.any(same) and not np.any(np.signbit(same))


def test_free_energy_float32_says_what_is_no_number():
    energy, work = jax.jit(free_energy), jax.jit(actuation_work)
    none, ever = jnp.float32(np.nan), jnp.float32(np.inf)
    assert np.isnan(energy(none)) and energy(ever) == np.inf
    for start, stop in ((none, 5.0), (5.0, none), (ever, ever)):
        assert np.isnan(work(jnp.float32(start), jnp.float32(stop), 1.0))
    assert work(jnp.float32(5.0), ever, 1.0) == np.inf
    # Of two dtypes the wider one is computed in.
    with jax.numpy_dtype_promotion("standard"):
        mixed = actuation_work(jnp.float32(3.0), jnp.asarray(10.0, jnp.bfloat16), 1.0)
    assert float(mixed) == pytest.approx(float(np.diff(exact_free_energy(np.array([3.0, 10.0])))[0]), abs=5e-7)


def test_free_energy_float64(x64):
    barrier = np.r_[np.geomspace(1e-9, 1, 5000), np.linspace(0.9, 1000, 100_000)]
    value = np.asarray(free_energy(jnp.asarray(barrier)))
    assert value.dtype == np.float64
    assert np.max(np.abs(value / exact_free_energy(barrier) - 1)) < 1e-13


def test_free_energy_limits(x64):
    assert float(free_energy(jnp.float64(0.0))) == 0
    large = jnp.float64(1e4)
    expected = 0.5 * np.log(np.pi * 1e4) - 1 / (4 * 1e4)
    assert float(free_energy(large)) == pytest.approx(expected, abs=1e-8)
    for ten_kt, value in ((10.0, 1.695), (40.0, 2.410), (60.0, 2.615)):
        assert float(free_energy(jnp.float64(ten_kt))) == pytest.approx(value, abs=5e-4)


def test_free_energy_derivatives(x64):
    barrier = jnp.array([0.0, 1e-8, 0.3, 0.999, 1.001, 5.0, 40.0, 200.0])
    first = jax.vmap(jax.grad(free_energy))(barrier)
    np.testing.assert_array_equal(first, free_energy_slope(barrier))
    half = np.asarray(barrier) / 2
    np.testing.assert_allclose(first, (1 - special.i1e(half) / special.i0e(half)) / 2, rtol=1e-12)
    step = 1e-4
    shifted = jnp.maximum(barrier, 2 * step)
    difference = (free_energy(shifted + step) - free_energy(shifted - step)) / (2 * step)
    np.testing.assert_allclose(jax.vmap(jax.grad(free_energy))(shifted), difference, rtol=1e-7)
    second = jax.vmap(jax.grad(jax.grad(free_energy)))
    difference = (free_energy_slope(shifted + step) - free_energy_slope(shifted - step)) / (2 * step)
    np.testing.assert_allclose(second(shifted), difference, rtol=1e-6, atol=1e-11)
    assert float(second(barrier)[0]) == -0.125


def test_slope_float32():
    barrier = np.linspace(0, 60, 20_001).astype(np.float32)
    half = barrier.astype(float) / 2
    exact = (1 - special.i1e(half) / special.i0e(half)) / 2
    value = np.asarray(free_energy_slope(jnp.asarray(barrier)))
    assert np.max(np.abs(value / exact - 1)) < 2e-5
    assert float(jax.grad(free_energy)(jnp.float32(0.0))) == 0.5


def test_friction_limits():
    assert np.sqrt(friction(0.0)) == pytest.approx(1 / (4 * np.sqrt(2) * np.pi), rel=1e-10)
    assert np.sqrt(friction(400.0)) == pytest.approx(400**-1.5 / (2 * np.sqrt(2) * np.pi), rel=5e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_length_against_quadrature(lengths, dtype, x64):
    barrier, exact = lengths
    value = np.asarray(thermodynamic_length(jnp.asarray(barrier, dtype)))
    assert value.dtype == dtype
    assert np.max(np.abs(value / exact - 1)) < 4e-4


def test_length_limits(x64):
    slope = jax.vmap(jax.grad(thermodynamic_length))
    assert float(slope(jnp.zeros(1))[0]) == pytest.approx(1 / (4 * np.sqrt(2) * np.pi), rel=1e-12)
    barrier = jnp.array([0.5, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0])
    exact = [np.sqrt(friction(float(b))) for b in barrier]
    np.testing.assert_allclose(slope(barrier), exact, rtol=1e-2)
    far = 1e8
    expected = 0.30990583 - 1 / (np.sqrt(2) * np.pi * np.sqrt(far))
    assert float(thermodynamic_length(jnp.float64(far))) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_work_of_a_cycle(dtype, x64):
    low, high = jnp.asarray(10.0, dtype), jnp.asarray(14.0, dtype)
    raised = float(exact_free_energy(14.0) - exact_free_energy(10.0))
    for recovery in (0.0, 0.3, 1.0):
        up = actuation_work(low, high, recovery)
        down = actuation_work(high, low, jnp.asarray(recovery, dtype))
        assert up.dtype == down.dtype == dtype
        assert float(up) == pytest.approx(raised, abs=5e-7)
        assert float(down) == pytest.approx(-recovery * raised, abs=5e-7)
        assert float(actuation_work(high, high, recovery)) == 0
    # physics.md: a swing between 10 and 14 kT without recovery costs about ½ ln 1.4.
    assert raised == pytest.approx(0.5 * np.log(1.4), rel=0.06)


def test_work_gradients(x64):
    start, stop = jnp.float64(10.0), jnp.float64(14.0)
    gradient = jax.grad(actuation_work, argnums=(0, 1))
    np.testing.assert_allclose(gradient(start, stop, 0.5), (-free_energy_slope(start), free_energy_slope(stop)))
    np.testing.assert_allclose(gradient(stop, start, 0.5), (-free_energy_slope(stop) / 2, free_energy_slope(start) / 2))
    assert all(jnp.isfinite(g) for g in gradient(jnp.float64(0.0), jnp.float64(0.0), 0.5))


def test_finite_time_excess_shapes():
    start, stop = jnp.zeros(3), jnp.array([0.0, 10.0, 50.0])
    excess = finite_time_excess(start, stop, jnp.float32(2.0))
    assert excess.shape == (3,) and excess.dtype == jnp.float32
    np.testing.assert_allclose(excess, finite_time_excess(stop, start, 2.0), rtol=1e-6)
    assert float(excess[0]) == 0


def test_slow_ramp_costs_the_excess_beyond_free_energy(x64):
    """Fokker-Planck solution of a slow barrier ramp from 2 to 8 kT along the optimal profile."""
    points, steps, duration = 64, 1500, 4.0
    x = (np.arange(points) + 0.5) / points - 0.5
    shape = (1 - np.cos(2 * np.pi * x)) / 2
    fine = np.linspace(2, 8, 400)
    length = np.asarray(thermodynamic_length(jnp.asarray(fine)))
    ramp = np.interp(np.linspace(length[0], length[-1], steps + 1), length, fine)
    density = np.exp(-2 * shape)
    density /= density.sum()
    work = 0.0
    identity = np.eye(points)
    forward = np.roll(identity, 1, axis=0)
    for before, after in itertools.pairwise(ramp):
        work += (after - before) * (density @ shape)
        up = points**2 * np.exp(-after * (np.roll(shape, -1) - shape) / 2)
        down = points**2 * np.exp(-after * (np.roll(shape, 1) - shape) / 2)
        generator = forward * up + forward.T * down - np.diag(up + down)
        density = np.linalg.solve(identity - duration / steps * generator, density)
    change = float(free_energy(jnp.float64(8.0)) - free_energy(jnp.float64(2.0)))
    # The left-point sum adds half a step times the mean force lost, known exactly to first order.
    slope = np.asarray(free_energy_slope(jnp.asarray(ramp)))
    discretisation = (np.diff(ramp) * slope[:-1]).sum() - change
    excess = work - change - discretisation
    expected = float(finite_time_excess(jnp.float64(2.0), jnp.float64(8.0), duration))
    assert excess == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("field", "value", "rates"),
    [
        (PerLeaf, [4.0, 28.0], 1e9),  # leaves of two parameters and of four
        (PerParameter, [[28.0, 4.0], [[4.0, 4.0], [28.0, 4.0]]], [1e9, 1e12]),
    ],
)
def test_the_last_raise_is_the_mean_work_over_the_heights(field, value, rates):
    """The work is concave: from the mean of 4 and 28 kT it would be a third too small."""
    params = {"a": jnp.ones(2), "b": jnp.ones((2, 2))}
    # So slow a step that the excess of a finite time is nothing.
    cell = limjax.ArrheniusCell(attempt_rate=jnp.asarray(rates), step_time=1e3)
    opt = limjax.learning_in_memory(optax.sgd(0.1), cell, limjax.StaticBarrier(10.0))
    memory = jax.eval_shape(opt.init, params)  # nothing but the heights is looked at
    given = [jnp.asarray(block) for block in value] if field is PerParameter else jnp.asarray(value)
    state = memory._replace(barrier=memory.barrier._replace(height=field(given)))
    if field is PerParameter:
        heights = np.concatenate([np.ravel(block) for block in value])
    else:
        heights = np.repeat(value, [2, 4])
    retention = np.log(np.asarray(rates) * 10 * 365.25 * 86400 / -np.log1p(-1e-4))
    works = exact_free_energy(np.resize(retention, 6)) - exact_free_energy(heights)
    assert _raise_kt(cell, state, params) == pytest.approx(works.mean(), rel=1e-5)
