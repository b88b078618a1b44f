"""What the ledger costs per training step of `digits-mlp`: every mode against plain Adam, in the same run.

Each round times all variants once, one after the other; the ratios are medians over the rounds of the time over plain
Adam's in that round, so that a machine that slows down for a while slows both. Every variant sums the training loss, as a loop
that shows progress does. Writes
`benchmarks/results/training_step_<platform>.json`. Runs unchanged on a GPU.
"""

import argparse
import json
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp
import optax
from rich.console import Console
from rich.table import Table

import limjax
from limjax.tasks import get_task
from limjax.training import versions

RESULTS = pathlib.Path(__file__).parent / "results"


def compiled_run(task, optimizer, batch_size: int, steps: int):
    """A compiled function that takes `steps` steps, and its arguments."""
    optimizer = optax.with_extra_args_support(optimizer)
    data = jax.tree.map(jnp.asarray, task.train)

    def run(params, state, data, key):
        def body(step, carry):
            params, state, total = carry
            index = jax.random.randint(jax.random.fold_in(key, step), (batch_size,), 0, task.train_size)
            batch = jax.tree.map(lambda x: x[index], data)
            loss, gradient = jax.value_and_grad(task.loss)(params, batch)
            updates, state = optimizer.update(gradient, state, params, value=loss)
            return optax.apply_updates(params, updates), state, total + loss

        return jax.lax.fori_loop(0, steps, body, (params, state, jnp.zeros(())))

    params = task.init(jax.random.key(0))
    arguments = (params, optimizer.init(params), data, jax.random.key(1))
    return jax.jit(run).lower(*arguments).compile(), arguments


def main(rounds: int, steps: int) -> None:
    task = get_task("digits-mlp")
    defaults = task.defaults
    schedule = defaults.make_schedule(defaults.learning_rate, defaults.steps)
    cell, barrier, key = limjax.ArrheniusCell(), limjax.LyapunovBarrier(11.0), jax.random.key(2)

    def wrapped(hops, **options):
        return limjax.learning_in_memory(optax.adam(schedule), cell, barrier, hops=hops, key=key, **options)

    variants = {
        "plain Adam": optax.adam(schedule),
        "mean": wrapped("mean", compare=()),
        "mean, static barrier compared": wrapped("mean"),
        "mean, plain sums": wrapped("mean", compare=(), compensated=False),
        "mean, per leaf": wrapped("mean", compare=(), granularity="leaf"),
        "gaussian": wrapped("gaussian"),
        "exact": wrapped("exact"),
    }
    runs = {name: compiled_run(task, optimizer, defaults.batch_size, steps) for name, optimizer in variants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, (run, arguments) in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run(*arguments))
            if turn:  # the first round warms up
                seconds[name].append((time.perf_counter() - start) / steps)
    plain = seconds["plain Adam"]
    table = Table(
        "variant", "µs per step", "ratio to plain Adam", title="Training step of digits-mlp", title_justify="left"
    )
    rows = {}
    for name, times in seconds.items():
        ratio = statistics.median(t / p for t, p in zip(times, plain))
        rows[name] = {"microseconds": 1e6 * statistics.median(times), "ratio": ratio}
        table.add_row(name, f"{rows[name]['microseconds']:.1f}", f"{ratio:.2f}")
    Console().print(table)
    device = jax.devices()[0]
    content = {
        "device": f"{device.platform}:{device.device_kind}",
        "versions": versions(),
        "batch_size": defaults.batch_size,
        "steps_per_round": steps,
        "rounds": rounds,
        "variants": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"training_step_{device.platform}.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    main(arguments.rounds, arguments.steps)
