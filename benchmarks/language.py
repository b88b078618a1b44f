"""A training step of a language model with and without a memory, at batches of several sizes.

Where a compiled program's scratch lies in memory is settled once for a process, and moves a step by more than a memory costs: every batch
is timed in several processes, and the ratio is the median over them, with the least and the largest. Writes
`benchmarks/results/language_<platform>.json`; runs unchanged on a GPU.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

RESULTS = pathlib.Path(__file__).parent / "results"
VARIANTS = ("mean, per leaf", "exact, per leaf")


def measure(task: str, batch_size: int, rounds: int) -> dict:
    """One process: the machine, the context and the rows."""
    import jax

    from limjax.allocator import keep_freed_memory
    from limjax.benchmarks import measure_training
    from limjax.tasks import get_task
    from limjax.versions import machine

    keep_freed_memory()  # as the `limjax` command does
    rows = measure_training(task, rounds, batch_size=batch_size, variants=VARIANTS)
    context = jax.tree.leaves(get_task(task).train)[0].shape[1] - 1
    return machine() | {"platform": jax.default_backend(), "context": context, "rows": rows}


def together(rows: list[dict]) -> dict:
    """One variant in all processes."""
    ratios = [row["ratio"] for row in rows]
    found = {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios), "processes": len(rows)}
    return rows[0] | found | {"seconds": statistics.median(row["seconds"] for row in rows)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="language-1m")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=pathlib.Path, help="default benchmarks/results/language_<platform>.json")
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.task, options.batches[0], options.rounds)))
        sys.exit()
    content: dict = {"rows": []}
    for batch_size in options.batches:
        words = ["--child", "--task", options.task, "--batches", str(batch_size), "--rounds", str(options.rounds)]
        found = []
        for _ in range(options.processes):
            said = subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True, text=True).stdout
            found.append(json.loads(said.splitlines()[-1]))
        for several in zip(*(one["rows"] for one in found)):
            row = together(list(several))
            content["rows"].append(row)
            print(
                f"batch {batch_size}, {row['variant']}: {1e3 * row['seconds']:.1f} ms, {row['ratio']:.3f} ({row['low']:.3f} to {row['high']:.3f})",
                flush=True,
            )
        content = {name: value for name, value in found[0].items() if name != "rows"} | {"rows": content["rows"]}
        out = options.out or RESULTS / f"language_{content['platform']}.json"
        out.write_text(json.dumps(content, indent=1) + "\n")
