"""Approaches with their noise paid for against exact hops, NumPy moments of their own and direct optimisation."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limit_checks import check_gradient
from scipy import optimize, special

from limjax.limits import approaches, bounds, direct
from limjax.limits.approaches import APPROACHES, ConstantExchange, Knots, LossFollowing, RateMatched

ROWS = [(100.0, 14.875, 4.0), (256.0, 1.0, 1.2), (256.0, 1.0, 1.5), (256.0, 1.0, 2.0)]
ROWS = [(m0, s, t if m0 == 100 else t * math.log(256)) for m0, s, t in ROWS]
NAMES = ["m0_100_aT_4.000", "m0_256_aT_6.654", "m0_256_aT_8.318", "m0_256_aT_11.090"]


def final_loss(m0, s, theta):
    return s + (m0 * math.exp(-theta)) ** 2


def numpy_moments(exchange, m0, theta, steps=1500):
    """Heat and final loss by Euler steps in θ and Gauss-Legendre over ±7 standard deviations; exchange is G(θ, m, L)."""
    z, w = np.polynomial.legendre.leggauss(160)
    z, w = 7 * z, 7 * w * np.exp(-0.5 * (7 * z) ** 2) / math.sqrt(2 * math.pi)
    h, variance, heat = theta / steps, 0.0, 0.0
    for k in range(steps):
        at = (k + 0.5) * h
        mean = m0 * math.exp(-at)
        # the middle of the step, twice
        middle = variance
        for _ in range(2):
            d = mean + math.sqrt(max(middle, 0)) * z
            g = exchange(at, mean, mean**2 + middle)
            slope = w @ np.sqrt(d * d + 4 * g * g) - 2 * middle
            middle = variance + 0.5 * h * slope
        variance += h * slope
        heat += h * (w @ (2 * d * np.arcsinh(d / (2 * g))))
    return heat, variance + (m0 * math.exp(-theta)) ** 2


SHAPES = {"constant": lambda t, m, L: 1.0, "rate_matched": lambda t, m, L: m, "loss_following": lambda t, m, L: L}


@pytest.mark.representatives(2)
@pytest.mark.parametrize("approach", APPROACHES, ids=lambda a: a.name)
@pytest.mark.parametrize("row", [0, 1])
def test_against_moments_in_numpy(approach, row):
    m0, s, theta = ROWS[row]
    last, shape = final_loss(m0, s, theta), SHAPES[approach.name]

    def miss(log_scale):
        return math.log(numpy_moments(lambda *a: math.exp(log_scale) * shape(*a), m0, theta, 300)[1] / last)

    top = float(approach.open_log_scale(jnp.float32(m0), jnp.float32(theta), jnp.float32(last)))
    scale = math.exp(optimize.brentq(miss, top - 4, top + 0.2, xtol=1e-4))
    heat, _ = numpy_moments(lambda *a: scale * shape(*a), m0, theta, 1500)
    assert float(approaches.heat(approach, m0, theta, last)) == pytest.approx(heat, rel=0.01)


def hops(approach, m0, theta, last, steps=2500, cells=3000, seed=5):
    """Exact Poisson hops with the exchange of the solved approach; the loss is the measured one."""
    arguments = [jnp.asarray(x, jnp.float32) for x in (m0, theta, last)]
    scale = math.exp(float(approaches.solve(approach, *arguments, None)[1]))
    draw, n = np.random.default_rng(seed), np.full(cells, m0)
    pull, heat = -math.expm1(-theta / steps), 0.0
    for k in range(steps):
        shape = SHAPES[approach.name](None, m0 * math.exp(-theta * k / steps), np.mean(n * n))
        d, g = -pull * n, scale * shape * theta / steps
        total = np.sqrt(d * d + 4 * g * g)
        heat += np.mean(2 * d * np.arcsinh(d / (2 * g)))
        n = n + draw.poisson((total + d) / 2) - draw.poisson((total - d) / 2)
    return heat, np.mean(n * n), np.std(n * n) / math.sqrt(cells)


@pytest.mark.representatives(1)
@pytest.mark.parametrize("row", range(4))
def test_exact_hops_on_the_measured_loss(reference, row):
    """Four rows of physics.md section 3: heat of the measured-loss barrier within 2 % of the approach, and of the reference."""
    m0, s, theta = ROWS[row]
    last = final_loss(m0, s, theta)
    heat, _, _ = hops(LossFollowing(), m0, theta, last)
    assert float(approaches.heat(LossFollowing(), m0, theta, last)) == pytest.approx(heat, rel=0.02)
    expected = reference[f"lim_finite_time_{NAMES[row]}"]
    assert heat == pytest.approx(
        expected["expected"]["measured_loss_barrier_exact_hops_kT"], rel=expected["tolerance"]["hops_rel"]
    )


@pytest.mark.parametrize(
    ("approach", "row"), [(RateMatched(), 0), (RateMatched(), 1), (RateMatched(), 2), (ConstantExchange(), 1)]
)
def test_exact_hops_of_the_others(approach, row):
    """Heat within 2 %; the final loss within 5 standard errors and 3 %: levels are whole numbers, the moments Gaussian."""
    m0, s, theta = ROWS[row]
    last = final_loss(m0, s, theta)
    heat, loss, error = hops(approach, m0, theta, last)
    assert float(approaches.heat(approach, m0, theta, last)) == pytest.approx(heat, rel=0.02)
    assert abs(loss - last) < 5 * error + 0.03 * last


@pytest.mark.slow
@pytest.mark.representatives(1)
@pytest.mark.parametrize("row", range(4))
def test_direct_optimum(reference, row):
    """Within 2 % of the reference, below the loss-following barrier, above the closed form; ln Γ parallel to ln L within 5 %."""
    m0, s, theta = ROWS[row]
    last = final_loss(m0, s, theta)
    found = direct.optimum(m0, theta, last, knots=16, iterations=80)
    entry = reference[f"lim_finite_time_{NAMES[row]}"]
    assert found.is_converged
    assert found.heat_kt == pytest.approx(entry["expected"]["direct_optimum_kT"], rel=entry["tolerance"]["direct_rel"])
    assert float(bounds.convergence(m0**2 / last, theta)) < found.heat_kt
    assert found.heat_kt < float(approaches.heat(LossFollowing(), m0, theta, last)) * 1.0001
    assert 0.95 < found.slope < 1.06


@pytest.mark.slow
def test_direct_optimum_by_another_route():
    """12 free knots of ln(G/L) with NumPy moments and SciPy's optimiser, the end met by a penalty."""
    m0, s, theta = ROWS[0]
    last = final_loss(m0, s, theta)

    def run(knots):
        return numpy_moments(
            lambda t, m, L: L * math.exp(np.interp(t / theta, np.linspace(0, 1, knots.size), knots)), m0, theta, 150
        )

    def cost(knots):
        heat, loss = run(knots)
        # by the law, a percent of final loss is worth this much heat; the penalty makes the end exact to first order
        return heat + 400 * math.log(loss / last) ** 2

    start = np.full(6, math.log(1 - math.log(m0**2 / last) / (2 * theta)))
    found = optimize.minimize(cost, start, method="L-BFGS-B", options={"maxiter": 40, "maxfun": 500})
    heat, loss = run(found.x)
    closed = direct.optimum(m0, theta, loss, knots=16, iterations=60)
    assert heat == pytest.approx(closed.heat_kt, rel=0.01)


@pytest.mark.slow
def test_long_training_costs_more_again():
    """The old law said that slow training is almost free; with the noise paid for it has a cheapest time."""
    theta = np.linspace(8.0, 30.0, 12)
    heat = np.asarray(approaches.heat(LossFollowing(), np.full(12, 256.0), theta, np.full(12, 1.0)))
    best = int(np.argmin(heat))
    assert theta[best] == pytest.approx(math.log(65536.0), abs=2.0)
    assert heat.min() > float(bounds.convergence(65536.0)) * 0.999
    assert heat[-1] > heat[best] * 1.4


@pytest.mark.slow
def test_order_and_the_bound():
    """Nothing is below 2 ln(L0/LT), and the loss-following one is the best of the three wherever it is open."""
    rng = np.random.default_rng(0)
    m0 = np.exp(rng.uniform(2, 9, 60)).astype(np.float32)
    last = np.exp(rng.uniform(0, 3, 60)).astype(np.float32)
    theta = (np.log(m0**2 / last) * np.exp(rng.uniform(-0.3, 0.8, 60))).astype(np.float32)
    heat = {a.name: np.asarray(jax.jit(lambda *x, a=a: approaches.heat(a, *x))(m0, theta, last)) for a in APPROACHES}
    known = np.isfinite(heat["loss_following"])
    assert known.sum() > 40
    bound = 2 * np.log(m0**2 / last)[known]
    for name, value in heat.items():
        good = np.isfinite(value[known])
        assert (value[known][good] > bound[good] * 0.9999).all(), name
        assert (heat["loss_following"][known][good] < value[known][good] * 1.01).all(), name


def test_static_is_the_update_wall():
    """2 m0 kT for every kT of barrier, and its final loss is that of the hops of the requests, about 1/2π levels²."""
    low, high = (approaches.static(256.0, 6.65, b, 1e13) for b in (49.5, 50.5))
    moved = 256.0 * -math.expm1(-6.65)
    assert float(high.heat_kt - low.heat_kt) == pytest.approx(2 * moved, rel=0.02)
    late = approaches.static(256.0, 20.0, 49.5, 1e13)
    assert float(late.loss) == pytest.approx(1 / (2 * math.pi), rel=0.05)


@pytest.mark.slow
def test_a_barrier_of_any_height_is_a_wall():
    """It was one of e^-75 hops at most: 40,998 kT from 104 kT on."""
    hop = math.exp(-200.0) * 1e13 / 11.09
    expected, _ = numpy_moments(lambda *a: hop, 256.0, 11.09, 600)
    run = jax.jit(jax.value_and_grad(lambda b: approaches.static(256.0, 11.09, b, 1e13).heat_kt))
    (low, slope), (high, same) = (map(float, run(b)) for b in (80.0, 200.0))
    assert high == pytest.approx(expected, rel=0.01)
    assert [slope, same] == pytest.approx([(high - low) / 120] * 2, rel=1e-4)


@pytest.mark.slow
@pytest.mark.representatives(1)
@pytest.mark.parametrize(("approach", "ceiling"), [(LossFollowing(), 8.0), (RateMatched(), 2.0)], ids=["loss", "rate"])
def test_the_final_loss_is_met_below_a_ceiling(approach, ceiling):
    """Cut at the start, the exchange is larger later than one that is open all along."""
    shape = SHAPES[approach.name]

    def moments(log_scale, steps=300):
        return numpy_moments(lambda *a: min(math.exp(log_scale) * shape(*a), math.exp(ceiling)), 256.0, 11.09, steps)

    top = float(approach.open_log_scale(*jnp.asarray([256.0, 11.09, 1.0], jnp.float32)))
    scale = optimize.brentq(lambda x: math.log(moments(x)[1]), top - 0.5, top + 1, xtol=1e-3)
    heat = float(approaches.heat(approach, 256.0, 11.09, 1.0, log_ceiling=ceiling))
    assert heat == pytest.approx(moments(scale, 1500)[0], rel=0.01)


def test_a_ceiling_too_low_for_the_final_loss_is_the_exchange():
    heat = approaches.heat(LossFollowing(), 256.0, 11.09, 1.0, log_ceiling=-2.0)
    constant = approaches.descend(ConstantExchange(), 256.0, 11.09, -2.0)
    assert float(heat) == pytest.approx(float(constant.heat_kt), rel=1e-6) and float(constant.loss) < 1


@pytest.mark.slow
def test_gradients_below_a_ceiling_are_finite():
    """Met, cut all along, and above the loss at the start; and where the ceiling is beyond every exchange."""
    high, none = (
        jax.grad(lambda m0, c=c: approaches.heat(LossFollowing(), m0, 4.0, 18.23, log_ceiling=c))(100.0)
        for c in (95.0, None)
    )
    assert float(high) == pytest.approx(float(none), rel=1e-3)
    ends = jnp.asarray([0.25, 1.0, 1e9])
    run = jax.value_and_grad(lambda c, last: approaches.heat(LossFollowing(), 256.0, 11.09, last, log_ceiling=c))
    heat, slope = jax.vmap(run, (None, 0))(-2.0, ends)
    np.testing.assert_array_equal(np.isfinite(heat), [True, True, False])
    assert np.isfinite(slope).all() and float(slope[1]) < 0


@pytest.mark.slow
def test_curves_are_mapped():
    curves = jnp.zeros((2, 3)) + jnp.asarray([[0.0], [5.0]])
    heat = jax.vmap(lambda knots: approaches.heat(Knots(knots), 256.0, 11.09, 1.0))(curves)
    # a level curve is a constant barrier, whatever the level
    assert heat == pytest.approx(float(approaches.heat(ConstantExchange(), 256.0, 11.09, 1.0)), rel=1e-4)


def test_one_step_of_the_search_is_no_convergence(monkeypatch):
    """The heat before the only step is compared with that of the curve after it."""
    found = (jnp.float32(19.0), jnp.float32(0.0), jnp.asarray(True), 0.0)
    monkeypatch.setattr(approaches, "solve", lambda *_: found)
    monkeypatch.setattr(approaches, "integrate", lambda *_: (None, np.full(128, 20.0)))
    for before, expected in ((1e3, False), (19.0, True)):
        monkeypatch.setattr(direct, "_search", lambda start, *_, h=before: (start, jnp.full(1, h, start.dtype)))
        assert direct.optimum(100.0, 4.0, 18.23, knots=3, iterations=1).is_converged is expected


def test_a_ceiling_of_the_exchange_only_costs():
    free = float(approaches.heat(LossFollowing(), 256.0, 11.09, 1.0))
    wide, narrow = (
        float(approaches.heat(LossFollowing(), 256.0, 11.09, 1.0, log_ceiling=c))
        for c in (math.log(1e6), math.log(300.0))
    )
    assert wide == pytest.approx(free, rel=1e-5) and narrow > 1.2 * free


@pytest.mark.slow
def test_float32_against_float64():
    rows = [(2.0, 5.0, 0.5), (16.0, 8.0, 0.7), (256.0, 11.0, 1.0), (65536.0, 23.0, 1.0), (2.0**32, 45.0, 1.0)]
    with jax.enable_x64(True):
        wide = {a.name: np.asarray(approaches.heat(a, *np.array(rows).T)) for a in APPROACHES}
    for approach in APPROACHES:
        narrow = approaches.heat(approach, *np.array(rows, np.float32).T)
        assert narrow.dtype == jnp.float32
        np.testing.assert_allclose(narrow, wide[approach.name], rtol=2e-3, err_msg=approach.name)
    assert wide["loss_following"][-1] == pytest.approx(64 * math.log(4.0) / 1.0, rel=0.02)


@pytest.mark.slow
@pytest.mark.representatives(1)
@pytest.mark.parametrize("approach", APPROACHES, ids=lambda approach: approach.name)
def test_gradients(approach):
    check_gradient(lambda *a: approaches.heat(approach, *a), (256.0, 9.0, 1.5), (100.0, 5.0, 10.0), single=2e-2)


def test_knots_are_a_curve_between_values():
    curve = Knots(jnp.asarray([0.0, -2.0, -6.0]))
    like = jnp.float32(1.0)
    values = [float(curve.log_shape(jnp.float32(p), like, like)) for p in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert values == pytest.approx([0.0, -1.0, -2.0, -4.0, -6.0])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: approaches.heat(LossFollowing(), 256.0, 5.0, 1.0), ("cannot be reached", "leave 4.7")),
        (lambda: approaches.heat(LossFollowing(), 4.0, 5.0, 16.0), ("below distance² = 16", "16")),
        (lambda: approaches.heat(LossFollowing(), -4.0, 5.0, 16.0), ("distance", "-4")),
        (lambda: approaches.heat(LossFollowing(), 4.0, 99.0, 1.0), ("contraction", "99", "60")),
        (lambda: approaches.static(4.0, 5.0, -1.0, 1e9), ("barrier", "-1")),
        (lambda: direct.optimum(100.0, 4.0, 18.0, knots=2), ("knots", "2")),
        (lambda: direct.optimum(100.0, 4.0, 18.0, iterations=0), ("iterations", "0")),
    ],
)
def test_wrong_arguments_are_named(call, words):
    with pytest.raises(ValueError) as error:
        call()
    assert all(word in str(error.value) for word in words), str(error.value)


def test_gauss_hermite_meets_closed_averages():
    """⟨|d|⟩ of a folded normal, which a closed cell's activity is."""
    shut = approaches.descend(ConstantExchange(), 30.0, 1.0, -40.0)
    m, v = 30.0 * math.exp(-1.0), float(shut.loss) - (30.0 * math.exp(-1.0)) ** 2
    # so far from the minimum all hops go one way: the shot noise of the mean path
    assert v == pytest.approx(30.0 * math.exp(-1) * -math.expm1(-1), rel=1e-3)
    assert special.erf(m / math.sqrt(2 * v)) > 0.999
