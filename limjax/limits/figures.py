"""What the figures of the limits show: scans and walls for one training, by file name."""

from dataclasses import replace
from typing import NamedTuple

from limjax.limits._architectures import Walls, walls
from limjax.limits._consolidation import MeasuredConsolidation
from limjax.limits._records import Catalogue
from limjax.limits._stack import Limits
from limjax.limits._workload import Workload
from limjax.limits.scans import Scan, plain, scan_bits, scan_contraction, scan_parameters, scan_time

WRITTEN_CELL = "ReRAM"
"""Memory cell that holds the weights in the bars of the walls."""


class WallCase(NamedTuple):
    """One panel of the bars.

    Attributes:
        title: of the panel.
        walls: of the three architectures.
    """

    title: str
    walls: list[Walls]


class FigureData(NamedTuple):
    """Everything the figures draw.

    Attributes:
        parameters: energy against parameters.
        contraction: energy against training time in convergence times.
        time: energy against training time in seconds.
        bits: energy against bits.
        walls: bars for online learning and for large batches.
    """

    parameters: Scan
    contraction: Scan
    time: Scan
    bits: Scan
    walls: tuple[WallCase, ...]


def figure_data(
    limits: Limits, catalogue: Catalogue | None = None, consolidation: MeasuredConsolidation | None = None
) -> FigureData:
    """What to draw for a training.

    Args:
        limits: of `energy_limits`.
        catalogue: hardware, cells and runs; the package's if None.
        consolidation: what a run measured, for the walls.

    Returns:
        The data of the figures.

    Raises:
        ValueError: if a name is not in the catalogue.
    """
    stack = limits.stack
    asked, conditions, chip = stack.workload, stack.conditions, stack.hardware.name
    cases = []
    for said, batch in (("one token", 1.0), (f"{plain(asked.batch)} tokens", asked.batch)):
        if asked.optimum is not None:
            workload = replace(asked, batch=batch)
        else:
            # Steps that were given belong to one batch: the tokens stay, and steps follow from the new one.
            workload = Workload(asked.parameters, tokens=asked.total_tokens, batch=batch, bits=asked.bits)
        # Weights in a memory that keeps them, as compute-in-memory needs: writing it is the update wall.
        bars = walls(
            workload,
            hardware=chip,
            write=WRITTEN_CELL,
            lim_heat_kt=stack.law.kt_per_parameter,
            consolidation=consolidation,
            temperature=conditions.temperature,
            catalogue=catalogue,
        )
        cases.append(WallCase(f"{said} per update, weights in {WRITTEN_CELL}", bars))
    return FigureData(
        scan_parameters(bits=asked.bits, batch=asked.batch, conditions=conditions, catalogue=catalogue),
        scan_contraction(asked.parameters, bits=asked.bits, conditions=conditions),
        scan_time(asked.parameters, bits=asked.bits, conditions=conditions),
        scan_bits(asked.parameters, hardware=chip, conditions=conditions, catalogue=catalogue),
        tuple(cases),
    )
