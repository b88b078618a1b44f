"""The thermodynamic limits of learning, from one cell to brain scale, every number with its assumptions."""

from limjax.limits import bounds
from limjax.limits.projection import PowerLawFit, Projection, fit_path, fit_power_law, project
from limjax.limits.records import Catalogue, Record, load_catalogue
from limjax.limits.scaling import LAWS, ComputeOptimal, ScalingLaw, compute_optimal
from limjax.limits.stack import (
    Conditions,
    ConvergenceHeat,
    Entry,
    Headline,
    Limits,
    Stack,
    WorkloadEnergies,
    build_stack,
    convergence_heat,
    energy_limits,
    workload_energies,
)
from limjax.limits.walls import Walls, walls
from limjax.limits.workload import Workload

__all__ = [
    "LAWS",
    "Catalogue",
    "ComputeOptimal",
    "Conditions",
    "ConvergenceHeat",
    "Entry",
    "Headline",
    "Limits",
    "PowerLawFit",
    "Projection",
    "Record",
    "ScalingLaw",
    "Stack",
    "Walls",
    "Workload",
    "WorkloadEnergies",
    "bounds",
    "build_stack",
    "compute_optimal",
    "convergence_heat",
    "energy_limits",
    "fit_path",
    "fit_power_law",
    "load_catalogue",
    "project",
    "walls",
    "workload_energies",
]
