"""The outer loop: objectives, limits, rules for several problems, Ctrl-C."""

import dataclasses
import gc
import json
import weakref
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from curve import BARRIERS, FEW, START
from unchecked import unchecked_types

import limjax
from limjax.barriers import barrier_from_json, barrier_to_json
from limjax.tasks import Task, quadratic
from limjax.training import RunSettings
from limjax.tuning import (
    Objective,
    Outcome,
    Problem,
    Search,
    TuneCode,
    Tuned,
    TuneResult,
    Variables,
    Weights,
    _members,
    _one_problem,
    _several_problems,
    evaluate,
    held_out_seeds,
    plain_validation_loss,
    tune,
    tune_rule,
    tuned_fields,
)
from limjax.tuning._candidates import selected
from limjax.tuning._held_out import MISSING
from limjax.tuning._members import Judgement, Member
from limjax.tuning._outer_steps import Found, _Descent
from limjax.tuning._progress import Progress
from limjax.tuning._result_files import tune_summary, verdict
from limjax.tuning._variables import largest, raised

pytestmark = pytest.mark.optax


# -- tuning ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_tuning_lowers_the_objective(problem):
    """Also on seeds it has not seen."""
    weights = Weights(energy=0.02)
    result = tune(**FEW, problem=problem, weights=weights, outer_steps=25, tune_learning_rate=True)
    assert result.result is TuneCode.completed and len(result.history) == 25

    def objective(e):
        return e.mean_loss + weights.energy * e.energy_kt_per_parameter

    assert objective(result.after) < objective(result.before) - 0.01
    assert result.after.energy_kt_per_parameter < 0.8 * result.before.energy_kt_per_parameter
    assert result.plain.loss.shape == (2,) and result.nearest is None
    # The result says how much came from which.
    assert set(result.shares) == {"barrier", "learning_rate"}
    assert np.any(np.asarray(result.design.log_rate) != 0)


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["forward", "truncated", "evolution"])
def test_other_gradients_also_descend(problem, gradient):
    settings = dict(weights=Weights(energy=0.05), gradient=gradient, outer_steps=8, pairs=2)
    result = tune(**FEW, problem=problem, **settings)
    assert result.result is TuneCode.completed
    assert result.after.energy_kt_per_parameter < 0.9 * result.before.energy_kt_per_parameter


@pytest.mark.slow
def test_budgets_are_kept(problem):
    limit = 1.0
    result = tune(**FEW, problem=problem, max_energy_kt=limit, outer_steps=40)
    assert result.before.energy_kt_per_parameter > 2 * limit
    assert result.result is TuneCode.completed and result.nearest <= 1.005 * limit
    assert result.after.energy_kt_per_parameter < 1.3 * limit


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
    assert all(
        after.energy_kt_per_parameter < 0.7 * before.energy_kt_per_parameter
        for before, after in zip(result.before, result.after)
    )
    first, second = (design.barrier.stretched(1) for design in result.designs)
    assert eqx.tree_equal(first, second)
    assert [float(d.barrier.steps) for d in result.designs] == [36, 18]


@pytest.mark.parametrize(
    "settings, said",
    [
        (dict(seeds=[1, 2, 3]), "2 problems need as many numbers of seeds"),
        (dict(seeds=[1, 1.5]), "2 problems need as many numbers of seeds of at least 1, got"),
        (dict(max_loss=[1.0, "plain"]), "max_loss must be a positive number, got 'plain'"),
        (dict(max_loss=[1.0]), "one loss for each of the 2 problems"),
        (dict(selection=0), "selection must be a whole number from 1 to 500"),
    ],
)
def test_wrong_settings_of_a_rule_are_named(problem, settings, said):
    with unchecked_types(), pytest.raises(ValueError, match=said):
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


@pytest.mark.slow
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


@pytest.mark.parametrize("numbers", [None, ("slopes",), ("output",), ("offset", "hidden")])
def test_some_numbers_are_tuned_from_where_they_stand(problem, numbers):
    barrier = limjax.LearnedBarrier(1.0, [0.0, 1.0, -0.5, 0.0], np.ones((4, 2)), [0.1, 0.2], [0.3, -0.3], steps=36)
    variables = Variables(problem.design(barrier), numbers=numbers)
    back = variables.to_design(variables.start()).barrier
    for name in ("offset", "slopes", "hidden", "hidden_bias", "output"):
        np.testing.assert_allclose(getattr(back, name), getattr(barrier, name), rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("barrier", "name", "wanted"),
    [
        (limjax.StaticBarrier(2.0), "height", 0.0),
        (limjax.SplineBarrier([2.0, 5.0], 36), "knots", [0.0, 1.0]),
        (limjax.LyapunovBarrier(3.0), "start", 0.0),
        (limjax.FowlerNordheimBarrier(10.0, 0.01), "start", 6.0),
        (BARRIERS["learned"](), "offset", -0.5 * np.log(1e6) + 4),  # no height: it is that of ln g
        (limjax.ScheduledBarrier(lambda step: 9.0 + 0.0 * step), "offset", -4.0),
    ],
    ids=lambda x: getattr(x, "name", None),
)
def test_no_height_falls_below_0(problem, barrier, name, wanted):
    lower = raised(problem.design(barrier), -4.0).barrier
    np.testing.assert_allclose(getattr(lower, name), wanted, rtol=1e-6)
    if barrier.name != "scheduled":  # holds a function
        assert eqx.tree_equal(barrier_from_json(barrier_to_json(lower)), lower)


def test_what_a_descent_found_below_0_is_judged_at_0(problem):
    start = problem.design(limjax.StaticBarrier(2.0))
    member = Member(problem, Objective(), Variables(start), Search())
    assert float(member.design({"height": jnp.asarray(-1.7)}).barrier.height) == 0.0
    assert float(member.design({"height": jnp.asarray(2.0)}).barrier.height) == 2.0


def test_plain_training_for_a_limit_is_not_run_again(problem, monkeypatch):
    monkeypatch.setattr(_members, "plain_validation_loss", lambda *arguments: pytest.fail("run again"))
    limit = Objective(max_loss="plain").settled(lambda: 0.3)
    assert Member(problem, limit, Variables(problem.design(START)), Search()).multiplier > 0


@pytest.mark.parametrize("needed", [11.3, 7.6, 99.0])
def test_the_least_shift_that_keeps_a_limit_is_found_without_judging_twice(problem, needed):
    judged = []

    def judge(design):
        judged.append(float(design.barrier.height))
        return Judgement(0.0, needed - judged[-1], judged[-1])

    member = SimpleNamespace(judge=judge, selection=1, objective=Objective(max_loss=1.0))
    with unchecked_types():
        best, _ = selected([member], [(problem.design(limjax.StaticBarrier(10.0)),)], Progress())
    assert len(judged) == len(set(judged)) <= 1 + 6
    if needed < 14:
        assert needed - 0.005 <= float(best.designs[0].barrier.height) <= needed + 8 / 2**6


@pytest.mark.parametrize("steps", [1, 7, 8, 15, 16, 60])
def test_a_descent_has_at_most_eight_parts_which_hold_all_of_it(steps):
    member = SimpleNamespace(
        variables=SimpleNamespace(start=lambda: {"x": np.zeros(steps)}), design=lambda point: point["x"]
    )
    with unchecked_types():
        descent = _Descent([member], Search(outer_steps=steps), Progress(), None)
        for point in np.eye(steps):
            descent.accept({"x": jnp.asarray(point)}, None)
        means = np.stack([candidate[0] for candidate in descent.candidates()[1:]])
    assert len(means) <= min(steps, 8)
    # Every step stands in one mean, and all means but the last are of as many.
    assert ((means > 0).sum(axis=0) == 1).all() and len(set((means > 0).sum(axis=1)[:-1])) <= 1
    np.testing.assert_allclose(means.sum(axis=1), 1.0, rtol=1e-6)


def test_the_largest_of_a_tree_with_nan_is_nan():
    assert np.isnan(largest({"a": np.ones(2), "b": np.array([0.0, np.nan])})) and largest([np.ones(2), -3.0]) == 3.0


def test_a_point_of_a_front_is_evaluated_once(problem, monkeypatch):
    start, evaluated = problem.design(START), []
    monkeypatch.setattr(_one_problem, "descend", lambda *others: Found(TuneCode.completed, (start,), (1.0,), ()))
    monkeypatch.setattr(_one_problem, "evaluate", lambda *others, **named: evaluated.append(named["hops"]) or MISSING)
    for only_after, wanted in ((True, ["exact"]), (False, ["exact", "mean", "exact"])):
        evaluated.clear()
        _one_problem.tuned(problem, start, Objective(), Search(), Progress(), only_after=only_after)
        assert evaluated == wanted
    assert Search().work("nothing")[0] - Search().work("nothing", only_after=True)[0] == 2 * 8


@pytest.mark.parametrize("count", [0, 1, 3, 6])
def test_ctrl_c_keeps_a_rule(problem, monkeypatch, count):
    """Before the first outer step, and while the rule is evaluated."""
    done, made = [], limjax.SplineBarrier([12.0, 12.0], 36)

    def evaluate(*others, **named):
        if len(done) == count - 1:
            raise KeyboardInterrupt
        done.append(named["hops"])
        return MISSING._replace(loss=np.ones(2))

    def plain(*others):
        if count == 0:
            raise KeyboardInterrupt
        return 0.3

    monkeypatch.setattr(_several_problems, "evaluate", evaluate)
    monkeypatch.setattr(_several_problems, "plain_validation_loss", plain)
    found = Found(TuneCode.completed, (problem.design(made),) * 2, (1.0,) * 2, ())
    monkeypatch.setattr(_several_problems, "descend", lambda *others: found)
    result = tune_rule([problem] * 2, START, seeds=np.int64(2))
    assert result.result is TuneCode.interrupted and eqx.tree_equal(result.barrier, START if count == 0 else made)
    assert done == ["exact", "exact", "mean", "mean", "exact", "exact"][: max(count - 1, 0)]
    judged = [not e.is_missing for e in (*result.after, *result.plain, *result.before)]
    assert judged == [k < count - 1 for k in range(6)]
    np.testing.assert_allclose(result.limits, np.nan if count == 0 else 0.3)


def test_objective_multiplier_rises_only_while_the_limit_is_broken():
    objective = Objective(max_loss=0.1)

    def outcome(loss):
        return Outcome(*(jnp.asarray(x) for x in (loss, 1.0, 0.0, 1.0, 0.0, 1.0)))

    assert objective.next_multiplier(0.0, outcome(0.2)) > 0 == objective.next_multiplier(0.0, outcome(0.05))
    # At the limit and with no multiplier the value is the goal itself.
    assert float(objective.value(outcome(0.1), jnp.asarray(0.0))) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.slow
def test_ctrl_c_runs_nothing_more(problem, monkeypatch):
    """Not even while candidates are judged or the result is evaluated: what was found is returned at once."""
    runs, real = [], Problem.run

    def stop_at(count):
        def run(self, *arguments, **options):
            if len(runs) == count:
                raise KeyboardInterrupt
            runs.append(options["part"])
            return real(self, *arguments, **options)

        runs.clear()
        monkeypatch.setattr(Problem, "run", run)
        return tune(**FEW, problem=problem, weights=Weights(energy=0.02), outer_steps=2, gradient="forward")

    before = stop_at(0)
    assert before.result is TuneCode.interrupted and before.after.is_missing and len(before.history) == 2
    choosing = stop_at(1)
    # Only the start was judged.
    assert choosing.result is TuneCode.interrupted and eqx.tree_equal(choosing.barrier, START)
    judging = stop_at(4)
    assert judging.result is TuneCode.interrupted and not judging.after.is_missing and judging.plain.is_missing
    assert runs == ["validation"] * 3 + ["test"] and "Not judged" in verdict(judging)
    assert json.dumps(tune_summary(judging), allow_nan=False)


@pytest.mark.slow
def test_plain_training_is_that_of_a_driver_without_end():
    losses = []
    for most in (None, 10.0):
        problem = Problem(quadratic(), limjax.ArrheniusCell(max_affinity=most), steps=20)
        losses.append(plain_validation_loss(problem, problem.design(limjax.StaticBarrier(49.5)), 2))
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_objects_and_keywords_say_the_same():
    few = dict(outer_steps=1, seeds=1, held_out=1, selection=1, gradient="forward")
    settings = RunSettings.of(quadratic(), steps=6, barrier="static:height=12")
    said = [
        tune(settings, Objective(Weights(energy=0.1)), Search(**few)),
        tune("quadratic", weights=Weights(energy=0.1), steps=6, barrier="static:height=12", **few),
    ]
    assert eqx.tree_equal(said[0].barrier, said[1].barrier)
    assert said[0].after.energy_kt_per_parameter == said[1].after.energy_kt_per_parameter
    for wrong, message in (
        (dict(objective=settings.cell()), "Cell and barrier are passed by name"),
        (dict(search=Search(**few), seeds=2), "Give seeds to Search"),
        (dict(problem=said[0].problem, steps=3), "A problem has its own steps"),
    ):
        with pytest.raises((ValueError, TypeError), match=message if "objective" not in wrong else None):
            tune("quadratic", **wrong)
    with pytest.raises(ValueError, match="Tuning takes no mesh"):
        tune(dataclasses.replace(settings, mesh="data=1"))
    with pytest.raises(TypeError, match="outer_stepz"):
        tune("quadratic", outer_stepz=3)


@pytest.mark.slow
def test_the_programs_of_a_problem_go_with_it():
    """And with them its data, which they hold."""
    problem = Problem(quadratic(), steps=4)
    tune(
        "",
        problem=problem,
        barrier="static:height=12",
        outer_steps=1,
        seeds=1,
        held_out=1,
        selection=1,
        gradient="forward",
    )
    gone = weakref.ref(problem)
    del problem
    gc.collect()
    assert gone() is None


@pytest.mark.slow
def test_a_verdict_says_when_nothing_is_gained(problem):
    e = evaluate(problem, START, held_out_seeds(2))
    design = problem.design(START)
    result = TuneResult(TuneCode.completed, START, design, (), e, e, e, {}, None, problem)
    assert "as good as plain" in verdict(result) and "no better than the design that tuning started from" in verdict(
        result
    )
    result = result._replace(after=e._replace(loss=e.loss + 1.0, heat_kt_per_parameter=0.5 * e.heat_kt_per_parameter))
    assert "WORSE than plain training" in verdict(result) and "kT per parameter; the start took" in verdict(result)
