"""One line of a report, and how its numbers are written."""

import dataclasses
from typing import Any

import numpy as np

from limjax.physics.units import BOLTZMANN_J_PER_K


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """One layer's sums.

    Attributes:
        name: path of the layer in the parameters.
        parameters: number of parameters.
        path_levels: requested path Σ|d| [levels], summed over the parameters.
        net_levels: displacement |end - start| [levels], summed over the parameters; None if the start is not kept.
        hops: mean number of hops ΣA.
        heat_kt: update heat [kT].
        actuation_kt: barrier work [kT].
        static_kt: heat and barrier work under a static barrier at ten years' retention [kT], or None if not compared.
        compared_kt: heat and barrier work of the cheapest comparison of the whole run [kT], or None without one.
        saturated_fraction: share of parameter-steps whose tilt exceeded the barrier.
        range_fraction: share of parameter-steps stopped at the end of the cell's range.
        temperature: mean temperature at which the heat went, weighted with it [K].
    """

    name: str
    parameters: int
    path_levels: float
    net_levels: float | None
    hops: float
    heat_kt: float
    actuation_kt: float
    static_kt: float | None
    compared_kt: float | None
    saturated_fraction: float
    range_fraction: float
    temperature: float

    @property
    def heat_joules(self) -> float:
        """Update heat [J]."""
        return self.heat_kt * BOLTZMANN_J_PER_K * self.temperature

    @property
    def useful_fraction(self) -> float | None:
        """Net displacement over the mean number of hops: the share of the hops that training kept, 1 where few that were drawn went further."""
        return None if self.net_levels is None else min(self.net_levels / max(self.hops, 1e-300), 1.0)

    @property
    def ratio(self) -> float | None:
        """Cost of the cheapest comparison over the cost of this run; None where it was charged nothing, as no level came due."""
        # A run that dissipated nothing gets a huge ratio and no error.
        return self.compared_kt / max(self.energy_kt, 1e-300) if self.compared_kt else None

    @property
    def energy_kt(self) -> float:
        """Heat and barrier work of this run [kT]."""
        return self.heat_kt + self.actuation_kt


def short(x: float) -> str:
    """A number in three digits or thousands."""
    if x == 0 or not np.isfinite(x):
        return f"{x:g}"
    return f"{x:,.0f}" if 1e3 <= abs(x) < 1e7 else f"{x:.3g}"


def short_work(x: float) -> str:
    """Work of the barrier per parameter [kT]: that of one that stands still is what rounding leaves of it, and is nothing."""
    return short(x if abs(x) > 1e-9 else 0.0)


def span(values: Any, form: str) -> str:
    """One number, or the least and the greatest of several."""
    least, greatest = float(np.min(values)), float(np.max(values))
    return f"{least:{form}}" if least == greatest else f"{least:{form}} to {greatest:{form}}"
