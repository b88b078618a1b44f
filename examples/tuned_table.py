"""How far tuning gets: hand-made barriers against tuned ones, at no worse a test loss than plain training's.

For every task: the plain optimizer; a grid of hand-made barriers (seven families, eight settings each), of which the
cheapest that is no worse than plain counts; and tuned barriers: one spline, one spline per array, the learned rule, and a
spline together with the learning rate. Everything is judged on the same held-out seeds with exact hops; tuning uses
other seeds and validation data of its own. Writes `benchmarks/results/tuning.json` and `docs/results/tuning.md`.

Rules for other tasks: with `--rules`, one learned rule is tuned on perceptrons of several sizes and lengths of training at once;
it and the rule of digits-mlp alone are then tried on the tasks named, unchanged but for the length of the run.

    python examples/tuned_table.py --tasks digits-mlp --outer-steps 40
    python examples/tuned_table.py --rules --outer-steps 24 --tasks ""
    python examples/tuned_table.py --tasks digits-cnn,digits-mlp-wide --add --kinds none
"""

import argparse
import functools
import json
import pathlib
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import limjax
from limjax.allocator import keep_freed_memory
from limjax.tasks import digits_mlp, get_task
from limjax.tuning import (
    Problem,
    best_hand_made,
    evaluate,
    evaluate_hand_made,
    hand_made_policies,
    held_out_seeds,
    non_dominated,
    plain_validation_loss,
    tune,
    tune_rule,
)
from limjax.versions import versions

ROOT = pathlib.Path(__file__).parents[1]
# Steps, batch, learning rate, lsb: short runs, so that hundreds of them fit into minutes on two cores.
SETTINGS = {
    "digits-mlp": dict(steps=400, batch_size=128, learning_rate=3e-3, lsb=2.0**-8),
    "digits-cnn": dict(steps=200, batch_size=64, learning_rate=3e-3, lsb=2.0**-8),
    "char-transformer": dict(steps=80, batch_size=8, learning_rate=3e-3, lsb=2.0**-8),
    # Four times as wide: only to see whether a rule transfers.
    "digits-mlp-wide": dict(steps=400, batch_size=128, learning_rate=3e-3, lsb=2.0**-8),
    "diabetes-regression": dict(steps=100, batch_size=64, learning_rate=3e-3, lsb=2.0**-8),
}


FIRST = "digits-mlp"
"""The task whose learned rules are tried on the others."""
SINGLE = "learned rule per parameter"

# Perceptrons of other sizes, batches and lengths, on the same digits: what a rule for unseen tasks is tuned on.
FAMILY = (
    dict(width=64, steps=400, batch_size=128),
    dict(width=160, steps=200, batch_size=128),
    dict(width=64, steps=150, batch_size=64),
)
FAMILY_LIMIT = 1.02
FAMILY_KINDS = {
    "learned rule of several perceptrons": False,
    "learned rule of several perceptrons and learning rate": True,
}


def family_problem(settings: dict, steps: int | None) -> Problem:
    rest = dict(settings)
    task = digits_mlp(width=rest.pop("width"))
    if steps is not None:
        rest["steps"] = steps
    return Problem(task, limjax.ArrheniusCell(lsb=2.0**-8), learning_rate=3e-3, **rest)


def problem_of(name: str, steps: int | None, learning_rate: float | None = None) -> Problem:
    settings = dict(SETTINGS[name])
    if learning_rate is not None:
        settings["learning_rate"] = learning_rate
    cell = limjax.ArrheniusCell(lsb=settings.pop("lsb"))
    if steps is not None:
        settings["steps"] = steps
    task = digits_mlp(width=256) if name == "digits-mlp-wide" else get_task(name)
    return Problem(task, cell, **settings)


def starts(problem: Problem) -> dict[str, tuple[limjax.AbstractBarrier, bool, float]]:
    """Where the tuned barriers start, whether the learning rate is tuned with them, and the outer rate."""
    fall = 2 * np.log(1 / np.maximum(0.5 * (1 + np.cos(np.pi * np.linspace(0, 1, 16))), 2e-3))
    leaves = len(jax.tree.leaves(jax.eval_shape(problem.task.init, jax.random.key(0))))

    def rule(granularity):
        return limjax.LearnedBarrier.from_law(problem.steps, law=limjax.MomentBarrier(granularity=granularity))

    return {
        "spline": (limjax.SplineBarrier(13.5 + fall, problem.steps), False, 0.15),
        "learned rule per parameter": (rule("parameter"), False, 0.07),
        "spline per array": (limjax.SplineBarrier(np.tile(13.5 + fall, (leaves, 1)), problem.steps), False, 0.15),
        "learned rule per array": (rule("leaf"), False, 0.07),
        "spline and learning rate": (limjax.SplineBarrier(13.5 + fall, problem.steps), True, 0.15),
        "learned rule per parameter and learning rate": (rule("parameter"), True, 0.07),
    }


def row(evaluation) -> dict[str, float]:
    return {
        "test_loss": evaluation.mean_loss,
        "test_loss_error": evaluation.loss_error,
        "heat_kt_per_parameter": float(evaluation.heat_kt_per_parameter.mean()),
        "actuation_kt_per_parameter": float(evaluation.actuation_kt_per_parameter.mean()),
        "energy_kt_per_parameter": evaluation.energy_kt_per_parameter,
    }


def at_other_rates(name: str, plain, options) -> dict:
    """The same grid of hand-made barriers at other learning rates, where tuning the rate as well is to be compared with."""
    found = {}
    for rate in (float(r) for r in options.rates.split(",") if r):
        problem = problem_of(name, options.steps, rate)
        policies = hand_made_policies(problem)
        best = best_hand_made(evaluate_hand_made(problem, held_out_seeds(options.held_out), policies=policies), plain)
        found[f"{rate:g}"] = best and {"family": best.family, "setting": best.setting, **row(best.evaluation)}
        print(f"  best hand-made at learning rate {rate:g}: {found[f'{rate:g}']}", flush=True)
    return found


def hand_made_grid(problem: Problem, plain, limit: float, options) -> dict:
    """The grid of hand-made barriers, and the cheapest of them that is no worse than plain training."""
    seeds = held_out_seeds(options.held_out)
    began = time.monotonic()
    policies = hand_made_policies(problem)
    if options.quick:
        policies = {"static": dict(list(policies["static"].items())[-2:])}
    hand = evaluate_hand_made(problem, seeds, policies=policies)
    best = best_hand_made(hand, plain)
    grid_seconds = time.monotonic() - began
    if best is not None:
        e = best.evaluation
        print(
            f"  best hand-made: {best.family}, {best.setting}: {e.energy_kt_per_parameter:.2f} kT at {e.mean_loss:.4f}",
            flush=True,
        )
    return {
        "steps": problem.steps,
        "batch_size": problem.batch_size,
        "learning_rate": problem.learning_rate,
        "lsb": float(problem.cell.lsb),
        "parameters": problem.parameters,
        "held_out": int(seeds.size),
        "plain": {"test_loss": plain.mean_loss, "test_loss_error": plain.loss_error},
        "hand_made": [{"family": h.family, "setting": h.setting, **row(h.evaluation)} for h in hand],
        "best_hand_made": None
        if best is None
        else {"family": best.family, "setting": best.setting, **row(best.evaluation)},
        "hand_made_runs": len(hand) * int(seeds.size),
        "hand_made_seconds": grid_seconds,
        "validation_limit": limit,
        "tuning_runs": options.outer_steps * options.seeds,
        "tuned": {},
        "transferred": {},
    }


def measure(name: str, options, rules: dict, earlier: dict | None, save) -> None:
    problem = problem_of(name, options.steps)
    seeds = held_out_seeds(options.held_out)
    plain = evaluate(problem, limjax.StaticBarrier(9.0), seeds, hops="mean")
    print(f"{name}: plain loss {plain.mean_loss:.4f} ± {plain.loss_error:.4f}", flush=True)
    limit = options.limit * plain_validation_loss(problem, problem.design(limjax.StaticBarrier(9.0)), options.selection)
    if earlier is None:
        content = hand_made_grid(problem, plain, limit, options)
    else:
        content = earlier
    best = content["best_hand_made"]
    content["other_rates"] = content.get("other_rates", {}) | at_other_rates(name, plain, options)
    save(content)
    for kind, (barrier, with_rate, rate) in starts(problem).items():
        if options.kinds and kind not in options.kinds.split(","):
            continue
        began = time.monotonic()
        result = tune(
            "", problem=problem, barrier=barrier, max_loss=limit, tune_learning_rate=with_rate, seeds=options.seeds,
            outer_steps=options.outer_steps, outer_rate=rate, held_out=options.held_out,
            selection=options.selection,
        )  # fmt: skip
        e = result.after
        content["tuned"][kind] = {
            **row(e),
            "no_worse_than_plain": e.is_no_worse_than(plain),
            "ratio": None if best is None else best["energy_kt_per_parameter"] / e.energy_kt_per_parameter,
            "result": str(result.result),
            "validation_loss": result.nearest,
            "validation_limit": limit,
            "before": row(result.before),
            "shares": {k: row(v) for k, v in result.shares.items()},
            "seconds": time.monotonic() - began,
            "barrier": limjax.barriers.barrier_to_json(result.barrier),
            "log_rate": np.asarray(result.design.log_rate).tolist(),
        }
        print(
            f"  {kind}: {e.energy_kt_per_parameter:.2f} kT at {e.mean_loss:.4f} ± {e.loss_error:.4f} ({result.result})",
            flush=True,
        )
        save(content)
    for kind, rule in rules.items():
        # Unchanged but for the length of the run, which is the unit of its progress.
        barrier = limjax.barriers.barrier_from_json(rule["barrier"], kind)
        design = problem.design(barrier.stretched(problem.steps))
        design = eqx.tree_at(lambda d: d.log_rate, design, jnp.asarray(rule["log_rate"]))
        e = evaluate(problem, design, seeds)
        content["transferred"][kind] = {
            **row(e),
            "no_worse_than_plain": e.is_no_worse_than(plain),
            "ratio": None if best is None else best["energy_kt_per_parameter"] / e.energy_kt_per_parameter,
        }
        print(
            f"  {kind}, moved: {e.energy_kt_per_parameter:.2f} kT at {e.mean_loss:.4f} ± {e.loss_error:.4f}", flush=True
        )
        save(content)


def tuned_rules(options, save) -> None:
    """Learned rules for tasks they have not seen, each tuned on all of `FAMILY` at once."""
    problems = [family_problem(settings, options.steps) for settings in FAMILY]
    start = starts(problems[0])[SINGLE][0]
    limits = [FAMILY_LIMIT * plain_validation_loss(p, p.design(start), options.selection) for p in problems]
    for kind, with_rate in FAMILY_KINDS.items():
        if options.kinds and kind not in options.kinds.split(","):
            continue
        began = time.monotonic()
        result = tune_rule(
            problems, start, max_loss=limits, tune_learning_rate=with_rate, outer_steps=options.outer_steps,
            outer_rate=0.07, seeds=options.seeds, held_out=min(8, options.held_out), selection=options.selection,
        )  # fmt: skip
        reached = ", ".join(f"{e.energy_kt_per_parameter:.2f} kT at {e.mean_loss:.4f}" for e in result.after)
        print(f"  {kind}: {reached} ({result.result})", flush=True)
        save(
            kind,
            {
                "barrier": limjax.barriers.barrier_to_json(result.barrier),
                "log_rate": np.asarray(result.designs[0].log_rate).tolist(),
                "result": str(result.result),
                "seconds": time.monotonic() - began,
                "members": [
                    {**settings, "validation_limit": limit, "validation_loss": nearest, **row(after)}
                    for settings, limit, nearest, after in zip(FAMILY, limits, result.nearest, result.after)
                ],
            },
        )


def at_equal_loss(task: dict, entry: dict) -> str:
    """How many times more the hand-made barriers cost at the loss of this entry, between the best of them; empty beyond them."""
    points = np.array(sorted((h["test_loss"], h["energy_kt_per_parameter"]) for h in task["hand_made"]))
    losses, energies = points[non_dominated(points)].T
    if not (losses.size and losses[0] <= entry["test_loss"] <= losses[-1]):
        return ""
    return f"{np.exp(np.interp(entry['test_loss'], losses, np.log(energies))) / entry['energy_kt_per_parameter']:.2f}"


def page(content: dict) -> str:
    lines = [
        "# Tuned barriers",
        "",
        "Made by `examples/tuned_table.py`. Heat and barrier work per parameter with exact hops, mean over held-out seeds that",
        "neither tuning nor the choice of its result has seen. The hand-made barrier is the cheapest of the grid whose mean test",
        "loss is at most the plain optimizer's plus one standard error; it was chosen on the held-out seeds themselves, which",
        "favours it. A tuned barrier is `no worse` by the same rule. `At equal loss` is the ratio to hand-made barriers at the mean test",
        "loss of the row, whatever plain training's is: the logarithm of the energy interpolated between those that no other",
        "beats in both, empty where none of them is that good.",
        "On the command line `learning rate squared, start 12 kT` is `--barrier scheduled:start=12`, but for the very last steps, and",
        "`linear, 10 to 18 kT` is `--barrier spline:start=10,stop=18,knots=2`.",
    ]
    for name, c in content["tasks"].items():
        best = c["best_hand_made"]
        lines += [
            "",
            f"## {name}",
            "",
            f"{c['parameters']:,} parameters, {c['steps']} steps of batch {c['batch_size']}, learning rate {c['learning_rate']:g}, "
            f"lsb {c['lsb']:.4g}, {c['held_out']} held-out seeds; {c['hand_made_runs']} runs for the grid, "
            f"{c['tuning_runs']} differentiated runs for each tuned barrier.",
            "",
            "| barrier | test loss | heat [kT] | barrier work [kT] | no worse than plain | ratio to best hand-made | at equal loss |",
            "|---|---|---|---|---|---|---|",
            f"| plain optimizer, no hop noise | {c['plain']['test_loss']:.4f} ± {c['plain']['test_loss_error']:.4f} | | | | | |",
        ]
        if best is not None:
            lines.append(
                f"| best hand-made: {best['family']}, {best['setting']} | {best['test_loss']:.4f} ± "
                f"{best['test_loss_error']:.4f} | {best['heat_kt_per_parameter']:.2f} | {best['actuation_kt_per_parameter']:.2f} | yes | 1 | 1 |"
            )
        for rate, other in c.get("other_rates", {}).items():
            if other is not None:
                lines.append(
                    f"| best hand-made at learning rate {rate}: {other['family']}, {other['setting']} | {other['test_loss']:.4f} "
                    f"± {other['test_loss_error']:.4f} | {other['heat_kt_per_parameter']:.2f} | {other['actuation_kt_per_parameter']:.2f} | yes | "
                    f"{best['energy_kt_per_parameter'] / other['energy_kt_per_parameter']:.2f} | {at_equal_loss(c, other)} |"
                )
        for kind, t in (c["tuned"] | c["transferred"]).items():
            ratio = "" if t["ratio"] is None else f"{t['ratio']:.2f}"
            lines.append(
                f"| {kind} | {t['test_loss']:.4f} ± {t['test_loss_error']:.4f} | {t['heat_kt_per_parameter']:.2f} | "
                f"{t['actuation_kt_per_parameter']:.2f} | {'yes' if t['no_worse_than_plain'] else 'no'} | {ratio} | {at_equal_loss(c, t)} |"
            )
        for kind, t in c["tuned"].items():
            for share, e in t["shares"].items():
                lines.append(
                    f"| {kind}: only the {share.replace('_', ' ')} | {e['test_loss']:.4f} ± {e['test_loss_error']:.4f} | "
                    f"{e['heat_kt_per_parameter']:.2f} | {e['actuation_kt_per_parameter']:.2f} | | | {at_equal_loss(c, e)} |"
                )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="digits-mlp")
    parser.add_argument("--kinds", default="", help="only these tuned barriers, with commas")
    parser.add_argument("--rules", action="store_true", help="tune the rules that are meant for other tasks first")
    parser.add_argument("--rates", default="", help="further learning rates for the hand-made barriers, with commas")
    parser.add_argument("--add", action="store_true", help="keep what was measured before, with the same settings")
    parser.add_argument("--limit", type=float, default=1.01, help="validation loss to keep, in plain losses")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--outer-steps", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--held-out", type=int, default=32)
    parser.add_argument("--selection", type=int, default=32, help="validation runs per candidate")
    parser.add_argument("--quick", action="store_true", help="two hand-made barriers only")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT)
    options = parser.parse_args()
    keep_freed_memory()
    path = options.out / "benchmarks/results/tuning.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.loads(path.read_text()) if path.exists() else {"tasks": {}}
    content["device"], content["versions"] = str(jax.devices()[0].device_kind), versions()
    out = options.out / "docs/results/tuning.md"
    out.parent.mkdir(parents=True, exist_ok=True)

    def save(name, measured):
        content["tasks"][name] = measured
        path.write_text(json.dumps(content, indent=1) + "\n")
        out.write_text(page(content))

    def save_rule(kind, rule):
        content.setdefault("rules", {})[kind] = rule
        path.write_text(json.dumps(content, indent=1) + "\n")

    if options.rules:
        tuned_rules(options, save_rule)
    for name in filter(None, options.tasks.split(",")):
        rules = dict(content.get("rules", {}))
        single = content["tasks"].get(FIRST, {}).get("tuned", {}).get(SINGLE)
        if single is not None and name != FIRST:
            rules[f"{SINGLE} of {FIRST}"] = {
                "barrier": single["barrier"],
                "log_rate": single.get("log_rate", [0.0, 0.0]),
            }
        earlier = content["tasks"].get(name) if options.add else None
        measure(name, options, rules, earlier, functools.partial(save, name))


if __name__ == "__main__":
    main()
