"""How pulses differ from each other, and devices."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, UInt32

from limjax.numerics.checks import WholeNumber, checked_leaf, whole_number
from limjax.numerics.counters import key_words, step_words
from limjax.numerics.poisson import normal_quantile, unit_uniform

# A device's window keeps at least this share of the nominal one.
_LEAST_WINDOW = 0.1


class PulseNoise(eqx.Module):
    """Noise of every pulse, from cycle to cycle: its standard deviation is the root of the sum of both squares.

    Args:
        relative: over the step where the cell stands.
        levels: the same everywhere. [levels]

    Raises:
        ValueError: if a number is negative or not finite.

    Example:
        >>> float(PulseNoise(relative=0.5).levels)
        0.0
    """

    relative: Float[Array, "..."]
    levels: Float[Array, "..."]

    def __init__(self, relative: ArrayLike = 0.0, levels: ArrayLike = 0.0):
        remedy = "It is the standard deviation of a step over the step, for example 0.3."
        self.relative = checked_leaf(relative, "relative", low=0.0, remedy=remedy)
        remedy = "It is the standard deviation of a step in nominal pulses, for example 0.3."
        self.levels = checked_leaf(levels, "levels", low=0.0, remedy=remedy)


class OneDevice(NamedTuple):
    """What makes one device differ: factors on its steps and its window, and whether it moves at all."""

    up: Float[Array, "..."]
    down: Float[Array, "..."]
    window: Float[Array, "..."]
    moves: Bool[Array, "..."]


class DeviceSpread(eqx.Module):
    """How devices differ from each other. Each keeps its own numbers over the run; they cost no memory, as they are computed anew.

    Factors are 1 + σ ξ with ξ standard normal, never negative.

    Args:
        size: σ of the step of a device, both ways.
        asymmetry: σ of what its step up has more, and its step down less.
        window: σ of the width of its window, which is not wider than the nominal one.
        stuck: share of the devices that no pulse moves; they keep the weight they began with.
        seed: which devices they are.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> float(DeviceSpread(size=0.3, stuck=0.11).window)
        0.0
    """

    size: Float[Array, "..."]
    asymmetry: Float[Array, "..."]
    window: Float[Array, "..."]
    stuck: Float[Array, "..."]
    seed: int = eqx.field(static=True)

    def __init__(
        self,
        size: ArrayLike = 0.0,
        asymmetry: ArrayLike = 0.0,
        window: ArrayLike = 0.0,
        stuck: ArrayLike = 0.0,
        seed: WholeNumber = 0,
    ):
        remedy = "It is a standard deviation between devices over the mean, for example 0.3."
        self.size = checked_leaf(size, "size", low=0.0, remedy=remedy)
        self.asymmetry = checked_leaf(asymmetry, "asymmetry", low=0.0, remedy=remedy)
        self.window = checked_leaf(window, "window", low=0.0, remedy=remedy)
        self.stuck = checked_leaf(
            stuck, "stuck", low=0.0, high=1.0, remedy="It is a share from 0 to 1, for example 0.11."
        )
        self.seed = whole_number(seed, "seed", 0, 2**32 - 1, said="from 0 to 2**32 - 1")

    def devices(self, leaf: int, like: Float[Array, "..."]) -> OneDevice:
        """The devices of one array.

        Args:
            leaf: number of the array.
            like: an array of their shape and dtype.

        Returns:
            Their factors.
        """
        # From the seed alone: the same devices in every run and member of an ensemble, whatever the key of the hops.
        key: UInt32[Array, 2] = key_words(jnp.asarray([0xDE71CE, self.seed], jnp.uint32))
        dtype = like.dtype
        first = step_words(key, leaf, jnp.int32(0), like.shape)
        second = step_words(key, leaf, jnp.int32(1), like.shape)
        size, asymmetry, window = (
            sigma.astype(dtype) * normal_quantile(word, dtype)
            for sigma, word in zip((self.size, self.asymmetry, self.window), (*first, second[0]))
        )
        factor = jnp.maximum(1 + size, 0.0)
        # The four words are all in use by now; the low word of a uniform matters near 0 only, so that one may serve
        # again. The uniform is strictly between 0 and 1: a share of 0 sticks no device, a share of 1 all.
        is_stuck = unit_uniform(second[1], first[0], dtype) < self.stuck.astype(dtype)
        return OneDevice(
            up=factor * jnp.maximum(1 + asymmetry, 0.0),
            down=factor * jnp.maximum(1 - asymmetry, 0.0),
            window=jnp.clip(1 + window, _LEAST_WINDOW, 1.0),
            moves=~is_stuck,
        )
