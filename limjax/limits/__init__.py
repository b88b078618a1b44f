"""The thermodynamic limits of learning, from one cell to brain scale, every number with its assumptions."""

from limjax.limits import approaches, bounds, direct, law, mean_path, neighbours
from limjax.limits.architectures import Walls, walls
from limjax.limits.conditions import Conditions
from limjax.limits.convergences import ConvergenceHeat, convergence_heat
from limjax.limits.projection import PowerLawFit, Projection, fit_path, fit_power_law, project
from limjax.limits.records import Catalogue, Record, load_catalogue
from limjax.limits.scaling import LAWS, ComputeOptimal, ScalingLaw, compute_optimal
from limjax.limits.stack import Entry, Headline, LawEnergies, Limits, Stack, build_stack, energy_limits
from limjax.limits.workload import Workload, WorkloadEnergies, workload_energies

__all__ = [
    "LAWS",
    "Catalogue",
    "ComputeOptimal",
    "Conditions",
    "ConvergenceHeat",
    "Entry",
    "Headline",
    "LawEnergies",
    "Limits",
    "PowerLawFit",
    "Projection",
    "Record",
    "ScalingLaw",
    "Stack",
    "Walls",
    "Workload",
    "WorkloadEnergies",
    "approaches",
    "bounds",
    "build_stack",
    "compute_optimal",
    "convergence_heat",
    "direct",
    "energy_limits",
    "fit_path",
    "fit_power_law",
    "law",
    "load_catalogue",
    "mean_path",
    "neighbours",
    "project",
    "walls",
    "workload_energies",
]
