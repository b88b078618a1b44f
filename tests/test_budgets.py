"""Runs that end where a budget is spent, a loss is reached or a callback says so, and go on from there."""

import json
import math

import numpy as np
import pytest
from command_line import run

import limjax

WORDS = {"hops": "mean", "steps": 50, "compare": ()}  # a row of history after every step


@pytest.fixture(scope="module")
def whole():
    return limjax.train("quadratic", **WORDS)


def cost(row):
    return row.heat_kt_per_parameter + row.actuation_kt_per_parameter


def test_a_budget_ends_the_run_after_the_step_that_spends_it(whole, tmp_path):
    budget = 0.5 * (cost(whole.history[19]) + cost(whole.history[20]))
    options = {**WORDS, "checkpoints": str(tmp_path)}
    first = limjax.train("quadratic", stop_at_heat=budget, on_progress=lambda row, _: row.step == 7, **options)
    assert str(first.result) == "stopped" and first.summary["steps"] == 7
    second = limjax.train("quadratic", stop_at_heat=budget, resume=True, **options)
    assert str(second.result) == "spent" and second.summary["steps"] == 21
    assert cost(second.history[-1]) >= budget > cost(second.history[-2])
    assert limjax.total(second.ledger, "heat") == pytest.approx(
        whole.history[20].heat_kt_per_parameter * whole.summary["parameters"], rel=1e-6
    )
    # With the same budget there is nothing left; without one the run goes to its end.
    third = limjax.train("quadratic", stop_at_heat=budget, resume=True, **options)
    assert str(third.result) == "spent" and third.summary["steps"] == 21
    last = limjax.train("quadratic", stop_at_heat=math.inf, resume=True, **options)
    assert str(last.result) == "completed" and last.summary["heat_kt"] == whole.summary["heat_kt"]
    assert [row.step for row in last.history] == [row.step for row in whole.history]


def test_layers_are_recorded_at_the_rows_of_the_history(whole):
    layers = whole.layers
    assert layers.step.tolist() == [row.step for row in whole.history]
    per_parameter = layers.column("heat").sum(1) / whole.summary["parameters"]
    np.testing.assert_allclose(per_parameter, [row.heat_kt_per_parameter for row in whole.history], rtol=1e-6)


def test_a_loss_ends_the_run(whole):
    target = whole.history[9].loss
    before = [row.loss for row in whole.history[:9]]
    assert min(before) > target
    result = limjax.train("quadratic", stop_at_loss=target, **WORDS)
    assert str(result.result) == "reached" and result.summary["steps"] == 10


def test_only_true_stops():
    result = limjax.train("quadratic", on_progress=lambda row, left: "stop", **WORDS)
    assert str(result.result) == "completed"


@pytest.mark.parametrize("name", ["stop_at_heat", "stop_at_loss"])
def test_wrong_budgets_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be a .*number.* got -1"):
        limjax.train("quadratic", **{name: -1.0}, **WORDS)


@pytest.mark.slow
def test_on_the_command_line(capsys, tmp_path):
    words = [
        "train",
        "--task",
        "quadratic",
        "--hops",
        "mean",
        "--steps",
        50,
        "--json",
        "--no-figures",
        "--out",
        tmp_path / "run",
    ]
    code, out, _ = run(capsys, *words, "--budget-kt", 0.01)
    first = json.loads(out)
    assert code == 0 and first["result"] == "spent" and first["steps"] < 50 and first["stop_at_heat"] == 0.01
    # Resumed without the option the budget is that of the run.
    resume = ["train", "--resume", "--json", "--no-figures", "--out", tmp_path / "run"]
    assert json.loads(run(capsys, *resume)[1])["steps"] == first["steps"]
    # One that was raised is raised for good.
    raised = json.loads(run(capsys, *resume, "--budget-kt", 0.02)[1])
    kept = json.loads((tmp_path / "run" / "config.json").read_text())
    assert raised["steps"] > first["steps"] and kept["stop_at_heat"] == raised["stop_at_heat"] == 0.02
    assert json.loads(run(capsys, *resume)[1])["steps"] == raised["steps"]
    code, out, _ = run(capsys, *resume, "--budget-kt", "inf")
    assert code == 0 and json.loads(out)["result"] == "completed"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["stop_at_heat"] is None
