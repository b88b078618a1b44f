"""Barriers do not depend on how many shards hold the parameters: every barrier and every rule on two devices against one."""

import pytest
from programs import said_on_devices

from limjax.barriers import barrier_names
from limjax.barriers._rules import RULES

RUN = """
import jax, jax.numpy as jnp, numpy as np, optax, limjax
from jax.sharding import AxisType, PartitionSpec as P
from limjax.barriers import barrier_from_name, barrier_names
from limjax.barriers._rules import RULES
from limjax.memory import as_field, get_ledger, get_memory
from limjax.memory._blocks import Blocks

CELL = limjax.ArrheniusCell(max_affinity=8.0)
mesh = jax.make_mesh((2,), ("model",), axis_types=(AxisType.Auto,))

def trained(barrier, total, frozen=None):
    "Heights and heat of each parameter, and barrier work of each array, after two steps, the end of a task and one step."
    opt = limjax.learning_in_memory(optax.sgd(0.1), CELL, barrier, compare=(), frozen=frozen)
    def run(params):
        state = opt.init(params)
        for k in range(3):
            loss = 0.5 * sum(total[name](jnp.sum(x * x)) for name, x in params.items())
            updates, state = opt.update(params, state, params, value=loss)
            params = optax.apply_updates(params, updates)
            state = limjax.consolidate(state, params) if k == 1 else state
        ledger, leaves = get_ledger(state), jax.tree.leaves(params)
        layout, work = Blocks(leaves, ledger.packed), ledger.actuation.total
        blocks = as_field(get_memory(state).barrier.height).blocks(layout), ledger.heat.total
        spread = [[jnp.broadcast_to(x, y.shape) for x, y in zip(some, layout.pack(leaves))] for some in blocks]
        work = [jnp.sum(x) for x in layout.unpack(work)] if isinstance(work, list) else work
        work = [total[name](x)[None] for name, x in zip(params, work)]
        return tuple(dict(zip(params, found)) for found in (*map(layout.unpack, spread), work))
    return run

def compared(name, got, want):
    pairs = list(zip(jax.tree.leaves(got), jax.tree.leaves(want)))
    if not all(np.allclose(*pair, rtol=2e-5, atol=1e-6) for pair in pairs):
        print("but", [float(np.abs(a - b).max()) for a, b in pairs], end=" ")
    print(name, sum(float(np.ptp(x)) for x in jax.tree.leaves(want[1])) > 1)
"""

SHARDS = f"""{RUN}
named = {{"static": "static:height=12"}}  # by name alone it stands so high that nothing moves
barriers = {{name: barrier_from_name(named.get(name, name), CELL, 10, 0.1) for name in barrier_names()}}
rules = {{name: limjax.ConsolidatingBarrier(14.0, kind()) for name, kind in RULES.items()}}
others = {{
    "moment-of-leaves": limjax.MomentBarrier(granularity="leaf"),
    "rate-of-parameters": limjax.RateMatchedBarrier(),
    "learned-of-leaves": limjax.LearnedBarrier.from_theory(granularity="leaf"),
}}
# An array that is split, a small one that is the same everywhere and counts once, and one that is split and frozen.
params = {{"b": jnp.array([3.0, 0.5, -1.0]), "f": jnp.ones(30), "w": jnp.linspace(0.1, 2.0, 40).at[7].set(0.0)}}
specs = {{"b": P(), "f": P("model"), "w": P("model")}}
alone = {{name: lambda x: x for name in params}}
whole = alone | {{name: lambda x: jax.lax.psum(x, "model") for name in "fw"}}
for name, barrier in SOME.items():
    want = jax.jit(trained(barrier, alone, ["f"]))(params)
    # Work is a row of all arrays for barriers that are alike within them: split by its type, though not by its numbers.
    run = jax.shard_map(trained(barrier, whole, ["f"]), mesh=mesh, in_specs=(specs,), out_specs=(specs, specs, {{"b": P("model"), "f": P(), "w": P()}}))
    compared(name, jax.jit(run)(params), (*want[:2], want[2] | {{"b": want[2]["b"].repeat(2)}}))
"""

MEMBERS = f"""{RUN}
params = {{"w": jnp.concatenate([jnp.linspace(0.1, 2.0, 20), jnp.linspace(-0.3, 0.1, 20)])}}
specs, alone = {{"w": P("model")}}, {{"w": lambda x: x}}
for name in ("rate-matched", "fisher", "lyapunov"):
    run = trained(barrier_from_name(name, CELL, 10, 0.1), alone)
    one = jax.jit(run)
    halves = [one({{"w": part}}) for part in params["w"].reshape(2, 20)]
    want = jax.tree.map(lambda *parts: jnp.concatenate(parts), *halves)
    # Each device has a model and a loss of its own.
    compared(name, jax.jit(jax.shard_map(run, mesh=mesh, in_specs=(specs,), out_specs=(specs,) * 3))(params), want)
"""


OTHERS = ("moment-of-leaves", "rate-of-parameters", "learned-of-leaves")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("some", "names"),
    [("barriers", barrier_names()), ("rules", tuple(RULES)), ("others", OTHERS)],
    ids=["barriers", "rules", "granularities"],
)
def test_a_barrier_is_the_same_on_one_shard_and_on_two(some, names):
    said, errors = said_on_devices(SHARDS.replace("SOME", some), 2)
    assert said == [word for name in names for word in (name, "True")], errors


@pytest.mark.slow
def test_members_of_an_ensemble_on_several_devices_have_barriers_of_their_own():
    """What tells members from parts of one model is that each has its own loss."""
    said, errors = said_on_devices(MEMBERS, 2)
    assert said == ["rate-matched", "True", "fisher", "True", "lyapunov", "True"], errors


WRONG = """
import functools, jax, jax.numpy as jnp, optax, limjax
from jax.sharding import AxisType, PartitionSpec as P

mesh = jax.make_mesh((2,), ("member",), axis_types=(AxisType.Auto,))
opt = limjax.learning_in_memory(optax.sgd(0.1), limjax.ArrheniusCell(), limjax.LyapunovBarrier(12.0), compare=())

@jax.jit
@functools.partial(jax.shard_map, mesh=mesh, in_specs=(P("member"),) * 2, out_specs=P("member"))
def step(x, loss):
    _, state = opt.update({"w": x}, opt.init({"w": x}), {"w": x}, value=loss[0])
    return limjax.get_barrier(state)[None]

x = jnp.ones(4)
print(step(x, jnp.array([1.0, 2.0])).tolist() == [12.0, 12.0])
try:
    jax.block_until_ready(step(x, jnp.array([1.0, -2.0])))
except Exception as error:
    print("which has to be above its floor" in str(error))
"""


def test_a_loss_below_its_floor_on_one_device_of_two_is_said():
    said, errors = said_on_devices(WRONG, 2)
    assert said == ["True", "True"], errors
