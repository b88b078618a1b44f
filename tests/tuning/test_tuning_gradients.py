"""Gradients through training, and what a run gives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from curve import BARRIERS, curve_task
from scipy.special import i0e, i1e

import limjax
from limjax.barriers._base import BarrierInputs
from limjax.memory import LearningInMemoryState
from limjax.memory._blocks import Blocks
from limjax.memory._charged_barrier import init_barrier, move_barrier
from limjax.memory._field import leaf_sums
from limjax.numerics._loops import checkpointed_loop
from limjax.tuning import (
    Problem,
    Variables,
    evaluate,
    train_design,
    value_and_gradient,
)
from limjax.tuning._differentiable_run import _forget

pytestmark = pytest.mark.optax


# -- gradients ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spline per layer", "learned"])
def test_gradients_through_training_match_finite_differences(x64, name):
    """In float64, to 1e-3, along random directions in the barrier, the learning rate and the step time."""
    problem = Problem(
        curve_task(np.float64), limjax.ArrheniusCell(lsb=2.0**-8), steps=25, batch_size=8, learning_rate=1e-2
    )
    rows = {"spline per layer": 3}.get(name)
    barrier = limjax.SplineBarrier(np.tile([9.0, 12.0, 14.0], (rows, 1)), 25) if rows else BARRIERS[name]()
    design = problem.design(barrier)
    variables = Variables(design, learning_rate=True, step_time=True)
    data = problem.data("validation")

    @jax.jit
    def function(point):
        outcome = problem.outcome(variables.to_design(point), jnp.asarray(3), data, "gaussian", None)
        return outcome.loss + 0.01 * outcome.energy_kt_per_parameter, outcome

    point = variables.start()
    # Away from the theory's start, where half of the rule's derivatives vanish.
    keys = iter(jax.random.split(jax.random.key(0), 100))
    point = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(next(keys), p.shape), point)
    (_, _), slope = jax.jit(value_and_gradient(function, "reverse"))(point, jax.random.key(0))
    (_, _), forward = jax.jit(value_and_gradient(function, "forward"))(point, jax.random.key(0))
    for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(forward), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)
    for _ in range(3):
        direction = jax.tree.map(lambda p: jax.random.normal(next(keys), p.shape), point)
        exact = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(direction), strict=True))
        h = 1e-5

        def along(t, direction=direction):
            return float(function(jax.tree.map(lambda p, d: p + t * d, point, direction))[0])

        numeric = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h)
        assert float(exact) == pytest.approx(numeric, rel=1e-3, abs=1e-7)


@pytest.mark.slow
@pytest.mark.representatives(1)
@pytest.mark.parametrize("name", ["learned per leaf", "fisher", "fowler-nordheim"])
def test_every_barrier_has_a_finite_gradient(problem, name):
    design = problem.design(BARRIERS[name]())
    variables = Variables(design)
    data = problem.data("validation")

    @jax.jit
    def slope(point):
        def value(point):
            outcome = problem.outcome(variables.to_design(point), jnp.asarray(0), data, "gaussian", None)
            return outcome.loss + 1e-2 * outcome.energy_kt_per_parameter

        return jax.grad(value)(point)

    leaves = jax.tree.leaves(slope(variables.start()))
    assert leaves and all(np.isfinite(leaf).all() for leaf in leaves)
    assert any(np.any(np.asarray(leaf) != 0) for leaf in leaves)


@pytest.mark.slow
def test_checkpointed_loop_is_a_loop_and_remembers_the_square_root():
    def body(carry):
        x, w = carry
        return jnp.tanh(w @ x), w

    w = jax.random.normal(jax.random.key(0), (64, 64)) / 8
    x = jnp.ones(64)

    def value(w, length):
        return jnp.sum(checkpointed_loop(body, (x, w), length)[0])

    def plain(w, length):
        return jnp.sum(jax.lax.scan(lambda c, _: (body(c), None), (x, w), None, length=length)[0][0])

    for length in (1, 2, 7, 16, 23):
        assert value(w, length) == plain(w, length)
        np.testing.assert_allclose(jax.grad(value)(w, length), jax.grad(plain)(w, length), rtol=1e-4, atol=1e-6)

    def temporary(function, length):
        compiled = jax.jit(jax.grad(function), static_argnums=1).lower(w, length).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    small, large = temporary(value, 256), temporary(value, 256 * 16)
    assert large < 6 * small  # √16 = 4, and what does not depend on the length
    assert temporary(plain, 256 * 16) > 8 * temporary(plain, 256)


@pytest.mark.slow
def test_evolution_points_the_same_way(x64):
    """On a quadratic function the expected estimate is the gradient itself; 400 pairs in 5 numbers scatter little."""
    matrix = jnp.diag(jnp.arange(1.0, 6.0))

    def function(x):
        return 0.5 * x @ matrix @ x, None

    point = jnp.array([1.0, -1.0, 0.5, 2.0, -0.3])
    _, estimate = value_and_gradient(function, "evolution", pairs=400, spread=0.05)(point, jax.random.key(0))
    exact = matrix @ point
    # For a quadratic function the variance of one pair's component i is |gradient|² + gradient_i².
    error = jnp.sqrt((jnp.sum(exact**2) + exact**2) / 400)
    assert jnp.all(jnp.abs(estimate - exact) < 5.5 * error)


@pytest.mark.slow
def test_truncation_cuts_the_weights_but_not_the_ledger(problem):
    design = problem.design(limjax.SplineBarrier([10.0, 14.0], 36))
    variables = Variables(design)
    data = problem.data("validation")

    def slopes(window):
        def value(point):
            outcome = problem.outcome(variables.to_design(point), jnp.asarray(0), data, "gaussian", window)
            return outcome.loss, outcome.heat_kt_per_parameter, outcome.actuation_kt_per_parameter

        return [slope["knots"] for slope in jax.jit(jax.jacrev(value))(variables.start())]

    whole, cut = slopes(None), slopes(6)
    assert not np.allclose(whole[0], cut[0], rtol=0.1)
    # The heat's direct dependence on the barrier, 2 d² / A summed, survives.
    assert (np.asarray(cut[1]) > 0).all()
    # A spline follows nothing: its work knows no weights, and no cut changes its derivative.
    np.testing.assert_allclose(cut[2], whole[2], rtol=1e-5, atol=1e-6)


def test_the_work_of_a_rising_barrier_telescopes_through_the_cuts():
    """Its derivative is that of the free energy at the end less that at the start, wherever a run is cut."""
    cell, nothing = limjax.ArrheniusCell(), [jnp.zeros(3)]
    static = limjax.StaticBarrier(10.0)

    def work(heights):
        barrier, total = init_barrier(static, nothing, Blocks(nothing)), 0.0
        for step in range(2):
            barrier = barrier._replace(policy=eqx.tree_at(lambda b: b.height, static, heights[step]))
            inputs = BarrierInputs(jnp.asarray(step), None, nothing, nothing, cell)
            barrier, done, _ = move_barrier(barrier, inputs, Blocks(nothing))
            # Of a memory nothing else matters here.
            _, state = _forget((nothing, LearningInMemoryState(*[()] * 2, barrier, *[()] * 5)))
            barrier, total = state.barrier, total + leaf_sums({"work": done}, Blocks(nothing))["work"][0] / 3
        return total

    value, slope = jax.jit(jax.value_and_grad(work))(jnp.array([10.0, 15.0]))
    halves = np.array([5.0, 7.5])
    # The free energy of the cosine landscape, ln Z = ln I0(B/2) - B/2, and its derivative; the finite-time excess is 1e-8 kT.
    energies, slopes = -np.log(i0e(halves)), 0.5 - 0.5 * i1e(halves) / i0e(halves)
    np.testing.assert_allclose(value, energies[1] - energies[0], rtol=1e-5)
    np.testing.assert_allclose(slope, [-slopes[0], slopes[1]], rtol=1e-5)


# -- what a run gives --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_outcomes_are_those_of_training(problem):
    """The same seed gives the same run as `limjax.train`, hop for hop up to Adam's 1e-20."""
    design = problem.design(limjax.LyapunovBarrier(11.0))
    evaluation = evaluate(problem, design, [3, 4], hops="gaussian")
    run = train_design(problem, design, 3, hops="gaussian")
    assert evaluation.heat_kt_per_parameter[0] == pytest.approx(run.summary["heat_kt_per_parameter"], rel=1e-4)
    assert evaluation.actuation_kt_per_parameter[0] == pytest.approx(
        run.summary["actuation_kt"] / problem.parameters, rel=1e-4
    )
    assert evaluation.loss[0] == pytest.approx(run.summary["test_loss"], rel=1e-3)
    assert evaluation.loss[0] != evaluation.loss[1]


@pytest.mark.slow
def test_a_tuned_learning_rate_can_be_trained_with(problem):
    design = problem.design(limjax.LyapunovBarrier(11.0))
    knots = jnp.linspace(0.5, -0.7, 8)
    design = eqx.tree_at(lambda d: d.log_rate, design, knots)
    expected = evaluate(problem, design, [3], hops="gaussian")
    settings = dict(hops="gaussian", steps=problem.steps, batch_size=problem.batch_size, seed=3, cell=problem.cell)
    settings |= dict(learning_rate=problem.learning_rate, barrier=design.barrier, compare=())
    runs = [limjax.train(problem.task, **settings, learning_rate_factor=f) for f in (np.exp(knots).tolist(), None)]
    assert runs[0].summary["heat_kt_per_parameter"] == pytest.approx(expected.heat_kt_per_parameter[0], rel=1e-4)
    assert runs[1].summary["heat_kt_per_parameter"] != pytest.approx(expected.heat_kt_per_parameter[0], rel=0.05)
    with pytest.raises(ValueError, match=r"at least two positive numbers, got \[1.0\]"):
        limjax.train(problem.task, **settings, learning_rate_factor=[1.0])


@pytest.mark.slow
def test_learned_rule_starts_as_the_fisher_barrier_without_damping(problem):
    price = 1e6
    a = evaluate(problem, limjax.LearnedBarrier.from_theory(price, 36), [0], hops="gaussian")
    b = evaluate(problem, limjax.FisherBarrier(price, damping=0.0), [0], hops="gaussian")
    np.testing.assert_allclose(a.heat_kt_per_parameter, b.heat_kt_per_parameter, rtol=1e-4)
    np.testing.assert_allclose(a.actuation_kt_per_parameter, b.actuation_kt_per_parameter, rtol=1e-3)
