"""`limjax bench`."""

from typing import Annotated

import typer


def bench(
    sizes: Annotated[
        str, typer.Option(help="Numbers of parameters of the step, with commas; 1e9 is fine.")
    ] = "1e4,1e6",
    rounds: Annotated[int, typer.Option(help="Rounds of every timing; medians are shown.")] = 20,
    task: Annotated[str, typer.Option(help="Task whose training step is timed.")] = "digits-mlp",
    only: Annotated[
        str | None,
        typer.Option(help="Only these parts, with commas: steps, activities, samplers, training, memory, startup."),
    ] = None,
    out: Annotated[str | None, typer.Option(help="JSON file to write to; default none.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout, tables to stderr.")] = False,
) -> None:
    """Measure what limjax costs on this machine, as ratios to named references in the same run."""
    from limjax.cli.bench_session import run_bench

    raise typer.Exit(run_bench(sizes=sizes, rounds=rounds, task=task, only=only, out=out, json_output=json))
