"""One memory cell four ways: the ledger's closed form, jumps, the exact washboard and Langevin trajectories."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from limjax.numerics.checks import finite_number, positive_number
from limjax.physics.washboard import drift as washboard_drift
from limjax.physics.washboard import effective_diffusion
from limjax.simulate._checks import mean_with_error
from limjax.simulate._jump_networks import ladder
from limjax.simulate._jump_trajectories import gillespie
from limjax.simulate._langevin import equilibrium, overdamped
from limjax.simulate._potentials import CosineWashboard
from limjax.simulate._protocols import LinearProtocol, constant_protocol


class CellComparison(NamedTuple):
    """One barrier and tilt; drifts in levels and heats in kT per unit time L²/D.

    Attributes:
        barrier: B [kT].
        affinity: F [kT per level].
        ladder_drift: of the closed form, 2 g sinh(F/2) with the exact exchange g.
        ladder_heat: its heat, drift times F.
        jump_drift: from jump trajectories, with standard error.
        jump_heat: from jump trajectories, with standard error.
        washboard_drift: exact quadrature of the tilted cosine.
        langevin_drift: from trajectories in the cosine, with standard error.
        langevin_heat: from trajectories in the cosine, with standard error.
    """

    barrier: float
    affinity: float
    ladder_drift: float
    ladder_heat: float
    jump_drift: tuple[float, float]
    jump_heat: tuple[float, float]
    washboard_drift: float
    langevin_drift: tuple[float, float]
    langevin_heat: tuple[float, float]

    @property
    def ratio(self) -> float:
        """Exact drift over the ladder's; 1 where the ledger's closed form holds."""
        return self.washboard_drift / self.ladder_drift


def compare_cell(
    barriers: Sequence[float],
    tilts: Sequence[float],
    key: Array,
    *,
    trajectories: int = 20_000,
    jump_trajectories: int = 4_000,
    time: float = 4.0,
) -> list[CellComparison]:
    """The same cell with the same barrier and tilt by every route.

    Args:
        barriers: B [kT].
        tilts: F over B.
        key: random key.
        trajectories: Langevin trajectories of each cell.
        jump_trajectories: jump trajectories of each cell.
        time: measured time [L²/D], after a quarter of it to forget the start.

    Returns:
        One row per barrier and tilt.

    Raises:
        ValueError: for a barrier or time that is not positive, a tilt of 0 or not finite, or a barrier so high that its
            exchange rate is 0 in the default float type.

    Cost: Langevin steps in proportion to the highest barrier; about a second per row on one CPU core.
    """
    positive_number(time, "time")
    for tilt in tilts:
        if finite_number(tilt, "every tilt") == 0:
            raise ValueError(
                f"Every tilt must be a number other than 0, got {tilt!r}: without a force there is no drift."
            )
    exchanges = [_exchange(barrier) for barrier in barriers]
    rows = []
    for i, (barrier, exchange) in enumerate(zip(barriers, exchanges)):
        for j, tilt in enumerate(tilts):
            affinity = tilt * barrier
            keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, i), j), 4)
            b, f = jnp.asarray(barrier, jnp.result_type(float)), jnp.asarray(affinity, jnp.result_type(float))
            ladder_drift = 2 * exchange * float(jnp.sinh(f / 2))
            # A hundred hops of each trajectory in the mean, whatever barrier and tilt.
            jump_time = 100.0 / (2 * exchange * float(jnp.cosh(f / 2)))
            hops = gillespie(
                ladder(), constant_protocol([exchange, affinity], jump_time), keys[0], trajectories=jump_trajectories
            )
            heat, heat_error = mean_with_error(hops.heat / jump_time)
            # Steps of a twentieth of the well's relaxation time; the curvature of the cosine is 2π²B.
            rate = 20 * 2 * 9.87 * max(barrier, 1.0)
            steps = int(time * rate) + 1
            # The tilt is put on at the start and taken off at the end. What it does in between is work of F per level,
            # and the energies that heat is reckoned with are those of the untilted cosine.
            tilted = LinearProtocol([barrier, 0.0], [barrier, 0.0], 0.25 * time, [[barrier, affinity]] * 2)
            start = equilibrium(CosineWashboard(), [barrier, 0.0], keys[1], trajectories, -0.5, 0.5)
            warm = overdamped(CosineWashboard(), tilted, start, keys[2], steps=steps // 4 + 1)
            longer = LinearProtocol([barrier, 0.0], [barrier, 0.0], time, [[barrier, affinity]] * 2)
            runs = overdamped(CosineWashboard(), longer, warm.position, keys[3], steps=steps)
            speed = mean_with_error((runs.position - warm.position) / time)
            rows.append(
                CellComparison(
                    barrier=float(barrier),
                    affinity=float(affinity),
                    ladder_drift=ladder_drift,
                    ladder_heat=ladder_drift * affinity,
                    # A ring gives off F for each net hop, so that its heat has the drift in it.
                    jump_drift=(heat / affinity, heat_error / affinity),
                    jump_heat=(heat, heat_error),
                    washboard_drift=float(washboard_drift(b, f)),
                    langevin_drift=speed,
                    langevin_heat=mean_with_error(runs.heat / time),
                )
            )
    return rows


def _exchange(barrier: float) -> float:
    positive_number(barrier, "every barrier", "It is in kT.")
    known = jnp.asarray(barrier, jnp.result_type(float))
    exchange = float(effective_diffusion(known))
    if exchange < float(jnp.finfo(known.dtype).tiny):
        raise ValueError(
            f"Over a barrier of {barrier!r} kT nothing hops: its exchange rate is 0 in {known.dtype}. Take a lower one, or 64-bit floats."
        )
    return exchange
