"""Pulsed weight updates of aihwkit on one core, to be read beside the one-core steps of `limjax bench`.

aihwkit simulates crossbar arrays of resistive devices: an update of one sample sends trains of voltage pulses along rows and
columns, and every cell takes a noisy step where two pulses meet. That is what one sample of a minibatch costs there, while a limjax
step moves every weight once per minibatch, by as many hops as barrier and request ask for. Needs aihwkit and PyTorch in an
environment of their own, nothing of limjax:

    python -m venv peer && peer/bin/pip install aihwkit && taskset -c 0 peer/bin/python benchmarks/aihwkit_update.py
"""

import importlib.metadata
import json
import pathlib
import platform
import statistics
import time

import torch
from aihwkit.simulator.configs import ConstantStepDevice, SingleRPUConfig
from aihwkit.simulator.tiles import AnalogTile

RESULT = pathlib.Path(__file__).parent / "results/aihwkit_cpu_one_core.json"
SHAPES = ((784, 256), (1024, 1024))
# Sizes of inputs and errors: pulses on nearly every line, and the few of a late phase of training.
INPUTS = {"dense pulses": 1.0, "sparse pulses": 0.1}


def seconds_per_update(inputs: int, outputs: int, scale: float, rounds: int = 15, updates: int = 20) -> float:
    """Median time of the update of one sample [s]."""
    torch.manual_seed(0)
    tile = AnalogTile(outputs, inputs, SingleRPUConfig(device=ConstantStepDevice()))
    tile.set_learning_rate(0.01)
    x, d = scale * torch.rand(1, inputs), scale * torch.rand(1, outputs)
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        for _ in range(updates):
            tile.update(x, d)
        times.append((time.perf_counter() - began) / updates)
    return statistics.median(times[1:])


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for inputs, outputs in SHAPES:
        for name, scale in INPUTS.items():
            seconds = seconds_per_update(inputs, outputs, scale)
            rows.append(
                {
                    "shape": [inputs, outputs],
                    "pulses": name,
                    "seconds": seconds,
                    "cells_per_second": inputs * outputs / seconds,
                }
            )
            print(f"{inputs} x {outputs}, {name}: {1e-6 * rows[-1]['cells_per_second']:.0f} million cells/s")
    versions = {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in ("aihwkit", "torch")
    }
    RESULT.write_text(json.dumps({"device": "cpu", "cpu_cores": 1, "versions": versions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
