"""One physical memory cell: a ladder of levels with an Arrhenius barrier between neighbours.

Source: `physics.md` section 1 of the project's documentation (docs/physics), standard stochastic thermodynamics
(Seifert, Rep. Prog. Phys. 75, 126001, 2012, doi 10.1088/0034-4885/75/12/126001).
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from limjax.numerics.checks import WholeNumber, checked_leaf, compute_dtype, whole_number
from limjax.physics import actuation
from limjax.physics.response import cell_response, hop_rates
from limjax.physics.units import BOLTZMANN_J_PER_K

KRAMERS_REFERENCE_BARRIER = 10.0
"""Barrier [kT] at which the ladder's k0 e^-B equals Kramers' D π B e^-B; it fixes D from the attempt rate."""


class ArrheniusCell(eqx.Module):
    r"""A memory cell whose hops between levels follow Arrhenius rates with local detailed balance.

    Rates $k_\pm = k_0 e^{-B \pm F/2}$; in one step of `step_time` $\tau$ the exchange is $g = k_0 \tau e^{-B}$ hops
    each way. A request of $d$ levels needs the affinity $F = 2\,\mathrm{asinh}(d/2g)$, dissipates $Q = dF$ and
    scatters by the activity $A = \sqrt{d^2 + 4g^2}$.

    All numbers are leaves: they can be differentiated, mapped over and changed without recompiling. All but the step time may vary
    from device to device: an array broadcasts against every parameter array the cell serves (one number per parameter, per column, or
    per row with shape (rows, 1)); `limjax.learning_in_memory` takes a cell for each layer.

    Args:
        lsb: one level in weight units; a power of two keeps weights exactly on the ladder. [weight/level]
        attempt_rate: k0. [1/s]
        step_time: duration τ of one optimizer step. [s]
        temperature: temperature of the bath, used only to turn kT into joules. [K]
        recovery: share of the barrier's free energy that the driver gets back on lowering it, 0 to 1.
        min_barrier: lowest barrier the device can set. [kT]
        max_barrier: highest barrier the device can set. [kT]
        levels: `(lowest, highest)` level the cell can hold, or None for no end. [levels]
        bits: short for `levels=(-2**(bits-1), 2**(bits-1) - 1)`.

    Raises:
        ValueError: if a number is not finite or out of its range; the message names it.

    Example:
        >>> cell = ArrheniusCell(lsb=2**-10, attempt_rate=1e9, step_time=1e-3, temperature=300.0)
        >>> f"{cell.heat(1.0, 10.0):.3f} kT open, {cell.heat(1.0, 50.0):.1f} kT shut"
        '0.022 kT open, 72.4 kT shut'

    Source: Butler-Volmer/Tafel form of the mean-rate law; Barato & Seifert, PRL 114, 158101 (2015) for
    $QA/d^2 \ge 2$.
    """

    lsb: Float[Array, "..."]
    attempt_rate: Float[Array, "..."]
    step_time: Float[Array, "*s"]
    temperature: Float[Array, "..."]
    recovery: Float[Array, "..."]
    min_barrier: Float[Array, "..."]
    max_barrier: Float[Array, "..."]
    levels: Float[Array, "2"] | None

    def __init__(
        self,
        lsb: ArrayLike = 2**-10,
        attempt_rate: ArrayLike = 1e9,
        step_time: ArrayLike = 1e-3,
        temperature: ArrayLike = 300.0,
        *,
        recovery: ArrayLike = 0.0,
        min_barrier: ArrayLike = 0.0,
        max_barrier: ArrayLike = 80.0,
        levels: tuple[int, int] | None = None,
        bits: WholeNumber | None = None,
    ):
        def positive(value, name, remedy, single=False):
            return checked_leaf(value, name, low=0.0, open_low=True, remedy=remedy, single=single)

        self.lsb = positive(lsb, "lsb", "It is the weight of one level, for example 2**-10.")
        self.attempt_rate = positive(attempt_rate, "attempt_rate", "It is k0 in 1/s, for example 1e9.")
        self.step_time = positive(
            step_time, "step_time", "It is the duration of one step in s, for example 1e-3.", True
        )
        self.temperature = positive(temperature, "temperature", "Room temperature is 300.0 K.")
        self.recovery = checked_leaf(
            recovery, "recovery", low=0.0, high=1.0, remedy="0 means every raise is paid, 1 a reversible driver."
        )
        barrier_remedy = "Barriers are in kT; 10 is open for training and 50 holds a bit for ten years."
        self.min_barrier = checked_leaf(min_barrier, "min_barrier", low=0.0, remedy=barrier_remedy)
        self.max_barrier = checked_leaf(max_barrier, "max_barrier", low=0.0, open_low=True, remedy=barrier_remedy)
        if not isinstance(self.min_barrier + self.max_barrier, jax.core.Tracer) and bool(
            jnp.any(self.min_barrier >= self.max_barrier)
        ):
            raise ValueError(f"min_barrier must be below max_barrier, got {min_barrier} and {max_barrier} kT.")
        if bits is not None:
            if levels is not None:
                raise ValueError(f"Give levels or bits, not both; got levels={levels!r} and bits={bits!r}.")
            bits = whole_number(bits, "bits", 1, 24, said="from 1 to 24 (what float32 counts exactly)")
            levels = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        self.levels = None if levels is None else _checked_range(levels)

    @property
    def varied(self) -> dict[str, Float[Array, "..."]]:
        """The numbers that differ between the cells of one array, by name; none for cells that are all alike."""
        names = ("lsb", "attempt_rate", "temperature", "recovery", "min_barrier", "max_barrier")
        return {name: value for name in names if (value := getattr(self, name)).ndim}

    def clip_levels(self, level: Float[Array, "..."]) -> Float[Array, "..."]:
        """The nearest position the cell can hold; the same position for a cell without a range.

        Args:
            level: position on the ladder [levels].

        Returns:
            Position inside the range [levels].
        """
        if self.levels is None:
            return level
        lowest, highest = self.levels.astype(level.dtype)
        return jnp.clip(level, lowest, highest)

    def log_attempts(self, dtype=None) -> Float[Array, "*s"]:
        """ln(k0 τ): logarithm of the attempts in one step, the exchange at zero barrier.

        Args:
            dtype: dtype of the result; that of the leaves if None.

        Returns:
            ln(k0 τ) [dimensionless].
        """
        value = jnp.log(self.attempt_rate) + jnp.log(self.step_time)
        return value if dtype is None else value.astype(dtype)

    def log_exchange(self, barrier: ArrayLike) -> Float[Array, "..."]:
        """ln g = ln(k0 τ) - B.

        Args:
            barrier: B [kT].

        Returns:
            ln of the exchange [ln(hops per step)].
        """
        barrier = _floating(barrier)
        return self.log_attempts(barrier.dtype) - barrier

    def exchange(self, barrier: ArrayLike) -> Float[Array, "..."]:
        """g = k0 τ e^-B: hops per step, each way, at zero tilt.

        Args:
            barrier: B [kT].

        Returns:
            g [hops per step].

        Example:
            >>> f"{ArrheniusCell().exchange(10.0):.2f}"
            '45.40'
        """
        return jnp.exp(self.log_exchange(barrier))

    def barrier(self, log_exchange: ArrayLike) -> Float[Array, "..."]:
        """The barrier that gives an exchange: B = ln(k0 τ) - ln g, not clipped to the cell's range.

        Args:
            log_exchange: ln g [ln(hops per step)].

        Returns:
            B [kT].
        """
        log_exchange = _floating(log_exchange)
        return self.log_attempts(log_exchange.dtype) - log_exchange

    def affinity(self, drift: ArrayLike, barrier: ArrayLike) -> Float[Array, "..."]:
        """F = 2 asinh(d / 2g): the tilt per level that makes the mean move equal the request.

        Args:
            drift: d, requested levels per step [levels].
            barrier: B [kT].

        Returns:
            F [kT].
        """
        drift, log_exchange = self._operands(drift, barrier)
        return cell_response(drift, log_exchange)[0]

    def heat(self, drift: ArrayLike, barrier: ArrayLike) -> Float[Array, "..."]:
        """Q = d F: mean heat of one step, equal to its entropy production.

        Args:
            drift: d [levels].
            barrier: B [kT].

        Returns:
            Q [kT], never negative. Cost: one logarithm, one root and a few products per element.
        """
        drift, log_exchange = self._operands(drift, barrier)
        return drift * cell_response(drift, log_exchange)[0]

    def activity(self, drift: ArrayLike, barrier: ArrayLike) -> Float[Array, "..."]:
        """A = sqrt(d² + 4g²): mean number of hops of one step, and variance of its displacement.

        Args:
            drift: d [levels].
            barrier: B [kT].

        Returns:
            A [hops] = [levels²].
        """
        return cell_response(*self._operands(drift, barrier))[1]

    def hop_rates(self, drift: ArrayLike, barrier: ArrayLike) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """Poisson rates (A ± d)/2 of the up and down hop counts of one step.

        Args:
            drift: d [levels].
            barrier: B [kT].

        Returns:
            `(up, down)` [hops per step].
        """
        return hop_rates(*self._operands(drift, barrier))

    def is_saturated(self, drift: ArrayLike, barrier: ArrayLike) -> Bool[Array, "..."]:
        """Whether the tilt has eaten the barrier: F/2 > B, that is |d| > k0 τ (1 - e^-2B).

        Beyond it the Arrhenius picture ends. Heat is still charged by the closed form; the ledger counts the steps.

        Args:
            drift: d [levels].
            barrier: B [kT].

        Returns:
            True where the request cannot be met by a barrier-limited cell.
        """
        drift = _floating(drift)
        return jnp.abs(drift) > self.saturation_drift(jnp.asarray(barrier, drift.dtype))

    def saturation_drift(self, barrier: ArrayLike) -> Float[Array, "..."]:
        """Largest request a barrier-limited cell can meet in one step: k0 τ (1 - e^-2B), where F/2 = B.

        Args:
            barrier: B [kT].

        Returns:
            d [levels].
        """
        barrier = _floating(barrier)
        return -jnp.exp(self.log_attempts(barrier.dtype)) * jnp.expm1(-2 * barrier)

    def retention_barrier(
        self, time: ArrayLike, failure: ArrayLike = 1e-4, cells: ArrayLike = 1.0
    ) -> Float[Array, "..."]:
        """Barrier that holds cells for a time: B = ln(n k0 t / -ln(1 - P)), counted one way.

        That is the convention of cells with two states, and of device papers. A level of the ladder is left both ways: it needs
        ln 2 more (`limjax.limits.bounds.retention(ways=2)`).

        Args:
            time: t, how long the state must survive [s].
            failure: P, probability that any of the cells fails, between 0 and 1.
            cells: n, how many cells must survive together.

        Returns:
            B [kT].

        Raises:
            ValueError: if an argument is not positive or the probability is not below 1.

        Example:
            >>> f"{ArrheniusCell().retention_barrier(10 * 365.25 * 86400, 1e-4):.2f}"
            '49.50'
        """
        time = checked_leaf(
            time, "time", low=0.0, open_low=True, remedy="Retention is in seconds; ten years are 3.16e8."
        )
        failure = _probability(failure)
        cells = checked_leaf(cells, "cells", low=0.0, open_low=True, remedy="It is how many cells must survive.")
        log_rate = jnp.log(self.attempt_rate) + jnp.log(time) + jnp.log(cells)
        return log_rate - jnp.log(-jnp.log1p(-failure))

    def retention_time(
        self, barrier: ArrayLike, failure: ArrayLike = 1e-4, cells: ArrayLike = 1.0
    ) -> Float[Array, "..."]:
        """How long a barrier holds cells, counted one way: t = -ln(1 - P) e^B / (n k0).

        Args:
            barrier: B [kT].
            failure: P, probability that any of the cells fails, between 0 and 1.
            cells: n, how many cells must survive together.

        Returns:
            t [s]; inf where it exceeds what the dtype holds.

        Raises:
            ValueError: if an argument is out of its range.
        """
        barrier = checked_leaf(barrier, "barrier", low=0.0, remedy="Barriers are in kT.")
        failure = _probability(failure)
        cells = checked_leaf(cells, "cells", low=0.0, open_low=True, remedy="It is how many cells must survive.")
        return jnp.exp(barrier + jnp.log(-jnp.log1p(-failure)) - jnp.log(self.attempt_rate) - jnp.log(cells))

    def diffusion_per_step(self, dtype=None) -> Float[Array, "*s"]:
        """D τ of the cosine landscape behind the ladder, from Kramers' k0 = D π B at B = 10 kT.

        Args:
            dtype: dtype of the result; that of the leaves if None.

        Returns:
            D τ [levels²].
        """
        value = jnp.exp(self.log_attempts()) / (math.pi * KRAMERS_REFERENCE_BARRIER)
        return value if dtype is None else value.astype(dtype)

    def actuation(self, start: ArrayLike, stop: ArrayLike) -> Float[Array, "..."]:
        """Work to move the barrier in one step: free energy, less what is recovered, plus the finite-time excess.

        Args:
            start: barrier before [kT].
            stop: barrier after [kT].

        Returns:
            Work [kT]; negative only where a lowering is partly recovered.

        Source: Sivak & Crooks, PRL 108, 190602 (2012) for the excess ℓ²/(D τ).
        """
        start, stop = _floating(start), _floating(stop)
        dtype = jnp.result_type(start, stop)
        start, stop = start.astype(dtype), stop.astype(dtype)
        reversible = actuation.actuation_work(start, stop, self.recovery.astype(dtype))
        return reversible + actuation.finite_time_excess(start, stop, self.diffusion_per_step(dtype))

    def joules(self, energy_kt: ArrayLike) -> Any:
        """Energy in kT as joules at the cell's temperature.

        Args:
            energy_kt: energy [kT].

        Returns:
            Energy [J]: in float64 for known numbers, a float for a scalar and a NumPy array for an array; inside `jit` and `grad`
            an array of the dtype there is, whose smallest float32 is 1e-38 J, 3e-18 of a kT.

        Example:
            >>> f"{ArrheniusCell().joules(1.0):.6e}"
            '4.141947e-21'
        """
        if isinstance(energy_kt, jax.core.Tracer) or isinstance(self.temperature, jax.core.Tracer):
            return _floating(energy_kt) * (BOLTZMANN_J_PER_K * self.temperature)
        joules = np.asarray(energy_kt, np.float64) * (BOLTZMANN_J_PER_K * np.asarray(self.temperature, np.float64))
        return float(joules) if joules.ndim == 0 else joules

    def _operands(self, drift, barrier):
        drift = _floating(drift)
        return drift, self.log_exchange(jnp.asarray(barrier, drift.dtype))


def _checked_range(levels) -> Float[Array, "2"]:
    """Lowest and highest level."""
    try:
        lowest, highest = levels
        is_range = bool(lowest < highest)
    except (TypeError, ValueError):
        is_range = False
    if not is_range:
        raise ValueError(f"levels must be (lowest, highest) with lowest < highest, got {levels!r}.")
    return checked_leaf(list(levels), "levels", remedy="They are level numbers, for example levels=(-128, 127).")


def _floating(value: ArrayLike) -> Float[Array, "..."]:
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return array.astype(jnp.result_type(float))
    return array.astype(compute_dtype(array.dtype))


def _probability(failure) -> Float[Array, "..."]:
    # The upper end is open as well: certain failure needs no barrier at all.
    return checked_leaf(
        failure,
        "failure",
        low=0.0,
        open_low=True,
        high=1 - 1e-7,
        remedy="It is a probability above 0 and below 1, for example 1e-4.",
    )
