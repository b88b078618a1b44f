"""What a measurement of growth is: sizes, seeds and how each is trained."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from limjax.numerics.checks import positive_number, whole_number
from limjax.tasks import Task, language
from limjax.tasks._language import TOKENS_PER_PARAMETER, Shape, steps_for
from limjax.training import RunSettings


@dataclasses.dataclass(frozen=True)
class ScaleSettings:
    """Language models of several sizes, each trained with several seeds, with a memory and without one.

    Attributes:
        sizes: numbers of parameters asked for; each gives the nearest shape.
        seeds: how many seeds, from 0.
        tokens_per_parameter: bytes seen for each parameter.
        barrier: the barrier, perhaps with arguments; None takes the task's.
        hops: how cells move.
        lsb: one level [weight/level]; None takes the task's, coarser with few `bits`.
        bits: bits of a cell, or None for no end.
        batch_size: windows per step; None takes the task's.
        learning_rate: peak learning rate, the same for all sizes; None takes the task's.

    Raises:
        ValueError: for a wrong number, or two sizes of one shape; the message names it.

    Example:
        >>> ScaleSettings(sizes=(1e4, 3e4), seeds=2).runs
        8
    """

    sizes: tuple[float, ...] = (1e4, 3e4, 1e5)
    seeds: int = 3
    tokens_per_parameter: float = TOKENS_PER_PARAMETER
    barrier: str | None = None
    hops: str = "exact"
    lsb: float | None = None
    bits: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None

    def __post_init__(self):
        if not self.sizes:
            raise ValueError("sizes must name at least one number of parameters, for example 1e4,3e4,1e5.")
        shapes = [Shape.of(size) for size in self.sizes]
        if len(set(shapes)) < len(shapes):
            found = ", ".join(f"{size:g} is {shape.parameters:,}" for size, shape in zip(self.sizes, shapes))
            raise ValueError(f"sizes must be of different networks, but {found}: leave one of the equal ones out.")
        # Sorted and of one type: the order in which sizes were given makes no other measurement.
        object.__setattr__(self, "sizes", tuple(sorted(float(size) for size in self.sizes)))
        object.__setattr__(self, "seeds", whole_number(self.seeds, "seeds"))
        if self.bits is not None:
            object.__setattr__(self, "bits", whole_number(self.bits, "bits"))
        for name in ("tokens_per_parameter", "lsb", "learning_rate"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, positive_number(getattr(self, name), name))

    @property
    def runs(self) -> int:
        """How many trainings: each seed of each size, with and without a memory."""
        return 2 * self.seeds * len(self.sizes)

    def task(self, size: float) -> Task:
        """The task of a size."""
        return language(size)

    def run_settings(self, task: Task, size: float, seed: int, plain: bool = False) -> RunSettings:
        """The settings of one training.

        Args:
            task: of this size.
            size: number of parameters asked for.
            seed: of the run.
            plain: without a memory: requests are met exactly, whatever the barrier.

        Returns:
            The settings.

        Raises:
            ValueError: for a wrong one, or a training shorter than two steps.
        """
        batch_size = whole_number(
            task.defaults.batch_size if self.batch_size is None else self.batch_size, "batch_size"
        )
        if batch_size % 2:
            raise ValueError(
                f"batch_size must be even, as signal is told from noise by two halves of a batch, got {batch_size}."
            )
        steps = steps_for(Shape.of(size), self.tokens_per_parameter, batch_size)
        if steps < 2:
            raise ValueError(
                f"tokens_per_parameter={self.tokens_per_parameter:g} is one step at {size:g} parameters with {batch_size} windows a "
                "step: take more tokens or a smaller batch."
            )
        return RunSettings.of(
            task,
            steps=steps,
            batch_size=batch_size,
            learning_rate=self.learning_rate,
            lsb=self.lsb,
            # The twin is the optimizer alone: a cell of few bits would stop its weights at the end of a range.
            bits=None if plain else self.bits,
            barrier="static" if plain else self.barrier,
            hops="mean" if plain else self.hops,
            seed=seed,
        )

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON can hold them."""
        # The last says how effective updates were counted, so that no folder mixes two ways.
        return dataclasses.asdict(self) | {"sizes": list(self.sizes), "signal": "halves of a batch"}

    def joined(self, before: Mapping[str, Any], where: str) -> "ScaleSettings":
        """These settings with the sizes and seeds that were asked for before.

        Args:
            before: the settings of what was measured already, of `to_json`.
            where: what holds it, for messages.

        Returns:
            The settings of both.

        Raises:
            ValueError: if another setting differs, or what is there is damaged.
        """
        for name, value in self.to_json().items():
            # A setting that an earlier version did not have is None there, as one that is not given is now.
            if name not in ("sizes", "seeds") and before.get(name) != value:
                raise ValueError(
                    f"{where} was measured with {name} = {before.get(name)!r}, but {value!r} was given. Sizes and seeds can be added to it; "
                    "for other settings choose another --out. Nothing was changed."
                )
        try:
            sizes = tuple({*self.sizes, *map(float, before["sizes"])})
            return dataclasses.replace(self, sizes=sizes, seeds=max(self.seeds, before["seeds"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"The settings in {where} are damaged ({error}): choose another --out.") from None
