"""What `limjax gap` takes on the default run, in seconds of the CPU, beside the imports it cannot do without.

Every command is a process of its own; the smallest of several is kept, as other work on the machine only adds. Writes
`benchmarks/results/gap_<platform>.json`.

    python benchmarks/gap.py
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile

from limjax.versions import machine

RESULTS = pathlib.Path(__file__).parent / "results"
WAYS = {
    "python": ["-c", "pass"],
    "import jax": ["-c", "import jax"],
    "import limjax": ["-c", "import limjax"],
    "import limjax.gap": ["-c", "import limjax.gap"],
    "limjax gap RUN": ["-m", "limjax", "gap", "RUN"],
    "limjax gap RUN --out gap.png": ["-m", "limjax", "gap", "RUN", "--out", "gap.png"],
}


def cpu_seconds(words: list[str], folder: str) -> float:
    """Seconds of the CPU of one command, in user and system together."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main(rounds: int, steps: int | None, out: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        length = [] if steps is None else ["--steps", str(steps)]
        subprocess.run(
            [sys.executable, "-m", "limjax", "train", "--out", "RUN", "--no-figures", "--no-plain", *length],
            cwd=folder, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        seconds = {}
        for name, words in WAYS.items():
            found = []
            for _ in range(rounds):
                (pathlib.Path(folder) / "gap.png").unlink(missing_ok=True)
                found.append(cpu_seconds(words, folder))
            seconds[name] = min(found)
            print(f"{name}: {seconds[name]:.2f} s", flush=True)
    own = seconds["limjax gap RUN"] - seconds["import limjax.gap"]
    print(f"limjax gap beyond its imports: {own:.2f} s")
    content = machine() | {"rounds": rounds, "cpu_seconds": seconds, "beyond_imports": own}
    out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=None, help="of the run; default: the task's")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "gap_cpu.json")
    arguments = parser.parse_args()
    main(arguments.rounds, arguments.steps, arguments.out)
