"""Loops that people write: frozen parts, ensembles, shards, injected numbers, rejected batches, donated buffers, odd parameters."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from exact_loops import CELL, OPEN, exact, ledger_of
from programs import said_on_devices
from scipy.special import ive

import limjax
from limjax.memory._blocks import Blocks
from limjax.memory._field import as_field

pytestmark = pytest.mark.optax

# Frozen parts.

TREE = {"a": jnp.ones((3, 2)), "none": None, "empty": jnp.zeros((0, 4)), "gain": jnp.ones(()), "z": {"w": jnp.ones(40)}}


@pytest.mark.representatives(3)
@pytest.mark.parametrize(
    ("scope", "granularity"),
    [("global", "leaf"), ("leaf", "parameter"), ("parameter", "parameter"), ("parameter", "leaf"), ("leaf", "leaf")]
    + [("global", "parameter")],
)
def test_parts_that_take_turns_are_paid_for_no_barrier_that_nobody_raised(scope, granularity):
    """Two networks by turns, as generator and critic: a driver that recovers what lowering gives. The work is that of the heights in float64."""
    cell = limjax.ArrheniusCell(recovery=0.9)
    other = limjax.RateMatchedBarrier(decay=0.0, granularity="leaf" if scope == "global" else scope)
    if scope == "global":
        other = limjax.ScheduledBarrier(lambda step: 12.0 - 5.0 * jnp.sin(1.0 + step))
    opt = limjax.learning_in_memory(optax.sgd(1e-3), cell, other, granularity=granularity, compare={"other": other})
    params = {"a": jnp.ones(10), "b": jnp.ones(10), "never": jnp.ones(10)}
    state, step, heights = opt.init(params), jax.jit(opt.update), []
    for i in range(12):
        size = 100.0 ** (i // 2 % 3)
        turn = "a" if i % 2 == 0 else "b"
        gradient = {name: params[name] * size if name == turn else None for name in params}
        _, state = step(gradient, state, params)
        heights.append(
            np.broadcast_to(np.asarray(as_field(state.barrier.height).blocks(Blocks(jax.tree.leaves(params)))[0]), 30)
        )
    free = [np.log(ive(0, np.asarray(row[[0, 10, 20]], np.float64) / 2)) for row in heights]
    moves = -np.diff(free, axis=0)
    moves[0, 1] = 0.0  # where b first moves its barrier starts out
    moves[:, 2] = 0.0
    expected = 10 * np.where(moves > 0, moves, 0.9 * moves).sum(0)
    ledger = limjax.get_ledger(state)
    assert np.any(moves[:, :2] > 0.05, axis=0).all() and np.any(moves[:, :2] < -0.05, axis=0).all()
    own = jax.tree.leaves(limjax.leaf_totals(ledger, "actuation"))
    for work in (np.ravel(own), ledger.compare["other"].actuation.float64()):
        np.testing.assert_allclose(work, expected, atol=1e-4)
    # While it stands still, so does a barrier of its own.
    assert scope == "global" or (heights[1][0] == heights[0][0] and heights[2][10] == heights[1][10])


@pytest.mark.parametrize("frozen", [False, True])
def test_a_memory_that_rests_keeps_its_one_height(frozen):
    """As those of other layers do, also where one of its leaves has never moved."""
    params = {"a": jnp.ones(2), **({"f": jnp.ones(2)} if frozen else {})}
    opt = limjax.learning_in_memory(optax.sgd(0.01), limjax.ArrheniusCell(recovery=1.0), limjax.LyapunovBarrier(10.0))
    state, seen = opt.init(params), []
    for i, loss in enumerate((4.0, 2.0, 1.0, 0.1)):
        gradient = {name: params["a"] if i < 2 and name == "a" else None for name in params}
        _, state = opt.update(gradient, state, params, value=jnp.float32(loss))
        seen.append(
            (float(limjax.get_barrier(state)), float(limjax.leaf_totals(limjax.get_ledger(state), "actuation")[0]))
        )
    assert seen[1] == seen[2] == seen[3] and seen[1][0] > seen[0][0] and seen[1][1] > 0


@pytest.mark.representatives(1)
@pytest.mark.parametrize("granularity", ["leaf", "parameter"])
@pytest.mark.parametrize(
    "barrier",
    [
        OPEN,
        limjax.RateMatchedBarrier(2.0),
        limjax.RateMatchedBarrier(2.0, granularity="leaf"),
        limjax.MomentBarrier(granularity="leaf"),
    ],
    ids=lambda b: b.name,
)
def test_a_leaf_without_a_gradient_is_charged_nothing_and_shifts_nothing(granularity, barrier):
    opt = exact(optax.sgd(0.01), barrier, granularity=granularity)
    state, step = opt.init(TREE), jax.jit(opt.update)
    gradient = {"a": None, "none": None, "empty": jnp.zeros((0, 4)), "gain": jnp.ones(()), "z": {"w": None}}
    for _ in range(3):
        updates, state = step(gradient, state, TREE, value=1.0)
    assert np.isfinite(limjax.get_barrier(state))
    assert jax.tree.structure(updates) == jax.tree.structure(gradient) and updates["a"] is None
    for name in ("heat", "path", "hops", "actuation", "realised_heat"):
        totals = dict(zip(("a", "empty", "gain", "z"), limjax.leaf_totals(ledger_of(state), name)))
        assert totals["a"] == totals["z"] == totals["empty"] == 0, name
    assert limjax.leaf_totals(ledger_of(state), "heat")[2] > 0
    # the leaf that learns moves as it does where the others learn too
    if barrier.name == "moment":
        return  # its exchange is shared out among all that learn
    full = jax.tree.map(jnp.ones_like, TREE)
    other, _ = opt.update(full, opt.init(TREE), TREE)
    first, _ = opt.update(gradient, opt.init(TREE), TREE)
    np.testing.assert_array_equal(first["gain"], other["gain"])


def test_equinox_partition_the_usual_way():
    layers = [eqx.nn.Linear(2, 2, use_bias=False, key=jax.random.key(i)) for i in range(2)]
    moving, kept = eqx.partition(layers, [False, True])
    for inner in (optax.sgd(0.1), optax.sgd(0.1, momentum=0.9)):
        gradient = eqx.filter_grad(lambda m: jnp.sum(eqx.combine(m, kept)[1](jnp.ones(2)) ** 2))(moving)
        for params in (eqx.filter(layers, eqx.is_array), moving):
            opt = limjax.learning_in_memory(inner, CELL, OPEN, granularity="leaf")
            updates, state = opt.update(gradient, opt.init(params))
            heat = limjax.leaf_totals(ledger_of(state), "heat")
            assert heat[-1] > 0 and heat[:-1].sum() == 0
            eqx.apply_updates(layers, updates)


@pytest.mark.parametrize(
    "frozen",
    [
        ["z", "a"],
        lambda name: name != "gain",
        {"a": True, "none": None, "empty": True, "gain": False, "z": {"w": True}},
    ],
    ids=["prefixes", "function", "tree"],
)
def test_frozen_layers_keep_their_barrier_shut(frozen):
    opt = exact(optax.adam(0.01), frozen=frozen)
    updates, state = opt.update(jax.tree.map(jnp.ones_like, TREE), opt.init(TREE), TREE)
    assert not np.any(updates["a"]) and not np.any(updates["z"]["w"]) and np.any(updates["gain"])
    assert limjax.leaf_totals(ledger_of(state), "hops")[[0, 3]].sum() == 0
    with pytest.raises(ValueError, match="fits no parameter; there are a, empty, gain, z/w"):
        limjax.learning_in_memory(optax.sgd(0.1), CELL, OPEN, frozen=["y"]).update(TREE, state, TREE)


@pytest.mark.slow
def test_layers_that_wander_or_never_arrive_are_reported():
    params = {"still": jnp.zeros(100), "gain": jnp.zeros(100)}
    labels = {"still": "stop", "gain": "go"}
    opt = exact(optax.multi_transform({"stop": optax.set_to_zero(), "go": optax.sgd(0.1)}, labels))
    state = opt.init(params)
    for _ in range(3):
        updates, state = opt.update(jax.tree.map(jnp.ones_like, params), state, params)
        params = optax.apply_updates(params, updates)
    words = " ".join(limjax.report(ledger_of(state), params, CELL).warnings)
    assert "still: nothing was asked to move there, but hops scattered it" in words and "frozen=['still']" in words
    start = {"still": jnp.zeros(100), "gain": jnp.zeros(100)}
    opt = optax.chain(
        limjax.learning_in_memory(optax.sgd(0.1), CELL, OPEN),
        optax.masked(optax.set_to_zero(), {"still": True, "gain": False}),
    )
    updates, state = opt.update(jax.tree.map(jnp.ones_like, start), opt.init(start), start)
    words = " ".join(limjax.report(ledger_of(state), optax.apply_updates(start, updates), CELL).warnings)
    assert (
        "still: updates of up to" in words
        and "something outside dropped them" in words
        and "gain: updates" not in words
    )


def test_updates_of_other_parameters_are_refused():
    opt = exact(optax.sgd(0.1))
    state = opt.init({"a": jnp.ones(3), "b": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"they have a \(3,\); the parameters have a \(3,\), b \(2,\)"):
        opt.update({"a": jnp.ones(3)}, state)
    with pytest.raises(ValueError, match=r"b \(5,\)"):
        opt.update({"a": jnp.ones(3), "b": jnp.ones(5)}, state)


# Ensembles and shards.


def correlation(x, y):
    return abs(np.corrcoef(np.ravel(x), np.ravel(y))[0, 1])


def test_members_of_an_ensemble_draw_hops_of_their_own():
    """Correlations of 2,000 independent pairs: five standard errors are 0.11."""
    opt = exact(optax.sgd(0.1))
    params = {"w": jnp.zeros((3, 2000))}
    state = jax.vmap(opt.init)(params)
    update = jax.jit(jax.vmap(opt.update))
    updates, state = update({"w": jnp.zeros((3, 2000))}, state, params)
    moves = np.asarray(updates["w"])
    assert max(correlation(moves[i], moves[j]) for i, j in ((0, 1), (0, 2), (1, 2))) < 0.11
    # one state for all members: their updates tell them apart
    one = opt.init({"w": jnp.zeros(2000)})
    moves = jax.jit(jax.vmap(lambda g: opt.update({"w": g}, one)[0]["w"]))(jnp.zeros((2, 2000)))
    assert correlation(moves[0], moves[1]) < 0.11
    # two levels of members
    deep = jax.vmap(jax.vmap(opt.init))({"w": jnp.zeros((2, 2, 2000))})
    keys = {tuple(key) for key in np.asarray(deep.key).reshape(4, 2).tolist()}
    assert len(keys) == 4
    # a key per member stays the key it is
    given = jax.vmap(lambda key: exact(optax.sgd(0.1)).init({"w": jnp.zeros(3)})._replace(key=jax.random.key_data(key)))
    states = given(jax.random.split(jax.random.key(0), 2))
    moves, _ = update({"w": jnp.zeros((2, 3))}, states)
    alone, _ = opt.update({"w": jnp.zeros(3)}, jax.tree.map(lambda x: x[1], states))
    np.testing.assert_array_equal(moves["w"][1], alone["w"])


@pytest.mark.slow
def test_members_share_a_frozen_array_and_no_hop():
    """A large first array that is the same for all members, left out of the updates or trained: blocks are told apart one by one."""
    size = 40_000
    params = {"a": jnp.zeros(size), "b": jnp.zeros((2, size))}
    opt = exact(optax.sgd(0.1))
    axes = {"a": None, "b": 0}
    state = jax.vmap(opt.init, (axes,))(params)
    assert (np.asarray(state.key[0]) != np.asarray(state.key[1])).any()
    one = opt.init({"a": jnp.zeros(size), "b": jnp.zeros(size)})
    for first in (None, jnp.zeros(size)):
        moves = jax.vmap(lambda b, a=first: opt.update({"a": a, "b": b}, one)[0], out_axes={"a": None, "b": 0})(
            params["b"]
        )
        assert correlation(moves["b"][0], moves["b"][1]) < 0.03


@pytest.mark.slow
def test_ledgers_of_an_ensemble_are_read_one_by_one():
    opt = exact(optax.sgd(0.1))
    params = {"w": jnp.zeros((3, 4)), "b": jnp.zeros((3, 2))}
    gradient = {"w": jnp.zeros((3, 4)), "b": jnp.arange(6.0).reshape(3, 2)}
    _, state = jax.vmap(opt.update)(gradient, jax.vmap(opt.init)(params), params)
    for call in (
        limjax.total,
        limjax.per_parameter,
        lambda x: limjax.leaf_totals(x, "path"),
        lambda x: limjax.report(x, params, CELL),
    ):
        with pytest.raises(ValueError, match=r"members of an ensemble, 3 of them: take one"):
            call(ledger_of(state))
    with pytest.raises(ValueError, match="take one"):
        limjax.get_barrier(state)
    one = jax.tree.map(lambda x: x[2], state)
    assert limjax.leaf_totals(ledger_of(one), "path").tolist() == pytest.approx([0.1 * 1024 * 9, 0.0])


def test_parts_of_one_model_draw_hops_of_their_own():
    parts = optax.multi_transform({"x": exact(optax.sgd(0.1)), "y": exact(optax.sgd(0.1))}, {"one": "x", "two": "y"})
    params = {"one": jnp.zeros(2000), "two": jnp.zeros(2000)}
    updates, _ = parts.update(params, parts.init(params), params)
    assert correlation(updates["one"], updates["two"]) < 0.11


SHARDS = """
import jax, jax.numpy as jnp, numpy as np, optax, limjax
from jax.sharding import AxisType, PartitionSpec
mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
opt = limjax.learning_in_memory(
    optax.sgd(0.1), limjax.ArrheniusCell(), limjax.StaticBarrier(8.0), hops="exact", key=jax.random.key(3), compare=()
)
state = opt.init(jnp.zeros(2000))
def moves(spec, size):
    step = jax.shard_map(lambda g: opt.update(g, state)[0], mesh=mesh, in_specs=spec, out_specs=spec)
    return np.asarray(jax.jit(step)(jnp.zeros(size)))
shards, replicas = moves(PartitionSpec("data"), 4000), moves(PartitionSpec(), 2000)
print(abs(np.corrcoef(shards[:2000], shards[2000:])[0, 1]) < 0.11, (replicas == opt.update(jnp.zeros(2000), state)[0]).all())
# Both in one tree, each first in turn: large arrays, so that each is a block of its own.
for first, second in (("data", None), (None, "data")):
    specs = {"a": PartitionSpec(first), "b": PartitionSpec(second)}
    size = {"data": 80000, None: 40000}
    zeros = {"a": jnp.zeros(size[first]), "b": jnp.zeros(size[second])}
    state = opt.init({"a": jnp.zeros(40000), "b": jnp.zeros(40000)})
    def both(g):
        return {k: v[None] for k, v in opt.update(g, state)[0].items()}
    step = jax.jit(jax.shard_map(both, mesh=mesh, in_specs=(specs,), out_specs=PartitionSpec("data"), check_vma=True))
    moves = {k: np.asarray(v) for k, v in step(zeros).items()}
    sharded, same = ("a", "b") if first else ("b", "a")
    print((moves[same][0] == moves[same][1]).all(), abs(np.corrcoef(*moves[sharded])[0, 1]) < 0.03)
"""


@pytest.mark.slow
def test_shards_draw_hops_of_their_own_and_replicas_the_same():
    said, errors = said_on_devices(SHARDS, 2)
    assert said == ["True"] * 6, errors


# Numbers that change.


EXPLICIT = """
import contextlib, jax, jax.numpy as jnp, numpy as np, optax, limjax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
mesh = jax.make_mesh((2,), ("model",), axis_types=(AxisType.Explicit,))
plain = {"w": jnp.ones((64, 4)), "b": jnp.ones(3)}
split = {"w": jax.device_put(plain["w"], NamedSharding(mesh, PartitionSpec("model"))), "b": plain["b"]}
for barrier in (limjax.StaticBarrier(9.0), limjax.LyapunovBarrier(), limjax.MomentBarrier()):
    opt = limjax.learning_in_memory(optax.adam(1e-3), limjax.ArrheniusCell(), barrier, hops="exact", key=jax.random.key(0))
    want = limjax.total(limjax.get_ledger(jax.jit(opt.update)(plain, opt.init(plain), plain, value=1.0)[1]))
    for where in (contextlib.nullcontext(), jax.set_mesh(mesh)):
        with where:
            moves, state = jax.jit(opt.update)(split, opt.init(split), split, value=1.0)
            heat = limjax.total(limjax.get_ledger(state))
            print(abs(heat / want - 1) < 1e-5, moves["w"].sharding.spec[0] == "model")
"""


@pytest.mark.slow
def test_meshes_with_explicit_axes():
    """What `jax.make_mesh` gives by default in newer JAX: split arrays cannot be made flat, and stay split."""
    said, errors = said_on_devices(EXPLICIT, 2)
    assert said == ["True"] * 12, errors


def test_injected_numbers_take_effect_without_recompiling():
    @optax.inject_hyperparams
    def make(height, lsb, coupling_free=1.0):
        del coupling_free
        return limjax.learning_in_memory(
            optax.sgd(0.1), limjax.ArrheniusCell(lsb=lsb), limjax.StaticBarrier(height), compare=()
        )

    schedule = optax.linear_schedule(10.0, 40.0, 3)
    opt = make(height=schedule, lsb=2.0**-10)
    gradient, traces = jnp.ones(3), []

    @jax.jit
    def step(state):
        traces.append(1)
        return opt.update(gradient, state)[1]

    state, heights = opt.init(gradient), []
    for _ in range(4):
        state = step(state)
        heights.append(float(limjax.get_barrier(state)))
    assert heights == pytest.approx([10.0, 20.0, 30.0, 40.0]) and len(traces) == 1
    before = limjax.total(ledger_of(state), "path")
    state.hyperparams["lsb"] = jnp.asarray(2.0**-9)
    state = step(state)
    assert limjax.total(ledger_of(state), "path") - before == pytest.approx(3 * 0.1 * 512)
    tilt = optax.inject_hyperparams(lambda coupling: limjax.gradient_tilt(CELL, limjax.StaticBarrier(12.0), coupling))
    opt = tilt(coupling=100.0)
    state = opt.init(gradient)
    weak, state = opt.update(gradient, state)
    state.hyperparams["coupling"] = jnp.asarray(1000.0)
    strong, _ = opt.update(gradient, state)
    assert float(strong[0]) / float(weak[0]) == pytest.approx(10.0, rel=0.1)


def test_numbers_edited_in_the_state_stay():
    opt = limjax.learning_in_memory(optax.sgd(0.1), CELL, OPEN)
    state = opt.init(jnp.ones(2))
    state = eqx.tree_at(lambda s: s.barrier.policy.height, state, jnp.asarray(33.0))
    for update in (opt.update, limjax.learning_in_memory(optax.sgd(0.1), CELL, OPEN).update):
        assert float(limjax.get_barrier(update(jnp.ones(2), state)[1])) == 33.0
    other = limjax.learning_in_memory(optax.sgd(0.1), CELL, limjax.LyapunovBarrier(10.0))
    with pytest.raises(ValueError, match="same kinds of cell, barrier and comparisons"):
        other.update(jnp.ones(2), state, value=1.0)


# Dtypes.


WIDE = {"sgd": lambda: optax.sgd(np.float64(0.1)), "adam": lambda: optax.adam(0.1, mu_dtype=jnp.float64)}


@pytest.mark.representatives(2)
@pytest.mark.parametrize(
    ("inner", "granularity"), [("sgd", "leaf"), ("adam", "parameter"), ("sgd", "parameter"), ("adam", "leaf")]
)
def test_updates_wider_than_their_parameters_are_charged_in_the_parameters_dtype(inner, granularity):
    """With 64 bits at hand: the weights are those of the bare optimizer, state dtypes stay, nothing is compiled twice."""
    with jax.enable_x64(True):
        params = {"a": jnp.ones(3, jnp.float32), "b": jnp.ones(2, jnp.float64), "c": jnp.ones(2, jnp.bfloat16)}
        ends = []
        for opt in (
            WIDE[inner](),
            limjax.learning_in_memory(WIDE[inner](), CELL, limjax.MomentBarrier(), granularity=granularity),
        ):

            def step(carry, _, opt=opt):
                params, state = carry
                updates, state = opt.update(params, state, params, value=jnp.float64(1.0))
                return (optax.apply_updates(params, updates), state), None

            ends.append(jax.lax.scan(step, (params, opt.init(params)), None, length=3)[0])
        for bare, mine in zip(*(jax.tree.leaves(end[0]) for end in ends)):
            np.testing.assert_array_equal(np.asarray(bare, np.float64), np.asarray(mine, np.float64))
        assert limjax.total(limjax.get_ledger(ends[1][1])) > 0
