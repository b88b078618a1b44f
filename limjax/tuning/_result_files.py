"""What tuning writes: JSON with the promised keys, arrays, and the barrier as a file that training accepts."""

import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from limjax._files import read_json, without_nan, write_json
from limjax.barriers._files import save_barrier
from limjax.numerics._result_code import ResultCode
from limjax.tuning._held_out import Evaluation, HandMade, best_hand_made, mean_with_error
from limjax.tuning._one_problem import TuneResult
from limjax.tuning._outer_steps import OuterRow
from limjax.tuning._pareto_points import NUMBERS, point_to_json
from limjax.tuning._pareto_sweep import ParetoResult

TUNE, PARETO, BARRIER = "tune.json", "pareto.json", "barrier.json"


def tune_summary(result: TuneResult, hand_made: Sequence[HandMade] = ()) -> dict[str, Any]:
    """The content of `tune.json`.

    Args:
        result: of `tune`.
        hand_made: evaluated hand-made policies, or none.

    Returns:
        JSON-able numbers. `ratio` is the cost (heat and barrier work) of the best hand-made policy over the tuned one's.
    """
    best = best_hand_made(hand_made, result.plain)
    after, problem = result.after, result.problem
    # null where one of the two is missing: false would say that it is worse.
    is_judged = not (after.is_missing or result.plain.is_missing)
    return without_nan({
        **problem.described(),
        "barrier": result.barrier.name,
        "result": str(result.result),
        **_evaluation(after),
        "before": _evaluation(result.before),
        "plain_test_loss": result.plain.mean_loss,
        "plain_test_loss_error": result.plain.loss_error,
        "is_no_worse_than_plain": after.is_no_worse_than(result.plain) if is_judged else None,
        "best_hand_made": None if best is None else _hand_made(best),
        "ratio": None if best is None else best.evaluation.energy_kt_per_parameter / after.energy_kt_per_parameter,
        "hand_made_evaluations": len(hand_made) * int(after.loss.size),
        "shares": {name: _evaluation(e) for name, e in result.shares.items()},
        "learning_rate_factor": np.exp(np.asarray(result.design.log_rate, np.float64)).tolist(),
        "step_time": float(np.exp(result.design.log_step_time)),
        "nearest": result.nearest,
        "steps": problem.steps,
        "lsb": float(problem.cell.lsb),
        "seeds": int(after.loss.size),
        "outer_steps": len(result.history),
        "outer_seconds": result.history[-1].seconds if result.history else 0.0,
    })  # fmt: skip


def verdict(result: TuneResult) -> str:
    """In a sentence or two, whether the tuned design is any good.

    Args:
        result: of `tune`.

    Returns:
        Its test loss against plain training's, and its cost against the start's, on held-out seeds.
    """
    after, before, plain = result.after, result.before, result.plain
    if after.is_missing or before.is_missing or plain.is_missing:
        return "Not judged on held-out seeds."
    losses = f"test loss {after.mean_loss:.4g} against {plain.mean_loss:.4g}"
    worse = f"The tuned design is WORSE than plain training without hop noise: {losses}."
    words = f"The tuned design is as good as plain training: {losses}." if after.is_no_worse_than(plain) else worse
    if min(after.loss.size, plain.loss.size) < 2 and math.isfinite(after.mean_loss):
        words = (
            f"One held-out seed tells no error, so that nothing is called as good or worse: {losses} of plain training."
        )
    if after.energy_kt_per_parameter >= before.energy_kt_per_parameter and after.mean_loss >= before.mean_loss:
        return f"{words} It is no better than the design that tuning started from, in loss and in energy."
    now, then = after.energy_kt_per_parameter, before.energy_kt_per_parameter
    return f"{words} It takes {now:.4g} kT per parameter; the start took {then:.4g}."


def save_tune(result: TuneResult, folder: str | os.PathLike[str], hand_made: Sequence[HandMade] = ()) -> dict[str, Any]:
    """Writes `tune.json`, `barrier.json` and `tune.npz` (history and per-seed evaluations).

    Args:
        result: of `tune`.
        folder: existing folder.
        hand_made: evaluated hand-made policies, or none.

    Returns:
        The summary.
    """
    folder = pathlib.Path(folder)
    summary = tune_summary(result, hand_made)
    # First, so that a barrier that no file can hold (`save_barrier` refuses it) does not cost the rest.
    write_json(folder / TUNE, summary)
    save_barrier(result.barrier, folder / BARRIER)
    arrays = {f"history/{name}": np.array([getattr(row, name) for row in result.history]) for name in OuterRow._fields}
    for name in ("before", "after", "plain"):
        evaluation = getattr(result, name)
        arrays.update({f"{name}/{field}": np.asarray(getattr(evaluation, field)) for field in Evaluation._fields})
    np.savez_compressed(folder / "tune.npz", allow_pickle=False, **arrays)
    return summary


def pareto_summary(result: ParetoResult) -> dict[str, Any]:
    """The content of `pareto.json`."""
    return without_nan({
        "task": result.problem.task.name,
        "result": str(result.result),
        "objectives": list(result.objectives),
        "points": [point_to_json(point) for point in result.points],
        "hypervolume": result.hypervolume,
        "hypervolume_reference": result.reference,
        "plain_test_loss": result.plain.mean_loss,
        "plain_test_loss_error": result.plain.loss_error,
        "hand_made": [_hand_made(policy) for policy in result.hand_made],
        "steps": result.problem.steps,
        "seeds": int(result.plain.loss.size),
    })  # fmt: skip


def is_finished(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a front that was completed."""
    path = pathlib.Path(folder) / PARETO
    try:
        return path.exists() and read_json(path, "").get("result") == str(ResultCode.completed)
    except ValueError:  # damaged: it is written again
        return False


def save_pareto(result: ParetoResult, folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Writes `pareto.json` and `pareto.npz`.

    Args:
        result: of `pareto_front`.
        folder: existing folder.

    Returns:
        The summary.
    """
    folder = pathlib.Path(folder)
    summary = pareto_summary(result)
    write_json(folder / PARETO, summary)
    arrays = {name: np.array([getattr(point, name) for point in result.points]) for name in (*NUMBERS, "is_front")}
    np.savez_compressed(folder / "pareto.npz", allow_pickle=False, **arrays)
    return summary


def _evaluation(e: Evaluation) -> dict[str, float]:
    return {
        "heat_kt_per_parameter": mean_with_error(e.heat_kt_per_parameter)[0],
        "actuation_kt_per_parameter": mean_with_error(e.actuation_kt_per_parameter)[0],
        "energy_kt_per_parameter": e.energy_kt_per_parameter,
        "test_loss": e.mean_loss,
        "test_loss_error": e.loss_error,
    }


def _hand_made(policy: HandMade) -> dict[str, Any]:
    return {"barrier": policy.family, "setting": policy.setting, **_evaluation(policy.evaluation)}
