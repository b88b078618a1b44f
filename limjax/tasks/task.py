"""What a task is: a network, its loss and its data."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
import optax
from jaxtyping import PyTree


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
        barrier: barrier that suits it, by name.
    """

    steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 1e-3
    lsb: float = 2**-10
    schedule: Literal["cosine", "constant"] = "cosine"
    optimizer: Literal["adam", "sgd"] = "adam"
    barrier: str = "lyapunov"

    def make_schedule(self, learning_rate: float, steps: int) -> Callable[[Any], Any]:
        """The learning-rate schedule over a run of `steps`."""
        if self.schedule == "cosine":
            return optax.cosine_decay_schedule(learning_rate, steps)
        return optax.constant_schedule(learning_rate)

    def make_optimizer(self, schedule: Callable[[Any], Any]) -> optax.GradientTransformation:
        """The optimizer with that schedule."""
        return {"adam": optax.adam, "sgd": optax.sgd}[self.optimizer](schedule)


@dataclasses.dataclass(frozen=True)
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
        ValueError: if a function cannot be called, or the data are empty, not finite or of unequal length.

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

    @property
    def train_size(self) -> int:
        """Number of training examples; 1 for a task without data."""
        return 1 if self.train is None else jax.tree.leaves(self.train)[0].shape[0]

    def check_batch_size(self, batch_size: int) -> None:
        """Refuses a batch larger than the training data.

        Args:
            batch_size: examples per step.

        Raises:
            ValueError: if the data have fewer examples.
        """
        if self.train is not None and batch_size > self.train_size:
            raise ValueError(
                f"batch_size {batch_size} is larger than the {self.train_size} training examples of {self.name}; use "
                f"{self.train_size} or fewer."
            )


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
        if leaf.dtype.kind == "f" and not math.isfinite(float(np.sum(leaf, dtype=np.float64))):
            raise ValueError(f"The {field} data of task {name!r} hold NaN or infinity; remove or fill those examples.")
