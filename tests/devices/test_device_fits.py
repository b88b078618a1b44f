"""Devices from data: fits recover what curves were made with, within their errors, and wrong files are refused in one paragraph."""

import numpy as np
import pytest
from device_curves import NOISE, OFFSET, READING, SCALE, TRUTH, measured

from limjax.devices import fit_pulses, fit_retention
from limjax.devices._pulse_data import read_pulses


def truth_at(law, fit):
    """What the numbers of a fit should be: steps in the middle of its range, shapes over the width of it."""
    width, middle = (fit.high - fit.low) / SCALE, (0.5 * (fit.high + fit.low) - OFFSET) / SCALE
    found = {"noise": NOISE, "reading_noise": READING * SCALE}
    for k, way in enumerate(("up", "down")):
        size, shape = TRUTH[law][0][k], TRUTH[law][1][k]
        gone = middle if way == "up" else 1 - middle
        if law == "linear":
            found[f"step_{way}"] = size * SCALE
        elif law == "soft-bounds":
            local = 1 - shape * (gone - 0.5)
            found[f"step_{way}"], found[f"slope_{way}"] = size * local * SCALE, shape * width / local
        else:
            found[f"step_{way}"] = size * np.exp(-shape * (gone - 0.5)) * SCALE
            found[f"nonlinearity_{way}"] = shape * width
    return found


def distance(number, truth):
    """From the truth, in standard errors; of positive numbers in the logarithm."""
    if number.positive:
        return np.log(number.value / truth) / (number.error / number.value)
    return (number.value - truth) / number.error


def deviations(law, trials):
    """Of every number and trial: how many standard errors the fit is off, and whether its interval holds the truth."""
    off, held = [], []
    for seed in range(trials):
        fit = fit_pulses(measured(law, np.random.default_rng([seed, trials])), law)
        truth = truth_at(law, fit)
        assert set(truth) == set(fit.numbers)
        off.append([distance(fit.numbers[name], value) for name, value in truth.items()])
        held.append(
            [low <= truth[name] <= high for name, (low, high) in ((n, f.interval) for n, f in fit.numbers.items())]
        )
    return np.array(off), np.array(held)


@pytest.mark.slow
def test_a_few_curves_are_recovered():
    off, _ = deviations("soft-bounds", 6)
    # 36 normal numbers, though not independent ones: none beyond 4.5 deviations, a false alarm in 4,000.
    assert np.abs(off).max() < 4.5
    assert np.sqrt(np.mean(off**2)) < 1.8


@pytest.mark.slow
@pytest.mark.parametrize("law", TRUTH)
def test_intervals_of_95_percent_hold_in_95_percent_of_200_trials(law):
    off, held = deviations(law, 200)
    print(law, held.mean(axis=0), off.mean(axis=0), off.std(axis=0))
    # 95 % of 200 are 190 ± 3.1: for no number below 177 (four deviations), and for all of them together, which are some 800 to 1200
    # chances, not below 92.5 % (three or four).
    assert held.mean(axis=0).min() >= 0.885
    assert held.mean() >= 0.925
    assert (np.abs(off) < 3).mean() >= 0.98


@pytest.mark.slow
def test_missing_points_and_outliers_do_not_break_a_fit():
    data, rng = measured("soft-bounds", np.random.default_rng(5)), np.random.default_rng(6)
    clean = fit_pulses(data, "soft-bounds")
    spoiled = {name: np.array(column) for name, column in data.items()}
    outliers = rng.choice(240, 12, replace=False)
    spoiled["conductance"][outliers] = rng.uniform(0, 3e-5, 12)
    spoiled["conductance"][rng.choice(240, 12, replace=False)] = np.nan
    kept = np.sort(rng.choice(240, 216, replace=False))
    spoiled = {name: column[kept] for name, column in spoiled.items()}
    fit = fit_pulses(spoiled, "soft-bounds")
    assert 0.5 * 12 * 0.9 <= fit.outliers <= 14
    for name, truth in truth_at("soft-bounds", fit).items():
        assert abs(distance(fit.numbers[name], truth)) < 4.5, name
    # 5 % outliers and 15 % missing: errors grow, but not by much.
    assert all(fit.numbers[name].error < 2 * clean.numbers[name].error for name in clean.numbers)
    assert fit.r_squared > 0.9 and fit.innovation == pytest.approx(1.0, abs=0.25)


@pytest.mark.slow
def test_the_law_is_told_from_the_data():
    fit = fit_pulses(measured("soft-bounds", np.random.default_rng(7)))
    assert fit.law == "soft-bounds" and min(fit.aic.values()) == fit.aic["soft-bounds"]
    assert fit.aic["linear"] > fit.aic["soft-bounds"] + 20
    assert "slope up" in str(fit) and "±" in str(fit)


CSV = "pulse,conductance,direction\n" + "".join(f"{i},{1 + i}e-06,up\n" for i in range(8))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"holds no readings"),
        ("pulse,direction\n1,up\n", r"no column 'conductance'; there are 'pulse', 'direction'.*siemens"),
        (CSV.replace("2e-06", "2 uS"), r"column conductance, row 2: expected a number \(siemens\), got '2 uS'"),
        (CSV.replace("3e-06", "300000"), r"column conductance, row 3: 300000.*siemens.*ohm"),
        (CSV.replace("3e-06", "-3e-06"), r"column conductance, row 3: -3e-06"),
        (CSV.replace("4,5e-06,up", "4,5e-06,sideways"), r"column direction, row 5: expected up or down.*'sideways'"),
        (CSV.replace("4,5e-06,up", "4,5e-06"), r"row 5: 2 values, but the first line names 3"),
        (CSV.replace("\n4,", "\nfour,"), r"column pulse, row 5: expected a number \(a count\), got 'four'"),
        ("\n".join(CSV.splitlines()[:4]), r"3 readings are too few"),
        ("pulse,conductance,direction\n" + "1,1e-6,up\n" * 6, r"all readings are the same"),
        (
            CSV.replace("direction", "direction,width").replace(",up", ",up,0"),
            r"column width, row 1: 0 is no width in seconds",
        ),
    ],
)
def test_wrong_files_are_refused_in_one_paragraph(tmp_path, text, said):
    path = tmp_path / "pulses.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as error:
        read_pulses(path)
    assert "pulses.csv" in str(error.value) and "\n" not in str(error.value)


def test_a_file_as_a_parameter_analyser_writes_it(tmp_path):
    path = tmp_path / "pulses.csv"
    rows = [f"{i};{1e-6 * (1 + i)};{way};1.5;1e-7" for way in ("LTP", "LTD") for i in range(1, 7)]
    path.write_text("﻿# made by hand\nPulse;Conductance;Direction;Voltage;Width\n" + "\n".join(rows) + "\n\n")
    pulses = read_pulses(path)
    assert pulses.up.tolist() == [True] * 6 + [False] * 6 and pulses.voltage is not None
    with pytest.raises(ValueError, match="different lengths"):
        read_pulses({"pulse": [1, 2], "conductance": [1e-6], "direction": ["up", "up"]})
    with pytest.raises(ValueError, match=r"conductance: all readings but single ones are the same, 1e-06 S"):
        fit_pulses({"pulse": np.arange(7), "conductance": [1e-6] * 3 + [2e-6] + [1e-6] * 3, "direction": ["up"] * 7})
    with pytest.raises(ValueError, match=r"law must be .*'cubic'"):
        fit_pulses(pulses, "cubic")
    with pytest.raises(ValueError, match=r"no text file"):
        read_pulses(tmp_path)


# Retention.

EV_PER_K = 1.380649e-23 / 1.602176634e-19
TESTS = np.repeat([398.0, 423.0, 448.0, 473.0], 3), np.tile([1e3, 1e4, 1e5], 4)


def lost(kelvin, seconds, activation=1.2, attempts=1e9):
    return -np.expm1(-attempts * seconds * np.exp(-activation / (EV_PER_K * kelvin)))


def test_retention_is_recovered_from_counts():
    rng, off = np.random.default_rng(8), []
    kelvin, seconds = TESTS
    for _ in range(200):
        failures = rng.binomial(1000, lost(kelvin, seconds))
        fit = fit_retention(seconds, kelvin, failures, cells=1000)
        off.append([distance(fit.activation_ev, 1.2), distance(fit.log_attempt_rate, np.log(1e9))])
    off = np.array(off)
    assert (np.abs(off) < 1.96).mean(axis=0).min() >= 0.88
    assert abs(off.mean()) < 4.5 / np.sqrt(200)
    barrier = fit.barrier(300.0)
    assert barrier.value == pytest.approx(fit.activation_ev.value / (EV_PER_K * 300)) and barrier.unit == "kT"
    assert float(fit.retention().barrier(300.0)) == pytest.approx(barrier.value, rel=1e-6)


def test_retention_from_shares_with_an_outlier():
    kelvin, seconds = TESTS
    share = lost(kelvin, seconds)
    inside = (share > 1e-4) & (share < 0.999)
    rng = np.random.default_rng(9)
    share = -np.expm1(np.log1p(-share[inside]) * np.exp(0.1 * rng.standard_normal(inside.sum())))
    clean = fit_retention(seconds[inside], kelvin[inside], share)
    assert abs(distance(clean.activation_ev, 1.2)) < 4.5
    share[2] = 0.9
    spoiled = fit_retention(seconds[inside], kelvin[inside], share)
    assert spoiled.activation_ev.value == pytest.approx(1.2, abs=0.1) and spoiled.spread > clean.spread


@pytest.mark.parametrize("tests", [3, 5, 12])
def test_intervals_of_shares_hold_the_truth(tests):
    """95 %, of 300 sets of tests, within three standard errors of a share; their number is all that errors of scatter rest on."""
    rng, held = np.random.default_rng(4), 0
    kelvin = np.linspace(400.0, 460.0, tests)
    seconds = 0.2 / (1e9 * np.exp(-1.2 / (EV_PER_K * kelvin)))
    for _ in range(300):
        share = -np.expm1(-0.2 * np.exp(0.2 * rng.standard_normal(tests)))
        fit = fit_retention(seconds, kelvin, share)
        low, high = fit.activation_ev.interval
        held += low <= 1.2 <= high
        low, high = fit.barrier(300.0).interval
        assert low * EV_PER_K * 300 == pytest.approx(fit.activation_ev.interval[0], rel=1e-6) and high > low
    assert abs(held / 300 - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 300)


def test_two_shares_give_a_line_without_errors():
    fit = fit_retention([1e4, 1e4], [400.0, 430.0], [0.1, 0.5])
    rates = -np.log1p(-np.array([0.1, 0.5])) / 1e4
    expected = np.log(rates[1] / rates[0]) * EV_PER_K / (1 / 400 - 1 / 430)
    assert fit.activation_ev.value == pytest.approx(expected, rel=1e-6)
    errors = [fit.activation_ev.error, fit.log_attempt_rate.error, fit.log_rate.error, fit.barrier().error]
    assert errors == [np.inf] * 4 and fit.activation_ev.interval == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([1.0, 1.0], [25.0, 85.0], [0.1, 0.2]), r"temperatures, test 1.*kelvin: 85 °C.*got 25"),
        (([1.0, -1.0], [300.0, 400.0], [0.1, 0.2]), r"times, test 2.*got -1"),
        (([1.0, 1.0], [300.0, 400.0], [0.1, 1.0]), r"failures, test 2.*cells="),
        (([1.0, 1.0], [300.0, 400.0], [1, 20], 10), r"failures, test 2.*not more than"),
        (([1.0, 1.0], [300.0, 300.0], [0.1, 0.2]), r"all tests are at 300 K"),
        (([1.0, 1.0], [300.0, 400.0], [0.2, 0.1]), r"fail no faster when they are warmer"),
        (([1.0], [300.0, 400.0], [0.2, 0.1]), r"equal length, got 1, 2 and 2"),
        (([], [], []), r"temperatures: there are no tests"),
        (([1.0, 1.0], [300.0, 400.0], [1, 2], [10, 10, 10]), r"cells must be .*each of the 2, got 3 numbers"),
        (([1.0, 1.0], [300.0, 400.0], [0, 0], 100), r"0 of 100, 0 of 100 tell no barrier.*Test longer"),
        (([1.0, 1.0], [300.0, 400.0], [100, 100], 100), r"100 of 100, 100 of 100 tell no barrier.*shorter"),
        (([1.0, 1.0, 1.0], [300.0, 350.0, 400.0], [0, 5, 100], 100), r"failures: 0 of 100, 5 of 100.*tell no barrier"),
        (([1.0, 1.0], [300.0, 400.0], [5, 0], 100), r"no faster when they are warmer \(5 of 100, 0 of 100 failed\)"),
    ],
)
def test_wrong_retention_tests_are_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        fit_retention(*arguments)
