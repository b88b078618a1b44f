"""How cells move in one step: as asked, or by hops that scatter. A new kind is one class with `draw`."""

import abc
from typing import Any, ClassVar, Literal

import equinox as eqx
from jaxtyping import Array, Float, Int, UInt32

from limjax.numerics.counters import step_words
from limjax.physics._abstract_cell import AbstractCell
from limjax.physics._hops import exact_step, gaussian_hops

HopsName = Literal["mean", "gaussian", "exact"]
"""Shorthand for the kinds of hops of this library."""


class AbstractHops(eqx.Module):
    """How the displacement of a step comes about. Without state: what is random comes from (key, leaf, step, element).

    `name` is how settings and JSON call it; `is_noisy` says whether it needs a key; `on_ladder` whether displacements are whole
    numbers of levels.
    """

    name: ClassVar[str]
    is_noisy: ClassVar[bool] = True
    on_ladder: ClassVar[bool] = False

    @abc.abstractmethod
    def draw(
        self,
        key: UInt32[Array, "2"],
        leaf: int,
        step: Int[Array, ""],
        cell: AbstractCell,
        drift: Float[Array, "..."],
        barrier: Float[Array, "..."],
        activity: Float[Array, "..."],
    ) -> Float[Array, "..."]:
        """Displacements of one array.

        Args:
            key: words from `limjax.numerics.counters.key_words`.
            leaf: number of the array.
            step: number of the step.
            cell: the memory cell.
            drift: d, the mean displacement [levels].
            barrier: B, broadcastable to `drift` [kT].
            activity: A, the variance of the displacement [levels²].

        Returns:
            Displacements [levels].
        """


class MeanHops(AbstractHops):
    """Every cell moves by its mean displacement: the optimizer's update is handed on unchanged.

    Example:
        >>> MeanHops().is_noisy
        False
    """

    name: ClassVar[str] = "mean"
    is_noisy: ClassVar[bool] = False

    def draw(
        self,
        key: UInt32[Array, "2"],
        leaf: int,
        step: Int[Array, ""],
        cell: AbstractCell,
        drift: Float[Array, "..."],
        barrier: Float[Array, "..."],
        activity: Float[Array, "..."],
    ) -> Float[Array, "..."]:
        return drift


class GaussianHops(AbstractHops):
    """Displacements are normal, with mean d and variance A: the limit of many hops.

    Example:
        >>> GaussianHops().on_ladder
        False
    """

    name: ClassVar[str] = "gaussian"

    def draw(
        self,
        key: UInt32[Array, "2"],
        leaf: int,
        step: Int[Array, ""],
        cell: AbstractCell,
        drift: Float[Array, "..."],
        barrier: Float[Array, "..."],
        activity: Float[Array, "..."],
    ) -> Float[Array, "..."]:
        return gaussian_hops(*step_words(key, leaf, step, drift.shape), drift, activity)


class ExactHops(AbstractHops):
    """Displacements are differences of two Poisson counts: whole levels, so that weights stay on the ladder.

    Example:
        >>> ExactHops().on_ladder
        True
    """

    name: ClassVar[str] = "exact"
    on_ladder: ClassVar[bool] = True

    def draw(
        self,
        key: UInt32[Array, "2"],
        leaf: int,
        step: Int[Array, ""],
        cell: AbstractCell,
        drift: Float[Array, "..."],
        barrier: Float[Array, "..."],
        activity: Float[Array, "..."],
    ) -> Float[Array, "..."]:
        return exact_step(leaf, key, step, cell, drift, barrier)


_KINDS = {kind.name: kind() for kind in (MeanHops, GaussianHops, ExactHops)}


def hops_of(hops: Any) -> AbstractHops:
    """The hops that a user means.

    Args:
        hops: their name, or they themselves.

    Returns:
        The hops.

    Raises:
        ValueError: for anything else.

    Example:
        >>> hops_of("exact").on_ladder
        True
    """
    if isinstance(hops, AbstractHops):
        return hops
    if not isinstance(hops, str) or hops not in _KINDS:
        raise ValueError(
            f'hops must be "mean", "gaussian" or "exact", or an object such as limjax.ExactHops(); got {hops!r}.'
        )
    return _KINDS[hops]
