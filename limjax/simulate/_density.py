r"""The density itself: one-dimensional Fokker-Planck equation with exact mean work and heat, without sampling noise.

Cells of equal width exchange probability by hops whose rates (Scharfetter & Gummel) obey detailed balance with the cells'
energies, so that probability is conserved, the Boltzmann distribution is exactly stationary and the second law holds on the
grid. Work and heat are accounted for as in `langevin`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from limjax.numerics._loops import checkpointed_loop
from limjax.numerics.checks import checked_leaf, finite_number, is_known, is_whole, whole_number
from limjax.simulate._langevin import Potential, check_protocol
from limjax.simulate._protocols import ControlProtocol


class Grid(eqx.Module):
    """Equal cells between two ends.

    Attributes:
        low: left end.
        high: right end.
        cells: number of cells.
        is_periodic: whether the right end meets the left one; walls otherwise.

    Raises:
        ValueError: if the ends are not finite numbers in order or there are fewer than three cells.

    Example:
        >>> grid = Grid(-2.0, 2.0, 8)
        >>> grid.width, grid.centers[:2].tolist()
        (0.5, [-1.75, -1.25])
    """

    # Static: the number of cells is a shape, and the width a number of Python that takes the dtype of what it meets.
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)
    cells: int = eqx.field(static=True)
    is_periodic: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        low, high = (finite_number(getattr(self, name), name, "It is an end of the grid.") for name in ("low", "high"))
        if not 0 < high - low < math.inf:
            raise ValueError(f"A grid's ends, low and high, must be in order, got {self.low!r} and {self.high!r}.")
        if not is_whole(self.cells) or self.cells < 3:
            raise ValueError(f"A grid needs at least 3 cells, got {self.cells!r}.")

    @property
    def width(self) -> float:
        """Width of a cell [length]."""
        return (self.high - self.low) / self.cells

    @property
    def centers(self) -> Float[Array, "cells"]:
        """Middles of the cells."""
        return self.low + self.width * (jnp.arange(self.cells, dtype=jnp.result_type(float)) + 0.5)


class FokkerPlanckResult(eqx.Module):
    """Moments of a driven density; energies in kT.

    Attributes:
        probability: probability of each cell at the end.
        work: mean work.
        heat: mean heat given to the bath, by the first law.
        energy_change: mean of last minus first energy.
        entropy_change: Gibbs entropy of the last minus the first distribution [nats].
        entropy_production: heat plus entropy change; never negative.
        lowest: smallest density value seen over all steps, as probability of a cell; negative values are an error of the
            time stepping ("euler" has none).
    """

    probability: Float[Array, "cells"]
    work: Float[Array, ""]
    heat: Float[Array, ""]
    energy_change: Float[Array, ""]
    entropy_change: Float[Array, ""]
    entropy_production: Float[Array, ""]
    lowest: Float[Array, ""]


def boltzmann(potential: Potential, control: ArrayLike | list, grid: Grid) -> Float[Array, "cells"]:
    """Probability of each cell in equilibrium.

    Args:
        potential: U(x, control) [kT].
        control: control.
        grid: the grid.

    Returns:
        Probabilities, sum 1.
    """
    return jax.nn.softmax(-_energies(potential, control, grid))


def fokker_planck(
    potential: Potential,
    protocol: ControlProtocol,
    grid: Grid,
    *,
    steps: int,
    diffusion: ArrayLike = 1.0,
    start: Float[Array, "cells"] | None = None,
    scheme: str = "sdirk",
) -> FokkerPlanckResult:
    r"""Solves $\partial_tp = D\,\partial_x(p\,\partial_xU+\partial_xp)$ while the control moves.

    Args:
        potential: U(x, control) [kT].
        protocol: the control in time.
        grid: cells with walls at both ends, wide enough that nothing is there.
        steps: number of time steps.
        diffusion: D [length²/time].
        start: first probabilities of the cells; None takes equilibrium at the protocol's initial control.
        scheme: "sdirk", two implicit stages, second order in time and L-stable; or "euler", first order, which keeps every
            probability positive at any step.

    Returns:
        Mean work, heat, entropies and the last distribution.

    Raises:
        ValueError: for a wrong number or scheme, a periodic grid, or a start of the wrong shape.

    Cost: two tridiagonal solves a step (cells × steps operations); reverse mode keeps O(√steps) densities. The error falls
    with the square of the cell's width and of the step.

    Example:
        >>> from limjax.simulate import Grid, LinearProtocol, MovingTrap, fokker_planck
        >>> result = fokker_planck(MovingTrap(), LinearProtocol(0.0, 1.0, 1.0), Grid(-6.0, 7.0, 130), steps=100)
        >>> f"{result.work:.3f}"                                # e^-1 for a unit trap moved by 1 in a time 1
        '0.368'

    Source: Scharfetter & Gummel, IEEE Trans. Electron Devices 16, 64 (1969); SDIRK of Alexander, SIAM J. Numer. Anal. 14,
    1006 (1977); physics.md section 6.
    """
    if scheme not in ("sdirk", "euler"):
        raise ValueError(f'scheme must be "sdirk" or "euler", got {scheme!r}.')
    if grid.is_periodic:
        raise ValueError("fokker_planck needs a grid with walls, got a periodic one; `transport` takes periodic grids.")
    steps = whole_number(steps, "steps")
    if start is not None and start.shape != (grid.cells,):
        raise ValueError(f"start must hold one probability per cell, shape ({grid.cells},), got {start.shape}.")
    check_protocol(protocol)
    remedy = "It is in length² per time."
    diffusion = checked_leaf(diffusion, "diffusion", low=0.0, open_low=True, single=True, remedy=remedy)
    return _fokker_planck(potential, protocol, grid, steps, diffusion, start, scheme)


@eqx.filter_jit
def _fokker_planck(
    potential: Potential,
    protocol: ControlProtocol,
    grid: Grid,
    steps: int,
    diffusion: Float[Array, ""],
    start: Float[Array, "cells"] | None,
    scheme: str,
) -> FokkerPlanckResult:
    first = _energies(potential, protocol.initial, grid)
    last = _energies(potential, protocol.final, grid)
    p0 = jax.nn.softmax(-first) if start is None else start
    dtype = p0.dtype
    scale = protocol.duration.astype(dtype) / steps * diffusion.astype(dtype) / grid.width**2

    def body(carry):
        k, p, work, energy, lowest = carry
        following = _energies(potential, protocol((k.astype(dtype) + 0.5) / steps), grid)
        # First the control at a fixed density, then the density at a fixed control, as with trajectories.
        work = work + jnp.sum(p * (following - energy))
        p = _advance(p, following, scale, scheme)
        return k + 1, p, work, following, jnp.minimum(lowest, jnp.min(p))

    carry = (jnp.zeros((), jnp.int32), p0, jnp.zeros((), dtype), first, jnp.min(p0))
    _, p, work, energy, lowest = checkpointed_loop(body, carry, steps)
    work = work + jnp.sum(p * (last - energy))
    change = jnp.sum(p * last) - jnp.sum(p0 * first)
    entropy = entropy_of(p) - entropy_of(p0)
    return FokkerPlanckResult(
        probability=p,
        work=work,
        heat=work - change,
        energy_change=change,
        entropy_change=entropy,
        entropy_production=work - change + entropy,
        lowest=lowest,
    )


def _energies(potential: Potential, control: ArrayLike | list, grid: Grid) -> Float[Array, "cells"]:
    centers = grid.centers
    return jax.vmap(potential, in_axes=(0, None))(centers, jnp.asarray(control, centers.dtype))


def entropy_of(p: Float[Array, "n"]) -> Float[Array, ""]:
    """Gibbs entropy of probabilities [nats]; those that are not positive count nothing."""
    # 1 ln 1 = 0 adds nothing, and the derivative of the branch that is not taken stays finite.
    safe = jnp.where(p > 0, p, 1)
    return -jnp.sum(safe * jnp.log(safe))


def _bernoulli(z: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """z/(e^z - 1), exact near 0."""
    # The quotient would do at any z but 0; its derivative, however, cancels in float32: at 1e-5 it is 1.6 % off.
    small = jnp.abs(z) < 1e-3
    # Beyond 40 the 1 is lost in float64 too; at 89 e^z is infinite in float32, and the quotient's derivative NaN.
    large = z > 40
    safe = jnp.where(small | large, 1, z)
    tail = jnp.where(large, z, 1)
    quotient = jnp.where(large, tail * jnp.exp(-tail), safe / jnp.expm1(safe))
    return jnp.where(small, 1 - z / 2 + z * z / 12, quotient)


def _rates(energy: Float[Array, "cells"]) -> tuple[Float[Array, "walls"], Float[Array, "walls"]]:
    """Hops right from each cell and left into it, in units of D/width²: shapes (cells - 1,)."""
    rise = energy[1:] - energy[:-1]
    return _bernoulli(rise), _bernoulli(-rise)


def _advance(
    p: Float[Array, "cells"], energy: Float[Array, "cells"], scale: Float[Array, ""], scheme: str
) -> Float[Array, "cells"]:
    right, left = _rates(energy)
    zero = jnp.zeros(1, p.dtype)
    # No hop leads through a wall.
    leaving = jnp.concatenate([right, zero]) + jnp.concatenate([zero, left])

    def change(p):
        # As differences of flows: what leaves a cell arrives in the next.
        flow = right * p[:-1] - left * p[1:]
        return jnp.concatenate([zero, flow]) - jnp.concatenate([flow, zero])

    def solve(rhs, h):
        # (1 - h L) p = rhs; an M-matrix, so p is positive where rhs is.
        # `tridiagonal_solve` asks for a zero where a row has no neighbour.
        lower, upper = jnp.concatenate([zero, -h * right]), jnp.concatenate([-h * left, zero])
        return jax.lax.linalg.tridiagonal_solve(lower, 1 + h * leaving, upper, rhs[:, None])[:, 0]

    if scheme == "euler":
        return solve(p, scale)
    # 1 ± √½ make two equal implicit stages L-stable and of second order. The second stage is the result, so that fast
    # modes die out at any step.
    gamma = 1 - np.sqrt(0.5)
    h = gamma * scale
    stage = solve(p, h)
    return solve(p + (1 - gamma) * scale * change(stage), h)


def generator(
    potential: Potential, control: ArrayLike | list, grid: Grid, diffusion: ArrayLike = 1.0
) -> Float[Array, "cells cells"]:
    """The matrix L of dp/dt = L p; its columns sum to zero.

    Args:
        potential: U(x, control) [kT].
        control: control.
        grid: walls or periodic; on a periodic grid the potential may be tilted, U(x + period) = U(x) - F.
        diffusion: D [length²/time].

    Returns:
        Dense matrix.
    """
    right, left = _grid_rates(potential, control, grid)
    n = grid.cells
    here = jnp.arange(right.shape[0])
    there = (here + 1) % n
    rates = jnp.zeros((n, n), right.dtype).at[there, here].add(right).at[here, there].add(left)
    rates = rates * jnp.asarray(diffusion, right.dtype) / grid.width**2
    # The diagonal is summed up, not computed: columns add to zero to rounding.
    return rates - jnp.diag(jnp.sum(rates, axis=0))


def _grid_rates(
    potential: Potential, control: ArrayLike | list, grid: Grid
) -> tuple[Float[Array, "walls"], Float[Array, "walls"]]:
    energy = _energies(potential, control, grid)
    if not grid.is_periodic:
        return _rates(energy)
    # One period on a tilted potential is lower by F: rolling the energies would miss it at the seam.
    beyond = jax.vmap(potential, in_axes=(0, None))(grid.centers + grid.width, jnp.asarray(control, energy.dtype))
    return _bernoulli(beyond - energy), _bernoulli(energy - beyond)


def relaxation_rates(
    potential: Potential, control: ArrayLike | list, grid: Grid, count: int = 2, diffusion: ArrayLike = 1.0
) -> Float[Array, "count"]:
    """The slowest rates at which a density relaxes, by size; the first is 0, the second that of hopping over a barrier.

    Args:
        potential: U(x, control) [kT].
        control: control.
        grid: a grid with walls.
        count: how many.
        diffusion: D [length²/time].

    Returns:
        Rates [1/time]. Their error falls with the square of the cell's width.

    Raises:
        ValueError: for a periodic grid, a diffusion constant that is not positive, or traced arguments in 32-bit floats: the
            slowest rate is the difference of large numbers, and is computed in float64 whatever the default.

    Cost: eigenvalues of a symmetric tridiagonal matrix.
    """
    if grid.is_periodic:
        raise ValueError("relaxation_rates needs a grid with walls, got a periodic one.")
    return _in_float64(
        "relaxation_rates", lambda u, c, d: _relaxation_rates(u, c, d, grid, count), potential, control, diffusion
    )


def _in_float64(
    name: str, function: Callable[..., Any], potential: Potential, control: ArrayLike | list, diffusion: ArrayLike
) -> Any:
    """The function of the three in float64, whatever the default: what it returns are small differences of large numbers."""
    checked_leaf(diffusion, "diffusion", low=0.0, open_low=True, single=True, remedy="It is in length² per time.")
    arguments = (potential, control, diffusion)
    if jnp.result_type(float) == jnp.float64:
        return function(*arguments)
    traced = ValueError(
        f"{name} cannot be traced in 32-bit floats, where the slowest rates are lost in rounding: set "
        'jax.config.update("jax_enable_x64", True), or call it outside of jit, grad and vmap.'
    )
    if not is_known(*arguments):
        raise traced
    # By NumPy first: outside of the block below JAX has no float64.
    wide = [np.asarray(leaf, np.float64) if eqx.is_array_like(leaf) else leaf for leaf in jax.tree.leaves(arguments)]
    # Numbers that a potential closes over have the dtype that its author gave them.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        wide = [jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in wide]
        values = function(*jax.tree.unflatten(jax.tree.structure(arguments), wide))
    if not is_known(values):  # by what the potential closes over
        raise traced
    return jax.tree.map(lambda value: jnp.asarray(np.asarray(value), jnp.float32), values)


def _relaxation_rates(
    potential: Potential, control: ArrayLike | list, diffusion: ArrayLike, grid: Grid, count: int
) -> Float[Array, "count"]:
    right, left = _grid_rates(potential, control, grid)
    zero = jnp.zeros(1, right.dtype)
    leaving = jnp.concatenate([right, zero]) + jnp.concatenate([zero, left])
    # Detailed balance makes it similar to the symmetric matrix with √(right·left) beside the diagonal.
    symmetric = jnp.diag(leaving) - jnp.diag(jnp.sqrt(right * left), 1) - jnp.diag(jnp.sqrt(right * left), -1)
    # The slowest is zero but for rounding, which may make it negative.
    values = jnp.maximum(jnp.linalg.eigvalsh(symmetric)[:count], 0.0)
    return values * jnp.asarray(diffusion, values.dtype) / grid.width**2


class Transport(NamedTuple):
    """Steady motion in a periodic potential.

    Attributes:
        drift: mean velocity [length/time].
        diffusion: half the growth of the variance in time [length²/time].
    """

    drift: Any
    diffusion: Any


def transport(potential: Potential, control: ArrayLike | list, grid: Grid, diffusion: ArrayLike = 1.0) -> Transport:
    """Drift and diffusion of the steady state in a tilted periodic potential.

    Args:
        potential: U(x, control) with U(x + period) = U(x) - F.
        control: control.
        grid: a periodic grid over one period.
        diffusion: D of the free particle [length²/time].

    Returns:
        Drift and effective diffusion; the first two cumulants of the displacement, by perturbation of the generator.

    Raises:
        ValueError: for a grid with walls, a diffusion constant that is not positive, or traced arguments in 32-bit floats, as
            `relaxation_rates`: over a high barrier the drift is far below the rates that it is the difference of.

    Cost: two dense solves. Source: Derrida, J. Stat. Phys. 31, 433 (1983).
    """
    if not grid.is_periodic:
        raise ValueError("transport needs a periodic grid, got one with walls: Grid(low, high, cells, True).")
    return _in_float64("transport", lambda u, c, d: _transport(u, c, d, grid), potential, control, diffusion)


def _transport(potential: Potential, control: ArrayLike | list, diffusion: ArrayLike, grid: Grid) -> Transport:
    matrix = generator(potential, control, grid, diffusion)
    right, left = _grid_rates(potential, control, grid)
    scale = jnp.asarray(diffusion, right.dtype) / grid.width**2
    right, left = right * scale, left * scale
    n, width = grid.cells, grid.width
    p = solve_balance(matrix, jnp.zeros(n, right.dtype), 1.0)
    # A hop right from cell i ends in i+1, a hop left into cell i starts there.
    ahead = jnp.roll(p, -1)
    drift = width * jnp.sum(right * p - left * ahead)
    # First order in the counting field: L q = (drift - hops) p, sum q = 0.
    moved = width * (jnp.roll(right * p, 1) - left * ahead)
    source = drift * p - moved
    q = solve_balance(matrix, source, 0.0)
    second = width**2 * jnp.sum(right * p + left * ahead)
    first = width * jnp.sum(right * q - left * jnp.roll(q, -1))
    return Transport(drift, 0.5 * second + first)


def solve_balance(matrix: Float[Array, "n n"], source: Float[Array, "n"], total: float) -> Float[Array, "n"]:
    """The q of L q = source with a given sum, for a generator L whose columns sum to zero."""
    # Any one balance follows from the others: the sum takes the place of the last.
    fixed = jnp.concatenate([matrix[:-1], jnp.ones((1, source.size), source.dtype)])
    return jnp.linalg.solve(fixed, source.at[-1].set(total))
