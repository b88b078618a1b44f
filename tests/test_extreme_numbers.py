"""Every public function of numbers, with numbers that nobody means: a finite result, or an error that names an argument."""

import inspect
import math
import random
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from unchecked import unchecked_types

from limjax import devices, limits, simulate
from limjax.limits import approaches, bounds, direct, law, mean_path, neighbours, scans
from limjax.numerics._guards import element, finite
from limjax.physics import actuation, sizing, units, washboard

ROOMS = (
    units, actuation, sizing, washboard, limits, bounds, law, mean_path, neighbours, direct, approaches, scans, simulate, devices,
)  # fmt: skip
SANE = [1.0, 0.5, 2, 10.0, 1e-3, 300.0]
EXTREME = [
    1e300, 1e-300, -1e300, 1e308, 5e-324, 1e38, 1e-38, 1e20, 1e-20, 1e15, 1e7, 10**400, -(10**400), 10**30, np.int64(3), np.int8(2),
    np.uint8(1), np.float32(2), np.float64(1e300), True, np.bool_(True), "1", "x", None, math.nan, math.inf, 0.0, -1.0, 0,
]  # fmt: skip
# Curves with gaps where there is nothing, leaves that a search moves, and what a simulation gives: nobody makes these of numbers.
NOT_MEANT = {"scan_contraction", "Knots", "FokkerPlanckResult", "JumpMoments", "Snapshot"}


def is_numeric(parameter):
    said = str(parameter.annotation)
    others = ("Callable", "Sequence", "Mapping", "str", "Path", "Abstract", "list", "tuple")
    return any(word in said for word in ("ArrayLike", "float", "int", "Float[")) and not any(x in said for x in others)


def functions():
    """What the rooms export, or have of their own, that needs numbers alone; by name, with these arguments."""
    found = {}
    for room in ROOMS:
        for name in getattr(room, "__all__", None) or [x for x in vars(room) if not x.startswith("_")]:
            function = getattr(room, name)
            is_own = hasattr(room, "__all__") or getattr(function, "__module__", "") == room.__name__
            is_record = isinstance(function, type) and issubclass(function, tuple)
            if not (is_own and callable(function)) or is_record or inspect.isabstract(function) or name in NOT_MEANT:
                continue
            try:
                parameters = [
                    p
                    for p in inspect.signature(function).parameters.values()
                    if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
                ]
            except (TypeError, ValueError):
                continue
            if parameters and all(is_numeric(p) for p in parameters if p.default is p.empty):
                found[f"{room.__name__}.{name}"] = function, [p for p in parameters if is_numeric(p)]
    return found


def wrong_with(function, given):
    """What is wrong with the ending of a call; None if nothing is."""
    try:
        result = function(**given)
    except (ValueError, TypeError) as error:
        return None if any(re.search(rf"\b{name}\b", str(error)) for name in given) else repr(error)[:200]
    except Exception as error:
        return repr(error)[:200]
    numbers = [np.asarray(x) for x in jax.tree.leaves(result)]
    return None if all(np.isfinite(x).all() for x in numbers if np.issubdtype(x.dtype, np.number)) else "not finite"


@pytest.mark.parametrize(("seed", "each"), [pytest.param(0, 1), pytest.param(1, 10, marks=pytest.mark.slow)])
def test_finite_or_named(seed, each):
    rng, found = random.Random(seed), functions()
    assert len(found) > 60
    names = rng.sample(sorted(found), 40) if each == 1 else found
    wrong = []
    with unchecked_types(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            function, parameters = found[name]
            for _ in range(each):
                given = {
                    p.name: rng.choice(EXTREME if rng.random() < 0.6 else SANE)
                    for p in parameters
                    if p.default is p.empty or rng.random() < 0.4
                }
                said = wrong_with(function, given)
                if said is not None:
                    wrong.append((name, given, said))
    assert wrong == []


def test_what_was_silent_or_a_traceback():
    with unchecked_types():
        for function in (actuation.free_energy, actuation.free_energy_slope, actuation.thermodynamic_length):
            for value in (10**400, 10**30, "1", True, -1.0, 1e300):
                with pytest.raises(ValueError, match="barrier must be a"):
                    function(value)
            assert float(function(3)) == float(function(jnp.float32(3.0)))
    for call in (
        lambda: law.detuned(2),
        lambda: bounds.transport(1e20, 1e-30, 1e-3),
        lambda: units.kt_to_joules(1e308, 1e308),
    ):
        with pytest.raises(ValueError, match=r"has no finite value at \w+ = .*nearer to 1|outside what"):
            call()
    with pytest.raises(ValueError, match=r"direction_error|error = 1e-39 is outside what float32 can hold"):
        bounds.direction_error(1e-39)


def test_grids_and_traced_numbers_keep_their_gaps():
    many = law.detuned(jnp.array([1.0, 2.0], jnp.float32))
    assert float(many[0]) == 1.0 and not np.isfinite(many[1])
    assert not np.isfinite(jax.jit(law.detuned)(jnp.float32(2.0)))
    assert float(jax.grad(law.detuned)(jnp.float32(1.0))) == 0.0


def test_the_guards():
    @finite
    def ratio(above, below):
        if below == 7:
            raise ValueError("A number is wrong.")
        return above / below

    assert ratio(1.0, 2.0) == 0.5
    with pytest.raises(ValueError, match="ratio has no finite value at above = 1, below = 0"):
        ratio(1.0, 0.0)
    with pytest.raises(ValueError, match=r"A number is wrong\. That was ratio at above = 1, below = 7"):
        ratio(1, below=7)
    array = np.ones(2, np.float32)
    assert element(array, "x").shape == (2,) and element(2, "x").weak_type
    with pytest.raises(ValueError, match=r"x must be a number from 0 to 1, got 2"):
        element(2, "x", low=0.0, high=1.0)
