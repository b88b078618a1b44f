"""Every example runs as a user would run it, with few steps, and says what it should."""

import json
import math
import pathlib
import re
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


def run(name, *arguments):
    command = [sys.executable, EXAMPLES / name, *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_quickstart():
    out = run("quickstart.py", "--steps", 40)
    assert "Heat ledger after 40 steps" in out
    assert re.search(r"a tenth of the weights dissipated \d+ % of the heat", out)
    assert "kT per parameter" in out


@pytest.mark.parametrize("name", ["own_training_loop.py", "own_model_flax.py"])
def test_own_loops(name):
    out = run(name, "--steps", 20)
    assert "Heat ledger after 20 steps" in out
    assert "loss" in out


def test_gradient_tilt_keeps_its_two_laws():
    out = run("gradient_tilt.py", "--steps", 1500)
    # Second order in the learning rate 4.7e-3: the discrete path dissipates about half of that more.
    ratio = float(re.search(r"ratio ([\d.]+)", out)[1])
    assert ratio == pytest.approx(1 + 4.7e-3 / 2, abs=2e-4)
    # 4.9 standard deviations: a false alarm in a million seeds. The discrete step adds 0.2 % to the mean of 10.
    loss = float(re.search(r"exact hops: loss \S+ -> ([\d.]+)", out)[1])
    expected, spread = map(float, re.search(r"gives ([\d.]+) \+- ([\d.]+)", out).groups())
    assert abs(loss - 1.002 * expected) < 4.9 * spread


def test_digits_table_writes_its_page(tmp_path):
    run("digits_table.py", "--steps", 3, "--seeds", 2, "--barriers", "", "--out", tmp_path)
    page = (tmp_path / "docs/results/digits.md").read_text()
    assert "| plain Adam, static |" in page
    assert "3 Adam steps, 2 seeds" in page
    content = json.loads((tmp_path / "benchmarks/results/digits.json").read_text())
    plain, default = content["runs"]
    assert [row["seed"] for row in plain["seeds"]] == [0, 1]
    assert all(row["ratio"] == pytest.approx(1.0, rel=1e-6) for row in plain["seeds"])
    assert default["options"]["hops"] == "exact"


@pytest.mark.slow
def test_simulation_table_writes_its_page(tmp_path):
    run("simulation_table.py", "--quick", "--out", tmp_path)
    page = (tmp_path / "docs/results/simulation.md").read_text()
    assert "Schmiedl & Seifert" in page and "near equilibrium" in page
    content = json.loads((tmp_path / "benchmarks/results/simulation.json").read_text())
    worst = max(abs(row["value"] / row["expected"] - 1) for row in content["closed_forms"][:5])
    assert worst < 1e-3
    assert (tmp_path / "docs/figures/simulate_ledger.png").exists()


@pytest.mark.slow
def test_tuned_table_writes_its_page_and_adds_to_it(tmp_path):
    small = ("--tasks", "diabetes-regression", "--steps", 12, "--outer-steps", 2, "--seeds", 1, "--held-out", 2)
    small = (*small, "--selection", 2, "--limit", 1.5, "--quick", "--out", tmp_path)
    run("tuned_table.py", *small, "--kinds", "spline")
    first = json.loads((tmp_path / "benchmarks/results/tuning.json").read_text())["tasks"]["diabetes-regression"]
    run("tuned_table.py", *small, "--add", "--kinds", "spline and learning rate")
    second = json.loads((tmp_path / "benchmarks/results/tuning.json").read_text())["tasks"]["diabetes-regression"]
    assert set(first["tuned"]) == {"spline"} and set(second["tuned"]) == {"spline", "spline and learning rate"}
    assert second["hand_made"] == first["hand_made"] and len(first["hand_made"]) == 2
    page = (tmp_path / "docs/results/tuning.md").read_text()
    assert "| spline and learning rate: only the barrier |" in page


def test_time_front_shows_both_laws(tmp_path):
    run("time_front.py", "--steps", 20, "--held-out", 1, "--points", 9, "--out", tmp_path)
    content = json.loads((tmp_path / "benchmarks/results/time_front.json").read_text())
    heat = [row["heat_kt"] for row in content["rows"]]
    time = [row["seconds"] for row in content["rows"]]
    # At the fast end each factor e of speed costs 2 kT per level of path, at the slow end nothing.
    wall = (heat[-1] - heat[-2]) / math.log(time[-2] / time[-1]) / (2 * content["rows"][-1]["path_levels"])
    assert wall == pytest.approx(1, abs=0.02)
    assert heat[0] < 0.01 * heat[-1]
    assert (tmp_path / "docs/figures/time_front.png").stat().st_size > 10_000


def test_several_devices():
    out = run("several_devices.py", "--steps", 5)
    assert "one large array lies as PartitionSpec('model',)" in out.replace("P('model',)", "PartitionSpec('model',)")
    assert "Heat ledger after 5 steps" in out
