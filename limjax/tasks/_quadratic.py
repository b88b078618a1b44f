"""The quadratic bowl, whose heat and noise are known in closed form (docs/law.md)."""

import jax.numpy as jnp

from limjax.numerics.checks import positive_number, whole_number
from limjax.tasks._task import Task, TaskDefaults


def quadratic(cells: int = 4096, start_levels: float = 100.0, lsb: float = 2**-10, rate: float = 1.0) -> Task:
    """L(w) = (rate/2) Σ w² / lsb²: every cell starts `start_levels` from the minimum and falls towards it.

    The loss is counted in levels², summed over cells; gradient descent with learning rate η lsb² contracts each cell by
    1 - rate·η per step, so steps·η is the contraction uT of the law and the default run has uT = 4.

    Args:
        cells: number of parameters.
        start_levels: m0, distance from the minimum at the start [levels].
        lsb: one level in weight units.
        rate: curvature in units of the learning rate.

    Returns:
        The task; it has no data.

    Raises:
        ValueError: if a number is not positive, or `cells` is not a whole one.
    """
    whole_number(cells, "cells")
    for name, value in (("start_levels", start_levels), ("lsb", lsb), ("rate", rate)):
        positive_number(value, name)
    steps = 2000
    return Task(
        name="quadratic",
        init=lambda key: {"w": jnp.full((cells,), start_levels * lsb, jnp.float32)},
        loss=lambda params, batch: 0.5 * rate * jnp.sum(jnp.square(params["w"] / lsb)),
        defaults=TaskDefaults(
            steps=steps,
            batch_size=1,
            # The gradient is rate w / lsb²: each step contracts by 4 / steps, so that uT = 4 (docs/law.md).
            learning_rate=4.0 / (rate * steps) * lsb**2,
            lsb=lsb,
            schedule="constant",
            optimizer="sgd",
            # The loss is the Lyapunov function of every cell here; one barrier for all needs to know no more.
            barrier="lyapunov",
        ),
    )
