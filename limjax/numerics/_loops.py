"""A scan whose reverse mode remembers only the square root of its length."""

import math
from collections.abc import Callable
from typing import TypeVar

import jax

Carry = TypeVar("Carry")


def checkpointed_loop(body: Callable[[Carry], Carry], carry: Carry, length: int) -> Carry:
    """`length` applications of `body`, differentiable in reverse with O(√length) memory.

    The loop is cut into about √length segments. The forward pass keeps the carry at the start of each, the backward pass
    runs one segment at a time again and keeps its intermediate values: one more evaluation in time, 2√length in memory
    (Griewank & Walther, ACM TOMS 26, 19 (2000), with two levels).

    Args:
        body: one step; its carry keeps structure, shapes and dtypes.
        carry: where to start.
        length: number of steps.

    Returns:
        The carry after the last step.
    """

    def scan(carry: Carry, count: int) -> Carry:
        return jax.lax.scan(lambda c, _: (body(c), None), carry, None, length=count)[0]

    def segments(carry: Carry, count: int, size: int) -> Carry:
        # Forward and backward pass are scans of their own, so that XLA cannot merge what is computed twice: barriers
        # against that would only hinder its fusions.
        segment = jax.checkpoint(lambda c: scan(c, size), prevent_cse=False)
        return jax.lax.scan(lambda c, _: (segment(c), None), carry, None, length=count)[0]

    root = max(1, math.isqrt(length))
    # A divisor near the root saves compiling a shorter last segment.
    # None below half the root is taken: shorter segments are more starts to keep.
    size = next((n for n in range(root, root // 2, -1) if length % n == 0), root)
    count, rest = divmod(length, size)
    carry = segments(carry, count, size)
    # The rest is a segment too, or all of its intermediate values would be kept.
    return segments(carry, 1, rest) if rest else carry
