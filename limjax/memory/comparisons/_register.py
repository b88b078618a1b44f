"""The register in front of an event-driven memory: requests wait there until a whole level is due.

It is the controller's, like the numbers from which the requests are computed, and is charged nowhere: an event-driven memory with
its register on cells of its own would pay for writing that at every step.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def whole_levels(
    register: list[Float[Array, "..."]], drifts: list[Float[Array, "..."]]
) -> tuple[list[Float[Array, "..."]], list[Float[Array, "..."]]]:
    """Adds a step's requests and takes out the whole levels that are due.

    Args:
        register: what waited so far, less than one level each [levels].
        drifts: requests d of this step [levels].

    Returns:
        `(due, register)`: whole levels to write now, and what waits on [levels].

    Example:
        >>> import jax.numpy as jnp
        >>> due, register = whole_levels([jnp.array([0.75, -0.5])], [jnp.array([0.5, -1.75])])
        >>> due[0].tolist(), register[0].tolist()
        ([1.0, -2.0], [0.25, -0.25])
    """
    waiting = [old + drift for old, drift in zip(register, drifts)]
    # Towards zero: what waits keeps its sign and is less than a level.
    due = [jnp.trunc(total) for total in waiting]
    return due, [total - levels for total, levels in zip(waiting, due)]
