"""Gradients through training, the outer loop, budgets, and what tuning writes."""

import json
import math
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import limjax
from limjax.barriers.files import barrier_from_json, barrier_to_json, load_barrier, save_barrier
from limjax.cli import main
from limjax.numerics.loops import checkpointed_loop
from limjax.tasks import Task, quadratic
from limjax.tuning import (
    Problem,
    TuneCode,
    Tuned,
    Weights,
    best_hand_made,
    evaluate,
    evaluate_hand_made,
    held_out_seeds,
    hypervolume,
    non_dominated,
    pareto_front,
    plain_validation_loss,
    train_design,
    tune,
    tune_rule,
    tuned_fields,
    value_and_gradient,
)
from limjax.tuning.objective import Budget, Objective
from limjax.tuning.variables import Variables

pytestmark = pytest.mark.optax


def curve_task(dtype=np.float32):
    """The smallest network that learns anything: what takes time in these tests is compiling."""
    x = np.linspace(-1, 1, 40, dtype=dtype).reshape(-1, 1)
    data = {"x": x, "y": np.sin(3 * x)}

    def init(key):
        return {
            "a": jax.random.normal(key, (1, 3), dtype),
            "b": jnp.linspace(-1, 1, 3, dtype=dtype),
            "c": jnp.ones((3, 1), dtype),
        }

    def loss(p, batch):
        return jnp.mean((jnp.tanh(batch["x"] @ p["a"] + p["b"][None, :]) @ p["c"] - batch["y"]) ** 2)

    return Task("curve", init, loss, data, data)


@pytest.fixture(scope="module")
def problem():
    return Problem(curve_task(), limjax.ArrheniusCell(lsb=2.0**-8), steps=36, batch_size=16, learning_rate=2e-2)


BARRIERS = {
    "spline": lambda: limjax.SplineBarrier([9.0, 11.0, 12.0, 14.0], 36),
    "spline per layer": lambda: limjax.SplineBarrier(np.tile([9.0, 12.0, 14.0], (3, 1)), 36),
    "learned": lambda: limjax.LearnedBarrier.from_theory(1e6, 36, units=3),
    "learned on the law": lambda: limjax.LearnedBarrier.from_law(36, units=3),
    "learned per leaf": lambda: limjax.LearnedBarrier.from_theory(1e6, 36, units=3, granularity="leaf"),
    "lyapunov": lambda: limjax.LyapunovBarrier(10.0),
    "fisher": lambda: limjax.FisherBarrier(1e6),
    "rate-matched": lambda: limjax.RateMatchedBarrier(2.0),
    "fowler-nordheim": lambda: limjax.FowlerNordheimBarrier(10.0, 0.01),
}


# -- gradients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["spline per layer", pytest.param("learned", marks=pytest.mark.slow)])
def test_gradients_through_training_match_finite_differences(x64, name):
    """In float64, to 1e-3, along random directions in the barrier, the learning rate and the step time."""
    problem = Problem(
        curve_task(np.float64), limjax.ArrheniusCell(lsb=2.0**-8), steps=25, batch_size=8, learning_rate=1e-2
    )
    rows = {"spline per layer": 3}.get(name)
    barrier = limjax.SplineBarrier(np.tile([9.0, 12.0, 14.0], (rows, 1)), 25) if rows else BARRIERS[name]()
    design = problem.design(barrier)
    variables = Variables(design, learning_rate=True, step_time=True)
    data = problem.data("validation")

    @jax.jit
    def function(point):
        outcome = problem.outcome(variables.to_design(point), jnp.asarray(3), data, "gaussian", None)
        return outcome.loss + 0.01 * outcome.energy_kt, outcome

    point = variables.start()
    # Away from the theory's start, where half of the rule's derivatives vanish.
    keys = iter(jax.random.split(jax.random.key(0), 100))
    point = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(next(keys), p.shape), point)
    (_, _), slope = jax.jit(value_and_gradient(function, "reverse"))(point, jax.random.key(0))
    (_, _), forward = jax.jit(value_and_gradient(function, "forward"))(point, jax.random.key(0))
    for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(forward), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)
    for _ in range(3):
        direction = jax.tree.map(lambda p: jax.random.normal(next(keys), p.shape), point)
        exact = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(direction), strict=True))
        h = 1e-5

        def along(t, direction=direction):
            return float(function(jax.tree.map(lambda p, d: p + t * d, point, direction))[0])

        numeric = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h)
        assert float(exact) == pytest.approx(numeric, rel=1e-3, abs=1e-7)


@pytest.mark.representatives(2)
@pytest.mark.parametrize("name", ["learned per leaf", "fisher", "fowler-nordheim"])
def test_every_barrier_has_a_finite_gradient(problem, name):
    design = problem.design(BARRIERS[name]())
    variables = Variables(design)
    data = problem.data("validation")

    @jax.jit
    def slope(point):
        def value(point):
            outcome = problem.outcome(variables.to_design(point), jnp.asarray(0), data, "gaussian", None)
            return outcome.loss + 1e-2 * outcome.energy_kt

        return jax.grad(value)(point)

    leaves = jax.tree.leaves(slope(variables.start()))
    assert leaves and all(np.isfinite(leaf).all() for leaf in leaves)
    assert any(np.any(np.asarray(leaf) != 0) for leaf in leaves)


def test_checkpointed_loop_is_a_loop_and_remembers_the_square_root():
    def body(carry):
        x, w = carry
        return jnp.tanh(w @ x), w

    w = jax.random.normal(jax.random.key(0), (64, 64)) / 8
    x = jnp.ones(64)

    def value(w, length):
        return jnp.sum(checkpointed_loop(body, (x, w), length)[0])

    def plain(w, length):
        return jnp.sum(jax.lax.scan(lambda c, _: (body(c), None), (x, w), None, length=length)[0][0])

    for length in (1, 2, 7, 16, 23):
        assert value(w, length) == plain(w, length)
        np.testing.assert_allclose(jax.grad(value)(w, length), jax.grad(plain)(w, length), rtol=1e-4, atol=1e-6)

    def temporary(function, length):
        compiled = jax.jit(jax.grad(function), static_argnums=1).lower(w, length).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    small, large = temporary(value, 256), temporary(value, 256 * 16)
    assert large < 6 * small  # √16 = 4, and what does not depend on the length
    assert temporary(plain, 256 * 16) > 8 * temporary(plain, 256)


@pytest.mark.slow
def test_evolution_points_the_same_way(x64):
    """On a quadratic function the expected estimate is the gradient itself; 400 pairs in 5 numbers scatter little."""
    matrix = jnp.diag(jnp.arange(1.0, 6.0))

    def function(x):
        return 0.5 * x @ matrix @ x, None

    point = jnp.array([1.0, -1.0, 0.5, 2.0, -0.3])
    _, estimate = value_and_gradient(function, "evolution", pairs=400, spread=0.05)(point, jax.random.key(0))
    exact = matrix @ point
    # For a quadratic function the variance of one pair's component i is |gradient|² + gradient_i².
    error = jnp.sqrt((jnp.sum(exact**2) + exact**2) / 400)
    assert jnp.all(jnp.abs(estimate - exact) < 5.5 * error)


@pytest.mark.slow
def test_truncation_cuts_the_weights_but_not_the_ledger(problem):
    design = problem.design(limjax.SplineBarrier([10.0, 14.0], 36))
    variables = Variables(design)
    data = problem.data("validation")

    def slopes(window):
        def value(point):
            outcome = problem.outcome(variables.to_design(point), jnp.asarray(0), data, "gaussian", window)
            return outcome.loss, outcome.heat_kt

        loss, heat = jax.jit(jax.jacrev(value))(variables.start())
        return loss["knots"], heat["knots"]

    whole, cut = slopes(None), slopes(6)
    assert not np.allclose(whole[0], cut[0], rtol=0.1)
    # The heat's direct dependence on the barrier, 2 d² / A summed, survives.
    assert (np.asarray(cut[1]) > 0).all()


# -- what a run gives --------------------------------------------------------------------------------------------------


def test_outcomes_are_those_of_training(problem):
    """The same seed gives the same run as `limjax.train`, hop for hop up to Adam's 1e-20."""
    design = problem.design(limjax.LyapunovBarrier(11.0))
    evaluation = evaluate(problem, design, [3, 4], hops="gaussian")
    run = train_design(problem, design, 3, hops="gaussian")
    assert evaluation.heat_kt[0] == pytest.approx(run.summary["heat_kt_per_parameter"], rel=1e-4)
    assert evaluation.actuation_kt[0] == pytest.approx(run.summary["actuation_kt"] / problem.parameters, rel=1e-4)
    assert evaluation.loss[0] == pytest.approx(run.summary["test_loss"], rel=1e-3)
    assert evaluation.loss[0] != evaluation.loss[1]


def test_a_tuned_learning_rate_can_be_trained_with(problem):
    design = problem.design(limjax.LyapunovBarrier(11.0))
    knots = jnp.linspace(0.5, -0.7, 8)
    design = eqx.tree_at(lambda d: d.log_rate, design, knots)
    expected = evaluate(problem, design, [3], hops="gaussian")
    settings = dict(hops="gaussian", steps=problem.steps, batch_size=problem.batch_size, seed=3, cell=problem.cell)
    settings |= dict(learning_rate=problem.learning_rate, barrier=design.barrier, compare=())
    runs = [limjax.train(problem.task, **settings, learning_rate_factor=f) for f in (np.exp(knots).tolist(), None)]
    assert runs[0].summary["heat_kt_per_parameter"] == pytest.approx(expected.heat_kt[0], rel=1e-4)
    assert runs[1].summary["heat_kt_per_parameter"] != pytest.approx(expected.heat_kt[0], rel=0.05)
    with pytest.raises(ValueError, match=r"at least two positive numbers, got \[1.0\]"):
        limjax.train(problem.task, **settings, learning_rate_factor=[1.0])


def test_learned_rule_starts_as_the_fisher_barrier(problem):
    price = 1e6
    a = evaluate(problem, limjax.LearnedBarrier.from_theory(price, 36), [0], hops="gaussian")
    b = evaluate(problem, limjax.FisherBarrier(price), [0], hops="gaussian")
    np.testing.assert_allclose(a.heat_kt, b.heat_kt, rtol=1e-4)
    np.testing.assert_allclose(a.actuation_kt, b.actuation_kt, rtol=1e-3)


# -- tuning ------------------------------------------------------------------------------------------------------------


START = limjax.SplineBarrier([13.0, 13.0], 36)
# Always the same numbers of seeds, so that the evaluations compile once for all tests.
FEW = dict(task="", barrier=START, seeds=2, held_out=2, outer_rate=0.5)


def test_tuning_lowers_the_objective(problem):
    """Also on seeds it has not seen."""
    weights = Weights(energy=0.02)
    result = tune(**FEW, problem=problem, weights=weights, outer_steps=25, tune_learning_rate=True)
    assert result.result is TuneCode.completed and len(result.history) == 25

    def objective(e):
        return e.mean_loss + weights.energy * e.energy_kt

    assert objective(result.after) < objective(result.before) - 0.01
    assert result.after.energy_kt < 0.8 * result.before.energy_kt
    assert result.plain.loss.shape == (2,) and result.nearest is None
    # The result says how much came from which.
    assert set(result.shares) == {"barrier", "learning_rate"}
    assert np.any(np.asarray(result.design.log_rate) != 0)


@pytest.mark.parametrize(
    "gradient",
    ["forward", pytest.param("truncated", marks=pytest.mark.slow), pytest.param("evolution", marks=pytest.mark.slow)],
)
def test_other_gradients_also_descend(problem, gradient):
    settings = dict(weights=Weights(energy=0.05), gradient=gradient, outer_steps=8, pairs=2)
    result = tune(**FEW, problem=problem, **settings)
    assert result.result is TuneCode.completed
    assert result.after.energy_kt < 0.9 * result.before.energy_kt


def test_budgets_are_kept(problem):
    limit = 1.0
    result = tune(**FEW, problem=problem, max_energy_kt=limit, outer_steps=40)
    assert result.before.energy_kt > 2 * limit
    assert result.result is TuneCode.completed and result.nearest <= 1.005 * limit
    assert result.after.energy_kt < 1.3 * limit


@pytest.mark.slow
def test_one_rule_for_several_problems(problem):
    """Every problem keeps its own limit, and all share one rule."""
    short = Problem(problem.task, problem.cell, steps=18, batch_size=16, learning_rate=2e-2)
    problems, seen = [problem, short], []
    # A spline, because a learned rule compiles for a minute; both span a run.
    limits = [1.5 * plain_validation_loss(p, p.design(START), 8) for p in problems]
    result = tune_rule(
        problems, START, max_loss=limits, seeds=[2, 3], held_out=2, outer_steps=8, outer_rate=0.7, selection=8,
        on_progress=lambda rows, left: seen.append(len(rows)),
    )  # fmt: skip
    assert result.result is TuneCode.completed and seen == [2] * 8
    assert all(loss <= 1.005 * limit for loss, limit in zip(result.nearest, limits))
    assert all(after.energy_kt < 0.7 * before.energy_kt for before, after in zip(result.before, result.after))
    first, second = (design.barrier.stretched(1) for design in result.designs)
    assert eqx.tree_equal(first, second)
    assert [float(d.barrier.steps) for d in result.designs] == [36, 18]


@pytest.mark.parametrize(
    "settings, said",
    [
        (dict(seeds=[1, 2, 3]), "2 problems need as many numbers of seeds"),
        (dict(max_loss=[1.0]), "one loss for each of the 2 problems"),
        (dict(selection=0), "selection must be from 1 to 500"),
    ],
)
def test_wrong_settings_of_a_rule_are_named(problem, settings, said):
    with pytest.raises(ValueError, match=said):
        tune_rule([problem, problem], limjax.LearnedBarrier.from_theory(), **settings)


@pytest.mark.slow
def test_a_limit_that_cannot_be_kept_is_said(problem):
    result = tune(**FEW, problem=problem, max_loss=1e-4, outer_steps=3)
    assert result.result is TuneCode.infeasible and "nearest" in result.result.help
    assert result.nearest > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        pytest.param("learning rate", marks=pytest.mark.slow),
        pytest.param("energy weight", marks=pytest.mark.slow),
        "NaN in the data",
    ],
)
def test_divergence_is_a_result(problem, case):
    settings = dict(FEW, problem=problem, outer_steps=12)
    if case == "learning rate":
        settings["problem"] = Problem(
            quadratic(cells=16), limjax.ArrheniusCell(lsb=2.0**-10), steps=16, learning_rate=1e3
        )
    elif case == "energy weight":
        settings.update(weights=Weights(energy=1e6), outer_rate=1e3)
    else:
        bad = Task(
            "bad", lambda key: {"w": jnp.ones(2)}, lambda p, b: jnp.sum(p["w"]) * jnp.mean(jnp.log(b)), np.full(8, -1.0)
        )
        settings["problem"] = Problem(bad, steps=16, batch_size=4)
    result = tune(**settings)
    if case != "energy weight":  # an outer rate of 1000 kT only runs into the cell's range
        assert result.result is TuneCode.diverged and "learning rate" in result.result.help
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(eqx.filter(result.barrier, eqx.is_array)))


def test_ctrl_c_keeps_the_best_so_far(problem):
    def stop(row, left):
        if row.step == 3:
            raise KeyboardInterrupt

    result = tune(**FEW, problem=problem, outer_steps=50, on_progress=stop)
    assert result.result is TuneCode.interrupted and len(result.history) == 4


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"outer_steps": 0}, "outer_steps must be a whole number"),
        ({"outer_rate": -1.0}, "outer_rate must be a positive number, got -1.0"),
        ({"seeds": []}, "seeds must be a positive number"),
        ({"held_out": [0, 1]}, "held_out must not contain tuning seeds"),
        ({"weights": Weights(energy=-1.0)}, "energy weight"),
        ({"max_loss": 0.1, "max_energy_kt": 1.0}, "not both"),
        ({"max_loss": 0.0}, "max_loss must be a positive number"),
        ({"gradient": "magic"}, 'gradient must be "reverse"'),
        ({"window": 5}, "window is for"),
    ],
)
def test_wrong_settings_are_named(problem, settings, said):
    with pytest.raises(ValueError, match=said):
        tune(**{**FEW, "problem": problem, "outer_steps": 1, **settings})


def test_a_barrier_without_numbers_says_what_to_do():
    class Mine(limjax.AbstractBarrier):
        name = "mine"

        def evaluate(self, inputs, state):
            return jnp.asarray(9.0), state

    with pytest.raises(ValueError, match="nothing to tune"):
        tuned_fields(Mine())
    Mine.tuned = {"height": Tuned(1.0)}
    assert tuned_fields(Mine()) == {"height": Tuned(1.0)}


def test_objective_multiplier_rises_only_while_the_limit_is_broken():
    objective = Objective(Weights(), Budget(max_loss=0.1))
    from limjax.tuning import Outcome

    def outcome(loss):
        return Outcome(*(jnp.asarray(x) for x in (loss, 1.0, 0.0, 1.0, 0.0, 1.0)))

    assert objective.next_multiplier(0.0, outcome(0.2)) > 0 == objective.next_multiplier(0.0, outcome(0.05))
    # At the limit and with no multiplier the value is the goal itself.
    assert float(objective.value(outcome(0.1), jnp.asarray(0.0))) == pytest.approx(0.0, abs=1e-6)


# -- fronts ------------------------------------------------------------------------------------------------------------


def test_non_dominated_and_hypervolume_against_enumeration():
    generator = np.random.default_rng(0)
    for objectives in (2, 3):
        points = generator.integers(0, 6, (30, objectives)).astype(float)
        mask = non_dominated(points)
        for i, p in enumerate(points):
            beaten = any((q <= p).all() and (q < p).any() for q in points)
            assert mask[i] == (not beaten)
        # Unit cells below the reference that some point beats.
        cells = np.stack(np.meshgrid(*[np.arange(6)] * objectives, indexing="ij"), -1).reshape(-1, objectives)
        covered = sum((points <= cell).all(axis=1).any() for cell in cells)
        assert hypervolume(points, [6.0] * objectives) == covered
        assert hypervolume(points[mask], [6.0] * objectives) == covered
    assert not non_dominated(np.array([[math.nan, 0.0], [1.0, 1.0]]))[0]
    assert hypervolume(np.array([[2.0, 2.0]]), [1.0, 1.0]) == 0.0


@pytest.mark.slow
def test_pareto_front_is_monotonic_and_resumes(tmp_path):
    settings = dict(
        cell=limjax.ArrheniusCell(lsb=2.0**-8), barrier=limjax.SplineBarrier([12.0, 13.0], 25), energy=[1e-3, 1e-1], steps=25,
        batch_size=16, learning_rate=2e-2, outer_steps=8, outer_rate=0.5, seeds=1, held_out=1, hand_made=False, folder=tmp_path / "sweep",
    )  # fmt: skip
    done = []

    def stop(count, total, point):
        done.append(count)
        raise KeyboardInterrupt

    first = pareto_front(curve_task(), **settings, devices=jax.local_devices()[:1], on_progress=stop)
    assert str(first.result) == "interrupted" and len(first.points) == 1
    whole = pareto_front(curve_task(), **settings, devices=jax.local_devices()[:1])
    assert str(whole.result) == "completed" and len(whole.points) == 2
    assert whole.points[0].loss == first.points[0].loss
    assert whole.points[0].energy_kt > whole.points[1].energy_kt
    assert whole.hypervolume >= 0 and set(whole.reference) == {"loss", "energy_kt"}
    with pytest.raises(ValueError, match="holds another sweep"):
        pareto_front(curve_task(), **{**settings, "energy": [1e-3]})


def test_hand_made_policies(problem):
    policies = {"static": {"12": limjax.StaticBarrier(12.0), "20": limjax.StaticBarrier(20.0)}}
    results = evaluate_hand_made(problem, held_out_seeds(3), policies=policies)
    plain = evaluate(problem, limjax.StaticBarrier(20.0), held_out_seeds(3), hops="mean")
    best = best_hand_made(results, plain)
    assert [r.setting for r in results] == ["12", "20"]
    assert best is not None and best.evaluation.is_no_worse_than(plain)
    from limjax.tuning import hand_made_policies

    grid = hand_made_policies(problem)
    from limjax.tuning import LAW_FAMILIES

    assert set(LAW_FAMILIES) < set(grid) and len(grid) == 9
    assert all(len(settings) == 8 for family, settings in grid.items() if family != LAW_FAMILIES[0])


# -- files and commands ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BARRIERS)
def test_barrier_files(tmp_path, name):
    barrier = BARRIERS[name]()
    save_barrier(barrier, tmp_path / "barrier.json")
    back = load_barrier(tmp_path / "barrier.json")
    assert eqx.tree_equal(barrier, back)
    if name.startswith(("spline", "learned")):
        assert float(load_barrier(tmp_path / "barrier.json", 77).steps) == 77.0 == float(barrier.stretched(77).steps)


def test_wrong_barrier_files_are_named(tmp_path):
    path = tmp_path / "barrier.json"
    with pytest.raises(ValueError, match="cannot be read"):
        load_barrier(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        load_barrier(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="is not a limjax barrier"):
        load_barrier(path)
    content = barrier_to_json(limjax.StaticBarrier(3.0))
    with pytest.raises(ValueError, match="wrong arguments"):
        barrier_from_json({**content, "arguments": {"tall": 3.0}})
    with pytest.raises(ValueError, match="holds a function"):
        save_barrier(limjax.ScheduledBarrier(lambda step: 9.0 + 0.0 * step), path)


def run(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main([str(w) for w in words])
    captured = capsys.readouterr()
    return stopped.value.code or 0, captured.out, captured.err


QUICK = [
    "--task",
    "diabetes-regression",
    "--steps",
    16,
    "--outer-steps",
    2,
    "--seeds",
    1,
    "--held-out",
    2,
    "--barrier",
    "spline:knots=2",
]


@pytest.mark.slow
def test_tune_command_and_the_barrier_it_writes(capsys, tmp_path):
    folder = tmp_path / "tuned"
    code, out, _ = run(capsys, "tune", *QUICK, "--tune-learning-rate", "--no-hand-made", "--json", "--out", folder)
    assert code == 0
    summary = json.loads(out)
    promised = {
        "task",
        "heat_kt_per_parameter",
        "test_loss",
        "plain_test_loss",
        "best_hand_made",
        "ratio",
        "seeds",
        "result",
    }
    assert promised <= set(summary) and json.loads((folder / "tune.json").read_text()) == summary
    assert {"barrier.json", "tune.npz", "front.png", "barrier.png", "heat.png", "descent.png"} <= {
        p.name for p in folder.iterdir()
    }
    words = ["--task", "diabetes-regression", "--steps", 20, "--barrier", folder / "barrier.json", "--no-figures"]
    words += ["--learning-rate-factor", folder / "tune.json"]
    code, out, _ = run(capsys, "train", *words, "--json", "--out", tmp_path / "run")
    trained = json.loads(out)
    assert code == 0 and trained["barrier"] == "spline"
    assert trained["learning_rate_factor"] == summary["learning_rate_factor"] != [1.0] * 8


@pytest.mark.slow
def test_pareto_command(capsys, tmp_path):
    folder = tmp_path / "front"
    words = ["--points", 2, "--no-hand-made", "--json", "--out", folder]
    code, out, _ = run(capsys, "pareto", *QUICK, *words)
    assert code == 0
    summary = json.loads(out)
    assert {"points", "hypervolume", "hand_made"} <= set(summary) and len(summary["points"]) == 2
    assert (folder / "front.png").exists() and pathlib.Path(folder / "point-001.json").exists()
    code, _, err = run(capsys, "pareto", *QUICK, "--points", 3, "--no-hand-made", "--out", folder)
    assert code == 2 and "holds another sweep" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tune", "--task", "nothing"], "nothing"),
        (["tune", "--barrier", "nothing"], "Unknown barrier"),
        (["tune", "--max-loss", "little"], "--max-loss must be a number"),
        (["tune", "--per-layer", "--barrier", "static"], "--per-layer"),
        (["tune", "--energy-weight", "-1"], "energy weight"),
        (["pareto", "--energy", "1"], "--energy needs two numbers"),
        (["pareto", "--time", "a"], "--time must be numbers"),
        (["pareto", "--mode", "other"], "mode must be"),
    ],
)
def test_wrong_options_end_in_one_paragraph(capsys, tmp_path, words, said):
    folder = tmp_path / "out"
    code, _, err = run(capsys, *words, "--out", folder)
    assert code == 2 and said in err and err.count("\n") == 1
    assert not folder.exists() or not any(folder.iterdir())
