"""The benchmarks run, and what they say about memory holds."""

import gc
import json
import math
import resource

import jax
import pytest

from limjax.benchmarks import (
    compiled_step,
    measure_activities,
    measure_memory,
    measure_samplers,
    measure_steps,
    measure_training,
    median_ratio,
    step_modes,
)
from limjax.benchmarks._memory import expected_bytes
from limjax.cli import main

pytestmark = pytest.mark.optax


@pytest.mark.slow
def test_memory_is_what_the_design_says():
    rows = measure_memory(200_000)
    assert [row["mode"] for row in rows] == list(step_modes())
    for row in rows:
        # A few numbers per leaf, the cell and the key on top.
        assert abs(row["allocated"] - row["expected"]) < 0.005, row
        # Everything but the start, which stays as it is, is updated in place; and that too is not copied.
        assert row["aliased"] >= row["expected"] - 4.01, row
        assert row["traffic"] >= row["least_traffic"] - 0.01, row
        assert row["kernels"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ledger, compensated", "exact"])
@pytest.mark.parametrize("steps", [1500, pytest.param(100_000, marks=pytest.mark.slow)])
def test_steps_leave_nothing_behind(mode, steps):
    compiled, arguments = compiled_step(mode, 1000)
    params, state, gradient, loss = arguments()
    counts, resident = [], []
    for _ in range(3):
        for _ in range(steps // 3):
            params, state = compiled(params, state, gradient, loss)
        jax.block_until_ready(params)
        gc.collect()
        counts.append((len(jax.live_arrays()), sum(x.nbytes for x in jax.live_arrays())))
        resident.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert counts[0] == counts[1] == counts[2]
    # 1 byte kept per step and parameter would be 33 MB in the long run; ru_maxrss is in KiB on Linux.
    assert resident[2] - resident[1] < 10_000


def test_expected_bytes_of_the_cheapest_ledger():
    assert expected_bytes("ledger per leaf") == expected_bytes("Adam") == 12
    assert expected_bytes("ledger of heat") == 12 + 4 + 4


@pytest.mark.slow
def test_times_are_measured():
    steps = measure_steps([1000, 2000], rounds=2, modes=("Adam", "exact"))
    assert [(r["parameters"], r["mode"]) for r in steps[:3]] == [
        (1000, "Adam"),
        (1000, "exact"),
        (1000, "one array read and written (x + 1)"),
    ]
    assert all(r["seconds"] > 0 for r in steps)
    assert all(r["ratio"] == 1 for r in steps if r["mode"] == "Adam")
    assert all(r["ratio"] > 0 for r in measure_samplers(1000, rounds=1))


@pytest.mark.slow
def test_training_steps_are_measured():
    training = measure_training(rounds=1, steps=2)
    assert training[0]["variant"] == "bare optimizer" and training[0]["ratio"] == 1


@pytest.mark.slow
def test_hops_of_a_step_are_those_of_its_barrier_and_request(monkeypatch):
    monkeypatch.setattr("limjax.benchmarks._steps._ACTIVITIES", ((12.0, 1.0), (30.0, 0.1)))
    rows = measure_activities(1000, rounds=1)
    assert [r["mode"] for r in rows] == ["exact", "exact, ledger compensated"] * 2
    for r in rows:
        expected = math.hypot(r["request_levels"], 2 * 1e6 * math.exp(-r["barrier_kt"]))
        assert r["hops_per_parameter"] == pytest.approx(expected, rel=0.01)


def test_median_of_ratios_and_not_ratio_of_medians():
    assert median_ratio([2.0, 20.0, 6.0], [1.0, 10.0, 1.0]) == 2.0


@pytest.mark.slow
def test_the_command_writes_json(tmp_path, capsys):
    path = tmp_path / "bench.json"
    with pytest.raises(SystemExit) as end:
        main(["bench", "--only", "memory,steps", "--sizes", "1e3", "--rounds", "1", "--json", "--out", str(path)])
    assert end.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(path.read_text())
    assert {"device", "cpu_cores", "versions", "memory", "steps"} <= set(printed)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--only", "speed"], "parts of steps, activities, samplers, training, memory, startup, got 'speed'"),
        (["--sizes", "many"], "numbers with commas, for example 1e4,1e6; got 'many'"),
        (["--sizes", "1e12"], "from 1 to"),
        (["--rounds", "0"], "at least 1, got 0"),
        (["--task", "quadratic"], "a task with training data, got 'quadratic'"),
        (["--out", "/nowhere/bench.json"], "does not exist"),
    ],
)
def test_wrong_options_are_refused(words, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(["bench", *words])
    assert end.value.code == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
