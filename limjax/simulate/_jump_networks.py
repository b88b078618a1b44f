r"""Networks of states with jumps between them, in local detailed balance.

A system hops between states i with rates k_ij(control). The heat of a hop is ln(k_ij/k_ji) [kT]: it is what local detailed
balance says the bath receives. The control stands still within a step and changes between steps, as in `langevin`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Integer

from limjax.numerics.checks import checked_leaf, is_known, is_whole, whole_number
from limjax.simulate._density import solve_balance
from limjax.simulate._langevin import check_protocol
from limjax.simulate._protocols import ControlProtocol

# `jax.scipy.linalg.expm` squares 16 times and is NaN beyond. More would be no better: each doubles the rounding.
_LARGEST_NORM = {"float32": 3.9 * 2**17, "float64": 5.3 * 2**17}


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

    def __call__(self, control: Float[Array, ""]) -> Float[Array, "2 2"]:
        # Two sigmoids rather than a difference from 1: a rate of e^-E keeps its digits, and the quotient is e^-E.
        up = self.total_rate.astype(control.dtype) * jax.nn.sigmoid(-control)
        down = self.total_rate.astype(control.dtype) * jax.nn.sigmoid(control)
        zero = jnp.zeros_like(up)
        return jnp.stack([jnp.stack([zero, up]), jnp.stack([down, zero])])


class _RingRates(eqx.Module):
    states: int = eqx.field(static=True)

    def __call__(self, control: Float[Array, "2"]) -> Float[Array, "s s"]:
        exchange, affinity = control[0], control[1]
        forward = jnp.roll(jnp.eye(self.states, dtype=control.dtype), 1, axis=1)
        return exchange * (jnp.exp(0.5 * affinity) * forward + jnp.exp(-0.5 * affinity) * forward.T)


class _LiftedEnergy(eqx.Module):
    def __call__(self, control: Float[Array, ""]) -> Float[Array, "2"]:
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
    # With two states up and down would join the same pair, and the heat of a hop could not be told.
    if not is_whole(states) or states < 3:
        raise ValueError(f"A ring needs at least 3 states, got {states!r}.")
    return JumpNetwork(_RingRates(states))


def energies_at(network: JumpNetwork, control: Float[Array, "..."], dtype: Any, states: int) -> Float[Array, "s"]:
    """Energies at a control, zeros for a network without."""
    return jnp.zeros(states, dtype) if network.energies is None else network.energies(control).astype(dtype)


def control_at(protocol: ControlProtocol, k: Integer[Array, ""], steps: int, dtype: Any) -> Float[Array, "..."]:
    """The control of step k, that in its middle."""
    return protocol((k.astype(dtype) + 0.5) / steps).astype(dtype)


def _rates_at(network: JumpNetwork, control: Float[Array, "..."], dtype: Any) -> Float[Array, "s s"]:
    rates = network.rates(control).astype(dtype)
    return jnp.where(jnp.eye(rates.shape[0], dtype=bool), 0, rates)


def parts_at(
    network: JumpNetwork, control: Float[Array, "..."], dtype: Any
) -> tuple[Float[Array, "s s"], Float[Array, "s s"], Float[Array, "s"]]:
    """Rates without diagonal, heat of every hop (0 where there is none), energies."""
    rates = _rates_at(network, control, dtype)
    # Both branches of a `where` are differentiated, so that what has no rate gets a logarithm of 1. The difference of
    # logarithms holds where the quotient of the rates would overflow.
    possible = (rates > 0) & (rates.T > 0)
    safe = jnp.where(possible, rates, 1)
    heat = jnp.log(safe) - jnp.log(safe.T)
    return rates, heat, energies_at(network, control, dtype, rates.shape[0])


def stationary(network: JumpNetwork, control: Float[Array, "..."]) -> Float[Array, "s"]:
    """The steady state at a fixed control.

    Args:
        network: states and rates.
        control: the control.

    Returns:
        Probabilities, sum 1; the Boltzmann distribution where the rates are those of an equilibrium.
    """
    rates, _, _ = parts_at(network, control, jnp.result_type(float))
    generator = rates.T - jnp.diag(jnp.sum(rates, axis=1))
    return solve_balance(generator, jnp.zeros(rates.shape[0], rates.dtype), 1.0)


def start_of(
    network: JumpNetwork, protocol: ControlProtocol, start: Float[Array, "s"] | None, steps: int
) -> Float[Array, "s"]:
    """First probabilities: those given, or the steady state; after checks of network, protocol and steps."""
    whole_number(steps, "steps")
    states = check_network(network, protocol)
    if start is not None and start.shape != (states,):
        raise ValueError(f"start must hold one probability per state, shape ({states},), got {start.shape}.")
    dtype = jnp.result_type(float) if start is None else start.dtype
    fastest = check_rates(network, protocol, steps, dtype)
    if fastest is not None:
        needed = fastest.norm * float(protocol.duration) / _LARGEST_NORM[jnp.dtype(dtype).name]
        if needed > steps:
            raise ValueError(
                f"{steps} steps are too few: a state is left at a rate of {fastest.leaving:.3g}, too often in one step for its "
                f"matrix exponential. Take at least {np.ceil(needed):.0f} steps."
            )
    if start is not None:
        return start
    rates = _rates_at(network, protocol.initial.astype(dtype), dtype)
    if is_known(rates):
        _refuse_wrong(np.asarray(rates))
    return stationary(network, protocol.initial)


def check_network(network: JumpNetwork, protocol: ControlProtocol) -> int:
    """Numbers of the protocol and the shape of the rates; returns the number of states."""
    check_protocol(protocol)
    # Shapes are known in a trace too, values only outside of it.
    shape = jax.eval_shape(network.rates, protocol.initial).shape
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 2:
        raise ValueError(f"rates must return a square matrix of at least two states, got shape {shape}.")
    return shape[0]


class Fastest(NamedTuple):
    """The largest rates of a run: at which a state is left, and the 1-norm of the generator [1/time]."""

    leaving: float
    norm: float


def check_rates(network: JumpNetwork, protocol: ControlProtocol, steps: int, dtype: Any) -> Fastest | None:
    """That rates are numbers and no hop lacks its reverse, under every control that the steps hop at.

    The protocol's ends are none of them: nothing hops there.

    Returns:
        The largest rates; None in a trace, where there are no numbers to look at.
    """
    if not is_known(network, protocol):
        return None
    leaving, norm, rates = _along(network, protocol, steps, dtype)
    # Functions may close over what is traced.
    if not is_known(rates):
        return None
    _refuse_wrong(np.asarray(rates))
    return Fastest(float(leaving), float(norm))


@eqx.filter_jit
def _along(
    network: JumpNetwork, protocol: ControlProtocol, steps: int, dtype: Any
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, "s s"]]:
    """Largest rate of leaving, largest norm of the generator, and the rates of the first step at which they are wrong."""

    def at(k):
        return _rates_at(network, control_at(protocol, k, steps, dtype), dtype)

    def look(k):
        rates = at(k)
        is_wrong = ~jnp.all(jnp.isfinite(rates) & (rates >= 0)) | jnp.any((rates > 0) & (rates.T == 0))
        leaving = jnp.sum(rates, axis=1)
        return is_wrong, jnp.max(leaving), jnp.max(leaving + jnp.sum(rates, axis=0))

    # One step after the other: mapped at once, the rates of all would be in memory.
    wrong, leaving, norm = jax.lax.map(look, jnp.arange(steps))
    return jnp.max(leaving), jnp.max(norm), at(jnp.argmax(wrong))


def _refuse_wrong(rates: np.ndarray) -> None:
    if not np.isfinite(rates).all() or (rates < 0).any():
        raise ValueError(f"Rates must be finite and not negative, got {rates.tolist()}.")
    # Numbers below the smallest normal one are 0 to XLA.
    tiny = np.finfo(rates.dtype).tiny
    one_way = np.argwhere((rates >= tiny) & (tiny > rates.T))
    if one_way.size:
        i, j = one_way[0]
        raise ValueError(
            f"The hop {i} -> {j} has the rate {rates[i, j]:.3g} but its reverse has none: local detailed balance gives "
            "it infinite heat. Give the reverse a rate, however small."
        )
