"""`limjax cell`."""

from typing import Annotated

import typer


def cell(
    bits: Annotated[int, typer.Option(help="Bits of the weight.")] = 8,
    weight_range: Annotated[float, typer.Option("--range", help="Largest minus smallest weight.")] = 2.0,
    retention_years: Annotated[
        float, typer.Option("--retention", help="How long it must hold the weight [years].")
    ] = 10.0,
    failure: Annotated[float, typer.Option("--error", help="Probability that it does not.")] = 1e-4,
    temperature: Annotated[float, typer.Option(help="Temperature [K].")] = 300.0,
    open_barrier: Annotated[float, typer.Option(help="Barrier while training [kT].")] = 10.0,
    attempt_rate: Annotated[float, typer.Option(help="Attempt rate k0 [1/s].")] = 1e9,
    step_time: Annotated[float, typer.Option(help="Duration of one step [s].")] = 1e-3,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print what one memory cell needs and costs."""
    from limjax.physics.sizing import size_cell

    sizing = size_cell(bits, weight_range, retention_years, failure, temperature, open_barrier, attempt_rate, step_time)
    if json:
        from json import dumps

        typer.echo(dumps(sizing._asdict(), indent=2, allow_nan=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("quantity", "value", title=f"One {bits}-bit cell at {temperature:g} K", title_justify="left")
    for name, value in (
        ("levels", f"{sizing.levels}"),
        ("one level (lsb), weight units", f"{sizing.lsb:.4g}"),
        (
            f"barrier to hold it {retention_years:g} years (failure {failure:g})",
            f"{sizing.retention_barrier_kt:.2f} kT",
        ),
        (f"hold time at the open barrier ({open_barrier:g} kT)", f"{sizing.hold_seconds_open:.3g} s"),
        (
            "work to raise the barrier, open to shut, once",
            f"{sizing.actuation_kt:.3f} kT = {sizing.actuation_joules:.2e} J",
        ),
        ("heat of one level in one step, open", f"{sizing.update_kt_open:.3g} kT = {sizing.update_joules_open:.2e} J"),
        ("heat of one level in one step, shut", f"{sizing.update_kt_shut:.4g} kT = {sizing.update_joules_shut:.2e} J"),
        (f"Landauer line, {bits} bits", f"{sizing.landauer_kt:.3g} kT"),
    ):
        table.add_row(name, value)
    Console().print(table)
