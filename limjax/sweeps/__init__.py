"""Many short runs at once: settings times seeds, and barriers side by side with error bars."""

from limjax.sweeps._compare import CompareResult, compare
from limjax.sweeps._sweep import Setting, SweepResult, sweep

__all__ = ["CompareResult", "Setting", "SweepResult", "compare", "sweep"]
