"""How the heat of training grows: language models of several sizes, measured, with the signal and noise of their requests."""

from limjax.scaling._requests import Bins, EffectiveUpdates, RequestSums, effective_updates, request_sums, watched
from limjax.scaling._settings import ScaleSettings
from limjax.scaling._sweep import ScaleResult, measure_growth

__all__ = [
    "Bins",
    "EffectiveUpdates",
    "RequestSums",
    "ScaleResult",
    "ScaleSettings",
    "effective_updates",
    "measure_growth",
    "request_sums",
    "watched",
]
