"""Ten thousand inputs that nobody means: a finite result, or an error that names the argument, and JSON that is JSON."""

import contextlib
import inspect
import io
import json
import math
import random
import re

import jax
import numpy as np
import pytest
from unchecked import unchecked_types

import limjax
from limjax import simulate
from limjax.cli import main
from limjax.limits import bounds
from limjax.physics import units

WORDS = [
    "0",
    "1",
    "-1",
    "nan",
    "inf",
    "-inf",
    "1e300",
    "1e-300",
    "1e400",
    "abc",
    "",
    "2.5",
    "1e15",
    "8",
    "0x10",
    "1_000",
    "٣",
    "49",
]
OPTIONS = {
    "cell": ["--bits", "--retention", "--temperature", "--attempt-rate", "--step-time", "--open-barrier", "--failure"],
    "limits": ["--flops", "--tokens", "--steps", "--batch", "--bits", "--time", "--loss-ratio", "--temperature"],
}
VALUES = [
    1.0,
    0.5,
    2,
    10.0,
    1e-3,
    300.0,
    0.0,
    -1.0,
    math.nan,
    math.inf,
    -math.inf,
    "1",
    b"1",
    1 + 1j,
    True,
    None,
    10**400,
    np.float32(2),
]
MAKERS = [
    limjax.ArrheniusCell, limjax.StaticBarrier, limjax.LyapunovBarrier, limjax.MomentBarrier, limjax.RateMatchedBarrier,
    limjax.FisherBarrier, limjax.FowlerNordheimBarrier, bounds.erasure, bounds.direction_error, bounds.convergence, bounds.hop_affinity,
    bounds.precision, bounds.hopping_precision, bounds.drive, bounds.transport, bounds.jump_count, bounds.retention, bounds.actuation,
    units.kt_to_joules, units.kt_to_electronvolts, units.thermal_energy_joules, simulate.stiffness_optimum,
]  # fmt: skip


def of_command(rng):
    """One command line; what is wrong with its ending, or None."""
    name = rng.choice(list(OPTIONS))
    words = [name, *(["--parameters", rng.choice(["1e15", "7e9", *WORDS])] if name == "limits" else [])]
    for option in rng.sample(OPTIONS[name], rng.randint(0, 3)):
        words += [option, rng.choice(WORDS)]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([*words, "--json"])
        except SystemExit as end:
            code = end.code or 0
        except BaseException as error:
            return words, repr(error)
    if code == 0:
        with contextlib.suppress(ValueError):
            json.loads(out.getvalue(), parse_constant=lambda x: float("no JSON"))
            return None
        return words, out.getvalue()[:200]
    is_told = code == 2 and ("Usage" in err.getvalue() or err.getvalue().count("\n") == 1)
    return None if is_told else (words, code, err.getvalue()[:200])


def of_call(rng):
    """One call of a public name; what is wrong with its ending, or None."""
    function = rng.choice(MAKERS)
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = [p for p in inspect.signature(function).parameters.values() if p.kind in kinds]
    given = {p.name: rng.choice(VALUES) for p in parameters if p.default is p.empty or rng.random() < 0.4}
    try:
        result = function(**given)
    except (ValueError, TypeError) as error:
        named = any(re.search(rf"\b{name}\b", str(error)) for name in given)
        return None if named else (function.__name__, given, str(error)[:200])
    except Exception as error:
        return function.__name__, given, repr(error)
    numbers = [np.asarray(x) for x in jax.tree.leaves(result)]
    is_finite = all(np.isfinite(x).all() for x in numbers if np.issubdtype(x.dtype, np.number))
    return None if is_finite else (function.__name__, given, "not finite")


@pytest.mark.parametrize(
    ("kind", "seed", "count"),
    [
        pytest.param(of_command, 0, 20),
        pytest.param(of_call, 0, 300),
        pytest.param(of_command, 1, 2_000, marks=pytest.mark.slow),
        pytest.param(of_call, 1, 8_000, marks=pytest.mark.slow),
    ],
)
def test_no_traceback_no_silent_nan_strict_json(kind, seed, count):
    rng = random.Random(seed)
    with unchecked_types():
        found = [wrong for wrong in (kind(rng) for _ in range(count)) if wrong is not None]
    assert found == []


def test_a_current_that_does_not_vary_and_one_of_mean_zero():
    check = simulate.tur(np.full(5, 3.0), 1.0)
    assert (check.value, check.standard_error) == (0.0, 0.0)
    with pytest.raises(ValueError, match="current must have a mean other than 0"):
        simulate.tur(np.array([-1.0, 1.0]), 1.0)
    with unchecked_types(), pytest.raises(ValueError, match="free_energy_change must be a finite number"):
        simulate.jarzynski(np.ones(3), -math.inf)
