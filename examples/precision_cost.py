"""What precision costs: excess of the loss times heat, for language models of several sizes and for barriers of other forms than the law's.

    python examples/precision_cost.py

Every size is trained with the law's barrier at several scales of the exchange and without a memory, exact hops. A smaller scale scatters less and is
dearer; over small excesses ε of the test loss and energies Q per parameter the product Q ε is one number, the cost of precision. The same number says
which of two barriers is better: the second table has forms that differ from the law's in how the exchange is shared out over the
parameters, or in its course over the run. The third table trains longer instead: what a loss costs that bare Adam reaches in a shorter time.

Writes `benchmarks/results/precision_cost.json`, `docs/results/precision_cost.md` and `docs/results/precision_cost.png`. Each comparison is kept in
`--work` as `limjax compare` keeps it, and the same command goes on. The default takes about an hour on two cores.
"""

import argparse
import json
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import limjax
from limjax.numerics._result_code import ResultCode
from limjax.plots._style import figure, plain_numbers
from limjax.sweeps import CompareResult, compare
from limjax.tasks import get_task
from limjax.tasks._language import Shape
from limjax.versions import machine

ROOT = pathlib.Path(__file__).parents[1]
RESULT = "benchmarks/results/precision_cost.json"
TOKENS_PER_PARAMETER = 20.0
EXCESS = 0.01
GOALS = (0.003, 0.01, 0.03)
COLOURS = ("#c44536", "#e09f3e", "#1f6f8b", "#264653", "#9b5de5")


class Sweep(NamedTuple):
    """One size at one batch: how many seeds, the scales of the barrier, and how many times the usual tokens."""

    size: str
    batch_size: int
    seeds: int
    scales: tuple[float, ...] = (0.3, 0.1, 0.03)
    times: int = 1

    @property
    def folder(self) -> str:
        return f"{self.size}-{self.batch_size}" + (f"-x{self.times}" if self.times > 1 else "")


SWEEPS = (
    Sweep("10k", 8, 8),
    Sweep("30k", 8, 4),
    Sweep("100k", 8, 2),
    Sweep("10k", 128, 8),
    Sweep("30k", 128, 4),
)
LONGER = tuple(Sweep(size, 8, seeds, (0.3, 0.1), times) for size, seeds in (("10k", 8), ("30k", 4)) for times in (2, 4))
FORMS_AT = Sweep("10k", 8, 8, (0.3, 0.1))


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
        requests, gradients = (
            [jnp.log(jnp.maximum(x, jnp.finfo(x.dtype).tiny)) for x in some]
            for some in (state.requests, state.gradients)
        )
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


def steps_of(sweep: Sweep) -> int:
    task = get_task(f"language-{sweep.size}")
    context = task.train["text"].shape[1] - 1
    return round(sweep.times * TOKENS_PER_PARAMETER * parameters_of(sweep) / (sweep.batch_size * context))


def parameters_of(sweep: Sweep) -> int:
    return Shape.of({"k": 1e3, "m": 1e6}[sweep.size[-1]] * float(sweep.size[:-1])).parameters


def measured(sweep: Sweep, barriers: Sequence[Any], folder: pathlib.Path, tell: Callable[[str], None]) -> CompareResult:
    """Plain training and these barriers, from the folder where it has them."""
    found = compare(
        f"language-{sweep.size}",
        barriers,
        seeds=sweep.seeds,
        steps=steps_of(sweep),
        batch_size=sweep.batch_size,
        folder=folder,
        on_progress=lambda done, count, name: tell(f"{folder.name}: {done} of {count} done, {name}"),
    )
    if found.result != ResultCode.completed:
        raise SystemExit(f"Stopped; what is trained is in {folder}, and the same command goes on.")
    return found


def of_sweep(sweep: Sweep, work: pathlib.Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """One size: every scale's numbers, and the cost of precision."""
    names = [f"moment:scale={scale:g}" for scale in sweep.scales]
    found = measured(sweep, names, work / sweep.folder, tell)
    rows = [row for row in found.rows if row.barrier in names]
    cost, error = found.cost_of_precision(rows)
    return {
        "parameters": parameters_of(sweep), "steps": steps_of(sweep), "batch_size": sweep.batch_size, "seeds": sweep.seeds,
        "times": sweep.times, "scales": list(sweep.scales), "plain_loss": float(found.plain.test_loss.mean()), "cost_kt": cost, "cost_error_kt": None if math.isnan(error) else error,
        "excess": [found.excess(row).tolist() for row in rows],
        "energy_kt_per_parameter": [row.energy_kt_per_parameter.tolist() for row in rows],
    }  # fmt: skip


def of_forms(sweep: Sweep, work: pathlib.Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """The same for each form of the barrier."""
    steps, forms = steps_of(sweep), {}
    made = {name: [OtherForm(scale, steps, **powers) for scale in sweep.scales] for name, powers in FORMS.items()}
    found = measured(sweep, [b for some in made.values() for b in some], work / f"forms-{sweep.size}", tell)
    rows = iter(found.rows[1:])
    for name, some in made.items():
        mine = [next(rows) for _ in some]
        cost, error = found.cost_of_precision(mine)
        forms[name] = {
            "cost_kt": cost, "cost_error_kt": error, "excess": [found.excess(row).tolist() for row in mine],
            "energy_kt_per_parameter": [row.energy_kt_per_parameter.tolist() for row in mine],
        }  # fmt: skip
    return {**sweep._asdict(), "steps": steps, "forms": forms}


def pair(values: Sequence[float], form: str, unit: str) -> str:
    """Mean and standard error."""
    array = np.array(values)
    error = f" ± {array.std(ddof=1) / np.sqrt(array.size):{form}}" if array.size > 1 else ""
    return f"{array.mean():{form}}{error} {unit}"


def cells(one: dict[str, Any]) -> list[str]:
    """Excess and energy at each scale, and the cost."""
    told = [
        f"{pair(100 * np.array(excess), '.1f', '%')}<br>{pair(energy, '.3g', 'kT')}"
        for excess, energy in zip(one["excess"], one["energy_kt_per_parameter"])
    ]
    error = "" if one["cost_error_kt"] is None else f" ± {one['cost_error_kt']:.2g}"
    return [*told, f"{one['cost_kt']:.2g}{error}"]


def page(content: dict[str, Any]) -> str:
    """The page, from the numbers alone."""
    sizes, forms = content["sizes"], content["forms"]
    scales = sizes[0]["scales"]
    lines = [
        "# What precision costs",
        "",
        f"Language models on Python's standard library, {TOKENS_PER_PARAMETER:g} bytes per parameter, `moment` barriers of several scales, exact "
        "hops. Test loss above bare Adam's of the same seed, and below it heat and barrier work per parameter, with standard errors; Q ε is their "
        "product, by least squares over the scales. What follows from it is on [the page of growth](../scale.md#what-precision-costs).",
        "",
        "| parameters | tokens a step | steps | seeds | "
        + " | ".join(f"scale {s:g}" for s in scales)
        + " | Q ε [kT] | Q ε / steps [kT] | 1 % above [kT] |",
        "|---:|---:|---:|---:|" + "---:|" * (len(scales) + 3),
    ]
    for one in sizes:
        *told, cost = cells(one)
        told += ["–"] * (len(scales) - len(told))
        lines.append(
            f"| {one['parameters']:,} | {64 * one['batch_size']:,} | {one['steps']:,} | {one['seeds']} | {' | '.join(told)} | {cost} | "
            f"{one['cost_kt'] / one['steps']:.2g} | {one['cost_kt'] / EXCESS:.3g} |"
        )
    lines += ["", *powers(sizes), "![Excess of the loss against heat and barrier work](precision_cost.png)", ""]
    law = next(iter(forms["forms"].values()))["cost_kt"]
    lines += [
        "## Other forms of the barrier",
        "",
        f"{parameters_of(FORMS_AT):,} parameters, {64 * forms['batch_size']:,} tokens a step, {forms['seeds']} seeds: s is the mean squared request, q² "
        "the mean squared gradient, as the law has them. A barrier that costs more per precision is a worse one, whatever its scale.",
        "",
        "| exchange | " + " | ".join(f"scale {s:g}" for s in forms["scales"]) + " | Q ε [kT] | against the law |",
        "|---|" + "---:|" * (len(forms["scales"]) + 2),
    ]
    for name, one in forms["forms"].items():
        lines.append(f"| {name} | {' | '.join(cells(one))} | {one['cost_kt'] / law:.2f} |")
    lines += [*of_longer(sizes, content["longer"])]
    lines += [
        "",
        f"Made by `python examples/precision_cost.py` on {content['machine']['device']}; "
        f"{', '.join(f'{name} {number}' for name, number in content['machine']['versions'].items())}.",
    ]
    return "\n".join(lines) + "\n"


def of_longer(sizes: Sequence[dict[str, Any]], longer: Sequence[dict[str, Any]]) -> list[str]:
    """What bare Adam's loss at the usual length costs in longer trainings."""
    lines = [
        "",
        "## Longer instead of quieter",
        "",
        f"The same with more tokens, and with bare Adam's loss at {TOKENS_PER_PARAMETER:g} bytes per parameter as the goal: Q at a loss so far above it, by the "
        "Q ε of each length.",
        "",
        "| parameters | bytes per parameter | steps | bare Adam | Q ε [kT] | "
        + " | ".join(f"Q at {100 * e:g} % [kT]" for e in GOALS)
        + " |",
        "|---:|---:|---:|---:|---:|" + "---:|" * len(GOALS),
    ]
    for one in sorted([*sizes, *longer], key=lambda one: (one["batch_size"], one["parameters"], one["times"])):
        usual = next(
            size for size in sizes if (size["parameters"], size["batch_size"]) == (one["parameters"], one["batch_size"])
        )
        if not any(
            more["parameters"] == one["parameters"] and more["batch_size"] == one["batch_size"] for more in longer
        ):
            continue
        # L = plain (1 + C/Q) at this length is to be (1 + e) times plain at the usual one.
        room = [(1 + e) * usual["plain_loss"] / one["plain_loss"] - 1 for e in GOALS]
        told = [f"{one['cost_kt'] / r:.3g}" if r > 0 else "–" for r in room]
        lines.append(
            f"| {one['parameters']:,} | {one['times'] * TOKENS_PER_PARAMETER:g} | {one['steps']:,} | {one['plain_loss']:.3f} | {cells(one)[-1]} | {' | '.join(told)} |"
        )
    return lines


def powers(sizes: Sequence[dict[str, Any]]) -> list[str]:
    """How the excess falls with the energy at each size, and how the cost grows with the steps."""
    lines = []
    for batch_size in dict.fromkeys(one["batch_size"] for one in sizes):
        # A cost within its error of nothing has no logarithm worth the name.
        some = [
            one
            for one in sizes
            if one["batch_size"] == batch_size and one["cost_kt"] > 2 * (one["cost_error_kt"] or math.inf)
        ]
        if len(some) < 3:
            continue
        logs = np.log([[one["steps"], one["parameters"], one["cost_kt"]] for one in some])
        by_steps, by_size = (np.polyfit(logs[:, i], logs[:, 2], 1)[0] for i in (0, 1))
        lines.append(
            f"At {64 * batch_size:,} tokens a step Q ε goes with the steps to the power of {by_steps:.2f} and with the parameters to {by_size:.2f}, "
            f"{some[0]['parameters']:,} to {some[-1]['parameters']:,} parameters.  "
        )
    return [*lines, ""] if lines else []


def draw(sizes: Sequence[dict[str, Any]]):
    """Excess against energy, with the line of one product for each size and a panel for each batch."""
    batches = list(dict.fromkeys(one["batch_size"] for one in sizes))
    fig, axes = figure(4.6 * len(batches), 3.8, len(batches))
    for ax, batch_size in zip(axes, batches):
        for one, colour in zip((one for one in sizes if one["batch_size"] == batch_size), COLOURS):
            energy = np.array(one["energy_kt_per_parameter"]).mean(axis=1)
            excess = 100 * np.array(one["excess"])
            error = excess.std(axis=1, ddof=1) / np.sqrt(excess.shape[1]) if excess.shape[1] > 1 else None
            ax.errorbar(energy, excess.mean(axis=1), yerr=error, fmt="o", markersize=4, color=colour)
            line = np.geomspace(energy.min() / 1.5, energy.max() * 1.5, 50)
            label = f"{one['parameters']:,}: Q ε = {one['cost_kt']:.2g} kT"
            ax.plot(line, 100 * one["cost_kt"] / line, color=colour, linewidth=1, label=label)
        ax.axhline(100 * EXCESS, color="0.6", linewidth=0.8, linestyle=":")
        ax.set_xscale("log")
        plain_numbers(ax.xaxis)
        ax.set_ylim(-1, 13)
        ax.set_xlabel("heat and barrier work Q [kT per parameter]")
        ax.set_ylabel("test loss above bare Adam's ε [%]")
        ax.set_title(f"{64 * batch_size:,} tokens a step", fontsize=10)
        ax.legend(frameon=False, fontsize=7)
    return fig


def main(
    sweeps: Sequence[Sweep], longer: Sequence[Sweep], forms_at: Sweep, work: pathlib.Path, out: pathlib.Path
) -> None:
    for folder in (out / "docs/results", out / "benchmarks/results", work):
        folder.mkdir(parents=True, exist_ok=True)

    def tell(words):
        print(words, flush=True)

    content = {
        "sizes": [of_sweep(sweep, work, tell) for sweep in sweeps],
        "forms": of_forms(forms_at, work, tell),
        "longer": [of_sweep(sweep, work, tell) for sweep in longer],
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
