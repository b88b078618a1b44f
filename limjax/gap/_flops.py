"""FLOP of runs whose summary was written before it had them."""

from collections.abc import Mapping
from typing import Any

from limjax.tasks import get_task, task_names
from limjax.training import RunSettings, flops_per_step


def with_flops(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The summary with the FLOP of a step, which are counted now if it has none and its task is one of limjax's.

    Args:
        summary: content of `summary.json`.

    Returns:
        The summary; as it was where nothing can be counted.
    """
    if summary.get("flops_per_step") is not None or summary.get("task") not in task_names():
        return dict(summary)
    try:
        settings = RunSettings.from_json(summary)
        task = get_task(settings.task)
        schedule = task.defaults.make_schedule(settings.learning_rate, settings.steps)
        counted = flops_per_step(task, task.defaults.make_optimizer(schedule), settings.batch_size)
    except ValueError:  # a summary of something else, or data that are not on this machine
        return dict(summary)
    return {**summary, "flops_per_step": counted}
