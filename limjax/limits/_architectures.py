"""The three walls of training, and what is left of them for von Neumann, compute-in-memory and learning-in-memory.

Per workload of N parameters, C FLOP, S optimizer steps and b bits:

    compute        C × energy per FLOP
    memory         S × reads × N × b × energy per bit read       (moving weights to the arithmetic unit)
    update         S × N × b × energy per bit written            (writing them back at training precision)
    consolidation  transfers × N × b × energy per bit stored     (moving the result to long-term memory)

Von Neumann pays all four. Compute-in-memory has no memory wall. Learning-in-memory has neither memory nor update nor
consolidation wall in this sense: the heat of the barrier-limited updates and the work of raising the barriers,
from the law or from a measured ledger, stand in their place. What a training through a sequence of tasks took to consolidate
(`limjax continual`) may stand for the assumed transfers and for the assumed raise. The arithmetic is charged to all three alike.

Source: the walls are those of arXiv:2402.14878; the bookkeeping is this project's.
"""

import textwrap
from dataclasses import asdict, dataclass

from limjax.limits._consolidation import MeasuredConsolidation
from limjax.limits._records import Catalogue, load_catalogue
from limjax.limits._workload import Workload
from limjax.numerics.checks import positive_number
from limjax.physics.units import LN2, thermal_energy_joules

COMPONENTS = ("compute", "memory", "update", "consolidation")
"""The parts of a bar, in order."""


@dataclass(frozen=True)
class Walls:
    """Energy of one architecture for one workload.

    Attributes:
        architecture: von Neumann, compute-in-memory or learning-in-memory.
        compute: arithmetic [J].
        memory: reading the weights [J].
        update: writing the weights, or the heat of their updates [J].
        consolidation: copying the weights to long-term memory, or raising their barriers [J].
        assumptions: what the numbers rest on, in one line.
    """

    architecture: str
    compute: float
    memory: float
    update: float
    consolidation: float
    assumptions: str

    @property
    def total(self) -> float:
        """Sum of the four [J]."""
        return self.compute + self.memory + self.update + self.consolidation

    def as_dict(self) -> dict:
        """The fields and the total, ready for JSON."""
        return {**asdict(self), "total": self.total}


def walls_text(bars: list[Walls], width: int = 100) -> str:
    """Walls in words, one paragraph for each architecture.

    Args:
        bars: of `walls`.
        width: of a line, in characters.

    Returns:
        The text.
    """
    lines = ["The walls, per part [J]:"]
    for bar in bars:
        parts = ", ".join(f"{name} {getattr(bar, name):.3g}" for name in COMPONENTS)
        lines += textwrap.wrap(f"{bar.architecture}: {parts}; total {bar.total:.3g}. {bar.assumptions}.", width)
    return "\n".join(lines)


def walls(
    workload: Workload,
    *,
    hardware: str = "H100 SXM bf16",
    access: str = "HBM2",
    write: str = "DRAM",
    storage: str = "NOR flash",
    reads: float = 2.0,
    transfers: float = 1.0,
    lim_heat_kt: float | None = None,
    lim_actuation_kt: float = 2.41,
    consolidation: MeasuredConsolidation | None = None,
    temperature: float = 300.0,
    catalogue: Catalogue | None = None,
) -> list[Walls]:
    """The walls of one workload in three architectures.

    Args:
        workload: what is trained.
        hardware: accelerator that does the arithmetic.
        access: how weights reach it.
        write: cell that holds them while training.
        storage: cell that holds them afterwards.
        reads: times each weight is read per step (forward and backward).
        transfers: times the whole model is copied to long-term memory.
        lim_heat_kt: heat of learning-in-memory per parameter for the whole training [kT]; None takes the law for one
            convergence of the workload's bits, 4 b ln 2. A run of `limjax train` measures what its network needs.
        lim_actuation_kt: work of raising one barrier to 40 kT [kT].
        consolidation: what a run measured (`read_consolidation`): its copies in place of `transfers`, its barrier work and the heat that
            raised barriers cost later in place of `lim_actuation_kt`. What it did not measure stays as assumed.
        temperature: of the learning-in-memory cells [K].
        catalogue: where hardware is looked up; the package's if None.

    Returns:
        Von Neumann, compute-in-memory, learning-in-memory.

    Raises:
        ValueError: if a name is not in the catalogue, with near names, or a number is not positive.

    Example:
        >>> online = walls(Workload(1e9, tokens=2e10, batch=1.0, bits=16))
        >>> [f"{bar.architecture} {bar.total:.1e} J" for bar in online]
        ['von Neumann 2.6e+09 J', 'compute-in-memory 8.7e+07 J', 'learning-in-memory 8.5e+07 J']
    """
    records = load_catalogue() if catalogue is None else catalogue
    chip = records.get("accelerator", hardware)
    link = records.get("access", access)
    cell, store = (records.get("memory_cell", name) for name in (write, storage))
    reads = positive_number(reads, "reads", "It is how often a weight is read per step, for example 2.")
    transfers = positive_number(transfers, "transfers", "It is how often the model is stored, for example 1.")
    # 2 ln(L0/LT) with L0/LT = 4^b: from the whole range of a weight to one level at the cheapest time.
    heat = 4 * workload.bits * LN2
    if lim_heat_kt is not None:
        heat = positive_number(lim_heat_kt, "lim_heat_kt", "It is heat per parameter in kT.")
    raising = positive_number(lim_actuation_kt, "lim_actuation_kt", "It is work per parameter in kT.")
    stored_bits = workload.parameters * workload.bits
    compute = workload.total_flops * chip.joules_per_flop
    memory = workload.total_steps * reads * stored_bits * link.si
    update = workload.total_steps * stored_bits * cell.si
    copied, copy_words = transfers * stored_bits, ""
    if consolidation is not None and consolidation.copied_bits is not None:
        # Bits per weight over the whole measured sequence: `transfers` and the bits of the workload have no say in it.
        copied = workload.parameters * consolidation.copied_bits
        copy_words = f"; {consolidation.assumptions}: {consolidation.copy_method}, {consolidation.copied_bits:.4g} bits copied per weight"
    raised_words = f"{raising:g} kT of barrier per parameter"
    if consolidation is not None and consolidation.barrier_kt_per_parameter is not None:
        raising = consolidation.barrier_kt_per_parameter
        raised_words = f"{consolidation.assumptions}: {consolidation.barrier_words}"
    stored = copied * store.si
    # The temperature reaches learning-in-memory alone: energies of the catalogue are joules as published.
    ledger_joules = workload.parameters * thermal_energy_joules(temperature)
    arithmetic = f"arithmetic at the peak of {chip.name}"
    kept = f"writes to {cell.name}, kept in {store.name}{copy_words}"
    read = f"{arithmetic}; {reads:g} reads per step over {link.name}, {kept}"
    spent = f"{arithmetic}; no reads; {heat:.4g} kT of updates and {raised_words}"
    return [
        Walls("von Neumann", compute, memory, update, stored, read),
        Walls("compute-in-memory", compute, 0.0, update, stored, f"{arithmetic}; no reads; {kept}"),
        Walls("learning-in-memory", compute, 0.0, ledger_joules * heat, ledger_joules * raising, spent),
    ]
