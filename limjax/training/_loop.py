"""The compiled parts of a run: a step of training, many of them at a time, and the losses between them."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from limjax import parallel
from limjax.barriers._base import AbstractBarrier
from limjax.memory import AbstractHops, get_ledger, learning_in_memory, spent_kt
from limjax.memory.levels import apply_updates, to_weights
from limjax.physics._abstract_cell import AbstractCell
from limjax.tasks import Task
from limjax.training._prepare import Gradient, Run, RunKeys, starting_params

EVALUATION_BATCH = 256
"""Examples that a row of the history is measured on, and that are evaluated at a time."""
_TRAIN_LOSS_EXAMPLES = 4096


def batch_at(data: PyTree | None, step: Any, key: Array, batch_size: int) -> PyTree | None:
    """The batch of one step, drawn with replacement.

    Args:
        data: training data, arrays with a leading axis of examples, or None.
        step: number of the step.
        key: key of the run's batches.
        batch_size: examples to draw.

    Returns:
        Arrays in the structure of the data; None without data.
    """
    if data is None:
        return None
    size = jax.tree.leaves(data)[0].shape[0]
    # By the number of the step, not by a key that is handed on: a resumed run draws what the other would have drawn.
    index = jax.random.randint(jax.random.fold_in(key, step), (batch_size,), 0, size)
    return jax.tree.map(lambda x: x[index], data)


def _told_nothing(value_and_grad: Callable[[PyTree, PyTree], tuple[Array, PyTree]]) -> Gradient:
    return lambda params, batch: (*value_and_grad(params, batch), {})


def training_step(
    task: Task,
    optimizer: optax.GradientTransformationExtraArgs,
    batch_size: int,
    gradient_of: Gradient | None = None,
    levels_of: tuple[AbstractCell, PyTree] | None = None,
) -> Callable[[tuple[PyTree, PyTree], PyTree, Array], tuple[tuple[PyTree, PyTree], Array]]:
    """One step of training: draw a batch by the step's number, differentiate the loss, update.

    Args:
        task: the task.
        optimizer: a `learning_in_memory` optimizer, or a chain with one.
        batch_size: examples per step.
        gradient_of: the gradient of a batch; None takes `jax.value_and_grad(task.loss)`.
        levels_of: the cell whose level numbers stand for the parameters, and the dtypes of these; None for parameters that
            are weights.

    Returns:
        A function of `((params, state), training data, key)` that returns the new `(params, state)` and the loss.
    """
    differentiated = _told_nothing(jax.value_and_grad(task.loss)) if gradient_of is None else gradient_of

    def one_step(carry, data, key):
        params, state = carry
        # The ledger's own counter: it comes back with a checkpoint, and there is no second one to disagree with it.
        batch = batch_at(data, get_ledger(state).steps, key, batch_size)
        weights = params if levels_of is None else to_weights(params, *levels_of)
        loss, gradient, told = differentiated(weights, batch)
        updates, state = optimizer.update(gradient, state, weights, value=loss, **told)
        if levels_of is None:
            return (optax.apply_updates(params, updates), state), loss
        # A whole number cannot be NaN: the loss says it instead.
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(u)) for u in jax.tree.leaves(updates)]))
        return (apply_updates(params, updates, levels_of[0]), state), jnp.where(finite, loss, jnp.nan)

    return one_step


def seeded_run(
    task: Task,
    cell: AbstractCell,
    barrier: AbstractBarrier,
    inner: optax.GradientTransformation,
    hops: AbstractHops,
    seed: Any,
    batch_size: int,
    *,
    compensated: bool = True,
) -> tuple[tuple[PyTree, PyTree], Callable[[tuple[PyTree, PyTree], PyTree], tuple[PyTree, PyTree]]]:
    """The run of a seed with a ledger per array and nothing compared, all of it traceable: for many runs at once, or a derivative.

    Args:
        task: the task.
        cell: the memory cell.
        barrier: the barrier.
        inner: the optimizer to wrap.
        hops: how cells move.
        seed: of initialisation, batches and hops, as in `limjax.train`.
        batch_size: examples per step.
        compensated: as in `limjax.learning_in_memory`.

    Returns:
        `(params, state)` at the start, and one step as a function of that and the training data.
    """
    keys = RunKeys.of(seed)
    # A ledger per array: many of these runs are held at once, and one per parameter takes 6 words for each of each run.
    optimizer = learning_in_memory(
        inner, cell, barrier, hops=hops, key=keys.hops, granularity="leaf", compare=(), compensated=compensated
    )
    params = starting_params(task, cell, hops, keys.start)
    step = training_step(task, optimizer, batch_size)
    return (params, optimizer.init(params)), lambda carry, data: step(carry, data, keys.data)[0]


def _shardings(carry: tuple[PyTree, PyTree], mesh: Mesh) -> PyTree:
    return parallel.parameter_shardings(carry, mesh, carry[0])


class Loop:
    """The compiled parts of a run."""

    def __init__(self, run: Run, levels_of: tuple[AbstractCell, PyTree] | None = None):
        task, mesh = run.task, run.mesh
        self.task = task
        self.weights = jax.jit(lambda p: p if levels_of is None else to_weights(p, *levels_of))
        if mesh is None:
            self.train_data = jax.tree.map(jnp.asarray, task.train)
            self.test_data = jax.tree.map(jnp.asarray, task.test)
            gradient, self._data_key = run.gradient, run.keys.data
        else:
            everywhere = parallel.replicated(mesh)
            self.train_data = parallel.place(task.train, everywhere)
            self.test_data = parallel.place(task.test, everywhere)
            # A key has no form in NumPy, which arrays go through to their places: its words have.
            self._data_key = jax.random.wrap_key_data(parallel.place(jax.random.key_data(run.keys.data), everywhere))
            gradient = _told_nothing(parallel.value_and_grad(task.loss, mesh, run.settings.microbatches))

        one_step = training_step(task, run.optimizer, run.settings.batch_size, gradient, levels_of)

        def advance(carry, total, data, key, count, budget):
            def goes_on(loop):
                taken, carry, _, _ = loop
                # Without a budget nothing is summed up, and the loop is the one it always was.
                return (taken < count) if budget is None else (taken < count) & (spent_kt(carry[1]) < budget)

            def body(loop):
                taken, carry, total, finite = loop
                carry, loss = one_step(carry, data, key)
                if mesh is not None:
                    # What goes round a loop has one sharding for all its turns; left to the compiler, it may be one
                    # that gathers what is split.
                    carry = jax.lax.with_sharding_constraint(carry, _shardings(carry, mesh))
                loss = loss.astype(total.dtype)
                return taken + 1, carry, total + loss, finite & jnp.isfinite(loss)

            start = jnp.zeros_like(count), carry, total, jnp.array(True)
            taken, carry, total, finite = jax.lax.while_loop(goes_on, body, start)
            # The last update can overflow a weight, at which no loss was evaluated yet.
            finite &= jnp.all(jnp.stack([jnp.all(jnp.isfinite(p)) for p in jax.tree.leaves(carry[0])]))
            return carry, total, finite, taken

        # The number of steps is traced, so that a remainder or a resumed run does not compile again.
        # Nothing is donated: the carry that goes in is the last good state, kept if what comes out is not finite.
        self._advance = jax.jit(advance)
        self._budget = None
        if run.settings.stop_at_heat is not None:
            count = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(task.init, run.keys.start)))
            # In the dtype of `spent_kt`: neither side of the comparison is promoted.
            self._budget = np.asarray(count * run.settings.stop_at_heat, jnp.result_type(float))
        self._loss = jax.jit(task.loss)
        self._accuracy = None if task.accuracy is None else jax.jit(task.accuracy)

    def advance(
        self, carry: tuple[PyTree, PyTree], loss_sum: float, count: int
    ) -> tuple[tuple[PyTree, PyTree], float, bool, int]:
        """Takes some steps, fewer if the budget is spent; returns the new carry, the sum of the losses so far, whether all is finite,
        and how many steps were taken."""
        # NumPy: on several hosts a JAX number of this process alone could not join the arrays of all.
        total = np.asarray(loss_sum, jnp.result_type(float))
        carry, total, finite, taken = self._advance(
            carry, total, self.train_data, self._data_key, np.int32(count), self._budget
        )
        # A float32 comes through Python and JSON unrounded: the mean of a resumed chunk is the same to the last bit.
        return carry, float(total), bool(finite), int(taken)

    def training_loss(self, params: PyTree) -> float:
        """Mean loss over (the first thousands of) the training data."""
        return self.evaluate(params, self.train_data, _TRAIN_LOSS_EXAMPLES)[0]

    def evaluate(self, params: PyTree, data: PyTree | None, limit: int | None = None) -> tuple[float, float]:
        """Mean loss and accuracy over (the first `limit` of) a data set, in pieces."""
        params = self.weights(params)
        # A task without training data has a loss of its parameters alone; one with them only lacks test data.
        if data is None:
            return (float(self._loss(params, None)), math.nan) if self.task.train is None else (math.nan, math.nan)
        size = jax.tree.leaves(data)[0].shape[0]
        size = size if limit is None else min(size, limit)
        # Pieces bound the memory of the activations; the last may be shorter, and weighs less.
        losses, accuracies, weights = [], [], []
        for begin in range(0, size, EVALUATION_BATCH):
            stop = min(begin + EVALUATION_BATCH, size)
            piece = jax.tree.map(lambda x, begin=begin, stop=stop: x[begin:stop], data)
            losses.append(float(self._loss(params, piece)))
            accuracies.append(math.nan if self._accuracy is None else float(self._accuracy(params, piece)))
            weights.append(stop - begin)
        return float(np.average(losses, weights=weights)), float(np.average(accuracies, weights=weights))
