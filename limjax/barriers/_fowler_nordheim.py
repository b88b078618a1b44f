"""The logarithmic barrier that a floating gate makes by itself."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from limjax.barriers._base import AbstractBarrier, BarrierInputs, RunShape, Tuned
from limjax.numerics._elementary import safe_log
from limjax.numerics.checks import as_leaf, checked_leaf


class FowlerNordheimBarrier(AbstractBarrier):
    """B(t) = ln(k1 t + k0): the tunnelling exponent k2/V of a floating gate that discharges through its oxide.

    V(t) = k2 / ln(k1 t + k0) solves dV/dt = -(k1/k2) V² e^{-k2/V}, so the exponent k2/V is a barrier that rises by
    ln(1 + t/t_c) with t_c = k0/k1, for free. It matches a learning rate that decays as 1/t.

    Args:
        start: B(0) = ln k0 [kT].
        time_constant: t_c = k0/k1, after which the barrier has risen by ln 2 [s].

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> device = FowlerNordheimBarrier.from_device(k1=1e16, k2=300.0, initial_voltage=7.5)
        >>> f"{device.height(1e6):.4f}"
        '50.6569'

    Source: the Fowler-Nordheim timers and dynamic analogue memories of Chakrabartty and co-workers; Mehta et al.,
    Nature Communications 13, 1670 (2022), doi 10.1038/s41467-022-29320-6.
    """

    name: ClassVar[str] = "fowler-nordheim"
    per_cell: ClassVar[tuple[str, ...]] = ("start", "time_constant")
    tuned: ClassVar[Mapping[str, Tuned]] = {"start": Tuned(low=0.0), "time_constant": Tuned(log=True)}
    level: ClassVar[tuple[str, float] | None] = ("start", 1.0)
    start: Float[Array, "..."]
    time_constant: Float[Array, "..."]

    def __init__(self, start: ArrayLike = 10.0, time_constant: ArrayLike = 1.0):
        self.start = checked_leaf(start, "start", low=0.0, remedy="It is the barrier at time 0 in kT.")
        self.time_constant = checked_leaf(
            time_constant, "time_constant", low=0.0, open_low=True, remedy="It is k0/k1 in seconds."
        )

    @classmethod
    def of_run(
        cls, run: RunShape, /, start: float | None = None, time_constant: float | None = None
    ) -> "FowlerNordheimBarrier":
        """The barrier that rises by about ln 50 over the run from `RunShape.opening` on, unless it is told otherwise."""
        start = run.opening if start is None else start
        return cls(start, run.steps * float(run.cell.step_time) / 50 if time_constant is None else time_constant)

    @classmethod
    def from_device(cls, k1: float, k2: float, initial_voltage: float) -> "FowlerNordheimBarrier":
        """The barrier of a device with constants k1, k2 that starts at a voltage: k0 = exp(k2 / V0).

        Args:
            k1: area and capacitance constant [1/s].
            k2: field constant [V].
            initial_voltage: V0 [V].

        Returns:
            The barrier.

        Raises:
            ValueError: if a number is not positive, or the time constant larger than any float.
        """
        remedy = "Floating-gate constants are positive, for example k1=1e16, k2=300.0, initial_voltage=7.5."
        for value, name in ((k1, "k1"), (k2, "k2"), (initial_voltage, "initial_voltage")):
            checked_leaf(value, name, low=0.0, open_low=True, remedy=remedy)
        start = k2 / initial_voltage
        try:
            # k0/k1 in one exponential: k0 = e^(k2/V0) alone would overflow first.
            time_constant = math.exp(start - math.log(k1))
        except OverflowError:
            raise ValueError(
                f"k0/k1 = e^(k2/initial_voltage)/k1 must be a finite number of seconds, got k1={k1!r}, k2={k2!r}, "
                f"initial_voltage={initial_voltage!r}. {remedy}"
            ) from None
        return cls(start, time_constant)

    def height(self, time: ArrayLike) -> Float[Array, "..."]:
        """B at a time.

        Args:
            time: t [s].

        Returns:
            B [kT].
        """
        # ln(1 + t/t_c) through logarithms: t/t_c alone overflows in float32 for fast devices.
        # At time 0 the logarithm is that of the smallest float, which adds nothing to 1, with slope 0.
        log_ratio = safe_log(as_leaf(time)) - jnp.log(self.time_constant)
        return self.start + jnp.logaddexp(jnp.zeros_like(log_ratio), log_ratio)

    def voltage(self, time: ArrayLike, k2: ArrayLike) -> Float[Array, "..."]:
        """V(t) = k2 / B(t).

        Args:
            time: t [s].
            k2: field constant [V].

        Returns:
            Gate voltage [V].
        """
        return as_leaf(k2) / self.height(time)

    def evaluate(self, inputs: BarrierInputs, state: Any) -> tuple[Any, Any]:
        step_time = inputs.cell.step_time
        return self.height(inputs.step.astype(step_time.dtype) * step_time), state
