"""What `limjax scale` measured, as a page, and the runs that come with limjax.

    limjax scale --sizes 3e3,1e4,3e4,1e5,3e5 --seeds 3 --barrier moment:scale=0.03 --out runs/growth
    limjax scale --sizes 3e3,1e4,3e4,1e5 --seeds 3 --barrier moment:scale=0.03 --batch-size 32 --out runs/growth-32
    limjax scale --sizes 1e4,3e4,1e5 --seeds 3 --barrier moment:scale=0.03 --batch-size 128 --out runs/growth-128
    limjax scale --sizes 1e4,3e5 --seeds 1 --barrier moment:scale=0.03 --batch-size 32 --out runs/growth-32-large
    limjax scale --sizes 3e5 --seeds 3 --barrier moment:scale=0.03 --batch-size 128 --out runs/growth-128-large
    limjax scale --sizes 1e4,1e6 --seeds 1 --barrier moment:scale=0.03 --batch-size 128 --out runs/growth-128-million
    python examples/growth_table.py runs/growth*
    python examples/growth_table.py benchmarks/results/growth.json runs/growth-more    # what was measured before, and more

The first folder is what comes with limjax and is continued; those of another batch size stand beside it, and several of one are joined. Writes `docs/results/growth.md` with its figure, `benchmarks/results/growth.json` and `limjax/limits/catalogue/growth.json`.
"""

import argparse
import dataclasses
import itertools
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from limjax import ArrheniusCell, MomentBarrier
from limjax.barriers import barrier_from_name
from limjax.limits import MeasuredRun, fit_growth, leave_largest_out, measured_limit
from limjax.limits._growth import EARLIER
from limjax.numerics._present_names import with_present_names
from limjax.plots.scaling import energy_by_steps, save_growth_figure
from limjax.scaling import Bins
from limjax.sweeps._seeds import mean_text

ROOT = pathlib.Path(__file__).parents[1]
LARGE = 1e15
STEPS_FIGURE = "growth_steps.png"
NAMED = {
    "energy_kt_per_parameter": "heat and barrier work",
    "effective_updates": "effective updates",
    "law_kt_per_parameter": "the law, 2 ln(L0/LT) + 2 n_eff",
}


def page(contents: Sequence[dict], sweeps: Sequence[Sequence[MeasuredRun]]) -> str:
    """The docs page, from the runs of each folder alone."""
    first, numbers = contents[0], [run for content in contents for run in content["runs"]]
    machine, settings = first["machine"], first["settings"]
    lines = [
        "# How heat grows: the measured runs",
        "",
        f"Language models on Python's standard library, {settings['tokens_per_parameter']:g} bytes per parameter, `{settings['barrier']}`, "
        f"{settings['hops']} hops, lsb {numbers[0]['lsb']:g}; means over seeds with their standard errors, per parameter. What the columns are "
        "is on [the page of the method](../scale.md).",
        "",
        "| parameters | tokens a step | seeds | steps | loss | above bare Adam | heat [kT] | a step [kT] | barrier work [kT] | n_eff | law [kT] | heat / law |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for key, here in _by_size(numbers):

        def column(name, here=here):
            return np.array([run[name] for run in here])

        above = 100 * (column("loss") / column("plain_loss") - 1)
        ratio = column("heat_kt_per_parameter").mean() / column("law_kt_per_parameter").mean()
        lines.append(
            f"| {key[1]:,} | {key[0]:,} | {len(here)} | {here[0]['steps']:,} | {mean_text(column('loss'), '.3f')} | {mean_text(above, '.1f')} % | "
            f"{mean_text(column('heat_kt_per_parameter'), '.1f')} | {column('heat_kt_per_parameter').mean() / here[0]['steps']:.2f} | {mean_text(column('actuation_kt_per_parameter'), '.2f')} | {mean_text(column('effective_updates'), '.2f')} | "
            f"{mean_text(column('law_kt_per_parameter'), '.1f')} | {ratio:.0f} |"
        )
    lines += [
        "",
        "| heat [kT] / n_eff | " + " | ".join(numbers[0]["kinds"]) + " |",
        "|---|" + "---:|" * len(numbers[0]["kinds"]),
    ]
    of_first_batch = [run for run in numbers if run["batch_tokens"] == numbers[0]["batch_tokens"]]
    for size in sorted({run["parameters"] for run in of_first_batch}):
        here = [run["kinds"] for run in of_first_batch if run["parameters"] == size]
        cells = [
            " / ".join(
                f"{np.mean([run[kind][name] for run in here]):.3g}"
                for name in ("heat_kt_per_parameter", "effective_updates")
            )
            for kind in here[0]
        ]
        lines.append(f"| {size:,} | {' | '.join(cells)} |")
    for runs in sweeps:
        lines += ["", f"At {runs[0].batch_tokens:,.0f} tokens a step:", "", *_powers(runs), "", _continued(runs)]
    lines += [
        "",
        *_between(sweeps),
        _by_step(sweeps),
        "",
        *_promised(numbers, settings["barrier"]),
        f"![Heat and barrier work per parameter against optimizer steps]({STEPS_FIGURE})",
        "",
        "![Energy of a training against its size](growth.png)",
        "",
        f"Made by `python examples/growth_table.py` from runs on {machine['device']}; "
        f"{', '.join(f'{name} {number}' for name, number in machine['versions'].items())}; text of {first['text']['bytes']:,} bytes, SHA-256 {first['text']['sha256'][:16]}.",
    ]
    return "\n".join(lines) + "\n"


def _promised(numbers: Sequence[dict], specification: str) -> list[str]:
    """What the steps of the runs promised, where it was counted, and the heat in units of what a moment barrier asks for it."""
    counted = [run for run in numbers if "promised_efolds" in run]
    # Neither cell nor steps nor rate come into a moment barrier.
    barrier = barrier_from_name(specification, ArrheniusCell(), 1, 1.0)
    if not counted or not isinstance(barrier, MomentBarrier):
        return []
    lines = [
        "What sets the price of a step ([why](../scale.md#what-sets-the-price-of-a-step)), of the runs in which it was counted:",
        "",
        "| parameters | tokens a step | seeds | steps | e-folds of the loss | promised | promised a step | heat × scale / promised |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for key, here in _by_size(counted):
        names = ("convergence_kt_per_parameter", "promised_efolds", "heat_kt_per_parameter")
        kept, promised, heat = (np.mean([run[name] for run in here]) for name in names)
        bins = Bins.of(here[0]["steps"])
        lines.append(
            f"| {key[1]:,} | {key[0]:,} | {len(here)} | {here[0]['steps']:,} | {kept / 2:.2f} | {promised:.3g} | "
            f"{promised / (bins.bins * bins.steps):.4f} | {heat * float(barrier.scale) / promised:.2f} |"
        )
    return [*lines, ""]


def _continued(runs: Sequence[MeasuredRun]) -> str:
    limit = measured_limit(runs, LARGE)
    return (
        f"Continued to {LARGE:.0e} parameters: **{limit.joules:.2g} J** ({limit.low_joules:.2g} to {limit.high_joules:.2g} J), "
        f"the law by its own power {limit.law_joules:.2g} J. "
        f"{limit.assumptions[0].upper()}{limit.assumptions[1:]}. Sizes of {max(limit.sizes) / min(limit.sizes):.0f} to 1 are no evidence that "
        f"a power law holds over {limit.extrapolation:.0e} to 1: a larger model measured outside the band would refute it."
    )


def _between(sweeps: Sequence[Sequence[MeasuredRun]]) -> list[str]:
    """Powers of the batch from one batch size to the next, size by size: there is not one for all."""
    lines, ordered = [], sorted(sweeps, key=lambda runs: runs[0].batch_tokens)
    for fewer, more in itertools.pairwise(ordered):
        tokens, told = [runs[0].batch_tokens for runs in (fewer, more)], []
        for size in sorted({run.parameters for run in fewer} & {run.parameters for run in more}):
            energy = [
                np.mean([run.energy_kt_per_parameter for run in runs if run.parameters == size])
                for runs in (fewer, more)
            ]
            told.append(f"{np.log(energy[1] / energy[0]) / np.log(tokens[1] / tokens[0]):.2f} at {size:,}")
        if told:
            lines.append(
                f"From {tokens[0]:,.0f} to {tokens[1]:,.0f} tokens a step heat and barrier work go with the tokens of a step to the power "
                f"of {', '.join(told)} parameters.  "
            )
    return [*lines, ""] if lines else []


def _by_step(sweeps: Sequence[Sequence[MeasuredRun]]) -> str:
    """The same runs by their steps, which needs no power of anything."""
    limit = measured_limit([run for runs in sweeps for run in runs], LARGE)
    # The smallest batch measured, and that of a large model of today (GPT-3, arXiv:2005.14165, table 2.1).
    batches = {min(run.batch_tokens for runs in sweeps for run in runs): "as here", 3.2e6: "as GPT-3 was trained with"}
    told = []
    for tokens, which in batches.items():
        count = limit.tokens_per_parameter * LARGE / tokens
        told.append(f"{limit.step_joules * count:.1g} J in {count:.1g} steps of {tokens:,.0f} tokens, {which}")
    return (
        f"Each step takes {limit.kt_per_step:.2g} kT per parameter ({limit.kt_per_step_low:.2g} to {limit.kt_per_step_high:.2g}) over all of "
        f"these runs. If a step costs as much at {LARGE:.0e} parameters, a training takes {limit.step_joules:.2g} J times its steps: {'; '.join(told)}. "
        "That a batch so large still wins as much by token is not known here."
    )


def _powers(runs: Sequence[MeasuredRun]) -> list[str]:
    lines = []
    for quantity, words in NAMED.items():
        fit = fit_growth(runs, quantity)
        powers = [
            f"{name.replace('_', ' ')} to the {value:.2f} ({fit.band(name)[0]:.2f} to {fit.band(name)[1]:.2f})"
            for name, value in fit.exponents.items()
        ]
        check = leave_largest_out(runs, quantity)
        within = "within" if check.is_within else "outside"
        lines.append(
            f"- **{words}**: {', '.join(powers)}. The largest size from the others: {check.predicted:.3g} "
            f"({check.low:.3g} to {check.high:.3g}) where {check.measured:.3g} was measured, {within} the band."
        )
    return lines


def _check_alike(folders: Sequence[pathlib.Path], contents: Sequence[dict]) -> None:
    """Only sizes, seeds and batches may be others: whatever else differs would be taken for growth."""

    def others(content):
        kept = {
            name: value for name, value in content["settings"].items() if name not in ("sizes", "seeds", "batch_size")
        }
        # Earlier versions did not write what was not set.
        return {name: value for name, value in kept.items() if value is not None} | {"text": content["text"]["sha256"]}

    for folder, content in zip(folders, contents):
        wanted, found = others(contents[0]), others(content)
        for name in sorted({*wanted, *found}):
            if wanted.get(name) != found.get(name):
                raise ValueError(
                    f"{folder} has {name} = {found.get(name)!r}, and {folders[0]} {wanted.get(name)!r}: runs of one page differ in "
                    "sizes, seeds and batch only. Leave that folder out."
                )


def read_sweeps(paths: Sequence[pathlib.Path]) -> tuple[list[pathlib.Path], list[dict]]:
    """What folders of `limjax scale` hold, and what this program wrote of others, each with where it is from."""
    found = []
    for path in paths:
        content = json.loads((path / "scaling.json" if path.is_dir() else path).read_text(encoding="utf-8"))
        found += [(path, with_present_names(sweep, EARLIER)) for sweep in content.get("sweeps", [content])]
    return [path for path, _ in found], [content for _, content in found]


def _which(run: dict) -> tuple[float, int, int]:
    return run["batch_tokens"], run["parameters"], run["seed"]


def _by_size(runs: Sequence[dict]) -> list[tuple[tuple[float, int], list[dict]]]:
    """The seeds of each batch and size, in order."""
    found: dict[tuple[float, int], list[dict]] = {}
    for run in runs:
        found.setdefault(_which(run)[:2], []).append(run)
    return sorted(found.items())


def main(paths: Sequence[pathlib.Path], out: pathlib.Path) -> None:
    folders, contents = read_sweeps(paths)
    _check_alike(folders, contents)
    # What comes with limjax is of the first batch that is given.
    shipped_batch = next(run["batch_tokens"] for content in contents for run in content["runs"])
    # A run may have been made again, for a folder of further sizes or with more that is counted: the last one counts.
    last = {_which(run): i for i, content in enumerate(contents) for run in content["runs"]}
    for i, content in enumerate(contents):
        content["runs"] = [run for run in content["runs"] if last[_which(run)] == i]
    contents = [content for content in contents if content["runs"]]
    contents.sort(key=lambda content: content["runs"][0]["batch_tokens"] != shipped_batch)
    sweeps = {}
    for run in sorted((run for content in contents for run in content["runs"]), key=_which):
        sweeps.setdefault(run["batch_tokens"], []).append(MeasuredRun.from_json(run))
    # The shipped batch, then the others in order, however the folders were given.
    sweeps = [sweeps[tokens] for tokens in sorted(sweeps, key=lambda tokens: (tokens != shipped_batch, tokens))]
    text = page(contents, sweeps)
    results, catalogue = out / "docs/results", out / "limjax/limits/catalogue"
    for folder in (results, out / "benchmarks/results", catalogue):
        folder.mkdir(parents=True, exist_ok=True)
    (results / "growth.md").write_text(text, encoding="utf-8")
    save_growth_figure(sweeps[0], results)
    energy_by_steps([run for runs in sweeps for run in runs]).savefig(results / STEPS_FIGURE)
    whole = {"sweeps": contents, "runs": [run for content in contents for run in content["runs"]]}
    (out / "benchmarks/results/growth.json").write_text(json.dumps(whole) + "\n", encoding="utf-8")
    of_shipped = [content for content in contents if content["runs"][0]["batch_tokens"] == shipped_batch]
    provenance = {name: contents[0][name] for name in ("text", "machine", "settings")}
    sizes = sorted({size for content in of_shipped for size in content["settings"]["sizes"]})
    provenance["settings"] = contents[0]["settings"] | {"sizes": sizes}
    shipped = {"provenance": provenance, "runs": [dataclasses.asdict(run) for run in sweeps[0]]}
    (catalogue / "growth.json").write_text(json.dumps(shipped, indent=1) + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "paths", nargs="+", type=pathlib.Path, help="folders of `limjax scale`, or `growth.json` of this program"
    )
    parser.add_argument("--out", type=pathlib.Path, default=ROOT, help="folder with docs/, benchmarks/ and limjax/")
    arguments = parser.parse_args()
    main(arguments.paths, arguments.out)
