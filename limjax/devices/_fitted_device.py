"""From a fit to a device file."""

import datetime
import math
from collections.abc import Callable

import numpy as np

from limjax.devices._fit import Fitted, PulseFit
from limjax.devices._numbers import Number
from limjax.devices._records import Device
from limjax.devices._retention_fit import RetentionFit

_FARTHEST = 1e3  # a bound farther away than so many windows is none


def fitted_device(fit: PulseFit, name: str, title: str = "", retention: RetentionFit | None = None) -> Device:
    """The device that a fit of its pulses describes.

    Its window is the range of the readings, but not beyond a fitted bound. The nominal pulse is the mean of both directions in its
    middle.

    Args:
        fit: from `fit_pulses`.
        name: what to call it.
        title: what it is.
        retention: from `fit_retention`, or None.

    Returns:
        The device: `limjax.devices.Device.cell` makes cells of it, `to_toml` a file.

    Raises:
        ValueError: if the fitted steps go nowhere.

    Example:
        >>> import numpy as np
        >>> from limjax.devices import fit_pulses
        >>> up, down = np.linspace(1e-6, 9e-6, 41), np.linspace(9e-6, 1e-6, 41)[1:]
        >>> pulses = {"pulse": np.arange(1, 82), "conductance": [*up, *down], "direction": ["up"] * 41 + ["down"] * 40}
        >>> device = fitted_device(fit_pulses(pulses, "linear"), "mine")
        >>> 35 < device.levels < 45
        True
    """
    year, width = datetime.date.today().year, fit.high - fit.low
    source = f"fitted to {fit.readings} readings, R² {fit.r_squared:.4f}"
    low, high = _window(fit)
    window = high - low
    steps = {way: _step(fit, way, low, high) for way in ("up", "down")}
    nominal = 0.5 * (steps["up"].value + steps["down"].value)
    if not nominal > 0:
        raise ValueError(
            f"The fitted steps of {name} go nowhere in the middle of its window: there is nothing to train with."
        )
    numbers: dict[str, Number] = {}

    def add(key: str, value: float, error: float | None, unit: str = "1", how: str = "fitted", note: str = "") -> None:
        kept = None if error is None or not math.isfinite(error) else float(error)
        numbers[key] = Number(key, float(value), unit, year, source, how, kept, note)

    # From the error of the nominal pulse, W/n differentiated by n; n is half the sum of both steps.
    error = window * width / nominal**2 * 0.5 * math.hypot(steps["up"].error, steps["down"].error)
    add("levels", max(window * width / nominal, 1.0), error, note="Window over the mean of both steps in its middle.")
    for way, step in steps.items():
        add(f"size_{way}", step.value / nominal, step.error / nominal)
        if fit.law == "soft-bounds":
            add(
                f"bound_{way}",
                _bound(fit, way, low, high),
                None,
                how="derived",
                note=str(fit.numbers[f"slope_{way}"]) + " over the range",
            )
        elif fit.law == "exponential":
            # ν is over the readings' range, which is the window here; `ExponentialSteps` takes none below 0.01.
            curvature = fit.numbers[f"nonlinearity_{way}"]
            add(f"nonlinearity_{way}", max(curvature.value * window, 0.01), curvature.error * window)
    noise = fit.numbers["noise"]
    # A noise that the data show no sign of is not known, and what is not known is left out (docs/device.md).
    if math.isfinite(noise.error):
        add("noise", noise.value, noise.error)
    add("conductance_low", fit.low + low * width, None, "S", "measured")
    add("conductance_high", fit.low + high * width, None, "S", "measured")
    _add_pulses(fit, add)
    if retention is not None:
        # `add` reads `source` when it is called: what follows is from these tests.
        source = f"fitted to retention tests, at temperatures around {retention.reference:.0f} K"
        add("activation_energy", retention.activation_ev.value, retention.activation_ev.error, "eV")
        add("attempt_rate", retention.attempt_rate, None, "1/s", note=f"Its logarithm: {retention.log_attempt_rate}.")
    # Where both bounds are out of sight the steps are as good as equal: that is the linear law.
    law = (
        fit.law
        if fit.law != "soft-bounds" or any(_bound(fit, way, low, high) < _FARTHEST for way in steps)
        else "linear"
    )
    if law == "linear":
        numbers = {key: number for key, number in numbers.items() if not key.startswith("bound")}
    return Device(name, title or f"Fitted to {fit.readings} readings", law, numbers)


def _window(fit: PulseFit) -> tuple[float, float]:
    """Its ends, in units of the range of the readings."""
    low, high = 0.0, 1.0
    if fit.law == "soft-bounds":
        up, down = (fit.numbers[f"slope_{way}"].value for way in ("up", "down"))
        # Steps end half a range plus 1/slope from the end they come from.
        high = min(high, 0.5 + 1 / up) if up > 0 else high
        low = max(low, 0.5 - 1 / down) if down > 0 else low
    return low, high


def _gone(way: str, low: float, high: float) -> float:
    """The middle of the window in the direction of the pulses, in units of the range."""
    middle = 0.5 * (low + high)
    return middle if way == "up" else 1 - middle


def _step(fit: PulseFit, way: str, low: float, high: float) -> Fitted:
    """The step in the middle of the window [S]."""
    step, off = fit.numbers[f"step_{way}"], _gone(way, low, high) - 0.5
    factor = 1.0
    if fit.law == "soft-bounds":
        factor = 1 - fit.numbers[f"slope_{way}"].value * off
    elif fit.law == "exponential":
        factor = math.exp(-fit.numbers[f"nonlinearity_{way}"].value * off)
    return Fitted(step.value * factor, step.error * factor, step.unit)


def _bound(fit: PulseFit, way: str, low: float, high: float) -> float:
    """Where steps end, in windows from where pulses come from."""
    slope = fit.numbers[f"slope_{way}"].value
    # Steps that grow along their way have no end ahead.
    if slope <= 0:
        return _FARTHEST
    start = low if way == "up" else 1 - high
    return float(np.clip((0.5 + 1 / slope - start) / (high - low), 1.0, _FARTHEST))


def _add_pulses(fit: PulseFit, add: Callable[..., None]) -> None:
    """What the optional columns tell: voltage and width, or the energy where a current was measured."""
    pulses = fit.pulses
    for way in ("up", "down"):
        mine = pulses.up == (way == "up")

        # Without signs: voltages and currents of pulses down are often written as negative, and energies are positive.
        def middle(column, mine=mine):
            return None if column is None or np.isnan(column[mine]).all() else float(np.nanmedian(np.abs(column[mine])))

        volts, seconds, amperes = middle(pulses.voltage), middle(pulses.width), middle(pulses.current)
        if volts is not None:
            add(f"voltage_{way}", volts, None, "V", "measured")
        if seconds is not None:
            add(f"pulse_time_{way}", seconds, None, "s", "measured")
        if volts is not None and seconds is not None and amperes is not None:
            add(
                f"pulse_energy_{way}",
                volts * amperes * seconds,
                None,
                "J",
                "derived",
                "Voltage times current times width.",
            )
