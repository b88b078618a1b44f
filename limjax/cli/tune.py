"""`limjax tune`."""

from typing import Annotated

import typer


def tune(
    task: Annotated[str, typer.Option(help="What to train.")] = "digits-mlp",
    barrier: Annotated[
        str | None,
        typer.Option(help="Where to start: a barrier with arguments, or a .json file. Default a spline of 16 knots."),
    ] = None,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="One spline per parameter array.")] = False,
    energy_weight: Annotated[float, typer.Option(help="Loss units per kT of cost per parameter.")] = 3e-3,
    time_weight: Annotated[float, typer.Option(help="Loss units per second; tunes the step time if above 0.")] = 0.0,
    max_loss: Annotated[
        str | None,
        typer.Option(help="Least energy at this validation loss: a number, or `plain` for plain training's."),
    ] = None,
    max_energy: Annotated[float | None, typer.Option(help="Least loss within this energy [kT per parameter].")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps; default the task's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per step; default the task's.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate; default the task's.")] = None,
    lsb: Annotated[float | None, typer.Option(help="One level, in weight units; default the task's.")] = None,
    attempt_rate: Annotated[float, typer.Option(help="Attempt rate k0 [1/s].")] = 1e9,
    step_time: Annotated[float, typer.Option(help="Duration of one step [s].")] = 1e-3,
    temperature: Annotated[float, typer.Option(help="Temperature of the cells [K].")] = 300.0,
    outer_steps: Annotated[int, typer.Option(help="Steps of the outer optimizer.")] = 60,
    outer_rate: Annotated[float, typer.Option(help="Its rate [kT].")] = 0.3,
    seeds: Annotated[int, typer.Option(help="Number of tuning seeds.")] = 4,
    held_out: Annotated[int, typer.Option(help="Number of seeds the result is judged on.")] = 8,
    tune_learning_rate: Annotated[
        bool, typer.Option("--tune-learning-rate", help="Tune the learning-rate schedule as well.")
    ] = False,
    gradient: Annotated[str, typer.Option(help="reverse, forward, truncated or evolution.")] = "reverse",
    hand_made: Annotated[
        bool, typer.Option("--hand-made/--no-hand-made", help="Compare with a grid of hand-made barriers.")
    ] = True,
    out: Annotated[str | None, typer.Option(help="Folder to write to; default the next free one under runs/.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print tune.json to stdout, progress to stderr.")] = False,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw the figures.")] = True,
) -> None:
    """Optimise the barrier by gradients through whole training runs."""
    from limjax.cli.tuning_session import parse_max_loss, run_tuning, spline_per_layer
    from limjax.physics.cell import ArrheniusCell
    from limjax.tasks import get_task

    chosen = get_task(task)
    cell = ArrheniusCell(
        lsb=chosen.defaults.lsb if lsb is None else lsb,
        attempt_rate=attempt_rate,
        step_time=step_time,
        temperature=temperature,
    )
    start = spline_per_layer(chosen, barrier, steps) if per_layer else barrier
    code = run_tuning(
        chosen,
        cell,
        start,
        {
            "weights": (energy_weight, time_weight),
            "max_loss": parse_max_loss(max_loss),
            "max_energy_kt": max_energy,
            "steps": steps,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "outer_steps": outer_steps,
            "outer_rate": outer_rate,
            "seeds": seeds,
            "held_out": held_out,
            "tune_learning_rate": tune_learning_rate,
            "tune_step_time": time_weight > 0,
            "gradient": gradient,
        },
        hand_made=hand_made,
        out=out,
        json_output=json,
        figures=figures,
    )
    raise typer.Exit(code)
