"""Optimizers to wrap, what to wrap them in, and short runs of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import limjax

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
