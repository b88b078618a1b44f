"""`limjax pareto`."""

from typing import Annotated

import typer


def pareto(
    task: Annotated[str, typer.Option(help="What to train.")] = "digits-mlp",
    barrier: Annotated[
        str | None,
        typer.Option(help="Where to start: a barrier with arguments, or a .json file. Default a spline of 16 knots."),
    ] = None,
    mode: Annotated[
        str, typer.Option(help="weights (weighted sums) or budget (least loss within an energy).")
    ] = "weights",
    points: Annotated[int, typer.Option(help="Number of points along the energy axis.")] = 8,
    energy: Annotated[
        str | None, typer.Option(help="Smallest and largest energy weight, or energy limit [kT], as `1e-4,3e-2`.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Time weights [loss per s] for a third objective, as `0.01,0.1,1`.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps; default the task's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per step; default the task's.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate; default the task's.")] = None,
    lsb: Annotated[float | None, typer.Option(help="One level, in weight units; default the task's.")] = None,
    step_time: Annotated[float, typer.Option(help="Duration of one step [s].")] = 1e-3,
    outer_steps: Annotated[int, typer.Option(help="Outer steps per point.")] = 30,
    outer_rate: Annotated[float, typer.Option(help="Their rate [kT].")] = 0.3,
    seeds: Annotated[int, typer.Option(help="Number of tuning seeds.")] = 4,
    held_out: Annotated[int, typer.Option(help="Number of seeds the result is judged on.")] = 8,
    tune_learning_rate: Annotated[
        bool, typer.Option("--tune-learning-rate", help="Tune the learning-rate schedule as well.")
    ] = False,
    hand_made: Annotated[
        bool, typer.Option("--hand-made/--no-hand-made", help="Evaluate a grid of hand-made barriers as well.")
    ] = True,
    out: Annotated[
        str | None, typer.Option(help="Folder to write to; an interrupted sweep there goes on. Default under runs/.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print pareto.json to stdout, progress to stderr.")] = False,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw the figure.")] = True,
) -> None:
    """Trade loss against energy (and time): a front of tuned barriers, beside every hand-made one."""
    from limjax.cli.tuning_session import energies, run_pareto, times
    from limjax.physics.cell import ArrheniusCell
    from limjax.tasks import get_task

    chosen = get_task(task)
    cell = ArrheniusCell(lsb=chosen.defaults.lsb if lsb is None else lsb, step_time=step_time)
    code = run_pareto(
        chosen,
        cell,
        barrier,
        {
            "mode": mode,
            "energy": energies(energy, points, mode),
            "time": times(time),
            "steps": steps,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "outer_steps": outer_steps,
            "outer_rate": outer_rate,
            "seeds": seeds,
            "held_out": held_out,
            "tune_learning_rate": tune_learning_rate,
            "hand_made": hand_made,
        },
        out=out,
        json_output=json,
        figures=figures,
    )
    raise typer.Exit(code)
