"""The hop samplers against the exact laws: their distribution is measured by bisection, not sampled.

Each count is a monotone function of the words, so the words at which it changes give its probabilities to every digit.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st

from limjax.numerics import poisson as inversion
from limjax.numerics.counters import key_words, step_words
from limjax.physics import ArrheniusCell, hop_rates
from limjax.physics import _hops as hops

poisson = jax.jit(inversion.poisson_inverse_cdf)
# One attempt in a step: the barrier is -ln g.
UNIT = ArrheniusCell(attempt_rate=1.0, step_time=1.0)


def exact_step(leaf, key, step, drift, log_exchange):
    return hops.exact_step(leaf, key, step, UNIT, drift, -log_exchange)


exact = jax.jit(hops.exact_hops)
gaussian = jax.jit(hops.gaussian_hops)
draw = jax.jit(step_words, static_argnums=(1, 3))

SMALL_RATES = np.concatenate([np.geomspace(1e-12, 1e-3, 6), np.geomspace(1e-2, 3.9999, 10)])
LARGE_RATES = np.concatenate([np.geomspace(4.0, 30.0, 6), [55.5, 100.0, 333.3, 1e3, 12345.6, 1e5, 1e6]])


def _few_survival(rate, dtype):
    """P(N > n) of the sampler for n = 0 ... 19, by bisection of the 64-bit word; exact."""
    n = np.arange(20)
    low, high = np.zeros(20, np.uint64), np.full(20, 2**64 - 1, np.uint64)
    for _ in range(64):
        middle = low + (high - low) // np.uint64(2)
        words = (middle >> np.uint64(32)).astype(np.uint32), middle.astype(np.uint32)
        fires = np.asarray(poisson(*map(jnp.asarray, words), jnp.full(20, rate, dtype))) > n
        low = np.where(fires, middle + np.uint64(1), low)
        high = np.where(fires, high, middle)
    return low / 2.0**64


def _many_survival(rate, dtype):
    """Counts n around the mean and P(N > n) of the sampler: bisection of the upper 24 bits for each of the rest."""
    spread = np.sqrt(rate)
    n = np.arange(max(0.0, np.floor(rate - 6.5 * spread)), np.ceil(rate + 7 * spread + 8))
    rest = jnp.arange(256, dtype=jnp.uint32)[:, None]
    counts, rates = jnp.asarray(n, dtype)[None, :], jnp.full((1, 1), rate, dtype)

    @jax.jit
    def bisect():
        def narrow(_, bounds):
            low, high = bounds
            middle = (low + high) // jnp.uint32(2)
            word = (middle << jnp.uint32(8)) | rest
            fires = (inversion.poisson_inverse_cdf(word, word, rates) > counts) & (middle < jnp.uint32(2**24))
            return jnp.where(fires, middle + jnp.uint32(1), low), jnp.where(fires, high, middle)

        shape = (256, len(n))
        start = jnp.zeros(shape, jnp.uint32), jnp.full(shape, 2**24, jnp.uint32)
        return jax.lax.fori_loop(0, 25, narrow, start)[0]

    return n, np.asarray(bisect()).astype(np.float64).mean(axis=0) / 2.0**24


def _distances(rate, n, survival):
    """Total variation, relative errors of mean and variance; nothing is expected outside the n given."""
    below = np.concatenate([[1.0], survival])
    got = below - np.concatenate([survival, [0.0]])
    counts = np.concatenate([n, [n[-1] + 1]])
    exact = st.poisson.pmf(counts, rate)
    tv = 0.5 * np.abs(got - exact).sum()
    away = counts - rate
    mean = rate + (got * away).sum() if rate > 1 else (got * counts).sum()
    second = (got * away**2).sum() if rate > 1 else (got * (counts - mean) ** 2).sum()
    return tv, abs(mean / rate - 1), abs(second / rate - 1)


def _worst_tail(rate, n, survival, down_to):
    """Largest relative error of P(N > n) and P(N <= n) wherever the exact one is above `down_to`."""
    upper, lower = st.poisson.sf(n, rate), st.poisson.cdf(n, rate)
    worst = 0.0
    for exact, got in ((upper, survival), (lower, 1 - survival)):
        near = (exact > down_to) & (exact < 0.5)
        if near.any():
            worst = max(worst, np.abs(got[near] / exact[near] - 1).max())
    return worst


@pytest.mark.parametrize("rate", SMALL_RATES)
def test_law_at_small_rates_is_exact(rate):
    rate = float(np.float32(rate))
    survival = _few_survival(rate, jnp.float32)
    tv, mean, variance = _distances(rate, np.arange(20.0), survival)
    assert tv < 1e-6 and mean < 2e-6 and variance < 2e-6
    assert _worst_tail(rate, np.arange(20), survival, 1e-7) < 2e-5
    upper = st.poisson.sf(np.arange(20), rate)
    np.testing.assert_allclose(survival[upper > 1e-11], upper[upper > 1e-11], rtol=5e-3)
    # A rate of 1e-12 fires as often as it should: relative error of P(N >= 1), no tolerance for a floor at 2^-24.
    assert survival[0] == pytest.approx(-np.expm1(-rate), rel=1e-6)


@pytest.mark.parametrize("rate", LARGE_RATES)
def test_law_at_large_rates(rate):
    rate = float(np.float32(rate))
    n, survival = _many_survival(rate, jnp.float32)
    tv, mean, variance = _distances(rate, n, survival)
    # At 1e6 an integer is 4e-4 wide in probability and float32 rounds it by 5e-5 of itself.
    assert tv < (5e-5 if rate > 2e5 else 1e-5) and mean < 1e-5 and variance < 1e-4
    assert _worst_tail(rate, n, survival, 1e-3) < 2e-3
    assert _worst_tail(rate, n, survival, 1e-5) < 1e-2
    assert _worst_tail(rate, n, survival, 1e-8) < 4e-2


def test_float64_has_the_same_law(x64):
    for rate in (1e-12, 0.3, 3.9):
        tv, mean, variance = _distances(rate, np.arange(20.0), _few_survival(rate, jnp.float64))
        assert tv < 1e-8 and mean < 1e-6 and variance < 1e-6
    for rate in (4.0, 17.3, 1e3):
        tv, mean, variance = _distances(rate, *_many_survival(rate, jnp.float64))
        assert tv < 1e-5 and mean < 1e-5 and variance < 1e-4


def test_extreme_words_and_rates_give_whole_finite_counts():
    small = np.array([0, 1, 2, 255, 256, 2**24, 2**31 - 1], np.uint32)
    words = np.concatenate([small, ~small])
    rates = np.concatenate([[0.0, 1e-45, 1e-38, 1e-30, 3.9999998, 4.0], np.geomspace(1e-12, 1e9, 200)])
    rates = rates.astype(np.float32)
    high, low, rate = (jnp.asarray(x) for x in np.broadcast_arrays(words[:, None, None], words[:, None], rates))
    counts = np.asarray(poisson(high, low, rate))
    assert np.isfinite(counts).all() and (counts >= 0).all() and (counts == np.floor(counts)).all()
    assert (counts[..., 0] == 0).all()
    # Six and a half standard deviations, and the skewness: nothing wild anywhere.
    assert (np.abs(counts - rate) <= 6.6 * np.sqrt(np.asarray(rate)) + 21 + 1e-6 * np.asarray(rate)).all()


@pytest.mark.parametrize("rate", [0.02, 0.7, 3.99, 4.01, 8.0, 40.0, 1e4])
def test_counts_of_random_words(rate):
    """Chi-square of 3e5 draws; false alarm 1e-7 for each of the seven rates."""
    draws = 300_000
    words = draw(key_words(jax.random.key(1)), 0, jnp.int32(7), (draws,))
    counts = np.asarray(poisson(*words, jnp.float32(rate))).astype(int)
    edges = np.unique(st.poisson.ppf(np.linspace(1e-4, 1 - 1e-4, 200), rate))
    probability = np.diff(np.concatenate([[0.0], st.poisson.cdf(edges, rate), [1.0]]))
    observed = np.bincount(np.searchsorted(edges, counts), minlength=len(edges) + 1)
    kept = probability * draws > 10
    expected = np.append(probability[kept], probability[~kept].sum()) * draws
    observed = np.append(observed[kept], observed[~kept].sum())
    if expected[-1] < 10:
        expected = np.append(expected[:-2], expected[-2:].sum())
        observed = np.append(observed[:-2], observed[-2:].sum())
    statistic = ((observed - expected) ** 2 / expected).sum()
    assert st.chi2.sf(statistic, len(expected) - 1) > 1e-7


@pytest.mark.parametrize(("up", "down"), [(1e-3, 2e-3), (1.5, 0.2), (6.0, 3.0), (50.0, 2.0)])
def test_up_and_down_are_independent(up, down):
    """Mean, variance and covariance of 3e5 pairs within 6 standard errors (false alarm 2e-9 each)."""
    draws = 300_000
    w0, w1 = draw(key_words(jax.random.key(2)), 3, jnp.int32(0), (draws,))
    n_up = np.asarray(poisson(w0, w1, jnp.float32(up)), np.float64)
    n_down = np.asarray(poisson(w1, w0, jnp.float32(down)), np.float64)
    moved = np.asarray(exact(w0, w1, jnp.float32(up), jnp.float32(down)), np.float64)
    assert (moved == n_up - n_down).all()
    total = up + down
    assert abs(moved.mean() - (up - down)) < 6 * np.sqrt(total / draws)
    assert abs(moved.var() - total) < 6 * np.sqrt((total + 2 * total**2) / draws)
    assert abs(np.mean((n_up - up) * (n_down - down))) < 6 * np.sqrt(up * down / draws)


def test_rare_hops_fire_without_bias():
    """Words whose first 32 bits are 0, all others random: P(N >= 1) is rate 2^32; 6 standard errors (2e-9 each)."""
    draws = 300_000
    low, _ = draw(key_words(jax.random.key(3)), 0, jnp.int32(0), (draws,))
    for rate in (1e-12, 1e-11, 1e-10):
        expected = rate * 2.0**32
        mean = float(jnp.mean(poisson(jnp.zeros_like(low), low, jnp.float32(rate))))
        assert abs(mean - expected) < 6 * np.sqrt(expected * (1 - expected) / draws)
    assert float(poisson(jnp.uint32(2**31), jnp.uint32(0), jnp.float32(1e-9))) == 0
    for rate in (1e-9, 1e-7):
        boundary = int(rate * 2**32)
        assert float(poisson(jnp.uint32(boundary), jnp.uint32(0), jnp.float32(rate))) == 1
        assert float(poisson(jnp.uint32(boundary + 1), jnp.uint32(0), jnp.float32(rate))) == 0


def test_unit_uniform_stays_inside_and_resolves_small_values():
    ends = jnp.asarray([0, 2**32 - 1], jnp.uint32)
    ends = inversion.unit_uniform(jnp.repeat(ends, 2), jnp.tile(ends, 2), jnp.float32)
    assert float(ends.min()) >= 2.0**-66 and float(ends.max()) < 1
    zero, some = jnp.uint32(0), jnp.uint32(12345)
    assert float(inversion.unit_uniform(zero, some, jnp.float32)) == pytest.approx(12345.5 * 2.0**-64, rel=1e-6)
    assert float(inversion.unit_uniform(some, zero, jnp.float32)) == pytest.approx(12345 * 2.0**-32, rel=1e-6)


def _test_words():
    ends = np.arange(2000, dtype=np.uint32)
    middle = (2**31 + np.arange(-1000, 1000)).astype(np.uint32)
    spaced = np.arange(0, 2**32, 65_537, dtype=np.uint64).astype(np.uint32)
    return np.concatenate([ends, ~ends, middle, spaced])


def test_normal_quantile_in_float32():
    words = _test_words()
    got = np.asarray(jax.jit(inversion.normal_quantile)(jnp.asarray(words)), np.float64)
    expected = st.norm.isf((words + 0.5) / 2.0**32)
    np.testing.assert_allclose(got, expected, atol=5e-7, rtol=5e-7)
    opposite = np.asarray(jax.jit(inversion.normal_quantile)(jnp.asarray(~words)), np.float64)
    np.testing.assert_allclose(opposite, -got, atol=5e-7, rtol=5e-7)


def test_normal_quantile_in_float64(x64):
    words = _test_words()
    got = np.asarray(jax.jit(lambda w: inversion.normal_quantile(w, jnp.float64))(jnp.asarray(words)))
    np.testing.assert_allclose(got, st.norm.isf((words + 0.5) / 2.0**32), atol=1e-7, rtol=0)


def test_gaussian_hops_of_random_words():
    """Kolmogorov-Smirnov distance of 3e5 draws; false alarm 1e-6."""
    w0, w1 = draw(key_words(jax.random.key(4)), 0, jnp.int32(0), (300_000,))
    moved = gaussian(w0, w1, jnp.float32(3.0), jnp.float32(4.0))
    assert st.kstest((np.asarray(moved, np.float64) - 3) / 2, "norm").pvalue > 1e-6


def test_gaussian_gradient_is_pathwise(x64):
    w0, w1 = draw(key_words(jax.random.key(5)), 0, jnp.int32(0), (64,))
    drift, activity = jnp.linspace(-3.0, 3.0, 64), jnp.geomspace(1e-3, 1e3, 64)
    _, by_drift = jax.jvp(lambda d: gaussian(w0, w1, d, activity), (drift,), (jnp.ones(64),))
    _, by_activity = jax.jvp(lambda a: gaussian(w0, w1, drift, a), (activity,), (activity,))
    np.testing.assert_array_equal(by_drift, 1.0)
    h = 1e-6
    above, below = (gaussian(w0, w1, drift, activity * (1 + e)) for e in (h, -h))
    np.testing.assert_allclose(by_activity, (above - below) / (2 * h), rtol=1e-6, atol=1e-8)


def test_gaussian_gradient_is_finite_without_activity():
    w0, w1 = draw(key_words(jax.random.key(6)), 0, jnp.int32(0), (8,))
    zero = jnp.zeros(8)

    def total(drift, activity):
        return jnp.sum(gaussian(w0, w1, drift, activity))

    assert float(total(zero + 1, zero)) == 8
    by_drift, by_activity = jax.grad(total, (0, 1))(zero, zero)
    np.testing.assert_array_equal(by_drift, 1.0)
    np.testing.assert_array_equal(by_activity, 0.0)


def test_exact_gradient_stretches_the_noise_and_keeps_the_value_whole():
    w0, w1 = draw(key_words(jax.random.key(7)), 0, jnp.int32(0), (1000,))
    up = jnp.geomspace(1e-9, 1e6, 1000)
    down = up[::-1] * 0.37

    def move(up, down):
        return exact(w0, w1, up, down)

    moved, tangent = jax.jvp(move, (up, down), (jnp.full(1000, 3.0), jnp.full(1000, 1.0)))
    np.testing.assert_array_equal(moved, np.round(moved))
    noise = moved - (up - down)
    np.testing.assert_allclose(tangent, 2 + 4 * noise / (2 * (up + down)), rtol=1e-5)
    by_up, by_down = jax.grad(lambda u, d: jnp.sum(move(u, d)), (0, 1))(up, down)
    np.testing.assert_allclose(by_up - by_down, 2.0, rtol=1e-5)
    by_zero = jax.grad(lambda u: jnp.sum(move(u, jnp.zeros(1000))))(jnp.zeros(1000))
    np.testing.assert_array_equal(by_zero, 1.0)


FUNCTIONS = {"square": lambda x: x * x, "smooth": lambda x: 10 * jnp.cos(0.1 * x + 0.3)}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("drift", "exchange"), [(0.7, 2.0), (-0.2, 0.05), (3.0, 0.1), (0.0, 20.0)])
def test_exact_gradient_of_a_mean_against_finite_differences_of_the_enumerated_one(function, drift, exchange):
    """400,000 draws; five standard errors, and for the function that is not quadratic what the third derivative leaves.

    By the cumulants κ3 = d, κ4 = A: f'''(1/6 + d²/4A²) in d and f'''|d|/4 + f''''A/24 in ln g.
    """
    function, count = FUNCTIONS[function], np.arange(-200, 201)

    def enumerated(d, log_g):
        up, down = 0.5 * (np.hypot(d, 2 * np.exp(log_g)) + np.array([d, -d]))
        return float(np.sum(st.skellam.pmf(count, up, down) * np.asarray(function(count * 1.0), np.float64)))

    at, h = (drift, np.log(exchange)), 1e-4
    want = [
        (enumerated(*np.add(at, step)) - enumerated(*np.subtract(at, step))) / (2 * h) for step in ((h, 0.0), (0.0, h))
    ]
    key, size = key_words(jax.random.key(11)), 400_000

    def of_each(d, log_g):
        return function(exact_step(0, key, jnp.int32(0), d, log_g))

    each = jnp.full(size, drift), jnp.full(size, np.log(exchange))
    slopes = jax.jit(jax.grad(lambda d, g: jnp.sum(of_each(d, g)), (0, 1)))(*each)
    third = 0.01 if function is FUNCTIONS["smooth"] else 0.0
    for got, expected in zip(slopes, want):
        got = np.asarray(got, np.float64)
        error = got.std() / np.sqrt(size)
        left = third * (0.42 + 0.25 * abs(drift) + 0.1 * np.hypot(drift, 2 * exchange) / 24)
        assert abs(got.mean() - expected) < 5 * error + left + 1e-6


def test_vmap_and_jit_agree_with_plain_evaluation():
    w0, w1 = draw(key_words(jax.random.key(8)), 0, jnp.int32(0), (6, 50))
    up = jnp.broadcast_to(jnp.geomspace(1e-6, 1e4, 50), (6, 50))
    plain = exact(w0, w1, up, up)
    np.testing.assert_array_equal(jax.jit(jax.vmap(hops.exact_hops))(w0, w1, up, up), plain)
    np.testing.assert_array_equal(jax.jit(jax.vmap(jax.vmap(hops.exact_hops)))(w0, w1, up, up), plain)


# Exchange and largest request: largest rate below 0.4, below 4, above 4, rates on both sides, and hardly any hops against the request.
REGIMES = {"rare": (0.05, 0.1), "few": (0.8, 1.0), "many": (30.0, 5.0), "both": (3.0, 4.0), "one way": (0.01, 50.0)}


@pytest.mark.parametrize("regime", REGIMES)
def test_step_is_the_hops_at_its_rates_whatever_branch_serves(regime):
    exchange, spread = REGIMES[regime]
    drift = jnp.asarray(spread * np.random.default_rng(0).uniform(-1, 1, 100_000), jnp.float32)
    key, step, log_exchange = key_words(jax.random.key(9)), jnp.int32(4), jnp.log(jnp.float32(exchange))
    assert 20_000 < hops.ALL_BRANCHES_FROM < drift.size
    for requests in (drift[:20_000], drift):
        moved = jax.jit(exact_step, static_argnums=0)(2, key, step, requests, log_exchange)
        expected = exact(*draw(key, 2, step, requests.shape), *jax.jit(hop_rates)(requests, log_exchange))
        # Another order of rounding moves a threshold by 1e-7 of the words: one of 1e5 counts once in a hundred times.
        assert int(jnp.sum(moved != expected)) <= 2
    spread_out = jax.jit(exact_step, static_argnums=0)(2, key, step, drift, jnp.full_like(drift, log_exchange))
    assert int(jnp.sum(spread_out != expected)) <= 2
    mapped = jax.vmap(lambda d, lg: exact_step(2, key, step, d, lg))(drift[None], log_exchange[None])
    assert int(jnp.sum(mapped[0] != expected)) <= 2


@pytest.mark.representatives(1)
@pytest.mark.parametrize("size", [50, hops.CHOOSE_FROM])
def test_step_has_the_gradient_of_its_hops_and_keeps_nan(size):
    key, step = key_words(jax.random.key(10)), jnp.int32(0)

    @functools.partial(jax.jit, static_argnums=0)
    def slopes(moved, drift, log_exchange):
        return jax.grad(lambda d, lg: jnp.sum(moved(d, lg)), (0, 1))(drift, log_exchange)

    def stepped(drift, log_exchange):
        return exact_step(0, key, step, drift, log_exchange)

    def by_rates(drift, log_exchange):
        return exact(*draw(key, 0, step, (size,)), *hop_rates(drift, log_exchange))

    for log_exchange in (-3.0, 0.0, 4.0):
        requests, log_g = jnp.linspace(-0.1, 0.1, size), jnp.float32(log_exchange)
        for found, wanted in zip(slopes(stepped, requests, log_g), slopes(by_rates, requests, log_g)):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
        drift = jnp.zeros(size).at[7].set(jnp.nan)
        moved = jax.jit(exact_step, static_argnums=0)(0, key, step, drift, jnp.float32(log_exchange))
        assert (np.isnan(moved) == (np.arange(size) == 7)).all()
    assert exact_step(0, key, step, jnp.zeros((0, 3)), jnp.float32(0.0)).shape == (0, 3)


@pytest.mark.slow
def test_step_under_second_derivatives_of_a_scan_and_outside_of_jit(compilations):
    key = key_words(jax.random.key(11))

    def run(x):
        def body(c, i):
            moved = exact_step(1, key, i, 0.3 * c, jnp.float32(-1.0))
            return c - 0.01 * moved, jnp.sum(moved * c)

        return jnp.sum(jax.lax.scan(body, x, jnp.arange(2))[1])

    x = jnp.linspace(-1.0, 1.0, 3)
    np.testing.assert_allclose(jax.jacfwd(jax.grad(run))(x), jax.jacrev(jax.grad(run))(x), rtol=1e-6)
    steps = [jnp.int32(i) for i in range(3)]
    compilations.clear()
    exact_step(1, key, steps[0], x, jnp.float32(-1.0))
    assert compilations  # or they are not counted
    compilations.clear()
    for step in steps[1:]:
        exact_step(1, key, step, x, jnp.float32(-1.0))
    assert not compilations  # not one for every call


@pytest.mark.parametrize("platform, least", [("cpu", hops.CHOOSE_FROM), ("cuda", hops.CHOOSE_FROM_ON_ACCELERATORS)])
def test_large_arrays_choose_between_branches(platform, least):
    """By the program that is compiled, which needs no GPU: a choice is a `case` more."""

    def cases(size):
        drift, key = jax.ShapeDtypeStruct((size,), jnp.float32), key_words(jax.random.key(0))
        step = jax.jit(lambda drift: exact_step(0, key, jnp.int32(1), drift, jnp.float32(0.0)))
        return step.trace(drift).lower(lowering_platforms=(platform,)).as_text().count("stablehlo.case")

    assert cases(least) > cases(least - 1) == cases(2)
