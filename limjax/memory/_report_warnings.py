"""What makes a run doubtful, in words: each check reads the sums of a run and says its sentence, or nothing."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from limjax.memory._layer_report import LayerReport, span
from limjax.memory._report_parts import Part, wide

# A run with more than this share of saturated or stopped parameter-steps is not what the model describes.
_TOLERATED_SHARE = 1e-3
_FEW_LEVELS = 0.02
# Hops per parameter over the run from which on a layer at rest has moved.
_WALKED = 0.1


class Evidence(NamedTuple):
    """What the checks look at.

    Attributes:
        layers: sums of each layer.
        total: sums over all of them.
        parts: the memories of the run.
        clipped_share: share of parameter-steps whose barrier was clipped to the cell's range.
        shallow_share: share of parameter-steps with a barrier below 2 kT.
    """

    layers: tuple[LayerReport, ...]
    total: LayerReport
    parts: list[Part]
    clipped_share: float
    shallow_share: float


def warnings_of(evidence: Evidence) -> tuple[str, ...]:
    """The sentences of all checks that have something to say.

    Args:
        evidence: the sums of a run.

    Returns:
        Warnings in words, none for a run without fault.
    """
    said = [check(evidence) for check in _CHECKS]
    return tuple(sentence for sentence in said if sentence is not None)


def _small_requests(run: Evidence) -> str | None:
    steps = max(*(part.steps for part in run.parts), 1)
    mean_request = run.total.path_levels / (max(run.total.parameters, 1) * steps)
    if run.total.path_levels == 0:
        return "no parameter was asked to move: the updates were all zero."
    # Small requests alone do no harm, as hops are right in the mean.
    if mean_request >= _FEW_LEVELS or not _scattered(run):
        return None
    lsb = np.concatenate([np.ravel(np.asarray(part.cell.lsb, np.float64)) for part in run.parts])
    return (
        f"the mean request is {mean_request:.1e} levels per step, far below one level, so most steps move nothing and "
        f"the hop noise dominates. Use a finer ladder (lsb below {lsb.min() * mean_request:.1e}, now {span(lsb, '.1e')}) or "
        "larger steps."
    )


def _walking_at_rest(run: Evidence) -> str | None:
    # Where nothing at all was asked for, `_small_requests` has said so.
    walking = [
        row
        for row in run.layers
        if row.path_levels == 0 < run.total.path_levels and row.hops > _WALKED * row.parameters
    ]
    if not walking:
        return None
    worst = max(walking, key=lambda row: row.hops / row.parameters)
    return (
        f"{_names(walking)}: nothing was asked to move there, but hops scattered it by up to "
        f"{np.sqrt(worst.hops / worst.parameters):.3g} levels r.m.s. What shall not move keeps its barrier shut: "
        f"learning_in_memory(..., frozen=[{worst.name!r}])."
    )


def _dropped_updates(run: Evidence) -> str | None:
    # A level for each parameter: by less, exact hops may have moved none.
    lost = [row for row in run.layers if row.net_levels == 0 and row.path_levels > row.parameters]
    if not lost:
        return None
    return (
        f"{_names(lost)}: updates of up to {max(_mean_path(row) for row in lost):.3g} levels were charged, but the weights stand "
        "where they started: something outside dropped them. What does not arrive must not be charged: pass frozen= to "
        "learning_in_memory, or use optax.multi_transform with optax.set_to_zero for those layers."
    )


def _saturated(run: Evidence) -> str | None:
    saturated = [row for row in run.layers if row.saturated_fraction > _TOLERATED_SHARE]
    if not saturated:
        return None
    return (
        f"{_names(saturated)}: in up to {100 * max(row.saturated_fraction for row in saturated):.3g} % of the updates "
        "the tilt exceeded the barrier, where the Arrhenius law ends, or was held by max_move, or a device was asked for more pulses than its driver gives. Raise attempt_rate or step_time, coarsen lsb, or "
        "lower the learning rate."
    )


def _stopped(run: Evidence) -> str | None:
    stopped = [row for row in run.layers if row.range_fraction > _TOLERATED_SHARE]
    if not stopped:
        return None
    return (
        f"{_names(stopped)}: up to {100 * max(row.range_fraction for row in stopped):.3g} % of the updates ended at "
        "the end of the cell's range. Use more bits or a coarser lsb."
    )


def _noisy(run: Evidence) -> str | None:
    # Without hops that were drawn nothing scatters, and pulses scatter by a law of the device.
    if all(part.ledger.realised_heat is None or part.ledger.pulses is not None for part in run.parts):
        return None
    noisy = _scattered(run)
    if not noisy:
        return None
    worst = max(noisy, key=lambda row: np.sqrt(row.hops / row.parameters) / _mean_path(row))
    return (
        f"{_names(noisy)}: the hop noise ({np.sqrt(worst.hops / worst.parameters):.3g} levels r.m.s. over the run "
        f"in {worst.name}) is larger than the whole requested path ({_mean_path(worst):.3g} levels). Raise the "
        "barrier or use a finer lsb."
    )


def _scattered(run: Evidence) -> list[LayerReport]:
    """Layers whose hops scatter their cells by more than was asked for."""
    # ΣA over the steps is the variance that hops injected: its root is the random walk of one cell.
    return [row for row in run.layers if np.sqrt(row.hops / max(row.parameters, 1)) > _mean_path(row) > 0]


def _shallow(run: Evidence) -> str | None:
    if run.shallow_share <= 0.01:
        return None
    return (
        f"the barrier was below 2 kT in {100 * run.shallow_share:.3g} % of the parameter-steps, where the ladder is a rough picture "
        "of the cell. Raise attempt_rate or step_time, so that the same exchange needs a higher barrier."
    )


def _clipped(run: Evidence) -> str | None:
    if run.clipped_share <= 0.01:
        return None
    lowest = min(float(np.min(part.cell.min_barrier)) for part in run.parts)
    highest = max(float(np.max(part.cell.max_barrier)) for part in run.parts)
    return (
        f"the barrier was clipped to the cell's range ({lowest:g} to {highest:g} kT) in {100 * run.clipped_share:.3g} % of the "
        "parameter-steps."
    )


def _between_levels(run: Evidence) -> str | None:
    between = sum(part.between_levels for part in run.parts)
    if not between:
        return None
    return (
        f"{between:,} of {run.total.parameters:,} weights stand between two levels, because they began there and hops are whole levels. Start "
        "on the ladder: params = limjax.snap(params, cell) before init."
    )


def _coarse_floats(run: Evidence) -> str | None:
    weights = [(path, leaf, np.asarray(part.cell.lsb, np.float64)) for part in run.parts for path, leaf in part.leaves]
    for path, leaf, lsb in weights:
        # Up to here a float holds every whole number.
        exact = 2.0 ** (jnp.finfo(leaf.dtype).nmant + 1)
        top = float(np.max(np.abs(wide(leaf)) / lsb, initial=0.0))
        if top > exact:
            return (
                f"{jax.tree_util.keystr(path, simple=True, separator='/')}: {leaf.dtype} holds whole levels only up to "
                f"{exact:.0f}, but a weight stands at level {top:.0f}: single hops are lost. Keep a float32 copy or use "
                "a coarser lsb."
            )
    return None


_CHECKS = (
    _small_requests,
    _walking_at_rest,
    _dropped_updates,
    _saturated,
    _stopped,
    _noisy,
    _shallow,
    _clipped,
    _coarse_floats,
    _between_levels,
)


def _names(rows: list[LayerReport]) -> str:
    names = [row.name for row in rows]
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"


def _mean_path(row: LayerReport) -> float:
    return row.path_levels / max(row.parameters, 1)
