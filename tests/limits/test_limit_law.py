"""The law against quadrature, direct integration, exact hops, its own inverses and the reference values."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limit_checks import check_gradient, quick_jit
from scipy import integrate, optimize

from limjax.limits import bounds, law


def close(value, expected, rel):
    assert float(value) == pytest.approx(expected, rel=rel)


# Reference values.


def test_bound_of_a_bowl(reference, x64):
    entry = reference["lim_bound_bowl"]
    close(bounds.convergence(entry["inputs"]["loss_ratio"]), entry["expected"]["heat_kT"], entry["tolerance"]["rel"])


@pytest.mark.parametrize("name", ["m0_100_aT_4.000", "m0_256_aT_6.654", "m0_256_aT_8.318", "m0_256_aT_11.090"])
def test_finite_time(reference, x64, name):
    entry = reference[f"lim_finite_time_{name}"]
    i = entry["inputs"]
    final = i["final_variance"] + (i["m0"] * math.exp(-i["aT"])) ** 2
    heat = bounds.convergence(i["m0"] ** 2 / final, i["aT"])
    close(heat, entry["expected"]["open_regime_formula_kT"], entry["tolerance"]["formula_rel"])


def test_gradient_noise(reference, x64):
    entry = reference["lim_bound_gradient_noise"]
    i = entry["inputs"]
    scatter = i["sigma_over_h"] ** 2
    expected, rel = entry["expected"]["adiabatic_bound_kT"], entry["tolerance"]["rel"]
    close(bounds.convergence(i["L0"] / i["LT"], averaged=scatter * (1 / i["LT"] - 1 / i["L0"])), expected, rel)
    close(law.optimum(i["L0"], i["LT"], scatter=scatter).heat_kt, expected, rel)


# Independent routes.


def descend(exchange, start, stop, scatter, rate):
    """Heat and time by integrating dL/dθ = -2L + us + 2G and dQ/dθ = (L+s)/G down to `stop`; exchange is G(L)."""

    def slopes(_, y):
        g = exchange(y[0])
        return [-2 * y[0] + rate * scatter + 2 * g, (y[0] + scatter) / g]

    def reached(_, y):
        return y[0] - stop

    reached.terminal = True
    found = integrate.solve_ivp(slopes, (0, 200), [start, 0.0], events=reached, rtol=1e-9, atol=1e-12)
    return found.y[1, -1], found.t[-1]


@pytest.mark.parametrize(
    ("start", "stop", "scatter", "rate"),
    [(65536.0, 1.0, 0.0, 0.0), (65536.0, 100.0, 400.0, 0.0), (1e4, 30.0, 4000.0, 0.01), (100.0, 1.0, 50.0, 0.03)],
)
def test_cheapest_time_by_integration_and_nothing_else_is_cheaper(x64, start, stop, scatter, rate):
    best = law.optimum(start, stop, scatter=scatter, rate=rate)

    def shape(loss, power=1.0, factor=1.0):
        return factor * 0.5 * (loss - 0.5 * rate * scatter) * (loss / start) ** (power - 1)

    heat, time = descend(shape, start, stop, scatter, rate)
    assert (heat, time) == pytest.approx((float(best.heat_kt), float(best.contraction)), rel=1e-6)
    for power, factor in ((1.0, 0.8), (1.0, 1.25), (0.95, 1.0), (1.05, 1.0)):
        other, _ = descend(lambda loss, p=power, f=factor: shape(loss, p, f), start, stop, scatter, rate)
        assert other > float(best.heat_kt) * 1.0005


@pytest.mark.parametrize("contraction", [3.4, 4.0, 6.0, 8.0])
def test_given_time_by_integration_and_by_the_quadratic(x64, contraction):
    """The exchange of `law.exchange` at the power that `law.optimum` gives takes that time and that heat."""
    start, stop, scatter, rate = 65536.0, 100.0, 400.0, 1e-3
    best = law.optimum(start, stop, scatter=scatter, rate=rate, contraction=contraction)
    power = float(best.power)
    gamma = jax.jit(lambda loss: law.exchange(loss, rate, scatter, power))

    def g(loss):
        value = float(gamma(loss)) / rate
        # the quadratic of docs/law.md over u: `power` is per relaxation time
        q = power * value**2 / (loss + scatter) - 2 * value + loss - 0.5 * rate * scatter
        assert abs(q) < 1e-8 * loss
        return value

    heat, time = descend(g, start, stop, scatter, rate)
    assert (heat, time) == pytest.approx((float(best.heat_kt), contraction), rel=1e-5)
    # the power is the slope of heat against time
    step = 1e-4
    up, down = (
        law.optimum(start, stop, scatter=scatter, rate=rate, contraction=contraction + s).heat_kt for s in (step, -step)
    )
    assert power == pytest.approx(float(up - down) / (2 * step), rel=1e-5)


def test_full_gradient_is_a_special_case(x64):
    for contraction in (5.6, 8.0, 11.09, 30.0):
        with_noise = law.optimum(65536.0, 1.0, scatter=0.0, contraction=contraction)
        close(with_noise.heat_kt, float(law.finite_time_heat(65536.0, contraction)), 1e-9)
        almost = law.optimum(65536.0, 1.0, scatter=1e-9, contraction=contraction)
        close(almost.heat_kt, float(with_noise.heat_kt), 1e-6)
    both = bounds.convergence(655.36, 5.0, 4.0 * (1 - 1 / 655.36))
    close(both, float(law.optimum(65536.0, 100.0, scatter=400.0, contraction=5.0).heat_kt), 1e-9)


@pytest.mark.parametrize("contraction", [8 * math.log(2) * (1 + 1e-9), 1e8, 1e18])
def test_full_gradient_in_extreme_times(contraction):
    expected = contraction**2 / (contraction - 8 * math.log(2))
    with jax.enable_x64(True):
        close(law.optimum(65536.0, 1.0, contraction=contraction).heat_kt, expected, 1e-6)
    if contraction > 10:
        close(law.optimum(65536.0, 1.0, contraction=contraction).heat_kt, expected, 1e-5)


def test_no_free_exchange_does_better_in_a_given_time(x64):
    """40 free values of Γ/uL over θ: the end fixes their mean, the heat is ∫dθ/(Γ/uL), and the constant is the optimum."""
    theta, n = 8.0, 40
    mean = 1 - math.log(65536.0) / (2 * theta)
    start = mean * np.exp(np.random.default_rng(0).normal(0, 0.5, n))
    found = optimize.minimize(
        lambda share: theta * np.mean(1 / share),
        start * mean / start.mean(),
        constraints={"type": "eq", "fun": lambda share: np.mean(share) - mean},
        bounds=[(1e-3, None)] * n,
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    np.testing.assert_allclose(found.x, mean, rtol=1e-3)
    close(law.finite_time_heat(65536.0, theta), found.fun, 1e-6)


def hops(steps, rate, start, factor, scatter=0.0, cells=4000, seed=0):
    """Heat per cell and losses of exact Poisson hops on integer levels; Γ = f (u(2-u)L - u²s)/4 of the measured L."""
    draw = np.random.default_rng(seed)
    n = np.full(cells, math.sqrt(start))
    heats, losses = [], [np.mean(n * n)]
    for _ in range(steps):
        d = -rate * n + rate * math.sqrt(scatter) * draw.standard_normal(cells)
        g = factor * 0.25 * ((2 - rate) * rate * losses[-1] - rate**2 * scatter)
        total = np.sqrt(d * d + 4 * g * g)
        heats.append(np.mean(2 * d * np.arcsinh(d / (2 * g))))
        n = n + draw.poisson((total + d) / 2) - draw.poisson((total - d) / 2)
        losses.append(np.mean(n * n))
    return np.array(heats), np.array(losses)


@pytest.mark.representatives(1)
@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5])
def test_exact_hops_pay_the_law_and_its_detuning(x64, factor):
    """2 ln(L0/LT) 1/[2f(1-f/2)] along the measured loss within 3 %: three standard errors of its time where it falls slowest.

    ln L of n cells wanders by √(8Γ/Ln) a step, and with it the time it takes: 1 % for 16,000 cells at f = 1.5.
    """
    heats, losses = hops(900 if factor < 1.5 else 2200, 0.01, 256.0**2, factor, cells=4000 if factor < 1.5 else 16000)
    end = int(np.argmax(losses < 30.0))
    assert end > 0
    expected = float(bounds.convergence(losses[0] / losses[end]) * law.detuned(factor))
    assert heats[:end].sum() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_exact_hops_with_minibatch_noise_pay_the_law_along_the_measured_loss(x64, share):
    """σ/h = 20 levels; the learning rate ends at half or all of the fastest for L = 100. Within 5 %."""
    scatter, stop = 400.0, 100.0
    rate = share * stop / scatter / 4  # u of 0.03 and 0.06: per step, so that a step is short
    heats, losses = hops(600, rate, 256.0**2, 1.0, scatter)
    end = int(np.argmax(losses < stop))
    assert end > 0
    best = law.optimum(losses[0], losses[end], scatter=scatter, rate=rate)
    assert heats[:end].sum() == pytest.approx(float(best.heat_kt), rel=0.05)


def test_along_a_schedule_is_the_integral_over_the_loss(x64):
    steps = np.arange(20000)
    rates = 2e-3 / (1 + steps / 4000)
    run = law.along_schedule(rates, 65536.0, 400.0)
    loss = np.asarray(run.loss)
    middle = 0.5 * (loss[1:] + loss[:-1])
    integrand = 2 * (middle + 400.0) / middle**2 / (1 - rates * 400.0 / (2 * middle)) ** 2
    assert float(run.heat_kt.sum()) == pytest.approx(float(np.sum(integrand * -np.diff(loss))), rel=3e-3)
    # never below the bound of an infinitely slow one
    assert float(run.heat_kt.sum()) > float(law.optimum(loss[0], loss[-1], scatter=400.0).heat_kt)
    # the exchange is the law's at each loss, but for the square of the rate
    assert float(run.exchange[100]) == pytest.approx(float(law.exchange(loss[100], rates[100], 400.0)), rel=2e-3)


def test_haste(x64):
    """A learning rate of φ times the fastest at every loss, by integration."""
    scatter, start, stop = 400.0, 1.0, 0.01  # far below the scatter: gradient noise is all there is
    least_time = None
    for phi in (1.0, 0.5, 0.25):
        loss = np.geomspace(start, stop, 20001)
        rate = phi * loss / scatter
        gamma = (2 * rate * loss - rate**2 * scatter) / 4
        fall = 2 * rate * loss - rate**2 * scatter - 2 * gamma
        time = integrate.trapezoid(1 / fall, -loss)
        heat = integrate.trapezoid((rate**2 * (loss + scatter)) / gamma / fall, -loss)
        least_time = time if least_time is None else least_time
        slow = float(law.optimum(start, stop, scatter=scatter).heat_kt)
        assert (heat / slow, time / least_time) == pytest.approx(tuple(map(float, law.haste(phi))), rel=1e-3)


def test_inverses(x64):
    ratio, theta = np.array([2.0, 65536.0, 1e12]), np.array([0.5, 8.0, 20.0])
    heat = law.finite_time_heat(ratio, theta)
    np.testing.assert_allclose(law.contraction_for_heat(ratio, heat), theta, rtol=1e-9)
    np.testing.assert_allclose(law.loss_ratio_for_heat(theta, heat), ratio, rtol=1e-9)
    close(law.contraction_for_heat(65536.0, bounds.convergence(65536.0)), math.log(65536.0), 1e-6)
    assert float(law.contraction_for_heat(jnp.float32(65536.0), jnp.float32(22.18071))) == pytest.approx(
        11.09, rel=1e-3
    )
    assert float(law.loss_ratio_for_heat(30.0, 20.0)) == 1.0


def test_where_the_open_regime_ends(x64):
    share = float(law.open_share(65536.0, 8.0))
    assert share == pytest.approx(1 - 8 * math.log(2) / 8.0 * 1.0, rel=1e-9)
    gamma = share * 0.01 * 3.0
    assert float(law.openness(3.0, 65536.0, 8.0)) == pytest.approx(gamma**2 / (0.01**2 * 3.0), rel=1e-9)
    assert float(law.start_barrier(65536.0, 0.01, 1e6)) == pytest.approx(math.log(1e6 / (0.01 * 65536 / 2)), rel=1e-9)


# Edges, dtypes, derivatives.


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bounds.convergence(0.5), ("loss_ratio", "0.5")),
        (lambda: bounds.convergence(65536.0, 5.0), ("contraction", "5.54", "5", "cheapest at")),
        (lambda: bounds.convergence(65536.0, averaged=-1.0), ("averaged", "-1")),
        (lambda: bounds.convergence(1.0, 2.0, 3.0), ("loss_ratio must be above 1",)),
        (lambda: law.contraction_for_heat(65536.0, 20.0), ("22.18", "20")),
        (lambda: law.optimum(1.0, 2.0), ("stop must be below start", "start=1", "stop=2")),
        (lambda: law.optimum(100.0, 1.0, scatter=400.0, rate=0.01), ("floor", "above 2", "got 1")),
        (lambda: law.optimum(100.0, 1.0, scatter=10.0, contraction=1.0), ("contraction must be above 2.3",)),
        (lambda: law.optimum(100.0, 1.0, scatter=10.0, contraction=500.0), ("and below", "got 500")),
        (lambda: law.exchange(1.0, 2.0), ("rate", "2")),
        (lambda: law.detuned(2.5), ("factor", "2.5")),
        (lambda: law.along_schedule(0.1, 100.0), ("one-dimensional",)),
    ],
)
def test_wrong_arguments_are_named(call, words):
    with pytest.raises(ValueError) as error:
        call()
    assert all(word in str(error.value) for word in words), str(error.value)


def test_traced_infeasible_points_are_nan_and_spoil_no_others():
    values = quick_jit(lambda r, t: bounds.convergence(r, t))(
        jnp.asarray([65536.0, 65536.0, 0.5, 4.0]), jnp.asarray([8.0, 5.0, 1.0, 1.0])
    )
    np.testing.assert_array_equal(np.isfinite(values), [True, False, False, True])
    stops = jnp.asarray([10.0, 0.5, 200.0])
    best = quick_jit(lambda s: law.optimum(100.0, s, scatter=100.0, rate=0.02).heat_kt)(stops)
    np.testing.assert_array_equal(np.isfinite(best), [True, False, False])
    np.testing.assert_array_equal(np.isnan(quick_jit(lambda x: bounds.convergence(x))(jnp.asarray([0.9, 2.0]))), [1, 0])


def test_float32_against_float64():
    start = np.geomspace(10, 1e9, 9)
    grid = np.array([(a, b, s, c) for a in start for b in (0.3, 1.0) for s in (0.1, 30.0) for c in (0.55, 1.0, 1.3)])
    first, last, scatter, factor = grid.T
    with jax.enable_x64(True):
        slow = law.optimum(first, last, scatter=scatter)
        theta = 0.5 * np.log(first / last) + factor * (np.asarray(slow.contraction) - 0.5 * np.log(first / last))
        wide = law.optimum(first, last, scatter=scatter, contraction=theta).heat_kt
    narrow = law.optimum(*(x.astype(np.float32) for x in (first, last)), scatter=scatter.astype(np.float32),
                         contraction=theta.astype(np.float32)).heat_kt  # fmt: skip
    assert narrow.dtype == jnp.float32
    np.testing.assert_allclose(narrow, wide, rtol=2e-4)


@pytest.mark.slow
def test_gradients():
    check_gradient(lambda r, t: bounds.convergence(r, t), (65536.0, 8.0), (10.0, 2.0), (1e9, 40.0))
    check_gradient(lambda r, n: bounds.convergence(r, averaged=n), (65536.0, 8.0), (10.0, 2.0))
    check_gradient(
        lambda a, b, s, t: law.optimum(a, b, scatter=s, contraction=t).heat_kt,
        (65536.0, 100.0, 400.0, 5.0),
        (100.0, 1.0, 3.0, 4.0),
    )
    check_gradient(lambda a, b, s: law.optimum(a, b, scatter=s, rate=1e-3).heat_kt, (65536.0, 100.0, 400.0))
    check_gradient(law.exchange, (100.0, 0.01, 400.0, 0.3), (5.0, 0.1, 2.0, 0.5))
    check_gradient(law.contraction_for_heat, (65536.0, 30.0), (10.0, 9.0))


def test_a_full_gradient_takes_the_closed_form_under_transformations_too():
    """It was missed there: what the caller gave as a number is a traced array once it is broadcast."""
    ratios, times = jnp.geomspace(2.0, 1e6, 5), jnp.linspace(9.0, 20.0, 5)
    mapped = jax.vmap(bounds.convergence)
    assert "scan" not in str(jax.make_jaxpr(mapped)(ratios, times))
    expected = [float(law.finite_time_heat(r, t)) for r, t in zip(ratios, times)]
    np.testing.assert_allclose(mapped(ratios, times), expected, rtol=1e-6)
    assert "scan" in str(jax.make_jaxpr(jax.vmap(bounds.convergence))(ratios, times, jnp.ones(5)))
