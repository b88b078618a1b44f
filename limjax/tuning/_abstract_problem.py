"""What a design is tuned for: anything whose run is one differentiable function of it."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from limjax.barriers._base import AbstractBarrier
from limjax.memory import Ledger
from limjax.memory._hops import HopsName
from limjax.numerics.checks import is_real
from limjax.physics._abstract_cell import AbstractCell

Part = Literal["validation", "test", "train"]


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
        heat_kt_per_parameter: update heat per parameter [kT].
        actuation_kt_per_parameter: barrier work per parameter [kT].
        path_levels: requested path per parameter [levels].
        saturated: share of parameter-steps whose tilt exceeded the barrier.
        seconds: physical duration of the run, steps times step time [s].
    """

    loss: Float[Array, "*seeds"]
    heat_kt_per_parameter: Float[Array, "*seeds"]
    actuation_kt_per_parameter: Float[Array, "*seeds"]
    path_levels: Float[Array, "*seeds"]
    saturated: Float[Array, "*seeds"]
    seconds: Float[Array, "*seeds"]

    @property
    def energy_kt_per_parameter(self) -> Float[Array, "*seeds"]:
        """Heat and barrier work per parameter [kT]."""
        return self.heat_kt_per_parameter + self.actuation_kt_per_parameter


class AbstractProblem(abc.ABC):
    """What a design is tuned for. Final subclasses say what one run is, on which data, and where a search starts.

    Args:
        cell: the memory cell.
        steps: of one run.
        validation: share of the training data set aside to measure the loss while tuning.

    `windows` says whether a derivative can be cut in windows, for `Search(gradient="truncated")`.
    """

    windows: ClassVar[bool] = True
    parameters: int

    def __init__(self, cell: AbstractCell, steps: int, validation: float):
        self.cell, self.steps, self.validation = cell, steps, validation
        self._programs: dict[Any, Callable[..., Any]] = {}

    @abc.abstractmethod
    def outcome(
        self, design: Design, seed: Integer[Array, ""], data: Any, hops: HopsName, window: int | None
    ) -> Outcome:
        """One run, differentiable in the design.

        Args:
            design: what may be changed.
            seed: whole number.
            data: of `data`.
            hops: "gaussian" or "exact" for gradients through the noise; "mean" has none.
            window: None differentiates through the whole run; a number cuts the derivative every so many steps.

        Returns:
            The outcome.
        """

    @abc.abstractmethod
    def data(self, part: Part) -> Any:
        """What `outcome` trains on and measures the loss on."""

    @abc.abstractmethod
    def described(self) -> dict[str, Any]:
        """What a file says of it: task, parameters, batch_size, learning_rate."""

    @abc.abstractmethod
    def starting(self, barrier: AbstractBarrier | str | None) -> AbstractBarrier:
        """Where the search starts: a barrier, its text, or what suits the problem."""

    def design(self, barrier: AbstractBarrier, rate_knots: int = 8) -> Design:
        """The design with this barrier and everything else as it is.

        Args:
            barrier: the barrier.
            rate_knots: number of knots of the learning-rate factor.

        Returns:
            The design.
        """
        # A step time is a scale: its logarithm may move either way and the time stays positive.
        return Design(barrier, jnp.log(self.cell.step_time), jnp.zeros(rate_knots))

    def plain(self, design: Design) -> Design:
        """The design whose run without hop noise is the plain optimizer's.

        Args:
            design: the design that plain training is to be compared with.

        Returns:
            By default the design itself: without hop noise, and with a driver of no end (`plain_problem`), only its learning
            rate matters.
        """
        return design

    @property
    def plain_problem(self) -> "AbstractProblem":
        """The problem whose runs of a `plain` design without hop noise are plain training; by default itself."""
        return self

    def outcome_of(self, loss: Float[Array, ""], ledger: Ledger, design: Design) -> Outcome:
        """The outcome of a run that ended.

        Args:
            loss: its loss [loss units].
            ledger: what its cells took.
            design: what it was a run of.

        Returns:
            The outcome.
        """

        def per_parameter(name):
            entry = ledger.entry(name)
            assert entry is not None
            return jnp.sum(entry.total) / self.parameters

        return Outcome(
            loss=loss,
            heat_kt_per_parameter=per_parameter("heat"),
            actuation_kt_per_parameter=per_parameter("actuation"),
            path_levels=per_parameter("path"),
            # The ledger counts parameter-steps.
            saturated=per_parameter("saturated") / self.steps,
            seconds=self.steps * jnp.exp(design.log_step_time),
        )

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

        # Data are an argument: by closure they would be constants of the program, and each part would need its own.
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
            # Arrays may be traced; the rest is part of the program and must be hashable, as static fields are.
            arrays, others = eqx.partition(args, eqx.is_array)
            leaves, structure = jax.tree.flatten(others)
            # Functions that are given here are new closures at every call, so their name and `kind` must say all that a
            # closure captures beside the problem.
            key = (function.__name__, kind, tuple(leaves), structure)
            if key not in self._programs:  # not eqx.filter_jit, whose global cache would keep the problem and its data
                self._programs[key] = jax.jit(lambda arrays: function(*eqx.combine(arrays, others)))
            return self._programs[key](arrays)

        return call


def check_share(validation: Any) -> float:
    """The share of the training data that is set aside.

    Raises:
        ValueError: for what is none.
    """
    if not is_real(validation) or np.ndim(validation) or not 0 <= validation < 1:
        raise ValueError(f"validation must be a share from 0 to below 1, got {validation!r}.")
    return float(validation)
