"""Barrier and attempt rate of a device from retention tests at several temperatures, by Arrhenius' law."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from limjax.devices._fit import Fitted
from limjax.devices._pulse_data import numbers_of, read_table
from limjax.devices._pulsed_cell import Retention
from limjax.numerics.checks import WholeNumber, elided
from limjax.physics.units import BOLTZMANN_J_PER_K, ELEMENTARY_CHARGE_C

Tests = Sequence[float | int] | Float[np.ndarray, "tests"] | Int[np.ndarray, "tests"]
"""One number for each test."""

_EV_PER_K = BOLTZMANN_J_PER_K / ELEMENTARY_CHARGE_C
_COLDEST = 150.0  # [K]; retention tests are warmer, and degrees Celsius are below it


@dataclasses.dataclass(frozen=True)
class RetentionFit:
    """Arrhenius' law of retention loss: cells fail at the rate k0 e^(-E_a/k_B T).

    Attributes:
        activation_ev: E_a [eV].
        log_attempt_rate: ln k0 [ln(1/s)]; its error and that of E_a go together.
        reference: temperature in the middle of the tests, where the rate is known best [K].
        log_rate: ln of the rate there [ln(1/s)].
        spread: root mean square of the distance of the points from the line, in its logarithm.
    """

    activation_ev: Fitted
    log_attempt_rate: Fitted
    reference: float
    log_rate: Fitted
    spread: float

    @property
    def attempt_rate(self) -> float:
        """k0 [1/s]."""
        return math.exp(self.log_attempt_rate.value)

    def barrier(self, temperature: float = 300.0) -> Fitted:
        """The barrier at a temperature, E_a / k_B T.

        Args:
            temperature: T [K].

        Returns:
            B [kT].
        """
        scale = 1 / (_EV_PER_K * temperature)
        energy = self.activation_ev
        return dataclasses.replace(energy, value=energy.value * scale, error=energy.error * scale, unit="kT")

    def retention(self) -> Retention:
        """The same for a `PulsedCell`."""
        return Retention(self.activation_ev.value, self.attempt_rate)

    def __str__(self) -> str:
        rate = f"attempt rate {self.attempt_rate:.3g} 1/s (ln: {self.log_attempt_rate})"
        return f"activation energy {self.activation_ev}, {rate}; at 300 K a barrier of {self.barrier(300.0)}"


def fit_retention(
    times: Tests,
    temperatures: Tests,
    failures: Tests,
    cells: WholeNumber | Sequence[WholeNumber] | None = None,
) -> RetentionFit:
    r"""Barrier and attempt rate from how many cells lost their state: $P = 1 - \exp(-k_0\,t\,e^{-E_a/k_BT})$.

    Args:
        times: duration of each test [s].
        temperatures: its temperature [K], at least two different ones.
        failures: share of the cells that failed, above 0 and below 1; or their number where `cells` says how many there were, which may be none
            or all.
        cells: how many cells each test had. Then the fit is the most likely one of binomial counts; without, a robust line through the
            logarithms (an outlier carries little weight), whose errors come from the scatter, with as many degrees of
            freedom as there are tests beyond two: infinite for two, which show none.

    Returns:
        The fit.

    Raises:
        ValueError: for tests that tell no barrier; the message names the test.

    Example:
        >>> import numpy as np
        >>> temperatures, times = np.array([400.0, 425.0, 450.0]), np.array([1e6, 1e5, 1e4])
        >>> share = 1 - np.exp(-1e12 * times * np.exp(-1.5 / (8.617333e-5 * temperatures)))
        >>> f"{fit_retention(times, temperatures, share).activation_ev.value:.3f} eV"
        '1.500 eV'

    Source: JEDEC JESD22-A117 and JESD91 for retention tests and Arrhenius' law; the cell of this library for what they mean.
    """
    time, kelvin, failed = (np.atleast_1d(np.asarray(x, np.float64)) for x in (times, temperatures, failures))
    count = None if cells is None else np.asarray(cells, np.float64)
    if count is not None:
        if count.shape not in ((), (1,), failed.shape):
            raise ValueError(
                f"cells must be one number for all tests or one for each of the {failed.size}, got {count.size} numbers."
            )
        count = np.broadcast_to(count, failed.shape)
    _check(time, kelvin, failed, count)
    # From the middle of the tests, where the rate is measured; k0 stands far outside of them, at 1/T = 0, and follows
    # from it.
    middle = float(np.mean(1 / kelvin))
    distance = (1 / kelvin - middle) / _EV_PER_K  # [1/eV]
    # Half a failure more, as 0 and all have no logarithm here. It only starts the fit of counts and gives `spread`.
    share = failed if count is None else (failed + 0.5) / (count + 1)
    # ln of the rate: P = 1 - e^(-rate t), whose rate is -ln(1 - P)/t.
    height = np.log(-np.log1p(-share)) - np.log(time)
    start = np.array([np.average(height), -np.polyfit(distance, height, 1)[0]])
    solution, covariance, spread = (
        _line(distance, height, start) if count is None else _binomial(distance, time, failed, count, start, height)
    )
    log_rate, activation = (float(x) for x in solution)
    # From the middle of the tests to infinite temperature, as a line and with both errors and their covariance.
    lever = middle / _EV_PER_K
    log_attempts = log_rate + activation * lever
    errors = np.sqrt(np.diag(covariance))
    # The scatter is known from the tests themselves, that of counts from the binomial law. Two tests have errors of inf already.
    freedom = math.inf if count is not None else max(len(height) - 2.0, 1.0)
    error = math.sqrt(max(float(np.array([1.0, lever]) @ covariance @ np.array([1.0, lever])), 0.0))
    if activation <= 0:
        raise _no_faster(f"activation energy {activation:.3g} eV")
    return RetentionFit(
        activation_ev=Fitted(activation, float(errors[1]), "eV", freedom=freedom),
        log_attempt_rate=Fitted(log_attempts, error, "", freedom=freedom),
        reference=1 / middle,
        log_rate=Fitted(log_rate, float(errors[0]), "", freedom=freedom),
        spread=spread,
    )


def read_retention(file: str | os.PathLike[str]) -> dict[str, Any]:
    """Retention tests from a CSV file, as the arguments of `fit_retention`.

    Args:
        file: with the columns time [s], temperature [K] and failures, perhaps cells.

    Returns:
        Arrays by argument.

    Raises:
        ValueError: if a column is missing or a number wrong.
    """
    where, table = read_table(pathlib.Path(file))
    names = {"times": "time", "temperatures": "temperature", "failures": "failures"}
    missing = [name for name in names.values() if name not in table]
    if missing:
        raise ValueError(
            f"{where}: no column {missing[0]!r}; there are {', '.join(map(repr, table))}. It needs time [s], temperature [K] and failures "
            "(a share, or a count with a column cells)."
        )
    units = {"time": "seconds", "temperature": "kelvin", "failures": "a share or a count"}
    found: dict[str, Any] = {key: numbers_of(where, table, name, units[name]) for key, name in names.items()}
    if "cells" in table:
        found["cells"] = [round(x) for x in numbers_of(where, table, "cells", "a count")]
    return found


def _check(
    time: Float[np.ndarray, "..."],
    kelvin: Float[np.ndarray, "..."],
    failed: Float[np.ndarray, "..."],
    count: Float[np.ndarray, "..."] | None,
) -> None:
    if not time.shape == kelvin.shape == failed.shape or time.ndim != 1:
        raise ValueError(
            f"times, temperatures and failures must be lists of equal length, got {time.size}, {kelvin.size} and {failed.size} numbers."
        )
    for name, values, wrong, said in (
        ("times", time, ~(time > 0), "a duration in seconds above 0"),
        ("temperatures", kelvin, ~(kelvin >= _COLDEST), "a temperature in kelvin: 85 °C are 358.15"),
        ("failures", failed, ~((failed > 0) & (failed < 1)), "a share above 0 and below 1; for counts pass cells=")
        if count is None
        else (
            "failures",
            failed,
            ~((failed >= 0) & (failed <= count)),
            "a number of failed cells, not more than there were",
        ),
    ):
        bad = np.flatnonzero(wrong | ~np.isfinite(values))
        if bad.size:
            raise ValueError(f"{name}, test {bad[0] + 1}: expected {said}, got {values[bad[0]]:g}.")
    if np.unique(kelvin).size < 2:
        said = f"all tests are at {kelvin[0]:g} K" if kelvin.size else "there are no tests"
        raise ValueError(f"temperatures: {said}; a barrier takes two temperatures at least.")
    if count is None:
        return
    lost, kept = kelvin[failed > 0], kelvin[failed < count]
    said = elided(", ".join(f"{k:g} of {n:g}" for k, n in zip(failed, count)))
    # Where a temperature parts cells that fail from cells that do not, ever steeper lines are ever more likely: no barrier is the
    # likeliest, and the search would end anywhere.
    if not (lost.size and kept.size) or kept.max() <= lost.min():
        raise ValueError(
            f"failures: {said} tell no barrier, which takes cells that failed at one temperature and cells that held at a warmer one. "
            "Test longer where none failed, shorter where all did."
        )
    if lost.max() <= kept.min():
        raise _no_faster(f"{said} failed")


def _no_faster(said: str) -> ValueError:
    return ValueError(
        f"These tests fail no faster when they are warmer ({said}): Arrhenius' law tells no barrier from them. Are temperatures in kelvin "
        "and times in seconds, test by test?"
    )


def _line(
    distance: Float[np.ndarray, "tests"], height: Float[np.ndarray, "tests"], start: Float[np.ndarray, "2"]
) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2 2"], float]:
    from scipy.optimize import least_squares

    design = np.stack([np.ones_like(distance), -distance], axis=1)
    inverse, free = np.linalg.inv(design.T @ design), len(height) - 2

    def residual(x):
        return height - design @ x

    # Distances beyond the usual one count linearly. 1.4826 makes a standard deviation of a median of distances, of which a line takes
    # away by its leverage and one altogether: of three they are as 1, 2, 1 whatever the tests. Points on one line leave 0, which is no
    # scale, and two have no distance at all.
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    apart = np.sort(np.abs(residual(start)) / np.sqrt(np.maximum(1 - leverage, 1e-9)))[1:]
    usual = max(1.4826 * float(np.median(apart)), 1e-9)
    found = least_squares(residual, start, loss="soft_l1", f_scale=usual)
    rest = residual(found.x)
    covariance = np.full((2, 2), np.inf)
    # A line meets two points whatever their errors are: they show no scatter.
    if free > 0:
        # The variance of an M-estimate with the pull ψ of each point, Σψ²/(n - 2) over the square of the mean of its slope, with its
        # correction for few points (Huber, Robust Statistics, 1981, section 7.6).
        scaled = 1 + (rest / usual) ** 2
        pull, slope = rest / np.sqrt(scaled), scaled**-1.5
        correction = 1 + 2 / len(height) * np.var(slope) / np.mean(slope) ** 2
        covariance = (correction / np.mean(slope)) ** 2 * float(np.sum(pull**2)) / free * inverse
    return found.x, covariance, float(np.sqrt(np.mean(rest**2)))


def _binomial(
    distance: Float[np.ndarray, "tests"],
    time: Float[np.ndarray, "tests"],
    failed: Float[np.ndarray, "tests"],
    count: Float[np.ndarray, "tests"],
    start: Float[np.ndarray, "2"],
    height: Float[np.ndarray, "tests"],
) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2 2"], float]:
    from scipy.optimize import minimize

    def cost(x):
        # A simplex tries anything: from h = e^30 on no cell survives, and below e^-700 float64 ends.
        hazard = np.exp(np.clip(x[0] - x[1] * distance + np.log(time), -700, 30))
        lost = np.maximum(-np.expm1(-hazard), 1e-300)
        # Minus the logarithm of the binomial law; a survivor counts -ln e^-h = h, which ln(1 - P) would round away.
        return float(np.sum(-failed * np.log(lost) + (count - failed) * hazard))

    found = minimize(cost, start, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 20_000})
    hazard = np.exp(found.x[0] - found.x[1] * distance + np.log(time))
    # Fisher's information of a binomial count with P = 1 - e^-h: n h² e^-h / (1 - e^-h) for ln h.
    information = count * hazard**2 * np.exp(-hazard) / np.maximum(-np.expm1(-hazard), 1e-300)
    design = np.stack([np.ones_like(distance), -distance], axis=1)
    covariance = np.linalg.inv((design * information[:, None]).T @ design)
    rest = height - (found.x[0] - found.x[1] * distance)
    return found.x, covariance, float(np.sqrt(np.mean(rest**2)))
