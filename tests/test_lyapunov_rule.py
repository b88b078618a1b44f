"""The rule of a cell's own Lyapunov function: the fall against the loss's, its heat, and what noise adds to both."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import limjax
from limjax.memory import get_memory

pytestmark = pytest.mark.optax


def test_the_lyapunov_function_of_all_cells_falls_as_the_loss_does():
    """The first law of learning: what cells lose of their own Lyapunov functions is what the loss loses, for steps of any size."""
    opt = limjax.learning_in_memory(
        optax.sgd(0.4), limjax.ArrheniusCell(), limjax.ConsolidatingBarrier(14.0, limjax.LyapunovRule(3.0)), compare=()
    )
    hessian = jnp.array([[2.0, 0.7, 0.0], [0.7, 1.0, 0.3], [0.0, 0.3, 0.5]])
    loss = jax.jit(jax.value_and_grad(lambda w: 0.5 * w @ hessian @ w))
    params = jnp.array([1.0, -0.5, 2.0])
    state, update, ways, losses = opt.init(params), jax.jit(opt.update), [], []
    for _ in range(5):
        value, gradient = loss(params)
        updates, state = update(gradient, state, params)
        ways.append((params, gradient))
        losses.append(float(value))
        params = optax.apply_updates(params, updates)
    fall = np.asarray(get_memory(state).barrier.state.fall[0])
    assert fall.sum() == pytest.approx(losses[0] - losses[-1], rel=1e-5)
    by_hand = [-0.5 * (g + h) * (w - v) for (v, g), (w, h) in itertools.pairwise(ways)]
    np.testing.assert_allclose(fall, sum(by_hand), rtol=1e-5)
    last = -ways[-1][1] * (params - ways[-1][0])
    shares = np.maximum(fall + last, 0)
    state = limjax.consolidate(state, params)
    _, state = update(jnp.zeros(3), state, params)
    height = np.asarray(get_memory(state).barrier.height.value[0])
    np.testing.assert_allclose(height, 14.0 + np.log1p(3.0 * shares / shares.mean()), rtol=1e-5)


def test_under_gradient_tilt_a_cell_reads_its_lyapunov_function_off_its_heat():
    cell = limjax.ArrheniusCell(lsb=2**-8)
    barrier = limjax.ConsolidatingBarrier(14.0, limjax.LyapunovRule())
    opt = limjax.gradient_tilt(cell, barrier, coupling=200.0, track=("heat",))
    params = jnp.array([0.5, -1.0])
    state, update = opt.init(params), jax.jit(opt.update)
    for _ in range(30):
        updates, state = update(params * jnp.array([1.0, 0.2]), state, params)
        params = optax.apply_updates(params, updates)
    updates, state = update(params * jnp.array([1.0, 0.2]), state, params)
    heat = np.asarray(limjax.get_ledger(state).heat.total[0])
    last = -np.asarray(params * jnp.array([1.0, 0.2]) * updates)
    fall = np.asarray(get_memory(state).barrier.state.fall[0])
    # Heat is counted with the tilt at the start of a step, the fall with the mean of both ends: they differ by half a step's change of the gradient,
    # little where hops are means and a step is a small part of the way.
    np.testing.assert_allclose(heat / 200.0 - last, fall, rtol=0.05)
    assert fall.min() > 1e-3


@pytest.mark.parametrize("hops", ["exact", "mean"])
def test_with_hops_its_heat_is_the_fall_and_what_the_hops_themselves_shook(hops):
    r"""Heat over s is ω + ½ Σ h Δw²: Itô's sum beside Stratonovich's. With random hops the sum grows without end."""
    cell, curvature = limjax.ArrheniusCell(lsb=2**-8), jnp.where(jnp.arange(40) < 20, 1.0, 0.5)
    noise = {"hops": "exact", "key": jax.random.key(3)} if hops == "exact" else {}
    barrier = limjax.ConsolidatingBarrier(10.0, limjax.LyapunovRule())
    opt = limjax.gradient_tilt(cell, barrier, coupling=200.0, track=("heat",), **noise)
    params = limjax.snap(jnp.full(40, 0.5), cell)
    state, update, steps = opt.init(params), jax.jit(opt.update), []
    for _ in range(120):
        updates, state = update(curvature * params, state, params)
        steps.append((np.asarray(params, np.float64), np.asarray(updates, np.float64)))
        params = optax.apply_updates(params, updates)
    fall = np.asarray(get_memory(state).barrier.state.fall[0], np.float64)
    h = np.asarray(curvature, np.float64)
    last = -h * steps[-1][0] * steps[-1][1]
    shaken = 0.5 * h * sum(step**2 for _, step in steps[:-1])
    # What the hops really dissipated, and beside it the closed form, which is its mean.
    ledger = limjax.get_ledger(state)
    heat = limjax.total(ledger, "realised_heat" if hops == "exact" else "heat") / 200.0 - last.sum()
    assert heat == pytest.approx((fall + shaken).sum(), rel=1e-4)
    # The fall itself is that of the loss, hops or not.
    np.testing.assert_allclose(fall, 0.5 * h * (steps[0][0] ** 2 - steps[-1][0] ** 2), rtol=1e-3, atol=1e-4)
    # Thermal hops alone have a mean square of 2g levels² a step: that chase goes on for ever, the fall does not.
    thermal = len(steps[1:]) * float(cell.exchange(10.0)) * float(cell.lsb) ** 2 * h.sum()
    drift = shaken.sum() - (thermal if hops == "exact" else 0.0)
    assert 0 < drift < 0.2 * fall.sum() and (thermal > 0.5 * fall.sum())


def test_noise_of_batches_counts_as_a_fall():
    """In a bowl where nothing is learnt any more each step of SGD adds ½ησ² to every cell's sum, though the loss stays."""
    rate, cells, steps = 0.1, 400, 200
    spread = jnp.where(jnp.arange(cells) < cells // 2, 1.0, 0.3)
    barrier = limjax.ConsolidatingBarrier(14.0, limjax.LyapunovRule())
    opt = limjax.learning_in_memory(optax.sgd(rate), limjax.ArrheniusCell(), barrier, compare=(), granularity="leaf")
    # The stationary spread of w' = (1 - η) w - η ξ.
    start = spread * jnp.sqrt(rate / (2 - rate)) * jax.random.normal(jax.random.key(0), (cells,))

    def step(carry, key):
        params, state = carry
        updates, state = opt.update(params + spread * jax.random.normal(key, (cells,)), state, params)
        return (optax.apply_updates(params, updates), state), params

    keys = jax.random.split(jax.random.key(1), steps)
    (_, state), seen = jax.jit(lambda carry: jax.lax.scan(step, carry, keys))((start, opt.init(start)))
    fall = np.asarray(get_memory(state).barrier.state.fall[0], np.float64).reshape(2, -1).sum(axis=1)
    lost = 0.5 * (np.square(seen[0]) - np.square(seen[-1])).reshape(2, -1).sum(axis=1)
    for of, loss_fall, sigma in zip(fall, lost, (1.0, 0.3)):
        terms = (steps - 1) * cells / 2
        # ½ησ² each; its own scatter is ½η(ξ² - σ²) and ½ηξξ', of variance ¾η²σ⁴, and ηwξ of η³σ⁴/2.
        scatter = rate * sigma**2 * np.sqrt((0.75 + rate / 2) * terms)
        assert abs(of - loss_fall - 0.5 * rate * sigma**2 * terms) < 4 * scatter
        assert abs(loss_fall) < 0.01 * of
