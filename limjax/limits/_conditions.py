"""What the cells and the learning are assumed to be like."""

import math
from dataclasses import dataclass

from limjax.limits import bounds
from limjax.limits._arguments import Number, settle
from limjax.physics.units import YEAR_S

DEFAULT_TIME_S = 90 * 86400.0
"""Duration of a training where none is given [s]."""
OPEN_BARRIER_KT = 2.0
"""Lowest barrier at which a ladder still has levels [kT]."""
_NUMBERS = {
    "temperature": Number("Room temperature is 300 K.", 1e-9, 1e9),
    "error": Number("It is a probability below one half, for example 1e-3.", 1e-30, 0.5),
    "relative_error": Number("It is standard deviation over mean, for example 1.", 1e-9, 1e9),
    "contraction_factor": Number("It is the training time over the cheapest one, for example 1.", 0.0, 20.0),
    "signal_to_noise": Number("It is squared mean over variance of one gradient, for example 0.01.", 1e-9, 1e9),
    "attempt_rate": Number("It is k0 in 1/s, for example 1e9.", 1e-6, 1e30),
    "retention_time": Number("It is in seconds; ten years are 3.16e8.", 1e-9, 1e30),
    "retention_failure": Number("It is a probability, for example 1e-4.", 1e-30, 1.0),
    # The cheapest uT of 1e25, 57.6, is still one that `approaches` integrate.
    "loss_ratio": Number("It is first loss over last, for example 65536.", high=1e25, optional=True),
}


@dataclass(frozen=True)
class Conditions:
    """What the cells and the learning are assumed to be like; every line of the stack names those it uses.

    Args:
        temperature: of the bath [K].
        error: probability that a hop goes the wrong way.
        relative_error: standard deviation of an update over its mean.
        loss_ratio: L0/LT, how many times one convergence brings the mean squared distance down. None takes 4^b: from the
            whole range of a b-bit weight down to one level.
        contraction_factor: training time over the cheapest one, uT = factor × ln(L0/LT), above one half.
        signal_to_noise: of the gradient in one update, for the estimate of the controller's information.
        attempt_rate: k0 [1/s].
        retention_time: how long a static barrier must hold a weight [s].
        retention_failure: probability that it fails to.

    Raises:
        ValueError: if a number is out of its range.
    """

    temperature: float = 300.0
    error: float = 1e-3
    relative_error: float = 1.0
    loss_ratio: float | None = None
    contraction_factor: float = 1.0
    signal_to_noise: float = 0.01
    attempt_rate: float = 1e9
    retention_time: float = 10 * YEAR_S
    retention_failure: float = 1e-4

    def __post_init__(self):
        settle(self, _NUMBERS)
        # The ranges above hold their ends: a hop as often wrong as right needs no drive, ln(1 - P) has no value at 1.
        for name, end in (("error", 0.5), ("retention_failure", 1.0)):
            if getattr(self, name) >= end:
                raise ValueError(f"{name} must be below {end:g}, got {getattr(self, name):g}. It is a probability.")
        # The law's heat diverges at uT = ½ ln(L0/LT), line 10 of docs/law.md.
        if self.contraction_factor <= 0.5:
            raise ValueError(
                f"contraction_factor must be above 0.5, got {self.contraction_factor:g}: in a shorter time no barrier lets the "
                "loss fall that far."
            )
        if self.loss_ratio is not None and not self.loss_ratio > 1:
            raise ValueError(f"loss_ratio must be above 1, got {self.loss_ratio:g}. {_NUMBERS['loss_ratio'].remedy}")

    @property
    def retention_barrier(self) -> float:
        """Barrier that holds a weight for the retention time, one way [kT]."""
        return float(bounds.retention(self.retention_time, self.retention_failure, attempt_rate=self.attempt_rate))

    def ratio(self, bits: float | int) -> float:
        """L0/LT of one convergence for weights of that many bits."""
        return 4.0**bits if self.loss_ratio is None else self.loss_ratio

    def contraction(self, bits: float | int) -> float:
        """uT of one convergence for weights of that many bits."""
        return self.contraction_factor * math.log(self.ratio(bits))

    def crossing_text(self, bits: int) -> str:
        """How far and how fast a weight of that many bits goes, in a few words."""
        return f"each parameter crosses {2.0**bits:g} levels once, uT = {self.contraction(bits):.3g}"

    def ratio_text(self, bits: float | int) -> str:
        """The loss ratio and where it comes from, in a few words."""
        value = f"L0/LT = {self.ratio(bits):.4g}"
        return f"{value} as given" if self.loss_ratio else f"{value} = 4^{bits:g}, from the whole range to one level"
