"""Every barrier policy against its formula, its actuation, and the gradients of its numbers."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import limjax
from limjax.barriers import AbstractBarrier, BarrierInputs
from limjax.barriers.base import running_mean
from limjax.barriers.specification import barrier_from_name, barrier_names
from limjax.physics.actuation import finite_time_excess, free_energy

pytestmark = pytest.mark.optax

CELL = limjax.ArrheniusCell(lsb=2**-10, attempt_rate=1e9, step_time=1e-3)


def inputs(step=0, loss=1.0, drift=None, gradient=None, cell=CELL):
    drift = [jnp.asarray([1.0, -2.0])] if drift is None else drift
    gradient = [jnp.asarray([0.5, 3.0])] if gradient is None else gradient
    return BarrierInputs(jnp.asarray(step), None if loss is None else jnp.asarray(loss), drift, gradient, cell)


def heights(barrier, sequence, params=None):
    """Barriers over a sequence of inputs, in float64."""
    state = barrier.init([jnp.zeros(2)] if params is None else params)
    values = []
    for item in sequence:
        value, state = barrier.evaluate(item, state)
        values.append(np.asarray(value[0] if isinstance(value, list) else value, np.float64))
    return np.stack(values)


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


@pytest.mark.parametrize("smooth", [True, False])
def test_fisher(smooth):
    """g = |d| / sqrt(2p), 2p = price lsb² <gradient²>."""
    price, decay = 2e4, 0.8
    drifts = [np.array([1.0, -2.0]), np.array([0.5, 4.0]), np.array([0.1, 1.0])]
    gradients = [np.array([0.5, 3.0]), np.array([-0.7, 1.0]), np.array([0.2, 0.1])]
    sequence = [
        inputs(k, drift=[jnp.asarray(d, jnp.float32)], gradient=[jnp.asarray(g, jnp.float32)])
        for k, (d, g) in enumerate(zip(drifts, gradients))
    ]
    got = heights(limjax.FisherBarrier(price, decay, smooth), sequence)
    for k in range(3):
        weights = decay ** np.arange(k, -1, -1.0)
        second = np.average(np.square(gradients[: k + 1]), axis=0, weights=weights)
        speed = (
            np.sqrt(np.average(np.square(drifts[: k + 1]), axis=0, weights=weights)) if smooth else np.abs(drifts[k])
        )
        g = speed / np.sqrt(price * 2**-20 * second)
        np.testing.assert_allclose(got[k], math.log(1e6) - np.log(g), rtol=1e-5)


def test_fisher_is_the_pointwise_optimum(x64):
    """It minimises 2d asinh(d/2g) + p A over g, with p = price lsb² gradient²/2."""
    d, gradient, price = 0.7, 2.0, 1e6
    barrier = limjax.FisherBarrier(price, decay=0.0)
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


# What the ledger does with a barrier.


def run(barrier, losses, cell=CELL, params=None, gradient=None, **options):
    params = jnp.zeros(2) if params is None else params
    opt = limjax.learning_in_memory(optax.sgd(1.0), cell, barrier, compare=(), **options)
    state = opt.init(params)
    update = jax.jit(opt.update)
    seen = []
    for loss in losses:
        _, state = update(params if gradient is None else gradient, state, params, value=jnp.asarray(loss))
        seen.append(float(limjax.get_barrier(state)))
    return limjax.get_ledger(state), seen


@pytest.mark.parametrize("recovery", [0.0, 1.0, 0.25])
def test_a_barrier_that_swings_pays_for_every_raise(recovery):
    """Between 10 and 14 kT: ΔF(14) - ΔF(10), about ½ ln 1.4, per raise without recovery and nothing net with it."""
    cell = limjax.ArrheniusCell(recovery=recovery)
    swing = limjax.ScheduledBarrier(lambda step: jnp.where(step % 2 == 0, 10.0, 14.0))
    ledger, seen = run(swing, [1.0] * 21, cell)
    assert seen[:4] == [10.0, 14.0, 10.0, 14.0]
    raised = float(free_energy(jnp.float32(14.0)) - free_energy(jnp.float32(10.0)))
    assert raised == pytest.approx(0.5 * math.log(1.4), rel=0.06)
    excess = float(finite_time_excess(jnp.float32(10.0), jnp.float32(14.0), cell.diffusion_per_step()))
    # Ten raises and ten lowerings, for each of the two parameters.
    expected = 2 * 10 * (raised * (1 - recovery) + 2 * excess)
    assert limjax.total(ledger, "actuation") == pytest.approx(expected, abs=2e-5)
    if recovery == 1.0:
        assert limjax.total(ledger, "actuation") < 1e-3


def test_a_still_barrier_pays_nothing_and_the_first_step_is_free():
    ledger, _ = run(limjax.StaticBarrier(30.0), [1.0] * 4)
    assert abs(limjax.total(ledger, "actuation")) < 1e-15


def test_a_rising_barrier_pays_the_free_energy_once(x64):
    """Slowly or in one go, with recovery 0 and no fall: ΔF(end) - ΔF(start), and an excess that falls with the steps."""
    cell = limjax.ArrheniusCell()
    works = []
    for steps in (2, 11, 101):
        ledger, seen = run(limjax.SplineBarrier([9.0, 20.0], steps), [1.0] * steps, cell)
        assert seen[-1] == pytest.approx(20.0)
        works.append(limjax.total(ledger, "actuation") / 2)
    change = float(free_energy(jnp.asarray(20.0)) - free_energy(jnp.asarray(9.0)))
    excess = np.asarray(works) - change
    assert (excess > 0).all() and excess[0] > 8 * excess[1] > 64 * excess[2]
    length = float(finite_time_excess(jnp.asarray(9.0), jnp.asarray(20.0), cell.diffusion_per_step()))
    assert excess[0] == pytest.approx(length, rel=1e-6)


def test_clipping_to_the_cells_range_is_counted():
    cell = limjax.ArrheniusCell(min_barrier=9.0, max_barrier=12.0)
    barrier = limjax.ScheduledBarrier(optax.linear_schedule(8.0, 14.0, 6))
    ledger, seen = run(barrier, [1.0] * 7, cell)
    assert seen == [9.0, 9.0, 10.0, 11.0, 12.0, 12.0, 12.0]
    # Below at step 0, above at steps 5 and 6; two parameters.
    assert limjax.total(ledger, "barrier_clipped") == 2 * 3
    ledger, _ = run(limjax.StaticBarrier(1.5), [1.0] * 3)
    assert limjax.total(ledger, "shallow") == 2 * 3


def test_per_parameter_clipping():
    """A parameter that is never asked to move gets a finite wall, far above the others, and no NaN."""
    gradient = jnp.asarray([0.0, 1e-2])
    for barrier in (limjax.RateMatchedBarrier(2.0), limjax.FisherBarrier(), limjax.FisherBarrier(smooth_speed=False)):
        ledger, seen = run(barrier, [1.0] * 3, gradient=gradient)
        assert np.isfinite(seen).all()
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(ledger))
    cell = limjax.ArrheniusCell(max_barrier=20.0)
    ledger, seen = run(limjax.RateMatchedBarrier(2.0), [1.0] * 3, cell, gradient=gradient)
    assert limjax.total(ledger, "barrier_clipped") == 3 and all(b < 20 for b in seen)


def test_lyapunov_needs_the_loss():
    opt = limjax.learning_in_memory(optax.sgd(1.0), CELL, limjax.LyapunovBarrier())
    with pytest.raises(ValueError, match=r"LyapunovBarrier follows the loss.*value=loss"):
        opt.update(jnp.ones(2), opt.init(jnp.ones(2)), jnp.ones(2))


def test_get_barrier_is_the_mean_over_parameters():
    params = {"a": jnp.zeros(3), "b": jnp.zeros(1)}
    ledger_options = ({}, {"granularity": "leaf"})
    for options in ledger_options:
        opt = limjax.learning_in_memory(
            optax.sgd(1.0), CELL, limjax.SplineBarrier([[8.0, 8.0], [16.0, 16.0]], 2), **options
        )
        _, state = opt.update(params, opt.init(params), params)
        expected = 10.0 if not options else 12.0  # the leaf ledger does not know the sizes
        assert float(limjax.get_barrier(state)) == pytest.approx(expected)


# Gradients of a run.


def heat_of_short_run(barrier):
    """Total cost (heat, barrier work) of three steps of gradient descent from fixed weights, in float64."""
    target = jnp.asarray([[0.3, -0.2, 0.05], [0.1, 0.4, -0.6]])
    cell = limjax.ArrheniusCell(lsb=2**-10)
    opt = limjax.learning_in_memory(optax.sgd(0.3), cell, barrier, compare=())
    params = {"a": jnp.zeros((2, 3)), "b": jnp.ones(2)}
    state = opt.init(params)
    for _ in range(3):
        loss, gradient = jax.value_and_grad(
            lambda p: 0.5 * jnp.sum((p["a"] - target) ** 2) + jnp.sum(jnp.cosh(p["b"])) - 2
        )(params)
        updates, state = opt.update(gradient, state, params, value=loss)
        params = optax.apply_updates(params, updates)
    ledger = limjax.get_ledger(state)
    entries = (ledger.heat.total, ledger.actuation.total, ledger.hops.total)
    return sum(weight * sum(jnp.sum(x) for x in jax.tree.leaves(e)) for weight, e in zip((1.0, 2.0, 0.01), entries))


def differentiable_barriers():
    """Made inside the test, under x64."""
    return {
        "static": limjax.StaticBarrier(11.0),
        "scheduled": limjax.ScheduledBarrier(optax.linear_schedule(9.0, 14.0, 3), offset=0.5),
        "lyapunov": limjax.LyapunovBarrier(9.0, 0.7, 0.01),
        "lyapunov-start": limjax.LyapunovBarrier(None, 0.7, 0.01),
        "moment": limjax.MomentBarrier(0.5, 0.7, 0.01),
        "moment-leaf": limjax.MomentBarrier(0.5, 0.7, 0.01, "leaf"),
        "rate-matched": limjax.RateMatchedBarrier(2.0, 0.7),
        "rate-matched-leaf": limjax.RateMatchedBarrier(2.0, 0.7, "leaf"),
        "fisher": limjax.FisherBarrier(1e3, 0.7),
        "fisher-jump": limjax.FisherBarrier(1e3, 0.7, smooth_speed=False),
        "fowler-nordheim": limjax.FowlerNordheimBarrier(9.0, 1e-3),
        "spline": limjax.SplineBarrier([9.0, 12.0, 11.0, 14.0], 5),
        "spline-rows": limjax.SplineBarrier([[9.0, 12.0, 11.0], [8.0, 10.0, 9.5]], 5),
        "learned-on-law": eqx.tree_at(
            lambda b: (b.offset, b.slopes, b.output),
            limjax.LearnedBarrier.from_law(5, units=2, law=limjax.MomentBarrier(0.5, 0.7, 0.01)),
            (jnp.asarray(0.2), jnp.asarray([-1.0, 0.1, 0.1, 0.2]), jnp.asarray([0.4, 0.2])),
        ),
        # Slopes of their own: with from_theory's some barriers hardly move, and only raises are charged, a kink.
        "learned": limjax.LearnedBarrier(
            -3.0,
            [-1.0, 0.9, -0.4, 0.2],
            [[0.3, -0.2], [0.1, 0.4], [-0.2, 0.3], [0.5, 0.1]],
            [0.1, -0.3],
            [0.4, 0.2],
            0.7,
            5,
        ),
    }


@pytest.mark.representatives(4)
@pytest.mark.parametrize("name", [
    "static", "scheduled", "lyapunov", "lyapunov-start", "moment", "moment-leaf", "rate-matched", "rate-matched-leaf", "fisher", "fisher-jump", "fowler-nordheim",
    "spline", "spline-rows", "learned", "learned-on-law",
])  # fmt: skip
def test_gradient_of_a_runs_cost_with_respect_to_every_leaf(name, x64):
    barrier = differentiable_barriers()[name]
    cost = jax.jit(heat_of_short_run)
    gradient = jax.jit(jax.grad(heat_of_short_run))(barrier)
    leaves, treedef = jax.tree.flatten(barrier)
    assert leaves and jax.tree.structure(gradient) == treedef
    for i, (leaf, slope) in enumerate(zip(leaves, jax.tree.leaves(gradient))):
        for index in np.ndindex(leaf.shape):
            h = 1e-6 * max(1e-3, abs(float(leaf[index])))

            def at(shift, i=i, leaf=leaf, index=index):
                moved = leaf.at[index].add(shift)
                return float(cost(treedef.unflatten([*leaves[:i], moved, *leaves[i + 1 :]])))

            difference = (at(h) - at(-h)) / (2 * h)
            assert float(slope[index]) == pytest.approx(difference, rel=2e-5, abs=1e-6)


# Every policy.


def test_every_policy_is_final_named_and_reachable():
    policies = AbstractBarrier.__subclasses__()
    own = [policy for policy in policies if policy.__module__.startswith("limjax.")]
    assert {policy.name for policy in own} == set(barrier_names())
    for policy in own:
        assert policy.__subclasses__() == []
        assert getattr(limjax, policy.__name__) is policy


WRONG = [
    (lambda: limjax.StaticBarrier(-1.0), ["StaticBarrier", "-1.0", "kT"]),
    (lambda: limjax.StaticBarrier(math.nan), ["StaticBarrier", "nan"]),
    (lambda: limjax.StaticBarrier(math.inf), ["StaticBarrier", "inf"]),
    (lambda: limjax.StaticBarrier.at_retention(CELL, years=-1.0), ["time", "-"]),
    (lambda: limjax.ScheduledBarrier(3.0), ["3.0", "StaticBarrier"]),
    (lambda: limjax.ScheduledBarrier(lambda step: -1.0), ["step 0", "-1", "kT"]),
    (lambda: limjax.ScheduledBarrier(lambda step: math.nan), ["step 0", "nan"]),
    (lambda: limjax.ScheduledBarrier(lambda step: 1.0, offset=math.nan), ["offset", "nan"]),
    (lambda: limjax.LyapunovBarrier(-0.5), ["start", "-0.5"]),
    (lambda: limjax.LyapunovBarrier(10.0, decay=1.5), ["decay", "1.5", "0 to 1"]),
    (lambda: limjax.LyapunovBarrier(10.0, floor=math.nan), ["floor", "nan"]),
    (lambda: limjax.MomentBarrier(0.0), ["scale", "0.0"]),
    (lambda: limjax.MomentBarrier(decay=1.5), ["decay", "1.5"]),
    (lambda: limjax.MomentBarrier(floor=math.nan), ["floor", "nan"]),
    (lambda: limjax.MomentBarrier(granularity="layer"), ["granularity", "'layer'"]),
    (
        lambda: limjax.LearnedBarrier(
            0, [0.0] * 4, jnp.zeros((4, 1)), [0.0], [0.0], granularity="leaf", law=limjax.MomentBarrier()
        ),
        ["granularity", "'leaf'"],
    ),
    (lambda: limjax.RateMatchedBarrier(0.0), ["ratio", "0.0"]),
    (lambda: limjax.RateMatchedBarrier(1.0, decay=-0.1), ["decay", "-0.1"]),
    (lambda: limjax.FisherBarrier(0.0), ["price", "0.0"]),
    (lambda: limjax.FisherBarrier(1.0, math.nan), ["decay", "nan"]),
    (lambda: limjax.FowlerNordheimBarrier(-1.0), ["start", "-1.0"]),
    (lambda: limjax.FowlerNordheimBarrier(1.0, 0.0), ["time_constant", "0.0"]),
    (lambda: limjax.FowlerNordheimBarrier.from_device(1e16, -1.0, 7.5), ["k2", "-1.0", "300.0"]),
    (lambda: limjax.SplineBarrier([10.0], 5), ["two knots", "(1,)"]),
    (lambda: limjax.SplineBarrier([10.0, -1.0], 5), ["knot", "-1.0"]),
    (lambda: limjax.SplineBarrier([10.0, math.nan], 5), ["knot", "nan"]),
    (lambda: limjax.SplineBarrier([10.0, 11.0], 0), ["steps", "0"]),
]


@pytest.mark.parametrize(("make", "said"), WRONG)
def test_wrong_numbers_are_named(make, said):
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError) as error:
            make()
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    for word in said:
        assert word in str(error.value)


# Names on the command line.


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("static", lambda b: abs(float(b.height) - 49.5) < 0.01),
        ("static:height=20", lambda b: float(b.height) == 20.0),
        ("lyapunov:start=8,decay=0.5,floor=0.1", lambda b: (float(b.start), float(b.decay)) == (8.0, 0.5)),
        ("lyapunov", lambda b: b.start is None),
        ("moment:scale=0.5,floor=0.1", lambda b: b.scope == "parameter" and float(b.scale) == 0.5),
        ("moment:granularity=leaf", lambda b: b.scope == "leaf" and float(b.scale) == 1.0),
        ("rate-matched", lambda b: b.scope == "leaf" and float(b.ratio) == 2.0),
        ("rate-matched:ratio=3,granularity=parameter", lambda b: b.scope == "parameter" and float(b.ratio) == 3.0),
        ("fisher:price=1e5", lambda b: float(b.price) == 1e5),
        ("fowler-nordheim:start=7,time_constant=0.5", lambda b: float(b.time_constant) == 0.5),
        ("learned:scale=0.5", lambda b: float(b.law.scale) == 0.5 and float(b.steps) == 100.0),
        ("spline:start=8,stop=12,knots=5", lambda b: b.knots.shape == (5,) and float(b.knots[-1]) == 12.0),
    ],
)
def test_specification(text, check):
    barrier = barrier_from_name(text, CELL, 100, 1e-3)
    assert barrier.name == text.split(":")[0] and check(barrier)


def test_scheduled_specification_follows_the_learning_rate():
    """B rises by 2 ln(lr0/lr): Γ* falls with the square of the step."""
    rate = optax.cosine_decay_schedule(1e-2, 100)
    barrier = barrier_from_name("scheduled:start=9", CELL, 100, rate)
    got = heights(barrier, [inputs(k) for k in (0, 50, 90)])
    np.testing.assert_allclose(got, 9.0 + 2 * np.log([1e-2 / float(rate(k)) for k in (0, 50, 90)]), rtol=1e-4)
    flat = barrier_from_name("scheduled:start=9", CELL, 100, 1e-3)
    np.testing.assert_allclose(heights(flat, [inputs(0), inputs(50)]), 9.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("liapunov", ["'liapunov'", "lyapunov", "Did you mean"]),
        ("", ["''", "static"]),
        ("static:hight=20", ["'hight=20'", "height"]),
        ("static:20", ["'20'", "argument=number"]),
        ("static:height=tall", ["height", "'tall'", "number"]),
        ("static:height=-1", ["-1", "kT"]),
        ("static:height=nan", ["nan", "kT"]),
        ("lyapunov:start=8;decay=0.5", ["start", "'8;decay=0.5'"]),
        ("rate-matched:granularity=layer", ["granularity", "'layer'"]),
        ("spline:knots=1", ["knots", "from 2", "got 1"]),
        ("lyapunov:cell=3", ["cell=3", "start"]),
    ],
)
def test_wrong_specifications_are_named(text, said):
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError) as error:
            barrier_from_name(text, CELL, 100, 1e-3)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    for word in said:
        assert word in str(error.value)
