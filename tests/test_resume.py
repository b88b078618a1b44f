"""A run that goes on must be the run that was saved; folders of earlier versions go on."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from a_line import GIVEN, line
from command_line import digest

import limjax
from limjax import _fingerprints as fingerprints

pytestmark = pytest.mark.optax


# Resuming another run


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
    assert fingerprints.of_function(lambda p: undefined, 1.0) == fingerprints.UNKNOWN  # noqa: F821
    assert fingerprints.combined("a", "b") != fingerprints.combined("ab") != fingerprints.UNKNOWN
    assert fingerprints.combined("a", fingerprints.UNKNOWN) == fingerprints.UNKNOWN
