"""What the ledger does with a barrier, gradients of runs, and names on the command line."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from barrier_runs import CELL, heights, inputs, run

import limjax
from limjax.barriers import AbstractBarrier, barrier_from_name, barrier_names
from limjax.physics.actuation import finite_time_excess, free_energy

pytestmark = pytest.mark.optax


# What the ledger does with a barrier.


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
        "use": limjax.ConsolidatingBarrier(11.0, limjax.UseRule(50.0), budget=0.1, release=0.01),
        "metaplastic": limjax.ConsolidatingBarrier(11.0, limjax.MetaplasticRule(2.0)),
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


@pytest.mark.representatives(2)
@pytest.mark.parametrize("name", [
    "static", "scheduled", "lyapunov", "lyapunov-start", "moment", "moment-leaf", "rate-matched", "rate-matched-leaf", "fisher", "fisher-jump", "fowler-nordheim",
    "use", "metaplastic", "spline", "spline-rows", "learned", "learned-on-law",
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
    (lambda: limjax.FowlerNordheimBarrier.from_device(1e16, 300.0, 0.3), ["seconds", "1e+16", "300.0", "0.3"]),
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


@pytest.mark.parametrize("first", [0.0, 1e-5])
def test_scheduled_after_a_warm_up_stands_at_its_start(first):
    """lr0 is the largest rate: with the first one the cells would stand open from the end of the warm-up on."""
    rate = optax.warmup_cosine_decay_schedule(first, 1e-2, 20, 100)
    got = heights(barrier_from_name("scheduled:start=9", CELL, 100, rate), [inputs(k) for k in (0, 5, 20, 90)])
    rates = np.maximum([float(rate(k)) for k in (0, 5, 20, 90)], np.finfo(np.float32).tiny)
    np.testing.assert_allclose(got, 9.0 + 2 * np.log(1e-2 / rates), rtol=1e-4)


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


@pytest.mark.parametrize("kind", ["callback", "plain Python"])
def test_scheduled_by_name_takes_rates_that_cannot_be_mapped(kind):
    def rate(step):
        if kind == "plain Python":
            return 1e-2 if int(step) < 5 else 1e-3
        return jax.pure_callback(
            lambda k: np.float32(1e-2 if k < 5 else 1e-3), jax.ShapeDtypeStruct((), np.float32), step
        )

    barrier = barrier_from_name("scheduled", limjax.ArrheniusCell(), 10, rate)
    first, last = (float(barrier.schedule(jnp.int32(step))) for step in (0, 9))
    assert last - first == pytest.approx(2 * np.log(10.0), rel=1e-5)
