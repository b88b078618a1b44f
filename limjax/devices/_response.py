"""What one pulse does to a device, place by place: the table and the figure of `limjax device show`."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from limjax.devices._records import Device
from limjax.devices._steps import Scale
from limjax.numerics.checks import WholeNumber, whole_number


class Response(NamedTuple):
    """One pulse at one place.

    Attributes:
        position: where in the window, from 0 to 1.
        step_up: what a pulse up does [nominal pulses].
        step_down: what a pulse down does [nominal pulses].
        joules_up: what a pulse up takes [J], or None where it is not known.
        joules_down: what a pulse down takes [J], or None.
    """

    position: float
    step_up: float
    step_down: float
    joules_up: float | None
    joules_down: float | None


def device_response(device: Device, places: WholeNumber = 5) -> list[Response]:
    """One pulse up and down at places at equal distances over the window, without noise and without the window's ends.

    Args:
        device: the device.
        places: how many, at least 2.

    Returns:
        A row for each.

    Raises:
        ValueError: for fewer than two places.

    Example:
        >>> from limjax.devices import get_device
        >>> [round(row.step_up, 2) for row in device_response(get_device("reram-hfo2"), 3)]
        [1.6, 0.8, 0.0]
    """
    places = whole_number(places, "places", 2)
    cell = device.cell()
    position = jnp.linspace(0.0, 1.0, places, dtype=jnp.float32)
    rows = {}
    for way, pulse in (("up", cell.up), ("down", cell.down)):
        window, none = jnp.float32(device.levels), jnp.zeros((), jnp.float32)
        scale = Scale(pulse.size.astype(jnp.float32), window, none, none)
        step = pulse.steps.move(position if way == "up" else 1 - position, jnp.ones_like(position), scale)
        # At the place itself in both directions: energy depends on the conductance, steps on what lies behind.
        energy = None if pulse.energy is None else pulse.energy.joules(position)
        rows[way] = np.broadcast_to(np.asarray(step), (places,)), energy
    return [
        Response(
            float(place),
            float(rows["up"][0][i]),
            float(rows["down"][0][i]),
            *(None if rows[way][1] is None else float(rows[way][1][i]) for way in ("up", "down")),
        )
        for i, place in enumerate(position)
    ]
