"""Figures of devices: measured pulses with the law that was fitted, and the response of a device."""

import numpy as np
from matplotlib.figure import Figure

from limjax.devices import Device, PulseFit
from limjax.devices._response import device_response
from limjax.plots._style import OTHER, OWN, figure


def fit_figure(fit: PulseFit) -> Figure:
    """Measured conductances and what the law makes of the same pulses, from the start of each series.

    Args:
        fit: of `limjax.devices.fit_pulses`.

    Returns:
        The figure.
    """
    fig, (ax,) = figure(7.2, 4.0)
    pulses = fit.pulses
    reading = np.arange(1, len(pulses.pulse) + 1)
    for way, mark, label in ((True, "^", "read after a pulse up"), (False, "v", "read after a pulse down")):
        mine, fill = pulses.up == way, OTHER if way else "none"
        ax.plot(
            reading[mine], 1e6 * pulses.conductance[mine], mark, color=OTHER, mfc=fill, ms=3.5, mew=0.7, label=label
        )
    # NaN differs from every number: the first reading begins a series.
    starts = np.flatnonzero(np.diff(pulses.series, prepend=np.nan) != 0)
    for i, (start, stop) in enumerate(zip(starts, [*starts[1:], len(reading)])):
        ax.plot(
            reading[start:stop],
            1e6 * fit.curve[start:stop],
            color=OWN,
            label="the fitted law alone" if i == 0 else None,
        )
    ax.set_xlabel("reading")
    ax.set_ylabel("conductance [µS]")
    fig.suptitle(f"{fit.law}: R² {fit.r_squared:.3f}", x=0.01, ha="left")
    ax.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return fig


def response_figure(device: Device) -> Figure:
    """One pulse up and down against where the device stands, and repeated pulses from end to end.

    Args:
        device: the device.

    Returns:
        The figure.
    """
    fig, (steps, sweep) = figure(9.6, 3.8, 2)
    rows = device_response(device, 41)
    steps.plot([row.position for row in rows], [row.step_up for row in rows], color=OWN, label="up")
    steps.plot([row.position for row in rows], [row.step_down for row in rows], "--", color=OTHER, label="down")
    steps.set_xlabel("place in the window")
    steps.set_ylabel("step [nominal pulses]")
    steps.legend(frameon=False)
    window, place = device.levels, 0.0
    up, down = [0.0], []
    for _ in range(int(np.ceil(window))):
        place = min(place + np.interp(place, [r.position for r in rows], [r.step_up for r in rows]) / window, 1.0)
        up.append(place)
    for _ in range(int(np.ceil(window))):
        place = max(place - np.interp(place, [r.position for r in rows], [r.step_down for r in rows]) / window, 0.0)
        down.append(place)
    sweep.plot(np.arange(len(up)), up, color=OWN)
    sweep.plot(len(up) + np.arange(len(down)), down, "--", color=OTHER)
    sweep.set_xlabel("pulse")
    sweep.set_ylabel("place in the window")
    steps.set_title(device.title, loc="left")
    return fig
