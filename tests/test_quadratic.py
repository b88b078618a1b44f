"""The core result: in a quadratic bowl the best barrier rises by the logarithm of the Lyapunov function.

A bowl with contraction rate a = 1 over the time T = 4 from m0 = 100 levels, and barriers that all end with the same
closed-form variance of 14.875 levels². The closed forms charge the mean path: m(t) = m0 e^-at, heat 2v asinh(v/2Γ) and
noise sqrt(v² + 4Γ²) of its speed v. A `mean` run requests just that, and its ledger must give their heat.

A run with hop noise requests a(m + ξ): it also relaxes the noise ξ it made, and pays for that. Its heat is therefore
larger than the closed form, and its final variance is larger wherever the spread is not small against m (here it is
not at the end: m² = 3.4, s = 14.9). What it must be follows from two moments, with the averages over ξ by
Gauss-Hermite quadrature (`moments` below); the simulation must agree with that within its standard error, and the
closed forms with it where the spread is small.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import brentq

import limjax
from limjax.tasks import quadratic

pytestmark = pytest.mark.optax

A, T, M0, VARIANCE = 1.0, 4.0, 100.0, 14.875004571
STEPS, CELLS = 2000, 32768
DT = T / STEPS
# The share of the way taken per step, so that the path is m0 e^-at at every step and not only for small ones.
PULL = -math.expm1(-A * DT)
LSB = 2.0**-10
CELL = limjax.ArrheniusCell(lsb=LSB, attempt_rate=1e9, step_time=1e-3)
X = math.exp(-A * T)
# 5.5 standard errors: false alarm 4e-8 for each normal statistic.
SIGMAS = 5.5


# Closed forms.


def lyapunov_heat(c):
    return 2 * M0 * (math.asinh(c) + c * math.asinh(1 / c) - X * math.asinh(c / X) - c * math.asinh(X / c))


def lyapunov_variance(c):
    slope = (math.asinh(1 / c) - math.asinh(X / c)) / c
    return M0 * X**2 * (math.sqrt(1 + (X / c) ** 2) / X - math.sqrt(1 + 1 / c**2) + slope)


def constant_heat(rate):
    def g(w):
        return w * math.asinh(w / (2 * rate)) - math.hypot(w, 2 * rate)

    return 2 * (g(A * M0) - g(A * M0 * X)) / A


def constant_variance(rate):
    def h(w):
        return -math.hypot(w, 2 * rate) / (2 * w**2) - math.asinh(2 * rate / w) / (4 * rate)

    return (A * M0 * X) ** 2 / A * (h(A * M0) - h(A * M0 * X))


def rate_matched_heat(kappa):
    return 2 * M0 * (1 - X) * math.asinh(1 / (2 * kappa))


def rate_matched_variance(kappa):
    return math.sqrt(1 + 4 * kappa**2) * M0 * (X - X**2)


def solve(variance, low, high):
    return brentq(lambda p: variance(p) - VARIANCE, low, high, xtol=1e-12)


C = solve(lyapunov_variance, 1e-4, 1.0)
RATE = solve(constant_variance, 1.0, 100.0)
KAPPA = solve(rate_matched_variance, 1e-3, 100.0)

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(61)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def moments(exchange_rate, noise_in_requests):
    """Final variance and heat of a run, step by step. `exchange_rate` is a function of time, m and s.

    Without noise in the requests these are the closed forms' assumptions; with it, what the simulation does.
    """
    m, s, heat = M0, 0.0, 0.0
    nodes, weights = (NODES, WEIGHTS) if noise_in_requests else (np.zeros(1), np.ones(1))
    for k in range(STEPS):
        g = exchange_rate(k * DT, m, s) * DT
        d = PULL * (m + math.sqrt(s) * nodes)
        heat += (weights * 2 * d * np.arcsinh(d / (2 * g))).sum()
        s = (1 - PULL) ** 2 * s + (weights * np.hypot(d, 2 * g)).sum()
        m *= 1 - PULL
    return s, heat


def barrier_of(exchange_rate):
    """B of an exchange rate Γ [1/time] in steps of DT."""
    return math.log(1e6) - math.log(exchange_rate * DT)


def measured_rate(start):
    return lambda t, m, s: start * (m * m + s) / M0**2


# Γ at the start for a barrier on the measured loss, so that the closed-form noise ends at VARIANCE.
MEASURED = brentq(lambda start: moments(measured_rate(start), False)[0] - VARIANCE, 1000.0, 4000.0, rtol=1e-6)


# name: barrier, the same as Γ(t, m, s), and the heat and variance of the closed form.
CASES = {
    "lyapunov": (
        lambda: limjax.ScheduledBarrier(lambda step: barrier_of(A * M0 / (2 * C)) + 2 * A * DT * step),
        lambda t, m, s: A * M0 * math.exp(-2 * A * t) / (2 * C),
        lyapunov_heat(C),
    ),
    "constant": (
        lambda: limjax.StaticBarrier(barrier_of(RATE)),
        lambda t, m, s: RATE,
        constant_heat(RATE),
    ),
    # Γ ∝ v of the mean path, as a timetable: a barrier that follows the requests of a noisy run follows the noise too.
    "rate-matched": (
        lambda: limjax.ScheduledBarrier(lambda step: barrier_of(KAPPA * A * M0) + A * DT * step),
        lambda t, m, s: KAPPA * A * M0 * math.exp(-A * t),
        rate_matched_heat(KAPPA),
    ),
    "measured": (
        lambda: limjax.LyapunovBarrier(barrier_of(MEASURED), decay=0.0),
        measured_rate(MEASURED),
        9.16,
    ),
}


def simulate(barrier, hops, cells, seed=0):
    """Final weights [levels], heat per cell and barrier per step of plain gradient descent on the task."""
    task = quadratic(cells=cells, start_levels=M0, lsb=LSB, rate=A)
    opt = limjax.learning_in_memory(
        optax.sgd(PULL / A * LSB**2), CELL, barrier, hops=hops, key=jax.random.key(seed), compare=()
    )

    def step(carry, _):
        params, state = carry
        loss, gradient = jax.value_and_grad(task.loss)(params, None)
        updates, state = opt.update(gradient, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), limjax.get_barrier(state)

    @jax.jit
    def run():
        params = task.init(jax.random.key(0))
        return jax.lax.scan(step, (params, opt.init(params)), None, length=STEPS)

    (params, state), heights = run()
    ledger = limjax.get_ledger(state)
    assert int(ledger.steps) == STEPS and limjax.total(ledger, "saturated") == 0
    assert limjax.total(ledger, "barrier_clipped") == 0
    return np.asarray(params["w"], np.float64) / LSB, limjax.per_parameter(ledger)["w"], np.asarray(heights)


def mean_path_heat(barrier):
    levels, heat, _ = simulate(barrier, "mean", 4)
    np.testing.assert_allclose(levels, M0 * X, rtol=2e-5)
    return heat[0]


def test_closed_forms_at_equal_variance(reference):
    """7.290 kT, 238.1 kT and 23.85 kT at the variance 14.875, and the ladder of costs they make."""
    entry = reference["lyapunov_optimal_m0_100_aT_4.000"]
    assert entry["inputs"]["final_variance"] == VARIANCE
    assert lyapunov_heat(C) == pytest.approx(entry["expected"]["heat_kT"], rel=entry["tolerance"]["rel"])
    assert constant_heat(RATE) == pytest.approx(238.1, abs=0.05)
    assert rate_matched_heat(KAPPA) == pytest.approx(23.85, abs=0.005)


@pytest.mark.parametrize(
    ("name", "tolerance"), [("lyapunov", 0.02), ("constant", 0.02), ("rate-matched", 0.02), ("measured", 0.03)]
)
def test_recursion_has_the_closed_forms_as_its_limit(name, tolerance):
    _, rate, expected = CASES[name]
    variance, heat = moments(rate, False)
    assert heat == pytest.approx(expected, rel=tolerance)
    assert variance == pytest.approx(VARIANCE, rel=0.005)


@pytest.mark.parametrize("name", ["lyapunov", "constant", "rate-matched"])
def test_heat_of_the_mean_path_is_the_closed_form(name):
    """Within 2 % (it is 0.2 %, from the finite steps)."""
    make, rate, expected = CASES[name]
    heat = mean_path_heat(make())
    assert heat == pytest.approx(expected, rel=0.02)
    assert heat == pytest.approx(moments(rate, False)[1], rel=1e-4)


def test_rate_matched_barrier_on_the_mean_path():
    """The policy that measures its speed gives what the timetable gives, because here the requests have no noise."""
    for granularity in ("parameter", "leaf"):
        barrier = limjax.RateMatchedBarrier(KAPPA, decay=0.0, granularity=granularity)
        assert mean_path_heat(barrier) == pytest.approx(rate_matched_heat(KAPPA), rel=0.02)


def test_lyapunov_barrier_on_a_noiseless_loss_is_the_optimum():
    barrier = limjax.LyapunovBarrier(barrier_of(A * M0 / (2 * C)), decay=0.0)
    assert mean_path_heat(barrier) == pytest.approx(lyapunov_heat(C), rel=0.02)


@pytest.mark.representatives(1)
@pytest.mark.parametrize("name", CASES)
def test_with_hop_noise(name):
    """Variance and heat of the simulation against the two moments, within 5.5 standard errors.

    The barrier on the measured loss costs about 9.16 kT on the mean path (3 %).
    """
    make, rate, expected = CASES[name]
    levels, heat, heights = simulate(make(), "gaussian", CELLS)
    variance, mean_heat = moments(rate, True)
    error = variance * math.sqrt(2 / CELLS)
    assert abs(levels.mean() - M0 * X) < SIGMAS * math.sqrt(variance / CELLS)
    assert abs(levels.var() - variance) < SIGMAS * error
    assert abs(heat.mean() - mean_heat) < SIGMAS * heat.std() / math.sqrt(CELLS)
    # The closed form leaves the spread out of the activity: up to 5 % of the variance in these runs.
    assert abs(levels.var() - VARIANCE) < 0.06 * VARIANCE + SIGMAS * error
    assert heat.mean() > expected
    # The barrier that this noisy run chose, on the mean path.
    table = jnp.asarray(heights)
    replay = mean_path_heat(limjax.ScheduledBarrier(lambda step: table[step]))
    assert replay == pytest.approx(expected, rel=0.03 if name == "measured" else 0.02)
    print(
        f"\n{name}: heat of the mean path {replay:.4f} kT (closed form {expected:.4f}), of the noisy run "
        f"{heat.mean():.3f} +- {heat.std() / math.sqrt(CELLS):.3f} (moments {mean_heat:.3f}); variance "
        f"{levels.var():.3f} +- {error:.3f} (moments {variance:.3f}, closed form {VARIANCE:.3f})"
    )


def test_exact_hops_have_the_same_variance_and_heat():
    """Poisson hops on the ladder, optimal barrier: same moments, within 5.5 standard errors."""
    cells = 8192
    make, rate, _ = CASES["lyapunov"]
    levels, heat, _ = simulate(make(), "exact", cells)
    np.testing.assert_array_equal(levels, np.round(levels))
    variance, mean_heat = moments(rate, True)
    assert abs(levels.mean() - M0 * X) < SIGMAS * math.sqrt(variance / cells)
    # Fourth moment from the sample: Poisson steps leave an excess kurtosis.
    centred = levels - levels.mean()
    error = math.sqrt((np.mean(centred**4) - levels.var() ** 2) / cells)
    assert abs(levels.var() - variance) < SIGMAS * error
    assert abs(heat.mean() - mean_heat) < SIGMAS * heat.std() / math.sqrt(cells)
    print(
        f"\nexact: heat {heat.mean():.3f} (moments {mean_heat:.3f}); variance {levels.var():.3f} (moments {variance:.3f})"
    )


def test_closed_form_of_the_variance_where_the_spread_is_small():
    """A shut barrier in a short run: s = 0.4 against m² = 1400; the simulation has the closed form's variance."""
    steps, t = 1000, 1.0
    pull = -math.expm1(-A * t / steps)
    x, rate = math.exp(-t), 0.3
    task = quadratic(cells=CELLS, start_levels=M0, lsb=LSB, rate=A)
    height = math.log(1e6) - math.log(rate * t / steps)
    opt = limjax.learning_in_memory(
        optax.sgd(pull * LSB**2), CELL, limjax.StaticBarrier(height), hops="gaussian", key=jax.random.key(5), compare=()
    )

    @jax.jit
    def run():
        def step(carry, _):
            params, state = carry
            updates, state = opt.update(jax.grad(task.loss)(params, None), state, params)
            return (optax.apply_updates(params, updates), state), None

        params = task.init(jax.random.key(0))
        return jax.lax.scan(step, (params, opt.init(params)), None, length=steps)[0]

    params, state = run()
    levels = np.asarray(params["w"], np.float64) / LSB

    def h(w):
        return -math.hypot(w, 2 * rate) / (2 * w**2) - math.asinh(2 * rate / w) / (4 * rate)

    def g(w):
        return w * math.asinh(w / (2 * rate)) - math.hypot(w, 2 * rate)

    variance = (M0 * x) ** 2 * (h(M0) - h(M0 * x))
    heat = 2 * (g(M0) - g(M0 * x))
    # Half a per mille of discretisation (the steps), and the statistics.
    assert abs(levels.var() - variance) < (1e-3 + SIGMAS * math.sqrt(2 / CELLS)) * variance
    assert limjax.total(limjax.get_ledger(state)) / CELLS == pytest.approx(heat, rel=5e-3)
