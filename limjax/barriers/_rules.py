"""Rules of `ConsolidatingBarrier`: gradients, the path of the loss, use, and the weight itself."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from limjax.barriers._base import BarrierInputs, Tuned, required_drift, required_weights
from limjax.barriers._descent_rule import LyapunovRule
from limjax.barriers._rule import (
    AbstractRule,
    Arrays,
    Flags,
    asked,
    checked_strength,
    faded,
    log_precision,
    none_asked,
    stood,
    task_over,
    zeros_of,
)
from limjax.numerics.checks import checked_leaf


class FisherState(NamedTuple):
    """Sums of `FisherRule`.

    Attributes:
        squares: Σ g² since the task began [(loss/weight)²].
        kept: importance, whose mean over all parameters grows by 1 with every task.
    """

    squares: Arrays
    kept: Arrays


class FisherRule(AbstractRule):
    r"""Squared gradients: $B - B_0 = \ln(1 + sΩ)$, where each task adds its $\sum g^2$ over its mean over all parameters with a gradient to Ω.

    The squares are those of the training steps themselves, as online elastic weight consolidation has them; no pass over the data.

    Args:
        strength: s, at least 0. 1 halves the largest move of a cell of mean importance after one task.
        decay: weight of the past in the sum, 0 to 1; 1 adds up the whole task, 0.99 its last hundred steps.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> FisherRule(strength=100.0).name
        'fisher'

    Source: Kirkpatrick et al., PNAS 114, 3521 (2017), arXiv:1612.00796; Schwarz et al., arXiv:1805.06370 for the running form.
    """

    name: ClassVar[str] = "fisher"
    running: ClassVar[int] = 1  # the sum of squares
    tuned: ClassVar[Mapping[str, Tuned]] = {"strength": Tuned(log=True)}
    strength: Float[Array, ""]
    decay: Float[Array, ""]

    def __init__(self, strength: ArrayLike = 100.0, decay: ArrayLike = 1.0):
        self.strength = checked_strength(strength)
        remedy = "1 adds up the whole task, 0.99 its last hundred steps."
        self.decay = checked_leaf(decay, "decay", low=0.0, high=1.0, remedy=remedy, single=True)

    def init(self, params: PyTree) -> FisherState:
        return FisherState(zeros_of(params), zeros_of(params))

    def follow(self, inputs: BarrierInputs, state: FisherState, keep: Float[Array, ""] | None) -> FisherState:
        squares = [
            self.decay.astype(old.dtype) * old + jnp.square(g.astype(old.dtype))
            for old, g in zip(state.squares, inputs.gradient)
        ]
        return FisherState(squares, faded(state.kept, keep))

    def task_ended(self, state: FisherState, weights: Arrays) -> FisherState:
        # Above 0 is the sum where there was a gradient, but for squares that underflow: no flags need be kept.
        return task_over(state, state.squares, [s > 0 for s in state.squares])

    def heights(self, inputs: BarrierInputs, state: FisherState) -> Arrays:
        return log_precision(state.kept, self.strength)


class PathState(NamedTuple):
    """Sums of `PathIntegralRule`.

    Attributes:
        path: fall of the loss along the way of each parameter since the task began, -Σ g Δw [loss].
        first: where it stood then [weight].
        last: where it stood before the last step [weight].
        gradient: gradient of the last step [loss/weight].
        kept: importance.
        seen: whether a step was seen since the task began.
        asked: which parameters had a gradient in any step of the task.
    """

    path: Arrays
    first: Arrays
    last: Arrays
    gradient: Arrays
    kept: Arrays
    seen: Array
    asked: Flags


class PathIntegralRule(AbstractRule):
    r"""Synaptic intelligence: the share of each parameter in the fall of the loss, over the square of its net way.

    Each task adds $\max(ω, 0)/(Δ^2 + ξ)$ with $ω = -\sum g\,Δw$ along the way that the weight really took, over the mean of that over
    all parameters with a gradient, to Ω; $B - B_0 = \ln(1 + sΩ)$.

    Not all of ω is descent. With gradients of batches, $g + ε$ with noise of variance σ², in a loss of curvature h,

    $$ ω = (L_{start} - L_{end}) + \tfrac12\sum h\,Δw^2 - \sum ε\,Δw . $$

    The noise moves the weight along itself: the last sum adds ησ² in each step of SGD at rate η, twice what it adds under `LyapunovRule`,
    and $η(1-β_1)σ^2/\sqrt{v}$ in one of Adam, about $η(1-β_1)σ$ where noise is most of the gradient. Hops belong to the way that was taken.
    Their mean is 0 and they add nothing to the last sum, but what gradients take back of them counts: ½h times their variance in each step.
    In a long run that stands still all this is nearly all of ω. The authors of the method say that importances come out too large, and nothing
    is taken out of them here: Benzing finds that this bias makes them follow the root of the Fisher information, and the method do as
    well as it does.

    Args:
        strength: s, at least 0.
        damping: ξ, above 0: keeps the importance of a weight that hardly moved finite. [weight²]

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> PathIntegralRule(damping=1e-3).reads_weights
        True

    Source: Zenke, Poole & Ganguli, ICML 2017, arXiv:1703.04200, equations 3 and 5; Benzing, AISTATS 2022, for its bias.
    """

    name: ClassVar[str] = "path-integral"
    running: ClassVar[int] = 3  # the path, and weight and gradient of the last step
    tuned: ClassVar[Mapping[str, Tuned]] = {"strength": Tuned(log=True), "damping": Tuned(log=True)}
    strength: Float[Array, ""]
    damping: Float[Array, ""]

    def __init__(self, strength: ArrayLike = 100.0, damping: ArrayLike = 1e-3):
        self.strength = checked_strength(strength)
        remedy = "It is in squares of a weight, for example 1e-3."
        self.damping = checked_leaf(damping, "damping", low=0.0, open_low=True, remedy=remedy, single=True)

    @property
    def reads_weights(self) -> bool:
        return True

    def init(self, params: PyTree) -> PathState:
        path, first, last, gradient, kept = (zeros_of(params) for _ in range(5))
        return PathState(path, first, last, gradient, kept, jnp.zeros((), bool), none_asked(path))

    def follow(self, inputs: BarrierInputs, state: PathState, keep: Float[Array, ""] | None) -> PathState:
        weights = stood(inputs, self, state.last)
        first = [jnp.where(state.seen, old, w) for old, w in zip(state.first, weights)]
        gradient = [g.astype(w.dtype) for g, w in zip(inputs.gradient, weights)]
        # Before the first step of a task the last gradient is 0: nothing is added.
        path = _along(state, weights)
        kept, had = faded(state.kept, keep), asked(state.asked, gradient)
        return PathState(path, first, weights, gradient, kept, jnp.ones((), bool), had)

    def task_ended(self, state: PathState, weights: Arrays) -> PathState:
        weights = [w.astype(old.dtype) for w, old in zip(weights, state.last)]
        damping = [self.damping.astype(w.dtype) for w in weights]
        path = _along(state, weights)
        # A path below 0 went against the descent: as an importance it would lower the barrier.
        shares = [
            jnp.maximum(p, 0.0) / (jnp.square(w - start) + xi)
            for p, w, start, xi in zip(path, weights, state.first, damping)
        ]
        return task_over(state, shares, state.asked)

    def heights(self, inputs: BarrierInputs, state: PathState) -> Arrays:
        return log_precision(state.kept, self.strength)


class UseRule(AbstractRule):
    r"""Use: $B - B_0 = \ln(1 + \sum|d| / u_0)$, raised by the cell's own requests alone; it needs no global signal and no task boundary.

    That is what a floating gate does that tunnels a little at every write: its exponent is the logarithm of its use
    (`FowlerNordheimBarrier` with use in place of time). One number per parameter.

    Args:
        scale: u0, the use that doubles the precision, above 0. [levels]

    Raises:
        ValueError: if a number is out of its range; on update, with `gradient_tilt`.

    Example:
        >>> UseRule(scale=300.0).name
        'use'

    Source: Fowler-Nordheim synapses, arXiv:2206.14581, whose plasticity falls with use; this form is the project's own.
    """

    name: ClassVar[str] = "use"  # what it counts is the barrier: nothing runs beside it
    tuned: ClassVar[Mapping[str, Tuned]] = {"scale": Tuned(log=True)}
    scale: Float[Array, ""]

    def __init__(self, scale: ArrayLike = 100.0):
        remedy = "It is the use that doubles the precision, in levels."
        self.scale = checked_leaf(scale, "scale", low=0.0, open_low=True, remedy=remedy, single=True)

    def init(self, params: PyTree) -> Arrays:
        return zeros_of(params)

    def follow(self, inputs: BarrierInputs, state: Arrays, keep: Float[Array, ""] | None) -> Arrays:
        drift = required_drift(inputs, self)
        # What was used before has aged by this step, its own use not yet.
        return [old + jnp.abs(d.astype(old.dtype)) for old, d in zip(faded(state, keep), drift)]

    def heights(self, inputs: BarrierInputs, state: Arrays) -> Arrays:
        return log_precision(state, 1 / self.scale)


class MetaplasticRule(AbstractRule):
    r"""The weight itself: $B - B_0 = 2\ln\cosh(m|w|)$, so that $e^{-(B-B_0)} = 1 - \tanh^2(mw)$.

    The exchange, and with it the move of a given tilt and the largest move, falls by the factor by which metaplastic networks scale
    their updates: large weights learn slowly. No state.

    Args:
        steepness: m, at least 0. [1/weight]

    Raises:
        ValueError: if a number is out of its range; on update, without the parameters.

    Example:
        >>> MetaplasticRule(steepness=1.3).reads_weights
        True

    Source: Laborieux et al., Nature Communications 12, 2549 (2021), arXiv:2003.03533, equation 4 (there for updates towards 0).
    """

    name: ClassVar[str] = "metaplastic"
    tuned: ClassVar[Mapping[str, Tuned]] = {"steepness": Tuned(0.3, log=True)}
    keeps: ClassVar[bool] = False
    steepness: Float[Array, ""]

    def __init__(self, steepness: ArrayLike = 1.0):
        remedy = "It is one over the weight at which learning slows down, for example 5.0."
        self.steepness = checked_leaf(steepness, "steepness", low=0.0, remedy=remedy, single=True)

    @property
    def reads_weights(self) -> bool:
        return True

    def heights(self, inputs: BarrierInputs, state: Any) -> Arrays:
        # ln cosh x = x + ln(1 + e^-2x) - ln 2 for x >= 0; the even form keeps its slope at 0.
        angles = [self.steepness.astype(w.dtype) * w for w in required_weights(inputs, self)]
        return [2 * (jnp.logaddexp(x, -x) - jnp.log(jnp.asarray(2.0, x.dtype))) for x in angles]


RULES = {kind.name: kind for kind in (FisherRule, PathIntegralRule, UseRule, MetaplasticRule, LyapunovRule)}


def rule_of(rule: Any) -> AbstractRule:
    """The rule that a user means: itself, or its name with its numbers, `fisher:strength=30`."""
    if isinstance(rule, AbstractRule):
        return rule
    name, _, rest = rule.partition(":") if isinstance(rule, str) else ("", "", "")
    try:
        pairs = dict(item.split("=") for item in filter(None, rest.split(",")))
        return RULES[name](**{key: float(value) for key, value in pairs.items()})
    except (KeyError, TypeError, ValueError) as error:
        # A number out of its range: the rule's own message names it.
        if isinstance(error, ValueError) and "must be" in str(error):
            raise
        raise ValueError(
            f"rule must be one of {', '.join(RULES)}, perhaps with a number, such as fisher:strength=100, or an object such as "
            f"limjax.FisherRule(); got {rule!r}."
        ) from None


def rule_text(rule: AbstractRule) -> str:
    """The rule as text that `rule_of` reads."""
    # The shortest text that reads back as the same float.
    numbers = [f"{key}={float(value)!r}" for key, value in vars(rule).items()]
    return f"{rule.name}:{','.join(numbers)}"


def _along(state: PathState, weights: Arrays) -> Arrays:
    """The path with the step that ended at these weights."""
    return [p - g * (w - last) for p, g, w, last in zip(state.path, state.gradient, weights, state.last)]
