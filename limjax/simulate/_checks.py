"""Laws that every correct simulation keeps, as functions with standard errors."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Integer

from limjax.numerics.checks import finite_number, is_real


class Check(NamedTuple):
    """A measured number beside what the law says.

    Attributes:
        value: the estimate.
        expected: what it must be, or the bound it must not pass.
        standard_error: of the estimate.
        effective: how many samples the estimate rests on; far below their number when a few of them dominate, and below
            about 100 the standard error itself is not to be trusted.
    """

    value: float
    expected: float
    standard_error: float
    effective: float

    @property
    def deviations(self) -> float:
        """Distance from what was expected in standard errors, with sign."""
        difference = self.value - self.expected
        if difference == 0:
            return 0.0
        return difference / self.standard_error if self.standard_error else math.copysign(math.inf, difference)


class CrooksCheck(NamedTuple):
    """The two parameters of Crooks' relation.

    Attributes:
        slope: of ln P_F(W)/P_R(-W) against W; must be 1.
        free_energy: work at which the two meet [kT]; must be the free-energy change.
    """

    slope: Check
    free_energy: Check


def jarzynski(work: ArrayLike, free_energy_change: ArrayLike = 0.0) -> Check:
    r"""$\langle e^{-W}\rangle = e^{-\Delta F}$ for work from equilibrium.

    Args:
        work: work of each trajectory [kT], shape (trajectories,).
        free_energy_change: ΔF between the end controls [kT].

    Returns:
        The estimate of ΔF as -ln<e^-W> [kT] with its standard error; `effective` is (Σw)²/Σw² of the weights e^-W.

    Raises:
        ValueError: for fewer than two trajectories or work that is not finite.

    Example:
        >>> import numpy as np
        >>> work = np.random.default_rng(0).normal(0.5, 1.0, 10_000)     # normal with variance twice the mean: ΔF = 0
        >>> check = jarzynski(work, 0.0)
        >>> abs(check.deviations) < 5
        True

    Source: Jarzynski, Phys. Rev. Lett. 78, 2690 (1997).
    """
    values, change = _samples(work, "work"), finite_number(free_energy_change, "free_energy_change")
    # Taken out of the exponent and put back below: e^-W of the lowest work may overflow, of all may underflow.
    lowest = values.min()
    weights = np.exp(-(values - lowest))
    mean = weights.mean()
    effective = weights.sum() ** 2 / (weights**2).sum()
    # The delta method: the error of a logarithm is the relative error of its argument.
    return Check(
        float(lowest - np.log(mean)),
        change,
        float(weights.std(ddof=1) / mean / math.sqrt(values.size)),
        float(effective),
    )


def crooks(forward: ArrayLike, reverse: ArrayLike, free_energy_change: ArrayLike = 0.0) -> CrooksCheck:
    r"""$\ln\frac{P_F(W)}{P_R(-W)} = W-\Delta F$ between a protocol and its reverse.

    Whether a value W came from the forward or (as -W) from the reverse runs is a logistic regression; the maximum of its
    likelihood gives slope and crossing with errors, without histograms. With the slope held at 1 it is Bennett's acceptance
    ratio, from which the free energy is taken.

    Args:
        forward: work of the forward protocol [kT], from equilibrium, shape (trajectories,).
        reverse: work of the reversed protocol [kT], from equilibrium at its start.
        free_energy_change: ΔF of the forward protocol [kT].

    Returns:
        Slope and free energy with standard errors.

    Raises:
        ValueError: for fewer than two trajectories, work that is not finite or has no spread, or distributions that do not overlap.

    Source: Crooks, Phys. Rev. E 60, 2721 (1999); Shirts et al., Phys. Rev. Lett. 91, 140601 (2003).
    """
    change = finite_number(free_energy_change, "free_energy_change")
    f, r = _samples(forward, "forward work"), _samples(reverse, "reverse work")
    w = np.concatenate([f, -r])
    label = np.concatenate([np.ones(f.size), np.zeros(r.size)])
    # Unequal numbers of runs shift the odds of forward by their quotient (Shirts et al.).
    offset = math.log(f.size / r.size)
    if w.min() == w.max():
        raise ValueError(
            f"The work is {w[0]:.3g} kT in every run of both directions: it has no spread to fit, and is the free energy itself."
        )
    # A value of W would then tell the two apart without fail, and the likelihood rises for ever with the slope or falls.
    if f.min() >= (-r).max() or f.max() <= (-r).min():
        raise ValueError(
            f"The work of the two directions does not overlap (forward from {f.min():.3g} to {f.max():.3g}, reverse from "
            f"{(-r).min():.3g} to {(-r).max():.3g} kT): take a slower protocol or more trajectories."
        )

    def fit(free_slope):
        theta = np.array([1.0, float(np.median(w))])  # slope, crossing
        p, information = np.empty(0), np.empty((0, 0))
        for _ in range(200):
            # e^500 fits into float64, and p is 0 or 1 to rounding long before.
            logit = np.clip(theta[0] * (w - theta[1]) + offset, -500, 500)
            p = 1 / (1 + np.exp(-logit))
            # Derivatives of the logit by slope and crossing; with the slope held only the second row is left.
            design = np.stack([w - theta[1], np.full_like(w, -theta[0])])[0 if free_slope else 1 :]
            information = (design * (p * (1 - p))) @ design.T
            step = np.linalg.solve(information, design @ (label - p))
            full = step if free_slope else np.array([0.0, step[0]])
            # Half the standard deviation of the work at most, or 0.5 where that is below 1: a bad start must not run away.
            full = np.clip(full, -0.5 * max(1.0, w.std()), 0.5 * max(1.0, w.std()))
            theta = theta + full
            if np.abs(full).max() < 1e-10:
                break
        weight = p * (1 - p)
        # Only works near the crossing, where both directions are likely, tell anything.
        effective = weight.sum() ** 2 / (weight**2).sum()
        # The inverse of the Fisher information has the variances on its diagonal.
        return theta, np.sqrt(np.diag(np.linalg.inv(information))), effective

    both, errors, effective = fit(True)
    fixed, error, _ = fit(False)
    return CrooksCheck(
        Check(float(both[0]), 1.0, float(errors[0]), float(effective)),
        Check(float(fixed[1]), change, float(error[0]), float(effective)),
    )


def tur(current: ArrayLike, entropy_production: ArrayLike) -> Check:
    r"""The uncertainty relation $\mathrm{var}(J)\,\Sigma/\langle J\rangle^2 \ge 2$ of a steady state.

    Args:
        current: an integrated current of each trajectory, for example its net number of hops, shape (trajectories,).
        entropy_production: entropy production of each trajectory [nats], or its mean.

    Returns:
        The product with its standard error (delta method), beside the bound 2.

    Raises:
        ValueError: for fewer than two trajectories, values that are not finite, or a current of mean 0.

    Source: Barato & Seifert, Phys. Rev. Lett. 114, 158101 (2015); Horowitz & Gingrich, Phys. Rev. E 96, 020103 (2017).
    """
    j = _samples(current, "current")
    if np.ndim(entropy_production):
        sigma = _samples(entropy_production, "entropy_production")
        if sigma.shape != j.shape:
            raise ValueError(
                f"entropy_production must be one number, or one for each of {j.size} currents; got {sigma.size}."
            )
    else:
        sigma = np.full(j.shape, finite_number(entropy_production, "entropy_production"))
    n = j.size
    mean, variance, production = j.mean(), j.var(ddof=1), sigma.mean()
    if mean == 0:
        raise ValueError("current must have a mean other than 0: the relation is about its relative variance.")
    product = variance * production / mean**2
    # Influence of each sample on variance, production and mean; no division by a variance that may be zero.
    influence = ((j - mean) ** 2 - variance) * production + variance * (sigma - production)
    influence = influence / mean**2 - 2 * product * (j - mean) / mean
    return Check(float(product), 2.0, float(influence.std(ddof=1) / math.sqrt(n)), float(n))


def detailed_balance(
    before: Integer[Array, "n"] | np.ndarray, after: Integer[Array, "n"] | np.ndarray, states: int
) -> Check:
    r"""No net flow between any two states of an equilibrium: $\sum_{i<j}(n_{ij}-n_{ji})^2/(n_{ij}+n_{ji})$.

    Args:
        before: state (or bin) of each system at one time, whole numbers from 0.
        after: its state at a later time.
        states: number of states.

    Returns:
        The statistic, which in equilibrium is chi-squared with as many degrees of freedom as pairs of states that were
        exchanged; `expected` is that number and `standard_error` its root of twice.

    Raises:
        ValueError: if the two have different shapes, hold a state out of range, or nothing moved.
    """
    a, b = np.asarray(before), np.asarray(after)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"before and after must have one shape (n,), got {a.shape} and {b.shape}.")
    if min(a.min(), b.min()) < 0 or max(a.max(), b.max()) >= states:
        raise ValueError(f"States must be whole numbers from 0 to {states - 1}.")
    counts = np.zeros((states, states))
    np.add.at(counts, (a, b), 1)
    upper = np.triu_indices(states, 1)
    forth, back = counts[upper], counts.T[upper]
    moved = (forth + back) > 0
    if not moved.any():
        raise ValueError("No system changed its state between the two times; take them further apart.")
    # A pair that is exchanged n times goes either way with probability 1/2: the net flow has mean 0 and variance n.
    statistic = ((forth - back)[moved] ** 2 / (forth + back)[moved]).sum()
    pairs = int(moved.sum())
    return Check(float(statistic), float(pairs), math.sqrt(2 * pairs), float(a.size))


def mean_with_error(values: Float[Array, "n"] | np.ndarray) -> tuple[float, float]:
    """Mean and its standard error.

    Args:
        values: independent samples.

    Returns:
        `(mean, standard error)`.
    """
    samples = _samples(values, "values")
    return float(samples.mean()), float(samples.std(ddof=1) / math.sqrt(samples.size))


def _samples(values: ArrayLike, name: str) -> Float[np.ndarray, "n"]:
    if not is_real(values):
        raise ValueError(f"{name} must be numbers, got {str(values)[:40]!r}.")
    try:
        array = np.asarray(jax.device_get(values) if isinstance(values, jnp.ndarray) else values, np.float64)
    except OverflowError:
        raise ValueError(f"{name} must be numbers that fit into 64 bits, got {str(values)[:40]!r}.") from None
    if array.ndim != 1 or array.size < 2:
        raise ValueError(f"{name} must hold at least two trajectories, shape (n,), got shape {array.shape}.")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise ValueError(
            f"{name} is not finite for {bad} of {array.size} trajectories: the time step is too large for the potential."
        )
    return array
