"""The stable elementary functions in float32 against float64, over the whole range of exchange and request."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limjax.numerics._elementary import asinh, asinh_exp, normal_log, normal_log1p, safe_log
from limjax.numerics.sums import CompensatedSum
from limjax.physics import cell_response, hop_rates
from limjax.physics._response import split_activity
from limjax.physics.actuation import free_energy, free_energy_slope, thermodynamic_length

response = jax.jit(cell_response)
rates = jax.jit(hop_rates)

DRIFTS = np.concatenate([[0.0], np.geomspace(1e-20, 1e6, 140)]).astype(np.float32)
EXCHANGES = np.geomspace(1e-30, 1e6, 145)
# Ten units in the last place of a float32.
ULPS = 10 * 2.0**-23


@pytest.fixture(scope="module")
def grid():
    """Requests of both signs and ln g in float32, with what float64 says about exactly those numbers."""
    drift, log_exchange = np.meshgrid(np.concatenate([-DRIFTS, DRIFTS]), np.log(EXCHANGES).astype(np.float32))
    d, g = drift.astype(np.float64), np.exp(log_exchange.astype(np.float64))
    return drift, log_exchange, d, g, np.hypot(d, 2 * g)


def test_response_over_the_whole_range(grid):
    drift, log_exchange, d, g, activity = grid
    affinity, a = response(jnp.asarray(drift), jnp.asarray(log_exchange))
    assert affinity.dtype == a.dtype == jnp.float32
    np.testing.assert_allclose(affinity, 2 * np.arcsinh(d / (2 * g)), rtol=ULPS, atol=1e-37)
    np.testing.assert_allclose(a, activity, rtol=ULPS)
    assert (np.asarray(affinity)[d == 0] == 0).all()


def test_gradient_over_the_whole_range(grid):
    """d/dd and d/dln g of 2 asinh(d/2g) and A are 2/A, -2d/A, d/A and 4g²/A."""
    drift, log_exchange, d, g, activity = grid

    @jax.jit
    def tangents(drift, log_exchange):
        one, zero = jnp.ones_like(drift), jnp.zeros_like(drift)
        by_drift = jax.jvp(cell_response, (drift, log_exchange), (one, zero))[1]
        by_exchange = jax.jvp(cell_response, (drift, log_exchange), (zero, one))[1]
        backward = (
            jax.vjp(cell_response, drift, log_exchange)[1]((one, zero)),
            jax.vjp(cell_response, drift, log_exchange)[1]((zero, one)),
        )
        return by_drift, by_exchange, backward

    (h_d, a_d), (h_g, a_g), (back_h, back_a) = tangents(jnp.asarray(drift), jnp.asarray(log_exchange))
    for got, expected in (
        (h_d, 2 / activity),
        (a_d, d / activity),
        (h_g, -2 * d / activity),
        (a_g, 4 * g * (g / activity)),
    ):
        np.testing.assert_allclose(got, expected, rtol=ULPS, atol=1e-37)
    for got, expected in zip((*back_h, *back_a), (h_d, h_g, a_d, a_g)):
        np.testing.assert_allclose(got, expected, rtol=4e-7, atol=1e-37)


def test_response_in_float64(grid, x64):
    _, log_exchange, d, g, activity = grid
    affinity, a = cell_response(jnp.asarray(d), jnp.asarray(log_exchange.astype(np.float64)))
    assert affinity.dtype == a.dtype == jnp.float64
    np.testing.assert_allclose(affinity, 2 * np.arcsinh(d / (2 * g)), rtol=2e-14, atol=1e-300)
    np.testing.assert_allclose(a, activity, rtol=2e-14)


@pytest.mark.parametrize("argument", [0, 1])
@pytest.mark.parametrize("output", [0, 1])
def test_first_and_second_derivative_against_finite_differences(output, argument, x64):
    d = jnp.asarray([-30.0, -1.0, -1e-3, 0.0, 1e-2, 0.7, 5.0, 2e2])
    lg = jnp.asarray([-8.0, -1.0, 0.0, 2.0, -3.0, 0.5, 4.0, -5.0])
    h = 1e-5

    def value(d, lg):
        return cell_response(d, lg)[output]

    def slope_by_differences(f):
        above, below = ((d + s, lg) if argument == 0 else (d, lg + s) for s in (h, -h))
        return (f(*above) - f(*below)) / (2 * h)

    first = jax.vmap(jax.grad(value, argument))
    second = jax.vmap(jax.grad(jax.grad(value, argument), argument))
    np.testing.assert_allclose(first(d, lg), slope_by_differences(jax.vmap(value)), rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(second(d, lg), slope_by_differences(first), rtol=2e-6, atol=1e-6)


def test_exchange_below_the_smallest_float():
    """e^-200 is 0 in float32; its affinity is not infinite."""
    affinity, activity = response(jnp.float32(3.0), jnp.float32(-200.0))
    assert float(affinity) == pytest.approx(2 * (np.log(3.0) + 200.0), rel=1e-6)
    assert float(activity) == 3.0
    slopes = jax.grad(lambda d, lg: cell_response(d, lg)[0], (0, 1))(jnp.float32(3.0), jnp.float32(-200.0))
    np.testing.assert_allclose(slopes, (2 / 3, -2.0), rtol=1e-6)


def test_no_request_and_no_exchange_is_finite():
    for lg in (-69.0, -200.0):
        value = response(jnp.float32(0.0), jnp.float32(lg))
        assert float(value[0]) == 0.0 and 0 <= float(value[1]) < 1e-29
        slopes = jax.grad(lambda d, lg: sum(cell_response(d, lg)), (0, 1))(jnp.float32(0.0), jnp.float32(lg))
        assert np.isfinite(slopes).all()


def test_hop_rates_over_the_whole_range(grid):
    drift, log_exchange, d, g, activity = grid
    up, down = (np.asarray(x, np.float64) for x in rates(jnp.asarray(drift), jnp.asarray(log_exchange)))
    larger = (activity + np.abs(d)) / 2
    smaller = g * (g / larger)
    np.testing.assert_allclose(np.maximum(up, down), larger, rtol=ULPS)
    np.testing.assert_allclose(np.minimum(up, down), smaller, rtol=2 * ULPS, atol=1e-37)
    assert ((up >= down) == (d >= 0)).all() | (up == down).any()
    # The difference is the request to rounding of the larger rate, the product g² wherever g² is a float.
    assert (np.abs(up - down - d) <= ULPS * larger).all()
    visible = smaller > 1e-36
    np.testing.assert_allclose((up * down)[visible], (g * g)[visible], rtol=4 * ULPS)


@given(st.floats(-1e6, 1e6, width=32), st.floats(-69.0, 13.0, width=32))
def test_response_is_odd_and_activity_even(d, lg):
    forth, back = (response(jnp.float32(s * d), jnp.float32(lg)) for s in (1, -1))
    assert float(forth[0]) == -float(back[0]) and float(forth[1]) == float(back[1])
    assert float(forth[1]) >= abs(d) * (1 - 1e-6)


@pytest.mark.representatives(1)
@pytest.mark.parametrize("shapes", [((3, 1), (4,)), ((), (5,)), ((2, 3), ())])
def test_rank_promotion_is_the_callers_choice(shapes):
    """Operands of unlike rank work where promotion is allowed, in value and gradient."""
    with jax.numpy_rank_promotion("allow"):
        d, lg = jnp.full(shapes[0], 2.0, jnp.float32), jnp.full(shapes[1], -1.0, jnp.float32)
        value = cell_response(d, lg)[0]
        assert value.shape == np.broadcast_shapes(*shapes)
        grads = jax.grad(lambda d, lg: jnp.sum(cell_response(d, lg)[0]), (0, 1))(d, lg)
        assert grads[0].shape == shapes[0] and grads[1].shape == shapes[1]


def test_safe_log():
    x = jnp.asarray([0.0, 1e-38, 1.0, np.e, 1e30], jnp.float32)
    expected = np.log(np.maximum(np.asarray(x, np.float64), np.finfo(np.float32).tiny))
    np.testing.assert_allclose(safe_log(x), expected, rtol=1e-6, atol=1e-7)
    slope = jax.vmap(jax.grad(safe_log))(x[jnp.asarray([0, 2, 4])])
    curvature = jax.vmap(jax.grad(jax.grad(safe_log)))(x[jnp.asarray([0, 4])])
    np.testing.assert_allclose(curvature, [0.0, -1 / x[4] ** 2], rtol=1e-6)  # and not 0 times the infinity of 1/tiny²
    np.testing.assert_allclose(slope, [0.0, 1.0, 1e-30], rtol=1e-6)


# Sums.


def sum_of(value, count, compensated):
    """`count` additions of an array in one compiled loop."""

    @jax.jit
    def run(value):
        start = CompensatedSum.zeros(value, compensated)
        return jax.lax.fori_loop(0, count, lambda _, s: s.add(value), start)

    return run(value)


def test_ten_million_additions_in_float32():
    """Relative error at most 1e-6 after 1e7 steps; the plain sum is more than a thousand times worse."""
    values = jnp.asarray([0.1, 1e-3, 3.3333, 7e-8], jnp.float32)
    exact = 1e7 * np.asarray(values, np.float64)
    kept = sum_of(values, 10_000_000, True)
    plain = sum_of(values, 10_000_000, False)
    error = np.abs(kept.float64() / exact - 1).max()
    total_alone = np.abs(np.asarray(kept.total, np.float64) / exact - 1).max()
    plain_error = np.abs(plain.float64() / exact - 1).max()
    # Kahan's bound: twice the unit roundoff, whatever the number of terms.
    assert error < 2 * 2.0**-24
    assert total_alone < 1e-6
    assert plain_error > 1e-3


def test_compensated_sum_of_varying_terms():
    """Terms that span nine decades and change sign, against float64."""
    rng = np.random.default_rng(0)
    terms = (rng.standard_normal((20_000, 16)) * 10.0 ** rng.uniform(-6, 3, (20_000, 16))).astype(np.float32)

    @jax.jit
    def run(terms):
        return jax.lax.scan(lambda s, t: (s.add(t), None), CompensatedSum.zeros(terms[0]), terms)[0]

    exact = terms.astype(np.float64).sum(0)
    # The bound of Kahan's algorithm: two roundings of every term, whatever their number.
    bound = 2 * 2.0**-24 * np.abs(terms.astype(np.float64)).sum(0)
    assert (np.abs(run(jnp.asarray(terms)).float64() - exact) <= bound).all()


def test_sum_keeps_structure_and_dtype():
    like = {"a": jnp.zeros((2, 3), jnp.float32), "b": [jnp.zeros((), jnp.float32)]}
    for compensated in (True, False):
        total = CompensatedSum.zeros(like, compensated)
        added = total.add(jax.tree.map(lambda x: x + 1.5, like))
        assert jax.tree.structure(added) == jax.tree.structure(total)
        for x, y in zip(jax.tree.leaves(added), jax.tree.leaves(total)):
            assert x.shape == y.shape and x.dtype == y.dtype
        assert all((x == 1.5).all() and x.dtype == np.float64 for x in jax.tree.leaves(added.float64()))


def test_sum_can_be_differentiated(x64):
    def total(scale):
        s = CompensatedSum.zeros(jnp.zeros(()))
        for k in range(5):
            s = s.add(scale * (k + 1.0))
        return s.total

    assert float(jax.grad(total)(jnp.asarray(2.0))) == pytest.approx(15.0, rel=1e-12)


def test_normal_log():
    x = np.concatenate([np.geomspace(1.2e-38, 3e38, 4001), 1 + np.linspace(-0.3, 0.42, 999)]).astype(np.float32)
    np.testing.assert_allclose(normal_log(jnp.asarray(x)), np.log(x.astype(np.float64)), rtol=3e-7, atol=1e-8)

    slopes = jax.vmap(jax.grad(normal_log))(jnp.asarray([0.5, 2.0], jnp.float32))
    np.testing.assert_allclose(slopes, [2.0, 0.5], rtol=1e-6)


@pytest.mark.parametrize(("d", "lg"), [(1e5, -80.0), (1e6, -79.0), (1e10, -80.0), (1e30, -90.0), (1e5, -93.0)])
def test_requests_of_many_levels_over_a_high_barrier(d, lg):
    """d/2g is beyond float32 there, its logarithm is not."""
    affinity, activity = response(jnp.float32(d), jnp.float32(lg))
    assert float(affinity) == pytest.approx(2 * (np.log(d) - lg), rel=1e-6) and float(activity) == np.float32(d)


def test_no_number_is_no_number():
    for d, lg in ((np.nan, 0.0), (1.0, np.nan)):
        assert np.isnan(response(jnp.float32(d), jnp.float32(lg))).all()
    assert np.isposinf(response(jnp.float32(np.inf), jnp.float32(0.0))).all()


@pytest.mark.parametrize(
    "function, inputs",
    [(safe_log, 1), (normal_log, 1), (normal_log1p, 1), (asinh, 1), (asinh_exp, 1), (cell_response, 2)]
    + [(split_activity, 3), (free_energy, 1), (free_energy_slope, 1), (thermodynamic_length, 1)],
)
def test_outside_of_jit_it_is_one_program(function, inputs, compilations):
    """Operation by operation a run would begin seconds later; in a traced function nothing is left of it."""
    arguments = [jnp.full((3, 19), 0.5 + k) for k in range(inputs)]  # of a shape that nothing else has
    compilations.clear()
    function(*arguments)
    assert len(compilations) == 1
    called = re.findall(r"jit\[\s*name=(\w+)", str(jax.make_jaxpr(lambda *x: function(*x))(*arguments)))
    assert set(called) <= {"_where"}  # those of `jax.numpy` itself
