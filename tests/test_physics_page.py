"""The numbers of docs/physics.md, recomputed from its integrals by quadrature, without its closed forms."""

import math
import pathlib
import re

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq
from scipy.special import i0e

PAGE = (pathlib.Path(__file__).parents[1] / "docs/physics.md").read_text()
ROWS = re.findall(r"^\| (\d+) \| ([\d.]+) \| ([\d.]+)( ln 256)? \| ([\d.,]+) \| ([\d.,]+) \| ([\d.,]+) \|$", PAGE, re.M)


def integrals(exchange, m0, duration):
    """Heat and final variance of an exchange rate Γ(t) in the bowl with a = 1."""

    def speed(t):
        return m0 * math.exp(-t)

    def heat(t):
        return 2 * speed(t) * math.asinh(speed(t) / (2 * exchange(t)))

    def variance(t):
        return math.hypot(speed(t), 2 * exchange(t)) * math.exp(-2 * (duration - t))

    return tuple(quad(f, 0, duration, epsabs=0, epsrel=1e-10, limit=500)[0] for f in (heat, variance))


def rule(name, scale, m0, duration):
    """Γ(t) of a rule; a larger scale means more noise."""
    return {
        "lyapunov": lambda t: scale * m0**2 * math.exp(-2 * t),
        "rate-matched": lambda t: scale * m0 * math.exp(-t),
        "constant": lambda t: scale,
    }[name]


@pytest.mark.parametrize(("m0", "s", "aT", "log", "lyapunov", "matched", "constant"), ROWS)
def test_table(m0, s, aT, log, lyapunov, matched, constant):
    m0, s = float(m0), float(s)
    duration = float(aT) * (math.log(256) if log else 1.0)
    for name, printed in (("lyapunov", lyapunov), ("rate-matched", matched), ("constant", constant)):

        def excess(log_scale, name=name):
            return integrals(rule(name, math.exp(log_scale), m0, duration), m0, duration)[1] - s

        scale = math.exp(brentq(excess, -25.0, 15.0, xtol=1e-10))
        heat = integrals(rule(name, scale, m0, duration), m0, duration)[0]
        digits = len(printed.replace(",", "").replace(".", "").lstrip("0"))
        assert f"{heat:.{digits}g}" == f"{float(printed.replace(',', '')):.{digits}g}", name


def test_there_are_rows():
    assert len(ROWS) == 4


def test_the_minimum_is_where_the_page_says():
    """The bracket's minimum over Γ, by a grid, for speeds and prices over many decades."""
    for v, p in ((1.0, 1.0), (1e-3, 10.0), (50.0, 1e-6)):
        stated = v / math.sqrt(2 * p)
        gamma = stated * np.exp(np.linspace(-1, 1, 20001))
        bracket = 2 * v * np.arcsinh(v / (2 * gamma)) + p * np.hypot(v, 2 * gamma)
        assert gamma[np.argmin(bracket)] == pytest.approx(stated, rel=1e-3)


def test_numbers_in_the_text():
    def free_energy(barrier):
        # i0e is I0 with its exponential taken away.
        return -math.log(i0e(barrier / 2))

    retention = math.log(1e9 * 10 * 365.25 * 86400 / -math.log1p(-1e-4))
    for value, text in (
        (free_energy(10.0), "1.70 kT at 10"),
        (free_energy(40.0), "2.41 kT at 40"),
        (0.5 * math.log(1.4), "½ ln 1.4 = 0.17 kT"),
        (free_energy(retention) - free_energy(10.0), "retention height, costs 0.8 kT"),
        (retention, "make 49.5 kT"),
    ):
        assert text in PAGE
        printed = re.findall(r"[\d.]*\d", text.replace("1.4 =", "").replace("at 10", "").replace("at 40", ""))[-1]
        assert f"{value:.{len(printed.split('.')[1])}f}" == printed


def test_a_barrier_that_follows_the_measured_loss_needs_more():
    m0, duration, wanted = 100.0, 4.0, 14.875

    def end(scale):
        def slope(t, state):
            v = m0 * math.exp(-t)
            gamma = scale * (v**2 + state[0])  # the measured loss: distance and hop noise
            return [-2 * state[0] + math.hypot(v, 2 * gamma), 2 * v * math.asinh(v / (2 * gamma))]

        return solve_ivp(slope, (0, duration), [0.0, 0.0], rtol=1e-9, atol=1e-12).y[:, -1]

    scale = math.exp(brentq(lambda log_scale: end(math.exp(log_scale))[0] - wanted, -10.0, 0.0, xtol=1e-9))
    assert "needs 9.2 kT instead" in PAGE
    assert f"{end(scale)[1]:.1f}" == "9.2"
