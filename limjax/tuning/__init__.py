"""Gradients of loss, heat and time through whole training runs, and what they are good for."""

from limjax.barriers.base import Tuned
from limjax.tuning.differentiable_run import Design, Outcome, Problem
from limjax.tuning.fronts import hypervolume, non_dominated
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
from limjax.tuning.members import plain_validation_loss
from limjax.tuning.objective import Objective, Weights
from limjax.tuning.one_problem import TuneResult, tune
from limjax.tuning.outer_steps import OuterRow, TuneCode
from limjax.tuning.pareto_points import ParetoPoint
from limjax.tuning.pareto_sweep import ParetoCode, ParetoResult, Tradeoff, pareto_front
from limjax.tuning.progress import Progress
from limjax.tuning.search import Search
from limjax.tuning.several_problems import RuleResult, tune_rule
from limjax.tuning.variables import tuned_fields

__all__ = [
    "LAW_FAMILIES",
    "Design",
    "Evaluation",
    "HandMade",
    "Objective",
    "Outcome",
    "OuterRow",
    "ParetoCode",
    "ParetoPoint",
    "ParetoResult",
    "Problem",
    "Progress",
    "RuleResult",
    "Search",
    "Tradeoff",
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
