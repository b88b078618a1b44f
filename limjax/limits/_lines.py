"""The lines of the stack: each knows its energy, what that rests on, and where it comes from.

Lines of updates scale with what counts as one; lines of a convergence charge every weight once. A new line is one final class here and
its place in `lines_of`.
"""

import abc
import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from limjax.limits import bounds, neighbours
from limjax.limits._conditions import OPEN_BARRIER_KT, Conditions
from limjax.limits._convergences import Course
from limjax.limits._records import Record
from limjax.limits._workload import KT_PER_UPDATE, Workload
from limjax.limits.approaches import APPROACHES, AbstractApproach
from limjax.physics.units import LN2, thermal_energy_joules

RECONSTRUCTED_BITS = (4, 32)
"""Precisions over which the reconstruction of the headline ranges."""
HEADLINE_VERSION = "the abstract of arXiv:2402.14878 v1 (v2 repeats the energy, v3 and v4 do not)"
_PROJECT = "docs/limits.md"


@dataclass(frozen=True)
class Training:
    """What a line is about: a workload on cells of some conditions, beside an accelerator."""

    workload: Workload
    conditions: Conditions
    hardware: Record

    # `cached_property` writes to the instance dictionary, not by `__setattr__`, and so works in a frozen dataclass.
    @cached_property
    def kt(self) -> float:
        """Thermal energy [J]."""
        return thermal_energy_joules(self.conditions.temperature)

    @cached_property
    def course(self) -> Course:
        """One convergence of a weight."""
        return Course.of(float(self.workload.bits), self.conditions.loss_ratio, self.conditions.contraction_factor)

    @property
    def law_kt_per_parameter(self) -> float:
        """The law's heat of one convergence [kT]: in float64 on the host, as the rounding of 4^32 in float32 would show."""
        log_ratio = math.log(self.conditions.ratio(self.workload.bits))
        if self.conditions.contraction_factor == 1.0:
            return 2 * log_ratio
        theta = self.conditions.contraction(self.workload.bits)
        return theta * theta / (theta - 0.5 * log_ratio)

    @property
    def accelerator_joules(self) -> float:
        """FLOP × energy per FLOP at peak [J]."""
        return self.workload.total_flops * self.hardware.joules_per_flop

    @property
    def open_hops(self) -> float:
        """Hops over an open barrier in the whole training."""
        return self.conditions.attempt_rate * math.exp(-OPEN_BARRIER_KT) * self.workload.duration

    def erasure_joules(self, bits: int) -> float:
        """Updates × bits × kT ln 2 [J]."""
        return self.workload.update_count * bits * LN2 * self.kt


class Charge(NamedTuple):
    """What a line says about a training: its energy [kT], and in one line what that rests on."""

    kt: float
    assumptions: str


class AbstractLine(abc.ABC):
    """One line of the stack; its attributes are those of `limjax.limits.Entry`."""

    name: str
    approach: str
    source: str = _PROJECT
    per_update: bool = True
    reconstruction: bool = False

    @abc.abstractmethod
    def charge(self, training: Training) -> Charge:
        """What the line says about a training."""


class LawPerUpdate(AbstractLine):
    """2 kT for every effective update."""

    name, approach, source = "LIM law, per effective update", "lim-law", "docs/law.md"

    def charge(self, training: Training) -> Charge:
        text = f"2 kT per parameter and gradient averaged, {training.workload.counted} and every one has to be averaged"
        text += "; requests held during a step; memory alone, without control"
        return Charge(KT_PER_UPDATE * training.workload.update_count, text)


class TrainingSet(AbstractLine):
    """Tkachenko's 2 N D kT."""

    name, approach, source = "training-set energy", "bound", "Tkachenko 2025, arXiv:2503.09980 v3"

    def charge(self, training: Training) -> Charge:
        # `neighbours.training_set_energy` in Python's floats: a workload may be larger than float32 holds.
        energy = 2.0 * training.workload.parameters * training.workload.total_tokens
        text = "2 N D kT or more, quasi-static analog network, every token counted once whatever counts as an update here; "
        return Charge(energy, text + "formula as in the abstract, up to a factor of order one")


class ControllerInformation(AbstractLine):
    """What the controller learns about every request."""

    name, approach = "controller's information", "estimate"
    source = "after Sagawa & Ueda 2009, doi:10.1103/PhysRevLett.102.250602"

    def charge(self, training: Training) -> Charge:
        ratio = training.conditions.signal_to_noise
        text = f"½ ln(1+SNR) kT per update, a Gaussian reading of SNR {ratio:g} used once and forgotten, computing left out; "
        one = float(neighbours.controller_information(ratio))
        return Charge(training.workload.update_count * one, text + "an estimate, not a bound")


class Erasure(AbstractLine):
    """b ln 2 for every update."""

    name, approach, source = "Landauer erasure", "landauer", "Landauer 1961"

    def charge(self, training: Training) -> Charge:
        asked = training.workload
        text = f"b ln 2 per update, {asked.counted}; a yardstick, as no theorem says that an update erases its bits"
        return Charge(asked.update_count * asked.bits * LN2, text)


class DirectionError(AbstractLine):
    """One hop for every update, mostly the right way."""

    name, approach, source = "direction error", "cell", "local detailed balance"

    def charge(self, training: Training) -> Charge:
        error = training.conditions.error
        text = f"one hop per update, wrong with probability {error:g}; a cost of this cell"
        return Charge(training.workload.update_count * float(bounds.direction_error(error)), text)


class Precision(AbstractLine):
    """Every update as precise as asked for."""

    name, approach = "precision (TUR)", "bound"
    source = "Barato & Seifert 2015, doi:10.1103/PhysRevLett.114.158101"

    def charge(self, training: Training) -> Charge:
        error = training.conditions.relative_error
        text = f"2/δ² per update, relative error δ = {error:g}, steady drive or hops that do not depend on the level, "
        return Charge(training.workload.update_count * float(bounds.precision(error)), text + "without feedback")


class Readout(AbstractLine):
    """A weight read before every update."""

    name, approach, source = "readout", "bound", "Sagawa & Ueda 2009, doi:10.1103/PhysRevLett.102.250602"

    def charge(self, training: Training) -> Charge:
        bits = training.workload.update_count * training.workload.bits
        return Charge(bits * LN2, "b bits measured and forgotten once per update")


class StaticPerUpdate(AbstractLine):
    """One level for every update, over the barrier that keeps the weight."""

    name, approach = "static barrier, per update", "lim-static"

    def charge(self, training: Training) -> Charge:
        barrier, step_time = training.conditions.retention_barrier, training.workload.step_time
        # `bounds.drive` in Python's floats, as in `TrainingSet`: its logarithm stays far from their ends.
        one = 2 * math.asinh(math.exp(barrier - math.log(2 * training.conditions.attempt_rate * step_time)))
        text = f"one level per update over {barrier:.1f} kT (10-year retention by default, one way), "
        return Charge(training.workload.update_count * one, text + f"one hop per step of {step_time:.2g} s")


class Speed(AbstractLine):
    """The way of every weight in the time there is."""

    name, approach, source = "speed", "bound", "Dechant 2022, doi:10.1088/1751-8121/ac4ac0"
    per_update = False

    def charge(self, training: Training) -> Charge:
        levels = training.workload.levels
        # `bounds.jump_count` at the activity of a barrier that is open all the time, also where that is none.
        one = 2 * levels * math.asinh(levels / (2 * training.open_hops))
        text = f"{levels:g} levels net in hops of one level over a barrier of at least {OPEN_BARRIER_KT:g} kT, "
        return Charge(training.workload.parameters * one, text + f"{training.workload.duration_text}; nothing chased")


class Actuation(AbstractLine):
    """Every barrier raised once."""

    name, approach = "actuation", "bound"
    per_update = False

    def charge(self, training: Training) -> Charge:
        barrier = training.conditions.retention_barrier
        one = float(bounds.actuation(0.0, barrier))
        return Charge(training.workload.parameters * one, f"every barrier raised once to {barrier:.1f} kT")


class StaticConvergence(AbstractLine):
    """One convergence over the barrier that keeps the weight."""

    name, approach = "LIM, static barrier", "lim-static"
    per_update = False

    def charge(self, training: Training) -> Charge:
        asked, barrier = training.workload, training.conditions.retention_barrier
        one = float(training.course.static_heat(barrier, training.conditions.attempt_rate * asked.duration))
        text = f"{training.conditions.crossing_text(asked.bits)}; barrier {barrier:.1f} kT, {asked.duration_text}"
        return Charge(asked.parameters * one, text)


class MovingConvergence(AbstractLine):
    """One convergence with a barrier chosen for it: `way` is what its exchange follows."""

    per_update = False

    def __init__(self, way: AbstractApproach):
        self.way, self.name, self.approach = way, f"LIM, {way.title}", f"lim-{way.name.replace('_', '-')}"

    def charge(self, training: Training) -> Charge:
        cells, bits = training.conditions, training.workload.bits
        text = f"{cells.crossing_text(bits)}, {cells.ratio_text(bits)}; the requests chase the hop noise as well"
        # Known numbers, so that what cannot be reached is refused with the nearest feasible one.
        return Charge(training.workload.parameters * float(training.course.heat(self.way)), text)


class LawConvergence(AbstractLine):
    """One convergence by the law."""

    name, approach, source = "LIM law, one convergence", "lim-law", "docs/law.md"
    per_update = False

    def charge(self, training: Training) -> Charge:
        asked, cells = training.workload, training.conditions
        theta, log_ratio = cells.contraction(asked.bits), math.log(cells.ratio(asked.bits))
        # g0 = (γ/u) L0 per relaxation time over the open rate: the optimum needs that long for the first of them.
        first = (theta - 0.5 * log_ratio) * asked.levels**2
        factor = cells.contraction_factor
        form, at = ("2 ln(L0/LT)", "") if factor == 1 else ("(uT)²/(uT - ½ ln(L0/LT))", f"{factor:g} ")
        text = f"{form} at uT = {at}ln(L0/LT), {cells.ratio_text(asked.bits)}, full gradient, open barrier; the attempt rate "
        text += (
            f"allows it in {first * asked.duration / training.open_hops:.2g} s or more; memory alone, without control"
        )
        return Charge(asked.parameters * training.law_kt_per_parameter, text)


class BitsPerUpdate(AbstractLine):
    """So many bits × kT ln 2 for every update: with the paper's inputs, a reconstruction of its headline."""

    approach = "lim"

    def __init__(self, bits: int, reconstruction: bool):
        self.bits, self.name, self.reconstruction = bits, f"LIM, {bits} bits per update", reconstruction
        self.what = "the paper uses other inputs"
        if reconstruction:
            self.source = f"Chen et al. 2024, {HEADLINE_VERSION}"
            self.what = "our reconstruction, as the abstract does not say how its number comes about"

    def charge(self, training: Training) -> Charge:
        text = f"{self.bits} bits × kT ln 2 per update, {training.workload.counted}; {self.what}"
        # Charges are in kT; `build_stack` turns all of them into joules.
        return Charge(training.erasure_joules(self.bits) / training.kt, text)


class Accelerator(AbstractLine):
    """Today's arithmetic."""

    approach = "accelerator"

    def __init__(self, hardware: Record):
        self.name, self.source = f"accelerator, {hardware.name}", hardware.source

    def charge(self, training: Training) -> Charge:
        text = f"{training.hardware.joules_per_flop * 1e12:.3g} pJ/FLOP: peak and board power, a lower bound"
        return Charge(training.accelerator_joules / training.kt, text)


def lines_of(training: Training) -> tuple[AbstractLine, ...]:
    """The lines of the stack, in order: of updates, of one convergence, of the headline and of the accelerator."""
    asked = training.workload
    # Whatever departs from these inputs is the same arithmetic, but rebuilds no published number.
    is_law = asked.optimum is not None and asked.scaling == "kaplan"
    is_paper = is_law and asked.updates == "flop" and training.conditions.temperature == 300.0
    updates = (LawPerUpdate(), TrainingSet(), ControllerInformation(), Erasure(), DirectionError(), Precision())
    convergences = (StaticConvergence(), *(MovingConvergence(way) for way in APPROACHES), LawConvergence())
    headline = (BitsPerUpdate(bits, is_paper) for bits in RECONSTRUCTED_BITS)
    rest = (Readout(), StaticPerUpdate(), Speed(), Actuation())
    return (*updates, *rest, *convergences, *headline, Accelerator(training.hardware))
