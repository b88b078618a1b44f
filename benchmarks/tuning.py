"""What a gradient through a whole training run costs: time against the run itself, memory against its length.

Times are medians of interleaved rounds at the same number of seeds; memory is XLA's temporary memory of the compiled
call. Writes `benchmarks/results/tuning_cost_<platform>.json`. Runs unchanged on a GPU.
"""

import argparse
import json
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import limjax
from limjax.tasks import get_task
from limjax.training import versions
from limjax.tuning import Problem
from limjax.tuning.variables import Variables

RESULTS = pathlib.Path(__file__).parent / "results"


def compiled(steps: int, seeds: int, name: str):
    """The forward runs and their gradient, compiled, with their arguments."""
    problem = Problem(
        get_task("digits-mlp"), limjax.ArrheniusCell(lsb=2.0**-8), steps=steps, batch_size=128, learning_rate=3e-3
    )
    barriers = {
        "spline": limjax.SplineBarrier(np.linspace(12.0, 18.0, 16), steps),
        "learned": limjax.LearnedBarrier.from_theory(3e8, steps),
    }
    variables = Variables(problem.design(barriers[name]))
    data = problem.data("validation")
    numbers = jnp.arange(seeds, dtype=jnp.uint32)

    def value(point, data):
        outcome = jax.vmap(lambda s: problem.outcome(variables.to_design(point), s, data, "gaussian", None))(numbers)
        return jnp.mean(outcome.loss) + 1e-3 * jnp.mean(outcome.energy_kt)

    arguments = variables.start(), data
    forward = jax.jit(value).lower(*arguments).compile()
    backward = jax.jit(jax.value_and_grad(value)).lower(*arguments).compile()
    return forward, backward, arguments


def seconds(function, arguments) -> float:
    began = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - began


def main(rounds: int, seeds: int, lengths: list[int]) -> None:
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
    device = jax.devices()[0]
    content = {
        "device": f"{device.platform}:{device.device_kind}",
        "versions": versions(),
        "seeds": seeds,
        "rounds": rounds,
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"tuning_cost_{device.platform}.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--lengths", type=int, nargs="+", default=[400, 1600, 6400])
    options = parser.parse_args()
    main(options.rounds, options.seeds, options.lengths)
