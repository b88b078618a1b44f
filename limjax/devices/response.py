"""What one pulse does to a device, place by place: the table and the figure of `limjax device show`."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from limjax.devices.pulsed_cell import PulsedCell
from limjax.devices.records import Device
from limjax.numerics.checks import WholeNumber, whole_number
from limjax.physics.pulses import Place


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
    """One pulse up and down at places at equal distances over the window, without noise.

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
    low, high = (float(x) for x in np.asarray(cell.levels))
    plain = PulsedCell(cell.up, cell.down, lsb=1.0, levels=(low, high), word_bits=cell.word_bits)
    position = np.linspace(0, 1, places)
    level = jnp.asarray(low + position * (high - low), jnp.float32)
    rows = {}
    for way, sign in (("up", 1.0), ("down", -1.0)):
        pulse = cell.up if way == "up" else cell.down
        move = plain.deliver(jnp.full(places, sign, jnp.float32), level, Place(0, jnp.int32(0), None, True)).mean
        energy = None if pulse.energy is None else pulse.energy.joules(jnp.asarray(position, jnp.float32))
        rows[way] = np.abs(np.asarray(move)), energy
    return [
        Response(
            float(place),
            float(rows["up"][0][i]),
            float(rows["down"][0][i]),
            *(None if rows[way][1] is None else float(rows[way][1][i]) for way in ("up", "down")),
        )
        for i, place in enumerate(position)
    ]
