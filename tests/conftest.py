"""Strict test set-up: dtype and rank promotion are errors, warnings are errors, reference values load once."""

import json
import os
import pathlib

# Before any import of jax: no pre-allocation on machines with a GPU, and eight host devices so that
# sharding is tested everywhere.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

REFERENCE = pathlib.Path(__file__).with_name("reference_values.json")


@pytest.fixture(scope="session")
def reference():
    """Entries of reference_values.json by name."""
    return {entry["name"]: entry for entry in json.loads(REFERENCE.read_text())}


@pytest.fixture
def x64():
    """Runs one test with 64-bit floats."""
    with jax.enable_x64(True):
        yield
