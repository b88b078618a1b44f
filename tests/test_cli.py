"""The command line: what it writes, what it prints, and one paragraph for everything that is wrong."""

import dataclasses
import inspect
import json
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from command_line import digest, refused, run

from limjax.cli import main
from limjax.cli.options import flat
from limjax.cli.train import _reached

pytestmark = pytest.mark.optax

SMALL = ["train", "--task", "diabetes-regression", "--steps", "30", "--no-plain"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "out"
    with pytest.raises(SystemExit) as end:
        main([*SMALL, "--out", str(folder)])
    assert not end.value.code
    return folder


def test_output_folder(finished):
    names = {path.name for path in finished.iterdir()}
    pictures = {"loss_and_heat.png", "barrier.png", "barrier_law.png", "heat_per_layer.png", "heat_map.png"}
    assert {
        "summary.json",
        "ledger.npz",
        "history.csv",
        "layers.csv",
        "config.json",
        "report.html",
        "checkpoints",
    } | pictures == names
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["task"] == "diabetes-regression" and summary["steps"] == 30 and summary["result"] == "completed"
    ledger = np.load(finished / "ledger.npz")
    heat = sum(ledger[name].sum() for name in ledger if name.startswith("heat_kt/"))
    assert heat == pytest.approx(summary["heat_kt"], rel=1e-6)
    assert ledger["heat_kt/layer1/weight"].shape == (10, 32)
    page = (finished / "report.html").read_text()
    assert page.count("<figure><svg") == 5 and 'src="http' not in page
    assert "<h2>Where the joules are</h2>" in page and "orders of magnitude" in page


def test_json_is_all_that_stdout_holds(capsys, tmp_path):
    code, out, err = run(
        capsys,
        "train",
        "--task",
        "quadratic",
        "--steps",
        30,
        "--json",
        "--no-figures",
        "--no-plain",
        "--out",
        tmp_path / "run",
    )
    assert code == 0 and json.loads(out)["result"] == "completed" and "step 30/30" in err
    assert not list((tmp_path / "run").glob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "digit-mlp"], "Unknown task 'digit-mlp'"),
        (["--barrier", "lyapunow"], "Unknown barrier 'lyapunow'"),
        (["--temperature", "-3"], "temperature must be a finite number above 0, got -3.0"),
        (["--lsb", "0"], "lsb must be a finite number above 0, got 0.0"),
        (["--barrier", "static:height=-1"], "got -1.0"),
        (["--barrier", "static:height=nan"], "got nan"),
        (["--batch-size", "5000"], "--batch-size 5000 is larger"),
        (
            ["--hops", "many"],
            'hops must be "mean", "gaussian" or "exact", or an object such as limjax.ExactHops(); got',
        ),
        (["--budget-kt", "-1"], "limjax: --budget-kt must be a positive number, got -1.0"),
        (["--steps", "0"], "steps must be a whole number of at least 1, got 0"),
        (["--resume"], "--resume needs --out"),
    ],
)
def test_wrong_input_is_one_paragraph_and_writes_nothing(capsys, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, _out, err = run(capsys, "train", *arguments)
    assert code == 2 and said in err and err.count("\n") == 1 and "Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("left", ["no folder", "an empty folder"])
def test_results_without_their_checkpoint_are_not_written_over(capsys, finished, tmp_path, left):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "checkpoints")
    if left == "an empty folder":
        (folder / "checkpoints").mkdir()
    before = digest(folder)
    said = refused(capsys, "train", "--resume", "--out", folder)
    assert "no checkpoint of it" in said and "Nothing was overwritten" in said
    assert digest(folder) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report", "one", "--out", "page.html"], "--out page.html is for several runs"),
        (["simulate", "trap", "--outer-steps", "3"], "add --optimise"),
        (["device", "fit", "nowhere.csv", "--out", "mine.toml"], "There is no file nowhere.csv"),
    ],
)
def test_what_would_be_ignored_or_is_not_there_is_refused(capsys, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in refused(capsys, *words)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_another_run_is_left_alone(capsys, finished):
    before = digest(finished)
    code, _, err = run(capsys, *SMALL, "--out", finished)
    assert code == 2 and "holds another run; nothing was overwritten" in err
    code, _, err = run(capsys, "train", "--resume", "--out", finished, "--seed", "5")
    assert code == 2 and "has seed = 0" in err
    code, _, err = run(capsys, "train", "--resume", "--out", finished, "--barrier", "moment:scale=2")
    assert code == 2 and "has barrier = 'moment', but 'moment:scale=2' was given" in err
    assert digest(finished) == before


@pytest.mark.slow
def test_a_damaged_checkpoint_leaves_the_folder_alone(capsys, tmp_path):
    folder = tmp_path / "run"
    run(capsys, *SMALL, "--no-figures", "--out", folder)
    for path in (folder / "checkpoints").rglob("*"):
        if path.is_file() and path.stat().st_size > 200:
            path.write_bytes(bytes(100))
    summary = (folder / "summary.json").read_bytes()
    code, _, err = run(capsys, "train", "--resume", "--out", folder)
    assert code == 2 and "cannot be read" in err and err.count("\n") == 1
    assert (folder / "summary.json").read_bytes() == summary


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_numbers(tmp_path):
    """`kill -9` after the first checkpoint; the resumed ledger equals that of a run nobody stopped."""
    script = (
        "import sys, os, signal, limjax\n"
        "from limjax.tasks import diabetes_regression\n"
        "folder, resume, kill = sys.argv[1], sys.argv[2] == '1', sys.argv[3] == '1'\n"
        "def progress(row, left):\n"
        "    if kill and row.step >= 200 and any(n.isdigit() for n in os.listdir(folder)): os.kill(os.getpid(), signal.SIGKILL)\n"
        "r = limjax.train(diabetes_regression(), steps=400, checkpoints=folder, resume=resume, checkpoint_seconds=0.1,\n"
        "                 on_progress=progress)\n"
        "print(repr(limjax.total(r.ledger)), repr(r.summary['test_loss']), len(r.history))\n"
    )

    def go(folder, resume, kill):
        command = [sys.executable, "-c", script, str(tmp_path / folder), resume, kill]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    whole = go("whole", "0", "0")
    assert whole.returncode == 0, whole.stderr
    assert go("cut", "0", "1").returncode == -9
    resumed = go("cut", "1", "0")
    assert resumed.stdout == whole.stdout and whole.stdout


def test_cell_version_devices(capsys):
    code, out, _ = run(capsys, "cell", "--bits", "6", "--json")
    sizing = json.loads(out)
    assert code == 0 and sizing["levels"] == 64 and sizing["retention_barrier_kt"] == pytest.approx(49.50, abs=5e-3)
    assert sizing["update_kt_shut"] > 1000 * sizing["update_kt_open"]
    code, out, _ = run(capsys, "cell", "--bits", "6")
    assert code == 0 and "49.50 kT" in out
    assert "--retention must be" in refused(capsys, "cell", "--retention", "0")
    code, _, err = run(capsys, "cell", "--bits", "0")
    assert code == 2 and "bits must be a whole number from 1 to 24, got 0" in err
    assert "limjax 0.1.0" in run(capsys, "--version")[1]
    assert "default backend" in run(capsys, "devices")[1]
    assert run(capsys, "train", "--frob")[0] == 2


@pytest.mark.slow
def test_control_c_saves_and_reports_and_resume_goes_on(tmp_path):
    folder = tmp_path / "run"
    # Long enough for the signal to arrive in time on a loaded machine.
    words = ["--task", "diabetes-regression", "--steps", "60000", "--hops", "mean", "--no-figures"]
    words += ["--out", str(folder)]
    command = [sys.executable, "-m", "limjax", "train", "--json", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("step "):
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    summary = json.loads(out)
    assert summary["result"] == "interrupted" and 0 < summary["steps"] < 60000 and "--resume" in err
    assert json.loads((folder / "summary.json").read_text()) == summary
    command = [sys.executable, "-m", "limjax", "train", "--json", "--resume", "--no-figures", "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    resumed = json.loads(done.stdout)
    assert resumed["result"] == "completed" and resumed["steps"] == 60000
    assert resumed["heat_kt"] > summary["heat_kt"]


def test_history_is_in_the_order_of_the_run(finished):
    rows = (finished / "history.csv").read_text().splitlines()
    names = rows[0].split(",")
    energies = {f"{name}_kt_per_parameter" for name in ("heat", "actuation", "static_heat", "compared")}
    assert names[:2] == ["step", "loss"] and energies | {"barrier_kt"} <= set(names)
    steps = [int(row.split(",")[0]) for row in rows[1:]]
    assert steps == sorted(set(steps)) and steps[-1] == 30


@pytest.mark.slow
def test_a_finished_run_resumes_to_itself(capsys, finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    code, out, _ = run(capsys, "train", "--resume", "--json", "--no-figures", "--no-plain", "--out", copy)
    assert code == 0
    before, after = json.loads((finished / "summary.json").read_text()), json.loads(out)
    for summary in (before, after):
        summary.pop("wall_seconds")
    assert after == before


@pytest.mark.parametrize("what", ["file", "foreign", "no config", "broken config", "damaged"])
def test_folders_that_cannot_be_used_are_left_as_they_are(capsys, finished, tmp_path, what):
    """Every byte of the folder is the same afterwards, and the one paragraph names it."""
    folder = tmp_path / "folder"
    resume = ["--resume"]
    if what == "file":
        folder.write_text("mine")
        resume = []
    elif what == "foreign":
        folder.mkdir()
        (folder / "notes.txt").write_text("mine")
        resume = []
    else:
        shutil.copytree(finished, folder)
        if what == "no config":
            (folder / "config.json").unlink()
        elif what == "broken config":
            (folder / "config.json").write_text('{"task": ')
        else:
            for path in (folder / "checkpoints").rglob("*"):
                if path.is_file() and path.stat().st_size > 100:
                    path.write_bytes(b"\0" * 50)
    before = digest(tmp_path)
    code, out, err = run(capsys, "train", *resume, "--out", folder)
    assert code == 2 and out.count("Traceback") == err.count("Traceback") == 0
    assert err.count("\n") == 1 and str(folder) in err
    assert digest(tmp_path) == before


@pytest.mark.slow
def test_own_exit_code_for_a_loss_that_is_not_finite(capsys, tmp_path):
    # Squares of 1e30 overflow in the first step.
    words = [
        "--task",
        "diabetes-regression",
        "--steps",
        "10",
        "--learning-rate",
        "1e30",
        "--lsb",
        "1e20",
        "--hops",
        "mean",
    ]
    code, out, _ = run(capsys, "train", *words, "--json", "--no-figures", "--out", tmp_path / "run")
    assert code == 1 and json.loads(out, parse_constant=pytest.fail)["result"] == "nonfinite"


@pytest.mark.parametrize(
    ("accuracy", "test", "train", "said"),
    [
        (0.5, 0.25, 0.125, "test accuracy 0.5000, test loss 0.2500"),
        (0.5, None, None, "test accuracy 0.5000"),
        (None, 0.25, 0.125, "test loss 0.25"),
        (None, None, 0.125, "loss 0.125"),
        (None, None, None, "loss not finite"),
    ],
)
def test_what_was_reached_is_said_of_what_there_is(accuracy, test, train, said):
    assert _reached({"test_accuracy": accuracy, "test_loss": test, "train_loss": train}) == said


def test_the_installed_command():
    command = pathlib.Path(sys.executable).with_name("limjax")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.splitlines()[1].startswith("limjax 0.")
    module = subprocess.run([sys.executable, "-m", "limjax", "--version"], capture_output=True, text=True, timeout=120)
    assert module.stdout == done.stdout


def test_units_in_brackets_are_in_the_help(capsys):
    assert "Barrier while training [kT]." in run(capsys, "cell", "--help")[1]
    assert "Duration of one step [s]." in run(capsys, "tune", "--help")[1]
    assert "time [s]" in run(capsys, "device", "fit", "--help")[1]


def test_a_group_of_options_stands_in_its_place_with_the_defaults_of_the_command():
    @dataclasses.dataclass(frozen=True)
    class Group:
        needed: int
        more: float = 2.0

    @dataclasses.dataclass(frozen=True)
    class OfOneCommand(Group):
        more: float = 3.0

    seen = []

    def command(*, first: str = "a", group: OfOneCommand, last: bool = False) -> None:
        seen.append((first, group, last))

    options = inspect.signature(flat(command)).parameters
    assert [*options] == ["first", "needed", "more", "last"]
    assert options["needed"].default is inspect.Parameter.empty and options["more"].default == 3.0
    flat(command)(first="b", needed=1, more=4.0, last=True)
    assert seen == [("b", OfOneCommand(1, 4.0), True)]
