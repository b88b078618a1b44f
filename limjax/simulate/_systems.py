"""Four ready-made problems: dragging a trap, crossing a barrier, erasing a bit, moving along the memory cell's ladder."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import i0e, log_ndtr

from limjax.numerics.checks import whole_number
from limjax.simulate._checks import Check, jarzynski, mean_with_error
from limjax.simulate._density import FokkerPlanckResult, Grid, boltzmann, fokker_planck
from limjax.simulate._langevin import Potential, Snapshot, Trajectories, equilibrium, overdamped, underdamped
from limjax.simulate._optimise import OptimiseCode, OptimisedProtocol, OptimiseRow, Protocol, optimise_protocol
from limjax.simulate._potentials import CosineWashboard, MovingTrap, SwitchedDoubleWell, TrappedDoubleWell
from limjax.simulate._protocols import LinearProtocol, constant_protocol

OnProgress = Callable[[OptimiseRow, float], None]
# A few trajectories are kept for figures.
_SHOWN, _FRAMES = 24, 100
# The cantilever's quality factor; a period is 2π and half the distance of the wells 5 thermal lengths.
_QUALITY, _WELL = 7.0, 5.0


class SystemRun(NamedTuple):
    """A simulated system.

    Attributes:
        system: its name.
        protocol: what was run.
        protocol_name: where it comes from.
        trajectories: ends, work and heat; `frames` are positions of the first few.
        error_rate: share of trajectories that did not end where they should; None if there is no such place.
        fokker_planck_work_kt: mean work from the density [kT]; None for underdamped systems.
        jarzynski: free energy from the work against its exact change; `expected` is NaN where a given protocol leaves none: with
            a tilt at an end of the cell's, or with a start of the erasure's at which its two wells are not in equilibrium.
        steps: time steps of each trajectory.
        seconds: wall time of the trajectories, with compilation.
        optimised: the descent, if there was one.
    """

    system: str
    protocol: Protocol
    protocol_name: str
    trajectories: Trajectories
    error_rate: float | None
    fokker_planck_work_kt: float | None
    jarzynski: Check
    steps: int
    seconds: float
    optimised: OptimisedProtocol | None

    def to_dict(self) -> dict[str, Any]:
        """What the JSON file holds; energies in kT per trajectory."""
        work, work_error = mean_with_error(self.trajectories.work)
        heat, heat_error = mean_with_error(self.trajectories.heat)
        check = self.jarzynski
        return {
            "system": self.system,
            "protocol": {
                "name": self.protocol_name,
                "duration": float(self.protocol.duration),
                "initial": np.asarray(self.protocol.initial, np.float64).tolist(),
                "final": np.asarray(self.protocol.final, np.float64).tolist(),
                "knots": np.asarray(self.protocol.knots, np.float64).tolist(),
            },
            "work_kt": work,
            "work_stderr_kt": work_error,
            "heat_kt": heat,
            "heat_stderr_kt": heat_error,
            "error_rate": self.error_rate,
            "fokker_planck_work_kt": self.fokker_planck_work_kt,
            "jarzynski": {
                "free_energy_kt": check.value,
                "expected_kt": None if math.isnan(check.expected) else check.expected,
                "stderr_kt": check.standard_error,
                "effective_trajectories": check.effective,
            },
            "trajectories": int(self.trajectories.work.size),
            "steps": self.steps,
            "seconds": self.seconds,
            "result": None if self.optimised is None else str(self.optimised.result),
        }


class System(NamedTuple):
    """What `simulate_system` needs to know.

    Attributes:
        help: one line.
        reference: protocol to compare with, and its name.
        steps: time steps of a trajectory.
        run: trajectories of a protocol, and the share that failed.
        free_energy: its change from the first to the last landscape of a protocol [kT]; NaN if there is none.
        density: mean work from the density; None if there is none.
        optimise: finds a better protocol; None if there is nothing to optimise.
    """

    help: str
    reference: Callable[[], tuple[Protocol, str]]
    steps: int
    run: Callable[[Protocol, Array, int, int], tuple[Trajectories, float | None]]
    free_energy: Callable[[Protocol], float]
    density: Callable[[Protocol], FokkerPlanckResult] | None
    optimise: Callable[[int | None, OnProgress | None], OptimisedProtocol] | None


def simulate_system(
    name: str,
    *,
    optimise: bool = False,
    trajectories: int = 10_000,
    steps: int | None = None,
    outer_steps: int | None = None,
    seed: int = 0,
    protocol: Protocol | None = None,
    on_progress: OnProgress | None = None,
) -> SystemRun:
    """Runs a ready-made system.

    Args:
        name: "trap", "crossing", "erasure" or "cell".
        optimise: first find the best protocol by gradient.
        trajectories: independent trajectories.
        steps: time steps of each; None takes the system's.
        outer_steps: steps of the descent; None takes the system's.
        seed: of all randomness.
        protocol: run this instead of the system's own.
        on_progress: called after each step of the descent.

    Returns:
        Work, heat, errors and checks.

    Raises:
        ValueError: for an unknown name, wrong numbers, or a system with nothing to optimise.

    Example:
        >>> run = simulate_system("trap", trajectories=1000, steps=100)
        >>> run.fokker_planck_work_kt is not None
        True
    """
    if name not in SYSTEMS:
        raise ValueError(f"Unknown system {name!r}; there are {', '.join(SYSTEMS)}.")
    trajectories, seed = whole_number(trajectories, "trajectories", 2), whole_number(seed, "seed", 0)
    system = SYSTEMS[name]
    steps = whole_number(system.steps if steps is None else steps, "steps")
    outer_steps = None if outer_steps is None else whole_number(outer_steps, "outer_steps")
    chosen, label = system.reference()
    if protocol is not None:
        chosen, label = protocol, "given"
    found = None
    if optimise:
        if system.optimise is None:
            raise ValueError(f"The system {name!r} has a fixed protocol; there is nothing to optimise.")
        found = system.optimise(outer_steps, on_progress)
        if found.result is OptimiseCode.diverged:
            raise ValueError(found.result.help)
        chosen, label = found.protocol, "optimised"
    began = time.monotonic()
    runs, error_rate = system.run(chosen, jax.random.key(seed), trajectories, steps)
    jax.block_until_ready(runs)
    seconds = time.monotonic() - began
    return SystemRun(
        system=name,
        protocol=chosen,
        protocol_name=label,
        trajectories=runs,
        error_rate=error_rate,
        fokker_planck_work_kt=None if system.density is None else float(system.density(chosen).work),
        jarzynski=jarzynski(runs.work)._replace(expected=system.free_energy(chosen)),
        steps=steps,
        seconds=seconds,
        optimised=found,
    )


def _shown(snapshot: Snapshot) -> Float[Array, "shown"]:
    return snapshot.position[:_SHOWN]


def _frames(steps: int) -> int:
    """The most frames, up to a hundred, that divide the steps."""
    return max(n for n in range(1, _FRAMES + 1) if steps % n == 0)


def _watched(potential: Potential, protocol: Protocol, start: Callable[[Array], Array], key: Array, steps: int):
    """Overdamped trajectories from a start that is drawn with a key of its own."""
    start_key, key = jax.random.split(key)
    return overdamped(potential, protocol, start(start_key), key, steps=steps, observer=_shown, frames=_frames(steps))


# Dragging a trap: Schmiedl and Seifert.


def _trap_reference():
    return LinearProtocol(0.0, 5.0, 1.0), "constant speed"


def _trap_density(protocol: Protocol) -> FokkerPlanckResult:
    # Seven thermal lengths beyond either end of the way from 0 to 5.
    return fokker_planck(MovingTrap(), protocol, Grid(-7.0, 12.0, 400), steps=400)


def _trap_run(protocol: Protocol, key: Array, count: int, steps: int):
    def start(k):  # in equilibrium in the trap where it is at first
        return protocol.initial.astype(jnp.result_type(float)) + jax.random.normal(k, (count,))

    return _watched(MovingTrap(), protocol, start, key, steps), None


def _trap_free_energy(protocol: Protocol) -> float:
    # A trap that is moved stays as wide as it was.
    return 0.0


def _trap_optimise(outer_steps: int | None, on_progress: OnProgress | None) -> OptimisedProtocol:
    def cost(protocol, key):
        # Coarser than the density that `simulate_system` judges the result with.
        return fokker_planck(MovingTrap(), protocol, Grid(-7.0, 12.0, 200), steps=200).work

    start = LinearProtocol(0.0, 5.0, 1.0, 16)
    steps = 200 if outer_steps is None else outer_steps
    return optimise_protocol(cost, start, steps=steps, rate=0.1, on_progress=on_progress)


# Crossing a barrier: Engel, Smith and Brenner.


def _crossing_reference():
    return LinearProtocol(-1.0, 1.0, 44.0), "constant speed"


def crossing_work(protocol: Protocol, cells: int = 400, steps: int = 2000) -> FokkerPlanckResult:
    """The density of the barrier-crossing problem.

    Args:
        protocol: centre of the trap in time.
        cells: grid cells.
        steps: time steps.

    Returns:
        Work, heat and the last distribution.
    """
    # With the trap at -1 or 1 the near end of the grid lies 22 kT above the well.
    return fokker_planck(TrappedDoubleWell(), protocol, Grid(-2.2, 2.2, cells), steps=steps)


def _crossing_run(protocol: Protocol, key: Array, count: int, steps: int) -> tuple[Trajectories, float]:
    def start(key):
        return equilibrium(TrappedDoubleWell(), protocol.initial, key, count, -2.2, 2.2)

    runs = _watched(TrappedDoubleWell(), protocol, start, key, steps)
    return runs, float(jnp.mean(runs.position < 0))


def _crossing_free_energy(protocol: Protocol) -> float:
    well = TrappedDoubleWell()
    curvature, stiffness = float(well.curvature), float(well.stiffness)
    # A well and the trap are two springs in a row, stretched by the distance of their centres.
    spring = curvature * stiffness / (curvature + stiffness)

    def at(center):
        return -np.logaddexp(-0.5 * spring * (center - 1) ** 2, -0.5 * spring * (center + 1) ** 2)

    return float(at(float(protocol.final)) - at(float(protocol.initial)))


def _crossing_optimise(outer_steps: int | None, on_progress: OnProgress | None) -> OptimisedProtocol:
    def cost(protocol, key):
        # Coarser than the density that `simulate_system` judges the result with.
        return crossing_work(protocol, 200, 500).work

    start = LinearProtocol(-1.0, 1.0, 44.0, 64)
    steps = 300 if outer_steps is None else outer_steps
    return optimise_protocol(cost, start, steps=steps, rate=0.05, on_progress=on_progress)


# Erasing a bit fast: the underdamped cantilever of NESTbench25.


def _erasure_reference():
    """Merge the wells, then open one that only the left side can see."""
    share = np.linspace(0.0, 1.0, 1000)
    early = share < 0.5
    # A switch at twice the wells is out of reach: all are in the one parabola around -c1, which then moves left.
    c0 = np.where(early, 0.0, 2 * _WELL)
    c1 = np.where(early, _WELL * (1 - 2 * share), 2 * _WELL * (share - 0.5))
    return LinearProtocol([0.0, _WELL], [0.0, _WELL], np.pi, np.stack([c0, c1], axis=1)), "merge, shift, split"


def erasure_start(key: Array, count: int) -> tuple[Float[Array, "n"], Float[Array, "n"]]:
    """Positions and velocities in equilibrium in the two wells, which barely overlap.

    Args:
        key: random key.
        count: how many.

    Returns:
        `(positions, velocities)`.
    """
    well, place, speed = jax.random.split(key, 3)
    side = jnp.where(jax.random.bernoulli(well, shape=(count,)), _WELL, -_WELL)
    return side + jax.random.normal(place, (count,)), jax.random.normal(speed, (count,))


def _velocity(runs: Trajectories) -> Float[Array, "n"]:
    assert runs.velocity is not None  # underdamped runs have one
    return runs.velocity


def _erasure_run(protocol: Protocol, key: Array, count: int, steps: int) -> tuple[Trajectories, float]:
    start_key, key, rest_key = jax.random.split(key, 3)
    x, v = erasure_start(start_key, count)
    sharp = SwitchedDoubleWell()
    runs = underdamped(
        sharp, protocol, x, v, key, steps=steps, damping=1 / _QUALITY, observer=_shown, frames=_frames(steps)
    )
    # One period at rest, in steps of at least the protocol's fineness.
    rest = constant_protocol([0.0, _WELL], 2 * np.pi)
    settled = underdamped(sharp, rest, runs.position, _velocity(runs), rest_key, steps=2 * steps, damping=1 / _QUALITY)
    return runs, float(jnp.mean(settled.position >= 0))


def _erasure_free_energy(protocol: Protocol) -> float:
    """Of two half parabolas: each a normal distribution cut off where they meet."""
    # Trajectories start in the two wells of the reference, wherever the protocol does.
    if not np.array_equal(np.asarray(protocol.initial, float), [0.0, _WELL]):
        return math.nan

    def at(control):
        c0, c1 = np.asarray(control, float)
        return abs(c0) * c1 - np.logaddexp(log_ndtr(c1 - c0) - c0 * c1, log_ndtr(c1 + c0) + c0 * c1)

    return float(at(protocol.final) - at(protocol.initial))


def erasure_cost(softness: float, level: float, width: float, count: int = 2000, steps: int = 150):
    """A differentiable stand-in for the error: how far the last energy in the left well exceeds a level.

    Args:
        softness: of the potential's switch, so that its force has a derivative.
        level: energy above the left minimum from which on it counts [kT].
        width: over how much it sets in [kT]; 0 takes the mean energy.
        count: trajectories.
        steps: time steps.

    Returns:
        A cost for `optimise_protocol`.
    """
    potential = SwitchedDoubleWell(softness)

    def cost(protocol, key):
        start_key, key = jax.random.split(key)
        x, v = erasure_start(start_key, count)
        runs = underdamped(potential, protocol, x, v, key, steps=steps, damping=1 / _QUALITY)
        energy = 0.5 * jnp.square(runs.position + _WELL) + 0.5 * jnp.square(_velocity(runs))
        # Softplus has a slope below the level too: trajectories that nearly fail still say which way to go.
        return jnp.mean(energy if width == 0 else width * jax.nn.softplus((energy - level) / width))

    return cost


def _erasure_optimise(outer_steps: int | None, on_progress: OnProgress | None) -> OptimisedProtocol:
    """Three stages: lower the mean energy, then ever rarer and higher ones, while the switch becomes sharper."""
    knots = np.stack([np.linspace(3.0, 6.0, 32), np.full(32, _WELL)], axis=1)
    protocol = LinearProtocol([0.0, _WELL], [0.0, _WELL], np.pi, knots)
    total = 1200 if outer_steps is None else whole_number(outer_steps, "outer_steps")
    # Softness of the switch, level and width of the cost [kT], share of all steps, first learning rate.
    stages = ((0.5, 0.0, 0.0, 0.2, 0.2), (0.3, 6.0, 2.0, 0.3, 0.1), (0.2, 8.0, 1.5, 0.5, 0.05))
    history: list[OptimiseRow] = []
    found = None
    for number, (softness, level, width, share, rate) in enumerate(stages):
        steps = max(1, round(share * total))
        done, elapsed = len(history), history[-1].seconds if history else 0.0

        def report(row, left, done=done, elapsed=elapsed):
            if on_progress is not None:
                seconds = elapsed + row.seconds
                moved = row._replace(step=done + row.step, seconds=seconds)
                on_progress(moved, (total - moved.step - 1) * seconds / (moved.step + 1))

        # With noise: `fokker_planck` is overdamped and cannot give this cost. A key of its own for each stage.
        found = optimise_protocol(
            erasure_cost(softness, level, width), protocol, steps=steps, rate=rate, key=jax.random.key(number),
            on_progress=report,
        )  # fmt: skip
        history += [r._replace(step=done + r.step, seconds=elapsed + r.seconds) for r in found.history]
        protocol = found.protocol
        # A noisy descent never converges: it was interrupted or diverged, and a later stage would begin nowhere better.
        if found.result is not OptimiseCode.completed:
            break
    assert found is not None
    return found._replace(history=tuple(history))


# The memory cell: a tilted washboard.


def _cell_reference():
    return LinearProtocol([5.0, 0.0], [5.0, 0.0], 10.0, [[5.0, 2.0], [5.0, 2.0]]), "tilt by 2 kT per level"


def _cell_density(protocol: Protocol) -> FokkerPlanckResult:
    # Fifty levels to either side are out of reach; the start is equilibrium in the middle one.
    grid = Grid(-50.5, 50.5, 101 * 60)
    inside = jnp.abs(grid.centers) < 0.5
    start = boltzmann(CosineWashboard(), protocol.initial, grid) * inside
    return fokker_planck(CosineWashboard(), protocol, grid, steps=1000, start=start / jnp.sum(start))


def _cell_run(protocol: Protocol, key: Array, count: int, steps: int) -> tuple[Trajectories, None]:
    def start(key):
        return equilibrium(CosineWashboard(), protocol.initial, key, count, -0.5, 0.5)

    return _watched(CosineWashboard(), protocol, start, key, steps), None


def _cell_free_energy(protocol: Protocol) -> float:
    def at(barrier):
        # ∫ exp(-B sin²πx) dx over a level is e^(-B/2) I0(B/2); i0e is e^-|x| I0(x).
        return -float(np.log(i0e(barrier / 2))) - max(-barrier, 0.0)

    (first, tilt), (last, end_tilt) = np.asarray(protocol.initial, float), np.asarray(protocol.final, float)
    # Without a tilt all levels are alike and one stands for all; with one there is no equilibrium.
    return math.nan if tilt or end_tilt else at(last) - at(first)


SYSTEMS: dict[str, System] = {
    "erasure": System(
        "erase a bit of a cantilever in half a period", _erasure_reference, 400, _erasure_run, _erasure_free_energy,
        None, _erasure_optimise,
    ),
    "trap": System(
        "drag a trap by 5 thermal lengths", _trap_reference, 500, _trap_run, _trap_free_energy, _trap_density,
        _trap_optimise,
    ),
    "crossing": System(
        "pull a molecule over a 10 kT barrier", _crossing_reference, 32_000, _crossing_run, _crossing_free_energy,
        crossing_work, _crossing_optimise,
    ),
    "cell": System(
        "move along the memory cell's ladder, 5 kT barrier", _cell_reference, 4000, _cell_run, _cell_free_energy,
        _cell_density, None,
    ),
}  # fmt: skip
