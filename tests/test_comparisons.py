"""Other memories for the same updates: their costs against simulation, minimisation and an account kept apart."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import integrate, optimize

import limjax
from limjax.barriers import BarrierInputs
from limjax.memory._blocks import Blocks
from limjax.memory._field import PerLeaf, leaf_sums
from limjax.memory.comparisons import (
    BarrierComparison,
    EventWrite,
    GatedWrite,
    NoisyEventWrite,
    _gated,
    best_request,
    gate_work,
)
from limjax.memory.comparisons._base import StepRecord
from limjax.memory.comparisons._names import named_comparisons

CELL = limjax.ArrheniusCell()
HOLD = 30.0
LOG_ATTEMPTS = np.log(1e6)  # 1 GHz, 1 ms
# Two-sided limits in standard errors: 4.9 is a false alarm in a million.
LIMIT = 4.9


def free_energy(barrier):
    """-ln of one period's partition function, by quadrature."""
    inside = integrate.quad(lambda x: np.exp(-barrier / 2 * (1 - np.cos(2 * np.pi * x))), 0, 0.5, epsabs=1e-13)[0]
    return -np.log(2 * inside)


def heat(d, barrier):
    return 2 * d * np.arcsinh(d / 2 * np.exp(barrier - LOG_ATTEMPTS))


def within(values, expected):
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - expected) < LIMIT * error + 1e-12


@pytest.mark.parametrize("recovery", [0.0, 0.4])
def test_gate_work_is_what_is_lost_between_two_free_energies(recovery):
    cell = limjax.ArrheniusCell(recovery=recovery)
    expected = (1 - recovery) * (free_energy(HOLD) - free_energy(11.0))
    assert float(gate_work(cell, jnp.float32(HOLD), jnp.float32(11.0))) == pytest.approx(expected, abs=2e-5)
    both_ways = cell.actuation(HOLD, 11.0) + cell.actuation(11.0, HOLD)
    assert float(gate_work(cell, jnp.float32(HOLD), jnp.float32(11.0))) == pytest.approx(float(both_ways), abs=1e-6)


@pytest.mark.parametrize("error", [0.2, 0.01])
def test_event_write_hop_by_hop(error):
    """The first of two competing hops after the gate opens: its direction, its heat, and whether it comes in the step."""
    memory = EventWrite(HOLD, error)
    mean_heat, work = memory.costs(CELL)
    barrier = float(memory.write_barrier(CELL))
    tilt = np.log((1 - error) / error)
    rng = np.random.default_rng(16)
    rates = np.exp(LOG_ATTEMPTS - barrier + np.array([tilt, -tilt]) / 2)
    times = rng.exponential(1 / rates, (400_000, 2))
    came, is_up = times.min(axis=1) < 1, times[:, 0] < times[:, 1]
    within(~is_up, error)
    within(np.where(is_up, tilt, -tilt), float(mean_heat))
    within(~came, error)
    assert float(work) == pytest.approx(free_energy(HOLD) - free_energy(barrier), abs=2e-4)


@pytest.mark.parametrize("recovery", [0.0, 0.5])
@pytest.mark.parametrize("barrier", [9.0, 12.0, 16.0])
def test_best_request_is_that_of_the_least_cost(barrier, recovery):
    cell = limjax.ArrheniusCell(recovery=recovery)
    request = float(best_request(cell, jnp.float32(barrier)))

    def cost(write):
        return heat(request, write) + (1 - recovery) * (free_energy(HOLD) - free_energy(write))

    found = optimize.minimize_scalar(cost, bounds=(3.0, HOLD), method="bounded", options={"xatol": 1e-6})
    assert found.x == pytest.approx(barrier, abs=2e-3)


def gated_cost(requests, height):
    """What the comparison charges a step of these requests, heat and work apart, through the ledger."""
    opt = limjax.learning_in_memory(
        optax.identity(), CELL, limjax.StaticBarrier(height), compare={"gated": GatedWrite(HOLD, CELL)}
    )
    requests = [jnp.float32([request]) * CELL.lsb for request in requests]  # leaves, each with a sum of its own
    sums = limjax.get_ledger(opt.update(requests, opt.init(requests))[1]).compare["gated"]
    return sums.heat.float64(), sums.actuation.float64()


@pytest.mark.representatives(1)
@pytest.mark.optax
@pytest.mark.parametrize("height", [11.0, 16.0])
def test_gated_write_is_near_the_least_of_all_write_barriers(height):
    """Never below the least cost at no more scatter than the run, and no further above it than the docstring says."""
    writes = np.linspace(height, HOLD, 400)
    work = free_energy(HOLD) - np.array([free_energy(write) for write in writes])
    requests = np.geomspace(1e-4, 10, 60)
    least = np.array([np.min(heat(request, writes) + work) for request in requests])
    excess = sum(gated_cost(requests, height)) / least - 1
    assert min(excess) > -1e-4 and max(excess) < 0.06
    assert np.mean(excess) < 0.01


@pytest.mark.optax
def test_gated_write_by_exact_hops():
    """Hops drawn at the write barrier: mean move, heat as charged, scatter no more than the run's."""
    request, height = 0.7, 12.0
    charged, work = (float(cost[0]) for cost in gated_cost([request], height))
    assert work > 0
    barrier = optimize.brentq(lambda b: heat(request, b) - charged, 2, HOLD)
    assert barrier >= height - 1e-3
    exchange = np.exp(LOG_ATTEMPTS - barrier)
    activity = np.sqrt(request**2 + 4 * exchange**2)
    rng = np.random.default_rng(17)
    moves = rng.poisson((activity + request) / 2, 400_000) - rng.poisson((activity - request) / 2, 400_000)
    within(moves, request)
    within(2 * np.arcsinh(request / 2 / exchange) * moves, charged)
    assert np.var(moves) < 1.02 * np.sqrt(request**2 + 4 * np.exp(2 * (LOG_ATTEMPTS - height)))


@pytest.mark.slow
def test_arrays_with_barriers_of_their_own_and_empty_ones():
    """Requests of many levels are written through the run's own barrier, that of their array; an empty array costs nothing."""
    heights, drifts = np.array([11.0, 12.0, 16.0]), [jnp.full(shape, 50.0) for shape in ((4,), (0,), (3,))]
    layout, memories = Blocks(drifts, packed=False), (GatedWrite(HOLD, CELL), NoisyEventWrite(HOLD))

    @jax.jit
    def costs(heights):
        inputs = BarrierInputs(jnp.int32(0), None, drifts, drifts, CELL, None)
        step = StepRecord(inputs, layout, drifts, PerLeaf(heights).blocks(layout), [3 * d for d in drifts])
        charged = [memory.charge(step, memory.init(drifts, layout)) for memory in memories]
        return [leaf_sums(dict(zip(("heat", "work"), fields)), layout) for fields in charged]

    gated, noisy = costs(jnp.float32(heights))
    lost = [free_energy(HOLD) - free_energy(height) for height in heights]
    np.testing.assert_allclose(gated["work"], np.array([4, 0, 3]) * lost, rtol=2e-5)
    for cost in (*gated.values(), *noisy.values()):
        assert float(cost[1]) == 0 and np.isfinite(cost).all() and float(cost[0]) > 0


@pytest.mark.parametrize("recovery", [0.0, 0.5])
def test_cheapest_barrier_of_a_level(recovery):
    cell = limjax.ArrheniusCell(recovery=recovery)

    def cost(write):
        return heat(1.0, write) + (1 - recovery) * (free_energy(HOLD) - free_energy(write))

    found = optimize.minimize_scalar(cost, bounds=(3.0, HOLD), method="bounded", options={"xatol": 1e-6})
    assert float(NoisyEventWrite(HOLD).cheapest_barrier(cell)) == pytest.approx(found.x, abs=2e-3)


def test_noisy_event_scatters_as_the_run_did():
    memory = NoisyEventWrite(HOLD)
    levels, variance = jnp.float32(20.0), jnp.float32(100.0)
    barrier = float(memory.write_barrier(CELL, levels, variance))
    exchange = np.exp(LOG_ATTEMPTS - barrier)
    activity = np.sqrt(1 + 4 * exchange**2)
    rng = np.random.default_rng(18)
    moves = rng.poisson((activity + 1) / 2, (40_000, 20)) - rng.poisson((activity - 1) / 2, (40_000, 20))
    total = moves.sum(axis=1)
    within(total, 20.0)
    within((total - 20.0) ** 2, 100.0)
    within(2 * np.arcsinh(0.5 / exchange) * moves.ravel(), heat(1.0, barrier))
    # Nothing cheaper is bought with more scatter than is cheapest, nor less than a level's own with any barrier.
    assert float(memory.write_barrier(CELL, levels, jnp.float32(1e9))) == float(memory.cheapest_barrier(CELL))
    assert float(memory.write_barrier(CELL, levels, jnp.float32(1.0))) == HOLD
    assert np.isfinite(float(memory.write_barrier(CELL, jnp.float32(0.0), jnp.float32(0.0))))


def account(drifts, heights, hold, error=0.01):
    """Costs of recorded requests (steps, cells) of one array, in NumPy: run-static, gated (least), event, noisy event."""
    gates = np.linspace(0, 1, 60)
    static, gated, event, noisy, register = 0.0, 0.0, 0.0, 0.0, np.zeros(drifts.shape[1])
    tilt = np.log((1 - error) / error)
    sure = optimize.brentq(lambda b: np.exp(LOG_ATTEMPTS - b) * 2 * np.cosh(tilt / 2) - np.log(1 / error), 2, hold)
    shut = free_energy(hold)
    for d, height in zip(drifts.astype(np.float64), heights):
        static += heat(d, hold).sum()
        writes = height + gates * (hold - height)
        work = shut - np.array([free_energy(write) for write in writes])
        gated += np.min(heat(d[:, None], writes) + work, axis=1).sum()
        register += d
        due = np.trunc(register)
        register -= due
        levels = np.abs(due).sum()
        event += levels * ((1 - 2 * error) * tilt + shut - free_energy(sure))
        variance = np.sqrt(d**2 + 4 * np.exp(2 * (LOG_ATTEMPTS - height))).sum()
        lowest = LOG_ATTEMPTS - np.log(np.sqrt(max((variance / levels) ** 2 - 1, 1e-20)) / 2) if levels else hold
        costs = heat(1.0, writes := np.linspace(min(lowest, hold), hold, 200)) + shut
        noisy += levels * np.min(costs - np.array([free_energy(write) for write in writes]))
    return {"run-static": static, "gated": gated, "event": event, "noisy-event": noisy}


@pytest.mark.slow
@pytest.mark.optax
def test_ledger_against_an_account_kept_apart():
    """Random requests with a drift, through the optimizer and through NumPy."""
    rng = np.random.default_rng(19)
    drifts = (0.15 + 0.6 * rng.standard_normal((40, 50))).astype(np.float32) * np.geomspace(
        1, 0.05, 40, dtype=np.float32
    )[:, None]
    steps, barrier = len(drifts), limjax.StaticBarrier(12.0)
    hold = float(limjax.run_retention(CELL, steps))
    assert hold == pytest.approx(np.log(1e9 * 1e-3 * steps / 1e-4), rel=1e-4)
    fair = limjax.fair_comparisons(CELL, steps)
    opt = limjax.learning_in_memory(optax.identity(), CELL, barrier, compare=fair)
    state = opt.init(jnp.zeros(50))
    update = jax.jit(opt.update)
    for d in drifts:
        _, state = update(jnp.asarray(d) * CELL.lsb, state)
    sums = limjax.get_ledger(state).compare
    assert set(sums) == set(fair)
    expected = account(drifts, np.full(steps, 12.0), hold)
    for name, cost in expected.items():
        own = (sums[name].heat.float64() + sums[name].actuation.float64()).sum()
        # The gated write has sixteen write barriers, the account sixty; the noisy event's grid misses its least by a little.
        low, high = {"gated": (1 - 1e-3, 1.1), "noisy-event": (1 - 2e-3, 1 + 2e-3)}.get(name, (1 - 1e-4, 1 + 1e-4))
        assert low < own / cost < high, name
    assert abs(sums["run-static"].actuation.float64().sum()) < 1e-12  # it never moves


def params_of(dtype=jnp.float32):
    return {"a": jnp.ones((40, 7), dtype), "b": jnp.ones(5, jnp.float32), "big": jnp.ones(2**15, jnp.float32)}


@pytest.mark.representatives(1)
@pytest.mark.optax
@pytest.mark.parametrize("granularity", ["parameter", "leaf"])
@pytest.mark.parametrize("barrier", [limjax.StaticBarrier(12.0), limjax.RateMatchedBarrier()])
def test_states_keep_their_types_and_steps_do_not_recompile(granularity, barrier):
    params = params_of(jnp.bfloat16)
    fair = limjax.fair_comparisons(CELL, 10)
    opt = limjax.learning_in_memory(optax.adam(1e-2), CELL, barrier, compare=fair, granularity=granularity)
    state = opt.init(params)
    update = jax.jit(opt.update)
    for _ in range(3):
        _, after = update(params, state, params, value=jnp.float32(1.0))
        assert jax.tree.structure(after) == jax.tree.structure(state)
        assert [x.dtype for x in jax.tree.leaves(after)] == [x.dtype for x in jax.tree.leaves(state)]
        state = after
    assert update._cache_size() == 1
    for sums in limjax.get_ledger(state).compare.values():
        assert np.all(np.isfinite(sums.heat.float64())) and np.all(sums.heat.float64() > 0)


@pytest.mark.slow
@pytest.mark.optax
def test_comparing_changes_no_hop():
    params = params_of()
    moved = []
    for compare in ((), limjax.fair_comparisons(CELL, 10)):
        opt = limjax.learning_in_memory(
            optax.adam(1e-2), CELL, limjax.StaticBarrier(12.0), hops="exact", key=jax.random.key(3), compare=compare
        )
        updates, _ = jax.jit(opt.update)(params, opt.init(params), params)
        moved.append(jax.tree.leaves(updates))
    for a, b in zip(*moved):
        np.testing.assert_array_equal(a, b)


@pytest.mark.optax
def test_gradient_tilt_is_compared_as_well():
    fair = limjax.fair_comparisons(CELL, 10)
    opt = limjax.gradient_tilt(CELL, limjax.StaticBarrier(11.0), 100.0, compare=fair)
    _, state = opt.update(jnp.ones(4), opt.init(jnp.ones(4)))
    assert set(limjax.get_ledger(state).compare) == set(fair)


def test_names_at_the_door():
    assert list(named_comparisons(None, CELL)) == ["static"]
    assert list(named_comparisons("gated", CELL, 100)) == ["gated"]
    barrier = limjax.StaticBarrier(20.0)
    named = named_comparisons({"mine": barrier, "event": EventWrite(HOLD)}, CELL)
    assert isinstance(named["mine"], BarrierComparison) and isinstance(named["event"], EventWrite)
    with pytest.raises(ValueError, match=r"length of the run.*fair_comparisons"):
        named_comparisons(("event",), CELL)
    with pytest.raises(ValueError, match=r"Unknown comparison 'evnt'.*gated"):
        named_comparisons(("evnt",), CELL)
    with pytest.raises(ValueError, match=r"two|Two"):
        named_comparisons(("static", limjax.StaticBarrier(3.0)), CELL)
    assert list(limjax.fair_comparisons(CELL, 10, registers=False)) == ["run-static", "gated"]


def test_a_gates_table_is_made_once_for_all_names(monkeypatch):
    """It takes half a second, at the beginning of every run."""
    made, table = [], _gated._table
    monkeypatch.setattr(_gated, "_table", lambda cell, hold: made.append(cell) or table(cell, hold))
    names = ("static", "run-static", "gated", "event", "noisy-event")
    assert tuple(named_comparisons(names, CELL, 100)) == names and made == [CELL]


@pytest.mark.parametrize(
    "make",
    [
        lambda: EventWrite(HOLD, 0.5),
        lambda: EventWrite(HOLD, 0.0),
        lambda: GatedWrite(-1.0, CELL),
        lambda: NoisyEventWrite(np.nan),
    ],
)
def test_wrong_numbers(make):
    with pytest.raises(ValueError, match=r"error|hold"):
        make()


@pytest.mark.slow
@pytest.mark.optax
def test_train_is_compared_with_all_of_them():
    summary = limjax.train("quadratic", steps=60).summary
    assert set(summary["comparisons_kt"]) == {"static", "run-static", "gated", "event", "noisy-event"}
    costs = list(summary["comparisons_kt"].values())
    assert costs == sorted(costs, reverse=True)
    assert summary["ratio"] == min(summary["comparisons_kt"].values()) / (summary["heat_kt"] + summary["actuation_kt"])
    assert summary["comparisons_kt"][summary["compared_with"]] == min(summary["comparisons_kt"].values())
    per_leaf = limjax.train("quadratic", steps=5, granularity="leaf").summary["comparisons_kt"]
    assert set(per_leaf) == {"static", "run-static", "gated"}
    none = limjax.train("quadratic", steps=5, compare=()).summary
    assert none["ratio"] is None and none["static_heat_kt"] is None
