"""Gradient descent on protocols."""

import enum
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from limjax.numerics.checks import positive_number, whole_number
from limjax.simulate.protocols import LinearProtocol, SplineProtocol

Protocol = LinearProtocol | SplineProtocol
Cost = Callable[[Protocol, Array], Float[Array, ""]]
_TOLERATED_FAILURES = 5


class OptimiseCode(enum.StrEnum):
    """How an optimisation ended."""

    completed = "completed"
    converged = "converged"
    interrupted = "interrupted"
    diverged = "diverged"

    @property
    def help(self) -> str:
        """What it means and what to do."""
        return {
            "completed": "All steps were taken.",
            "converged": "The cost stopped changing.",
            "interrupted": "It was stopped; the best protocol so far is returned.",
            "diverged": (
                "The cost or its gradient was not finite again and again, even with smaller steps; the best protocol before "
                "that is returned. Lower the rate, or take more time steps in the simulation."
            ),
        }[self.value]


class OptimiseRow(NamedTuple):
    """One step of the descent.

    Attributes:
        step: its number.
        cost: the cost before the step.
        gradient: largest entry of the gradient.
        seconds: wall time so far [s].
    """

    step: int
    cost: float
    gradient: float
    seconds: float


class OptimisedProtocol(NamedTuple):
    """What the descent found.

    Attributes:
        protocol: the protocol.
        cost: its cost; the mean of the last tenth of the steps where the cost is noisy.
        history: all steps.
        result: how it ended.
    """

    protocol: Protocol
    cost: float
    history: tuple[OptimiseRow, ...]
    result: OptimiseCode


def optimise_protocol(
    cost: Cost,
    protocol: Protocol,
    *,
    steps: int = 300,
    rate: float = 0.05,
    key: Array | None = None,
    seeds: int = 1,
    tolerance: float = 0.0,
    optimizer: optax.GradientTransformation | None = None,
    on_progress: Callable[[OptimiseRow, float], None] | None = None,
) -> OptimisedProtocol:
    """Moves a protocol's knots, not its ends or its duration, down the gradient of a cost.

    Args:
        cost: function of a protocol and a random key, for example the mean work of trajectories or of `fokker_planck`,
            differentiated pathwise.
        protocol: where to start.
        steps: at most so many steps.
        rate: first learning rate of Adam, in units of the control; it falls to zero along a cosine.
        key: key of the noise, new at each step; None for a cost without noise.
        seeds: average the cost over so many keys per step.
        tolerance: stop when the cost fell by less than this share over a tenth of the steps; 0 never stops early. Only
            without noise.
        optimizer: takes the place of Adam.
        on_progress: called after each step with its row and the seconds still to go.

    Returns:
        The protocol (without noise the best seen, with noise the mean of the last tenth), its cost, the history and a
        result code; Ctrl-C ends it early and loses nothing.

    Raises:
        ValueError: for a wrong number.

    Example:
        >>> import jax
        >>> from limjax.simulate import Grid, LinearProtocol, MovingTrap, fokker_planck, optimise_protocol
        >>> def work(protocol, key):
        ...     return fokker_planck(MovingTrap(), protocol, Grid(-6.0, 7.0, 65), steps=20).work
        >>> best = optimise_protocol(work, LinearProtocol(0.0, 1.0, 1.0), steps=40, rate=0.1)
        >>> abs(best.cost - 1 / 3) < 0.01                   # Schmiedl and Seifert: 1/3, with jumps at both ends
        True

    Source: Engel, Smith & Brenner, Phys. Rev. X 13, 041032 (2023), for pathwise gradients of protocols.
    """
    steps, seeds = whole_number(steps, "steps"), whole_number(seeds, "seeds")
    rate = positive_number(rate, "rate")
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance must be a share of at least 0, got {tolerance!r}.")
    is_noisy = key is not None
    adam = optax.scale_by_adam(b2=0.99) if optimizer is None else optimizer

    @eqx.filter_jit
    def step(knots, state, key, scale):
        def mean_cost(knots):
            moved = eqx.tree_at(lambda p: p.knots, protocol, knots)
            if not is_noisy or seeds == 1:
                return cost(moved, key)
            return jnp.mean(jax.vmap(lambda k: cost(moved, k))(jax.random.split(key, seeds)))

        value, slope = jax.value_and_grad(mean_cost)(knots)
        updates, state = adam.update(slope, state, knots)
        # An optimizer of the user's own brings its sign and rate.
        moved = knots - scale * updates if optimizer is None else knots + updates
        return moved, state, value, jnp.max(jnp.abs(slope))

    knots = best = good = protocol.knots
    state = adam.init(knots)
    lowest, damping, failures = math.inf, 1.0, 0
    tail, last_tenth = [], steps - max(1, steps // 10)
    history: list[OptimiseRow] = []
    code, began = OptimiseCode.completed, time.monotonic()
    base = jax.random.key(0) if key is None else key
    try:
        for k in range(steps):
            scale = rate * damping * 0.5 * (1 + math.cos(math.pi * k / steps))
            moved, new_state, value, slope = step(knots, state, jax.random.fold_in(base, k), jnp.asarray(scale))
            row = OptimiseRow(k, float(value), float(slope), time.monotonic() - began)
            history.append(row)
            if on_progress is not None:
                on_progress(row, (steps - k - 1) * row.seconds / (k + 1))
            if not (math.isfinite(row.cost) and math.isfinite(row.gradient)):
                failures += 1
                if failures > _TOLERATED_FAILURES or k == 0:
                    code = OptimiseCode.diverged
                    break
                damping *= 0.5
                knots, state = good, adam.init(good)
                continue
            good = knots
            if row.cost < lowest:
                lowest, best = row.cost, knots
            if k >= last_tenth:
                tail.append((row.cost, knots))
            knots, state = moved, new_state
            window = max(1, steps // 10)
            if tolerance and not is_noisy and k >= window and _has_stalled(history, window, tolerance):
                code = OptimiseCode.converged
                break
    except KeyboardInterrupt:
        code = OptimiseCode.interrupted
    if is_noisy and tail:
        best = jnp.mean(jnp.stack([x for _, x in tail]), axis=0)
        lowest = sum(value for value, _ in tail) / len(tail)
    elif is_noisy:
        best, lowest = good, history[-1].cost if history else math.nan
    return OptimisedProtocol(eqx.tree_at(lambda p: p.knots, protocol, best), lowest, tuple(history), code)


def _has_stalled(history, window, tolerance):
    before, now = history[-1 - window].cost, history[-1].cost
    return before - now < tolerance * max(abs(before), 1e-12)
