"""The outer loop: objectives, limits, rules for several problems, Ctrl-C."""

import dataclasses
import gc
import json
import weakref

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from curve import FEW, START

import limjax
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
    Weights,
    evaluate,
    held_out_seeds,
    plain_validation_loss,
    tune,
    tune_rule,
    tuned_fields,
)
from limjax.tuning._result_files import tune_summary, verdict

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
        (dict(max_loss=[1.0]), "one loss for each of the 2 problems"),
        (dict(selection=0), "selection must be a whole number from 1 to 500"),
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


def test_a_verdict_says_when_nothing_is_gained(problem):
    e = evaluate(problem, START, held_out_seeds(2))
    design = problem.design(START)
    result = TuneResult(TuneCode.completed, START, design, (), e, e, e, {}, None, problem)
    assert "as good as plain" in verdict(result) and "no better than the design that tuning started from" in verdict(
        result
    )
    result = result._replace(after=e._replace(loss=e.loss + 1.0, heat_kt_per_parameter=0.5 * e.heat_kt_per_parameter))
    assert "WORSE than plain training" in verdict(result) and "kT per parameter; the start took" in verdict(result)
