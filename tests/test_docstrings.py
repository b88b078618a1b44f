"""The examples in the docstrings run."""

import doctest
import importlib
import pkgutil

import pytest

import limjax

MODULES = ["limjax"] + [module.name for module in pkgutil.walk_packages(limjax.__path__, "limjax.")]

pytestmark = pytest.mark.optax


@pytest.mark.parametrize("name", MODULES)
def test_examples_in(name):
    module = importlib.import_module(name)
    failures, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert failures == 0
