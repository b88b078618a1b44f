"""The command line. Thin: every command is one call of a public function; heavy imports wait until it runs."""

import importlib
import sys
from collections.abc import Callable, Sequence

import typer

from limjax.allocator import keep_freed_memory

_COMMANDS = ("train", "tune", "pareto", "simulate", "limits", "bench", "cell", "devices")


def build_app() -> typer.Typer:
    """The typer application with all commands."""
    app = typer.Typer(
        name="limjax",
        help="The thermodynamic cost of learning: train networks with a per-parameter heat ledger.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )

    @app.callback(invoke_without_command=True)
    def common(
        version: bool = typer.Option(False, "--version", help="Print the versions and leave.", is_eager=True),
    ) -> None:
        if version:
            from limjax.training import versions

            typer.echo("\n".join(f"{name} {number}" for name, number in versions().items()))
            raise typer.Exit

    for name in _COMMANDS:
        app.command(name)(_command(name))
    return app


def _command(name: str) -> Callable[..., None]:
    return getattr(importlib.import_module(f"limjax.cli.{name}"), name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line: wrong input ends in one paragraph on stderr and exit code 2.

    Args:
        arguments: words after the program's name; None takes `sys.argv`.

    Raises:
        SystemExit: always, with the exit code.
    """
    if arguments is None:  # the process is ours, not that of a caller
        keep_freed_memory()
    try:
        # Typer itself ends wrong options with a usage message and exit code 2, and everything else with SystemExit.
        build_app()(arguments)
    except ValueError as error:
        typer.echo(f"limjax: {error}", err=True)
        sys.exit(2)
