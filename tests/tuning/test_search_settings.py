"""What a search, a problem and a front refuse, and what they take over from one another. Nothing is trained here."""

import dataclasses

import numpy as np
import pytest
from curve import START
from unchecked import unchecked_types

import limjax
from limjax.tasks import quadratic
from limjax.training import RunSettings
from limjax.tuning import (
    Objective,
    Problem,
    Search,
    Tradeoff,
    TuneCode,
    TuneResult,
    Weights,
    _one_problem,
    _pareto_sweep,
    pareto_front,
    tune,
)
from limjax.tuning._held_out import MISSING
from limjax.tuning._result_files import tune_summary

pytestmark = pytest.mark.optax
SETTINGS = RunSettings.of(quadratic(), steps=4)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"gradient": "revers"}, 'gradient must be "reverse"'),
        ({"hops": "gausian"}, 'hops must be "gaussian", "exact" or "mean"'),
        ({"pairs": 0}, "pairs must be a whole number of at least 1"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"validation": 2}, "validation must be a share from 0 to below 1, got 2"),
        ({"validation": "much"}, "validation must be a share"),
        ({"held_out": []}, "held_out must be a positive number, or a list"),
        ({"held_out": [-5]}, "held_out must be a positive number, or a list"),
        ({"held_out": [1000.5]}, "held_out must be a positive number, or a list"),
        ({"seeds": [0.5]}, "seeds must be a positive number, or a list"),
        ({"outer_steps": 0}, "outer_steps must be a whole number"),
        ({"held_out": [1000, 100_000]}, "must not contain tuning seeds.* Seed 100000 is one"),
        ({"held_out": [6_000_003]}, "Seed 6000003 is one"),
        ({"held_out": [510]}, "Seed 510 is one.* and 500 to 531 for the choice"),
    ],
)
def test_a_search_refuses_when_it_is_made(given, said):
    with unchecked_types(), pytest.raises(ValueError, match=said):
        Search(**given)


@pytest.mark.parametrize("function", [tune, pareto_front])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        *(({name: value}, f"Tuning takes no {name}") for name, value in (
            ("mesh", "data=1"), ("storage", "int8"), ("learning_rate_factor", (1.0, 0.5)), ("stop_at_heat", 5.0),
            ("stop_at_loss", 0.1),
        )),
        ({"mesh": "data=1", "microbatches": 2}, "Tuning takes no mesh"),
        *(({"cell": limjax.ArrheniusCell(), name: value}, f"A cell has its own {name}") for name, value in (
            ("lsb", 0.1), ("temperature", 4.0), ("attempt_rate", 1e6), ("step_time", 1.0), ("bits", 8)
        )),
    ],
)  # fmt: skip
def test_keywords_that_tuning_would_not_follow_are_refused(function, given, said):
    """As keywords beside a task, and as fields of settings."""
    with pytest.raises(ValueError, match=said):
        function("quadratic", **given)
    fields = {name: value for name, value in given.items() if name != "cell"}
    if "cell" in given and "bits" not in given:
        return  # settings always have these, and a cell stands in their place
    with pytest.raises(ValueError, match=said):
        function(dataclasses.replace(SETTINGS, **fields), cell=given.get("cell"))


@pytest.mark.parametrize("function", [tune, pareto_front])
def test_hops_and_seed_of_settings_belong_to_the_search(function):
    for fields, said in (({"hops": "mean"}, "judged with exact hops"), ({"seed": 3}, "Tuning has many seeds")):
        with pytest.raises(ValueError, match=said):
            function(dataclasses.replace(SETTINGS, **fields))


@pytest.mark.parametrize("function", [tune, pareto_front])
@pytest.mark.parametrize("task", ["quadratic", SETTINGS], ids=["task", "settings"])
def test_unknown_keywords_are_named_with_the_nearest(function, task):
    with pytest.raises(TypeError, match=f"{function.__name__} takes no 'outer_step'[.] Did you mean 'outer_steps'"):
        function(task, outer_step=3)
    with pytest.raises(TypeError, match=r"takes no 'qqqq'[.] It takes task, "):
        function(task, qqqq=3)


def test_held_out_seeds_beside_those_of_tuning_are_taken():
    for given in ([100_004], [6_100_000], [532]):  # 4 seeds, 60 steps, 32 for the choice
        assert Search(held_out=given).test_seeds.tolist() == given
    assert Search(held_out=[100_000], resample=False).test_seeds.tolist() == [100_000]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"energy": 0.1}, "energy must be a list of positive numbers, at least one of them; got 0.1"),
        ({"energy": []}, "energy must be a list of positive numbers"),
        ({"time": 0.1}, "time must be a list of positive numbers, or .* got 0.1"),
    ],
)
def test_a_tradeoff_refuses_what_is_no_list(given, said):
    with unchecked_types(), pytest.raises(ValueError, match=said):
        Tradeoff(**given)


def test_what_is_said_twice_to_tune_is_refused():
    problem = Problem(quadratic(), steps=4)
    with pytest.raises(ValueError, match=r"A problem has its own validation = 0[.]2, got 0[.]5"):
        tune("", problem=problem, barrier="static", validation=0.5)
    with pytest.raises(ValueError, match="not both"):
        tune("", problem=problem, barrier="static", start=problem.design(START))


class _Stopped(Exception):
    pass


@pytest.fixture
def searched(monkeypatch):
    """A function that returns the search with which a call begins its descent."""

    def stop(problem, start, objective, search, *others, **named):
        raise _Stopped(search)

    for module in (_one_problem, _pareto_sweep):
        monkeypatch.setattr(module, "tuned", stop)
    monkeypatch.setattr(_pareto_sweep, "evaluate", lambda *arguments, **named: MISSING)

    def call(function, *given, **shorthand):
        with pytest.raises(_Stopped) as stopped:
            function(SETTINGS, *given, **shorthand)
        return stopped.value.args[0]

    return call


def test_time_that_has_a_weight_is_tuned(searched):
    few = Search(seeds=1, held_out=1)
    for given in ((few,), (None,)):
        assert searched(pareto_front, Tradeoff(energy=[1e-3], time=[0.1]), *given).tune_step_time
        assert not searched(pareto_front, Tradeoff(energy=[1e-3]), *given).tune_step_time
        assert searched(tune, Objective(Weights(time=0.1)), *given).tune_step_time
        assert not searched(tune, Objective(), *given).tune_step_time
    assert searched(pareto_front, Tradeoff(energy=[1e-3]), dataclasses.replace(few, tune_step_time=True)).tune_step_time


def test_outer_steps_are_the_same_with_and_without_a_search(searched):
    for function, usual in ((tune, 60), (pareto_front, 30)):
        for given in ({}, {"seeds": 1}, {"search": Search(seeds=1)}):
            assert searched(function, **given).steps == usual
        for given in ({"outer_steps": 7}, {"search": Search(outer_steps=7)}):
            assert searched(function, **given).steps == 7


def test_a_result_without_plain_training_is_not_compared(problem):
    done = MISSING._replace(
        **dict.fromkeys(("loss", "heat_kt_per_parameter", "actuation_kt_per_parameter", "path_levels"), np.ones(2)),
        seconds=1.0,
    )
    for after, plain, said in ((done, done, True), (done, MISSING, None), (MISSING, done, None)):
        result = TuneResult(
            TuneCode.interrupted, START, problem.design(START), (), done, after, plain, {}, None, problem
        )
        assert tune_summary(result)["is_no_worse_than_plain"] is said
