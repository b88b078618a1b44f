"""What it costs to move the barrier of a cosine landscape: reversible work and finite-time excess.

The landscape is U(x) = (B/2)(1 - cos 2πx) with x in levels and B in kT. Everything works element by
element in the dtype it is given (float32 or float64), has no branch on values, and is
differentiable at B = 0, so it can run per parameter and per step. Barriers are non-negative; of an array
that is checked where a barrier is made, not here, and of a single number of Python here too.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import i0e, i1e
from jaxtyping import Array, Float

from limjax.numerics._elementary import as_one, normal_log1p, polynomial
from limjax.numerics._guards import element, finite

# Below this barrier -ln i0e(B/2) loses digits to the 1 it subtracts, and the series of ln I0 takes
# over.
_SERIES_BELOW = 1.0
# ln I0(z) = Σ c_k w^k with w = z²/4, k = 1 ... 9; the terms fall by 23 each at z = 1/2.
_LOG_I0_SERIES = (
    1.0,
    -1 / 4,
    1 / 9,
    -11 / 192,
    19 / 600,
    -473 / 25920,
    229 / 21168,
    -101369 / 15482880,
    946523 / 235146240,
)
# In float32: e^(2ΔF) - 1 = B P(B/8)/Q(B/8). The first coefficients and the ratio of the last ones are those of the limits, B and πB;
# the others are a minimax fit to i0e, relative error of ΔF 4.5e-8 (`examples/fit_coefficients.py`).
_OPENING_SCALE = 8.0
_OPENING_NUMERATOR = (
    1.0,
    4.120144421,
    10.383621536,
    15.995054255,
    16.517599517,
    16.298844132,
    11.370617055,
    6.032082015,
)
_OPENING_DENOMINATOR = (1.0, 1.120133426, 4.357343798, 5.584517652, 5.881622014, 5.587327717, 3.815849991, 1.92007134)
# Beyond it P/Q is π to 5e-6, and its powers might leave float32.
_OPENING_END = 2.0**19


@finite
def free_energy(barrier: Float[Array, "..."]) -> Float[Array, "..."]:
    """Reversible work that raises the barrier from zero: ΔF(B) = B/2 - ln I0(B/2).

    It is -ln Z of one period, the entropy given up by confining the state to a well: B/2 for small
    B and ½ ln(πB) for large. It is also the prefactor of escape: the exact exchange is D τ e^(2ΔF-B),
    see `limjax.physics.washboard.exchange`.

    Args:
        barrier: B [kT], not negative.

    Returns:
        ΔF [kT], of the shape and dtype of `barrier`. Relative error below 1e-6 in float32 and 1e-13
        in float64.

    Cost:
        In float32 a rational function and a logarithm, as fast as `jnp.log1p` (1e6 elements, two CPU cores); in float64 a
        Bessel function and a logarithm.

    Example:
        >>> import jax.numpy as jnp
        >>> f"{free_energy(jnp.float32(10.0)):.5f}"
        '1.69532'

    Source:
        Partition function of the cosine: NIST DLMF eq. 10.32.1, https://dlmf.nist.gov/10.32.E1.
        Work of a quasi-static protocol as a free-energy difference: Jarzynski, Phys. Rev. Lett. 78,
        2690 (1997), doi:10.1103/PhysRevLett.78.2690.
    """
    return _free_energy(element(barrier, "barrier", low=0.0))


@jax.custom_jvp
@as_one
def _free_energy(barrier: Float[Array, "*s"]) -> Float[Array, "*s"]:
    return 0.5 * normal_log1p(_opening(barrier)) if barrier.dtype == jnp.float32 else _by_bessel(barrier)


def _by_bessel(barrier: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """ΔF in any dtype."""
    half = 0.5 * barrier
    square = 0.25 * half * half
    is_small = barrier < _SERIES_BELOW
    bounded = jnp.where(is_small, square, 0.0)
    series = jnp.zeros_like(bounded)
    for coefficient in reversed(_LOG_I0_SERIES):
        series = bounded * (coefficient + series)
    # i0e is e^-z I0(z): the B/2 is in it already, and I0 alone leaves float32 at 184 kT.
    return jnp.where(is_small, half - series, -jnp.log(i0e(half)))


def _opening(barrier: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """e^(2ΔF) - 1, which keeps its digits near zero and is πB for high barriers; float32."""
    x = jnp.minimum(barrier, _OPENING_END) * (1 / _OPENING_SCALE)
    return barrier * (polynomial(_OPENING_NUMERATOR, x) / polynomial(_OPENING_DENOMINATOR, x))


@_free_energy.defjvp
def _free_energy_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    (barrier,), (barrier_dot,) = primals, tangents
    return _free_energy(barrier), _free_energy_slope(barrier) * barrier_dot


@finite
def free_energy_slope(barrier: Float[Array, "..."]) -> Float[Array, "..."]:
    """Mean force on the barrier: dΔF/dB = ½ (1 - I1(B/2)/I0(B/2)).

    It is the mean of ∂U/∂B: 1/2 at B = 0 and 1/(2B) for large B.

    Args:
        barrier: B [kT], not negative.

    Returns:
        dΔF/dB [dimensionless]. Relative error below 2e-5 in float32 up to 60 kT (the difference
        from 1 is what is left of the ratio), 1e-12 in float64.

    Cost:
        Two Bessel functions and one division.

    Example:
        >>> import jax.numpy as jnp
        >>> float(free_energy_slope(jnp.float32(0.0)))
        0.5

    Source:
        Derivative of `free_energy` with I0' = I1, NIST DLMF eq. 10.29.3,
        https://dlmf.nist.gov/10.29.E3.
    """
    return _free_energy_slope(element(barrier, "barrier", low=0.0))


@jax.custom_jvp
@as_one
def _free_energy_slope(barrier: Float[Array, "*s"]) -> Float[Array, "*s"]:
    half = 0.5 * barrier
    return 0.5 * (1 - i1e(half) / i0e(half))


@_free_energy_slope.defjvp
def _free_energy_slope_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    (barrier,), (barrier_dot,) = primals, tangents
    slope = _free_energy_slope(barrier)
    ratio = 1 - 2 * slope
    half = 0.5 * barrier
    is_zero = half == 0
    # d/dz (I1/I0) = 1 - (I1/I0)/z - (I1/I0)², whose middle term tends to 1/2.
    middle = jnp.where(is_zero, 0.5, ratio / jnp.where(is_zero, 1.0, half))
    return slope, -0.25 * (1 - middle - ratio * ratio) * barrier_dot


# ℓ(B) = B y² P(y), y = (1 + (B/b)²)^(-1/4). The first two coefficients and the sum are fixed by the
# limits (ℓ(∞), the -B^(-1/2)/(√2 π) approach to it, and √ζ(0)); the others are a minimax fit to
# quadrature on (0, 600] kT (`examples/fit_coefficients.py`).
_LENGTH_SCALE = 5.5
_LENGTH_AT_INFINITY = 0.30990583
_LENGTH_FIT = (-0.01032408, 0.03937072, -0.0133063)
_LENGTH_COEFFICIENTS = (
    _LENGTH_AT_INFINITY / _LENGTH_SCALE,
    -1 / (math.sqrt(2) * math.pi * _LENGTH_SCALE**1.5),
    1 / (4 * math.sqrt(2) * math.pi)
    - _LENGTH_AT_INFINITY / _LENGTH_SCALE
    + 1 / (math.sqrt(2) * math.pi * _LENGTH_SCALE**1.5)
    - sum(_LENGTH_FIT),
    *_LENGTH_FIT,
)


@finite
def thermodynamic_length(barrier: Float[Array, "..."]) -> Float[Array, "..."]:
    """Friction length from zero to B: ℓ(B) = ∫_0^B sqrt(ζ(B')) dB', with D = 1.

    ζ(B) = ∫ Π²/p dx over one period with the minimum in the middle: p ∝ e^(-U), and Π = ∂_B of the
    cumulative distribution, which vanishes at the tops x = ±1/2 by symmetry (so it is also the
    flux-free solution on a ring). sqrt ζ is 1/(4√2 π) at zero and tends to B^(-3/2)/(2√2 π): the
    length is finite, ℓ(∞) = 0.3099, because a narrow well relaxes fast. The closed form used here
    keeps both limits exactly.

    Args:
        barrier: B [kT], not negative.

    Returns:
        ℓ [levels, for D = 1]. Within 4e-4 of quadrature for every B; its derivative sqrt ζ within 1.1 %
        up to 100 kT.

    Cost:
        Two square roots and nine multiply-adds; as fast as memory.

    Example:
        >>> import jax.numpy as jnp
        >>> f"{thermodynamic_length(jnp.float32(50.0)) ** 2:.4f}"
        '0.0771'

    Source:
        Sivak & Crooks, Phys. Rev. Lett. 108, 190602 (2012), doi:10.1103/PhysRevLett.108.190602
        (friction tensor and length). One-dimensional overdamped form: Zulkowski & DeWeese, Phys.
        Rev. E 89, 052140 (2014), doi:10.1103/PhysRevE.89.052140. The fit is this project's.
    """
    return _length(element(barrier, "barrier", low=0.0))


@as_one
def _length(barrier: Float[Array, "*s"]) -> Float[Array, "*s"]:
    scaled = barrier / _LENGTH_SCALE
    # y² of the fit above, and y; powers of B², so that there is no kink at B = 0.
    square = jax.lax.rsqrt(1 + scaled * scaled)
    variable = jnp.sqrt(square)
    polynomial = jnp.zeros_like(variable)
    for coefficient in reversed(_LENGTH_COEFFICIENTS):
        polynomial = coefficient + variable * polynomial
    return barrier * square * polynomial


@finite
def actuation_work(
    start: Float[Array, "..."], stop: Float[Array, "..."], recovery: Float[Array, "..."] | float
) -> Float[Array, "..."]:
    """Work of one slow barrier move: Δ = ΔF(stop) - ΔF(start), times `recovery` where negative.

    With recovery 1 a closed cycle costs nothing, with recovery 0 every raise is lost. Equal
    barriers cost exactly zero.

    Args:
        start: barrier before [kT], not negative.
        stop: barrier after [kT], of the same dtype.
        recovery: fraction of the released work that the driver stores, in [0, 1].

    Returns:
        Work [kT]: Δ where positive, recovery·Δ (not positive) otherwise. The absolute error is that
        of the difference of two free energies, in float32 5e-7 kT up to 100 kT, whatever the move.

    Cost:
        In float32 two rational functions and one logarithm, 1.8 times `jnp.log1p` (1e6 elements, two CPU cores); in float64 twice
        `free_energy`.

    Example:
        >>> import jax.numpy as jnp
        >>> low, high = jnp.float32(10.0), jnp.float32(14.0)
        >>> f"{actuation_work(low, high, 0.5):.4f} {actuation_work(high, low, 0.5):.4f}"
        '0.1772 -0.0886'

    Source:
        Difference of `free_energy`; the recovery factor is this project's model of the driver.
    """
    start, stop, recovery = (
        element(start, "start", low=0.0),
        element(stop, "stop", low=0.0),
        element(recovery, "recovery", "It is the share of released work that the driver stores.", 0.0, 1.0),
    )
    dtype = jnp.promote_types(start.dtype, stop.dtype)
    change = _free_energy_change(*jnp.broadcast_arrays(start.astype(dtype), stop.astype(dtype)))
    return jnp.where(change > 0, change, recovery * change)


@jax.custom_jvp
@as_one
def _free_energy_change(start: Float[Array, "*s"], stop: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """ΔF(stop) - ΔF(start)."""
    if start.dtype != jnp.float32:
        return _free_energy(stop) - _free_energy(start)
    before, after = _opening(start), _opening(stop)
    low, high = jnp.minimum(before, after), jnp.maximum(before, after)
    # From the lower one up: near -1 ln(1+x) would lose its digits.
    rise = 0.5 * normal_log1p((high - low) / (1 + low))
    return jnp.where(after >= before, rise, -rise)


@_free_energy_change.defjvp
def _free_energy_change_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    (start, stop), (start_dot, stop_dot) = primals, tangents
    return _free_energy_change(start, stop), _free_energy_slope(stop) * stop_dot - _free_energy_slope(start) * start_dot


@finite
def finite_time_excess(
    start: Float[Array, "..."],
    stop: Float[Array, "..."],
    diffusion_time: Float[Array, "..."] | float,
) -> Float[Array, "..."]:
    """Least work beyond ΔF when the barrier moves in a time τ_a: (ℓ(stop) - ℓ(start))² / (D τ_a).

    Valid for moves slow against the relaxation inside a well (linear response), along the optimal
    speed profile dB/dt ∝ 1/sqrt(ζ); any other profile costs more.

    Args:
        start: barrier before [kT], not negative.
        stop: barrier after [kT], of the same dtype.
        diffusion_time: D τ_a [levels²], positive: the squared distance free diffusion covers (times
            1/2) meanwhile.

    Returns:
        Excess work [kT], of the same order as its validity allows: trust it below about 0.1 kT.

    Cost:
        Twice `thermodynamic_length` and a division.

    Example:
        >>> import jax.numpy as jnp
        >>> excess = finite_time_excess(jnp.float32(0.0), jnp.float32(50.0), jnp.float32(10.0))
        >>> f"{excess:.5f}"
        '0.00771'

    Source:
        Sivak & Crooks, Phys. Rev. Lett. 108, 190602 (2012), doi:10.1103/PhysRevLett.108.190602: the
        excess of the optimal protocol is length²/duration.
    """
    start, stop, diffusion_time = (
        element(start, "start", low=0.0),
        element(stop, "stop", low=0.0),
        element(diffusion_time, "diffusion_time", low=0.0),
    )
    length = thermodynamic_length(stop) - thermodynamic_length(start)
    return length * length / diffusion_time
