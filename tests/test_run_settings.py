"""Settings of a run: checked, kept as JSON, compared when the run goes on; and what is prepared from them."""

import dataclasses
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import limjax
import limjax.cli.limits as limits_command
import limjax.cli.train as train_command
from limjax.limits import Workload
from limjax.memory import AbstractHops
from limjax.sweeps import Setting, sweep
from limjax.tasks import get_task
from limjax.training import RunSettings, execute, prepare
from limjax.tuning import Problem

pytestmark = pytest.mark.optax


def settings(**changed):
    return RunSettings.of(get_task("quadratic"), **{"steps": 8} | changed)


@given(
    steps=st.integers(1, 2**31 - 1),
    seed=st.integers(0, 2**32 - 1),
    rate=st.floats(1e-30, 1e30),
    factor=st.none() | st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=4),
    bits=st.none() | st.integers(2, 8),
    mesh=st.none() | st.sampled_from(["data=1", "data=4,model=2"]),
)
def test_json_there_and_back(steps, seed, rate, factor, bits, mesh):
    one = settings(steps=steps, seed=seed, learning_rate=rate, learning_rate_factor=factor, bits=bits, mesh=mesh)
    assert RunSettings.from_json(json.loads(json.dumps(one.to_json()))) == one
    assert one.continued("The run", one.to_json()) == one


def test_numbers_of_any_library():
    one = settings(steps=np.int64(8), seed=jnp.uint32(3), learning_rate=np.float32(0.5), lsb=np.float64(0.25))
    assert json.loads(json.dumps(one.to_json()))["seed"] == 3 and one.cell().lsb == 0.25


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (dict(steps=0), "steps must be a whole number of at least 1, got 0"),
        (dict(steps=2**31), "steps must be"),
        (dict(steps=8.0), "steps must be"),
        (dict(batch_size=True), "batch_size must be"),
        (dict(seed=-1), "from 0 to 2\\*\\*32 - 1, got -1"),
        (dict(learning_rate=float("nan")), "learning_rate must be a positive number, got nan"),
        (dict(temperature="warm"), "temperature must be a number, got 'warm'"),
        (dict(hops=3), "hops must be the name of a kind of hops"),
        (dict(barrier=3), "barrier must be the name of a barrier, .*, got 3"),
        (dict(learning_rate_factor=[1.0]), "at least two positive numbers"),
        (dict(learning_rate_factor=["a", "b"]), "learning_rate_factor must be"),
        (dict(microbatches=2), "microbatches needs a mesh"),
        (dict(storage="int8", hops="mean"), 'needs hops="exact"'),
    ],
)
def test_wrong_settings_are_named(changed, said):
    with pytest.raises(ValueError, match=said):
        settings(**changed)


def test_every_field_is_compared():
    one = settings(learning_rate_factor=[1.0, 0.5], bits=8, storage="int8", mesh="data=1", microbatches=4)
    other = dict(
        task="digits-mlp", steps=9, batch_size=2, learning_rate=0.3, lsb=0.125, barrier="static:height=9", hops="mean",
        attempt_rate=1e8, step_time=1e-6, temperature=4.0, seed=1, learning_rate_factor=[1.0, 0.25], bits=4, storage="int16",
        mesh=None, microbatches=8, memory_device="ecram", max_affinity=6.0,
    )  # fmt: skip
    budgets = {"stop_at_heat", "stop_at_loss"}
    assert set(other) | budgets == {field.name for field in dataclasses.fields(RunSettings)}
    for name, value in other.items():
        with pytest.raises(ValueError, match=f"The run in here has {name} = .*resumed run keeps its settings"):
            one.continued("The run in here", {name: value})
    assert one.continued("here", {"mesh": "data=8"}).mesh == "data=8"
    for name in budgets:  # only ever said of a run that goes on: it may end later, or not at all
        with_budget = one.continued("here", {name: 3.0})
        assert (
            getattr(with_budget, name) == 3.0 and getattr(with_budget.continued("here", {name: np.inf}), name) is None
        )


def test_every_setting_has_an_option():
    """What has none would take its default without a word."""
    names = [{field.name for field in dataclasses.fields(kind)} for kind in (RunSettings, train_command.Settings)]
    assert names[0] == names[1]
    names = [{field.name for field in dataclasses.fields(kind)} for kind in (Workload, limits_command.Training)]
    assert names[0] == names[1]


def test_a_cell_is_as_precise_as_it_is():
    one = settings(step_time=1e-3)
    assert one.continued("here", {"step_time": float(np.float32(1e-3))}) == one
    with pytest.raises(ValueError, match="has step_time"):
        one.continued("here", {"step_time": 1.001e-3})


def test_notes_of_earlier_versions_are_understood():
    old = settings(mesh="data=4,model=2", microbatches=8).to_json()
    old |= {"requested_steps": old.pop("steps"), "mesh": {"data": 4, "model": 2}, "barrier": "moment"}
    del old["bits"]
    found = RunSettings.from_json(old)
    assert found.steps == 8 and found.mesh == "data=4,model=2" and found.bits is None
    assert "steps" in RunSettings.names_in(old) and "bits" not in RunSettings.names_in(old)


def test_a_prepared_run_is_the_run_of_train():
    by_name = prepare(settings(barrier="static:height=12", hops="exact"))
    task = get_task("quadratic")
    by_object = prepare(
        settings(), task, cell=limjax.ArrheniusCell(lsb=task.defaults.lsb), barrier=limjax.StaticBarrier(12.0)
    )
    jax.tree.map(np.testing.assert_array_equal, by_name.params(), by_object.params())
    assert all(bool((a == b).all()) for a, b in zip(by_name.keys, by_object.keys))
    assert [by_name.barrier.height, by_name.cell.lsb] == [by_object.barrier.height, by_object.cell.lsb]
    assert by_name.schedule is not None and prepare(settings(), optimizer=by_name.inner).schedule is None
    assert by_name.settled().settings.microbatches is None
    with pytest.raises(ValueError, match="batch_size 5000"):
        prepare(settings(batch_size=5000), get_task("digits-mlp"))


# Runs that go on


ALONE = dict(compare=(), steps=4, hops="exact")


def saved_run(folder, **options):
    result = limjax.train("quadratic", checkpoints=str(folder), **ALONE | options)
    assert result.result is limjax.Result.completed


@pytest.mark.representatives(1)
@pytest.mark.parametrize(
    ("first", "again"),
    [
        (dict(barrier="static:height=20"), dict(barrier="static:height=20.0")),
        (dict(barrier="moment:scale=1"), dict(barrier="moment:scale=1,decay=0.95")),
        (dict(barrier=limjax.StaticBarrier(14.0)), dict(barrier="static:height=14")),
        (dict(cell=limjax.ArrheniusCell(bits=8)), dict(cell=limjax.ArrheniusCell(levels=(-128, 127)))),
    ],
)
def test_the_same_run_in_other_words_goes_on(tmp_path, first, again):
    saved_run(tmp_path, **first)
    result = limjax.train("quadratic", checkpoints=str(tmp_path), resume=True, **ALONE | again)
    assert result.summary["steps"] == 4


@pytest.mark.parametrize(
    ("again", "said"),
    [
        (dict(barrier="static:height=13"), "another barrier: .height is 14.0, but 13.0 was given"),
        (dict(barrier="fowler-nordheim:start=14"), "has barrier = 'static', but 'fowler-nordheim' was given"),
        (dict(cell=limjax.AsymmetricCell(0.5)), "another cell"),
        (dict(cell=limjax.ArrheniusCell(bits=8)), "another cell"),
        (dict(hops="gaussian"), "has hops = 'exact', but 'gaussian' was given"),
    ],
)
def test_another_run_does_not(tmp_path, again, said):
    saved_run(tmp_path, barrier=limjax.StaticBarrier(14.0))
    options = dict(barrier=limjax.StaticBarrier(14.0)) | again
    with pytest.raises(ValueError, match=said):
        limjax.train("quadratic", checkpoints=str(tmp_path), resume=True, **ALONE | options)


@pytest.mark.slow
def test_a_folder_of_an_earlier_version_goes_on_twice(tmp_path, monkeypatch):
    """Without `bits` and `microbatches` in its notes, and with their names of then."""
    cell = limjax.ArrheniusCell(lsb=2.0**-8, bits=8)

    def stop(row, left):
        raise KeyboardInterrupt

    options = ALONE | dict(steps=200, cell=cell, barrier="static:height=12", checkpoints=str(tmp_path))
    limjax.train("quadratic", **options, on_progress=stop)
    path = max(tmp_path.glob("*/notes/metadata"))
    notes = json.loads(path.read_text())
    old = notes["settings"]
    old |= {"requested_steps": old.pop("steps")}
    for name in ("bits", "microbatches"):
        del old[name]
    del notes["checksum"]
    path.write_text(json.dumps(notes))
    assert limjax.train("quadratic", **options, resume=True, on_progress=stop).result is limjax.Result.interrupted
    assert limjax.train("quadratic", **options, resume=True).summary["steps"] == 200


class Still(AbstractHops):
    """Nothing moves."""

    name = "still"

    def draw(self, key, leaf, step, cell, drift, barrier, activity):
        return 0 * drift


def test_hops_of_ones_own():
    result = limjax.train("quadratic", **ALONE | dict(hops=Still()))
    assert result.summary["hops"] == "still" and result.summary["net_levels"] == 0.0 and result.summary["heat_kt"] > 0
    outcome = sweep("quadratic", [Setting(limjax.StaticBarrier(12.0))], seeds=1, hops=Still(), steps=4)
    assert outcome.heat_kt_per_parameter[0, 0] > 0


def test_execute_notes_signals_and_prepare_takes_a_mesh(tmp_path, monkeypatch):
    sent = []

    def init(key):
        if not sent and not isinstance(key, jax.core.Tracer):
            sent.append(signal.raise_signal(signal.SIGINT))
        return jnp.ones(4)

    task = limjax.Task("bowl", init, lambda params, batch: jnp.sum(params**2))
    run = prepare(RunSettings.of(task, steps=4), task, compare=())
    assert not sent
    assert execute(run, str(tmp_path)).result is limjax.Result.interrupted
    assert (tmp_path / "0").is_dir()
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("data", "model"))
    run = prepare(settings(steps=4), mesh=mesh, compare=())
    assert execute(run).summary["mesh"] == {"data": 1, "model": 1} and run.settings.mesh == "data=1,model=1"


@pytest.mark.slow
def test_a_problem_is_differentiable_in_its_cell():
    def heat(rate):
        problem = Problem(get_task("quadratic"), limjax.ArrheniusCell(attempt_rate=rate), steps=4, validation=0.0)
        outcome = problem.run(problem.design(limjax.StaticBarrier(10.0)), jnp.arange(1), hops="mean")
        return outcome.heat_kt_per_parameter[0]

    slope, rate = jax.grad(heat)(1e9), 1e9
    difference = (float(heat(1.02e9)) - float(heat(0.98e9))) / 0.04e9
    assert slope * rate == pytest.approx(difference * rate, rel=1e-2) and slope < 0
