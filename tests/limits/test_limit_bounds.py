"""Bounds of one operation on one cell against enumeration, quadrature, direct optimisation and the reference values."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limit_checks import check_gradient, nearest, quick_jit
from scipy import integrate, optimize, stats

from limjax import ArrheniusCell
from limjax.limits import bounds, mean_path
from limjax.physics.units import thermal_energy_joules


def close(value, entry, key):
    return float(value) == pytest.approx(entry["expected"][key], rel=entry["tolerance"]["rel"])


# Reference values.


def test_landauer(reference, x64):
    entry = reference["landauer_bound_300K"]
    joules = thermal_energy_joules(300.0)
    assert close(joules, entry, "kT_J")
    assert close(joules * float(bounds.erasure()), entry, "kT_ln2_J")
    assert close(joules * float(bounds.erasure()) / 1.602176634e-19, entry, "kT_ln2_eV")


def test_erasure_with_error(reference, x64):
    entry = reference["quasistatic_erasure_error_0.001"]
    energy, work = bounds.isothermal_lift(entry["inputs"]["error"])
    assert close(bounds.erasure(entry["inputs"]["error"]), entry, "min_work_kT")
    assert close(energy, entry, "isothermal_lift_energy_kT")
    assert close(work, entry, "isothermal_lift_work_kT")


def test_uncertainty_relation(reference, x64):
    entry = reference["biased_hopping_entropy_rate_TUR"]
    up, down = entry["inputs"]["k_plus"], entry["inputs"]["k_minus"]
    affinity = math.log(up / down)
    assert close(bounds.hopping_precision(affinity), entry, "tur_product")
    assert close(bounds.hop_affinity(down / (up + down)), entry, "affinity")
    entry = reference["hopping_TUR_near_equilibrium_limit"]
    assert close(bounds.hopping_precision(entry["inputs"]["affinity"]), entry, "tur_product")


@pytest.mark.parametrize("barrier", [20, 40])
def test_drive_over_a_barrier(reference, x64, barrier):
    entry = reference[f"barrier_force_tradeoff_B{barrier}"]
    given = entry["inputs"]
    force = bounds.drive(given["required_net_rate_per_s"], given["attempt_rate_per_s"], given["barrier_kT"])
    assert close(force, entry, "force_per_step_kT")
    assert close(force * given["required_net_rate_per_s"], entry, "power_kT_per_s")


def test_transport_of_gaussians(reference, x64):
    entry = reference["gaussian_transport_min_EP"]
    i = entry["inputs"]
    square = (i["m1"] - i["m0"]) ** 2 + (i["s1"] - i["s0"]) ** 2
    assert square == pytest.approx(entry["expected"]["W2_sq"], rel=entry["tolerance"]["rel"])
    assert close(bounds.transport(square, i["D"], i["tau"]), entry, "min_entropy_production_kB")


@pytest.mark.parametrize("speed", [10, 100])
def test_two_level_erasure(reference, x64, speed):
    entry = reference[f"two_level_optimal_erasure_G{speed}_eps0.1"]
    i = entry["inputs"]
    production, heat = bounds.two_level_erasure(i["total_rate_times_tau"], i["p0"], i["pf"])
    assert close(production, entry, "entropy_production_kB")
    assert close(heat, entry, "heat_kT")
    slow = bounds.slow_two_level_erasure(i["total_rate_times_tau"], i["p0"], i["pf"])
    assert close(slow, entry, "slow_limit_L2_over_Gt")
    assert slow < production


@pytest.mark.parametrize("name", ["arrhenius_retention_10y_single_bit", "arrhenius_retention_10y_1Gb_1e-4"])
def test_retention(reference, x64, name):
    i = reference[name]["inputs"]
    barrier = bounds.retention(i["time_s"], i["fail_prob"], i["n_bits"], 1 / i["attempt_time_s"])
    assert close(barrier, reference[name], "barrier_kT")
    assert bounds.retention(*jnp.asarray([1e8, 1e-4, 1.0, 1e9], jnp.float32), ways=2).dtype == jnp.float32
    kept = math.exp(-i["n_bits"] * i["time_s"] / i["attempt_time_s"] * math.exp(-float(barrier)))
    assert 1 - kept == pytest.approx(i["fail_prob"], rel=1e-6)


@pytest.mark.parametrize("barrier", ["0.5", "2", "5", "10", "20", "40", "60"])
def test_actuation(reference, x64, barrier):
    assert close(bounds.actuation(0.0, float(barrier)), reference[f"barrier_free_energy_{barrier}"], "work_kT")


# Independent routes.


def test_erasure_is_the_slow_lift_less_what_the_drop_returns(x64):
    """∫ p dE over the isothermal lift by quadrature, less ε E when the level drops back."""
    errors = np.concatenate([np.geomspace(1e-9, 0.4, 12), [0.49, 0.5]])
    energy, work = (np.asarray(v) for v in bounds.isothermal_lift(errors))
    occupied = lambda e: math.exp(-e) / (1 + math.exp(-e))  # noqa: E731
    lifted = np.array([integrate.quad(occupied, 0, e, epsabs=1e-13, epsrel=1e-12)[0] for e in energy])
    np.testing.assert_allclose(work, lifted, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(bounds.erasure(errors), lifted - errors * energy, rtol=1e-9, atol=1e-12)


def test_erasure_near_one_half_keeps_its_digits():
    """ln 2 - h(½(1-δ)) = δ²/2 + δ⁴/12 + δ⁶/30 + …, which float32 would lose as a difference."""
    for delta in (0.3, 0.1, 1e-2, 2.0**-12):
        series = sum(delta ** (2 * n) / (2 * n * (2 * n - 1)) for n in range(1, 60))
        assert float(bounds.erasure(0.5 * (1 - delta), 3.0)) == pytest.approx(3 * series, rel=3e-6)
    assert float(bounds.erasure(0.5)) == 0.0


def test_direction_and_precision_by_enumeration(x64):
    """Two Poisson counts of hops: heat, mean and variance from their joint distribution."""
    n = np.arange(120)
    for up, down in ((3.0, 1.0), (0.4, 0.3), (20.0, 1e-3)):
        p_up, p_down = stats.poisson.pmf(n, up), stats.poisson.pmf(n, down)
        net = n[:, None] - n[None, :]
        joint = p_up[:, None] * p_down[None, :]
        mean = (joint * net).sum()
        variance = (joint * net**2).sum() - mean**2
        wrong = down / (up + down)
        affinity = float(bounds.hop_affinity(wrong))
        heat = mean * affinity
        # of one hop: its net part carries the affinity
        assert heat / (up + down) == pytest.approx(float(bounds.direction_error(wrong)), rel=1e-9)
        relative = math.sqrt(variance) / mean
        assert heat * relative**2 == pytest.approx(float(bounds.hopping_precision(affinity)), rel=1e-9)
        assert heat >= float(bounds.precision(relative))


def test_hopping_precision_joins_its_series():
    affinity = np.geomspace(1e-6, 80.0, 200)
    expected = affinity / np.tanh(affinity / 2)
    np.testing.assert_allclose(bounds.hopping_precision(jnp.asarray(affinity, jnp.float32)), expected, rtol=5e-7)
    assert float(bounds.hopping_precision(0.0)) == 2.0


def test_drive_gives_the_rate_back():
    rate, barrier = (g.ravel() for g in np.meshgrid(np.geomspace(1e-6, 1e6, 13), np.linspace(0.0, 80.0, 9)))
    force = np.asarray(bounds.drive(rate.astype(np.float32), 1e9, barrier.astype(np.float32)), np.float64)
    log_rate = math.log(2e9) - barrier + force / 2 + np.log(-np.expm1(-force) / 2)
    np.testing.assert_allclose(log_rate, np.log(rate), atol=2e-5)


def test_transport_is_reached_by_steady_motion_and_by_nothing_else(x64):
    """Entropy production ∫∫ v²/D over the quantiles of two Gaussians, at constant and at uneven speed."""
    m0, s0, m1, s1, diffusion, time = 1.0, 2.0, 4.0, 0.5, 0.7, 3.0
    u = (np.arange(20000) + 0.5) / 20000
    z = stats.norm.ppf(u)
    square = np.mean((m1 + s1 * z - m0 - s0 * z) ** 2)
    least = float(bounds.transport((m1 - m0) ** 2 + (s1 - s0) ** 2, diffusion, time))
    assert square / diffusion / time == pytest.approx(least, rel=1e-3)
    # position ∝ (t/T)^1.5: the same distance, 9/8 of the production
    uneven = integrate.quad(lambda f: (1.5 * math.sqrt(f)) ** 2, 0, 1)[0]
    assert uneven == pytest.approx(9 / 8)
    assert uneven * square / diffusion / time > least


def test_jump_count_is_the_law_of_the_cell(x64):
    cell = ArrheniusCell()
    for d, barrier in ((0.3, 10.0), (2.0, 15.0), (40.0, 3.0), (1e-3, 30.0), (0.0, 5.0)):
        heat = float(cell.heat(d, barrier))
        assert float(bounds.jump_count(d, float(cell.activity(d, barrier)))) == pytest.approx(heat, rel=1e-6)


def path_of_two_level(log_k, p):
    """Speed -ṗ/Γ at occupation p on the optimal path: root of f² = K w (1-w), w = p - f."""
    k = math.exp(log_k)
    linear = k * (1 - 2 * p)
    return (-linear + math.sqrt(linear**2 + 4 * (1 + k) * k * p * (1 - p))) / (2 * (1 + k))


@pytest.mark.parametrize(("time", "p0", "pf"), [(1.7, 0.5, 0.1), (10.0, 0.5, 0.1), (8.0, 0.9, 1e-3), (50.0, 0.3, 0.29)])
def test_two_level_erasure_by_quadrature(x64, reference, time, p0, pf):
    """Time and production as integrals over p of the constant-K path, K by bisection."""

    def integral(f):
        # in ln p, which is what the last stretch of a fast path is smooth in
        return integrate.quad(lambda u: f(math.exp(u)) * math.exp(u), math.log(pf), math.log(p0), epsrel=1e-11)[0]

    def duration(log_k):
        return integral(lambda p: 1 / path_of_two_level(log_k, p))

    def force(p, w):
        return math.log(p * (1 - w) / (w * (1 - p)))

    log_k = optimize.brentq(lambda u: duration(u) - time, -25.0, 25.0, xtol=1e-13)
    if time == 10.0:
        entry = reference["two_level_optimal_erasure_G10_eps0.1"]
        assert math.exp(log_k) == pytest.approx(entry["expected"]["beltrami_constant"], rel=entry["tolerance"]["rel"])
    production = integral(lambda p: force(p, p - path_of_two_level(log_k, p)))
    got, heat = bounds.two_level_erasure(time, p0, pf)
    assert float(got) == pytest.approx(production, rel=1e-7)
    assert float(heat - got) == pytest.approx(stats.bernoulli.entropy(p0) - stats.bernoulli.entropy(pf), rel=1e-9)


def test_two_level_erasure_by_direct_minimisation(x64):
    """A drive in steps of constant w relaxes exactly and dissipates what D(p||w) falls by: none of 80 steps beats it."""
    time, p0, pf, n = 5.0, 0.5, 0.05, 80
    kept = math.exp(-time / n)

    @jax.jit
    @jax.value_and_grad
    def cost(inner):
        p = jnp.concatenate([jnp.array([p0]), jax.nn.sigmoid(inner), jnp.array([pf])])
        w = (p[1:] - kept * p[:-1]) / (1 - kept)
        safe = jnp.clip(w, 1e-9, 1 - 1e-9)
        heat = ((p[1:] - p[:-1]) * (jnp.log(safe) - jnp.log1p(-safe))).sum()
        return heat + 1e4 * jnp.abs(w - safe).sum()

    along = np.linspace(0, 1, n + 1)[1:-1]
    start = p0 * (pf / p0) ** along
    found = optimize.minimize(cost, np.log(start / (1 - start)), jac=True, method="L-BFGS-B", options={"maxiter": 5000})
    heat = float(bounds.two_level_erasure(time, p0, pf)[1])
    assert heat < found.fun < heat + 0.01


def test_slow_erasure_approaches_its_length(x64):
    ratio = [
        float(bounds.two_level_erasure(t, 0.5, 0.1)[0] / bounds.slow_two_level_erasure(t, 0.5, 0.1))
        for t in (1e2, 1e3, 1e4)
    ]
    assert np.diff(ratio).max() < 0 and ratio[-1] == pytest.approx(1, abs=1e-4) and min(ratio) > 1


@pytest.mark.parametrize(("p0", "pf"), [(0.5, 0.1), (0.5, 0.499), (1 - 1e-6, 0.3), (1e-3, 1e-9)])
def test_a_very_slow_erasure_costs_its_length(x64, p0, pf):
    length = math.asin(1 - 2 * pf) - math.asin(1 - 2 * p0)
    for time in (1e6, 1e8, 1e12):
        assert float(bounds.two_level_erasure(time, p0, pf)[0]) == pytest.approx(length**2 / time, rel=1e-4)


def test_traced_erasures_in_float32_may_take_ten_years():
    times = jnp.asarray([1e12, 3e17, 1e30], jnp.float32)
    found, slope = jax.jit(jax.vmap(jax.value_and_grad(lambda t: bounds.two_level_erasure(t, 0.5, 0.499)[0])))(times)
    length = math.asin(1 - 2 * 0.499)
    np.testing.assert_allclose(found, length**2 / times, rtol=1e-3)
    np.testing.assert_allclose(slope, -(length**2) / times**2, rtol=1e-3)


def test_an_erasure_that_hardly_lifts_the_level(x64):
    """Between occupations so near to 1 the speed is (1+K)/K of the least; K, and the duration, are those of one p."""
    p0, pf = 0.99999982, 0.99999979
    f = path_of_two_level(-2.0, 0.5 * (p0 + pf))
    got, _ = bounds.two_level_erasure((p0 - pf) / f, p0, pf)
    p, w = 0.5 * (p0 + pf), 0.5 * (p0 + pf) - f
    assert float(got) == pytest.approx((p0 - pf) * math.log(p * (1 - w) / (w * (1 - p))), rel=1e-2)


def test_actuation_is_the_free_energy_and_returns_the_recovered_share(x64):
    def free(barrier):
        mass = integrate.quad(lambda x: math.exp(-0.5 * barrier * (1 - math.cos(2 * math.pi * x))), 0, 1, epsrel=1e-12)
        return -math.log(mass[0])

    for start, stop in ((0.0, 3.0), (5.0, 30.0), (12.0, 4.0)):
        change = free(stop) - free(start)
        for recovery in (0.0, 0.4, 1.0):
            expected = change if change > 0 else recovery * change
            assert float(bounds.actuation(start, stop, recovery)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


# Infeasible and wrong.


def test_too_fast_an_erasure_names_the_shortest_time(reference, x64):
    entry = reference["two_level_erasure_infeasible"]
    i = entry["inputs"]
    with pytest.raises(ValueError, match=r"cannot fall from 0\.5 to 0\.01") as error:
        bounds.two_level_erasure(i["total_rate_times_tau"], i["p0"], i["pf"])
    shortest = float(bounds.two_level_minimum_time(i["p0"], i["pf"]))
    assert close(shortest, entry, "min_Gt")
    assert nearest(error.value, "rate_time is any above") == pytest.approx(shortest, rel=1e-5)
    assert np.isfinite(bounds.two_level_erasure(shortest * (1 + 1e-9), i["p0"], i["pf"])).all()
    with pytest.raises(ValueError, match="nearest feasible"):
        bounds.two_level_erasure(shortest * (1 - 1e-9), i["p0"], i["pf"])
    with pytest.raises(ValueError, match="stop must be below start"):
        bounds.two_level_erasure(10.0, 0.1, 0.5)
    assert np.isnan(quick_jit(bounds.two_level_erasure)(2.0, 0.5, 0.01)).all()


def test_fewer_hops_than_levels_are_refused():
    with pytest.raises(ValueError, match=r"got 1\.5 hops for 2 levels") as error:
        bounds.jump_count(2.0, 1.5)
    least = nearest(error.value, "number is any above")
    assert least == 2.0
    assert np.isfinite(bounds.jump_count(2.0, np.nextafter(np.float32(least), np.float32(3))))
    with pytest.raises(ValueError, match="nearest feasible"):
        bounds.jump_count(2.0, least)
    assert np.isnan(jax.jit(bounds.jump_count)(2.0, 1.5))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bounds.erasure(0.6), ("error", "0.6", "0 to 0.5")),
        (lambda: bounds.erasure(-0.1), ("error", "-0.1")),
        (lambda: bounds.erasure(0.1, bits=0), ("bits", "0")),
        (lambda: bounds.isothermal_lift(0.0), ("error", "0")),
        (lambda: bounds.direction_error(1.0), ("error", "1")),
        (lambda: bounds.precision(-1.0), ("relative_error", "-1")),
        (lambda: bounds.hopping_precision(-1.0), ("affinity", "-1")),
        (lambda: bounds.drive(0.0, 1e9, 10.0), ("net_rate", "0")),
        (lambda: bounds.drive(1.0, math.nan, 10.0), ("attempt_rate", "nan")),
        (lambda: bounds.transport(1.0, 1.0, 0.0), ("time", "0")),
        (lambda: bounds.jump_count(-1.0, 2.0), ("path", "-1")),
        (lambda: bounds.two_level_minimum_time(0.5, 1.0), ("stop", "1")),
        (lambda: bounds.retention(-1.0), ("time", "-1")),
        (lambda: bounds.retention(1.0, failure=1.0), ("failure", "1")),
        (lambda: bounds.actuation(-1.0, 5.0), ("start", "-1")),
        (lambda: bounds.actuation(1.0, 5.0, recovery=2.0), ("recovery", "2")),
    ],
)
def test_wrong_arguments_are_named(call, words):
    with pytest.raises(ValueError) as error:
        call()
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


# Derivatives and dtypes.

GRADIENTS = {
    "erasure": (lambda e, b: bounds.erasure(e, b), (0.01, 8.0)),
    "erasure near 1/2": (lambda e, b: bounds.erasure(e, b), (0.45, 8.0)),
    "isothermal_lift": (lambda e: sum(bounds.isothermal_lift(e)), (0.01,)),
    "direction_error": (bounds.direction_error, (0.01,)),
    "precision": (bounds.precision, (0.1,)),
    "hopping_precision": (bounds.hopping_precision, (2.0,)),
    "hopping_precision small": (bounds.hopping_precision, (0.05,)),
    "drive": (bounds.drive, (3.0, 1e9, 22.0)),
    "drive high": (bounds.drive, (3.0, 1e9, 50.0)),
    "transport": (bounds.transport, (2.0, 3.0, 4.0)),
    "jump_count": (bounds.jump_count, (1.0, 1.5)),
    "two_level_minimum_time": (bounds.two_level_minimum_time, (0.5, 0.1)),
    "two_level_erasure": (lambda *a: sum(bounds.two_level_erasure(*a)), (10.0, 0.5, 0.1)),
    "slow_two_level_erasure": (bounds.slow_two_level_erasure, (10.0, 0.5, 0.1)),
    "retention": (bounds.retention, (1e6, 1e-3, 10.0, 1e9)),
    "actuation up": (bounds.actuation, (3.0, 20.0, 0.5)),
    "actuation down": (bounds.actuation, (20.0, 3.0, 0.5)),
}


@pytest.mark.representatives(6)
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name):
    function, point = GRADIENTS[name]
    check_gradient(function, point)


def test_gradients_at_the_edges_are_finite():
    edges = quick_jit(
        lambda zero, half, one: (
            jax.grad(bounds.hopping_precision)(zero),
            jax.grad(bounds.jump_count)(zero, one),
            jax.grad(bounds.transport)(zero, one, one),
            jax.grad(bounds.erasure)(half),
            jax.grad(lambda b: bounds.erasure(zero, b))(one),
            jax.grad(lambda b: bounds.actuation(zero, b))(one),
        )
    )(0.0, 0.5, 1.0)
    assert np.isfinite(edges).all()


def test_arrays_and_grids():
    errors = np.array([1e-3, 1e-2, 0.1], np.float32)
    assert bounds.erasure(errors).shape == (3,)
    times = np.array([5.0, 2.0, 50.0], np.float32)
    grid = quick_jit(jax.vmap(jax.vmap(lambda t, p: bounds.two_level_erasure(t, 0.5, p)[0], (None, 0)), (0, None)))
    production = np.asarray(grid(times, errors))
    for (i, t), (j, p) in itertools.product(enumerate(times), enumerate(errors)):
        is_feasible = t > math.log(0.5 / p)
        assert np.isfinite(production[i, j]) == is_feasible
    with pytest.raises(ValueError, match=r"fall from 0\.5 to 0\.001 in a rate times time of 5"):
        bounds.two_level_erasure(5.0, 0.5, errors)


def test_wrong_values_among_traced_ones_are_nan():
    for function, values, good in (
        (bounds.erasure, [0.1, 0.6, -1.0], [1, 0, 0]),
        (lambda x: bounds.transport(x, 1.0, 1.0), [-1.0, 1.0, np.inf], [0, 1, 0]),
        (lambda x: bounds.retention(x), [0.0, 1e9], [0, 1]),
        (lambda x: bounds.two_level_erasure(10.0, x, 0.1)[0], [0.5, 0.05, 1.5], [1, 0, 0]),
        (lambda x: mean_path.minimum_variance(x, 1.0), [-1.0, 2.0], [0, 1]),
        (lambda x: mean_path.lyapunov(10.0, 1.0, x).heat_kt, [0.0, 2.0], [0, 1]),
    ):
        np.testing.assert_array_equal(np.isfinite(quick_jit(function)(jnp.asarray(values))), np.array(good, bool))


def test_two_level_erasure_beside_its_edge():
    """Known arguments are computed in float64: a billionth of the least time above it is an answer, less is refused."""
    shortest = math.log(1 / 0.9)
    near, _ = bounds.two_level_erasure(shortest * (1 + 1e-9), 0.5, 0.45)
    with jax.enable_x64(True):
        wide, _ = bounds.two_level_erasure(shortest * (1 + 1e-9), 0.5, 0.45)
    assert near.dtype == jnp.float32 and float(near) == pytest.approx(float(wide), rel=1e-6)
    with pytest.raises(ValueError, match="nearest feasible rate_time"):
        bounds.two_level_erasure(shortest * (1 + 1e-15), 0.5, 0.45)
    slow, _ = bounds.two_level_erasure(1e4 * math.log(1e9), 1e-3, 1e-12)
    assert float(slow) == pytest.approx(
        float(bounds.slow_two_level_erasure(1e4 * math.log(1e9), 1e-3, 1e-12)), rel=1e-3
    )
