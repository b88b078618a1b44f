"""Bytes per parameter of every mode: what the design says, and what the compiler allocates."""

from typing import Any

from limjax.benchmarks.steps import compiled_step, step_modes

_WORD = 4
_ADAM = 3 * _WORD
"""Parameters and two moments."""


def expected_bytes(mode: str) -> int:
    """Bytes per float32 parameter of parameters and state, gradient not counted.

    Args:
        mode: a name from `step_modes`.

    Returns:
        12 for Adam alone; 4 more for the start; 4 for each sum per parameter and 4 for its compensation.

    Example:
        >>> expected_bytes("ledger, compensated") - expected_bytes("Adam")
        24
    """
    sums = {
        "Adam": 0,
        "ledger per leaf": 0,
        "ledger of heat": 2,
        "ledger": 4,
        "ledger, compensated": 6,
        "gaussian": 0,
        "exact": 0,
        "exact, ledger compensated": 6,
    }
    return _ADAM + _WORD * sums[mode]


def measure_memory(parameters: int = 1_000_000) -> list[dict[str, Any]]:
    """Memory of every mode.

    Args:
        parameters: number of parameters of the one array that is updated.

    Returns:
        Rows with `mode`, `expected` and `allocated` bytes per parameter (the compiled step's arguments less the gradient),
        `aliased` (updated in place) and `temporary` bytes per parameter.
    """
    rows = []
    for mode in step_modes():
        compiled, _ = compiled_step(mode, parameters)
        analysis = compiled.memory_analysis()
        assert analysis is not None  # every backend of JAX has one
        rows.append(
            {
                "mode": mode,
                "expected": expected_bytes(mode),
                "allocated": analysis.argument_size_in_bytes / parameters - _WORD,
                "aliased": analysis.alias_size_in_bytes / parameters,
                "temporary": analysis.temp_size_in_bytes / parameters,
            }
        )
    return rows
