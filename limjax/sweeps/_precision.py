"""What a precision costs, from barriers that are quieter and dearer than one another."""

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


def energy_at(energy: Float[np.ndarray, "rows seeds"], excess: Float[np.ndarray, "rows seeds"], target: float) -> float:
    """Least energy at which an excess is reached, read between the rows in 1/energy: quieter hops are dearer in nearly that proportion.

    What lost more than something cheaper is noise or waste: it counts as no better than the cheaper.

    Args:
        energy: of every row and seed.
        excess: of the loss, of the same.
        target: the excess.

    Returns:
        The energy; that of the cheapest row where it is as quiet already, NaN where none is.
    """
    energies, means = energy.mean(axis=1), excess.mean(axis=1)
    order = np.argsort(energies)
    least = np.minimum.accumulate(means[order])
    if not least[-1] <= target:
        return math.nan
    return float(1 / np.interp(-target, -least, 1 / energies[order]))
