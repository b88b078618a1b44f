"""The thermodynamic limits of learning, from one cell to brain scale, every number with its assumptions."""

from limjax.limits import approaches, bounds, direct, law, mean_path, neighbours
from limjax.limits._architectures import Walls, walls, walls_text
from limjax.limits._conditions import Conditions
from limjax.limits._consolidation import MeasuredConsolidation, read_consolidation
from limjax.limits._convergences import ConvergenceHeat, convergence_heat
from limjax.limits._growth import GrowthFit, LeaveLargestOut, MeasuredRun, fit_growth, leave_largest_out
from limjax.limits._measured import MeasuredLimit, measured_limit, read_measured
from limjax.limits._projection import PowerLawFit, Projection, fit_path, fit_power_law, path_per_step, project
from limjax.limits._records import Catalogue, Record, load_catalogue
from limjax.limits._scaling import LAWS, ComputeOptimal, ScalingLaw, compute_optimal
from limjax.limits._stack import Entry, Headline, LawEnergies, Limits, Stack, build_stack, energy_limits
from limjax.limits._workload import Workload, WorkloadEnergies, workload_energies

__all__ = [
    "LAWS",
    "Catalogue",
    "ComputeOptimal",
    "Conditions",
    "ConvergenceHeat",
    "Entry",
    "GrowthFit",
    "Headline",
    "LawEnergies",
    "LeaveLargestOut",
    "Limits",
    "MeasuredConsolidation",
    "MeasuredLimit",
    "MeasuredRun",
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
    "fit_growth",
    "fit_path",
    "fit_power_law",
    "law",
    "leave_largest_out",
    "load_catalogue",
    "mean_path",
    "measured_limit",
    "neighbours",
    "path_per_step",
    "project",
    "read_consolidation",
    "read_measured",
    "walls",
    "walls_text",
    "workload_energies",
]
