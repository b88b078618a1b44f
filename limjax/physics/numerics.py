"""Stable elementary functions behind the cell's closed forms, in value and in every derivative.

The exchange g spans e^-70 ... 1e6 hops per step, so it travels as its logarithm. Everything here works element by
element in the dtype it is given, float32 included, without forming d² or g², which under- and overflow there.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from limjax.physics.hosts import whole

# Above this x, asinh(x) = ln(2x) to float32 and float64 alike (the next term is 1/(4x²)), and x² may overflow.
_LARGE = {"float32": 1e4, "float64": 1e8}
# asinh(x)/x in powers of x² on 0 <= x <= 1/2: Chebyshev fit of degree 5, error 1.1e-9 before rounding.
_ASINH_SERIES = (
    0.9999999988664692,
    -0.16666633460773048,
    0.0749841260425565,
    -0.04436184388829529,
    0.02807620787248294,
    -0.013099914529717229,
)
# ln(1+f)/f for f from sqrt(1/2)-1 to sqrt(2)-1, error times |f| 5e-9.
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
# exp of this times any request below 1e4 levels is finite.
_MAX_LOG_SCALE = {"float32": 80.0, "float64": 690.0}


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
    return jnp.log(jnp.maximum(x, jnp.finfo(x.dtype).tiny))


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


@jax.custom_jvp
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
    bits = jax.lax.bitcast_convert_type(x, jnp.int32)
    exponent = (bits - jnp.int32(0x3F3504F3)) >> jnp.int32(23)
    f = jax.lax.bitcast_convert_type(bits - (exponent << jnp.int32(23)), jnp.float32) - 1
    return exponent.astype(jnp.float32) * math.log(2) + f * polynomial(_LOG, f)


@normal_log.defjvp
def _normal_log_jvp(primals, tangents):
    return normal_log(*primals), tangents[0] / primals[0]


@jax.custom_jvp
def cell_response(
    drift: Float[Array, "..."], log_exchange: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The affinity 2 asinh(d/2g) and the activity sqrt(d² + 4g²).

    With x = |d|/2g and s = sqrt(1 + x²) they are 2 ln(x + s), by a polynomial or log1p where x is small and 2 (ln|d| - ln g)
    where it is large, and 2gs. One logarithm and two roots in float32; `jnp.arcsinh` alone takes 1.5 times as long on a CPU and 4
    times on an H100. The derivatives of every order are written out (2/A and -2d/A; d/A and 4g²/A), so they are finite at d = 0
    and for g down to zero, as far as the dtype holds them.

    Args:
        drift: d [levels].
        log_exchange: ln g, of the same dtype and broadcastable to `drift`.

    Returns:
        `(2 asinh(d / 2g), A)` [kT, hops], with a relative error of a few ulp for g >= e^-80 in float32 (e^-690 in float64), and
        below that where |d| > 1e-30.

    Example:
        >>> import jax.numpy as jnp
        >>> affinity, activity = cell_response(jnp.float32(1.0), jnp.log(jnp.float32(0.5)))
        >>> f"{affinity:.6f} {activity:.6f}"
        '1.762747 1.414214'
    """
    magnitude = jnp.abs(drift)
    scale = 0.5 * jnp.exp(jnp.minimum(-log_exchange, _MAX_LOG_SCALE[drift.dtype.name]))
    x = magnitude * scale
    is_large = x > _LARGE[drift.dtype.name]
    bounded = jnp.where(is_large, 0.0, x)
    square = bounded * bounded
    root = jnp.sqrt(1 + square)
    # ln 2x = ln|d| - ln g where x is large: x itself may not be finite.
    logarithm = normal_log(jnp.where(is_large, magnitude, bounded + root)) + jnp.where(is_large, -log_exchange, 0.0)
    logarithm = jnp.where(magnitude > jnp.finfo(drift.dtype).max, magnitude, logarithm)
    if drift.dtype == jnp.float32:
        # A logarithm near 1 loses digits; the odd polynomial takes over there, at no division (8.5e-8 below x = 1/2).
        series = jnp.full_like(bounded, _ASINH_SERIES[-1])
        for coefficient in _ASINH_SERIES[-2::-1]:
            series = series * square + coefficient
        small, is_apart = bounded * series, x >= 0.5
    else:
        # log1p of x + x²/(1 + sqrt(1 + x²)), with the digits that 1 + ... rounds away put back.
        excess = bounded + square / (1 + root)
        small, is_apart = jnp.log1p(excess), x >= 2.0
    # NaN takes the small branch, which keeps it.
    positive = jnp.where(is_apart, logarithm, small)
    # The factor of two below the choice of sign: a product at the end would be taken into sums over the array, whose kernel on
    # a CPU reads every factor from memory, constants too.
    affinity = jnp.where(drift < 0, -2 * positive, 2 * positive)
    # The same root in other words, to the last bit: one that both results share would be stored and read again, a fifth of the
    # ledger's traffic on a CPU, where a kernel has one output.
    twice_root = jnp.sqrt(4 + 4 * square)
    return affinity, jnp.where(is_large, magnitude, jnp.exp(log_exchange) * twice_root)


@cell_response.defjvp
def _cell_response_jvp(primals, tangents):
    drift, log_exchange = primals
    drift_dot, log_exchange_dot = tangents
    affinity, activity = cell_response(drift, log_exchange)
    inverse, slope, share = _response_slopes(drift, log_exchange)
    return (affinity, activity), (
        2 * (inverse * drift_dot - slope * log_exchange_dot),
        slope * drift_dot + (2 * jnp.exp(log_exchange)) * (share * log_exchange_dot),
    )


@jax.custom_jvp
def _response_slopes(drift, log_exchange):
    """1/A, d/A and 2g/A, whose derivatives are products of themselves: nothing of the size of 1/A² is ever formed."""
    activity = cell_response(drift, log_exchange)[1]
    inverse = 1 / jnp.maximum(activity, jnp.finfo(drift.dtype).tiny)
    return inverse, drift * inverse, 2 * jnp.exp(log_exchange) * inverse


@_response_slopes.defjvp
def _response_slopes_jvp(primals, tangents):
    inverse, slope, share = _response_slopes(*primals)
    drift_dot, log_exchange_dot = tangents
    relative = inverse * drift_dot
    return (inverse, slope, share), (
        -inverse * (slope * relative) - inverse * (share * (share * log_exchange_dot)),
        share * (share * (relative - slope * log_exchange_dot)),
        share * (slope * (slope * log_exchange_dot - relative)),
    )


def hop_rates(
    drift: Float[Array, "..."], log_exchange: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Poisson rates of the two hop counts of one step, (A ± d)/2, without cancellation.

    The smaller of the two is 2g²/(A + |d|), so that `up - down = d` and `up * down = g²` hold to rounding.

    Args:
        drift: d [levels].
        log_exchange: ln g, of the same dtype and broadcastable to `drift`.

    Returns:
        `(up, down)` [hops per step].

    Example:
        >>> import jax.numpy as jnp
        >>> up, down = hop_rates(jnp.float32(50.0), jnp.log(jnp.float32(0.3)))
        >>> f"{up:.6f} {down:.9f}"
        '50.001801 0.001799935'
    """
    total = cell_response(drift, log_exchange)[1] + jnp.abs(drift)
    exchange = jnp.exp(log_exchange)
    larger = 0.5 * total
    smaller = exchange * (2 * exchange / jnp.maximum(total, jnp.finfo(drift.dtype).tiny))
    return jnp.where(drift < 0, smaller, larger), jnp.where(drift < 0, larger, smaller)


class CompensatedSum(NamedTuple):
    """Running sums with the low-order part that rounding would have dropped (Kahan, CACM 8, 40, 1965).

    `total` alone is right to one ulp; `total + residual` in float64 is better still. With `residual` None the sum is a
    plain one: faster, and wrong by about 1 % after 1e7 float32 additions.

    Attributes:
        total: the sums, any pytree of arrays.
        residual: what is still missing from `total`, or None for plain sums.
    """

    total: PyTree
    residual: PyTree | None

    @staticmethod
    def zeros(like: PyTree, compensated: bool = True) -> "CompensatedSum":
        """Sums of zero with the shapes, dtypes and shardings of `like`."""

        def zeros():
            return jax.tree.map(jnp.zeros_like, like)

        return CompensatedSum(zeros(), zeros() if compensated else None)

    def add(self, value: PyTree) -> "CompensatedSum":
        """The sums with `value`, of the same structure, added; the order of the operations is the algorithm."""
        if self.residual is None:
            return CompensatedSum(jax.tree.map(lambda old, x: old + x.astype(old.dtype), self.total, value), None)
        corrected = jax.tree.map(jnp.add, value, self.residual)
        total = jax.tree.map(jnp.add, self.total, corrected)
        residual = jax.tree.map(lambda new, increment, old: increment - (new - old), total, corrected, self.total)
        return CompensatedSum(total, residual)

    def float64(self) -> PyTree:
        """The sums in NumPy float64, residual included."""
        total = jax.tree.map(lambda x: np.asarray(whole(x), np.float64), self.total)
        if self.residual is None:
            return total
        return jax.tree.map(lambda x, r: np.asarray(x + np.asarray(whole(r), np.float64)), total, self.residual)
