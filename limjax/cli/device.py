"""`limjax device fit`, `show` and `list`: memories that pulses program."""

import json as json_text
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="Memories: fit measured pulses, show a device, list the zoo.")


@app.command("list")
def list_devices(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the devices of the zoo."""
    from limjax.devices import device_names, get_device

    devices = [get_device(name) for name in device_names()]
    if json:
        typer.echo(json_text.dumps([_told(device) for device in devices], indent=2, allow_nan=False))
        return
    from rich.console import Console

    table = _table("name", "device", "pulses\nend to\nend", "J a pulse\nup / down", "s a pulse", "kT")
    table.columns[1].min_width = 15  # "Electrochemical" is not broken at 80 columns
    for device in devices:
        told = _told(device)
        joules = _both(told["pulse_joules_up"], told["pulse_joules_down"])
        table.add_row(
            device.name, device.title, f"{device.levels:,.0f}" if device.levels >= 100 else f"{device.levels:.4g}", joules, _both(told["pulse_seconds_up"], told["pulse_seconds_down"]),
            f"{told['barrier_kt']:.1f}{'' if told['barrier_is_known'] else '*'}",
        )  # fmt: skip
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print(
        "Energies in the middle of the window; - is not known. * Retention is not known: ten years at 1 GHz are assumed."
    )
    console.print(
        "limjax device show NAME says where every number comes from; limjax train --device NAME trains on it."
    )


@app.command("show")
def show_device(
    device: Annotated[str, typer.Argument(help="A name of `limjax device list`, or a .toml file.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    figure: Annotated[str | None, typer.Option(help="Write the response curve to this file (png, pdf or svg).")] = None,
) -> None:
    """Show a device: its response, its energies, where every number comes from, and what is assumed."""
    from limjax.cli.places import new_picture
    from limjax.devices import get_device

    found = get_device(device)
    place = None if figure is None else new_picture(figure, "--figure")
    if json:
        typer.echo(json_text.dumps(_told(found), indent=2, allow_nan=False))
    else:
        _show(found)
    if place is not None:
        from limjax.plots.devices import response_figure

        response_figure(found).savefig(place)
        typer.echo(f"Figure: {place}", err=json)


@app.command("fit")
def fit_device(
    pulses: Annotated[str, typer.Argument(help="CSV file with columns pulse, conductance [S], direction (up, down).")],
    out: Annotated[str, typer.Option(help="Device file to write, such as my_device.toml; the figure goes beside it.")],
    law: Annotated[str, typer.Option(help="linear, soft-bounds, exponential, or auto for the most likely.")] = "auto",
    title: Annotated[str, typer.Option(help="What the device is.")] = "",
    retention: Annotated[
        str | None,
        typer.Option(
            help="CSV file with columns time [s], temperature [K], failures (a share, or a count with a column cells)."
        ),
    ] = None,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw data and fit.")] = True,
) -> None:
    """Fit the law of steps of measured pulses and write a device file."""
    from limjax._files import write_text
    from limjax.cli.console import drawn
    from limjax.cli.places import new_file, new_picture
    from limjax.devices import fit_pulses, fit_retention, fitted_device
    from limjax.devices._retention_fit import read_retention

    path = new_file(out, "--out")
    if path.suffix != ".toml":
        raise ValueError(
            f"--out must end in .toml, got {out}: that is how `limjax train --device` knows a file from a name."
        )
    picture = new_picture(str(path.with_suffix(".png")), "--out: the figure") if figures else None
    kept = None if retention is None else fit_retention(**read_retention(retention))
    fit = fit_pulses(pulses, law)
    device = fitted_device(fit, path.stem, title, kept)
    write_text(path, device.to_toml())
    typer.echo(str(fit))
    if kept is not None:
        typer.echo(str(kept))
    _show(device)
    written = [str(path)]
    if picture is not None:
        from limjax.plots.devices import fit_figure

        written += drawn(lambda: [str(picture)] if fit_figure(fit).savefig(picture) is None else [], "saved")
    typer.echo(f"Wrote {', '.join(written)}. Train on it: limjax train --device {path}")


def _told(device: Any) -> dict[str, Any]:
    """What is known of a device, as JSON."""
    from limjax.devices._response import device_response

    rows, cell = device_response(device, 5), device.cell()
    middle = rows[2]
    return {
        "name": device.name,
        "title": device.title,
        "law": device.law,
        "note": device.note,
        "levels": device.levels,
        "pulse_joules_up": middle.joules_up,
        "pulse_joules_down": middle.joules_down,
        "pulse_seconds_up": device.si("pulse_time", "up"),
        "pulse_seconds_down": device.si("pulse_time", "down"),
        "barrier_kt": float(cell.own_barrier),
        "barrier_is_known": cell.retention is not None,
        "response": [row._asdict() for row in rows],
        "numbers": {name: vars(number) for name, number in device.numbers.items()},
        "missing": list(device.missing),
        "assumed": list(device.assumed),
    }


def _show(device: Any) -> None:
    from rich.console import Console
    from rich.text import Text

    told, console = _told(device), Console()
    console.print(Text(f"{device.name}: {device.title}. Steps: {device.law}. {device.note}".strip()))
    steps = "One pulse (steps in nominal pulses)"
    table = _table("place in\nthe window", "step up", "step down", "J up", "J down", title=steps)
    for row in told["response"]:
        table.add_row(
            f"{row['position']:.2f}", f"{row['step_up']:.3g}", f"{row['step_down']:.3g}", _number(row["joules_up"]), _number(row["joules_down"])
        )  # fmt: skip
    console.print(table)
    known = "" if told["barrier_is_known"] else " (assumed)"
    kept = f"Barrier of its retention at 300 K: {told['barrier_kt']:.1f} kT{known}."
    times = _both(told["pulse_seconds_up"], told["pulse_seconds_down"])
    console.print(Text(f"{kept} A pulse takes {'an unknown time' if times == '-' else times + ' s'}."))
    sources = list(dict.fromkeys(number.source for number in device.numbers.values()))
    numbers = _table("number", "value", "how", "year", "source", "note", title="Where it comes from")
    for number in device.numbers.values():
        place = f"[{sources.index(number.source) + 1}]"
        numbers.add_row(number.name, Text(str(number)), number.how, str(number.year), Text(place), Text(number.note))
    console.print(numbers)
    for i, source in enumerate(sources):
        console.print(Text(f"[{i + 1}] {source}"))
    for name, words in (("Not known", device.missing), ("Assumed", device.assumed)):
        if words:
            console.print(Text(f"{name}: {'; '.join(words)}."))


def _table(*heads: str, title: str | None = None) -> Any:
    """A table whose columns are folded where it is narrow, and never cut."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for head in heads:
        # The first column is a name to be typed again: it is never broken.
        table.add_column(head, overflow="fold", no_wrap=not table.columns)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2e}"


def _both(up: float | None, down: float | None) -> str:
    return _number(up) if up == down else f"{_number(up)} / {_number(down)}"
