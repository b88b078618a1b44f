"""What a memory cell is: a ladder of levels with a barrier between neighbours, and how it answers a request.

Source: `physics.md` section 1 of the project's documentation (docs/physics), standard stochastic thermodynamics
(Seifert, Rep. Prog. Phys. 75, 126001, 2012, doi 10.1088/0034-4885/75/12/126001).
"""

import abc
import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from limjax.numerics._roots import monotone_root
from limjax.numerics.checks import shown, varied_numbers
from limjax.physics import _one_way, actuation
from limjax.physics._device_numbers import as_floating
from limjax.physics._pulses import Delivery, Place
from limjax.physics._response import RateBounds, Response
from limjax.physics.units import BOLTZMANN_J_PER_K

_PER_CELL = ("lsb", "attempt_rate", "temperature", "recovery", "min_barrier", "max_barrier")

KRAMERS_REFERENCE_BARRIER = 10.0
"""Barrier [kT] at which the ladder's k0 e^-B equals Kramers' D π B e^-B; it fixes D from the attempt rate."""

VALID_FROM_BARRIER = 2.0
"""Barrier [kT] below which the ladder is no longer a good picture of a continuous landscape (docs/ladder.md)."""


class AbstractCell(eqx.Module):
    r"""A memory cell. A new cell is one file with the numbers below, `response` and `tilted`, and one export.

    Without a tilt a cell hops $g = k_0 \tau e^{-B}$ times a step each way; how a tilt F splits the hops between up and down is the
    cell's own, within local detailed balance, $k_+/k_- = e^F$. The heat of a step is then $Q = dF$ whatever the split.

    All numbers are leaves: they can be differentiated, mapped over and changed without recompiling. Those that `per_cell` names may
    vary from device to device: an array broadcasts against every parameter array the cell serves.

    Attributes:
        lsb: one level in weight units. [weight/level]
        attempt_rate: k0. [1/s]
        step_time: duration τ of one optimizer step. [s]
        temperature: temperature of the bath. [K]
        recovery: share of the barrier's free energy that the driver gets back on lowering it.
        min_barrier: lowest barrier the device can set. [kT]
        max_barrier: highest barrier the device can set. [kT]
        levels: lowest and highest level the cell can hold, or None for no end. [levels]
    """

    lsb: eqx.AbstractVar[Float[Array, "..."]]
    attempt_rate: eqx.AbstractVar[Float[Array, "..."]]
    step_time: eqx.AbstractVar[Float[Array, "*s"]]
    temperature: eqx.AbstractVar[Float[Array, "..."]]
    recovery: eqx.AbstractVar[Float[Array, "..."]]
    min_barrier: eqx.AbstractVar[Float[Array, "..."]]
    max_barrier: eqx.AbstractVar[Float[Array, "..."]]
    levels: eqx.AbstractVar[Float[Array, "2"] | None]

    per_cell: ClassVar[tuple[str, ...]] = _PER_CELL

    @abc.abstractmethod
    def response(self, drift: Float[Array, "..."], barrier: Float[Array, "..."]) -> Response:
        """Affinity, activity and hop rates of one step: what the ledger, the comparisons and the hops ask.

        Args:
            drift: d, requested levels per step, float32 or float64 [levels].
            barrier: B, of the same dtype and broadcastable to `drift` [kT].

        Returns:
            The response. What is not used costs nothing under `jax.jit`.
        """

    @abc.abstractmethod
    def tilted(
        self, half_tilt: Float[Array, "..."], barrier: Float[Array, "..."], max_move: float | None = None
    ) -> tuple[Float[Array, "..."], Bool[Array, "..."]]:
        """Mean move of a tilted cell, and where the tilt was held.

        Args:
            half_tilt: F/2 [kT].
            barrier: B [kT].
            max_move: largest mean move a driver allows [levels], or None.

        Returns:
            `(d [levels], whether the tilt had eaten the barrier and was held there)`.
        """

    def __repr__(self) -> str:
        return shown(self)

    @property
    def charges(self) -> tuple[str, ...]:
        """Columns of the ledger that `deliver` fills, for a cell that is written by pulses; none where the tilt alone moves it."""
        return ()

    @property
    def write_joules(self) -> float | None:
        """The most that rounding one request up instead of down takes [J]; None for a cell without pulses, or where that is not known."""
        return None

    @property
    def reads_weights(self) -> bool:
        """Whether what a request does depends on where the cell stands, so that `update` needs the parameters."""
        return False

    def deliver(self, drift: Float[Array, "..."], level: Float[Array, "..."] | None, place: Place) -> Delivery:
        """What a driver makes of a request, for a cell that has `charges`: then this is what moves it, and its heat is that of `mean`.

        Args:
            drift: d, requested levels [levels].
            level: where the cells stand [levels], or None where that is not known.
            place: which cells they are.

        Returns:
            The displacement and what it took.
        """
        raise NotImplementedError(f"{type(self).__name__} has charges, and must say in `deliver` what they are.")

    @property
    def own_barrier(self) -> Float[Array, "..."] | None:
        """The barrier that the device has by itself [kT], or None where it can be set to any height."""
        return None

    @property
    def varied(self) -> dict[str, Float[Array, "..."]]:
        """The numbers that differ between the cells of one array, by name; none for cells that are all alike."""
        return varied_numbers(self, self.per_cell)

    @property
    def driver_affinity(self) -> Float[Array, "..."] | None:
        """F_max, the largest affinity that the cell's driver can give [kT], or None for a driver without an end."""
        return None

    def reach(self, barrier: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """Mean moves at the driver's largest affinity, down and up: what one step can deliver. For a cell with a `driver_affinity`.

        Where half of it is above the barrier, the tilt is held there, as everywhere (`tilted`).

        Args:
            barrier: B [kT].

        Returns:
            `(lowest, highest)` [levels], of the barrier's dtype.
        """
        largest = self.driver_affinity
        if largest is None:
            raise ValueError(
                f"{type(self).__name__} has no driver_affinity: its driver delivers whatever is asked for."
            )
        half = 0.5 * largest.astype(barrier.dtype)
        return self.tilted(-half, barrier)[0], self.tilted(half, barrier)[0]

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

    def log_attempts(self, dtype: Any = None) -> Float[Array, "*s"]:
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
        barrier = as_floating(barrier)
        return self.log_attempts(barrier.dtype) - barrier

    def exchange(self, barrier: ArrayLike) -> Float[Array, "..."]:
        """g = k0 τ e^-B: hops per step, each way, at zero tilt.

        Args:
            barrier: B [kT].

        Returns:
            g [hops per step].

        Example:
            >>> import limjax
            >>> f"{limjax.ArrheniusCell().exchange(10.0):.2f}"
            '45.40'
        """
        return jnp.exp(self.log_exchange(barrier))

    def hops_at_rest(self, barrier: ArrayLike, seconds: ArrayLike) -> Float[Array, "..."]:
        """k0 t e^-B: hops each way in a time without a tilt, by the cell's own exchange.

        Args:
            barrier: B [kT].
            seconds: t [s].

        Returns:
            Hops each way; twice that is the variance of the level [levels²].
        """
        log_exchange = self.log_exchange(barrier)
        log_steps = jnp.log(jnp.asarray(seconds, log_exchange.dtype)) - jnp.log(
            self.step_time.astype(log_exchange.dtype)
        )
        return jnp.exp(log_exchange + log_steps)

    def barrier(self, log_exchange: ArrayLike) -> Float[Array, "..."]:
        """The barrier that gives an exchange: B = ln(k0 τ) - ln g, not clipped to the cell's range.

        Args:
            log_exchange: ln g [ln(hops per step)].

        Returns:
            B [kT].
        """
        log_exchange = as_floating(log_exchange)
        return self.log_attempts(log_exchange.dtype) - log_exchange

    def affinity(self, drift: ArrayLike, barrier: ArrayLike) -> Float[Array, "..."]:
        """F: the tilt per level that makes the mean move equal the request.

        Args:
            drift: d, requested levels per step [levels].
            barrier: B [kT].

        Returns:
            F [kT].
        """
        return self.response(*_operands(drift, barrier)).affinity

    def heat(self, drift: ArrayLike, barrier: ArrayLike) -> Float[Array, "..."]:
        """Q = d F: mean heat of one step, equal to its entropy production.

        Args:
            drift: d [levels].
            barrier: B [kT].

        Returns:
            Q [kT], never negative.
        """
        drift, barrier = _operands(drift, barrier)
        return drift * self.response(drift, barrier).affinity

    def activity(self, drift: ArrayLike, barrier: ArrayLike) -> Float[Array, "..."]:
        """A: mean number of hops of one step, and variance of its displacement.

        Args:
            drift: d [levels].
            barrier: B [kT].

        Returns:
            A [hops] = [levels²].
        """
        return self.response(*_operands(drift, barrier)).activity

    def hop_rates(self, drift: ArrayLike, barrier: ArrayLike) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """Poisson rates (A ± d)/2 of the up and down hop counts of one step.

        Args:
            drift: d [levels].
            barrier: B [kT].

        Returns:
            `(up, down)` [hops per step].
        """
        response = self.response(*_operands(drift, barrier))
        return response.up, response.down

    def rate_bounds(self, drift: Float[Array, "..."], barrier: Float[Array, "..."]) -> RateBounds:
        """Bounds of all hop rates of an array, by which exact hops choose their algorithm on a CPU.

        Args:
            drift: d [levels].
            barrier: B, of the same dtype and broadcastable to `drift` [kT].

        Returns:
            Bounds [hops per step]. A cell may know closer-to-hand ones than its rates.
        """
        _, _, up, down = self.response(drift, barrier)
        smaller = jnp.minimum(up, down)
        highest = jnp.max(jnp.maximum(up, down), initial=0.0)
        return RateBounds(jnp.min(smaller, initial=jnp.inf), highest, jnp.max(smaller, initial=0.0))

    def barrier_at_activity(self, drift: ArrayLike, activity: ArrayLike) -> Float[Array, "..."]:
        """The barrier at which a request scatters by a given variance.

        Args:
            drift: d [levels].
            activity: A, above |d| [levels²].

        Returns:
            B, not clipped to the cell's range [kT].
        """
        drift, activity = _operands(drift, activity)
        guess = self.log_attempts(drift.dtype) - jnp.log(0.5 * activity)

        def excess(barrier):
            return jnp.log(activity) - jnp.log(self.response(drift, barrier).activity)

        return monotone_root(excess, guess, guess - 5.0, guess + 80.0, 40)

    def rate_at_tilt(self, tilt: ArrayLike) -> Float[Array, "..."]:
        """Hops per step, both ways together, under a tilt, in units of the exchange: 2 cosh(F/2) for a symmetric cell.

        Args:
            tilt: F [kT].

        Returns:
            A/g.
        """
        tilt = as_floating(tilt)
        # In these units it is the same at every barrier that the tilt does not eat.
        barrier = 10 + jnp.abs(tilt)
        drift, _ = self.tilted(0.5 * tilt, barrier)
        return self.response(drift, barrier).activity / self.exchange(barrier)

    def is_saturated(self, drift: ArrayLike, barrier: ArrayLike) -> Bool[Array, "..."]:
        """Whether the tilt has eaten the barrier: hops one way at more than the attempt rate.

        Beyond it the Arrhenius picture ends. Heat is still charged by the closed form; the ledger counts the steps.

        Args:
            drift: d [levels].
            barrier: B [kT].

        Returns:
            True where the request cannot be met by a barrier-limited cell.
        """
        _, _, up, down = self.response(*_operands(drift, barrier))
        return jnp.maximum(up, down) > jnp.exp(self.log_attempts(up.dtype))

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
            B [kT]; below 0 where no barrier is needed.

        Raises:
            ValueError: if an argument is not positive or the probability is not below 1.

        Example:
            >>> import limjax
            >>> f"{limjax.ArrheniusCell().retention_barrier(10 * 365.25 * 86400, 1e-4):.2f}"
            '49.50'
        """
        return _one_way.barrier_that_holds(self.attempt_rate, time, failure, cells)

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
        return _one_way.time_that_is_held(self.attempt_rate, barrier, failure, cells)

    def diffusion_per_step(self, dtype: Any = None) -> Float[Array, "*s"]:
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
        start, stop = as_floating(start), as_floating(stop)
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
            >>> import limjax
            >>> f"{limjax.ArrheniusCell().joules(1.0):.6e}"
            '4.141947e-21'
        """
        if isinstance(energy_kt, jax.core.Tracer) or isinstance(self.temperature, jax.core.Tracer):
            return as_floating(energy_kt) * (BOLTZMANN_J_PER_K * self.temperature)
        joules = np.asarray(energy_kt, np.float64) * (BOLTZMANN_J_PER_K * np.asarray(self.temperature, np.float64))
        return float(joules) if joules.ndim == 0 else joules


def _operands(drift: ArrayLike, barrier: ArrayLike) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    drift = as_floating(drift)
    return drift, jnp.asarray(barrier, drift.dtype)
