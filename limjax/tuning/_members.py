"""One problem in the outer loop: its limit and the price of it, its seeds, its compiled step."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from limjax.memory._hops import HopsName
from limjax.tuning._abstract_problem import AbstractProblem, Design, Outcome
from limjax.tuning._gradients import value_and_gradient
from limjax.tuning._objective import Objective
from limjax.tuning._search import FIRST_SELECTION, Search
from limjax.tuning._variables import Variables

TYPICAL_PRICE = 15.0
"""Of a logarithm of the loss in logarithms of the energy, near a loss that is hardly worse than plain training's."""


class Judgement(NamedTuple):
    """A design on validation runs.

    Attributes:
        limited: the limited quantity.
        violation: logarithm of it over its limit.
        goal: what is to be made small.
    """

    limited: float
    violation: float
    goal: float


class Member:
    """One problem in the outer loop.

    Args:
        problem: the problem.
        objective: what is to be made small there.
        variables: the numbers tuned; all members of a loop have the same, around designs of their own.
        search: how.
        seeds: seeds of one outer step; None takes the search's.
    """

    def __init__(
        self,
        problem: AbstractProblem,
        objective: Objective,
        variables: Variables,
        search: Search,
        seeds: np.ndarray | None = None,
    ):
        self.problem, self.objective, self.variables = problem, objective, variables
        self.seeds = search.tuning_seeds if seeds is None else seeds
        self._hops: HopsName = search.hops
        self.selection = int(search.selection)
        self._step = _compiled_step(problem, search)
        self._data = problem.data("validation")
        self._plain, self.multiplier = None, 0.0
        if objective.limited == "loss":
            # Not from 0: a loss 5 % above the limit raises the price by 0.15 a step, and 15 would take a hundred steps.
            self.multiplier = TYPICAL_PRICE
            start = self.design(variables.start())
            # That of the limit "plain" is known: it is the limit.
            usual = (
                float(objective.limit) if objective.is_plain else plain_validation_loss(problem, start, self.selection)
            )
            self._plain = _plain_difference(problem, start, usual)

    def design(self, point: dict[str, Float[Array, "..."]]) -> Design:
        """The design of this member at a point."""
        return self.variables.to_design(point)

    def step(
        self, point: dict[str, Float[Array, "..."]], key: Array, offset: int
    ) -> tuple[float, Outcome, dict[str, Float[Array, "..."]]]:
        """Objective, mean outcome and gradient at a point, for seeds further on."""
        drawn = self.seeds + np.uint32(offset)
        easier = self._plain(drawn) if self._plain is not None else 0.0
        # Arrays, not Python numbers: `compiled` would take those for parts of the program and make one at every step.
        (value, mean), slope = self._step(
            point, self.variables, self.objective, jnp.asarray(self.multiplier), key, jnp.asarray(drawn),
            jnp.asarray(easier), self._data,
        )  # fmt: skip
        return float(value), mean, slope

    def follow(self, mean: Outcome) -> None:
        """Moves the price of the limit after a step that gave this outcome."""
        if self.objective.limited != "nothing":
            self.multiplier = self.objective.next_multiplier(self.multiplier, mean)

    def judge(self, design: Design) -> "Judgement":
        """How a design does on validation runs of further seeds."""
        outcome = self.problem.run(design, selection_seeds(self.selection), part="validation", hops=self._hops)
        mean = Outcome(*(jnp.mean(x) for x in outcome))
        limited = mean.loss if self.objective.limited == "loss" else mean.energy_kt_per_parameter
        return Judgement(float(limited), float(self.objective.violation(mean)), float(self.objective.goal(mean)))


def plain_validation_loss(problem: AbstractProblem, design: Design, selection: int = 32) -> float:
    """What training without hop noise reaches on the data that its seeds set aside.

    Args:
        problem: the task and its settings.
        design: any design; the problem says what plain training is beside it (`AbstractProblem.plain`).
        selection: number of seeds.

    Returns:
        Mean over the seeds on which candidates are compared [loss units].
    """
    seeds = selection_seeds(selection)
    plain, start = problem.plain_problem, problem.plain(design)
    return float(np.mean(plain.run(start, seeds, part="validation", hops="mean").loss))


def selection_seeds(count: int) -> Integer[Array, "seeds"]:
    """Seeds on which candidates are compared: neither tuning's nor held out."""
    return jnp.arange(FIRST_SELECTION, FIRST_SELECTION + count, dtype=jnp.uint32)


def _plain_difference(problem: AbstractProblem, start: Design, usual: float) -> Callable[[np.ndarray], float]:
    """How much more training without hop noise loses on some seeds than usual, on those of the selection, as a control variate.

    What a seed sets aside may be easy or hard, which scatters losses by far more than a barrier changes them.
    """
    plain, start = problem.plain_problem, problem.plain(start)

    def difference(seeds: np.ndarray) -> float:
        outcome = plain.run(start, jnp.asarray(seeds, jnp.uint32), part="validation", hops="mean")
        value = float(np.mean(outcome.loss)) - usual
        # A run that diverges even without hop noise is reported by the outer loop.
        return value if math.isfinite(value) else 0.0

    return difference


def _compiled_step(problem: AbstractProblem, search: Search):
    """One outer step as a compiled function, kept with the problem."""
    hops, gradient, pairs, window = search.hops, search.gradient, int(search.pairs), search.window_of(problem.steps)

    def outer_step(point, variables, objective, multiplier, key, seeds, easier, data):
        def function(point):
            design = variables.to_design(point)
            outcomes = jax.vmap(lambda s: problem.outcome(design, s, data, hops, window))(seeds)
            # Means before logarithms, as candidates are judged.
            mean = jax.tree.map(jnp.mean, outcomes)
            # A constant: it steadies what is said about the limit, and has no derivative.
            mean = mean._replace(loss=mean.loss - easier.astype(mean.loss.dtype))
            return objective.value(mean, multiplier), mean

        return value_and_gradient(function, gradient, pairs=pairs)(point, key)

    return problem.compiled(outer_step, hops, gradient, window, pairs)
