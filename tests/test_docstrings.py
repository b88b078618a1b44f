"""The examples in the docstrings run."""

import doctest
import importlib
import pkgutil

import pytest

import limjax

MODULES = ["limjax"] + [module.name for module in pkgutil.walk_packages(limjax.__path__, "limjax.")]

pytestmark = pytest.mark.optax


# Whole tunings, scans and descents.
LONG = (
    "limjax.consolidation._run",
    "limjax.limits._convergences",
    "limjax.limits.direct",
    "limjax.limits.scans",
    "limjax.physics.washboard",
    "limjax.simulate._jump_moments",
    "limjax.simulate._optimise",
    "limjax.tuning._one_problem",
    "limjax.tuning._several_problems",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in MODULES]
)
def test_examples_in(name):
    module = importlib.import_module(name)
    failures, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert failures == 0
