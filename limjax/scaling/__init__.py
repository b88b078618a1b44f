"""How the heat of training grows: language models of several sizes, measured, with the signal and noise of their requests."""

from limjax.scaling._requests import (
    Bins,
    EffectiveUpdates,
    RequestSums,
    Signal,
    effective_updates,
    halved,
    request_sums,
    watched,
)
from limjax.scaling._settings import ScaleSettings
from limjax.scaling._sweep import ScaleResult, measure_growth

__all__ = [
    "Bins",
    "EffectiveUpdates",
    "RequestSums",
    "ScaleResult",
    "ScaleSettings",
    "Signal",
    "effective_updates",
    "halved",
    "measure_growth",
    "request_sums",
    "watched",
]
