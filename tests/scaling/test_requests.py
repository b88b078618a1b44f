"""Signal and noise in requests: counted without bias, and the law's number of effective updates in a bowl."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from limjax.scaling import Bins, Signal, effective_updates, halved, request_sums, watched

pytestmark = pytest.mark.optax


def test_bins_cover_the_run():
    for steps in (2, 7, 100, 1025, 400_000):
        bins = Bins.of(steps)
        assert 1 <= bins.bins <= 64 and bins.bins * bins.steps <= steps < (bins.bins + 1) * bins.steps
    with pytest.raises(ValueError, match="steps must be"):
        Bins.of(1)


def test_halves_make_the_gradient_of_the_whole():
    def loss(w, batch):
        return jnp.mean((batch["x"] @ w - batch["y"]) ** 2)

    rng = np.random.default_rng(0)
    w, x, y = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((3,), (6, 3), (6,)))
    value, gradient, told = halved(loss)(w, {"x": x, "y": y})
    expected, whole = jax.value_and_grad(loss)(w, {"x": x, "y": y})
    first, second = (jax.grad(loss)(w, {"x": x[part], "y": y[part]}) for part in (slice(3), slice(3, 6)))
    assert value == pytest.approx(float(expected), rel=1e-6)
    np.testing.assert_allclose(gradient, whole, rtol=1e-5)
    np.testing.assert_allclose(told["half_difference"], (first - second) / 2, rtol=1e-5, atol=1e-6)


def followed(optimizer, mean, noise, weights, steps, seed=0):
    """A run of a `watched` optimizer on batches of two examples with gradients `mean(w)` and a noise; its loss is the mean square of the weights."""
    bins = Bins.of(steps)
    watching = watched(optimizer, bins)

    @jax.jit
    def run(weights, key):
        def step(i, carry):
            w, state = carry
            a, b = noise * jax.random.normal(jax.random.fold_in(key, i), (2, *w["a"].shape), jnp.float32)
            gradient, difference = {"a": mean(w["a"]) + (a + b) / 2}, {"a": (a - b) / 2}
            updates, state = watching.update(
                gradient, state, w, value=jnp.mean(w["a"] ** 2), half_difference=difference
            )
            return optax.apply_updates(w, updates), state

        return jax.lax.fori_loop(0, steps, step, (weights, watching.init(weights)))

    weights, state = run(weights, jax.random.key(seed))
    return weights, request_sums((state,)), bins


@pytest.mark.parametrize("optimizer", [optax.sgd(0.0), optax.adam(0.0)], ids=["sgd", "adam"])
def test_signal_is_the_share_of_the_mean_in_the_mean_square(optimizer):
    size, share, steps = 2048, 0.04, 512
    level = np.sqrt(share / (1 - share))  # against a noise of variance 1 in the mean of two halves
    _, sums, bins = followed(optimizer, lambda w: level + jnp.zeros_like(w), np.sqrt(2), {"a": jnp.zeros(size)}, steps)
    found = Signal.of(sums, bins)
    # In units of the mean square a half has variance 2 (1 - s): var z_a z_b = 4 N² + 4 s N; five standard errors miss once in a million.
    noise = 1 - share
    error = np.sqrt((4 * noise**2 + 4 * share * noise) / (steps * size))
    assert abs(found.share.mean() - share) < 5 * error
    # The scatter of 16 steps says the same error, to its own 18 % in each of 32 bins; the first steps of Adam's are louder.
    stated = np.sqrt(np.mean(found.error[1:] ** 2))
    assert stated == pytest.approx(error * np.sqrt(steps / bins.steps), rel=0.15)


def test_promises_are_the_fall_of_the_loss_to_first_order():
    """With momentum 0.9 and a small rate on a bowl w²/2, whose falls are known: promises add up to the fall of each bin."""
    weights, rate, steps = jnp.asarray([1.0, -2.0, 0.5], jnp.float32), 1e-4, 96
    _, sums, bins = followed(optax.sgd(rate, momentum=0.9), lambda w: w, 0.0, {"a": weights}, steps)
    # The same in NumPy.
    w, velocity, losses = np.asarray(weights, np.float64), np.zeros(3), []
    for _ in range(steps + 1):
        losses.append(w @ w / 2)
        velocity = w + 0.9 * velocity
        w = w - rate * velocity
    falls = -np.diff(losses[:: bins.steps])
    np.testing.assert_allclose(np.asarray(sums.promises)[:, 0], falls, rtol=1e-3)


@pytest.mark.parametrize(
    "optimizer", [optax.sgd(0.0), optax.adam(0.0), optax.adam(0.0, b2=0.9)], ids=["sgd", "adam", "fast"]
)
def test_steps_of_a_bin_count_alike_while_the_signal_falls(optimizer):
    """A mean 2 e^(-t/20) + 0.1 under noise of variance 1: the first bin has the share of its own steps, not of its very first ones."""
    steps, size = 800, 512
    bins = Bins.of(steps)
    watching = watched(optimizer, bins)
    means = 2 * np.exp(-np.arange(steps) / 20) + 0.1

    def step(state, item):
        mean, key = item
        a, b = np.sqrt(2) * jax.random.normal(key, (2, size), jnp.float32)
        gradient, difference = {"a": mean + (a + b) / 2}, {"a": (a - b) / 2}
        return watching.update(gradient, state, {"a": jnp.zeros(size)}, value=jnp.ones(()), half_difference=difference)[
            1
        ], None

    items = jnp.asarray(means, jnp.float32), jax.random.split(jax.random.key(1), steps)
    state, _ = jax.jit(lambda s: jax.lax.scan(step, s, items))(watching.init({"a": jnp.zeros(size)}))
    found = Signal.of(request_sums((state,)), bins).share[:3]
    pooled = [np.mean(m**2) / np.mean(m**2 + 1) for m in np.split(means, bins.bins)[:3]]
    # Adam divides by its own average, which lags: louder steps count less, by their own share.
    np.testing.assert_allclose(found, pooled, rtol=0.08, atol=0.02)


def test_errors_of_arrays_that_share_their_batches_are_added():
    bins, ones = Bins(4, 1), np.ones((1, 2))
    # Products of 1, 1, 3, 3 in the first array and 0, 0, 4, 4 in the second.
    sums = request_sums(watched(optax.sgd(0.1), bins).init([jnp.zeros(3), jnp.zeros(5)]))
    sums = sums._replace(products=np.array([[8.0, 8.0]]), scatter=np.array([[20.0, 32.0]]), squares=40.0 * ones)
    one, both = Signal.of(sums, bins, [0]), Signal.of(sums, bins)
    assert one.share == pytest.approx(0.2) and one.error == pytest.approx(2 * np.std([1, 1, 3, 3], ddof=1) / 40)
    assert both.share == pytest.approx(0.2)
    assert both.error == pytest.approx(2 * (np.std([1, 1, 3, 3], ddof=1) + np.std([0, 0, 4, 4], ddof=1)) / 80)


def test_requests_are_handed_on_as_they_are():
    inner = optax.chain(optax.scale_by_adam(), optax.scale(-0.1))
    watching, params = watched(inner, Bins.of(64)), {"a": jnp.ones(3), "b": jnp.zeros((2, 2))}
    plain, state = inner.init(params), watching.init(params)
    for i in range(3):
        gradient = jax.tree.map(lambda p, i=i: p + i, params)
        wanted, plain = inner.update(gradient, plain, params)
        got, state = watching.update(gradient, state, params, value=jnp.asarray(1.0), half_difference=params)
        assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(got)))
    with pytest.raises(ValueError, match="half_difference"):
        watching.update(params, state, params, value=jnp.asarray(1.0))
    with pytest.raises(ValueError, match="no counts"):
        request_sums(plain)


@pytest.mark.parametrize("rate", [2e-3, 2e-2])
def test_effective_updates_of_a_bowl_are_those_of_the_law(rate):
    """Gradient descent with noisy gradients, n' = n - u (n + (σ/h) ξ): the law counts (σ²/h²)(1/LT - 1/L0), at any rate."""
    size, steps, noise = 16384, round(1.4 / rate), 2.0
    start = {"a": jnp.ones(size)}
    weights, sums, bins = followed(optax.sgd(rate), lambda w: w, np.sqrt(2 * noise), start, steps)
    losses = np.asarray(sums.losses, np.float64) / bins.steps
    found = effective_updates(Signal.of(sums, bins), losses, 1.0)
    assert found.unresolved == 0
    assert float(jnp.mean(weights["a"] ** 2)) < 0.1
    # To the middle of the last bin, where its mean loss stands. The fast rate has 70 steps in 8 bins of 8, each of which holds a
    # third of an e-fold: averaging over five of them is the rougher.
    assert found.per_parameter == pytest.approx(noise * (1 / losses[-1] - 1), rel=0.02 if rate < 0.01 else 0.1)


def test_a_signal_that_is_not_resolved_is_a_lower_bound_and_said():
    signal = Signal(np.array([0.5, 0.5, -0.7, -0.8]), np.full(4, 1 / 120))
    found = effective_updates(signal, np.array([3.0, 2.5, 2.4, 2.35]), 4.0)
    # Means over the bins beside them: 0.1, -0.125, -0.125, -1/3; what is below 0 counts as 1/120 over the root of their number.
    ratios = [9.0, 120 * 2 - 1, 120 * 2 - 1, 120 * np.sqrt(3) - 1]
    falls = np.log([4 / 3, 3 / 2.5, 2.5 / 2.4, 2.4 / 2.35])
    expected = 9 * falls[0] + sum(0.5 * (a + b) * fall for a, b, fall in zip(ratios, ratios[1:], falls[1:]))
    assert found.unresolved == 0.75
    assert found.per_parameter == pytest.approx(expected)
