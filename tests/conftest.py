"""Strict test set-up: dtype and rank promotion are errors, warnings are errors, reference values load once."""

import json
import os
import pathlib
import platform
import tempfile

# Before any import of jax: no pre-allocation on machines with a GPU, and eight host devices so that
# sharding is tested everywhere.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import hypothesis
import jax
import jaxlib
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

# The first example of a property compiles: no test may depend on how fast the machine is.
hypothesis.settings.register_profile("limjax", deadline=None)
hypothesis.settings.load_profile("limjax")

REFERENCE = pathlib.Path(__file__).with_name("reference_values.json")


# Files that take minutes go first, so that no worker starts one when the others are done.
LONG = (
    "test_tuning",
    "test_parallel",
    "test_notebooks",
    "test_readme",
    "test_examples",
    "test_benchmarks",
    "test_simulate",
    "test_levels",
)


def pytest_configure(config):
    """Programs that were compiled are kept, for the other tests and processes of this run and for the next: half of its time.

    The folder is named by all that decides what a program becomes; `pytest --cache-clear` empties it.
    """
    name = f"jax-{jax.__version__}-{jaxlib.__version__}-{platform.machine()}"
    folder = config.cache.mkdir(name) if hasattr(config, "cache") else pathlib.Path(tempfile.gettempdir()) / name
    # In the environment, so that programs that tests start have it too.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pytest_collection_modifyitems(items):
    order = {name: k for k, name in enumerate(LONG)}
    items.sort(
        key=lambda item: min((k for name, k in order.items() if item.path.name.startswith(name)), default=len(LONG))
    )


@pytest.fixture(autouse=True)
def strict_dtype_promotion(request):
    """Strict promotion everywhere but in tests that run optax or Flax code, which is not written for it."""
    if request.node.get_closest_marker("optax"):
        yield
    else:
        with jax.numpy_dtype_promotion("strict"):
            yield


@pytest.fixture(scope="session")
def reference():
    """Entries of reference_values.json by name."""
    return {entry["name"]: entry for entry in json.loads(REFERENCE.read_text())}


@pytest.fixture
def compilations():
    """What was compiled since the test began, one entry for each program."""
    names = []

    def listen(event, duration, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(about.get("fun_name", "?"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def x64():
    """Runs one test with 64-bit floats."""
    with jax.enable_x64(True):
        yield
