"""Curves through equally spaced knots."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def hermite_curve(knots: Float[Array, "*rows knots"], progress: Float[Array, "*points"]) -> Float[Array, "..."]:
    """Cubic Hermite (Catmull-Rom) curve through equally spaced knots.

    Args:
        knots: values, shape (..., knots), at least two.
        progress: 0 at the first knot, 1 at the last; clipped to that. A scalar, or any shape if there is one row of knots.

    Returns:
        The curve's value: one per row, or of the shape of progress.
    """
    count = knots.shape[-1]
    position = jnp.clip(progress.astype(knots.dtype), 0, 1) * (count - 1)
    # No segment begins at the last knot: there t is 1 in the one before.
    index = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, count - 2)
    t = position - index.astype(knots.dtype)
    # The two ghost knots continue the first and last segment in a straight line.
    first = 2 * knots[..., :1] - knots[..., 1:2]
    last = 2 * knots[..., -1:] - knots[..., -2:-1]
    padded = jnp.concatenate([first, knots, last], axis=-1)
    p0, p1, p2, p3 = (jnp.take(padded, index + offset, axis=-1) for offset in range(4))
    return p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
