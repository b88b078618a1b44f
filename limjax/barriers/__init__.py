"""Who sets the barrier. A new policy is one new file and one line here."""

from limjax.barriers.base import AbstractBarrier, BarrierInputs
from limjax.barriers.files import load_barrier, save_barrier
from limjax.barriers.fisher import FisherBarrier
from limjax.barriers.fowler_nordheim import FowlerNordheimBarrier
from limjax.barriers.learned import LearnedBarrier
from limjax.barriers.lyapunov import LyapunovBarrier
from limjax.barriers.moment import MomentBarrier
from limjax.barriers.rate_matched import RateMatchedBarrier
from limjax.barriers.scheduled import ScheduledBarrier
from limjax.barriers.spline import SplineBarrier
from limjax.barriers.static import StaticBarrier

__all__ = [
    "AbstractBarrier",
    "BarrierInputs",
    "FisherBarrier",
    "FowlerNordheimBarrier",
    "LearnedBarrier",
    "LyapunovBarrier",
    "MomentBarrier",
    "RateMatchedBarrier",
    "ScheduledBarrier",
    "SplineBarrier",
    "StaticBarrier",
    "load_barrier",
    "save_barrier",
]
