"""What a barrier is: a rule that says, at every step, how high the wall between two levels stands."""

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from limjax.numerics.checks import compute_dtype, shown, stopped_if, varied_numbers
from limjax.numerics.counters import over_shards, shards_of
from limjax.physics._abstract_cell import AbstractCell

Scope = Literal["global", "leaf", "parameter"]


class BarrierInputs(NamedTuple):
    """What a barrier may look at in one step.

    Attributes:
        step: how many steps were taken before this one.
        loss: value of the loss, or None if the caller gave none.
        drift: requested levels per step, one array per parameter leaf in `jax.tree.leaves` order, or None where the
            drive does not fix them (gradient tilt).
        gradient: gradient of the loss [loss/weight], one array per leaf.
        cell: the memory cell.
        weights: where the parameters stand before the step [weight], one array per leaf, or None for a barrier that does not read them.
        known: in how many of those steps the loss was a number; None for all of them.
        started: for a barrier with `moves_still`, which parameters have moved in such a step, one array per leaf that broadcasts to it: from there
            on their barrier is charged. None for all.
    """

    step: Int[Array, ""]
    loss: Float[Array, ""] | None
    drift: list[Float[Array, "..."]] | None
    gradient: list[Float[Array, "..."]]
    cell: AbstractCell
    weights: list[Float[Array, "..."]] | None = None
    known: Int[Array, ""] | None = None
    started: list[Bool[Array, "..."]] | None = None

    @property
    def learned(self) -> Int[Array, ""]:
        """How many steps before this one had a loss that was a number: what running means count, while schedules go by `step`."""
        return self.step if self.known is None else self.known


class Tuned(NamedTuple):
    """How a number of a barrier is tuned: a step of 1 of the outer optimizer is `size` in the number or its logarithm.

    Attributes:
        size: what a change of 1 means; a tuple for a row of numbers.
        log: whether the number is positive, and its logarithm is what moves.
        low: the least that the barrier's class takes, below which the number is not moved.
    """

    size: float | tuple[float, ...] = 1.0
    log: bool = False
    low: float = -math.inf


_SCATTER = 2.0**-8  # in weight: the networks of `limjax.tasks` still learn with it, at the law's heat and below


class RunShape(NamedTuple):
    """What a barrier that is asked for by name may know of its run.

    Attributes:
        cell: the memory cell.
        steps: length of the run.
        learning_rate: learning rate, or its optax schedule.
    """

    cell: AbstractCell
    steps: int
    learning_rate: Callable[[Any], Any] | float

    @property
    def opening(self) -> float:
        """The barrier that timetables start from [kT]: the one over which a cell at rest scatters by 2^-8 in weight and step.

        Whatever the ladder and the attempt rate: a variance 2g of (2^-8/lsb)² levels². A timetable knows neither requests nor
        loss, which `LyapunovBarrier` and `MomentBarrier` take it from.
        """
        # At rest the hops of a step have the variance 2g, so that 2g lsb² is to be the square of the scatter.
        exchange = 0.5 * jnp.square(_SCATTER / jnp.asarray(self.cell.lsb))
        # A fine ladder may ask for more exchange than there are attempts, which no barrier gives.
        # A timetable has one start, for cells that differ their mean.
        return max(0.0, float(jnp.mean(self.cell.barrier(jnp.log(exchange)))))


class AbstractBarrier(eqx.Module):
    """A barrier policy. Final subclasses say what one step's barrier is; clipping and charging are the ledger's.

    `name` is how the CLI, tables and JSON call it. `scope` says what `evaluate` returns: one number for all
    parameters ("global"), one per leaf as an array of shape (leaves,) ("leaf"), or one array per leaf of that leaf's
    shape ("parameter"). `per_cell` names the numbers that may be arrays: they broadcast against every parameter array, so that each
    cell has its own, as real devices do; the barrier is then an array that broadcasts likewise. `shape_free` says that a barrier per
    parameter works element by element, or by sums over all: it is given small arrays in one piece then, which is faster. `moves_still`
    says that its heights are meant for a leaf without a gradient too, as after consolidation; those of others stay where they are.

    A barrier says of itself what else there is to know: `tuned` names the numbers that `limjax.tune` changes and how; `level` is the
    one that lifts the whole barrier and by how much it, or its logarithm, changes per kT; `of_run` makes the barrier that its name
    alone stands for, `arguments` are what a file keeps of it.
    """

    name: ClassVar[str]
    per_cell: ClassVar[tuple[str, ...]] = ()
    shape_free: ClassVar[bool] = False
    moves_still: ClassVar[bool] = False
    tuned: ClassVar[Mapping[str, Tuned]] = {}
    level: ClassVar[tuple[str, float] | None] = None

    @classmethod
    def of_run(cls, run: RunShape, /, *given: Any, **arguments: Any) -> "AbstractBarrier":
        """The barrier of `name:argument=number,...`; the arguments that a subclass names here are those that the text may give.

        Args:
            run: the run it is for.
            *given: for a subclass that names its arguments: the text form gives them by name.
            **arguments: those of the class; what is left out is what suits the run.

        Returns:
            The barrier.
        """
        del run
        return cls(*given, **arguments)

    @classmethod
    def of_file(cls, arguments: Mapping[str, Any]) -> "AbstractBarrier":
        """The barrier whose `arguments` a file keeps. Files of earlier versions lack newer ones."""
        return cls(**arguments)

    def arguments(self) -> dict[str, Any]:
        """What a file keeps: the arguments that make this barrier again, as JSON can hold them, or barriers.

        Raises:
            ValueError: for a barrier that numbers cannot describe.
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        # In float64 the decimal number is the float32 itself, and reads back as the same.
        return {k: np.asarray(v, np.float64).tolist() if eqx.is_array(v) else v for k, v in values.items()}

    def stretched(self, steps: int) -> "AbstractBarrier":
        """The same barrier for a run of another length, where it has one.

        Args:
            steps: length of the run.

        Returns:
            The barrier.
        """
        del steps
        return self

    def tuned_numbers(self) -> Mapping[str, Tuned]:
        """The numbers that tuning changes, by their names: those of `tuned`, and of its parts as `part.number`."""
        return self.tuned

    def raised(self, kt: float) -> "AbstractBarrier | None":
        """The barrier higher by so many kT, always and everywhere.

        Args:
            kt: how much higher [kT].

        Returns:
            The barrier; None for one without a number that does so.
        """
        if self.level is None or getattr(self, self.level[0]) is None:
            return None
        name, per_kt = self.level
        value = getattr(self, name)
        scale = self.tuned.get(name, Tuned())
        # What is tuned by its logarithm is in the barrier by it as well: it is multiplied, and stays positive.
        moved = value * jnp.exp(per_kt * kt) if scale.log else jnp.maximum(value + per_kt * kt, scale.low)
        return eqx.tree_at(lambda barrier: getattr(barrier, name), self, moved)

    def centred(self, sign: float) -> "AbstractBarrier":
        """The barrier with its numbers where tuning moves them best (sign 1), and back (sign -1).

        Args:
            sign: 1 or -1.

        Returns:
            The barrier.
        """
        del sign
        return self

    def __repr__(self) -> str:
        return shown(self)

    @property
    def varied(self) -> dict[str, Array]:
        """The numbers that differ between the cells of one array, by name; none for a barrier that is the same for all."""
        return varied_numbers(self, self.per_cell)

    @property
    def scope(self) -> Scope:
        """Granularity of the barrier; global unless a subclass says otherwise."""
        return "global"

    @property
    def reads_weights(self) -> bool:
        """Whether the barrier looks at the weights, so that `update` needs the parameters."""
        return False

    def task_ended(self, state: Any, weights: list[Float[Array, "..."]]) -> Any:
        """The policy's state when a task is over, for a barrier that then keeps what was learnt; see `limjax.consolidate`.

        Args:
            state: the policy's state.
            weights: the parameters at the end of the task [weight], in the arrays that `evaluate` is given.

        Returns:
            The state of the same structure, shapes and dtypes.
        """
        del weights
        return state

    def init(self, params: PyTree) -> Any:
        """State of the policy for parameters of this structure; none by default.

        Args:
            params: parameters, or `jax.ShapeDtypeStruct`s of them.

        Returns:
            A pytree of arrays.
        """
        del params
        return ()

    @abc.abstractmethod
    def evaluate(self, inputs: BarrierInputs, state: Any) -> tuple[Any, Any]:
        """Barrier of this step, before it is clipped to the cell's range.

        Args:
            inputs: what may be looked at.
            state: the policy's state.

        Returns:
            `(barrier [kT], state)`, the barrier in the form that `scope` says.
        """


def required_loss(inputs: BarrierInputs, barrier: AbstractBarrier) -> Float[Array, ""]:
    """The loss, or an error that says how to pass it."""
    if inputs.loss is None:
        raise ValueError(
            f"{type(barrier).__name__} follows the loss: call `optimizer.update(gradients, state, params, value=loss)`."
        )
    return inputs.loss


def required_drift(inputs: BarrierInputs, barrier: Any) -> list[Float[Array, "..."]]:
    """The requested levels, or an error that says why there are none."""
    if inputs.drift is None:
        raise ValueError(
            f"{type(barrier).__name__} follows the requested step, which gradient_tilt does not fix: there the barrier "
            "is the learning rate. Use a static, scheduled, Fowler-Nordheim or spline barrier with it, or a Lyapunov barrier "
            "with a start."
        )
    return inputs.drift


def required_weights(inputs: BarrierInputs, barrier: Any) -> list[Float[Array, "..."]]:
    """The weights, or an error that says how to pass them."""
    if inputs.weights is None:
        raise ValueError(
            f"{type(barrier).__name__} follows the weights: call `optimizer.update(gradients, state, params)` with the parameters."
        )
    return inputs.weights


def checked_loss(
    loss: Float[Array, ""], floor: Float[Array, ""], barrier: AbstractBarrier, smoothed: Float[Array, ""] | None = None
) -> Float[Array, ""]:
    """The loss, or an error where it cannot be a Lyapunov function: below a floor that no noise explains.

    A floor above 0 is that of stochastic gradients, and batches dip below it; a loss below 0 is no squared distance.

    Args:
        loss: this step's loss.
        floor: of the barrier.
        barrier: which one, for the message.
        smoothed: running mean to judge instead of one batch, if there is one.

    Returns:
        The loss.

    Raises:
        ValueError: for a known loss; `equinox.error_if` for a traced one.
    """
    judged = loss if smoothed is None else smoothed
    # NaN is not below anything: such a step is left to who moves the barrier, which then stays where it is.
    is_wrong = (judged < floor) & (floor <= 0)
    name = type(barrier).__name__
    message = (
        f"{name} follows the logarithm of the loss, which has to be above its floor, but the loss fell below it. Give the least "
        f"value the loss can take, {name}(..., floor=...), for a log-likelihood or an ELBO some number below its best; or use a "
        "barrier that reads requests instead of the loss, such as RateMatchedBarrier."
    )
    if isinstance(is_wrong, jax.core.Tracer):
        # The check is part of the loss that goes on: XLA drops what nothing uses.
        return stopped_if(loss, is_wrong, message)
    if bool(is_wrong):
        raise ValueError(f"{message} Got {float(judged):g} with floor={float(floor):g}.")
    return loss


def promised_fall(inputs: BarrierInputs, drift: list[Float[Array, "..."]]) -> Float[Array, ""]:
    r"""The fall of the loss that this step's requests promise: $P = -\sum_i d_i\,\mathrm{lsb}\,\partial L/\partial w_i$.

    In a bowl whose requests contract every distance by the share u per step, $\langle P\rangle = 2u(L - L_f)$ for a full
    gradient: it says how fast the run relaxes, from one step and without having to be told. With a minibatch the noise of the
    gradient that is in the request as well adds to it.

    Args:
        inputs: what a barrier may look at.
        drift: the requests, as `required_drift` gives them.

    Returns:
        P [loss units], negative where the requests go uphill.
    """
    dtype, lsb = jnp.result_type(float), inputs.cell.lsb
    if lsb.ndim:
        # Levels that differ from cell to cell belong inside the sum; one for all is multiplied once, below.
        drift, lsb = [d * lsb.astype(d.dtype) for d in drift], jnp.ones(())
    products = [total_of(g.astype(d.dtype) * d, inputs.loss) for g, d in zip(inputs.gradient, drift)]
    return -lsb.astype(dtype) * sum(products, jnp.zeros((), dtype))


def with_steps(barrier: Any, steps: int) -> Any:
    """A barrier that spans a run, with its `steps` replaced."""
    # The sum keeps the shape where barriers are stacked, and makes a JAX array of the same dtype.
    return eqx.tree_at(lambda b: b.steps, barrier, np.asarray(steps, barrier.steps.dtype) + 0 * barrier.steps)


def running_mean(
    old: Float[Array, "..."], new: Float[Array, "..."], decay: Float[Array, ""], step: Int[Array, ""]
) -> Float[Array, "..."]:
    """Exponential running mean that starts at its first value instead of at zero.

    Weighs the k-th value by (1 - decay)/(1 - decay^k), so that the mean of k equal values is that value for every k:
    Adam's bias correction folded into the update, with no second array to keep.

    Args:
        old: mean so far.
        new: value of this step; one that is no number leaves the mean as it is.
        decay: weight of the past, 0 (no memory) to 1.
        step: number of values taken before, 0 at the first: `BarrierInputs.learned`.

    Returns:
        The new mean.
    """
    dtype = old.dtype
    decay = decay.astype(dtype)
    # The first weight is exactly 1, whatever the decay: of the zeros that a state begins with nothing is left.
    count = (step + 1).astype(dtype)
    forgets = decay < 1
    # decay = 1 would give 0/0, and NaN as its derivative also where it is not taken.
    below = jnp.where(forgets, decay, 0.0)
    weight = (1 - below) / jnp.maximum(1 - below**count, jnp.finfo(dtype).tiny)
    # A mean that never forgets is the arithmetic mean; beside it stands the slope of the quotient there.
    weight = jnp.where(forgets, weight, 1 / count + (1 - decay) * (count - 1) / (2 * count))
    # One value that is no number would stay in the mean for good.
    new = jnp.where(jnp.isfinite(new), new, old)
    return old + weight * (new - old)


def running_state(params: PyTree, granularity: str) -> PyTree:
    """Zeros for one running mean per parameter ("parameter") or per leaf ("leaf"), in `jax.tree.leaves` order."""
    leaves = jax.tree.leaves(params)
    if not leaves:
        return params  # the placeholder of `optax.tree.map_params`, see `blocks_or_placeholder`
    if granularity == "leaf":
        return [jnp.zeros((), compute_dtype(p.dtype)) for p in leaves]
    return [jnp.zeros_like(p, dtype=compute_dtype(p.dtype)) for p in leaves]


def checked_granularity(granularity: str) -> None:
    """Refuses anything but "parameter" and "leaf"."""
    if granularity not in ("parameter", "leaf"):
        raise ValueError(f'granularity must be "parameter" or "leaf", got {granularity!r}.')


def total_of(x: Array, loss: Float[Array, ""] | None = None) -> Float[Array, ""]:
    """The sum over an array, also over those parts of it that other shards of a `shard_map` hold.

    Args:
        x: the array, or this shard's part of it; of booleans it is their number.
        loss: of the model, which its parts share; members of an ensemble on several shards have one each, and sums of their own.

    Returns:
        The sum, in the dtype of totals.
    """
    # Summed in its own dtype first: booleans are then counted as integers, without rounding.
    return over_shards(jnp.sum(x).astype(jnp.result_type(float)), loss)


def mean_of_known(
    values: list[Float[Array, "..."]], known: list[Bool[Array, "..."]], loss: Float[Array, ""] | None = None
) -> Float[Array, ""]:
    """The sum of the values over the number of known ones, over all arrays and their shards (see `total_of`); 0 where none is known."""
    dtype = jnp.result_type(float)
    total = sum((total_of(x, loss) for x in values), jnp.zeros((), dtype))
    count = sum((total_of(x, loss) for x in known), jnp.zeros((), dtype))
    return total / jnp.maximum(count, 1)


def mean_square(x: Float[Array, "..."], granularity: str, loss: Float[Array, ""] | None = None) -> Float[Array, "..."]:
    """The squares of an array, or one number for all of it, its shards included (see `total_of`): their mean, 0 for an array without elements."""
    if granularity == "parameter":
        return jnp.square(x)
    # The number of elements as a float: it may be more than an int32 holds.
    return over_shards(jnp.sum(jnp.square(x)), loss) / max(float(x.size * shards_of(x, loss)), 1.0)


def in_scope(
    barrier: list[Float[Array, "..."]], granularity: str
) -> list[Float[Array, "..."]] | Float[Array, "leaves"]:
    """One barrier per array as `AbstractBarrier.scope` wants it: a list of arrays, or one array of shape (leaves,).

    Where cells differ within an array, so do their barriers, and it is a list.
    """
    return barrier if granularity == "parameter" or any(b.ndim for b in barrier) else jnp.stack(barrier)
