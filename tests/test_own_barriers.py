"""Barriers of a user's own, per parameter: they see arrays in their own shapes."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import limjax

pytestmark = pytest.mark.optax

CELL = limjax.ArrheniusCell(lsb=2**-6)
PARAMS = {"bias": jnp.zeros(4), "rows": jnp.zeros((3, 4)), "scalar": jnp.zeros(())}


class RowBarrier(limjax.AbstractBarrier):
    """Each row of an array stands higher the larger its requests were, summed over its steps."""

    name: ClassVar[str] = "rows"

    @property
    def scope(self):
        return "parameter"

    def init(self, params):
        return [jnp.zeros((*p.shape[:-1], 1) if p.ndim else ()) for p in jax.tree.leaves(params)]

    def evaluate(self, inputs, state):
        state = [
            old + (jnp.max(jnp.abs(d), axis=-1, keepdims=True) if d.ndim else jnp.abs(d))
            for old, d in zip(state, inputs.drift)
        ]
        assert [g.shape for g in inputs.gradient] == [d.shape for d in inputs.drift]
        return [9.0 + moved for moved in state], state


@pytest.mark.representatives(1)
@pytest.mark.parametrize("hops", ["mean", "exact"])
def test_a_barrier_per_row_sees_rows(hops):
    opt = limjax.learning_in_memory(optax.identity(), CELL, RowBarrier(), hops=hops, key=jax.random.key(0))
    state = opt.init(PARAMS)
    rng = np.random.default_rng(0)
    requests = jax.tree.map(lambda p: jnp.asarray(CELL.lsb * rng.normal(size=p.shape), jnp.float32), PARAMS)
    update = jax.jit(opt.update)
    for _ in range(2):
        _, state = update(requests, state)
    got = limjax.per_parameter(limjax.get_ledger(state))
    for name, request in requests.items():
        d = np.asarray(request / CELL.lsb, np.float64)
        largest = np.abs(d).max(axis=-1, keepdims=True) if d.ndim else np.abs(d)
        expected = sum(np.asarray(CELL.heat(d, 9.0 + k * largest)) for k in (1, 2))
        np.testing.assert_allclose(got[name], expected, rtol=1e-5)


def test_its_state_keeps_structure_shapes_and_work():
    opt = limjax.learning_in_memory(optax.identity(), CELL, RowBarrier())
    state = opt.init(PARAMS)
    requests = jax.tree.map(lambda p: jnp.full_like(p, CELL.lsb), PARAMS)
    shapes = jax.tree.map(jnp.shape, state)
    for _ in range(2):
        _, state = opt.update(requests, state)
        assert jax.tree.map(jnp.shape, state) == shapes
    work = limjax.per_parameter(limjax.get_ledger(state), "actuation")
    # From 10 to 11 kT at the second step, for every parameter.
    np.testing.assert_allclose(work["rows"], np.full((3, 4), float(CELL.actuation(10.0, 11.0))), rtol=1e-4)
