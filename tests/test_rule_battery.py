"""What every barrier and every rule of `ConsolidatingBarrier` must stand: gradients that are no number, and states that are given away."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from barrier_runs import CELL, heights, inputs

import limjax
from limjax.barriers import barrier_from_name, barrier_names
from limjax.barriers._rules import RULES


@pytest.fixture(params=RULES.values(), ids=lambda kind: kind.name)
def barrier(request):
    return limjax.ConsolidatingBarrier(14.0, request.param())


def _steps(barrier, gradients, request=3.0):
    """State and heights after some steps, the end of a task, and one step more."""
    weights = [jnp.array([0.5, -1.0, 0.2, 0.0])]
    state = barrier.init(weights)
    for k, gradient in enumerate([*gradients, jnp.zeros(4)]):
        drift = [-request * gradient]
        height, state = barrier.evaluate(inputs(k, None, drift, [gradient])._replace(weights=weights), state)
        weights = [w - 0.1 * jnp.where(jnp.isfinite(g) & (g < 1e10), g, 0.0) for w, g in zip(weights, [gradient])]
        if k + 1 == len(gradients):
            state = barrier.task_ended(state, weights)
    return height[0], state


def test_a_gradient_that_is_no_number_teaches_nothing(barrier):
    """NaN, infinities and numbers without a square in one batch: as if there were none there, and the batches around count."""
    wrong = jnp.array([jnp.nan, 2.0, 1e30, -jnp.inf])
    around = [jnp.array([1.0, 2.0, -1.0, 0.5]), jnp.array([0.3, 0.2, 0.1, 0.0])]
    found, state = _steps(barrier, [around[0], wrong, around[1]])
    want, _ = _steps(barrier, [around[0], jnp.where(jnp.abs(wrong) < 1e10, wrong, 0.0), around[1]])
    np.testing.assert_array_equal(found, want)
    assert np.isfinite(found).all() and (found > 14.0).any()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    # Nor does it spoil what the rule's numbers are tuned by.
    slopes = eqx.filter_grad(lambda one: jnp.sum(_steps(one, [around[0], wrong, around[1]])[0]))(barrier)
    assert all(np.isfinite(slope) for slope in jax.tree.leaves(slopes))
    assert max(abs(float(slope)) for slope in jax.tree.leaves(slopes.rule)) > 0


def test_a_state_that_is_given_away_takes_nothing_with_it(barrier):
    """A donated state frees its arrays: none of them may be the caller's, or stand in it twice, also where nothing is compiled."""
    weights, gradient, drift = ([jnp.array([0.5, -1.0])] for _ in range(3))
    given = inputs(0, None, drift, gradient)._replace(weights=weights)
    _, state = barrier.evaluate(given, barrier.init(weights))
    for found in (state, barrier.task_ended(state, weights)):
        leaves = jax.tree.leaves(found)
        assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)
    for leaf in jax.tree.leaves(state):
        leaf.delete()
    assert not any(x.is_deleted() for x in (*weights, *gradient, *drift))


@pytest.mark.parametrize("name", [*barrier_names(), "rate-matched:granularity=parameter", "moment:granularity=leaf"])
def test_one_batch_that_is_no_number_is_not_for_good(name):
    """After it barriers are numbers again, at once; without it they would stand within a kT or two."""
    barrier = barrier_from_name(name, CELL, 10, 0.1)
    batches = [jnp.array([0.5, 3.0]), jnp.array([jnp.nan, 2.0]), jnp.array([0.3, -1.0])]

    def after(some):
        items = [inputs(k, 1.0, [-g], [g])._replace(weights=[jnp.array([0.2, -0.4])]) for k, g in enumerate(some)]
        return heights(barrier, items)[-1]

    found = after(batches)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, after([batches[0], jnp.zeros(2), batches[2]]), atol=2.0)
