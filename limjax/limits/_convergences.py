"""One convergence of one parameter, and its heat by every approach to the barrier."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from limjax.limits import _arguments, approaches, bounds
from limjax.limits._conditions import DEFAULT_TIME_S
from limjax.numerics._guards import finite
from limjax.numerics.checks import Argument, read
from limjax.physics.units import LN2

_MOST_BITS = 60.0
"""4^b levels² still fit into float32."""


class Course(NamedTuple):
    """From where to where one convergence goes and how fast: m0 [levels], uT, LT [levels²] and L0/LT, all of one shape."""

    distance: Float[Array, "..."]
    contraction: Float[Array, "..."]
    final_loss: Float[Array, "..."]
    loss_ratio: Float[Array, "..."]

    @staticmethod
    def of(bits: ArrayLike, loss_ratio: ArrayLike | None = None, contraction_factor: ArrayLike = 1.0) -> "Course":
        """The convergence of a weight of b bits, with the arguments and errors of `convergence_heat`."""
        (b,) = read(Argument(bits, "bits", "It is the precision of a weight, for example 8.", high=_MOST_BITS))
        if loss_ratio is None:
            log_ratio = 2 * LN2 * b
        else:
            (ratio,) = read(_arguments.loss_ratio(loss_ratio))
            log_ratio = jnp.log(ratio).astype(b.dtype)
        (factor,) = read(
            Argument(contraction_factor, "contraction_factor", "It is time over the cheapest, for example 1.")
        )
        contraction = factor.astype(b.dtype) * log_ratio
        # From the logarithms, so that the default ratio ends at exactly one level² for every b.
        final = jnp.exp(2 * LN2 * b - log_ratio)
        return Course(*jnp.broadcast_arrays(jnp.exp2(b), contraction, final, jnp.exp(log_ratio)))

    def heat(self, approach: approaches.AbstractApproach) -> Float[Array, "..."]:
        """Heat of an approach, as `approaches.heat` [kT]."""
        return approaches.heat(approach, self.distance, self.contraction, self.final_loss)

    def static_heat(self, barrier: ArrayLike, attempts: ArrayLike) -> Float[Array, "..."]:
        """Heat of a barrier that stands all along, as `approaches.static` [kT]; it ends where the hops of its requests leave it."""
        return approaches.static(self.distance, self.contraction, barrier, attempts).heat_kt

    def law_heat(self) -> Float[Array, "..."]:
        """Heat of the law, as `bounds.convergence` [kT]."""
        return bounds.convergence(self.loss_ratio, self.contraction)


class ConvergenceHeat(NamedTuple):
    """Heat of one convergence of one parameter, with its hop noise paid for, by approach [kT].

    Attributes:
        static: the barrier that keeps it afterwards.
        constant: the best constant barrier.
        rate_matched: exchange in proportion to the speed.
        loss_following: exchange in proportion to the measured loss.
        law: the same in closed form, for an open barrier.
    """

    static: Float[Array, "..."]
    constant: Float[Array, "..."]
    rate_matched: Float[Array, "..."]
    loss_following: Float[Array, "..."]
    law: Float[Array, "..."]


@finite
def convergence_heat(
    bits: ArrayLike,
    loss_ratio: ArrayLike | None = None,
    contraction_factor: ArrayLike = 1.0,
    *,
    retention_barrier: ArrayLike = 49.5,
    attempts: ArrayLike = 1e9 * DEFAULT_TIME_S,
) -> ConvergenceHeat:
    """Heat of one convergence from 2^b levels, in uT = factor × ln(L0/LT), by every approach.

    Args:
        bits: b [bits].
        loss_ratio: L0/LT; None takes 4^b, which ends at one level².
        contraction_factor: uT over its cheapest value [dimensionless], above one half.
        retention_barrier: height of the static barrier [kT].
        attempts: k0 T of the static barrier [dimensionless].

    Returns:
        Heat per parameter, one array each [kT]. The static barrier ends where the hops of its requests leave it.

    Raises:
        ValueError: if a known argument is out of its range or infeasible.

    Example:
        >>> heat = convergence_heat(8.0)
        >>> f"{heat.constant:.0f} {heat.rate_matched:.2f} {heat.loss_following:.2f} {heat.law:.2f}"
        '2408 22.44 22.45 22.18'
    """
    course = Course.of(bits, loss_ratio, contraction_factor)
    # The names of the approaches are the fields of the result.
    moving = {approach.name: course.heat(approach) for approach in approaches.APPROACHES}
    return ConvergenceHeat(static=course.static_heat(retention_barrier, attempts), **moving, law=course.law_heat())
