"""What is learnt one after the other: tasks in a sequence, and what is asked of the network at each."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from limjax.numerics.checks import whole_number
from limjax.tasks._digits import _digits

SCENARIOS = ("task", "domain", "class")
"""Task-, domain- and class-incremental learning."""

PIXELS, SIDE, CLASSES = 64, 8, 10


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples of one task.

    Attributes:
        image: inputs, shape (examples, inputs).
        label: number of the right output.
    """

    image: Float[np.ndarray, "n inputs"]
    label: Int[np.ndarray, "n"]


@dataclasses.dataclass(frozen=True)
class TaskSequence:
    """Tasks that come one after the other, as simple as a `Task`.

    A network has one output layer for the whole sequence. Task-incremental: at every example it is known which task it belongs to, and
    only that task's outputs compete. Domain-incremental: all tasks share all outputs. Class-incremental: the outputs of all tasks
    so far compete.

    Attributes:
        name: what it is called.
        scenario: "task", "domain" or "class".
        train: examples to learn from, task by task.
        test: examples to be judged by.
        outputs: units of the output layer.
        own: which outputs belong to a task, shape (tasks, outputs).

    Raises:
        ValueError: for an unknown scenario, or less than two tasks.

    Example:
        >>> from limjax.consolidation import split_digits
        >>> sequence = split_digits("domain")
        >>> len(sequence.train), sequence.outputs
        (5, 2)

    Source: the scenarios of van de Ven, Tuytelaars & Tolias, Nature Machine Intelligence 4, 1185 (2022).
    """

    name: str
    scenario: str
    train: tuple[Examples, ...]
    test: tuple[Examples, ...]
    outputs: int
    own: Bool[np.ndarray, "tasks outputs"]

    def __post_init__(self):
        check_scenario(self.scenario)
        if len(self.train) < 2:
            raise ValueError(
                f"A TaskSequence must have at least 2 tasks, got {len(self.train)}: with one there is nothing to forget."
            )

    def competing(self) -> Bool[np.ndarray, "stages tasks outputs"]:
        """Which outputs compete at a stage (after so many tasks) for an example of a task."""
        tasks = len(self.train)
        if self.scenario == "class":
            # Nobody says which task an example is of: the same outputs compete for all of them, more at each stage.
            return np.repeat(np.maximum.accumulate(self.own, axis=0)[:, None], tasks, axis=1)
        # Otherwise a task has its own outputs at every stage; with shared ones these are all.
        return np.repeat(self.own[None], tasks, axis=0)


def check_scenario(scenario: str) -> None:
    """Refuses anything but the three scenarios."""
    if scenario not in SCENARIOS:
        raise ValueError(f"scenario must be one of {', '.join(SCENARIOS)}, got {scenario!r}.")


def split_digits(scenario: str = "task", seed: int | None = None) -> TaskSequence:
    """Five tasks of two digits each: 0 or 1, 2 or 3, and so on.

    Args:
        scenario: with "domain" the question is whether a digit is the second of its pair.
        seed: of another order of the digits, to have more such sequences; None for the usual one.

    Returns:
        The sequence.

    Raises:
        ValueError: for an unknown scenario or a wrong seed.

    Source: the split protocol of Zenke, Poole & Ganguli (2017), on the 8 by 8 digits.
    """
    check_scenario(scenario)
    order = np.arange(CLASSES)
    if seed is not None:
        order = np.random.default_rng(whole_number(seed, "seed", 0)).permutation(CLASSES)
    pairs = order.reshape(-1, 2)

    def part(examples: Examples, pair) -> Examples:
        chosen = np.isin(examples.label, pair)
        label = examples.label[chosen]
        # Shared outputs ask whether it is the second of the pair; outputs of a task's own are the digits themselves.
        return Examples(
            examples.image[chosen], (label == pair[1]).astype(label.dtype) if scenario == "domain" else label
        )

    shared = scenario == "domain"
    own = np.ones((len(pairs), 2), bool) if shared else np.array([np.isin(np.arange(CLASSES), pair) for pair in pairs])
    train, test = (tuple(part(examples, pair) for pair in pairs) for examples in _both())
    return TaskSequence("split-digits", scenario, train, test, 2 if shared else CLASSES, own)


def permuted_digits(scenario: str = "domain", tasks: int = 10, seed: int = 0) -> TaskSequence:
    """All ten digits again and again, each task with the pixels in another order; the first as they are.

    Args:
        scenario: with "domain" all tasks share ten outputs.
        tasks: number of tasks, at least 2.
        seed: of the orders.

    Returns:
        The sequence.

    Raises:
        ValueError: for a wrong scenario or number.

    Source: the protocol of Goodfellow et al., arXiv:1312.6211, and Kirkpatrick et al. (2017), on the 8 by 8 digits.
    """
    rng = np.random.default_rng(whole_number(seed, "seed", 0))
    orders = [np.arange(PIXELS), *(rng.permutation(PIXELS) for _ in range(whole_number(tasks, "tasks", 2) - 1))]
    return _transformed("permuted-digits", scenario, [lambda image, order=order: image[:, order] for order in orders])


def rotated_digits(scenario: str = "domain", tasks: int = 5) -> TaskSequence:
    """All ten digits, turned from task to task by equal angles up to a half turn.

    Args:
        scenario: with "domain" all tasks share ten outputs.
        tasks: number of tasks, at least 2.

    Returns:
        The sequence.

    Raises:
        ValueError: for a wrong scenario or number.
    """
    angles = np.linspace(0.0, np.pi, whole_number(tasks, "tasks", 2))
    return _transformed("rotated-digits", scenario, [lambda image, a=angle: _turned(image, a) for angle in angles])


def _both() -> list[Examples]:
    return [Examples(part["image"], part["label"]) for part in _digits()]


def _transformed(name: str, scenario: str, transforms: Sequence[Callable[[np.ndarray], np.ndarray]]) -> TaskSequence:
    check_scenario(scenario)
    tasks, shared = len(transforms), scenario == "domain"

    def parts(examples: Examples) -> tuple[Examples, ...]:
        return tuple(
            # The same ten digits are ten other classes in every task, unless the tasks share their outputs.
            Examples(np.ascontiguousarray(f(examples.image)), examples.label + (0 if shared else CLASSES * k))
            for k, f in enumerate(transforms)
        )

    own = np.ones((tasks, CLASSES), bool) if shared else np.repeat(np.eye(tasks, dtype=bool), CLASSES, axis=1)
    train, test = (parts(examples) for examples in _both())
    return TaskSequence(name, scenario, train, test, own.shape[1], own)


def _turned(image: Float[np.ndarray, "n pixels"], angle: float) -> Float[np.ndarray, "n pixels"]:
    """Images turned about their middle, bilinear, 0 outside."""
    middle = (SIDE - 1) / 2
    y, x = np.mgrid[:SIDE, :SIDE] - middle
    # For each pixel of the result, where in the image it comes from: no pixel is left without a value.
    rows = np.cos(angle) * y - np.sin(angle) * x + middle
    columns = np.sin(angle) * y + np.cos(angle) * x + middle
    # Corners come from up to 3.5 √2 - 3.5 = 1.45 pixels outside: with a border of 2 all four neighbours are there.
    padded = np.pad(image.reshape(-1, SIDE, SIDE), ((0, 0), (2, 2), (2, 2)))
    rows, columns = rows + 2, columns + 2
    r, c = np.floor(rows).astype(int), np.floor(columns).astype(int)
    fr, fc = rows - r, columns - c
    turned = (
        padded[:, r, c] * (1 - fr) * (1 - fc)
        + padded[:, r + 1, c] * fr * (1 - fc)
        + padded[:, r, c + 1] * (1 - fr) * fc
        + padded[:, r + 1, c + 1] * fr * fc
    )
    return turned.reshape(len(image), -1).astype(image.dtype)


SEQUENCES = {"split-digits": split_digits, "permuted-digits": permuted_digits, "rotated-digits": rotated_digits}
"""Sequences by name."""


def get_sequence(name: str, scenario: str) -> TaskSequence:
    """A sequence by its name.

    Args:
        name: one of `SEQUENCES`.
        scenario: "task", "domain" or "class".

    Returns:
        The sequence.

    Raises:
        ValueError: for an unknown name or scenario.
    """
    if name not in SEQUENCES:
        raise ValueError(f"tasks must be one of {', '.join(SEQUENCES)}, got {name!r}.")
    return SEQUENCES[name](scenario)
