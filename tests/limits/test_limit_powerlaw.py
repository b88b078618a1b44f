"""Power-law convergence against quadrature in time and direct optimisation of a free schedule."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limit_checks import check_gradient, nearest, quick_jit
from scipy import optimize

from limjax.limits import bounds
from limjax.limits.frontier import MAX_CONTRACTION

# Gauss-Legendre in 20 panels of 40 nodes over [-1, 1].
NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)
NODES = ((2 * np.arange(20)[:, None] + NODES - 19) / 20).ravel()
WEIGHTS = np.tile(WEIGHTS / 20, 20)
CASES = [(256.0, 1.0, 1e4), (256.0, 0.5, 1e6), (16.0, 2.0, 30.0), (4096.0, 3.0, 1e3)]


def path(distance, exponent, duration, noise):
    """Speed, survival of noise until the end, and quadrature weights over t/t_c, from the time integrals themselves."""
    log_end = math.log1p(duration)
    u = 0.5 * log_end * (NODES + 1)
    weights = 0.5 * log_end * WEIGHTS * np.exp(u)
    t = np.expm1(u)
    speed = distance * 0.5 * exponent * (1 + t) ** (-0.5 * exponent - 1)
    # dξ/dt = -a(t) ξ for a decaying rate; -(1+2/α) a(t) ξ on the flow, whose curvature falls with the distance
    power = 1.0 if noise == "schedule" else 1 + 2 / exponent
    survival = ((1 + t) / (1 + duration)) ** (0.5 * exponent * power)
    return t, speed, survival, weights


def of_exchange(case, noise, exchange):
    t, speed, survival, weights = path(*case, noise)
    gamma = exchange(t, speed, survival)
    heat = 2 * speed * np.arcsinh(speed / (2 * gamma))
    return weights @ heat, weights @ (survival**2 * np.hypot(speed, 2 * gamma))


def test_survival_is_that_of_the_linearised_flow(x64):
    """dn/dt = -c n^(1+2/α) gives the power law, and its linearisation along the way the survival."""
    alpha, duration = 1.5, 20.0

    def end(n0):
        c = 0.5 * alpha
        t = np.linspace(0, duration, 20001)
        n = n0
        for _ in t[1:]:
            step = duration / 20000
            middle = n - 0.5 * step * c * n ** (1 + 2 / alpha)
            n = n - step * c * middle ** (1 + 2 / alpha)
        return n

    _, _, survival, _ = path(1.0, alpha, duration, "flow")
    assert end(1.0) == pytest.approx((1 + duration) ** (-alpha / 2), rel=1e-6)
    shrunk = (end(1.0001) - end(0.9999)) / 2e-4
    assert shrunk == pytest.approx((1 + duration) ** (-0.5 * alpha * (1 + 2 / alpha)), rel=1e-5)
    assert survival[0] == pytest.approx(shrunk, rel=1e-2)


@pytest.mark.parametrize("noise", ["schedule", "flow"])
def test_heat_variance_and_exchange_by_quadrature(x64, noise):
    for case in CASES:
        least = float(bounds.power_law_minimum_variance(*case, noise))
        shut = of_exchange(case, noise, lambda t, v, s: 1e-9 * v)[1]
        assert least == pytest.approx(shut, rel=1e-9)
        variance = 1.5 * least
        t, speed, survival, _ = path(*case, noise)
        exchange = np.asarray(
            bounds.power_law_exchange(t, *(np.full_like(t, v) for v in (*case, variance)), noise=noise)
        )
        # Γ* = v / √(2μ) S
        price = (speed / exchange / survival) ** 2 / 2
        np.testing.assert_allclose(price, price[0], rtol=1e-9)
        heat, reached = of_exchange(case, noise, lambda t, v, s: exchange)  # noqa: B023
        assert reached == pytest.approx(variance, rel=1e-9)
        assert float(bounds.power_law_heat(*case, variance, noise)) == pytest.approx(heat, rel=1e-9)


@pytest.mark.parametrize("noise", ["schedule", "flow"])
def test_constant_barrier_by_quadrature(x64, noise):
    for case in CASES:
        for gamma in (1e-8, 1e-3, 1.0, 30.0):
            heat, variance = of_exchange(case, noise, lambda t, v, s: np.full_like(t, gamma))  # noqa: B023
            got = bounds.power_law_constant(*case, gamma, noise)
            assert float(got.heat_kt) == pytest.approx(heat, rel=1e-8)
            assert float(got.variance) == pytest.approx(variance, rel=1e-8)


@pytest.mark.parametrize("noise", ["schedule", "flow"])
def test_no_free_schedule_does_better(x64, noise):
    case = (256.0, 1.0, 100.0)
    t, speed, survival, weights = path(*case, noise)
    variance = 2.0 * float(bounds.power_law_minimum_variance(*case, noise))
    best = np.asarray(bounds.power_law_exchange(t, *(np.full_like(t, v) for v in (*case, variance)), noise=noise))
    price = float(((speed / best / survival) ** 2 / 2)[0])

    def cost(log_rate):
        gamma = np.exp(log_rate)
        hops = np.hypot(speed, 2 * gamma)
        value = 2 * speed * np.arcsinh(speed / (2 * gamma)) + price * survival**2 * hops
        slope = -2 * speed**2 / hops + price * survival**2 * 4 * gamma**2 / hops
        return weights @ value, weights * slope

    found = optimize.minimize(
        cost, np.log(speed), jac=True, method="L-BFGS-B", options={"maxiter": 20000, "maxfun": 50000, "ftol": 1e-15}
    )
    least = float(bounds.power_law_heat(*case, variance, noise)) + price * variance
    assert least * (1 - 1e-9) < found.fun < least * (1 + 1e-6)


def test_a_decaying_rate_is_the_exponential_frontier_in_its_own_time(x64):
    """Same m0 and m(T), same heat; the barrier follows the rate at which the loss falls, not the loss."""
    theta = float(bounds.power_law_contraction(1.0, 1e5))
    assert theta == pytest.approx(0.5 * math.log1p(1e5))
    assert float(bounds.power_law_heat(256.0, 1.0, 1e5, 1.0)) == float(bounds.lyapunov_heat(256.0, theta, 1.0))
    t = np.array([0.0, 9.0, 99.0])
    exchange = np.asarray(bounds.power_law_exchange(t, *(np.full(3, v) for v in (256.0, 1.0, 1e5, 1.0))))
    np.testing.assert_allclose(exchange / exchange[0], (1 + t) ** -2.0, rtol=1e-9)
    flow = np.asarray(bounds.power_law_exchange(t, *(np.full(3, v) for v in (256.0, 1.0, 1e5, 1.0)), noise="flow"))
    np.testing.assert_allclose(flow / flow[0], (1 + t) ** -3.0, rtol=1e-9)


def test_infeasible_variance_and_duration(x64):
    for noise in ("schedule", "flow"):
        least = float(bounds.power_law_minimum_variance(256.0, 1.0, 1e4, noise))
        with pytest.raises(ValueError, match="cannot be reached") as error:
            bounds.power_law_heat(256.0, 1.0, 1e4, 0.5 * least, noise)
        assert nearest(error.value, "variance is any above") == pytest.approx(least, rel=1e-5)
        assert np.isfinite(bounds.power_law_heat(256.0, 1.0, 1e4, least * (1 + 1e-9), noise))
        with pytest.raises(ValueError, match="cannot be reached"):
            bounds.power_law_heat(256.0, 1.0, 1e4, least * (1 - 1e-9), noise)
        heat = quick_jit(jax.vmap(jax.value_and_grad(lambda s: bounds.power_law_heat(256.0, 1.0, 1e4, s, noise))))  # noqa: B023
        value, slope = heat(least * jnp.array([0.5, 2.0, 9.0]))
        np.testing.assert_array_equal(np.isfinite(value), [False, True, True])
        assert np.isfinite(np.asarray(slope)[1:]).all()
    with pytest.raises(ValueError, match="contracts by more than e\\^40") as error:
        bounds.power_law_heat(256.0, 20.0, 1e4, 1.0)
    longest = nearest(error.value, "duration is")
    assert longest == pytest.approx(math.expm1(2 * MAX_CONTRACTION / 20.0), rel=1e-5)
    assert np.isfinite(bounds.power_law_heat(256.0, 20.0, longest * 0.999, 1.0))
    with pytest.raises(ValueError, match="contracts by more"):
        bounds.power_law_heat(256.0, 20.0, longest * 1.001, 1.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bounds.power_law_contraction(-1.0, 10.0), ("exponent", "-1")),
        (lambda: bounds.power_law_heat(256.0, 1.0, 0.0, 1.0), ("duration", "0")),
        (lambda: bounds.power_law_heat(256.0, 1.0, 10.0, -1.0), ("variance", "-1")),
        (lambda: bounds.power_law_constant(256.0, 1.0, 10.0, 0.0), ("exchange", "0")),
        (lambda: bounds.power_law_exchange(-1.0, 256.0, 1.0, 1e5, 1.0), ("time", "-1")),
    ],
)
def test_wrong_arguments_are_named(call, words):
    with pytest.raises(ValueError) as error:
        call()
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("noise", [pytest.param("schedule", marks=pytest.mark.slow), "flow"])
def test_gradients(noise):
    check_gradient(lambda *a: bounds.power_law_minimum_variance(*a, noise), (256.0, 1.0, 1e3))
    check_gradient(lambda *a: sum(bounds.power_law_constant(*a, noise)), (256.0, 1.0, 1e3, 0.1), (16.0, 2.0, 30.0, 1.0))
    check_gradient(lambda *a: bounds.power_law_heat(*a, noise), (256.0, 1.0, 1e4, 3.0), (16.0, 2.0, 30.0, 2.0))
