"""`limjax gap`."""

import json as json_text
import pathlib
from typing import Annotated, Any

import typer

_REMEDY = "Give the folder that `limjax train` wrote, or the summary.json in it."


def gap(
    runs: Annotated[list[str], typer.Argument(help="Folders of runs, or their summary.json.", metavar="RUN")],
    hardware: Annotated[str, typer.Option(help="Accelerator that does the arithmetic.")] = "H100 SXM bf16",
    device: Annotated[
        list[str] | None, typer.Option(help="Device beside the zoo: a .toml file, or numbers; may be repeated.")
    ] = None,
    bits: Annotated[
        int | None, typer.Option(help="Bits of a word; default as many as tell the levels of the run apart.")
    ] = None,
    weight_range: Annotated[float, typer.Option(help="Width of the window of weights.")] = 2.0,
    reads: Annotated[float, typer.Option(help="How often a step reads each weight.")] = 2.0,
    catalogue: Annotated[list[str] | None, typer.Option(help="TOML file with hardware of your own.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print a LaTeX table.")] = False,
    out: Annotated[str | None, typer.Option(help="Write the figure to this file (png, pdf or svg).")] = None,
) -> None:
    """Put every energy of the same training on one scale, from the machine's to the limit's."""
    if json + csv + latex > 1:
        raise ValueError("--json, --csv and --latex each fill stdout: give one of them, and run the command again.")
    from limjax.cli.places import new_picture
    from limjax.devices import device_names, get_device
    from limjax.gap import energy_gap, gap_csv, gap_latex, gap_text, with_flops
    from limjax.limits import load_catalogue
    from limjax.training._seeds import apart_from_seed

    place = None if out is None else new_picture(out, "--out")
    # A path that is given twice is one run: it would be a second seed of itself.
    summaries = {_name(path, runs): _summary(path) for path in dict.fromkeys(runs)}
    records = load_catalogue(*(catalogue or []))
    devices = [get_device(name) for name in (*device_names(), *(device or ()))]
    options: dict[str, Any] = {"hardware": hardware, "bits": bits, "weight_range": weight_range, "reads": reads}
    kinds = {name: apart_from_seed(summary) for name, summary in summaries.items()}
    seeds = {
        name: [other for key, other in summaries.items() if key != name and kinds[key] == kinds[name]]
        for name in summaries
    }
    gaps = [
        energy_gap(with_flops(summary), name=name, devices=devices, catalogue=records, seeds=seeds[name], **options)
        for name, summary in summaries.items()
    ]
    if json:
        typer.echo(json_text.dumps({"runs": [one.as_dict() for one in gaps]}, indent=2, allow_nan=False))
    elif csv or latex:
        typer.echo((gap_csv if csv else gap_latex)(gaps), nl=False)
    else:
        from rich.console import Console

        typer.echo(gap_text(gaps, min(Console().width, 120)))
    if place is not None:
        from limjax.cli.console import drawn
        from limjax.plots.gap import gap_figure

        # The numbers are out before the figure is begun.
        if not drawn(lambda: [out] if gap_figure(gaps).savefig(place) is None and out else [], "printed"):
            raise typer.Exit(1)
        typer.echo(f"\nFigure: {place}", err=json or csv or latex)


def _name(path: str, runs: list[str]) -> str:
    """What to call a run: its folder, by its last word where that tells it from the others."""
    folder = pathlib.Path(path).resolve()
    folder = folder.parent if folder.name == "summary.json" else folder
    others = [pathlib.Path(other).resolve() for other in runs if other != path]
    same = [other for other in others if folder.name in (other.name, other.parent.name)]
    return path if same else folder.name


def _summary(path: str) -> dict[str, Any]:
    from limjax._files import local_path
    from limjax._summaries import read_summary

    folder = local_path(path, "RUN")
    file = folder / "summary.json" if folder.is_dir() else folder
    if not file.exists():
        kind = "has no summary.json: its training did not end" if folder.is_dir() else "does not exist"
        raise ValueError(f"RUN {path} {kind}. {_REMEDY}")
    return read_summary(file, _REMEDY)
