"""Exact results for the tilted cosine landscape (washboard) that the ladder of levels stands for.

V(x) = (B/2)(1 - cos 2πx) - F x with x in levels, B and F in kT, and diffusion constant D of the
free coordinate. The ladder replaces it by hops between minima at the rates g e^(±F/2) per step;
here are the exact mean velocity and diffusion, the exact exchange g, and how far the ladder is from
them.

Quadrature with fixed nodes: accurate to 1e-10 in float64 for barriers up to 200 kT and any affinity
(3e-5 in float32 up to 80 kT). Every function broadcasts its arguments and is differentiable, also at
B = 0 and F = 0.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from limjax.numerics._elementary import asinh_exp
from limjax.numerics._guards import element, finite
from limjax.numerics._quadrature import gauss_legendre
from limjax.numerics.checks import is_real
from limjax.physics.actuation import free_energy

_PI = math.pi
# Gauss-Legendre on [0, 1]; 96 nodes resolve a peak of width 1/(π sqrt(B)) up to B = 200 and more.
_NODES, _WEIGHTS = gauss_legendre(96)
# Trapezoid rule over one period, where convergence is exponential.
_PERIOD_POINTS = 128
# Exponents this far below the maximum are outside every dtype used here.
_NEGLIGIBLE = 40.0
# (1 - e^-F)/F = Σ (-F)^k / (k + 1)!, used below 1/2, to float64.
_SERIES_BELOW = 0.5
_RELATIVE_EXPM1 = tuple((-1.0) ** k / math.factorial(k + 1) for k in range(14))


def _node_axis(values: np.ndarray, like: Array) -> Array:
    return jnp.asarray(values, like.dtype).reshape((-1,) + (1,) * like.ndim)


def _log_i0(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    # ΔF(2x) is x - ln I0(x), and I0 itself overflows.
    return x - free_energy(2 * x)


def _log_relative_expm1(affinity: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """ln((1 - e^-F)/F), smooth at zero."""
    is_small = affinity < _SERIES_BELOW
    small = jnp.where(is_small, affinity, 0.0)
    large = jnp.where(is_small, 1.0, affinity)
    series = jnp.zeros_like(small)
    for coefficient in reversed(_RELATIVE_EXPM1):
        series = coefficient + small * series
    return jnp.log(jnp.where(is_small, series, -jnp.expm1(-large) / large))


def _window(barrier: Float[Array, "*s"], affinity: Float[Array, "*s"], full: float) -> Float[Array, "*s"]:
    """Length of the interval beyond which e^(-F s) has beaten every I0(B sin πs) <= e^(πBs)."""
    decay = jnp.maximum(affinity - _PI * barrier, _NEGLIGIBLE / full)
    # Where the window ends inside, the integrand is negligible: its derivative needs no boundary term.
    return jax.lax.stop_gradient(_NEGLIGIBLE / decay)


def _log_integral(barrier: Float[Array, "..."], affinity: Float[Array, "..."]) -> Float[Array, "..."]:
    """ln ∫_0^1 e^(-F s) I0(B sin πs) ds for F >= 0, the two halves s and 1 - s taken together."""
    barrier, affinity = jnp.broadcast_arrays(barrier, affinity)
    window = _window(barrier, affinity, 0.5)[None]
    s = window * _node_axis(_NODES, barrier)
    log_weights = jnp.log(_node_axis(_WEIGHTS, barrier)) + jnp.log(window)
    # At 1 - s the sine is that at s, and e^(-F(1-s)) is e^(-Fs) times e^(-F(1-2s)).
    reflected = jnp.log1p(jnp.exp(-affinity[None] * (1 - 2 * s)))
    exponent = _log_i0(barrier[None] * jnp.sin(_PI * s)) - affinity[None] * s + reflected
    return jax.nn.logsumexp(log_weights + exponent, axis=0)


@finite
def log_effective_diffusion(barrier: Float[Array, "..."]) -> Float[Array, "..."]:
    """ln(D_eff/D) = -2 ln I0(B/2) = 2 ΔF(B) - B, which does not underflow.

    Args:
        barrier: B [kT], not negative.

    Returns:
        ln(D_eff/D) [dimensionless]; absolute error of a few ulp of B.

    Cost:
        That of `limjax.physics.actuation.free_energy`.

    Example:
        >>> import jax.numpy as jnp
        >>> f"{log_effective_diffusion(jnp.float32(300.0)):.2f}"
        '-293.15'

    Source:
        Lifson & Jackson, J. Chem. Phys. 36, 2410 (1962), doi:10.1063/1.1732899.
    """
    barrier = element(barrier, "barrier", low=0.0)
    return 2 * free_energy(barrier) - barrier


@finite
def effective_diffusion(barrier: Float[Array, "..."]) -> Float[Array, "..."]:
    """Long-time diffusion over the cosine, no tilt: D_eff/D = 1/I0(B/2)².

    Args:
        barrier: B [kT], not negative.

    Returns:
        D_eff/D [dimensionless]; zero in float32 above about 92 kT.

    Cost:
        That of `limjax.physics.actuation.free_energy` and an exponential.

    Example:
        >>> import jax.numpy as jnp
        >>> f"{effective_diffusion(jnp.float32(5.0)):.6f}"
        '0.092395'

    Source:
        Lifson & Jackson, J. Chem. Phys. 36, 2410 (1962), doi:10.1063/1.1732899.
    """
    barrier = element(barrier, "barrier", low=0.0)
    return jnp.exp(log_effective_diffusion(barrier))


@finite
def exchange(barrier: Float[Array, "..."], diffusion_time: Float[Array, "..."] | float) -> Float[Array, "..."]:
    """Exact exchange of the ladder: g = D τ / I0(B/2)² = D τ e^(2ΔF(B) - B).

    Hops of one level at rate g each way spread as 2g per step, and the washboard as 2 D_eff τ.

    Args:
        barrier: B [kT], not negative.
        diffusion_time: D τ [levels²], with τ the time of one step.

    Returns:
        g [hops per step, each way, at zero tilt].

    Cost:
        That of `effective_diffusion`.

    Example:
        >>> import jax.numpy as jnp
        >>> f"{exchange(jnp.float32(10.0), 1e3):.4f}"
        '1.3477'

    Source:
        Lifson & Jackson, J. Chem. Phys. 36, 2410 (1962), doi:10.1063/1.1732899.
    """
    barrier, diffusion_time = element(barrier, "barrier", low=0.0), element(diffusion_time, "diffusion_time", low=0.0)
    return diffusion_time * effective_diffusion(barrier)


@finite
def kramers_exchange(barrier: Float[Array, "..."], diffusion_time: Float[Array, "..."] | float) -> Float[Array, "..."]:
    """High-barrier limit of the exchange: g → D τ π B e^(-B).

    The ratio to the exact `exchange` is 1 + 1/(2B) + ...: 15 % high at 5 kT, 5.8 % at 10, 1.3 % at
    40.

    Args:
        barrier: B [kT], not negative.
        diffusion_time: D τ [levels²].

    Returns:
        g [hops per step, each way, at zero tilt].

    Cost:
        One exponential.

    Example:
        >>> import jax.numpy as jnp
        >>> f"{kramers_exchange(jnp.float32(10.0), 1e3):.4f}"
        '1.4263'

    Source:
        Kramers, Physica 7, 284 (1940), doi:10.1016/S0031-8914(40)90098-2, overdamped limit, with
        the curvature 2π²B of the cosine at the minimum and at the top.
    """
    barrier, diffusion_time = element(barrier, "barrier", low=0.0), element(diffusion_time, "diffusion_time", low=0.0)
    return diffusion_time * _PI * barrier * jnp.exp(-barrier)


@finite
def arrhenius_ratio(barrier: Float[Array, "..."], matched_barrier: Float[Array, "..."]) -> Float[Array, "..."]:
    """Exchange k0 e^(-B), constant attempt rate, over the exact one; equal at `matched_barrier`.

    e^(2ΔF(B_m) - 2ΔF(B)), about B_m/B: the attempt rate of the cosine grows as πB D. The ratio is
    the same as a shift of the barrier by its logarithm, -1.4 kT from 10 to 40 kT.

    Args:
        barrier: B [kT], not negative.
        matched_barrier: B_m [kT], where k0 was chosen.

    Returns:
        Arrhenius exchange over exact exchange [dimensionless].

    Cost:
        Twice `limjax.physics.actuation.free_energy` and an exponential.

    Example:
        >>> import jax.numpy as jnp
        >>> f"{arrhenius_ratio(jnp.float32(40.0), jnp.float32(10.0)):.3f}"
        '0.239'

    Source:
        Ratio of `exchange` (Lifson & Jackson 1962) to the Arrhenius law.
    """
    barrier, matched_barrier = (
        element(barrier, "barrier", low=0.0),
        element(matched_barrier, "matched_barrier", low=0.0),
    )
    return jnp.exp(2 * (free_energy(matched_barrier) - free_energy(barrier)))


@finite
def drift(barrier: Float[Array, "..."], affinity: Float[Array, "..."]) -> Float[Array, "..."]:
    """Exact mean velocity on the washboard: v/D = (1 - e^(-F)) / ∫_0^1 e^(-F s) I0(B sin πs) ds.

    Stratonovich's double integral ∫_0^1 dx ∫_x^{x+1} dy e^(V(y) - V(x)) with y = x + s: the
    difference of the cosines is B sin(πs) sin(2πx + πs), and its exponential averages over x to
    I0(B sin πs). The same number is 2 sinh(F/2) / |I_{iF/2π}(B/2)|² with the Bessel function of
    imaginary order. It is D_eff F for small F, F for large, and odd in F.

    Args:
        barrier: B [kT], not negative.
        affinity: F [kT per level], either sign, broadcastable to `barrier` and of the same dtype.

    Returns:
        v/D [1/level]; multiply by D τ [levels²] for levels per step.

    Cost:
        96 Bessel functions and exponentials per element. For figures and checks, not for every step
        of a training.

    Example:
        >>> import jax.numpy as jnp
        >>> f"{drift(jnp.float32(5.0), jnp.float32(2.0)):.5f}"
        '0.20548'

    Source:
        Stratonovich, Radiotekh. Elektron. 3, 497 (1958); Risken, The Fokker-Planck Equation (2nd
        ed., 1989), section 11.3, doi:10.1007/978-3-642-61544-3. The Bessel product: NIST DLMF eq.
        10.32.15, https://dlmf.nist.gov/10.32.E15. The reduction to one integral is checked in the
        tests.
    """
    barrier, affinity = element(barrier, "barrier", low=0.0), element(affinity, "affinity")
    magnitude = jnp.abs(affinity)
    log_mobility = _log_relative_expm1(magnitude) - _log_integral(barrier, magnitude)
    # With F as a factor outside the logarithm it is odd, and exactly 0 without a tilt.
    return affinity * jnp.exp(log_mobility)


@finite
def diffusion(barrier: Float[Array, "..."], affinity: Float[Array, "..."]) -> Float[Array, "..."]:
    """Exact long-time diffusion on the washboard: D_eff/D = ∫ I₊² I₋ dx / (∫ I₊ dx)³.

    I±(x) = ∫_0^1 dy exp(±V(x) ∓ V(x ∓ y)). It is 1/I0(B/2)² at F = 0, exceeds 1 near F = πB where
    the barrier vanishes (giant diffusion), and tends to 1 beyond.

    Args:
        barrier: B [kT], not negative.
        affinity: F [kT per level], either sign, broadcastable to `barrier` and of the same dtype.

    Returns:
        D_eff(B, F)/D [dimensionless].

    Cost:
        12,000 exponentials and as many numbers in memory per element.

    Example:
        >>> import jax.numpy as jnp
        >>> f"{diffusion(jnp.float32(10.0), jnp.float32(30.0)):.3f}"
        '2.655'

    Source:
        Reimann, Van den Broeck, Linke, Hänggi, Rubi & Pérez-Madrid, Phys. Rev. Lett. 87, 010602
        (2001), doi:10.1103/PhysRevLett.87.010602.
    """
    barrier, affinity = element(barrier, "barrier", low=0.0), element(affinity, "affinity")
    barrier, affinity = jnp.broadcast_arrays(barrier, jnp.abs(affinity))
    window = _window(barrier, affinity, 1.0)[None]
    y = (window * _node_axis(_NODES, barrier))[None]
    log_weights = (jnp.log(_node_axis(_WEIGHTS, barrier)) + jnp.log(window))[None]
    x = _node_axis(np.arange(_PERIOD_POINTS) / _PERIOD_POINTS, barrier)[:, None]
    # V(x) - V(x - y) without its tilt, the difference of the cosines as a product.
    rise = barrier[None, None] * jnp.sin(_PI * y) * jnp.sin(_PI * (2 * x - y))
    log_plus = jax.nn.logsumexp(log_weights + rise - affinity[None, None] * y, axis=1)
    # I₋(x) = I₊(1/2 - x): the cosine is odd about a quarter period.
    log_minus = jnp.roll(log_plus[::-1], _PERIOD_POINTS // 2 + 1, axis=0)
    # Means over the period, in logarithms: the integrals grow as e^B.
    log_points = math.log(_PERIOD_POINTS)
    numerator = jax.nn.logsumexp(2 * log_plus + log_minus, axis=0) - log_points
    denominator = jax.nn.logsumexp(log_plus, axis=0) - log_points
    return jnp.exp(numerator - 3 * denominator)


def _log_drift_ratio(barrier: Float[Array, "..."], affinity: Float[Array, "..."]) -> Float[Array, "..."]:
    # 2 sinh(F/2) is e^(F/2) (1 - e^-F), and the bracket is that of `drift`.
    return 0.5 * affinity + _log_integral(barrier, affinity) + log_effective_diffusion(barrier)


@finite
def ladder_validity(barrier: Float[Array, "..."], tilt_fraction: Float[Array, "..."]) -> Float[Array, "..."]:
    """Drift of the ladder with the exact exchange over the exact drift, at the same tilt.

    The ladder says d = 2 g sinh(F/2) with g = D τ/I0(B/2)²; the ratio is

        |I_{iF/2π}(B/2)|² / I0(B/2)²  ≈  exp(F² / (2π²B))   while F is well below πB,

    never below 1: the ladder moves too fast, because a tilt also brings the minimum and the top of
    the cosine closer to each other, so that the barrier falls by a little less than F/2.

    Args:
        barrier: B [kT], not negative.
        tilt_fraction: F/2B [dimensionless], not negative, of the same dtype. The barrier vanishes
            at π/2.

    Returns:
        d_ladder/d_exact [dimensionless].

    Cost:
        That of `drift`.

    Example:
        >>> import jax.numpy as jnp
        >>> f"{ladder_validity(jnp.float32(20.0), jnp.float32(0.1)):.3f}"
        '1.044'

    Source:
        Ratio of the ladder's law to Stratonovich's (see `drift`); the limit is the saddle point of
        the integral.
    """
    barrier, tilt_fraction = element(barrier, "barrier", low=0.0), element(tilt_fraction, "tilt_fraction", low=0.0)
    return jnp.exp(_log_drift_ratio(barrier, 2 * barrier * tilt_fraction))


@finite
def ladder_heat_validity(barrier: Float[Array, "..."], tilt_fraction: Float[Array, "..."]) -> Float[Array, "..."]:
    """Heat the ladder books for a move over the heat the washboard dissipates for the same move.

    A move of d levels costs F d. At the exact drift d(F) the ladder believes in the smaller
    affinity F' = 2 asinh(d/2g), so it books F'/F of the heat: about 1 - F/(π²B) = 1 - 2 (F/2B)/π²
    for F well above 1 kT, and the error in drift (`ladder_validity`) is its exponential. It is
    the ladder's with the exact exchange; the ledger's own, from one attempt rate, has the error
    `arrhenius_ratio` besides, and at small tilt its heat is high by the inverse of that above 10 kT
    (1.93 times at 20 kT and d = 0.001): the ledger is no lower bound of the washboard.

    Args:
        barrier: B [kT], not negative.
        tilt_fraction: F/2B [dimensionless], not negative, of the same dtype: the true tilt.

    Returns:
        Q_ladder/Q_exact [dimensionless], at most 1.

    Cost:
        That of `drift`.

    Example:
        >>> import jax.numpy as jnp
        >>> f"{ladder_heat_validity(jnp.float32(20.0), jnp.float32(0.5)):.3f}"
        '0.892'

    Source:
        Ladder law of the affinity against Stratonovich's drift (see `drift`).
    """
    barrier, tilt_fraction = element(barrier, "barrier", low=0.0), element(tilt_fraction, "tilt_fraction", low=0.0)
    barrier, affinity = jnp.broadcast_arrays(barrier, 2 * barrier * tilt_fraction)
    is_zero = affinity == 0
    bounded = jnp.where(is_zero, 1.0, affinity)
    # ln(d/g) = ln(2 sinh(F/2)) - ln(ratio)
    log_drift = 0.5 * bounded + jnp.log(-jnp.expm1(-bounded)) - _log_drift_ratio(barrier, bounded)
    believed = 2 * asinh_exp(log_drift - math.log(2))
    return jnp.where(is_zero, 1.0, believed / bounded)


def validity_map(
    barrier: Float[Array, " barriers"],
    tolerances: tuple[float, ...] = (0.01, 0.05, 0.2),
    quantity: Literal["drift", "heat"] = "drift",
) -> Float[Array, "tolerances barriers"]:
    """Largest tilt F/2B at which the ladder is within each tolerance of the washboard.

    For the drift this is close to (π/sqrt(2)) sqrt(ln(1 + tolerance)/B) above 5 kT.

    Args:
        barrier: B [kT], positive, up to 200.
        tolerances: relative errors, each above 0 and at most 0.4.
        quantity: "drift" (at the same tilt, `ladder_validity`) or "heat" (for the same move,
            `ladder_heat_validity`).

    Returns:
        F/2B [dimensionless], one row per tolerance.

    Raises:
        ValueError: if a tolerance is outside (0, 0.4] or the quantity is not one of the two.

    Cost:
        60 evaluations of `drift` per tolerance and barrier (bisection).

    Example:
        >>> import jax.numpy as jnp
        >>> limits = validity_map(jnp.array([20.0, 40.0]))
        >>> [f"{limit:.3f}" for limit in limits[1]]
        ['0.107', '0.077']

    Source:
        Bisection of `ladder_validity` and `ladder_heat_validity`.
    """
    if np.ndim(barrier) != 1 or not is_real(barrier):
        raise ValueError(
            f"barrier must be an array of one axis, jnp.array([20.0]) for one barrier, got {str(barrier)[:40]}."
        )
    for tolerance in tolerances:
        if not 0 < tolerance <= 0.4:
            raise ValueError(f"tolerances must lie in (0, 0.4], got {tolerance!r}; 0.05 means 5 %.")
    if quantity not in ("drift", "heat"):
        raise ValueError(f'quantity must be "drift" or "heat", got {quantity!r}.')
    tolerance, barriers = jnp.broadcast_arrays(jnp.asarray(tolerances, barrier.dtype)[:, None], barrier[None, :])

    def error(tilt_fraction):
        if quantity == "drift":
            return ladder_validity(barriers, tilt_fraction) - 1
        return 1 - ladder_heat_validity(barriers, tilt_fraction)

    def halve(_, bracket):
        low, high = bracket
        middle = 0.5 * (low + high)
        is_within = error(middle) <= tolerance
        return jnp.where(is_within, middle, low), jnp.where(is_within, high, middle)

    # At F = 4B + 40 both errors exceed 0.4 whatever the barrier.
    bracket = (jnp.zeros_like(barriers), 2 + 20 / barriers)
    # More halvings than a float64 has binary digits. `low` is within the tolerance all along.
    low, _ = jax.lax.fori_loop(0, 60, halve, bracket)
    return low
