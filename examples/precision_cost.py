"""What precision costs: heat against excess of the loss, for language models of several sizes and for barriers of other forms than the law's.

    python examples/precision_cost.py

Every size is trained with the law's barrier at several scales of the exchange and without a memory, exact hops: a smaller scale scatters less and
is dearer. The energy at one excess of the test loss over bare Adam's is read between the scales. The second table has forms that differ from
the law's in how the exchange is shared out over the parameters, or in its course over the run. The third trains longer instead: what a
loss costs that bare Adam reaches in a shorter time.

Writes `benchmarks/results/precision_cost.json`, `docs/results/precision_cost.md` and `docs/results/precision_cost.png`. Each comparison is kept in
`--work` as `limjax compare` keeps it, and the same command goes on. The default takes about an hour and a half on two cores.
"""

import argparse
import itertools
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import limjax
from limjax.numerics._elementary import safe_log
from limjax.numerics._result_code import ResultCode
from limjax.plots._style import figure, plain_numbers
from limjax.sweeps import CompareResult, compare
from limjax.sweeps._seeds import energy_at, jackknife, least_energy, mean_text
from limjax.tasks import get_task
from limjax.tasks._language import TOKENS_PER_PARAMETER, Shape, size_text, steps_for
from limjax.versions import machine

ROOT = pathlib.Path(__file__).parents[1]
RESULT = "benchmarks/results/precision_cost.json"
TARGETS = (0.01, 0.03)
"""Excesses at which the energy is read."""
FORMS_TARGET = 0.04
"""The same for the forms: between the two scales of each of them."""
COLOURS = ("#c44536", "#e09f3e", "#1f6f8b", "#264653", "#9b5de5")


class Sweep(NamedTuple):
    """One size at one batch: how many seeds, the scales of the barrier, and how many times the usual tokens."""

    size: float
    batch_size: int
    seeds: int
    scales: tuple[float, ...] = (0.3, 0.1, 0.03)
    times: int = 1

    @property
    def shape(self) -> Shape:
        return Shape.of(self.size)

    @property
    def steps(self) -> int:
        return steps_for(self.shape, self.times * TOKENS_PER_PARAMETER, self.batch_size)

    @property
    def folder(self) -> str:
        return f"{size_text(self.size)}-{self.batch_size}" + (f"-x{self.times}" if self.times > 1 else "")


SWEEPS = (
    Sweep(1e4, 8, 8),
    Sweep(3e4, 8, 4),
    Sweep(1e5, 8, 2),
    Sweep(1e4, 128, 8),
    Sweep(3e4, 128, 4),
)
LONGER = tuple(
    Sweep(size, 8, seeds, (1.0, 0.3, 0.1), times) for size, seeds in ((1e4, 8), (3e4, 4)) for times in (2, 4)
)
FORMS_AT = Sweep(1e4, 8, 8, (0.3, 0.1))


class OtherForm(limjax.AbstractBarrier):
    """The moment barrier with other powers of requests and gradients in the exchange, and another course of its scale.

    In all it makes the same disturbance Σ q g as the law at that scale, q the root of the mean squared gradient: only who hops is another.
    """

    name: ClassVar[str] = "other-form"
    shape_free: ClassVar[bool] = True
    law: limjax.MomentBarrier
    request_power: jax.Array
    gradient_power: jax.Array
    change: jax.Array
    steps: jax.Array

    def __init__(self, scale, steps, request_power=0.5, gradient_power=-0.25, change=1.0):
        self.law = limjax.MomentBarrier(scale)
        numbers = (request_power, gradient_power, change, steps)
        self.request_power, self.gradient_power, self.change, self.steps = map(jnp.float32, numbers)

    @property
    def scope(self):
        return self.law.scope

    def init(self, params):
        return self.law.init(params)

    def evaluate(self, inputs, state):
        # From the root of `change` below the scale to the root above it, so that the mean of its logarithm stays.
        course = jnp.exp(jnp.log(self.change) * (inputs.step / self.steps - 0.5))
        law = eqx.tree_at(lambda barrier: barrier.scale, self.law, self.law.scale * course)
        barrier, state = law.evaluate(inputs, state)
        requests, gradients = ([safe_log(x) for x in some] for some in (state.requests, state.gradients))
        shares = [self.request_power * s + self.gradient_power * v for s, v in zip(requests, gradients)]
        exchanges = [inputs.cell.log_exchange(b) for b in barrier]
        made, other = (
            jax.nn.logsumexp(jnp.stack([jax.nn.logsumexp(0.5 * v + g) for v, g in zip(gradients, some)]))
            for some in (exchanges, shares)
        )
        return [inputs.cell.barrier(share + (made - other)) for share in shares], state


FORMS: dict[str, dict[str, float]] = {
    "the law: √(s/q)": {},
    "one exchange for all": {"request_power": 0.0, "gradient_power": 0.0},
    "by curvature alone, 1/√q": {"request_power": 0.0},
    "by requests alone, √s": {"gradient_power": 0.0},
    "√s/q": {"gradient_power": -0.5},
    "s/√q": {"request_power": 1.0},
    "law, scale rising tenfold over the run": {"change": 10.0},
    "law, scale falling tenfold": {"change": 0.1},
}
"""Powers of s, the mean squared request, and q², the mean squared gradient, and the course of the scale; the law's where nothing is said."""


def trained(sweep: Sweep, barriers: Sequence[Any], folder: pathlib.Path) -> CompareResult:
    """Plain training and these barriers, from the folder where it has them."""
    found = compare(
        get_task(f"language-{size_text(sweep.size)}"),
        barriers,
        seeds=sweep.seeds,
        steps=sweep.steps,
        batch_size=sweep.batch_size,
        folder=folder,
        on_progress=lambda done, count, name: print(f"{folder.name}: {done} of {count} done, {name}", flush=True),
    )
    if found.result != ResultCode.completed:
        raise SystemExit(f"Stopped; what is trained is in {folder}, and the same command goes on.")
    return found


def numbers(found: CompareResult, scales: Sequence[float]) -> dict[str, Any]:
    """Every seed's loss and energy at each scale; plain training is the first row."""
    assert found.plain is not None
    rows = zip(scales, found.rows[1:], strict=True)
    return {
        "plain_test_loss": found.plain.test_loss.tolist(),
        "rows": [
            {"scale": s, "test_loss": row.test_loss.tolist(), "energy_kt_per_parameter": row.energy_kt_per_parameter.tolist()}
            for s, row in rows
        ],
    }  # fmt: skip


def of_sweep(sweep: Sweep, work: pathlib.Path) -> dict[str, Any]:
    found = trained(sweep, [f"moment:scale={scale:g}" for scale in sweep.scales], work / sweep.folder)
    return {
        "parameters": sweep.shape.parameters, "tokens": sweep.batch_size * sweep.shape.context, "steps": sweep.steps,
        "times": sweep.times, **numbers(found, sweep.scales),
    }  # fmt: skip


def of_forms(sweep: Sweep, work: pathlib.Path) -> dict[str, Any]:
    made = [OtherForm(scale, sweep.steps, **powers) for powers in FORMS.values() for scale in sweep.scales]
    found = numbers(trained(sweep, made, work / f"forms-{size_text(sweep.size)}"), sweep.scales * len(FORMS))
    count = len(sweep.scales)
    forms = {name: found["rows"][count * i : count * (i + 1)] for i, name in enumerate(FORMS)}
    return {
        "parameters": sweep.shape.parameters, "tokens": sweep.batch_size * sweep.shape.context,
        "plain_test_loss": found["plain_test_loss"], "forms": forms,
    }  # fmt: skip


def arrays(rows: Sequence[dict[str, Any]], plain: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Energies and excesses over a loss of each seed, both of shape (rows, seeds)."""
    energy = np.array([row["energy_kt_per_parameter"] for row in rows])
    return energy, np.array([row["test_loss"] for row in rows]) / np.array(plain) - 1


def power(energy: np.ndarray, excess: np.ndarray) -> tuple[float, float]:
    """p of ε ∝ Q^-p between the first two rows."""

    def of(kept: np.ndarray) -> float:
        means = np.stack([energy[:2, kept].mean(axis=1), excess[:2, kept].mean(axis=1)])
        rises = np.log(means[:, 1] / means[:, 0]) if (means > 0).all() else np.full(2, math.nan)
        return float(-rises[1] / rises[0])

    found = jackknife(of, energy.shape[1])
    # Without an error one of the excesses is not distinguishable from none.
    return found if found[1] == found[1] else (math.nan, math.nan)


def is_bound(energy: np.ndarray, excess: np.ndarray, target: float) -> bool:
    """Whether the cheapest row is quieter than the excess that is asked for, beyond its error."""
    cheapest = excess[energy.mean(axis=1).argmin()]
    return bool(cheapest.mean() + cheapest.std(ddof=1) / np.sqrt(cheapest.size) <= target)


def told(number: tuple[float, float], form: str = ".3g") -> str:
    value, error = number
    if value != value:
        return "–"
    return f"{value:{form}}" + (f" ± {error:.2g}" if error == error else "")


def told_at(energy: np.ndarray, excess: np.ndarray, target: float) -> str:
    """The energy at an excess, as a bound where the cheapest row is as quiet already."""
    bound = is_bound(energy, excess, target)
    return f"≤ {energy.mean(axis=1).min():.3g}" if bound else told(energy_at(energy, excess, target))


def rows_text(energy: np.ndarray, excess: np.ndarray) -> list[str]:
    """Excess and energy of every row."""
    return [f"{mean_text(100 * e, '.1f')} %<br>{mean_text(q, '.3g')} kT" for q, e in zip(energy, excess)]


def page(content: dict[str, Any]) -> str:
    """The page, from the numbers alone."""
    versions = ", ".join(f"{name} {number}" for name, number in content["machine"]["versions"].items())
    lines = [
        "# What precision costs",
        "",
        f"Language models on Python's standard library, {TOKENS_PER_PARAMETER:g} bytes per parameter, `moment` barriers of several scales, exact "
        "hops. What follows from it is on [the page of growth](../scale.md#what-precision-costs).",
        "",
        *of_sizes(content["sizes"]),
        "![Excess of the loss against heat and barrier work](precision_cost.png)",
        "",
        *table_of_forms(content["forms"]),
        *of_longer(content["sizes"], content["longer"]),
        f"Made by `python examples/precision_cost.py` on {content['machine']['device']}; {versions}.",
    ]
    return "\n".join(lines) + "\n"


def of_sizes(sizes: Sequence[dict[str, Any]]) -> list[str]:
    scales = [row["scale"] for row in sizes[0]["rows"]]
    lines = [
        "Test loss above bare Adam's of the same seed, and below it heat and barrier work per parameter, with standard errors; p of an excess ε ∝ "
        f"Q^-p between scales {scales[0]:g} and {scales[1]:g}; energy at an excess, read between the scales in 1/Q, as a bound where the cheapest is "
        "as quiet already. Errors are jackknife errors over the seeds; of two seeds they say little.",
        "",
        "| parameters | tokens a step | steps | seeds | "
        + " | ".join([*(f"scale {s:g}" for s in scales), "p", *(f"Q at {100 * e:g} % [kT]" for e in TARGETS)])
        + " |",
        "|" + "---:|" * (5 + len(scales) + len(TARGETS)),
    ]
    for one in sizes:
        assert [row["scale"] for row in one["rows"]] == scales
        energy, excess = arrays(one["rows"], one["plain_test_loss"])
        found = [*rows_text(energy, excess), told(power(energy, excess), ".2f")]
        found += [told_at(energy, excess, target) for target in TARGETS]
        lines.append(
            f"| {one['parameters']:,} | {one['tokens']:,} | {one['steps']:,} | {len(one['plain_test_loss'])} | {' | '.join(found)} |"
        )
    return [*lines, "", *growth(sizes)]


def growth(sizes: Sequence[dict[str, Any]]) -> list[str]:
    """How the energy at the larger excess grows with the parameters, batch by batch."""
    lines, target = [], max(TARGETS)
    for tokens in dict.fromkeys(one["tokens"] for one in sizes):
        some = [one for one in sizes if one["tokens"] == tokens]
        found = [arrays(one["rows"], one["plain_test_loss"]) for one in some]
        values = np.array([energy_at(*each, target) for each in found])
        if len(some) < 3 or np.isnan(values).any() or any(is_bound(*each, target) for each in found):
            continue
        logs = np.log([one["parameters"] for one in some]), np.log(values[:, 0])
        (slope, _), cov = np.polyfit(*logs, 1, w=values[:, 0] / values[:, 1], cov="unscaled")
        lines.append(
            f"At {tokens:,} tokens a step Q at {100 * target:g} % grows as N^{slope:.2f} (± {np.sqrt(cov[0, 0]):.2f}, by the errors of the seeds "
            f"alone) from {some[0]['parameters']:,} to {some[-1]['parameters']:,} parameters."
        )
    return [*lines, ""] if lines else []


def table_of_forms(forms: dict[str, Any]) -> list[str]:
    plain = forms["plain_test_loss"]
    law = arrays(next(iter(forms["forms"].values())), plain)
    scales = [row["scale"] for row in next(iter(forms["forms"].values()))]
    lines = [
        "## Other forms of the barrier",
        "",
        f"{forms['parameters']:,} parameters, {forms['tokens']:,} tokens a step, {len(plain)} seeds: s is the mean squared request, q² the mean squared "
        f"gradient, as the law has them. Energy at {100 * FORMS_TARGET:g} % above bare Adam's loss, and its ratio to the law's over the same seeds.",
        "",
        f"| exchange | {' | '.join(f'scale {s:g}' for s in scales)} | Q at {100 * FORMS_TARGET:g} % [kT] | against the law |",
        "|---|" + "---:|" * (len(scales) + 2),
    ]
    for name, rows in forms["forms"].items():
        mine = arrays(rows, plain)

        def ratio(kept, mine=mine):
            one, other = (least_energy(*(x[:, kept] for x in some), FORMS_TARGET) for some in (mine, law))
            return one / other

        compared = "1" if mine[0].tolist() == law[0].tolist() else told(jackknife(ratio, len(plain)), ".2f")
        lines.append(f"| {name} | {' | '.join(rows_text(*mine))} | {told_at(*mine, FORMS_TARGET)} | {compared} |")
    return [*lines, ""]


def of_longer(sizes: Sequence[dict[str, Any]], longer: Sequence[dict[str, Any]]) -> list[str]:
    """What bare Adam's loss at the usual length costs in longer trainings."""
    scales = sorted({row["scale"] for one in longer for row in one["rows"]}, reverse=True)
    lines = [
        "## Longer instead of quieter",
        "",
        f"The same with more tokens, and with bare Adam's loss at {TOKENS_PER_PARAMETER:g} bytes per parameter as the goal: loss above that, of the same "
        "seed, and what it costs to come so near to it.",
        "",
        "| parameters | bytes per parameter | steps | bare Adam | "
        + " | ".join([*(f"scale {s:g}" for s in scales), *(f"Q at {100 * e:g} % [kT]" for e in TARGETS)])
        + " |",
        "|" + "---:|" * (4 + len(scales) + len(TARGETS)),
    ]
    for first in sizes:
        more = [one for one in longer if (one["parameters"], one["tokens"]) == (first["parameters"], first["tokens"])]
        for one in [first, *more] if more else []:
            energy, excess = arrays(one["rows"], first["plain_test_loss"])
            of_scale = dict(zip((row["scale"] for row in one["rows"]), rows_text(energy, excess)))
            plain = np.array(one["plain_test_loss"]) / np.array(first["plain_test_loss"]) - 1
            found = [f"{mean_text(100 * plain, '.1f')} %" if one is not first else "0"]
            found += [of_scale.get(s, "–") for s in scales] + [told_at(energy, excess, target) for target in TARGETS]
            lines.append(
                f"| {one['parameters']:,} | {one['times'] * TOKENS_PER_PARAMETER:g} | {one['steps']:,} | {' | '.join(found)} |"
            )
    return [*lines, ""]


def draw(sizes: Sequence[dict[str, Any]]):
    """Excess against energy on logarithmic axes, a panel for each batch; points at or below zero are left out."""
    batches = list(dict.fromkeys(one["tokens"] for one in sizes))
    fig, axes = figure(4.6 * len(batches), 3.8, len(batches), sharey=True)
    for ax, tokens in zip(axes, batches):
        here = [one for one in sizes if one["tokens"] == tokens]
        first = here[0]
        for one, colour in zip(here, itertools.cycle(COLOURS)):
            energy, excess = arrays(one["rows"], one["plain_test_loss"])
            mean, error = 100 * excess.mean(axis=1), 100 * excess.std(axis=1, ddof=1) / np.sqrt(excess.shape[1])
            label = f"{one['parameters']:,} parameters, {one['steps']:,} steps"
            kept = mean > 0
            ax.errorbar(
                energy.mean(axis=1)[kept],
                mean[kept],
                yerr=error[kept],
                fmt="o-",
                markersize=4,
                linewidth=1,
                color=colour,
                label=label,
            )
        # A guide below the points of the first size.
        energy, excess = (x.mean(axis=1) for x in arrays(first["rows"], first["plain_test_loss"]))
        guide = np.geomspace(energy[0], energy[-1], 2)
        ax.plot(guide, 60 * energy[0] * excess[0] / guide, ":", color="0.4", linewidth=1, label="ε ∝ 1/Q")
        ax.set_xscale("log")
        ax.set_yscale("log")
        plain_numbers(ax.xaxis)
        plain_numbers(ax.yaxis)
        ax.set_ylim(0.1, 13)
        ax.set_xlabel("heat and barrier work Q [kT per parameter]")
        ax.set_title(f"{tokens:,} tokens a step", fontsize=10)
        ax.legend(frameon=False, fontsize=7)
    axes[0].set_ylabel("test loss above bare Adam's ε [%]")
    return fig


def main(
    sweeps: Sequence[Sweep], longer: Sequence[Sweep], forms_at: Sweep, work: pathlib.Path, out: pathlib.Path
) -> None:
    for folder in (out / "docs/results", out / "benchmarks/results", work):
        folder.mkdir(parents=True, exist_ok=True)
    content = {
        "sizes": [of_sweep(sweep, work) for sweep in sweeps],
        "forms": of_forms(forms_at, work),
        "longer": [of_sweep(sweep, work) for sweep in longer],
        "machine": machine(),
    }
    text = page(content)
    (out / "docs/results/precision_cost.md").write_text(text, encoding="utf-8")
    draw(content["sizes"]).savefig(out / "docs/results/precision_cost.png")
    (out / RESULT).write_text(json.dumps(content) + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=pathlib.Path, default=pathlib.Path("runs/precision_cost"), help="folder of finished comparisons"
    )
    parser.add_argument("--out", type=pathlib.Path, default=ROOT, help="folder with docs/ and benchmarks/")
    options = parser.parse_args()
    main(SWEEPS, LONGER, FORMS_AT, options.work, options.out)
