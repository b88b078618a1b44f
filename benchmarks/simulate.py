"""Trajectory-steps per second of a dragged trap, against vectorised NumPy and a numba-compiled loop in the same run.

10,000 overdamped trajectories of 1,000 steps in float32 with work and heat. NumPy, numba and "limjax, euler" do the same Euler
step; "limjax, heun" does twice the forces. The numba loop runs over trajectories in parallel, as langesim's does, and both it
and langesim are measured if they are installed (`pip install numba langesim`). Rounds alternate; ratios are of medians.
Also the time of a gradient over that of its forward run, and the memory of a gradient through more and more steps.
Writes `benchmarks/results/simulate_<platform>.json`; `--scale 1000` multiplies the trajectories, for a GPU.
"""

import argparse
import json
import math
import os
import pathlib
import platform
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from limjax.simulate import LinearProtocol, MovingTrap, overdamped
from limjax.versions import versions

RESULTS = pathlib.Path(__file__).parent / "results"
STEPS, DURATION, DISTANCE = 1000, 1.0, 5.0


def with_numpy(count: int):
    rng = np.random.default_rng(0)
    dt = np.float32(DURATION / STEPS)
    noise = np.float32(math.sqrt(2 * dt))
    centers = (DISTANCE * (np.arange(STEPS) + 0.5) / STEPS).astype(np.float32)

    def run():
        x = rng.standard_normal(count, np.float32)
        first = 0.5 * x * x
        work, center = np.zeros(count, np.float32), np.float32(0)
        for following in centers:
            work += 0.5 * (np.square(x - following) - np.square(x - center))
            center = following
            x += dt * (center - x) + noise * rng.standard_normal(count, np.float32)
        work += 0.5 * (np.square(x - DISTANCE) - np.square(x - center))
        heat = work - (0.5 * np.square(x - DISTANCE) - first)
        return work.mean(), heat.mean()

    return run


def with_numba(count: int):
    try:
        import numba
    except ImportError:
        return None
    dt = np.float32(DURATION / STEPS)
    noise = np.float32(math.sqrt(2 * dt))

    @numba.njit(parallel=True, fastmath=True)
    def loop(work, heat):
        half, end = np.float32(0.5), np.float32(DISTANCE)
        for i in numba.prange(work.size):
            x = np.float32(np.random.normal())  # noqa: NPY002 (what numba compiles)
            first, w, center = half * x * x, np.float32(0), np.float32(0)
            for k in range(STEPS):
                following = np.float32(DISTANCE * (k + 0.5) / STEPS)
                w += half * ((x - following) ** 2 - (x - center) ** 2)
                center = following
                x += dt * (center - x) + noise * np.float32(np.random.normal())  # noqa: NPY002 (what numba compiles)
            w += half * ((x - end) ** 2 - (x - center) ** 2)
            work[i] = w
            heat[i] = w - (half * (x - end) ** 2 - first)

    def run():
        work, heat = np.empty(count, np.float32), np.empty(count, np.float32)
        loop(work, heat)
        return work.mean(), heat.mean()

    return run


def with_langesim(count: int):
    try:
        import langesim
    except ImportError:
        return None
    simulate = langesim.make_simulator(
        tot_sims=count, dt=DURATION / STEPS, tot_steps=STEPS, snapshot_step=STEPS,
        center=lambda t: DISTANCE * t / DURATION,
    )  # fmt: skip

    def run():
        _, _, _, work, heat, *_ = simulate()
        # Its heat is what the particle takes up.
        return work[:, -1].mean(), -heat[:, -1].mean()

    return run


def with_limjax(count: int, method: str):
    drag = LinearProtocol(0.0, DISTANCE, DURATION)

    @jax.jit
    def simulate(key):
        start_key, key = jax.random.split(key)
        run = overdamped(MovingTrap(), drag, jax.random.normal(start_key, (count,)), key, steps=STEPS, method=method)
        return jnp.mean(run.work), jnp.mean(run.heat)

    keys = iter(range(10**9))
    return lambda: jax.block_until_ready(simulate(jax.random.key(next(keys))))


def gradients(console: Console) -> list[dict]:
    rows = []
    for steps in (400, 1600, 6400, 25600):

        def cost(knots, steps=steps):
            drag = LinearProtocol(0.0, DISTANCE, DURATION, knots)
            return jnp.mean(overdamped(MovingTrap(), drag, jnp.zeros(2000), jax.random.key(0), steps=steps).work)

        knots = jnp.linspace(0.0, DISTANCE, 16)
        forward = jax.jit(cost).lower(knots).compile()
        backward = jax.jit(jax.value_and_grad(cost)).lower(knots).compile()
        times = {}
        for name, function in (("forward", forward), ("gradient", backward)):
            taken = []
            for _ in range(4):
                begin = time.perf_counter()
                jax.block_until_ready(function(knots))
                taken.append(time.perf_counter() - begin)
            times[name] = statistics.median(taken[1:])
        memory = backward.memory_analysis().temp_size_in_bytes
        rows.append({"steps": steps, "bytes": memory, **times, "ratio": times["gradient"] / times["forward"]})
        console.print(f"gradient through {steps} steps: {memory / 1e6:.2f} MB, {rows[-1]['ratio']:.2f} x forward")
    return rows


def main(scale: int, rounds: int) -> None:
    console, count = Console(), 10_000 * scale
    runs = {
        "NumPy": with_numpy(count),
        "numba": with_numba(count),
        "langesim": with_langesim(count),
        "limjax, euler": with_limjax(count, "euler"),
        "limjax, heun": with_limjax(count, "heun"),
    }
    runs = {name: run for name, run in runs.items() if run is not None}
    times: dict[str, list[float]] = {name: [] for name in runs}
    means = {name: run() for name, run in runs.items()}  # compiles
    for _ in range(rounds):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begin)
    table = Table(title=f"{count:,} trajectories of {STEPS} steps")
    for name in ("", "million trajectory-steps/s", "over NumPy", "mean work [kT]", "mean heat [kT]"):
        table.add_column(name, justify="left" if not name else "right")
    rows, base = {}, statistics.median(times["NumPy"])
    for name, taken in times.items():
        median = statistics.median(taken)
        rate, (work, heat) = count * STEPS / median, map(float, means[name])
        rows[name] = {"seconds": median, "per_second": rate, "over_numpy": base / median, "work": work, "heat": heat}
        table.add_row(name, f"{rate / 1e6:.1f}", f"{base / median:.2f}", f"{work:.3f}", f"{heat:.3f}")
    console.print(table)
    device = jax.devices()[0]
    content = {
        "device": str(device.device_kind), "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(), "versions": versions(), "trajectories": count, "steps": STEPS, "rows": rows,
        "gradient": gradients(console),
    }  # fmt: skip
    path = RESULTS / f"simulate_{device.platform}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    console.print(f"Wrote {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    main(options.scale, options.rounds)
