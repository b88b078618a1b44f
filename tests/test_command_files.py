"""Files of `tune`, `pareto`, `simulate`, `limits --figures` and `bench`: refused before the work, or the numbers are kept."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from command_line import run

from limjax import runs
from limjax._files import sole_use
from limjax.tuning import _result_files as result_files

pytestmark = pytest.mark.optax

QUICK = ["--task", "quadratic", "--steps", "8", "--outer-steps", "1", "--seeds", "1", "--held-out", "2"]
TUNE = ["tune", *QUICK, "--no-hand-made", "--no-figures"]
PARETO = ["pareto", *QUICK, "--points", "1", "--no-hand-made", "--no-figures"]
SIMULATE = ["simulate", "trap", "--trajectories", "100", "--steps", "20", "--no-figures"]
LIMITS = ["limits", "--parameters", "1e9"]
BENCH = ["bench", "--only", "memory", "--rounds", "1"]
# What each command works with, where it is looked up, and the option that names its place.
WORK = [
    pytest.param(TUNE, "limjax.cli.tune", "tune_design", "--out", id="tune"),
    pytest.param(PARETO, "limjax.cli.pareto", "pareto_front", "--out", id="pareto"),
    pytest.param(SIMULATE, "limjax.cli.simulate", "simulate_system", "--out", id="simulate"),
]
PLACES = [
    *WORK,
    pytest.param(LIMITS, "limjax.limits", "energy_limits", "--figures", id="limits"),
    pytest.param(BENCH, "limjax.cli.bench", "measure_memory", "--out", id="bench"),
]


def one_line(found, code):
    """The one line on stderr of a command that ended with this code."""
    assert found[0] == code and found[2].count("\n") == 1 and "Traceback" not in found[2], found
    return found[2]


def full(*_, **__):
    raise OSError(28, "No space left on device")


# Refused before the work


@pytest.fixture
def no_work(monkeypatch, request):
    _, where, name, _ = request.node.callspec.params.values() if hasattr(request.node, "callspec") else [None] * 4

    def work(*_, **__):
        raise AssertionError("the work was begun")

    monkeypatch.setattr(f"{where}.{name}", work)


@pytest.mark.parametrize(("command", "where", "name", "option"), PLACES)
def test_a_place_that_cannot_be_written_to(capsys, tmp_path, monkeypatch, no_work, command, where, name, option):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    for place in (
        "gs://bucket/x",
        "file:///tmp/x",
        "/dev/full",
        tmp_path / "file",
        tmp_path / "file" / "x",
        "/proc/x/y",
    ):
        assert str(place) in one_line(run(capsys, *command, option, place), 2)
    monkeypatch.setattr(runs, "write_whole", full)
    place = tmp_path / "new" if option == "--out" else tmp_path / "new" / "deep"
    assert "No space left on device" in one_line(run(capsys, *command, option, place), 2)
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(("command", "where", "name", "option"), WORK)
def test_a_folder_in_use(capsys, tmp_path, no_work, command, where, name, option):
    """Refused, and it is there afterwards: the process that has it may not have written to it yet."""
    with sole_use(tmp_path):
        assert "Another limjax process is using" in one_line(run(capsys, *command, option, tmp_path), 2)
    assert tmp_path.is_dir()
    (tmp_path / "notes.txt").write_text("mine")
    assert (
        "holds other files" in (err := one_line(run(capsys, *command, option, tmp_path), 2)) and "--resume" not in err
    )


@pytest.mark.parametrize(("command", "where", "name", "option"), WORK)
def test_two_jobs_on_one_folder(capsys, tmp_path, monkeypatch, command, where, name, option):
    """The second is refused while the first works, and the first still has its folder."""
    folder, said = tmp_path / "out", []

    def work(*_, **__):
        said.append(one_line(run(capsys, *command, option, folder), 2))
        assert folder.is_dir()
        raise ValueError("that is enough")

    monkeypatch.setattr(f"{where}.{name}", work)
    assert "that is enough" in one_line(run(capsys, *command, option, folder), 2)
    assert len(said) == 1 and "Another limjax process is using" in said[0]
    assert not folder.exists()


@pytest.mark.slow
def test_a_folder_is_held_until_everything_is_written(capsys, tmp_path, monkeypatch):
    folder, saved = tmp_path / "out", result_files.save_tune

    def save(*arguments):
        with pytest.raises(ValueError, match="Another limjax process"), sole_use(folder):
            pass
        return saved(*arguments)

    monkeypatch.setattr("limjax.cli.tune.save_tune", save)
    assert run(capsys, *TUNE, "--out", folder)[0] == 0
    assert {path.name for path in folder.iterdir()} == {"tune.json", "barrier.json", "tune.npz"}


def test_a_folder_that_was_taken_away(tmp_path, monkeypatch):
    folder, opened = tmp_path / "out", os.open
    folder.mkdir()

    def late(path, flags):
        handle = opened(path, flags)
        folder.rmdir()
        return handle

    monkeypatch.setattr(os, "open", late)
    with pytest.raises(ValueError, match="has just removed it"), sole_use(folder):
        pass


def test_a_sweep_that_goes_on_is_held(capsys, tmp_path, monkeypatch):
    (tmp_path / "sweep.json").write_text("{}")
    with sole_use(tmp_path):
        assert "Another limjax process is using" in one_line(run(capsys, *PARETO, "--out", tmp_path), 2)
    assert (tmp_path / "sweep.json").read_text() == "{}"


# A failure at the end


@pytest.mark.slow
def test_tune_prints_what_it_cannot_save(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("limjax.tuning._result_files.write_json", full)
    found = run(capsys, *TUNE, "--out", tmp_path / "out")
    assert "tune.json, barrier.json, tune.npz could not be written: No space left on device" in one_line(found, 1)
    numbers = dict(
        line.split(": ", 1) for line in found[1].splitlines() if line.startswith(("tune.json:", "barrier.json:"))
    )
    assert json.loads(numbers["tune.json"])["task"] == "quadratic"
    (tmp_path / "barrier.json").write_text(numbers["barrier.json"])
    words = ["train", "--task", "quadratic", "--steps", "4", "--no-figures", "--out", tmp_path / "run"]
    assert run(capsys, *words, "--barrier", tmp_path / "barrier.json")[0] == 0


@pytest.mark.slow
def test_tune_keeps_what_it_could_save(capsys, tmp_path, monkeypatch):
    def half(path, **_):
        path.write_bytes(b"PK")
        full()

    monkeypatch.setattr(np, "savez_compressed", half)
    found = run(capsys, *TUNE, "--json", "--out", tmp_path / "out")
    assert "there is barrier.json, tune.json." in found[2].splitlines()[-1] and found[0] == 1
    assert json.loads(found[1]) == json.loads((tmp_path / "out" / "tune.json").read_text())
    assert not (tmp_path / "out" / "tune.npz").exists()


@pytest.mark.slow
def test_an_interrupted_comparison_does_not_take_the_barrier_with_it(capsys, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("limjax.cli.tune.evaluate_hand_made", stopped)
    words = [word for word in TUNE if word != "--no-hand-made"]
    code, out, _ = run(capsys, *words, "--out", tmp_path / "out")
    assert code == 130 and "saved without that comparison" in out and (tmp_path / "out" / "barrier.json").exists()


def test_ctrl_c_before_the_first_step_saves_where_tuning_starts(capsys, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("limjax.tuning._one_problem.Member", stopped)
    words = [word for word in TUNE if word not in ("--no-hand-made", "--no-figures")]
    code, out, _ = run(capsys, *words, "--json", "--out", tmp_path / "out")
    summary = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert code == 130 and summary["result"] == "interrupted" and summary["test_loss"] is None
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"tune.json", "barrier.json", "tune.npz"}


@pytest.mark.slow
def test_pareto_keeps_its_points_and_goes_on(capsys, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("limjax.tuning._result_files.write_json", full)
        found = run(capsys, *PARETO, "--out", folder)
        err = found[2].splitlines()[-1]
        assert found[0] == 1 and "No space left on device" in err and "point-000.json, sweep.json" in err
        printed = next(line for line in found[1].splitlines() if line.startswith("pareto.json: "))
    assert run(capsys, *PARETO, "--out", folder)[0] == 0
    assert json.loads(printed.split(": ", 1)[1])["points"] == json.loads((folder / "pareto.json").read_text())["points"]
    for other in (
        ["--outer-rate", "0.1"], ["--tune-learning-rate"], ["--barrier", "static:height=12"], ["--step-time", "1e-6"],
        ["--barrier", "spline:start=9.5,knots=16"],
        ["--learning-rate", "0.5"], ["--mode", "budget"], ["--energy", "1e-3,1e-2"], ["--batch-size", "2"],
    ):  # fmt: skip
        err = one_line(run(capsys, *PARETO, *other, "--out", folder), 2)
        named = {"--energy": "points", "--barrier": "barrier"}.get(other[0], other[0][2:].replace("-", "_"))
        assert "holds another sweep" in err and named in err, err


@pytest.mark.slow
def test_simulate_on_a_device_that_gets_full(tmp_path):
    """A limit on the size of files that the numbers stay under and the arrays do not."""
    words = ["simulate", "trap", "--trajectories", "3000", "--steps", "20", "--no-figures", "--out", tmp_path / "out"]
    command = ["sh", "-c", 'ulimit -f 16; exec "$@"', "sh", sys.executable, "-m", "limjax", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    err = one_line((done.returncode, done.stdout, done.stderr), 1)
    assert "trajectories.npz could not be written: File too large" in err and "there is simulation.json." in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["simulation.json"] and "work / kT" in done.stdout


def test_simulate_prints_what_it_cannot_save(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("limjax.cli.simulate.write_json", full)
    found = run(capsys, *SIMULATE, "--out", tmp_path / "out")
    assert "simulation.json could not be written" in one_line(found, 1)
    printed = next(line for line in found[1].splitlines() if line.startswith("simulation.json: "))
    assert json.loads(printed.split(": ", 1)[1])["trajectories"] == 100
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["trajectories.npz"]


@pytest.mark.slow
@pytest.mark.parametrize("json_output", [True, False])
def test_limits_prints_its_numbers_before_figures_that_fail(capsys, tmp_path, monkeypatch, json_output):
    monkeypatch.setattr("limjax.limits.figures.figure_data", full)
    found = run(capsys, *LIMITS, *["--json"] * json_output, "--figures", tmp_path / "figures")
    assert "the figures could not be drawn: No space left on device; the numbers are printed" in one_line(found, 1)
    assert not json_output or json.loads(found[1])


def test_bench_prints_what_it_cannot_save(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("limjax.cli.bench.measure_memory", list)
    path = tmp_path / "bench.json"
    assert run(capsys, *BENCH, "--out", path)[0] == 0
    before = path.read_text()
    assert run(capsys, *BENCH, "--out", path)[0] == 0  # an earlier benchmark is replaced, and nothing else
    with monkeypatch.context() as patch:
        patch.setattr("limjax.cli.bench.write_text", full)
        found = run(capsys, *BENCH, "--out", path)
    assert "No space left on device; the numbers were printed" in one_line(found, 1)
    assert json.loads(found[1][found[1].index("\n{") :])["memory"] == [] and path.read_text() == before
    path.write_text('{"mine": 1}')
    assert "holds something else than a benchmark" in one_line(run(capsys, *BENCH, "--out", path), 2)
    path.unlink()
    (tmp_path / "mine").write_text(before)
    path.symlink_to(tmp_path / "mine")
    assert "cannot be written to" in one_line(run(capsys, *BENCH, "--out", path), 2)


# Stdout that goes away


@pytest.mark.representatives(1)
@pytest.mark.parametrize(
    ("words", "files", "is_full"),
    [
        pytest.param(["cell"], [], False, id="cell", marks=pytest.mark.slow),
        pytest.param(["cell", "--json"], [], True, id="cell as JSON"),
        pytest.param(["--help"], [], True, id="help"),
        pytest.param(LIMITS, [], False, id="limits", marks=pytest.mark.slow),
        pytest.param(SIMULATE, ["simulation.json", "trajectories.npz"], False, id="simulate", marks=pytest.mark.slow),
        pytest.param(TUNE, ["tune.json", "barrier.json", "tune.npz"], True, id="tune"),
        pytest.param(PARETO, ["pareto.json", "pareto.npz"], False, id="pareto", marks=pytest.mark.slow),
    ],
)
def test_stdout_that_cannot_be_written_to(tmp_path, words, files, is_full):
    """A pipe that nobody reads any more, or a full device: the work is done, its files are there, one line says it."""
    words = [*words, "--out", str(tmp_path / "out")] if files else words
    read, write = os.pipe()
    os.close(read)
    if is_full:
        os.close(write)
        write = os.open("/dev/full", os.O_WRONLY)
    command = [sys.executable, "-m", "limjax", *words]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=300)
    os.close(write)
    assert "not everything could be printed" in one_line((done.returncode, "", done.stderr), 1)
    assert all((tmp_path / "out" / name).exists() for name in files)
