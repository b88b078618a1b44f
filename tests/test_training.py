"""Runs: how they end, and that a resumed run is the run that was never stopped."""

import itertools
import random
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import limjax
from limjax.checkpoints import Checkpoints
from limjax.tasks import digits_mlp, quadratic

pytestmark = pytest.mark.optax


@pytest.fixture(scope="module")
def small():
    return digits_mlp(width=8, depth=1)


# What a run is compared with makes its program several times larger, and none of these tests ask for it.
ALONE = dict(compare=())


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    """The checkpoints of a run of ten steps."""
    folder = tmp_path_factory.mktemp("finished")
    limjax.train(small, steps=10, barrier=limjax.StaticBarrier(11.0), checkpoints=str(folder), **ALONE)
    return folder


@pytest.fixture
def saved(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "checkpoints")


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_summary_has_the_promised_numbers(small):
    result = limjax.train(small, steps=60, hops="exact", compare=("static",))
    promised = [
        "task",
        "barrier",
        "hops",
        "seed",
        "steps",
        "parameters",
        "train_loss",
        "test_loss",
        "test_accuracy",
        "heat_kt",
        "heat_kt_per_parameter",
        "heat_joules",
        "actuation_kt",
        "path_levels",
        "saturated_fraction",
        "static_heat_kt",
        "landauer_kt",
        "wall_seconds",
        "device",
        "versions",
        "result",
    ]
    assert set(promised) <= set(result.summary)
    assert result.summary["heat_kt"] == pytest.approx(limjax.total(result.ledger))
    assert result.summary["landauer_kt"] == pytest.approx(np.log(2) * 60 * result.summary["parameters"])
    assert result.summary["heat_joules"] == pytest.approx(result.summary["heat_kt"] * 4.141947e-21)
    assert [row.step for row in result.history][-1] == 60


@pytest.mark.slow
def test_weights_end_on_the_ladder(small):
    result = limjax.train(small, steps=40, hops="exact", **ALONE)
    for leaf in jax.tree.leaves(result.params):
        levels = np.asarray(leaf, np.float64) * 2**10
        np.testing.assert_array_equal(levels, np.round(levels))


@pytest.mark.parametrize("options", [ALONE, pytest.param({}, marks=pytest.mark.slow)], ids=["alone", "compared"])
def test_resumed_run_is_the_run_that_was_never_stopped(small, tmp_path, options):
    asked = dict(steps=70, hops="exact", seed=3, **options)
    whole = limjax.train(small, **asked)

    def stop_after_30(row, _):
        if row.step >= 30:
            raise KeyboardInterrupt

    folder = str(tmp_path / "checkpoints")
    first = limjax.train(small, checkpoints=folder, on_progress=stop_after_30, **asked)
    assert first.result is limjax.Result.interrupted and first.summary["steps"] == 30
    second = limjax.train(small, checkpoints=folder, resume=True, **asked)
    assert second.result is limjax.Result.completed
    assert_same(second.params, whole.params)
    assert_same(second.state, whole.state)
    assert [row[:-1] for row in second.history] == [row[:-1] for row in whole.history]


@pytest.mark.slow
def test_a_save_that_was_cut_off_leaves_the_one_before_it(small, saved):
    # What a process killed in the middle of the next save leaves behind: a folder that was never renamed.
    (saved / "40.orbax-checkpoint-tmp").mkdir()
    (saved / "40.orbax-checkpoint-tmp" / "arrays").write_bytes(b"half")
    store = Checkpoints(saved)
    assert store.latest() == 10
    store.close()
    again = dict(barrier=limjax.StaticBarrier(11.0), checkpoints=str(saved), resume=True, **ALONE)
    assert limjax.train(small, steps=10, **again).summary["steps"] == 10


def test_a_damaged_checkpoint_is_named(small, saved):
    for path in (saved / "10").rglob("*"):
        if path.is_file() and path.stat().st_size > 200:
            path.write_bytes(bytes(100))
    with pytest.raises(ValueError, match=r"checkpoints/10 cannot be read.*Delete that folder"):
        limjax.train(small, steps=10, barrier="static:height=11", checkpoints=str(saved), resume=True, **ALONE)


def test_a_loss_that_is_not_finite_ends_with_the_last_good_state(small):
    result = limjax.train(small, steps=100, learning_rate=1e38, hops="mean", **ALONE)
    assert result.result is limjax.Result.nonfinite and "learning rate" in result.result.help
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.params))
    assert result.summary["steps"] < 100 and result.summary["result"] == "nonfinite"


def test_mean_mode_is_plain_adam(small):
    """The ledger only watches: the parameters are those of the wrapped optimizer, bit for bit, whatever the barrier."""
    a = limjax.train(small, steps=30, hops="mean", barrier="static", **ALONE)
    b = limjax.train(small, steps=30, hops="mean", barrier="fisher", **ALONE)
    assert_same(a.params, b.params)
    assert limjax.total(a.ledger) != limjax.total(b.ledger)


@pytest.mark.slow
def test_own_task_and_seed(small):
    x = np.linspace(-1, 1, 64, dtype=np.float32)
    task = limjax.Task(
        name="line",
        init=lambda key: {"slope": jax.random.normal(key, (1,))},
        loss=lambda params, batch: jnp.mean((params["slope"] * batch["x"] - batch["y"]) ** 2),
        train={"x": x, "y": 2 * x},
    )
    settings = dict(steps=200, batch_size=16, learning_rate=0.05, **ALONE)
    runs = [limjax.train(task, seed=seed, **settings) for seed in (0, 0, 1)]
    assert_same(runs[0].params, runs[1].params)
    assert float(runs[0].params["slope"][0]) != float(runs[2].params["slope"][0])
    assert float(runs[0].params["slope"][0]) == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"batch_size": 10_000}, "larger than the 1437 training examples"),
        ({"learning_rate": -1.0}, "learning_rate must be a positive number, got -1.0"),
        ({"seed": -1}, "seed must be"),
        ({"barrier": "lyapunow"}, "Did you mean 'lyapunov'"),
        ({"barrier": "static:hight=3"}, "does not take 'hight=3'"),
        ({"barrier": "static:height=tall"}, "must be a number, got 'tall'"),
    ],
)
def test_wrong_settings_are_named(small, settings, said):
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        limjax.train(small, **settings)


@pytest.mark.slow
def test_quadratic_needs_no_data():
    result = limjax.train(quadratic(cells=16), steps=20, hops="mean")
    assert result.summary["test_loss"] is not None or result.summary["train_loss"] > 0


@pytest.mark.slow
def test_kill_minus_nine_in_the_middle_of_a_save(tmp_path):
    """Killed twice while a temporary checkpoint lies there, at a random moment; the end is that of an unstopped run."""
    folder = tmp_path / "checkpoints"
    script = (
        "import sys, limjax\n"
        "from limjax.tasks import quadratic\n"
        "limjax.train(quadratic(cells=100_000), steps=100, hops='gaussian', checkpoints=sys.argv[1], resume=True,\n"
        "             checkpoint_seconds=0.0, compare=())\n"
    )
    generator = random.Random()
    reached = []
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", script, str(folder)], stderr=subprocess.PIPE)
        try:
            waited = time.monotonic() + 120
            while time.monotonic() < waited and process.poll() is None:
                names = [path.name for path in folder.iterdir()] if folder.exists() else []
                saved = [int(name) for name in names if name.isdigit()]
                # Past the last kill, with one whole checkpoint and one that is being written.
                if saved and max(saved) > max(reached, default=0) and any("tmp" in name for name in names):
                    time.sleep(generator.uniform(0, 0.03))
                    break
                time.sleep(1e-3)
            assert process.poll() is None, process.stderr.read().decode()[-2000:]
        finally:
            process.kill()
            process.communicate()
        reached.append(max(int(path.name) for path in folder.iterdir() if path.name.isdigit()))
    task = quadratic(cells=100_000)
    settings = dict(steps=100, hops="gaussian", **ALONE)
    resumed = limjax.train(task, checkpoints=str(folder), resume=True, **settings)
    whole = limjax.train(task, **settings)
    assert 0 < reached[0] < reached[1] < 100
    assert resumed.result is limjax.Result.completed
    assert_same(resumed.params, whole.params)
    assert_same(resumed.state, whole.state)
    # The last column is the wall time.
    np.testing.assert_array_equal(np.array(resumed.history)[:, :-1], np.array(whole.history)[:, :-1])


def test_another_runs_checkpoint_is_refused(saved):
    with pytest.raises(ValueError, match=r"of a run with another loss.*start a new run in another folder"):
        other = digits_mlp(width=9, depth=1)
        limjax.train(other, steps=10, barrier="static:height=11", checkpoints=str(saved), resume=True, **ALONE)


@pytest.mark.parametrize(
    "changed, message",
    [
        (dict(steps=20), "has steps = 10, but 20 was given"),
        (dict(seed=4), "seed = 0, but 4 was given"),
        (dict(cell=limjax.ArrheniusCell(lsb=2**-9)), "lsb = 0.0009765625, but 0.001953125"),
        (dict(barrier=limjax.StaticBarrier(12.0)), r"another barrier: .height is 11.0, but 12.0 was given"),
        (dict(cell=limjax.ArrheniusCell(recovery=0.5)), "another cell: .recovery"),
        (
            dict(mesh="data=1"),
            r"mesh = None, but 'data=1,model=1' was given \(gradients would be summed in another order",
        ),
    ],
)
def test_a_resumed_run_keeps_its_settings(small, saved, changed, message):
    settings = dict(steps=10, barrier=limjax.StaticBarrier(11.0), checkpoints=str(saved), **ALONE)
    with pytest.raises(ValueError, match=message):
        limjax.train(small, **settings | changed, resume=True)


@pytest.mark.slow
def test_micro_batches_stay_with_the_run(small, tmp_path):
    settings = dict(steps=10, batch_size=32, mesh="data=1", checkpoints=str(tmp_path / "checkpoints"), **ALONE)
    limjax.train(small, **settings, microbatches=4)
    assert limjax.train(small, **settings, resume=True).summary["microbatches"] == 4
    with pytest.raises(ValueError, match="microbatches = 4, but 2 was given"):
        limjax.train(small, **settings, microbatches=2, resume=True)


@pytest.mark.slow
def test_interruption_without_checkpoints_and_before_the_first_chunk(small):
    def stop(row, _):
        raise KeyboardInterrupt

    result = limjax.train(small, steps=100, on_progress=stop, **ALONE)
    assert result.result is limjax.Result.interrupted and "--resume" in result.result.help
    assert result.summary["steps"] == len(result.history) * 2 == 2


@pytest.mark.slow
def test_chunks_do_not_change_the_run(small):
    """Progress is asked for 50 times a run, whatever its length; the last chunk may be shorter."""
    seen = []
    result = limjax.train(
        small, steps=53, hops="gaussian", **ALONE, on_progress=lambda row, left: seen.append((row.step, left))
    )
    steps = [step for step, _ in seen]
    assert steps == [row.step for row in result.history] == [*range(2, 53, 2), 53]
    assert seen[-1][1] == 0.0 or np.isnan(seen[-1][1])
    heat = [row.heat_kt_per_parameter for row in result.history]
    assert all(b >= a for a, b in itertools.pairwise(heat))
    assert result.summary["heat_kt"] == pytest.approx(heat[-1] * result.summary["parameters"])
