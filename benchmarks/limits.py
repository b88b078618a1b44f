"""How long the limits of a million workloads take in one `jax.vmap`, against one power law of as many numbers.

Sizes from 1e6 to 1e16 parameters, 2 to 16 bits, training 0.6 to 2 times the cheapest one; for each the Landauer line,
the accelerator and the law. Rounds alternate with the reference; the ratio is a median over rounds. The share of
finite results is stored beside the time. Writes `benchmarks/results/limits_<platform>.json`.
"""

import argparse
import json
import math
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from limjax.limits import workload_energies
from limjax.versions import machine

RESULTS = pathlib.Path(__file__).parent / "results"


def seconds(function, arguments) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def main(count: int, rounds: int) -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    size = jnp.exp(jax.random.uniform(keys[0], (count,), jnp.float32, math.log(1e6), math.log(1e16)))
    bits = jax.random.uniform(keys[1], (count,), jnp.float32, 2.0, 16.0)
    factor = jax.random.uniform(keys[2], (count,), jnp.float32, 0.6, 2.0)
    variants = {
        "power law alone (reference)": (lambda n, b, f: jnp.exp(1.37 * jnp.log(n))),
        "workload_energies": jax.vmap(workload_energies),
        "gradient of one convergence": jax.vmap(
            jax.grad(lambda n, b, f: workload_energies(n, b, f).convergence, (0, 1, 2))
        ),
    }
    arguments = (size, bits, factor)
    compiled, compiling = {}, {}
    for name, function in variants.items():
        start = time.perf_counter()
        compiled[name] = jax.jit(function).lower(*arguments).compile()
        compiling[name] = time.perf_counter() - start
        seconds(compiled[name], arguments)
    times = {name: [] for name in variants}
    for _ in range(rounds):
        for name in variants:
            times[name].append(seconds(compiled[name], arguments))
    reference, *_ = times
    rows = {}
    for name, taken in times.items():
        leaves = jax.tree.leaves(compiled[name](*arguments))
        rows[name] = {
            "median_seconds": statistics.median(taken),
            "least_seconds": min(taken),
            "ratio": statistics.median(a / b for a, b in zip(taken, times[reference])),
            "compile_seconds": compiling[name],
            "finite_share": float(jnp.mean(jnp.stack([jnp.isfinite(leaf).mean() for leaf in leaves]))),
        }
    content = {**machine(), "workloads": count, "rounds": rounds, "variants": rows}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"limits_{jax.devices()[0].platform}.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    table = Table(
        "variant", "median [s]", "least [s]", "ratio", "finite", title=f"{count:,} workloads", title_justify="left"
    )
    for name, row in rows.items():
        table.add_row(
            name,
            f"{row['median_seconds']:.4f}",
            f"{row['least_seconds']:.4f}",
            f"{row['ratio']:.0f}",
            f"{100 * row['finite_share']:.2f} %",
        )
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    main(arguments.count, arguments.rounds)
