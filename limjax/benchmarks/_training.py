"""Training steps of the tasks: what the ledger adds to a step that also computes gradients."""

import functools
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from limjax.barriers._base import AbstractBarrier
from limjax.barriers._lyapunov import LyapunovBarrier
from limjax.barriers._moment import MomentBarrier
from limjax.benchmarks._timing import interleaved, median_ratio
from limjax.memory import learning_in_memory
from limjax.memory._hops import HopsName
from limjax.memory.comparisons import FAIR, STATIC, named_comparisons
from limjax.physics._cell import ArrheniusCell
from limjax.tasks import Task, get_task

_ROUND_S = 0.3
"""A round lasts about this long with the bare optimizer, if it is not told how many steps to take."""

_MOST_STEPS = 200


def compiled_run(task: Task, optimizer: optax.GradientTransformation, batch_size: int, steps: int):
    """A compiled function that takes steps of a training, and its arguments.

    Args:
        task: what is trained.
        optimizer: bare or wrapped.
        batch_size: examples per step.
        steps: steps of one call. Every variant sums the training loss, as a loop that shows progress does.

    Returns:
        `(compiled, arguments)`; the first of the arguments is the number of steps, and another takes no other program.
    """
    extended = optax.with_extra_args_support(optimizer)
    data = jax.tree.map(jnp.asarray, task.train)

    def run(steps, params, state, data, key):
        def body(step, carry):
            params, state, total = carry
            index = jax.random.randint(jax.random.fold_in(key, step), (batch_size,), 0, task.train_size)
            batch = jax.tree.map(lambda x: x[index], data)
            loss, gradient = jax.value_and_grad(task.loss)(params, batch)
            updates, state = extended.update(gradient, state, params, value=loss)
            return optax.apply_updates(params, updates), state, total + loss

        return jax.lax.fori_loop(0, steps, body, (params, state, jnp.zeros(())))

    params = task.init(jax.random.key(0))
    arguments = (jnp.int32(steps), params, extended.init(params), data, jax.random.key(1))
    # Nothing is donated: every call starts from the same arguments, so that all rounds do the same work.
    return jax.jit(run).lower(*arguments).compile(), arguments


def training_variants(task: Task) -> dict[str, optax.GradientTransformation]:
    """The optimizers that are compared, by name; the first is the reference."""
    defaults = task.defaults
    inner = defaults.make_optimizer(defaults.make_schedule(defaults.learning_rate, defaults.steps))
    cell, key = ArrheniusCell(lsb=defaults.lsb), jax.random.key(2)

    compared = named_comparisons((STATIC, *FAIR), cell, defaults.steps)
    lyapunov = LyapunovBarrier(11.0)

    def wrapped(hops: HopsName, barrier: AbstractBarrier = lyapunov, **options):
        return learning_in_memory(inner, cell, barrier, hops=hops, key=key, **options)

    return {
        "bare optimizer": inner,
        "mean": wrapped("mean", compare=()),
        "mean, static barrier compared": wrapped("mean"),
        "mean, plain sums": wrapped("mean", compare=(), compensated=False),
        "mean, per leaf": wrapped("mean", compare=(), granularity="leaf"),
        "gaussian": wrapped("gaussian", compare=()),
        "gaussian, static barrier compared": wrapped("gaussian"),
        "exact": wrapped("exact", compare=()),
        "exact, per leaf": wrapped("exact", compare=(), granularity="leaf"),
        "exact, static barrier compared": wrapped("exact"),
        "exact, per leaf, barrier per parameter": wrapped("exact", MomentBarrier(), compare=(), granularity="leaf"),
        "as `limjax train`": wrapped("exact", MomentBarrier(), compare=compared),
    }


def measure_training(
    task: Task | str = "digits-mlp",
    rounds: int = 20,
    steps: int | None = None,
    batch_size: int | None = None,
    variants: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Time of a training step of one task.

    Args:
        task: a `Task`, or the name of one.
        rounds: rounds of the timing.
        steps: training steps per round; None takes as many as the bare optimizer takes in 0.3 s, at most 200.
        batch_size: examples per step; None takes the task's.
        variants: names of `training_variants` beside the bare optimizer; None takes all.

    Returns:
        Rows with `task`, `parameters`, `batch_size`, `variant`, `seconds` per step (median) and `ratio` (to the bare optimizer).

    Raises:
        ValueError: if there is no such variant.
    """
    task = get_task(task) if isinstance(task, str) else task
    batch_size = task.defaults.batch_size if batch_size is None else batch_size
    known = training_variants(task)
    reference, *others = known
    wanted = [reference, *(others if variants is None else variants)]
    for name in wanted:
        if name not in known:
            raise ValueError(f"variants must be of {', '.join(others)}; got {name!r}.")
    runs = {name: compiled_run(task, known[name], batch_size, 1) for name in wanted}
    calls = {name: functools.partial(_steps_of, *run) for name, run in runs.items()}
    if steps is None:
        (seconds_of_one,) = interleaved({"": lambda: calls[reference](1)}, 1, warm_up=1)[""]
        steps = max(1, min(_MOST_STEPS, round(_ROUND_S / seconds_of_one)))
    calls = {name: functools.partial(call, steps) for name, call in calls.items()}
    seconds = interleaved(calls, rounds, warm_up=1)
    return [
        {
            "task": task.name,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(runs[reference][1][1])),
            "batch_size": batch_size,
            "variant": variant,
            "seconds": statistics.median(times) / steps,
            "ratio": median_ratio(times, seconds[reference]),
        }
        for variant, times in seconds.items()
    ]


def _steps_of(compiled: Callable[..., Any], arguments: tuple[Any, ...], steps: int) -> Any:
    return compiled(jnp.int32(steps), *arguments[1:])
