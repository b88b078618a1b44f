"""What a step of bare Adam promises, by width, depth, batch and learning rate: what sets the price of a step of a memory.

    python examples/promise_table.py

A step promises the fall P of the loss, its request times the gradient, and the moment barrier's heat of a step is in proportion to P/L (docs/scale.md). Here there is no
memory at all: transformers of one task whose width or depth alone is another are trained with the same rate for the same steps, and P/L is the mean over the second half.
What was measured stays in `benchmarks/results/promise.json` and is not trained again; the page is `docs/results/promise.md`.
"""

import argparse
import json
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from limjax._files import write_json
from limjax.scaling import Bins, halved, request_sums, watched
from limjax.sweeps._seeds import mean_text
from limjax.tasks import _networks as networks
from limjax.tasks._language import Shape, apply_language, init_language
from limjax.tasks._text import python_source
from limjax.versions import machine

ROOT = pathlib.Path(__file__).parents[1]
RESULT, PAGE = "benchmarks/results/promise.json", "docs/results/promise.md"
STEPS, SEEDS, CONTEXT, HEAD = 600, 2, 64, 8


class Training(NamedTuple):
    """One training; the first one of a table is what all others differ from in one number."""

    width: int = 32
    depth: int = 2
    windows: int = 8
    rate: float = 0.02

    @property
    def shape(self) -> Shape:
        return Shape(self.width, self.depth, HEAD, CONTEXT)


TABLES = {
    "width": [Training(width=width) for width in (16, 32, 64, 128)],
    "depth": [Training(depth=depth) for depth in (2, 4, 8, 16)],
    "batch": [Training(windows=windows) for windows in (8, 32)],
    "learning rate": [Training(rate=rate) for rate in (0.005, 0.01, 0.02)],
}


def measured(training: Training, seed: int, steps: int = STEPS) -> dict:
    """Means over the second half of the steps."""
    text, bins = jnp.asarray(np.ascontiguousarray(python_source().train)), Bins.of(steps)
    optimizer = watched(optax.adam(training.rate), bins)

    def loss(params, windows):
        content = windows.astype(jnp.int32)
        return networks.cross_entropy(apply_language(params, content[:, :-1], training.shape), content[:, 1:])

    def step(carry, number):
        params, state = carry
        starts = jax.random.randint(
            jax.random.fold_in(jax.random.key(seed), number), (training.windows,), 0, text.size - CONTEXT
        )
        windows = jax.vmap(lambda start: jax.lax.dynamic_slice(text, (start,), (CONTEXT + 1,)))(starts)
        value, gradient, told = halved(loss)(params, windows)
        updates, state = optimizer.update(gradient, state, params, value=value, **told)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def run(params):
        return jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(steps))[0]

    params, state = run(init_language(jax.random.key(1000 + seed), training.shape))
    sums, half = request_sums((state,)), bins.bins // 2
    promises, losses = (np.asarray(of, np.float64)[half:] / bins.steps for of in (sums.promises, sums.losses))
    kinds: dict[str, float] = {}
    for i, (path, _) in enumerate(jax.tree_util.tree_flatten_with_path(params)[0]):
        kind = path[0].key.rstrip("0123456789")
        kinds[kind] = kinds.get(kind, 0.0) + float((promises[:, i] / losses).mean())
    return {
        **training._asdict(),
        "seed": seed,
        "parameters": training.shape.parameters,
        "loss": float(losses.mean()),
        "promise": float(promises.sum(axis=1).mean()),
        "promised_share": float((promises.sum(axis=1) / losses).mean()),
        "kinds": kinds,
    }


def page(content: dict) -> str:
    """The docs page, from the numbers alone."""
    rows, steps = content["rows"], content["steps"]
    kinds, versions = list(rows[0]["kinds"]), content["machine"]["versions"]
    lines = [
        "# What a step promises",
        "",
        f"Bare Adam on Python's standard library at a constant rate, means over steps {steps // 2} to {steps}, of {len({row['seed'] for row in rows})} seeds with their standard errors. "
        "A step promises to first order the fall P of the loss L, its request times the gradient of its batch. Heat of a step under a moment barrier is in proportion "
        "to P/L ([why](../scale.md#what-sets-the-price-of-a-step)).",
    ]
    for name, trainings in TABLES.items():
        lines += [
            "",
            f"By {name}:",
            "",
            "| width | blocks | parameters | tokens a step | rate | L | P/L a step [%] | " + " | ".join(kinds) + " |",
            "|---:|---:|---:|---:|---:|---:|---:|" + "---:|" * len(kinds),
        ]
        of_table = []
        for training in trainings:
            here = [row for row in rows if Training(*(row[field] for field in Training._fields)) == training]
            shares = 100 * np.array([row["promised_share"] for row in here])
            parts = [f"{100 * np.mean([row['kinds'][kind] for row in here]):.2f}" for kind in kinds]
            of_table.append((training, shares.mean()))
            lines.append(
                f"| {training.width} | {training.depth} | {training.shape.parameters:,} | {training.windows * CONTEXT:,} | {training.rate:g} | "
                f"{mean_text(np.array([row['loss'] for row in here]), '.3f')} | {mean_text(shares, '.2f')} | {' | '.join(parts)} |"
            )
        (first, least), (last, most) = of_table[0], of_table[-1]
        (field,) = (field for field in Training._fields if getattr(first, field) != getattr(last, field))
        power = np.log(most / least) / np.log(getattr(last, field) / getattr(first, field))
        lines += ["", f"From the first to the last P/L goes as {name} to the power of {power:.2f}."]
    lines += [
        "",
        f"Made by `python examples/promise_table.py` on {content['machine']['device']}; "
        f"{', '.join(f'{name} {number}' for name, number in versions.items())}; text with SHA-256 {content['text'][:16]}.",
    ]
    return "\n".join(lines) + "\n"


def main(out: pathlib.Path, steps: int = STEPS, seeds: int = SEEDS) -> None:
    path = out / RESULT
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {"steps": steps, "text": python_source().sha256, "machine": machine(), "rows": []}
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        # Rows of other steps or of another text are no rows of these tables.
        if (before["steps"], before["text"]) == (found["steps"], found["text"]):
            found = before
    for training in dict.fromkeys(training for trainings in TABLES.values() for training in trainings):
        for seed in range(seeds):
            wanted = training._asdict() | {"seed": seed}
            if not any(wanted.items() <= row.items() for row in found["rows"]):
                found["rows"].append(measured(training, seed, steps))
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
