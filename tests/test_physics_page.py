"""The numbers of docs/physics.md, recomputed from its integrals by quadrature, without its closed forms."""

import math
import re

import numpy as np
import pytest
from prose import words_of
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import i0e

PAGE, LAW = words_of("physics.md"), words_of("law.md")
ROWS = re.findall(r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \|((?: [\d.,]+ \|){6})$", LAW, re.M)


def moments(exchange, m0, duration, steps=1200):
    """Heat and final loss in the bowl with u = 1, for an exchange Γ(m, L): the weight spread as a Gaussian about its mean."""
    z, weight = np.polynomial.legendre.leggauss(120)
    z, weight = 7 * z, 7 * weight * np.exp(-24.5 * z * z) / math.sqrt(2 * math.pi)
    variance, heat, h = 0.0, 0.0, duration / steps
    for k in range(steps):
        mean, middle = m0 * math.exp(-(k + 0.5) * h), variance
        for _ in range(2):
            d, gamma = mean + math.sqrt(max(middle, 0.0)) * z, exchange(mean, mean * mean + middle)
            slope = weight @ np.hypot(d, 2 * gamma) - 2 * middle
            middle = variance + 0.5 * h * slope
        variance, heat = variance + h * slope, heat + h * (weight @ (2 * d * np.arcsinh(d / (2 * gamma))))
    return heat, (m0 * math.exp(-duration)) ** 2 + variance


RULES = {
    "loss-following": (lambda scale: lambda m, loss: scale * loss, -6.0, 0.0),
    "rate-matched": (lambda scale: lambda m, loss: scale * m, -2.0, 6.0),
    "best constant": (lambda scale: lambda m, loss: scale, -3.0, 4.0),
}


def mean_path(m0, duration, wanted):
    """Least heat of the mean path, from its integrals: Γ ∝ m², with the price that leaves the wanted variance."""

    def integral(scale):
        speed = lambda t: m0 * math.exp(-t)  # noqa: E731
        exchange = lambda t: scale * speed(t) ** 2  # noqa: E731
        heat = lambda t: 2 * speed(t) * math.asinh(speed(t) / (2 * exchange(t)))  # noqa: E731
        noise = lambda t: math.hypot(speed(t), 2 * exchange(t)) * math.exp(-2 * (duration - t))  # noqa: E731
        return tuple(quad(f, 0, duration, epsabs=0, epsrel=1e-10, limit=500)[0] for f in (heat, noise))

    return integral(math.exp(brentq(lambda x: integral(math.exp(x))[1] - wanted, -25.0, 15.0, xtol=1e-10)))[0]


@pytest.mark.parametrize(("m0", "last", "duration", "cells"), ROWS)
def test_table_of_the_law(m0, last, duration, cells):
    """Every column but the direct optimum (tests/limits) from moments and integrals of this file's own."""
    m0, last, duration = float(m0), float(last), float(duration)
    law, direct, *others, path_only = (float(c.replace(",", "")) for c in re.findall(r"[\d.,]+", cells))
    span = math.log(m0**2 / last)
    assert law == pytest.approx(duration**2 / (duration - span / 2), rel=3e-3)
    assert law < direct <= others[0] * 1.001
    for (rule, low, high), printed in zip(RULES.values(), others):
        miss = lambda x, rule=rule: math.log(moments(rule(math.exp(x)), m0, duration, 240)[1] / last)  # noqa: E731
        heat, _ = moments(rule(math.exp(brentq(miss, low, high, xtol=1e-4))), m0, duration)
        assert heat == pytest.approx(printed, rel=0.01)
    variance = 14.875 if m0 == 100 else 1.0
    assert last == pytest.approx(variance + (m0 * math.exp(-duration)) ** 2, rel=1e-3)
    assert path_only == pytest.approx(mean_path(m0, duration, variance), rel=7e-3)


def test_there_are_rows():
    assert len(ROWS) == 4


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
        (retention + math.log(2), "ln 2 more, 50.2 kT"),
    ):
        assert text in PAGE
        printed = re.findall(r"[\d.]*\d", text.replace("1.4 =", "").replace("at 10", "").replace("at 40", ""))[-1]
        assert f"{value:.{len(printed.split('.')[1])}f}" == printed
