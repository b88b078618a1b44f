"""Time of the hop samplers against JAX's own, on this machine: `python benchmarks/hops.py [--elements N] [--out FILE]`.

Each ratio is the time of the named JAX sampler over that of ours in the same process, medians of 20 runs after warm-up,
words included on both sides. One hop displacement is two Poisson counts; it is compared with two calls and with one.
"""

import argparse
import json
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp
import jaxlib
from rich.console import Console
from rich.table import Table

from limjax.physics.hops import exact_hops, gaussian_hops, poisson_inverse_cdf
from limjax.physics.random import key_words, step_words

RESULTS = pathlib.Path(__file__).parent / "results" / "hops.json"
REPEATS = 20
NETWORK = 8_970


def median_seconds(function, *arguments, repeats: int = REPEATS) -> float:
    """Median wall time of one call, compiled and warm, results waited for."""
    compiled = jax.jit(function)
    for _ in range(3):
        jax.block_until_ready(compiled(*arguments))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def rates_by_name(elements: int) -> dict[str, jax.Array]:
    """The rates to time, by name."""
    named = {f"{rate:g}": jnp.full(elements, rate, jnp.float32) for rate in (1e-3, 1.0, 8.0, 100.0)}
    exponent = jax.random.uniform(jax.random.key(1), (elements,), minval=-6.0, maxval=3.0)
    named["log-uniform 1e-6 to 1e3"] = 10.0**exponent
    return named


def measure(elements: int) -> dict:
    """All timings [s] and ratios of one machine."""
    key = jax.random.key(0)
    words, step, shape = key_words(key), jnp.int32(3), (elements,)
    rows = []
    for name, rate in rates_by_name(elements).items():
        one = median_seconds(lambda k, r: jax.random.poisson(k, r), key, rate)
        ours = median_seconds(lambda w, s, r: poisson_inverse_cdf(*step_words(w, 0, s, shape), r), words, step, rate)
        pair = median_seconds(lambda w, s, r: exact_hops(*step_words(w, 0, s, shape), r, r), words, step, rate)
        rows.append(
            {
                "rate": name,
                "jax_poisson_seconds": one,
                "poisson_seconds": ours,
                "exact_hops_seconds": pair,
                "ratio_one_poisson": one / ours,
                "ratio_hops_to_two_jax_poisson": 2 * one / pair,
                "ratio_hops_to_one_jax_poisson": one / pair,
            }
        )
    spread = jnp.full(elements, 2.0, jnp.float32)
    normal = median_seconds(lambda k, a: jnp.sqrt(a) * jax.random.normal(k, shape), key, spread)
    ours = median_seconds(lambda w, s, a: gaussian_hops(*step_words(w, 0, s, shape), a, a), words, step, spread)
    small = jnp.full(NETWORK, 2.0, jnp.float32)
    network = median_seconds(
        lambda w, s, r: exact_hops(*step_words(w, 0, s, (NETWORK,)), r, r), words, step, small, repeats=200
    )
    empty = median_seconds(lambda w, s, r: r + 1, words, step, small, repeats=200)
    return {
        "elements": elements,
        "repeats": REPEATS,
        "device": jax.devices()[0].device_kind,
        "platform": jax.devices()[0].platform,
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "poisson": rows,
        "gaussian": {"jax_normal_seconds": normal, "gaussian_hops_seconds": ours, "ratio": normal / ours},
        "network": {"elements": NETWORK, "exact_hops_seconds": network, "empty_call_seconds": empty},
    }


def table(result: dict) -> Table:
    """The result for people: nanoseconds per element and ratios."""

    def nanoseconds(seconds):
        return f"{seconds * 1e9 / result['elements']:.3g}"

    title = f"{result['elements']:,} elements, {result['device']} ({result['platform']}), JAX {result['jax']}"
    shown = Table(title=title, caption="ns per element; ratios are against JAX in the same run")
    for column in ("sampler", "jax.random", "limjax", "ratio"):
        shown.add_column(column, justify="left" if column == "sampler" else "right")
    for row in result["poisson"]:
        one, two = row["jax_poisson_seconds"], 2 * row["jax_poisson_seconds"]
        shown.add_row(
            f"Poisson, rate {row['rate']}",
            nanoseconds(one),
            nanoseconds(row["poisson_seconds"]),
            f"{row['ratio_one_poisson']:.1f}",
        )
        shown.add_row(
            f"hops (two counts), rate {row['rate']}",
            nanoseconds(two),
            nanoseconds(row["exact_hops_seconds"]),
            f"{row['ratio_hops_to_two_jax_poisson']:.1f}",
        )
    normal = result["gaussian"]
    shown.add_row(
        "gaussian hops",
        nanoseconds(normal["jax_normal_seconds"]),
        nanoseconds(normal["gaussian_hops_seconds"]),
        f"{normal['ratio']:.1f}",
    )
    return shown


def main():
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=1_000_000)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    arguments = parser.parse_args()
    result = measure(arguments.elements)
    console = Console()
    console.print(table(result))
    network = result["network"]
    console.print(
        f"exact hops of {network['elements']:,} parameters: {network['exact_hops_seconds'] * 1e6:.0f} µs per step, "
        f"an empty call {network['empty_call_seconds'] * 1e6:.0f} µs"
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
