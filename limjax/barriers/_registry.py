"""The barriers of this library by name."""

from limjax.barriers._base import AbstractBarrier
from limjax.barriers._consolidating import ConsolidatingBarrier
from limjax.barriers._fisher import FisherBarrier
from limjax.barriers._fowler_nordheim import FowlerNordheimBarrier
from limjax.barriers._learned import LearnedBarrier
from limjax.barriers._lyapunov import LyapunovBarrier
from limjax.barriers._moment import MomentBarrier
from limjax.barriers._rate_matched import RateMatchedBarrier
from limjax.barriers._scheduled import ScheduledBarrier
from limjax.barriers._spline import SplineBarrier
from limjax.barriers._static import StaticBarrier

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
        ConsolidatingBarrier,
        SplineBarrier,
        LearnedBarrier,
    )
}
"""Classes by the name that files, tables and the command line use."""
