"""Time-dependent controls: knots between two fixed end values, with free jumps at both ends."""

import abc
from typing import Any, ClassVar, runtime_checkable
from typing import Protocol as TypingProtocol

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from limjax.numerics._curves import hermite_curve
from limjax.numerics.checks import checked_leaf, is_whole


@runtime_checkable
class ControlProtocol(TypingProtocol):
    """What the simulations need of a protocol.

    Attributes:
        initial: control before the start, where the system is prepared.
        final: control after the end, where the energy is read.
        duration: time from the start to the end.
    """

    @property
    def initial(self) -> Float[Array, "..."]: ...
    @property
    def final(self) -> Float[Array, "..."]: ...
    @property
    def duration(self) -> Float[Array, ""]: ...
    def __call__(self, share: Float[Array, ""]) -> Float[Array, "..."]:
        """The control at a share of the duration, 0 to 1, without the jumps."""
        ...


class AbstractKnotProtocol(eqx.Module):
    """Knots at equal distances between two fixed end values; the control jumps from `initial` to the first and from the last to `final`.

    Args:
        initial: control before the start, shape () or (m,).
        final: control after the end.
        duration: time it takes.
        knots: values, shape (knots, *control), or their number for a straight line without jumps; None takes the class's.

    Raises:
        ValueError: if a number is not finite, the duration is not positive or shapes do not fit.
    """

    usual_knots: ClassVar[int]
    initial: Float[Array, "*m"]
    final: Float[Array, "*m"]
    knots: Float[Array, "knots *m"]
    duration: Float[Array, ""]

    def __init__(
        self,
        initial: ArrayLike | list,
        final: ArrayLike | list,
        duration: ArrayLike,
        knots: int | ArrayLike | list | None = None,
    ):
        remedy = "Controls are finite numbers."
        initial = checked_leaf(initial, "the initial control", remedy=remedy)
        final = checked_leaf(final, "the final control", remedy=remedy)
        if initial.shape != final.shape or initial.ndim > 1:
            raise ValueError(
                f"The initial and the final control must have one shape, () or (m,); got {initial.shape} and {final.shape}."
            )
        self.initial, self.final = initial, final
        self.knots = self._values(self.usual_knots if knots is None else knots)
        remedy = "It is the time the protocol takes."
        self.duration = checked_leaf(duration, "duration", low=0.0, open_low=True, remedy=remedy)

    def _values(self, knots: Any) -> Float[Array, "knots *m"]:
        initial, final = self.initial, self.final
        if is_whole(knots):
            if knots < 2:
                raise ValueError(f"A protocol needs at least 2 knots, got {knots}.")
            share = jnp.linspace(0.0, 1.0, knots, dtype=initial.dtype).reshape((knots,) + (1,) * initial.ndim)
            start = initial if initial.ndim == 0 else initial[None]
            return start + share * (final - initial if initial.ndim == 0 else (final - initial)[None])
        values = checked_leaf(knots, "every knot of a protocol", remedy="Controls are finite numbers.")
        if values.ndim != initial.ndim + 1 or values.shape[1:] != initial.shape or values.shape[0] < 2:
            raise ValueError(
                f"knots must be a number of knots or values of shape (knots, *control), at least 2 of them; got shape "
                f"{values.shape} for controls of shape {initial.shape}."
            )
        return values

    @abc.abstractmethod
    def __call__(self, share: Float[Array, ""]) -> Float[Array, "*m"]:
        """The control at a share of the duration, 0 to 1, without the jumps."""


class LinearProtocol(AbstractKnotProtocol):
    """Straight lines between the knots, 2 unless it is said.

    Example:
        >>> import jax.numpy as jnp
        >>> protocol = LinearProtocol(0.0, 5.0, duration=1.0, knots=[5 / 3, 10 / 3])
        >>> float(protocol(jnp.array(0.5)))
        2.5
    """

    usual_knots: ClassVar[int] = 2
    # Inherited anyway; type checkers would take the fields for its arguments.
    __init__ = AbstractKnotProtocol.__init__

    def __call__(self, share: Float[Array, ""]) -> Float[Array, "*m"]:
        count = self.knots.shape[0]
        position = jnp.clip(share.astype(self.knots.dtype), 0, 1) * (count - 1)
        # A share of 1 is the end of the last piece, not the start of one beyond.
        index = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, count - 2)
        inside = position - index.astype(position.dtype)
        low, high = jnp.take(self.knots, index, axis=0), jnp.take(self.knots, index + 1, axis=0)
        return low + inside * (high - low)


class SplineProtocol(AbstractKnotProtocol):
    """A smooth cubic (Catmull-Rom) curve through the knots, 8 unless it is said."""

    usual_knots: ClassVar[int] = 8
    __init__ = AbstractKnotProtocol.__init__

    def __call__(self, share: Float[Array, ""]) -> Float[Array, "*m"]:
        return hermite_curve(jnp.moveaxis(self.knots, 0, -1), share.astype(self.knots.dtype))


def constant_protocol(control: ArrayLike | list, duration: ArrayLike) -> LinearProtocol:
    """A control that stays where it is.

    Args:
        control: its value, shape () or (m,).
        duration: how long.

    Returns:
        The protocol.

    Raises:
        ValueError: if a number is not finite or the duration is not positive.
    """
    return LinearProtocol(control, control, duration)


def reversed_protocol(protocol: AbstractKnotProtocol) -> AbstractKnotProtocol:
    """The protocol run backwards, for Crooks' relation.

    Args:
        protocol: the forward one.

    Returns:
        A protocol of the same kind with ends and knots exchanged.
    """
    return eqx.tree_at(
        lambda p: (p.initial, p.final, p.knots), protocol, (protocol.final, protocol.initial, protocol.knots[::-1])
    )
