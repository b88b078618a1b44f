"""Settings of a run: checked, kept as JSON, compared when the run goes on; and what is prepared from them."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import limjax
from limjax.tasks import get_task
from limjax.training import RunSettings, prepare

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
        (dict(temperature="warm"), "temperature must be a positive number, got 'warm'"),
        (dict(hops="many"), "hops must be"),
        (dict(barrier=3), "barrier must be a text, got 3"),
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
        mesh=None, microbatches=8,
    )  # fmt: skip
    assert set(other) == {field.name for field in dataclasses.fields(RunSettings)}
    for name, value in other.items():
        with pytest.raises(ValueError, match=f"The run in here has {name} = .*resumed run keeps its settings"):
            one.continued("The run in here", {name: value})
    assert one.continued("here", {"mesh": "data=8"}).mesh == "data=8"


def test_the_name_of_a_barrier_stands_for_its_numbers_and_a_cell_is_as_precise_as_it_is():
    one = settings(barrier="lyapunov:start=9", step_time=1e-3)
    assert one.continued("here", {"barrier": "lyapunov", "step_time": float(np.float32(1e-3))}) == one
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
