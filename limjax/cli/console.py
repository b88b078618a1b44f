"""What several commands say in the same way."""

import contextlib
import json
import math
import pathlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import typer
from rich.console import Console

from limjax._files import reason
from limjax.numerics._result_code import ResultCode
from limjax.numerics.checks import positive_number

_LINE_SECONDS = 2.0
EXIT_CODES = {ResultCode.completed: 0, ResultCode.interrupted: 130}
"""By how the work ended; 1 for any other end."""


def attempted(write: Callable[[], Any], names: str) -> str | None:
    """Writes files and says what went wrong, instead of taking everything else with it.

    Args:
        write: writes them.
        names: what they are called.

    Returns:
        One sentence without its full stop, or None.
    """
    try:
        write()
    except (OSError, ValueError) as error:  # a full disk, a folder that went away, a tree that JSON cannot hold
        return f"{names} could not be written: {reason(error)}"
    return None


def say_lost(
    console: Console, folder: pathlib.Path, problems: list[str], unsaved: Mapping[str, Mapping[str, Any]]
) -> int:
    """Prints numbers that no file holds, and one line about it on stderr.

    Args:
        console: where the numbers go.
        folder: of the command.
        problems: what could not be written, or nothing.
        unsaved: numbers by the name of the file that should hold them.

    Returns:
        The exit code: 1 if there was a problem.
    """
    if not problems:
        return 0
    for name, content in unsaved.items():
        console.print(f"{name}: {json.dumps(content)}", highlight=False, soft_wrap=True)
    try:
        kept = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    except OSError:
        kept = "nothing"
    printed = f" {' and '.join(unsaved)} stands above." if unsaved else ""
    print(f"limjax: {'; '.join(problems)}. In {folder} there is {kept}.{printed}", file=sys.stderr)
    return 1


def drawn(draw: Callable[[], list[str]], numbers: str = "saved") -> list[str]:
    """Draws figures after the numbers are out; one that fails is said and takes nothing with it.

    Args:
        draw: draws and returns the names of the files.
        numbers: what became of the numbers.

    Returns:
        The names, none if drawing failed.
    """
    try:
        return draw()
    except Exception as error:  # a broken matplotlib, a full disk, a name that it cannot draw, ...
        print(f"limjax: the figures could not be drawn: {reason(error)}; the numbers are {numbers}.", file=sys.stderr)
        return []


def saved(save: Callable[[], Any], folder: pathlib.Path, files: list[str]) -> str | None:
    """Saves, arrays last; says what went wrong, and leaves no half of a file."""
    problem = attempted(save, ", ".join(files))
    if problem is not None:
        for name in files:
            # Text is written in one piece; NumPy writes in place, and its half would pass for a file.
            if name.endswith(".npz"):
                with contextlib.suppress(OSError):
                    (folder / name).unlink()
    return problem


def ended(
    console: Console,
    folder: pathlib.Path,
    files: list[str],
    problem: str | None,
    contents: Mapping[str, Any],
    code: int,
) -> typer.Exit:
    """Says where the files are, or prints what no file holds.

    Args:
        console: that of the command.
        folder: of the command.
        files: what was written.
        problem: what went wrong with them, or None.
        contents: what JSON files hold, by name.
        code: the exit code if nothing went wrong.

    Returns:
        The exit.
    """
    if problem is None:
        console.print(f"Wrote {folder}/: {', '.join(files) or 'nothing'}", highlight=False, soft_wrap=True)
        return typer.Exit(code)
    unsaved = {name: content for name, content in contents.items() if not (folder / name).exists()}
    return typer.Exit(say_lost(console, folder, [problem], unsaved))


def shown(value: float | None, digits: int = 4) -> str:
    """A number for a table; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}g}"


class Lines:
    """Plain lines of progress, beside the numbers and not more often than every two seconds.

    Args:
        console: that of the command; lines go to stderr where it does.
    """

    def __init__(self, console: Console):
        self._file = sys.stderr if console.stderr else sys.stdout
        self._last, self._phase = 0.0, ""

    def with_time(self, words: str, left: float) -> None:
        """Says what is being done and the time left over all of it; used as what a `limjax.tuning.Progress` says."""
        phase = words.split(":")[0].rstrip("0123456789/ ")
        self.say(words if math.isnan(left) else f"{words}  {left:.0f} s left", always=phase != self._phase)
        self._phase = phase

    def say(self, line: str, always: bool = False) -> None:
        """Prints a line, if it is time for one or `always`."""
        now = time.monotonic()
        if always or now - self._last > _LINE_SECONDS:
            self._last = now
            # Plain print: rich would wrap a long line at 80 columns when there is no terminal.
            print(line, file=self._file, flush=True)


def numbers(text: str, option: str) -> list[float]:
    """Positive numbers with commas between them.

    Raises:
        ValueError: for anything else; the message names the option.
    """
    try:
        values = [float(x) for x in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} must be numbers with commas between them, got {text!r}.") from None
    return [positive_number(x, option) for x in values]
