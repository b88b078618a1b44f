"""A real memory: a device that pulses move, by steps that depend on where it stands and differ from pulse to pulse."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from limjax.devices._delivery import delivered
from limjax.devices._energy import AbstractPulseEnergy
from limjax.devices._spread import DeviceSpread, PulseNoise
from limjax.devices._steps import AbstractSteps, LinearSteps
from limjax.numerics.checks import WholeNumber, checked_leaf, is_known, whole_number
from limjax.physics._abstract_cell import AbstractCell
from limjax.physics._device_numbers import LevelRange, device_numbers
from limjax.physics._pulses import Delivery, Place
from limjax.physics._response import Response, symmetric_response, symmetric_tilt
from limjax.physics.units import BOLTZMANN_J_PER_K, ELEMENTARY_CHARGE_C, YEAR_S

MAX_PULSES = 1000
"""Pulses that a driver gives to one cell in one step, if nothing else is said."""


class Pulse(eqx.Module):
    """One pulse in one direction.

    Args:
        steps: the law of its steps.
        size: step in the middle of the window, in nominal pulses; 1 is what the driver counts with. [levels]
        energy: what it takes, or None where that is not known.
        seconds: its width, or None where that is not known. [s]

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> from limjax.devices import GivenEnergy, Pulse
        >>> Pulse(energy=GivenEnergy(1e-15), seconds=1e-2).steps.name
        'linear'
    """

    steps: AbstractSteps
    size: Float[Array, "..."]
    energy: AbstractPulseEnergy | None
    seconds: Float[Array, "..."] | None

    def __init__(
        self,
        steps: AbstractSteps | None = None,
        size: ArrayLike = 1.0,
        energy: AbstractPulseEnergy | None = None,
        seconds: ArrayLike | None = None,
    ):
        self.steps = LinearSteps() if steps is None else steps
        remedy = "It is the step in the middle of the window in nominal pulses; 1.0 is what the driver counts with."
        self.size = checked_leaf(size, "size", low=0.0, remedy=remedy)
        self.energy = energy
        remedy = "It is the width of the pulse in seconds, for example 1e-7."
        self.seconds = None if seconds is None else checked_leaf(seconds, "seconds", low=0.0, remedy=remedy)

    def charge(self, name: str, position: Float[Array, "..."]) -> Float[Array, "..."]:
        """What one pulse takes, where that is known.

        Args:
            name: "device_joules" or "device_seconds".
            position: where the device stands in its window, from 0 to 1.

        Returns:
            Energy [J] or time [s].
        """
        # Asked only for the cell's `charges`, which are known of both pulses.
        if name == "device_joules":
            assert self.energy is not None
            return self.energy.joules(position)
        assert self.seconds is not None
        return self.seconds.astype(position.dtype) + jnp.zeros_like(position)


class Retention(eqx.Module):
    """How a device loses its state: over an activation energy, at an attempt rate.

    Args:
        activation_ev: E_a [eV].
        attempt_rate: k0. [1/s]
        rest: where it relaxes to, from 0 at the low to 1 at the high end of its window; None leaves that out of training.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> from limjax.devices import Retention
        >>> f"{Retention(1.1, 1e12).barrier(300.0):.1f} kT"
        '42.5 kT'
    """

    activation_ev: Float[Array, "..."]
    attempt_rate: Float[Array, "..."]
    rest: Float[Array, "..."] | None

    def __init__(self, activation_ev: ArrayLike, attempt_rate: ArrayLike, rest: ArrayLike | None = None):
        remedy = "It is the activation energy of retention loss in eV, for example 1.1."
        self.activation_ev = checked_leaf(activation_ev, "activation_ev", low=0.0, remedy=remedy)
        remedy = "It is k0 in 1/s, for example 1e12."
        self.attempt_rate = checked_leaf(attempt_rate, "attempt_rate", low=0.0, open_low=True, remedy=remedy)
        remedy = "It is a place in the window, from 0 to 1."
        self.rest = None if rest is None else checked_leaf(rest, "rest", low=0.0, high=1.0, remedy=remedy)

    def barrier(self, temperature: ArrayLike) -> Float[Array, "..."]:
        """The barrier at a temperature: E_a / k_B T.

        Args:
            temperature: T [K].

        Returns:
            B [kT].
        """
        return self.activation_ev * (ELEMENTARY_CHARGE_C / BOLTZMANN_J_PER_K) / temperature


class PulsedCell(AbstractCell):
    r"""A memory that is programmed by pulses, as devices are: what is asked for is delivered by whole pulses, more or less.

    A driver that does not look where the cell stands turns a request of d levels into |d| pulses (`exact`: rounded up or down by
    chance, so that their mean is |d|). Each moves the cell by its step there, with noise. What pulses, joules and seconds that took
    stands in the ledger beside model heat and is never added to it. Model heat is that of *the same mean moves* by an ideal drive over
    the barrier, which by itself is the device's own, $B = E_a/k_BT$: device joules over it are what the driver wastes.

    Args:
        up: the pulse that raises the weight.
        down: the pulse that lowers it; None for the same.
        lsb: weight of one nominal pulse. [weight/level]
        levels: width of the window in nominal pulses, around weight 0; or its `(lowest, highest)` level; None for no end. [levels]
        noise: how steps differ from pulse to pulse, or None.
        spread: how devices differ from each other, or None.
        retention: how they lose their state; None for a barrier that holds ten years at 1 GHz.
        step_time: duration τ of one optimizer step. [s]
        temperature: temperature of the devices. [K]
        max_pulses: pulses that the driver gives to one cell in one step at most; the rest of a request is lost and counted as saturated.
            Words of bits need one pulse for each bit, however far they go.
        word_bits: for digital memories: a weight is a word of so many cells, which one pulse each rewrites to whatever level is asked
            for. None for a weight that is one device.

    Raises:
        ValueError: for a wrong number, or a law that needs a window where there is none.

    Example:
        >>> from limjax.devices import GivenEnergy, Pulse, PulsedCell, SoftBoundsSteps
        >>> pulse = Pulse(SoftBoundsSteps(), energy=GivenEnergy(1e-15), seconds=1e-2)
        >>> cell = PulsedCell(pulse, lsb=2**-9, levels=1000)
        >>> f"{cell.own_barrier:.1f} kT", cell.charges
        ('49.5 kT', ('pulses', 'misplaced', 'device_joules', 'device_seconds'))

    Cost: without `noise` closed forms; with it one normal number for every pulse of the cell that gets most.
    """

    up: Pulse
    down: Pulse
    noise: PulseNoise | None
    spread: DeviceSpread | None
    retention: Retention | None
    lsb: Float[Array, "..."]
    attempt_rate: Float[Array, "..."]
    step_time: Float[Array, "*s"]
    temperature: Float[Array, "..."]
    recovery: Float[Array, "..."]
    min_barrier: Float[Array, "..."]
    max_barrier: Float[Array, "..."]
    levels: Float[Array, "2"] | None
    max_pulses: int = eqx.field(static=True)
    word_bits: int | None = eqx.field(static=True)

    per_cell: ClassVar[tuple[str, ...]] = ("lsb", "temperature")

    def __init__(
        self,
        up: Pulse | None = None,
        down: Pulse | None = None,
        *,
        lsb: ArrayLike = 2**-10,
        levels: ArrayLike | LevelRange | None = None,
        noise: PulseNoise | None = None,
        spread: DeviceSpread | None = None,
        retention: Retention | None = None,
        step_time: ArrayLike = 1e-3,
        temperature: ArrayLike = 300.0,
        max_pulses: WholeNumber = MAX_PULSES,
        word_bits: WholeNumber | None = None,
    ):
        self.up = Pulse() if up is None else up
        self.down = self.up if down is None else down
        self.noise, self.spread, self.retention = noise, spread, retention
        self.max_pulses = whole_number(max_pulses, "max_pulses")
        self.word_bits = None if word_bits is None else whole_number(word_bits, "word_bits", 1, 24)
        rate = 1e9 if retention is None else retention.attempt_rate
        highest = _highest(retention, temperature)
        numbers = device_numbers(lsb, rate, step_time, temperature, 0.0, 0.0, highest, _window(levels), None)
        for name, value in numbers.items():
            setattr(self, name, value)
        self._check()

    def _check(self) -> None:
        laws = {self.up.steps.name: self.up.steps, self.down.steps.name: self.down.steps}
        needing = [name for name, law in laws.items() if law.needs_window]
        if self.spread is not None and self.levels is None:
            needing.append("a spread of windows")
        if self.retention is not None and self.retention.rest is not None and self.levels is None:
            needing.append("a place to relax to")
        # Without a window such laws would see every device in the middle of one, and no one would notice.
        if needing and self.levels is None:
            raise ValueError(
                f"levels must say how wide the window is, got None: {', '.join(needing)} depends on where in it a cell stands. Pass the "
                "number of nominal pulses from end to end, for example levels=200."
            )
        if self.word_bits is not None and (any(law.needs_window for law in laws.values()) or self.noise is not None):
            raise ValueError(
                f"word_bits = {self.word_bits} is for digital cells: leave it out, or use LinearSteps() without noise."
            )

    @property
    def charges(self) -> tuple[str, ...]:
        """The columns that its pulses fill: joules and seconds only where they are known of both directions."""
        both = (self.up, self.down)
        joules = () if any(pulse.energy is None for pulse in both) else ("device_joules",)
        seconds = () if any(pulse.seconds is None for pulse in both) else ("device_seconds",)
        return ("pulses", "misplaced", *joules, *seconds)

    @property
    def write_joules(self) -> float | None:
        """Energy of one pulse, or of all that rewrite a word: the largest of both directions and ends of the window [J], if known."""
        energies = [pulse.energy for pulse in (self.up, self.down)]
        if any(energy is None for energy in energies):
            return None
        # Energies are at most linear in the position.
        ends = [float(np.max(energy.joules(end))) for energy in energies if energy is not None for end in (0.0, 1.0)]
        return (self.word_bits or 1) * max(ends)

    @property
    def reads_weights(self) -> bool:
        """Whether what a pulse does depends on where the cell stands."""
        # Equal steps end at the end of a window too.
        return self.levels is not None

    @property
    def own_barrier(self) -> Float[Array, "..."]:
        """The barrier of its retention [kT]: from its activation energy, or the one that holds ten years."""
        if self.retention is None:
            # `attempt_rate` is the 1 GHz of `__init__` then.
            return self.retention_barrier(10 * YEAR_S)
        return self.retention.barrier(self.temperature)

    def response(self, drift: Float[Array, "..."], barrier: Float[Array, "..."]) -> Response:
        """What an ideal drive would need for the moves that the pulses made: that of `limjax.ArrheniusCell`.

        Args:
            drift: d, the mean moves [levels].
            barrier: B [kT].

        Returns:
            The response.
        """
        return symmetric_response(drift, self.log_exchange(barrier))

    def tilted(
        self, half_tilt: Float[Array, "..."], barrier: Float[Array, "..."], max_move: float | None = None
    ) -> tuple[Float[Array, "..."], Bool[Array, "..."]]:
        """A tilt in place of pulses, as in `limjax.gradient_tilt`.

        Args:
            half_tilt: F/2 [kT].
            barrier: B [kT].
            max_move: largest mean move a driver allows [levels], or None.

        Returns:
            `(d [levels], whether the tilt was held)`.
        """
        return symmetric_tilt(half_tilt, barrier, self.log_exchange(barrier), max_move)

    def deliver(self, drift: Float[Array, "..."], level: Float[Array, "..."] | None, place: Place) -> Delivery:
        """Pulses for a request, and what they do.

        Args:
            drift: d, requested levels [levels].
            level: where the cells stand [levels], or None without a window.
            place: which cells they are.

        Returns:
            The displacement and what it took.
        """
        return delivered(self, drift, level, place)


def _window(levels: ArrayLike | LevelRange | None) -> LevelRange | None:
    if levels is None or isinstance(levels, tuple):
        return levels
    remedy = "It is the number of nominal pulses from one end of the window to the other, for example 200."
    width = checked_leaf(levels, "levels", low=0.0, open_low=True, remedy=remedy, single=True)
    return (-width / 2, width / 2)


def _highest(retention: Retention | None, temperature: ArrayLike) -> float:
    """Highest barrier of the cell: that of the device is never clipped."""
    if retention is None or not is_known(retention.activation_ev, jnp.asarray(temperature)):
        # As `max_barrier` of other cells; a traced barrier cannot be looked at to choose one.
        return 80.0
    barrier = retention.barrier(jnp.asarray(temperature, retention.activation_ev.dtype))
    return max(80.0, 2 * float(np.max(barrier)))
