"""Slow driving: the friction of a control parameter and the protocol of constant dissipation that follows from it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from limjax.numerics.checks import checked_leaf
from limjax.simulate._density import Grid, boltzmann
from limjax.simulate._langevin import Potential
from limjax.simulate._protocols import LinearProtocol


def friction(
    potential: Potential, control: ArrayLike | list, grid: Grid, diffusion: ArrayLike = 1.0
) -> Float[Array, ""]:
    r"""Friction of a scalar control of an overdamped system in one dimension.

    The integral of the equilibrium force correlation, $\zeta = \int_0^\infty\langle\delta X(t)\,\delta X(0)\rangle dt$ with
    $X = -\partial_\lambda U$ in kT; in one dimension it is a quadrature,
    $\zeta = \frac1D\int\frac{dx}{p(x)}\big[\int_{-\infty}^xp\,\delta X\,dx'\big]^2$.

    Args:
        potential: U(x, control) [kT].
        control: one number.
        grid: wide enough that nothing is beyond its ends.
        diffusion: D [length²/time].

    Returns:
        Excess work per squared speed of the control [kT · time / control²].

    Example:
        >>> import jax.numpy as jnp
        >>> from limjax.simulate import Grid, StiffnessTrap, friction
        >>> f"{friction(StiffnessTrap(), 1.0, Grid(-8.0, 8.0, 1000)):.4f}"      # 1 / (4 k³)
        '0.2500'

    Source: Sivak & Crooks, Phys. Rev. Lett. 108, 190602 (2012), eq. 12; the quadrature by solving the backward equation.
    """
    diffusion = checked_leaf(diffusion, "diffusion", low=0.0, open_low=True, remedy="It is in length² per time.")
    control = jnp.asarray(control, jnp.result_type(float))
    p = boltzmann(potential, control, grid)
    push = jax.vmap(jax.grad(potential, argnums=1), in_axes=(0, None))(grid.centers, control)
    # The sign of the force drops out: the flux is squared.
    flow = p * (push - jnp.sum(p * push))
    # Summed from the nearer end: the rounding of a long sum is not small against the probability at the far one.
    below, above = jnp.cumsum(flow)[:-1], -jnp.cumsum(flow[::-1])[::-1][1:]
    flux = jnp.where(jnp.cumsum(p)[:-1] < 0.5, below, above)
    # Roots first: the squares of a tail underflow.
    root = jnp.sqrt(p)
    between = jnp.maximum(root[1:] * root[:-1], jnp.finfo(p.dtype).tiny)
    return jnp.sum(flux * (flux / between)) * grid.width**2 / diffusion.astype(p.dtype)


def near_equilibrium_protocol(
    potential: Potential,
    initial: float,
    final: float,
    duration: float,
    grid: Grid,
    *,
    knots: int = 64,
    diffusion: ArrayLike = 1.0,
) -> tuple[LinearProtocol, float]:
    r"""The best slow protocol: at a speed $\propto1/\sqrt{\zeta}$ the dissipation per time is constant.

    Args:
        potential: U(x, control) [kT].
        initial: first control.
        final: last control.
        duration: time it takes.
        grid: of the position.
        knots: of the protocol.
        diffusion: D [length²/time].

    Returns:
        The protocol, without jumps, and the excess work it would cost if it were slow, the squared thermodynamic length
        over the duration [kT].

    Raises:
        ValueError: if the duration or diffusion is not positive.

    Source: Sivak & Crooks, Phys. Rev. Lett. 108, 190602 (2012); Crooks, Phys. Rev. Lett. 99, 100602 (2007).
    """
    path = jnp.linspace(initial, final, 801)
    # One control after the other: mapped at once, all 801 densities would be in memory.
    speed = jnp.sqrt(jax.lax.map(lambda c: friction(potential, c, grid, diffusion), path))
    steps = 0.5 * (speed[1:] + speed[:-1]) * abs(final - initial) / 800
    # Length in the metric √ζ dλ; the best protocol covers equal lengths in equal times.
    length = jnp.concatenate([jnp.zeros(1, steps.dtype), jnp.cumsum(steps)])
    values = jnp.interp(jnp.linspace(0, 1, knots) * length[-1], length, path)
    return LinearProtocol(initial, final, duration, values), float(length[-1]) ** 2 / duration
