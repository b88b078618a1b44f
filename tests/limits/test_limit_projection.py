"""Projecting a measured run: the fit and its uncertainty, what is kept and what grows, summaries that cannot be read."""

import json
import math

import numpy as np
import pytest
from scipy import stats

import limjax
from limjax.limits import Workload, fit_path, fit_power_law, path_per_step, project
from limjax.limits._projection import read_summary, student_t_quantile
from limjax.physics.units import LN2, thermal_energy_joules

RUN = {
    "parameters": 1e4,
    "steps": 1000,
    "heat_kt": 3e6,
    "actuation_kt": 2e4,
    "path_levels": 2e6,
    "static_heat_kt": 1e8,
}


def test_student_quantile_against_scipy():
    for freedom in (1, 2, 3, 10, 200):
        for confidence in (0.5, 0.9, 0.95, 0.999):
            expected = stats.t.ppf(0.5 + confidence / 2, freedom)
            assert student_t_quantile(confidence, freedom) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ValueError, match="between 0 and 1"):
        student_t_quantile(1.0, 3)
    with pytest.raises(ValueError, match="too few points"):
        student_t_quantile(0.9, 0)


def test_fit_against_scipy():
    rng = np.random.default_rng(1)
    x = np.geomspace(1e3, 1e6, 9)
    y = 3.0 * x**-0.3 * np.exp(0.1 * rng.normal(size=9))
    fit = fit_power_law(x.tolist(), y.tolist())
    line = stats.linregress(np.log(x), np.log(y))
    assert fit.exponent == pytest.approx(line.slope, rel=1e-10)
    assert fit.intercept == pytest.approx(line.intercept, rel=1e-10)
    half = stats.t.ppf(0.975, 7) * line.stderr
    assert fit.exponent_high - fit.exponent == pytest.approx(half, rel=1e-6)
    assert fit.exponent - fit.exponent_low == pytest.approx(half, rel=1e-6)
    # the band of the line
    at = math.log(1e8) - np.log(x).mean()
    value, low, high = fit.predict(1e8)
    width = stats.t.ppf(0.975, 7) * math.hypot(fit.scatter / 3, line.stderr * at)
    assert value == pytest.approx(math.exp(line.intercept + line.slope * math.log(1e8)), rel=1e-9)
    assert math.log(high / value) == pytest.approx(width, rel=1e-6) and value / low == pytest.approx(high / value)
    assert fit.extrapolation(1e8) == pytest.approx(100) and fit.extrapolation(1e4) == 1


def test_the_interval_covers_what_it_says():
    """Exponent inside its 90 % interval in 90 % of 2,000 fits, within 5 standard errors: false alarm 6e-7."""
    rng = np.random.default_rng()
    x = np.array([1e3, 3e3, 1e4, 1e5])
    inside = 0
    for _ in range(2000):
        fit = fit_power_law(x.tolist(), (2 * x**0.2 * np.exp(0.3 * rng.normal(size=4))).tolist(), confidence=0.9)
        inside += fit.exponent_low < 0.2 < fit.exponent_high
    assert abs(inside / 2000 - 0.9) < 5 * math.sqrt(0.9 * 0.1 / 2000)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ([1.0, 2.0, 4.0], [1.0, 1.0, 1.0], "at least 4 different sizes, got 3"),
        ([1.0, 1.0, 2.0, 4.0], [1.0] * 4, "at least 4 different sizes, got 3"),
        ([1.0, 2.0, 4.0, 8.0], [1.0] * 3, "same length"),
        ([1.0, 2.0, 4.0, -8.0], [1.0] * 4, r"x must hold positive, finite numbers, got -8\.0"),
        ([1.0, 2.0, 4.0, 8.0], [1.0, 1.0, 1.0, math.nan], "y must hold positive, finite numbers, got nan"),
    ],
)
def test_fits_that_cannot_be_made(x, y, words):
    with pytest.raises(ValueError, match=words):
        fit_power_law(x, y)


def test_projection_by_hand():
    workload = Workload(1e9, tokens=2e10, bits=8)
    got = project(RUN, workload)
    kt = thermal_energy_joules(300.0)
    path = 2e6 / (1e4 * 1000) * 1e9 * 2e4
    assert got.path_levels == pytest.approx(path)
    assert got.heat_joules == pytest.approx(path * 1.5 * kt)
    assert got.heat_low_joules == got.heat_high_joules == got.heat_joules
    assert got.static_heat_joules == pytest.approx(path * 50 * kt)
    assert got.actuation_joules == pytest.approx(2.0 * 1e9 * kt)
    assert got.landauer_joules == pytest.approx(1e9 * 2e4 * 8 * LN2 * kt)
    assert got.extrapolation == pytest.approx(1e5) and got.is_extrapolated
    assert "kept at the run's" in got.assumptions and "1e+05 times beyond" in got.assumptions
    assert project(RUN, workload, temperature=600.0).heat_joules == pytest.approx(2 * got.heat_joules)
    with pytest.raises(ValueError, match="temperature"):
        project(RUN, workload, temperature=0.0)


def widths(exponent, scatter=0.0):
    rng = np.random.default_rng(2)
    return [
        {**RUN, "parameters": n, "path_levels": 0.5 * n**exponent * n * 1000 * math.exp(scatter * rng.normal())}
        for n in (1e3, 1e4, 1e5, 1e6)
    ]


def test_projection_with_a_fit():
    runs = widths(-0.25)
    fit = fit_path(runs)
    assert fit.exponent == pytest.approx(-0.25) and fit.exponent_high - fit.exponent_low < 1e-6
    workload = Workload(1e9, tokens=2e10)
    got = project(runs[1], workload, fit)
    assert got.path_levels == pytest.approx(0.5 * 1e9**-0.25 * 1e9 * 2e4)
    assert got.extrapolation == pytest.approx(1e3)
    noisy = fit_path(widths(-0.25, 0.2))
    got = project(runs[1], workload, noisy)
    assert got.heat_low_joules < got.heat_joules < got.heat_high_joules
    spread = (noisy.exponent_high - noisy.exponent_low) * math.log(1e9 / 1e4)
    assert math.log(got.heat_high_joules / got.heat_low_joules) == pytest.approx(spread)
    assert "95 %" in got.assumptions and got.as_dict()["is_extrapolated"]
    # at the run's own size nothing is projected
    same = project(runs[1], Workload(1e4, steps=1000.0), noisy)
    assert same.path_levels == pytest.approx(runs[1]["path_levels"]) and not same.is_extrapolated
    assert same.heat_joules == pytest.approx(RUN["heat_kt"] * thermal_energy_joules(300.0))


@pytest.mark.slow
@pytest.mark.optax
def test_a_real_run(tmp_path):
    summary = limjax.train("diabetes-regression", steps=30, hops="mean").summary
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    by_folder = project(tmp_path, Workload(1e9))
    assert by_folder == project(str(tmp_path / "summary.json"), Workload(1e9)) == project(summary, Workload(1e9))
    same = project(summary, Workload(float(summary["parameters"]), steps=30.0))
    assert same.heat_joules == pytest.approx(summary["heat_joules"], rel=1e-9)
    assert path_per_step(summary) == summary["path_levels"] / summary["parameters"] / 30


def test_summaries_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_summary(tmp_path / "none.json")
    path = tmp_path / "summary.json"
    for text, words in (
        ("{", "is not valid JSON"),
        ("[]", "must hold one JSON object"),
        (json.dumps({"parameters": 1}), "lacks steps, heat_kt, actuation_kt, path_levels, static_heat_kt"),
        (json.dumps({**RUN, "heat_kt": "much"}), "heat_kt must be a number, got 'much'"),
        (json.dumps({**RUN, "static_heat_kt": None}), "static_heat_kt must be a number, got None"),
        (json.dumps({**RUN, "path_levels": 0}), "path_levels must be positive"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=words) as error:
            read_summary(tmp_path)
        assert "summary.json" in str(error.value) and "\n" not in str(error.value)
