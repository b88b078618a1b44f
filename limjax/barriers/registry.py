"""The barriers of this library by name."""

from limjax.barriers.base import AbstractBarrier
from limjax.barriers.fisher import FisherBarrier
from limjax.barriers.fowler_nordheim import FowlerNordheimBarrier
from limjax.barriers.learned import LearnedBarrier
from limjax.barriers.lyapunov import LyapunovBarrier
from limjax.barriers.moment import MomentBarrier
from limjax.barriers.rate_matched import RateMatchedBarrier
from limjax.barriers.scheduled import ScheduledBarrier
from limjax.barriers.spline import SplineBarrier
from limjax.barriers.static import StaticBarrier

BARRIERS: dict[str, type[AbstractBarrier]] = {
    kind.name: kind
    for kind in (
        StaticBarrier,
        ScheduledBarrier,
        LyapunovBarrier,
        MomentBarrier,
        RateMatchedBarrier,
        FisherBarrier,
        FowlerNordheimBarrier,
        SplineBarrier,
        LearnedBarrier,
    )
}
"""Classes by the name that files, tables and the command line use."""
