"""What pulses make of requests: how many are given, where they take the devices, and what they take."""

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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
        position = jnp.where(jnp.isfinite(self.low), position, 0.5)
        return position if up else 1 - position

    def held(self, level: Float[Array, "..."], move: Float[Array, "..."]) -> Float[Array, "..."]:
        """A move, no further than to the end."""
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

    def both(self, function, upwards, level) -> Float[Array, "..."]:
        """`function(law, gone, scale)` in the direction of each device."""
        up, down = (
            function(self._pulse(way).steps, self.window.gone(level, way), self.scale(way)) for way in (True, False)
        )
        return jnp.where(upwards, up, down)

    def charge(self, upwards, position, name: str) -> Float[Array, "..."]:
        """What one pulse takes in the direction of each device."""
        up, down = (self._pulse(way).charge(name, position) for way in (True, False))
        return jnp.where(upwards, up, down)


def delivered(
    cell: "PulsedCell", drift: Float[Array, "..."], level: Float[Array, "..."] | None, place: Place
) -> Delivery:
    """What the pulses for a request do: see `limjax.devices.PulsedCell.deliver`."""
    level = jnp.zeros_like(drift) if level is None else level
    relaxed = _relaxed(cell, level)
    at = level if relaxed is None else level + relaxed
    devices, upwards = _Devices(cell, place.leaf, level), drift >= 0
    sign = jnp.where(upwards, 1.0, -1.0).astype(drift.dtype)
    wanted = jnp.abs(drift)
    request = jnp.minimum(wanted, float(cell.max_pulses))
    free = sign * devices.both(lambda law, gone, scale: law.mean_move(gone, request, scale), upwards, at)
    mean = devices.window.held(at, free)
    move, pulses = None, request
    if place.key is not None:
        move, pulses = _drawn(devices, upwards, sign, request, at, mean, place)
    taken = mean if move is None else move
    count = pulses if cell.word_bits is None else cell.word_bits * jnp.minimum(pulses, 1.0)
    middle = devices.window.gone(at + 0.5 * taken, True)
    charges: dict[str, Any] = {"pulses": count, "misplaced": jnp.abs(mean - drift)}
    for name in cell.charges:
        if name not in charges:
            charges[name] = count * devices.charge(upwards, middle, name)
    ended = devices.window.held(at, free) != free
    return Delivery(mean, move, wanted > request, ended.astype(drift.dtype), relaxed, charges)


def _relaxed(cell: "PulsedCell", level):
    """What devices forget during the step [levels], or None."""
    retention = cell.retention
    if retention is None or retention.rest is None:
        return None
    assert cell.levels is not None
    low, high = cell.levels.astype(level.dtype)
    exponent = cell.log_attempts(level.dtype) - cell.own_barrier.astype(level.dtype)
    target = low + retention.rest.astype(level.dtype) * (high - low)
    return -(target - level) * jnp.expm1(-jnp.exp(exponent))


def _drawn(devices: _Devices, upwards, sign, request, level, mean, place: Place):
    """Displacements and numbers of pulses by chance."""
    assert place.key is not None

    def spread(law, gone, scale):
        """Variance of the displacement: from rounding the request, and from the noise of the pulses."""
        low = jnp.floor(request)
        share = request - low
        step = law.move(gone, low + 1, scale) - law.move(gone, low, scale)
        noise = law.variance(gone, low, scale)
        return share * (1 - share) * step**2 + noise + share * (law.variance(gone, low + 1, scale) - noise)

    variance = devices.both(spread, upwards, level)
    words = step_words(place.key, place.leaf, place.step, request.shape)
    if not place.whole:
        root = jnp.sqrt(jnp.where(variance > 0, variance, 1.0)) * (variance > 0).astype(variance.dtype)
        return devices.window.held(level, mean + root * normal_quantile(words[0], request.dtype)), request
    low = jnp.floor(request)
    # 24 bits: a uniform that float32 holds exactly, so that a request of a whole number is never rounded.
    uniform = (words[0] >> jnp.uint32(8)).astype(request.dtype) * 2.0**-24
    pulses = low + (uniform < request - low).astype(request.dtype)
    frozen = jax.lax.stop_gradient((pulses, level))
    if devices.cell.noise is None:
        free = sign * devices.both(lambda law, gone, scale: law.move(gone, frozen[0], scale), upwards, frozen[1])
        moved = devices.window.held(frozen[1], free)
    else:
        moved = _one_by_one(devices, upwards, sign, *frozen, place)
    return stretched(jax.lax.stop_gradient(moved), mean, variance), pulses


def _one_by_one(devices: _Devices, upwards, sign, pulses, level, place: Place):
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
        free = sign * devices.both(lambda law, gone, scale: step(law, gone, scale, number), upwards, now)
        return k + 1, jnp.where(k.astype(pulses.dtype) < pulses, moved + devices.window.held(now, free), moved)

    most = jnp.max(pulses, initial=0.0).astype(jnp.int32)
    return jax.lax.while_loop(lambda carry: carry[0] < most, pulse, (jnp.int32(0), jnp.zeros_like(level)))[1]
