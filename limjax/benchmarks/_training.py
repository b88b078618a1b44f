"""Training steps of the tasks: what the ledger adds to a step that also computes gradients."""

import statistics
from typing import Any

import jax
import jax.numpy as jnp
import optax

from limjax.barriers._lyapunov import LyapunovBarrier
from limjax.benchmarks._timing import interleaved, median_ratio
from limjax.memory import learning_in_memory
from limjax.physics._cell import ArrheniusCell
from limjax.tasks import Task, get_task


def compiled_run(task: Task, optimizer: optax.GradientTransformation, batch_size: int, steps: int):
    """A compiled function that takes `steps` steps, and its arguments.

    Args:
        task: what is trained.
        optimizer: bare or wrapped.
        batch_size: examples per step.
        steps: steps of one call. Every variant sums the training loss, as a loop that shows progress does.

    Returns:
        `(compiled, arguments)`.
    """
    extended = optax.with_extra_args_support(optimizer)
    data = jax.tree.map(jnp.asarray, task.train)

    def run(params, state, data, key):
        def body(step, carry):
            params, state, total = carry
            index = jax.random.randint(jax.random.fold_in(key, step), (batch_size,), 0, task.train_size)
            batch = jax.tree.map(lambda x: x[index], data)
            loss, gradient = jax.value_and_grad(task.loss)(params, batch)
            updates, state = extended.update(gradient, state, params, value=loss)
            return optax.apply_updates(params, updates), state, total + loss

        return jax.lax.fori_loop(0, steps, body, (params, state, jnp.zeros(())))

    params = task.init(jax.random.key(0))
    arguments = (params, extended.init(params), data, jax.random.key(1))
    return jax.jit(run).lower(*arguments).compile(), arguments


def training_variants(task: Task) -> dict[str, optax.GradientTransformation]:
    """The optimizers that are compared, by name; the first is the reference."""
    defaults = task.defaults
    inner = defaults.make_optimizer(defaults.make_schedule(defaults.learning_rate, defaults.steps))
    cell, key = ArrheniusCell(lsb=defaults.lsb), jax.random.key(2)

    def wrapped(hops, **options):
        return learning_in_memory(inner, cell, LyapunovBarrier(11.0), hops=hops, key=key, **options)

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
    }


def measure_training(
    task: Task | str = "digits-mlp", rounds: int = 20, steps: int = 200, batch_size: int | None = None
) -> list[dict[str, Any]]:
    """Time of a training step of one task.

    Args:
        task: a `Task`, or the name of one.
        rounds: rounds of the timing.
        steps: training steps per round.
        batch_size: examples per step; None takes the task's.

    Returns:
        Rows with `task`, `parameters`, `variant`, `seconds` per step (median) and `ratio` (to the bare optimizer).
    """
    task = get_task(task) if isinstance(task, str) else task
    batch_size = task.defaults.batch_size if batch_size is None else batch_size
    calls, parameters = {}, 0
    for variant, optimizer in training_variants(task).items():
        run, arguments = compiled_run(task, optimizer, batch_size, steps)
        parameters = sum(leaf.size for leaf in jax.tree.leaves(arguments[0]))
        calls[variant] = lambda run=run, arguments=arguments: run(*arguments)
    seconds = interleaved(calls, rounds, warm_up=1)
    return [
        {
            "task": task.name,
            "parameters": parameters,
            "variant": variant,
            "seconds": statistics.median(times) / steps,
            "ratio": median_ratio(times, seconds["bare optimizer"]),
        }
        for variant, times in seconds.items()
    ]
