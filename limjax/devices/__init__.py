"""Real memories: cells that pulses program, measured or published."""

from limjax.devices.energy import AbstractPulseEnergy, CapacitiveEnergy, GivenEnergy, OhmicEnergy
from limjax.devices.pulsed_cell import Pulse, PulsedCell, Retention
from limjax.devices.spread import DeviceSpread, PulseNoise
from limjax.devices.steps import AbstractSteps, ExponentialSteps, LinearSteps, SoftBoundsSteps

__all__ = [
    "AbstractPulseEnergy",
    "AbstractSteps",
    "CapacitiveEnergy",
    "DeviceSpread",
    "ExponentialSteps",
    "GivenEnergy",
    "LinearSteps",
    "OhmicEnergy",
    "Pulse",
    "PulseNoise",
    "PulsedCell",
    "Retention",
    "SoftBoundsSteps",
]
