"""Trains one network on several meshes and prints, as JSON, what differs. Run with eight host devices; `all` for every case."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

import limjax
from limjax import parallel
from limjax.tasks import get_task

digits = get_task("digits-mlp")


def init(key):
    first, second, third = jax.random.split(key, 3)
    # The middle array is large enough to be split over the model axis.
    return {
        "a": 0.1 * jax.random.normal(first, (64, 256)),
        "b": 0.06 * jax.random.normal(second, (256, 256)),
        "c": 0.06 * jax.random.normal(third, (256, 10)),
    }


def loss(params, batch):
    logits = jnp.tanh(jnp.tanh(batch["image"] @ params["a"]) @ params["b"]) @ params["c"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()


task = limjax.Task("wide", init, loss, digits.train, digits.test)


def run(shape, **options):
    one = Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1), parallel.AXES)
    mesh = one if shape is None else parallel.make_mesh(shape)
    options = {"hops": "exact", "barrier": "lyapunov:start=11", "compare": (), **options}
    return limjax.train(task, steps=8, batch_size=64, mesh=mesh, microbatches=8, **options)


def axes(x):
    return "/".join(str(name) for name in x.sharding.spec if name is not None)


def compare(shape, reference, **options):
    result = run(shape, **options)
    params = [(np.asarray(a), np.asarray(b)) for a, b in zip(*map(jax.tree.leaves, (result.params, reference.params)))]
    names = ("heat", "path", "hops", "actuation")
    totals = [limjax.total(result.ledger, n) / limjax.total(reference.ledger, n) - 1 for n in names]
    return {
        "mesh": shape,
        "options": {k: str(v) for k, v in options.items()},
        "different_weights": sum(int((a != b).sum()) for a, b in params),
        "moved": float(limjax.total(result.ledger, "path")),
        "largest_total_error": max(abs(t) for t in totals),
        "split": axes(result.params["b"]),
        "moments_split": sorted({axes(x) for x in jax.tree.leaves(result.state.inner) if x.shape == (256, 256)}),
        "ledger_split": sorted({
            axes(x) for x in jax.tree.leaves(result.ledger) if x.shape == (256, 256)
        }),
    }  # fmt: skip


# Every mesh compiles a run of its own, which takes ten seconds.
if "all" in sys.argv:
    cases = [
        ({"hops": "exact"}, ("data=8",)),
        ({"hops": "gaussian"}, ("data=4,model=2",)),
        ({"hops": "mean"}, ("data=4,model=2",)),
        ({"hops": "exact", "granularity": "leaf"}, ("data=4,model=2",)),
        ({"hops": "exact", "barrier": "fisher:price=1e8"}, ("data=4,model=2",)),
    ]
else:
    cases = [({"hops": "exact"}, ("data=4,model=2",))]
rows = []
for options, shapes in cases:
    reference = run(None, **options)
    rows += [compare(shape, reference, **options) for shape in shapes]
print(json.dumps(rows))
