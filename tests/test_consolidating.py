"""Barriers that follow an importance: each rule against its formula, the budget, the release, and what they do to learning."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from programs import said_on_devices

import limjax
from limjax.barriers import barrier_from_json, barrier_from_name, barrier_to_json
from limjax.memory import get_memory
from limjax.physics import actuation

pytestmark = pytest.mark.optax
CELL = limjax.ArrheniusCell(lsb=2**-10, max_affinity=4.0)
START = {"w": jnp.array([[0.3, -0.2, 0.9], [0.0, -1.5, 0.1]]), "b": jnp.array([0.5])}


def _gradient(params, target):
    return jax.tree.map(lambda p, t: 0.5 * (p - t) * (1 + jnp.abs(t)), params, target)


def _run(barrier, tasks=2, steps=4, cell=CELL, optimizer=None):
    """Tasks that ask for random targets: heights after each step, weights before and after, gradients, and the last state."""
    opt = limjax.learning_in_memory(optax.sgd(0.05) if optimizer is None else optimizer, cell, barrier, compare=())
    params, state = START, opt.init(START)
    update, rng, seen = jax.jit(opt.update), np.random.default_rng(2), []
    for _ in range(tasks):
        target = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), START)
        for _ in range(steps):
            gradient = _gradient(params, target)
            updates, state = update(gradient, state, params)
            after = optax.apply_updates(params, updates)
            seen.append([np.concatenate([np.ravel(x[k]) for k in ("b", "w")]) for x in (params, after, gradient)])
            seen[-1].append(np.asarray(get_memory(state).barrier.height.value[0]))
            params = after
        state = limjax.consolidate(state, params)
    return seen, state, params


def test_what_has_no_gradient_any_more_is_protected_too():
    """A head that is done: consolidated, its barrier rises also where the next task gives it no gradient."""
    opt = limjax.learning_in_memory(
        optax.sgd(0.05), CELL, limjax.ConsolidatingBarrier(14.0, limjax.FisherRule(strength=1.0))
    )
    params = {"body": jnp.ones(5), "head": jnp.ones(5)}
    _, state = opt.update(params, opt.init(params), params)
    state = limjax.consolidate(state, params)
    _, state = opt.update({"body": params["body"], "head": None}, state, params)
    np.testing.assert_allclose(np.ravel(get_memory(state).barrier.height.value[0]), 14.0 + np.log(2.0), rtol=1e-5)


@pytest.mark.parametrize("granularity", ["leaf", "parameter"])
def test_the_rise_of_a_head_that_has_no_gradient_any_more_is_charged(granularity):
    """What has learned pays for its consolidation; what never learned starts out at its first barrier."""
    barrier = limjax.ConsolidatingBarrier(14.0, limjax.FisherRule(strength=1.0))
    opt = limjax.learning_in_memory(optax.sgd(0.05), CELL, barrier, granularity=granularity)
    params = {name: jnp.ones(5) for name in ("body", "head", "next")}
    _, state = opt.update({**params, "next": None}, opt.init(params), params)
    state = limjax.consolidate(state, params)
    for head in (None, params["head"]):
        _, state = opt.update({**params, "head": head}, state, params)
    work = limjax.leaf_totals(limjax.get_ledger(state), "actuation")
    rise = float(jnp.diff(actuation.free_energy(jnp.array([14.0, 14.0 + np.log(2.0)])))[0])
    np.testing.assert_allclose(work, [5 * rise, 5 * rise, 0.0], rtol=1e-4, atol=1e-4)


def test_the_account_of_a_leaf_that_learns_late_is_that_of_the_ledger():
    params = {"a": jnp.full(2, 0.1), "late": jnp.full(2, 0.1)}
    barrier = limjax.ConsolidatingBarrier(9.0, limjax.UseRule(30.0), budget=0.2, release=1e-3)
    opt = limjax.learning_in_memory(optax.sgd(1.0), limjax.ArrheniusCell(max_affinity=4.0), barrier)
    state, step = opt.init(params), jax.jit(opt.update)
    for i in range(8):
        gradient = {"a": jnp.full(2, 1e-2), "late": None if i < 4 else jnp.full(2, 1e-2)}
        _, state = step(gradient, state, params)
    spent = np.concatenate([np.ravel(x) for x in jax.tree.leaves(state.barrier.state.spent)])
    work = limjax.leaf_totals(limjax.get_ledger(state), "actuation")
    np.testing.assert_allclose(spent.reshape(2, 2).sum(1), work, rtol=1e-5)
    assert work[0] > work[1] > 0.01


def test_fisher_counts_squared_gradients_task_by_task():
    seen, state, _ = _run(limjax.ConsolidatingBarrier(14.0, limjax.FisherRule(strength=3.0)))
    importance = np.zeros(7)
    for k, (_, _, _, height) in enumerate(seen):
        if k == 4:
            squares = sum(g**2 for _, _, g, _ in seen[:4])
            importance = squares / squares.mean()
        np.testing.assert_allclose(height, 14.0 + np.log1p(3.0 * importance), rtol=1e-5)
    assert get_memory(state).barrier.state.kept[0].mean() == pytest.approx(2.0, rel=1e-5)
    # What raising cost is in the ledger: the difference of free energies, once, in the step after the task.
    work = float(
        jnp.sum(actuation.free_energy(jnp.asarray(seen[-1][3]))) - 7 * actuation.free_energy(jnp.asarray(14.0))
    )
    assert limjax.total(limjax.get_ledger(state), "actuation") == pytest.approx(work, rel=1e-3)


@pytest.mark.parametrize("most", [0.5, pytest.param(None, marks=pytest.mark.slow)])
def test_the_path_integral_follows_the_way_that_was_really_taken(most):
    cell = limjax.ArrheniusCell(lsb=2**-10, max_affinity=most)
    seen, _, _ = _run(limjax.ConsolidatingBarrier(14.0, limjax.PathIntegralRule(2.0, 1e-3)), cell=cell)
    falls = -sum(g * (after - before) for before, after, g, _ in seen[:4])
    shares = np.maximum(falls, 0) / ((seen[3][1] - seen[0][0]) ** 2 + 1e-3)
    np.testing.assert_allclose(seen[2][3], 14.0, rtol=1e-6)
    np.testing.assert_allclose(seen[5][3], 14.0 + np.log1p(2.0 * shares / shares.mean()), rtol=1e-4)


def test_use_raises_a_barrier_by_its_own_requests():
    seen, _, _ = _run(limjax.ConsolidatingBarrier(14.0, limjax.UseRule(scale=50.0)))
    use = np.cumsum([np.abs(0.05 * g) * 2**10 for _, _, g, _ in seen], axis=0)
    np.testing.assert_allclose([height for *_, height in seen], 14.0 + np.log1p(use / 50.0), rtol=1e-5)


@pytest.mark.parametrize("steepness", [4.0, pytest.param(0.7, marks=pytest.mark.slow)])
def test_metaplastic_barriers_scale_updates_as_metaplastic_networks_do(steepness):
    """The factor 1 - tanh²(mw) of Laborieux et al., against both drives."""
    plastic = 16.0
    barrier = limjax.ConsolidatingBarrier(plastic, limjax.MetaplasticRule(steepness))
    factor = jax.tree.map(lambda w: 1 - np.tanh(steepness * np.asarray(w, np.float64)) ** 2, START)
    # A given tilt moves by 2g sinh(F/2), and the exchange has the factor.
    gradient = jax.tree.map(lambda w: 3.0 * jnp.ones_like(w), START)
    moves = []
    for policy in (limjax.StaticBarrier(plastic), barrier):
        opt = limjax.gradient_tilt(limjax.ArrheniusCell(lsb=0.5), policy, coupling=1.0)
        moves.append(jax.jit(opt.update)(gradient, opt.init(START), START)[0])
    scaled = jax.tree.map(lambda move, f: np.asarray(move, np.float64) * f, moves[0], factor)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5), moves[1], scaled)
    # So has the largest move of a driver that ran out.
    opt = limjax.learning_in_memory(optax.sgd(1.0), CELL, barrier, compare=())
    updates, _ = jax.jit(opt.update)(jax.tree.map(lambda w: 50.0 * jnp.ones_like(w), START), opt.init(START), START)
    most = float(CELL.largest_move(plastic)) * float(CELL.lsb)
    jax.tree.map(lambda u, f: np.testing.assert_allclose(u, -most * f, rtol=2e-5), updates, factor)


def test_the_metaplastic_barrier_is_smooth_and_finite(x64):
    rule = limjax.MetaplasticRule(2.0)

    def height(w):
        inputs = limjax.barriers.BarrierInputs(jnp.asarray(0), None, None, [w], CELL, [w])
        return jnp.sum(rule.heights(inputs, ())[0])

    assert float(height(jnp.asarray(400.0))) == pytest.approx(2 * (800.0 - np.log(2)))
    assert float(jax.grad(height)(jnp.asarray(0.0))) == 0.0
    for w in (-0.3, 0.02, 3.0):
        slope = (height(jnp.asarray(w + 1e-6)) - height(jnp.asarray(w - 1e-6))) / 2e-6
        assert float(jax.grad(height)(jnp.asarray(w))) == pytest.approx(float(slope), rel=1e-6, abs=1e-8)
        assert float(height(jnp.asarray(w))) == pytest.approx(2 * np.log(np.cosh(2 * w)), rel=1e-9)


def test_a_budget_is_the_work_of_raising_one_barrier():
    for budget in (1e-3, 0.2, 0.5):
        top = limjax.ConsolidatingBarrier(14.0, budget=budget).highest(jnp.asarray(80.0))
        work = actuation.free_energy(top) - actuation.free_energy(jnp.asarray(14.0))
        assert float(work) == pytest.approx(budget, abs=2e-6)
    assert limjax.ConsolidatingBarrier(14.0, budget=9.0).highest(jnp.asarray(80.0)) == 80.0
    seen, state, _ = _run(limjax.ConsolidatingBarrier(14.0, limjax.FisherRule(1e4), budget=0.1), steps=2)
    assert limjax.total(limjax.get_ledger(state), "actuation") <= 7 * 0.1 * (1 + 1e-4)
    assert seen[-1][3].max() == pytest.approx(
        float(limjax.ConsolidatingBarrier(14.0, budget=0.1).highest(jnp.asarray(80.0)))
    )


@pytest.mark.slow
def test_importance_fades_at_its_release():
    seen, _, _ = _run(limjax.ConsolidatingBarrier(14.0, limjax.FisherRule(1e3), release=5e-3))
    importance = np.expm1(np.stack([height for *_, height in seen[4:]]) - 14.0)
    # One step is 1 ms.
    np.testing.assert_allclose(importance[1:], importance[:-1] * np.exp(-0.2), rtol=1e-4, atol=1e-3)


def test_what_is_consolidated_hardly_moves_and_the_rest_learns():
    barrier = limjax.ConsolidatingBarrier(14.0, limjax.FisherRule(1e4))
    opt = limjax.learning_in_memory(optax.sgd(1.0), CELL, barrier, compare=())
    params = jnp.zeros(2)
    state, update = opt.init(params), jax.jit(opt.update)
    _, state = update(jnp.array([1.0, 0.0]), state, params)
    state = limjax.consolidate(state, params)
    updates, state = update(jnp.array([-1.0, -1.0]), state, params)
    # Importances 1, the mean over the one that was stepped, and 0: the barrier is ln 10001 higher, the largest move 10001 times less.
    assert float(updates[1] / updates[0]) == pytest.approx(10001.0, rel=1e-4)
    assert limjax.total(limjax.get_ledger(state), "undelivered") == 3


def test_text_files_and_errors():
    barrier = limjax.ConsolidatingBarrier(13.0, "path-integral:strength=3,damping=0.01", 0.25, 10.0)
    again = barrier_from_json(barrier_to_json(barrier))
    assert jax.tree.structure(again) == jax.tree.structure(barrier)
    assert jax.tree.leaves(again) == jax.tree.leaves(barrier)
    assert barrier_from_name("consolidating:scale=7,budget=0.5", CELL, 100, 1e-3).rule.scale == 7
    for wrong in ("fischer", "fisher:strengh=1", "fisher:strength"):
        with pytest.raises(ValueError, match="rule must be one of fisher, path-integral, use, metaplastic"):
            limjax.ConsolidatingBarrier(13.0, wrong)
    with pytest.raises(
        ValueError, match=r"release = 1\.0 is how an importance fades, but the rule 'metaplastic' keeps none"
    ):
        limjax.ConsolidatingBarrier(13.0, limjax.MetaplasticRule(), release=1.0)
    with pytest.raises(ValueError, match="strength must be a finite number at least 0, got -1"):
        limjax.FisherRule(-1.0)
    with pytest.raises(ValueError, match=r"update\(gradients, state, params\)"):
        opt = limjax.learning_in_memory(
            optax.sgd(1.0), CELL, limjax.ConsolidatingBarrier(13.0, limjax.MetaplasticRule())
        )
        opt.update(jnp.ones(2), opt.init(jnp.ones(2)))
    with pytest.raises(ValueError, match="no limjax state"):
        limjax.consolidate((), jnp.ones(2))


@pytest.mark.slow
def test_consolidate_keeps_structure_and_leaves_other_barriers_alone():
    groups = {
        "w": (CELL, limjax.ConsolidatingBarrier(14.0, limjax.FisherRule())),
        "": (CELL, limjax.StaticBarrier(14.0)),
    }
    opt = limjax.learning_in_memory(optax.sgd(0.1), groups, compare=())
    _, state = jax.jit(opt.update)(START, opt.init(START), START)
    after = limjax.consolidate(state, START)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert [x.dtype for x in jax.tree.leaves(after)] == [x.dtype for x in jax.tree.leaves(state)]
    squares = np.ravel(START["w"]) ** 2
    kept = [
        m.barrier.state.kept for m in limjax.get_memories(after).values() if m.barrier.policy.name == "consolidating"
    ]
    np.testing.assert_allclose(np.ravel(kept[0][0]), squares / squares[squares > 0].mean(), rtol=1e-5)


def test_a_consolidating_comparison_is_refused_at_the_end_of_a_task():
    barrier = limjax.ConsolidatingBarrier(14.0, limjax.FisherRule())
    opt = limjax.learning_in_memory(
        optax.sgd(0.1), limjax.ArrheniusCell(), limjax.StaticBarrier(14.0), compare={"same": barrier}
    )
    with pytest.raises(ValueError, match="look cheaper"):
        limjax.consolidate(opt.init(jnp.ones(2)), jnp.ones(2))


@pytest.mark.parametrize("recovery", [0.0, pytest.param(0.6, marks=pytest.mark.slow)])
def test_a_budget_caps_the_work_of_every_cell_also_where_barriers_fall(recovery):
    """Weights that swing raise and lower a metaplastic barrier again and again: the ledger never charges a cell more than its budget."""
    cell = limjax.ArrheniusCell(lsb=2**-10, max_affinity=40.0, recovery=recovery)
    spent = {}
    for budget in (0.05, None):
        barrier = limjax.ConsolidatingBarrier(14.0, limjax.MetaplasticRule(4.0), budget)
        opt = limjax.learning_in_memory(optax.sgd(1.0), cell, barrier, compare=())
        params, update = jnp.array([0.0, 0.01]), jax.jit(opt.update)
        state, heights = opt.init(params), []
        for k in range(12):
            updates, state = update(jnp.array([0.4, 0.001]) * (-1) ** (k + 1), state, params)
            params = optax.apply_updates(params, updates)
            heights.append(np.asarray(get_memory(state).barrier.height.value[0]))
        spent[budget] = np.asarray(limjax.get_ledger(state).actuation.total[0])
        moved = np.stack(heights)
        rises = np.asarray(actuation.free_energy(jnp.asarray(moved)), np.float64)
        steps = np.diff(rises, axis=0)
        by_hand = np.where(steps > 0, steps, recovery * steps).sum(axis=0)
        np.testing.assert_allclose(spent[budget], by_hand, rtol=2e-3, atol=2e-6)
        assert (moved >= 14.0 - 1e-5).all()
    # The first cell would spend more without end; the second never needs its budget.
    assert spent[None][0] > 0.1 and spent[0.05][0] == pytest.approx(0.05, abs=2e-4)
    np.testing.assert_allclose(spent[0.05][1], spent[None][1], rtol=1e-4, atol=1e-7)


def test_the_account_starts_where_the_ledger_does():
    """Weights away from 0 stand behind their first barrier for nothing: a budget is for what comes after, and locks no cell before."""
    barrier = limjax.ConsolidatingBarrier(14.0, limjax.MetaplasticRule(4.0), 0.05)
    opt = limjax.learning_in_memory(
        optax.sgd(1.0), limjax.ArrheniusCell(lsb=2**-10, max_affinity=40.0), barrier, compare=()
    )
    params, update = jnp.array([0.5, -0.2, 0.0]), jax.jit(opt.update)
    state, found = opt.init(params), []
    for k in range(8):
        at = np.asarray(params, np.float64)
        updates, state = update(jnp.array([-0.02, 0.1, 0.1]) * (-1) ** k, state, params)
        params = optax.apply_updates(params, updates)
        found.append((at, np.asarray(get_memory(state).barrier.height.value[0])))
    wanted = [14.0 + 2 * np.log(np.cosh(4.0 * at)) for at, _ in found]
    np.testing.assert_allclose(found[0][1], wanted[0], rtol=1e-6)  # 17.2, 14.5 and 14 kT
    account = get_memory(state).barrier.state
    np.testing.assert_allclose(account.spent[0], limjax.get_ledger(state).actuation.total[0], rtol=1e-4, atol=1e-6)
    # The first cell stays within its budget and moves as it is asked to: it was not locked.
    np.testing.assert_allclose([height[0] for _, height in found], [want[0] for want in wanted], rtol=1e-5)
    assert 0.01 < account.spent[0][0] < 0.05


def test_what_is_never_stepped_does_not_count_in_the_mean():
    barrier = limjax.ConsolidatingBarrier(14.0, limjax.FisherRule(1.0))
    opt = limjax.learning_in_memory(optax.sgd(0.1), CELL, barrier, compare=(), frozen=["b"])
    gradient = {"w": jnp.array([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]]), "b": jnp.array([100.0])}
    _, state = opt.update(gradient, opt.init(START), START)
    (kept,) = get_memory(limjax.consolidate(state, START)).barrier.state.kept
    np.testing.assert_allclose(np.asarray(kept), [0.0, 0.4, 1.6, 0, 0, 0, 0], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [limjax.LyapunovRule(2.0), limjax.PathIntegralRule(2.0)], ids=lambda rule: rule.name)
def test_who_did_not_hop_counts_in_the_mean_all_the_same(rule):
    """The mean is over what had a gradient: behind a high barrier it does not shrink to the few cells that hopped."""
    cell = limjax.ArrheniusCell(lsb=2**-10, max_affinity=6.0)
    barrier = limjax.ConsolidatingBarrier(22.0, rule)
    opt = limjax.learning_in_memory(
        optax.sgd(1.0), cell, barrier, compare=(), granularity="leaf", hops="exact", key=jax.random.key(0)
    )
    params, gradient = jnp.ones(400), jnp.where(jnp.arange(400) < 300, 1e-2, 0.0)
    state, update = opt.init(params), jax.jit(opt.update)
    for _ in range(40):
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    hopped = np.asarray(params[:300] != 1.0).sum()
    (kept,) = limjax.consolidate(state, params).barrier.state.kept
    assert 20 < hopped < 250
    assert float(kept.sum()) == pytest.approx(300.0, rel=1e-5)


SHARDS = """
import jax, jax.numpy as jnp, numpy as np, optax, limjax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
mesh = jax.make_mesh((2,), ("model",), axis_types=(AxisType.Auto,))
w, b = jnp.linspace(0.1, 2.0, 40).at[7].set(0.0), jnp.array([3.0, 0.5])
for rule in (limjax.FisherRule(2.0), limjax.PathIntegralRule(2.0), limjax.LyapunovRule(2.0)):
    opt = limjax.learning_in_memory(
        optax.sgd(0.1), limjax.ArrheniusCell(), limjax.ConsolidatingBarrier(14.0, rule), compare=(), granularity="leaf"
    )
    def kept(w, b):
        params = {"b": b, "w": w}
        state = opt.init(params)
        for _ in range(2):
            updates, state = opt.update(params, state, params)
            params = optax.apply_updates(params, updates)
        found = jnp.concatenate([x.ravel() for x in limjax.consolidate(state, params).barrier.state.kept])
        return found[2:], found[:2]
    want = jnp.concatenate(jax.jit(kept)(w, b))
    split = jax.device_put(w, NamedSharding(mesh, PartitionSpec("model")))
    specs = PartitionSpec("model"), PartitionSpec()
    # Each shard knows the sharded array alone: its mean is over both. The other one is the same everywhere and counts once.
    shards = jax.jit(jax.shard_map(lambda w: kept(w, jnp.zeros(2))[0], mesh=mesh, in_specs=specs[0], out_specs=specs[0]))
    alone = jax.jit(kept)(w, jnp.zeros(2))[0]
    # Without that check a shard does not know that it is one: its mean is its own.
    blind = jax.shard_map(
        lambda w: kept(w, jnp.zeros(2))[0], mesh=mesh, in_specs=specs[0], out_specs=specs[0], check_vma=False
    )
    halves = jnp.concatenate([jax.jit(kept)(part, jnp.zeros(2))[0] for part in (w[:20], w[20:])])
    assert np.allclose(jax.jit(blind)(split), halves, rtol=1e-5)
    for got, of in ((jnp.concatenate(jax.jit(kept)(split, b)), want), (shards(split), alone)):
        print(np.allclose(got, of, rtol=1e-5), abs(float(np.asarray(of)[np.asarray(of) > 0].mean()) - 1) < 0.2)
"""


@pytest.mark.slow
def test_the_mean_is_over_all_shards():
    said, errors = said_on_devices(SHARDS, 2)
    assert said == ["True"] * 12, errors
