"""What a task is: a network, its loss and its data."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, PyTree

from limjax.numerics._curves import hermite_curve
from limjax.numerics.checks import is_real, positive_number, whole_number

Schedule = Literal["cosine", "constant"]
Optimizer = Literal["adam", "sgd"]


@dataclasses.dataclass(frozen=True)
class TaskDefaults:
    """Settings that suit a task.

    Attributes:
        steps: number of optimizer steps.
        batch_size: examples per step.
        learning_rate: peak learning rate.
        lsb: one level in weight units.
        schedule: "cosine" falls to zero over the run, "constant" stays.
        optimizer: "adam" or "sgd".
        barrier: barrier that suits it, by name; "moment" suits networks, the default a task of a few parameters as well.
        largest_weight: what cells of few bits are made to hold either way [weight units]; None leaves the lsb as it is.

    Raises:
        ValueError: if a number is not positive, or the schedule or the optimizer is not known.
    """

    steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 1e-3
    lsb: float = 2**-10
    schedule: Schedule = "cosine"
    optimizer: Optimizer = "adam"
    barrier: str = "lyapunov:start=11"
    largest_weight: float | None = None

    def __post_init__(self):
        for name in ("steps", "batch_size"):
            whole_number(getattr(self, name), name)
        for name in ("learning_rate", "lsb"):
            positive_number(getattr(self, name), name)
        if self.largest_weight is not None:
            positive_number(self.largest_weight, "largest_weight")
        for name, known in (("schedule", get_args(Schedule)), ("optimizer", get_args(Optimizer))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}.")

    def lsb_for(self, bits: int) -> float:
        """One level of a cell with so many bits [weight units]: the task's, or coarser, so that the largest weight is in its range.

        Args:
            bits: bits of the cell, at least 1.

        Returns:
            The lsb.

        Example:
            >>> [TaskDefaults(largest_weight=1.0).lsb_for(bits) for bits in (4, 8, 16)]
            [0.125, 0.0078125, 0.0009765625]
        """
        bits = whole_number(bits, "bits", 1)
        # 2^bits levels span the weights from minus the largest to the largest. The bound on bits is the cell's to say.
        return self.lsb if self.largest_weight is None else max(self.lsb, math.ldexp(2 * self.largest_weight, -bits))

    def make_schedule(
        self, learning_rate: ArrayLike, steps: int, log_factor: Float[Array, "knots"] | None = None
    ) -> Callable[[Any], Any]:
        """The learning-rate schedule over a run.

        Args:
            learning_rate: peak.
            steps: length of the run.
            log_factor: logarithm of a factor on the schedule, at knots in equal distances over the run, at least two; None
                for no factor. What `limjax.tune(tune_learning_rate=True)` tunes.

        Returns:
            The learning rate at a step.
        """
        cosine = self.schedule == "cosine"
        base = optax.cosine_decay_schedule(learning_rate, steps) if cosine else optax.constant_schedule(learning_rate)
        if log_factor is None:
            return base

        def schedule(step):
            # The last step stands at the last knot, and the only step of a run of one at the first.
            progress = jnp.asarray(step).astype(log_factor.dtype) / max(steps - 1, 1)
            return base(step) * jnp.exp(hermite_curve(log_factor, progress))

        return schedule

    def make_optimizer(
        self, schedule: Callable[[Any], Any], differentiable: bool = False
    ) -> optax.GradientTransformation:
        """The optimizer with that schedule.

        Args:
            schedule: learning rate at a step.
            differentiable: whether derivatives will be taken through its updates. Adam's root of a second moment that is
                exactly zero has none; adding 1e-20 below the root gives it one and changes no update by more than 1 %
                of the 1e-8 that Adam adds anyway.

        Returns:
            The optax optimizer.
        """
        if self.optimizer == "adam":
            return optax.adam(schedule, eps_root=1e-20 if differentiable else 0.0)
        return optax.sgd(schedule)


# Two tasks are equal if they are the same object: comparing their arrays would be neither quick nor a truth value.
@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A network, its loss and its data: all that `limjax.train` needs.

    Attributes:
        name: what it is called.
        init: makes the parameters, a pytree of float arrays, from a `jax.random.key`.
        loss: mean loss of parameters on a batch, a scalar; pure and jittable.
        train: training data, a pytree of arrays whose leading axis counts examples, or None where the loss needs none.
        test: test data of the same structure, or None.
        accuracy: share of a batch that is right, 0 to 1, or None.
        defaults: settings that suit it.

    Raises:
        ValueError: if a function cannot be called, or the data are empty, not finite, of unequal length, or differ in
            structure between the training and the test part.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np
        >>> x = np.linspace(-1, 1, 32, dtype=np.float32)
        >>> line = Task(
        ...     name="line",
        ...     init=lambda key: {"slope": jax.random.normal(key, ())},
        ...     loss=lambda params, batch: jnp.mean((params["slope"] * batch["x"] - batch["y"]) ** 2),
        ...     train={"x": x, "y": 2 * x},
        ... )
        >>> line.train_size
        32
    """

    name: str
    init: Callable[[Any], PyTree]
    loss: Callable[[PyTree, Any], Any]
    train: PyTree | None = None
    test: PyTree | None = None
    accuracy: Callable[[PyTree, Any], Any] | None = None
    defaults: TaskDefaults = dataclasses.field(default_factory=TaskDefaults)

    def __post_init__(self):
        for field in ("init", "loss"):
            if not callable(getattr(self, field)):
                raise ValueError(f"{field} of task {self.name!r} must be a function, got {getattr(self, field)!r}.")
        if self.accuracy is not None and not callable(self.accuracy):
            raise ValueError(f"accuracy of task {self.name!r} must be a function or None, got {self.accuracy!r}.")
        for field in ("train", "test"):
            _check_data(self.name, field, getattr(self, field))
        if self.test is not None:
            structures = jax.tree.structure(self.train), jax.tree.structure(self.test)
            if structures[0] != structures[1]:
                raise ValueError(
                    f"The train and test data of task {self.name!r} must have the same structure, got {structures[0]} "
                    f"and {structures[1]}."
                )

    @property
    def train_size(self) -> int:
        """Number of training examples; 1 for a task without data."""
        return 1 if self.train is None else jax.tree.leaves(self.train)[0].shape[0]

    def check_batch_size(self, batch_size: int) -> None:
        """Refuses a batch larger than the training data.

        Args:
            batch_size: examples per step.

        Raises:
            ValueError: if the data have fewer examples, or `batch_size` is not a whole number of at least 1.
        """
        whole_number(batch_size, "batch_size")
        if self.train is not None and batch_size > self.train_size:
            raise ValueError(
                f"batch_size {batch_size} is larger than the {self.train_size} training examples of {self.name}; use "
                f"{self.train_size} or fewer."
            )


def log_rate_factor(factor: Any) -> Float[Array, "knots"] | None:
    """The logarithm of a factor on the learning rate, as `TaskDefaults.make_schedule` takes it.

    Args:
        factor: at least two positive numbers, at equal distances over the run, or None.

    Returns:
        Their logarithms, or None.

    Raises:
        ValueError: if there are fewer, or one is not positive.

    Example:
        >>> log_rate_factor([1.0, 1.0]).tolist()
        [0.0, 0.0]
    """
    if factor is None:
        return None
    values = np.asarray(factor, np.float64) if is_real(factor) else np.empty(0)
    if values.ndim != 1 or values.size < 2 or not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError(
            f"learning_rate_factor must be at least two positive numbers, got {factor!r}; leave it out for the task's schedule."
        )
    return jnp.asarray(np.log(values), jnp.result_type(float))


def _check_data(name: str, field: str, data: PyTree | None) -> None:
    if data is None:
        return
    leaves = jax.tree.leaves(data)
    if not leaves:
        raise ValueError(f"The {field} data of task {name!r} hold no arrays; use None for a task without data.")
    sizes = {np.shape(leaf)[0] if np.ndim(leaf) else -1 for leaf in leaves}
    if len(sizes) != 1 or -1 in sizes:
        raise ValueError(
            f"The {field} data of task {name!r} must be arrays with one leading axis of examples; got shapes "
            f"{[np.shape(leaf) for leaf in leaves]}."
        )
    if 0 in sizes:
        raise ValueError(f"The {field} data of task {name!r} are empty.")
    for leaf in leaves:
        leaf = np.asarray(leaf)
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.isfinite(leaf).all():
            raise ValueError(f"The {field} data of task {name!r} hold NaN or infinity; remove or fill those examples.")
