"""From a measured run to a larger model: path per parameter and step against width, and the heat that follows.

A run's summary says how far its weights moved in all (`path_levels`) and what that cost. The heat per level of path is
a property of the cells and their barriers; the path per parameter and step is a property of the network, and changes
with its width. The second is fitted as a power law over measured widths, the first taken from the run.
"""

import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.special import stdtrit

from limjax.limits._workload import Workload
from limjax.numerics.checks import positive_number
from limjax.physics.units import LN2, thermal_energy_joules

SUMMARY_KEYS = ("parameters", "steps", "heat_kt", "actuation_kt", "path_levels", "static_heat_kt")
"""What a summary must hold."""

# Four points leave two degrees of freedom, at which Student's t is 4.3 at 95 %; at one it is 12.7.
MIN_WIDTHS = 4


@dataclass(frozen=True)
class PowerLawFit:
    """y = e^intercept x^exponent with its uncertainty, from least squares in logarithms.

    Attributes:
        exponent: power of x.
        exponent_low: lower end of its confidence interval.
        exponent_high: upper end.
        intercept: ln y at x = 1.
        scatter: standard deviation of ln y about the line.
        mean_log_x: mean of ln x over the points.
        spread: sum of squared deviations of ln x.
        points: how many points.
        quantile: Student's t for the confidence asked for.
        confidence: of the interval, for example 0.95.
        fitted: smallest and largest x.
    """

    exponent: float
    exponent_low: float
    exponent_high: float
    intercept: float
    scatter: float
    mean_log_x: float
    spread: float
    points: int
    quantile: float
    confidence: float
    fitted: tuple[float, float]

    def predict(self, x: float) -> tuple[float, float, float]:
        """The line and its confidence band at x, which widens with the distance from the points.

        Args:
            x: where, positive.

        Returns:
            `(value, low, high)`.

        Raises:
            ValueError: if x is not positive.
        """
        distance = math.log(positive_number(x, "x", "It is a size, for example 1e15.")) - self.mean_log_x
        centre = self.intercept + self.exponent * (distance + self.mean_log_x)
        # The band of the line itself, without the scatter of a further run about it.
        half = self.quantile * self.scatter * math.sqrt(1 / self.points + distance**2 / self.spread)
        # A band far beyond the points may leave float64, which ends at e^709; the line itself may still be in it.
        return math.exp(centre), math.exp(min(centre - half, 700.0)), math.exp(min(centre + half, 700.0))

    def extrapolation(self, x: float) -> float:
        """How many times x is outside the fitted range; 1 inside."""
        return max(x / self.fitted[1], self.fitted[0] / x, 1.0)


def student_t_quantile(confidence: float, freedom: int) -> float:
    """The t with P(|T| < t) = confidence for Student's T.

    Args:
        confidence: between 0 and 1.
        freedom: ν, degrees of freedom, at least 1.

    Returns:
        t.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> f"{student_t_quantile(0.95, 2):.4f} {student_t_quantile(0.95, 10):.4f}"
        '4.3027 2.2281'
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence!r}.")
    if freedom < 1:
        raise ValueError(f"freedom must be at least 1, got {freedom!r}: there are too few points.")
    return float(stdtrit(freedom, 0.5 * (1 + confidence)))


def fit_power_law(x: Sequence[float | int], y: Sequence[float | int], confidence: float = 0.95) -> PowerLawFit:
    """Fits y = c x^p by least squares in logarithms, with Student's interval of the exponent.

    Args:
        x: sizes; at least four different ones.
        y: what was measured at each.
        confidence: of the interval.

    Returns:
        The fit.

    Raises:
        ValueError: if there are fewer than four sizes, the lengths differ or a number is not positive.

    Example:
        >>> fit = fit_power_law([1.0, 2.0, 4.0, 8.0], [3.0, 1.5, 0.75, 0.375])
        >>> f"{fit.exponent:.3f}, at 16: {fit.predict(16.0)[0]:.4f}"
        '-1.000, at 16: 0.1875'
    """
    sizes, values = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if sizes.shape != values.shape or sizes.ndim != 1:
        raise ValueError(f"x and y must be lists of the same length, got shapes {sizes.shape} and {values.shape}.")
    for name, array in (("x", sizes), ("y", values)):
        is_wrong = ~(np.isfinite(array) & (array > 0))
        if is_wrong.any():
            raise ValueError(f"{name} must hold positive, finite numbers, got {array[is_wrong][0]}.")
    if len(np.unique(sizes)) < MIN_WIDTHS:
        raise ValueError(
            f"A fit needs at least {MIN_WIDTHS} different sizes, got {len(np.unique(sizes))}: with fewer, its uncertainty "
            "cannot be told."
        )
    log_x, log_y = np.log(sizes), np.log(values)
    centred = log_x - log_x.mean()
    spread = float(centred @ centred)
    exponent = float(centred @ log_y) / spread
    intercept = float(log_y.mean() - exponent * log_x.mean())
    residuals = log_y - intercept - exponent * log_x
    scatter = math.sqrt(float(residuals @ residuals) / (len(sizes) - 2))
    quantile = student_t_quantile(confidence, len(sizes) - 2)
    half = quantile * scatter / math.sqrt(spread)
    return PowerLawFit(
        exponent=exponent,
        exponent_low=exponent - half,
        exponent_high=exponent + half,
        intercept=intercept,
        scatter=scatter,
        mean_log_x=float(log_x.mean()),
        spread=spread,
        points=len(sizes),
        quantile=quantile,
        confidence=confidence,
        fitted=(float(sizes.min()), float(sizes.max())),
    )


def read_summary(summary: str | os.PathLike | Mapping) -> dict:
    """A run's summary, checked.

    Args:
        summary: path of a `summary.json`, of the folder that holds it, or its content.

    Returns:
        Its content.

    Raises:
        ValueError: if it cannot be read, or lacks something that projecting needs.
    """
    if isinstance(summary, Mapping):
        content, where = dict(summary), "The summary"
    else:
        path = pathlib.Path(summary)
        path = path / "summary.json" if path.is_dir() else path
        where = f"The summary {path}"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"{where} cannot be read: {error.strerror}.") from None
        except (ValueError, RecursionError):
            raise ValueError(f"{where} is not valid JSON.") from None
        if not isinstance(content, dict):
            raise ValueError(f"{where} must hold one JSON object.")
    missing = [key for key in SUMMARY_KEYS if key not in content]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}. `limjax train` writes summaries that hold them.")
    for key in SUMMARY_KEYS:
        # To Python true and false are whole numbers.
        if isinstance(content[key], bool) or not isinstance(content[key], int | float):
            raise ValueError(f"{where}: {key} must be a number, got {content[key]!r}.")
        try:
            is_finite = math.isfinite(content[key])
        except OverflowError:  # a whole number beyond floats
            is_finite = False
        if not is_finite or (content[key] <= 0 and key not in ("actuation_kt", "static_heat_kt")):
            raise ValueError(f"{where}: {key} must be positive and finite, got {content[key]!r}.")
    return content


def path_per_step(summary: str | os.PathLike | Mapping) -> float:
    """Path per parameter and step of a run, Σ|d| / (parameters × steps) [levels].

    Args:
        summary: as `read_summary`.

    Returns:
        Levels per parameter and step.

    Raises:
        ValueError: as `read_summary`.
    """
    content = read_summary(summary)
    return content["path_levels"] / (content["parameters"] * content["steps"])


def fit_path(summaries: Sequence[str | os.PathLike | Mapping], confidence: float = 0.95) -> PowerLawFit:
    """Path per parameter and step against the number of parameters, over runs of one network at several widths.

    Args:
        summaries: at least four widths; several runs of one width (seeds) are welcome.
        confidence: of the interval of the exponent.

    Returns:
        The fit, with x the number of parameters.

    Raises:
        ValueError: as `read_summary` and `fit_power_law`.
    """
    contents = [read_summary(summary) for summary in summaries]
    return fit_power_law([c["parameters"] for c in contents], [path_per_step(c) for c in contents], confidence)


@dataclass(frozen=True)
class Projection:
    """What a measured run says about a larger training.

    Attributes:
        parameters: of the larger model.
        steps: optimizer steps of the larger training.
        path_levels: Σ|d| over all parameters and steps [levels].
        heat_joules: heat of the updates [J].
        heat_low_joules: lower end of its confidence interval from the fit of the path [J].
        heat_high_joules: upper end [J].
        actuation_joules: work of moving the barriers [J].
        static_heat_joules: heat of the same updates under a static barrier [J].
        landauer_joules: b ln 2 per parameter and step [J].
        extrapolation: how many times beyond the measured sizes.
        assumptions: what was assumed, in one line.
    """

    parameters: float
    steps: float
    path_levels: float
    heat_joules: float
    heat_low_joules: float
    heat_high_joules: float
    actuation_joules: float
    static_heat_joules: float
    landauer_joules: float
    extrapolation: float
    assumptions: str

    @property
    def is_extrapolated(self) -> bool:
        """Whether the model is outside the measured sizes."""
        return self.extrapolation > 1

    def as_dict(self) -> dict:
        """The fields, ready for JSON."""
        return {**asdict(self), "is_extrapolated": self.is_extrapolated}


def project(
    summary: str | os.PathLike | Mapping,
    workload: Workload,
    fit: PowerLawFit | None = None,
    *,
    temperature: float = 300.0,
) -> Projection:
    """Projects the measured path and heat of a run to a larger training.

    Heat per level of path is kept; path per parameter and step follows the fit from the run's size to the workload's
    (or is kept, without a fit); barrier work per parameter is kept, as the schedule is stretched over the longer
    training.

    Args:
        summary: path of `summary.json`, its folder, or its content.
        workload: the larger training; its optimizer steps count.
        fit: path per parameter and step against parameters, from `fit_path`.
        temperature: of the larger machine [K].

    Returns:
        The projection. Without a fit its interval has no width, and its `assumptions` say so.

    Raises:
        ValueError: as `read_summary`, or if the temperature is not positive.

    Example:
        >>> run = dict(parameters=1e4, steps=1e3, heat_kt=1e6, actuation_kt=2e4, path_levels=2e6, static_heat_kt=1e8)
        >>> larger = project(run, Workload(1e9, tokens=2e10))
        >>> f"{larger.heat_joules:.2e} J, {larger.extrapolation:.0e} times beyond"
        '8.28e-09 J, 1e+05 times beyond'
    """
    content = read_summary(summary)
    joules = thermal_energy_joules(temperature)
    size, steps = workload.parameters, workload.total_steps
    here = path_per_step(content)
    factor = low = high = 1.0
    beyond = max(size / content["parameters"], content["parameters"] / size)
    said = "path per parameter and step kept at the run's"
    if fit is not None:
        # Relative to the run's own size: the band of the ratio comes from the exponent alone.
        log_ratio = math.log(size / content["parameters"])
        factor = math.exp(fit.exponent * log_ratio)
        low, high = sorted(math.exp(p * log_ratio) for p in (fit.exponent_low, fit.exponent_high))
        beyond = fit.extrapolation(size)
        said = (
            f"path per parameter and step ∝ N^{fit.exponent:.3f} ({fit.exponent_low:.3f} to {fit.exponent_high:.3f} at "
            f"{100 * fit.confidence:.0f} %, {fit.points} runs)"
        )
    path = here * factor * size * steps
    per_level = content["heat_kt"] / content["path_levels"]
    beyond_text = f"; {beyond:.2g} times beyond the measured sizes" if beyond > 1 else ""
    return Projection(
        parameters=size,
        steps=steps,
        path_levels=path,
        heat_joules=path * per_level * joules,
        heat_low_joules=path / factor * low * per_level * joules,
        heat_high_joules=path / factor * high * per_level * joules,
        actuation_joules=content["actuation_kt"] / content["parameters"] * size * joules,
        static_heat_joules=path * content["static_heat_kt"] / content["path_levels"] * joules,
        landauer_joules=size * steps * workload.bits * LN2 * joules,
        extrapolation=beyond,
        assumptions=f"heat per level of the measured run; {said}; barrier schedule stretched over the training{beyond_text}",
    )
