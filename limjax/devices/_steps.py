"""How far one pulse moves a device, and how that depends on where the device stands.

A law sees one direction: `gone` is the share of the window that lies behind the device in that direction, 0 at the end it comes from
and 1 at the end it goes to. Steps are in levels and are `size` in the middle of the window.

Source: Chen, Peng & Yu, IEDM 2017, doi 10.1109/IEDM.2017.8268337 (the saturating law with a range inside its bound); Fusi & Abbott,
Nat. Neurosci. 10, 485 (2007), doi 10.1038/nn1859 (soft bounds); Querlioz et al., IEEE Trans. Nanotechnol. 12, 288 (2013),
doi 10.1109/TNANO.2013.2250995 (steps that fall exponentially with the state).
"""

import abc
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from limjax.numerics.checks import checked_leaf

# A pulse never crosses the bound: what is left of the way keeps at least this share.
_LEAST_LEFT = 1e-6


class Scale(NamedTuple):
    """The numbers of a pulse that a law needs.

    Attributes:
        size: step in the middle of the window [levels].
        window: width of the window [levels].
        relative: standard deviation of a step over the step.
        levels: standard deviation of a step that does not depend on it [levels].
    """

    size: Float[Array, "..."]
    window: Float[Array, "..."]
    relative: Float[Array, "..."]
    levels: Float[Array, "..."]


class AbstractSteps(eqx.Module):
    """A law of steps. A new one is a class with `move` and `variance`.

    `name` is how device files call it; `needs_window` says whether steps depend on where a device stands.
    """

    name: ClassVar[str]
    needs_window: ClassVar[bool] = True

    @abc.abstractmethod
    def move(self, gone: Float[Array, "..."], pulses: Float[Array, "..."], scale: Scale) -> Float[Array, "..."]:
        """How far some pulses in a row take a device, without their noise.

        Args:
            gone: where it stands, in the direction of the pulses.
            pulses: n, at least 0, not necessarily whole.
            scale: of the pulse.

        Returns:
            The distance, not held at the end of the window [levels].
        """

    @abc.abstractmethod
    def variance(self, gone: Float[Array, "..."], pulses: Float[Array, "..."], scale: Scale) -> Float[Array, "..."]:
        """Variance of the distance, from the noise of every pulse; to first order in the noise where steps depend on the place otherwise
        than in a straight line.

        Args:
            gone: where the device stands.
            pulses: n.
            scale: of the pulse.

        Returns:
            The variance [levels²].
        """

    def mean_move(self, gone: Float[Array, "..."], request: Float[Array, "..."], scale: Scale) -> Float[Array, "..."]:
        """The distance on average, where a request is rounded up or down to whole pulses by chance, so that it is met on average.

        Args:
            gone: where the device stands.
            request: mean number of pulses, at least 0.
            scale: of the pulse.

        Returns:
            The distance [levels].
        """
        low = jnp.floor(request)
        below, above = self.move(gone, low, scale), self.move(gone, low + 1, scale)
        return below + (request - low) * (above - below)


class LinearSteps(AbstractSteps):
    """Steps are the same everywhere.

    Example:
        >>> import jax.numpy as jnp
        >>> scale = Scale(*map(jnp.float32, (1.0, 100.0, 0.0, 0.0)))
        >>> float(LinearSteps().move(jnp.float32(0.2), jnp.float32(3.0), scale))
        3.0
    """

    name: ClassVar[str] = "linear"
    needs_window: ClassVar[bool] = False

    def move(self, gone: Float[Array, "..."], pulses: Float[Array, "..."], scale: Scale) -> Float[Array, "..."]:
        return scale.size * pulses

    def variance(self, gone: Float[Array, "..."], pulses: Float[Array, "..."], scale: Scale) -> Float[Array, "..."]:
        return pulses * ((scale.relative * scale.size) ** 2 + scale.levels**2)

    def mean_move(self, gone: Float[Array, "..."], request: Float[Array, "..."], scale: Scale) -> Float[Array, "..."]:
        # As it is, so that a device of nominal steps hands on a request to the last bit.
        return scale.size * request


class SoftBoundsSteps(AbstractSteps):
    r"""Steps shrink in proportion to what is left of the way to a bound: $\Delta = s\,(b - x)/(b - \tfrac12)$.

    With the bound at the end of the window, b = 1, these are soft bounds; beyond it, b > 1, the saturating law of NeuroSim with
    $b = 1/(1 - e^{-1/A})$ and the linear-step law of aihwkit; far beyond it steps are linear.

    Args:
        bound: b, in windows from where pulses come from, at least 1.

    Raises:
        ValueError: if it is below 1.

    Example:
        >>> import jax.numpy as jnp
        >>> scale = Scale(*map(jnp.float32, (1.0, 100.0, 0.0, 0.0)))
        >>> [round(float(SoftBoundsSteps().move(jnp.float32(x), jnp.float32(1.0), scale)), 3) for x in (0.0, 0.5, 1.0)]
        [2.0, 1.0, 0.0]
    """

    name: ClassVar[str] = "soft-bounds"
    bound: Float[Array, "..."]

    def __init__(self, bound: ArrayLike = 1.0):
        remedy = "1 are soft bounds at the end of the window; far above 1 steps are linear."
        self.bound = checked_leaf(bound, "bound", low=1.0, remedy=remedy)

    def _slope(self, scale: Scale, dtype: Any) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """How fast steps shrink along the window, and the share of what is left that one pulse takes."""
        slope = 1 / (self.bound.astype(dtype) - 0.5)
        return slope, jnp.minimum(slope * scale.size / scale.window, 1 - _LEAST_LEFT)

    def move(self, gone: Float[Array, "..."], pulses: Float[Array, "..."], scale: Scale) -> Float[Array, "..."]:
        slope, share = self._slope(scale, gone.dtype)
        # Every pulse leaves the same share of the way to the bound: steps are a geometric series.
        here = 1 - slope * (gone - 0.5)
        return scale.size * here * _geometric(pulses, jnp.log1p(-share))

    def variance(self, gone: Float[Array, "..."], pulses: Float[Array, "..."], scale: Scale) -> Float[Array, "..."]:
        # A step is here times (size + σ size ξ), and what comes after shrinks it: its second moment obeys m' = q m + τ².
        slope, share = self._slope(scale, gone.dtype)
        here = 1 - slope * (gone - 0.5)
        log_kept = 2 * jnp.log1p(-share)
        spread = jnp.log1p((share * scale.relative) ** 2 / (1 - share) ** 2)
        from_steps = (scale.relative * scale.size * here) ** 2 * jnp.exp((pulses - 1) * log_kept)
        return from_steps * _geometric(pulses, spread) + scale.levels**2 * _geometric(pulses, log_kept + spread)


def _geometric(terms: Float[Array, "..."], log_ratio: Float[Array, "..."]) -> Float[Array, "..."]:
    """(r^n - 1) / (r - 1), the sum of a geometric series, for ln r around 0 too."""
    # Where ln r is below 1e-5 and n ln r below 1e-3, what is left out is below 1e-10 in the sum and 1e-6 in its slope. No more than a
    # billion terms count, so that it holds for all ratios that are as good as 1.
    is_even = jnp.abs(log_ratio) * jnp.clip(terms, 100.0, 1e9) < 1e-3
    # 0/0 of the branch that is not taken would reach the gradient, and so would an overflow: -1 has neither.
    safe = jnp.where(jnp.abs(log_ratio) < 1e-12, -1.0, log_ratio)
    # To the second power of ln r: 1 + (n - 1) ln r/2 + (n - 1)(2n - 1) ln² r/12.
    near = 1 + 0.5 * (terms - 1) * log_ratio * (1 + (2 * terms - 1) * log_ratio / 6)
    return jnp.where(is_even, terms * near, jnp.expm1(terms * safe) / jnp.expm1(safe))


class ExponentialSteps(AbstractSteps):
    r"""Steps fall exponentially with the state: $dx/dn = s\,e^{-\nu (x - 1/2)}$, so that n pulses give a logarithm.

    Args:
        nonlinearity: ν, above 0: steps at the far end are e^-ν times those at the near end.

    Raises:
        ValueError: if it is not above 0.

    Example:
        >>> import jax.numpy as jnp
        >>> scale = Scale(*map(jnp.float32, (1.0, 100.0, 0.0, 0.0)))
        >>> [round(float(ExponentialSteps(2.0).move(jnp.float32(x), jnp.float32(1.0), scale)), 2) for x in (0.0, 0.5, 1.0)]
        [2.65, 0.99, 0.37]
    """

    name: ClassVar[str] = "exponential"
    nonlinearity: Float[Array, "..."]

    def __init__(self, nonlinearity: ArrayLike):
        remedy = "Steps at the far end are e^-ν times those at the near end; for equal steps use LinearSteps()."
        self.nonlinearity = checked_leaf(nonlinearity, "nonlinearity", low=0.01, high=30.0, remedy=remedy)

    def _stretched(
        self, gone: Float[Array, "..."], pulses: Float[Array, "..."], scale: Scale
    ) -> tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]]:
        # e^{ν(x - 1/2)} grows by the same amount with every pulse.
        rate = self.nonlinearity.astype(gone.dtype)
        start = jnp.exp(rate * (gone - 0.5))
        return rate, start, rate * scale.size / scale.window * pulses

    def move(self, gone: Float[Array, "..."], pulses: Float[Array, "..."], scale: Scale) -> Float[Array, "..."]:
        rate, start, grown = self._stretched(gone, pulses, scale)
        # Small ν, which only fits come to: steps are as good as linear.
        is_even = jnp.abs(rate) < 1e-4
        curved = scale.window / jnp.where(is_even, 1.0, rate) * jnp.log1p(grown / start)
        # ln(1 + y)/y to its second power.
        small = jnp.where(is_even, grown / start, 0.0)
        return jnp.where(is_even, scale.size * pulses / start * (1 - small / 2 + small**2 / 3), curved)

    def variance(self, gone: Float[Array, "..."], pulses: Float[Array, "..."], scale: Scale) -> Float[Array, "..."]:
        # To first order in the noise: each pulse's own, shrunk by all that come after it. With y = e^{ν(x - 1/2)}, which grows by a with
        # each, noise of the k-th of n counts (y_k / y_n)², and a step is (size/a) ln(1 + a/y). So of relative noise remains the sum of
        # F(a/y)/y_n² with F(z) = ((1 + z) ln(1 + z)/z)², of the other that of y_k²/y_n².
        _, start, grown = self._stretched(gone, jnp.ones_like(pulses), scale)
        first = grown / start
        # F is 1 + z - z²/12 to half a percent up to z = 1, where all but the first step are; ψ(x + 1/2) = ½ ln(x² + 1/12) nearly.
        tiny = first < 1e-4
        quotient = jnp.log1p(first) / jnp.where(tiny, 1.0, first)
        head = jnp.where(tiny, 1 + first, ((1 + first) * quotient) ** 2)
        near, far = 1 + 0.5 * first, 1 + (pulses - 0.5) * first
        twelfth = first**2 / 12
        inverses = 0.5 * jnp.log((far**2 + twelfth) / (near**2 + twelfth))
        tail = (pulses - 1) + inverses - first * (1 / near - 1 / far) / 12
        from_steps = jnp.where(pulses < 1, pulses * head, head + tail) / start**2
        from_levels = pulses * (1 + first * (pulses + 1) * (1 + first * (2 * pulses + 1) / 6))
        noise = (scale.relative * scale.size) ** 2 * from_steps + scale.levels**2 * from_levels
        return noise / (1 + pulses * first) ** 2


LAWS = {law.name: law for law in (LinearSteps, SoftBoundsSteps, ExponentialSteps)}
"""The laws by the names that device files use."""
