"""One device and eight give the same hops; several processes train, are killed, and go on as one."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import limjax
from limjax import parallel
from limjax.cli import main
from limjax.memory._blocks import PACK_BELOW

HERE = pathlib.Path(__file__).parent


def environment(devices):
    return {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}


@pytest.fixture(scope="module", params=["exact hops", pytest.param("all", marks=pytest.mark.slow)])
def rows(request):
    command = [sys.executable, str(HERE / "mesh_runs.py"), request.param]
    run = subprocess.run(command, capture_output=True, text=True, env=environment(8))
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


def test_every_mesh_gives_the_same_hops_bit_for_bit(rows):
    assert len(rows) in (1, 5)
    for row in rows:
        assert row["different_weights"] == 0, row
        assert row["moved"] > 1e5


def test_totals_agree(rows):
    # The order of the sums over a split array is the only difference.
    assert all(row["largest_total_error"] < 1e-6 for row in rows)


def test_moments_and_ledger_lie_like_their_parameters(rows):
    for row in rows:
        wanted = "" if row["mesh"] == "data=8" else "model"
        assert row["split"] == wanted
        assert row["moments_split"] == [wanted]
        assert row["ledger_split"] == ([] if row["options"].get("granularity") == "leaf" else [wanted])


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


@pytest.mark.slow
def test_two_killed_processes_resume_as_one_bit_for_bit(tmp_path):
    """2 processes x 4 devices, `kill -9` after the first checkpoints, then 1 x 8 on another mesh."""
    script = str(HERE / "host_run.py")
    address = f"localhost:{free_port()}"
    logs = [open(tmp_path / f"log{i}", "w") for i in range(2)]  # noqa: SIM115
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(tmp_path / "killed"), "new", "data=4,model=2", address, "2", str(i)],
            env=environment(4), stdout=logs[i], stderr=subprocess.STDOUT,
        )
        for i in range(2)
    ]  # fmt: skip

    def saved():
        folder = tmp_path / "killed"
        return max((int(p.name) for p in folder.iterdir() if p.name.isdigit()), default=0) if folder.exists() else 0

    began = time.monotonic()
    while saved() < 10 and all(p.poll() is None for p in processes) and time.monotonic() - began < 240:
        time.sleep(0.02)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.wait()
    for log in logs:
        log.close()
    assert 10 <= saved() < 100, (tmp_path / "log0").read_text()[-3000:]

    def finish(folder, resume):
        command = [sys.executable, script, str(tmp_path / folder), resume, "data=8"]
        run = subprocess.run(command, capture_output=True, text=True, env=environment(8))
        assert run.stdout.strip().endswith("completed"), run.stderr[-3000:]
        return np.load(tmp_path / f"{folder}.npz")

    resumed, whole = finish("killed", "resume"), finish("whole", "new")
    assert list(resumed) == list(whole)
    for name in whole:
        np.testing.assert_array_equal(resumed[name], whole[name], err_msg=name)


@pytest.mark.slow
def test_ctrl_c_on_one_host_stops_all(tmp_path):
    script = str(HERE / "host_run.py")
    address = f"localhost:{free_port()}"
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(tmp_path / "run"), "new", "data=2", address, "2", str(i), "10000"],
            env=environment(1), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    began = time.monotonic()
    while not list((tmp_path / "run").glob("[0-9]*")) and time.monotonic() - began < 240:
        assert all(p.poll() is None for p in processes), processes[0].communicate()[0][-3000:]
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGINT)
    try:
        said = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(text.strip().endswith("interrupted") for text in said), said[1][-3000:]


@pytest.mark.slow
@pytest.mark.optax
def test_one_device_mesh_and_no_mesh_train_alike():
    with_mesh = limjax.train(
        "digits-mlp", steps=5, batch_size=32, hops="mean", mesh="data=1", microbatches=4, compare=()
    )
    without = limjax.train("digits-mlp", steps=5, batch_size=32, hops="mean", compare=())
    for a, b in zip(jax.tree.leaves(with_mesh.params), jax.tree.leaves(without.params)):
        np.testing.assert_allclose(a, b, rtol=0, atol=3e-6)
    assert with_mesh.summary["mesh"] == {"data": 1, "model": 1}
    assert with_mesh.summary["microbatches"] == 4


@pytest.mark.parametrize(
    "shape, message",
    [
        ("data=3", "needs 3 devices, but 1"),
        ("row=2", 'axes "data" and "model", got \'row\''),
        ("data", "written as data=4,model=2, got 'data'"),
        ("data=1,data = 1", "each of its axes once, as in data=4,model=2, got 'data=1,data = 1'"),
        ({"data": 0}, "whole number of at least 1, got 0"),
    ],
)
def test_wrong_meshes_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        parallel.make_mesh(shape)


@pytest.mark.slow
@pytest.mark.optax
def test_wrong_microbatches_are_refused():
    with pytest.raises(ValueError, match="multiple of the 8 devices of the mesh, got 12"):
        parallel.check_microbatches(12, 8)
    with pytest.raises(ValueError, match="a multiple of 3, for example 33"):
        limjax.train("digits-mlp", steps=1, batch_size=32, mesh="data=1", microbatches=3)
    with pytest.raises(ValueError, match="microbatches needs a mesh"):
        limjax.train("digits-mlp", steps=1, microbatches=3)


def test_meshes_of_other_axes_and_uneven_batches_are_refused():
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("x",))
    with pytest.raises(ValueError, match=r"\('x',\).*make_mesh"):
        parallel.value_and_grad(lambda params, batch: 0.0, mesh)
    gradient = parallel.value_and_grad(lambda params, batch: jnp.sum(params), parallel.make_mesh())
    with pytest.raises(ValueError, match=r"same leading axis, the examples; got \[4, 3\]"):
        gradient(jnp.ones(2), {"x": jnp.ones(4), "y": jnp.ones(3)})


def test_half_precision_gradients_are_summed_in_float32():
    gradient = parallel.value_and_grad(lambda w, batch: jnp.mean(w * batch), parallel.make_mesh(), microbatches=64)
    batch = jnp.asarray(np.linspace(0.9, 1.1, 64), jnp.bfloat16)
    _, found = gradient(jnp.ones((), jnp.bfloat16), batch)
    # 64 terms summed in bfloat16 would be off by several of its units.
    np.testing.assert_allclose(float(found), float(np.mean(np.asarray(batch, np.float64))), rtol=2**-9)


def test_small_and_odd_arrays_are_copied():
    mesh = jax.sharding.AbstractMesh((4, 2), parallel.AXES)
    shapes = {"small": (8, 8), "odd": (PACK_BELOW + 1, 3), "long": (64, 1024), "wide": (1024, 64)}
    tree = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    specs = {name: s.spec for name, s in parallel.parameter_shardings(tree, mesh).items()}
    assert specs["small"] == specs["odd"] == jax.sharding.PartitionSpec()
    assert specs["long"] == jax.sharding.PartitionSpec(None, "model")
    assert specs["wide"] == jax.sharding.PartitionSpec("model")


def test_a_coordinator_needs_its_numbers():
    with pytest.raises(ValueError, match="--processes 2 --process 0"):
        parallel.initialize("localhost:1")


@pytest.mark.slow
@pytest.mark.optax
def test_command_with_mesh_and_storage(tmp_path):
    out = tmp_path / "run"
    words = ["--mesh", "data=1", "--microbatches", "2", "--bits", "8", "--lsb", "0.015625", "--storage", "int8"]
    with pytest.raises(SystemExit) as end:
        main(["train", "--steps", "4", "--no-figures", "--out", str(out), *words])
    assert end.value.code == 0
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["mesh"], summary["microbatches"], summary["storage"]) == ({"data": 1, "model": 1}, 2, "int8")


@pytest.mark.parametrize(
    "words, message",
    [
        (["--storage", "int8"], "needs a cell with a lowest and highest level"),
        (["--storage", "int8", "--bits", "8", "--hops", "mean"], "(--hops exact); got hops='mean'"),
        (["--bits", "2000"], "--bits must be a whole number from 1 to 24 (what float32 counts exactly), got 2000"),
        (["--microbatches", "4"], 'microbatches needs a mesh: pass mesh="data=1" (--mesh data=1)'),
        (["--processes", "2"], "belong to --distributed or --coordinator"),
        (["--learning-rate-factor", "1,-2"], "at least two positive numbers, got [1.0, -2.0]"),
        (
            ["--learning-rate-factor", "missing.json"],
            "missing.json cannot be read: No such file or directory. Give --learning-rate-factor the tune.json",
        ),
        (["--mesh", "data=7"], "needs 7 devices, but 1 are here"),
        (["--mesh", "data=1", "--microbatches", "3"], "cannot be cut into 3 micro-batches"),
    ],
)
def test_wrong_options_write_nothing(tmp_path, capsys, words, message):
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as end:
        main(["train", "--out", str(out), *words])
    assert end.value.code == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert not out.exists()


@pytest.mark.representatives(3)
@pytest.mark.parametrize("pieces", [1, 2, 6, 12, 20, 24, 64])
def test_what_a_device_sums_is_a_subtree_of_the_whole_sum(pieces):
    x = jax.random.normal(jax.random.key(pieces), (pieces, 500))
    whole = parallel._tree_sum(x)
    for devices in (d for d in (2, 4, 8) if pieces % d == 0):
        parts = jnp.stack([parallel._tree_sum(part) for part in jnp.split(x, devices)])
        assert (parallel._tree_sum(parts) == whole).all()
