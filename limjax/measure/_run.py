"""The energy of a training: idle, compilation and training apart."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from limjax.measure._counters import AbstractCounters
from limjax.measure._window import Energy, EnergyWindow, energy_window

IDLE_SECONDS = 2.0
"""How long the idle machine is looked at before a training [s]."""


class RunMeter:
    """Windows of one training.

    Args:
        counters: that are read.
        idle_seconds: how long the idle machine is looked at [s].
    """

    def __init__(self, counters: AbstractCounters, idle_seconds: float = IDLE_SECONDS):
        self._counters, self._idle_seconds = counters, idle_seconds
        self._windows: dict[str, EnergyWindow] = {}

    def idle(self) -> None:
        """Looks at the machine while nothing is computed."""
        with self.window("idle"):
            # A power that is assumed has no idle part: nothing would be learnt by waiting.
            if self._counters.reason is None and self._counters.kind == "measured":
                self._counters.wait(self._idle_seconds)

    @contextlib.contextmanager
    def window(self, name: str) -> Iterator[None]:
        """A window of that name: "compilation" or "training"."""
        with energy_window(self._counters) as window:
            self._windows[name] = window
            yield

    def summary(self, steps: int) -> dict[str, Any]:
        """What `summary.json` says under `measured`.

        Args:
            steps: that were taken in the window of the training.

        Returns:
            Energies [J], powers [W] and times [s]; `joules` is None, with a `reason`, where there is no counter.
        """
        training, idle, compilation = (self._energy(name) for name in ("training", "idle", "compilation"))
        if training is None:
            reason = next((window.reason for window in self._windows.values() if window.reason), "there was no window")
            kind, method = self._counters.kind, self._counters.method
            return {"kind": kind, "method": method, "joules": None, "reason": reason, "steps": steps}
        content = training.as_dict() | {"reason": None, "steps": steps}
        if idle is not None and idle.watts is not None and idle.kind == "measured":
            # The error of the idle power grows with the training's length; errors are added as in `total_uncertainty`.
            share = training.seconds / idle.seconds
            for name, joules in idle.joules.items():
                content["counters"][name]["idle_watts"] = joules / idle.seconds
            content |= {
                "idle_watts": idle.watts,
                "idle_seconds": idle.seconds,
                "above_idle_joules": (training.total or 0.0) - idle.watts * training.seconds,
                "above_idle_uncertainty_joules": training.total_uncertainty + share * idle.total_uncertainty,
            }
        if compilation is not None:
            content["compilation"] = {"joules": compilation.total, "seconds": compilation.seconds}
        return content

    def _energy(self, name: str) -> Energy | None:
        window = self._windows.get(name)
        return None if window is None else window.energy


def measured_text(content: Mapping[str, Any]) -> str:
    """What a measurement says, in one or two sentences.

    Args:
        content: of `RunMeter.summary`.

    Returns:
        The sentences.

    Example:
        >>> measured_text({"joules": None, "reason": "this machine has no energy counter that can be read"})
        "The machine's energy is not known: this machine has no energy counter that can be read."
    """
    if content["joules"] is None:
        return f"The machine's energy is not known: {content['reason'].rstrip('.')}."
    is_estimate = content["kind"] == "estimate"
    margin = "" if is_estimate else f" ± {content['uncertainty_joules']:.2g}"
    head = "An estimate, not a measurement" if is_estimate else "Measured"
    text = f"{head}: {content['joules']:.4g}{margin} J in {content['seconds']:.3g} s of training ({content['method']})."
    if content.get("idle_watts") is not None:
        text += f" {content['above_idle_joules']:.4g} ± {content['above_idle_uncertainty_joules']:.2g} J of them above its idle {content['idle_watts']:.3g} W."
    if content.get("compilation") is not None:
        text += f" Compiling took {content['compilation']['joules']:.3g} J more, which is not in it."
    return text
