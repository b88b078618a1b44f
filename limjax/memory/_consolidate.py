"""The end of a task: barriers that keep what was learnt are told of it."""

from typing import Any

import jax
from jaxtyping import PyTree

from limjax.barriers._consolidating import ConsolidatingBarrier
from limjax.memory._blocks import Blocks
from limjax.memory._charged_barrier import sees_blocks
from limjax.memory._retention import own_leaves
from limjax.memory._state import LearningInMemoryState, some_memories
from limjax.memory._step import wide


def _is_consolidating(x: Any) -> bool:
    return isinstance(x, ConsolidatingBarrier)


def consolidate(state: PyTree, params: PyTree) -> PyTree:
    """The optimizer's state when a task is over: barriers such as `ConsolidatingBarrier` take over what was important for it.

    The barriers move, and the work for that is charged, in the next step. Barriers that know of no tasks stay as they are.

    Args:
        state: state of an optimizer that contains `learning_in_memory` or `gradient_tilt`, once or several times.
        params: the parameters at the end of the task.

    Returns:
        The state, of the same structure, shapes and dtypes.

    Raises:
        ValueError: for a state that holds no memory, or parameters of another structure.

    Example:
        >>> import jax.numpy as jnp, optax, limjax
        >>> barrier = limjax.ConsolidatingBarrier(12.0, limjax.FisherRule())
        >>> opt = limjax.learning_in_memory(optax.sgd(0.1), limjax.ArrheniusCell(max_affinity=4.0), barrier)
        >>> _, state = opt.update(jnp.ones(2), opt.init(jnp.ones(2)))
        >>> limjax.consolidate(state, jnp.ones(2)).barrier.state.kept[0].tolist()
        [1.0, 1.0]
    """
    memories = some_memories(state)
    beside = [[memory.compare, memory.optimizer_memory] for memory in memories.values()]
    if any(_is_consolidating(x) for x in jax.tree.leaves(beside, is_leaf=_is_consolidating)):
        raise ValueError(
            "A ConsolidatingBarrier of a comparison or of the optimizer's memory is not told when a task ends and would look cheaper than it is: "
            "give it to a run of its own."
        )
    paths = jax.tree_util.tree_flatten_with_path(params)[0]
    index = {path: i for i, (path, _) in enumerate(paths)}

    def ended(memory):
        if not isinstance(memory, LearningInMemoryState):
            return memory
        leaves = [wide(paths[i][1]) for i in own_leaves(memory, index, len(memories))]
        # In the form that `evaluate` is given, which the arrays of the policy's state have.
        seen = Blocks(leaves, memory.ledger.packed).pack(leaves) if sees_blocks(memory.barrier.policy) else leaves
        policy_state = memory.barrier.policy.task_ended(memory.barrier.state, seen)
        return memory._replace(barrier=memory.barrier._replace(state=policy_state))

    return jax.tree.map(ended, state, is_leaf=lambda x: isinstance(x, LearningInMemoryState))
