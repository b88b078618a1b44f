"""Elementary functions, stable in value and in every derivative, in the dtype they are given."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

LARGE = {"float32": 1e4, "float64": 1e8}
"""Above this x, asinh(x) = ln(2x) to the dtype (the next term is 1/(4x²)), and x² may overflow."""
# ln(1+f)/f for f from sqrt(1/2)-1 to sqrt(2)-1, error times |f| 5e-9 (`examples/fit_coefficients.py`).
_LOG = (
    0.999999899,
    -0.499999734,
    0.333348799,
    -0.250032168,
    0.199414068,
    -0.165350391,
    0.150506207,
    -0.145605333,
    0.0871268739,
)

as_one = functools.partial(jax.jit, inline=True)
"""Compiles a function as one program where it is called outside of `jax.jit`, and not operation by operation, some 30 ms each."""


@as_one
def safe_log(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """ln(max(x, smallest normal number)): finite at zero, with zero slope there.

    Args:
        x: non-negative values.

    Returns:
        ln x, and ln(smallest normal number), about -87.3 in float32, where x is zero.

    Example:
        >>> import jax.numpy as jnp
        >>> float(safe_log(jnp.float32(1.0)))
        0.0
    """
    # Chosen before and after: the second derivative of the logarithm of the smallest number, 1/tiny², is infinite, and NaN times 0.
    tiny = float(jnp.finfo(x.dtype).tiny)
    is_small = x <= tiny
    return jnp.where(is_small, math.log(tiny), jnp.log(jnp.where(is_small, 1.0, x)))


def polynomial(coefficients: Sequence[float], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The polynomial with these two or more coefficients, lowest first, by Estrin's scheme: short chains of operations.

    Example:
        >>> import jax.numpy as jnp
        >>> float(polynomial((1.0, 2.0, 3.0), jnp.float32(2.0)))
        17.0
    """
    terms = list(coefficients)
    while len(terms) > 1:
        pairs = [terms[i] + terms[i + 1] * x for i in range(0, len(terms) - 1, 2)]
        terms = pairs + terms[len(pairs) * 2 :]
        x = x * x
    return jnp.asarray(terms[0])


def _mantissa(x: Float[Array, "*s"]) -> tuple[Int[Array, "*s"], Float[Array, "*s"]]:
    """k and f of a float32 x = 2^k (1 + f), with 1 + f from the root of 1/2 to the root of 2."""
    # 0x3F3504F3 is the root of 1/2: the shift gives the exponent that leaves a mantissa from there to the root of 2.
    # So f is 0 at x = 1, and a logarithm near 0 keeps its digits; with a mantissa from 1 to 2 it would be, just below
    # x = 1, the difference of two numbers of the size of ln 2.
    bits = jax.lax.bitcast_convert_type(x, jnp.int32)
    exponent = (bits - jnp.int32(0x3F3504F3)) >> jnp.int32(23)
    return exponent, jax.lax.bitcast_convert_type(bits - (exponent << jnp.int32(23)), jnp.float32) - 1


def _log_of(exponent: Int[Array, "*s"], f: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """ln(2^k (1 + f)) in float32."""
    return exponent.astype(jnp.float32) * math.log(2) + f * polynomial(_LOG, f)


@jax.custom_jvp
@as_one
def normal_log(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """ln x for positive normal numbers; in float32 from exponent and mantissa, on a CPU in a third of the time of `jnp.log`.

    Zero, subnormal numbers, infinity and NaN give some finite number in float32.

    Args:
        x: positive normal numbers.

    Returns:
        ln x, to 5e-9 of the mantissa's part before rounding.

    Example:
        >>> import jax.numpy as jnp
        >>> f"{normal_log(jnp.float32(10.0)):.6f}"
        '2.302585'
    """
    if x.dtype != jnp.float32:
        return jnp.log(x)
    return _log_of(*_mantissa(x))


@normal_log.defjvp
def _normal_log_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    # Through bits there is no derivative; this one holds to every order, as 1/x is differentiated as usual.
    return normal_log(*primals), tangents[0] / primals[0]


@as_one
def normal_log1p(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """ln(1+x) for x from 0 on, in float32 as `normal_log`, and to a few ulp for small x too; infinity and NaN stay. No derivative of its own.

    Example:
        >>> import jax.numpy as jnp
        >>> f"{normal_log1p(jnp.float32(1e-9)):.5e} {normal_log1p(jnp.float32(9.0)):.6f}"
        '1.00000e-09 2.302585'
    """
    if x.dtype != jnp.float32:
        return jnp.log1p(x)
    exponent, f = _mantissa(1 + x)
    # Up to root 2 it is x itself, with the digits that 1 + x drops.
    f = jnp.where(exponent == 0, x, f)
    return jnp.where(x < jnp.inf, _log_of(exponent, f), x)


@as_one
def asinh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """asinh by log1p: to a few ulp for every x, in a quarter of the time of `jnp.arcsinh` on an H100, and finite where x² is not.

    Example:
        >>> import jax.numpy as jnp
        >>> f"{asinh(jnp.float32(-1e30)):.5f} {asinh(jnp.float32(1e-6)):.3e}"
        '-69.77070 1.000e-06'
    """
    magnitude = jnp.where(x < 0, -x, x)
    is_large = magnitude > LARGE[x.dtype.name]
    # Each branch is given numbers that it is finite for: an infinity in the one that is not taken, times the 0 that
    # `where` hands back to it, would make the derivative NaN.
    bounded = jnp.where(is_large, 1.0, magnitude)
    square = bounded * bounded
    # x + sqrt(1 + x²) - 1 without the difference of two numbers near 1.
    small = jnp.log1p(bounded + square / (1 + jnp.sqrt(1 + square)))
    positive = jnp.where(is_large, math.log(2) + jnp.log(jnp.where(is_large, magnitude, 1.0)), small)
    # The choice of a sign and not a product with it: sign(0) = 0 would take the slope of 1 at x = 0 away.
    return jnp.where(x < 0, -positive, positive)


@as_one
def asinh_exp(y: Float[Array, "..."]) -> Float[Array, "..."]:
    """asinh(e^y), also where e^y is beyond the dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> f"{asinh_exp(jnp.float32(1000.0)):.4f}"
        '1000.6932'
    """
    is_large = y > 9.0
    # The inner `where` keeps e^(-2y) of very negative y, which overflows, out of the derivative.
    # ln 2x + 1/(4x²): the next term is below the dtype from e^9 on.
    far = y + math.log(2) + 0.25 * jnp.exp(-2 * jnp.where(is_large, y, 9.0))
    return jnp.where(is_large, far, asinh(jnp.exp(jnp.minimum(y, 9.0))))
