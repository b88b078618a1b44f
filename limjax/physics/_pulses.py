"""What a cell that is written by pulses is told, and what it answers (`AbstractCell.deliver`)."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int, UInt32


class Place(NamedTuple):
    """Which cells are written, and what decides their chance.

    Attributes:
        leaf: number of the array.
        step: number of the step.
        key: words from `limjax.numerics.counters.key_words`, or None for the mean.
        whole: whether what is drawn are whole pulses one after the other, or a normal displacement of their mean and variance.
    """

    leaf: int
    step: Int[Array, ""]
    key: UInt32[Array, "2"] | None
    whole: bool


class Delivery(NamedTuple):
    """What the pulses of one step did to an array of cells.

    Attributes:
        mean: mean displacement, given where the cells stand [levels].
        move: displacement that was drawn [levels], or None for the mean.
        held: where the driver could not give as many pulses as were asked for.
        ended: 1 where a cell was stopped at an end of its window, 0 elsewhere.
        relaxed: displacement that came about by itself during the step [levels], or None.
        charges: what the pulses took, by the names of the cell's `charges`.
    """

    mean: Float[Array, "..."]
    move: Float[Array, "..."] | None
    held: Bool[Array, "..."]
    ended: Float[Array, "..."]
    relaxed: Float[Array, "..."] | None
    charges: dict[str, Float[Array, "..."]]
