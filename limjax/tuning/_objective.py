"""What is to be made small: loss against energy against time, or one of them under a limit on another."""

import math
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from limjax.numerics.checks import as_leaf, positive_number
from limjax.tuning._abstract_problem import Outcome


class Weights(NamedTuple):
    """Prices of a weighted sum: loss + energy · (kT per parameter) + time · (seconds).

    Attributes:
        energy: loss units per kT of heat and barrier work per parameter.
        time: loss units per second of physical time.
    """

    energy: float = 3e-3
    time: float = 0.0


class Objective(eqx.Module):
    """A weighted sum, or an augmented Lagrangian of a limit. Its numbers are leaves: changing them compiles nothing.

    For a goal f under the limit c <= 0 it is f + (ρ/2)(max(0, c + μ/ρ)² - (μ/ρ)²), with the multiplier μ raised by ρc
    (Hestenes and Powell, 1969; Nocedal & Wright, Numerical Optimization, section 17.3). Goal and limit are logarithms,
    so that neither units nor sizes matter.

    Args:
        weights: prices in loss units, the time's also under a limit; None takes 3e-3 per kT and nothing per second.
        max_loss: reach this validation loss with the least energy; "plain" is `plain_validation_loss`, of a sequence of tasks that of fine-tuning.
        max_energy_kt: reach the least validation loss within this energy per parameter [kT].

    Raises:
        ValueError: for a number that is not finite or not positive, or two limits at once.

    Example:
        >>> Objective(max_energy_kt=2.0).limited, Objective(Weights(energy=0.01)).limited
        ('energy', 'nothing')
    """

    penalty: ClassVar[float] = 30.0
    energy: Float[Array, ""]
    time: Float[Array, ""]
    limit: Float[Array, ""]
    limited: Literal["nothing", "loss", "energy"] = eqx.field(static=True)
    is_plain: bool = eqx.field(static=True)

    def __init__(
        self,
        weights: Weights | None = None,
        max_loss: float | Literal["plain"] | None = None,
        max_energy_kt: float | None = None,
    ):
        weights = Weights() if weights is None else weights
        for name, value in weights._asdict().items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"The {name} weight must be a finite number of at least 0, got {value!r}.")
        if max_loss is not None and max_energy_kt is not None:
            raise ValueError(
                "Give max_loss (least energy at that loss) or max_energy_kt (least loss within that energy), not both."
            )
        self.energy, self.time = as_leaf(weights.energy), as_leaf(weights.time)
        self.limited = "loss" if max_loss is not None else "energy" if max_energy_kt is not None else "nothing"
        self.is_plain = max_loss == "plain"
        limit = {"loss": max_loss, "energy": max_energy_kt, "nothing": 1.0}[self.limited]
        name = "max_energy_kt" if self.limited == "energy" else "max_loss"
        # NaN until `settled`: whoever forgets that gets NaN, and not the results of a wrong limit.
        self.limit = as_leaf(math.nan if self.is_plain else positive_number(limit, name))

    def settled(self, plain_loss: Callable[[], float]) -> "Objective":
        """With the number for the word "plain", where that is the limit."""
        # A leaf like any number: the programs that have it as an argument stay as they are.
        return eqx.tree_at(lambda o: o.limit, self, as_leaf(plain_loss())) if self.is_plain else self

    def value(self, outcome: Outcome, multiplier: Float[Array, ""]) -> Float[Array, ""]:
        """The number to make small, for an outcome averaged over seeds."""
        goal = self.goal(outcome)
        if self.limited == "nothing":
            return goal
        # At 0 the limit is kept with room to spare: it costs a constant and pulls no more.
        shifted = jnp.maximum(self.violation(outcome) + multiplier / self.penalty, 0.0)
        return goal + 0.5 * self.penalty * (shifted**2 - (multiplier / self.penalty) ** 2)

    def goal(self, outcome: Outcome) -> Float[Array, ""]:
        """The weighted sum, or the logarithm of what a limit leaves free."""
        time = self.time * outcome.seconds
        if self.limited == "loss":
            return _log(outcome.energy_kt_per_parameter) + time
        if self.limited == "energy":
            return _log(outcome.loss) + time
        return outcome.loss + self.energy * outcome.energy_kt_per_parameter + time

    def violation(self, outcome: Outcome) -> Float[Array, ""]:
        """Logarithm of the limited quantity over its limit; zero without a limit."""
        if self.limited == "nothing":
            return jnp.zeros_like(outcome.loss)
        return _log(outcome.loss if self.limited == "loss" else outcome.energy_kt_per_parameter) - jnp.log(self.limit)

    def next_multiplier(self, multiplier: float, outcome: Outcome) -> float:
        """The multiplier after a step that gave this outcome."""
        # A tenth of the textbook update, because it is made at every step and not at a minimum.
        return max(0.0, multiplier + 0.1 * self.penalty * float(self.violation(outcome)))


def _log(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    # A loss or a heat of zero is no reason for an infinite slope.
    return jnp.log(jnp.maximum(x, 1e-12))
