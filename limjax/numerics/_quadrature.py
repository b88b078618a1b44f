"""Nodes and weights of Gauss's quadratures, from NumPy, on the intervals in use here."""

import functools

import numpy as np
from jaxtyping import Float


@functools.cache
def gauss_legendre(points: int) -> tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points"]]:
    """Nodes and weights for the integral from 0 to 1.

    Example:
        >>> nodes, weights = gauss_legendre(3)
        >>> f"{(weights * nodes**5).sum():.6f}"
        '0.166667'
    """
    nodes, weights = np.polynomial.legendre.leggauss(points)
    return 0.5 * (nodes + 1), 0.5 * weights


@functools.cache
def gauss_hermite(points: int) -> tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points"]]:
    """Nodes and weights for the mean over a standard normal variable.

    Example:
        >>> nodes, weights = gauss_hermite(3)
        >>> f"{(weights * nodes**4).sum():.6f}"
        '3.000000'
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    # NumPy's weights are for exp(-x²/2) and sum to the root of 2 pi: for a mean they have to sum to 1.
    return nodes, weights / weights.sum()
