"""What a run on digits is compared with, for finer and coarser levels, and the event-driven rival trained for itself.

The barrier is the task's, which reads off its requests how low it may be: in weight units its hop noise is about the same in all
rows. The rival is not only charged (`NoisyEventWrite`) but trained, with its register, its own requests and its own hops, no noisier per step than the run.

Writes `benchmarks/results/comparisons.json`, `docs/results/comparisons.md` and `docs/figures/comparisons.png`. Takes some minutes
on two cores.
"""

import argparse
import json
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import limjax
from limjax.barriers import barrier_from_name
from limjax.memory.comparisons import NoisyEventWrite, gate_work, whole_levels
from limjax.memory.comparisons._names import FAIR, STATIC, comparison_words, named_comparisons
from limjax.tasks import get_task
from limjax.training import training_step
from limjax.versions import versions

ROOT = pathlib.Path(__file__).parents[1]
TASK = "digits-mlp"
BARRIER = get_task(TASK).defaults.barrier
NAMES = (STATIC, *FAIR)


class Pair:
    """A run under the task's barrier and its event-driven rival, compiled once for all seeds."""

    def __init__(self, bits: int, steps: int | None):
        self.task = get_task(TASK)
        defaults = self.task.defaults
        self.steps = defaults.steps if steps is None else steps
        self.cell = limjax.ArrheniusCell(lsb=2.0**-bits)
        schedule = defaults.make_schedule(defaults.learning_rate, self.steps, None)
        self.inner = defaults.make_optimizer(schedule)
        self.barrier = barrier_from_name(BARRIER, self.cell, self.steps, schedule)
        self.compare = named_comparisons(NAMES, self.cell, self.steps)
        self.data = jax.tree.map(jnp.asarray, self.task.train)
        self.run, self.rival = jax.jit(self._run), jax.jit(self._rival)

    def _run(self, params, data_key, hop_key):
        opt = limjax.learning_in_memory(
            self.inner, self.cell, self.barrier, hops="exact", key=hop_key, compare=self.compare
        )
        one_step = training_step(self.task, opt, self.task.defaults.batch_size)

        def step(carry, _):
            before = limjax.get_ledger(carry[1]).hops.total
            carry, _ = one_step(carry, self.data, data_key)
            return carry, limjax.get_ledger(carry[1]).hops.total - before

        return jax.lax.scan(step, (params, opt.init(params)), None, length=self.steps)

    def _rival(self, params, data_key, hop_key, variances):
        """Register, requests and hops of its own; per step and array no noisier than the run."""
        memory, cell, size = self.compare[NoisyEventWrite.name], self.cell, self.task.defaults.batch_size
        assert isinstance(memory, NoisyEventWrite)
        count = jax.tree.leaves(self.data)[0].shape[0]

        def step(carry, item):
            params, inner, register, cost = carry
            number, variance = item
            index = jax.random.randint(jax.random.fold_in(data_key, number), (size,), 0, count)
            gradient = jax.grad(self.task.loss)(params, jax.tree.map(lambda x: x[index], self.data))
            updates, inner = self.inner.update(gradient, inner, params)
            leaves, treedef = jax.tree.flatten(updates)
            due, register = whole_levels(register, [u / cell.lsb for u in leaves])
            moves = []
            for i, n in enumerate(due):
                levels = jnp.sum(jnp.abs(n))
                write = memory.write_barrier(cell, levels, variance[i])
                up, down = cell.hop_rates(jnp.float32(1.0), write)
                keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(hop_key, number), i))
                hops = [jax.random.poisson(k, jnp.abs(n) * rate) for k, rate in zip(keys, (up, down))]
                moves.append(jnp.sign(n) * (hops[0] - hops[1]).astype(n.dtype) * cell.lsb)
                cost += levels * (cell.heat(1.0, write) + gate_work(cell, memory.hold, write))
            params = optax.apply_updates(params, treedef.unflatten(moves))
            return (params, inner, register, cost), None

        empty = [jnp.zeros_like(p) for p in jax.tree.leaves(params)]
        start = (params, self.inner.init(params), empty, jnp.float32(0.0))
        (params, _, _, cost), _ = jax.lax.scan(step, start, (jnp.arange(self.steps), variances))
        return params, cost

    def measure(self, seed: int) -> dict:
        """Costs per parameter, ratios, and what both reach on the test set."""
        init_key, data_key, hop_key = jax.random.split(jax.random.key(seed), 3)
        params = limjax.snap(self.task.init(init_key), self.cell)
        (trained, state), variances = self.run(params, data_key, hop_key)
        rival, rival_cost = self.rival(params, data_key, jax.random.fold_in(hop_key, 1), variances)
        table = limjax.report(limjax.get_ledger(state), trained, self.cell)
        n, cost = table.total.parameters, table.total.energy_kt
        test = jax.tree.map(jnp.asarray, self.task.test)
        assert self.task.accuracy is not None
        return {
            "seed": seed,
            "energy_kt_per_parameter": cost / n,
            "ratios": {name: other / cost for name, other in table.comparisons.items()},
            "test_loss": float(self.task.loss(trained, test)),
            "test_accuracy": float(self.task.accuracy(trained, test)),
            "rival_ratio": float(rival_cost) / cost,
            "rival_test_loss": float(self.task.loss(rival, test)),
            "rival_test_accuracy": float(self.task.accuracy(rival, test)),
        }


def page(rows: list[dict], made_by: str) -> str:
    """The docs page, from the numbers alone."""
    lines = [
        "# Ratios to other memories, and the level they depend on",
        "",
        f"`{TASK}`, {rows[0]['steps']:,} Adam steps, `{BARRIER}` barrier, exact hops, {len(rows[0]['seeds'])} seeds, mean ± standard "
        "deviation. A ratio is what the same updates cost on another memory over heat and barrier work of the run. The barrier "
        "reads off its requests how low it may be, so that the hop noise of the weights is about the same in all rows. "
        "[The ledger](../ledger.md#what-it-is-compared-with) derives the comparisons.",
        "",
        "| lsb | run [kT] | " + " | ".join(NAMES) + " | test loss |",
        "|---|---:|" + "---:|" * (len(NAMES) + 1),
    ]
    for row in rows:
        ratios = [_spread([one["ratios"][name] for one in row["seeds"]]) for name in NAMES]
        cost = _spread([one["energy_kt_per_parameter"] for one in row["seeds"]])
        loss = _spread([one["test_loss"] for one in row["seeds"]])
        lines.append(f"| 2^-{row['bits']} | {cost} | {' | '.join(ratios)} | {loss} |")
    lines += ["", *[f"- **{name}**: {comparison_words(name)}." for name in NAMES], ""]
    lines += [
        "The event-driven rival trained for itself, with its own requests and hops, no noisier per step and array than the run:",
        "",
        "| lsb | rival's cost over the run's | as charged for the run's requests | test loss | run's test loss | test accuracy | run's |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [_spread([one["rival_ratio"] for one in row["seeds"]])]
        cells += [_spread([one["ratios"][NoisyEventWrite.name] for one in row["seeds"]])]
        for key in ("rival_test_loss", "test_loss", "rival_test_accuracy", "test_accuracy"):
            cells.append(_spread([one[key] for one in row["seeds"]]))
        lines.append(f"| 2^-{row['bits']} | {' | '.join(cells)} |")
    lines += ["", "![Ratios against the level](../figures/comparisons.png)", "", made_by]
    return "\n".join(lines) + "\n"


def picture(rows: list[dict]) -> Figure:
    """Ratio to every other memory against the level."""
    fig = Figure(figsize=(6.4, 4.2), layout="constrained", dpi=150)
    ax = fig.subplots()
    lsb = [2.0 ** -row["bits"] for row in rows]
    for name in NAMES:
        ratios = np.array([[one["ratios"][name] for one in row["seeds"]] for row in rows])
        style: dict[str, Any] = {"linestyle": ":", "color": "grey"} if name == STATIC else {"marker": "o"}
        ax.plot(lsb, ratios.mean(axis=1), label="static, ten years" if name == STATIC else name, **style)
    rival = [np.mean([one["rival_ratio"] for one in row["seeds"]]) for row in rows]
    ax.plot(lsb, rival, "kx", label="noisy-event, trained for itself")
    ax.axhline(1.0, color="black", linewidth=0.8)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xlabel("level (lsb) in weight units")
    ax.set_ylabel("cost of the same updates over the run's")
    ax.legend(frameon=False, fontsize="small")
    return fig


def _spread(values: list[float]) -> str:
    mean, deviation = np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0.0
    places = max(0, 2 - math.floor(math.log10(abs(mean)))) if mean else 2
    return f"{mean:,.{places}f} ± {deviation:,.{places}f}"


def main(bits: list[int], steps: int | None, seeds: int, out: pathlib.Path) -> None:
    rows = []
    for number in bits:
        pair = Pair(number, steps)
        measured = [pair.measure(seed) for seed in range(seeds)]
        rows.append({"bits": number, "steps": pair.steps, "seeds": measured})
        print(f"lsb 2^-{number}: ratios of seed 0 {measured[0]['ratios']}", flush=True)
    for folder in ("docs/results", "docs/figures", "benchmarks/results"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    device = jax.devices()[0]
    numbers = ", ".join(f"{name} {number}" for name, number in versions().items())
    made_by = f"Made by `python examples/comparisons.py` on {device.platform}:{device.device_kind}; {numbers}."
    text = page(rows, made_by)
    (out / "docs/results/comparisons.md").write_text(text)
    picture(rows).savefig(out / "docs/figures/comparisons.png")
    content = {"task": TASK, "barrier": BARRIER, "versions": versions(), "rows": rows}
    (out / "benchmarks/results/comparisons.json").write_text(json.dumps(content, indent=2) + "\n")
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bits", default="6,8,10,12,14", help="levels of 2^-bits, comma-separated")
    parser.add_argument("--steps", type=int, default=None, help="default: the task's")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT, help="folder with docs/ and benchmarks/")
    arguments = parser.parse_args()
    main([int(b) for b in arguments.bits.split(",")], arguments.steps, arguments.seeds, arguments.out)
