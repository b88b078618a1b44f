"""States, results and barriers come back as they were, whatever writes them."""

import copy
import io
import pickle
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import serialization
from flax.training.train_state import TrainState

import limjax
from limjax.barriers import barrier_from_name, barrier_names
from limjax.barriers._functions import FunctionByValue

pytestmark = pytest.mark.optax

CELL = limjax.ArrheniusCell()
RATE = optax.cosine_decay_schedule(1e-3, 50)
PARAMS = {"w": jnp.linspace(-1.0, 1.0, 5), "b": jnp.zeros(2)}


def own_schedule(top):
    def inner(step):
        return RATE(step) * 1e3 + top

    return lambda step: inner(step) + 1.0


def recursive_schedule(top):
    def risen(step):
        return top if step <= 0 else risen(step - 1) + 1.0

    return risen


def barriers():
    named = {name: barrier_from_name(name, CELL, 50, RATE) for name in barrier_names()}
    return named | {
        "optax schedule": limjax.ScheduledBarrier(optax.linear_schedule(8.0, 20.0, 50)),
        "function in a function": limjax.ScheduledBarrier(own_schedule(9.0)),
    }


NAMES = [*barrier_names(), "optax schedule", "function in a function"]


def state_of(barrier, steps=2):
    opt = limjax.learning_in_memory(optax.adam(1e-2), CELL, barrier, hops="exact", key=jax.random.key(3))
    state = opt.init(PARAMS)
    for _ in range(steps):
        _, state = opt.update(PARAMS, state, PARAMS, value=jnp.float32(1.0))
    return opt, state


def by_orbax(state, folder):
    with ocp.StandardCheckpointer() as store:
        store.save(folder / "saved", state)
        store.wait_until_finished()
        return store.restore(folder / "saved", state)


def by_equinox(state, _):
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, state)
    file.seek(0)
    return eqx.tree_deserialise_leaves(file, state)


WAYS = {
    "pickle": lambda state, _: pickle.loads(pickle.dumps(state)),
    "deepcopy": lambda state, _: copy.deepcopy(state),
    "flax": lambda state, _: serialization.from_bytes(state, serialization.to_bytes(state)),
    "orbax": by_orbax,
    "equinox": by_equinox,
    "jax.tree": lambda state, _: jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(state)),
}


@pytest.mark.representatives(2)
@pytest.mark.parametrize("name", NAMES)
def test_states_come_back(tmp_path, name):
    opt, state = state_of(barriers()[name])
    wanted = opt.update(PARAMS, state, PARAMS, value=jnp.float32(0.5))
    for way, round_trip in WAYS.items():
        back = round_trip(state, tmp_path)
        # The same tree, with functions in it too: nothing is compiled again, and the two can be mapped over together.
        assert jax.tree.structure(back) == jax.tree.structure(state), way
        jax.tree.map(np.testing.assert_array_equal, back, state)
        back = jax.tree.map(jnp.asarray, back)
        jax.tree.map(np.testing.assert_array_equal, opt.update(PARAMS, back, PARAMS, value=jnp.float32(0.5)), wanted)


def test_flax_train_states_with_barriers_of_ones_own():
    """A barrier that was defined after Flax was imported, in a Flax train state, without a loss."""

    class Rising(limjax.barriers.AbstractBarrier):
        name = "rising"
        slope: jax.Array

        def evaluate(self, inputs, state):
            return self.slope * inputs.step.astype(self.slope.dtype) + 9.0, state

    opt = limjax.learning_in_memory(optax.sgd(0.1), CELL, Rising(jnp.float32(0.5)))
    state = TrainState.create(apply_fn=None, params=PARAMS, tx=opt).apply_gradients(grads=PARAMS)
    content = serialization.to_bytes(state)
    back = serialization.from_bytes(TrainState.create(apply_fn=None, params=PARAMS, tx=opt), content)
    jax.tree.map(np.testing.assert_array_equal, back.opt_state, state.opt_state)
    other = limjax.learning_in_memory(optax.sgd(0.1), CELL, limjax.StaticBarrier(9.0))
    with pytest.raises(ValueError, match=r"StaticBarrier is of another kind: \.height, \.slope"):
        serialization.from_bytes(TrainState.create(apply_fn=None, params=PARAMS, tx=other), content)


@pytest.mark.slow
def test_flax_may_be_imported_before_or_after():
    code = (
        "import sys\n{first}\n{second}\n"
        "import jax.numpy as jnp, optax\nfrom flax import serialization\n"
        "opt = limjax.learning_in_memory(optax.sgd(0.1), limjax.ArrheniusCell(), limjax.StaticBarrier(10.0))\n"
        "print(len(serialization.to_bytes(opt.init({{'w': jnp.ones(3)}}))))\n"
    )
    for lines in (
        ("import limjax", "from flax import serialization"),
        ("from flax import serialization", "import limjax"),
    ):
        program = code.format(first=lines[0], second=lines[1])
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert run.returncode == 0 and int(run.stdout) > 500, run.stderr[-2000:]


@pytest.mark.parametrize("name", ["lyapunov", "scheduled"])
def test_results_come_back(name):
    result = limjax.train("quadratic", steps=6, barrier=name, compare=())
    for back in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert back.summary == result.summary and str(back.report) == str(result.report)
        np.testing.assert_array_equal(np.array(back.history), np.array(result.history))
        assert jax.tree.structure(back.state) == jax.tree.structure(result.state)
        jax.tree.map(np.testing.assert_array_equal, (back.params, back.state), (result.params, result.state))


def test_schedules_are_values():
    def rising(stop):
        return limjax.ScheduledBarrier(optax.linear_schedule(8.0, stop, 50))

    assert jax.tree.structure(rising(20.0)) == jax.tree.structure(rising(20.0))
    assert jax.tree.structure(rising(20.0)) != jax.tree.structure(rising(21.0))
    assert hash(FunctionByValue(own_schedule(9.0))) == hash(FunctionByValue(own_schedule(9.0)))
    by_array = [FunctionByValue(lambda step, table=table: table[0] * step) for table in np.array([[2.0], [2.0], [3.0]])]
    assert by_array[0] == by_array[1] != by_array[2]
    by_itself = [FunctionByValue(recursive_schedule(top)) for top in (9.0, 9.0, 8.0)]
    assert by_itself[0] == by_itself[1] != by_itself[2]


def test_schedules_of_a_script_reach_another_process(tmp_path):
    script = (
        "import pickle, sys, optax, limjax\n"
        "top = 9.0\n"
        "def schedule(step): return top + optax.linear_schedule(0.0, 10.0, 10)(step)\n"
        "pickle.dump(limjax.ScheduledBarrier(schedule), open(sys.argv[1], 'wb'))\n"
    )
    path = tmp_path / "barrier.pickle"
    run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert float(pickle.loads(path.read_bytes()).schedule(jnp.int32(5))) == pytest.approx(14.0)
