"""What one pulse takes at the device: given, by Joule's law, or to charge a capacitor. Lines and drivers are not in it."""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from limjax.numerics.checks import as_leaf, checked_leaf


class AbstractPulseEnergy(eqx.Module):
    """The energy of a pulse. A new one is a class with `joules`."""

    @abc.abstractmethod
    def joules(self, position: ArrayLike) -> Float[Array, "..."]:
        """The energy of one pulse.

        Args:
            position: where the device stands in its window, from 0 at the low to 1 at the high conductance.

        Returns:
            Energy [J].
        """


class GivenEnergy(AbstractPulseEnergy):
    """A pulse takes so much, wherever the device stands.

    Args:
        energy: of one pulse [J], at least 0.

    Raises:
        ValueError: if it is negative or not finite.

    Example:
        >>> f"{GivenEnergy(5e-15).joules(0.5):.1e}"
        '5.0e-15'
    """

    energy: Float[Array, "..."]

    def __init__(self, energy: ArrayLike):
        self.energy = checked_leaf(energy, "energy", low=0.0, remedy="It is joules for one pulse, for example 5e-15.")

    def joules(self, position: ArrayLike) -> Float[Array, "..."]:
        position = as_leaf(position)
        # As many numbers as places: callers index them place by place (`device_response`).
        return self.energy.astype(position.dtype) + jnp.zeros_like(position)


class OhmicEnergy(AbstractPulseEnergy):
    """Joule heat V² G t of a conductor at the conductance at which it stands.

    Args:
        volts: V across the device [V]; only its square counts.
        conductance_low: at the low end of the window [S].
        conductance_high: at its high end [S].
        seconds: t, width of the pulse [s].

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> f"{OhmicEnergy(3.2, 3.8e-9, 48e-9, 300e-6).joules(1.0):.2e}"
        '1.47e-10'
    """

    volts: Float[Array, "..."]
    conductance_low: Float[Array, "..."]
    conductance_high: Float[Array, "..."]
    seconds: Float[Array, "..."]

    def __init__(self, volts: ArrayLike, conductance_low: ArrayLike, conductance_high: ArrayLike, seconds: ArrayLike):
        self.volts = checked_leaf(volts, "volts", remedy="It is the voltage of the pulse, for example 3.2.")
        remedy = "Conductances are in siemens: 1 µS is 1e-6."
        self.conductance_low = checked_leaf(conductance_low, "conductance_low", low=0.0, remedy=remedy)
        self.conductance_high = checked_leaf(conductance_high, "conductance_high", low=0.0, remedy=remedy)
        remedy = "It is the width of the pulse in seconds, for example 1e-7."
        self.seconds = checked_leaf(seconds, "seconds", low=0.0, open_low=True, remedy=remedy)

    def joules(self, position: ArrayLike) -> Float[Array, "..."]:
        position = as_leaf(position)
        volts, low, high, seconds = (
            x.astype(position.dtype) for x in (self.volts, self.conductance_low, self.conductance_high, self.seconds)
        )
        return volts**2 * seconds * (low + position * (high - low))


class CapacitiveEnergy(AbstractPulseEnergy):
    """C V², what a source gives to charge a capacitor to V: half of it is lost on the way in, half on the way out.

    Args:
        volts: V [V].
        farads: C [F].

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> f"{CapacitiveEnergy(1.0, 1e-15).joules(0.5):.1e}"
        '1.0e-15'
    """

    volts: Float[Array, "..."]
    farads: Float[Array, "..."]

    def __init__(self, volts: ArrayLike, farads: ArrayLike):
        self.volts = checked_leaf(volts, "volts", remedy="It is the voltage of the pulse, for example 1.0.")
        remedy = "It is the capacitance in farads: 1 fF is 1e-15."
        self.farads = checked_leaf(farads, "farads", low=0.0, open_low=True, remedy=remedy)

    def joules(self, position: ArrayLike) -> Float[Array, "..."]:
        position = as_leaf(position)
        energy = self.volts.astype(position.dtype) ** 2 * self.farads.astype(position.dtype)
        return energy + jnp.zeros_like(position)
