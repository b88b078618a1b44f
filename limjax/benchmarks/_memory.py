"""Bytes per parameter of every mode: what the design says, and what the compiler allocates, reads and writes."""

from typing import Any

from limjax.benchmarks._steps import compiled_step, step_modes

_WORD = 4
_ADAM = 3 * _WORD
"""Parameters and two moments."""
# Sums per parameter, compensations counted: heat, path and saturations, of which the last is a count and has none.
_SUMS = {
    "Adam": 0,
    "ledger per leaf": 0,
    "ledger of heat": 1,
    "ledger": 3,
    "ledger, compensated": 5,
    "gaussian": 0,
    "exact": 0,
    "exact, ledger compensated": 5,
    "exact, barrier per parameter": 0,
}
# Words per parameter of the barrier itself: its height, and the running means of squared requests and gradients.
_BARRIER = {"exact, barrier per parameter": 3}


def expected_bytes(mode: str) -> int:
    """Bytes per float32 parameter of parameters and state, gradient not counted.

    Args:
        mode: a name from `step_modes`.

    Returns:
        12 for Adam alone; 4 more for the start; 4 for each sum per parameter and 4 for its compensation; 12 for a barrier per parameter.

    Example:
        >>> expected_bytes("ledger, compensated") - expected_bytes("Adam")
        24
    """
    start = _WORD if _SUMS[mode] else 0
    return _ADAM + start + _WORD * (_SUMS[mode] + _BARRIER.get(mode, 0))


def least_traffic(mode: str) -> int:
    """Bytes per float32 parameter that a step has to move: each array read once, and written once if it changes.

    Args:
        mode: a name from `step_modes`.

    Returns:
        28 for Adam alone: parameters and moments in and out, the gradient in; 8 more for each sum and each number of a barrier per
        parameter.

    Example:
        >>> least_traffic("ledger") / least_traffic("Adam")
        1.8571428571428572
    """
    return 2 * _ADAM + _WORD + 2 * _WORD * (_SUMS[mode] + _BARRIER.get(mode, 0))


def measure_memory(parameters: int = 1_000_000) -> list[dict[str, Any]]:
    """Memory of every mode.

    Args:
        parameters: number of parameters of the one array that is updated.

    Returns:
        Rows with `mode`, `expected` and `allocated` bytes per parameter (the compiled step's arguments less the gradient),
        `aliased` (updated in place) and `temporary` bytes per parameter; `traffic` [bytes per parameter] is what the compiled
        kernels read and write, `least_traffic` what a single pass would, `kernels` the number of compiled kernels (fusions).
    """
    rows = []
    for mode in step_modes():
        compiled, _ = compiled_step(mode, parameters)
        analysis, cost, text = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
        assert analysis is not None and cost is not None and text is not None  # CPU, GPU and TPU have them
        # Only what the entry computation calls is launched as a kernel; the bodies of the fusions stand before it.
        entry = text[text.index("\nENTRY") :]
        rows.append(
            {
                "mode": mode,
                "expected": expected_bytes(mode),
                "allocated": analysis.argument_size_in_bytes / parameters - _WORD,
                "aliased": analysis.alias_size_in_bytes / parameters,
                "temporary": analysis.temp_size_in_bytes / parameters,
                "traffic": cost["bytes accessed"] / parameters,
                "least_traffic": least_traffic(mode),
                "kernels": entry.count(" fusion("),
            }
        )
    return rows
