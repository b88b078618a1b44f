"""The rule of a cell's own Lyapunov function: what the loss fell by along its own way is what it has to keep."""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from limjax.barriers._base import BarrierInputs, Tuned
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


class DescentState(NamedTuple):
    """Sums of `LyapunovRule`.

    Attributes:
        fall: fall of the cell's own Lyapunov function since the task began [loss].
        last: where the weight stood before the last step [weight].
        gradient: gradient of the last step [loss/weight].
        kept: importance.
        seen: whether a step was seen since the task began.
        asked: which parameters had a gradient in any step of the task.
    """

    fall: Arrays
    last: Arrays
    gradient: Arrays
    kept: Arrays
    seen: Array
    asked: Flags


class LyapunovRule(AbstractRule):
    r"""The cell's own Lyapunov function: $B - B_0 = \ln(1 + sΩ)$, where each task adds to Ω how far it fell, over its mean.

    Along the way that the weights really take, the loss changes by $dL = \sum_i g_i\,dw_i$: each cell descends a function of its own,
    $dV_i = g_i\,dw_i$, and these add up to the loss. What a cell loses if it forgets a task is what V fell by while it learnt it,

    $$ ω_i = -\oint g_i \circ dw_i, \qquad \sum_i ω_i = L_{start} - L_{end}, $$

    with the mean of the gradients before and after a step (Stratonovich, as heat is defined), which for full gradients in a bowl is exact
    for steps of any size; the last step of a task, after which no gradient is seen, has the one before it alone. A fall below 0 counts
    as 0.

    Gradients of batches, of variance σ², move the weight along their own noise: each step of SGD at rate η adds ½ησ² to ω on top of
    what the loss falls by, one of Adam about $\tfrac12η(1-β_1)σ$, hops nothing. In a long run that stands still this is nearly all of it, and the importance is then one of noise, as Fisher's is.

    Under `gradient_tilt`, where the affinity is $-s\,\mathrm{lsb}\,g_i$, the heat of the cell's own hops over s is $ω_i + \tfrac12\sum h_i\,Δw_i^2$ with the
    curvature h: heat counts the gradient at the start of a step. With mean hops and small rates that is ω, and nothing but a cell's own
    dissipation has to be measured; with random hops, whose heat chases thermal noise without end, it is not.

    `PathIntegralRule` divides the same integral by the square of the net way, which makes it a curvature, as Fisher is; here it stays an
    energy. A weight that went far over gentle ground counts as much as one that went a little over steep ground, and there is no number to
    damp the division with.

    Args:
        strength: s, at least 0.

    Raises:
        ValueError: if it is out of its range; on update, without the parameters.

    Example:
        >>> LyapunovRule(strength=30.0).reads_weights
        True

    Source: the total of a path is Zenke, Poole & Ganguli, ICML 2017, arXiv:1703.04200, equation 3; heat along a path is Sekimoto's
    (Prog. Theor. Phys. Suppl. 130, 17 (1998)); this use of it is the project's own.
    """

    name: ClassVar[str] = "lyapunov"
    running: ClassVar[int] = 3  # the fall, and weight and gradient of the last step
    tuned: ClassVar[Mapping[str, Tuned]] = {"strength": Tuned(log=True)}
    strength: Float[Array, ""]

    def __init__(self, strength: ArrayLike = 100.0):
        self.strength = checked_strength(strength)

    @property
    def reads_weights(self) -> bool:
        return True

    def init(self, params: PyTree) -> DescentState:
        fall, last, gradient, kept = (zeros_of(params) for _ in range(4))
        return DescentState(fall, last, gradient, kept, jnp.zeros((), bool), none_asked(fall))

    def follow(self, inputs: BarrierInputs, state: DescentState, keep: Float[Array, ""] | None) -> DescentState:
        weights = stood(inputs, self, state.last)
        gradient = [g.astype(w.dtype) for g, w in zip(inputs.gradient, weights)]
        # A gradient comes before the step that it causes: this one is after the last step, the state's before it.
        means = [0.5 * (old + new) for old, new in zip(state.gradient, gradient)]
        fall, kept = _fallen(state, means, weights), faded(state.kept, keep)
        return DescentState(fall, weights, gradient, kept, jnp.ones((), bool), asked(state.asked, gradient))

    def task_ended(self, state: DescentState, weights: Arrays) -> DescentState:
        weights = [w.astype(old.dtype) for w, old in zip(weights, state.last)]
        # The gradient after the last step is nobody's business any more: that step has the one before it alone.
        fall = _fallen(state, state.gradient, weights)
        return task_over(state, [jnp.maximum(f, 0.0) for f in fall], state.asked)

    def heights(self, inputs: BarrierInputs, state: DescentState) -> Arrays:
        return log_precision(state.kept, self.strength)


def _fallen(state: DescentState, gradient: Arrays, weights: Arrays) -> Arrays:
    """The fall with the step that ended at these weights, if one was seen."""
    steps = zip(state.fall, gradient, weights, state.last)
    # At a task's first step `last` is the 0 of a new state, but the mean gradient is not 0: a way from 0 would count.
    return [jnp.where(state.seen, fall - g * (w - last), fall) for fall, g, w, last in steps]
