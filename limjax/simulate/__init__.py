"""Trajectories with work and heat, the master and Fokker-Planck equations: the ground truth under the ledger."""

from limjax.simulate.langevin import (
    Snapshot,
    Trajectories,
    equilibrium,
    moments,
    overdamped,
    positions,
    underdamped,
)
from limjax.simulate.potentials import (
    CosineWashboard,
    MovingTrap,
    QuarticDoubleWell,
    StiffnessTrap,
    SwitchedDoubleWell,
    TrappedDoubleWell,
)
from limjax.simulate.protocols import LinearProtocol, SplineProtocol, constant_protocol, reversed_protocol

__all__ = [
    "CosineWashboard", "LinearProtocol", "MovingTrap", "QuarticDoubleWell", "Snapshot", "SplineProtocol", "StiffnessTrap",
    "SwitchedDoubleWell", "Trajectories", "TrappedDoubleWell", "constant_protocol", "equilibrium", "moments", "overdamped",
    "positions", "reversed_protocol", "underdamped",
]  # fmt: skip
