"""The plain run is the loop that anybody would write, and the verdict claims nothing for a run that failed."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from command_line import run

import limjax
from limjax.tasks import get_task
from limjax.training import RunSettings, beside_plain, plain_run, prepare
from limjax.training._verdict import verdict

pytestmark = pytest.mark.optax

GOOD = {
    "result": "completed", "steps": 100, "parameters": 10, "initial_loss": 2.0, "train_loss": 0.2, "test_loss": 0.3,
    "test_accuracy": 0.95, "heat_kt": 50.0, "actuation_kt": 10.0, "compared_with": "gated", "ratio": 4.85, "net_levels": 5.0,
    "hops_mean": 100.0, "plain_train_loss": 0.1, "plain_test_loss": 0.25, "plain_test_accuracy": 0.96,
}  # fmt: skip


@pytest.mark.slow
def test_the_plain_run_is_a_loop_without_a_memory():
    task = get_task("diabetes-regression")
    prepared = prepare(RunSettings.of(task, steps=7, batch_size=16, seed=3), task)
    found = plain_run(prepared, 7)
    keys = jax.random.split(jax.random.key(3), 3)
    params = task.init(keys[0])
    opt = task.defaults.make_optimizer(task.defaults.make_schedule(task.defaults.learning_rate, 7))
    state, gradient = opt.init(params), jax.jit(jax.grad(task.loss))
    for i in range(7):
        count = len(jax.tree.leaves(task.train)[0])
        index = jax.random.randint(jax.random.fold_in(keys[1], i), (16,), 0, count)
        updates, state = opt.update(
            gradient(params, jax.tree.map(lambda x, at=index: x[at], task.train)), state, params
        )
        params = optax.apply_updates(params, updates)
    assert found.test_loss == pytest.approx(float(task.loss(params, jax.tree.map(jnp.asarray, task.test))), rel=1e-5)
    assert np.isnan(found.test_accuracy) and plain_run(prepared, 7, lambda: True) is None


def test_a_good_run_is_told_with_its_price():
    said = verdict(GOOD, 0)
    assert "Test accuracy 0.9500, 1.00 points below a plain run of the same seed (0.9600)" in said
    assert (
        "6 kT per parameter" in said
        and "(gated) would have taken 4.85 times as much" in said
        and "95 % of the hops" in said
    )
    assert "0.50 points above" in verdict(GOOD | {"test_accuracy": 0.965}, 0)
    assert "Test loss 0.3; a plain run of the same seed: 0.25" in verdict(GOOD | {"test_accuracy": None}, 0)
    assert "`--plain`" in verdict({k: v for k, v in GOOD.items() if not k.startswith("plain")}, 0)


@pytest.mark.parametrize(
    ("changed", "warnings", "said"),
    [
        ({}, 1, "A warning stands, so no saving is claimed"),
        ({"train_loss": 1.5}, 0, "It did not learn: its training loss went from 2 to 1.5"),
        ({"train_loss": float("nan")}, 0, "It did not learn"),
        ({"train_loss": None}, 0, "its training loss went from 2 to no finite number"),
        ({"train_loss": 1.9, "plain_train_loss": None}, 0, "It did not learn"),
        ({"result": "interrupted"}, 0, "did not come to its end"),
        ({"result": "nonfinite"}, 0, "did not come to its end"),
        ({"steps": 0}, 0, "ended before its first step"),
        ({"hops": "mean"}, 0, "Hop noise was left out"),
    ],
)
def test_no_ratio_for_what_failed(changed, warnings, said):
    text = verdict(GOOD | changed, warnings)
    assert said in text and "times as much" not in text and "4.85" not in text


@pytest.mark.slow
def test_a_run_on_noise_is_told_as_such(capsys, tmp_path):
    words = [
        "train",
        "--task",
        "diabetes-regression",
        "--steps",
        30,
        "--barrier",
        "static:height=1",
        "--no-figures",
        "--plain",
    ]
    code, out, _ = run(capsys, *words, "--json", "--out", tmp_path / "run")
    summary = json.loads(out)
    assert code == 0 and summary["verdict"].startswith("It did not learn") and summary["plain_train_loss"] < 2
    result = limjax.train("diabetes-regression", steps=2, hops="mean", compare=())
    prepared = prepare(RunSettings.of(get_task("diabetes-regression"), steps=2, hops="mean"))
    assert beside_plain(result, plain_run(prepared, 2)).summary["plain_test_accuracy"] is None
