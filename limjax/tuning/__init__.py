"""Gradients of loss, heat and time through whole training runs, and what they are good for."""

from limjax.barriers._base import Tuned
from limjax.tuning._abstract_problem import AbstractProblem, Design, Outcome
from limjax.tuning._differentiable_run import Problem
from limjax.tuning._fronts import hypervolume, non_dominated
from limjax.tuning._gradients import value_and_gradient
from limjax.tuning._held_out import (
    HELD_OUT_FROM,
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
from limjax.tuning._members import plain_validation_loss
from limjax.tuning._objective import Objective, Weights
from limjax.tuning._one_problem import TuneResult, tune
from limjax.tuning._outer_steps import OuterRow, TuneCode
from limjax.tuning._pareto_points import ParetoPoint
from limjax.tuning._pareto_sweep import ParetoCode, ParetoResult, Tradeoff, pareto_front
from limjax.tuning._progress import Progress
from limjax.tuning._search import Search
from limjax.tuning._several_problems import RuleResult, tune_rule
from limjax.tuning._variables import Variables, tuned_fields

__all__ = [
    "HELD_OUT_FROM",
    "LAW_FAMILIES",
    "AbstractProblem",
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
    "Variables",
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
