"""Trajectories with work and heat, the master and Fokker-Planck equations: the ground truth under the ledger."""

from limjax.simulate._checks import Check, CrooksCheck, crooks, detailed_balance, jarzynski, mean_with_error, tur
from limjax.simulate._closed_forms import (
    full_control_erasure,
    moving_trap_linear_work,
    moving_trap_optimum,
    stiffness_optimum,
)
from limjax.simulate._comparison import CellComparison, compare_cell
from limjax.simulate._density import (
    FokkerPlanckResult,
    Grid,
    boltzmann,
    fokker_planck,
    generator,
    relaxation_rates,
    transport,
)
from limjax.simulate._jump_moments import JumpMoments, master_equation
from limjax.simulate._jump_networks import JumpNetwork, ladder, two_level
from limjax.simulate._jump_trajectories import JumpTrajectories, gillespie, tau_leaping
from limjax.simulate._langevin import (
    Snapshot,
    Trajectories,
    equilibrium,
    moments,
    overdamped,
    positions,
    underdamped,
)
from limjax.simulate._optimise import OptimiseCode, OptimisedProtocol, OptimiseRow, optimise_protocol
from limjax.simulate._potentials import (
    CosineWashboard,
    MovingTrap,
    QuarticDoubleWell,
    StiffnessTrap,
    SwitchedDoubleWell,
    TrappedDoubleWell,
)
from limjax.simulate._protocols import LinearProtocol, SplineProtocol, constant_protocol, reversed_protocol
from limjax.simulate._slow_driving import friction, near_equilibrium_protocol
from limjax.simulate._systems import SYSTEMS, SystemRun, crossing_work, simulate_system

__all__ = [
    "SYSTEMS",
    "CellComparison",
    "Check",
    "CosineWashboard",
    "CrooksCheck",
    "FokkerPlanckResult",
    "Grid",
    "JumpMoments",
    "JumpNetwork",
    "JumpTrajectories",
    "LinearProtocol",
    "MovingTrap",
    "OptimiseCode",
    "OptimiseRow",
    "OptimisedProtocol",
    "QuarticDoubleWell",
    "Snapshot",
    "SplineProtocol",
    "StiffnessTrap",
    "SwitchedDoubleWell",
    "SystemRun",
    "Trajectories",
    "TrappedDoubleWell",
    "boltzmann",
    "compare_cell",
    "constant_protocol",
    "crooks",
    "crossing_work",
    "detailed_balance",
    "equilibrium",
    "fokker_planck",
    "friction",
    "full_control_erasure",
    "generator",
    "gillespie",
    "jarzynski",
    "ladder",
    "master_equation",
    "mean_with_error",
    "moments",
    "moving_trap_linear_work",
    "moving_trap_optimum",
    "near_equilibrium_protocol",
    "optimise_protocol",
    "overdamped",
    "positions",
    "relaxation_rates",
    "reversed_protocol",
    "simulate_system",
    "stiffness_optimum",
    "tau_leaping",
    "transport",
    "tur",
    "two_level",
    "underdamped",
]  # fmt: skip
