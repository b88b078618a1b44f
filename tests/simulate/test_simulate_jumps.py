"""Jump processes: exact moments against closed forms, hop-by-hop trajectories against exact moments."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from limjax import ArrheniusCell
from limjax.limits import bounds
from limjax.simulate import (
    JumpNetwork,
    LinearProtocol,
    compare_cell,
    constant_protocol,
    gillespie,
    jarzynski,
    ladder,
    master_equation,
    mean_with_error,
    tau_leaping,
    tur,
    two_level,
)
from limjax.simulate._jump_networks import check_rates


@pytest.mark.slow
def test_ladder_has_the_ledgers_heat_and_hops(x64):
    """Net hops 2g sinh(F/2), heat F times that, activity 2g cosh(F/2): the closed forms of the memory cell."""
    exchange, affinity = 0.3, 1.7
    moments = master_equation(ladder(), constant_protocol([exchange, affinity], 2.0), steps=1)
    drift, activity = 2 * exchange * math.sinh(affinity / 2), 2 * exchange * math.cosh(affinity / 2)
    assert float(moments.heat) == pytest.approx(2 * affinity * drift, rel=1e-10)
    assert float(moments.heat_variance) == pytest.approx(2 * affinity**2 * activity, rel=1e-9)
    assert float(moments.hops) == pytest.approx(2 * activity, rel=1e-10)
    assert float(moments.hops_variance) == pytest.approx(2 * activity, rel=1e-9)
    cell = ArrheniusCell(lsb=1.0)
    heat = cell.heat(jnp.asarray(2 * drift), cell.barrier(jnp.log(jnp.asarray(2 * exchange))))
    assert float(moments.heat) == pytest.approx(float(heat), rel=1e-6)


@pytest.mark.slow
def test_trajectories_have_the_exact_moments():
    lift = LinearProtocol(0.0, 3.0, 2.0)
    exact = master_equation(two_level(2.0), lift, steps=32)
    runs = gillespie(two_level(2.0), lift, jax.random.key(0), trajectories=50_000, steps=32)
    for name in ("work", "heat", "hops"):
        mean, error = mean_with_error(getattr(runs, name).astype(jnp.float32))
        assert abs(mean - float(getattr(exact, name))) < 4.5 * error
    assert float(jnp.var(runs.work)) == pytest.approx(float(exact.work_variance), rel=0.05)
    production, error = mean_with_error(runs.entropy_production)
    assert abs(production - float(exact.entropy_production)) < 4.5 * error
    assert float(jnp.max(jnp.abs(runs.work - runs.heat - runs.energy_change))) < 1e-4
    # Jarzynski, exactly and from the sample; the free energy of two levels.
    free = math.log(2) - math.log1p(math.exp(-3.0))
    assert float(exact.log_mean_exp_minus_work) == pytest.approx(-free, abs=1e-5)
    assert abs(jarzynski(runs.work, free).deviations) < 4
    # The integral fluctuation theorem of the entropy production.
    assert abs(jarzynski(runs.entropy_production).deviations) < 4


@pytest.mark.slow
def test_uncertainty_relation():
    ring = constant_protocol([1.0, 2.0], 3.0)
    runs = gillespie(ladder(), ring, jax.random.key(1), trajectories=20_000)
    check = tur(runs.heat / 2.0, runs.heat)
    cell = 2.0 / math.tanh(1.0)  # F coth(F/2), the relation's value on the ladder
    assert abs(check.value - cell) < 4.5 * check.standard_error and check.value > 2
    rest = constant_protocol(1.0, 1.0)
    first = gillespie(two_level(), rest, jax.random.key(2), trajectories=20_000)
    assert abs(float(jnp.mean(first.state)) - 1 / (1 + math.e)) < 0.02


@pytest.mark.slow
def test_tau_leaping_converges_to_the_exact_means():
    lift = LinearProtocol(0.0, 2.0, 1.0)
    exact = master_equation(two_level(2.0), lift, steps=64)
    counts = jnp.full((200, 2), 500, jnp.int32)
    errors = []
    for steps in (8, 32):
        runs = tau_leaping(two_level(2.0), lift, counts, jax.random.key(0), steps=steps)
        assert int(jnp.min(runs.counts)) >= 0 and np.all(np.asarray(runs.counts).sum(axis=1) == 1000)
        errors.append(abs(float(jnp.mean(runs.heat)) / 1000 - float(exact.heat)))
    assert errors[1] < 0.02 and errors[1] < 0.6 * errors[0]


@pytest.mark.slow
def test_driven_network_out_of_detailed_balance():
    """Any rate matrix: the heat of a hop is the logarithm of its rate over its reverse."""
    table = jnp.asarray([[0.0, 2.0, 0.5], [1.0, 0.0, 3.0], [0.7, 1.0, 0.0]])
    moments = master_equation(JumpNetwork(lambda c: table + 0.0 * c), constant_protocol(0.0, 4.0), steps=1)
    rates = np.asarray(table, float)
    matrix = (rates - np.diag(rates.sum(axis=1))).T
    p = np.linalg.lstsq(np.vstack([matrix, np.ones(3)]), np.array([0, 0, 0, 1.0]), rcond=None)[0]
    production = sum(
        p[i] * rates[i, j] * math.log(rates[i, j] / rates[j, i]) for i in range(3) for j in range(3) if i != j
    )
    assert float(moments.heat) == pytest.approx(4 * production, rel=1e-4)
    assert np.allclose(moments.probability, p, atol=1e-5)


@pytest.mark.slow
def test_gradient_of_the_master_equation(x64):
    def work(knots):
        return master_equation(two_level(), LinearProtocol(0.0, 2.0, 1.0, knots), steps=8).work

    knots = jnp.asarray([0.5, 1.0, 1.5])
    slope = jax.grad(work)(knots)
    for i in range(3):
        step = jnp.zeros(3).at[i].set(1e-5)
        assert float(slope[i]) == pytest.approx(float((work(knots + step) - work(knots - step)) / 2e-5), rel=1e-6)


@pytest.mark.slow
@pytest.mark.representatives(1)
@pytest.mark.parametrize(("rate", "steps"), [(10, 1000), (100, 4000)])
def test_two_level_erasure_optimum(reference, x64, rate, steps):
    """The optimal lift, run through the master equation, costs what the closed form says."""
    entry = reference[f"two_level_optimal_erasure_G{rate}_eps0.1"]
    constant = entry["expected"]["beltrami_constant"]

    def speed(_, p):
        # w = p'/Γ of w² = K (p+w)(1-p-w), the conserved quantity of the least dissipation; w < 0.
        b, c = constant * (2 * p - 1), -constant * p * (1 - p)
        return (-b - np.sqrt(b * b - 4 * (1 + constant) * c)) / (2 * (1 + constant))

    knots = steps + 1
    times = np.linspace(0, rate, knots)
    path = integrate.solve_ivp(speed, (0, rate), [0.5], t_eval=times, rtol=1e-10, atol=1e-12).y[0]
    assert path[-1] == pytest.approx(0.1, rel=1e-4)
    target = path + speed(0, path)
    lift = LinearProtocol(0.0, 0.0, float(rate), np.log1p(-target) - np.log(target))
    run = master_equation(two_level(), lift, steps=steps)
    assert float(run.probability[1]) == pytest.approx(0.1, rel=1e-4)
    assert float(run.entropy_production) == pytest.approx(entry["expected"]["entropy_production_kB"], rel=1e-4)
    assert float(run.heat) == pytest.approx(entry["expected"]["heat_kT"], rel=1e-4)
    # Any other protocol that ends there dissipates more: bend this one and rescale its end.
    bent = LinearProtocol(0.0, 0.0, float(rate), lift.knots + 0.3 * jnp.sin(jnp.linspace(0, 2 * math.pi, knots)))
    other = master_equation(two_level(), bent, steps=steps)
    best = bounds.two_level_erasure(rate, 0.5, float(other.probability[1]))
    assert float(other.entropy_production) > float(jax.tree.leaves(best)[0])


@pytest.mark.slow
def test_infeasible_erasure_is_refused_and_is_infeasible(reference, x64):
    entry = reference["two_level_erasure_infeasible"]
    assert float(bounds.two_level_minimum_time(0.5, 0.01)) == pytest.approx(entry["expected"]["min_Gt"], rel=1e-9)
    with pytest.raises(ValueError, match=r"3\.91"):
        bounds.two_level_erasure(2.0, 0.5, 0.01)
    # Not even an infinite lift is faster.
    run = master_equation(two_level(), constant_protocol(60.0, 2.0), steps=1, start=jnp.asarray([0.5, 0.5]))
    assert float(run.probability[1]) == pytest.approx(0.5 * math.exp(-2.0), rel=1e-9)


@pytest.mark.slow
def test_one_cell_by_every_route():
    (row,) = compare_cell((2.0,), (0.5,), jax.random.key(0), trajectories=4000, jump_trajectories=2000, time=2.0)
    assert row.ladder_heat == pytest.approx(row.ladder_drift * row.affinity)
    assert abs(row.jump_drift[0] - row.ladder_drift) < 4.5 * row.jump_drift[1]
    assert abs(row.langevin_drift[0] - row.washboard_drift) < 4.5 * row.langevin_drift[1]
    assert 0.9 < row.ratio < 1


@pytest.mark.parametrize(
    ("barriers", "tilts", "time", "says"),
    [
        ((2.0,), (0.5,), 0.0, "time must be"),
        ((2.0,), (0.5, 0.0), 1.0, "tilt must be a number other than 0"),
        ((2.0, 0.0), (0.5,), 1.0, "barrier must be a positive number, got 0"),
        ((2.0, 100.0), (0.5,), 1.0, r"barrier of 100\.0 kT nothing hops"),
    ],
)
def test_a_comparison_refuses_numbers_out_of_range(barriers, tilts, time, says):
    with pytest.raises(ValueError, match=says):
        compare_cell(barriers, tilts, jax.random.key(0), time=time)


def test_rates_are_looked_at_where_the_system_hops():
    """In every step, not at the ends of the protocol, under which nothing hops."""
    lifted = LinearProtocol(0.0, 0.0, 1.0, [0.0, 0.0, 120.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="hop 1 -> 0 has the rate 1 but its reverse has none"):  # e^-120 in float32
        master_equation(two_level(), lifted, steps=5)
    counts, key = jnp.asarray([[100, 0, 0]]), jax.random.key(0)
    fast, slow = [1000.0, 0.0], [0.2, 0.0]
    with pytest.raises(ValueError, match="a state is left 200 times per step"):
        tau_leaping(ladder(3), LinearProtocol(slow, slow, 1.0, [fast, fast]), counts, key, steps=10)
    found = check_rates(ladder(3), LinearProtocol(fast, fast, 1.0, [slow, slow]), 10, jnp.float32)
    assert found == pytest.approx((0.4, 0.8))  # up and down; and both from either side


def test_tau_leaping_in_a_trace():
    network, rest, counts, key = two_level(), constant_protocol(0.0, 1.0), jnp.asarray([[10, 10]]), jax.random.key(0)
    for run, traced in (
        (lambda c: tau_leaping(network, rest, c, key, steps=2).hops, counts),
        (lambda k: tau_leaping(network, rest, counts, k, steps=2).hops, key),
        (lambda e: tau_leaping(network, LinearProtocol(e, e, e), counts, key, steps=2).hops, jnp.asarray(1.0)),
    ):
        assert jax.eval_shape(run, traced).shape == (1,)


@pytest.mark.slow
def test_rates_too_fast_for_a_step_are_refused_with_how_many_it_takes():
    lift = LinearProtocol(0.0, 1.0, 1.0, [1.0, 1.0])
    for few in (
        master_equation,
        lambda *words, steps: gillespie(*words, jax.random.key(0), trajectories=2, steps=steps),
    ):
        with pytest.raises(ValueError, match=r"1 steps are too few.*Take at least 2 steps"):
            few(two_level(1e6), lift, steps=1)
    enough = master_equation(two_level(1e6), lift, steps=2)
    assert float(enough.probability[1]) == pytest.approx(1 / (1 + math.e), rel=1e-5)


def test_errors():
    one_way = JumpNetwork(lambda c: jnp.asarray([[0.0, 1.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="reverse"):
        master_equation(one_way, constant_protocol(0.0, 1.0), steps=1, start=jnp.asarray([1.0, 0.0]))
    with pytest.raises(ValueError, match="at least 3"):
        ladder(2)
    with pytest.raises(ValueError, match="total_rate"):
        two_level(-1.0)
    with pytest.raises(ValueError, match="too few"):
        tau_leaping(
            two_level(100.0), constant_protocol(0.0, 1.0), jnp.ones((1, 2), jnp.int32), jax.random.key(0), steps=5
        )
    with pytest.raises(ValueError, match="steps"):
        master_equation(two_level(), constant_protocol(0.0, 1.0), steps=0)
