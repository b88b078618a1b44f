"""Signal and noise in requests: counted without bias, and the law's number of effective updates in a bowl."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from limjax.scaling import Bins, effective_updates, request_sums, watched

pytestmark = pytest.mark.optax


def test_bins_cover_the_run():
    for steps in (2, 7, 100, 1025, 400_000):
        bins = Bins.of(steps)
        assert 1 <= bins.bins <= 64 and bins.bins * bins.steps <= steps < (bins.bins + 1) * bins.steps
    with pytest.raises(ValueError, match="steps must be"):
        Bins.of(1)


def followed(optimizer, gradient, weights, steps, seed=0):
    """A run of a `watched` optimizer on gradients of (weights, key), whose loss is the mean square of the weights."""
    bins = Bins.of(steps)
    watching = watched(optimizer, bins)

    @jax.jit
    def run(weights, key):
        def step(i, carry):
            w, state = carry
            updates, state = watching.update(
                gradient(w, jax.random.fold_in(key, i)), state, w, value=jnp.mean(w["a"] ** 2)
            )
            return optax.apply_updates(w, updates), state

        return jax.lax.fori_loop(0, steps, step, (weights, watching.init(weights)))

    weights, state = run(weights, jax.random.key(seed))
    return weights, request_sums((state,)), bins


@pytest.mark.parametrize(("optimizer", "moments"), [(optax.sgd(0.0), 0), (optax.adam(0.0), 1)], ids=["sgd", "adam"])
def test_signal_is_the_share_of_the_mean_in_the_mean_square(optimizer, moments):
    size, share = 2048, 0.04
    mean = np.sqrt(share / (1 - share))  # against a noise of variance 1

    def gradient(w, key):
        return {"a": mean + jax.random.normal(key, (size,), jnp.float32)}

    _, sums, bins = followed(optimizer, gradient, {"a": jnp.zeros(size)}, 512)
    found = bins.signal(np.asarray(sums.squares, np.float64)[:, 0] / size).mean()
    # S = K m + noise of variance K N: var S² = 2 (K N)² + 4 (K m)² K N; beyond five standard errors one run in a million.
    k, noise = bins.span, 1 - share
    error = np.sqrt(2 * (k * noise) ** 2 + 4 * share * k**3 * noise) / (k * (k - 1) * np.sqrt(512 / k * size))
    # Adam's own second moment, of the same gradients, lessens the loud ones: by a percent or two of the share.
    assert abs(found - share) < 5 * error + (0.0 if moments == 0 else 0.03 * share)
    assert bins.resolution(size) == pytest.approx(
        np.sqrt(2) / (np.sqrt(k * (k - 1)) * np.sqrt(512 / bins.bins / k * size))
    )


def test_requests_are_handed_on_as_they_are():
    inner = optax.chain(optax.scale_by_adam(), optax.scale(-0.1))
    watching, params = watched(inner, Bins.of(64)), {"a": jnp.ones(3), "b": jnp.zeros((2, 2))}
    plain, state = inner.init(params), watching.init(params)
    for i in range(3):
        gradient = jax.tree.map(lambda p, i=i: p + i, params)
        wanted, plain = inner.update(gradient, plain, params)
        got, state = watching.update(gradient, state, params, value=jnp.asarray(1.0))
        assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(got)))
    with pytest.raises(ValueError, match="no counts"):
        request_sums(plain)


def test_effective_updates_of_a_bowl_are_those_of_the_law():
    """Gradient descent with noisy gradients, n' = n - u (n + (σ/h) ξ): the law counts (σ²/h²)(1/LT - 1/L0)."""
    size, steps, rate, noise = 16384, 700, 2e-3, 2.0

    def gradient(w, key):
        return {"a": w["a"] + np.sqrt(noise) * jax.random.normal(key, (size,), jnp.float32)}

    start = {"a": jnp.ones(size)}
    weights, sums, bins = followed(optax.sgd(rate), gradient, start, steps)
    losses = np.asarray(sums.losses, np.float64) / bins.steps
    found = effective_updates(np.asarray(sums.squares, np.float64)[:, 0] / size, losses, 1.0, size, bins)
    # To the middle of the last bin, where its mean loss stands. Noise that has moved the weights pulls back: the signal seen is
    # L - u σ²/h² instead of L, and the integral of the law with that has a closed form.
    last, pull = losses[-1], rate * noise
    law = noise * (1 / last - 1)
    seen = (np.log1p(-pull) - np.log1p(-pull / last)) / rate
    assert found.unresolved == 0
    assert float(jnp.mean(weights["a"] ** 2)) < 0.1
    # The standard error of a bin's signal is 0.0007 where m² falls to 0.03: two percent at the end, less over all bins.
    assert found.per_parameter == pytest.approx(seen, rel=0.02)
    assert seen == pytest.approx(law, rel=0.05)


def test_a_signal_that_is_not_resolved_is_a_lower_bound_and_said():
    bins, size = Bins(16, 1, 4), 120
    least = bins.resolution(size)
    assert least == pytest.approx(1 / 120)
    squares = 16 + 240 * np.array([0.5, 0.5, -0.7, -0.8])
    found = effective_updates(squares, np.array([3.0, 2.5, 2.4, 2.35]), 4.0, size, bins)
    # Means over the bins beside them: 0.1, -0.125, -0.125, -1/3; what is below 0 counts as 1/120 over the root of their number.
    ratios = [9.0, 120 * 2 - 1, 120 * 2 - 1, 120 * np.sqrt(3) - 1]
    falls = np.log([4 / 3, 3 / 2.5, 2.5 / 2.4, 2.4 / 2.35])
    expected = 9 * falls[0] + sum(0.5 * (a + b) * fall for a, b, fall in zip(ratios, ratios[1:], falls[1:]))
    assert found.unresolved == 0.75
    assert found.per_parameter == pytest.approx(expected)
