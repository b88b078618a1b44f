"""What several seeds say: a mean, a number with its error, and what a precision costs."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float


def jackknife(of: Callable[[np.ndarray], float], count: int) -> tuple[float, float]:
    """A number of several seeds, and its standard error from leaving each out in turn.

    Args:
        of: the number, of the seeds with these indices.
        count: how many seeds there are.

    Returns:
        `(number, standard error)`; the error is NaN for one seed, and where a number is.

    Source: Efron & Stein, Ann. Statist. 9, 586 (1981), doi 10.1214/aos/1176345462.
    """
    everyone = np.arange(count)
    if count < 2:
        return of(everyone), math.nan
    left_out = np.array([of(np.delete(everyone, k)) for k in everyone])
    return of(everyone), float(np.sqrt((count - 1) / count * np.sum((left_out - left_out.mean()) ** 2)))


def mean_text(values: np.ndarray, form: str) -> str:
    """Mean and standard error as text, the mean alone for one seed."""
    mean = f"{values.mean():{form}}"
    return mean if len(values) < 2 else f"{mean} ± {values.std(ddof=1) / np.sqrt(len(values)):{form}}"


def energy_at(
    energy: Float[np.ndarray, "rows seeds"], excess: Float[np.ndarray, "rows seeds"], target: float
) -> tuple[float, float]:
    """Least energy at which an excess is reached, read between the rows in 1/energy: quieter hops are dearer in nearly that proportion.

    What lost more than something cheaper is noise or waste: it counts as no better than the cheaper. A row with a number that is not finite does not count.

    Args:
        energy: of every row and seed, above 0.
        excess: of the loss, of the same.
        target: the excess that is to be reached.

    Returns:
        The energy and its jackknife error over the seeds; that of the cheapest row where it is as quiet already, NaN where none is.
    """
    return jackknife(lambda kept: least_energy(energy[:, kept], excess[:, kept], target), energy.shape[1])


def least_energy(
    energy: Float[np.ndarray, "rows seeds"], excess: Float[np.ndarray, "rows seeds"], target: float
) -> float:
    """`energy_at` of all these seeds, without its error."""
    energies, means = energy.mean(axis=1), excess.mean(axis=1)
    counts = np.isfinite(energies) & np.isfinite(means)
    order = np.argsort(energies[counts])
    inverse, least = 1 / energies[counts][order], np.minimum.accumulate(means[counts][order])
    reached = np.flatnonzero(least <= target)
    if not reached.size:
        return math.nan
    i = reached[0]
    # The first row that reaches it, and the one before: `np.interp` would take the dearest of several that are alike.
    share = 0.0 if i == 0 else (least[i] - target) / (least[i] - least[i - 1])
    return float(1 / (inverse[i] + share * (inverse[i - 1] - inverse[i])))
