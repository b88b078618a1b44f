"""Folders of runs: who has them, what is refused before training, and that no finished run is lost."""

import json
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from a_line import GIVEN, line
from command_line import SMALL, digest, refused, run

import limjax
from limjax import runs
from limjax._files import sole_use
from limjax.barriers import load_barrier
from limjax.checkpoints import Checkpoints, _checksum_on_devices, checksum
from limjax.cli import main

pytestmark = pytest.mark.optax


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


# Damaged folders


@pytest.mark.slow
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


@pytest.mark.representatives(4)
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


def test_a_path_that_is_no_utf_8_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (SMALL, ["tune", "--task", "quadratic"], ["compare", "--task", "quadratic"]):
        assert "--out must be a path in UTF-8, got 'bad\\udcff'" in refused(capsys, *command, "--out", "bad\udcff")
    assert not list(tmp_path.iterdir())


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


@pytest.mark.slow
def test_a_folder_in_use_is_refused(capsys, copied, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, words in ((copied, ["train", "--resume"]), (tmp_path / "empty", SMALL)):
        before = digest(folder)
        with sole_use(folder):
            assert "Another limjax process is using" in refused(capsys, *words, "--out", folder)
        assert digest(folder) == before
    assert run(capsys, *SMALL, "--out", tmp_path / "empty")[0] == 0
