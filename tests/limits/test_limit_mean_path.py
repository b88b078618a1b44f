"""The mean-path forms against quadrature, the reference values, and the ledger of runs without hop noise."""

import math

import jax
import numpy as np
import pytest
from limit_checks import check_gradient
from scipy import optimize

from limjax.limits import mean_path

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


def on_grid(exchange, *parameters):
    rows = [by_quadrature(m, a, lambda t, v, a=a, k=k: exchange(t, v, a, *k)) for m, a, *k in zip(M0, AT, *parameters)]
    return np.array(rows).T


@pytest.mark.parametrize("price", [1e-6, 1e-2, 0.5, 30.0, 1e6])
def test_lyapunov_against_quadrature(x64, price):
    heat, variance = mean_path.lyapunov(M0, AT, np.full_like(M0, price))
    expected = on_grid(lambda t, v, a: v / np.sqrt(2 * price * np.exp(-2 * a * (1 - t))))
    np.testing.assert_allclose(heat, expected[0], rtol=1e-9)
    np.testing.assert_allclose(variance, expected[1], rtol=1e-9)


@pytest.mark.parametrize("ratio", [1e-4, 0.3, 2.0, 1e3])
def test_rate_matched_against_quadrature(x64, ratio):
    heat, variance = mean_path.rate_matched(M0, AT, np.full_like(M0, ratio))
    expected = on_grid(lambda t, v, a: ratio * v)
    np.testing.assert_allclose(heat, expected[0], rtol=1e-9)
    np.testing.assert_allclose(variance, expected[1], rtol=1e-9)


@pytest.mark.parametrize("log_rate", [-30.0, -5.0, 0.0, 3.0, 9.0])
def test_constant_against_quadrature(x64, log_rate):
    """ΓT from e^-30 to e^9 hops."""
    heat, variance = mean_path.constant(M0, AT, np.full_like(M0, log_rate))
    expected = on_grid(lambda t, v, a: math.exp(log_rate) * np.ones_like(t))
    np.testing.assert_allclose(heat, expected[0], rtol=1e-8)
    np.testing.assert_allclose(variance, expected[1], rtol=1e-8)


def test_reference_values(reference, x64):
    names = [name for name in reference if name.startswith("lyapunov_optimal")]
    assert len(names) == 4
    for name in names:
        i, entry = reference[name]["inputs"], reference[name]
        # the price that the variance asks for, then the heat
        log_price = optimize.brentq(
            lambda u: float(mean_path.lyapunov(i["m0"], i["aT"], math.exp(u)).variance) - i["final_variance"],  # noqa: B023
            -25, 12, xtol=1e-13,
        )  # fmt: skip
        heat, _ = mean_path.lyapunov(i["m0"], i["aT"], math.exp(log_price))
        assert float(heat) == pytest.approx(entry["expected"]["heat_kT"], rel=entry["tolerance"]["rel"])
    entry = reference["constant_barrier_m0_256"]
    i, e = entry["inputs"], entry["expected"]
    heat, variance = mean_path.constant(i["m0"], i["a"] * i["T"], math.log(i["exchange_rate"] * i["T"]))
    assert float(heat) == pytest.approx(e["heat_kT"], rel=entry["tolerance"]["rel"])
    assert float(variance) == pytest.approx(e["final_variance"], rel=entry["tolerance"]["rel"])
    entry = reference["rate_matched_m0_256"]
    i, e = entry["inputs"], entry["expected"]
    heat, variance = mean_path.rate_matched(i["m0"], i["a"] * i["T"], i["kappa"])
    assert float(heat) == pytest.approx(e["heat_kT"], rel=entry["tolerance"]["rel"])
    assert float(variance) == pytest.approx(e["final_variance"], rel=entry["tolerance"]["rel"])


def test_textbook_forms(x64):
    """The formulas as physics.md writes them, where they keep their digits."""
    m0, a_t, mu = 100.0, 4.0, 0.5
    x = math.exp(-a_t)
    c = math.sqrt(mu / 2) * x
    q = 2 * m0 * (math.asinh(c) + c * math.asinh(1 / c) - x * math.asinh(c / x) - c * math.asinh(x / c))
    s = math.sqrt(1 + x**2 / c**2) / x - math.sqrt(1 + 1 / c**2) + (math.asinh(1 / c) - math.asinh(x / c)) / c
    heat, variance = mean_path.lyapunov(m0, a_t, mu)
    assert float(heat) == pytest.approx(q, rel=1e-12)
    assert float(variance) == pytest.approx(m0 * x**2 * s, rel=1e-12)


def test_float32_over_the_whole_range():
    m0, a_t = M0.astype(np.float32), AT.astype(np.float32)
    for function, values in (
        (mean_path.lyapunov, (1e-3, 1.0, 1e3)),
        (mean_path.rate_matched, (1e-3, 1.0, 1e3)),
        (mean_path.constant, (-30.0, 0.0, 9.0)),
    ):
        for value in values:
            narrow = function(m0, a_t, np.full_like(m0, value))
            with jax.enable_x64(True):
                wide = function(m0.astype(np.float64), a_t.astype(np.float64), np.full(m0.shape, value))
            np.testing.assert_allclose(narrow.heat_kt, wide.heat_kt, rtol=1e-4, err_msg=function.__name__)
            np.testing.assert_allclose(narrow.variance, wide.variance, rtol=1e-4, err_msg=function.__name__)


@pytest.mark.slow
def test_gradients():
    for function in (mean_path.lyapunov, mean_path.rate_matched, mean_path.constant):
        check_gradient(lambda *a, function=function: sum(function(*a)), (256.0, 6.65, 0.5), (100.0, 0.7, 2.0))
    check_gradient(mean_path.minimum_variance, (256.0, 6.65), (100.0, 0.7))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mean_path.lyapunov(256.0, 6.0, 0.0), ("price", "0")),
        (lambda: mean_path.rate_matched(256.0, 6.0, -2.0), ("ratio", "-2")),
        (lambda: mean_path.constant(256.0, 41.0, 1.0), ("contraction", "40", "41")),
        (lambda: mean_path.minimum_variance(-1.0, 1.0), ("distance", "-1")),
    ],
)
def test_wrong_arguments_are_named(call, words):
    with pytest.raises(ValueError) as error:
        call()
    assert all(word in str(error.value) for word in words), str(error.value)
