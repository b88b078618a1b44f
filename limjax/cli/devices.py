"""`limjax devices`."""

import typer


def devices() -> None:
    """List the devices that jax computes on here (memories: limjax device list)."""
    import jax

    from limjax.parallel import devices_here

    for device in devices_here():
        typer.echo(f"{device.id}  {device.platform}  {device.device_kind}  process {device.process_index}")
    typer.echo(
        f"default backend: {jax.default_backend()}, 64-bit floats: {'on' if jax.numpy.zeros(()).dtype == 'float64' else 'off'}"
    )
