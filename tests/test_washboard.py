"""Washboard results against brute force, finite volumes, the Bessel closed form and their limits."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prose import words_of
from scipy import special

import limjax
from limjax.physics import washboard
from limjax.physics.washboard import kramers_exchange

# Compiled once per shape, as a user would.
arrhenius_ratio = jax.jit(washboard.arrhenius_ratio)
diffusion = jax.jit(washboard.diffusion)
effective_diffusion = jax.jit(washboard.effective_diffusion)
exchange = jax.jit(washboard.exchange)
log_effective_diffusion = jax.jit(washboard.log_effective_diffusion)
drift = jax.jit(washboard.drift)
ladder_heat_validity = jax.jit(washboard.ladder_heat_validity)
ladder_validity = jax.jit(washboard.ladder_validity)
validity_map = jax.jit(washboard.validity_map, static_argnums=(1, 2))

CASES = [(0.0, 3.0), (1.0, 0.5), (5.0, 2.0), (5.0, 40.0), (10.0, 7.0), (20.0, 20.0), (40.0, 60.0)]
TOLERANCES = (0.01, 0.05, 0.2)
TABLE = [2, 5, 10, 20, 40, 60, 80]
PAGE = words_of("ladder.md")


@pytest.fixture(scope="module")
def limits():
    """Limits of both kinds for the barriers of the page (first), a fine grid over its range, and a low one."""
    with jax.enable_x64(True):
        barrier = jnp.asarray(np.r_[TABLE, np.geomspace(2, 80, 50), 0.5])
        return {
            "barrier": barrier,
            "drift": validity_map(barrier, TOLERANCES, "drift"),
            "heat": validity_map(barrier, TOLERANCES, "heat"),
        }


def stratonovich(barrier, affinity, points=400):
    """The double integral itself: trapezoid in x, Gauss-Legendre in y."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    x = np.arange(points)[:, None] / points
    y = x + (nodes + 1) / 2

    def potential(z):
        return barrier / 2 * (1 - np.cos(2 * np.pi * z)) - affinity * z

    integral = (np.exp(potential(y) - potential(x)) @ weights / 2).mean()
    return -np.expm1(-affinity) / integral


def imaginary_bessel(barrier, affinity):
    """2 sinh(F/2)/|I_{iF/2π}(B/2)|² by the power series."""
    k = np.arange(200)
    z, order = barrier / 2, 1j * affinity / (2 * np.pi)
    logs = (2 * k + order) * np.log(z / 2) - special.gammaln(k + 1) - special.loggamma(k + 1 + order)
    return 2 * np.sinh(affinity / 2) / abs(np.exp(logs).sum()) ** 2


def finite_volumes(barrier, affinity, points):
    """Drift and diffusion of a fine hopping ring: stationary state, then the Poisson equation."""
    x = np.arange(points) / points
    u = barrier / 2 * (1 - np.cos(2 * np.pi * x))
    rise = np.roll(u, -1) - u - affinity / points
    up = points**2 * np.exp(-rise / 2)
    down = points**2 * np.exp(np.roll(rise, 1) / 2)
    forward = np.roll(np.eye(points), 1, axis=0)
    generator = forward * up + forward.T * down - np.diag(up + down)
    bordered = np.vstack([generator, np.ones(points) * points**2])
    density = np.linalg.lstsq(bordered, np.r_[np.zeros(points), points**2], rcond=None)[0]
    flux = (up - down) / points
    velocity = flux @ density
    # Variance rate: the hops themselves, and the correlation of hops with the local velocity later on.
    source = (forward @ (up * density) - forward.T @ (down * density)) / points - velocity * density
    memory = -np.linalg.lstsq(bordered, np.r_[source, 0.0], rcond=None)[0]
    return velocity, (up + down) @ density / points**2 / 2 + flux @ memory


@pytest.mark.parametrize("kt", [5, 10])
def test_reference_diffusion(reference, kt, x64):
    entry = reference[f"cosine_potential_diffusion_Eb{kt}"]
    barrier, rel = jnp.float64(entry["inputs"]["Eb_kT"]), entry["tolerance"]["rel"]
    expected = entry["expected"]
    assert float(effective_diffusion(barrier)) == pytest.approx(expected["Deff_over_D"], rel=rel)
    assert float(exchange(barrier, 1.0)) == pytest.approx(expected["hop_rate_each_way"], rel=rel)
    assert float(kramers_exchange(barrier, 1.0)) == pytest.approx(expected["kramers_hop_rate"], rel=rel)


def test_reference_drift(reference, x64):
    entry = reference["tilted_cosine_drift"]
    barrier, affinity = entry["inputs"]["Eb_kT"], entry["inputs"]["force_kT_per_L"]
    velocity = float(drift(jnp.float64(barrier), jnp.float64(affinity)))
    assert velocity == pytest.approx(entry["expected"]["mean_velocity"], rel=1e-6)
    assert affinity * velocity == pytest.approx(entry["expected"]["entropy_rate_kB"], rel=1e-6)


def test_drift_against_double_integral(x64):
    barrier, affinity = jnp.asarray(CASES).T
    exact = [stratonovich(*case) for case in CASES]
    np.testing.assert_allclose(drift(barrier, affinity), exact, rtol=1e-10)


def test_drift_against_bessel_function_of_imaginary_order(x64):
    barrier, affinity = jnp.asarray(CASES[1:]).T
    exact = [imaginary_bessel(*case) for case in CASES[1:]]
    # The series alternates in phase and loses some digits.
    np.testing.assert_allclose(drift(barrier, affinity), exact, rtol=1e-8)


@pytest.mark.slow
def test_against_finite_volumes(x64):
    cases = [(3.0, 1.0), (8.0, 6.0), (8.0, 25.0)]
    barrier, affinity = jnp.asarray(cases).T
    exact = np.stack([drift(barrier, affinity), diffusion(barrier, affinity)], axis=1)
    coarse = np.array([finite_volumes(*case, 60) for case in cases])
    fine = np.array([finite_volumes(*case, 120) for case in cases])
    np.testing.assert_allclose((coarse - exact) / (fine - exact), 4, rtol=0.1)  # second order
    np.testing.assert_allclose((4 * fine - coarse) / 3, exact, rtol=1e-3)


def test_small_and_large_tilt(x64):
    barrier = jnp.array([0.0, 1.0, 10.0, 40.0, 80.0, 200.0])
    tiny = jnp.full_like(barrier, 1e-7)
    np.testing.assert_allclose(drift(barrier, tiny) / 1e-7, effective_diffusion(barrier), rtol=1e-10)
    np.testing.assert_allclose(diffusion(barrier, tiny), effective_diffusion(barrier), rtol=1e-10)
    huge = jnp.full_like(barrier, 1e6)
    expected = 1 - np.pi**2 * np.asarray(barrier) ** 2 / (2 * 1e12)
    np.testing.assert_allclose(drift(barrier, huge) / 1e6, expected, rtol=1e-9)
    np.testing.assert_allclose(diffusion(barrier, huge), 1.0, rtol=1e-6)


def test_odd_and_broadcast(x64):
    barrier = jnp.array([0.0, 2.0, 10.0, 40.0])[:, None]
    affinity = jnp.array([-3.0, -1.0, 0.0, 1.0, 3.0])[None, :]
    value = drift(barrier, affinity)
    assert value.shape == diffusion(barrier, affinity).shape == (4, 5)
    np.testing.assert_array_equal(value, -value[:, ::-1])
    np.testing.assert_array_equal(value[:, 2], 0.0)


def test_float32_follows_float64(x64):
    barrier = np.array([0.0, 0.5, 2.0, 10.0, 40.0, 80.0])[:, None]
    affinity = np.array([1e-4, 0.4, 0.6, 1.0, 0.0, 160.0, 1000.0])[None, :]
    for function in (drift, diffusion):
        single = function(jnp.asarray(barrier, "float32"), jnp.asarray(affinity, "float32"))
        double = function(jnp.asarray(barrier), jnp.asarray(affinity.astype("float32").astype("float64")))
        assert single.dtype == jnp.float32
        np.testing.assert_allclose(single, double, rtol=3e-5)


def test_log_effective_diffusion(x64):
    barrier = np.array([0.0, 1e-3, 3.0, 80.0, 1000.0])
    exact = -2 * (barrier / 2 + np.log(special.i0e(barrier / 2)))
    np.testing.assert_allclose(log_effective_diffusion(jnp.asarray(barrier)), exact, atol=1e-12)
    single = log_effective_diffusion(jnp.asarray(barrier, "float32"))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, exact, rtol=1e-6, atol=1e-6)


def test_gradients(x64):
    step = 1e-5
    for barrier, affinity in [(0.0, 0.0), (0.0, 3.0), (5.0, 0.0), (5.0, 0.5), (20.0, 30.0), (5.0, 80.0)]:
        b, f = jnp.float64(barrier), jnp.float64(affinity)
        for function in (drift, diffusion):
            by_barrier, by_affinity = jax.grad(function, argnums=(0, 1))(b, f)
            # One-sided second-order differences in B: barriers are not negative.
            values = [float(function(b + k * step, f)) for k in range(3)]
            expected = (-3 * values[0] + 4 * values[1] - values[2]) / (2 * step)
            assert float(by_barrier) == pytest.approx(expected, rel=1e-5, abs=1e-9)
            expected = (float(function(b, f + step)) - float(function(b, f - step))) / (2 * step)
            assert float(by_affinity) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_uncertainty_relation(x64):
    barrier = jnp.array([0.0, 2.0, 10.0, 40.0])[:, None]
    affinity = jnp.array([0.1, 1.0, 10.0, 60.0, 200.0])[None, :]
    # D F >= v: variance of displacement times entropy production is at least twice its square.
    product = diffusion(barrier, affinity) * affinity / drift(barrier, affinity)
    assert bool(jnp.all(product >= 1 - 1e-12))


def test_ladder_validity(x64):
    barrier = jnp.array([5.0, 10.0, 20.0, 40.0, 80.0])
    fraction = jnp.full_like(barrier, 0.2)
    affinity = 2 * barrier * fraction
    ladder = 2 * exchange(barrier, 1.0) * jnp.sinh(affinity / 2)
    ratio = ladder_validity(barrier, fraction)
    np.testing.assert_allclose(ratio, ladder / drift(barrier, affinity), rtol=1e-11)
    np.testing.assert_allclose(ladder_validity(barrier, 0 * fraction), 1, rtol=1e-12)
    at_high_barrier = jnp.exp(affinity**2 / (2 * np.pi**2 * barrier))
    np.testing.assert_allclose(ratio[3:], at_high_barrier[3:], rtol=0.03)
    believed = 2 * jnp.arcsinh(drift(barrier, affinity) / (2 * exchange(barrier, 1.0)))
    heat = ladder_heat_validity(barrier, fraction)
    np.testing.assert_allclose(heat, believed / affinity, rtol=1e-11)
    assert float(ladder_heat_validity(barrier, 0 * fraction)[0]) == 1
    np.testing.assert_allclose(heat[4], 1 - 2 * 0.2 / np.pi**2, rtol=5e-3)


@pytest.mark.parametrize("quantity", ["drift", "heat"])
def test_validity_map_solves_its_equation(limits, quantity, x64):
    barrier, fraction = limits["barrier"][None], limits[quantity]
    assert fraction.shape == (3, len(limits["barrier"])) and fraction.dtype == jnp.float64
    if quantity == "drift":
        error = ladder_validity(barrier, fraction) - 1
    else:
        error = 1 - ladder_heat_validity(barrier, fraction)
    np.testing.assert_allclose(error, np.array(TOLERANCES)[:, None] + 0 * error, rtol=1e-8)


def test_validity_map_float32(limits):
    barrier = limits["barrier"].astype("float32")
    single = validity_map(barrier, TOLERANCES, "drift")
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, limits["drift"], rtol=3e-3)


def test_validity_map_refuses():
    with pytest.raises(ValueError, match="tolerances must lie"):
        validity_map(jnp.ones(2), (0.5,))


def test_prefactors(x64):
    barrier = jnp.array([5.0, 10.0, 40.0])
    ratio = kramers_exchange(barrier, 2.0) / exchange(barrier, 2.0)
    np.testing.assert_allclose(ratio, [1.1455, 1.0583, 1.0129], atol=1e-4)
    arrhenius = arrhenius_ratio(barrier, jnp.full_like(barrier, 10.0))
    expected = jnp.exp(10 - barrier) * exchange(jnp.full_like(barrier, 10.0), 1.0)
    np.testing.assert_allclose(arrhenius, expected / exchange(barrier, 1.0), rtol=1e-12)
    assert float(jnp.log(arrhenius[2])) == pytest.approx(-1.43, abs=0.01)


def page_table(heading):
    """Rows of numbers of the first table after a heading of the page."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if re.match(r"\| +\d", line)]
    return np.array([[float(cell) for cell in row.strip("|").split("|")] for row in rows])


@pytest.mark.parametrize(
    ("heading", "quantity"),
    [("How far the drift holds", "drift"), ("How far the heat holds", "heat")],
)
def test_page_states_the_limits(limits, heading, quantity):
    table = page_table(heading)
    assert table[:, 0].tolist() == TABLE
    np.testing.assert_allclose(table[:, 1:4], limits[quantity][:, : len(TABLE)].T, atol=5.1e-4)


def test_page_states_the_prefactors(x64):
    table = page_table("How far the exchange holds")
    barrier = jnp.asarray(table[:, 0])
    exact = exchange(barrier, 1.0)
    np.testing.assert_allclose(table[:, 1], kramers_exchange(barrier, 1.0) / exact, atol=5.1e-4)
    arrhenius = arrhenius_ratio(barrier, jnp.full_like(barrier, 10.0))
    np.testing.assert_allclose(table[:, 2], arrhenius, atol=5.1e-4)
    np.testing.assert_allclose(table[:, 3], jnp.log(arrhenius), atol=5.1e-3)


def test_page_states_the_examples(x64):
    text = " ".join(PAGE.split())
    for barrier, fraction in ((40.0, 0.65), (10.0, 1.0)):
        b, f = jnp.float64(barrier), jnp.float64(fraction)
        ratio, heat = float(ladder_validity(b, f)), float(ladder_heat_validity(b, f))
        sentence = f"At B = {barrier:.0f} kT and F/2B = {fraction:g} the drift is {ratio:.1f} times too"
        assert sentence in text
        assert f"heat {100 * (1 - heat):.1f} % too low" in text.split(sentence)[1][:100]


def test_page_states_what_the_ledger_books(x64):
    """The ledger's closed form against the washboard driven to the same move, by bisection of its drift."""
    cell = limjax.ArrheniusCell(attempt_rate=1e9, step_time=1e-3)
    diffusion_time = float(cell.diffusion_per_step())
    table = page_table("What the ledger books")
    assert table[:, 0].tolist() == [5, 10, 12, 15, 20, 30, 40, 60]
    for barrier, *printed in table:
        for move, ratio in zip((1e-3, 1.0), printed):
            low, high = np.log(1e-14), np.log(20 * barrier)
            for _ in range(60):
                middle = 0.5 * (low + high)
                is_enough = float(drift(jnp.float64(barrier), jnp.float64(np.exp(middle)))) * diffusion_time > move
                low, high = (low, middle) if is_enough else (middle, high)
            booked = float(cell.heat(jnp.float64(move), jnp.float64(barrier)))
            assert booked / (move * np.exp(low)) == pytest.approx(ratio, abs=5.1e-4)
    assert table[4, 1] == pytest.approx(1.934)
    assert "it books 1.93 times the heat of the cosine" in " ".join(PAGE.split())


def test_page_states_the_rules(limits):
    text = " ".join(PAGE.split())
    assert "below about 0.4 √B kT, within 5 % below 0.9 √B and within 20 % below 1.75 √B" in text
    assert "1 % for F/2B up to 0.048, within 5 % up to 0.22 and within 20 % up to 0.71" in text
    barrier, drift_limits, heat_limits = (np.asarray(limits[name])[..., :-1] for name in ("barrier", "drift", "heat"))
    affinity = (2 * np.sqrt(barrier) * drift_limits)[:, barrier >= 10]
    for row, rule in zip(affinity, (0.4, 0.9, 1.75)):
        assert rule < row.min() and row.max() < 1.15 * rule
    for row, rule in zip(heat_limits, (0.048, 0.22, 0.71)):
        assert rule <= row.min() < 1.02 * rule
