r"""What makes a weight important, and how high that raises its barrier: a rule of `ConsolidatingBarrier`.

An importance Ω raises a barrier by $\ln(1 + sΩ)$: the logarithm of a precision that adds up over tasks, so that the largest move of a cell
whose driver can run out falls as $1/(1 + sΩ)$, as the step of a Bayesian update does.
"""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from limjax.barriers._base import BarrierInputs, Tuned, mean_of_known, required_weights, running_state
from limjax.numerics.checks import checked_leaf

Arrays = list[Float[Array, "..."]]
Flags = list[Bool[Array, "..."]]


class AbstractRule(eqx.Module):
    """What consolidates a weight. A new rule is one class with `heights`, and a state if it keeps something.

    `name` is how settings and tables call it; `running` how many numbers per weight it changes in every step besides the barrier itself;
    `keeps` whether an importance outlives the step, so that it can fade; `tuned` names the
    numbers that `limjax.tune` changes and how.
    """

    name: ClassVar[str]
    running: ClassVar[int] = 0
    keeps: ClassVar[bool] = True
    tuned: ClassVar[Mapping[str, Tuned]] = {}

    @property
    def reads_weights(self) -> bool:
        """Whether it looks at the weights."""
        return False

    def init(self, params: PyTree) -> Any:
        """State for parameters of this structure; none by default."""
        del params
        return ()

    def follow(self, inputs: BarrierInputs, state: Any, keep: Float[Array, ""] | None) -> Any:
        """The state with one step in it.

        Args:
            inputs: what a barrier may look at.
            state: the rule's state.
            keep: share of the importance that outlives the step, or None for all of it.

        Returns:
            The state.
        """
        del inputs, keep
        return state

    def task_ended(self, state: Any, weights: Arrays) -> Any:
        """The state when a task is over.

        Args:
            state: the rule's state.
            weights: the parameters at its end [weight].

        Returns:
            The state.
        """
        del weights
        return state

    @abc.abstractmethod
    def heights(self, inputs: BarrierInputs, state: Any) -> Arrays:
        """How much higher each barrier stands than that of a plastic cell.

        Args:
            inputs: what a barrier may look at.
            state: the rule's state after this step.

        Returns:
            Consolidation [kT], at least 0.
        """


def log_precision(importance: Arrays, strength: Float[Array, ""]) -> Arrays:
    """ln(1 + sΩ) [kT]."""
    # An importance may be so far below the mean that 1 + sΩ would round to 1.
    return [jnp.log1p(strength.astype(x.dtype) * x) for x in importance]


def of_mean_one(values: Arrays, counted: Flags) -> Arrays:
    """The values over their mean over all parameters that had a gradient, also those of other shards (see `total_of`); zeros where all of them are.

    What is frozen, or never had a gradient, was not learnt and does not count. A cell that was asked to move and did not hop counts: the
    mean shall not depend on chance, or on how high the barriers stand.
    """
    mean = mean_of_known(values, counted)
    # Guarded twice: the branch that is not taken is differentiated too, and 1/0 there would make NaN of the gradient.
    scale = jnp.where(mean > 0, 1 / jnp.where(mean > 0, mean, 1.0), 0.0)
    return [x * scale.astype(x.dtype) for x in values]


def task_over(state: Any, shares: Arrays, counted: Flags) -> Any:
    """The state of a rule when a task is over: its importance `kept` with the task's shares over their mean, all its other sums begun anew."""
    gains = of_mean_one(shares, counted)
    # Arrays of their own, so that the state can be donated.
    begun = jax.tree.map(jnp.zeros_like, state)
    return begun._replace(kept=[old + gain for old, gain in zip(state.kept, gains)])


def stood(inputs: BarrierInputs, rule: "AbstractRule", like: Arrays) -> Arrays:
    """Where the weights stand, to be remembered: arrays of the state's own, so that it can be donated without them."""
    return [jnp.array(w, old.dtype) for w, old in zip(required_weights(inputs, rule), like)]


def none_asked(values: Arrays) -> Flags:
    """No parameter had a gradient yet."""
    return [jnp.zeros_like(x, dtype=bool) for x in values]


def asked(before: Flags, gradient: Arrays) -> Flags:
    """Which parameters had a gradient, with this step."""
    # Frozen parameters are shown a gradient of exactly 0, see `Memory.request`.
    return [old | (g != 0) for old, g in zip(before, gradient)]


def faded(kept: Arrays, keep: Float[Array, ""] | None) -> Arrays:
    """What is left of an importance after a step."""
    return kept if keep is None else [keep.astype(x.dtype) * x for x in kept]


def checked_strength(
    strength: ArrayLike, remedy: str = "1 halves the largest move of a cell of mean importance after one task."
) -> Float[Array, ""]:
    """The weight of an importance, checked."""
    return checked_leaf(strength, "strength", low=0.0, remedy=remedy, single=True)


def zeros_of(params: PyTree) -> Any:
    """One number per parameter, 0."""
    return running_state(params, "parameter")
