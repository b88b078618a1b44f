"""A sweep's runs are `limjax.train`'s, side by side."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from unchecked import unchecked_types

import limjax
from limjax.sweeps import Setting, sweep

POINTS = [
    Setting(limjax.StaticBarrier(11.0)),
    Setting(limjax.LyapunovBarrier(12.0), limjax.ArrheniusCell(lsb=2**-8), 2e-3),
    Setting(limjax.StaticBarrier(15.0), learning_rate=5e-4),
]


@pytest.mark.slow
@pytest.mark.optax
def test_runs_are_those_of_train():
    seen = []
    result = sweep(
        "digits-mlp", POINTS, seeds=[3, 5], hops="mean", steps=40, at_once=3, on_progress=lambda *x: seen.append(x)
    )
    assert seen == [(3, 6), (4, 6), (6, 6)]
    for i, j in ((0, 0), (1, 1), (2, 0)):
        point = POINTS[i]
        run = limjax.train(
            "digits-mlp", barrier=point.barrier, cell=point.cell, learning_rate=point.learning_rate, hops="mean",
            steps=40, seed=(3, 5)[j], compare={},
        ).summary  # fmt: skip
        np.testing.assert_allclose(result.test_loss[i, j], run["test_loss"], rtol=1e-4)
        np.testing.assert_allclose(result.heat_kt_per_parameter[i, j], run["heat_kt_per_parameter"], rtol=1e-3)
        np.testing.assert_allclose(result.test_accuracy[i, j], run["test_accuracy"], atol=0.006)


@pytest.mark.slow
def test_a_task_without_data():
    result = sweep("quadratic", [Setting(limjax.StaticBarrier(12.0))], seeds=3, steps=20)
    assert np.isfinite(result.test_loss).all() and np.isnan(result.test_accuracy).all()
    assert len(set(result.heat_kt_per_parameter[0])) == 3


def test_splines_of_different_lengths_follow_one_another():
    points = [Setting(limjax.SplineBarrier(np.full(n, 12.0), 20)) for n in (3, 5, 3)]
    result = sweep("quadratic", points, seeds=np.int64(2), hops="mean", steps=20)
    np.testing.assert_allclose(result.heat_kt_per_parameter, result.heat_kt_per_parameter[0, 0], rtol=1e-4)


@pytest.mark.parametrize("name", ["steps", "batch_size"])
def test_wrong_numbers_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 0"):
        sweep("quadratic", POINTS[:1], **{name: 0})


@pytest.mark.slow
def test_runs_are_spread_over_devices():
    code = (
        "import json, limjax\n"
        "from limjax.sweeps import Setting, sweep\n"
        "points = [Setting(limjax.StaticBarrier(b)) for b in (10.0, 12.0)]\n"
        "result = sweep('quadratic', points, seeds=4, steps=30)\n"
        "print(json.dumps([result.heat_kt_per_parameter.tolist(), result.test_loss.tolist()]))\n"
    )
    found = []
    for devices in (1, 8):
        flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **flags})
        assert run.returncode == 0, run.stderr[-2000:]
        found.append(json.loads(run.stdout))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_barriers_by_name_are_those_of_train():
    result = sweep("quadratic", [Setting("lyapunov:start=11"), Setting("scheduled")], seeds=[3], hops="mean", steps=20)
    for i, name in enumerate(("lyapunov:start=11", "scheduled")):
        run = limjax.train("quadratic", barrier=name, hops="mean", steps=20, seed=3, compare=()).summary
        np.testing.assert_allclose(result.heat_kt_per_parameter[i, 0], run["heat_kt_per_parameter"], rtol=1e-4)
    with pytest.raises(ValueError, match="Unknown barrier 'lyapunof'"):
        sweep("quadratic", [Setting("lyapunof")])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"barrier": 10.0}, "barrier must be a barrier such as .* or its name; got 10.0"),
        ({"barrier": None}, "barrier must be a barrier"),
        ({"barrier": "static", "cell": 300.0}, "cell must be a memory cell"),
        ({"barrier": "static", "learning_rate": "fast"}, "learning_rate must be a positive number"),
    ],
)
def test_wrong_settings_are_refused_when_made(given, said):
    with unchecked_types(), pytest.raises((TypeError, ValueError), match=said):
        Setting(**given)


@pytest.mark.parametrize("seeds", [0, [], [1.5], [-1], [2**32]])
def test_wrong_seeds_are_refused(seeds):
    with unchecked_types(), pytest.raises(ValueError, match="seeds must be a"):
        sweep("quadratic", POINTS[:1], seeds=seeds)


def test_empty_sweeps_are_refused():
    with pytest.raises(ValueError, match="got 0 settings, 4 seeds"):
        sweep("quadratic", [])
    with pytest.raises(ValueError, match="learning_rate must be a positive number, got -1"):
        sweep("quadratic", [Setting(limjax.StaticBarrier(9.0), learning_rate=-1.0)])
