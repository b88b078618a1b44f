"""What a long search says while it works."""

import math
import time
from collections.abc import Callable


class Progress:
    """What is being done, and the seconds left over all phases of it, in which training runs are done by compiled programs.

    Args:
        say: called with words and the seconds left, NaN before anything is known: until some program is called twice.

    Example:
        >>> progress = Progress(lambda words, left: print(words, left))
        >>> progress.plan(10)
        >>> progress.did("compiling")
        compiling nan
    """

    def __init__(self, say: Callable[[str, float], None] | None = None):
        self._say = say
        self._planned, self._programs, self._first = 0.0, 0, dict[str, float]()
        self._done, self._timed, self._seconds = 0.0, 0.0, 0.0
        self._last = time.monotonic()

    def plan(self, runs: int | float, programs: int = 0) -> None:
        """Adds training runs to what is to be done, and programs to be compiled for them."""
        self._planned += runs
        self._programs += programs

    def did(self, words: str = "", runs: int | float = 0, program: str = "") -> None:
        """Takes note of the runs that a program did, and says what was or is being done."""
        if runs:
            # The clock is read only here: all the time since the last runs is what these took.
            now = time.monotonic()
            took, self._last = now - self._last, now
            self._done += runs
            if program in self._first:
                self._timed += runs
                self._seconds += took
            else:  # most of that was compilation
                self._first[program] = took
        if words and self._say is not None:
            self._say(words, self.left)

    @property
    def left(self) -> float:
        """Seconds left [s], or NaN."""
        if not self._timed:
            return math.nan
        # Programs that are still to come are taken to need as much as the first calls of those before them.
        compiling = sum(self._first.values()) / len(self._first) * max(0, self._programs - len(self._first))
        return self._seconds / self._timed * max(0.0, self._planned - self._done) + compiling
