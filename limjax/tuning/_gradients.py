"""Derivatives of a run's outcome with respect to its design, by four routes."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree


def value_and_gradient(
    function: Callable[[PyTree], tuple[Float[Array, ""], Any]],
    method: str,
    *,
    pairs: int = 8,
    spread: float = 0.1,
) -> Callable[[PyTree, Array], tuple[tuple[Float[Array, ""], Any], PyTree]]:
    """A function of `(point, key)` that returns `((value, extra), gradient)`.

    - "reverse": backward through the run, memory O(√steps); exact.
    - "forward": one tangent per number, no memory; exact, and faster where there are only a few numbers.
    - "truncated": as "reverse"; the run itself cuts its derivative (`Problem.outcome(window=...)`). Biased, bounded.
    - "evolution": mean of antithetic differences over random directions, of the value smoothed over `spread`. Noisy, but
      indifferent to chaos and to anything that is not differentiable.

    Args:
        function: returns `(value, extra)`.
        method: the route.
        pairs: number of antithetic pairs of "evolution".
        spread: standard deviation of its directions.

    Returns:
        The function; its key is only used by "evolution".

    Raises:
        ValueError: for an unknown method, or a spread or a number of pairs that is not positive.

    Source: evolution strategies as in Salimans et al., arXiv:1703.03864, and the comparison of unrolled gradients in
    Metz et al., arXiv:2111.05803.
    """
    check_method(method)
    if method in ("reverse", "truncated"):
        backward = jax.value_and_grad(function, has_aux=True)
        return lambda point, key: backward(point)
    if method == "forward":
        return functools.partial(_forward, function)
    if not (pairs >= 1 and spread > 0):
        raise ValueError(f"evolution needs pairs >= 1 and spread > 0, got pairs={pairs!r}, spread={spread!r}.")
    return functools.partial(_evolution, function, pairs, spread)


def check_method(method: str) -> None:
    """Refuses a route that there is not.

    Raises:
        ValueError: for an unknown method.
    """
    if method not in ("reverse", "forward", "truncated", "evolution"):
        raise ValueError(f'gradient must be "reverse", "forward", "truncated" or "evolution", got {method!r}.')


def _forward(
    function: Callable[[PyTree], tuple[Float[Array, ""], Any]], point: PyTree, key: Array
) -> tuple[tuple[Float[Array, ""], Any], PyTree]:
    del key
    flat, unravel = ravel_pytree(point)

    def along(direction):
        # The primal values do not depend on the direction, so vmap computes them once;
        # `out_axes` of None holds it to that: a batched value would be refused.
        return jax.jvp(lambda x: function(unravel(x)), (flat,), (direction,))

    (value, extra), (slopes, _) = jax.vmap(along, out_axes=((None, None), 0))(jnp.eye(flat.size, dtype=flat.dtype))
    return (value, extra), unravel(slopes)


def _evolution(
    function: Callable[[PyTree], tuple[Float[Array, ""], Any]], pairs: int, spread: float, point: PyTree, key: Array
) -> tuple[tuple[Float[Array, ""], Any], PyTree]:
    flat, unravel = ravel_pytree(point)
    directions = jax.random.normal(key, (pairs, flat.size), flat.dtype)

    def difference(direction):
        # Both sides see the same seeds: what they have in common drops out, all even orders among it. Slope times
        # direction is the gradient on average, since E[εεᵀ] = 1.
        up, _ = function(unravel(flat + spread * direction))
        down, _ = function(unravel(flat - spread * direction))
        return (up - down) / (2 * spread) * direction

    # One pair at a time: the memory of one run, and no batched compilation of it.
    slopes = jnp.mean(jax.lax.map(difference, directions), axis=0)
    # Value and outcome of the point itself: history and the price of a limit follow them.
    return function(point), unravel(slopes)
