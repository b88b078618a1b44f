"""The memory cell of the paper: Arrhenius hops that a tilt helps one way as much as it hinders them the other.

Source: `physics.md` section 1 of the project's documentation (docs/physics).
"""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from limjax.numerics.checks import WholeNumber, checked_leaf
from limjax.physics._abstract_cell import AbstractCell
from limjax.physics._device_numbers import LevelRange, as_floating, device_numbers
from limjax.physics._response import RateBounds, Response, symmetric_response, symmetric_tilt


class ArrheniusCell(AbstractCell):
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
        max_affinity: F_max, the largest affinity that the driver can give, above 0; one step then moves a cell by at most
            $d_{max} = 2g\,\sinh(F_{max}/2)$, so that a high barrier is low plasticity. None for a driver without an end. [kT]

    Raises:
        ValueError: if a number is not finite or out of its range; the message names it.

    Example:
        >>> cell = ArrheniusCell(lsb=2**-10, attempt_rate=1e9, step_time=1e-3, temperature=300.0)
        >>> f"{cell.heat(1.0, 10.0):.3f} kT open, {cell.heat(1.0, 50.0):.1f} kT shut"
        '0.022 kT open, 72.4 kT shut'
        >>> weak = ArrheniusCell(max_affinity=4.0)
        >>> [f"{weak.largest_move(barrier):.3g}" for barrier in (10.0, 14.0, 18.0)]
        ['329', '6.03', '0.11']

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
    max_affinity: Float[Array, "..."] | None

    per_cell: ClassVar[tuple[str, ...]] = (*AbstractCell.per_cell, "max_affinity")

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
        levels: LevelRange | None = None,
        bits: WholeNumber | None = None,
        max_affinity: ArrayLike | None = None,
    ):
        numbers = device_numbers(
            lsb, attempt_rate, step_time, temperature, recovery, min_barrier, max_barrier, levels, bits
        )
        for name, value in numbers.items():
            setattr(self, name, value)
        remedy = "It is the largest tilt of the driver in kT per level, for example 8.0; None for no end."
        given = max_affinity is not None
        self.max_affinity = (
            checked_leaf(max_affinity, "max_affinity", low=0.0, open_low=True, remedy=remedy) if given else None
        )

    @property
    def driver_affinity(self) -> Float[Array, "..."] | None:
        """`max_affinity`."""
        return self.max_affinity

    def response(self, drift: Float[Array, "..."], barrier: Float[Array, "..."]) -> Response:
        """F = 2 asinh(d / 2g), A = sqrt(d² + 4g²) and the rates (A ± d)/2.

        Args:
            drift: d [levels].
            barrier: B [kT].

        Returns:
            The response. Cost: one logarithm, two roots and a few products per element.
        """
        return symmetric_response(drift, self.log_exchange(barrier))

    def tilted(
        self, half_tilt: Float[Array, "..."], barrier: Float[Array, "..."], max_move: float | None = None
    ) -> tuple[Float[Array, "..."], Bool[Array, "..."]]:
        """d = 2g sinh(F/2), with the tilt held at the barrier, where the hop rate is the attempt rate, or at the largest move.

        Args:
            half_tilt: F/2 [kT].
            barrier: B [kT].
            max_move: largest mean move a driver allows [levels], or None.

        Returns:
            `(d [levels], whether the tilt was held)`.
        """
        return symmetric_tilt(half_tilt, barrier, self.log_exchange(barrier), max_move)

    def reach(self, barrier: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """Mean moves at the driver's largest affinity: d_max either way.

        Args:
            barrier: B [kT].

        Returns:
            `(-d_max, d_max)` [levels].
        """
        largest = self.largest_move(barrier)
        return -largest, largest

    def largest_move(self, barrier: ArrayLike) -> Float[Array, "..."]:
        """d_max = 2g sinh(F_max/2): what the driver delivers in one step at most, with F_max/2 held at the barrier.

        Args:
            barrier: B [kT].

        Returns:
            d_max [levels]; infinite for a driver without an end.
        """
        barrier = as_floating(barrier)
        if self.max_affinity is None:
            return jnp.full_like(barrier, jnp.inf)
        half = jnp.minimum(0.5 * self.max_affinity.astype(barrier.dtype), barrier)
        # ln g inside the exponential: g and sinh alone may not be floats.
        return -jnp.exp(self.log_exchange(barrier) + half) * jnp.expm1(-2 * half)

    def rate_bounds(self, drift: Float[Array, "..."], barrier: Float[Array, "..."]) -> RateBounds:
        """Bounds of all hop rates of an array, from the extremes of request and barrier alone.

        Args:
            drift: d [levels].
            barrier: B [kT].

        Returns:
            Bounds [hops per step].
        """
        log_exchange = self.log_exchange(barrier)
        # The rates multiply to g² and differ by |d|: the larger is at most |d| + g, the smaller at most g.
        smaller = jnp.exp(jnp.max(log_exchange, initial=-jnp.inf))
        highest = jnp.max(jnp.abs(drift), initial=0.0) + smaller
        return RateBounds(jnp.exp(2 * jnp.min(log_exchange, initial=jnp.inf)) / highest, highest, smaller)

    def barrier_at_activity(self, drift: ArrayLike, activity: ArrayLike) -> Float[Array, "..."]:
        """The barrier at which a request scatters by a given variance: 4g² = A² - d².

        Args:
            drift: d [levels].
            activity: A, above |d| [levels²].

        Returns:
            B, not clipped to the cell's range [kT].
        """
        drift, activity = as_floating(drift), as_floating(activity)
        # A² - d² as a product, as squares cancel where nearly all scatter is the request's own.
        square = jnp.maximum((activity - drift) * (activity + drift), jnp.finfo(drift.dtype).tiny)
        return self.barrier(0.5 * jnp.log(0.25 * square))

    def is_saturated(self, drift: ArrayLike, barrier: ArrayLike) -> Bool[Array, "..."]:
        """Whether the tilt has eaten the barrier: F/2 > B, that is |d| > k0 τ (1 - e^-2B).

        Beyond it the Arrhenius picture ends. Heat is still charged by the closed form; the ledger counts the steps.

        Args:
            drift: d [levels].
            barrier: B [kT].

        Returns:
            True where the request cannot be met by a barrier-limited cell.
        """
        drift = as_floating(drift)
        return jnp.abs(drift) > self.saturation_drift(jnp.asarray(barrier, drift.dtype))

    def saturation_drift(self, barrier: ArrayLike) -> Float[Array, "..."]:
        """Largest request a barrier-limited cell can meet in one step: k0 τ (1 - e^-2B), where F/2 = B.

        Args:
            barrier: B [kT].

        Returns:
            d [levels].
        """
        barrier = as_floating(barrier)
        return -jnp.exp(self.log_attempts(barrier.dtype)) * jnp.expm1(-2 * barrier)
