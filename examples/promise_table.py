"""What a step of bare Adam promises, by width, depth, batch and rate.

    python examples/promise_table.py

A step promises the fall P of the loss L, its request times the gradient, and in long trainings the moment barrier's heat of a
step follows P/L (docs/scale.md). There is no memory here: transformers that differ in one number are trained at one rate, and
three as `limjax scale` trains them. What was measured stays in `benchmarks/results/promise.json` and is not trained again; the
page is `docs/results/promise.md`.
"""

import argparse
import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from limjax._files import write_json
from limjax.scaling import Bins, halved, request_sums, watched
from limjax.scaling._measure import kind_of
from limjax.sweeps._seeds import mean_text
from limjax.tasks import _networks as networks
from limjax.tasks import language
from limjax.tasks._language import TOKENS_PER_PARAMETER, Shape, apply_language, init_language, steps_for
from limjax.tasks._text import python_source
from limjax.versions import machine

ROOT = pathlib.Path(__file__).parents[1]
RESULT, PAGE = "benchmarks/results/promise.json", "docs/results/promise.md"
SEEDS, CONTEXT, HEAD = 2, 64, 8


class Training(NamedTuple):
    """One training. Bins of 19 steps, of which 608 are a whole number."""

    width: int = 32
    depth: int = 2
    windows: int = 8
    rate: float = 0.02
    steps: int = 608
    cosine: bool = False

    @property
    def shape(self) -> Shape:
        return Shape(self.width, self.depth, HEAD, CONTEXT)

    @classmethod
    def whole(cls, width: int) -> "Training":
        """As `limjax scale` trains this width."""
        return cls(width=width, steps=steps_for(Shape(width, 2, HEAD, CONTEXT), TOKENS_PER_PARAMETER, 8), cosine=True)


TABLES = {
    "width": [Training(width=width) for width in (16, 32, 64, 128)],
    "depth": [Training(depth=depth) for depth in (2, 4, 8, 16)],
    "windows": [Training(windows=windows) for windows in (8, 32, 128)],
    "rate": [Training(rate=rate) for rate in (0.005, 0.01, 0.02)],
}
WHOLE = [Training.whole(width) for width in (16, 32)]


def measured(training: Training, seed: int) -> dict:
    """Means over the second half of the steps, and the sum over all of them."""
    text, bins = jnp.asarray(np.ascontiguousarray(python_source().train)), Bins.of(training.steps)
    defaults = language(1e4).defaults
    rate = defaults.make_schedule(training.rate, training.steps) if training.cosine else training.rate
    optimizer = watched(optax.adam(rate), bins)

    def loss(params, windows):
        content = windows.astype(jnp.int32)
        return networks.cross_entropy(apply_language(params, content[:, :-1], training.shape), content[:, 1:])

    def step(carry, number):
        params, state = carry
        key = jax.random.fold_in(jax.random.key(seed), number)
        starts = jax.random.randint(key, (training.windows,), 0, text.size - CONTEXT)
        windows = jax.vmap(lambda start: jax.lax.dynamic_slice(text, (start,), (CONTEXT + 1,)))(starts)
        value, gradient, told = halved(loss)(params, windows)
        updates, state = optimizer.update(gradient, state, params, value=value, **told)
        after = optax.apply_updates(params, updates)
        # What the step keeps of its promise on the very batch that it was made for.
        return (after, state), value - loss(after, windows)

    @jax.jit
    def run(params):
        return jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(training.steps))

    (params, state), kept = run(init_language(jax.random.key(1000 + seed), training.shape))
    sums = request_sums((state,))
    promises, losses = (np.asarray(of, np.float64) / bins.steps for of in (sums.promises, sums.losses))
    kept = np.asarray(kept, np.float64)[: bins.bins * bins.steps].reshape(bins.bins, bins.steps).mean(axis=1)
    second, shares = slice(bins.bins // 2, None), promises / losses[:, None]
    kinds: dict[str, float] = {}
    for i, (path, _) in enumerate(jax.tree_util.tree_flatten_with_path(params)[0]):
        kind = kind_of(path[0].key)
        kinds[kind] = kinds.get(kind, 0.0) + float(shares[second, i].mean())
    return {
        **training._asdict(),
        "seed": seed,
        "parameters": training.shape.parameters,
        "loss": float(losses[second].mean()),
        "promised_share": float(shares[second].sum(axis=1).mean()),
        "kept_share": float((kept / losses)[second].mean()),
        "promised_efolds": float(shares.sum()) * bins.steps,
        "kinds": kinds,
    }


def of_training(rows: Sequence[dict], training: Training) -> list[dict]:
    """The seeds of a training."""
    return [row for row in rows if training._asdict().items() <= row.items()]


def page(content: dict) -> str:
    """The docs page, from the numbers alone."""
    rows = content["rows"]
    kinds, versions = list(rows[0]["kinds"]), content["machine"]["versions"]
    lines = [
        "# What a step promises",
        "",
        f"Bare Adam on Python's standard library, no memory. A step promises to first order the fall P of the loss L: its "
        f"request times the gradient of its batch. Means over the second half of {Training().steps} steps at a constant rate, "
        f"of {len({row['seed'] for row in rows})} seeds. *Kept* is the fall of the loss of the same batch that the step was made "
        "for, also over L; the last columns are the parts of P/L by kind of layer. What it has to do with heat is on "
        "[the page of growth](../scale.md#what-sets-the-price-of-a-step).",
    ]
    for name, trainings in TABLES.items():
        lines += [
            "",
            "| width | blocks | parameters | tokens a step | rate | L | P/L [%] | kept [%] | "
            + " | ".join(kinds)
            + " |",
            "|---:|---:|---:|---:|---:|---:|---:|---:|" + "---:|" * len(kinds),
        ]
        shares = []
        for training in trainings:
            here = of_training(rows, training)
            mean = {of: np.mean([row[of] for row in here]) for of in ("loss", "promised_share", "kept_share")}
            parts = [f"{100 * np.mean([row['kinds'][kind] for row in here]):.2f}" for kind in kinds]
            shares.append(mean["promised_share"])
            lines.append(
                f"| {training.width} | {training.depth} | {training.shape.parameters:,} | {training.windows * CONTEXT:,} | "
                f"{training.rate:g} | {mean['loss']:.3f} | {100 * mean['promised_share']:.2f} | "
                f"{100 * mean['kept_share']:.2f} | {' | '.join(parts)} |"
            )
        powers = np.diff(np.log(shares)) / np.diff(np.log([getattr(training, name) for training in trainings]))
        words = {"windows": "tokens a step"}.get(name, name)
        lines += ["", f"From row to row P/L goes as {words} to the power of {', '.join(f'{p:.2f}' for p in powers)}."]
    lines += [
        "",
        "Whole trainings with the rate, the steps and the batch of `limjax scale`, 20 bytes per parameter:",
        "",
        "| parameters | steps | e-folds promised, the sum of P/L |",
        "|---:|---:|---:|",
    ]
    for training in WHOLE:
        efolds = np.array([row["promised_efolds"] for row in of_training(rows, training)])
        lines.append(f"| {training.shape.parameters:,} | {training.steps:,} | {mean_text(efolds, '.2f')} |")
    lines += [
        "",
        f"Made by `python examples/promise_table.py` on {content['machine']['device']}; "
        f"{', '.join(f'{name} {number}' for name, number in versions.items())}; text with SHA-256 {content['text'][:16]}.",
    ]
    return "\n".join(lines) + "\n"


def main(out: pathlib.Path, seeds: int = SEEDS) -> None:
    path = out / RESULT
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {"text": python_source().sha256, "machine": machine(), "rows": []}
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if any(before[name] != found[name] for name in ("text", "machine")):
            raise ValueError(f"{path} is of another text, machine or version: rows of one page compare. Move it away.")
        found = before
    for training in [training for trainings in (*TABLES.values(), WHOLE) for training in trainings]:
        for seed in range(seeds):
            if not any(row["seed"] == seed for row in of_training(found["rows"], training)):
                found["rows"].append(measured(training, seed))
                write_json(path, found)
                print(f"{training}, seed {seed}: P/L {found['rows'][-1]['promised_share']:.4f}", flush=True)
    text = page(found)
    (out / PAGE).parent.mkdir(parents=True, exist_ok=True)
    (out / PAGE).write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT, help="folder with docs/ and benchmarks/")
    main(parser.parse_args().out)
