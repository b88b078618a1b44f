"""Ways not to forget, by accuracy and energy: each method at its best strength of a stated grid, over seeds the choice has not seen.

Every method with a strength gets the same number of strengths, six, times two seeds (100 and 101) to choose from, by final accuracy; the table is over
seeds 0, 1, ... Finished trainings are kept in `--work` and not done again. Also the cost of a consolidating step against the step of a
per-parameter barrier. Writes `benchmarks/results/consolidation.json` and `docs/results/consolidation.md`.
"""

import argparse
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax

import limjax
from limjax._files import read_json, write_json
from limjax.benchmarks._timing import interleaved, median_ratio
from limjax.consolidation import NON_VOLATILE, ContinualSettings, SequenceResult, best_memory, table, train_sequence
from limjax.plots.consolidation import trade_off
from limjax.versions import machine

ROOT = pathlib.Path(__file__).parent.parent
GRIDS = {
    "ewc": [f"ewc:strength={x:g}" for x in (1, 10, 100, 1e3, 1e4, 1e5)],
    "si": [f"si:strength={x:g}" for x in (0.01, 0.1, 1, 10, 100, 1000)],
    "barrier, Fisher": [f"barrier:fisher:strength={x:g}" for x in (0.4, 2, 10, 50, 250, 1250)],
    "barrier, path integral": [f"barrier:path-integral:strength={x:g}" for x in (0.4, 2, 10, 50, 250, 1250)],
    "barrier, use": [f"barrier:use:scale={x:g}" for x in (3, 10, 30, 100, 300, 1000)],
    "barrier, metaplastic": [f"barrier:metaplastic:steepness={x:g}" for x in (1, 2, 4, 8, 16, 32)],
}
PLAIN = {"fine-tune": "fine-tune", "replay": "replay:examples=10", "joint": "joint"}
SEQUENCES = {
    "split-digits, task": ContinualSettings("split-digits", "task"),
    "split-digits, domain": ContinualSettings("split-digits", "domain"),
    "split-digits, class": ContinualSettings("split-digits", "class"),
    "permuted-digits, domain": ContinualSettings("permuted-digits", "domain", width=128, steps=250),
}
CHOICE = (100, 101)
GRID_NUMBERS = ("final_accuracy", "old_accuracy", "new_accuracy", "heat_kt_per_parameter", "actuation_kt_per_parameter")


def trained(settings: ContinualSettings, method: str, seed: int, work: pathlib.Path) -> SequenceResult:
    """One training, or its file."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{settings.tasks}-{settings.scenario}-{method}-seed-{seed}")
    path = work / f"{name}.json"
    if not path.exists():
        result = train_sequence(settings, method, seed)
        write_json(path, result.to_json())
        print(f"{name}: {result.final_accuracy:.4f}, {result.seconds:.1f} s", flush=True)
    return SequenceResult.from_json(read_json(path, "Remove it."))


def compared(settings: ContinualSettings, seeds: int, work: pathlib.Path) -> dict:
    """Grid, choice and table of one sequence."""
    chosen, grids = dict(PLAIN), {}
    for label, texts in GRIDS.items():
        scores = {}
        for text in texts:
            (row,) = table([trained(settings, text, seed, work) for seed in CHOICE], settings.copy_bits)
            scores[text] = {name: row[name] for name in GRID_NUMBERS}
        grids[label] = scores
        chosen[label] = max(scores, key=lambda text: scores[text]["final_accuracy"])
    results = {label: [trained(settings, text, seed, work) for seed in range(seeds)] for label, text in chosen.items()}
    rows = []
    for label, found in results.items():
        (row,) = table(found, settings.copy_bits)
        rows.append(
            {
                "label": label,
                **row,
                "copy_joules_by_memory": {m: found[0].copy_joules(settings.copy_bits, m) for m in NON_VOLATILE},
            }
        )
    return {"settings": settings.to_json(), "choice_seeds": list(CHOICE), "grids": grids, "methods": rows}


def step_cost(parameters: int = 200_000, rounds: int = 40) -> dict:
    """Times of one step over one array, and ratios to the step of a per-parameter barrier."""
    gradient = 1e-3 * jax.random.normal(jax.random.key(0), (parameters,))
    weak, strong = limjax.ArrheniusCell(max_affinity=6.0), limjax.ArrheniusCell()
    cases = {
        "Fisher barrier (reference)": (strong, limjax.FisherBarrier()),
        "static barrier": (strong, limjax.StaticBarrier(16.0)),
        "static barrier, driver with an end": (weak, limjax.StaticBarrier(16.0)),
        "consolidating, Fisher": (weak, limjax.ConsolidatingBarrier(16.0, limjax.FisherRule())),
        "consolidating, use": (weak, limjax.ConsolidatingBarrier(16.0, limjax.UseRule())),
        "consolidating, path integral": (weak, limjax.ConsolidatingBarrier(16.0, limjax.PathIntegralRule())),
        "consolidating, metaplastic": (weak, limjax.ConsolidatingBarrier(16.0, limjax.MetaplasticRule(5.0))),
    }
    calls = {}
    for name, (cell, barrier) in cases.items():
        optimizer = limjax.learning_in_memory(optax.adam(1e-3), cell, barrier, granularity="leaf", compare=())
        params = jax.random.normal(jax.random.key(1), (parameters,))
        carry = [params, jax.jit(optimizer.init)(params)]

        @jax.jit
        def step(params, state, optimizer=optimizer):
            updates, state = optimizer.update(gradient, state, params, value=jnp.asarray(1.0))
            return optax.apply_updates(params, updates), state

        def call(step=step, carry=carry):
            carry[:] = step(*carry)
            return carry

        calls[name] = call
    times = interleaved(calls, rounds)
    first = next(iter(times.values()))
    return {
        "parameters": parameters,
        "hops": "mean",
        "microseconds": {name: 1e6 * float(np.median(t)) for name, t in times.items()},
        "ratio": {name: median_ratio(t, first) for name, t in times.items()},
    }


def page(content: dict) -> str:
    """The tables as a page."""
    lines = [
        "# Consolidation, measured",
        "",
        "`python benchmarks/consolidation.py` made this page. Means over seeds with standard errors; every method with a strength had the same "
        "number of strengths, six, times two other seeds to choose from. Adam 1e-3, exact hops, plastic barrier 16 kT, a driver of 6 kT for all. "
        f"Copies: 8 bits a number to {content['memory']['name']}, {content['memory']['joules_per_bit']:.2g} J a bit, at the device.",
        "",
        "![Accuracy on old tasks at the end against accuracy on new ones, along the strengths of each method; colour is the heat per "
        "weight](../figures/consolidation.png)",
        "",
        "*One point for each strength of the grid, the two seeds of the choice; colour: heat of all updates per weight.*",
        "",
    ]
    for name, found in content["sequences"].items():
        settings = found["settings"]
        lines += [
            f"## {name}-incremental",
            "",
            f"2 × {settings['width']} hidden units, {settings['steps']} steps of {settings['batch_size']} per task, {found['methods'][0]['seeds']} seeds.",
            "",
            "| method | chosen | final accuracy | new tasks | backward transfer | heat kT/weight | barrier work J | copies J | kept numbers per weight |",
            "|---|---|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for row in found["methods"]:
            work = row["actuation_joules"] if row["actuation_kt_per_parameter"] > 1e-9 else 0.0
            error = row["final_accuracy_error"]
            lines.append(
                f"| {row['label']} | `{row['method']}` | {row['final_accuracy']:.3f} ± {error or 0:.3f} | {row['new_accuracy']:.3f} | "
                f"{row['backward_transfer']:+.3f} | {row['heat_kt_per_parameter']:.0f} | {work:.2g} | {row['copy_joules']:.2g} | "
                f"{row['kept_numbers_per_weight']:.3g} |"
            )
        lines.append("")
    cost = content["step"]
    lines += [
        "## Cost of a step",
        "",
        f"{cost['parameters']:,} parameters, mean hops, ledger per array, Adam included.",
        "",
    ]
    lines += ["| barrier | µs | ratio |", "|---|---:|---:|"]
    lines += [f"| {name} | {cost['microseconds'][name]:.0f} | {ratio:.2f} |" for name, ratio in cost["ratio"].items()]
    said = content["machine"]
    lines += ["", f"Measured on: {json.dumps(said)}.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("runs/consolidation"))
    parser.add_argument("--sequences", nargs="*", default=list(SEQUENCES))
    parser.add_argument("--trainings-only", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    found = {name: compared(SEQUENCES[name], options.seeds, options.work) for name in options.sequences}
    if options.trainings_only:
        return
    record = best_memory()
    content = {
        "machine": machine(),
        "memory": {"name": record.name, "joules_per_bit": record.si, "source": record.source},
        "sequences": found,
        "step": step_cost(),
    }
    write_json(ROOT / "benchmarks" / "results" / "consolidation.json", content)
    trade_off({name: sequence["grids"] for name, sequence in found.items()}).savefig(
        ROOT / "docs" / "figures" / "consolidation.png"
    )
    (ROOT / "docs" / "results" / "consolidation.md").write_text(page(content), encoding="utf-8")
    print(page(content))


if __name__ == "__main__":
    main()
