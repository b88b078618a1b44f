"""From measured pulses to a device: which law its steps follow, with standard errors."""

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from limjax.devices._likelihood import SHAPES, Filtered, Numbers, Readings, cost_and_slope, filtered
from limjax.devices._pulse_data import Pulses, read_pulses

_STARTS = ((0.1, 1.0), (0.7, 0.3))
"""Where fits start from: noise of a step, and noise of a reading over its robust guess."""

# Of ln size and ln noise in units of the range; of the slope of soft bounds, where -2 leaves no step at the near end, 2
# none at the far end and 4 none from three quarters of the range on; of ν.
_BOUNDS = {"size": (-14.0, 0.7), "soft-bounds": (-2.0, 4.0), "exponential": (-8.0, 25.0), "noise": (-7.0, 4.0)}
_LEAST_FREEDOM = 3.0
_OUTLIER = 0.5  # a reading is called one if this is more likely than that it is none


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A number that was fitted.

    Attributes:
        value: the number.
        error: its standard error; inf where the data do not tell it.
        unit: its unit.
        positive: whether it cannot be negative, so that it is its logarithm that is normal.
        freedom: degrees of freedom behind the error, as the noise is known from the data alone.
    """

    value: float
    error: float
    unit: str
    positive: bool = False
    freedom: float = math.inf

    @property
    def interval(self) -> tuple[float, float]:
        """Where it is with 95 % confidence, by Student's t."""
        from scipy.special import stdtrit

        reach = float(stdtrit(min(self.freedom, 1e6), 0.975)) * self.error
        if self.positive:
            # A number that the data do not tell has an error of inf: e^700 is near the end of what a float holds.
            factor = math.exp(min(reach / self.value, 700.0))
            return self.value / factor, self.value * factor
        return self.value - reach, self.value + reach

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.error:.2g} {self.unit}".rstrip()


@dataclasses.dataclass(frozen=True)
class PulseFit:
    """The law of steps that fits measured pulses best.

    Attributes:
        law: its name.
        numbers: what was fitted, by name, see `fit_pulses`.
        low: low end of the range of the readings [S].
        high: high end [S].
        aic: Akaike's criterion of every law that was tried; the least is best.
        r_squared: share of the variance of the readings that the law explains from the start of each series, readings that are outliers left out.
        innovation: root mean square of reading minus prediction from the reading before, over what the fit says it should be: about 1.
        outliers: number of readings that are more likely outliers than not.
        readings: number of readings.
        pulses: the data.
        curve: what the law alone makes of the pulses, one number for each of the data [S].
    """

    law: str
    numbers: dict[str, Fitted]
    low: float
    high: float
    aic: dict[str, float]
    r_squared: float
    innovation: float
    outliers: int
    readings: int
    pulses: Pulses
    curve: Float[np.ndarray, "readings"]

    def __str__(self) -> str:
        lines = [f"law {self.law}, {self.readings} readings from {self.low:.4g} to {self.high:.4g} S"]
        lines += [f"  {name.replace('_', ' ')}: {number}" for name, number in self.numbers.items()]
        tried = ", ".join(f"{name} {value - min(self.aic.values()):.1f}" for name, value in self.aic.items())
        lines.append(
            f"  R² {self.r_squared:.4f}, innovation {self.innovation:.2f}, outliers {self.outliers}; AIC above the best: {tried}"
        )
        return "\n".join(lines)


def fit_pulses(data: str | os.PathLike[str] | Mapping[str, Any] | Pulses, law: str = "auto") -> PulseFit:
    r"""Fits a law of steps to measured pulses, by maximum likelihood.

    Every reading is the conductance plus noise of the reading; every pulse moves it by the law's step, times 1 + σ ξ. Both noises are
    fitted, so that errors are right whichever dominates. Readings that nothing explains (2 % are expected to be) carry no weight, and
    missing ones are pulses in between.

    Args:
        data: a CSV file or a mapping of arrays with the columns pulse, conductance [S] and direction, perhaps voltage [V], width [s], current
            [A], device and cycle.
        law: "linear", "soft-bounds", "exponential", or "auto" for the one with the least AIC.

    Returns:
        The fit. Its numbers, for up and down each: `step` in the middle of the range [S]; for soft bounds `slope`, how much smaller steps are
        at the far end than at the near one, over the step in the middle (2: none is left; 0: linear); for exponential steps
        `nonlinearity` ν over the range. Then `noise`, σ, and `reading_noise` [S].

    Raises:
        ValueError: for a law that is not known, or wrong data; the message names column, row and unit.

    Cost: some seconds, most of it compilation.

    Example:
        >>> import numpy as np
        >>> rng, up = np.random.default_rng(0), 1e-6 + 1e-7 * np.arange(40)
        >>> conductance = np.concatenate([up, up[::-1]]) + 1e-8 * rng.standard_normal(80)
        >>> fit = fit_pulses({"pulse": np.arange(80), "conductance": conductance, "direction": ["up"] * 40 + ["down"] * 40}, "linear")
        >>> low, high = fit.numbers["step_up"].interval
        >>> low < 1e-7 < high
        True

    Source: maximum likelihood of an extended Kalman filter (Särkkä, Bayesian Filtering and Smoothing, 2013, section 5.2).
    """
    if law != "auto" and law not in SHAPES:
        raise ValueError(f'law must be "auto", {", ".join(map(repr, SHAPES))}, got {law!r}.')
    pulses = data if isinstance(data, Pulses) else read_pulses(data)
    readings, low, high = _readings(pulses)
    names = tuple(SHAPES) if law == "auto" else (law,)
    # Errors are differences of gradients, which takes float64; what the user set for promotion must not reach the fit.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        readings = jax.tree.map(jnp.asarray, readings)
        found = {name: _best(name, readings) for name in names}
        aic = {name: 2 * cost + 2 * len(flat) for name, (flat, cost) in found.items()}
        best = min(aic, key=lambda name: aic[name])
        flat = found[best][0]
        errors = _errors(best, flat, readings)
        result = jax.tree.map(np.asarray, filtered(best, jnp.asarray(flat), readings))
        # Only the first reading of a series corrects the state: from there on it is the law alone.
        first = readings._replace(seen=readings.fresh & readings.seen)
        curve = np.asarray(filtered(best, jnp.asarray(flat), first).state)
    return _result(best, flat, errors, aic, pulses, readings, (low, high), result, curve)


def _readings(pulses: Pulses) -> tuple[Readings, float, float]:
    """The data for the filter, in units of their range, and that range [S]."""
    seen = ~np.isnan(pulses.conductance)
    steady = _medians(pulses.conductance[seen])
    low, high = float(steady.min()), float(steady.max())
    if not high > low:
        raise ValueError(
            f"Column conductance: all readings but single ones are the same, {low:g} S, so that there are no steps to fit. Give more pulses, "
            "or read with more digits."
        )
    # No NaN where nothing was read: the filter multiplies the value by a gain of 0.
    value = np.where(seen, (pulses.conductance - low) / (high - low), 0.0)
    count = len(value)
    steps, fresh = np.zeros(count), np.zeros(count, bool)
    for i in range(count):
        before, now = (pulses.pulse[i - 1], pulses.pulse[i]) if i else (0.0, 0.0)
        turned = i > 0 and pulses.up[i] != pulses.up[i - 1]
        # A count that goes back without a turn is a new cycle, about whose start the reading before says nothing.
        fresh[i] = i == 0 or pulses.series[i] != pulses.series[i - 1] or (now <= before and not turned)
        # A sweep that is counted from its own start begins with so many pulses.
        steps[i] = 0.0 if fresh[i] else (now - before if now > before else now)
    prior, deviation = np.zeros(count), np.ones(count)
    for i in np.flatnonzero(fresh):
        ends = np.flatnonzero(fresh[i + 1 :])
        first = value[i : i + 1 + ends[0]] if ends.size else value[i:]
        first = np.sort(first[seen[i : i + len(first)]][:5])
        if first.size:
            # Quartiles of up to five readings: one outlier among them does not matter.
            prior[i], deviation[i] = np.median(first), first[-len(first) // 4] - first[len(first) // 4] + 0.01
    return Readings(value, seen, steps, pulses.up, fresh, prior, np.maximum(deviation, 0.01)), low, high


def _medians(values: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Medians of three neighbours, so that a single outlier does not set the range."""
    padded = np.concatenate([values[:1], values, values[-1:]])
    # The ends of the range are reached at turns and ends, where a median of three falls short by a step: what is left out is noise.
    return np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)


def _best(law: str, readings: Readings) -> tuple[Float[np.ndarray, "numbers"], float]:
    """The most likely numbers from several starts, and minus their log likelihood."""
    from scipy.optimize import minimize

    value, seen, up = (np.asarray(x) for x in (readings.value, readings.seen, readings.up))
    pulses, fresh = np.asarray(readings.pulses), np.asarray(readings.fresh)
    # Changes that pulses made: both ends were read, and nothing else happened in between.
    inner = seen[1:] & seen[:-1] & ~fresh[1:] & (pulses[1:] > 0)
    change = np.diff(value) / np.maximum(pulses[1:], 1)
    sizes = []
    for way, sign in ((True, 1), (False, -1)):
        mine = sign * change[inner & (up[1:] == way)]
        # The median of the changes is safe from outliers but comes near 0, or below, where noise hides the steps.
        sizes.append(max(float(np.median(mine)), float(np.mean(np.abs(mine))) / 5, 1e-5) if mine.size else 1e-2)
    # Steady steps leave second differences alone, and independent readings give them six times their variance; 1.4826
    # makes a standard deviation of a median of distances.
    twice = np.diff(value, 2)[inner[1:] & inner[:-1]]
    reading = max(1.4826 * float(np.median(np.abs(twice))) / math.sqrt(6) if twice.size else 1e-2, 1e-4)
    shapes = {"linear": (), "soft-bounds": (1.0, 1.0), "exponential": (1.5, 1.5)}[law]
    bounds = [_BOUNDS["size"]] * 2 + [_BOUNDS.get(law, (0.0, 0.0))] * len(shapes) + [_BOUNDS["noise"], (-14.0, 0.0)]

    def cost(flat):
        value, slope = cost_and_slope(law, jnp.asarray(flat), readings)
        value, slope = float(value), np.asarray(slope)
        # A place where the filter breaks down is worse than all others.
        return (value, slope) if math.isfinite(value) and np.isfinite(slope).all() else (1e10, np.zeros_like(slope))

    tried = []
    # Noises of steps and of readings can stand in for each other: there may be a maximum on either side.
    for noise, share in _STARTS:
        start = np.array([*np.log(sizes), *shapes, math.log(noise), math.log(share * reading)])
        start = np.clip(start, *np.transpose(bounds))
        tried.append(minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 300}))
    best = min(tried, key=lambda found: found.fun)
    if not best.fun < 1e10:
        raise ValueError(
            f"No {law} law of steps fits these pulses: are conductances in siemens and in the order in which they were read?"
        )
    return best.x, float(best.fun)


def _errors(law: str, flat: Float[np.ndarray, "numbers"], readings: Readings) -> Float[np.ndarray, "numbers"]:
    """Standard errors from the curvature of the likelihood; inf for numbers that the data do not tell."""
    step = 1e-4
    rows = []
    for i in range(len(flat)):
        shift = step * np.eye(len(flat))[i]
        # Differences of a gradient that is compiled already: a Hessian would be compiled for this alone.
        above, below = (np.asarray(cost_and_slope(law, jnp.asarray(flat + s), readings)[1]) for s in (shift, -shift))
        rows.append((above - below) / (2 * step))
    curvature = 0.5 * (np.array(rows) + np.array(rows).T)
    # A noise that the data show no sign of runs to the end of its range, where the likelihood is flat.
    told = np.isfinite(np.diag(curvature)) & (np.diag(curvature) > 1e-3)
    errors = np.full(len(flat), np.inf)
    if told.any():
        covariance = np.linalg.pinv(curvature[np.ix_(told, told)])
        # Noises come out too small by the share of numbers among the readings, as always with maximum likelihood.
        count = int(np.sum(np.asarray(readings.seen)))
        covariance = covariance * count / max(count - len(flat), 1)
        errors[told] = np.sqrt(np.where(np.diag(covariance) > 0, np.diag(covariance), np.inf))
    return errors


def _result(
    law: str,
    flat: Float[np.ndarray, "numbers"],
    errors: Float[np.ndarray, "numbers"],
    aic: dict[str, float],
    pulses: Pulses,
    readings: Readings,
    ends: tuple[float, float],
    found: Filtered,
    curve: Float[np.ndarray, "readings"],
) -> PulseFit:
    low, high = ends
    width = high - low
    numbers, wrong = Numbers.of(flat), Numbers.of(errors)
    shape = {"linear": (), "soft-bounds": ("slope",), "exponential": ("nonlinearity",)}[law]
    # A variance of f degrees of freedom is known to sqrt(2/f) of itself, a deviation to sqrt(1/2f): of the noises that the data tell at
    # all the one known worse says how far errors may be trusted.
    known = [x for x in (float(wrong.log_noise), float(wrong.log_reading)) if math.isfinite(x) and x > 0]
    freedom = max(0.5 / max(known) ** 2, _LEAST_FREEDOM) if known else math.inf
    fitted = {}
    for k, way in enumerate(("up", "down")):
        # What was fitted is a logarithm: its error is that of the number over the number.
        size = float(np.exp(numbers.log_sizes[k])) * width
        fitted[f"step_{way}"] = Fitted(size, size * float(wrong.log_sizes[k]), "S", True, freedom)
        for name in shape:
            fitted[f"{name}_{way}"] = Fitted(float(numbers.shapes[k, 0]), float(wrong.shapes[k, 0]), "", False, freedom)
    noise, reading = float(np.exp(numbers.log_noise)), float(np.exp(numbers.log_reading)) * width
    fitted["noise"] = Fitted(noise, noise * float(wrong.log_noise), "", True, freedom)
    fitted["reading_noise"] = Fitted(reading, reading * float(wrong.log_reading), "S", True, freedom)
    seen, fresh = np.asarray(readings.seen), np.asarray(readings.fresh)
    good = seen & (found.inlier > _OUTLIER)
    residual, value = (np.asarray(readings.value) - curve)[good], np.asarray(readings.value)[good]
    tested = good & ~fresh
    return PulseFit(
        law=law,
        numbers=fitted,
        low=low,
        high=high,
        aic={name: float(x) for name, x in aic.items()},
        r_squared=1 - float(np.sum(residual**2) / max(float(np.sum((value - value.mean()) ** 2)), 1e-300)),
        innovation=float(np.sqrt(np.mean(found.innovation[tested] ** 2))) if tested.any() else math.nan,
        outliers=int((seen & ~good).sum()),
        readings=int(seen.sum()),
        pulses=pulses,
        curve=low + width * curve,
    )
