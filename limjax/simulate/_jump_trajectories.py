"""Trajectories of driven jumps: hop by hop, or all hops of a time step at once."""

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from limjax.numerics.checks import whole_number
from limjax.simulate._jump_networks import (
    JumpNetwork,
    check_network,
    check_rates,
    control_at,
    energies_at,
    parts_at,
    start_of,
)
from limjax.simulate._protocols import ControlProtocol


class JumpTrajectories(eqx.Module):
    """What jump trajectories ended with.

    Attributes:
        state: last states, shape (trajectories,).
        work: work done on the system [kT].
        heat: heat given to the bath [kT].
        energy_change: last minus first energy [kT].
        entropy_production: heat plus ln of first over last probability of its state.
        hops: number of hops.
    """

    state: Integer[Array, "n"]
    work: Float[Array, "n"]
    heat: Float[Array, "n"]
    energy_change: Float[Array, "n"]
    entropy_production: Float[Array, "n"]
    hops: Integer[Array, "n"]


def gillespie(
    network: JumpNetwork,
    protocol: ControlProtocol,
    key: Array,
    *,
    trajectories: int,
    steps: int = 1,
    start: Float[Array, "s"] | None = None,
) -> JumpTrajectories:
    """Exact trajectories, hop by hop.

    Args:
        network: states and rates.
        protocol: the control in time, constant within a step; a waiting time that reaches beyond its step is drawn anew
            there, which changes nothing for a memoryless process.
        key: random key.
        trajectories: how many.
        steps: number of steps of the protocol; 1 if it is constant.
        start: first probabilities; None takes equilibrium or the steady state at the initial control.

    Returns:
        Ends, work, heat, entropy production and hops of each trajectory. Not differentiable in the rates; the master
        equation is.

    Raises:
        ValueError: as `master_equation`.

    Cost: one pass over all trajectories per hop of the busiest one.

    Source: Gillespie, J. Phys. Chem. 81, 2340 (1977); Seifert, Phys. Rev. Lett. 95, 040602 (2005) for the entropy.
    """
    whole_number(trajectories, "trajectories")
    start = start_of(network, protocol, start, steps)
    return _gillespie(network, protocol, start, key, trajectories, steps)


@eqx.filter_jit
def _gillespie(
    network: JumpNetwork, protocol: ControlProtocol, start: Float[Array, "s"], key: Array, trajectories: int, steps: int
) -> JumpTrajectories:
    dtype, n = start.dtype, start.shape[0]
    dt = protocol.duration.astype(dtype) / steps
    initial = energies_at(network, protocol.initial.astype(dtype), dtype, n)

    def one_step(carry, k):
        key, state, work, heat, hops, p, energy = carry
        rates, heat_of, following = parts_at(network, control_at(protocol, k, steps, dtype), dtype)
        work = work + following[state] - energy[state]
        driven = heat_of + following[None, :] - following[:, None]
        leaving = jnp.sum(rates, axis=1)
        # A state that is never left gets zeros here, not NaN, and a wait beyond any step in `hop`.
        choice = jnp.cumsum(rates, axis=1) / jnp.maximum(leaving, jnp.finfo(dtype).tiny)[:, None]

        def hop(loop):
            key, left, state, work, heat, hops = loop
            key, wait_key, choose_key = jax.random.split(key, 3)
            wait = jax.random.exponential(wait_key, (trajectories,), dtype) / jnp.where(
                leaving[state] > 0, leaving[state], jnp.finfo(dtype).tiny
            )
            # All trajectories go round until the last is through; those whose time is up draw on and hop no more.
            left = left - wait
            happens = left > 0
            uniform = jax.random.uniform(choose_key, (trajectories, 1), dtype)
            # Rounding may leave the last cumulative share below 1.
            target = jnp.minimum(jnp.sum(uniform >= choice[state], axis=1), n - 1)
            # Rounding must not choose a hop that has no rate.
            target = jnp.where(rates[state, target] > 0, target, jnp.argmax(rates[state], axis=1))
            work = work + jnp.where(happens, driven[state, target], 0)
            heat = heat + jnp.where(happens, heat_of[state, target], 0)
            return key, left, jnp.where(happens, target, state), work, heat, hops + happens.astype(hops.dtype)

        loop = (key, jnp.full(trajectories, dt, dtype), state, work, heat, hops)
        key, _, state, work, heat, hops = jax.lax.while_loop(lambda s: jnp.any(s[1] > 0), hop, loop)
        # The distribution itself, for the entropy -ln p of the state that a trajectory ends in (Seifert).
        p = p @ jax.scipy.linalg.expm((rates - jnp.diag(leaving)) * dt)
        return (key, state, work, heat, hops, p, following), None

    key, start_key = jax.random.split(key)
    state = jax.random.categorical(start_key, jnp.log(start), shape=(trajectories,))
    first = state
    zeros = jnp.zeros(trajectories, dtype)
    carry = (key, state, zeros, zeros, jnp.zeros(trajectories, jnp.int32), start, initial)
    carry, _ = jax.lax.scan(one_step, carry, jnp.arange(steps))
    _, state, work, heat, hops, p, energy = carry
    last = energies_at(network, protocol.final.astype(dtype), dtype, n)
    return JumpTrajectories(
        state=state,
        work=work + last[state] - energy[state],
        heat=heat,
        energy_change=last[state] - initial[first],
        entropy_production=heat + jnp.log(start[first]) - jnp.log(p[state]),
        hops=hops,
    )


class LeapResult(eqx.Module):
    """What a population ended with.

    Attributes:
        counts: systems in each state, shape (populations, states).
        work: work done on each population [kT].
        heat: heat it gave to the bath [kT].
        hops: number of hops.
    """

    counts: Integer[Array, "n s"]
    work: Float[Array, "n"]
    heat: Float[Array, "n"]
    hops: Integer[Array, "n"]


def tau_leaping(
    network: JumpNetwork,
    protocol: ControlProtocol,
    counts: Integer[Array, "n s"],
    key: Array,
    *,
    steps: int,
) -> LeapResult:
    """Populations of many equal, independent systems, all hops of a time step at once.

    In a step a system hops at most once: the hops out of a state are binomial with 1 - exp(-leaving rate × step), shared
    among the targets by their rates, so that no count becomes negative. The error is of first order in the step.

    Args:
        network: states and rates.
        protocol: the control in time, constant within a step.
        counts: first numbers of systems in each state, shape (populations, states).
        key: random key.
        steps: number of time steps.

    Returns:
        Last counts, work, heat and hops of each population.

    Raises:
        ValueError: as `master_equation`, or if a state is left more than once per step on average (the message says how
            many steps it takes).

    Cost: one binomial draw per pair of states, population and step.

    Source: Tian & Burrage, J. Chem. Phys. 121, 10356 (2004); Chatterjee, Vlachos & Katsoulakis, J. Chem. Phys. 122, 024112.
    """
    whole_number(steps, "steps")
    states = check_network(network, protocol)
    if counts.ndim != 2 or counts.shape[1] != states:
        raise ValueError(f"counts must have shape (populations, {states}), got {counts.shape}.")
    # By NumPy: within a trace JAX would stage the minimum of known numbers too.
    if not isinstance(counts, jax.core.Tracer) and np.asarray(counts).min(initial=0) < 0:
        raise ValueError(f"counts must not be negative, got {np.asarray(counts).min()}.")
    fastest = check_rates(network, protocol, steps, jnp.result_type(float))
    needed = 0.0 if fastest is None else fastest.leaving * float(protocol.duration)
    if needed > steps:
        raise ValueError(
            f"{steps} steps are too few: a state is left {needed / steps:.3g} times per step. Take more than "
            f"{np.ceil(needed):.0f} steps; ten times that for an error of a few percent."
        )
    return _tau_leaping(network, protocol, counts, key, steps)


@eqx.filter_jit
def _tau_leaping(
    network: JumpNetwork, protocol: ControlProtocol, counts: Integer[Array, "n s"], key: Array, steps: int
) -> LeapResult:
    dtype = jnp.result_type(float)
    n = counts.shape[1]
    dt = protocol.duration.astype(dtype) / steps
    initial = energies_at(network, protocol.initial.astype(dtype), dtype, n)

    def one_step(carry, k):
        counts, work, heat, hops, energy = carry
        rates, heat_of, following = parts_at(network, control_at(protocol, k, steps, dtype), dtype)
        driven = heat_of + following[None, :] - following[:, None]
        work = work + counts.astype(dtype) @ (following - energy)
        leaving = jnp.sum(rates, axis=1)
        remaining = counts.astype(dtype)
        # A multinomial draw by binomials: each target takes its share of what has not hopped yet, the rest stays.
        probability = rates / jnp.maximum(leaving, jnp.finfo(dtype).tiny)[:, None] * -jnp.expm1(-leaving * dt)[:, None]
        rest = jnp.ones(n, dtype)
        change = jnp.zeros_like(remaining)
        keys = jax.random.split(jax.random.fold_in(key, k), n)
        for target in range(n):
            share = jnp.clip(probability[:, target] / jnp.maximum(rest, jnp.finfo(dtype).tiny), 0, 1)
            # Whole numbers as floats, exact below 2^24 in float32.
            moved = jax.random.binomial(keys[target], remaining, jnp.broadcast_to(share, remaining.shape), dtype=dtype)
            remaining = remaining - moved
            rest = rest - probability[:, target]
            change = (change - moved).at[:, target].add(jnp.sum(moved, axis=1))
            work = work + moved @ driven[:, target]
            heat = heat + moved @ heat_of[:, target]
            hops = hops + jnp.sum(moved, axis=1).astype(hops.dtype)
        counts = counts + jnp.round(change).astype(counts.dtype)
        return (counts, work, heat, hops, following), None

    zeros = jnp.zeros(counts.shape[0], dtype)
    carry = (counts, zeros, zeros, jnp.zeros(counts.shape[0], jnp.int32), initial)
    (counts, work, heat, hops, energy), _ = jax.lax.scan(one_step, carry, jnp.arange(steps))
    last = energies_at(network, protocol.final.astype(dtype), dtype, n)
    return LeapResult(counts=counts, work=work + counts.astype(dtype) @ (last - energy), heat=heat, hops=hops)
