"""What the ledger costs per training step of a task: every mode against the bare optimizer, in the same run.

Writes `benchmarks/results/training_step_<platform>.json`. Runs unchanged on a GPU.
"""

import argparse
import json
import pathlib

import jax
from rich.console import Console

from limjax.benchmarks import measure_training
from limjax.cli.bench_session import _training, machine

RESULTS = pathlib.Path(__file__).parent / "results"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="digits-mlp")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    rows = measure_training(options.task, options.rounds, options.steps)
    Console().print(_training(rows))
    content = {**machine(), "rounds": options.rounds, "steps_per_round": options.steps, "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"training_step_{jax.devices()[0].platform}.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
