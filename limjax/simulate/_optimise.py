"""Descent on protocols: L-BFGS where the cost has no noise, Adam where it has."""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from limjax.numerics._outer_loop import Evaluated, outer_loop
from limjax.numerics._result_code import ResultCode
from limjax.numerics.checks import positive_number, whole_number
from limjax.simulate._protocols import AbstractKnotProtocol as Protocol

Cost = Callable[[Protocol, Array], Float[Array, ""]]
OptimiseCode = ResultCode
"""How an optimisation ended."""
# L-BFGS is at the bottom when so many steps in a row find nothing lower by more than rounding.
_PATIENCE = 3


class OptimiseRow(NamedTuple):
    """One step of the descent.

    Attributes:
        step: its number.
        cost: the cost before the step.
        gradient: largest entry of the gradient.
        seconds: wall time so far [s].
        evaluations: how often cost and gradient were computed so far, by the line search too.
    """

    step: int
    cost: float
    gradient: float
    seconds: float
    evaluations: int = 0


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

    A cost without noise is descended by L-BFGS with a line search, which finds the bottom in a tenth of the evaluations that
    Adam needs, and notices it. A noisy one is descended by Adam.

    Args:
        cost: function of a protocol and a random key, for example the mean work of trajectories or of `fokker_planck`,
            differentiated pathwise.
        protocol: where to start.
        steps: at most so many steps.
        rate: first learning rate of Adam, in units of the control; it falls to zero along a cosine. A line search needs none.
        key: key of the noise, new at each step; None for a cost without noise.
        seeds: average the cost over so many keys per step.
        tolerance: stop when the cost fell by less than this share over a tenth of the steps; 0 goes on until L-BFGS finds
            nothing lower. Only without noise.
        optimizer: takes the place of both; it brings its sign and rate.
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
        >>> best = optimise_protocol(work, LinearProtocol(0.0, 1.0, 1.0))
        >>> abs(best.cost - 1 / 3) < 0.01                   # Schmiedl and Seifert: 1/3, with jumps at both ends
        True

    Source: Engel, Smith & Brenner, Phys. Rev. X 13, 041032 (2023), for pathwise gradients of protocols; Nocedal & Wright,
    Numerical Optimization, algorithm 7.5, for L-BFGS.
    """
    steps, seeds = whole_number(steps, "steps"), whole_number(seeds, "seeds")
    rate = positive_number(rate, "rate")
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance must be a share of at least 0, got {tolerance!r}.")
    descent = _Descent(cost, protocol, steps, key, seeds, tolerance, searches_lines=key is None and optimizer is None)
    descent.on_progress = on_progress
    schedule = None
    if optimizer is None and key is None:
        optimizer = optax.lbfgs()
    elif optimizer is None:
        optimizer = optax.chain(optax.scale_by_adam(b2=0.99), optax.scale(-1.0))
        schedule = optax.cosine_decay_schedule(rate, steps)
    code = outer_loop(
        descent.evaluate, descent.accept, protocol.knots, steps=steps, optimizer=optimizer, schedule=schedule,
        value_fn=None if descent.is_noisy else descent.value,
    )  # fmt: skip
    return descent.found(code)


class _Descent:
    """The cost as the loop sees it, and what it has found so far."""

    on_progress: Callable[[OptimiseRow, float], None] | None = None

    def __init__(
        self,
        cost: Cost,
        protocol: Protocol,
        steps: int,
        key: Array | None,
        seeds: int,
        tolerance: float,
        searches_lines: bool,
    ):
        self.is_noisy = key is not None
        self._cost, self._protocol, self._steps, self._seeds = cost, protocol, steps, seeds
        # A cost without noise is called with a key too, and ignores it.
        self._key = jax.random.key(0) if key is None else key
        self._tolerance, self._searches_lines = tolerance, searches_lines
        self._value_and_slope = eqx.filter_jit(jax.value_and_grad(self.value))
        self._best, self._lowest, self._unchanged, self._has_failed = protocol.knots, math.inf, 0, False
        self._tail: list[tuple[float, Array]] = []
        self._history: list[OptimiseRow] = []
        self._evaluations, self._began = 0, time.monotonic()

    def value(self, knots: Float[Array, "knots *m"], key: Array | None = None) -> Float[Array, ""]:
        """The cost at these knots, mean over the seeds."""
        moved = eqx.tree_at(lambda p: p.knots, self._protocol, knots)
        key = self._key if key is None else key
        if not self.is_noisy or self._seeds == 1:
            return self._cost(moved, key)
        return jnp.mean(jax.vmap(lambda k: self._cost(moved, k))(jax.random.split(key, self._seeds)))

    def evaluate(self, knots: Float[Array, "knots *m"], k: int, state: PyTree) -> Evaluated:
        """Cost and slope, which a line search has computed already."""
        # L-BFGS has an infinite value before its first line search, and again after a failure, when `outer_loop`
        # starts its state anew: then the cost is computed here.
        value, slope = jnp.asarray(math.inf), jnp.zeros_like(knots)
        if self._searches_lines:
            self._evaluations += int(jnp.asarray(optax.tree.get(state, "num_linesearch_steps")))
            # It knows them at the end of its whole step, which after a failure the loop shortens.
            if not self._has_failed:
                value, slope = jnp.asarray(optax.tree.get(state, "value")), jnp.asarray(optax.tree.get(state, "grad"))
        if not math.isfinite(float(value)):
            key = jax.random.fold_in(self._key, k) if self.is_noisy else None
            value, slope = self._value_and_slope(knots, key)
            self._evaluations += 1
        largest = float(jnp.max(jnp.abs(slope)))
        row = OptimiseRow(k, float(value), largest, time.monotonic() - self._began, self._evaluations)
        self._history.append(row)
        if self.on_progress is not None:
            self.on_progress(row, (self._steps - k - 1) * row.seconds / (k + 1))
        found = Evaluated(value, slope, math.isfinite(row.cost) and math.isfinite(row.gradient))
        self._has_failed |= not found.is_finite
        return found

    def accept(self, knots: Float[Array, "knots *m"], found: Evaluated) -> bool:
        """Keeps the best and the last tenth; whether there is nothing more to gain."""
        row, window = self._history[-1], max(1, self._steps // 10)
        # A fall by rounding alone is none: on its last digit a descent could go on for ever.
        rounding = 2 * float(jnp.finfo(knots.dtype).eps) * abs(row.cost)
        self._unchanged = 0 if row.cost < self._lowest - rounding else self._unchanged + 1
        # With noise the lowest cost seen is the luckiest, not the best: the latest is kept.
        if self.is_noisy or row.cost < self._lowest:
            self._lowest, self._best = row.cost, knots
        if row.step >= self._steps - window:
            self._tail.append((row.cost, knots))
        if self._searches_lines and self._unchanged >= _PATIENCE:
            return True
        if self.is_noisy or not self._tolerance or row.step < window:
            return False
        before = self._history[-1 - window].cost
        return before - row.cost < self._tolerance * max(abs(before), 1e-12)

    def found(self, code: ResultCode) -> OptimisedProtocol:
        """What the descent ends with."""
        best, lowest = self._best, self._lowest
        if self.is_noisy and self._tail:
            # At the end of the cosine the knots only jitter; their mean has less of the noise than any one.
            best = jnp.mean(jnp.stack([x for _, x in self._tail]), axis=0)
            lowest = sum(value for value, _ in self._tail) / len(self._tail)
        protocol = eqx.tree_at(lambda p: p.knots, self._protocol, best)
        return OptimisedProtocol(protocol, lowest, tuple(self._history), code)
