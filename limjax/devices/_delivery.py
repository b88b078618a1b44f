"""What pulses make of requests: how many are given, where they take the devices, and what they take."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from limjax.devices._steps import Scale
from limjax.numerics.counters import folded, step_words
from limjax.numerics.poisson import normal_quantile
from limjax.physics._hops import stretched
from limjax.physics._pulses import Delivery, Place

if TYPE_CHECKING:
    from limjax.devices._pulsed_cell import PulsedCell

# Keeps the words of the pulses apart from those that round requests.
_PULSES = 0x50554C53


class Window(NamedTuple):
    """The window of each device.

    Attributes:
        low: its low end [levels].
        high: its high end [levels].
    """

    low: Float[Array, "..."]
    high: Float[Array, "..."]

    def gone(self, level: Float[Array, "..."], up: bool) -> Float[Array, "..."]:
        """The share of it that lies behind a device in one direction; the middle of one without ends."""
        position = jnp.clip((level - self.low) / (self.high - self.low), 0.0, 1.0)
        # Without ends the share is inf/inf. Laws that read it are refused there (`PulsedCell._check`); an energy by
        # conductance is then that of the middle.
        position = jnp.where(jnp.isfinite(self.low), position, 0.5)
        return position if up else 1 - position

    def held(self, level: Float[Array, "..."], move: Float[Array, "..."]) -> Float[Array, "..."]:
        """A move, no further than to the end."""
        # A device may stand outside: its own window may be narrower than the range its weights start from. It is not
        # pulled in, it only cannot go farther out.
        return jnp.clip(move, jnp.minimum(self.low - level, 0.0), jnp.maximum(self.high - level, 0.0))


class _Devices:
    """The devices of one array at one step.

    Args:
        cell: what they are.
        leaf: number of the array.
        level: where they stand [levels].
    """

    def __init__(self, cell: "PulsedCell", leaf: int, level: Float[Array, "..."]):
        dtype = level.dtype
        self.cell, self.dtype = cell, dtype
        own = None if cell.spread is None else cell.spread.devices(leaf, level)
        if cell.levels is None:
            self.window = Window(jnp.asarray(-jnp.inf, dtype), jnp.asarray(jnp.inf, dtype))
        else:
            low, high = cell.levels.astype(dtype)
            share = jnp.ones((), dtype) if own is None else own.window
            middle, half = 0.5 * (low + high), 0.5 * share * (high - low)
            self.window = Window(middle - half, middle + half)
        self.factors = {True: jnp.ones((), dtype), False: jnp.ones((), dtype)}
        if own is not None:
            moves = own.moves.astype(dtype)
            self.factors = {True: own.up * moves, False: own.down * moves}

    def scale(self, up: bool) -> Scale:
        """The numbers of a pulse, for the laws of steps."""
        noise, pulse = self.cell.noise, self._pulse(up)
        zero, factor = jnp.zeros((), self.dtype), self.factors[up]
        relative = zero if noise is None else noise.relative.astype(self.dtype)
        # A stuck device has no noise either.
        levels = zero if noise is None else noise.levels.astype(self.dtype) * (factor > 0).astype(self.dtype)
        return Scale(pulse.size.astype(self.dtype) * factor, self.window.high - self.window.low, relative, levels)

    def _pulse(self, up: bool):
        return self.cell.up if up else self.cell.down

    def both(
        self, function: Callable[..., Any], upwards: Bool[Array, "..."], level: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """`function(law, gone, scale)` in the direction of each device."""
        # The direction differs from device to device and the two laws may be of different classes: both are computed.
        up, down = (
            function(self._pulse(way).steps, self.window.gone(level, way), self.scale(way)) for way in (True, False)
        )
        return jnp.where(upwards, up, down)

    def charge(self, upwards: Bool[Array, "..."], position: Float[Array, "..."], name: str) -> Float[Array, "..."]:
        """What one pulse takes in the direction of each device."""
        up, down = (self._pulse(way).charge(name, position) for way in (True, False))
        return jnp.where(upwards, up, down)


def delivered(
    cell: "PulsedCell", drift: Float[Array, "..."], level: Float[Array, "..."] | None, place: Place
) -> Delivery:
    """What the pulses for a request do: see `limjax.devices.PulsedCell.deliver`."""
    # None only where there is no window, so that no law asks where a device stands.
    level = jnp.zeros_like(drift) if level is None else level
    relaxed = _relaxed(cell, level)
    # Pulses come at the end of a step, after what relaxes during it (docs/device.md).
    at = level if relaxed is None else level + relaxed
    devices, upwards = _Devices(cell, place.leaf, level), drift >= 0
    sign = jnp.where(upwards, 1.0, -1.0).astype(drift.dtype)
    wanted = jnp.abs(drift)
    # One pulse a bit rewrites a word to whatever level is asked for: nothing of a request is lost there.
    request = wanted if cell.word_bits is not None else jnp.minimum(wanted, float(cell.max_pulses))
    free = sign * devices.both(lambda law, gone, scale: law.mean_move(gone, request, scale), upwards, at)
    mean = devices.window.held(at, free)
    move, pulses = None, request
    if place.key is not None:
        move, pulses = _drawn(devices, upwards, sign, request, at, mean, place)
    taken = mean if move is None else move
    # A word is rewritten whole where its rounded request is not zero, which happens with the chance min(|d|, 1); of
    # pulses that were drawn the same formula makes 0 or 1.
    count = pulses if cell.word_bits is None else cell.word_bits * jnp.minimum(pulses, 1.0)
    # Energies are at most linear in the position: the middle of the way stands for all pulses of the step.
    middle = devices.window.gone(at + 0.5 * taken, True)
    # Of the mean move: the chance of rounding and of noise is not counted as misplaced.
    charges: dict[str, Any] = {"pulses": count, "misplaced": jnp.abs(mean - drift)}
    for name in cell.charges:
        if name not in charges:
            charges[name] = count * devices.charge(upwards, middle, name)
    # Asked of the mean move as well, so that it is the same in all modes.
    ended = devices.window.held(at, free) != free
    return Delivery(mean, move, wanted > request, ended.astype(drift.dtype), relaxed, charges)


def _relaxed(cell: "PulsedCell", level: Float[Array, "..."]) -> Float[Array, "..."] | None:
    """What devices forget during the step [levels], or None."""
    retention = cell.retention
    if retention is None or retention.rest is None:
        return None
    # `PulsedCell._check` refuses a place to relax to without a window.
    assert cell.levels is not None
    low, high = cell.levels.astype(level.dtype)
    # Over the device's own barrier, whatever height the step is charged at. What is forgotten in a step, 1 - e^(-k0 τ
    # e^-B), is far below the rounding of 1 for a device that holds: hence expm1.
    exponent = cell.log_attempts(level.dtype) - cell.own_barrier.astype(level.dtype)
    target = low + retention.rest.astype(level.dtype) * (high - low)
    return -(target - level) * jnp.expm1(-jnp.exp(exponent))


def _drawn(
    devices: _Devices,
    upwards: Bool[Array, "..."],
    sign: Float[Array, "..."],
    request: Float[Array, "..."],
    level: Float[Array, "..."],
    mean: Float[Array, "..."],
    place: Place,
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Displacements and numbers of pulses by chance."""
    assert place.key is not None

    def spread(law, gone, scale):
        """Variance of the displacement: from rounding the request, and from the noise of the pulses."""
        low = jnp.floor(request)
        share = request - low
        step = law.move(gone, low + 1, scale) - law.move(gone, low, scale)
        noise = law.variance(gone, low, scale)
        # Law of total variance: that of rounding to `low` or `low + 1`, and the mean of the noise of both.
        return share * (1 - share) * step**2 + noise + share * (law.variance(gone, low + 1, scale) - noise)

    variance = devices.both(spread, upwards, level)
    words = step_words(place.key, place.leaf, place.step, request.shape)
    if not place.whole:
        # The slope of a root at 0 is infinite and must not meet the gradient, not even times 0.
        root = jnp.sqrt(jnp.where(variance > 0, variance, 1.0)) * (variance > 0).astype(variance.dtype)
        return devices.window.held(level, mean + root * normal_quantile(words[0], request.dtype)), request
    low = jnp.floor(request)
    # 24 bits: a uniform that float32 holds exactly, so that a request of a whole number is never rounded.
    uniform = (words[0] >> jnp.uint32(8)).astype(request.dtype) * 2.0**-24
    pulses = low + (uniform < request - low).astype(request.dtype)
    # Counts have no slope of use, and a `while_loop` has none in reverse mode: `stretched` gives the derivative.
    frozen = jax.lax.stop_gradient((pulses, level))
    if devices.cell.noise is None:
        # All pulses of a device go the same way, so that to be held once at the end is to be held after each of them.
        free = sign * devices.both(lambda law, gone, scale: law.move(gone, frozen[0], scale), upwards, frozen[1])
        moved = devices.window.held(frozen[1], free)
    else:
        moved = _one_by_one(devices, upwards, sign, *frozen, place)
    return stretched(jax.lax.stop_gradient(moved), mean, variance), pulses


def _one_by_one(
    devices: _Devices,
    upwards: Bool[Array, "..."],
    sign: Float[Array, "..."],
    pulses: Float[Array, "..."],
    level: Float[Array, "..."],
    place: Place,
) -> Float[Array, "..."]:
    """Displacement of pulses that each have noise of their own."""
    assert place.key is not None
    key = folded(place.key, _PULSES)

    def step(law, gone, scale, number):
        size = law.move(gone, jnp.ones_like(gone), scale)
        return size + jnp.sqrt((scale.relative * size) ** 2 + scale.levels**2) * number

    def pulse(carry):
        k, moved = carry
        words = step_words(folded(key, k), place.leaf, place.step, pulses.shape)
        number = normal_quantile(words[0], pulses.dtype)
        now = level + moved
        # A pulse may go backwards by its noise: it is held at either end before the next one starts from there.
        free = sign * devices.both(lambda law, gone, scale: step(law, gone, scale, number), upwards, now)
        return k + 1, jnp.where(k.astype(pulses.dtype) < pulses, moved + devices.window.held(now, free), moved)

    # How many rounds it takes is known at run time only, and is the same for all: that of the device with most pulses, where
    # a request that is NaN must not stop the others.
    most = jnp.max(pulses, initial=0.0, where=pulses > 0).astype(jnp.int32)
    # 0 times the pulses is NaN where they are, so that a request that failed is seen.
    return jax.lax.while_loop(lambda carry: carry[0] < most, pulse, (jnp.int32(0), 0.0 * pulses))[1]
