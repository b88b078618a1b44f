"""One conformance battery for the transformation around optax optimizers, inside optax wrappers, in other libraries."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from wrapped import BARRIERS, CELL, assert_close, assert_same, gradient_of, lim, loss_of, make_params, run, signature

import limjax
from limjax.memory import _blocks as blocks
from limjax.memory._ledger import leaf_sums
from limjax.memory.comparisons import BarrierComparison
from limjax.numerics.sums import CompensatedSum

pytestmark = pytest.mark.optax


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


@pytest.mark.representatives(1)
@pytest.mark.parametrize("hops", ["exact", "gaussian", "mean"])
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


@pytest.mark.representatives(1)
@pytest.mark.parametrize(("where", "hops"), [("before", "exact"), ("before", "mean"), ("inside", "exact")])
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


@pytest.mark.slow
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


def test_counts_add_up_beyond_an_int32():
    params = {"a": jnp.zeros((2, 4096)), "b": jnp.zeros(3)}
    ledger = limjax.get_ledger(lim(optax.sgd(1.0), barrier=limjax.StaticBarrier(12.0), compare=()).init(params))
    steps = np.random.default_rng(3).integers(0, 2**31, (8192 + 3,), dtype=np.int32)
    expected = [steps[:8192].sum(dtype=np.int64), steps[8192:].sum(dtype=np.int64)]
    for packed, blocks_of in ((True, [steps]), (False, [steps[:8192].reshape(2, 4096), steps[8192:]])):
        counts = {"saturated": CompensatedSum([jnp.asarray(block) for block in blocks_of], None)}
        full = dataclasses.replace(ledger, blocks=ledger.blocks | counts, packed=packed)
        assert limjax.leaf_totals(full, "saturated").tolist() == expected
        np.testing.assert_allclose(leaf_sums(full, "saturated"), expected, rtol=1e-6)


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


@pytest.mark.slow
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
