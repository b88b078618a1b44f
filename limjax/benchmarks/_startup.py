"""What a user waits for before the first step: the import and the compiler."""

import statistics
import subprocess
import sys
import time
from typing import Any

from limjax.benchmarks._steps import compiled_step, step_modes


def measure_startup(parameters: int = 10_000, repeats: int = 3) -> dict[str, Any]:
    """Import times in fresh processes and compile times of the step.

    Args:
        parameters: size of the array whose step is compiled.
        repeats: fresh processes; the median counts.

    Returns:
        `import_seconds` of limjax and `jax_import_seconds` of its dependencies alone (jax, equinox, optax), and
        `compile_seconds` by mode.
    """

    def imported(names: str) -> float:
        # Timed inside the process: the start of the interpreter is not the import.
        code = f"import time; t = time.perf_counter(); import {names}; print(time.perf_counter() - t)"
        runs = [
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            for _ in range(repeats)
        ]
        return statistics.median(float(run.stdout) for run in runs)

    seconds = {}
    for mode in step_modes():
        # Or a mode that another measurement compiled would take no time.
        compiled_step.cache_clear()
        began = time.perf_counter()
        compiled_step(mode, parameters)
        seconds[mode] = time.perf_counter() - began
    return {
        "import_seconds": imported("limjax"),
        "jax_import_seconds": imported("jax, jax.numpy, equinox, optax"),
        "compile_seconds": seconds,
    }
