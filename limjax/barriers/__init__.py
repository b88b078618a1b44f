"""Who sets the barrier. A new policy is one new file and one line here."""

from limjax.barriers._base import (
    AbstractBarrier,
    BarrierInputs,
    RunShape,
    Scope,
    Tuned,
    checked_granularity,
    checked_loss,
    in_scope,
    mean_square,
    promised_fall,
    required_drift,
    required_loss,
    running_mean,
    running_state,
    with_steps,
)
from limjax.barriers._consolidating import ConsolidatingBarrier
from limjax.barriers._files import barrier_from_json, barrier_to_json, load_barrier, save_barrier
from limjax.barriers._fisher import FisherBarrier
from limjax.barriers._fowler_nordheim import FowlerNordheimBarrier
from limjax.barriers._learned import LearnedBarrier
from limjax.barriers._lyapunov import LyapunovBarrier
from limjax.barriers._moment import MomentBarrier
from limjax.barriers._rate_matched import RateMatchedBarrier
from limjax.barriers._rule import AbstractRule
from limjax.barriers._rules import FisherRule, LyapunovRule, MetaplasticRule, PathIntegralRule, UseRule
from limjax.barriers._scheduled import ScheduledBarrier
from limjax.barriers._specification import barrier_from_name, barrier_names
from limjax.barriers._spline import SplineBarrier
from limjax.barriers._static import StaticBarrier

__all__ = [
    "AbstractBarrier",
    "AbstractRule",
    "BarrierInputs",
    "ConsolidatingBarrier",
    "FisherBarrier",
    "FisherRule",
    "FowlerNordheimBarrier",
    "LearnedBarrier",
    "LyapunovBarrier",
    "LyapunovRule",
    "MetaplasticRule",
    "MomentBarrier",
    "PathIntegralRule",
    "RateMatchedBarrier",
    "RunShape",
    "ScheduledBarrier",
    "Scope",
    "SplineBarrier",
    "StaticBarrier",
    "Tuned",
    "UseRule",
    "barrier_from_json",
    "barrier_from_name",
    "barrier_names",
    "barrier_to_json",
    "checked_granularity",
    "checked_loss",
    "in_scope",
    "load_barrier",
    "mean_square",
    "promised_fall",
    "required_drift",
    "required_loss",
    "running_mean",
    "running_state",
    "save_barrier",
    "with_steps",
]
