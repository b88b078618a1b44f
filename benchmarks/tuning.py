"""What a gradient through a whole training run costs, and what the four ways to it give.

Time against the run itself, memory against its length, and the angle to the exact gradient. Times are medians of
interleaved rounds at the same number of seeds; memory is XLA's temporary memory of the compiled call. Freed memory is kept, as in `limjax tune`. Writes `benchmarks/results/tuning_cost_<platform>.json`. Runs unchanged on a
GPU.
"""

import argparse
import json
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from rich.console import Console
from rich.table import Table

import limjax
from limjax.allocator import keep_freed_memory
from limjax.tasks import get_task
from limjax.tuning import Problem, Variables, value_and_gradient
from limjax.versions import machine

RESULTS = pathlib.Path(__file__).parent / "results"


def prepared(steps: int, seeds: int, name: str, window: int | None = None):
    """What is differentiated, as a function of (point, data, seeds), and its arguments."""
    problem = Problem(
        get_task("digits-mlp"), limjax.ArrheniusCell(lsb=2.0**-8), steps=steps, batch_size=128, learning_rate=3e-3
    )
    barriers = {
        "spline": limjax.SplineBarrier(np.linspace(12.0, 18.0, 16), steps),
        "learned": limjax.LearnedBarrier.from_theory(3e8, steps),
    }
    variables = Variables(problem.design(barriers[name]))
    data = problem.data("validation")

    def value(point, data, numbers):
        outcome = jax.vmap(lambda s: problem.outcome(variables.to_design(point), s, data, "gaussian", window))(numbers)
        return jnp.mean(outcome.loss) + 1e-3 * jnp.mean(outcome.energy_kt_per_parameter)

    return value, (variables.start(), data, jnp.arange(seeds, dtype=jnp.uint32))


def compiled(steps: int, seeds: int, name: str):
    """The forward runs and their gradient, compiled, with their arguments."""
    value, arguments = prepared(steps, seeds, name)
    forward = jax.jit(value).lower(*arguments).compile()
    backward = jax.jit(jax.value_and_grad(value)).lower(*arguments).compile()
    return forward, backward, arguments


def seconds(function, arguments) -> float:
    began = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - began


def kinds(steps: int, seeds: int) -> list[dict]:
    """Every kind of gradient on some seeds, against the exact one's mean over four times as many others."""
    # Seeds one after another in chunks, as many together as fit into the caches.
    chunk = 4

    def slopes(count, first, method, window=None, **options):
        function, (start, data, numbers) = prepared(steps, chunk, "spline", window)

        def slope(point, data, numbers):
            gradient = value_and_gradient(lambda p: (function(p, data, numbers), None), method, **options)
            return ravel_pytree(gradient(point, jax.random.key(5))[1])[0]

        call = jax.jit(slope).lower(start, data, numbers).compile()
        plain = jax.jit(function).lower(start, data, numbers).compile()
        found, ratios = [], []
        for i in range(count // chunk):
            arguments = start, data, numbers + jnp.uint32(first + chunk * i)
            seconds(plain, arguments)
            forward = seconds(plain, arguments)
            began = time.perf_counter()
            found.append(np.asarray(call(*arguments), np.float64))
            ratios.append((time.perf_counter() - began) / forward)
        return np.asarray(found), statistics.median(ratios), call.memory_analysis().temp_size_in_bytes

    truth = slopes(4 * seeds, 1000, "reverse")[0].mean(axis=0)
    candidates = {
        "reverse": dict(method="reverse"),
        "forward": dict(method="forward"),
        **{f"truncated, window {w}": dict(method="truncated", window=w) for w in (steps // 4, steps // 16)},
        **{f"evolution, {p} pairs": dict(method="evolution", pairs=p) for p in (8, 32)},
    }
    rows = []
    for name, options in candidates.items():
        found, ratio, memory = slopes(seeds, 0, **options)
        mean = found.mean(axis=0)
        rows.append({
            "gradient": name,
            "cosine": float(mean @ truth / np.linalg.norm(mean) / np.linalg.norm(truth)),
            "length": float(np.linalg.norm(mean) / np.linalg.norm(truth)),
            "scatter": float(np.sqrt(found.var(axis=0, ddof=1).sum() / len(found)) / np.linalg.norm(truth)),
            "ratio": ratio,
            "bytes": memory,
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def main(rounds: int, seeds: int, lengths: list[int], kind_seeds: int) -> None:
    keep_freed_memory()
    rows = []
    for name in ("spline", "learned"):
        for steps in lengths if name == "spline" else lengths[:1]:
            forward, backward, arguments = compiled(steps, seeds, name)
            seconds(forward, arguments), seconds(backward, arguments)
            pairs = [(seconds(forward, arguments), seconds(backward, arguments)) for _ in range(rounds)]
            rows.append({
                "barrier": name,
                "steps": steps,
                "forward_seconds": statistics.median(f for f, _ in pairs),
                "gradient_seconds": statistics.median(b for _, b in pairs),
                "ratio": statistics.median(b / f for f, b in pairs),
                "forward_bytes": forward.memory_analysis().temp_size_in_bytes,
                "gradient_bytes": backward.memory_analysis().temp_size_in_bytes,
            })  # fmt: skip
    table = Table(title=f"Gradient through training, digits-mlp, {seeds} seeds")
    for column in ("barrier", "steps", "forward [s]", "gradient [s]", "ratio", "gradient memory [MiB]"):
        table.add_column(column)
    for r in rows:
        numbers = (f"{r['forward_seconds']:.2f}", f"{r['gradient_seconds']:.2f}", f"{r['ratio']:.2f}")
        table.add_row(r["barrier"], str(r["steps"]), *numbers, f"{r['gradient_bytes'] / 2**20:.1f}")
    Console().print(table)
    content = {**machine(), "seeds": seeds, "rounds": rounds, "rows": rows}
    if kind_seeds:
        content |= {"kind_seeds": kind_seeds, "kinds": kinds(lengths[0], kind_seeds)}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"tuning_cost_{jax.devices()[0].platform}.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--lengths", type=int, nargs="+", default=[400, 1600, 6400])
    parser.add_argument(
        "--kind-seeds", type=int, default=16, help="seeds to compare the kinds of gradient on; 0 leaves it out"
    )
    options = parser.parse_args()
    main(options.rounds, options.seeds, options.lengths, options.kind_seeds)
