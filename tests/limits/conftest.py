"""These tests run hundreds of small functions once: compiling them without optimisation is most of the time saved."""

import jax
import pytest


@pytest.fixture(autouse=True)
def compiled_in_a_hurry(request):
    """No optimisation by the compiler, but where a training run takes many steps."""
    if request.node.get_closest_marker("optax"):
        yield
        return
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
