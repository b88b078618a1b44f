r"""Markov jumps with local detailed balance: exact moments from the master equation, and trajectories.

A system hops between states i with rates k_ij(control). The heat of a hop is ln(k_ij/k_ji) [kT]: it is what local detailed
balance says the bath receives. The control stands still within a step and changes between steps, as in `langevin`.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Integer

from limjax.numerics.checks import checked_leaf, is_whole, whole_number
from limjax.numerics.loops import checkpointed_loop
from limjax.simulate.fokker_planck import entropy_of
from limjax.simulate.langevin import check_protocol
from limjax.simulate.protocols import ControlProtocol


class JumpNetwork(eqx.Module):
    """States, their energies and the rates between them as functions of the control.

    Attributes:
        rates: function of the control that returns rates [1/time], shape (states, states), from row to column; the
            diagonal does not count. A rate is zero only if its reverse is.
        energies: function of the control that returns energies [kT], shape (states,); None is zero for all, so that all
            work is done by what drives the hops.

    Example:
        >>> import jax.numpy as jnp
        >>> cell = two_level(total_rate=10.0)
        >>> cell.rates(jnp.array(0.0)).tolist()
        [[0.0, 5.0], [5.0, 0.0]]
    """

    rates: Callable[[Float[Array, "..."]], Float[Array, "s s"]]
    energies: Callable[[Float[Array, "..."]], Float[Array, "s"]] | None = None


class _TwoLevelRates(eqx.Module):
    total_rate: Float[Array, ""]

    def __call__(self, control):
        up = self.total_rate.astype(control.dtype) * jax.nn.sigmoid(-control)
        down = self.total_rate.astype(control.dtype) * jax.nn.sigmoid(control)
        zero = jnp.zeros_like(up)
        return jnp.stack([jnp.stack([zero, up]), jnp.stack([down, zero])])


class _RingRates(eqx.Module):
    states: int = eqx.field(static=True)

    def __call__(self, control):
        exchange, affinity = control[0], control[1]
        forward = jnp.roll(jnp.eye(self.states, dtype=control.dtype), 1, axis=1)
        return exchange * (jnp.exp(0.5 * affinity) * forward + jnp.exp(-0.5 * affinity) * forward.T)


class _LiftedEnergy(eqx.Module):
    def __call__(self, control):
        return jnp.stack([jnp.zeros_like(control), control])


def two_level(total_rate: ArrayLike = 1.0) -> JumpNetwork:
    """Two states, the second lifted by the control [kT]; the two rates add up to a constant.

    Args:
        total_rate: sum of the two rates [1/time].

    Returns:
        The network.

    Raises:
        ValueError: if the rate is not positive.

    Source: Esposito, Kawai, Lindenberg & Van den Broeck, EPL 89, 20003 (2010).
    """
    rate = checked_leaf(total_rate, "total_rate", low=0.0, open_low=True, remedy="It is in 1/time.")
    return JumpNetwork(_TwoLevelRates(rate), _LiftedEnergy())


def ladder(states: int = 5) -> JumpNetwork:
    """The memory cell's ladder, closed to a ring: control (exchange rate Γ [1/time], affinity F [kT] per hop).

    On a ring of any size the hop counts are those of the endless ladder.

    Args:
        states: number of states, at least 3.

    Returns:
        The network; its heat is F times the net number of hops.

    Raises:
        ValueError: if there are fewer than three states.
    """
    if not is_whole(states) or states < 3:
        raise ValueError(f"A ring needs at least 3 states, got {states!r}.")
    return JumpNetwork(_RingRates(states))


class JumpMoments(eqx.Module):
    """Exact moments of a driven jump process; energies in kT.

    Attributes:
        probability: of each state at the end.
        work: mean work.
        work_variance: its variance [kT²].
        heat: mean heat given to the bath.
        heat_variance: its variance [kT²].
        hops: mean number of hops.
        hops_variance: its variance.
        entropy_change: of the distribution, last minus first [nats].
        entropy_production: heat plus entropy change; never negative.
        log_mean_exp_minus_work: ln <e^-W>, minus the free-energy change from equilibrium (Jarzynski).
    """

    probability: Float[Array, "s"]
    work: Float[Array, ""]
    work_variance: Float[Array, ""]
    heat: Float[Array, ""]
    heat_variance: Float[Array, ""]
    hops: Float[Array, ""]
    hops_variance: Float[Array, ""]
    entropy_change: Float[Array, ""]
    entropy_production: Float[Array, ""]
    log_mean_exp_minus_work: Float[Array, ""]


def master_equation(
    network: JumpNetwork, protocol: ControlProtocol, *, steps: int, start: Float[Array, "s"] | None = None
) -> JumpMoments:
    r"""Propagates the probabilities exactly, with mean and variance of work, heat and number of hops.

    The moments are derivatives of $\ln\langle e^{sX}\rangle$, a product of matrix exponentials of the generator with
    weighted hops.

    Args:
        network: states and rates.
        protocol: the control in time, constant within a step.
        steps: number of steps; the only approximation is the protocol's, of second order in the step.
        start: first probabilities; None takes equilibrium (with energies) or the steady state at the initial control.

    Returns:
        The moments.

    Raises:
        ValueError: if the rates break local detailed balance (a hop without its reverse) or a shape is wrong.

    Cost: about six matrix exponentials a step, states³ each; reverse mode keeps O(√steps) of them.

    Example:
        >>> from limjax.simulate import LinearProtocol, master_equation, two_level
        >>> quench = master_equation(two_level(), LinearProtocol(0.0, 2.0, 1.0, [2.0, 2.0]), steps=1)
        >>> f"{quench.work:.3f} {quench.work_variance:.3f}"     # half of the time the lifted state is occupied
        '1.000 1.000'

    Source: Esposito, Harbola & Mukamel, Rev. Mod. Phys. 81, 1665 (2009), section II; physics.md section 6.
    """
    whole_number(steps, "steps")
    check_protocol(protocol)
    _check_network(network, protocol)
    start = _start(network, protocol, start)
    return _master_equation(network, protocol, start, steps)


@eqx.filter_jit
def _master_equation(network, protocol, start, steps):
    dtype = start.dtype
    zero = jnp.zeros((), dtype)

    def log_mean(s):
        p, scale = _propagate(network, protocol, start, steps, s)
        return jnp.log(jnp.sum(p)) + scale

    def two(direction):
        """First and second derivative of ln <exp(s X)> at zero."""
        along = lambda t: log_mean(t * direction)  # noqa: E731
        return jax.jvp(lambda t: jax.jvp(along, (t,), (jnp.ones_like(t),))[1], (zero,), (jnp.ones_like(zero),))

    unit = jnp.eye(3, dtype=dtype)
    (work, work_var), (heat, heat_var), (hops, hops_var) = two(unit[0]), two(unit[1]), two(unit[2])
    p, _ = _propagate(network, protocol, start, steps, jnp.zeros(3, dtype))
    entropy = entropy_of(p) - entropy_of(start)
    return JumpMoments(
        probability=p,
        work=work,
        work_variance=work_var,
        heat=heat,
        heat_variance=heat_var,
        hops=hops,
        hops_variance=hops_var,
        entropy_change=entropy,
        entropy_production=heat + entropy,
        log_mean_exp_minus_work=log_mean(-unit[0]),
    )


def _propagate(network, protocol, start, steps, s):
    """Probabilities weighted by exp(s0 work + s1 heat + s2 hops), and the logarithm taken out of them."""
    dtype = start.dtype
    dt = protocol.duration.astype(dtype) / steps

    def body(carry):
        k, p, scale, energy = carry
        control = protocol((k.astype(dtype) + 0.5) / steps).astype(dtype)
        rates, heat, following = _parts(network, control, dtype)
        # Against the landscape a hop costs heat + rise of energy; the rest of the work is the control's.
        driven = heat + following[None, :] - following[:, None]
        p = p * jnp.exp(s[0] * (following - energy))
        tilted = rates * jnp.exp(s[0] * driven + s[1] * heat + s[2])
        generator = tilted - jnp.diag(jnp.sum(rates, axis=1))
        p = p @ jax.scipy.linalg.expm(generator * dt)
        size = jax.lax.stop_gradient(jnp.sum(p))
        return k + 1, p / size, scale + jnp.log(size), following

    first = _energies(network, protocol.initial.astype(dtype), dtype, start.shape[0])
    carry = (jnp.zeros((), jnp.int32), start, jnp.zeros((), dtype), first)
    _, p, scale, energy = checkpointed_loop(body, carry, steps)
    last = _energies(network, protocol.final.astype(dtype), dtype, start.shape[0])
    return p * jnp.exp(s[0] * (last - energy)), scale


def _energies(network, control, dtype, states):
    return jnp.zeros(states, dtype) if network.energies is None else network.energies(control).astype(dtype)


def _parts(network, control, dtype):
    """Rates without diagonal, heat of every hop (0 where there is none), energies."""
    rates = network.rates(control).astype(dtype)
    n = rates.shape[0]
    rates = jnp.where(jnp.eye(n, dtype=bool), 0, rates)
    possible = (rates > 0) & (rates.T > 0)
    safe = jnp.where(possible, rates, 1)
    heat = jnp.log(safe) - jnp.log(safe.T)
    return rates, heat, _energies(network, control, dtype, n)


class JumpTrajectories(eqx.Module):
    """What jump trajectories ended with.

    Attributes:
        state: last states, shape (trajectories,).
        work: work done on the system [kT].
        heat: heat given to the bath [kT].
        energy_change: last minus first energy [kT].
        entropy_production: heat plus ln of first over last probability of its state, where those are known; else None.
        hops: number of hops.
    """

    state: Integer[Array, "n"]
    work: Float[Array, "n"]
    heat: Float[Array, "n"]
    energy_change: Float[Array, "n"]
    entropy_production: Float[Array, "n"] | None
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
    whole_number(steps, "steps")
    whole_number(trajectories, "trajectories")
    check_protocol(protocol)
    _check_network(network, protocol)
    start = _start(network, protocol, start)
    return _gillespie(network, protocol, start, key, trajectories, steps)


@eqx.filter_jit
def _gillespie(network, protocol, start, key, trajectories, steps):
    dtype, n = start.dtype, start.shape[0]
    dt = protocol.duration.astype(dtype) / steps
    initial = _energies(network, protocol.initial.astype(dtype), dtype, n)

    def one_step(carry, k):
        key, state, work, heat, hops, p, energy = carry
        control = protocol((k.astype(dtype) + 0.5) / steps).astype(dtype)
        rates, heat_of, following = _parts(network, control, dtype)
        work = work + following[state] - energy[state]
        driven = heat_of + following[None, :] - following[:, None]
        leaving = jnp.sum(rates, axis=1)
        choice = jnp.cumsum(rates, axis=1) / jnp.maximum(leaving, jnp.finfo(dtype).tiny)[:, None]

        def hop(loop):
            key, left, state, work, heat, hops = loop
            key, wait_key, choose_key = jax.random.split(key, 3)
            wait = jax.random.exponential(wait_key, (trajectories,), dtype) / jnp.where(
                leaving[state] > 0, leaving[state], jnp.finfo(dtype).tiny
            )
            left = left - wait
            happens = left > 0
            uniform = jax.random.uniform(choose_key, (trajectories, 1), dtype)
            target = jnp.minimum(jnp.sum(uniform >= choice[state], axis=1), n - 1)
            # Rounding must not choose a hop that has no rate.
            target = jnp.where(rates[state, target] > 0, target, jnp.argmax(rates[state], axis=1))
            work = work + jnp.where(happens, driven[state, target], 0)
            heat = heat + jnp.where(happens, heat_of[state, target], 0)
            return key, left, jnp.where(happens, target, state), work, heat, hops + happens.astype(hops.dtype)

        loop = (key, jnp.full(trajectories, dt, dtype), state, work, heat, hops)
        key, _, state, work, heat, hops = jax.lax.while_loop(lambda s: jnp.any(s[1] > 0), hop, loop)
        p = p @ jax.scipy.linalg.expm((rates - jnp.diag(leaving)) * dt)
        return (key, state, work, heat, hops, p, following), None

    key, start_key = jax.random.split(key)
    state = jax.random.categorical(start_key, jnp.log(start), shape=(trajectories,))
    first = state
    zeros = jnp.zeros(trajectories, dtype)
    carry = (key, state, zeros, zeros, jnp.zeros(trajectories, jnp.int32), start, initial)
    carry, _ = jax.lax.scan(one_step, carry, jnp.arange(steps))
    _, state, work, heat, hops, p, energy = carry
    last = _energies(network, protocol.final.astype(dtype), dtype, n)
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
    check_protocol(protocol)
    states = _check_network(network, protocol)
    if counts.ndim != 2 or counts.shape[1] != states:
        raise ValueError(f"counts must have shape (populations, {states}), got {counts.shape}.")
    if not isinstance(counts, jax.core.Tracer) and int(jnp.min(counts)) < 0:
        raise ValueError(f"counts must not be negative, got {int(jnp.min(counts))}.")
    fastest = max(float(jnp.max(jnp.sum(network.rates(c), axis=1))) for c in (protocol.initial, protocol.final))
    needed = fastest * float(protocol.duration)
    if needed > steps:
        raise ValueError(
            f"{steps} steps are too few: a state is left {needed / steps:.3g} times per step. Take more than "
            f"{int(np.ceil(needed))} steps; ten times that for an error of a few percent."
        )
    return _tau_leaping(network, protocol, counts, key, steps)


@eqx.filter_jit
def _tau_leaping(network, protocol, counts, key, steps):
    dtype = jnp.result_type(float)
    n = counts.shape[1]
    dt = protocol.duration.astype(dtype) / steps
    initial = _energies(network, protocol.initial.astype(dtype), dtype, n)

    def one_step(carry, k):
        counts, work, heat, hops, energy = carry
        control = protocol((k.astype(dtype) + 0.5) / steps).astype(dtype)
        rates, heat_of, following = _parts(network, control, dtype)
        driven = heat_of + following[None, :] - following[:, None]
        work = work + counts.astype(dtype) @ (following - energy)
        leaving = jnp.sum(rates, axis=1)
        remaining = counts.astype(dtype)
        # Shares of what has not hopped yet: staying first, then the targets one by one.
        probability = rates / jnp.maximum(leaving, jnp.finfo(dtype).tiny)[:, None] * -jnp.expm1(-leaving * dt)[:, None]
        rest = jnp.ones(n, dtype)
        change = jnp.zeros_like(remaining)
        keys = jax.random.split(jax.random.fold_in(key, k), n)
        for target in range(n):
            share = jnp.clip(probability[:, target] / jnp.maximum(rest, jnp.finfo(dtype).tiny), 0, 1)
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
    last = _energies(network, protocol.final.astype(dtype), dtype, n)
    return LeapResult(counts=counts, work=work + counts.astype(dtype) @ (last - energy), heat=heat, hops=hops)


def stationary(network: JumpNetwork, control: Float[Array, "..."]) -> Float[Array, "s"]:
    """The steady state at a fixed control.

    Args:
        network: states and rates.
        control: the control.

    Returns:
        Probabilities, sum 1; the Boltzmann distribution where the rates are those of an equilibrium.
    """
    rates, _, _ = _parts(network, control, jnp.result_type(float))
    n = rates.shape[0]
    generator = rates.T - jnp.diag(jnp.sum(rates, axis=1))
    fixed = jnp.concatenate([generator[:-1], jnp.ones((1, n), rates.dtype)])
    return jnp.linalg.solve(fixed, jnp.zeros(n, rates.dtype).at[-1].set(1))


def _start(network, protocol, start):
    states = jax.eval_shape(network.rates, protocol.initial).shape[0]
    if start is None:
        return stationary(network, protocol.initial)
    if start.shape != (states,):
        raise ValueError(f"start must hold one probability per state, shape ({states},), got {start.shape}.")
    return start


def _check_network(network, protocol):
    """Shapes, and that no hop lacks its reverse at either end of the protocol; returns the number of states."""
    shape = jax.eval_shape(network.rates, protocol.initial).shape
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 2:
        raise ValueError(f"rates must return a square matrix of at least two states, got shape {shape}.")
    for control in (protocol.initial, protocol.final):
        rates = network.rates(control)
        if isinstance(rates, jax.core.Tracer):
            continue
        rates = np.where(np.eye(shape[0], dtype=bool), 0, np.asarray(rates))
        if not np.isfinite(rates).all() or (rates < 0).any():
            raise ValueError(f"Rates must be finite and not negative, got {rates.tolist()}.")
        one_way = np.argwhere((rates > 0) & (rates.T == 0))
        if one_way.size:
            i, j = one_way[0]
            raise ValueError(
                f"The hop {i} -> {j} has the rate {rates[i, j]:.3g} but its reverse has none: local detailed balance gives "
                "it infinite heat. Give the reverse a rate, however small."
            )
    return shape[0]
