"""A whole training run as one differentiable function of its design: barrier, step time, learning rate."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, PyTree

from limjax.barriers._base import AbstractBarrier
from limjax.memory import LearningInMemoryState, Ledger, get_ledger
from limjax.memory._hops import HopsName, hops_of
from limjax.numerics._loops import checkpointed_loop
from limjax.numerics.checks import is_real
from limjax.physics._abstract_cell import AbstractCell
from limjax.physics._cell import ArrheniusCell
from limjax.tasks import Task
from limjax.training import RunSettings, seeded_run

Part = Literal["validation", "test", "train"]
# Keeps the choice of validation data apart from the other uses of a run's key.
_VALIDATION = 0x5EED


class Design(eqx.Module):
    """What tuning may change about a run.

    Attributes:
        barrier: the barrier policy.
        log_step_time: ln of the duration of one step [ln s].
        log_rate: knots of the logarithm of a factor on the learning rate, over the run; zeros leave it as it is.
    """

    barrier: AbstractBarrier
    log_step_time: Float[Array, "*s"]
    log_rate: Float[Array, "*s knots"]


class Outcome(NamedTuple):
    """What a run gave; scalars, or one number per seed.

    Attributes:
        loss: loss on the part of the data asked for [loss units].
        heat_kt: update heat per parameter [kT].
        actuation_kt: barrier work per parameter [kT].
        path_levels: requested path per parameter [levels].
        saturated: share of parameter-steps whose tilt exceeded the barrier.
        seconds: physical duration of the run, steps times step time [s].
    """

    loss: Float[Array, "*seeds"]
    heat_kt: Float[Array, "*seeds"]
    actuation_kt: Float[Array, "*seeds"]
    path_levels: Float[Array, "*seeds"]
    saturated: Float[Array, "*seeds"]
    seconds: Float[Array, "*seeds"]

    @property
    def energy_kt(self) -> Float[Array, "*seeds"]:
        """Heat and barrier work per parameter [kT]."""
        return self.heat_kt + self.actuation_kt


class Problem:
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
        self.task = task
        self.cell = ArrheniusCell(lsb=task.defaults.lsb) if cell is None else cell
        settings = RunSettings.of(task, steps=steps, batch_size=batch_size, learning_rate=learning_rate)
        self.steps, self.batch_size, self.learning_rate = settings.steps, settings.batch_size, settings.learning_rate
        self.validation = check_share(validation)
        self._programs: dict[Any, Callable[..., Any]] = {}
        self._data = _evaluation_data(task, evaluation_size)
        self._held, self._evaluation_size = 0, evaluation_size
        if task.train is not None:
            self._held = round(validation * task.train_size)
            available = task.train_size - self._held
            if self.batch_size > available:
                raise ValueError(
                    f"batch_size {self.batch_size} is larger than the {available} training examples left of {task.name} "
                    f"after setting {validation:.0%} aside for validation; use {available} or fewer."
                )
        shapes = jax.eval_shape(task.init, jax.random.key(0))
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes))

    def design(self, barrier: AbstractBarrier, rate_knots: int = 8) -> Design:
        """The design with this barrier and everything else as it is.

        Args:
            barrier: the barrier.
            rate_knots: number of knots of the learning-rate factor.

        Returns:
            The design.
        """
        return Design(barrier, jnp.log(self.cell.step_time), jnp.zeros(rate_knots))

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
        inner = self.task.defaults.make_optimizer(self.schedule(design), differentiable=True)
        carry, step = seeded_run(
            self.task, cell, design.barrier, inner, hops_of(hops), seed, self.batch_size, compensated=False
        )

        def body(carry):
            return step(carry, fit)

        if window is None:
            carry = checkpointed_loop(body, carry, self.steps)
            loss = self.task.loss(carry[0], measured)
        else:
            losses = []
            count, rest = divmod(self.steps, window)

            def one_window(carry, _):
                carry = checkpointed_loop(body, carry, window)
                return _forget(carry), self.task.loss(carry[0], measured)

            carry, losses = jax.lax.scan(one_window, carry, None, length=count)
            loss = jnp.sum(losses)
            if rest:
                carry = checkpointed_loop(body, carry, rest)
                loss = loss + self.task.loss(carry[0], measured)
            loss = loss / (count + (rest > 0))
        ledger = get_ledger(carry[1])
        return Outcome(
            loss=loss,
            heat_kt=self._per_parameter(ledger, "heat"),
            actuation_kt=self._per_parameter(ledger, "actuation"),
            path_levels=self._per_parameter(ledger, "path"),
            saturated=self._per_parameter(ledger, "saturated") / self.steps,
            seconds=self.steps * jnp.exp(design.log_step_time),
        )

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
        order = (jnp.arange(size) + first) % size
        block = order[: self._held][: self._evaluation_size]
        fit, measured = (jax.tree.map(lambda x, i=index: x[i], examples) for index in (order[self._held :], block))
        return fit, measured

    def run(
        self, design: Design, seeds: Integer[Array, "seeds"], *, part: Part = "test", hops: HopsName = "exact"
    ) -> Outcome:
        """Outcomes of a design for several seeds, in one compiled call.

        Args:
            design: the design; changing its numbers does not compile again.
            seeds: whole numbers.
            part: "test" trains on all training data and measures on the test data, "validation" as tuning does.
            hops: how hops are drawn.

        Returns:
            The outcome, one number per seed.
        """

        def runs(design, seeds, data):
            return jax.vmap(lambda seed: self.outcome(design, seed, data, hops, None))(seeds)

        return self.compiled(runs, hops)(design, jnp.asarray(seeds, jnp.uint32), self.data(part))

    def compiled(self, function: Callable[..., Any], *kind: Any) -> Callable[..., Any]:
        """A function of this problem, compiled; the program lives as long as the problem, whose data it holds.

        Args:
            function: to compile. Arrays among its arguments may change; anything else makes another program.
            *kind: what tells functions of the same name apart.

        Returns:
            The function.
        """

        def call(*args):
            arrays, others = eqx.partition(args, eqx.is_array)
            leaves, structure = jax.tree.flatten(others)
            key = (function.__name__, kind, tuple(leaves), structure)
            if key not in self._programs:  # not eqx.filter_jit, whose global cache would keep the problem and its data
                self._programs[key] = jax.jit(lambda arrays: function(*eqx.combine(arrays, others)))
            return self._programs[key](arrays)

        return call

    def _per_parameter(self, ledger: Ledger, name: str) -> Float[Array, ""]:
        entry = ledger.entry(name)
        assert entry is not None
        return jnp.sum(entry.total) / self.parameters


def check_share(validation: Any) -> float:
    """The share of the training data that is set aside.

    Raises:
        ValueError: for what is none.
    """
    if not is_real(validation) or np.ndim(validation) or not 0 <= validation < 1:
        raise ValueError(f"validation must be a share from 0 to below 1, got {validation!r}.")
    return float(validation)


def _forget(carry: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
    """The same state without the derivatives of the weights and of what follows them; the ledger keeps its own."""
    params, state = carry
    stop = functools.partial(jax.tree.map, jax.lax.stop_gradient)

    def forget(node):
        if isinstance(node, LearningInMemoryState):
            barrier = node.barrier._replace(state=stop(node.barrier.state), height=stop(node.barrier.height))
            return node._replace(inner=stop(node.inner), barrier=barrier)
        return jax.lax.stop_gradient(node)

    return stop(params), jax.tree.map(forget, state, is_leaf=lambda x: isinstance(x, LearningInMemoryState))


def _evaluation_data(task: Task, evaluation_size: int) -> dict[str, PyTree]:
    if task.train is None:
        return dict.fromkeys(("all", "test", "train"), None)
    everything = jax.tree.map(jnp.asarray, task.train)
    train = jax.tree.map(lambda x: x[:evaluation_size], everything)
    test = train if task.test is None else jax.tree.map(lambda x: jnp.asarray(x[:evaluation_size]), task.test)
    return {"all": everything, "test": test, "train": train}
