"""A training step of a language model with and without a memory, at batches of several sizes.

Writes `benchmarks/results/language_<platform>.json`; runs unchanged on a GPU.
"""

import argparse
import json
import pathlib

import jax
from rich.console import Console

from limjax.benchmarks import measure_training
from limjax.cli.bench import training_table
from limjax.tasks import get_task
from limjax.versions import machine

RESULTS = pathlib.Path(__file__).parent / "results"
VARIANTS = ("mean, per leaf", "exact, per leaf")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="language-1m")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / f"language_{jax.default_backend()}.json")
    options = parser.parse_args()
    task, console = get_task(options.task), Console()
    content = machine() | {"context": jax.tree.leaves(task.train)[0].shape[1] - 1, "rows": []}
    for batch_size in options.batches:
        rows = measure_training(task, options.rounds, batch_size=batch_size, variants=VARIANTS)
        console.print(training_table(rows))
        content["rows"] += rows
        options.out.write_text(json.dumps(content, indent=1) + "\n")
