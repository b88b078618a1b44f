"""The same training without a memory: what a run is compared with when it is asked what its savings cost."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from limjax.tasks import Task
from limjax.training._loop import Loop, batch_at
from limjax.training._prepare import Run

_PIECES = 50


class PlainRun(NamedTuple):
    """How a run of plain floats ended, with the batches and the start of the run that it stands beside.

    Attributes:
        train_loss: over (the first thousands of) the training data; NaN without.
        test_loss: over the test data; NaN without.
        test_accuracy: share of the test data that is right; NaN where the task has none.
    """

    train_loss: float
    test_loss: float
    test_accuracy: float


def plain_step(
    task: Task, inner: optax.GradientTransformation, batch_size: int
) -> Callable[[tuple[PyTree, PyTree], Any, PyTree, Array], tuple[PyTree, PyTree]]:
    """One step of plain training, with the batch that the step of this number has in `limjax.train`.

    Args:
        task: the task.
        inner: the optimizer.
        batch_size: examples per step.

    Returns:
        A function of `((params, state), number of the step, training data, key)` that returns the new `(params, state)`.
    """
    optimizer, differentiated = optax.with_extra_args_support(inner), jax.value_and_grad(task.loss)

    def step(carry, number, data, key):
        params, state = carry
        loss, gradient = differentiated(params, batch_at(data, number, key, batch_size))
        updates, state = optimizer.update(gradient, state, params, value=loss)
        return optax.apply_updates(params, updates), state

    return step


def plain_run(run: Run, steps: int, is_interrupted: Callable[[], bool] = lambda: False) -> PlainRun | None:
    """Trains the task of a run for as many steps in plain floats: same start (off the ladder), batches, optimizer and schedule.

    It costs a training without hops and without a ledger, on one device.

    Args:
        run: of `limjax.training.prepare`.
        steps: how many.
        is_interrupted: asked now and then; True gives up.

    Returns:
        How it ended, or None if it was given up.
    """
    step = plain_step(run.task, run.inner, run.settings.batch_size)

    @jax.jit
    def advance(carry, begin, end, data, key):
        return jax.lax.fori_loop(begin, end, lambda number, c: step(c, number, data, key), carry)

    params, data = run.task.init(run.keys.start), jax.tree.map(jnp.asarray, run.task.train)
    carry = params, run.inner.init(params)
    # Begin and end are traced, so that one program serves all pieces; of a short run equal ends are left out.
    ends = np.unique(np.linspace(0, steps, _PIECES + 1).round().astype(np.int32))
    for begin, end in itertools.pairwise(ends):
        # Calls are only queued: without waiting for them a signal would be heard when all are done.
        carry = jax.block_until_ready(advance(carry, begin, end, data, run.keys.data))
        if is_interrupted():
            return None
    # Judged on the examples, and in the pieces, that the run was judged on.
    loop = Loop(dataclasses.replace(run, mesh=None))
    return PlainRun(loop.training_loss(carry[0]), *loop.evaluate(carry[0], loop.test_data))
