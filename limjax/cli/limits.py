"""`limjax limits`."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from limjax.limits import Catalogue, Limits, MeasuredConsolidation, MeasuredLimit, Walls


@dataclasses.dataclass(frozen=True)
class Training:
    """The training whose limits are asked for, as `Workload` has it."""

    parameters: Annotated[float, typer.Option(help="Number of trained weights, for example 1e15.")]
    flops: Annotated[float | None, typer.Option(help="FLOP of the training; default by the scaling law.")] = None
    tokens: Annotated[float | None, typer.Option(help="Tokens seen; default by the scaling law.")] = None
    steps: Annotated[float | None, typer.Option(help="Optimizer steps; default tokens over batch.")] = None
    batch: Annotated[float, typer.Option(help="Tokens per optimizer step.")] = 1e6
    bits: Annotated[int, typer.Option(help="Bits per weight, 1 to 32.")] = 8
    scaling: Annotated[
        str | None,
        typer.Option(
            help="kaplan, chinchilla, chinchilla-3 or besiroglu; default kaplan. Not used where tokens are given."
        ),
    ] = None
    updates: Annotated[str, typer.Option(help="What counts as an update: flop, token or optimizer.")] = "flop"
    time: Annotated[float | None, typer.Option(help="Duration of the training [s]; default 90 days.")] = None


def limits(
    *,
    training: Training,
    hardware: Annotated[str, typer.Option(help="Accelerator compared with.")] = "H100 SXM bf16",
    loss_ratio: Annotated[
        float | None,
        typer.Option(help="Times one convergence brings the loss down; default 4^bits, range to one level."),
    ] = None,
    temperature: Annotated[float, typer.Option(help="Temperature of the cells [K].")] = 300.0,
    catalogue: Annotated[list[str] | None, typer.Option(help="TOML file with hardware of your own.")] = None,
    measured_in: Annotated[
        list[str] | None,
        typer.Option(
            "--from", help="Folder of `limjax scale`, perhaps several; default the runs that come with limjax."
        ),
    ] = None,
    consolidation_from: Annotated[
        str | None,
        typer.Option(help="Folder of `limjax continual`: the consolidation wall as measured there; adds the walls."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print a row per line and convention, for a spreadsheet.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print a table for a paper (booktabs).")] = False,
    figures: Annotated[str | None, typer.Option(help="Folder to write the figures to.")] = None,
) -> None:
    """Print the stack of energy limits of a training under several conventions, with their assumptions."""
    if json + csv + latex > 1:
        raise ValueError("--json, --csv and --latex are three ways to print the same: give one of them.")
    from limjax.limits import (
        Conditions,
        energy_limits,
        load_catalogue,
        measured_limit,
        read_consolidation,
        read_measured,
    )

    asked: dict[str, Any] = vars(training) | ({"scaling": "kaplan"} if training.scaling is None else {})
    folder = None
    if figures is not None:
        from limjax.runs import check_figures_folder

        folder = check_figures_folder(figures)
    records = load_catalogue(*(catalogue or []))
    runs = read_measured(*(measured_in or []))
    consolidation = None if consolidation_from is None else read_consolidation(consolidation_from)
    result = energy_limits(
        **asked,
        hardware=hardware,
        conditions=Conditions(temperature=temperature, loss_ratio=loss_ratio),
        catalogue=records,
    )
    measured = measured_limit(runs, training.parameters, temperature=temperature)
    bars = _walls(result, consolidation, hardware, temperature, records)
    if training.scaling is not None and result.stack.workload.optimum is None:
        typer.echo(f"limjax: --scaling {training.scaling} is not used: the amount of computation is given.", err=True)
    if csv or latex:
        typer.echo(result.csv() if csv else result.latex(), nl=False)
        if consolidation is not None:
            typer.echo("limjax: --csv and --latex print the stack without the walls of --consolidation-from.", err=True)
    else:
        typer.echo(_told(result, measured, consolidation, bars, json))
    if folder is None:
        return
    # The numbers are out before the figures are begun.
    from limjax.cli.console import drawn
    from limjax.limits.figures import figure_data
    from limjax.plots.limits import limit_figures, save_figures
    from limjax.plots.scaling import growth

    def draw() -> list[str]:
        pictures = limit_figures(figure_data(result, records, consolidation))
        pictures["growth"] = growth(runs, max(1e16, training.parameters), temperature)
        return [str(path) for path in save_figures(pictures, folder)]

    written = drawn(draw, "printed")
    if not written:
        raise typer.Exit(1)
    if not (json or csv or latex):
        typer.echo("\nFigures: " + ", ".join(written))


def _told(
    result: "Limits",
    measured: "MeasuredLimit",
    consolidation: "MeasuredConsolidation | None",
    bars: "list[Walls]",
    json: bool,
) -> str:
    """All of it as JSON, or in words."""
    if json:
        from json import dumps

        more = {"measured": measured.as_dict()}
        if consolidation is not None:
            more |= {"consolidation": dataclasses.asdict(consolidation), "walls": [bar.as_dict() for bar in bars]}
        return dumps(result.as_dict() | more, indent=2, allow_nan=False)
    from rich.console import Console

    from limjax.limits import walls_text

    width = min(Console().width, 100)
    return "\n\n".join([result.text(width), measured.text(width), *([walls_text(bars, width)] if bars else [])])


def _walls(
    result: "Limits",
    consolidation: "MeasuredConsolidation | None",
    hardware: str,
    temperature: float,
    records: "Catalogue",
) -> "list[Walls]":
    """The walls with the consolidation that a run measured, or none of them."""
    from limjax.limits import walls

    if consolidation is None:
        return []
    return walls(
        result.stack.workload,
        hardware=hardware,
        lim_heat_kt=result.stack.law.kt_per_parameter,
        consolidation=consolidation,
        temperature=temperature,
        catalogue=records,
    )
