"""How a cell answers a request: affinity, activity and hop rates, stable in value and in every derivative.

The exchange g spans e^-70 ... 1e6 hops per step, so it travels as its logarithm. Everything here works element by
element in the dtype it is given, float32 included, without forming d² or g², which under- and overflow there.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from limjax.numerics._elementary import LARGE, as_one, normal_log

# asinh(x)/x in powers of x² on 0 <= x <= 1/2: degree 5, error 1.1e-9 before rounding (`examples/fit_coefficients.py`).
_ASINH_SERIES = (
    0.9999999988664692,
    -0.16666633460773048,
    0.0749841260425565,
    -0.04436184388829529,
    0.02807620787248294,
    -0.013099914529717229,
)
# exp of this times any request below 1e4 levels is finite.
_MAX_LOG_SCALE = {"float32": 80.0, "float64": 690.0}


class Response(NamedTuple):
    """How a cell answers a request of d levels in one step.

    Attributes:
        affinity: F, the tilt per level that makes the mean move equal the request [kT].
        activity: A, mean number of hops and variance of the displacement [hops] = [levels²].
        up: Poisson rate of the hops up [hops per step]; `up - down` is the request.
        down: Poisson rate of the hops down [hops per step]; `ln(up / down)` is the affinity.
    """

    affinity: Float[Array, "..."]
    activity: Float[Array, "..."]
    up: Float[Array, "..."]
    down: Float[Array, "..."]


class RateBounds(NamedTuple):
    """What is known of all hop rates of an array [hops per step].

    Attributes:
        lowest: no rate is below it.
        highest: no rate is above it.
        smaller: no cell's smaller rate, of the one up and the one down, is above it.
    """

    lowest: Float[Array, ""]
    highest: Float[Array, ""]
    smaller: Float[Array, ""]


@jax.custom_jvp
@as_one
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
    is_large = x > LARGE[drift.dtype.name]
    bounded = jnp.where(is_large, 0.0, x)
    square = bounded * bounded
    root = jnp.sqrt(1 + square)
    # ln 2x = ln|d| - ln g where x is large: x itself may not be finite.
    logarithm = normal_log(jnp.where(is_large, magnitude, bounded + root)) + jnp.where(is_large, -log_exchange, 0.0)
    # `normal_log` makes some finite number of infinity.
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
def _cell_response_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    drift, log_exchange = primals
    drift_dot, log_exchange_dot = tangents
    affinity, activity = cell_response(drift, log_exchange)
    inverse, slope, share = _response_slopes(drift, log_exchange)
    return (affinity, activity), (
        2 * (inverse * drift_dot - slope * log_exchange_dot),
        slope * drift_dot + (2 * jnp.exp(log_exchange)) * (share * log_exchange_dot),
    )


@jax.custom_jvp
@as_one
def _response_slopes(
    drift: Float[Array, "..."], log_exchange: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]]:
    """1/A, d/A and 2g/A, whose derivatives are products of themselves: nothing of the size of 1/A² is ever formed."""
    activity = cell_response(drift, log_exchange)[1]
    # The activity is 0 only where request and exchange both are, to the dtype.
    inverse = 1 / jnp.maximum(activity, jnp.finfo(drift.dtype).tiny)
    return inverse, drift * inverse, 2 * jnp.exp(log_exchange) * inverse


@_response_slopes.defjvp
def _response_slopes_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
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
    return split_activity(drift, log_exchange, cell_response(drift, log_exchange)[1])


@as_one
def split_activity(
    drift: Float[Array, "..."], log_exchange: Float[Array, "..."], activity: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """`hop_rates`, where the activity is known."""
    total = activity + jnp.abs(drift)
    exchange = jnp.exp(log_exchange)
    larger = 0.5 * total
    # The quotient is at most 1, as A is at least 2g: no g² is formed.
    smaller = exchange * (2 * exchange / jnp.maximum(total, jnp.finfo(drift.dtype).tiny))
    return jnp.where(drift < 0, smaller, larger), jnp.where(drift < 0, larger, smaller)


def symmetric_response(drift: Float[Array, "..."], log_exchange: Float[Array, "..."]) -> Response:
    """How a cell answers whose levels are alike in both directions, as `ArrheniusCell`.

    Args:
        drift: d [levels].
        log_exchange: ln g, broadcastable to `drift` [ln(hops per step)].

    Returns:
        The response.
    """
    affinity, activity = cell_response(drift, log_exchange)
    return Response(affinity, activity, *split_activity(drift, log_exchange, activity))


def symmetric_tilt(
    half_tilt: Float[Array, "..."],
    barrier: Float[Array, "..."],
    log_exchange: Float[Array, "..."],
    max_move: float | None = None,
) -> tuple[Float[Array, "..."], Bool[Array, "..."]]:
    """d = 2g sinh(F/2), with the tilt held at the barrier or at the largest move.

    Args:
        half_tilt: F/2 [kT].
        barrier: B [kT].
        log_exchange: ln g at that barrier [ln(hops per step)].
        max_move: largest mean move a driver allows [levels], or None.

    Returns:
        `(d [levels], whether the tilt was held)`.
    """
    if max_move is not None:
        # A largest move is a largest tilt, the affinity that this move needs.
        move = jnp.full(jnp.shape(log_exchange), max_move, log_exchange.dtype)
        barrier = jnp.minimum(barrier, 0.5 * cell_response(move, log_exchange)[0])
    held = jnp.clip(half_tilt, -barrier, barrier)
    is_small = jnp.abs(held) < 1
    # For small tilts, where the difference of the two rates cancels.
    direct = 2 * jnp.exp(log_exchange) * jnp.sinh(jnp.where(is_small, held, 1.0))
    # ln g inside the exponentials: for |F|/2 <= B they stay below k0 τ, where g and sinh alone may not be floats.
    wide = jnp.exp(log_exchange + held) - jnp.exp(log_exchange - held)
    return jnp.where(is_small, direct, wide), jnp.abs(half_tilt) > barrier
