"""Exact moments of driven jumps, from the master equation."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from limjax.numerics._loops import checkpointed_loop
from limjax.simulate._density import entropy_of
from limjax.simulate._jump_networks import JumpNetwork, control_at, energies_at, parts_at, start_of
from limjax.simulate._protocols import ControlProtocol


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
        ValueError: if the rates break local detailed balance (a hop without its reverse) at any step, a shape is wrong, or a
            state is left too often in a step for a matrix exponential (the message says how many steps it takes).

    Cost: about six matrix exponentials a step, states³ each; reverse mode keeps O(√steps) of them. Heat is what hops there and
    back leave of each other: in float32 it is off by up to about 1e-6 kT a hop.

    Example:
        >>> from limjax.simulate import LinearProtocol, master_equation, two_level
        >>> quench = master_equation(two_level(), LinearProtocol(0.0, 2.0, 1.0, [2.0, 2.0]), steps=1)
        >>> f"{quench.work:.3f} {quench.work_variance:.3f}"     # half of the time the lifted state is occupied
        '1.000 1.000'

    Source: Esposito, Harbola & Mukamel, Rev. Mod. Phys. 81, 1665 (2009), section II; physics.md section 6.
    """
    return _master_equation(network, protocol, start_of(network, protocol, start, steps), steps)


@eqx.filter_jit
def _master_equation(
    network: JumpNetwork, protocol: ControlProtocol, start: Float[Array, "s"], steps: int
) -> JumpMoments:
    dtype = start.dtype
    zero = jnp.zeros((), dtype)

    def log_mean(s):
        p, scale = _propagate(network, protocol, start, steps, s)
        return jnp.log(jnp.sum(p)) + scale

    def two(direction):
        """First and second derivative of ln <exp(s X)> at zero."""
        # Twice forward: one scalar direction, and nothing of the steps is kept for a way back.
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


def _propagate(
    network: JumpNetwork, protocol: ControlProtocol, start: Float[Array, "states"], steps: int, s: Float[Array, "3"]
) -> tuple[Float[Array, "states"], Float[Array, ""]]:
    """Probabilities weighted by exp(s0 work + s1 heat + s2 hops), and the logarithm taken out of them."""
    dtype = start.dtype
    dt = protocol.duration.astype(dtype) / steps

    def body(carry):
        k, p, scale, energy = carry
        rates, heat, following = parts_at(network, control_at(protocol, k, steps, dtype), dtype)
        # Against the landscape a hop costs heat + rise of energy; the rest of the work is the control's.
        driven = heat + following[None, :] - following[:, None]
        # The control moves first, at fixed states; then the states hop at a fixed control.
        p = p * jnp.exp(s[0] * (following - energy))
        tilted = rates * jnp.exp(s[0] * driven + s[1] * heat + s[2])
        # Only hops are weighted; a state is left at its own rate.
        generator = tilted - jnp.diag(jnp.sum(rates, axis=1))
        p = p @ jax.scipy.linalg.expm(generator * dt)
        # Kept out of p so that e^(sX) of many steps neither over- nor underflows. Whatever it is, it cancels in the
        # logarithm, so that its derivative is not needed.
        size = jax.lax.stop_gradient(jnp.sum(p))
        return k + 1, p / size, scale + jnp.log(size), following

    first = energies_at(network, protocol.initial.astype(dtype), dtype, start.shape[0])
    carry = (jnp.zeros((), jnp.int32), start, jnp.zeros((), dtype), first)
    _, p, scale, energy = checkpointed_loop(body, carry, steps)
    last = energies_at(network, protocol.final.astype(dtype), dtype, start.shape[0])
    return p * jnp.exp(s[0] * (last - energy)), scale
