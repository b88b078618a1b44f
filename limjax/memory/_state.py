"""The state of one memory, and how it is found in the state of any optimizer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree, UInt32

from limjax.memory._charged_barrier import ChargedBarrier
from limjax.memory._field import as_field, stacked
from limjax.memory._ledger import Ledger, get_ledger, leaf_sums, one_member
from limjax.memory.comparisons._base import ChargedComparison
from limjax.physics._abstract_cell import AbstractCell


class LearningInMemoryState(NamedTuple):
    """State of `learning_in_memory` and `gradient_tilt`. Every number in it is a leaf.

    Attributes:
        ledger: what was dissipated.
        cell: the memory cell.
        barrier: the barrier policy and where it stands.
        compare: what the run is compared with, by name.
        optimizer_memory: cell and barrier that hold the optimizer's own state, or None.
        key: two words of randomness, or None without hop noise.
        inner: state of the wrapped optimizer.
        given: the numbers of cell, barrier and comparisons that the optimizer was last made with, in one array: what
            `optax.inject_hyperparams` changes is told from what was changed in this state by hand.
        residual: what a driver with a largest affinity has not delivered yet, per leaf [levels], or None where that is dropped.
    """

    ledger: Ledger
    cell: AbstractCell
    barrier: ChargedBarrier
    compare: dict[str, ChargedComparison]
    optimizer_memory: tuple[AbstractCell, ChargedBarrier] | None
    key: UInt32[Array, "2"] | None
    inner: Any
    given: Float[Array, "numbers"]
    residual: Any = None


def get_barrier(state: PyTree) -> Float[Array, ""]:
    """Mean barrier of the last step over all parameters, from any optax state that holds limjax states.

    Args:
        state: state of an optimizer that contains `learning_in_memory` or `gradient_tilt`, once or several times.

    Returns:
        B [kT].

    Raises:
        ValueError: if there is no limjax state, or one that holds no single run.
    """
    memories = list(some_memories(state).values())
    for memory in memories:
        one_member(memory.ledger)
    found = [as_field(memory.barrier.height).mean(memory.ledger.leaf_sizes()) for memory in memories]
    if len(found) == 1:
        return found[0][0]
    means, sizes = zip(*found)
    if None in sizes:
        raise ValueError(
            'Ledgers of granularity "leaf" do not know how many parameters they have: ask each memory, '
            "limjax.get_memories(state)."
        )
    found_means = stacked(means)
    # As floats: there may be more parameters than an int32 counts.
    return jnp.sum(found_means * jnp.asarray(sizes, found_means.dtype)) / max(float(sum(sizes)), 1.0)


def get_memory(state: PyTree) -> LearningInMemoryState:
    """The one limjax state inside any optax state.

    Args:
        state: state of an optimizer that contains one `learning_in_memory` or `gradient_tilt`.

    Returns:
        Its state: cell, barrier, ledger and the wrapped optimizer's.

    Raises:
        ValueError: if there is none, or more than one.
    """
    get_ledger(state)
    return next(iter(some_memories(state).values()))


def get_memories(state: PyTree) -> dict[str, LearningInMemoryState]:
    """All limjax states inside any optax state, by their path in it (`optax.multi_transform`, a cell and barrier for each layer).

    Args:
        state: state of any optimizer.

    Returns:
        Their states by path.
    """
    found = jax.tree_util.tree_flatten_with_path(state, is_leaf=lambda x: isinstance(x, LearningInMemoryState))[0]
    return {jax.tree_util.keystr(path): x for path, x in found if isinstance(x, LearningInMemoryState)}


def some_memories(state: PyTree, or_else: str = "") -> dict[str, LearningInMemoryState]:
    """`get_memories`, where there has to be one.

    Args:
        state: state of any optimizer.
        or_else: what else could be passed, for the message.

    Returns:
        Their states by path.

    Raises:
        ValueError: if there is none.
    """
    memories = get_memories(state)
    if not memories:
        raise ValueError(
            f"There is no limjax state in this: pass the state that `optimizer.init` or `optimizer.update` returned{or_else}."
        )
    return memories


def spent_kt(state: PyTree) -> Float[Array, ""]:
    """Heat and barrier work so far, of all memories in a state: what a budget of a loop is compared with.

    Traceable, so it can stand in the condition of a `jax.lax.while_loop`; in the dtype of the ledger's sums.

    Args:
        state: state of an optimizer that contains `learning_in_memory` or `gradient_tilt`, once or several times.

    Returns:
        Σ d·F + W over all parameters and steps [kT].

    Raises:
        ValueError: if there is no limjax state, or one that holds no single run.

    Example:
        >>> import jax.numpy as jnp, optax, limjax
        >>> params = {"w": jnp.ones(3)}
        >>> opt = limjax.learning_in_memory(optax.sgd(0.1), limjax.ArrheniusCell(), limjax.StaticBarrier(10.0))
        >>> state = opt.init(params)
        >>> while spent_kt(state) < 1000:
        ...     updates, state = opt.update(params, state, params)
        >>> int(limjax.get_ledger(state).steps)
        2
    """
    memories = list(some_memories(state).values())
    for memory in memories:
        one_member(memory.ledger)
    sums = [leaf_sums(memory.ledger, name) for memory in memories for name in ("heat", "actuation")]
    return jnp.sum(jnp.concatenate([x.astype(jnp.result_type(float)) for x in sums]))
