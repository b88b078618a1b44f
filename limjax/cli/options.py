"""Options that several commands have, and groups of options: an argument of a command whose fields are options."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

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
Hops = Annotated[str, typer.Option(help="mean, gaussian or exact.")]
NewFolder = Annotated[str | None, typer.Option(help="Folder to write to; default the next free one under runs/.")]
Figures = Annotated[bool, typer.Option("--figures/--no-figures", help="Draw the figures.")]


@dataclasses.dataclass(frozen=True)
class RunNumbers:
    """What training runs have in common."""

    steps: Steps = None
    batch_size: BatchSize = None
    learning_rate: LearningRate = None
    lsb: Lsb = None


@dataclasses.dataclass(frozen=True)
class TunedRuns(RunNumbers):
    """The training runs that a barrier is tuned on."""

    step_time: StepTime = 1e-3


@dataclasses.dataclass(frozen=True)
class TuningSearch:
    """How the best barrier is looked for."""

    outer_steps: Annotated[int, typer.Option(help="Steps of the outer optimizer.")] = 60
    outer_rate: OuterRate = 0.3
    seeds: Seeds = 4
    held_out: HeldOut = 8
    tune_learning_rate: TuneLearningRate = False


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """A command as Typer takes it: in place of an argument that is a group, one option for each of its fields.

    Args:
        command: a command, some of whose arguments may be annotated with a dataclass.

    Returns:
        The command, called with the options by name.
    """
    hints = get_type_hints(command, include_extras=True)
    # `is_dataclass` is true of objects as well; an annotation is a class.
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        # Options have names and no places, so one without a default may follow one with.
        if name not in groups:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]))
            continue
        kinds = get_type_hints(groups[name], include_extras=True)
        for field in dataclasses.fields(groups[name]):
            default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
            parameters.append(
                inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kinds[field.name]
                )
            )

    @functools.wraps(command)
    def called(**given: Any) -> None:
        made = {
            name: kind(**{field.name: given.pop(field.name) for field in dataclasses.fields(kind)})
            for name, kind in groups.items()
        }
        command(**given, **made)

    # Both are read: the order and the defaults from the one, the texts of help from the other.
    called.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called
