"""Random parameter trees under random optax chains: what comes out, and what is charged, against NumPy in float64."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

import limjax

pytestmark = pytest.mark.optax

STEPS = 3
LSB, ATTEMPTS = 2.0**-10, 1e6
CELL = limjax.ArrheniusCell(lsb=LSB, attempt_rate=1e9, step_time=1e-3)
# ln g is a float32 number of up to 30, right to 2e-6; where the request is small the heat is as wrong as g itself.
ROUNDING = 1e-5


class Leaf:
    """A leaf that has no numbers yet: its shape, its dtype and the power of ten of its gradients."""

    def __init__(self, shape, dtype, power):
        self.shape, self.dtype, self.power = shape, dtype, power

    def __repr__(self):
        return f"{self.dtype}{list(self.shape)} 1e{self.power}"

    def draw(self, rng, scale=1.0, dtype=None):
        return jnp.asarray(scale * rng.normal(size=self.shape), dtype or self.dtype)


class Named(NamedTuple):
    """Some containers are classes."""

    weight: object
    bias: object


LEAVES = st.builds(
    Leaf,
    st.sampled_from([(), (1,), (3,), (2, 3), (4, 1, 2), (0,), (0, 4)]),
    st.sampled_from(["float32", "bfloat16", "float16"]),
    st.integers(-4, 1),
)


CONTAINERS = {
    "dict": lambda parts: dict(zip(["w9", "b", "w10", "a", "c", "w1", "x", "y", "z"], parts)),
    "list": list,
    "tuple": tuple,
    "named": lambda parts: Named(parts[0], parts[1:]),
}


@st.composite
def trees(draw):
    """Two to five leaves among Nones and empty containers, nested up to four deep."""
    parts = draw(st.lists(LEAVES, min_size=2, max_size=5)) + draw(
        st.lists(st.sampled_from([None, {}, [], ()]), max_size=3)
    )
    parts = draw(st.permutations(parts))
    for kind in draw(st.lists(st.sampled_from(sorted(CONTAINERS)), max_size=3)):
        size = draw(st.integers(1, len(parts)))
        parts = [*parts[size:], CONTAINERS[kind](parts[:size])]
    return CONTAINERS[draw(st.sampled_from(sorted(CONTAINERS)))](parts)


def with_axes(tree):
    return jax.tree.map(lambda x: jnp.ndim(x) > 0, tree)


def without_axes(tree):
    return jax.tree.map(lambda x: jnp.ndim(x) == 0, tree)


BEFORE = {
    "nothing": optax.identity(),
    "clip": optax.clip(0.3),
    "global norm": optax.clip_by_global_norm(1.0),
    "decayed weights": optax.add_decayed_weights(0.1),
    "masked": optax.masked(optax.scale(0.5), with_axes),
    "masked to zero": optax.masked(optax.set_to_zero(), without_axes),
    "centred": optax.centralize(),
}
OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "nesterov": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": optax.adam(1e-2),
    "adam in bfloat16": optax.adam(1e-2, mu_dtype=jnp.bfloat16),
    "adamw": optax.adamw(1e-2, weight_decay=0.1),
    "rmsprop": optax.rmsprop(1e-2, momentum=0.9),
    "lion": optax.lion(1e-2),
    "scheduled": optax.sgd(optax.cosine_decay_schedule(0.1, STEPS)),
    "scheduled after": optax.chain(optax.adam(1e-2), optax.scale_by_schedule(optax.linear_schedule(1.0, 0.1, STEPS))),
    "parts": optax.multi_transform({True: optax.sgd(0.1, momentum=0.9), False: optax.adam(1e-2)}, with_axes),
}
BARRIERS = {
    "open": limjax.StaticBarrier(6.0),
    "shut": limjax.StaticBarrier(45.0),
    "rising": limjax.ScheduledBarrier(optax.linear_schedule(5.0, 20.0, STEPS)),
    "with the loss": limjax.LyapunovBarrier(10.0, decay=0.0),
}
OPTIONS = st.fixed_dictionaries(
    {
        "granularity": st.sampled_from(["parameter", "leaf"]),
        "compare": st.sampled_from([(), (), None]),
        "compensated": st.booleans(),
        "track": st.sampled_from([("heat", "path", "saturated", "actuation"), ("heat",), ("path", "saturated"), ()]),
    }
)


def described(tree):
    return jax.tree.structure(tree), [(jnp.shape(x), jnp.result_type(x)) for x in jax.tree.leaves(tree)]


def closed_form(update, barrier):
    """Heat, path, hops and saturations of one update in float64, element by element."""
    d = np.asarray(update, np.float64) / LSB
    g = ATTEMPTS * np.exp(-barrier)
    return {
        "heat": 2 * d * np.arcsinh(d / (2 * g)),
        "path": np.abs(d),
        "hops": np.sqrt(d**2 + 4 * g**2),
        "saturated": (np.abs(d) > ATTEMPTS * -np.expm1(-2 * barrier)).astype(np.float64),
    }


def assert_close(charged, reference, dtype, name):
    """Numbers agree where they are finite: an optimizer in float16 may well divide by zero, and then no heat is right."""
    charged, reference = (np.where(np.isfinite(x), x, np.nan) for x in (charged, reference))
    np.testing.assert_allclose(charged, reference, ROUNDING, err_msg=name)


# Every example compiles, and shrinking one compiles for minutes; trees are small already.
@pytest.mark.slow
@settings(max_examples=16, derandomize=True, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(
    trees(),
    st.sampled_from(sorted(BEFORE)),
    st.sampled_from(sorted(OPTIMIZERS)),
    st.booleans(),
    st.sampled_from(sorted(BARRIERS)),
    OPTIONS,
    st.integers(0, 2**16),
)
def test_updates_are_the_optimizers_and_charges_the_closed_form(
    tree, before, optimizer, rejects, barrier, options, seed
):
    rng = np.random.default_rng(seed)
    # Gradients of another dtype than the parameters, where optax's own state does not change its dtype with them.
    dtype = "float32" if optimizer == "sgd" else None
    params = jax.tree.map(lambda leaf: leaf.draw(rng), tree)

    def gradients():
        return jax.tree.map(lambda leaf: leaf.draw(rng, 10.0**leaf.power, dtype), tree)

    chain = optax.chain(BEFORE[before], OPTIMIZERS[optimizer])
    once, after = jax.eval_shape(chain.update, gradients(), chain.init(params), params)
    assume(described(after) == described(chain.init(params)))  # else optax itself compiles twice
    # `apply_if_finite` takes only chains that return what they are given. It rejects the second step, where there is something.
    rejects = rejects and described(once) == described(gradients())
    bare = optax.apply_if_finite(chain, 5) if rejects else chain
    rejected = 1 if rejects and any(leaf.size for leaf in jax.tree.leaves(params)) else None
    opt = limjax.learning_in_memory(bare, CELL, BARRIERS[barrier], **options)
    traces = []

    @jax.jit
    def both(gradient, bare_state, state, params, loss):
        traces.append(1)
        return bare.update(gradient, bare_state, params), opt.update(gradient, state, params, value=loss)

    bare_state, state = bare.init(params), opt.init(params)
    initial = described(state)
    sums = [dict.fromkeys(closed_form(0.0, 1.0), np.zeros(leaf.shape)) for leaf in jax.tree.leaves(params)]
    for i in range(STEPS):
        gradient = gradients()
        if i == rejected:
            gradient = jax.tree.map(lambda g: g * jnp.nan, gradient)
        (wanted, bare_state), (updates, state) = both(gradient, bare_state, state, params, jnp.float32(2.0 / (i + 1)))
        assert described(updates) == described(wanted) and described(state) == initial
        jax.tree.map(np.testing.assert_array_equal, updates, wanted)
        height = float(limjax.get_barrier(state))
        if i == rejected:
            assert not any(np.any(u) for u in jax.tree.leaves(updates))
            continue  # nothing is charged
        for leaf, update in zip(sums, jax.tree.leaves(wanted)):
            for name, value in closed_form(update, height).items():
                leaf[name] = leaf[name] + value
        params = optax.apply_updates(params, updates)
    assert len(traces) == 1

    ledger = limjax.get_ledger(state)
    assert int(ledger.steps) == STEPS - (rejected is not None)
    dtypes = [str(leaf.dtype) for leaf in jax.tree.leaves(params)]
    for name in ("heat", "path", "hops", "saturated"):
        totals = limjax.leaf_totals(ledger, name)
        assert limjax.total(ledger, name) == totals.sum() or np.isnan(totals).any()
        for total, leaf, dtype in zip(totals, sums, dtypes):
            assert_close(total, leaf[name].sum(), dtype, name)
        if name in options["track"] and options["granularity"] == "parameter":
            each = limjax.per_parameter(ledger, name)
            assert jax.tree.structure(each) == jax.tree.structure(params)
            for value, total, leaf, dtype in zip(jax.tree.leaves(each), totals, sums, dtypes):
                assert_close(value, leaf[name], dtype, name)
                np.testing.assert_allclose(value.sum(), total, 1e-12, err_msg=name)
