"""What the ledger costs on a GPU or TPU: steps at 1e8 and 1e9 parameters, samplers, a transformer of 10 million parameters.

Writes `benchmarks/results/bench_<platform>.json`, which `benchmarks/page.py` shows, and prints the ratios beside what is aimed
at. The largest size is measured one mode at a time, each beside bare Adam; a mode that does not fit is said so. Smaller numbers
try the script on a CPU:

    python benchmarks/accelerator.py
    python benchmarks/accelerator.py --size 1e5 --largest 1e6 --width 32 --layers 1 --context 32 --rounds 2 --out /tmp/try.json
"""

import argparse
import json
import pathlib

import jax

from limjax.benchmarks import (
    compiled_step,
    measure_activities,
    measure_memory,
    measure_samplers,
    measure_steps,
    measure_training,
    step_modes,
    steps_per_wait,
)
from limjax.tasks import char_transformer
from limjax.versions import machine

RESULTS = pathlib.Path(__file__).parent / "results"
AIMS = {"ledger": 1.25, "ledger, compensated": 1.45, "gaussian": 1.3, "exact": 1.7}
"""Ratios to bare Adam aimed at for 1e8 parameters on an H100."""
COPY = "one array read and written (x + 1)"


def largest(size: int, rounds: int) -> list[dict]:
    """Every mode alone beside bare Adam; the size may be near the memory's end."""
    rows = []
    for mode in [m for m in step_modes() if m != "Adam"]:
        compiled_step.cache_clear()
        try:
            measured = measure_steps([size], rounds, modes=(mode,))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            rows.append({"parameters": size, "mode": mode, "fits": False})
            continue
        rows += [{**row, "fits": True} for row in measured if row["mode"] == mode]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=1e8)
    parser.add_argument("--largest", type=float, default=1e9)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    content = machine() | {"steps_per_wait": steps_per_wait()}
    path = options.out or RESULTS / f"bench_{jax.devices()[0].platform}.json"

    def save(part, rows):
        content[part] = rows
        path.write_text(json.dumps(content, indent=1) + "\n")

    save("steps", measure_steps([int(options.size)], options.rounds))
    at = {row["mode"]: row for row in content["steps"]}
    copied = at[COPY]["bytes_per_second"]
    print(f"{content['device']}: {options.size:.0e} parameters, a copy moves {1e-9 * copied:.0f} GB/s")
    save("memory", measure_memory(int(options.size)))
    moved = {row["mode"]: row["least_traffic"] for row in content["memory"]}
    for mode in step_modes():
        share = moved[mode] * options.size / at[mode]["seconds"] / copied
        aim = f" (aim {AIMS[mode]})" if mode in AIMS else ""
        print(f"  {mode}: {at[mode]['ratio']:.2f} of bare Adam{aim}, {share:.0%} of the copy's bandwidth", flush=True)
    save("activities", measure_activities(int(options.size), options.rounds))
    for row in content["activities"]:
        print(f"  {row['mode']}, {row['hops_per_parameter']:.3g} hops: {row['ratio']:.2f} (aim 2.2 for any rate)")
    save("samplers", measure_samplers(rounds=options.rounds))
    save("largest", largest(int(options.largest), max(3, options.rounds // 2)))
    for row in content["largest"]:
        fits = f"{row['ratio']:.2f} of bare Adam" if row["fits"] else "does not fit beside Adam"
        print(f"  {row['mode']} at {row['parameters']:.0e}: {fits}", flush=True)
    task = char_transformer(options.width, options.layers, context=options.context)
    # Some of the variants: a transformer compiles for a quarter of a minute in each.
    variants = ("mean, per leaf", "gaussian", "exact", "exact, per leaf", "exact, per leaf, barrier per parameter")
    save("training", measure_training(task, options.rounds, steps=20, batch_size=32, variants=variants))
    for row in content["training"]:
        print(f"  transformer of {row['parameters']:,}: {row['variant']} {row['ratio']:.3f} (aim 1.03 for exact)")


if __name__ == "__main__":
    main()
