"""`limjax compare`."""

import json as json_text
import pathlib
import time
from typing import Annotated

import typer
from rich.console import Console

from limjax import runs
from limjax._files import without_nan, write_whole
from limjax.cli import options
from limjax.cli.console import Lines, drawn, numbers
from limjax.cli.places import kept_folder
from limjax.numerics._result_code import ResultCode
from limjax.sweeps import CompareResult
from limjax.sweeps import compare as compared
from limjax.sweeps._compare import COMPARE
from limjax.sweeps._table import AtExcess, compare_table, energies_at


def compare(
    *,
    task: options.TaskName = "digits-mlp",
    barriers: Annotated[
        str, typer.Option(help="Barriers, with commas between them; arguments as in lyapunov:start=8.")
    ] = "lyapunov,static,moment",
    seeds: Annotated[int, typer.Option(help="Number of seeds of each barrier.", min=1)] = 5,
    hops: options.Hops = "exact",
    training: options.RunNumbers,
    plain: Annotated[bool, typer.Option("--plain/--no-plain", help="Train without a memory as well.")] = True,
    excess: Annotated[
        str | None,
        typer.Option(
            help="Excesses of the loss over plain training's, as 0.01,0.03, at which heat and work are read between "
            "barriers as moment:scale=0.3 and moment:scale=0.1; the table then has the loss."
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="Folder to write to; a comparison there goes on, also with more barriers. Default under runs/."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print compare.json to stdout, progress to stderr.")] = False,
    figures: options.Figures = True,
) -> None:
    """Train with several barriers and seeds: what each reaches and what it costs, with standard errors."""
    console = Console(stderr=json, markup=False)
    names = _names(barriers)
    targets = [] if excess is None else numbers(excess, "--excess")
    if targets and not plain:
        raise ValueError("--excess is over plain training's loss: leave out --no-plain.")
    if targets and hops == "mean":
        raise ValueError("--excess is that of hop noise, and --hops mean has none: take gaussian or exact.")
    folder, is_new = kept_folder(out, COMPARE, "compare")
    lines = Lines(console)
    begun: tuple[int, float] | None = None

    def progress(done: int, count: int, name: str) -> None:
        nonlocal begun
        now = time.monotonic()
        # What was trained before took none of this time.
        begun = begun or (done, now)
        trained = done - begun[0]
        left = f"  {(now - begun[1]) / trained * (count - done):.0f} s left" if trained else ""
        lines.say(f"{done + 1}/{count}: {name}, {seeds} seeds{left}", always=True)

    with runs.held(folder, is_new=is_new):
        console.print(f"limjax compare: {task} (Ctrl-C keeps what is trained; the same --out goes on)")
        result = compared(
            task, names, seeds=seeds, folder=folder, hops=hops, plain=plain,  # pyright: ignore
            on_progress=progress, **vars(training),
        )  # fmt: skip
        # Stopped before its first barrier is trained, a comparison has no file.
        files = [COMPARE] * (folder / COMPARE).exists()
        if figures and any(row is not result.plain for row in result.rows):
            files += drawn(lambda: _draw(result, folder))
    console.print(compare_table(result, of_loss=bool(targets)))
    at_excess = _at_excess(result, targets, console)
    console.print(f"Outcome: {result.result}.", highlight=False)
    if files:
        console.print(f"Wrote {folder}/: {', '.join(files)}", highlight=False, soft_wrap=True)
    if json:
        content = result.to_json() | ({"at_excess": [each._asdict() for each in at_excess]} if targets else {})
        print(json_text.dumps(without_nan(content), indent=2))
    runs.remove_if_empty(folder)  # stopped before there was anything to keep
    raise typer.Exit(0 if result.result is ResultCode.completed else 130)


def _names(text: str) -> list[str]:
    """Barriers with commas between them: a piece such as `end=2` belongs to the arguments of the barrier before it."""
    names: list[str] = []
    for piece in (part.strip() for part in text.split(",")):
        if names and "=" in piece and ":" not in piece:
            names[-1] += f",{piece}"
        elif piece:
            names.append(piece)
    return names


def _at_excess(result: CompareResult, targets: list[float], console: Console) -> list[AtExcess]:
    """What was asked for at excesses of the loss, printed; of a comparison that lacks it nothing, with the reason."""
    # One that was stopped may have no barrier yet.
    if not targets or len(result.rows) < 2:
        return []
    try:
        found = energies_at(result, targets)
    except ValueError as error:
        console.print(f"No heat at an excess of the loss: {error}", highlight=False)
        return []
    for target in targets:
        told = "; ".join(str(each) for each in found if each.excess == target)
        console.print(f"Heat and work for a loss {100 * target:g} % above plain training's: {told}.", highlight=False)
    return found


def _draw(result: CompareResult, folder: pathlib.Path) -> list[str]:
    from limjax.plots import comparing

    picture = comparing.barriers(result)
    write_whole(folder / comparing.COMPARE_FIGURE, lambda file: picture.savefig(file, format="png"))
    return [comparing.COMPARE_FIGURE]
