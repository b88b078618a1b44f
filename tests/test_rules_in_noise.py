"""What the noise of batches and of hops adds to the sums of the path-integral and the Lyapunov rule, in a bowl, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import limjax
from limjax.memory import get_memory

pytestmark = pytest.mark.optax
CELLS, STEPS, CURVATURE, SIGMA, RATE = 1000, 200, 0.5, 1.0, 0.1


def _sums(rule, optimizer, thermal=None, spread=0.0, tasks=1):
    """The rule's sums over the last task [loss], one per cell, each with noise of its own, and the way: weights before steps and changes.

    Hops have the variance `thermal` [weight²] in each step, far above what requests add to it; None is for mean moves.
    """
    cell = limjax.ArrheniusCell(lsb=2**-12, attempt_rate=1e12)
    height = 14.0 if thermal is None else float(cell.barrier(jnp.log(0.5 * thermal / cell.lsb**2)))
    noise = {} if thermal is None else {"hops": "gaussian", "key": jax.random.key(5)}
    barrier = limjax.ConsolidatingBarrier(height, rule)
    opt = limjax.learning_in_memory(optimizer, cell, barrier, compare=(), granularity="leaf", **noise)

    def step(carry, key):
        params, state = carry
        gradient = CURVATURE * params + SIGMA * jax.random.normal(key, (CELLS,))
        updates, state = opt.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), (params, updates)

    scan = jax.jit(lambda carry, key: jax.lax.scan(step, carry, jax.random.split(key, STEPS)))
    params = spread * jax.random.normal(jax.random.key(0), (CELLS,))
    carry, way = scan((params, opt.init(params)), jax.random.key(1))
    for task in range(1, tasks):
        carry = carry[0], limjax.consolidate(carry[1], carry[0])
        carry, way = scan(carry, jax.random.key(1 + task))
    state = get_memory(carry[1]).barrier.state
    found = state.path if rule.name == "path-integral" else state.fall
    return np.asarray(found[0], np.float64), *(np.asarray(x, np.float64) for x in way)


def _is_mean_of(cells, want):
    # Cells are independent: four standard errors, a false alarm in 16,000.
    assert abs(cells.mean() - want) < 4 * cells.std() / np.sqrt(CELLS)


@pytest.mark.parametrize("thermal", [None, 0.3**2])
def test_where_nothing_is_learnt_any_more_the_path_integral_goes_on(thermal):
    r"""SGD at rest: ησ² a step, and ½h⟨Δw²⟩, what the gradients take back of each step's scatter; the Lyapunov rule has ½ησ² alone."""
    # From the second moment of w' = (1 - ηh) w - ηξ + hop.
    scatter = (RATE * SIGMA) ** 2 + (thermal or 0.0)
    spread = np.sqrt(scatter / (RATE * CURVATURE * (2 - RATE * CURVATURE)))
    path, _, moves = _sums(limjax.PathIntegralRule(), optax.sgd(RATE), thermal, spread)
    chased = CURVATURE * scatter / (2 - RATE * CURVATURE)
    _is_mean_of(path / (STEPS - 1), RATE * SIGMA**2 + chased)
    _is_mean_of(0.5 * CURVATURE * np.square(moves).mean(axis=0), chased)
    fall, *_ = _sums(limjax.LyapunovRule(), optax.sgd(RATE), thermal, spread)
    _is_mean_of(fall / (STEPS - 1), 0.5 * RATE * SIGMA**2)
    # The chase after the hops is no small part of it: what was tested can be told from its absence.
    assert thermal is None or chased > 0.2 * RATE * SIGMA**2


@pytest.mark.parametrize(
    ("rule", "share"),
    [(limjax.PathIntegralRule(), 1.0), pytest.param(limjax.LyapunovRule(), 0.5, marks=pytest.mark.slow)],
)
def test_under_adam_noise_counts_by_its_size_and_not_by_its_square(rule, share):
    """Adam divides by the size of the gradient and has a step's own gradient to the share 1 - β1: η(1 - β1)σ a step."""
    found, at, moves = _sums(rule, optax.adam(1e-3), tasks=4)
    lost = 0.5 * CURVATURE * (at[0] ** 2 - at[-1] ** 2)
    scatter = 0.5 * CURVATURE * np.square(moves[:-1]).sum(axis=0) if share == 1.0 else 0.0
    # What is left is -Σ ξ Δw, whatever the weights did; η(1 - β1)σ²/√v with v = σ² to a part in a thousand after three tasks.
    _is_mean_of((found - lost - scatter) / (STEPS - 1), share * 1e-3 * (1 - 0.9) * SIGMA)
