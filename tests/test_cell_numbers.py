"""What a cell takes and refuses, its leaves, and derivatives of every order."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from unchecked import unchecked_types

import limjax
from limjax import ArrheniusCell
from limjax.numerics.checks import checked_leaf
from limjax.physics.actuation import finite_time_excess, free_energy
from limjax.physics.units import thermal_energy_joules

# k0 τ = 1e6, in numbers float32 holds exactly.
CELL = ArrheniusCell(attempt_rate=1e9, step_time=2.0**-10)
# Barriers for g = 1e6 ... 1e-30 of that cell, and requests up to the end of the ladder's range.
LOG_ATTEMPTS = math.log(1e9 * 2.0**-10)
BARRIERS = (LOG_ATTEMPTS - np.linspace(math.log(1e6), math.log(1e-30), 90)).astype(np.float32)
DRIFTS = np.concatenate([[0.0], np.geomspace(1e-12, 1e6, 90)]).astype(np.float32)

# Errors.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"lsb": 0.0}, ["lsb", "0.0", "2**-10"]),
        ({"lsb": -1.0}, ["lsb", "-1.0", "2**-10"]),
        ({"lsb": math.nan}, ["lsb", "nan"]),
        ({"lsb": 1e-60}, ["lsb", "1e-60", "float32"]),
        ({"lsb": "fine"}, ["lsb", "'fine'", "2**-10"]),
        ({"lsb": None}, ["lsb", "None"]),
        ({"attempt_rate": 0.0}, ["attempt_rate", "0.0", "1e9"]),
        ({"attempt_rate": math.inf}, ["attempt_rate", "inf", "1e9"]),
        ({"step_time": -1e-3}, ["step_time", "-0.001", "1e-3"]),
        ({"temperature": -300.0}, ["temperature", "-300.0", "300.0"]),
        ({"temperature": 0}, ["temperature", "0", "300.0"]),
        ({"recovery": 1.5}, ["recovery", "1.5", "from 0 to 1"]),
        ({"recovery": -0.1}, ["recovery", "-0.1"]),
        ({"min_barrier": -1.0}, ["min_barrier", "-1.0", "kT"]),
        ({"max_barrier": math.nan}, ["max_barrier", "nan", "kT"]),
        ({"min_barrier": 20.0, "max_barrier": 10.0}, ["min_barrier", "20.0", "10.0"]),
        ({"levels": (5, 5)}, ["levels", "(5, 5)"]),
        ({"levels": (0, 10), "bits": 4}, ["levels", "bits", "not both"]),
        ({"bits": 0}, ["bits", "0", "24"]),
        ({"bits": 30}, ["bits", "30", "24"]),
        ({"bits": 2.5}, ["bits", "2.5"]),
        ({"temperature": np.array([300.0, -1.0])}, ["temperature", "-1.0"]),
    ],
)
def test_wrong_numbers_are_named(arguments, said):
    with unchecked_types(), pytest.raises(ValueError) as error:
        ArrheniusCell(**arguments)
    for word in said:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda c: c.retention_barrier(0.0), ["time", "0.0"]),
        (lambda c: c.retention_barrier(1.0, 0.0), ["failure", "0.0", "1e-4"]),
        (lambda c: c.retention_barrier(1.0, 1.0), ["failure", "1.0"]),
        (lambda c: c.retention_barrier(1.0, cells=0.0), ["cells", "0.0"]),
        (lambda c: c.retention_time(-1.0), ["barrier", "-1.0", "kT"]),
        (lambda c: thermal_energy_joules(-1.0), ["temperature", "-1.0", "300.0"]),
        (lambda c: thermal_energy_joules(math.nan), ["temperature", "nan"]),
    ],
)
def test_wrong_arguments_are_named(call, said):
    with pytest.raises(ValueError) as error:
        call(CELL)
    for word in said:
        assert word in str(error.value)


def test_traced_values_are_checked_at_run_time():
    @eqx.filter_jit
    def heat(lsb):
        return ArrheniusCell(lsb=lsb).lsb

    assert float(heat(jnp.float32(0.5))) == 0.5
    with pytest.raises(RuntimeError, match="lsb must be a finite number above 0"):
        heat(jnp.float32(-0.5)).block_until_ready()


def test_traced_levels_are_taken_and_checked_at_run_time():
    levels = eqx.filter_jit(lambda a: ArrheniusCell(levels=(-a, 2 * a)).levels)
    assert levels(jnp.float32(3.0)).tolist() == [-3.0, 6.0]
    assert jax.jit(lambda w: limjax.PulsedCell(levels=w).levels)(3.0).tolist() == [-1.5, 1.5]
    with pytest.raises(RuntimeError, match=r"levels must be .* with lowest < highest, got traced"):
        levels(jnp.float32(-3.0)).block_until_ready()


# A pytree of leaves.


def test_every_number_is_a_differentiable_leaf():
    cell = ArrheniusCell(bits=8)
    leaves = jax.tree.leaves(cell)
    assert len(leaves) == 8 and all(leaf.dtype == jnp.float32 for leaf in leaves)

    def cost(cell):
        return cell.heat(1.0, 12.0) + cell.actuation(14.0, 10.0)

    with jax.numpy_dtype_promotion("standard"):
        gradient = jax.grad(cost)(cell)
    # dQ/d ln k0 = -2d²/A through ln g; the finite-time excess falls with the attempts as well.
    excess = float(finite_time_excess(jnp.float32(14.0), jnp.float32(10.0), cell.diffusion_per_step()))
    expected = -2 / float(cell.activity(1.0, 12.0)) - excess
    assert float(gradient.attempt_rate) * 1e9 == pytest.approx(expected, rel=1e-4)
    assert float(gradient.step_time) * 1e-3 == pytest.approx(expected, rel=1e-4)
    change = float(free_energy(jnp.float32(10.0)) - free_energy(jnp.float32(14.0)))
    assert float(gradient.recovery) == pytest.approx(change, abs=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_changing_a_number_does_not_recompile():
    calls = []

    @jax.jit
    def heat(cell, d, b):
        calls.append(None)
        return cell.heat(d, b)

    d, b = jnp.float32(1.0), jnp.float32(12.0)
    for temperature, rate, lsb in ((300.0, 1e9, 2**-10), (4, 1e7, 0.5), (77, 3e8, np.float64(1e-3)), (1, 1, 1)):
        heat(ArrheniusCell(lsb=lsb, attempt_rate=rate, temperature=temperature), d, b)
    assert len(calls) == 1


def test_one_cell_per_seed_by_vmap():
    cells = jax.vmap(lambda t: ArrheniusCell(attempt_rate=t))(jnp.asarray([1e8, 1e9, 1e10], jnp.float32))
    heat = jax.vmap(lambda cell: cell.heat(1.0, 20.0))(cells)
    single = [ArrheniusCell(attempt_rate=t).heat(1.0, 20.0) for t in (1e8, 1e9, 1e10)]
    np.testing.assert_allclose(heat, jnp.stack(single), rtol=1e-6)


def test_public_names():
    assert limjax.ArrheniusCell is ArrheniusCell


# Derivatives of every order, and energies where they leave the library.


@pytest.mark.parametrize(("drift", "barrier"), [(1.0, 10.0), (5.0, 12.0), (0.3, 14.0), (-2.0, 11.0)])
def test_second_derivatives_of_heat_against_differences(x64, drift, barrier):
    cell = ArrheniusCell()
    by_drift, by_barrier = jax.grad(cell.heat), jax.grad(cell.heat, 1)
    h = 1e-5
    for function, argument in ((by_drift, 0), (by_drift, 1), (by_barrier, 0), (by_barrier, 1)):
        up, down = ([drift, barrier], [drift, barrier])
        up = [x + h * (i == argument) for i, x in enumerate(up)]
        down = [x - h * (i == argument) for i, x in enumerate(down)]
        difference = float(function(*up) - function(*down)) / (2 * h)
        assert float(jax.grad(function, argument)(drift, barrier)) == pytest.approx(difference, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("barrier", [0.5, 10.0, 30.0, 60.0])
def test_second_derivatives_of_heat_at_rest_in_float32(barrier):
    """d²Q/dd² = 2/g at d = 0, up to 1e20; d²Q/dB² = 0 there, and finite everywhere."""
    cell = ArrheniusCell()
    curvature = jax.grad(jax.grad(cell.heat))(0.0, barrier)
    assert float(curvature) == pytest.approx(2 / 1e6 * math.exp(barrier), rel=1e-5)
    assert float(jax.grad(jax.grad(cell.heat, 1), 1)(0.0, barrier)) == 0.0
    for drift in (1e-25, 1e-3, 1.0, 1e4):
        assert np.isfinite(jax.hessian(lambda x: cell.heat(x[0], x[1]))(jnp.asarray([drift, barrier]))).all()


def test_hop_rates_of_a_shut_cell_in_float64(x64):
    up, down = ArrheniusCell().hop_rates(1e-28, 110.0)
    assert float(up - down) == pytest.approx(1e-28, rel=1e-12)
    assert float(up * down) == pytest.approx((1e6 * math.exp(-110.0)) ** 2, rel=1e-9)


def test_joules_under_jit_and_grad():
    cell = ArrheniusCell()
    assert cell.joules(1.0) == pytest.approx(1.380649e-23 * 300, rel=1e-7) and isinstance(cell.joules(1.0), float)
    assert float(jax.jit(lambda x: cell.joules(x))(2.0)) == pytest.approx(2 * cell.joules(1.0), rel=1e-6)
    slope = jax.grad(lambda t: ArrheniusCell(temperature=t).joules(1e10))(300.0)
    assert float(slope) == pytest.approx(1.380649e-13, rel=1e-6)
    np.testing.assert_allclose(cell.joules(np.ones(3)), np.full(3, cell.joules(1.0)))


@pytest.mark.parametrize("wrong", ["1", b"1", 1j, True, 10**400, [1, 2j], float("nan"), None])
def test_what_is_no_real_number_is_refused(wrong):
    """Behind the annotations that tests check, where NumPy would read "1" as a number and drop imaginary parts."""
    with pytest.raises(ValueError, match="lsb must be a finite number"):
        checked_leaf(wrong, "lsb", remedy="")


@pytest.mark.parametrize("make", [lambda n: limjax.StaticBarrier(n), lambda n: limjax.limits.bounds.precision(n)])
def test_a_number_of_hundreds_of_digits_is_refused_in_one_paragraph(make):
    with pytest.raises(ValueError, match=r"got 10+… \(401 characters\)\. ") as error:
        make(10**400)
    assert len(str(error.value)) < 300
