"""The command line. Thin: every command is one call of a public function; only the command that runs is imported."""

import importlib
import inspect
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from limjax.allocator import keep_freed_memory
from limjax.cli.options import flat

_COMMANDS = (
    "train",
    "compare",
    "report",
    "tune",
    "pareto",
    "scale",
    "continual",
    "simulate",
    "limits",
    "gap",
    "bench",
    "cell",
    "device",
    "devices",
)
_GROUPS = ("device",)


def build_app(asked: str | None = None) -> typer.Typer:
    """The typer application.

    Args:
        asked: the command that will run, whose imports are enough; None for all commands.
    """
    app = typer.Typer(
        name="limjax",
        help="The thermodynamic cost of learning: train networks with a per-parameter heat ledger.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )

    @app.callback(invoke_without_command=True)
    def common(
        version: bool = typer.Option(False, "--version", help="Print the versions and leave.", is_eager=True),
    ) -> None:
        if version:
            from limjax.versions import versions

            typer.echo("\n".join(f"{name} {number}" for name, number in versions().items()))
            raise typer.Exit

    for name in _COMMANDS if asked is None else (asked,):
        module = importlib.import_module(f"limjax.cli.{name}")
        if name in _GROUPS:
            app.add_typer(module.app, name=name)
            commands = [command.callback for command in module.app.registered_commands]
        else:
            commands = [flat(getattr(module, name))]
            app.command(name)(commands[0])
        for command in commands:
            _keep_units(command)
    return app


def _keep_units(command: Any) -> None:
    """A unit in brackets in the help of an option, [kT], is no markup."""
    for hint in get_type_hints(command, include_extras=True).values():
        for option in getattr(hint, "__metadata__", ()):
            if isinstance(option, OptionInfo | ArgumentInfo) and option.help:
                option.help = re.sub(r"(?<!\\)\[", r"\\[", option.help)


def _by_option(message: str, asked: str | None) -> str:
    """A message that begins with the name of an argument in Python, by the name of the option that it was given as."""
    if asked is None or asked in _GROUPS:
        return message
    command = flat(getattr(importlib.import_module(f"limjax.cli.{asked}"), asked))
    first = message.split(" ", 1)[0]
    if first not in inspect.signature(command).parameters:
        return message
    for known in getattr(get_type_hints(command, include_extras=True)[first], "__metadata__", ()):
        if isinstance(known, OptionInfo):
            # Typer keeps the first of the names given as the default.
            given = (known.default, *(known.param_decls or ()))
            names = [name for name in given if isinstance(name, str) and name.startswith("--")]
            return message.replace(first, (names or [f"--{first.replace('_', '-')}"])[0].split("/")[0], 1)
    return message


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line: wrong input ends in one paragraph on stderr and exit code 2.

    Args:
        arguments: words after the program's name; None takes `sys.argv`.

    Raises:
        SystemExit: always, with the exit code.
    """
    output, asked = None, None
    if arguments is None:  # the process is ours, not that of a caller
        keep_freed_memory()
        output = _own_process()
    code: Any = 0
    try:
        # Typer itself ends wrong options with a usage message and exit code 2, and everything else with SystemExit.
        words = sys.argv[1:] if arguments is None else arguments
        # Importing one command is enough for it; `--help` and a wrong word need all of them.
        asked = words[0] if words and words[0] in _COMMANDS else None
        build_app(asked)(arguments)
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        _say("stopped.")
        code = 130
    except ValueError as error:
        _say(_by_option(str(error), asked))
        code = 2
    except OSError as error:
        where = "" if error.filename is None else f": {error.filename}"
        _say(f"{error.strerror or error}{where}. Nothing that was written before is lost.")
        code = 1
    # In either of them JAX ends without a device, from wherever it was asked first; others keep their traceback.
    except (AssertionError, RuntimeError):
        problem = _no_device()
        if problem is None:
            raise
        _say(problem)
        code = 2
    if output is not None:
        problem = output.finish()
        if problem is not None:
            _say(f"not everything could be printed ({problem}); what was written to files is whole.")
            code = code or 1
    sys.exit(code)


class _Output:
    """Stdout that loses what it cannot print instead of ending the program: a run in a closed pipe goes on and is saved."""

    def __init__(self, stream: Any):
        self._stream, self._problem = stream, None

    def write(self, text: str) -> int:
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def finish(self) -> str | None:
        """Prints what is left; says what went wrong, if anything did."""
        self.flush()
        return self._problem

    def _attempt(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except OSError as error:
            # The first one is the cause; those after it only follow.
            self._problem = self._problem or error.strerror
            # What is still in the stream's buffer must go somewhere, or Python complains when it ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _own_process() -> _Output:
    """What a program sets for itself, and a library does not."""
    # Figures are drawn without a window or a notebook, whatever the shell that started this one asked for.
    os.environ["MPLBACKEND"] = "agg"
    # A checkpoint that cannot be written is said in one line; asyncio would add the traceback of each of its arrays.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    # They come as Ctrl-C does, with what it saves; a signal that is ignored, as under nohup, stays ignored.
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before the program began: the next file that is opened must not take its place
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # θ is printed as ? where the terminal cannot show it
        setattr(sys, name, _Output(stream))
    return sys.stdout  # pyright: ignore[reportReturnType]


def _say(problem: str) -> None:
    typer.echo(f"limjax: {problem}", err=True)


def _no_device() -> str | None:
    """Why JAX has no device, if that is what is wrong."""
    from limjax.parallel import devices_here

    try:
        devices_here()
    except ValueError as error:
        return str(error)
    return None
