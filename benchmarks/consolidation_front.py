"""Old tasks against new ones as barriers may spend more work: a front by gradients through whole sequences, beside a grid.

Permuted digits, three tasks. Budget, strength and release of a `ConsolidatingBarrier` are tuned on sequences that the result is not judged on;
the grid is over budget and strength. Both are judged with exact hops on held-out sequences and seeds. Writes
`benchmarks/results/consolidation_front.json` and `docs/figures/consolidation_front.png`.
"""

import argparse
import pathlib
import time

import numpy as np

import limjax
from limjax._files import read_json, write_json
from limjax.consolidation import ContinualSettings, SequenceProblem, permuted_digits
from limjax.plots.consolidation import old_against_new
from limjax.tuning import Objective, Search, Weights
from limjax.versions import machine

ROOT = pathlib.Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "consolidation_front.json"
SETTINGS = ContinualSettings("permuted-digits", "domain", steps=100, width=24, batch_size=32, learning_rate=3e-3)
TASKS = 3
BUDGETS, STRENGTHS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32), (3.0, 30.0, 300.0)
OLD_WEIGHTS = (0.5, 0.7, 0.8, 0.87, 0.93, 0.98)
ENERGY = 2e-5  # smooth error per kT: a hundred kT weigh as much as 0.2 points
RELEASE = 1.0  # s, three times the whole sequence


def judged(problem: SequenceProblem, barrier: limjax.ConsolidatingBarrier, seeds: int) -> dict[str, float]:
    """Means over held-out sequences and seeds, and their standard errors."""
    results = [problem.trained(barrier, seed) for seed in range(1000, 1000 + seeds)]
    numbers: dict[str, float] = {}
    for name in ("old_accuracy", "new_accuracy", "heat_kt_per_parameter", "actuation_kt_per_parameter"):
        values = np.array([result.summary(8).get(name) for result in results], np.float64)
        numbers[name] = float(values.mean())
        numbers[f"{name}_error"] = float(values.std(ddof=1) / np.sqrt(seeds))
    return numbers


def measured(seeds: int, outer_steps: int, kept: dict | None) -> dict:
    """Grid and front; of a kept result the grid is not measured again."""
    sequences, held_out = (
        [permuted_digits(tasks=TASKS, seed=k) for k in some] for some in (range(1, 5), range(101, 105))
    )
    problem = SequenceProblem(SETTINGS, sequences, held_out)
    grid = [] if kept is None else kept["grid"]
    for budget in BUDGETS if kept is None else ():
        for strength in STRENGTHS:
            barrier = limjax.ConsolidatingBarrier(SETTINGS.plastic, limjax.FisherRule(strength), budget)
            grid.append({"budget": budget, "strength": strength, **judged(problem, barrier, seeds)})
            print(grid[-1], flush=True)
    nothing = limjax.ConsolidatingBarrier(SETTINGS.plastic, limjax.FisherRule(0.0))
    plain = judged(problem, nothing, seeds) if kept is None else kept["plain"]
    search = Search(
        outer_steps=outer_steps,
        outer_rate=0.5,
        seeds=4,
        held_out=4,
        selection=8,
        numbers=("rule.strength", "budget", "release"),
    )
    start, front = limjax.ConsolidatingBarrier(SETTINGS.plastic, limjax.FisherRule(30.0), 0.08, RELEASE), []
    for old in OLD_WEIGHTS:
        began = time.monotonic()
        result = limjax.tune(problem.weighing(old), Objective(Weights(energy=ENERGY)), search, barrier=start)
        found = result.barrier
        assert isinstance(found, limjax.ConsolidatingBarrier) and found.budget is not None and found.release is not None
        front.append(
            {
                "old": old,
                "strength": float(found.rule.strength),  # pyright: ignore[reportAttributeAccessIssue]
                "budget": float(found.budget),
                "release": float(found.release),
                "objective": [row.objective for row in result.history],
                "seconds": time.monotonic() - began,
                **judged(problem, found, seeds),
            }
        )
        print(front[-1], flush=True)
    words = {
        "settings": SETTINGS.to_json(),
        "tasks": TASKS,
        "seeds": seeds,
        "energy_weight": ENERGY,
        "parameters": problem.parameters,
    }
    search_words = {"outer_steps": outer_steps, "seeds": 4, "selection": 8, "outer_rate": 0.5}
    return {"machine": machine(), **words, "search": search_words, "plain": plain, "grid": grid, "front": front}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--outer-steps", type=int, default=20)
    parser.add_argument("--front-only", action="store_true", help="Keep the grid that is there.")
    parser.add_argument("--figure-only", action="store_true", help="Draw what is kept.")
    options = parser.parse_args()
    if not options.figure_only:
        kept = read_json(RESULT, "Run without --front-only.") if options.front_only else None
        write_json(RESULT, measured(options.seeds, options.outer_steps, kept))
    old_against_new(read_json(RESULT, "Run without --figure-only.")).savefig(
        ROOT / "docs" / "figures" / "consolidation_front.png"
    )


if __name__ == "__main__":
    main()
