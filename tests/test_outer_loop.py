"""The loop around what is dear to evaluate, and what a long search says while it works."""

import math
import pickle

import jax.numpy as jnp
import optax
import pytest

from limjax.numerics._outer_loop import Evaluated, outer_loop
from limjax.numerics._result_code import ResultCode
from limjax.tuning import Progress

pytestmark = pytest.mark.optax


def descent(values, accept=lambda point, found: False, steps=None, **how):
    """Points that a loop with slope one and these values goes through."""
    points = []

    def evaluate(point, k, state):
        points.append(float(point))
        if values[k] is KeyboardInterrupt:
            raise KeyboardInterrupt
        return Evaluated(values[k], jnp.ones(()), math.isfinite(values[k]))

    how = {"optimizer": optax.sgd(1.0), "schedule": lambda k: 0.5**k} | how
    code = outer_loop(evaluate, accept, jnp.asarray(8.0), steps=steps or len(values), **how)
    return code, points


@pytest.mark.parametrize(("how", "third"), [({}, 0.25), ({"schedule": None}, 1.0)], ids=["schedule", "none"])
def test_failures_go_back_to_the_last_good_point_with_half_the_rate(how, third):
    code, points = descent([1.0, math.nan, 1.0, 1.0], **how)
    # Steps of 1 from the first; back; half of what the third would be.
    assert code is ResultCode.completed and points == [8.0, 7.0, 8.0, 8.0 - 0.5 * third]


def test_without_a_schedule_steps_are_the_optimizer_s_own():
    assert descent([1.0] * 3, schedule=None)[1] == [8.0, 7.0, 6.0]


@pytest.mark.parametrize(
    ("values", "code", "taken"),
    [
        ([math.nan] * 9, "diverged", 1),
        ([1.0, *[math.nan] * 9], "diverged", 7),
        ([1.0, 1.0, KeyboardInterrupt, 1.0], "interrupted", 3),
    ],
)
def test_how_a_loop_ends(values, code, taken):
    found, points = descent(values)
    assert str(found) == code and len(points) == taken and found.help


def test_a_loop_stops_where_it_is_told_to():
    code, points = descent([3.0, 2.0, 1.0], accept=lambda point, found: found.value == 2.0)
    assert code is ResultCode.converged and len(points) == 2


def test_codes_are_words_with_texts():
    assert all(code.help.endswith(".") and code == str(code) for code in ResultCode)
    assert ResultCode("diverged") is ResultCode.diverged is pickle.loads(pickle.dumps(ResultCode.diverged))


def test_the_time_left_counts_compilation_apart(monkeypatch):
    """A program's first call takes 10 s, each run 1 s: after it is called twice both are known."""
    now, heard = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress(lambda words, left: heard.append((words, left)))
    progress.plan(10, 2)
    progress.did("compiling")
    for seconds, runs, program in ((12, 2, "a"), (2, 2, "a"), (12, 2, "b"), (4, 4, "b")):
        now[0] += seconds
        progress.did(program, runs, program)
    assert [words for words, _ in heard] == ["compiling", "a", "a", "b", "b"]
    assert [left for _, left in heard[2:]] == [6 + 12, 4, 0]
    assert all(math.isnan(left) for _, left in heard[:2])
