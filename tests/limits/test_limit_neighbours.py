"""Published neighbours of the law against master equations, quadrature, simulation and the numbers of their page."""

import math
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limit_checks import check_gradient
from scipy import integrate, optimize

from limjax.limits import bounds, energy_limits, law, neighbours
from limjax.physics.units import thermal_energy_joules

PAGE = (pathlib.Path(__file__).parents[2] / "docs/neighbours.md").read_text()
KT = thermal_energy_joules(300.0)


# Training set.


@pytest.mark.slow
@pytest.mark.representatives(1)
@pytest.mark.parametrize("scaling, joules", [("kaplan", 2.49e7), ("chinchilla", 1.66e11)])
def test_training_set_energy(x64, scaling, joules):
    stack = energy_limits(1e15, scaling=scaling).stack
    tokens = stack.workload.total_tokens
    value = KT * float(neighbours.training_set_energy(1e15, tokens))
    assert value == pytest.approx(joules, rel=5e-3)
    # The law's 2 kT per token and parameter, and its gradients that are averaged.
    assert value == pytest.approx(stack.law.token_joules, rel=1e-12)
    per_parameter = float(neighbours.training_set_energy(1.0, tokens))
    assert per_parameter == pytest.approx(float(bounds.convergence(1.0, averaged=tokens)), rel=1e-12)


# Time-dependent drives, by the master equation.


def moments(rates, increments, start, time, speed, steps):
    """Mean and variance of an integrated current, entropy production, Fisher information and final current, by Runge-Kutta.

    rates(s)[j, i] from i to j at protocol value s; increments antisymmetric.
    """

    def slope(state, t):
        w = rates(speed * t)
        p, first, second = state
        out = w.sum(0)
        d, dd = w * increments, w * increments**2
        return np.stack(
            [w @ p - out * p, w @ first - out * first + d @ p, w @ second - out * second + 2 * d @ first + dd @ p]
        )

    dt = time / steps
    state = np.stack([start, 0 * start, 0 * start])
    produced = fisher = 0.0
    rows, columns = np.tril_indices(len(start), -1)
    for k in range(steps):
        t = k * dt
        a = slope(state, t)
        b = slope(state + dt / 2 * a, t + dt / 2)
        c = slope(state + dt / 2 * b, t + dt / 2)
        d = slope(state + dt * c, t + dt)
        flow = rates(speed * (t + dt / 2)) * (state[0] + dt / 2 * b[0])
        there, back = flow[rows, columns], flow[columns, rows]
        produced += dt * np.sum((there - back) * np.log(there / back))
        fisher += dt * np.sum((there - back) ** 2 / (there + back))
        state = state + dt / 6 * (a + 2 * b + 2 * c + d)
    mean = state[1].sum()
    current = (rates(speed * time) * increments @ state[0]).sum()
    return mean, state[2].sum() - mean**2, produced, fisher, current


def responses(rates, increments, start, time, speed=1.0, steps=1500):
    mean, variance, produced, fisher, current = moments(rates, increments, start, time, speed, steps)
    step = 1e-3 * speed
    up, down = (moments(rates, increments, start, time, speed + s, steps)[0] for s in (step, -step))
    return math.sqrt(variance) / mean, time * current / mean, (up - down) / (2e-3 * mean), produced, fisher


def lifted_level(lift):
    """A two-level system, total rate 1, whose upper level rises to `lift` as s goes from 0 to 1."""

    def rates(s):
        up = 1 / (1 + math.exp(lift * s))
        return np.array([[0.0, 1 - up], [up, 0.0]])

    return rates, np.array([[0.0, -1.0], [1.0, 0.0]]), np.array([0.5, 0.5])


@pytest.mark.parametrize("time", [0.3, 1.0, 3.0, 10.0, 30.0])
def test_a_driven_two_level_system(x64, time):
    rates, increments, start = lifted_level(3.0)
    delta, by_time, by_speed, produced, _ = responses(rates, increments, start, time, 1 / time)
    bound = float(neighbours.time_dependent_precision(abs(delta), by_time, by_speed))
    assert 0 < bound <= produced
    if time >= 1:
        # The steady relation is wrong here, and the more so the slower the drive.
        assert float(bounds.precision(abs(delta))) > produced
    if time == 0.3:
        assert bound > 0.5 * produced


@pytest.mark.parametrize("seed", range(6))
def test_driven_networks(x64, seed):
    """Three or four states, all connected, random energies and forces swinging, an arbitrary current: Cramér-Rao and the relation."""
    rng = np.random.default_rng(seed)
    n = 3 + seed % 2
    barrier = rng.normal(size=(n, n))
    barrier += barrier.T
    force, swing, increments = (x - x.T for x in rng.normal(size=(3, n, n)))
    phase = rng.uniform(0, 2 * np.pi)
    start = rng.dirichlet(np.ones(n))

    def rates(s):
        w = np.exp(-barrier / 2 + 0.5 * (force + swing * math.sin(s + phase)))
        np.fill_diagonal(w, 0.0)
        return w

    delta, by_time, by_speed, produced, fisher = responses(rates, increments, start, 2.0, 1.5, steps=1000)
    squared = (by_time - by_speed) ** 2 / delta**2
    bound = float(neighbours.time_dependent_precision(abs(delta), by_time, by_speed))
    assert bound == pytest.approx(2 * squared, rel=1e-12)
    assert squared <= fisher <= produced / 2


@pytest.mark.parametrize("tilt", [0.01, 2.0])
def test_free_hops_keep_the_steady_relation(x64, tilt):
    """Hops at rates that change in time but do not depend on the level: the responses differ by one, and weak drives reach 2/δ²."""
    time, speed, h = 3.0, 0.7, 1e-5

    def hops(t, v):
        return integrate.quad(lambda x: 2 + math.sin(v * x), 0, t, epsabs=1e-13)[0]

    mean, variance = (f(tilt / 2) * hops(time, speed) for f in (math.sinh, math.cosh))
    by_time = time * (hops(time + h, speed) - hops(time - h, speed)) / (2 * h) / hops(time, speed)
    by_speed = speed * (hops(time, speed + h) - hops(time, speed - h)) / (2 * h) / hops(time, speed)
    assert by_time - by_speed == pytest.approx(1.0, rel=1e-7) and abs(by_speed) > 0.01
    bound = float(neighbours.time_dependent_precision(math.sqrt(variance) / mean, by_time, by_speed))
    assert bound <= mean * tilt
    assert bound == pytest.approx(mean * tilt, rel=1e-4) or tilt > 1


def bowl(start, relaxations, exchange):
    """A weight that contracts towards 0 at rate 1 by hops at Γ(t): moments, ledger heat and heat of a landscape with those rates."""
    n = np.arange(-3 * start, 4 * start + 1)
    p = (n == start).astype(float)
    request = -n.astype(float)
    t = ledger = landscape = 0.0

    def slope(p):
        change = -(up + down) * p
        change[1:] += up[:-1] * p[:-1]
        change[:-1] += down[1:] * p[1:]
        return change

    while t < relaxations - 1e-12:
        g = exchange(t)
        activity = np.sqrt(request**2 + 4 * g * g)
        up, down = (activity + request) / 2, (activity - request) / 2
        up[-1] = down[0] = 0
        dt = min(0.4 / np.max(up + down), relaxations - t, 5e-3)
        a = slope(p)
        b = slope(p + dt / 2 * a)
        c = slope(p + dt / 2 * b)
        d = slope(p + dt * c)
        middle = p + dt / 2 * b
        ledger += dt * np.sum(middle * 2 * request * np.arcsinh(request / (2 * g)))
        flow = up[:-1] * middle[:-1] - down[1:] * middle[1:]
        landscape += dt * np.sum(flow * np.log(up[:-1] / down[1:]))
        p = p + dt / 6 * (a + 2 * b + 2 * c + d)
        t += dt
    mean = n @ p
    entropy = -np.sum(p[p > 1e-300] * np.log(p[p > 1e-300]))
    return mean, n**2 @ p - mean**2, ledger, landscape, entropy


@pytest.mark.parametrize("haste", [1.0, 1.5])
def test_the_bowl_of_the_law(x64, haste):
    """32 levels to about one: the relation holds with its contraction's response; 2/δ² would be 100 times the heat; and the
    part of the law's heat that a held tilt pays."""
    start, ratio = 32, 32.0**2
    relaxations = haste * math.log(ratio)
    gamma = 1 - math.log(ratio) / (2 * relaxations)
    mean, variance, ledger, landscape, entropy = bowl(
        start, relaxations, lambda t: gamma * ratio * math.exp(-2 * (1 - gamma) * t)
    )
    assert mean == pytest.approx(start * math.exp(-relaxations), rel=1e-3)
    assert ledger == pytest.approx(float(law.finite_time_heat(ratio, relaxations)), rel=0.03)
    delta = math.sqrt(variance) / (start - mean)
    assert float(bounds.precision(delta)) > 100 * ledger
    bound = float(neighbours.time_dependent_precision(delta, relaxations / math.expm1(relaxations)))
    assert 0 < bound < landscape + entropy
    # In the limit of many levels the difference is uT.
    assert ledger - landscape == pytest.approx(relaxations, rel=0.03)
    assert landscape > 0.5 * math.log(ratio)


@pytest.mark.parametrize("ratio, expected", [(100.0, 1.64), (65536.0, 1.98)])
def test_transport_of_the_law(x64, ratio, expected):
    """Along the law ∫Γ dt is half the loss that is lost: the transport bound comes to 2 kT, whatever the ratio."""
    path = integrate.quad(lambda t: 0.5 * ratio * math.exp(-t), 0, math.log(ratio))[0]
    assert float(bounds.transport((math.sqrt(ratio) - 1) ** 2, path, 1.0)) == pytest.approx(expected, rel=5e-3)


def test_contraction_has_the_response_it_is_said_to_have(x64):
    u_t = 11.09035
    value = float(neighbours.time_dependent_precision(1 / (256 * -math.expm1(-u_t)), u_t / math.expm1(u_t)))
    assert value == pytest.approx(2 * (256 * u_t * math.exp(-u_t)) ** 2, rel=1e-9)
    assert value == pytest.approx(0.00375, rel=2e-3)


# What the controller knows.


def mutual_information(density, points, noise):
    """I(x; x + noise ξ) in nats by quadrature on a grid, for x at `points` with weights `density`."""
    y = np.linspace(points.min() - 9 * noise, points.max() + 9 * noise, 2001)
    given = np.exp(-0.5 * ((y[:, None] - points) / noise) ** 2) / (noise * math.sqrt(2 * math.pi))
    marginal = given @ density
    entropy = -np.trapezoid(marginal * np.log(marginal + 1e-300), y)
    return entropy - 0.5 * math.log(2 * math.pi * math.e * noise**2)


@pytest.mark.parametrize("snr", [0.1, 1.0, 30.0])
def test_information_of_a_channel(x64, snr):
    noise = 1 / math.sqrt(snr)
    points = np.linspace(-8, 8, 801)
    weights = np.exp(-(points**2) / 2)
    weights /= weights.sum()
    value = float(neighbours.controller_information(snr))
    assert value == pytest.approx(mutual_information(weights, points, noise), rel=1e-5)
    # Another state of the same variance is known less well.
    coin = mutual_information(np.array([0.5, 0.5]), np.array([-1.0, 1.0]), noise)
    assert coin < value and coin < math.log(2) + 1e-6
    assert float(neighbours.controller_information(snr, 1e6)) == pytest.approx(1e6 * value, rel=1e-12)


@pytest.mark.parametrize("phi", [1.0, 0.3, 0.05])
def test_information_of_a_descent(x64, phi):
    """Each step reads a gradient of SNR s = h²L/σ² and makes the loss fall by φs(1 - φ/2): summed over the steps."""
    ratio, last = 100.0, 1e-5
    s, total, steps = ratio * last, 0.0, 0
    while s > last:
        total += float(0.5 * np.log1p(s))
        s *= 1 - phi * s * (1 - phi / 2)
        steps += 1
    value = float(neighbours.learning_information(ratio, phi))
    assert total == pytest.approx(value, rel=2e-3) and total < value
    # So many steps as `law.haste` says, in units of the shortest time.
    shortest = 2 * (1 / last) * (1 - 1 / ratio)
    assert steps == pytest.approx(shortest * float(law.haste(phi)[1]), rel=2e-3)


def test_cheapest_haste(x64):
    ratio, averaged = 65536.0, 1000.0

    def whole(phi):
        memory = 2 * averaged * float(law.haste(phi)[0])
        return memory + float(neighbours.learning_information(ratio, phi))

    found = optimize.minimize_scalar(whole, bounds=(1e-3, 1.0), method="bounded")
    assert found.x == pytest.approx(0.5 * math.sqrt(math.log(ratio) / averaged), rel=0.08)
    assert whole(0.001) > whole(found.x) < whole(1.0)


# The same for all.


def test_gradients():
    check_gradient(neighbours.training_set_energy, (1e9, 2e10), (3.0, 7.0))
    check_gradient(neighbours.time_dependent_precision, (0.1, 1.0, 0.3), (3.0, 0.5, 0.2))
    check_gradient(neighbours.controller_information, (0.01, 5.0), (1e4, 0.1), (1.0, 1e6))
    check_gradient(neighbours.learning_information, (65536.0, 0.1), (10.0, 0.9))


def test_float32_and_shapes():
    assert float(neighbours.controller_information(1e-9)) == pytest.approx(5e-10, rel=1e-6)
    assert neighbours.training_set_energy(1e15, 2e16).dtype == jnp.float32
    assert neighbours.learning_information(jnp.array([1.0, 10.0]), jnp.array([1.0, 1.0])).shape == (2,)
    assert float(neighbours.learning_information(1.0)) == 0.0


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: neighbours.training_set_energy(0.0, 1.0), "parameters"),
        (lambda: neighbours.training_set_energy(1.0, -1.0), "tokens"),
        (lambda: neighbours.time_dependent_precision(0.0), "relative_error"),
        (lambda: neighbours.time_dependent_precision(0.1, math.nan), "time_response"),
        (lambda: neighbours.time_dependent_precision(0.1, 1.0, math.inf), "speed_response"),
        (lambda: neighbours.controller_information(-0.1), "signal_to_noise"),
        (lambda: neighbours.controller_information(0.1, -1.0), "requests"),
        (lambda: neighbours.learning_information(0.5), "loss_ratio"),
        (lambda: neighbours.learning_information(2.0, 1.5), "haste"),
    ],
)
def test_wrong_numbers_are_named(call, name):
    with pytest.raises(ValueError, match=name):
        call()


def test_traced_wrong_numbers_become_nan():
    values = jax.jit(neighbours.controller_information)(jnp.array([-1.0, 1.0]), jnp.array([1.0, 1.0]))
    assert math.isnan(values[0]) and float(values[1]) == pytest.approx(0.5 * math.log(2))
    values = jax.vmap(neighbours.learning_information)(jnp.array([0.5, 10.0]), jnp.array([1.0, 1.0]))
    assert math.isnan(values[0]) and not math.isnan(values[1])


# The page.


def numbers(label):
    (row,) = re.findall(rf"^\| {re.escape(label)}[^|]*\|(.+)\|$", PAGE, re.M)
    return [float(n.replace(",", "")) for n in re.findall(r"\d[\d.,]*(?:e-?\d+)?", row)]


@pytest.mark.slow
def test_table_of_energies(x64):
    kaplan, chinchilla = (energy_limits(1e15, scaling=s).stack for s in ("kaplan", "chinchilla"))

    def both(of):
        return pytest.approx([of(kaplan), of(chinchilla)], rel=5e-3)

    def writes(stack):
        return 1e15 * stack.workload.total_steps

    assert numbers("tokens") == both(lambda s: s.workload.total_tokens)
    assert numbers("Tkachenko, `") == both(
        lambda s: KT * float(neighbours.training_set_energy(1e15, s.workload.total_tokens))
    )
    assert numbers("law, 2 kT per token") == both(lambda s: s.law.token_joules)
    assert numbers("law, 2 kT per optimizer write") == both(lambda s: s.law.write_joules)
    assert numbers("law, one convergence") == both(lambda s: s.law.convergence_joules)
    assert numbers("controller, gradients of SNR 0.01") == both(
        lambda s: KT * float(neighbours.controller_information(0.01, writes(s)))
    )
    assert numbers("controller, 24 bits") == both(lambda s: KT * float(bounds.erasure(bits=24.0)) * writes(s))


def test_table_of_one_convergence(x64):
    ratio = 65536.0
    uT = math.log(ratio)
    assert numbers("law, `convergence`") == [pytest.approx(float(bounds.convergence(ratio)), abs=0.01)]
    assert numbers("controller, `learning_information`") == [
        pytest.approx(float(neighbours.learning_information(ratio)), abs=0.01)
    ]
    assert numbers("reversible") == [pytest.approx(0.5 * uT, abs=0.01)]
    assert numbers("Wasserstein") == [pytest.approx(2.0, rel=0.01)]
    assert numbers("Koyuk & Seifert, `") == [pytest.approx(0.00375, rel=2e-3)]
    assert numbers("2/δ²") == [pytest.approx(2 * ratio, rel=1e-3)]
