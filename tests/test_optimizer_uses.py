"""The wrapped optimizer in use: arguments, its own memory, sharding, and models of other libraries."""

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
from wrapped import (
    BARRIERS,
    CELL,
    INNER,
    gradient_of,
    lim,
    loss_of,
    make_params,
    run,
    signature,
)

import limjax

pytestmark = pytest.mark.optax


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


@pytest.mark.slow
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


@pytest.mark.representatives(2)
@pytest.mark.parametrize("name", ["adam", "momentum", "adafactor", "multi_steps", "inject_hyperparams", "sgd"])
def test_optimizer_memory_keeps_the_signature(name):
    opt = lim(INNER[name](), optimizer_memory=(CELL, limjax.FisherBarrier()))
    start = opt.init(make_params())
    assert signature(run(opt, make_params())[2]) == signature(start)


# Sharding.


@pytest.mark.parametrize("name", ["static", "fisher", "rate-matched-leaf"])
def test_optimizer_memory_on_a_mesh_with_explicit_axes(name):
    """Arrays whose type says that they are split share no block with others, and the momenta of them do not either."""
    memory = CELL, BARRIERS[name]()
    opt = lim(optax.sgd(0.1, momentum=0.9), limjax.StaticBarrier(9.0), optimizer_memory=memory, compare=())
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,))
    params = {
        "a": jax.device_put(jnp.ones(8), jax.NamedSharding(mesh, jax.P("x"))),
        "b": jax.device_put(jnp.ones(4), jax.NamedSharding(mesh, jax.P(None))),
    }
    with jax.set_mesh(mesh):
        _, state = jax.eval_shape(lambda p: opt.update(p, opt.init(p), p, value=jnp.ones(())), params)
    assert state.ledger.optimizer_heat.total.shape == (2,)


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
