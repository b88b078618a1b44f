"""A whole training run as one differentiable function of its design: barrier, step time, learning rate."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Integer, PyTree

from limjax.barriers._base import AbstractBarrier
from limjax.barriers._specification import barrier_from_name
from limjax.barriers._spline import SplineBarrier
from limjax.memory import LearningInMemoryState, get_ledger
from limjax.memory._hops import HopsName, hops_of
from limjax.numerics._loops import checkpointed_loop
from limjax.physics._abstract_cell import AbstractCell
from limjax.physics._cell import ArrheniusCell
from limjax.tasks import Task
from limjax.training import RunSettings, seeded_run
from limjax.tuning._abstract_problem import AbstractProblem, Design, Outcome, Part, check_share

# Keeps the choice of validation data apart from the other uses of a run's key.
_VALIDATION = 0x5EED


class Problem(AbstractProblem):
    """A task with its cell, its length and its data: what a design is tuned for.

    Args:
        task: the task.
        cell: the memory cell; None takes the task's lsb, 1 GHz, 1 ms per step.
        steps: training steps; None takes the task's.
        batch_size: examples per step; None takes the task's.
        learning_rate: peak learning rate; None takes the task's.
        validation: share of the training data set aside to measure the loss while tuning, 0 to below 1: a block of it
            that the seed chooses, so that many seeds measure on all of it. With 0, or for a task without data, that loss
            is the training loss.
        evaluation_size: at most so many examples measure a loss.

    Raises:
        ValueError: for a number out of its range.
    """

    def __init__(
        self,
        task: Task,
        cell: AbstractCell | None = None,
        *,
        steps: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        validation: float = 0.2,
        evaluation_size: int = 1024,
    ):
        settings = RunSettings.of(task, steps=steps, batch_size=batch_size, learning_rate=learning_rate)
        cell = ArrheniusCell(lsb=task.defaults.lsb) if cell is None else cell
        super().__init__(cell, settings.steps, check_share(validation))
        self.task, self.batch_size, self.learning_rate = task, settings.batch_size, settings.learning_rate
        self._data = _evaluation_data(task, evaluation_size)
        self._held, self._evaluation_size = 0, evaluation_size
        self._plain: Problem | None = None
        if task.train is not None:
            # May be 0 for few examples or a small share: `data` then measures the loss on what is trained on.
            self._held = round(validation * task.train_size)
            available = task.train_size - self._held
            if self.batch_size > available:
                raise ValueError(
                    f"batch_size {self.batch_size} is larger than the {available} training examples left of {task.name} "
                    f"after setting {validation:.0%} aside for validation; use {available} or fewer."
                )
        shapes = jax.eval_shape(task.init, jax.random.key(0))
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes))

    @property
    def plain_problem(self) -> "Problem":
        """The same without the end of the cell's driver (`max_affinity`), which would hold the plain optimizer back."""
        if getattr(self.cell, "max_affinity", None) is None:
            return self
        if self._plain is None:
            self._plain = copy.copy(self)
            self._plain.cell = eqx.tree_at(lambda cell: cell.max_affinity, self.cell, None)
            self._plain._programs = {}
        return self._plain

    def schedule(self, design: Design) -> Callable[[Any], Any]:
        """The learning rate of a design as an optax schedule."""
        return self.task.defaults.make_schedule(self.learning_rate, self.steps, design.log_rate)

    def outcome(
        self, design: Design, seed: Integer[Array, ""], data: Any, hops: HopsName, window: int | None
    ) -> Outcome:
        """One run, differentiable in the design.

        The seed decides initialisation, batches and hops, by the same keys as in `limjax.train`.

        Args:
            design: what may be changed.
            seed: whole number.
            data: of `data`.
            hops: "gaussian" or "exact" for gradients through the noise; "mean" has none.
            window: None differentiates through the whole run; a number cuts the derivative of the weights every so
                many steps, and the loss is then the mean over the ends of the windows.

        Returns:
            The outcome.
        """
        fit, measured = self._set_aside(data[0], seed) if data[1] is None else data
        cell = eqx.tree_at(lambda c: c.step_time, self.cell, jnp.exp(design.log_step_time))
        # Also where no derivative is taken, so that a design is judged with the optimizer that it was tuned with.
        inner = self.task.defaults.make_optimizer(self.schedule(design), differentiable=True)
        # Plain sums: the rounding that compensation removes is far below the scatter over seeds, and it would have to
        # be carried, and differentiated, in every step.
        carry, step = seeded_run(
            self.task, cell, design.barrier, inner, hops_of(hops), seed, self.batch_size, compensated=False
        )

        def body(carry):
            return step(carry, fit)

        if window is None:
            carry = checkpointed_loop(body, carry, self.steps)
            loss = self.task.loss(carry[0], measured)
        else:
            count, rest = divmod(self.steps, window)

            def one_window(carry, _):
                carry = checkpointed_loop(body, carry, window)
                # Of the weights before the cut: its derivative has to reach the design through this window.
                return _forget(carry), self.task.loss(carry[0], measured)

            # One compiled window for all of them; a shorter last one is compiled by itself.
            carry, losses = jax.lax.scan(jax.checkpoint(one_window, prevent_cse=False), carry, None, length=count)
            loss = jnp.sum(losses)
            if rest:
                carry = checkpointed_loop(body, carry, rest)
                loss = loss + self.task.loss(carry[0], measured)
            loss = loss / (count + (rest > 0))
        return self.outcome_of(loss, get_ledger(carry[1]), design)

    def data(self, part: Part) -> Any:
        """`(training data, data to measure the loss on)`; for validation no second: the seed sets a block of the first aside."""
        if part == "validation" and self._held:
            return self._data["all"], None
        return self._data["all"], self._data["train" if part == "validation" else part]

    def _set_aside(self, examples: PyTree, seed: Integer[Array, ""]) -> tuple[PyTree, PyTree]:
        """The examples without one block of neighbours, and that block; the seed says where it starts."""
        if examples is None:
            return None, None
        size = self.task.train_size
        first = jax.random.randint(jax.random.fold_in(jax.random.key(seed), _VALIDATION), (), 0, size)
        # Rotated indices: the block may cross the end of the data, and no shape depends on the traced seed.
        order = (jnp.arange(size) + first) % size
        # What is set aside beyond `evaluation_size` is not trained on either.
        block = order[: self._held][: self._evaluation_size]
        fit, measured = (jax.tree.map(lambda x, i=index: x[i], examples) for index in (order[self._held :], block))
        return fit, measured

    def described(self) -> dict[str, Any]:
        """What a file says of it."""
        numbers = ("parameters", "batch_size", "learning_rate")
        return {"task": self.task.name} | {name: getattr(self, name) for name in numbers}

    def starting(self, barrier: AbstractBarrier | str | None) -> AbstractBarrier:
        """Where the search starts: a barrier, its text, or a spline of 16 knots."""
        if barrier is None:
            return SplineBarrier(np.linspace(9.0, 16.0, 16), self.steps)
        if isinstance(barrier, str):
            schedule = self.task.defaults.make_schedule(self.learning_rate, self.steps)
            return barrier_from_name(barrier, self.cell, self.steps, schedule)
        return barrier


def _forget(carry: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
    """The same state without the derivatives of the weights and of what follows them.

    The ledger keeps its own, and so does the height of the last step: the next step's work starts from it, so that the work of a
    rising barrier still telescopes, and no later one does. Its derivative reaches back over the window before at most.
    """
    params, state = carry
    stop = functools.partial(jax.tree.map, jax.lax.stop_gradient)

    def forget(node):
        if isinstance(node, LearningInMemoryState):
            barrier = node.barrier._replace(state=stop(node.barrier.state))
            return node._replace(inner=stop(node.inner), barrier=barrier)
        # States of transformations around the memory follow from weights and gradients alone.
        return jax.lax.stop_gradient(node)

    return stop(params), jax.tree.map(forget, state, is_leaf=lambda x: isinstance(x, LearningInMemoryState))


def _evaluation_data(task: Task, evaluation_size: int) -> dict[str, PyTree]:
    if task.train is None:
        return dict.fromkeys(("all", "test", "train"), None)
    everything = jax.tree.map(jnp.asarray, task.train)
    train = jax.tree.map(lambda x: x[:evaluation_size], everything)
    test = train if task.test is None else jax.tree.map(lambda x: jnp.asarray(x[:evaluation_size]), task.test)
    return {"all": everything, "test": test, "train": train}
