"""The optimum of the exchange found directly, also where the barrier is not open: knots of ln Γ, heat by moments, L-BFGS.

The law (`limjax.limits.law`) assumes an exchange well above the requests. Towards the end of a short training it is not, and the
closed form is low by some percent. Here nothing is assumed but that the weight is spread like a Gaussian about its mean.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from limjax.limits import approaches
from limjax.limits.approaches import Knots, LossFollowing
from limjax.numerics.checks import whole_number


class DirectOptimum(NamedTuple):
    """The best exchange found.

    Attributes:
        heat_kt: its heat per parameter [kT].
        log_exchange: ln G at the knots, in equal steps of uT [ln(hops per relaxation time)].
        log_loss: ln L there [ln(levels²)].
        is_converged: whether the last steps of the search gained less than 1e-5 of the heat.
    """

    heat_kt: float
    log_exchange: Float[np.ndarray, "knots"]
    log_loss: Float[np.ndarray, "knots"]
    is_converged: bool

    @property
    def slope(self) -> float:
        """Slope of ln Γ against ln L by least squares; 1 for the law in the open regime."""
        return float(np.polyfit(self.log_loss, self.log_exchange, 1)[0])


def optimum(
    distance: float, contraction: float, final_loss: float, *, knots: int = 24, iterations: int = 120
) -> DirectOptimum:
    """Least heat over all exchanges that are functions of time, by direct search.

    Args:
        distance: m0 [levels].
        contraction: uT [dimensionless], at most 60.
        final_loss: LT [levels²].
        knots: how many values of ln Γ are free, 3 to 200.
        iterations: steps of L-BFGS.

    Returns:
        The best exchange found from that of `LossFollowing`.

    Raises:
        ValueError: if a number is out of its range, or the final loss out of reach.

    Example:
        >>> f"{optimum(100.0, 4.0, 18.23, knots=6, iterations=8).heat_kt:.1f} kT"
        '19.0 kT'

    Cost: some ten milliseconds an iteration on one CPU core, after some seconds of compilation.
    """
    knots = whole_number(knots, "knots", 3, 200, said="from 3 to 200")
    iterations = whole_number(iterations, "iterations")
    # Refuses what is out of range or reach, and has the dtype of the search.
    first = approaches.heat(LossFollowing(), distance, contraction, final_loss)
    m0, theta, last = (jnp.asarray(x, first.dtype) for x in (distance, contraction, final_loss))
    # The open optimum falls as the loss does, from L0 to LT.
    fall = 2 * np.log(distance) - np.log(final_loss)
    start = jnp.asarray(-fall * np.linspace(0, 1, knots), first.dtype)
    curve, history = _search(start, m0, theta, last, iterations)
    best, log_scale, _, _ = approaches.solve(Knots(curve), m0, theta, last, None)
    _, losses = approaches.integrate(Knots(curve), m0, theta, log_scale, None)
    # The loss before the first Runge-Kutta step and after each, at equal distances in uT as the knots are.
    along = np.concatenate([[distance**2], np.asarray(losses, np.float64)])
    log_loss = np.interp(np.linspace(0, 1, knots), np.linspace(0, 1, along.size), np.log(along))
    # To the curve that is given back, as `history` ends one step before it.
    gained = float(history[-min(10, iterations)] - best)
    return DirectOptimum(
        float(best), np.asarray(curve + log_scale, np.float64), log_loss, bool(gained < 1e-5 * float(best))
    )


@functools.partial(jax.jit, static_argnums=4)
def _search(
    start: Float[Array, "knots"],
    distance: Float[Array, ""],
    contraction: Float[Array, ""],
    final_loss: Float[Array, ""],
    iterations: int,
) -> tuple[Float[Array, "knots"], Float[Array, "iterations"]]:
    """The curve after that many steps of L-BFGS, and the heat on the way. Its constant is solved for, so only its shape counts."""

    def cost(curve: Float[Array, "knots"]) -> Float[Array, ""]:
        return approaches.solve(Knots(curve), distance, contraction, final_loss, None)[0]

    search = optax.lbfgs()
    # The line search leaves value and gradient of the point it took in the state: they are not computed again.
    value_and_gradient = optax.value_and_grad_from_state(cost)

    def step(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], Any]:
        curve, state = carry
        value, gradient = value_and_gradient(curve, state=state)
        updates, state = search.update(gradient, state, curve, value=value, grad=gradient, value_fn=cost)
        return (optax.apply_updates(curve, updates), state), value

    (curve, _), history = jax.lax.scan(step, (start, search.init(start)), None, length=iterations)
    return curve, history
