"""Barriers and comparisons of a user's own, in every form they may return, and states that were edited by hand."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import limjax
from limjax.memory import Field, PerLeaf, PerParameter, Uniform

pytestmark = pytest.mark.optax

CELL = limjax.ArrheniusCell(lsb=2**-10)
TREE = {"a": jnp.ones(4), "b": jnp.ones((2, 3))}


class Returns(limjax.AbstractBarrier):
    """A barrier that returns what it was made with, under the scope it was made with."""

    name: ClassVar[str] = "returns"
    value: Any
    said: str = eqx.field(static=True)

    @property
    def scope(self):
        return self.said

    def evaluate(self, inputs, state):
        return self.value, state


class Charges(limjax.AbstractComparison):
    """A comparison that charges what it was made with."""

    name: ClassVar[str] = "charges"
    words: ClassVar[str] = "a fixed price"
    value: Any

    def charge(self, step, state):
        return self.value, self.value, state


def step(barrier, params, compare=()):
    opt = limjax.learning_in_memory(optax.sgd(2**-8), CELL, barrier, compare=compare)
    _, state = opt.update(jax.tree.map(jnp.ones_like, params), opt.init(params), params)
    return state


HEIGHTS = [10 + jnp.arange(4.0), 20 + jnp.arange(6.0).reshape(2, 3)]


@pytest.mark.representatives(3)
@pytest.mark.parametrize(
    ("scope", "value", "heights"),
    [
        ("global", 12.0, [12.0, 12.0]),
        ("leaf", jnp.asarray([12.0, 13.0]), [12.0, 13.0]),
        ("leaf", [jnp.asarray(12.0), jnp.asarray(13.0)], [12.0, 13.0]),
        ("leaf", jnp.asarray(12.0), [12.0, 12.0]),
        ("parameter", HEIGHTS, HEIGHTS),
        ("parameter", tuple(HEIGHTS), HEIGHTS),
        ("parameter", [jnp.asarray(12.0), HEIGHTS[1]], [12.0, HEIGHTS[1]]),
        ("parameter", 12.0, [12.0, 12.0]),
    ],
)
def test_every_form_of_a_barrier_is_its_heights(scope, value, heights):
    heat = limjax.per_parameter(limjax.get_ledger(step(Returns(value, scope), TREE)))
    for (name, leaf), height in zip(TREE.items(), heights):
        drift = jnp.full(leaf.shape, -4.0)
        np.testing.assert_allclose(
            heat[name], CELL.heat(drift, jnp.broadcast_to(jnp.asarray(height), leaf.shape)), rtol=1e-6
        )


def test_one_array_is_the_barrier_of_one_array_of_parameters():
    heat = limjax.per_parameter(limjax.get_ledger(step(Returns(HEIGHTS[0], "parameter"), jnp.ones(4))))
    np.testing.assert_allclose(heat, CELL.heat(jnp.full(4, -4.0), HEIGHTS[0]), rtol=1e-6)


@pytest.mark.parametrize(
    ("scope", "value", "said"),
    [
        ("global", jnp.ones(3), '"global" returns one number .* shape \\(3,\\)'),
        ("leaf", jnp.ones(3), '"leaf" returns an array of shape \\(2,\\) .* shape \\(3,\\)'),
        ("parameter", jnp.ones(2), '"parameter" returns a list of 2 arrays .* a list of 1'),
        ("parameter", HEIGHTS[:1], "a list of 2 arrays .* a list of 1"),
        ("parameter", [*HEIGHTS, HEIGHTS[0]], "a list of 2 arrays .* a list of 3"),
    ],
)
def test_wrong_forms_of_a_barrier_are_named(scope, value, said):
    with pytest.raises(ValueError, match=said):
        step(Returns(value, scope), TREE)


@pytest.mark.parametrize(
    "value",
    [
        Uniform(jnp.asarray(2.0)),
        2.0,
        PerLeaf(jnp.asarray([2.0, 2.0])),
        jnp.asarray([2.0, 2.0]),
        PerParameter([jnp.full(10, 2.0)]),
        [jnp.full(10, 2.0)],
    ],
)
def test_every_form_of_a_comparison_is_its_costs(value):
    kept = limjax.get_ledger(step(limjax.StaticBarrier(12.0), TREE, compare={"own": Charges(value)})).compare["own"]
    for entry in kept:
        np.testing.assert_allclose(entry.float64(), [8.0, 12.0], rtol=1e-6)


def test_a_comparison_that_charges_anything_else_is_refused():
    with pytest.raises(TypeError, match=r"field of limjax\.memory"):
        step(limjax.StaticBarrier(12.0), TREE, compare={"own": Charges(jnp.ones((2, 2)))})


@pytest.mark.parametrize(
    "barrier", [limjax.StaticBarrier(12.0), limjax.RateMatchedBarrier(1.0)], ids=["static", "per parameter"]
)
def test_a_height_that_was_put_in_by_hand(barrier):
    state = step(barrier, TREE)
    height = state.barrier.height
    bare = eqx.tree_at(lambda s: s.barrier.height, state, height.value, is_leaf=lambda x: isinstance(x, Field))
    assert float(limjax.get_barrier(bare)) == float(limjax.get_barrier(state))
    opt = limjax.learning_in_memory(optax.sgd(2**-8), CELL, barrier, compare=())
    after = [opt.update(jax.tree.map(jnp.ones_like, TREE), s, TREE)[1] for s in (state, bare)]
    assert eqx.tree_equal(*after)


def test_fields_in_flax_files_of_before():
    flax = pytest.importorskip("flax.serialization")
    for field, earlier in (
        (PerParameter([jnp.ones(3), jnp.zeros(2)]), {"0": jnp.full(3, 5.0), "1": jnp.full(2, 6.0)}),
        (Uniform(jnp.asarray(1.0)), jnp.asarray(5.0)),
    ):
        read = flax.from_state_dict(field, earlier)
        assert type(read) is type(field) and float(jax.tree.leaves(read)[0].ravel()[0]) == 5.0
        again = flax.from_state_dict(field, flax.to_state_dict(read))
        assert eqx.tree_equal(again, read)


def test_what_is_shown_of_arrays_that_are_gone_or_many():
    barrier = limjax.StaticBarrier(jnp.asarray(10.0))
    barrier.height.delete()
    assert str(barrier) == "StaticBarrier(height=f32[])"
    assert str(limjax.StaticBarrier(jnp.ones((2, 2)))) == "StaticBarrier(height=[[1, 1], [1, 1]])"
    assert "lsb=0.0009765625" in str(CELL)


def test_modules_of_before_say_where_their_names_are():
    with pytest.raises(AttributeError, match=r"limjax has no 'levels'; what was there is in limjax\.memory\.levels"):
        _ = limjax.levels
