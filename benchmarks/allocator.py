"""What it costs on a CPU that freed memory goes back to the system: steps with and without `keep_freed_memory`.

Each case is a process of its own. Writes `benchmarks/results/allocator_cpu.json`.
"""

import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time

RESULTS = pathlib.Path(__file__).parent / "results"
MODES = ("Adam", "ledger", "ledger, compensated", "exact")


def measure(parameters: int, rounds: int) -> list[dict]:
    """One process: every mode alone, so that the memory of one is not there for another."""
    import jax

    from limjax.benchmarks._steps import compiled_step

    rows = []
    for mode in MODES:
        compiled, arguments = compiled_step(mode, parameters)
        params, state, gradient, loss = arguments()
        times, faults = [], 0
        for i in range(rounds + 3):
            before, began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
            params, state = compiled(params, state, gradient, loss)
            jax.block_until_ready((params, state))
            if i >= 3:
                times.append(time.perf_counter() - began)
                faults += resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        nanoseconds = 1e9 * statistics.median(times) / parameters
        rows.append({"mode": mode, "nanoseconds_per_parameter": nanoseconds, "page_faults_per_step": faults / rounds})
        del params, state, gradient, loss
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e6, 1e7, 3e7])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--child", choices=("kept", "returned"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        from limjax.allocator import keep_freed_memory

        if options.child == "kept":
            assert keep_freed_memory(), "mallopt is glibc's; there is nothing to measure here"
        print(json.dumps(measure(int(options.sizes[0]), options.rounds)))
        sys.exit()
    rows = []
    for size in options.sizes:
        for child in ("returned", "kept"):
            command = [
                sys.executable,
                __file__,
                "--child",
                child,
                "--sizes",
                str(size),
                "--rounds",
                str(options.rounds),
            ]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows += [{"parameters": int(size), "freed_memory": child, **row} for row in json.loads(printed)]
            print(
                f"{size:.0e} {child:9s}", *(f"{r['mode']}: {r['nanoseconds_per_parameter']:.2f} ns" for r in rows[-4:])
            )
    from limjax.versions import machine

    content = {**machine(), "rounds": options.rounds, "rows": rows}
    (RESULTS / "allocator_cpu.json").write_text(json.dumps(content, indent=1) + "\n")
