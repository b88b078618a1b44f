"""Real memories: cells that pulses program, measured or published."""

from limjax.devices._energy import AbstractPulseEnergy, CapacitiveEnergy, GivenEnergy, OhmicEnergy
from limjax.devices._fit import Fitted, PulseFit, fit_pulses
from limjax.devices._fitted_device import fitted_device
from limjax.devices._numbers import Number
from limjax.devices._pulsed_cell import Pulse, PulsedCell, Retention
from limjax.devices._records import Device, device_names, get_device, read_device
from limjax.devices._retention_fit import RetentionFit, fit_retention
from limjax.devices._spread import DeviceSpread, PulseNoise
from limjax.devices._steps import AbstractSteps, ExponentialSteps, LinearSteps, SoftBoundsSteps

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
    "fitted_device",
    "get_device",
    "read_device",
]
