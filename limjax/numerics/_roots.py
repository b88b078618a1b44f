"""Roots of monotone functions, element by element, with derivatives from the implicit function theorem."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

Elementwise = Callable[[Float[Array, "..."]], Float[Array, "..."]]


def monotone_root(
    residual: Elementwise,
    guess: Float[Array, "..."],
    low: ArrayLike,
    high: ArrayLike,
    iterations: int,
) -> Float[Array, "..."]:
    r"""Solves residual(u) = 0 for each element: Newton's step where it stays inside the bracket, else its middle.

    The bracket shrinks at each step by the sign of the residual, so a root inside it is never lost. Derivatives with
    respect to anything `residual` closes over follow from $du = -\partial r / (\partial r/\partial u)$ and cost one
    evaluation, whatever the number of iterations; they compose to any order.

    Args:
        residual: increasing function of u, acting on each element alone.
        guess: first u, of the shape of the result.
        low: lower end of the bracket.
        high: upper end of the bracket.
        iterations: number of steps, the same for all elements.

    Returns:
        u, NaN where the residual is NaN.

    Example:
        >>> import jax.numpy as jnp
        >>> target = jnp.float32(2.0)
        >>> root = monotone_root(lambda u: 2 * u - jnp.log(target), jnp.float32(0.0), -9.0, 9.0, 3)
        >>> f"{jnp.exp(root):.6f}"
        '1.414214'
    """
    # Ends of the shape and dtype of u from the start: a loop may not change those of its carry.
    low = jnp.full_like(guess, low) if jnp.ndim(low) == 0 else jnp.asarray(low, guess.dtype)
    high = jnp.full_like(guess, high) if jnp.ndim(high) == 0 else jnp.asarray(high, guess.dtype)

    def solve(function, start):
        def step(_, carry):
            u, lower, upper, _ = carry
            # Each element depends on its own u alone, so that a tangent of ones gives all the slopes in one pass.
            value, slope = jax.jvp(function, (u,), (jnp.ones_like(u),))
            lower = jnp.where(value < 0, u, lower)
            upper = jnp.where(value > 0, u, upper)
            newton = u - value / slope
            # A step of a slope of 0, NaN or the wrong sign is outside or fails both comparisons: half the bracket.
            # The ends count as inside: at convergence the step rounds to the end the root has just become.
            is_inside = (newton >= lower) & (newton <= upper)
            return jnp.where(is_inside, newton, 0.5 * (lower + upper)), lower, upper, value

        first = jnp.clip(start, low, high)
        root, _, _, last = jax.lax.fori_loop(0, iterations, step, (first, low, high, first))
        # No comparison holds of NaN: halving would end at a finite number that is no root.
        return jnp.where(jnp.isnan(last), jnp.nan, root)

    def tangent_solve(linear, right):
        # The Jacobian is diagonal, and its product with ones is the diagonal.
        return right / linear(jnp.ones_like(right))

    return jax.lax.custom_root(residual, guess, solve, tangent_solve)
