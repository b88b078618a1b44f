"""Ways not to forget, by accuracy and energy: each method at its best strength of a stated grid, over seeds the choice has not seen.

Every method with a strength gets eight strengths, six of a grid and two around the best of them, times two seeds (100 and 101) to choose from, by
final accuracy; the table is over seeds 0, 1, ... Finished trainings are kept in `--work` and not done again. Also the cost of a consolidating step against the step of a
per-parameter barrier. Writes `benchmarks/results/consolidation.json` and `docs/results/consolidation.md`. `--add LABEL ...` measures methods
for a kept result, new or again, and leaves its other rows alone, `--copies` what copies take in learning-in-memory cells, `--step` the cost of a step, `--page` draws the page of what is kept.
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
from limjax.consolidation import (
    NON_VOLATILE,
    ContinualSettings,
    SequenceResult,
    best_memory,
    get_sequence,
    method_of,
    table,
    train_sequence,
)
from limjax.plots.consolidation import trade_off
from limjax.versions import machine

ROOT = pathlib.Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "consolidation.json"
GRIDS = {
    "ewc": [f"ewc:strength={x:g}" for x in (1, 10, 100, 1e3, 1e4, 1e5)],
    "si": [f"si:strength={x:g}" for x in (0.01, 0.1, 1, 10, 100, 1000)],
    "barrier, Fisher": [f"barrier:fisher:strength={x:g}" for x in (0.4, 2, 10, 50, 250, 1250)],
    "barrier, path integral": [f"barrier:path-integral:strength={x:g}" for x in (0.4, 2, 10, 50, 250, 1250)],
    "barrier, use": [f"barrier:use:scale={x:g}" for x in (3, 10, 30, 100, 300, 1000)],
    "barrier, Lyapunov": [f"barrier:lyapunov:strength={x:g}" for x in (0.4, 2, 10, 50, 250, 1250)],
    "barrier, metaplastic": [f"barrier:metaplastic:steepness={x:g}" for x in (1, 2, 4, 8, 16, 32)],
}
PLAIN = {"fine-tune": "fine-tune", "replay": "replay:examples=10", "joint": "joint"}
SEQUENCES = {
    "split-digits, task": ContinualSettings("split-digits", "task"),
    "split-digits, domain": ContinualSettings("split-digits", "domain"),
    "split-digits, class": ContinualSettings("split-digits", "class"),
    "permuted-digits, domain": ContinualSettings("permuted-digits", "domain", width=128, steps=250),
}
TASKS = {one.tasks: get_sequence(one.tasks, one.scenario).train for one in SEQUENCES.values()}
CHOICE = (100, 101)
# What a rule divides an importance by is kept with each row. Rows that do not say are older: first it was all weights, then those that moved.
MEAN_OVER = "weights that had a gradient"
EARLIER, LATER = "all weights, also those without a gradient", "weights that moved"
GRID_NUMBERS = ("final_accuracy", "old_accuracy", "new_accuracy", "heat_kt_per_parameter", "actuation_kt_per_parameter")


def trained(settings: ContinualSettings, method: str, seed: int, work: pathlib.Path) -> SequenceResult:
    """One training, or its file, if this version gave it."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{settings.tasks}-{settings.scenario}-{method}-seed-{seed}")
    path = work / f"{name}.json"
    method_format = method_of(method).format
    if not path.exists() or read_json(path, "Remove it.").get("format", 1) != method_format:
        result = train_sequence(settings, method, seed)
        write_json(path, result.to_json() | {"format": method_format})
        print(f"{name}: {result.final_accuracy:.4f}, {result.seconds:.1f} s", flush=True)
    return SequenceResult.from_json(read_json(path, "Remove it."))


def chosen_of(settings: ContinualSettings, texts: list[str], work: pathlib.Path) -> tuple[dict, str]:
    """The numbers of a grid and of two strengths around its best, and the best of all."""

    def numbers(text: str) -> dict[str, float]:
        (row,) = table([trained(settings, text, seed, work) for seed in CHOICE], settings.copy_bits)
        return {name: row[name] for name in GRID_NUMBERS}

    def best() -> str:
        return max(scores, key=lambda one: scores[one]["final_accuracy"])

    def strength(text: str) -> float:
        return float(text.rpartition("=")[2])

    scores = {text: numbers(text) for text in texts}
    around = best()
    for factor in (1 / 3, 3):
        text = f"{around.rpartition('=')[0]}={strength(around) * factor:.3g}"
        scores[text] = numbers(text)
    return {text: scores[text] for text in sorted(scores, key=strength)}, best()


def compared(settings: ContinualSettings, seeds: int, work: pathlib.Path) -> dict:
    """Grid, choice and table of one sequence."""
    chosen, grids = dict(PLAIN), {}
    for label, texts in GRIDS.items():
        grids[label], chosen[label] = chosen_of(settings, texts, work)
    rows = [row_of(settings, label, text, seeds, work) for label, text in chosen.items()]
    return {"settings": settings.to_json(), "choice_seeds": list(CHOICE), "grids": grids, "methods": rows}


def row_of(settings: ContinualSettings, label: str, text: str, seeds: int, work: pathlib.Path) -> dict:
    """The line of one method."""
    found = [trained(settings, text, seed, work) for seed in range(seeds)]
    (row,) = table(found, settings.copy_bits)
    by_memory = {m: found[0].copy_joules(settings.copy_bits, m) for m in NON_VOLATILE}
    return {"label": label, **row, "copy_joules_by_memory": by_memory} | (
        {"mean_over": MEAN_OVER} if has_mean(text) else {}
    )


def has_mean(method: str) -> bool:
    """Whether a method's importances are over their mean."""
    return method.startswith(("barrier:fisher", "barrier:path-integral", "barrier:lyapunov"))


def means_of(found: dict) -> list[str]:
    """Which rows were measured with which mean of the importance, in words."""
    rows: dict[str, list[str]] = {}
    for row in found["methods"]:
        if has_mean(row["method"]):
            mean = row.get("mean_over", LATER if row["label"] in found.get("added_on", {}) else EARLIER)
            rows.setdefault(mean, []).append(row["label"])
    if list(rows) in ([], [MEAN_OVER]):
        return []
    names = {mean: " and ".join(label.removeprefix("barrier, ") for label in labels) for mean, labels in rows.items()}
    words = "; ".join(f"{labels}, over {mean}" for mean, labels in names.items())
    return [
        f"The mean that an importance is divided by, as these rows were measured: {words}. limjax now takes it over {MEAN_OVER}: there the same barriers "
        "need the strength of the first kind divided by the share of weights that had one.",
        "",
    ]


def later_of(content: dict, found: dict) -> list[str]:
    """Rows that were measured after the others, with the machine where it was another one."""
    labels: dict[str, list[str]] = {}
    for label, where in found["added_on"].items():
        labels.setdefault("" if where == content["machine"] else f" on {json.dumps(where)}", []).append(label)
    return ["; ".join(some) + where for where, some in labels.items()]


def added(content: dict, labels: list[str], names: list[str], seeds: int, work: pathlib.Path) -> None:
    """Measures methods for kept sequences on this machine: new rows come last, others keep their place."""
    for name in names:
        settings, found = SEQUENCES[name], content["sequences"][name]
        kept = found["settings"], found["methods"][0]["seeds"]
        if (settings.to_json(), seeds) != kept:
            raise ValueError(
                f"{name} is kept with other settings or seeds, {kept}: measure all of it again, without --add."
            )
        rows = {row["label"]: row for row in found["methods"]}
        for label in labels:
            found["grids"][label], text = chosen_of(settings, GRIDS[label], work)
            rows[label] = row_of(settings, label, text, seeds, work)
            found.setdefault("added_on", {})[label] = machine()
        found["methods"] = list(rows.values())


def copies(content: dict, work: pathlib.Path) -> None:
    """Heat of the copies of every method that copies, one seed, if they were written to learning-in-memory cells."""
    for name, found in content["sequences"].items():
        rows = [row for row in found["methods"] if row["copy_joules"] > 0]
        results = {row["label"]: trained(SEQUENCES[name], row["method"], 0, work) for row in rows}
        found["copy_heat_kt_per_parameter"] = {
            label: result.summary(SEQUENCES[name].copy_bits)["copy_heat_kt_per_parameter"]
            for label, result in results.items()
        }


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
        "consolidating, Lyapunov": (weak, limjax.ConsolidatingBarrier(16.0, limjax.LyapunovRule())),
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


def kept_of(row: dict, tasks: int) -> str:
    """Numbers per weight that stand in long-term memory at the end: those of the code that is there, and of the published form."""
    copied = method_of(row["method"]).copies
    if copied.published is not None:
        return f"{copied.written} (as published {copied.published(tasks - 1)})"
    return f"{copied.written}" if copied.written else f"{row['kept_numbers_per_weight']:.3g}"


def copies_page(content: dict) -> list[str]:
    """What the copies take, by where they go."""
    names = [name for name in NON_VOLATILE if name != "STT-MRAM"]
    lines = [
        "## Where copies go",
        "",
        "The copies of a whole sequence, in joules at the device for each memory of the catalogue, and as heat of the same copies if they were written to "
        "learning-in-memory cells whose driver is at its end: 6 kT for every level moved, numbers of 8 bits with their sign, each array scaled to its "
        "largest (one seed). The two are never added: the one is what published devices take, the other the model's heat at full drive; slow writes take less.",
        "",
        f"| sequence | method | {' | '.join(f'{name} J' for name in names)} | as LIM kT/weight | as LIM J |",
        f"|---|---|{'---:|' * (len(names) + 2)}",
    ]
    for name, found in content["sequences"].items():
        for row in found["methods"]:
            heat = found.get("copy_heat_kt_per_parameter", {}).get(row["label"])
            if not row["copy_joules"] or heat is None:
                continue
            joules = heat * row["heat_joules"] / row["heat_kt_per_parameter"]
            devices = " | ".join(f"{row['copy_joules_by_memory'][one]:.2g}" for one in names)
            lines.append(f"| {name} | {row['label']} | {devices} | {heat:.0f} | {joules:.2g} |")
    return [*lines, ""]


def one_currency_page(content: dict) -> list[str]:
    """What each method takes beyond fine-tuning if its copies are written to learning-in-memory cells too."""
    lines = [
        "## In one currency",
        "",
        "If copies are written to learning-in-memory cells at full drive as well, everything is model heat and can be added: heat of updates beyond "
        "fine-tuning's, work to move barriers, and copies, in kT per weight. Not in it: reading copies back in every step, which springs need, and the controller. "
        "Below 0: less than fine-tuning.",
        "",
        "| sequence | method | final accuracy | heat beyond fine-tuning | barrier work | copies | sum |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name, found in content["sequences"].items():
        rows = {row["label"]: row for row in found["methods"]}
        for label, row in rows.items():
            copied = found.get("copy_heat_kt_per_parameter", {}).get(label, 0.0 if not row["copy_joules"] else None)
            if label in ("fine-tune", "joint") or copied is None:
                continue
            later = row["heat_kt_per_parameter"] - rows["fine-tune"]["heat_kt_per_parameter"]
            work = row["actuation_kt_per_parameter"] if row["actuation_kt_per_parameter"] > 1e-9 else 0.0
            lines.append(
                f"| {name} | {label} | {row['final_accuracy']:.3f} | {later:+.0f} | {work:.2g} | {copied:.0f} | {later + work + copied:+.0f} |"
            )
    return [*lines, ""]


def page(content: dict) -> str:
    """The tables as a page."""
    lines = [
        "# Consolidation, measured",
        "",
        "`python benchmarks/consolidation.py` made this page. Means over seeds with standard errors; every method with a strength had eight "
        "strengths, six of a grid and two around the best of them, and two other seeds to choose from. Adam 1e-3, exact hops, plastic barrier 16 kT, a driver of 6 kT for all. "
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
            "| method | chosen | final accuracy | new tasks | backward transfer | heat kT/weight | barrier work J | copies J | kept numbers per weight | changed in each step |",
            "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for row in found["methods"]:
            work = row["actuation_joules"] if row["actuation_kt_per_parameter"] > 1e-9 else 0.0
            error = row["final_accuracy_error"]
            lines.append(
                f"| {row['label']} | `{row['method']}` | {row['final_accuracy']:.3f} ± {error or 0:.3f} | {row['new_accuracy']:.3f} | "
                f"{row['backward_transfer']:+.3f} | {row['heat_kt_per_parameter']:.0f} | {work:.2g} | {row['copy_joules']:.2g} | "
                f"{kept_of(row, len(TASKS[settings['tasks']]))} | {method_of(row['method']).running} |"
            )
        lines.append("")
        if found.get("added_on"):
            lines += [f"Measured later, with the same settings and seeds: {'; '.join(later_of(content, found))}.", ""]
        lines += means_of(found)
    lines += copies_page(content) + one_currency_page(content)
    cost = content["step"]
    first = next(iter(cost["ratio"]))
    lines += [
        "## Cost of a step",
        "",
        f"{cost['parameters']:,} parameters, mean hops, ledger per array, Adam included. The cases take turns; a ratio is the median over the rounds "
        "of the time over the reference's in the same round, which a machine that is shared with other work disturbs least. The reference takes "
        f"{cost['microseconds'][first]:.0f} µs, a median as well.",
        "",
        "| barrier | ratio |",
        "|---|---:|",
    ]
    lines += [f"| {name} | {ratio:.2f} |" for name, ratio in cost["ratio"].items()]
    lines += ["", f"Measured on: {json.dumps(content['machine'])}.", ""]
    if cost.get("machine") not in (None, content["machine"]):
        lines[-1:] = ["", f"Step measured on: {json.dumps(cost['machine'])}.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("runs/consolidation"))
    parser.add_argument("--sequences", nargs="*", default=list(SEQUENCES))
    parser.add_argument("--trainings-only", action="store_true")
    parser.add_argument("--add", nargs="+", metavar="LABEL", choices=list(GRIDS), help="; ".join(GRIDS))
    for one in ("copies", "step", "page"):
        parser.add_argument(f"--{one}", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.add or options.copies or options.step or options.page:
        content = read_json(RESULT, "Run without --add, --copies, --step and --page.")
        if options.add:
            added(content, options.add, options.sequences, options.seeds, options.work)
        if options.copies:
            copies(content, options.work)
        if options.step:
            content["step"] = step_cost() | {"machine": machine()}
        written(content)
        return
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
    copies(content, options.work)
    written(content)


def written(content: dict) -> None:
    """Keeps the result, and makes figure and page of it."""
    write_json(RESULT, content)
    grids = {name: sequence["grids"] for name, sequence in content["sequences"].items()}
    trade_off(grids).savefig(ROOT / "docs" / "figures" / "consolidation.png")
    (ROOT / "docs" / "results" / "consolidation.md").write_text(page(content), encoding="utf-8")


if __name__ == "__main__":
    main()
