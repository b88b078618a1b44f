"""Every optimizer inside, every wrapper outside: the same updates, states and ledgers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from wrapped import BARRIERS, CELL, INNER, OUTER, STEPS, assert_same, lim, make_params, run, signature

import limjax

pytestmark = pytest.mark.optax


# The battery around optimizers.


SLOW = {
    "nesterov", "adamax", "nadam", "adadelta", "lars", "yogi", "adabelief", "fromage", "noisy_sgd", "prodigy", "muon",
    "adagrad", "radam", "amsgrad", "novograd", "lamb", "lion", "rmsprop", "sm3",
}  # fmt: skip


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in INNER]
)
def wrapped(request):
    """One optimizer alone and wrapped, compiled and eager."""
    make = INNER[request.param]
    params = make_params()
    return {
        "make": make,
        "alone": run(make(), params),
        "jitted": run(lim(make(), compare=()), params),
        "eager": run(lim(make(), compare=()), params, jit=False),
        "eager_alone": run(make(), params, jit=False),
    }


@pytest.mark.representatives(5)
def test_mean_mode_returns_the_optimizers_updates_bit_for_bit(wrapped):
    assert_same(wrapped["jitted"][0], wrapped["alone"][0])
    assert_same(wrapped["eager"][0], wrapped["eager_alone"][0])
    assert_same(wrapped["jitted"][2].inner, wrapped["alone"][2])


@pytest.mark.representatives(4)
def test_compiled_and_eager_agree(wrapped):
    """As closely as the optimizer agrees with itself, which is to rounding for most and to a sign for the others."""
    rounding = max(
        float(jnp.max(jnp.abs(x - y), initial=0.0))
        for x, y in zip(jax.tree.leaves(wrapped["eager"][0]), jax.tree.leaves(wrapped["jitted"][0]))
    )
    compiled, eager = wrapped["jitted"][2].ledger, wrapped["eager"][2].ledger
    for name in ("heat", "path", "hops", "actuation"):
        levels = rounding * 2**10 * STEPS
        np.testing.assert_allclose(
            limjax.leaf_totals(compiled, name), limjax.leaf_totals(eager, name), rtol=1e-4, atol=1e-5 + 100 * levels
        )


@pytest.mark.representatives(4)
def test_update_keeps_the_signature_of_the_state(wrapped):
    opt = lim(wrapped["make"](), compare=())
    start = opt.init(make_params())
    shapes = jax.eval_shape(opt.init, make_params())
    assert jax.tree.structure(shapes) == jax.tree.structure(start)
    for x, y in zip(jax.tree.leaves(shapes), jax.tree.leaves(start)):
        assert x.shape == y.shape and x.dtype == y.dtype and x.weak_type == jax.typeof(y).weak_type
    # What the wrapped optimizer does to its own state is its own.
    kept = signature(wrapped["alone"][2]) == signature(wrapped["make"]().init(make_params()))
    for name in ("jitted", "eager"):
        end = wrapped[name][2]
        assert signature(end._replace(inner=None)) == signature(start._replace(inner=None))
        assert not kept or signature(end) == signature(start)
    if kept:

        def step(carry, _):
            params, state = carry
            updates, state = opt.update(params, state, params, value=jnp.float32(1.0))
            return (optax.apply_updates(params, updates), state), None

        jax.eval_shape(lambda carry: jax.lax.scan(step, carry, None, length=3), (make_params(), start))


def test_ledger_counts_the_updates_of_every_optimizer(wrapped):
    """Path and heat from the updates themselves, in float64."""
    history, _, state = wrapped["jitted"]
    ledger = limjax.get_ledger(state)
    assert int(ledger.steps) == STEPS
    path = sum(np.abs(np.asarray(u, np.float64)).sum() for step in history for u in jax.tree.leaves(step)) * 2**10
    assert limjax.total(ledger, "path") == pytest.approx(path, rel=1e-5)
    assert np.isfinite(limjax.total(ledger, "heat")) and limjax.total(ledger, "heat") >= 0
    assert limjax.total(ledger, "heat") <= limjax.total(ledger, "path") * 90


def test_map_params_over_the_state(wrapped):
    opt = lim(wrapped["make"](), compare=())
    state = opt.init(make_params())
    try:
        optax.tree.map_params(wrapped["make"](), lambda x: x, wrapped["make"]().init(make_params()))
    except Exception:
        pytest.skip("optax.tree.map_params does not take this optimizer by itself")
    same = optax.tree.map_params(opt, lambda x: x + 1, state)
    assert jax.tree.structure(same) == jax.tree.structure(state)
    np.testing.assert_array_equal(same.ledger.start["dense"]["w"], state.ledger.start["dense"]["w"] + 1)


# Inside wrappers.


@pytest.mark.representatives(3)
@pytest.mark.parametrize("name", OUTER)
def test_inside_a_wrapper(name):
    opt = OUTER[name](lim(optax.sgd(0.1), compare=()))
    params = make_params()
    history, _, state = run(opt, params)
    ledger = limjax.get_ledger(state)
    assert 1 <= int(ledger.steps) <= STEPS
    assert limjax.total(ledger, "heat") > 0
    assert 5.0 < float(limjax.get_barrier(state)) < 20.0
    assert_same(history, run(OUTER[name](optax.sgd(0.1)), params)[0])


def test_several_ledgers_in_multi_transform():
    labels = {"dense": {"w": "a", "b": "b"}, "gain": "b"}
    transforms = {"a": lim(optax.sgd(0.1)), "b": lim(optax.adam(0.01)), "unused": lim(barrier=limjax.FisherBarrier())}
    _, _, state = run(optax.multi_transform(transforms, labels), make_params(), steps=2)
    ledgers = limjax.get_ledgers(state)
    assert sorted(sum(x.size for x in jax.tree.leaves(ledger.start)) for ledger in ledgers.values()) == [0, 4, 12]
    assert [int(ledger.steps) for ledger in ledgers.values()] == [2, 2, 2]
    with pytest.raises(ValueError, match=r"3 ledgers.*get_ledgers"):
        limjax.get_ledger(state)


def test_no_ledger_is_an_error():
    with pytest.raises(ValueError, match=r"no ledger.*optimizer.init"):
        limjax.get_ledger(optax.adam(0.1).init(make_params()))
    with pytest.raises(ValueError, match="no limjax state"):
        limjax.get_barrier(())


def test_state_is_read_by_name():
    _, _, state = run(optax.chain(optax.clip(1.0), lim(compare=())), make_params(), steps=1, jit=False)
    assert optax.tree.get(state, "ledger") is limjax.get_ledger(state)
    assert float(optax.tree.get(state, "cell").temperature) == 300.0
    assert float(optax.tree.get(state, "policy").start) == 10.0
    warmer = optax.tree.set(state, cell=limjax.ArrheniusCell(lsb=2**-9))
    assert float(optax.tree.get(warmer, "cell").lsb) == 2**-9


@pytest.mark.parametrize("name", BARRIERS)
def test_map_params_with_every_barrier(name):
    opt = lim(barrier=BARRIERS[name](), optimizer_memory=(CELL, BARRIERS["static"]()), compare={"x": BARRIERS[name]()})
    state = opt.init(make_params())
    same = optax.tree.map_params(opt, lambda x: x, state)
    assert_same(same, state)


# What is not tracked per parameter is summed per leaf.


@pytest.mark.representatives(1)
@pytest.mark.parametrize("track", [("heat",), ("path", "saturated"), ()])
def test_totals_do_not_depend_on_what_is_tracked(track):
    params = make_params()
    ledgers = [
        limjax.get_ledger(run(lim(barrier=limjax.FisherBarrier(1e6), track=kept), params)[2])
        for kept in (("heat", "path", "saturated", "actuation"), track)
    ]
    assert set(ledgers[1].blocks) == set(track)
    for name in ("heat", "path", "saturated", "actuation"):
        full, part = (limjax.leaf_totals(ledger, name) for ledger in ledgers)
        np.testing.assert_allclose(part, full, rtol=1e-6)
    with pytest.raises(ValueError, match=r"keeps actuation per leaf, not per parameter"):
        limjax.per_parameter(ledgers[1], "actuation")


@pytest.mark.parametrize("track", ["heat", ("warmth",)])
def test_unknown_sums_are_refused(track):
    with pytest.raises(ValueError, match=r'track must name some of heat, path.*track=\("heat",\)'):
        lim(track=track)
