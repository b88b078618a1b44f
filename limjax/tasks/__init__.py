"""Real small networks with their data. A new task is one new file and one line here."""

import difflib
import functools
from collections.abc import Callable

from limjax.tasks._char_transformer import char_transformer
from limjax.tasks._digits import digits_cnn, digits_mlp
from limjax.tasks._language import language
from limjax.tasks._mnist import mnist_cnn
from limjax.tasks._quadratic import quadratic
from limjax.tasks._regression import diabetes_regression
from limjax.tasks._task import Task, TaskDefaults

__all__ = [
    "Task",
    "TaskDefaults",
    "char_transformer",
    "diabetes_regression",
    "digits_cnn",
    "digits_mlp",
    "get_task",
    "language",
    "mnist_cnn",
    "quadratic",
    "task_names",
]

_TASKS: dict[str, Callable[[], Task]] = {
    "digits-mlp": digits_mlp,
    "digits-cnn": digits_cnn,
    "char-transformer": char_transformer,
    "diabetes-regression": diabetes_regression,
    "quadratic": quadratic,
    "mnist-cnn": mnist_cnn,
    **{
        f"language-{size}": functools.partial(language, parameters)
        for size, parameters in {
            "10k": 1e4,
            "30k": 3e4,
            "100k": 1e5,
            "300k": 3e5,
            "1m": 1e6,
            "10m": 1e7,
            "100m": 1e8,
        }.items()
    },
}


def task_names() -> tuple[str, ...]:
    """Names of the built-in tasks."""
    return tuple(_TASKS)


def get_task(name: str) -> Task:
    """A built-in task by name, with its data.

    Args:
        name: one of `task_names()`.

    Returns:
        The task.

    Raises:
        ValueError: for an unknown name (the message lists the known ones), or if its data cannot be had.

    Example:
        >>> get_task("quadratic").train_size
        1
    """
    if name not in _TASKS:
        near = difflib.get_close_matches(name, _TASKS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"Unknown task {name!r}; known are {', '.join(_TASKS)}.{hint}")
    return _TASKS[name]()
