"""Folders of runs: who has them, what is refused before training, and that no finished run is lost."""

import dataclasses
import hashlib
import io
import json
import logging
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import limjax
from limjax import fingerprints, runs
from limjax.barriers.files import load_barrier
from limjax.checkpoints import Checkpoints, _checksum_on_devices, checksum
from limjax.cli import main
from limjax.files import read_json, sole_use, write_json
from limjax.memory._leaves import leaf_names
from limjax.numerics.checks import whole_number
from limjax.parallel import devices_here, interrupts_noted
from limjax.sweeps import Setting, sweep

pytestmark = pytest.mark.optax

SMALL = ["train", "--task", "diabetes-regression", "--steps", "6", "--no-figures"]


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    out = capsys.readouterr()
    return end.value.code or 0, out.out, out.err


def refused(capsys, *arguments):
    """The one paragraph that refuses something."""
    code, _, err = run(capsys, *arguments)
    assert code == 2 and err.count("\n") == 1 and "Traceback" not in err, err
    return err


def program(*arguments, **options):
    command = [sys.executable, "-m", "limjax", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


def digest(folder):
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "out"
    with pytest.raises(SystemExit):
        main([*SMALL, "--out", str(folder)])
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    return folder


# Resuming another run


def line(slope=2.0, power=2):
    x = np.linspace(-1, 1, 64, dtype=np.float32)

    def loss(params, batch):
        return jnp.mean(jnp.abs(params["w"] * batch["x"] - batch["y"]) ** power)

    data = {"x": x, "y": slope * x}
    return limjax.Task("line", lambda key: {"w": jnp.zeros(1)}, loss, train=data, test=data)


GIVEN = dict(steps=8, batch_size=8, checkpoints=None, compare=(), barrier="lyapunov:start=9")


@pytest.fixture(scope="module")
def a_line(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("line"))
    limjax.train(line(), **GIVEN | {"checkpoints": folder, "optimizer": optax.sgd(1e-3)})
    return folder


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"optimizer": optax.sgd(1e-1)}, "another optimizer"),
        ({"optimizer": optax.adam(1e-3)}, "another optimizer"),
        ({"task": line(slope=3.0)}, "another training data and another test data"),
        ({"task": line(power=3)}, "another loss"),
        ({"task": dataclasses.replace(line(), test=None)}, "another test data"),
        ({"compare": (limjax.StaticBarrier(50.0),)}, "another list of comparisons"),
    ],
)
def test_resume_names_what_differs(a_line, changed, said):
    before = digest(pathlib.Path(a_line))
    given = GIVEN | {"checkpoints": a_line, "optimizer": optax.sgd(1e-3), "task": line()} | changed
    with pytest.raises(ValueError, match=said):
        limjax.train(**given, resume=True)
    assert digest(pathlib.Path(a_line)) == before


def test_resume_takes_what_is_the_same(a_line):
    """Made anew, the optimizer and the task are other objects, but the same run."""
    result = limjax.train(line(), **GIVEN | {"checkpoints": a_line, "optimizer": optax.sgd(1e-3)}, resume=True)
    assert result.result is limjax.Result.completed


def test_resume_refuses_another_generator_or_schedule(tmp_path):
    def rising(top):
        return limjax.ScheduledBarrier(lambda step: 9.0 + top * step)

    given = GIVEN | {"checkpoints": str(tmp_path)}
    limjax.train(line(), **given | {"barrier": rising(0.1)})
    with pytest.raises(ValueError, match="another barrier"):
        limjax.train(line(), **given | {"barrier": rising(0.2)}, resume=True)
    constant = dataclasses.replace(line(), defaults=limjax.TaskDefaults(schedule="constant"))
    with pytest.raises(ValueError, match="another schedule"):
        limjax.train(constant, **given | {"barrier": rising(0.1)}, resume=True)
    with jax.default_prng_impl("rbg"), pytest.raises(ValueError, match="another random key"):
        limjax.train(line(), **given | {"barrier": rising(0.1)}, resume=True)


def test_folders_without_fingerprints_go_on(tmp_path):
    """Those of earlier versions: settings are compared as before."""
    given = GIVEN | {"checkpoints": str(tmp_path)}
    limjax.train(line(), **given)
    path = next(tmp_path.glob("8/notes/metadata"))
    notes = json.loads(path.read_text())
    path.write_text(json.dumps({name: notes[name] for name in ("history", "loss_sum", "settings")}))
    assert limjax.train(line(), **given, resume=True).result is limjax.Result.completed


def test_fingerprints_see_constants_and_not_names():
    table = np.arange(300.0)
    of = fingerprints.of_function(lambda p: jnp.sum(p * table), jnp.ones(300))

    def renamed(q):
        return jnp.sum(q * table)

    assert of == fingerprints.of_function(renamed, jnp.ones(300))
    assert of != fingerprints.of_function(lambda p: jnp.sum(p * (table + 1e-3)), jnp.ones(300))
    assert fingerprints.of_function(lambda p: undefined, 1.0) == fingerprints.UNKNOWN
    assert fingerprints.combined("a", "b") != fingerprints.combined("ab") != fingerprints.UNKNOWN
    assert fingerprints.combined("a", fingerprints.UNKNOWN) == fingerprints.UNKNOWN


# Damaged folders


@pytest.mark.parametrize("content", ["[]", "null", "{}", '"text"', "3", '{"task": ', "[" * 100_000, b"\xff\xfe\x00"])
def test_a_config_that_is_none(capsys, copied, content):
    (copied / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    before = digest(copied)
    err = refused(capsys, "train", "--resume", "--out", copied)
    assert str(copied / "config.json") in err and "another --out" in err
    assert digest(copied) == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", "6"), ("steps", None), ("steps", [6]), ("steps", 2**31), ("steps", True), ("task", {}), ("task", 3),
        ("barrier", {"name": "static"}), ("seed", 0.5), ("seed", -1), ("lsb", "small"), ("hops", None), ("bits", "8"),
        ("learning_rate_factor", ["a", "b"]), ("mesh", 4), ("storage", 8), ("steps", ...), ("temperature", ...),
    ],
)  # fmt: skip
def test_a_config_with_a_wrong_key(capsys, copied, key, value):
    path = copied / "config.json"
    settings = json.loads(path.read_text())
    settings[key] = value
    if value is ...:
        del settings[key]
    path.write_text(json.dumps(settings))
    before = digest(copied)
    assert key in refused(capsys, "train", "--resume", "--out", copied)
    assert digest(copied) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda notes: [], lambda notes: None, lambda notes: {}, lambda notes: notes | {"history": {}},
        lambda notes: notes | {"history": [row[:3] for row in notes["history"]]}, lambda notes: notes | {"settings": "x"},
        lambda notes: notes | {"history": [["1", *row[1:]] for row in notes["history"]]},
        lambda notes: notes | {"loss_sum": "0"}, lambda notes: notes | {"loss_sum": 1.0},
        lambda notes: {name: value for name, value in notes.items() if name != "history"},
    ],
)  # fmt: skip
def test_notes_of_a_checkpoint_that_were_altered(capsys, copied, change):
    path = copied / "checkpoints" / "6" / "notes" / "metadata"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    before = digest(copied)
    err = refused(capsys, "train", "--resume", "--out", copied)
    assert "checkpoints/6 cannot be read" in err and "Delete that folder" in err
    assert digest(copied) == before


def test_altered_notes_without_a_checksum_are_still_read_with_care(tmp_path):
    limjax.train(line(), **GIVEN | {"checkpoints": str(tmp_path)})
    path = next(tmp_path.glob("8/notes/metadata"))
    notes = json.loads(path.read_text())
    del notes["checksum"]
    for name, value in (("history", [[1, 2, 3]]), ("loss_sum", "0"), ("settings", 3), ("checksums", [])):
        path.write_text(json.dumps(notes | {name: value}))
        with pytest.raises(ValueError, match=f"{name}.*Delete that folder"):
            limjax.train(line(), **GIVEN | {"checkpoints": str(tmp_path)}, resume=True)


def test_a_flipped_bit_in_an_array_is_found(tmp_path):
    """Saved again with one bit of one weight changed, which the file format itself cannot know."""
    tree = {"w": jnp.linspace(0.0, 1.0, 100), "steps": jnp.int32(3)}
    store = Checkpoints(tmp_path)
    store.save(3, tree, {})
    sums = store.notes(3)["checksums"]
    jax.tree.map(np.testing.assert_array_equal, store.restore(3, tree, sums), tree)
    words = np.array(tree["w"]).view(np.uint32)
    words[7] ^= 1 << 9
    store.save(4, tree | {"w": jnp.asarray(words.view(np.float32))}, {})
    with pytest.raises(ValueError, match=r"'w'.*was altered"):
        store.restore(4, tree, sums)
    store.close()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int32", "int8", "uint32", "bool"])
def test_checksums_are_the_same_wherever_an_array_lies(dtype):
    x = jnp.asarray(np.random.default_rng(0).integers(0, 2, (7, 5, 3)) * 3).astype(dtype)
    assert checksum(x) == int(_checksum_on_devices(x)) == checksum(np.asarray(x))
    flat = np.asarray(x).reshape(-1)
    assert checksum(flat) != checksum(np.roll(flat, 1)) or np.array_equal(flat, np.roll(flat, 1))


@pytest.mark.parametrize(
    "name", ["summary.json", "ledger.npz", "history.csv", "barrier.png", "checkpoints", "config.json"]
)
@pytest.mark.parametrize("kind", ["other kind", "link"])
def test_something_else_where_a_file_belongs(capsys, copied, tmp_path, name, kind):
    path, mine = copied / name, tmp_path / "mine"
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "link":
        mine.write_text("mine")
        path.symlink_to(mine)
    elif name == "checkpoints":
        path.write_text("a file")
    else:
        path.mkdir()
    before = digest(tmp_path)
    assert str(path) in refused(capsys, "train", "--resume", "--out", copied)
    assert digest(tmp_path) == before


def test_links_are_replaced_and_not_followed(tmp_path):
    mine, folder = tmp_path / "mine", tmp_path / "run"
    mine.write_text("mine")
    folder.mkdir()
    (folder / "summary.json").symlink_to(mine)
    runs.save_run(limjax.train("quadratic", steps=4, compare=()), folder, figures=False)
    assert mine.read_text() == "mine" and json.loads((folder / "summary.json").read_text())["steps"] == 4


@pytest.mark.parametrize(
    "content",
    [
        "[]", "null", "{}", '{"format": "limjax-barrier-1", "barrier": {}}', "[" * 100_000, b"\xff\xfe",
        '{"format": "limjax-barrier-1", "barrier": "static"}',
        '{"format": "limjax-barrier-1", "barrier": "static", "arguments": [20]}',
        '{"format": "limjax-barrier-1", "barrier": "static", "arguments": {"height": {}}}',
        '{"format": "limjax-barrier-1", "barrier": "static", "arguments": {"hight": 20}}',
        '{"format": "limjax-barrier-1", "barrier": "spline", "arguments": {"knots": [[9], [9, 8]], "steps": 5}}',
        '{"format": "limjax-barrier-1", "barrier": "moment", "arguments": {"granularity": ["leaf"]}}',
    ],
)  # fmt: skip
def test_damaged_barrier_files(tmp_path, content):
    path = tmp_path / "barrier.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"barrier\.json"):
        load_barrier(path)


# Where a run may be written


@pytest.mark.parametrize("out", ["gs://bucket/run", "s3://bucket/run", "http://host/run", "file:///tmp/run"])
@pytest.mark.parametrize(
    "command", [SMALL, ["tune", "--task", "quadratic"], ["pareto", "--task", "quadratic"], ["simulate", "trap"]]
)
def test_an_address_is_no_folder(capsys, tmp_path, monkeypatch, out, command):
    monkeypatch.chdir(tmp_path)
    assert "is an address" in refused(capsys, *command, "--out", out)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="is an address"):
        Checkpoints(out)


@pytest.mark.parametrize(
    "command", [SMALL, ["tune", "--task", "quadratic"], ["pareto", "--task", "quadratic"], ["simulate", "trap"]]
)
def test_a_file_or_a_place_where_nothing_can_be_made(capsys, tmp_path, command):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below", "/proc/limjax-run"):
        assert str(out) in refused(capsys, *command, "--out", out)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_or_read_only_place_is_refused_before_training(capsys, tmp_path, monkeypatch):
    def full(path, write, mode="wb"):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "write_whole", full)
    assert "No space left on device" in refused(capsys, *SMALL, "--out", tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_no_room_for_a_checkpoint_is_said_before_training(capsys, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    assert "only 0.0001 MB are free" in refused(capsys, *SMALL, "--out", tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_jobs_that_start_at_once_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, barrier = [], threading.Barrier(8)

    def start():
        barrier.wait()
        found.append(runs.new_folder(None, "job"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8 == len(list((tmp_path / "runs").iterdir()))


def test_a_folder_in_use_is_refused(capsys, copied, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, words in ((copied, ["train", "--resume"]), (tmp_path / "empty", SMALL)):
        before = digest(folder)
        with sole_use(folder):
            assert "Another limjax process is using" in refused(capsys, *words, "--out", folder)
        assert digest(folder) == before
    assert run(capsys, *SMALL, "--out", tmp_path / "empty")[0] == 0


# What a failure takes with it


@pytest.fixture(scope="module")
def result():
    return limjax.train("quadratic", steps=6, compare=())


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
    with pytest.raises(OSError, match=r"history\.csv could not be written.*there is summary\.json, ledger\.npz"):
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
        "diabetes-regression",
        "--steps",
        "200000",
        "--hops",
        "mean",
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


def test_signals_are_noted_and_handlers_put_back():
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


def test_a_run_that_fails_before_its_first_step_leaves_no_folder(capsys, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise ValueError("not today")

    monkeypatch.setattr("limjax.cli.train.execute", fails)
    assert "not today" in refused(capsys, *SMALL, "--out", tmp_path / "run")
    assert not list(tmp_path.iterdir())


# Numbers, loggers, devices


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
    assert sweep("quadratic", points, seeds=np.int64(1), steps=np.int64(4)).heat_kt.shape == (1, 1)


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
