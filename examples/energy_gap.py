"""Digits on memory of the law and on ECRAM: every energy of both trainings on one scale, from the accelerator to the limits.

Prints the table and what the gap is made of; writes `docs/results/gap.md` and `docs/figures/gap.png`. Takes about a minute on two cores.

    python examples/energy_gap.py --watts 65
"""

import argparse
import pathlib

from limjax.gap import Gap, energy_gap, gap_text
from limjax.measure import AssumedWatts
from limjax.plots.gap import gap_figure
from limjax.tasks import get_task
from limjax.training import RunSettings, execute, prepare
from limjax.versions import versions

ROOT = pathlib.Path(__file__).parents[1]
TASK = "digits-mlp"


def run(name: str, device: str | None, steps: int | None, watts: float | None) -> Gap:
    """Trains on one memory and puts its energies on one scale."""
    settings = RunSettings.of(get_task(TASK), steps=steps, memory_device=device)
    # A machine with counters is measured: counters=limjax.measure.counters_here(), or `limjax train --measure`.
    counters = None if watts is None else AssumedWatts(watts)
    return energy_gap(execute(prepare(settings), counters=counters).summary, name=name)


def page(gaps: list[Gap], text: str) -> str:
    """The docs page, from the gaps alone."""
    summary = gaps[0].run.summary
    made = ", ".join(f"{name} {number}" for name, number in versions().items())
    return f"""# Digits, every joule on one scale

`{TASK}`, {gaps[0].run.steps:,} Adam steps, hops drawn exactly, seed {summary["seed"]}: on memory whose barriers follow the law, and on an ECRAM
that pulses program. How each line is counted: [From the machine to the limit](../gap.md).

![Energies of both trainings on one logarithmic scale](../figures/gap.png)

```
{text}
```

Made by `python examples/energy_gap.py` on {summary["device"]}; {made}.
"""


def main(steps: int | None, watts: float | None, out: pathlib.Path) -> None:
    gaps = [run("barriers of the law", None, steps, watts), run("ecram", "ecram", steps, watts)]
    text = gap_text(gaps, 100)
    for folder in ("docs/results", "docs/figures"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    (out / "docs/results/gap.md").write_text(page(gaps, text), encoding="utf-8")
    gap_figure(gaps).savefig(out / "docs/figures/gap.png", dpi=100)
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=None, help="default: the task's")
    parser.add_argument(
        "--watts", type=float, default=None, help="power of this machine, for an estimate of its energy"
    )
    parser.add_argument("--out", type=pathlib.Path, default=ROOT, help="folder with docs/")
    arguments = parser.parse_args()
    main(arguments.steps, arguments.watts, arguments.out)
