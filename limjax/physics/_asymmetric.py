"""A memory cell whose tilt helps hops one way by another share than it hinders them the other way."""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from limjax.numerics._elementary import asinh, safe_log
from limjax.numerics.checks import WholeNumber, checked_leaf
from limjax.physics._abstract_cell import AbstractCell
from limjax.physics._device_numbers import LevelRange, device_numbers
from limjax.physics._response import Response

# Newton steps: enough for float64 at every transfer coefficient from 0.05 to 0.95 (tests).
_ITERATIONS = 8


class AsymmetricCell(AbstractCell):
    r"""A cell with the rates $k_+ = k_0 e^{-B + θF}$ and $k_- = k_0 e^{-B - (1-θ)F}$, as at an electrode.

    A request of d levels needs the affinity that solves $d = g\,(e^{θF} - e^{-(1-θ)F})$ with $g = k_0 τ e^{-B}$. Its heat is $dF$ and it
    scatters by $A = k_+τ + k_-τ$: moving up is dear where θ is small, moving down where it is large. With θ = 1/2 it is
    `limjax.ArrheniusCell`.

    Args:
        transfer: θ, the transfer coefficient of the hop up, 0.01 to 0.99; an array varies from device to device.
        lsb: as in `limjax.ArrheniusCell`, and so are all that follow.
        attempt_rate: k0. [1/s]
        step_time: duration τ of one optimizer step. [s]
        temperature: temperature of the bath. [K]
        recovery: share of the barrier's free energy that the driver gets back on lowering it, 0 to 1.
        min_barrier: lowest barrier the device can set. [kT]
        max_barrier: highest barrier the device can set. [kT]
        levels: `(lowest, highest)` level the cell can hold, or None for no end. [levels]
        bits: short for `levels=(-2**(bits-1), 2**(bits-1) - 1)`.

    Raises:
        ValueError: if a number is not finite or out of its range; the message names it.

    Example:
        >>> cell = AsymmetricCell(0.2)
        >>> f"up {cell.heat(1.0, 20.0):.1f} kT, down {cell.heat(-1.0, 20.0):.1f} kT"
        'up 30.9 kT, down 7.7 kT'

    Cost: eight Newton steps of two exponentials and a logarithm per parameter and step, about ten times an `ArrheniusCell`.

    Source: Butler-Volmer kinetics (Bard & Faulkner, Electrochemical Methods, 2nd ed., 2001, section 3.3).
    """

    transfer: Float[Array, "..."]
    lsb: Float[Array, "..."]
    attempt_rate: Float[Array, "..."]
    step_time: Float[Array, "*s"]
    temperature: Float[Array, "..."]
    recovery: Float[Array, "..."]
    min_barrier: Float[Array, "..."]
    max_barrier: Float[Array, "..."]
    levels: Float[Array, "2"] | None

    per_cell: ClassVar[tuple[str, ...]] = (*AbstractCell.per_cell, "transfer")

    def __init__(
        self,
        transfer: ArrayLike = 0.5,
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
    ):
        numbers = device_numbers(
            lsb, attempt_rate, step_time, temperature, recovery, min_barrier, max_barrier, levels, bits
        )
        for name, value in numbers.items():
            setattr(self, name, value)
        remedy = "It is the share of the tilt that helps the hop up; 0.5 is symmetric."
        self.transfer = checked_leaf(transfer, "transfer", low=0.01, high=0.99, remedy=remedy)

    def response(self, drift: Float[Array, "..."], barrier: Float[Array, "..."]) -> Response:
        """The affinity that solves d = g (e^{θF} - e^{-(1-θ)F}), and the rates at it.

        Args:
            drift: d [levels].
            barrier: B [kT].

        Returns:
            The response.
        """
        drift, log_exchange, transfer = jnp.broadcast_arrays(
            drift, self.log_exchange(barrier), self.transfer.astype(drift.dtype)
        )
        affinity = _affinity(drift, log_exchange, transfer)
        up, down = _rates(affinity, drift, log_exchange, transfer)
        return Response(affinity, up + down, up, down)

    def tilted(
        self, half_tilt: Float[Array, "..."], barrier: Float[Array, "..."], max_move: float | None = None
    ) -> tuple[Float[Array, "..."], Bool[Array, "..."]]:
        """d = g (e^{θF} - e^{-(1-θ)F}), with the tilt held where a hop rate is the attempt rate, or at the largest move.

        Args:
            half_tilt: F/2 [kT].
            barrier: B [kT].
            max_move: largest mean move a driver allows [levels], or None.

        Returns:
            `(d [levels], whether the tilt was held)`.
        """
        tilt, barrier, transfer = jnp.broadcast_arrays(2 * half_tilt, barrier, self.transfer.astype(half_tilt.dtype))
        log_exchange = self.log_exchange(barrier)
        # Where θF, or -(1-θ)F, is B, hops that way are no longer hindered.
        lowest, highest = -barrier / (1 - transfer), barrier / transfer
        if max_move is not None:
            move = jnp.full(tilt.shape, max_move, tilt.dtype)
            lowest = jnp.maximum(lowest, _affinity(-move, log_exchange, transfer))
            highest = jnp.minimum(highest, _affinity(move, log_exchange, transfer))
        held = jnp.clip(tilt, lowest, highest)
        is_small = jnp.abs(held) < 1
        small = jnp.where(is_small, held, 0.0)
        # The two exponentials cancel at small F, so that one is taken out of the bracket; at large F all exponents stay
        # below ln(k0 τ), where g and its factor alone may be beyond the dtype.
        direct = jnp.exp(log_exchange - (1 - transfer) * small) * jnp.expm1(small)
        wide = jnp.exp(log_exchange + transfer * held) - jnp.exp(log_exchange - (1 - transfer) * held)
        return jnp.where(is_small, direct, wide), (tilt < lowest) | (tilt > highest)


@jax.custom_jvp
def _affinity(drift: Any, log_exchange: Float[Array, "..."], transfer: Float[Array, "..."]) -> Float[Array, "..."]:
    """F by Newton's method in closed steps: from below, where the equation's logarithm is concave, no step goes too far."""
    magnitude = jnp.abs(drift)
    is_moved = magnitude > 0
    # A request down is one up for a cell with θ and 1 - θ exchanged.
    forward = jnp.where(drift < 0, 1 - transfer, transfer)
    # The equation is e^{(θ-½)F} sinh(F/2) = |d|/2g = x.
    log_x = safe_log(jnp.where(is_moved, magnitude, 1.0)) - log_exchange - math.log(2)
    is_large = log_x > 0
    # Near the smallest normal number x, or half of the F that is found, is 0 to XLA, and 0/0 below: F = d/g = 2x there, whatever θ is.
    is_linear = log_x < math.log(4 * jnp.finfo(drift.dtype).tiny)
    x = jnp.exp(jnp.where(is_large | is_linear, 0.0, log_x))
    # The start: at large x hops back are few, θF is near ln(d/g); at small x the split of the tilt hardly matters.
    f = jnp.where(is_large, (jnp.where(is_large, log_x, 0.0) + math.log(2)) / forward, 2 * asinh(x))
    for _ in range(_ITERATIONS):
        # tanh is 1 from there on, and sinh is still a float32.
        half = jnp.minimum(0.5 * f, 30.0)
        # ln sinh(F/2) and its slope without overflow; the ratio to x keeps the digits of a small F, which a logarithm would not.
        log_sinh = 0.5 * f + jnp.log(-0.5 * jnp.expm1(-f))
        slope = forward - 0.5 + 0.5 / jnp.tanh(half)
        excess = jnp.exp((forward - 0.5) * jnp.where(is_large, 0.0, f)) * jnp.sinh(jnp.where(is_large, 0.0, half)) / x
        error = jnp.where(is_large, (forward - 0.5) * f + log_sinh - log_x, jnp.log1p(excess - 1))
        # From above the root a concave function throws Newton's step too far, even below 0, where its logarithm ends.
        f = jnp.maximum(f - error / slope, 0.5 * f)
    f = jnp.where(is_linear, jnp.exp(jnp.where(is_linear, log_x + math.log(2), 0.0)), f)
    # 0 times the request, for the sake of NaN, which is not above 0 either.
    return jnp.where(is_moved, jnp.where(drift < 0, -f, f), 0.0 * drift)


@_affinity.defjvp
def _affinity_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    drift, _, transfer = primals
    drift_dot, log_exchange_dot, transfer_dot = tangents
    affinity = _affinity(*primals)
    up, down = _rates(affinity, *primals)
    # The implicit function theorem on d(F, ln g, θ), whose slopes are θ k₊τ + (1-θ) k₋τ, d and dF: no derivative goes
    # through the iterations.
    stiffness = jnp.maximum(transfer * up + (1 - transfer) * down, jnp.finfo(drift.dtype).tiny)
    share = drift / stiffness
    return affinity, drift_dot / stiffness - share * (log_exchange_dot + affinity * transfer_dot)


def _rates(
    affinity: Float[Array, "..."],
    drift: Any,
    log_exchange: Float[Array, "..."],
    transfer: Float[Array, "..."],
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The rates; the larger as the smaller plus the request, so that they differ by it."""
    # Each is right where the tilt hinders it, and at most g; where the tilt helps it is g, finite and not used.
    down = jnp.exp(log_exchange - (1 - transfer) * jnp.maximum(affinity, 0.0))
    up = jnp.exp(log_exchange + transfer * jnp.minimum(affinity, 0.0))
    return jnp.where(drift < 0, up, down + drift), jnp.where(drift < 0, up - drift, down)
