"""What the tests of the limits share: compiling in a hurry, gradients against differences, numbers in messages."""

import re

import jax
import numpy as np

_HURRY = {"xla_disable_hlo_passes": "fusion", "xla_backend_optimization_level": 0}


def quick_jit(function):
    """`jax.jit` for functions that run once: compiling is most of what they take."""
    return jax.jit(function, compiler_options=_HURRY)


def check_gradient(function, *points, double=1e-5, single=3e-3):
    """Automatic against central differences in float64, and float32 against float64, at several points at once.

    Both are compared as changes per relative change of an argument, so that one tolerance serves 1e9 and 1e-3.
    """
    points = np.array(points, np.float64)
    count, arguments = points.shape
    step = 1e-5 * np.abs(points)
    shifts = np.eye(arguments)[:, None, :] * step
    everything = np.concatenate([points[None], points + shifts, points - shifts]).reshape(-1, arguments)

    def total(*columns):
        values = function(*columns)
        return values.sum(), values

    compiled = quick_jit(jax.value_and_grad(total, tuple(range(arguments)), has_aux=True))
    with jax.enable_x64(True):
        (_, values), gradient = compiled(*everything.T)
    up, down = np.asarray(values)[count:].reshape(2, arguments, count)
    relative = np.stack(gradient, -1)[:count] * points
    size = np.abs(relative).max(axis=1, keepdims=True)
    assert np.isfinite(relative).all() and (size > 0).all()
    differences = (up - down).T / 2e-5
    assert (np.abs(differences - relative) <= double * size).all(), f"{differences}\n{relative}"
    narrow = np.stack(compiled(*points.T.astype(np.float32))[1], -1)
    assert narrow.dtype == np.float32
    assert (np.abs(narrow * points - relative) <= single * size).all(), f"{narrow * points}\n{relative}"


def nearest(message, word):
    """The number that a message gives as the nearest feasible `word`."""
    found = re.search(rf"nearest feasible {word} [^;.]*?([\d.e+-]*\d)(?:[.;]? |[.;]?$)", str(message))
    assert found, message
    return float(found[1])
