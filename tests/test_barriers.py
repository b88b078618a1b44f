"""Every barrier policy against its formula, its actuation, and the gradients of its numbers."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from barrier_runs import CELL, heights, inputs, run

import limjax
from limjax.barriers import running_mean

pytestmark = pytest.mark.optax


def test_static():
    np.testing.assert_array_equal(heights(limjax.StaticBarrier(12.5), [inputs(0), inputs(9)]), 12.5)
    assert float(limjax.StaticBarrier.at_retention(CELL).height) == pytest.approx(49.50, abs=5e-3)
    ten = float(limjax.StaticBarrier.at_retention(CELL, years=100.0, cells=10.0).height)
    assert ten == pytest.approx(49.50 + math.log(100), abs=5e-3)


def test_scheduled():
    barrier = limjax.ScheduledBarrier(optax.linear_schedule(8.0, 20.0, 10), offset=1.0)
    np.testing.assert_allclose(
        heights(barrier, [inputs(k) for k in (0, 5, 10, 50)]), [9.0, 15.0, 21.0, 21.0], rtol=1e-6
    )


def test_scheduled_with_a_schedule_that_has_leaves():
    class Line(eqx.Module):
        slope: jax.Array

        def __call__(self, step):
            return 10.0 + self.slope * step

    barrier = limjax.ScheduledBarrier(Line(jnp.asarray(0.5)))
    assert len(jax.tree.leaves(barrier)) == 2
    slope = jax.grad(lambda b: b.evaluate(inputs(6), ())[0])(barrier).schedule.slope
    assert float(slope) == 6.0


def test_lyapunov_without_smoothing():
    losses = [4.0, 2.0, 1.0, 0.5, 3.0]
    barrier = limjax.LyapunovBarrier(10.0, decay=0.0)
    got = heights(barrier, [inputs(k, loss) for k, loss in enumerate(losses)])
    np.testing.assert_allclose(got, 10.0 + np.log(4.0 / np.asarray(losses)), rtol=1e-6)


def test_lyapunov_with_smoothing_and_floor():
    losses, decay, floor = [4.0, 2.0, 1.0, 0.9, 0.8], 0.9, 0.25
    barrier = limjax.LyapunovBarrier(10.0, decay, floor)
    got = heights(barrier, [inputs(k, loss) for k, loss in enumerate(losses)])
    weights = [decay ** np.arange(k, -1, -1.0) for k in range(len(losses))]
    means = [np.average(losses[: k + 1], weights=w) for k, w in enumerate(weights)]
    np.testing.assert_allclose(got, 10.0 + np.log((4.0 - floor) / (np.asarray(means) - floor)), rtol=1e-5)


def test_lyapunov_below_its_floor_is_clipped_not_nan():
    barrier = limjax.LyapunovBarrier(10.0, 0.0, floor=1.0)
    got = heights(barrier, [inputs(0, 2.0), inputs(1, 1.0), inputs(2, 0.5)])
    assert np.isfinite(got).all() and (got[1:] > 80).all()


def promised(item):
    return -float(CELL.lsb) * sum(float(jnp.sum(g * d)) for g, d in zip(item.gradient, item.drift))


def test_lyapunov_sets_its_start_by_the_law_in_the_first_ten_steps():
    """B0 = ln(k0 τ) - ln(<d²>/2u) with 2u = P/(L0 - Lf), means over ten steps; later steps leave it alone."""
    rng, floor = np.random.default_rng(1), 0.2
    sequence = [
        inputs(k, 2.0 * 0.9**k, [jnp.asarray(-rng.uniform(1, 2, 2), jnp.float32)], [jnp.asarray(rng.uniform(1, 2, 2), jnp.float32)])
        for k in range(14)
    ]  # fmt: skip
    got = heights(limjax.LyapunovBarrier(decay=0.0, floor=floor), sequence)
    for k, item in enumerate(sequence):
        seen = sequence[: min(k + 1, 10)]
        first = np.mean([float(s.loss) for s in seen])
        square = np.mean([float(jnp.mean(s.drift[0] ** 2)) for s in seen])
        relaxation = np.mean([promised(s) for s in seen]) / (first - floor)  # 2u
        start = math.log(1e6) - math.log(square / relaxation)
        assert got[k] == pytest.approx(start + math.log((first - floor) / (float(item.loss) - floor)), rel=1e-5)


def test_lyapunov_without_start_needs_requests():
    opt = limjax.gradient_tilt(CELL, limjax.LyapunovBarrier(), coupling=1.0)
    with pytest.raises(ValueError, match=r"without a start.*gradient_tilt.*LyapunovBarrier\(12"):
        opt.update(jnp.ones(2), opt.init(jnp.ones(2)), value=jnp.asarray(1.0))


LEARNS = (
    limjax.LyapunovBarrier(),
    limjax.LyapunovBarrier(10.0),
    limjax.MomentBarrier(),
    limjax.MomentBarrier(granularity="leaf"),
    limjax.LearnedBarrier.from_law(),
    limjax.LearnedBarrier.from_theory(granularity="leaf"),
    limjax.RateMatchedBarrier(),
    limjax.FisherBarrier(),
)


@pytest.mark.parametrize("barrier", LEARNS, ids=lambda b: f"{b.name} {b.scope}")
def test_a_step_whose_loss_is_no_number_is_one_that_a_barrier_never_saw(barrier):
    """Heights and work are those of the run without such steps, a driver that is paid for lowering barriers included."""
    cell = limjax.ArrheniusCell(recovery=0.9)
    # Without a state, and so that neither requests nor requests over gradients stay what they are.
    squares = optax.stateless(lambda gradient, _: jax.tree.map(lambda g: -0.01 * g * g, gradient))
    opt = limjax.learning_in_memory(squares, cell, barrier, compare={"same": barrier})
    params = {"a": jnp.ones((3, 2)), "b": jnp.full(4, 0.5)}
    step = jax.jit(lambda gradient, state, loss: opt.update(gradient, state, params, value=loss)[1])

    def run(losses):
        state, seen, k = opt.init(params), [], 0
        for loss in losses:
            state = step(optax.tree.scale(0.8**k, params), state, jnp.float32(loss))
            k += np.isfinite(loss)
            seen.append(np.concatenate([np.ravel(x) for x in jax.tree.leaves(state.barrier.height)]))
        ledger = limjax.get_ledger(state)
        return seen, [np.ravel(x) for x in jax.tree.leaves(limjax.leaf_totals(ledger, "actuation"))], ledger

    losses = 2.0 * 0.7 ** np.arange(8.0)
    wanted, wanted_work, plain = run(losses)
    for lost in ([0, 1, 2], [4, 5], [0, 3, 4, 9]):
        rest = list(losses)
        with_lost = [rest.pop(0) if i not in lost else np.nan for i in range(len(losses) + len(lost))]
        found, found_work, other = run(with_lost)
        known = [row for row, loss in zip(found, with_lost) if np.isfinite(loss)]
        np.testing.assert_allclose(known, wanted, rtol=1e-6)
        np.testing.assert_allclose(found_work, wanted_work, rtol=1e-5, atol=1e-6)
        same = [ledger.compare["same"].actuation.float64() for ledger in (other, plain)]
        np.testing.assert_allclose(*same, rtol=1e-5, atol=1e-6)
    assert np.ptp(wanted, axis=0).min() > 0.2  # the barrier moves at all


def moment_exchange(sequence, scale, decay, floor, granularity):
    """The rule of `MomentBarrier` in NumPy, after the last of the inputs; one array per leaf."""

    def mean(values):
        return np.average(np.stack(values), axis=0, weights=decay ** np.arange(len(values) - 1, -1, -1.0))

    def squares(field):
        leaves = [mean([np.square(np.asarray(getattr(i, field)[j], np.float64)) for i in sequence]) for j in (0, 1)]
        return leaves if granularity == "parameter" else [np.full_like(x, x.mean()) for x in leaves]

    s, v = squares("drift"), squares("gradient")
    falls = [mean([promised(i) for i in sequence[: k + 1]]) for k in range(len(sequence))]
    fall = falls[-1]
    by_loss = fall / (mean([float(i.loss) for i in sequence]) - floor)
    relaxation = max(by_loss, 2 / (2 - min(scale, 1)) * math.log(max(falls) / fall) / len(sequence))
    q = [np.sqrt(x) for x in v]
    norm = fall / sum((a * b).sum() for a, b in zip(q, s))
    q = [norm * x for x in q]
    shares = [np.sqrt(a / b) for a, b in zip(s, q)]
    level = scale * fall / relaxation / sum((a * b).sum() for a, b in zip(q, shares))
    return [level * w for w in shares], s, q


def random_inputs(count, seed=0, loss=2.0):
    rng = np.random.default_rng(seed)
    sequence = []
    for k in range(count):
        drift = [jnp.asarray(0.7**k * rng.normal(size=n), jnp.float32) for n in (3, 2)]
        gradient = [jnp.asarray(-np.asarray(d) * rng.uniform(0.1, 9, d.shape), jnp.float32) for d in drift]
        sequence.append(inputs(k, loss * 0.8**k, drift, gradient))
    return sequence


@pytest.mark.parametrize("granularity", ["parameter", "leaf"])
@pytest.mark.parametrize("loss", [0.1, 1e3])
def test_moment_is_its_formula(granularity, loss):
    """With a loss that the requests remove quickly and with one that is nearly all floor."""
    sequence = random_inputs(4, loss=loss)
    for scale, decay, floor in ((1.0, 0.0, 0.0), (0.3, 0.9, 0.02)):
        barrier = limjax.MomentBarrier(scale, decay, floor, granularity)
        state = barrier.init([jnp.zeros(3), jnp.zeros(2)])
        for k, item in enumerate(sequence):
            height, state = barrier.evaluate(item, state)
            decays = decay if decay else 1e-12
            expected, _, _ = moment_exchange(sequence[: k + 1], scale, decays, floor, granularity)
            for j in (0, 1):
                want = math.log(1e6) - np.log(expected[j] if granularity == "parameter" else expected[j][0])
                np.testing.assert_allclose(height[j], want, rtol=2e-5)


def test_moment_shares_the_disturbance_at_the_least_heat():
    """Any other shares of the same total Σ q g cost more heat Σ s/g."""
    g, s, q = (np.concatenate(x) for x in moment_exchange(random_inputs(3), 1.0, 0.9, 0.0, "parameter"))
    rng = np.random.default_rng(2)
    for _ in range(20):
        other = g * np.exp(rng.normal(scale=0.3, size=g.size))
        other *= (q * g).sum() / (q * other).sum()
        assert (s / other).sum() > (s / g).sum()


def test_moment_is_the_law_with_gradient_noise_in_a_bowl():
    """Plain descent d = -u n + noise, gradient -h d/u: g = u (L - Lf)/2 = (2u<n²> - N)/4 whatever the noise of this step."""
    u, h, noise_variance = 0.05, 3.0, 4.0
    rng = np.random.default_rng(3)
    n = rng.normal(scale=40.0, size=4000)
    d = -u * n + rng.normal(scale=math.sqrt(noise_variance), size=n.size)
    lsb, cell = 2.0**-10, CELL
    gradient = -(h / u) * d / lsb
    item = inputs(0, 0.5 * h * (n * n).sum(), [jnp.asarray(d, jnp.float32)], [jnp.asarray(gradient, jnp.float32)])
    floor = 0.5 * h * n.size * noise_variance / (2 * u)
    barrier = limjax.MomentBarrier(decay=0.0, floor=floor, granularity="leaf")
    height, _ = barrier.evaluate(item, barrier.init([jnp.zeros(n.size)]))
    expected = (2 * u * (n * n).mean() - noise_variance) / 4
    assert float(cell.exchange(height[0])) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("granularity", ["parameter", "leaf"])
def test_learned_rule_starts_as_the_law(granularity):
    law = limjax.MomentBarrier(0.5, granularity=granularity)
    sequence = random_inputs(4)
    params = [jnp.zeros(3), jnp.zeros(2)]
    got = heights(limjax.LearnedBarrier.from_law(9, law=law), sequence, params)
    np.testing.assert_array_equal(got, heights(law, sequence, params))


def test_moment_stays_finite_where_nothing_is_asked_and_where_requests_go_uphill():
    ledger, seen = run(limjax.MomentBarrier(), [1.0] * 3, gradient=jnp.asarray([0.0, 1e-2]))
    assert np.isfinite(seen).all() and all(np.isfinite(x).all() for x in jax.tree.leaves(ledger))
    uphill = [inputs(k, 1.0, [jnp.ones(2)], [jnp.ones(2)]) for k in range(3)]
    downhill = [inputs(k, 1.0, [-jnp.ones(2)], [jnp.ones(2)]) for k in range(3)]
    got = heights(limjax.MomentBarrier(), uphill)
    # A hundredth of what they would promise straight downhill.
    np.testing.assert_allclose(got, heights(limjax.MomentBarrier(), downhill) - math.log(100), rtol=1e-5)


def test_moment_has_a_slope_where_nothing_was_asked(x64):
    """Without requests and gradients, without requests, as at the start of a warm-up, and without gradients."""
    law = limjax.MomentBarrier(0.5)

    def height(t, requests, gradients):
        seen = inputs(0, 1.0, [requests * t * jnp.asarray([-1.0, 2.0])], [gradients * t * jnp.asarray([0.5, -3.0])])
        return jnp.sum(law.evaluate(seen, law.init([jnp.zeros(2)]))[0][0])

    h = 1e-5
    times, asked = (
        0.7 + h * jnp.tile(jnp.asarray([-1.0, 0.0, 1.0]), 3),
        jnp.repeat(jnp.asarray([[0, 0, 1], [0, 1, 0]]), 3, 1),
    )
    value, slope = (x.reshape(3, 3) for x in jax.jit(jax.vmap(jax.value_and_grad(height)))(times, *asked))
    np.testing.assert_allclose(slope[:, 1], (value[:, 2] - value[:, 0]) / (2 * h), rtol=1e-6)
    assert (slope[1:, 1] != 0).all()


def test_moment_shuts_as_requests_vanish():
    """g falls with the requests: by ln 10 in height for a tenth of them, and no less high without any."""
    law = limjax.MomentBarrier(granularity="leaf")
    sizes = [1.0, 0.1, 1e-3, 0.0]
    got = [heights(law, [inputs(0, 1.0, [-size * jnp.ones(2)], [jnp.ones(2)])])[0, 0] for size in sizes]
    np.testing.assert_allclose(got[1:3], got[0] + math.log(10) * np.asarray([1, 3]), rtol=1e-5)
    assert got[3] > got[0] + 30


@pytest.mark.parametrize("granularity", ["parameter", "leaf"])
def test_rate_matched(granularity):
    drifts = [np.array([1.0, -2.0]), np.array([0.5, 4.0]), np.array([0.1, 0.0])]
    for decay in (0.0, 0.9):
        barrier = limjax.RateMatchedBarrier(2.0, decay, granularity)
        got = heights(barrier, [inputs(k, drift=[jnp.asarray(d, jnp.float32)]) for k, d in enumerate(drifts)])
        assert got.shape == (3, 2 if granularity == "parameter" else 1)
        for k in range(3):
            weights = decay ** np.arange(k, -1, -1.0) if decay else np.eye(k + 1)[-1]
            squares = np.average(np.square(drifts[: k + 1]), axis=0, weights=weights)
            speed = np.sqrt(squares if granularity == "parameter" else squares.mean())
            with np.errstate(divide="ignore"):
                expected = math.log(1e6) - np.log(2.0 * np.asarray(speed))
            moves = np.isfinite(np.atleast_1d(expected))
            np.testing.assert_allclose(got[k][moves], np.atleast_1d(expected)[moves], rtol=1e-5)
            # A cell that has not moved yet asks for a wall that the cell's range then clips.
            assert (got[k][~moves] > 50).all() and np.isfinite(got[k]).all()


def test_rate_matched_keeps_the_tilt_constant():
    barrier = limjax.RateMatchedBarrier(3.0, decay=0.0)
    d = jnp.asarray([0.01, -1.0])
    height = heights(barrier, [inputs(drift=[d])])[0]
    tilt = CELL.affinity(d, jnp.asarray(height, jnp.float32))
    np.testing.assert_allclose(np.abs(tilt), 2 * math.asinh(1 / 6), rtol=1e-4)


@pytest.mark.parametrize(("smooth", "damping"), [(True, 0.0), (False, 0.0), (True, 0.25)])
def test_fisher(smooth, damping):
    """g = |d| / sqrt(2p), 2p = price lsb² (<gradient²> + damping times its mean over all parameters)."""
    price, decay = 2e4, 0.8
    drifts = [np.array([1.0, -2.0]), np.array([0.5, 4.0]), np.array([0.1, 1.0])]
    gradients = [np.array([0.5, 3.0]), np.array([-0.7, 1.0]), np.array([0.2, 0.1])]
    sequence = [
        inputs(k, drift=[jnp.asarray(d, jnp.float32)], gradient=[jnp.asarray(g, jnp.float32)])
        for k, (d, g) in enumerate(zip(drifts, gradients))
    ]
    got = heights(limjax.FisherBarrier(price, decay, smooth, damping), sequence)
    for k in range(3):
        weights = decay ** np.arange(k, -1, -1.0)
        second = np.average(np.square(gradients[: k + 1]), axis=0, weights=weights)
        speed = (
            np.sqrt(np.average(np.square(drifts[: k + 1]), axis=0, weights=weights)) if smooth else np.abs(drifts[k])
        )
        g = speed / np.sqrt(price * 2**-20 * (second + damping * second.mean()))
        np.testing.assert_allclose(got[k], math.log(1e6) - np.log(g), rtol=1e-5)


def test_damping_is_of_what_has_a_gradient_and_not_of_older_files():
    drift, gradient = [jnp.ones(2), jnp.ones(6)], [jnp.asarray([1.0, 3.0]), jnp.zeros(6)]
    barrier = limjax.FisherBarrier(1e4, 0.0, damping=0.5)
    both = barrier.evaluate(inputs(drift=drift, gradient=gradient), barrier.init(drift))[0][0]
    alone = barrier.evaluate(inputs(drift=drift[:1], gradient=gradient[:1]), barrier.init(drift[:1]))[0][0]
    np.testing.assert_allclose(both, alone, rtol=1e-6)
    content = limjax.barriers.barrier_to_json(barrier)
    assert float(limjax.barriers.barrier_from_json(content).damping) == 0.5
    del content["arguments"]["damping"]
    assert float(limjax.barriers.barrier_from_json(content).damping) == 0.0


def test_fisher_is_the_pointwise_optimum(x64):
    """It minimises 2d asinh(d/2g) + p A over g, with p = price lsb² gradient²/2."""
    d, gradient, price = 0.7, 2.0, 1e6
    barrier = limjax.FisherBarrier(price, decay=0.0, damping=0.0)
    cell = limjax.ArrheniusCell(lsb=2**-10)
    item = inputs(drift=[jnp.asarray([d])], gradient=[jnp.asarray([gradient])], cell=cell)
    best = jax.jit(lambda i: barrier.evaluate(i, barrier.init([jnp.zeros(1)]))[0][0][0])(item)
    p = 0.5 * price * 2.0**-20 * gradient**2

    def cost(b):
        return cell.heat(d, b) + p * cell.activity(d, b)

    assert abs(float(jax.grad(cost)(best))) < 1e-9
    assert float(jax.grad(jax.grad(cost))(best)) > 0


def test_fowler_nordheim():
    barrier = limjax.FowlerNordheimBarrier(9.0, 2e-3)
    got = heights(barrier, [inputs(k) for k in (0, 1, 1000)])
    np.testing.assert_allclose(got, 9.0 + np.log1p(np.asarray([0, 1, 1000]) * 1e-3 / 2e-3), rtol=1e-6)


def test_reference_fowler_nordheim_trajectory(reference, x64):
    entry = reference["fowler_nordheim_trajectory"]
    given, expected, rel = entry["inputs"], entry["expected"], entry["tolerance"]["rel"]
    k1, k2, v0 = given["k1_per_s"], given["k2_V"], given["V0"]
    barrier = limjax.FowlerNordheimBarrier.from_device(k1, k2, v0)
    assert float(jnp.exp(barrier.start)) == pytest.approx(expected["k0"], rel=rel)
    for time, name in ((1.0, "V_1s"), (1e3, "V_1e3s"), (1e6, "V_1e6s")):
        assert float(barrier.voltage(time, k2)) == pytest.approx(expected[name], rel=rel)
    assert float(barrier.height(1e6)) == pytest.approx(expected["effective_barrier_1e6s"], rel=rel)
    slope = jax.grad(lambda t: barrier.voltage(t, k2))
    assert float(slope(1.0)) == pytest.approx(expected["dVdt_1s"], rel=rel)
    for time in (1.0, 1e3, 1e6):
        v = float(barrier.voltage(time, k2))
        assert float(slope(time)) == pytest.approx(-(k1 / k2) * v**2 * math.exp(-k2 / v), rel=1e-9)

    def voltage(v0, time):
        start = k2 / v0
        return limjax.FowlerNordheimBarrier(start, jnp.exp(start - math.log(k1))).voltage(time, k2)

    gain = jax.grad(voltage)(v0, 1e3)
    assert float(gain) == pytest.approx(expected["small_signal_gain_1e3s"], rel=rel)


def test_fowler_nordheim_device_in_float32(reference):
    """k0/k1 and t/t_c stay floats: the device's constants go through logarithms."""
    entry = reference["fowler_nordheim_trajectory"]
    barrier = limjax.FowlerNordheimBarrier.from_device(1e16, 300.0, 7.5)
    assert float(barrier.height(1e6)) == pytest.approx(entry["expected"]["effective_barrier_1e6s"], rel=1e-6)
    fast = limjax.FowlerNordheimBarrier(1.0, 1e-30)
    assert float(fast.height(1e20)) == pytest.approx(1 + 50 * math.log(10), rel=1e-5)
    assert np.isfinite(jax.grad(fast.height)(jnp.float32(0.0)))


def test_spline_through_its_knots_and_straight_lines():
    knots = [8.0, 12.0, 9.0, 20.0, 20.0]
    barrier = limjax.SplineBarrier(knots, steps=41)
    got = heights(barrier, [inputs(k) for k in (0, 10, 20, 30, 40, 90)])
    np.testing.assert_allclose(got, [*knots, knots[-1]], rtol=1e-6)
    line = limjax.SplineBarrier(np.linspace(5.0, 25.0, 6), steps=101)
    got = heights(line, [inputs(k) for k in range(101)])
    np.testing.assert_allclose(got, np.linspace(5.0, 25.0, 101), rtol=2e-6)


@pytest.mark.slow
def test_spline_is_smooth_and_linear_in_its_knots(x64):
    barrier = limjax.SplineBarrier([8.0, 12.0, 9.0, 20.0, 19.0], steps=10)
    slope = jax.vmap(jax.grad(barrier.height))
    inner = jnp.asarray([0.25, 0.5, 0.75])
    np.testing.assert_allclose(slope(inner - 1e-9), slope(inner + 1e-9), rtol=1e-6)
    t = jnp.linspace(0.0, 1.0, 33)
    unit = [limjax.SplineBarrier(row, steps=10).height(t) for row in np.eye(5)]
    combined = sum(float(k) * u for k, u in zip(barrier.knots, unit))
    np.testing.assert_allclose(barrier.height(t[3]), combined[3], rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(barrier.height)(t), combined, rtol=1e-12)


def test_spline_with_a_row_per_leaf():
    barrier = limjax.SplineBarrier([[8.0, 12.0], [10.0, 30.0]], steps=3)
    assert barrier.scope == "leaf"
    two = [jnp.zeros(2), jnp.zeros(3)]
    got = heights(barrier, [inputs(k, drift=two, gradient=two) for k in range(3)], two)
    np.testing.assert_allclose(got, [[8, 10], [10, 20], [12, 30]], rtol=1e-6)
    with pytest.raises(ValueError, match=r"2 rows of knots.*1 leaves"):
        heights(barrier, [inputs(0)])


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.98, 1.0])
def test_running_mean_has_no_bias(decay):
    """k equal values have that mean for every k; otherwise it is the weighted mean with weights decay^age."""
    rng = np.random.default_rng(0)
    values = rng.uniform(1, 2, 40)
    mean, constant = jnp.zeros(()), jnp.zeros(())
    for k, value in enumerate(values):
        step = jnp.asarray(k)
        mean = running_mean(mean, jnp.asarray(value), jnp.asarray(decay), step)
        constant = running_mean(constant, jnp.asarray(1.5), jnp.asarray(decay), step)
        weights = decay ** np.arange(k, -1, -1.0)
        assert float(mean) == pytest.approx(np.average(values[: k + 1], weights=weights), rel=1e-5)
        assert float(constant) == pytest.approx(1.5, rel=1e-6)


def test_slope_of_a_running_mean_by_its_decay(x64):
    values, decays = np.random.default_rng(0).uniform(1, 2, 5), np.asarray([0.5, 0.98, 1.0])

    def mean(decay):
        found = jnp.zeros(())
        for k, value in enumerate(values):
            found = running_mean(found, jnp.asarray(value), decay, jnp.asarray(k))
        return found

    def weighted(decay):
        return np.average(values, weights=decay ** np.arange(4, -1, -1.0))

    numeric = [(weighted(decay + 1e-6) - weighted(decay - 1e-6)) / 2e-6 for decay in decays]
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(mean)))(decays), numeric, rtol=1e-7)


def test_barriers_and_cells_are_shown_with_their_numbers():
    assert str(limjax.StaticBarrier(10.0)) == "StaticBarrier(height=10)"
    assert str(limjax.SplineBarrier([1.0, 2.0, 3.5], steps=10)).startswith("SplineBarrier(knots=[1, 2, 3.5], steps=10")
    assert "lsb=0.25" in str(limjax.ArrheniusCell(lsb=0.25))
    assert str(limjax.StaticBarrier(jnp.ones(9))) == "StaticBarrier(height=f32[9])"
    traced = []
    jax.make_jaxpr(lambda barrier: traced.append(str(barrier)) or barrier.height)(limjax.StaticBarrier(10.0))
    assert traced == ["StaticBarrier(height=f32[])"]
