"""The optax transformations: any optimizer on physical memory, and the memory as the optimizer."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optax
from jaxtyping import Array, ArrayLike, PyTree

from limjax.barriers._base import AbstractBarrier
from limjax.barriers._static import StaticBarrier
from limjax.memory._columns import TRACKED
from limjax.memory._groups import GroupedState, Grouping, Groups, check_prefixes, grouping, merged
from limjax.memory._hops import AbstractHops, HopsName
from limjax.memory._leaves import Frozen, LeafInfo, check_parameters, frozen_leaves
from limjax.memory._ledger import Granularity
from limjax.memory._memory import Books, Compare, Memory
from limjax.memory._state import LearningInMemoryState
from limjax.numerics.checks import checked_leaf
from limjax.physics._abstract_cell import AbstractCell


def learning_in_memory(
    optimizer: optax.GradientTransformation,
    cell: AbstractCell | Groups,
    barrier: AbstractBarrier | None = None,
    *,
    hops: HopsName | AbstractHops = "mean",
    key: Array | None = None,
    granularity: Granularity = "parameter",
    compare: Compare = None,
    compensated: bool = True,
    track: Sequence[str] = TRACKED,
    optimizer_memory: tuple[AbstractCell, AbstractBarrier] | None = None,
    frozen: Frozen | None = None,
    keep_undelivered: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Any optax optimizer, with every parameter a physical memory cell and a ledger of what it dissipates.

    The optimizer's update $u$ is a request of $d = u/\mathrm{lsb}$ levels; the cell delivers it on average, at the heat
    $Q = 2d\,\mathrm{asinh}(d/2g)$ with $g = k_0\tau e^{-B}$, and scatters by $A = \sqrt{d^2 + 4g^2}$ levels².

    Args:
        optimizer: the optimizer to wrap.
        cell: the memory cell of each parameter. Numbers that vary from device to device are arrays, which broadcast against every
            parameter array. Or several memories in one model: a dict from path prefix to `(cell, barrier)` ("" is the rest), or a
            function of a leaf's path that returns both; each group of leaves has its own ledger then, `report(state, params)` joins
            them, and the optimizer still sees all parameters.
        barrier: the policy that sets its barrier; left out where `cell` names it, and for a device that has one of its own.
        hops: "mean" returns the optimizer's update unchanged; "gaussian" adds noise of variance A; "exact" moves by the
            difference of two Poisson counts, so that weights stay on the ladder (put them there with `snap` first). Or an object
            such as `limjax.ExactHops()`.
        key: `jax.random.key(...)`, needed for "gaussian" and "exact".
        granularity: "parameter" keeps a ledger entry per parameter, "leaf" one per array and no per-parameter memory.
        compare: barriers and other memories (`limjax.memory.comparisons`) that are charged for the same requests, per leaf: a sequence
            (named by their class) or a dict by name. None compares with a static barrier at ten years' retention, which is
            today's memory and no rival; `limjax.fair_comparisons(cell, steps)` are rivals; `()` with nothing. A function gets the cell.
        compensated: whether the sums keep what rounding drops (relative error 1e-6 after 1e7 steps instead of 1e-2).
        track: which of "heat", "path", "saturated" and "actuation" are kept per parameter; the others are summed per leaf
            and read no memory. `("heat",)` is the cheapest ledger that still says where the heat went.
        optimizer_memory: `(cell, barrier)` that hold the optimizer's own state (momentum, second moment), to charge its
            writes as well. None leaves them out.
        frozen: leaves that never move: path prefixes such as `["encoder"]`, a function of a leaf's path, or a tree of booleans
            like the parameters. Their barrier stays shut: no request reaches them, no hop moves them, nothing is charged but, with
            `optimizer_memory`, what an optimizer goes on writing for them.
        keep_undelivered: what becomes of a request beyond the largest affinity of the cell's driver (`max_affinity` of a cell): kept
            and asked for again in the next step, at a number per parameter, or dropped. The ledger counts it either way.

    Returns:
        An optax transformation. Its `update` takes `value=loss` for barriers that follow the loss and hands every extra
        argument on; `params` are needed only by the wrapped optimizer or a cell with a level range. A leaf whose update is
        None (a frozen part of `eqx.partition`) is charged nothing. A step that `optax.apply_if_finite` rejects leaves weights,
        barrier and ledger as they are. Members of a `jax.vmap` draw hops of
        their own, and so do shards of a `shard_map` over which the updates differ.

    Raises:
        ValueError: for an unknown mode, a missing key, or two comparisons of one name; on update, for updates of other parameters.
        TypeError: in `init`, for a parameter that is no float array; the message names it; for groups that are no cells and barriers.

    Cost: one logarithm and two roots per parameter and step; memory one word per parameter for each sum tracked, another
    one if it is compensated (saturations never are), and one for the start; none with "leaf".

    Example:
        >>> import jax, jax.numpy as jnp, optax, limjax
        >>> cell = limjax.ArrheniusCell(lsb=2**-10, attempt_rate=1e9, step_time=1e-3)
        >>> opt = limjax.learning_in_memory(optax.sgd(0.1), cell, limjax.StaticBarrier(10.0))
        >>> params = {"w": jnp.ones(3)}
        >>> state = opt.init(params)
        >>> updates, state = opt.update({"w": jnp.ones(3)}, state, params)
        >>> f"{limjax.per_parameter(limjax.get_ledger(state))['w'][0]:.1f} kT"
        '198.4 kT'

    Source: arXiv:2402.14878 v1 for the idea; the equations are derived in the documentation.
    """
    if not callable(getattr(optimizer, "update", None)):
        raise ValueError(
            f"optimizer must be an optax transformation, for example optax.adam(1e-3) with its parentheses; got {optimizer!r}."
        )
    # Extra arguments such as `value` then reach those that take them and are dropped for those that do not.
    inner = optax.with_extra_args_support(optimizer)
    books = Books(granularity, track, compensated, compare)
    make = functools.partial(Memory, books=books, hops=hops, key=key, keep_undelivered=keep_undelivered)
    if not isinstance(cell, AbstractCell):
        return _on_groups(inner, cell, barrier, make, optimizer_memory, frozen)
    if barrier is None and cell.own_barrier is not None:
        barrier = StaticBarrier(cell.own_barrier)
    if not isinstance(barrier, AbstractBarrier):
        raise TypeError(f"barrier must be a barrier such as limjax.StaticBarrier(10.0), got {barrier!r}.")
    memory = make(cell, barrier, optimizer=inner, optimizer_memory=optimizer_memory, frozen=frozen)

    def init(params: PyTree) -> LearningInMemoryState:
        # Before the optimizer is initialised, whose own error would not name the parameter.
        check_parameters(params)
        return memory.init(params, inner.init(params))

    def update(updates, state, params=None, *, value=None, **extra_args):
        extra_args = _with_value(extra_args, value)
        wanted, after = inner.update(updates, state.inner, params, **extra_args)
        return memory.request(state, updates, wanted, params, value, (state.inner, after))

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]  # optax types any tree


def _on_groups(
    inner: optax.GradientTransformationExtraArgs,
    groups: Groups,
    barrier: AbstractBarrier | None,
    make: Callable[..., Memory],
    optimizer_memory: tuple[AbstractCell, AbstractBarrier] | None,
    frozen: Frozen | None,
) -> optax.GradientTransformationExtraArgs:
    """The optimizer on several memories: it sees all parameters, each memory its own."""
    if not (callable(groups) or isinstance(groups, Mapping)):
        raise TypeError(
            f"cell must be a memory cell such as limjax.ArrheniusCell(), or a dict or function from a parameter's path to (cell, barrier); got {groups!r}."
        )
    if barrier is not None:
        raise TypeError("Where each layer has its own (cell, barrier), there is no other barrier: leave it out.")
    if optimizer_memory is not None:
        raise ValueError(
            "optimizer_memory is one cell for the optimizer's whole state: it goes with one cell for the parameters."
        )

    # By the paths of the trees they initialised, so that `update` finds those whose states count. An object that
    # initialised none (`optax.inject_hyperparams` makes one per update) makes them anew, and hands its numbers on.
    made: dict[tuple[str, ...], dict[str, Memory]] = {}

    def memories_of(found: Grouping) -> dict[str, Memory]:
        infos = [LeafInfo(name, (), "") for name in found.labels]
        still = dict(zip(found.labels, frozen_leaves(frozen, infos)))
        # Flags by path: a prefix or a tree of all parameters fits no part.
        return {label: make(*pair, frozen=lambda name: still.get(name, False)) for label, pair in found.members.items()}

    def init(params: PyTree) -> GroupedState:
        check_parameters(params)
        check_prefixes(params, groups)
        found = grouping(params, groups)
        memories = made[tuple(found.labels)] = memories_of(found)
        states = {label: memories[label].init(found.part(params, label), ()) for label in memories}
        return GroupedState(states, inner.init(params))

    def update(updates, state, params=None, *, value=None, **extra_args):
        extra_args = _with_value(extra_args, value)
        wanted, after = inner.update(updates, state.inner, params, **extra_args)
        found = grouping(updates if params is None else params, groups)
        memories = made.get(tuple(found.labels)) or memories_of(found)
        if not set(memories) <= set(state.memories):
            raise ValueError(
                f"The state has memories for {', '.join(state.memories)}, these parameters ask for {', '.join(memories)}: pass "
                "optimizer.update(updates, state, params), so that it is known which leaves there are, with the groups of init."
            )
        moved, states = [], dict(state.memories)
        for label, memory in memories.items():
            tree = None if params is None else found.part(params, label)
            # Twice the state after: only `optimizer_memory` reads the one before, and groups have none.
            part, kept = memory.request(
                states[label], found.part(updates, label), found.part(wanted, label), tree, value, (after, after)
            )
            moved.append(part)
            # Kept once for all, beside the memories.
            states[label] = kept._replace(inner=())
        return merged(wanted, moved), GroupedState(states, after)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]  # optax types any tree


def _with_value(extra_args: dict[str, Any], value: Any) -> dict[str, Any]:
    # Left out and not None: an optimizer that needs the loss then says so itself.
    return extra_args if value is None else {"value": value, **extra_args}


def gradient_tilt(
    cell: AbstractCell,
    barrier: AbstractBarrier,
    coupling: ArrayLike,
    *,
    hops: HopsName | AbstractHops = "mean",
    key: Array | None = None,
    granularity: Granularity = "parameter",
    compare: Compare = (),
    compensated: bool = True,
    track: Sequence[str] = TRACKED,
    frozen: Frozen | None = None,
    max_move: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""The memory array as the optimizer: the gradient tilts the cells and the barrier is the learning rate.

    The affinity is $F = -s\,\mathrm{lsb}\,\partial L/\partial w$ and the mean move $d = 2g\sinh(F/2)$ levels: for small
    F gradient descent with learning rate lr = $g\,s\,\mathrm{lsb}^2$. The heat adds up to $s(L_0 - L)$ and, with hop
    noise, about lr L'' kT per parameter and step, at rest too. The stationary state is $e^{-sL}$ while lr L'' << 1; in a
    bowl its variance is 1/(1 - lr L''/2) times larger. Where the tilt exceeds the barrier, $|F|/2 > B$, the hop
    rate is held at the attempt rate k0 (there is no barrier left to lower) and the ledger counts the step as saturated.

    The gradient is that of the step's start. Where the tilt is large and the loss curved, a cell would feel it turn on its way; frozen
    over the step it is thrown far past the minimum once lr L'' cosh(F/2) exceeds 2. `max_move` bounds the mean move.

    Args:
        cell: the memory cell of each parameter.
        barrier: the policy that sets its barrier; one that does not follow the requested step.
        coupling: s, kT of tilt per unit of loss, above 0. It is the inverse temperature of the stationary state.
        hops: as in `learning_in_memory`.
        key: as in `learning_in_memory`.
        granularity: as in `learning_in_memory`.
        compare: as in `learning_in_memory`, but nothing by default: another barrier would not deliver the same moves.
        compensated: as in `learning_in_memory`.
        track: as in `learning_in_memory`.
        frozen: as in `learning_in_memory`.
        max_move: largest mean move of a cell in a step [levels], above 0: a driver that holds the tilt below 2 asinh(max_move/2g).
            The heat is that of the tilt applied, and the ledger counts such steps as saturated. None leaves only the barrier.

    Returns:
        An optax transformation that needs no optimizer and no learning rate.

    Raises:
        ValueError: for a coupling or `max_move` that is not positive, an unknown mode, or a missing key.

    Example:
        >>> import jax.numpy as jnp, limjax
        >>> opt = limjax.gradient_tilt(limjax.ArrheniusCell(), limjax.StaticBarrier(12.0), coupling=100.0)
        >>> state = opt.init(jnp.ones(2))
        >>> updates, state = opt.update(jnp.ones(2), state)
        >>> f"{updates[0]:.1e}"
        '-5.9e-04'

    Source: overdamped Langevin dynamics on a lattice; Seifert, Rep. Prog. Phys. 75, 126001 (2012).
    """
    coupling = checked_leaf(
        coupling, "coupling", low=0.0, open_low=True, remedy="It is kT of tilt per unit of loss, for example 100.0."
    )
    if max_move is not None:
        remedy = "It is the largest mean move in a step in levels, for example 10.0."
        max_move = float(checked_leaf(max_move, "max_move", low=0.0, open_low=True, remedy=remedy, single=True))
    books = Books(granularity, track, compensated, compare)
    memory = Memory(cell, barrier, books=books, hops=hops, key=key, frozen=frozen, coupling=coupling, max_move=max_move)

    def init(params: PyTree) -> LearningInMemoryState:
        return memory.init(params, None)

    def update(updates, state, params=None, *, value=None, **extra_args):
        del extra_args
        return memory.tilt(state, updates, params, value)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]  # optax types any tree
