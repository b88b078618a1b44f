"""Synthetic curves of devices, made by the laws as papers write them, apart from the library's own code."""

import numpy as np

SCALE, OFFSET = 9e-6, 1e-6  # siemens
# Steps and shapes, up and down, in units of the scale.
TRUTH = {
    "linear": ((0.02, 0.017), (0.0, 0.0)),
    "soft-bounds": ((0.025, 0.02), (1.8, 1.4)),
    "exponential": ((0.025, 0.02), (3.0, 2.0)),
}
NOISE, READING = 0.5, 0.004


def local_step(law, gone, size, shape):
    """One step of each law as papers write it, apart from the library's own code."""
    if law == "linear":
        return size
    if law == "soft-bounds":
        return size * (1 - shape * (gone - 0.5))
    return np.log1p(shape * size * np.exp(-shape * (gone - 0.5))) / shape


def measured(law, rng, sweep=40, cycles=3, noise=NOISE, reading=READING):
    """A device that goes up and down, read after every pulse."""
    sizes, shapes = TRUTH[law]
    position, conductance, direction = 0.1, [], []
    for _ in range(cycles):
        for k, sign in enumerate((1, -1)):
            for _ in range(sweep):
                gone = position if sign > 0 else 1 - position
                step = local_step(law, gone, sizes[k], shapes[k])
                position += sign * step * (1 + noise * rng.standard_normal())
                conductance.append(OFFSET + SCALE * (position + reading * rng.standard_normal()))
                direction.append("up" if sign > 0 else "down")
    return {"pulse": np.arange(1, len(direction) + 1), "conductance": np.array(conductance), "direction": direction}
