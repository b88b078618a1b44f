"""How a long loop ended, the same for training, tuning, sweeps and protocols: a word, and what to do about it."""

import enum


class ResultCode(enum.StrEnum):
    """How it ended.

    Attributes:
        help: what it means and what to do.

    Example:
        >>> str(ResultCode.completed), ResultCode.completed.help
        ('completed', 'All steps were taken.')
    """

    help: str

    def __new__(cls, word: str, help: str) -> "ResultCode":
        # StrEnum's own `__new__` would take the second text for the name of an encoding.
        member = str.__new__(cls, word)
        member._value_, member.help = word, help
        return member

    completed = "completed", "All steps were taken."
    converged = "converged", "The cost stopped changing before all steps were taken."
    interrupted = (
        "interrupted",
        "It was stopped, and what there is so far is kept. A training run goes on with the same command and --resume, a "
        "front with the same call and folder.",
    )
    spent = (
        "spent",
        "The heat that was given is spent, and what there is so far is kept. With a larger budget (--budget-kt, stop_at_heat=) and "
        "--resume the run goes on.",
    )
    reached = (
        "reached",
        "The loss that was asked for is reached, before all steps were taken. With a lower one (--stop-at-loss, stop_at_loss=) and "
        "--resume the run goes on.",
    )
    stopped = (
        "stopped",
        "on_progress asked for it by returning True, and what there is so far is kept. With resume=True the run goes on.",
    )
    infeasible = (
        "infeasible",
        "No design met the limit; the one nearest to it is returned, and its value is in the history. Loosen the limit, take "
        "more outer steps, or give the barrier more freedom.",
    )
    diverged = (
        "diverged",
        "The value or its gradient was not finite again and again, even with smaller steps; the best before that is returned. "
        "Lower the outer rate. Of training runs lower the learning rate or the energy weight, check the data for NaN, or use "
        'gradient="evolution"; of a simulation take more time steps.',
    )
    nonfinite = (
        "nonfinite",
        "The loss or a weight became infinite or NaN; the last good state was kept. Lower the learning rate, raise the barrier "
        "(less hop noise) or use a finer lsb.",
    )
