"""`limjax simulate`."""

from typing import Annotated

import typer


def simulate(
    system: Annotated[str, typer.Argument(help="erasure, trap, crossing or cell.")],
    optimise: Annotated[bool, typer.Option("--optimise", help="First find the best protocol by gradient.")] = False,
    trajectories: Annotated[int, typer.Option(help="Independent trajectories.")] = 10_000,
    steps: Annotated[int | None, typer.Option(help="Time steps of each; default the system's.")] = None,
    outer_steps: Annotated[int | None, typer.Option(help="Steps of the descent; default the system's.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all randomness.")] = 0,
    out: Annotated[str | None, typer.Option(help="Folder to write to; default the next free one under runs/.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print simulation.json to stdout, progress to stderr.")] = False,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw the figures.")] = True,
) -> None:
    """Simulate a small system with work and heat, and check it: erasing a bit, dragging a trap, crossing a barrier, a cell."""
    from limjax.cli.simulation_session import run_simulation

    code = run_simulation(
        system,
        {
            "optimise": optimise,
            "trajectories": trajectories,
            "steps": steps,
            "outer_steps": outer_steps,
            "seed": seed,
        },
        out=out,
        json_output=json,
        figures=figures,
    )
    raise typer.Exit(code)
