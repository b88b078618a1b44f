"""Strict test set-up: dtype and rank promotion are errors, warnings are errors, reference values load once."""

import collections
import json
import os
import pathlib
import platform

# Before any import of jax and numpy: no pre-allocation on machines with a GPU, and one thread of BLAS in each of the workers, which
# have a core each; more wait in turns.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

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
    """Programs that were compiled are kept for the next run, which takes half the time; `pytest --cache-clear` forgets them.

    The folder is named by what decides how a program is compiled, and each worker has its own: JAX does not write them in one piece.
    For the same reason the programs that tests start, and kill, have none.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    name = f"jax-{jax.__version__}-{jaxlib.__version__}-{platform.machine()}-{worker}"
    if hasattr(config, "cache"):
        # The text of the language tasks is made here and not in the user's folder; matplotlib's list of fonts stays where it is.
        usual = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        os.environ.setdefault("MPLCONFIGDIR", os.path.join(usual, "matplotlib"))
        os.environ["XDG_CACHE_HOME"] = str(config.cache.mkdir("home"))
        jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir(name)))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    seen = collections.Counter()
    for item in items:
        family = item.get_closest_marker("representatives")
        if family is not None:
            seen[item.path, item.originalname] += 1
            if seen[item.path, item.originalname] > family.args[0]:
                item.add_marker(pytest.mark.slow)
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
