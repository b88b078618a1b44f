"""Whether a run that goes on is the run that was saved."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from limjax import _fingerprints as fingerprints
from limjax.barriers._scheduled import ScheduledBarrier
from limjax.memory import get_memory
from limjax.memory._history import COLUMNS
from limjax.numerics.checks import is_whole
from limjax.training._prepare import Run
from limjax.training._result import HistoryRow

# Fingerprints of traced programs, which are the same only under the same versions of JAX and its kin.
TRACED = ("cell", "optimizer", "loss", "schedule", "barrier", "list of comparisons")


def program(run: Run) -> dict[str, str]:
    """Fingerprints of all that the settings do not say."""
    task = run.task
    params = jax.eval_shape(task.init, run.keys.start)
    inner = optax.with_extra_args_support(run.inner)

    def update(gradient, params, loss):
        # With `init` inside, one program has the numbers of both functions of the optimizer.
        return inner.update(gradient, inner.init(params), params, value=loss)

    def batch_of(x):
        # The dtype that JAX gives the data, which without x64 is not NumPy's, from one example instead of all.
        return jax.ShapeDtypeStruct((run.settings.batch_size, *np.shape(x)[1:]), jnp.asarray(x[:1]).dtype)

    def policy(tree):
        return fingerprints.combined(fingerprints.of_structure(tree), *of_schedules(tree))

    step = jax.ShapeDtypeStruct((), jnp.int32)
    found = {
        "random key": fingerprints.of_key(*run.keys),
        "training data": fingerprints.of_arrays(task.train),
        "test data": fingerprints.of_arrays(task.test),
        "loss": fingerprints.of_function(task.loss, params, jax.tree.map(batch_of, task.train)),
        "optimizer": fingerprints.of_function(update, params, params, jax.ShapeDtypeStruct((), jnp.result_type(float))),
        "cell": fingerprints.of_structure(run.cell),
        "barrier": policy(run.barrier),
        "list of comparisons": fingerprints.combined(policy(run.compare), fingerprints.of_arrays(run.own_comparisons)),
    }
    if run.schedule is not None:
        found["schedule"] = fingerprints.of_function(run.schedule, step)
    return found


def of_schedules(tree: PyTree) -> list[str]:
    """Fingerprints of the functions of the step that scheduled barriers in a tree are."""
    scheduled = [b for b in jax.tree.leaves(tree, is_leaf=_is_scheduled) if _is_scheduled(b)]
    return [fingerprints.of_function(b.schedule, jax.ShapeDtypeStruct((), jnp.int32)) for b in scheduled]


def _is_scheduled(x: Any) -> bool:
    return isinstance(x, ScheduledBarrier)


def checked_notes(notes: dict[str, Any], damaged: Callable[[str], ValueError]) -> dict[str, Any]:
    """The notes of a checkpoint, or an error that names what is wrong with them."""
    kinds = {
        "history": list,
        "loss_sum": int | float,
        "settings": dict,
        "fingerprints": dict,
        "versions": dict,
        "checksums": dict,
        "layers": list,
    }
    for name, kind in kinds.items():
        value = notes.get(name)
        if name not in notes:
            if name in ("history", "settings"):
                raise damaged(f"notes/metadata has no {name!r}")
        # To Python True is an int.
        elif not isinstance(value, kind) or isinstance(value, bool):
            raise damaged(f"{name!r} in notes/metadata is {str(value)[:40]}")
    for i, row in enumerate(notes["history"]):
        is_row = isinstance(row, list) and len(row) == len(HistoryRow._fields) and is_whole(row[0])
        if not is_row or not all(v is None or (isinstance(v, int | float) and not isinstance(v, bool)) for v in row):
            raise damaged(
                f"row {i} of 'history' in notes/metadata is {str(row)[:40]}, not {len(HistoryRow._fields)} numbers"
            )
    _check_layers(notes.get("layers", []), len(notes["history"]), damaged)
    return notes


def _check_layers(rows: list[Any], count: int, damaged: Callable[[str], ValueError]) -> None:
    """Refuses sums of layers that are no table of numbers for each row of history, or the last of them."""
    try:
        numbers = np.array(rows, float)  # None becomes NaN
    except (ValueError, TypeError):
        raise damaged("'layers' in notes/metadata is no table of numbers") from None
    # Without a row yet, or from an earlier version, there are none.
    if numbers.size and (numbers.ndim != 3 or numbers.shape[1] != len(COLUMNS) or len(rows) > count):
        raise damaged(f"'layers' in notes/metadata has the shape {numbers.shape}")


def check_same_memory(saved: PyTree, given: PyTree) -> None:
    """Refuses a restored state whose cell or barrier has other numbers than the ones asked for: it holds its own."""
    before, now = get_memory(saved), get_memory(given)
    pairs = zip(
        jax.tree_util.tree_leaves_with_path({"cell": before.cell, "barrier": before.barrier.policy}),
        jax.tree.leaves({"cell": now.cell, "barrier": now.barrier.policy}),
    )
    for (path, old), new in pairs:
        if not np.array_equal(np.asarray(old), np.asarray(new)):
            raise ValueError(
                f"The checkpoint is of a run with another {path[0].key}: {jax.tree_util.keystr(path[1:])} is "
                f"{np.asarray(old)}, but {np.asarray(new)} was given. A resumed run keeps its settings: pass the same ones, or "
                "start a new run in another folder."
            )
