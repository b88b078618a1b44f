r"""Langevin trajectories with work and heat, thousands at once, differentiable in the protocol.

Within a step the control stands at its value in the middle of the step and changes between steps at fixed position, so
that the work is a sum of energy differences: jumps of the protocol are exact and the first law holds to rounding.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from limjax.numerics._loops import checkpointed_loop
from limjax.numerics.checks import checked_leaf, is_known, whole_number
from limjax.numerics.counters import key_words, step_words
from limjax.numerics.poisson import normal_quantile
from limjax.simulate._potentials import force
from limjax.simulate._protocols import ControlProtocol

Potential = Callable[[Float[Array, "..."], Float[Array, "..."]], Float[Array, ""]]
# Explicit steps are stable below dt D |U''| = 2, BAOAB below dt sqrt(U''/m) = 2.
_STABLE = 2.0
# The curvature is looked at where the trajectories start, for so many of them and so many controls.
_SAMPLED, _CONTROLS = 256, 16


class Snapshot(eqx.Module):
    """All trajectories at one time, what an observer sees.

    Attributes:
        time: time since the start.
        control: control there.
        position: shape (trajectories,) or (trajectories, dimensions).
        velocity: like position; None if overdamped.
        work: work so far [kT], shape (trajectories,).
    """

    time: Float[Array, ""]
    control: Float[Array, "..."]
    position: Float[Array, "n *d"]
    velocity: Float[Array, "n *d"] | None
    work: Float[Array, "n"]


Observer = Callable[[Snapshot], PyTree]


class Trajectories(eqx.Module):
    """What trajectories ended with.

    Attributes:
        position: last positions, shape (trajectories,) or (trajectories, dimensions).
        velocity: last velocities; None if overdamped.
        work: work done on the system [kT], shape (trajectories,).
        heat: heat given to the bath [kT], by the first law: work minus the change of energy.
        energy_change: last minus first energy [kT].
        times: times at which the observer looked, shape (frames,).
        frames: what it returned, with a leading axis of frames; None without an observer.
    """

    position: Float[Array, "n *d"]
    velocity: Float[Array, "n *d"] | None
    work: Float[Array, "n"]
    heat: Float[Array, "n"]
    energy_change: Float[Array, "n"]
    times: Float[Array, "frames"]
    frames: PyTree


def overdamped(
    potential: Potential,
    protocol: ControlProtocol,
    start: Float[Array, "n *d"],
    key: Array,
    *,
    steps: int,
    diffusion: ArrayLike = 1.0,
    method: str = "heun",
    observer: Observer | None = None,
    frames: int = 1,
) -> Trajectories:
    r"""Trajectories of $\dot x = -D\,\partial_xU(x,\lambda(t)) + \sqrt{2D}\,\xi$, energies in kT.

    Args:
        potential: U(x, control) [kT] of one position.
        protocol: the control in time.
        start: first positions, shape (trajectories,) or (trajectories, dimensions).
        key: random key; the noise is a function of key, step and trajectory alone.
        steps: number of time steps.
        diffusion: D [length²/time].
        method: "heun", predictor and corrector on the same noise: weak order 2 and strong order 1 (two forces a step); or
            "euler": weak order 1.
        observer: function of a `Snapshot`; None watches nothing.
        frames: how often it looks, at equal distances, the last time at the end; must divide `steps`.

    Returns:
        The trajectories' ends, work and heat.

    Raises:
        ValueError: for a wrong number, an unknown method, or a time step that is unstable for the stiffness of the
            potential (the message says the limit).

    Cost: one fused pass over the trajectories per step; its gradient keeps O(√steps) of them and takes one more pass.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from limjax.simulate import LinearProtocol, MovingTrap, overdamped
        >>> start = jax.random.normal(jax.random.key(0), (1000,))
        >>> drag = LinearProtocol(0.0, 5.0, duration=1.0)
        >>> run = overdamped(MovingTrap(), drag, start, jax.random.key(1), steps=200)
        >>> f"{run.work.mean():.0f} kT"
        '9 kT'

    Source: physics.md section 6; Sekimoto, Prog. Theor. Phys. Suppl. 130, 17 (1998); Kloeden & Platen, Numerical
    Solution of Stochastic Differential Equations, section 15.1.
    """
    if method not in ("heun", "euler"):
        raise ValueError(f'method must be "heun" or "euler", got {method!r}.')
    remedy = "It is in length² per time."
    diffusion = checked_leaf(diffusion, "diffusion", low=0.0, open_low=True, single=True, remedy=remedy)
    _check_run(potential, protocol, start, steps, frames, observer)
    _check_step(
        potential, protocol, start, steps, lambda curvature: _STABLE / (float(diffusion) * curvature), diffusion
    )
    return _overdamped(potential, protocol, start, key, diffusion, steps, method, observer, frames)


def underdamped(
    potential: Potential,
    protocol: ControlProtocol,
    start: Float[Array, "n *d"],
    velocity: Float[Array, "n *d"],
    key: Array,
    *,
    steps: int,
    damping: ArrayLike,
    mass: ArrayLike = 1.0,
    observer: Observer | None = None,
    frames: int = 1,
) -> Trajectories:
    r"""Trajectories of $m\dot v = -\partial_xU - m\gamma v + \sqrt{2m\gamma}\,\xi$, $\dot x = v$, energies in kT.

    The integrator is BAOAB: half a kick, half a drift, the exact Ornstein-Uhlenbeck step, half a drift, half a kick; weak
    order 2, and exact for the friction and the noise at any damping.

    Args:
        potential: U(x, control) [kT] of one position.
        protocol: the control in time.
        start: first positions, shape (trajectories,) or (trajectories, dimensions).
        velocity: first velocities, of that shape; in equilibrium normal with variance 1/m.
        key: random key; the noise is a function of key, step and trajectory alone.
        steps: number of time steps.
        damping: γ [1/time]; ω0/Q for an oscillator of quality Q.
        mass: m [kT time²/length²].
        observer: function of a `Snapshot`; None watches nothing.
        frames: how often it looks, at equal distances, the last time at the end; must divide `steps`.

    Returns:
        The trajectories' ends, work and heat; the energy includes the kinetic one.

    Raises:
        ValueError: for a wrong number, or a time step that is unstable for the stiffness (the message says the limit).

    Cost: two forces a step; the gradient keeps O(√steps) of the trajectories and takes one more pass.

    Source: Leimkuhler & Matthews, Appl. Math. Res. Express 2013, 34, doi 10.1093/amrx/abs010.
    """
    damping = checked_leaf(damping, "damping", low=0.0, remedy="It is the rate 1/time at which velocities relax.")
    mass = checked_leaf(mass, "mass", low=0.0, open_low=True, single=True, remedy="It is in kT time² per length².")
    _check_run(potential, protocol, start, steps, frames, observer)
    if velocity.shape != start.shape:
        raise ValueError(f"velocity must have the shape of the positions, {start.shape}, got {velocity.shape}.")
    _check_step(potential, protocol, start, steps, lambda k: _STABLE * (float(mass) / k) ** 0.5, mass)
    return _underdamped(potential, protocol, start, velocity, key, damping, mass, steps, observer, frames)


def normals(key: Array, step: Any, shape: tuple[int, ...], dtype: Any) -> Float[Array, "..."]:
    """Standard normal noise of one step, a function of key, step and place alone.

    Args:
        key: random key.
        step: number of the step.
        shape: shape wanted.
        dtype: float32 or float64.

    Returns:
        Independent standard normal values.
    """
    return normal_quantile(step_words(key_words(key), 0, step, shape)[0], dtype)


@eqx.filter_jit
def _overdamped(
    potential: Potential,
    protocol: ControlProtocol,
    start: Float[Array, "n *d"],
    key: Array,
    diffusion: Float[Array, ""],
    steps: int,
    method: str,
    observer: Observer | None,
    frames: int,
) -> Trajectories:
    dtype = start.dtype
    dt = protocol.duration.astype(dtype) / steps
    drift, noise = dt * diffusion.astype(dtype), jnp.sqrt(2 * dt * diffusion.astype(dtype))
    push = jax.vmap(lambda x, c: force(potential, x, c), in_axes=(0, None))

    def move(k, x, control):
        # The noise does not depend on the position: both stages share one kick, and only the drift is averaged.
        kick = noise * normals(key, k, x.shape, dtype)
        here = push(x, control)
        if method == "euler":
            return x + drift * here + kick
        ahead = push(x + drift * here + kick, control)
        return x + 0.5 * drift * (here + ahead) + kick

    def advance(k, state, control):
        return (move(k, state[0], control),)

    energy = jax.vmap(potential, in_axes=(0, None))
    return _run(lambda state, c: energy(state[0], c), advance, protocol, (start,), energy, steps, observer, frames)


@eqx.filter_jit
def _underdamped(
    potential: Potential,
    protocol: ControlProtocol,
    start: Float[Array, "n *d"],
    velocity: Float[Array, "n *d"],
    key: Array,
    damping: Float[Array, "..."],
    mass: Float[Array, ""],
    steps: int,
    observer: Observer | None,
    frames: int,
) -> Trajectories:
    dtype = start.dtype
    dt = protocol.duration.astype(dtype) / steps
    damping, mass = damping.astype(dtype), mass.astype(dtype)
    kept = jnp.exp(-damping * dt)
    # 1 - e^(-2γdt) by expm1: weak damping would lose its digits in the difference. At γ = 0 the motion is Hamiltonian.
    scatter = jnp.sqrt(-jnp.expm1(-2 * damping * dt) / mass)
    push = jax.vmap(lambda x, c: force(potential, x, c), in_axes=(0, None))

    def advance(k, state, control):
        x, v = state
        v = v + 0.5 * dt / mass * push(x, control)
        x = x + 0.5 * dt * v
        v = kept * v + scatter * normals(key, k, x.shape, dtype)
        x = x + 0.5 * dt * v
        # This force cannot be handed to the next step, which begins under another control.
        return x, v + 0.5 * dt / mass * push(x, control)

    energy = jax.vmap(potential, in_axes=(0, None))

    def total(state, c):
        x, v = state
        return energy(x, c) + 0.5 * mass * jnp.sum(jnp.square(v), axis=tuple(range(1, v.ndim)))

    return _run(total, advance, protocol, (start, velocity), energy, steps, observer, frames)


def _run(
    total: Callable[..., Any],
    advance: Callable[..., Any],
    protocol: ControlProtocol,
    state: tuple[Float[Array, "n *d"], ...],
    energy: Callable[..., Any],
    steps: int,
    observer: Observer | None,
    frames: int,
) -> Trajectories:
    """The loop both kinds of motion share: the control moves, then the particles do."""
    dtype = state[0].dtype

    def control_at(k):
        # In the middle of step k; before the first and after the last step the protocol's fixed ends.
        return protocol((k.astype(dtype) + 0.5) / steps).astype(dtype)

    # The protocol may be of another width than the particles; a carry of the loop must keep its dtype.
    initial, final = protocol.initial.astype(dtype), protocol.final.astype(dtype)
    first = total(state, initial)

    def body(carry):
        k, state, work, control = carry
        # Sekimoto: work is what the control does at fixed positions, heat what the particles do at fixed control.
        following = control_at(k)
        # The difference first: added one by one, both energies would round at the size of the sum. The kinetic energy
        # in `total` has no part in it, as the control does not change it.
        work = work + (energy(state[0], following) - energy(state[0], control))
        return k + 1, advance(k, state, following), work, following

    carry = (jnp.zeros((), jnp.int32), state, jnp.zeros_like(first), initial)
    seen = None
    if observer is None:
        carry = checkpointed_loop(body, carry, steps)
    else:

        def frame(carry, _):
            # Without a rest: `_check_run` has seen that the frames divide the steps.
            k, state, work, control = carry = checkpointed_loop(body, carry, steps // frames)
            time = k.astype(dtype) / steps * protocol.duration.astype(dtype)
            velocity = state[1] if len(state) > 1 else None
            return carry, observer(Snapshot(time, control, state[0], velocity, work))

        carry, seen = jax.lax.scan(frame, carry, None, length=frames)
    _, state, work, control = carry
    work = work + (energy(state[0], final) - energy(state[0], control))
    # Heat is what is left of the work: no integral of a force that would depend on where in a step it is taken.
    change = total(state, final) - first
    times = jnp.arange(1, frames + 1, dtype=dtype) / frames * protocol.duration.astype(dtype)
    return Trajectories(
        position=state[0],
        velocity=state[1] if len(state) > 1 else None,
        work=work,
        heat=work - change,
        energy_change=change,
        times=times,
        frames=seen,
    )


def equilibrium(
    potential: Potential,
    control: ArrayLike | list,
    key: Array,
    count: int,
    low: float,
    high: float,
    cells: int = 4096,
) -> Float[Array, "count"]:
    """Positions in equilibrium at a fixed control in one dimension, by inverting the cumulative distribution on a grid.

    Args:
        potential: U(x, control) [kT].
        control: control.
        key: random key.
        count: number of positions.
        low: left end of the grid; all the weight must lie between the ends.
        high: right end.
        cells: number of grid cells; the error of the distribution falls with the square of it.

    Returns:
        Independent positions, shape (count,), in the default float type.

    Raises:
        ValueError: if the ends are not finite numbers in order, or count is not positive.
    """
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"The grid's ends must be finite numbers in order, got {low!r} and {high!r}.")
    whole_number(count, "count")
    dtype = jnp.result_type(float)
    edges = jnp.linspace(low, high, cells + 1, dtype=dtype)
    middle = 0.5 * (edges[1:] + edges[:-1])
    energy = jax.vmap(potential, in_axes=(0, None))(middle, jnp.asarray(control, dtype))
    # Less the lowest energy, whose zero is arbitrary: the largest weight is 1 and nothing overflows.
    weight = jnp.exp(-(energy - jnp.min(energy)))
    share = jnp.concatenate([jnp.zeros(1, dtype), jnp.cumsum(weight)])
    return jnp.interp(jax.random.uniform(key, (count,), dtype) * share[-1], share, edges)


def positions(snapshot: Snapshot) -> Float[Array, "n *d"]:
    """Observer: all positions."""
    return snapshot.position


def moments(snapshot: Snapshot) -> tuple[Float[Array, "*d"], Float[Array, "*d"]]:
    """Observer: mean and variance of the position over the trajectories."""
    return jnp.mean(snapshot.position, axis=0), jnp.var(snapshot.position, axis=0, ddof=1)


def _check_run(
    potential: Any, protocol: ControlProtocol, start: Array, steps: int, frames: int, observer: Observer | None
) -> None:
    whole_number(steps, "steps")
    whole_number(frames, "frames")
    if not callable(potential):
        raise ValueError(f"potential must be a function U(x, control), got {potential!r}.")
    if start.ndim not in (1, 2) or start.shape[0] == 0:
        raise ValueError(f"start must have shape (trajectories,) or (trajectories, dimensions), got {start.shape}.")
    if observer is not None and steps % frames:
        raise ValueError(f"frames must divide the steps, got {frames} frames and {steps} steps.")
    check_protocol(protocol)


def check_protocol(protocol: ControlProtocol) -> None:
    """Refuses a protocol with NaN, infinities or no duration, unless it is being traced.

    Args:
        protocol: the protocol.

    Raises:
        ValueError: naming what is wrong.
    """
    leaves = jax.tree.leaves(eqx.filter(protocol, eqx.is_inexact_array))
    # Within a trace, as of a gradient in the knots, there is no number to look at.
    if not is_known(leaves):
        return
    for leaf in leaves:
        values = np.asarray(leaf)
        if not np.isfinite(values).all():
            bad = values[~np.isfinite(values)].ravel()[0]
            raise ValueError(f"The protocol holds {bad}; every knot and end must be a finite number.")
    if not float(protocol.duration) > 0:
        raise ValueError(f"The protocol's duration must be positive, got {float(protocol.duration)!r}.")


def _check_step(
    potential: Potential, protocol: ControlProtocol, start: Array, steps: int, limit_of: Callable[..., Any], *others
) -> None:
    """Refuses a step beyond the stability limit of the stiffest place the trajectories start at, for any control they move under."""
    if not is_known(potential, protocol, start, others):
        return
    shares = jnp.linspace(0.0, 1.0, _CONTROLS, dtype=start.dtype)
    # Without the protocol's ends, under which nothing moves.
    controls = jax.vmap(protocol)(shares).astype(start.dtype)
    found = _largest_curvature(potential, start[:_SAMPLED], controls)
    # In a trace of something else known numbers are staged too, and a potential may close over what is traced.
    if not is_known(found):
        return
    curvature = float(found)
    if not np.isfinite(curvature):
        raise ValueError("The potential or its curvature is not finite at the start; check the start and the controls.")
    dt = float(protocol.duration) / steps
    limit = limit_of(curvature) if curvature > 0 else np.inf
    if dt > limit:
        least = int(np.ceil(float(protocol.duration) / limit))
        raise ValueError(
            f"The time step {dt:.3g} is unstable: the potential's stiffness {curvature:.3g} kT/length² allows at most "
            f"{limit:.3g}. Take more than {least} steps; a tenth of the limit is a good start."
        )


@eqx.filter_jit
def _largest_curvature(
    potential: Potential, start: Float[Array, "n *d"], controls: Float[Array, "controls *m"]
) -> Float[Array, ""]:
    def curvature(x, control):
        hessian = jax.hessian(potential)(x, control)
        # The row sums bound the largest eigenvalue.
        return jnp.max(jnp.sum(jnp.abs(hessian), axis=-1)) if hessian.ndim else jnp.abs(hessian)

    return jnp.max(jax.vmap(lambda c: jax.vmap(lambda x: curvature(x, c))(start))(controls))
