"""Optimal protocols and their work in closed form; what the simulations and the descent are held against."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.linalg import solveh_banded

from limjax.numerics._guards import finite
from limjax.numerics.checks import checked_leaf, positive_number
from limjax.simulate._langevin import Potential
from limjax.simulate._protocols import LinearProtocol

_NEWTON_STEPS = 500


def _distance(value: float) -> float:
    checked_leaf(value, "distance", remedy="It is in lengths of the trap.")
    return float(value)


_UNITS = "Times are in relaxation times, stiffnesses in kT per length²."


@finite
def moving_trap_linear_work(distance: float, time: float) -> float:
    r"""Mean work of dragging a unit trap at constant speed, $\lambda^2(t+e^{-t}-1)/t^2$; its variance is twice that.

    Args:
        distance: λ [lengths of the trap].
        time: t [relaxation times].

    Returns:
        Mean work [kT].

    Raises:
        ValueError: if the time is not positive or a number not finite.

    Source: Mazonka & Jarzynski, arXiv:cond-mat/9912121.
    """
    distance, time = _distance(distance), positive_number(time, "time", _UNITS)
    if time < 1e-3:  # t + e^-t - 1 loses its digits
        return distance**2 * (0.5 - time * (1 / 6 - time / 24))
    return distance**2 / time**2 * (time + np.expm1(-time))


def moving_trap_optimum(distance: float, time: float) -> tuple[float, LinearProtocol]:
    r"""Least mean work $\lambda^2/(t+2)$ of moving a unit trap, and the protocol with its two jumps.

    Args:
        distance: λ.
        time: t.

    Returns:
        Work [kT] and protocol.

    Raises:
        ValueError: if the time is not positive or a number not finite.

    Example:
        >>> work, protocol = moving_trap_optimum(5.0, 1.0)
        >>> f"{work:.4f}, jump {protocol.knots[0]:.4f}"
        '8.3333, jump 1.6667'

    Source: Schmiedl & Seifert, Phys. Rev. Lett. 98, 108301 (2007), eq. 9.
    """
    distance, time = _distance(distance), positive_number(time, "time", _UNITS)
    jump = distance / (time + 2)
    return distance**2 / (time + 2), LinearProtocol(0.0, distance, time, [jump, distance - jump])


@finite
def stiffness_optimum(start: float, stop: float, time: float) -> float:
    r"""Least mean work of changing the stiffness of a trap.

    The variance follows $w = (1+ct)^2/\lambda_i$; the work is
    $\tfrac12(\lambda_fw_f-1) - \tfrac12\ln(\lambda_iw_f) + (ct)^2/(\lambda_it)$, smallest over c.

    Args:
        start: λ_i.
        stop: λ_f.
        time: t.

    Returns:
        Work [kT].

    Raises:
        ValueError: if a number is not positive and finite.

    Example:
        >>> f"{stiffness_optimum(1.0, 2.0, 1.0):.6f}"
        '0.402918'

    Source: Schmiedl & Seifert, Phys. Rev. Lett. 98, 108301 (2007), case II.
    """
    start, stop, time = (
        positive_number(x, name, _UNITS) for x, name in ((start, "start"), (stop, "stop"), (time, "time"))
    )
    # (√(1 + 2λi t + λf λi t²) - 1 - λf t) / (2 + λf t) without its cancellation: the root's square less that of 1 + λf t.
    root = np.sqrt(1 + 2 * start * time + stop * start * time**2)
    ct = time * (start - stop) / (1 + stop * time + root)
    final = (1 + ct) ** 2 / start
    return float(0.5 * (stop * final - 1) - 0.5 * np.log(start * final) + ct**2 / (start * time))


class FullControlErasure(NamedTuple):
    """Erasure with the whole potential under control.

    Attributes:
        work: least mean work [kT].
        local_equilibrium_work: the same if the bit must end in local equilibrium [kT].
        start: quantiles of the first distribution.
        stop: quantiles of the best last distribution; every particle moves from one to the other at constant speed.
    """

    work: float
    local_equilibrium_work: float
    start: np.ndarray
    stop: np.ndarray


def full_control_erasure(
    potential: Potential,
    control: ArrayLike | list,
    low: float,
    high: float,
    time: float,
    diffusion: float = 1.0,
    cells: int = 4000,
) -> FullControlErasure:
    r"""Least work to bring a bit in equilibrium to the right half within a time, when every potential is allowed between.

    The best transport is at constant speed along quantiles, $W = W_2^2/(D\tau) + \mathrm{KL}(p_\tau\Vert p_{eq})$ with
    the last distribution free in the right half; with it in local equilibrium, $\ln2 + W_2^2/(D\tau)$ for a symmetric bit.

    The last distribution is found by Newton's method on the edges of N equal shares of probability; use x64.

    Args:
        potential: U(x, control) [kT] of the bit at rest; its right well lies at positive x.
        control: its control.
        low: left end of what matters.
        high: right end.
        time: τ.
        diffusion: D.
        cells: number of shares N of probability.

    Returns:
        The works and the two sets of quantiles.

    Raises:
        ValueError: if the time or the diffusion is not positive.

    Source: Proesmans, Ehrich & Bechhoefer, Phys. Rev. Lett. 125, 100602 and Phys. Rev. E 102, 032105 (2020).
    """
    positive_number(time, "time")
    positive_number(diffusion, "diffusion")
    control = jnp.asarray(control, jnp.result_type(float))

    def batched(function):
        mapped = jax.jit(jax.vmap(function, in_axes=(0, None)))
        return lambda x: np.asarray(mapped(jnp.asarray(x, control.dtype), control), np.float64)

    energy, slope = batched(potential), batched(jax.grad(potential))
    curvature = batched(jax.grad(jax.grad(potential)))
    fine = np.linspace(low, high, 200_001)
    u = energy(fine)
    density = np.exp(-(u - u.min()))
    # Trapezoids; the last is the partition function but for the minimum that was taken out of the exponent.
    share = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(fine))])
    log_z = np.log(share[-1]) - u.min()
    share /= share[-1]
    middle = (np.arange(cells) + 0.5) / cells
    x = np.interp(middle, share, fine)
    left = np.interp(0.0, fine, share)
    local = np.interp(left + (1 - left) * middle, share, fine)
    stretch = diffusion * time
    # The right half in equilibrium is -ln(1 - left) from the whole in relative entropy, ln 2 for a symmetric bit.
    local_work = -np.log1p(-left) + np.mean((local - x) ** 2) / stretch

    # Edges of the shares; the first stays at 0, where what comes from the left piles up.
    # The quantile of 1 would be the end of the grid, far out: the last edge starts within its share, and is free.
    z = np.interp(left + (1 - left) * np.append(np.arange(cells), cells - 0.25) / cells, share, fine)
    z[0] = 0.0

    def value(z):
        y, gap = 0.5 * (z[1:] + z[:-1]), np.diff(z)
        # Edges that have passed each other are no distribution; the line search shortens the move.
        if gap.min() <= 0:
            return np.inf
        # Transport, and the relative entropy of the density 1/(N gap) to the Boltzmann distribution.
        return np.mean((y - x) ** 2 / stretch + energy(y) - np.log(gap)) - np.log(cells) + log_z

    best = value(z)
    for _ in range(_NEWTON_STEPS):
        move = _newton_move(z, x, stretch, slope, curvature)
        length = 1.0
        # NaN is no fall either.
        while length > 1e-10 and not value(z + length * move) < best:
            length *= 0.5
        if length <= 1e-10:
            break
        z = z + length * move
        before, best = best, value(z)
        if before - best < 1e-13 * abs(best):
            break
    return FullControlErasure(float(best), float(local_work), x, 0.5 * (z[1:] + z[:-1]))


def _newton_move(
    z: Float[np.ndarray, "edges"],
    x: Float[np.ndarray, "cells"],
    stretch: float,
    slope: Callable[[np.ndarray], np.ndarray],
    curvature: Callable[[np.ndarray], np.ndarray],
) -> Float[np.ndarray, "edges"]:
    """The move of the edges `z` by Newton's method; the first stays."""
    y, gap = 0.5 * (z[1:] + z[:-1]), np.diff(z)
    # Gradient and Hessian of N times the value: the 1/N of the mean drops out of the move.
    first = 2 * (y - x) / stretch + slope(y)
    # Clipped where the barrier bends down: the Hessian stays positive definite and every move goes downhill.
    second = np.maximum(2 / stretch + curvature(y), 0)
    upper, lower = 0.5 * first - 1 / gap, 0.5 * first + 1 / gap
    gradient = upper + np.append(lower[1:], 0)
    own = 0.25 * second + gap**-2
    # An edge has its two shares alone: a tridiagonal Hessian, in the upper form of `solveh_banded`.
    bands = np.zeros((2, y.size))
    bands[1] = own + np.append(own[1:], 0)
    bands[0, 1:] = (0.25 * second - gap**-2)[1:]
    return np.append(0.0, -solveh_banded(bands, gradient))
