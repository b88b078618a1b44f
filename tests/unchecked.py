"""Calls that the type checks of the tests would not let through to the code that is tested."""

import contextlib

import jaxtyping


@contextlib.contextmanager
def unchecked_types():
    """What a user sees, for whom no annotation is checked at run time."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
