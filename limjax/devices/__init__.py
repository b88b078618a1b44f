"""Real memories: cells that pulses program, measured or published."""

from limjax.devices.energy import AbstractPulseEnergy, CapacitiveEnergy, GivenEnergy, OhmicEnergy
from limjax.devices.fit import Fitted, PulseFit, fit_pulses
from limjax.devices.numbers import Number
from limjax.devices.pulsed_cell import Pulse, PulsedCell, Retention
from limjax.devices.records import Device, device_names, get_device, read_device
from limjax.devices.retention_fit import RetentionFit, fit_retention
from limjax.devices.spread import DeviceSpread, PulseNoise
from limjax.devices.steps import AbstractSteps, ExponentialSteps, LinearSteps, SoftBoundsSteps

__all__ = [
    "AbstractPulseEnergy",
    "AbstractSteps",
    "CapacitiveEnergy",
    "Device",
    "DeviceSpread",
    "ExponentialSteps",
    "Fitted",
    "GivenEnergy",
    "LinearSteps",
    "Number",
    "OhmicEnergy",
    "Pulse",
    "PulseFit",
    "PulseNoise",
    "PulsedCell",
    "Retention",
    "RetentionFit",
    "SoftBoundsSteps",
    "device_names",
    "fit_pulses",
    "fit_retention",
    "get_device",
    "read_device",
]
