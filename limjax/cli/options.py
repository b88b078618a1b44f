"""Options that several commands have."""

from typing import Annotated

import typer

TaskName = Annotated[str, typer.Option(help="What to train.")]
Start = Annotated[
    str | None,
    typer.Option(help="Where to start: a barrier with arguments, or a .json file. Default a spline of 16 knots."),
]
Steps = Annotated[int | None, typer.Option(help="Training steps; default the task's.")]
BatchSize = Annotated[int | None, typer.Option(help="Examples per step; default the task's.")]
LearningRate = Annotated[float | None, typer.Option(help="Peak learning rate; default the task's.")]
Lsb = Annotated[float | None, typer.Option(help="One level, in weight units; default the task's.")]
LsbOrBits = Annotated[
    float | None, typer.Option(help="One level, in weight units; default the task's, coarser with few --bits.")
]
Bits = Annotated[
    int | None, typer.Option(help="Bits of a cell: levels from -2^(bits-1) to 2^(bits-1) - 1; default no end.")
]
StepTime = Annotated[float, typer.Option(help="Duration of one step [s].")]
OuterRate = Annotated[float, typer.Option(help="Rate of the outer optimizer [kT].")]
Seeds = Annotated[int, typer.Option(help="Number of tuning seeds.")]
HeldOut = Annotated[int, typer.Option(help="Number of seeds the result is judged on.")]
TuneLearningRate = Annotated[
    bool, typer.Option("--tune-learning-rate", help="Tune the learning-rate schedule as well.")
]
GridOfHandMade = Annotated[
    bool, typer.Option("--hand-made/--no-hand-made", help="Evaluate a grid of hand-made barriers as well.")
]
Figures = Annotated[bool, typer.Option("--figures/--no-figures", help="Draw the figures.")]
