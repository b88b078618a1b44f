"""The energy-speed-precision frontier against quadrature, direct optimisation, the quadratic task and its own inverses."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from limit_checks import check_gradient, nearest, quick_jit
from scipy import optimize

import limjax
from limjax.limits import bounds
from limjax.limits.frontier import APPROACHES, HEAT_FALLS_FROM, MAX_CONTRACTION
from limjax.tasks import quadratic

# Gauss-Legendre in 40 panels of 40 nodes over [0, 1].
NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)
NODES = ((np.arange(40)[:, None] + 0.5 * (NODES + 1)) / 40).ravel()
WEIGHTS = np.tile(WEIGHTS / 80, 40)

DISTANCES = np.array([2.0, 16.0, 256.0, 65536.0])
CONTRACTIONS = np.array([0.05, 1.0, 4.0, 6.654, 16.6, 30.0])
M0, AT = (grid.ravel() for grid in np.meshgrid(DISTANCES, CONTRACTIONS))


def by_quadrature(distance, contraction, exchange):
    """Heat ∫ 2v asinh(v/2Γ) dt and variance ∫ e^(-2a(T-t)) √(v²+4Γ²) dt, with T = 1; `exchange` is Γ(t, v)."""
    t = NODES
    v = contraction * distance * np.exp(-contraction * t)
    gamma = exchange(t, v)
    heat = 2 * v * np.arcsinh(v / (2 * gamma))
    noise = np.exp(-2 * contraction * (1 - t)) * np.hypot(v, 2 * gamma)
    return WEIGHTS @ heat, WEIGHTS @ noise


POINTS = 600


def heat_of(approach, *arguments):
    """Heat at up to 600 points, always compiled for 600."""
    columns = np.broadcast_arrays(*arguments)
    padded = [np.pad(column, (0, POINTS - len(column)), "edge") for column in columns]
    return np.asarray(bounds.approach_heat(approach, *padded))[: len(columns[0])]


def on_grid(exchange, *parameters):
    rows = [by_quadrature(m, a, lambda t, v, a=a, k=k: exchange(t, v, a, *k)) for m, a, *k in zip(M0, AT, *parameters)]
    return np.array(rows).T


# Closed forms.


@pytest.mark.parametrize("price", [1e-6, 1e-2, 0.5, 30.0, 1e6])
def test_lyapunov_against_quadrature(x64, price):
    heat, variance = bounds.lyapunov_at_price(M0, AT, np.full_like(M0, price))
    expected = on_grid(lambda t, v, a: v / np.sqrt(2 * price * np.exp(-2 * a * (1 - t))))
    np.testing.assert_allclose(heat, expected[0], rtol=1e-9)
    np.testing.assert_allclose(variance, expected[1], rtol=1e-9)


@pytest.mark.parametrize("ratio", [1e-4, 0.3, 2.0, 1e3])
def test_rate_matched_against_quadrature(x64, ratio):
    heat, variance = bounds.rate_matched_at_ratio(M0, AT, np.full_like(M0, ratio))
    expected = on_grid(lambda t, v, a: ratio * v)
    np.testing.assert_allclose(heat, expected[0], rtol=1e-9)
    np.testing.assert_allclose(variance, expected[1], rtol=1e-9)


@pytest.mark.parametrize("log_rate", [-30.0, -5.0, 0.0, 3.0, 9.0])
def test_constant_against_quadrature(x64, log_rate):
    """ΓT from e^-30 to e^9 hops."""
    heat, variance = bounds.constant_at_exchange(M0, AT, np.full_like(M0, log_rate))
    expected = on_grid(lambda t, v, a: math.exp(log_rate) * np.ones_like(t))
    np.testing.assert_allclose(heat, expected[0], rtol=1e-8)
    np.testing.assert_allclose(variance, expected[1], rtol=1e-8)


def test_static_is_a_constant_barrier_with_the_retention_barrier(x64):
    got = bounds.static_heat(M0, AT, np.full_like(M0, 49.5), np.full_like(M0, 1e13))
    heat, _ = bounds.constant_at_exchange(M0, AT, np.full_like(M0, math.log(1e13) - 49.5))
    np.testing.assert_allclose(got, heat, rtol=1e-12)
    # the update wall: two kT of heat per level for every kT of barrier
    higher = bounds.static_heat(M0, AT, np.full_like(M0, 50.5), np.full_like(M0, 1e13))
    np.testing.assert_allclose(higher - got, 2 * M0 * -np.expm1(-AT), rtol=1e-3)


def test_reference_values(reference, x64):
    names = [name for name in reference if name.startswith("lyapunov_optimal")]
    assert len(names) == 4
    for name in names:
        i, entry = reference[name]["inputs"], reference[name]
        heat = bounds.lyapunov_heat(i["m0"], i["aT"], i["final_variance"])
        assert float(heat) == pytest.approx(entry["expected"]["heat_kT"], rel=entry["tolerance"]["rel"])
    entry = reference["constant_barrier_m0_256"]
    i, e = entry["inputs"], entry["expected"]
    heat, variance = bounds.constant_at_exchange(i["m0"], i["a"] * i["T"], math.log(i["exchange_rate"] * i["T"]))
    assert float(heat) == pytest.approx(e["heat_kT"], rel=entry["tolerance"]["rel"])
    assert float(variance) == pytest.approx(e["final_variance"], rel=entry["tolerance"]["rel"])
    assert float(bounds.constant_heat(i["m0"], i["a"] * i["T"], e["final_variance"])) == pytest.approx(e["heat_kT"])
    entry = reference["rate_matched_m0_256"]
    i, e = entry["inputs"], entry["expected"]
    heat, variance = bounds.rate_matched_at_ratio(i["m0"], i["a"] * i["T"], i["kappa"])
    assert float(heat) == pytest.approx(e["heat_kT"], rel=entry["tolerance"]["rel"])
    assert float(variance) == pytest.approx(e["final_variance"], rel=entry["tolerance"]["rel"])
    assert float(bounds.rate_matched_heat(i["m0"], i["a"] * i["T"], e["final_variance"])) == pytest.approx(e["heat_kT"])


@pytest.mark.parametrize(
    ("contraction", "lyapunov", "constant"),
    [(5.545, 710.8, 3639), (6.654, 10.79, 2377), (8.318, 0.543, 2333), (11.09, 0.00375, 2331)],
)
def test_slow_training_is_almost_free_and_a_fixed_barrier_never_is(contraction, lyapunov, constant):
    contraction = math.log(256) * round(contraction / math.log(256), 1)
    assert float(bounds.lyapunov_heat(256.0, contraction, 1.0)) == pytest.approx(lyapunov, rel=1e-3)
    assert float(bounds.constant_heat(256.0, contraction, 1.0)) == pytest.approx(constant, rel=1e-3)


def test_textbook_forms(x64):
    """The formulas as physics.md writes them, where they keep their digits."""
    m0, a_t, mu = 100.0, 4.0, 0.5
    x = math.exp(-a_t)
    c = math.sqrt(mu / 2) * x
    q = 2 * m0 * (math.asinh(c) + c * math.asinh(1 / c) - x * math.asinh(c / x) - c * math.asinh(x / c))
    s = math.sqrt(1 + x**2 / c**2) / x - math.sqrt(1 + 1 / c**2) + (math.asinh(1 / c) - math.asinh(x / c)) / c
    heat, variance = bounds.lyapunov_at_price(m0, a_t, mu)
    assert float(heat) == pytest.approx(q, rel=1e-12)
    assert float(variance) == pytest.approx(m0 * x**2 * s, rel=1e-12)


# The optimum.


def test_no_free_schedule_does_better(x64):
    """300 free values of ln Γ by gradient: they land on `optimal_exchange`, and on its heat."""
    m0, a_t, mu, n = 100.0, 4.0, 0.5, 300
    t = (np.arange(n) + 0.5) / n
    v = jnp.asarray(a_t * m0 * np.exp(-a_t * t))
    kept = jnp.asarray(np.exp(-2 * a_t * (1 - t)))

    @jax.jit
    @jax.value_and_grad
    def cost(log_rate):
        gamma = jnp.exp(log_rate)
        return jnp.mean(2 * v * jnp.arcsinh(v / (2 * gamma)) + mu * kept * jnp.sqrt(v**2 + 4 * gamma**2))

    found = optimize.minimize(
        cost, np.zeros(n), jac=True, method="L-BFGS-B", options={"maxiter": 20000, "maxfun": 40000, "ftol": 1e-15}
    )
    heat, variance = bounds.lyapunov_at_price(m0, a_t, mu)
    assert found.fun == pytest.approx(float(heat + mu * variance), rel=1e-4)
    log_best = np.log(bounds.optimal_exchange(t, np.full(n, m0), np.full(n, a_t), np.full(n, float(variance))))
    np.testing.assert_allclose(found.x, log_best, atol=2e-3)
    # the barrier rises by the logarithm of the loss
    np.testing.assert_allclose(np.diff(-log_best), 2 * a_t / n, rtol=1e-9)


def test_order_of_the_approaches_and_price(x64):
    """Lyapunov below both others at every feasible point, falling in s by its price."""
    rng = np.random.default_rng(0)
    m0 = np.exp(rng.uniform(0, 12, 400))
    a_t = np.exp(rng.uniform(-3, 3.4, 400))
    s = np.asarray(bounds.minimum_variance(m0, a_t)) * (1 + np.exp(rng.uniform(-8, 8, 400)))
    lyapunov, matched, constant = (heat_of(name, m0, a_t, s) for name in APPROACHES)
    assert (lyapunov > 0).all() and (lyapunov <= matched * (1 + 1e-12)).all()
    assert (lyapunov <= constant * (1 + 1e-12)).all()
    step = 1e-4 * (s - np.asarray(bounds.minimum_variance(m0, a_t)))
    slope = (heat_of("lyapunov", m0, a_t, s + step) - heat_of("lyapunov", m0, a_t, s - step)) / (2 * step)
    np.testing.assert_allclose(-slope, bounds.variance_price(m0, a_t, s), rtol=1e-6)


@pytest.mark.parametrize("approach", APPROACHES)
def test_longer_training_costs_less(x64, approach):
    """What `contraction_for_heat` builds on: beyond its start the heat only falls."""
    for ratio in (1e-5, 1e-2, 0.2, 0.25, 1.0, 30.0, 300.0):
        m0 = 1024.0
        s = ratio * m0
        if approach == "constant" and ratio > 0.25:
            continue
        start = max(math.log(m0) - 0.5 * math.log(s), float(bounds.minimum_contraction(m0, s)) + 1e-9, HEAT_FALLS_FROM)
        a_t = np.linspace(start, MAX_CONTRACTION, 600)
        heat = heat_of(approach, m0, a_t, s)
        assert (np.diff(heat) <= 1e-9 * heat[:-1]).all(), (approach, ratio)


def test_plateau_of_the_constant_barrier(x64):
    m0, s = np.array([256.0, 256.0, 4096.0]), np.array([1.0, 60.0, 0.01])
    plateau = np.asarray(bounds.constant_plateau(m0, s))
    late = heat_of("constant", m0, 38.0, s)
    np.testing.assert_allclose(late, plateau, rtol=1e-9)
    assert (heat_of("constant", m0, 15.0, s) > plateau).all()


def test_float32_over_the_whole_range():
    """Every approach in float32 against float64, where feasible: contraction 1e-3 to 40, variance to 1e8 above the least."""
    m0, a_t, above = (
        g.ravel() for g in np.meshgrid(DISTANCES, np.geomspace(1e-3, 40, 15), np.geomspace(1e-2, 1e8, 10))
    )
    m0, a_t = m0.astype(np.float32), a_t.astype(np.float32)
    # float32 values, and the least variance of just those
    wide_m, wide_a = m0.astype(np.float64), a_t.astype(np.float64)
    s = (wide_m * np.exp(-wide_a) * -np.expm1(-wide_a) * (1 + above)).astype(np.float32)
    with jax.enable_x64(True):
        wide_s = s.astype(np.float64)
        expected = {name: heat_of(name, wide_m, wide_a, wide_s) for name in APPROACHES}
    for name in APPROACHES:
        heat = heat_of(name, m0, a_t, s)
        assert heat.dtype == jnp.float32
        # at 1 % above the least variance, one rounding of it is 1e-5 of the excess
        np.testing.assert_allclose(heat, expected[name], rtol=1e-4, atol=1e-30, err_msg=name)


# The simulation: real optimizer steps on a quadratic bowl.

LSB, STEPS = 2.0**-10, 500
TIME = 1.0  # aT with a = 1
CELL = limjax.ArrheniusCell(lsb=LSB, attempt_rate=1e9, step_time=1e-3)
LOG_ATTEMPTS = math.log(1e6)


def simulate(heights, hops, cells, start=100.0, contraction=TIME):
    """Final levels and heat per cell of gradient descent with the barrier heights(k) at step k."""
    pull = -math.expm1(-contraction / STEPS)
    task = quadratic(cells=cells, start_levels=start, lsb=LSB, rate=1.0)
    opt = limjax.learning_in_memory(
        optax.sgd(pull * LSB**2),
        CELL,
        limjax.ScheduledBarrier(heights),
        hops=hops,
        key=jax.random.key(3),
        compare=(),
    )

    def step(carry, _):
        params, state = carry
        loss, gradient = jax.value_and_grad(task.loss)(params, None)
        updates, state = opt.update(gradient, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def run():
        params = task.init(jax.random.key(0))
        return jax.lax.scan(step, (params, opt.init(params)), None, length=STEPS)[0]

    params, state = run()
    ledger = limjax.get_ledger(state)
    assert limjax.total(ledger, "saturated") == 0 and limjax.total(ledger, "barrier_clipped") == 0
    return np.asarray(params["w"], np.float64) / LSB, limjax.per_parameter(ledger)["w"]


def height(gamma_t):
    """Barrier of Γ T hops over the whole training."""
    return LOG_ATTEMPTS - jnp.log(gamma_t / STEPS)


VARIANCE = 24.0  # least: 23.25; the spread stays far below the final m² = 1353


def schedules():
    price = float(bounds.variance_price(100.0, TIME, VARIANCE))
    ratio = math.sqrt((VARIANCE / float(bounds.minimum_variance(100.0, TIME))) ** 2 - 1) / 2
    hops = optimize.brentq(lambda u: float(bounds.constant_at_exchange(100.0, TIME, u).variance) - VARIANCE, -5, 9)
    static = math.log(1e6 * STEPS) - 45.0
    return {
        "lyapunov": (
            lambda k: height(100.0 * jnp.exp(TIME - 2 * TIME * k / STEPS) / math.sqrt(2 * price)),
            float(bounds.lyapunov_heat(100.0, TIME, VARIANCE)),
            VARIANCE,
        ),
        "rate_matched": (
            lambda k: height(ratio * 100.0 * TIME * jnp.exp(-TIME * k / STEPS)),
            float(bounds.rate_matched_heat(100.0, TIME, VARIANCE)),
            VARIANCE,
        ),
        "constant": (
            lambda k: height(jnp.full((), math.exp(hops))),
            float(bounds.constant_heat(100.0, TIME, VARIANCE)),
            VARIANCE,
        ),
        "static": (
            lambda k: jnp.full((), 45.0),
            float(bounds.static_heat(100.0, TIME, 45.0, 1e6 * STEPS)),
            float(bounds.constant_at_exchange(100.0, TIME, static).variance),
        ),
    }


@pytest.mark.optax
@pytest.mark.parametrize("approach", ["lyapunov", "rate_matched", "constant", "static"])
def test_the_quadratic_task_pays_the_closed_form(approach):
    """Heat of the mean path within 0.5 % (500 steps), variance of noisy hops within 5.5 standard errors and 0.3 %."""
    heights, heat, variance = schedules()[approach]
    levels, paid = simulate(heights, "mean", 2)
    np.testing.assert_allclose(levels, 100 * math.exp(-TIME), rtol=2e-5)
    assert paid[0] == pytest.approx(heat, rel=5e-3)
    cells = 16384
    levels, paid = simulate(heights, "gaussian", cells)
    assert abs(levels.var() - variance) < (3e-3 + 5.5 * math.sqrt(2 / cells)) * variance
    # the noise makes the requests, and so the heat, a little larger
    assert paid.mean() == pytest.approx(heat, rel=0.02)


# Inverse problems.


def time_for(approach, *arguments):
    """`contraction_for_heat`, always compiled for four points."""
    return bounds.contraction_for_heat(approach, *(np.broadcast_to(a, 4) for a in arguments))


def test_time_for_a_budget_and_back(x64):
    m0, s = np.array([16.0, 256.0, 256.0, 65536.0]), np.array([1.0, 1.0, 40.0, 0.3])
    for approach in APPROACHES:
        start = np.maximum(np.log(m0 / np.sqrt(s)), np.asarray(bounds.minimum_contraction(m0, s)))
        a_t = np.maximum(start, HEAT_FALLS_FROM) * np.array([1.2, 1.05, 1.5, 1.3])
        if approach == "constant":
            s = np.minimum(s, m0 / 4)
            # its heat falls so little beyond that a time hangs on the last digits
            a_t = np.maximum(start, HEAT_FALLS_FROM) + 0.1
        heat = heat_of(approach, m0, a_t, s)
        np.testing.assert_allclose(time_for(approach, m0, s, heat), a_t, rtol=1e-7)


def test_time_for_a_budget_in_float32_and_where_any_time_will_do():
    a_t = np.array([6.0, 7.0, 9.0], np.float32)
    heat = heat_of("lyapunov", np.full(3, 256.0, np.float32), a_t, np.float32(1.0))
    # the last: a generous budget, so the start of the search, where the heat is within the budget
    s, budget = np.array([1.0, 1.0, 1.0, 100.0], np.float32), np.append(heat, np.float32(1e4))
    found = quick_jit(lambda *a: bounds.contraction_for_heat("lyapunov", *a))(np.full(4, 256.0, np.float32), s, budget)
    np.testing.assert_allclose(found, [*a_t, math.log(256 / 10)], rtol=1e-5)
    assert heat_of("lyapunov", np.full(1, 256.0, np.float32), found[3:], np.float32(100.0))[0] < 1e4


@pytest.mark.parametrize("approach", APPROACHES)
def test_precision_for_a_budget_and_back(x64, approach):
    solve, least = quick_jit(lambda *a: bounds.variance_for_heat(approach, *a)), bounds.minimum_variance(M0, AT)
    for budget in (1e-4, 0.1, 10.0, 1e3):
        s = np.asarray(solve(M0, AT, np.full_like(M0, budget)))
        assert (s >= least).all()
        # an excess below 1e-6 of the variance has lost its digits
        is_apart = s > np.asarray(least) * (1 + 1e-6)
        back = heat_of(approach, M0[is_apart], AT[is_apart], s[is_apart])
        np.testing.assert_allclose(back, budget, rtol=1e-7)


def test_attempts_for_a_budget_and_back(x64):
    @quick_jit
    def there_and_back(budget):
        log_attempts = bounds.attempts_for_heat(M0, AT, jnp.full(M0.shape, 50.0), budget)
        return bounds.constant_at_exchange(M0, AT, log_attempts - 50.0).heat_kt

    for budget in (1e-3, 1.0, 1e4):
        np.testing.assert_allclose(there_and_back(np.full_like(M0, budget)), budget, rtol=1e-8)


# Infeasible requests.


@pytest.mark.parametrize("approach", [*APPROACHES, "price"])
def test_variance_below_the_shot_noise_is_refused(x64, approach):
    def heat(distance, contraction, variance):
        if approach == "price":
            return bounds.variance_price(distance, contraction, variance)
        return bounds.approach_heat(approach, distance, contraction, variance)

    by_jit = quick_jit(heat)
    with pytest.raises(ValueError, match=r"final variance of 0\.5 levels² cannot be reached from 256 levels") as error:
        heat(256.0, 6.0, 0.5)
    variance, contraction = (
        nearest(error.value, "variance is any above"),
        nearest(error.value, "contraction for 0.5 is any above"),
    )
    assert variance == pytest.approx(float(bounds.minimum_variance(256.0, 6.0)), rel=1e-5)
    assert contraction == pytest.approx(float(bounds.minimum_contraction(256.0, 0.5)), rel=1e-5)
    # the exact ends: just beyond is feasible, just before is not
    variance, contraction = float(bounds.minimum_variance(256.0, 6.0)), float(bounds.minimum_contraction(256.0, 0.5))
    assert np.isfinite(heat(256.0, 6.0, variance * (1 + 1e-9))) and np.isfinite(heat(256.0, contraction + 1e-9, 0.5))
    for wrong in ((256.0, 6.0, variance * (1 - 1e-9)), (256.0, contraction - 1e-9, 0.5)):
        with pytest.raises(ValueError, match="nearest feasible"):
            heat(*wrong)
        assert np.isnan(by_jit(*wrong))


def test_minimum_contraction_is_where_the_variance_comes_into_reach(x64):
    m0, s = np.array([256.0, 4.0, 1e6]), np.array([1.0, 0.99, 1e-3])
    needed = bounds.minimum_contraction(m0, s)
    np.testing.assert_allclose(bounds.minimum_variance(m0, needed), s, rtol=1e-9)
    assert float(bounds.minimum_contraction(4.0, 1.0)) == 0.0


def test_budget_below_the_plateau_is_refused(x64):
    with pytest.raises(ValueError, match="No training time brings a constant barrier down to 2000 kT") as error:
        time_for("constant", 256.0, 1.0, 2000.0)
    plateau = float(bounds.constant_plateau(256.0, 1.0))
    assert nearest(error.value, "budget is any above") == pytest.approx(plateau, rel=1e-5)
    assert np.isfinite(time_for("constant", 256.0, 1.0, plateau * 1.0001)).all()
    with pytest.raises(ValueError, match="No training time"):
        time_for("constant", 256.0, 1.0, plateau * 0.9999)
    with pytest.raises(ValueError, match="at most distance/4 = 64"):
        time_for("constant", 256.0, 65.0, 1e4)
    assert np.isfinite(time_for("constant", 256.0, 64.0, 1e4)).all()


def test_budget_that_would_take_for_ever_is_refused(x64):
    with pytest.raises(ValueError, match="needs a contraction beyond 40") as error:
        time_for("lyapunov", 256.0, 1.0, 1e-40)
    least = nearest(error.value, "budget there is")
    assert np.isfinite(time_for("lyapunov", 256.0, 1.0, least * 1.001)).all()
    with pytest.raises(ValueError, match="beyond 40"):
        time_for("lyapunov", 256.0, 1.0, least * 0.999)


def test_nothing_to_learn_is_refused():
    with pytest.raises(ValueError, match="below distance² = 256"):
        bounds.contraction_for_heat("lyapunov", 16.0, 256.0, 1.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bounds.lyapunov_heat(-1.0, 6.0, 1.0), ("distance", "-1")),
        (lambda: bounds.constant_heat(256.0, 0.0, 1.0), ("contraction", "0")),
        (lambda: bounds.rate_matched_heat(256.0, 41.0, 1.0), ("contraction", "40", "41")),
        (lambda: bounds.lyapunov_heat(256.0, 6.0, -1.0), ("variance", "-1")),
        (lambda: bounds.variance_for_heat("lyapunov", 256.0, 6.0, 0.0), ("heat_kt", "0")),
        (lambda: bounds.lyapunov_at_price(256.0, 6.0, 0.0), ("price", "0")),
        (lambda: bounds.rate_matched_at_ratio(256.0, 6.0, -2.0), ("ratio", "-2")),
        (lambda: bounds.static_heat(256.0, 6.0, -1.0, 1e13), ("barrier", "-1")),
        (lambda: bounds.static_heat(256.0, 6.0, 50.0, 0.0), ("attempts", "0")),
        (lambda: bounds.optimal_exchange(1.5, 256.0, 6.0, 1.0), ("fraction", "1.5")),
    ],
)
def test_wrong_arguments_are_named(call, words):
    with pytest.raises(ValueError) as error:
        call()
    assert all(word in str(error.value) for word in words), str(error.value)


def test_unknown_approach():
    """Behind the annotation that the tests check, the name is checked too."""
    with pytest.raises(ValueError, match="must be one of lyapunov, rate_matched, constant, got 'open'"):
        bounds.contraction_for_heat("open", 256.0, 1.0, 10.0)


# Derivatives.

ARGUMENTS = {
    "lyapunov_heat": [(256.0, 6.65, 1.0), (100.0, 0.7, 30.0), (16.0, 4.0, 1.0), (65536.0, 16.0, 30.0)],
    "rate_matched_heat": [(256.0, 6.65, 1.0), (100.0, 0.7, 30.0), (16.0, 4.0, 1.0), (65536.0, 16.0, 30.0)],
    "constant_heat": [(256.0, 6.65, 1.0), (100.0, 0.7, 30.0), (16.0, 4.0, 1.0), (65536.0, 16.0, 30.0)],
    "variance_price": [(256.0, 6.65, 1.0), (100.0, 0.7, 30.0)],
    "minimum_variance": [(256.0, 6.65), (100.0, 0.7)],
    "minimum_contraction": [(256.0, 1.0), (100.0, 20.0)],
    "constant_plateau": [(256.0, 1.0), (100.0, 20.0)],
    "static_heat": [(256.0, 6.65, 49.5, 1e13), (100.0, 0.7, 30.0, 1e13)],
    "attempts_for_heat": [(256.0, 6.65, 49.5, 1e4), (100.0, 0.7, 30.0, 1.0)],
    "contraction_for_heat lyapunov": [(256.0, 1.0, 10.8), (100.0, 30.0, 1.0)],
    "contraction_for_heat rate_matched": [(256.0, 1.0, 100.0), (100.0, 30.0, 1.0)],
    "contraction_for_heat constant": [(256.0, 1.0, 2600.0), (100.0, 10.0, 700.0)],
    "variance_for_heat lyapunov": [(256.0, 6.65, 10.8), (100.0, 0.7, 100.0)],
    "variance_for_heat rate_matched": [(256.0, 6.65, 10.8), (100.0, 0.7, 100.0)],
    "variance_for_heat constant": [(256.0, 6.65, 2600.0), (100.0, 0.7, 100.0)],
    "optimal_exchange": [(0.3, 256.0, 6.65, 1.0), (0.8, 100.0, 0.7, 30.0)],
    "lyapunov_at_price": [(256.0, 6.65, 0.5), (100.0, 0.7, 0.1)],
    "rate_matched_at_ratio": [(256.0, 6.65, 0.5), (100.0, 0.7, 3.0)],
    "constant_at_exchange": [(256.0, 6.65, 1.0), (100.0, 0.7, 3.0)],
}


def function_of(name):
    name, *approach = name.split()
    function = getattr(bounds, name)
    if name in ("lyapunov_at_price", "rate_matched_at_ratio", "constant_at_exchange"):
        return lambda *a: sum(function(*a))
    return lambda *a: function(*approach, *a)


# Roots within roots take seconds to compile.
SLOW = [name for name in ARGUMENTS if "_for_heat" in name]


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in ARGUMENTS])
def test_gradients(name):
    check_gradient(function_of(name), *ARGUMENTS[name])


def test_gradients_are_finite_wherever_feasible_and_infeasible_points_spoil_no_others():
    above = np.concatenate([np.geomspace(0.05, 1e6, 8), [-0.5]])
    m0, a_t, above = (g.ravel() for g in np.meshgrid(DISTANCES, np.geomspace(1e-3, 40, 17), above))
    s = m0 * np.exp(-a_t) * -np.expm1(-a_t) * (1 + above)
    m0, a_t, s = (v.astype(np.float32) for v in (m0, a_t, s))
    is_feasible = above > 0
    for name in APPROACHES:
        heat, gradient = quick_jit(
            jax.vmap(jax.value_and_grad(lambda *a: bounds.approach_heat(name, *a), (0, 1, 2)))  # noqa: B023
        )(m0, a_t, s)
        np.testing.assert_array_equal(np.isfinite(heat), is_feasible)
        assert all(np.isfinite(np.asarray(g)[is_feasible]).all() for g in gradient), name
        assert (np.asarray(gradient[2])[is_feasible] <= 0).all(), name
