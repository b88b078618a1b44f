"""How likely measured conductances are under a law of steps: a Kalman filter over the pulses, with room for outliers.

The state of a device is its conductance; every pulse moves it by the law's step with noise (cycle to cycle), every reading has noise of its
own, and with a small probability a reading says nothing at all (an outlier, anywhere in the range). Readings that are missing are pulses in
between. Everything is in units of the range of the data.

Source: Särkkä, Bayesian Filtering and Smoothing (2013), section 5.2, for the extended Kalman filter and its likelihood; the mixture with a
uniform is that of Bar-Shalom & Tse, Automatica 11, 451 (1975), doi 10.1016/0005-1098(75)90021-7.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from limjax.devices._steps import AbstractSteps, ExponentialSteps, LinearSteps, Scale, SoftBoundsSteps

OUTLIERS = 0.02
"""Share of readings that may say nothing, before the data are seen."""

_WIDTH = 1.5  # an outlier lies anywhere in so many ranges of the data


class Readings(NamedTuple):
    """Conductances in the order in which they were read.

    Attributes:
        value: in units of the range of the data, from about 0 to 1.
        seen: whether it was read at all; only then `value` counts.
        pulses: given since the reading before.
        up: whether they were pulses up.
        fresh: whether nothing connects it with the reading before: another device, another cycle.
        prior: where a fresh device is expected, roughly: by the readings that follow.
        prior_deviation: standard deviation of that.
    """

    value: Float[Array, "readings"] | Float[np.ndarray, "readings"]
    seen: Bool[Array, "readings"] | Bool[np.ndarray, "readings"]
    pulses: Float[Array, "readings"] | Float[np.ndarray, "readings"]
    up: Bool[Array, "readings"] | Bool[np.ndarray, "readings"]
    fresh: Bool[Array, "readings"] | Bool[np.ndarray, "readings"]
    prior: Float[Array, "readings"] | Float[np.ndarray, "readings"]
    prior_deviation: Float[Array, "readings"] | Float[np.ndarray, "readings"]


class Filtered(NamedTuple):
    """What the filter makes of readings.

    Attributes:
        log_likelihood: of each reading.
        innovation: reading minus prediction, over its standard deviation.
        inlier: probability that it is none of the outliers.
        state: the conductance that the device had, by all readings so far.
    """

    log_likelihood: Float[Array, "readings"]
    innovation: Float[Array, "readings"]
    inlier: Float[Array, "readings"]
    state: Float[Array, "readings"]


SHAPES = {"linear": 0, "soft-bounds": 1, "exponential": 1}
"""Numbers of each law besides the size of its steps."""


def steps_of(law: str, shape: Float[Array, "shape"]) -> AbstractSteps:
    """The law with the shape that a fit is at, which may lie outside of what a cell may have.

    Args:
        law: its name.
        shape: for soft bounds the slope 1/(b - ½) of the steps, 0 for linear ones; for exponential steps ν.

    Returns:
        The law.
    """
    if law == "linear":
        return LinearSteps()
    if law == "soft-bounds":
        # Far away instead of at infinity.
        slope = jnp.where(jnp.abs(shape[0]) < 1e-9, 1e-9, shape[0])
        # Past the checks of the constructor, as a search looks at bounds that no device has.
        return eqx.tree_at(lambda s: s.bound, SoftBoundsSteps(), 0.5 + 1 / slope)
    return eqx.tree_at(lambda s: s.nonlinearity, ExponentialSteps(1.0), shape[0])


class Numbers(NamedTuple):
    """The numbers of a fit.

    Attributes:
        log_sizes: ln of the steps up and down in the middle of the range.
        shapes: of the laws up and down, see `steps_of`.
        log_noise: ln of the standard deviation of a step over the step.
        log_reading: ln of the standard deviation of a reading.
    """

    log_sizes: Float[Array, "2"] | Float[np.ndarray, "2"]
    shapes: Float[Array, "2 shape"] | Float[np.ndarray, "2 shape"]
    log_noise: Float[Array, ""] | Float[np.ndarray, ""]
    log_reading: Float[Array, ""] | Float[np.ndarray, ""]

    @classmethod
    def of(cls, flat: Float[Array, "numbers"] | Float[np.ndarray, "numbers"]) -> "Numbers":
        """From one array."""
        return cls(flat[:2], flat[2:-2].reshape(2, -1), flat[-2], flat[-1])


@eqx.filter_jit
def filtered(law: str, flat: Float[Array, "numbers"], readings: Readings) -> Filtered:
    """The filter over all readings.

    Args:
        law: name of the law.
        flat: the numbers of the fit, see `Numbers`.
        readings: the data.

    Returns:
        What it makes of them.
    """
    numbers = Numbers.of(flat)
    laws = [steps_of(law, shape) for shape in numbers.shapes]
    one, zero = jnp.ones(()), jnp.zeros(())
    # The range of the data is 1 here: it is the window, and steps and noises are shares of it.
    scales = [Scale(jnp.exp(size), one, jnp.exp(numbers.log_noise), zero) for size in numbers.log_sizes]
    reading_variance = jnp.exp(2 * numbers.log_reading)

    def moved(state, pulses, up):
        forward = state + laws[0].move(state, pulses, scales[0])
        return jnp.where(up, forward, state - laws[1].move(1 - state, pulses, scales[1]))

    def noise(state, pulses, up):
        forward = laws[0].variance(state, pulses, scales[0])
        return jnp.where(up, forward, laws[1].variance(1 - state, pulses, scales[1]))

    def step(carry, reading):
        state, variance = carry
        # The extended filter: the law is linearised where the state is expected, and the error of the state so far is
        # scaled by its slope.
        expected, slope = jax.value_and_grad(moved)(state, reading.pulses, reading.up)
        spread = slope**2 * variance + noise(state, reading.pulses, reading.up)
        expected = jnp.where(reading.fresh, reading.prior, expected)
        spread = jnp.where(reading.fresh, reading.prior_deviation**2, spread)
        total = spread + reading_variance
        surprise = reading.value - expected
        # Not in logarithms: where the normal density underflows, the uniform one keeps the logarithm of the sum finite.
        density = (1 - OUTLIERS) * jnp.exp(-0.5 * surprise**2 / total) / jnp.sqrt(2 * jnp.pi * total)
        both = density + OUTLIERS / _WIDTH
        inlier = density / both
        # A reading corrects the state as far as it is likely to be none of the outliers.
        gain = jnp.where(reading.seen, inlier * spread / total, 0.0)
        updated = expected + gain * surprise
        # The prior of a fresh reading was made of that reading and those after it: it says nothing about the law.
        likelihood = jnp.where(reading.seen & ~reading.fresh, jnp.log(both), 0.0)
        return (updated, (1 - gain) * spread), Filtered(likelihood, surprise / jnp.sqrt(total), inlier, updated)

    # Any numbers: the first reading is always fresh, and then its prior takes their place.
    start = (jnp.asarray(0.5), jnp.asarray(1.0))
    _, found = jax.lax.scan(step, start, jax.tree.map(jnp.asarray, readings))
    return found


@eqx.filter_jit
def cost_and_slope(
    law: str, flat: Float[Array, "numbers"], readings: Readings
) -> tuple[Float[Array, ""], Float[Array, "numbers"]]:
    """Minus the log likelihood of all readings, and its gradient.

    Args:
        law: name of the law.
        flat: the numbers of the fit.
        readings: the data.

    Returns:
        `(cost, gradient)`.
    """
    return jax.value_and_grad(lambda x: -jnp.sum(filtered(law, x, readings).log_likelihood))(flat)
