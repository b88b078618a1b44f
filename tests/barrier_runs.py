"""What a barrier sees in a test, its heights along a sequence, and short runs with one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import limjax
from limjax.barriers import BarrierInputs

CELL = limjax.ArrheniusCell(lsb=2**-10, attempt_rate=1e9, step_time=1e-3)


def inputs(step=0, loss=1.0, drift=None, gradient=None, cell=CELL):
    drift = [jnp.asarray([1.0, -2.0])] if drift is None else drift
    gradient = [jnp.asarray([0.5, 3.0])] if gradient is None else gradient
    return BarrierInputs(jnp.asarray(step), None if loss is None else jnp.asarray(loss), drift, gradient, cell)


def heights(barrier, sequence, params=None):
    """Barriers over a sequence of inputs, in float64."""
    state = barrier.init([jnp.zeros(2)] if params is None else params)
    values = []
    for item in sequence:
        value, state = barrier.evaluate(item, state)
        values.append(np.asarray(value[0] if isinstance(value, list) else value, np.float64))
    return np.stack(values)


def run(barrier, losses, cell=CELL, params=None, gradient=None, **options):
    params = jnp.zeros(2) if params is None else params
    opt = limjax.learning_in_memory(optax.sgd(1.0), cell, barrier, compare=(), **options)
    state = opt.init(params)
    update = jax.jit(opt.update)
    seen = []
    for loss in losses:
        _, state = update(params if gradient is None else gradient, state, params, value=jnp.asarray(loss))
        seen.append(float(limjax.get_barrier(state)))
    return limjax.get_ledger(state), seen
