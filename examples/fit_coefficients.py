"""Where the coefficient tables come from: each fitted again, and its error beside that of the table in use.

All fits are least squares, weighted again and again towards the points of largest error (Lawson's algorithm), in float64. The tables in use
were rounded to float32 and are kept as they are, for hops that stay the same bit for bit; a new fit differs in its last digits.

    python examples/fit_coefficients.py
    python examples/fit_coefficients.py --print     # the fitted coefficients too
"""

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special

from limjax.numerics import _elementary as elementary
from limjax.numerics import poisson
from limjax.physics import _response as response
from limjax.physics import actuation


class Fit(NamedTuple):
    """One table: its error as it is used, and that of a new fit."""

    name: str
    measure: str
    stored: float
    fitted: float
    coefficients: np.ndarray


def lawson(design: np.ndarray, target: np.ndarray, scale: np.ndarray, rounds: int = 60) -> np.ndarray:
    """Coefficients of the columns of `design` that keep the largest |design @ c - target| · scale small."""
    weights, best = np.ones(len(target)), None
    size = np.linalg.norm(design * scale[:, None], axis=0)
    for _ in range(rounds):
        root = np.sqrt(weights) * scale
        found = np.linalg.lstsq(design * root[:, None] / size, target * root, rcond=None)[0] / size
        error = np.abs(design @ found - target) * scale
        if best is None or error.max() < best[0]:
            best = error.max(), found
        weights = weights * (error / error.mean() + 1e-3)
        weights /= weights.mean()
    assert best is not None
    return best[1]


def powers(x: np.ndarray, degree: int, first: int = 0) -> np.ndarray:
    return np.stack([x**k for k in range(first, degree + 1)], axis=1)


def chebyshev(low: float, high: float, points: int = 2000) -> np.ndarray:
    return 0.5 * (low + high) - 0.5 * (high - low) * np.cos(np.pi * (np.arange(points) + 0.5) / points)


def linear(name: str, measure: str, x, target, scale, stored) -> Fit:
    """A polynomial in x."""
    stored = np.asarray(stored)
    design = powers(x, len(stored) - 1)
    found = lawson(design, target, scale)
    errors = [float(np.max(np.abs(design @ c - target) * scale)) for c in (stored, found)]
    return Fit(name, measure, *errors, found)


def asinh_series() -> Fit:
    x = np.sqrt(chebyshev(1e-6, 0.25))
    target = np.arcsinh(x) / x
    return linear("asinh(x)/x, x² to 1/4", "relative error", x * x, target, 1 / target, response._ASINH_SERIES)


def logarithm() -> Fit:
    f = chebyshev(np.sqrt(0.5) - 1, np.sqrt(2) - 1)
    return linear("ln(1+f)/f", "error times |f|", f, np.log1p(f) / f, np.abs(f), elementary._LOG)


def quantile() -> Fit:
    """z = x P(w)/Q(w): linear in the coefficients once the last denominator is known, so a few rounds of that."""
    w = chebyshev(1e-3, 22.0, 4000)
    x = np.sqrt(-np.expm1(-w))
    z = special.ndtri(0.5 * (1 + x))
    is_far = x > 0.9  # the tail probability without the digits that 1 - x loses
    z[is_far] = -special.ndtri(0.5 * np.exp(-w[is_far]) / (1 + x[is_far]))
    stored = np.asarray(poisson._QUANTILE_NUMERATOR), np.asarray(poisson._QUANTILE_DENOMINATOR)
    above, below = powers(w, len(stored[0]) - 1), powers(w, len(stored[1]) - 1, 1)

    def error(top, bottom):
        return float(np.max(np.abs(x * (above @ top) / (1 + below @ bottom) - z)))

    denominator, best = 1 + below @ stored[1][1:], (np.inf, np.empty(0))
    for _ in range(6):
        design = np.concatenate([above * x[:, None], -below * z[:, None]], axis=1)
        found = lawson(design, z, 1 / denominator)
        top, bottom = found[: above.shape[1]], found[above.shape[1] :]
        denominator = 1 + below @ bottom
        best = min(best, (error(top, bottom), found), key=lambda pair: pair[0])
    return Fit("normal quantile", "absolute error", error(stored[0], stored[1][1:]), *best)


def poisson_inverse() -> Fit:
    """rate + sqrt(rate) z + z² A(s) + B0(s) + B1(s)/rate + B2(s)/rate² = n + 1 where P(N <= n) is that of z, s = z/sqrt(rate)."""
    rates, counts = [], []
    for rate in np.geomspace(4.0, 3e4, 70):
        spread = np.arange(-5.5, 5.6, 0.05) * np.sqrt(rate)
        count = np.unique(np.maximum(np.round(rate + spread + spread**2 / (6 * rate)), 0))
        rates.append(np.full(count.shape, rate))
        counts.append(count)
    rate, count = np.concatenate(rates), np.concatenate(counts)
    lower, upper = special.gammaincc(count + 1, rate), special.gammainc(count + 1, rate)
    z = np.where(lower < 0.5, special.ndtri(lower), -special.ndtri(upper))
    s = z / np.sqrt(rate)
    keep = (s > poisson._LOWEST) & (np.abs(z) < 5.5)
    rate, count, z, s = rate[keep], count[keep], z[keep], s[keep]
    # What a shifted threshold is worth in probability.
    scale = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi * rate)
    tables = [poisson._SQUARE, *poisson._SHIFT]
    factors = [z * z, np.ones_like(rate), 1 / rate, 1 / rate**2]
    design = np.concatenate([f[:, None] * powers(s, len(t) - 1) for f, t in zip(factors, tables)], axis=1)
    target = count + 1 - rate - np.sqrt(rate) * z
    stored = np.concatenate([np.asarray(t) for t in tables])
    found = lawson(design, target, scale)
    errors = [float(np.max(np.abs(design @ c - target) * scale)) for c in (stored, found)]
    return Fit("Poisson threshold, rate from 4", "error in probability", *errors, found)


def opening() -> Fit:
    """(e^(2ΔF) - 1)/B = P(x)/Q(x) with x = B/8: from 1 at B = 0 to π, linear in the coefficients once Q is nearly known."""
    barrier = np.unique(np.concatenate([np.geomspace(1e-3, 1e6, 2000), np.linspace(0.01, 60.0, 2000)]))
    half = 0.5 * barrier
    square = 0.25 * half * half
    series = sum(c * square ** (k + 1) for k, c in enumerate(actuation._LOG_I0_SERIES))
    energy = np.where(barrier < actuation._SERIES_BELOW, half - series, -np.log(special.i0e(half)))
    target = np.expm1(2 * energy) / barrier
    # What an error of the quotient is worth in ΔF.
    scale = 0.5 * barrier / (1 + barrier * target) / energy
    top, bottom = np.asarray(actuation._OPENING_NUMERATOR), np.asarray(actuation._OPENING_DENOMINATOR)
    degree = len(top) - 1
    x = barrier / actuation._OPENING_SCALE
    inner, last = powers(x, degree - 1, 1), x**degree

    def error(top, bottom):
        return float(np.max(np.abs(powers(x, degree) @ top / (powers(x, degree) @ bottom) - target) * scale))

    def full(found):
        numerator = np.concatenate([[1.0], found[: degree - 1], [np.pi * found[-1]]])
        return numerator, np.concatenate([[1.0], found[degree - 1 :]])

    denominator, best = powers(x, degree) @ bottom, (np.inf, np.empty(0))
    for _ in range(6):
        # The first coefficients are 1 and the last ones π apart.
        design = np.concatenate([inner, -inner * target[:, None], ((np.pi - target) * last)[:, None]], axis=1)
        numerator, below = full(lawson(design, target - 1, scale / denominator))
        denominator = powers(x, degree) @ below
        best = min(best, (error(numerator, below), np.concatenate([numerator, below])), key=lambda pair: pair[0])
    return Fit("free energy ΔF(B), float32", "relative error", error(top, bottom), *best)


def length() -> Fit:
    """ℓ(B) = B y² P(y), of which three coefficients are fitted and the others fixed by the limits."""
    barriers = np.concatenate([[0.0], np.geomspace(1e-2, 600.0, 240)])
    # Both fine near the bottom, where a high barrier's peak is, and near the tops.
    x = 0.5 * np.sin(0.5 * np.pi * np.linspace(-1, 1, 40001)) ** 3
    roots = []
    for b in barriers:
        weight = np.exp(-0.5 * b * (1 - np.cos(2 * np.pi * x)))
        norm = np.trapezoid(weight, x)
        slope = -0.5 * (1 - np.cos(2 * np.pi * x))
        mean = np.trapezoid(slope * weight, x) / norm
        change = weight / norm * (slope - mean)
        steps = np.diff(x)
        parts = 0.5 * (change[1:] + change[:-1]) * steps
        # It vanishes at both ends, and is summed from the nearer one.
        left, right = np.cumsum(parts), np.cumsum(parts[::-1])[::-1]
        cumulated = np.where(x < 0, np.concatenate([[0.0], left]), np.concatenate([-right, [0.0]]))
        ratio = np.divide(cumulated**2, weight / norm, out=np.zeros_like(weight), where=weight > 1e-280)
        roots.append(np.sqrt(np.trapezoid(ratio, x)))
    roots = np.asarray(roots)
    # ∫ sqrt ζ dB between neighbours by the trapezoid rule in ln B, whose integrand is smooth.
    logs = np.log(barriers[1:])
    values = roots[1:] * barriers[1:]
    lengths = barriers[1] * roots[0] + np.concatenate(
        [[0.0], np.cumsum(0.5 * (values[1:] + values[:-1]) * np.diff(logs))]
    )
    y = (1 + (barriers[1:] / actuation._LENGTH_SCALE) ** 2) ** -0.25
    front = barriers[1:] * y * y
    fixed = np.asarray(actuation._LENGTH_COEFFICIENTS[:3])
    stored = np.asarray(actuation._LENGTH_FIT)
    base = np.array([fixed[0], fixed[1], fixed[2] + stored.sum()])
    # The coefficients' sum is fixed by the slope at zero: what the three add, the third power takes back.
    design = front[:, None] * (powers(y, 5, 3) - (y**2)[:, None])
    target = lengths - front * (powers(y, 2) @ base)
    scale = np.ones_like(target)
    found = lawson(design, target, scale)
    errors = [float(np.max(np.abs(design @ c - target))) for c in (stored, found)]
    return Fit("friction length ℓ(B)", "absolute error", *errors, found)


FITS: tuple[Callable[[], Fit], ...] = (asinh_series, logarithm, quantile, poisson_inverse, opening, length)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="the fitted coefficients too")
    options = parser.parse_args()
    print(f"{'table':<32}{'measure':<22}{'in use':>10}{'fitted':>10}")
    for fit in FITS:
        found = fit()
        print(f"{found.name:<32}{found.measure:<22}{found.stored:>10.1e}{found.fitted:>10.1e}", flush=True)
        if options.print:
            print("    " + ", ".join(f"{c:.9g}" for c in found.coefficients))


if __name__ == "__main__":
    main()
