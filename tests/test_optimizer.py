"""One conformance battery for the transformation around optax optimizers, inside optax wrappers, in other libraries."""

import json
import os
import subprocess
import sys
import textwrap

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import limjax
from limjax.memory import _blocks as blocks
from limjax.memory.comparisons import BarrierComparison

pytestmark = pytest.mark.optax

CELL = limjax.ArrheniusCell(lsb=2**-10, attempt_rate=1e9, step_time=1e-3)

# Optimizers to wrap: name to factory.
INNER = {
    "sgd": lambda: optax.sgd(0.1),
    "momentum": lambda: optax.sgd(0.1, momentum=0.9),
    "nesterov": lambda: optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: optax.adam(0.01),
    "adamw": lambda: optax.adamw(optax.cosine_decay_schedule(0.01, 10)),
    "adamax": lambda: optax.adamax(0.01),
    "nadam": lambda: optax.nadam(0.01),
    "radam": lambda: optax.radam(0.01),
    "amsgrad": lambda: optax.amsgrad(0.01),
    "lion": lambda: optax.lion(0.01),
    "rmsprop": lambda: optax.rmsprop(0.01),
    "adagrad": lambda: optax.adagrad(0.1),
    "adadelta": lambda: optax.adadelta(1.0),
    "lamb": lambda: optax.lamb(0.01),
    "lars": lambda: optax.lars(0.01),
    "sm3": lambda: optax.masked(optax.sm3(0.01), {"dense": True, "gain": False}),
    "yogi": lambda: optax.yogi(0.01),
    "novograd": lambda: optax.novograd(0.01),
    "adabelief": lambda: optax.adabelief(0.01),
    "fromage": lambda: optax.fromage(0.01),
    "noisy_sgd": lambda: optax.noisy_sgd(0.01, key=jax.random.key(0)),
    "adafactor": lambda: optax.adafactor(0.01, min_dim_size_to_factor=2),
    "prodigy": lambda: optax.contrib.prodigy(1.0),
    "muon": lambda: optax.contrib.muon(0.01),
    "schedule_free": lambda: optax.contrib.schedule_free(optax.sgd(0.1), 0.1, b1=0.9),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01)),
    "multi_steps": lambda: optax.MultiSteps(optax.adam(0.01), 2).gradient_transformation(),
    "masked": lambda: optax.masked(optax.adam(0.01), {"dense": {"w": True, "b": False}, "gain": True}),
    "multi_transform": lambda: optax.multi_transform(
        {"a": optax.adam(0.01), "b": optax.sgd(0.1)}, {"dense": {"w": "a", "b": "b"}, "gain": "b"}
    ),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.01),
    "apply_if_finite": lambda: optax.apply_if_finite(optax.adam(0.01), 3),
    "plateau": lambda: optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(patience=1, cooldown=0)),
}


def multi_steps(transformation, every):
    """`optax.MultiSteps` as a transformation that keeps extra arguments."""
    wrapper = optax.MultiSteps(transformation, every)
    return optax.GradientTransformationExtraArgs(wrapper.init, wrapper.update)


# Wrappers to be inside of: name to a function of the transformation.
OUTER = {
    "chain": lambda t: optax.chain(optax.clip(1.0), t, optax.scale(1.0)),
    "multi_steps": lambda t: multi_steps(t, 2),
    "masked": lambda t: optax.masked(t, {"dense": {"w": True, "b": False}, "gain": True}),
    "inject_hyperparams": lambda t: optax.inject_hyperparams(lambda scale: optax.chain(t, optax.scale(scale)))(
        scale=1.0
    ),
    "apply_if_finite": lambda t: optax.apply_if_finite(t, 3),
    "schedule_free": lambda t: optax.contrib.schedule_free(t, 0.1, b1=0.9),
    "conditionally_mask": lambda t: optax.transforms.conditionally_mask(t, lambda step: step < 100),
    "flatten": lambda t: optax.flatten(t),
    "nested": lambda t: optax.chain(optax.chain(optax.apply_if_finite(optax.chain(t), 3))),
}

STEPS = 3


def make_params(dtype=jnp.float32):
    return {
        "dense": {"w": jnp.linspace(-1, 1, 12, dtype=dtype).reshape(4, 3), "b": jnp.full(3, 0.5, dtype)},
        "gain": jnp.asarray(1.5, dtype),
    }


def loss_of(params):
    return sum(jnp.sum(jnp.square(p.astype(jnp.float32) - 0.3)) for p in jax.tree.leaves(params))


loss_and_gradient = jax.jit(jax.value_and_grad(loss_of))
apply_updates = jax.jit(optax.apply_updates)


def gradient_of(params):
    return jax.grad(loss_of)(params)


def run(opt, params, steps=STEPS, jit=True, state=None):
    """Updates of every step, parameters and state; the loss is passed on as `value` throughout.

    A compiled update is traced once: every run is also a test that nothing recompiles.
    """
    opt = optax.with_extra_args_support(opt)
    traced = []

    def traced_update(*args, **extra_args):
        traced.append(None)
        return opt.update(*args, **extra_args)

    update = jax.jit(traced_update) if jit else opt.update
    state = opt.init(params) if state is None else state
    history = []
    for _ in range(steps):
        loss, gradient = loss_and_gradient(params)
        updates, state = update(gradient, state, params, value=loss)
        params = apply_updates(params, updates)
        history.append(updates)
    assert not jit or len(traced) == 1 or signature(state) != signature(opt.init(params))
    return history, params, state


def signature(tree):
    """Structure, shapes, dtypes and weak types."""
    return jax.tree.structure(tree), [
        (jnp.shape(x), jnp.result_type(x), jax.typeof(x).weak_type) for x in jax.tree.leaves(tree)
    ]


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def assert_close(a, b, rtol=2e-5, atol=1e-6):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_allclose(np.asarray(x, np.float64), np.asarray(y, np.float64), rtol=rtol, atol=atol)


def lim(inner=None, barrier=None, **options):
    return limjax.learning_in_memory(
        optax.adam(0.01) if inner is None else inner,
        CELL,
        limjax.LyapunovBarrier(10.0, decay=0.5) if barrier is None else barrier,
        **options,
    )


BARRIERS = {
    "static": lambda: limjax.StaticBarrier(12.0),
    "scheduled": lambda: limjax.ScheduledBarrier(optax.linear_schedule(8.0, 20.0, 10)),
    "lyapunov": lambda: limjax.LyapunovBarrier(9.0),
    "rate-matched": lambda: limjax.RateMatchedBarrier(2.0),
    "rate-matched-leaf": lambda: limjax.RateMatchedBarrier(2.0, granularity="leaf"),
    "fisher": lambda: limjax.FisherBarrier(1e3),
    "fisher-jump": lambda: limjax.FisherBarrier(1e3, smooth_speed=False),
    "fowler-nordheim": lambda: limjax.FowlerNordheimBarrier(9.0, 2e-3),
    "spline": lambda: limjax.SplineBarrier([8.0, 12.0, 10.0], 5),
    "spline-rows": lambda: limjax.SplineBarrier([[8.0, 12.0], [9.0, 9.0], [10.0, 20.0]], 5),
}


# The battery around optimizers.


SLOW = {
    "nesterov", "adamax", "nadam", "adadelta", "lars", "yogi", "adabelief", "fromage", "noisy_sgd", "prodigy", "muon",
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
    with pytest.raises(ValueError, match="no ledger"):
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


# Numbers in the state are leaves.


def test_changing_a_number_in_the_state_does_not_recompile():
    opt = lim(barrier=limjax.StaticBarrier(10.0), compare={"other": limjax.FowlerNordheimBarrier()})
    params = make_params()
    traced = []

    @jax.jit
    def update(gradient, state, params):
        traced.append(None)
        return opt.update(gradient, state, params)

    state = opt.init(params)
    gradient = gradient_of(params)
    heats = []
    for change in (
        lambda s: s,
        lambda s: s._replace(cell=limjax.ArrheniusCell(lsb=2**-8)),
        lambda s: s._replace(cell=limjax.ArrheniusCell(temperature=77.0)),
        lambda s: s._replace(barrier=s.barrier._replace(policy=limjax.StaticBarrier(20.0))),
        lambda s: s._replace(
            compare={"other": s.compare["other"]._replace(policy=BarrierComparison(limjax.FowlerNordheimBarrier(2.0)))}
        ),
    ):
        _, new = update(gradient, change(state), params)
        heats.append(limjax.total(limjax.get_ledger(new)))
    assert len(traced) == 1
    assert heats[0] > heats[1] and heats[0] == heats[2] and heats[3] > heats[0]


@pytest.mark.representatives(4)
@pytest.mark.parametrize(
    ("name", "hops"), [*((name, "exact") for name in BARRIERS), ("fisher", "mean"), ("lyapunov", "gaussian")]
)
def test_signature_with_every_barrier_and_mode(name, hops):
    opt = lim(
        barrier=BARRIERS[name](),
        hops=hops,
        key=jax.random.key(1),
        compare={"itself": BARRIERS[name]()},
    )
    params = make_params()
    start = opt.init(params)
    history, _, end = run(opt, params, steps=3)
    assert signature(start) == signature(end)
    ledger = limjax.get_ledger(end)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((history, ledger)))
    # What a barrier would have cost, charged to a run with that barrier, is the run's own cost.
    own = limjax.leaf_totals(ledger, "heat"), limjax.leaf_totals(ledger, "actuation")
    compared = ledger.compare["itself"].heat.float64(), ledger.compare["itself"].actuation.float64()
    np.testing.assert_allclose(compared, own, rtol=1e-5, atol=1e-6)


def test_comparison_is_what_a_run_with_that_barrier_costs():
    other = limjax.ScheduledBarrier(optax.linear_schedule(20.0, 40.0, 4))
    _, _, state = run(lim(compare={"other": other, "static": limjax.StaticBarrier.at_retention(CELL)}), make_params())
    _, _, direct = run(lim(barrier=other), make_params())
    compare, ledger = limjax.get_ledger(state).compare["other"], limjax.get_ledger(direct)
    np.testing.assert_allclose(compare.heat.float64(), limjax.leaf_totals(ledger, "heat"), rtol=1e-5)
    np.testing.assert_allclose(compare.actuation.float64(), limjax.leaf_totals(ledger, "actuation"), rtol=1e-5)
    default = limjax.get_ledger(run(lim(), make_params(), jit=False)[2]).compare
    assert list(default) == ["static"]
    static = limjax.get_ledger(state).compare["static"]
    np.testing.assert_allclose(default["static"].heat.float64(), static.heat.float64(), rtol=1e-4)
    assert limjax.get_ledger(lim(compare=()).init(make_params())).compare == {}


# Dtypes and structures.


@pytest.mark.parametrize("hops", ["mean", "gaussian", "exact"])
def test_bfloat16_parameters_keep_a_float32_ledger(hops):
    opt = lim(optax.sgd(0.1), hops=hops, key=jax.random.key(0), compare=(limjax.FisherBarrier(),))
    params = make_params(jnp.bfloat16)
    start = opt.init(params)
    history, end, state = run(opt, params)
    assert signature(start) == signature(state)
    assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves((history, end)))
    ledger = limjax.get_ledger(state)
    sums = jax.tree.leaves((ledger.blocks, ledger.per_leaf))
    counts = jax.tree.leaves(ledger.blocks["saturated"])
    assert counts and all(x.dtype == jnp.int32 for x in counts)
    assert all(x.dtype == jnp.float32 for x in sums if not any(x is count for count in counts))
    assert len(sums) > len(counts)
    if hops == "mean":
        path = sum(np.abs(np.asarray(u, np.float64)).sum() for step in history for u in jax.tree.leaves(step)) * 2**10
        assert limjax.total(ledger, "path") == pytest.approx(path, rel=1e-5)


@pytest.mark.parametrize(("where", "hops"), [("before", "mean"), ("before", "exact"), ("inside", "exact")])
def test_float64_parameters(where, hops, x64):
    """With x64 everything is float64, also when the cell was made before it was switched on."""
    cell = CELL if where == "before" else limjax.ArrheniusCell(lsb=2**-10, attempt_rate=1e9, step_time=1e-3)
    opt = limjax.learning_in_memory(optax.sgd(0.1), cell, limjax.LyapunovBarrier(9.0), hops=hops, key=jax.random.key(0))
    params = make_params(jnp.float64)
    start = opt.init(params)
    history, _, state = run(opt, params)
    assert signature(start) == signature(state)
    assert all(x.dtype == jnp.float64 for x in jax.tree.leaves(history))
    assert state.ledger.heat.total[0].dtype == jnp.float64


def test_mixed_dtypes(x64):
    params = {"a": jnp.ones(3, jnp.float64), "b": jnp.ones((2, 2), jnp.float32), "c": jnp.ones(5, jnp.bfloat16)}
    for barrier in ("fisher", "rate-matched-leaf"):
        opt = lim(optax.sgd(0.1), barrier=BARRIERS[barrier](), hops="exact", key=jax.random.key(0), compare=())
        start = opt.init(params)
        history, _, state = run(opt, params, steps=2)
        assert signature(start) == signature(state)
        assert [x.dtype for x in jax.tree.leaves(history[0])] == [x.dtype for x in jax.tree.leaves(params)]
        assert limjax.total(state.ledger, "heat") > 0


@pytest.mark.parametrize(
    "params",
    [
        {"bare": jnp.ones(4)}["bare"],
        jnp.asarray(2.0),
        [jnp.ones(2), None, (jnp.asarray(0.5), {"x": None})],
        {"empty": jnp.zeros((0, 3)), "full": jnp.ones(2)},
        {},
    ],
    ids=["array", "scalar", "none_leaves", "empty_array", "no_leaves"],
)
def test_odd_structures(params):
    opt = lim(optax.sgd(0.1), hops="gaussian", key=jax.random.key(0), compare=())
    state = opt.init(params)
    updates, new = opt.update(params, state, params, value=jnp.float32(1.0))
    assert jax.tree.structure(updates) == jax.tree.structure(params)
    assert signature(new) == signature(state)
    sizes = [x.size for x in jax.tree.leaves(params)]
    path = limjax.leaf_totals(new.ledger, "path")
    assert path.shape == (len(sizes),) and np.isfinite(limjax.total(new.ledger))
    totals = limjax.per_parameter(new.ledger, "path")
    assert jax.tree.structure(totals) == jax.tree.structure(params)
    assert [x.shape for x in jax.tree.leaves(totals)] == [x.shape for x in jax.tree.leaves(params)]
    limjax.report(new.ledger, params, CELL)


# Granularity and layout.


@pytest.mark.representatives(3)
@pytest.mark.parametrize("name", BARRIERS)
def test_leaf_granularity_has_the_same_totals(name):
    options = dict(barrier=BARRIERS[name](), hops="gaussian", key=jax.random.key(3), compare=())
    fine, coarse = (run(lim(granularity=g, **options), make_params(), jit=False)[2] for g in ("parameter", "leaf"))
    fine, coarse = limjax.get_ledger(fine), limjax.get_ledger(coarse)
    for sums in ("heat", "path", "saturated", "actuation", "hops", "realised_heat", "barrier_clipped", "shallow"):
        np.testing.assert_allclose(
            limjax.leaf_totals(coarse, sums), limjax.leaf_totals(fine, sums), rtol=1e-5, atol=1e-5
        )
    assert coarse.start is None
    with pytest.raises(ValueError, match=r"per leaf.*granularity"):
        limjax.per_parameter(coarse)
    # No memory per parameter but the barrier's own, where it has one value each.
    if BARRIERS[name]().scope != "parameter":
        large = {"w": jnp.zeros((100, 100)), "b": jnp.zeros(3), "c": jnp.zeros(2)}
        state = lim(optax.sgd(0.1), granularity="leaf", **options).init(large)
        assert sum(x.size for x in jax.tree.leaves(state)) < 200


def test_per_parameter_entries_add_up_and_keep_their_place():
    params = make_params()
    opt = lim(optax.sgd(1.0), barrier=limjax.StaticBarrier(12.0))
    gradient = jax.tree.map(lambda p: p * 0.01, params)
    _, state = opt.update(gradient, opt.init(params), params)
    ledger = limjax.get_ledger(state)
    path, heat = limjax.per_parameter(ledger, "path"), limjax.per_parameter(ledger, "heat")
    for g, p, q in zip(*map(jax.tree.leaves, (gradient, path, heat))):
        np.testing.assert_allclose(p, np.abs(g) * 2**10, rtol=1e-6)
        np.testing.assert_allclose(q, CELL.heat(-g * 2**10, 12.0), rtol=1e-6)
    np.testing.assert_allclose(limjax.leaf_totals(ledger, "heat"), [q.sum() for q in jax.tree.leaves(heat)], rtol=1e-9)
    with pytest.raises(ValueError, match="keeps no realised_heat"):
        limjax.leaf_totals(ledger, "realised_heat")


@pytest.mark.representatives(1)
@pytest.mark.parametrize("name", ["lyapunov", "fisher", "rate-matched-leaf"])
def test_packed_and_unpacked_leaves_agree(name, monkeypatch):
    """Mean mode: the layout of memory is not part of the physics. (Hops draw other words in another layout.)"""
    params = make_params()
    totals = []
    for below in (2**15, 10):
        monkeypatch.setattr(blocks, "PACK_BELOW", below)
        opt = lim(barrier=BARRIERS[name](), compare={"x": BARRIERS[name]()})
        _, _, state = run(opt, params, steps=3)
        ledger = limjax.get_ledger(state)
        compare = [(sums.heat.float64(), sums.actuation.float64()) for sums in ledger.compare.values()]
        totals.append([limjax.per_parameter(ledger, "heat"), limjax.leaf_totals(ledger, "actuation"), compare])
        assert len(ledger.heat.total) == {2**15: 1, 10: 2}[below]
    assert_close(totals[0], totals[1], atol=1e-5)


def test_plain_sums_and_compensated_sums():
    kept, plain = (run(lim(compensated=c), make_params(), jit=False)[2].ledger for c in (True, False))
    assert plain.heat.residual is None and kept.heat.residual is not None
    assert limjax.total(plain) == pytest.approx(limjax.total(kept), rel=1e-6)
    assert len(jax.tree.leaves(plain)) < len(jax.tree.leaves(kept))


# Hops.


@pytest.mark.parametrize("hops", ["gaussian", "exact"])
def test_hops_follow_the_request_with_the_variance_of_the_activity(hops):
    """Mean and variance of 2e5 displacements: 5.5 standard errors each, false alarm 4e-8."""
    n, d, barrier = 200_000, 1.7, 13.0
    params = jnp.zeros(n)
    opt = lim(optax.sgd(1.0), barrier=limjax.StaticBarrier(barrier), hops=hops, key=jax.random.key(11))
    updates, state = jax.jit(opt.update)(jnp.full(n, -d * 2**-10), opt.init(params), params)
    moved = np.asarray(updates, np.float64) * 2**10
    a = float(CELL.activity(d, barrier))
    fourth = 3 * a**2 + (a if hops == "exact" else 0)
    assert abs(moved.mean() - d) < 5.5 * np.sqrt(a / n)
    assert abs(moved.var() - a) < 5.5 * np.sqrt((fourth - a**2) / n)
    if hops == "exact":
        np.testing.assert_array_equal(moved, np.round(moved))
    # Realised heat F·Δn: its mean is the heat of the closed form.
    ledger = limjax.get_ledger(state)
    affinity = float(CELL.affinity(d, barrier))
    assert limjax.total(ledger, "realised_heat") == pytest.approx(affinity * moved.sum(), rel=1e-5)
    assert limjax.total(ledger, "heat") == pytest.approx(n * float(CELL.heat(d, barrier)), rel=1e-5)
    error = affinity * np.sqrt(n * a)
    assert abs(limjax.total(ledger, "realised_heat") - limjax.total(ledger, "heat")) < 5.5 * error
    assert limjax.total(ledger, "hops") == pytest.approx(n * a, rel=1e-5)


def test_exact_hops_stay_on_the_ladder_and_inside_the_range():
    cell = limjax.ArrheniusCell(lsb=2**-6, bits=6)
    opt = limjax.learning_in_memory(
        optax.sgd(0.5), cell, limjax.StaticBarrier(12.0), hops="exact", key=jax.random.key(0)
    )
    with pytest.warns(UserWarning, match="snap clipped"):
        start = limjax.snap({"w": jnp.linspace(-2.0, 2.0, 301)}, cell)
    params, state = start, opt.init(start)
    update = jax.jit(opt.update)
    for _ in range(6):
        updates, state = update({"w": -params["w"]}, state, params)
        params = optax.apply_updates(params, updates)
        level = np.asarray(params["w"], np.float64) * 2**6
        np.testing.assert_array_equal(level, np.round(level))
        assert level.min() >= -32 and level.max() <= 31
    clipped = limjax.total(limjax.get_ledger(state), "range_clipped")
    assert 0 < clipped <= 6 * 301
    # Two runs of one key are one run.
    again = opt.init(start)
    first, _ = update({"w": -start["w"]}, again, start)
    second, _ = update({"w": -start["w"]}, opt.init(start), start)
    assert_same(first, second)


@pytest.mark.parametrize("hops", ["mean", "gaussian"])
def test_range_clips_the_other_modes_too(hops):
    cell = limjax.ArrheniusCell(lsb=0.25, levels=(-2, 2))
    opt = limjax.learning_in_memory(optax.sgd(1.0), cell, limjax.StaticBarrier(25.0), hops=hops, key=jax.random.key(0))
    params = jnp.asarray([0.0, 0.25, -0.5])
    updates, state = opt.update(jnp.asarray([10.0, -10.0, 0.0]), opt.init(params), params)
    np.testing.assert_allclose(params + updates, [-0.5, 0.5, -0.5], atol=1e-6 if hops == "mean" else 1e-2)
    assert limjax.total(limjax.get_ledger(state), "range_clipped") >= 2
    with pytest.raises(ValueError, match=r"lowest and highest level.*params"):
        opt.update(params, opt.init(params))


def test_snap():
    cell = limjax.ArrheniusCell(lsb=0.25, levels=(-2, 3))
    with pytest.warns(UserWarning, match=r"snap clipped 50 % of the weights"):
        snapped = limjax.snap({"w": jnp.asarray([0.3, -9.0, 9.0, 0.0])}, cell)
    np.testing.assert_array_equal(snapped["w"], [0.25, -0.5, 0.75, 0.0])
    assert limjax.snap(jnp.full(2, 0.5, jnp.bfloat16), cell).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match=r"bfloat16.*256.*2048"):
        limjax.snap(jnp.ones(2, jnp.bfloat16), limjax.ArrheniusCell(bits=12))
    np.testing.assert_array_equal(jax.jit(limjax.snap)({"w": jnp.asarray([0.3])}, cell)["w"], [0.25])


def test_vmap_over_seeds():
    params = make_params()

    def final(key):
        opt = lim(optax.sgd(0.1), hops="gaussian", key=key)

        def step(carry, _):
            params, state = carry
            updates, state = opt.update(gradient_of(params), state, params, value=loss_of(params))
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, opt.init(params)), None, length=3)[0]

    keys = jax.random.split(jax.random.key(0), 4)
    many = jax.jit(jax.vmap(final))(keys)
    for i in (0, 3):
        one = jax.jit(final)(keys[i])
        assert_close(jax.tree.map(lambda x, i=i: x[i], many[0]), one[0])
        assert_close(many[1].ledger.heat.total[0][i], one[1].ledger.heat.total[0])
    assert not np.array_equal(many[0]["dense"]["w"][0], many[0]["dense"]["w"][1])


# Arguments.


def test_extra_arguments_are_forwarded_and_unknown_ones_accepted():
    opt = lim(INNER["plateau"](), barrier=limjax.StaticBarrier(10.0))
    params = make_params()
    state = opt.init(params)
    for _ in range(5):
        _, state = opt.update(gradient_of(params), state, params, value=jnp.asarray(1.0), what="ever")
    assert float(optax.tree.get(state, "scale")) < 1.0
    seen = {}

    def spy(updates, state, params=None, **extra):
        seen.update(extra)
        return updates, state

    opt = lim(optax.GradientTransformationExtraArgs(lambda p: (), spy), barrier=limjax.StaticBarrier(10.0))
    opt.update(params, opt.init(params), params, value=jnp.asarray(2.0), grad=params, own=3)
    assert set(seen) == {"value", "grad", "own"} and seen["own"] == 3
    seen.clear()
    opt.update(params, opt.init(params), params)
    assert seen == {}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: lim(hops="poisson"), ["hops", "'poisson'", "exact"]),
        (lambda: lim(hops="exact"), ["exact", "key=jax.random.key(0)"]),
        (lambda: lim(hops="exact", key=3), ["key", "3", "jax.random.key(0)"]),
        (lambda: lim(granularity="layer"), ["granularity", "'layer'", "leaf"]),
        (lambda: lim(compare=(limjax.StaticBarrier(1.0), limjax.StaticBarrier(2.0))), ["static", "dict"]),
    ],
)
def test_wrong_settings_are_named(make, said):
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError) as error:
            make()
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    for word in said:
        assert word in str(error.value)


# The optimizer's own memory.


def test_optimizer_memory_is_charged():
    """Momentum and second moment of Adam, from their own differences in float64."""
    memory_cell, height = limjax.ArrheniusCell(lsb=2**-14), 15.0
    opt = lim(optax.adam(0.01), optimizer_memory=(memory_cell, limjax.StaticBarrier(height)))
    params = {"w": jnp.linspace(-1, 1, 12).reshape(3, 4), "b": jnp.ones(5)}
    state = opt.init(params)
    g = 1e6 * np.exp(-height)
    expected = np.zeros(4)
    update = jax.jit(opt.update)
    for _ in range(3):
        before = optax.tree.get(state.inner, "mu"), optax.tree.get(state.inner, "nu")
        updates, state = update(gradient_of(params), state, params, value=loss_of(params))
        params = optax.apply_updates(params, updates)
        after = optax.tree.get(state.inner, "mu"), optax.tree.get(state.inner, "nu")
        for i, (x, y) in enumerate(zip(jax.tree.leaves(before), jax.tree.leaves(after))):
            d = (np.asarray(y, np.float64) - np.asarray(x, np.float64)) * 2**14
            expected[i] += (2 * d * np.arcsinh(d / (2 * g))).sum()
    np.testing.assert_allclose(state.ledger.optimizer_heat.float64(), expected, rtol=1e-4)
    # It is kept apart from the weights' heat.
    plain = run(lim(optax.adam(0.01)), {"w": jnp.linspace(-1, 1, 12).reshape(3, 4), "b": jnp.ones(5)}, steps=3)[2]
    assert limjax.total(plain.ledger) == pytest.approx(limjax.total(state.ledger), rel=1e-6)
    assert plain.ledger.optimizer_heat is None


@pytest.mark.parametrize("name", ["adam", "momentum", "adafactor", "multi_steps", "inject_hyperparams", "sgd"])
def test_optimizer_memory_keeps_the_signature(name):
    opt = lim(INNER[name](), optimizer_memory=(CELL, limjax.FisherBarrier()))
    start = opt.init(make_params())
    assert signature(run(opt, make_params())[2]) == signature(start)


# Sharding.

SHARDED = """
import json, sys
import jax, jax.numpy as jnp, numpy as np, optax, limjax
from jax.sharding import NamedSharding, PartitionSpec as P

assert len(jax.devices()) == 8
mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
specs = {"large": P("data", "model"), "tall": P("data"), "small": P()}
start = {
    "large": jnp.linspace(-1, 1, 256 * 256).reshape(256, 256),
    "tall": jnp.linspace(0, 1, 512 * 64).reshape(512, 64),
    "small": jnp.ones(8),
}
result = {}
for hops, barrier in (("mean", limjax.RateMatchedBarrier(granularity="leaf")), ("exact", limjax.FisherBarrier())):
    if True:
        opt = limjax.learning_in_memory(
            optax.adam(1e-2), limjax.ArrheniusCell(), barrier, hops=hops, key=jax.random.key(0)
        )

        @jax.jit
        def step(params, state):
            loss, gradient = jax.value_and_grad(lambda p: sum(jnp.sum(x * x) for x in jax.tree.leaves(p)))(params)
            updates, state = opt.update(gradient, state, params, value=loss)
            return optax.apply_updates(params, updates), state

        ends = []
        for sharded in (True, False):
            params = start
            if sharded:
                params = {k: jax.device_put(v, NamedSharding(mesh, specs[k])) for k, v in start.items()}
            state = opt.init(params)
            before = params, state
            for _ in range(3):
                params, state = step(params, state)
            if sharded:
                for name in ("large", "tall"):
                    assert params[name].sharding.is_equivalent_to(before[0][name].sharding, 2), (hops, name)
                blocks = {b.shape: b for b in state.ledger.heat.total}
                starts = {b.shape: b for b in before[1].ledger.heat.total}
                for shape in ((256, 256), (512, 64)):
                    wanted = NamedSharding(mesh, specs["large" if shape[0] == 256 else "tall"])
                    assert starts[shape].sharding.is_equivalent_to(wanted, 2), (hops, shape, starts[shape].sharding)
                    assert blocks[shape].sharding.is_equivalent_to(wanted, 2), (hops, shape, blocks[shape].sharding)
                assert step._cache_size() <= 2, step._cache_size()
            ends.append((params, limjax.leaf_totals(state.ledger, "heat")))
        for k in start:
            np.testing.assert_allclose(ends[0][0][k], ends[1][0][k], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(ends[0][1], ends[1][1], rtol=1e-5)
        result[f"{hops} {barrier.name}"] = float(ends[0][1].sum())
print(json.dumps(result))
"""


def test_sharded_parameters_keep_their_sharding_and_their_heat():
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SHARDED)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    heats = json.loads(done.stdout)
    assert len(heats) == 2 and all(heat > 0 for heat in heats.values())


# Other libraries.


def test_plain_pytree_learns():
    x = jax.random.normal(jax.random.key(0), (64, 3))
    y = x @ jnp.asarray([1.0, -2.0, 0.5])
    opt = lim(optax.adam(0.05), hops="exact", key=jax.random.key(1))
    params = {"w": jnp.zeros(3)}
    state = opt.init(params)

    @jax.jit
    def step(params, state):
        loss, gradient = jax.value_and_grad(lambda p: jnp.mean((x @ p["w"] - y) ** 2))(params)
        updates, state = opt.update(gradient, state, params, value=loss)
        return optax.apply_updates(params, updates), state, loss

    losses = []
    for _ in range(60):
        params, state, loss = step(params, state)
        losses.append(float(loss))
    assert losses[-1] < 0.1 * losses[0]


def test_equinox_model_learns():
    model = eqx.nn.MLP(3, 1, 8, 1, key=jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (64, 3))
    y = jnp.sin(x.sum(-1, keepdims=True))
    opt = lim(optax.adam(0.02), barrier=limjax.FisherBarrier(1e3))
    state = opt.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state):
        loss, gradient = eqx.filter_value_and_grad(lambda m: jnp.mean((jax.vmap(m)(x) - y) ** 2))(model)
        updates, state = opt.update(gradient, state, eqx.filter(model, eqx.is_inexact_array), value=loss)
        return eqx.apply_updates(model, updates), state, loss

    losses = []
    for _ in range(40):
        model, state, loss = step(model, state)
        losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0]
    table = limjax.report(limjax.get_ledger(state), eqx.filter(model, eqx.is_inexact_array), CELL)
    assert table.total.parameters == 3 * 8 + 8 + 8 + 1


def test_flax_nnx_model_learns():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(3, 8, rngs=rngs)
            self.second = nnx.Linear(8, 1, rngs=rngs)

        def __call__(self, x):
            return self.second(jnp.tanh(self.first(x)))

    model = Net(nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (64, 3))
    y = jnp.sin(x.sum(-1, keepdims=True))
    optimizer = nnx.Optimizer(model, lim(optax.adam(0.02), hops="exact", key=jax.random.key(0)), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        loss, gradient = nnx.value_and_grad(lambda m: jnp.mean((m(x) - y) ** 2))(model)
        optimizer.update(model, gradient, value=loss)
        return loss

    losses = [float(step(model, optimizer)) for _ in range(40)]
    assert losses[-1] < 0.7 * losses[0]
    ledger = limjax.get_ledger(optimizer.opt_state)
    assert int(ledger.steps) == 40
    assert limjax.total(ledger) > 0
