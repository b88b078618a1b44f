"""Descent on what is dear to evaluate, a whole training run or a simulation: one loop for barriers and protocols."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from limjax.numerics._result_code import ResultCode

# In all, not in a row. After five halvings steps are a 32nd of those of the schedule: their length is not what fails.
_TOLERATED_FAILURES = 5


class Evaluated(NamedTuple):
    """What is known at a point.

    Attributes:
        value: the number to make small.
        slope: its gradient.
        is_finite: whether value and gradient are.
    """

    value: Any
    slope: PyTree
    is_finite: bool


def outer_loop(
    evaluate: Callable[[PyTree, int, PyTree], Evaluated],
    accept: Callable[[PyTree, Evaluated], bool],
    start: PyTree,
    *,
    steps: int,
    optimizer: optax.GradientTransformation,
    schedule: Callable[[int], Any] | None = None,
    value_fn: Callable[[PyTree], Any] | None = None,
) -> ResultCode:
    """Evaluates and moves by turns; failures go back to the last good point with a smaller rate.

    Args:
        evaluate: function of a point, the number of the step and the optimizer's state; may be noisy.
        accept: takes every good point and what is known there; returns whether to stop.
        start: the first point, a tree of arrays.
        steps: at most so many evaluations and moves.
        optimizer: hands out steps, with their sign.
        schedule: a factor on them by the number of the step; None for an optimizer that sets the length of its steps itself.
            Either way steps are halved after every failure.
        value_fn: the function without noise, for a line search.

    Returns:
        How it ended: completed, converged (`accept` said so), interrupted (Ctrl-C) or diverged.

    Example:
        >>> import jax, optax
        >>> seen = []
        >>> def evaluate(x, step, state):
        ...     value, slope = jax.value_and_grad(lambda x: (x - 3.0) ** 2)(x)
        ...     return Evaluated(value, slope, True)
        >>> code = outer_loop(evaluate, lambda x, found: seen.append(float(x)), jax.numpy.asarray(0.0), steps=3,
        ...                   optimizer=optax.sgd(0.5))
        >>> str(code), seen
        ('completed', [0.0, 3.0, 3.0])
    """
    whole = optax.with_extra_args_support(optimizer)

    @jax.jit
    def moved(point, state, found, factor):
        more = {} if value_fn is None else {"value": found[0], "grad": found[1], "value_fn": value_fn}
        updates, state = whole.update(found[1], state, point, **more)
        updates = jax.tree.map(lambda u: factor.astype(u.dtype) * u, updates)
        return optax.apply_updates(point, updates), state

    point = good = start
    state = whole.init(start)
    damping, failures, has_begun = 1.0, 0, False
    try:
        for k in range(steps):
            found = evaluate(point, k, state)
            if not found.is_finite:
                failures += 1
                # If not even the start was finite, there is nothing to go back to.
                if failures > _TOLERATED_FAILURES or not has_begun:
                    return ResultCode.diverged
                damping *= 0.5
                # A new state: momentum and line search of the old one lead to the point that failed.
                point, state = good, whole.init(good)
                continue
            good, has_begun = point, True
            if accept(point, found):
                return ResultCode.converged
            if k < steps - 1:  # where the last move would lead is not evaluated any more
                # An array, so that neither the schedule nor a failure compiles `moved` again.
                factor = damping * (1.0 if schedule is None else float(schedule(k)))
                point, state = moved(point, state, (found.value, found.slope), jnp.asarray(factor))
    except KeyboardInterrupt:
        return ResultCode.interrupted
    return ResultCode.completed
