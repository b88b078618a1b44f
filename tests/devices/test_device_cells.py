"""Devices that pulses program: their moves against loops in NumPy, what they are charged, and their limits."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import limjax
from limjax import PulsedCell
from limjax.devices import (
    CapacitiveEnergy,
    DeviceSpread,
    ExponentialSteps,
    GivenEnergy,
    LinearSteps,
    OhmicEnergy,
    Pulse,
    PulseNoise,
    Retention,
    SoftBoundsSteps,
)
from limjax.devices._steps import Scale, _geometric
from limjax.physics._pulses import Place

KEY = jnp.asarray([5, 7], jnp.uint32)
WINDOW = 40.0
# Each law as it is written in papers: the step of one pulse, in windows, from where a device stands in its direction.
LAWS = {
    "linear": (LinearSteps(), lambda gone, rate: rate + 0 * gone),
    "soft bounds": (SoftBoundsSteps(), lambda gone, rate: rate * (1 - gone) / 0.5),
    "saturating": (SoftBoundsSteps(1.3), lambda gone, rate: rate * (1.3 - gone) / 0.8),
    "exponential": (ExponentialSteps(3.0), lambda gone, rate: np.log1p(3.0 * rate * np.exp(-3.0 * (gone - 0.5))) / 3.0),
}


def delivered(cell, request, level, whole=True, key=KEY):
    place = Place(0, jnp.int32(3), key, whole)
    return jax.jit(lambda c, d, n: c.deliver(d, n, place))(cell, request, level)


def loop(law, size, request, start, relative, absolute, cells, rng):
    """Final positions of independent cells, pulse by pulse [levels]."""
    low, sign = math.floor(abs(request)), math.copysign(1.0, request)
    pulses = low + (rng.random(cells) < abs(request) - low)
    level = np.full(cells, float(start))
    for k in range(int(pulses.max())):
        position = (level + WINDOW / 2) / WINDOW
        gone = position if sign > 0 else 1 - position
        step = law(gone, size / WINDOW) * WINDOW
        step = step + np.sqrt((relative * step) ** 2 + absolute**2) * rng.standard_normal(cells)
        level = np.where(k < pulses, np.clip(level + sign * step, -WINDOW / 2, WINDOW / 2), level)
    return level - start, pulses


@pytest.mark.representatives(1)
@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("noise", [None, PulseNoise(0.4, 0.2)])
def test_moves_have_the_mean_and_variance_of_a_loop(name, noise):
    law, published = LAWS[name]
    cell = PulsedCell(Pulse(law, 1.1), Pulse(law, 0.8), levels=WINDOW, noise=noise)
    relative, absolute = (0.0, 0.0) if noise is None else (0.4, 0.2)
    rng, cells = np.random.default_rng(0), 40_000
    for request, start in ((0.3, 2.0), (-3.6, 5.0), (7.0, -11.0)):
        args = jnp.full(cells, request), jnp.full(cells, start)
        got = delivered(cell, *args)
        wanted, pulses = loop(published, 1.1 if request > 0 else 0.8, request, start, relative, absolute, cells, rng)
        deviation = math.sqrt(wanted.var() / cells)
        # Both are samples: five standard errors of the difference, a false alarm in 1.7 million.
        assert abs(np.mean(got.move) - wanted.mean()) <= 5 * math.sqrt(2) * deviation + 2e-5
        fourth = np.mean((wanted - wanted.mean()) ** 4)
        error = math.sqrt(max(fourth - wanted.var() ** 2, 0.0) / cells)
        assert abs(np.var(got.move) - wanted.var()) <= 5 * math.sqrt(2) * error + 1e-6
        assert set(np.unique(got.charges["pulses"])) <= set(np.unique(pulses))
        # The closed form, and normal displacements of its variance. For the exponential law both are of first order in the noise, where
        # the mean has none.
        slack = 0.03 if name == "exponential" and noise is not None else 0.0
        assert abs(float(got.mean[0]) - wanted.mean()) <= 5 * deviation + 2e-5 + slack * abs(wanted.mean())
        normal = delivered(cell, *args, whole=False)
        scale = max(abs(wanted.var()), 1e-6)
        assert (
            abs(np.var(normal.move) - wanted.var())
            <= 5 * math.sqrt(2) * (error + scale / math.sqrt(cells)) + slack * scale
        )
        np.testing.assert_array_equal(normal.mean, got.mean)


def test_variance_of_exponential_steps_is_the_sum_over_pulses():
    """First order in the noise, pulse by pulse in float64: each pulse's own noise, shrunk by the slope of the map from there to the end."""
    for rate, window, gone, relative, absolute in itertools.product(
        (0.01, 3.0, 12.0), (20.0, 300.0), (0.03, 0.5, 1.0), (0.0, 0.5), (0.0, 0.4)
    ):
        law, scale = ExponentialSteps(rate), Scale(*map(jnp.float32, (1.3, window, relative, absolute)))
        grown, count = rate * 1.3 / window, 30
        heights = np.exp(rate * (gone - 0.5)) + grown * np.arange(count + 1)
        own = (relative * window / rate * np.log1p(grown / heights[:-1])) ** 2 + absolute**2
        wanted = [float(np.sum(own[:n] * (heights[1 : n + 1] / heights[n]) ** 2)) for n in range(count + 1)]
        got = law.variance(jnp.float32(gone), jnp.arange(count + 1, dtype=jnp.float32), scale)
        np.testing.assert_allclose(got[:2], wanted[:2], rtol=2e-5)
        # Beyond the first step its sum over pulses is by a series.
        np.testing.assert_allclose(got, wanted, rtol=1e-2)


@pytest.mark.parametrize("rate", [0.01, 3.0, 30.0])
@pytest.mark.parametrize("gone", [0.0, 0.5, 1.0])
def test_slopes_of_the_variance_of_exponential_steps(rate, gone):
    """In the place and the size of a step, against differences in float64; in float32 they are finite and the same."""

    def variance(place, size, dtype):
        scale = Scale(size, *map(dtype, (20.0, 0.5, 0.4)))
        return ExponentialSteps(rate).variance(place, dtype(3.0), scale)

    found = jax.grad(lambda at: variance(at[0], at[1], jnp.float32))(jnp.asarray([gone, 1.3], jnp.float32))
    with jax.enable_x64(True):
        sides = [
            (
                variance(jnp.float64(gone + h), jnp.float64(1.3), jnp.float64),
                variance(jnp.float64(gone), jnp.float64(1.3 + h), jnp.float64),
            )
            for h in (1e-5, -1e-5)
        ]
    wanted = [float(up - down) / 2e-5 for up, down in zip(*sides)]
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=1e-6)


def trained(cell, barrier=None, steps=4, hops="mean", key=None, params=None, updates=None):
    params = {"w": jnp.linspace(-0.3, 0.4, 50)} if params is None else params
    updates = {"w": jnp.linspace(-3e-3, 7e-3, 50)} if updates is None else updates
    optimizer = limjax.learning_in_memory(optax.identity(), cell, barrier, hops=hops, key=key)
    state = optimizer.init(params)
    step = jax.jit(optimizer.update)
    for _ in range(steps):
        moved, state = step(updates, state, params)
        params = optax.apply_updates(params, moved)
    return params, state


@pytest.mark.slow
@pytest.mark.optax
def test_linear_symmetric_and_noiseless_it_is_the_cell_of_the_paper():
    barrier = limjax.StaticBarrier(14.0)
    for lsb in (2**-9, 3e-3):
        device, state = trained(PulsedCell(lsb=lsb), barrier)
        cell, other = trained(limjax.ArrheniusCell(lsb=lsb), barrier)
        np.testing.assert_array_equal(device["w"], cell["w"])
        mine, theirs = limjax.get_ledger(state), limjax.get_ledger(other)
        for name in ("heat", "path", "hops", "heat_kelvin", "actuation"):
            np.testing.assert_array_equal(limjax.leaf_totals(mine, name), limjax.leaf_totals(theirs, name))
        # A window that nothing reaches the end of changes nothing.
        inside, _ = trained(PulsedCell(lsb=lsb, levels=1000), barrier)
        np.testing.assert_array_equal(inside["w"], cell["w"])


@pytest.mark.representatives(1)
@pytest.mark.optax
@pytest.mark.parametrize("hops", ["mean", "exact"])
def test_what_pulses_take_stands_beside_model_heat(hops):
    up = Pulse(SoftBoundsSteps(), energy=GivenEnergy(3e-15), seconds=1e-6)
    down = Pulse(SoftBoundsSteps(1.2), size=0.7, energy=GivenEnergy(5e-15), seconds=1e-7)
    cell = PulsedCell(up, down, lsb=1e-3, levels=1000, retention=Retention(1.0, 1e9))
    params, state = trained(cell, steps=1, hops=hops, key=jax.random.key(2))
    ledger = limjax.get_ledger(state)
    assert float(limjax.get_barrier(state)) == pytest.approx(1.602176634e-19 / 1.380649e-23 / 300, rel=1e-6)
    asked = np.linspace(-3e-3, 7e-3, 50) / 1e-3
    pulses = {name: limjax.total(ledger, name) for name in ("pulses", "device_joules", "device_seconds")}
    if hops == "mean":
        assert pulses["pulses"] == pytest.approx(np.abs(asked).sum(), rel=1e-5)
        joules = np.where(asked >= 0, 3e-15, 5e-15) * np.abs(asked)
        assert pulses["device_joules"] == pytest.approx(joules.sum(), rel=1e-5)
        seconds = np.where(asked >= 0, 1e-6, 1e-7) * np.abs(asked)
        assert pulses["device_seconds"] == pytest.approx(seconds.sum(), rel=1e-5)
        moved = np.asarray(params["w"], np.float64) - np.linspace(-0.3, 0.4, 50)
        assert limjax.total(ledger, "misplaced") == pytest.approx(np.abs(moved / 1e-3 - asked).sum(), rel=1e-3)
        heat = cell.heat(jnp.asarray(moved / 1e-3, jnp.float32), cell.own_barrier)
        assert limjax.total(ledger, "heat") == pytest.approx(float(np.sum(heat)), rel=1e-4)
    else:
        assert pulses["pulses"] == round(pulses["pulses"]) and abs(
            pulses["pulses"] - np.abs(asked).sum()
        ) < 5 * np.sqrt(50)


def test_energies_are_of_where_the_device_stands():
    ohmic = OhmicEnergy(2.0, 1e-6, 3e-6, 1e-8)
    for energy, joules in ((ohmic, 8e-14), (CapacitiveEnergy(1.2, 1e-15), 1.44e-15), (GivenEnergy(3e-15), 3e-15)):
        for place in (0.5, np.float32(0.5), np.array([0.5]), jnp.float16(0.5)):
            np.testing.assert_allclose(energy.joules(place), joules, rtol=1e-6)
    cell = PulsedCell(Pulse(energy=ohmic, seconds=1e-8), levels=100.0)
    got = delivered(cell, jnp.asarray([2.0, -4.0, 0.5]), jnp.asarray([-50.0, 50.0, 0.0]), key=None)
    # The conductance in the middle of the way: V² G t for each pulse.
    middle = 1e-6 + np.asarray([0.01, 0.98, 0.5025]) * 2e-6
    np.testing.assert_allclose(
        got.charges["device_joules"], 4.0 * middle * 1e-8 * np.asarray([2.0, 4.0, 0.5]), rtol=1e-5
    )
    capacitor = PulsedCell(Pulse(energy=CapacitiveEnergy(1.2, 1e-15)))
    charged = delivered(capacitor, jnp.asarray([3.0]), None, key=None).charges
    assert float(charged["device_joules"][0]) == pytest.approx(3 * 1.44e-15, rel=1e-6)
    assert capacitor.charges == ("pulses", "misplaced", "device_joules") and "device_seconds" not in charged
    # A number that is not known has no column.
    assert PulsedCell(Pulse(seconds=1e-6), Pulse(energy=ohmic)).charges == ("pulses", "misplaced")


def test_the_ends_of_the_window_and_of_the_driver():
    cell = PulsedCell(levels=10.0, max_pulses=20)
    got = delivered(cell, jnp.asarray([8.0, -30.0, 1.0]), jnp.asarray([0.0, 0.0, 5.0]))
    np.testing.assert_array_equal(got.move, [5.0, -5.0, 0.0])
    np.testing.assert_array_equal(got.ended, [1.0, 1.0, 1.0])
    np.testing.assert_array_equal(got.held, [False, True, False])
    np.testing.assert_array_equal(got.charges["pulses"], [8.0, 20.0, 1.0])


def test_spread_of_devices_is_their_own_and_stays():
    spread = DeviceSpread(size=0.2, asymmetry=0.1, stuck=0.11, seed=3)
    cell, count = PulsedCell(levels=1000.0, spread=spread), 100_000
    once = [delivered(cell, jnp.full(count, d), jnp.zeros(count), key=None).mean for d in (1.0, -1.0)]
    up, down = np.asarray(once[0], np.float64), -np.asarray(once[1], np.float64)
    stuck = up == 0
    assert abs(stuck.mean() - 0.11) < 5 * math.sqrt(0.11 * 0.89 / count)
    np.testing.assert_array_equal(stuck, down == 0)
    half_sum, half_difference = (up + down)[~stuck] / 2, (up - down)[~stuck] / (up + down)[~stuck]
    moving = int((~stuck).sum())
    for values, mean, sigma in ((half_sum, 1.0, 0.2), (half_difference, 0.0, 0.1)):
        assert abs(values.mean() - mean) < 5 * sigma / math.sqrt(moving)
        assert values.std() == pytest.approx(sigma, rel=5 / math.sqrt(2 * moving))
    assert abs(np.corrcoef(half_sum, half_difference)[0, 1]) < 5 / math.sqrt(moving)
    again = delivered(cell, jnp.full(count, 1.0), jnp.zeros(count), key=None).mean
    np.testing.assert_array_equal(again, once[0])
    other = PulsedCell(levels=1000.0, spread=DeviceSpread(size=0.2, asymmetry=0.1, stuck=0.11, seed=4))
    assert abs(np.corrcoef(delivered(other, jnp.full(count, 1.0), jnp.zeros(count), key=None).mean, up)[0, 1]) < 0.02
    # A narrower window of its own: nobody gets beyond it.
    narrow = PulsedCell(levels=10.0, spread=DeviceSpread(window=0.3))
    ends = np.asarray(delivered(narrow, jnp.full(count, 50.0), jnp.zeros(count), key=None).mean)
    assert ends.max() == 5.0 and ends.min() >= 0.5 and abs((ends < 5).mean() - 0.5) < 0.01


@pytest.mark.optax
def test_cells_relax_by_arrhenius_and_are_not_charged_for_it():
    retention = Retention(0.6, 1e9, rest=0.0)
    cell = PulsedCell(levels=200.0, lsb=1e-2, retention=retention, step_time=1.0, temperature=350.0)
    still = {"w": jnp.zeros(3)}
    params, state = trained(cell, steps=5, params={"w": jnp.asarray([-1.0, 0.0, 0.8])}, updates=still)
    rate = 1e9 * math.exp(-0.6 * 1.602176634e-19 / (1.380649e-23 * 350.0))
    expected = -1 + (np.asarray([-1.0, 0.0, 0.8]) + 1) * math.exp(-5 * rate)
    np.testing.assert_allclose(params["w"], expected, rtol=1e-4)
    assert limjax.total(limjax.get_ledger(state), "heat") == 0


def test_a_word_of_bits_is_rewritten_once():
    cell = PulsedCell(Pulse(energy=GivenEnergy(1e-15)), levels=(-128, 127), word_bits=8)
    got = delivered(cell, jnp.asarray([5.0, 0.0, -1.0]), jnp.zeros(3))
    np.testing.assert_array_equal(got.move, [5.0, 0.0, -1.0])
    np.testing.assert_array_equal(got.charges["pulses"], [8.0, 0.0, 8.0])
    # However far it goes.
    far = delivered(PulsedCell(levels=(-32768, 32767), word_bits=16), jnp.asarray([5000.0, -40000.0]), jnp.zeros(2))
    np.testing.assert_array_equal(far.move, [5000.0, -32768.0])
    np.testing.assert_array_equal(far.charges["pulses"], [16.0, 16.0])
    assert not far.held.any()


def test_a_request_that_is_nan_stops_no_other():
    cell = PulsedCell(levels=1000, noise=PulseNoise(0.3))
    move = delivered(cell, jnp.asarray([jnp.nan, 10.0, -10.0]), jnp.zeros(3)).move
    # Ten pulses of their own noise: six standard deviations, a false alarm in 500 million.
    assert np.isnan(move[0]) and np.abs(move[1:] - np.asarray([10.0, -10.0])).max() < 6 * 0.3 * math.sqrt(10)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_ratios_near_one_and_curvatures_near_zero_have_no_jump(x64, dtype):
    exact = 1e-6 if dtype == jnp.float32 else 1e-9
    terms, ratios = (
        np.ravel(values).astype(dtype)
        for values in np.meshgrid(
            [1.0, 99.0, 101.0, 1000.0], [0.0, -1e-13, 3e-7, -0.99e-6, 1.01e-6, -0.99e-5, 0.99e-5, 1.01e-5]
        )
    )
    found, slopes = jax.jit(jax.vmap(jax.value_and_grad(_geometric, argnums=1)))(terms, ratios)
    counts = np.arange(1000) * (np.arange(1000) < terms[:, None])
    powers = np.exp(counts * ratios[:, None].astype(np.float64)) * (np.arange(1000) < terms[:, None])
    np.testing.assert_allclose(found, powers.sum(axis=1), rtol=exact)
    if dtype == jnp.float64:
        np.testing.assert_allclose(slopes, (counts * powers).sum(axis=1), rtol=1e-6, atol=1e-6)
    scale = Scale(*map(dtype, (1.0, 100.0, 0.0, 0.0)))
    for rate in (0.99e-4, 1.01e-4):
        law = eqx.tree_at(lambda s: s.nonlinearity, ExponentialSteps(1.0), dtype(rate))
        rate = float(law.nonlinearity)
        expected = 100 / rate * np.log1p(rate * 0.8 * np.exp(-rate * -0.3))
        assert float(law.move(dtype(0.2), dtype(80.0), scale)) == pytest.approx(expected, rel=exact)


@pytest.mark.slow
@pytest.mark.optax
def test_derivatives_pass_through_pulses():
    cell = PulsedCell(Pulse(SoftBoundsSteps()), levels=200, lsb=1e-2, noise=PulseNoise(0.2))
    optimizer = limjax.learning_in_memory(optax.identity(), cell, hops="exact", key=jax.random.key(0))
    params = jnp.linspace(-0.4, 0.4, 300)

    def end(size):
        moved, _ = optimizer.update(size * jnp.full(300, 0.031), optimizer.init(params), params)
        return jnp.sum(moved)

    slope = jax.grad(end)(jnp.float32(1.0))
    assert float(slope) == pytest.approx(float(jnp.sum(0.031 * (1 - 2 * params)) * 1.0), rel=0.1)


# What is refused.


@pytest.mark.optax
def test_parameters_are_needed_where_steps_depend_on_them():
    optimizer = limjax.learning_in_memory(optax.identity(), PulsedCell(Pulse(SoftBoundsSteps()), levels=100))
    state = optimizer.init(jnp.zeros(2))
    with pytest.raises(ValueError, match=r"depend on where it stands.*state, params\)"):
        optimizer.update(jnp.ones(2), state)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PulsedCell(Pulse(SoftBoundsSteps())), r"levels.*None.*soft-bounds.*levels=200"),
        (lambda: PulsedCell(spread=DeviceSpread(0.1)), r"levels.*spread"),
        (lambda: PulsedCell(retention=Retention(1.0, 1e9, rest=0.5)), r"levels.*relax"),
        (lambda: PulsedCell(Pulse(SoftBoundsSteps()), levels=255, word_bits=8), r"word_bits = 8"),
        (lambda: PulsedCell(levels=0), r"levels.*got 0"),
        (lambda: PulsedCell(max_pulses=0), r"max_pulses.*got 0"),
        (lambda: Pulse(size=-1.0), r"size.*-1.0"),
        (lambda: Pulse(seconds=-1.0), r"seconds.*-1.0"),
        (lambda: SoftBoundsSteps(0.9), r"bound.*0.9"),
        (lambda: ExponentialSteps(0.0), r"nonlinearity.*0.0.*LinearSteps"),
        (lambda: PulseNoise(-0.1), r"relative.*-0.1"),
        (lambda: DeviceSpread(stuck=1.5), r"stuck.*1.5"),
        (lambda: GivenEnergy(-1.0), r"energy.*-1.0"),
        (lambda: Retention(-1.0, 1e9), r"activation_ev.*-1.0"),
    ],
)
def test_wrong_numbers_are_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()
