"""Gradients of loss, heat and time through whole training runs, and what they are good for."""

from limjax.barriers.base import Tuned
from limjax.tuning.descent import OuterRow, TuneCode, plain_validation_loss
from limjax.tuning.gradients import value_and_gradient
from limjax.tuning.held_out import (
    LAW_FAMILIES,
    Evaluation,
    HandMade,
    best_hand_made,
    energy_at_loss,
    evaluate,
    evaluate_hand_made,
    hand_made_policies,
    held_out_seeds,
    train_design,
)
from limjax.tuning.objective import Weights
from limjax.tuning.pareto import ParetoCode, ParetoPoint, ParetoResult, hypervolume, non_dominated, pareto_front
from limjax.tuning.problem import Design, Outcome, Problem
from limjax.tuning.rules import RuleResult, tune_rule
from limjax.tuning.tune import TuneResult, tune
from limjax.tuning.variables import tuned_fields

__all__ = [
    "LAW_FAMILIES",
    "Design",
    "Evaluation",
    "HandMade",
    "Outcome",
    "OuterRow",
    "ParetoCode",
    "ParetoPoint",
    "ParetoResult",
    "Problem",
    "RuleResult",
    "TuneCode",
    "TuneResult",
    "Tuned",
    "Weights",
    "best_hand_made",
    "energy_at_loss",
    "evaluate",
    "evaluate_hand_made",
    "hand_made_policies",
    "held_out_seeds",
    "hypervolume",
    "non_dominated",
    "pareto_front",
    "plain_validation_loss",
    "train_design",
    "tune",
    "tune_rule",
    "tuned_fields",
    "value_and_gradient",
]
