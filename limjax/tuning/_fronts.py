"""What no other point beats, and the volume that a front beats."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float


def non_dominated(points: Float[np.ndarray, "points objectives"]) -> Bool[np.ndarray, "points"]:
    """Which points no other point beats; smaller is better, and equal points keep each other.

    Args:
        points: one row per point. Rows with NaN are beaten.

    Returns:
        A mask.

    Example:
        >>> non_dominated(np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0]])).tolist()
        [True, True, False]
    """
    points = np.asarray(points, np.float64)
    finite = np.all(np.isfinite(points), axis=1)
    # [i, j]: row i against row j.
    no_worse = np.all(points[:, None, :] <= points[None, :, :], axis=2)
    better = np.any(points[:, None, :] < points[None, :, :], axis=2)
    # NaN compares false by itself, but -inf is better than everything and must beat nobody.
    beats = np.logical_and(np.logical_and(no_worse, better), np.reshape(finite, (-1, 1)))
    return np.logical_and(finite, np.logical_not(np.any(beats, axis=0)))


def hypervolume(
    points: Float[np.ndarray, "points objectives"], reference: Sequence[float] | Float[np.ndarray, "objectives"]
) -> float:
    """Volume of what the points beat, up to a reference point; smaller objectives are better.

    Slices along the last objective (Zitzler & Thiele, IEEE Trans. Evol. Comput. 3, 257 (1999)); exact for any number of
    objectives, meant for a few hundred points in two or three.

    Args:
        points: one row per point; those that do not beat the reference in everything are left out.
        reference: worst value of each objective.

    Returns:
        The volume.

    Example:
        >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), [3.0, 3.0])
        3.0
    """
    limit = np.asarray(reference, np.float64)
    points = np.asarray(points, np.float64).reshape(-1, limit.size)
    # On the limit in one objective a point adds no volume; NaN compares false and drops out as well.
    points = points[(points < limit).all(axis=1)]
    if points.size == 0:
        return 0.0
    if limit.size == 1:
        return float(limit[0] - points.min())
    points = points[np.argsort(points[:, -1])]
    # Between two neighbouring values of the last objective, what is beaten in the other ones does not change.
    heights = np.append(points[1:, -1], limit[-1]) - points[:, -1]
    return float(
        sum(h * hypervolume(points[: i + 1, :-1], limit[:-1]) for i, h in enumerate(heights) if h > 0)
    )  # fmt: skip
