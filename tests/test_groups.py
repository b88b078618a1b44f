"""A cell and a barrier for each layer of one model."""

import pickle

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import limjax
from limjax.memory import get_memories
from limjax.physics.units import BOLTZMANN_J_PER_K

PARAMS = {"enc": {"w": jnp.ones((4, 3)), "b": jnp.ones(3)}, "head": {"w": jnp.full((3, 2), 0.5)}, "gain": jnp.ones(())}
GRADIENT = jax.tree.map(lambda x: 0.3 * jnp.cos(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape), PARAMS)
HOT = limjax.ArrheniusCell(temperature=400.0), limjax.StaticBarrier(10.0)
COLD = limjax.ArrheniusCell(lsb=2.0**-8, temperature=4.0, bits=12), limjax.RateMatchedBarrier(2.0)
GROUPS = {"enc": HOT, "head": COLD, "": HOT}
KEY = jax.random.key(3)
pytestmark = pytest.mark.optax


def train(opt, steps=3, params=PARAMS, gradient=GRADIENT):
    state, step = opt.init(params), jax.jit(opt.update)
    for _ in range(steps):
        updates, state = step(gradient, state, params, value=1.0)
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.mark.slow
def test_the_optimizer_sees_all_parameters_and_mean_updates_are_its_own():
    inner = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-2))
    wrapped, _ = train(limjax.learning_in_memory(inner, GROUPS))
    bare = optax.with_extra_args_support(inner)
    state, params = bare.init(PARAMS), PARAMS
    for _ in range(3):
        updates, state = bare.update(GRADIENT, state, params)
        params = optax.apply_updates(params, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), wrapped, params)


@pytest.mark.representatives(1)
@pytest.mark.parametrize("hops", ["mean", "gaussian", "exact"])
def test_each_layer_costs_what_it_costs_alone(hops):
    opt = limjax.learning_in_memory(optax.sgd(0.1), GROUPS, hops=hops, key=KEY)
    params, state = train(opt)
    table = limjax.report(state, params)
    rows = {row.name: row for row in table.layers}
    for name, (cell, barrier) in (("enc", HOT), ("head", COLD)):
        alone = limjax.learning_in_memory(optax.sgd(0.1), cell, barrier, hops=hops, key=KEY)
        own, single = train(alone, params=PARAMS[name], gradient=GRADIENT[name])
        want = limjax.report(single, own).total
        for field in ("heat_kt", "actuation_kt", "path_levels", "hops", "static_kt", "heat_joules", "parameters"):
            assert getattr(rows[name], field) == pytest.approx(getattr(want, field), rel=1e-5), (name, field)
        assert rows[name].temperature == float(cell.temperature)
    assert table.total.heat_kt == pytest.approx(sum(row.heat_kt for row in table.layers))
    assert table.total.heat_joules == pytest.approx(sum(row.heat_joules for row in table.layers), rel=1e-6)
    joules = sum(row.heat_kt * row.temperature * BOLTZMANN_J_PER_K for row in table.layers)
    assert table.to_dict()["total"]["heat_joules"] == pytest.approx(joules, rel=1e-6)
    assert list(rows) == ["enc", "gain", "head"] and "4 to 400 K" in str(table)
    heights = [(float(limjax.get_barrier(m)), n) for m, n in zip(get_memories(state).values(), (15, 1, 6))]
    assert float(limjax.get_barrier(state)) == pytest.approx(sum(h * n for h, n in heights) / 22, rel=1e-6)


@pytest.mark.slow
def test_a_function_of_the_path_and_nested_prefixes():
    def cells(path):
        return COLD if path.endswith("w") else HOT

    _, state = train(limjax.learning_in_memory(optax.sgd(0.1), cells))
    assert {name: limjax.get_ledger(m).hops.total.size for name, m in state.memories.items()} == {
        "enc/b": 2,
        "enc/w": 2,
    }
    _, state = train(limjax.learning_in_memory(optax.sgd(0.1), {"": HOT, "enc": HOT, "enc/w": COLD}))
    assert {name: limjax.get_ledger(m).hops.total.size for name, m in state.memories.items()} == {
        "enc": 1,
        "enc/w": 1,
        "": 2,
    }


def test_a_function_that_draws_its_cells_is_asked_once():
    rng = np.random.default_rng(0)
    opt = limjax.learning_in_memory(
        optax.sgd(0.1), lambda path: (limjax.ArrheniusCell(attempt_rate=1e9 * rng.uniform(0.5, 2.0)), HOT[1])
    )
    state = opt.init(PARAMS)
    rates = [float(memory.cell.attempt_rate) for memory in state.memories.values()]
    _, state = opt.update(GRADIENT, state, PARAMS)
    assert rates == [float(memory.cell.attempt_rate) for memory in state.memories.values()] and len(set(rates)) == 4


def test_groups_in_injected_hyperparameters_and_through_files():
    def make(height):
        return limjax.learning_in_memory(optax.sgd(0.1), {"enc": (HOT[0], limjax.StaticBarrier(height)), "": HOT})

    opt = optax.inject_hyperparams(make)(height=12.0)
    state = opt.init(PARAMS)
    for height in (12.0, 30.0):
        state.hyperparams["height"] = jnp.asarray(height)
        _, state = opt.update(GRADIENT, state, PARAMS)
        assert float(limjax.get_barrier(state)) == pytest.approx((15 * height + 7 * 10) / 22)
    back = (
        pickle.loads(pickle.dumps(state)),
        flax.serialization.from_bytes(opt.init(PARAMS), flax.serialization.to_bytes(state)),
    )
    for other in back:
        jax.tree.map(np.testing.assert_array_equal, other, state)


PAIRS = {"a": (HOT[0], limjax.StaticBarrier(10.0)), "b": (HOT[0], limjax.LyapunovBarrier(12.0))}


def test_the_mean_barrier_under_strict_promotion():
    params = {"a": jnp.ones(3), "b": jnp.ones(5)}
    opt = limjax.learning_in_memory(optax.sgd(0.1), PAIRS, compare=())
    _, state = opt.update(params, opt.init(params), params, value=jnp.ones(()))
    with jax.numpy_dtype_promotion("strict"):
        assert float(limjax.get_barrier(state)) == pytest.approx((3 * 10 + 5 * 12) / 8)


@pytest.mark.parametrize("barrier", [limjax.LyapunovBarrier(), limjax.RateMatchedBarrier()])
def test_more_parameters_than_an_int32_counts(barrier):
    def step(params):
        opt = limjax.learning_in_memory(optax.sgd(0.1), {"a": PAIRS["a"], "b": (HOT[0], barrier)}, compare=())
        _, state = opt.update(params, opt.init(params), params, value=jnp.ones(()))
        return limjax.get_barrier(state)

    params = {name: jax.ShapeDtypeStruct((2**16, 2**16), jnp.float32) for name in PAIRS}
    assert jax.eval_shape(step, params).shape == ()


@pytest.mark.slow
def test_one_key_serves_all_groups_with_hops_of_their_own():
    zeros = {"a": jnp.zeros(3000), "b": jnp.zeros(3000)}
    opt = limjax.learning_in_memory(
        optax.sgd(0.1),
        {"a": (HOT[0], limjax.StaticBarrier(8.0)), "b": (HOT[0], limjax.StaticBarrier(8.0))},
        hops="exact",
        key=KEY,
    )
    moves, _ = opt.update(zeros, opt.init(zeros), zeros)
    assert abs(np.corrcoef(moves["a"], moves["b"])[0, 1]) < 0.09


@pytest.mark.slow
def test_frozen_missing_and_rejected_parts():
    opt = limjax.learning_in_memory(optax.sgd(0.1), GROUPS, hops="exact", key=KEY, frozen=["enc/w", "head"])
    params, state = train(opt)
    assert (params["enc"]["w"] == 1).all() and (params["head"]["w"] == 0.5).all() and (params["enc"]["b"] != 1).any()
    ledgers = limjax.get_ledgers(state)
    assert sum(limjax.total(ledger) for name, ledger in ledgers.items() if "head" in name) == 0
    opt = limjax.learning_in_memory(optax.sgd(0.1), GROUPS, hops="exact", key=KEY)
    gradient = {"enc": {"w": None, "b": GRADIENT["enc"]["b"]}, "head": {"w": None}, "gain": jnp.ones(())}
    for given in (PARAMS, None):
        if given is None:
            opt = limjax.learning_in_memory(optax.sgd(0.1), {"": HOT, "head": (COLD[0], HOT[1])} | {"head": HOT})
        updates, _ = opt.update(gradient, opt.init(PARAMS), given)
        assert updates["enc"]["w"] is None and updates["head"]["w"] is None and (updates["enc"]["b"] != 0).any()
    safe = optax.apply_if_finite(limjax.learning_in_memory(optax.sgd(0.1), GROUPS), 3)
    state = safe.init(PARAMS)
    _, after = safe.update(jax.tree.map(lambda x: x * jnp.nan, GRADIENT), state, PARAMS)
    assert all(int(ledger.steps) == 0 for ledger in limjax.get_ledgers(after).values())


@pytest.mark.slow
def test_states_keep_their_structure_under_jit_and_members():
    opt = limjax.learning_in_memory(optax.sgd(0.1), GROUPS, hops="exact", key=KEY)
    state = opt.init(PARAMS)
    _, after = jax.jit(opt.update)(GRADIENT, state, PARAMS)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    members = jax.tree.map(lambda x: jnp.stack([x, x]), PARAMS)
    several = jax.vmap(opt.init)(members)
    moves, _ = jax.vmap(opt.update)(jax.tree.map(jnp.zeros_like, members), several, members)
    assert (moves["enc"]["w"][0] != moves["enc"]["w"][1]).any()


@pytest.mark.parametrize(
    ("groups", "error", "said"),
    [
        ({"enc": HOT, "head": COLD}, ValueError, r"'gain' is in no group of 'enc', 'head'.*for the rest"),
        ({"": HOT, "decoder": COLD}, ValueError, r"'decoder' fits no parameter; there are enc/b"),
        ({"": HOT[0]}, TypeError, r"group '' must be \(cell, barrier\)"),
        (lambda path: HOT[::-1], TypeError, r"must be \(cell, barrier\)"),
        (3.0, TypeError, r"cell"),
    ],
)
def test_wrong_groups_are_named(groups, error, said):
    with pytest.raises(error, match=said):
        limjax.learning_in_memory(optax.sgd(0.1), groups).init(PARAMS)


def test_arguments_that_do_not_go_together():
    with pytest.raises(TypeError, match="leave it out"):
        limjax.learning_in_memory(optax.sgd(0.1), GROUPS, HOT[1])
    with pytest.raises(TypeError, match="barrier must be a barrier"):
        limjax.learning_in_memory(optax.sgd(0.1), HOT[0])
    with pytest.raises(ValueError, match="optimizer_memory"):
        limjax.learning_in_memory(optax.sgd(0.1), GROUPS, optimizer_memory=HOT)
    params, state = train(limjax.learning_in_memory(optax.sgd(0.1), GROUPS), steps=1)
    with pytest.raises(ValueError, match="know their own cells"):
        limjax.report(state, params, HOT[0])
    with pytest.raises(ValueError, match=r"does not know its cell.*report\(state, params\)"):
        limjax.report(next(iter(limjax.get_ledgers(state).values())), params)
    with pytest.raises(ValueError, match="no limjax state"):
        limjax.report(optax.sgd(0.1).init(params), params)


@pytest.mark.slow
def test_parts_of_multi_transform_are_joined_too():
    parts = optax.multi_transform(
        {"x": limjax.learning_in_memory(optax.sgd(0.1), *HOT), "y": limjax.learning_in_memory(optax.sgd(0.1), *COLD)},
        {"enc": "x", "head": "y", "gain": "x"},
    )
    params, state = train(parts)
    joined, _ = train(limjax.learning_in_memory(optax.sgd(0.1), GROUPS))
    other = limjax.report(train(limjax.learning_in_memory(optax.sgd(0.1), GROUPS))[1], joined)
    assert limjax.report(state, params).to_dict()["layers"] == other.to_dict()["layers"]


# What a memory with several ladders needs besides: an lsb for each, and a temperature that may change.


def test_ladders_of_so_many_bits():
    lsb = limjax.lsb_for_bits(PARAMS, 8)
    assert lsb == {"enc/b": 2.0**-6, "enc/w": 2.0**-6, "gain": 2.0**-6, "head/w": 2.0**-7}
    groups = {path: (limjax.ArrheniusCell(lsb=x, bits=8), HOT[1]) for path, x in lsb.items()}
    jax.tree.map(np.testing.assert_array_equal, limjax.snap(PARAMS, groups), PARAMS)
    # one more bit of coarseness than needed would be wrong, one less would clip
    for path, x in lsb.items():
        top = float(jnp.max(jnp.abs(PARAMS[path] if path == "gain" else PARAMS[path[:-2]][path[-1]])))
        assert top <= 127 * x and top > 127 * x / 2
    assert limjax.lsb_for_bits({"w": jnp.zeros(3), "e": jnp.zeros((0,))}, np.int64(4)) == {"e": 2.0**-10, "w": 2.0**-10}
    for bits in (1, 25, True):
        with pytest.raises(ValueError, match="bits must be a whole number from 2 to 24"):
            limjax.lsb_for_bits(PARAMS, bits)
    with pytest.raises(ValueError, match=r"'w'.*not finite"):
        limjax.lsb_for_bits({"w": jnp.array([1.0, jnp.inf])}, 8)


def test_snap_says_what_it_clipped():
    weights = {"dense": {"w": 0.5 * jax.random.normal(jax.random.key(0), (64, 64))}, "b": jnp.array([0.1248, -0.1254])}
    cell = limjax.ArrheniusCell(bits=8)
    with pytest.warns(
        UserWarning, match=r"snap clipped 80\.3 % of the weights.*by 81\.\d %.*most in 'dense/w', 80\.3 %.*lsb_for_bits"
    ):
        limjax.snap(weights, cell)
    # what rounds to the end of the range, and what is traced, is not clipped
    limjax.snap({"b": weights["b"][:1] * 0 + 0.1244}, cell)
    jax.jit(lambda w: limjax.snap(w, cell))(weights)


def test_joules_are_summed_at_the_temperature_of_each_step():
    opt = limjax.learning_in_memory(optax.sgd(0.1), *HOT)
    params, state = PARAMS, opt.init(PARAMS)
    joules, before = 0.0, 0.0
    for kelvin in (400.0, 300.0, 20.0):
        state = state._replace(cell=limjax.ArrheniusCell(temperature=kelvin))
        _, state = opt.update(GRADIENT, state, params)
        heat = limjax.total(limjax.get_ledger(state))
        joules, before = joules + BOLTZMANN_J_PER_K * kelvin * (heat - before), heat
    table = limjax.report(state, params)
    assert table.total.heat_joules == pytest.approx(joules, rel=1e-6)
    assert table.temperature == pytest.approx(240.0, rel=1e-5)


# The optimizer's own memory, told by structure.


def arrays_of(optimizer, params):
    opt = limjax.learning_in_memory(optimizer, *HOT, optimizer_memory=HOT, compare=())
    state = opt.init(params)
    _, state = opt.update(jax.tree.map(jnp.ones_like, params), state, params, value=1.0)
    return np.asarray(limjax.get_ledger(state).optimizer_heat.total)


@pytest.mark.representatives(1)
@pytest.mark.parametrize(
    ("optimizer", "params", "count"),
    [
        (optax.adam(1e-3), {"w": jnp.ones((3, 2)), "s": jnp.ones(())}, 4),
        (optax.inject_hyperparams(optax.adam)(optax.cosine_decay_schedule(1.0, 9)), jnp.ones(()), 2),
        (optax.adafactor(1e-3, min_dim_size_to_factor=2), {"w": jnp.ones((3, 2))}, 3),
        (optax.chain(optax.sgd(0.1, momentum=0.9), optax.contrib.reduce_on_plateau()), {"s": jnp.ones(())}, 1),
        (optax.masked(optax.adam(1e-3), {"a": True, "b": False}), {"a": jnp.ones(2), "b": jnp.ones(2)}, 2),
        (optax.sgd(0.1), {"w": jnp.ones(3)}, 0),
    ],
    ids=["adam", "injected, one scalar", "adafactor", "plateau", "masked", "none"],
)
def test_the_optimizers_arrays_are_told_by_structure(optimizer, params, count):
    heat = arrays_of(optimizer, params)
    assert heat.shape == (count,) and (heat >= 0).all()


@pytest.mark.slow
def test_optimizers_that_need_parameters_to_start():
    """Shampoo-like: two matrices for every array, and a step size of its own; told by the path."""

    def init(params):
        stats = jax.tree.map(lambda p: (jnp.eye(p.shape[0]), jnp.eye(p.shape[1])), params)
        return {"stats": stats, "count": jnp.zeros((), jnp.int32), "size": jnp.ones(())}

    def update(updates, state, params=None):
        stats = jax.tree.map(lambda g, s: (s[0] + g @ g.T, s[1] + g.T @ g), updates, state["stats"])
        return updates, state | {"stats": stats, "size": state["size"] + 1}

    heat = arrays_of(optax.GradientTransformation(init, update), {"w": jnp.ones((3, 2)), "v": jnp.ones((2, 2))})
    assert heat.shape == (4,) and (heat > 0).all()
