"""What a failure takes with it: figures, files, signals, terminals."""

import functools
import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from a_line import GIVEN, line
from command_line import SMALL, program, refused

import limjax
from limjax import runs
from limjax._files import read_json, write_json
from limjax.checkpoints import Checkpoints, _drop_failed_tasks, _quiet
from limjax.memory._leaves import leaf_names
from limjax.numerics.checks import whole_number
from limjax.parallel import devices_here, interrupts_noted
from limjax.sweeps import Setting, sweep

pytestmark = pytest.mark.optax


# What a failure takes with it


@pytest.fixture(scope="module")
def result():
    return limjax.train("quadratic", steps=6, compare=())


@pytest.mark.slow
def test_a_failing_figure_takes_nothing_with_it(tmp_path, result, monkeypatch):
    from limjax.plots import training as plots

    def broken(*_):
        raise RuntimeError("no such font")

    monkeypatch.setattr(plots, "barrier_height", broken)
    with pytest.warns(RuntimeWarning, match=r"barrier\.png could not be written: no such font"):
        written = runs.save_run(result, tmp_path)
    names = {path.name for path in written}
    assert {"summary.json", "history.csv", "ledger.npz", "loss_and_heat.png", "report.html"} <= names
    assert "barrier.png" not in names and {path.name for path in tmp_path.iterdir()} == names


def test_numbers_that_cannot_be_written_are_named_and_the_others_kept(tmp_path, result, monkeypatch):
    (tmp_path / "history.csv").mkdir()
    with pytest.raises(
        OSError, match=r"history\.csv could not be written.*there is summary\.json, layers\.csv, ledger\.npz"
    ):
        runs.save_run(result, tmp_path, figures=False)
    assert not list(tmp_path.glob(".*"))


def test_a_checkpoint_that_cannot_be_written(tmp_path, monkeypatch):
    """The training goes on, its result is whole, and the last good checkpoint is where the next run goes on."""
    usual = Checkpoints.save
    task, given = line(), GIVEN | {"checkpoints": str(tmp_path), "checkpoint_seconds": 0.0}

    def fails_late(store, step, tree, notes):
        if step > 4:
            raise OSError("the disk is full")
        usual(store, step, tree, notes)

    monkeypatch.setattr(Checkpoints, "save", fails_late)
    ended = limjax.train(task, **given)
    assert ended.result is limjax.Result.completed and ended.summary["steps"] == 8
    assert any("the disk is full" in warning for warning in ended.summary["warnings"])
    monkeypatch.undo()
    again = limjax.train(task, **given, resume=True)
    jax.tree.map(np.testing.assert_array_equal, again.params, ended.params)


@pytest.mark.slow
def test_a_limit_on_file_size(tmp_path):
    words = ["train", "--task", "digits-mlp", "--steps", "10", "--no-figures", "--out", tmp_path / "run"]
    command = ["sh", "-c", 'ulimit -f 60; exec "$@"', "sh", sys.executable, "-m", "limjax", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "File too large" in done.stderr, done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 10
    assert not [path for path in (tmp_path / "run").rglob("*") if "tmp" in path.name]


@pytest.mark.slow
@pytest.mark.representatives(1)
@pytest.mark.parametrize("where", ["closed pipe", "full", "closed"])
def test_stdout_that_cannot_be_written_to(tmp_path, where):
    folder = tmp_path / "run"
    words = [sys.executable, "-m", "limjax", *SMALL, "--out", str(folder)]
    if where == "closed pipe":
        read, write = os.pipe()
        os.close(read)
    else:
        write = os.open("/dev/full" if where == "full" else os.devnull, os.O_WRONLY)
    if where == "closed":
        words = ["sh", "-c", 'exec "$@" >&-', "sh", *words]
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, timeout=300)
    os.close(write)
    assert (folder / "ledger.npz").exists() and (folder / "checkpoints" / "6").exists()
    assert done.stderr.count("\n") == (where != "closed") and "Traceback" not in done.stderr, done.stderr
    assert done.returncode == (where != "closed")


@pytest.mark.slow
def test_a_backend_that_is_not_here_and_a_terminal_without_greek(tmp_path):
    environment = {**os.environ, "MPLBACKEND": "module://no_such.backend", "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    words = ["train", "--task", "quadratic", "--steps", "6", "--out", tmp_path / "θ"]
    done = program(*words, env=environment)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert (tmp_path / "θ" / "report.html").exists()


@pytest.mark.slow
def test_names_that_no_locale_and_no_markup_expects(tmp_path):
    """θ, brackets, dollars and slashes in the names of layers and of the task."""
    names = ["[/x]θ", "$a_{b", "[bold]", "a/b"]
    task = limjax.Task(
        name="[/y]<b>θ",
        init=lambda key: {**{name: jnp.ones((2, 2)) for name in names}, "a": {"b": jnp.ones(3), "c": jnp.ones(1)}},
        loss=lambda params, _: sum(jnp.sum(p * p) for p in jax.tree.leaves(params)),
    )
    compare = {"[/z]": limjax.StaticBarrier(30.0)}
    ended = limjax.train(task, steps=4, batch_size=1, barrier="lyapunov:start=9", compare=compare)
    runs.save_run(ended, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "[/y]&lt;b&gt;θ" in page and "[/z]" in page
    text = str(ended.report)
    assert all(name in text for name in ("[/x]θ", "[bold]", "[/z]"))
    ledger = np.load(tmp_path / "ledger.npz")
    assert sum(name.startswith("heat_kt/") for name in ledger) == 6 == len(set(ledger["leaves"]))
    total = sum(ledger[name].sum() for name in ledger if name.startswith("heat_kt/"))
    assert total == pytest.approx(ended.summary["heat_kt"], rel=1e-6)
    assert sum(row.parameters for row in ended.report.layers) == 20


def test_paths_in_a_tree_never_share_a_name():
    tree = {"a": {"b": 1.0, "c": 2.0}, "a/b": 3.0, "d": [4.0]}
    names = leaf_names([path for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]])
    assert len(set(names)) == 4 and {"a/c", "d/0"} < set(names)


@pytest.mark.parametrize("width", [40, 80, 118])
def test_the_table_folds_names_and_never_numbers(width):
    from rich.console import Console

    name = "params/transformer/encoder/block_0/self_attention/multi_head_dot_product/query"
    opt = limjax.learning_in_memory(optax.sgd(0.1), limjax.ArrheniusCell(), limjax.StaticBarrier(10.0))
    params = {name: {"kernel": jnp.ones((40, 40))}}
    updates, state = opt.update(params, opt.init(params), params)
    table = limjax.report(limjax.get_ledger(state), optax.apply_updates(params, updates), limjax.ArrheniusCell())
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table)
    text = console.file.getvalue()
    rows = [row for row in text.splitlines() if row.startswith("│")]
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    assert name in "".join(row.split("│")[1].strip() for row in rows).split("total")[0]
    for number in (f"{1600:,}", f"{table.total.heat_kt * table.joules_per_kt:.2e}"):
        assert number in text


# Signals


@pytest.mark.representatives(1)
@pytest.mark.parametrize("sent", ["SIGTERM", "SIGHUP", "SIGINT twice"])
def test_a_signal_before_the_first_step_saves(tmp_path, sent):
    """Sent as soon as the folder is there: while the program compiles, long before a checkpoint would be due."""
    folder = tmp_path / "run"
    words = [
        "train",
        "--task",
        "quadratic",
        "--steps",
        "200000",
        "--no-figures",
        "--out",
        folder,
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "limjax", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    waited = threading.Event()
    while not (folder / "config.json").exists() and process.poll() is None:
        waited.wait(0.01)
    for _ in range(2 if "twice" in sent else 1):
        process.send_signal(getattr(signal, sent.split()[0]))
        waited.wait(0.05)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130 and not err and "interrupted" in out, err
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["result"] == "interrupted" and 0 <= summary["steps"] < 200000
    assert (folder / "checkpoints" / str(summary["steps"])).exists()


def test_signals_are_noted_and_handlers_put_back(request):
    # Ctrl-C as a terminal has it: a job in the background of a script ignores it.
    request.addfinalizer(functools.partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    usual = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with interrupts_noted() as interrupted, interrupts_noted() as inner:
        signal.raise_signal(signal.SIGTERM)
        assert interrupted() and inner()
        result = limjax.train("quadratic", steps=50, compare=())
        assert result.result is limjax.Result.interrupted and result.summary["steps"] == 0
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == usual


def test_a_thread_that_leaves_takes_no_signal_from_the_main_one(request):
    request.addfinalizer(functools.partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    entered, leave = threading.Event(), threading.Event()

    def other():
        with interrupts_noted():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait(10)
    with interrupts_noted() as outer:
        leave.set()
        thread.join()
        with interrupts_noted() as inner:
            signal.raise_signal(signal.SIGINT)
            assert outer() and inner()


def test_a_run_that_fails_before_its_first_step_leaves_no_folder(capsys, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise ValueError("not today")

    monkeypatch.setattr("limjax.cli.train.execute", fails)
    assert "not today" in refused(capsys, *SMALL, "--out", tmp_path / "run")
    assert not list(tmp_path.iterdir())


# Numbers, loggers, devices


@pytest.mark.slow
def test_whole_numbers_of_any_library():
    for seven in (7, np.int64(7), np.uint8(7), np.array(7), jnp.int32(7)):
        found = whole_number(seven, "n")
        assert found == 7 and type(found) is int
    for wrong in (True, np.bool_(True), 7.0, "7", None, np.array([7]), jnp.float32(7), 0):
        with pytest.raises(ValueError, match="n must be a whole number of at least 1"):
            whole_number(wrong, "n")
    result = limjax.train("quadratic", steps=np.int64(4), batch_size=np.int32(1), seed=np.uint32(3), compare=())
    assert result.summary["steps"] == 4 and json.dumps(result.summary["seed"]) == "3"
    assert limjax.ArrheniusCell(bits=np.arange(4, 9)[-1]).levels is not None
    with pytest.raises(ValueError, match="bits"):
        limjax.ArrheniusCell(bits=True)
    points = [Setting(limjax.StaticBarrier(12.0))]
    assert sweep("quadratic", points, seeds=np.int64(1), steps=np.int64(4)).heat_kt_per_parameter.shape == (1, 1)


def test_more_steps_than_the_counters_hold(capsys, tmp_path):
    with pytest.raises(ValueError, match="steps must be a whole number from 1 to 2147483647"):
        limjax.train("quadratic", steps=2**31)
    assert "steps must be a whole number from 1 to 2147483647" in refused(
        capsys, "train", "--task", "quadratic", "--steps", 2**31, "--out", tmp_path / "run"
    )


@pytest.mark.parametrize("knots", ["99999999999999", "1", "2.5", "nan", "-3"])
def test_knots_of_a_spline(capsys, tmp_path, knots):
    err = refused(capsys, *SMALL, "--barrier", f"spline:knots={knots}", "--out", tmp_path / "run")
    assert "whole number from 2 to 10000" in err


def test_loggers_of_others_are_left_alone(tmp_path, caplog):
    logger = logging.getLogger("absl")
    before = logger.level, list(logger.filters), list(logger.handlers)
    limjax.train(line(), **GIVEN | {"checkpoints": str(tmp_path)})
    assert (logger.level, list(logger.filters), list(logger.handlers)) == before


def test_failed_saves_leave_one_hook_and_hand_on_what_is_of_others(monkeypatch):
    heard, kept = [], []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    for _ in range(3):
        with pytest.raises(OSError, match="full"), _quiet():
            raise OSError("full")
        kept.append(sys.unraisablehook)
    assert kept[0] is kept[1] is kept[2] is not heard.append
    with _quiet():
        pass
    assert sys.unraisablehook is kept[0]
    of_others, of_orbax = (
        types.SimpleNamespace(exc_value=RuntimeError(f"{x} is closed")) for x in ("File", "Event loop")
    )
    sys.unraisablehook(of_others)
    sys.unraisablehook(of_orbax)
    assert heard == [of_others]


def test_writes_that_never_began_are_collected_in_silence():
    async def write():
        pass

    cycle = [write()]
    cycle.append(cycle)
    del cycle
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        _drop_failed_tasks()
    assert said == []


def test_no_accelerator_is_a_sentence(monkeypatch):
    done = program("devices", env={**os.environ, "JAX_PLATFORMS": "cuda"})
    if done.returncode:
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and "JAX_PLATFORMS=cpu" in done.stderr, done.stderr

    def nothing():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", nothing)
    with pytest.raises(ValueError, match="JAX finds no device"):
        devices_here()
    with pytest.raises(ValueError, match="JAX finds no device"):
        limjax.train("quadratic", steps=1)


def test_json_that_is_no_object(tmp_path):
    write_json(tmp_path / "a.json", {"θ": 1})
    assert read_json(tmp_path / "a.json", "") == {"θ": 1}
    for text, said in (("[1]", "a list"), ("1", "a number"), ("true", "a truth value"), ("null", "null")):
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(ValueError, match=f"b.json is damaged: it holds {said}"):
            read_json(tmp_path / "b.json", "Remedy.")


def test_a_sweep_with_damaged_files(capsys, tmp_path):
    (tmp_path / "sweep.json").write_text("[]")
    words = ["pareto", "--task", "quadratic", "--steps", "4", "--out", tmp_path]
    assert "sweep.json is damaged" in refused(capsys, *words)
    (tmp_path / "sweep.json").unlink()
    (tmp_path / "sweep.json").mkdir()
    assert "is no file of a sweep" in refused(capsys, *words)
