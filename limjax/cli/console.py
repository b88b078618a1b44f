"""What several commands say in the same way."""

import sys
from collections.abc import Callable

from limjax.files import reason


def drawn(draw: Callable[[], list[str]]) -> list[str]:
    """Draws figures after the numbers are saved; one that fails is said and takes nothing with it.

    Args:
        draw: draws and returns the names of the files.

    Returns:
        The names, none if drawing failed.
    """
    try:
        return draw()
    except Exception as error:  # a broken matplotlib, a full disk, a name that it cannot draw, ...
        print(f"limjax: the figures could not be drawn: {reason(error)}; the numbers are saved.", file=sys.stderr)
        return []
