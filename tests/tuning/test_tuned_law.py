"""Tuning finds the law: on the quadratic, by gradient through runs whose requests chase the hop noise."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import limjax
from limjax.limits import bounds
from limjax.tasks import quadratic
from limjax.tuning import Weights, tune

LSB, CELLS, STEPS, START, STOP = 2.0**-10, 1024, 600, 1000.0, 1000.0
RATIO = START**2 / STOP
RATE = -math.expm1(-math.log(RATIO) / STEPS)  # uT = ln(L0/LT), the cheapest time
CELL = limjax.ArrheniusCell(lsb=LSB, recovery=1.0)


def exact_run(barrier, seed):
    """Heat per cell, and ln L and ln Γ before every step, with exact hops."""
    task = quadratic(cells=CELLS, start_levels=START, lsb=LSB)
    opt = limjax.learning_in_memory(
        optax.sgd(RATE * LSB**2), CELL, barrier, hops="exact", key=jax.random.key(seed), compare=()
    )

    @jax.jit
    def run():
        def step(carry, _):
            params, state = carry
            loss, gradient = jax.value_and_grad(task.loss)(params, None)
            updates, state = opt.update(gradient, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), (loss, limjax.get_barrier(state))

        params = task.init(jax.random.key(0))
        return jax.lax.scan(step, (params, opt.init(params)), None, length=STEPS)

    (params, state), (loss, height) = run()
    heat = limjax.total(limjax.get_ledger(state)) / CELLS
    final = float(jnp.mean(jnp.square(params["w"] / LSB)))
    return heat, final, np.log(2 * np.asarray(loss) / CELLS), -np.asarray(height)


@pytest.mark.optax
@pytest.mark.slow
def test_the_law_itself_is_what_the_ledger_says():
    """A barrier that rises by ln(L0/L) from the law's start: heat within 1 % of the law at the loss it ends at, 3 standard errors."""
    start = CELL.barrier(jnp.log(RATE * START**2 / 2))
    heats, bounded = [], []
    for seed in range(4):
        heat, final, _, _ = exact_run(limjax.LyapunovBarrier(start, decay=0.0), seed)
        heats.append(heat)
        bounded.append(float(bounds.convergence(START**2 / final, -STEPS * math.log1p(-RATE))))
    assert np.mean(heats) == pytest.approx(np.mean(bounded), rel=0.01)


@pytest.mark.slow
@pytest.mark.optax
def test_tuning_finds_ln_exchange_parallel_to_ln_loss_and_the_heat_of_the_law():
    """Eight knots, started 3 kT too flat: slope of ln Γ against the measured ln L in [0.97, 1.03], heat within 1 % of the law."""
    first = float(CELL.barrier(jnp.log(RATE * START**2 / 2)))
    flat = limjax.SplineBarrier(np.linspace(first + 1.5, first + math.log(RATIO) - 1.5, 8), STEPS)
    # Along the law dQ/d ln LT = -2 kT at the cheapest time, so that this price of energy asks for the loss STOP.
    result = tune(
        quadratic(cells=CELLS, start_levels=START, lsb=LSB), cell=CELL, barrier=flat, weights=Weights(energy=0.25 * CELLS * STOP), steps=STEPS,
        batch_size=1, learning_rate=RATE * LSB**2, hops="gaussian", outer_steps=150, outer_rate=0.25, seeds=2, held_out=4, selection=8,
    )  # fmt: skip
    heats, bounded, slopes = [], [], []
    for seed in range(4):
        heat, final, log_loss, log_exchange = exact_run(result.barrier, seed)
        heats.append(heat)
        bounded.append(float(bounds.convergence(START**2 / final, -STEPS * math.log1p(-RATE))))
        slopes.append(np.polyfit(log_loss, log_exchange, 1)[0])
    print(f"heat {np.mean(heats):.3f}, law {np.mean(bounded):.3f} kT, slope {np.mean(slopes):.3f}")
    assert 0.97 < np.mean(slopes) < 1.03
    assert np.mean(heats) == pytest.approx(np.mean(bounded), rel=0.01)
