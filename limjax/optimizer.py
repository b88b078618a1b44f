"""The optax transformations: any optimizer on physical memory, and the memory as the optimizer."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float, Int, PyTree, UInt32

from limjax.barrier_state import BarrierValue, ChargedBarrier, init_barrier, map_value, move_barrier, per_block
from limjax.barriers.base import AbstractBarrier, BarrierInputs
from limjax.blocks import Blocks
from limjax.comparisons.base import ChargedComparison, StepRecord
from limjax.comparisons.names import Comparable, named_comparisons
from limjax.hyperparameters import Numbers, copied
from limjax.leaves import (
    Frozen,
    LeafInfo,
    check_parameters,
    flatten_updates,
    frozen_leaves,
    known_leaves,
    part_of_tree,
    skipped_step,
)
from limjax.ledger import (
    TRACKED,
    VALID_FROM_BARRIER,
    Granularity,
    Ledger,
    get_ledger,
    init_ledger,
    one_member,
)
from limjax.physics import hops as hop_sampling
from limjax.physics import numerics
from limjax.physics.cell import ArrheniusCell
from limjax.physics.random import folded, key_words, member_key, step_words, told_apart
from limjax.physics.validation import checked_leaf, compute_dtype

Hops = Literal["mean", "gaussian", "exact"]


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
    """

    ledger: Ledger
    cell: ArrheniusCell
    barrier: ChargedBarrier
    compare: dict[str, ChargedComparison]
    optimizer_memory: tuple[ArrheniusCell, ChargedBarrier] | None
    key: UInt32[Array, "2"] | None
    inner: Any
    given: Float[Array, "numbers"]


def learning_in_memory(
    optimizer: optax.GradientTransformation,
    cell: ArrheniusCell,
    barrier: AbstractBarrier,
    *,
    hops: Hops = "mean",
    key: Array | None = None,
    granularity: Granularity = "parameter",
    compare: Sequence[Comparable] | Mapping[str, Comparable] | None = None,
    compensated: bool = True,
    track: Sequence[str] = TRACKED,
    optimizer_memory: tuple[ArrheniusCell, AbstractBarrier] | None = None,
    frozen: Frozen | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Any optax optimizer, with every parameter a physical memory cell and a ledger of what it dissipates.

    The optimizer's update $u$ is a request of $d = u/\mathrm{lsb}$ levels; the cell delivers it on average, at the heat
    $Q = 2d\,\mathrm{asinh}(d/2g)$ with $g = k_0\tau e^{-B}$, and scatters by $A = \sqrt{d^2 + 4g^2}$ levels².

    Args:
        optimizer: the optimizer to wrap.
        cell: the memory cell of each parameter.
        barrier: the policy that sets its barrier.
        hops: "mean" returns the optimizer's update unchanged; "gaussian" adds noise of variance A; "exact" moves by the
            difference of two Poisson counts, so that weights stay on the ladder (put them there with `snap` first).
        key: `jax.random.key(...)`, needed for "gaussian" and "exact".
        granularity: "parameter" keeps a ledger entry per parameter, "leaf" one per array and no per-parameter memory.
        compare: barriers and other memories (`limjax.comparisons`) that are charged for the same requests, per leaf: a sequence
            (named by their class) or a dict by name. None compares with a static barrier at ten years' retention, which is
            today's memory and no rival; `limjax.fair_comparisons(cell, steps)` are rivals; `()` with nothing.
        compensated: whether the sums keep what rounding drops (relative error 1e-6 after 1e7 steps instead of 1e-2).
        track: which of "heat", "path", "saturated" and "actuation" are kept per parameter; the others are summed per leaf
            and read no memory. `("heat",)` is the cheapest ledger that still says where the heat went.
        optimizer_memory: `(cell, barrier)` that hold the optimizer's own state (momentum, second moment), to charge its
            writes as well. None leaves them out.
        frozen: leaves that never move: path prefixes such as `["encoder"]`, a function of a leaf's path, or a tree of booleans
            like the parameters. Their barrier stays shut: no request reaches them, no hop moves them, nothing is charged.

    Returns:
        An optax transformation. Its `update` takes `value=loss` for barriers that follow the loss and hands every extra
        argument on; `params` are needed only by the wrapped optimizer or a cell with a level range. A leaf whose update is
        None (a frozen part of `eqx.partition`) is charged nothing. A step that `optax.apply_if_finite` rejects leaves weights,
        barrier and ledger as they are. Members of a `jax.vmap` draw hops of
        their own, and so do shards of a `shard_map` over which the updates differ.

    Raises:
        ValueError: for an unknown mode, a missing key, or two comparisons of one name; on update, for updates of other parameters.
        TypeError: in `init`, for a parameter that is no float array; the message names it.

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
    inner = optax.with_extra_args_support(optimizer)
    tracked = _tracked(granularity, track)
    named = named_comparisons(compare, cell)
    words = _words(hops, key)
    made = Numbers((cell, barrier, named))

    def init(params: PyTree) -> LearningInMemoryState:
        check_parameters(params)
        made.used_for(params)
        inner_state = inner.init(params)
        memory, memory_leaves = None, None
        if optimizer_memory is not None:
            state_leaves = _charged_state_leaves(inner_state, jax.tree.leaves(params))
            memory_cell, memory_barrier = optimizer_memory
            memory = copied((memory_cell, init_barrier(memory_barrier, state_leaves)))
            memory_leaves = len(state_leaves)
        return _init_state(params, inner_state, made, hops, words, tracked, compensated, memory, memory_leaves)

    def update(updates, state, params=None, *, value=None, **extra_args):
        gradient = updates
        if value is not None:
            extra_args = {"value": value, **extra_args}
        updates, inner_state = inner.update(updates, state.inner, params, **extra_args)
        state = made.into(state)
        cell, infos = state.cell, _infos(state, params, made, updates)
        given, unflatten = flatten_updates(updates, infos)
        still = frozen_leaves(frozen, infos)
        leaves = [_or_zeros(u, i) if not f else _or_zeros(None, i) for u, i, f in zip(given, infos, still)]
        still = tuple(f or u is None for u, f in zip(given, still))
        drift = [_levels(u, cell) for u in leaves]
        gradients = [_or_zeros(g, i) for g, i in zip(flatten_updates(gradient, infos)[0], infos)]
        inputs = BarrierInputs(state.ledger.steps, _loss(value), drift, gradients, cell)
        memory, memory_heat = state.optimizer_memory, None
        if memory is not None:
            memory, memory_heat = _charge_optimizer(memory, state.inner, inner_state, inputs, leaves)
        moved, new = _step(state, inputs, None, leaves, params, hops, still, memory_heat)
        new = new._replace(inner=inner_state, optimizer_memory=memory)
        skipped = skipped_step(inner_state)
        if skipped is not None:
            moved = [jnp.where(skipped, jnp.zeros_like(m), m) for m in moved]
            new = jax.tree.map(lambda old, now: jnp.where(skipped, old, now), state._replace(inner=inner_state), new)
        return unflatten([None if u is None else m for u, m in zip(given, moved)]), new

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]  # optax types any tree


def gradient_tilt(
    cell: ArrheniusCell,
    barrier: AbstractBarrier,
    coupling: ArrayLike,
    *,
    hops: Hops = "mean",
    key: Array | None = None,
    granularity: Granularity = "parameter",
    compare: Sequence[Comparable] | Mapping[str, Comparable] | None = (),
    compensated: bool = True,
    track: Sequence[str] = TRACKED,
    frozen: Frozen | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""The memory array as the optimizer: the gradient tilts the cells and the barrier is the learning rate.

    The affinity is $F = -s\,\mathrm{lsb}\,\partial L/\partial w$ and the mean move $d = 2g\sinh(F/2)$ levels: for small
    F gradient descent with learning rate lr = $g\,s\,\mathrm{lsb}^2$. The heat adds up to $s(L_0 - L)$ and, with hop
    noise, about lr L'' kT per parameter and step, at rest too. The stationary state is $e^{-sL}$ while lr L'' << 1; in a
    bowl its variance is 1/(1 - lr L''/2) times larger. Where the tilt exceeds the barrier, $|F|/2 > B$, the hop
    rate is held at the attempt rate k0 (there is no barrier left to lower) and the ledger counts the step as saturated.

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

    Returns:
        An optax transformation that needs no optimizer and no learning rate.

    Raises:
        ValueError: for a coupling that is not positive, an unknown mode, or a missing key.

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
    tracked = _tracked(granularity, track)
    named = named_comparisons(compare, cell)
    words = _words(hops, key)
    made = Numbers((cell, barrier, named, coupling))

    def init(params: PyTree) -> LearningInMemoryState:
        check_parameters(params)
        made.used_for(params)
        return _init_state(params, made.copies()[3], made, hops, words, tracked, compensated, None, None)

    def update(updates, state, params=None, *, value=None, **extra_args):
        del extra_args
        state = made.into(state)
        cell, coupling, infos = state.cell, state.inner, _infos(state, params, made, updates)
        given, unflatten = flatten_updates(updates, infos)
        leaves = [_or_zeros(g, i) for g, i in zip(given, infos)]
        still = tuple(f or g is None for g, f in zip(given, frozen_leaves(frozen, infos)))
        scale = coupling * cell.lsb
        half_tilts = [-0.5 * _wide(g) * scale.astype(compute_dtype(g.dtype)) for g in leaves]
        half_tilts = [jnp.zeros_like(tilt) if f else tilt for tilt, f in zip(half_tilts, still)]
        inputs = BarrierInputs(state.ledger.steps, _loss(value), None, leaves, cell)
        moved, new_state = _step(state, inputs, half_tilts, leaves, params, hops, still)
        return unflatten([None if g is None else m for g, m in zip(given, moved)]), new_state

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]  # optax types any tree


def snap(params: PyTree, cell: ArrheniusCell) -> PyTree:
    """Puts every weight on the nearest level of the cell's ladder, inside its range.

    Args:
        params: parameters, any pytree of float arrays.
        cell: the memory cell; its `levels` or `bits` set the range.

    Returns:
        The parameters, of the same structure, shapes and dtypes, each `lsb` times a whole number.

    Raises:
        ValueError: if a dtype cannot tell all levels of the cell's range apart.
        TypeError: for a parameter that is no float array; the message names it.

    Example:
        >>> import jax.numpy as jnp
        >>> float(snap(jnp.array(0.3), ArrheniusCell(lsb=0.25)))
        0.25
    """

    check_parameters(params)
    levels = cell.levels
    reach = 0.0 if levels is None or isinstance(levels, jax.core.Tracer) else float(jnp.max(jnp.abs(levels)))

    def snap_leaf(p):
        exact = 2.0 ** (jnp.finfo(p.dtype).nmant + 1)
        if reach > exact:
            raise ValueError(
                f"{p.dtype} counts levels exactly only up to {exact:.0f}, but this cell has levels up to {reach:.0f}: use "
                "float32 parameters or fewer bits."
            )
        lsb = cell.lsb.astype(compute_dtype(p.dtype))
        return (cell.clip_levels(jnp.round(_wide(p) / lsb)) * lsb).astype(p.dtype)

    return jax.tree.map(snap_leaf, params)


def get_barrier(state: PyTree) -> Float[Array, ""]:
    """Mean barrier of the last step over all parameters, from any optax state that holds one limjax state.

    Args:
        state: state of an optimizer that contains one `learning_in_memory` or `gradient_tilt`.

    Returns:
        B [kT].

    Raises:
        ValueError: if there is no limjax state, or more than one.
    """
    lim = get_memory(state)
    one_member(lim.ledger)
    height = lim.barrier.height
    if isinstance(height, list):
        return jnp.sum(jnp.stack([jnp.sum(h) for h in height])) / sum(h.size for h in height)
    if height.ndim == 0:
        return height
    if lim.ledger.start is None:
        return jnp.mean(height)
    sizes = jnp.asarray([leaf.size for leaf in jax.tree.leaves(lim.ledger.start)], height.dtype)
    return jnp.sum(height * sizes) / jnp.sum(sizes)


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
    found = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, LearningInMemoryState))
    return next(leaf for leaf in found if isinstance(leaf, LearningInMemoryState))


def _words(hops: Hops, key: Array | None) -> UInt32[Array, "2"] | None:
    if hops not in ("mean", "gaussian", "exact"):
        raise ValueError(f'hops must be "mean", "gaussian" or "exact", got {hops!r}.')
    if hops == "mean":
        return None
    if key is None:
        raise ValueError(f'hops="{hops}" draws random hops: pass key=jax.random.key(0), or use hops="mean".')
    return key_words(key)


def _tracked(granularity: str, track: Sequence[str]) -> tuple[str, ...] | None:
    """What is kept per parameter; None for nothing at all, not even the start."""
    if granularity not in ("parameter", "leaf"):
        raise ValueError(f'granularity must be "parameter" or "leaf", got {granularity!r}.')
    if isinstance(track, str) or not set(track) <= set(TRACKED):
        raise ValueError(f'track must name some of {", ".join(TRACKED)}, got {track!r}; for example track=("heat",).')
    return None if granularity == "leaf" else tuple(name for name in TRACKED if name in track)


def _init_state(
    params, inner_state, made: Numbers, hops, words, tracked, compensated, memory, memory_leaves
) -> LearningInMemoryState:
    cell, barrier, named, *_ = made.copies()
    ledger = init_ledger(
        params,
        track=tracked,
        compensated=compensated,
        actuation_per_parameter=barrier.scope == "parameter",
        noisy=hops != "mean",
        has_range=cell.levels is not None,
        compare=tuple(named),
        optimizer_leaves=memory_leaves,
    )
    return LearningInMemoryState(
        ledger=ledger,
        cell=cell,
        # Copied: an array that stands in two places of a state could not be donated.
        barrier=copied(init_barrier(barrier, params)),
        compare={name: copied(ChargedComparison(policy, policy.init(params))) for name, policy in named.items()},
        optimizer_memory=memory,
        key=None if words is None else _own_key(words, params),
        inner=inner_state,
        given=made.flat(),
    )


def _own_key(words: UInt32[Array, "2"], params: PyTree) -> UInt32[Array, "2"]:
    """A copy of the key, told apart between the parts of a masked tree and the members of a `jax.vmap`."""
    words = jnp.array(words, copy=True)
    part = part_of_tree(params)
    if part is not None:
        words = folded(words, part)
    return member_key(words, [leaf for leaf in jax.tree.leaves(params) if isinstance(leaf, jax.Array)])


def _infos(state: LearningInMemoryState, params, made: Numbers, updates) -> Sequence[LeafInfo]:
    ledger = state.ledger
    return known_leaves(ledger.per_leaf.total.shape[-1], ledger.start, params, made.leaves, updates)


def _or_zeros(leaf, info: LeafInfo):
    return jnp.zeros(info.shape, info.dtype) if leaf is None else leaf


def _wide(x: Array) -> Float[Array, "..."]:
    return x.astype(compute_dtype(x.dtype))


def _levels(update, cell: ArrheniusCell) -> Float[Array, "..."]:
    # Times the reciprocal, within an ulp: XLA on a CPU would write the quotients to memory to divide only once.
    return _wide(update) * (1 / cell.lsb.astype(compute_dtype(update.dtype)))


def _loss(value) -> Float[Array, ""] | None:
    return None if value is None else jnp.asarray(value, jnp.result_type(float))


def _leaf_sums(entries: dict[str, BarrierValue], layout: Blocks) -> dict[str, Float[Array, "leaves"]]:
    """Sums of per-parameter quantities over each leaf, whatever the form of the barrier they came from."""
    listed = {name: value for name, value in entries.items() if isinstance(value, list)}
    dtype = jnp.result_type(float)
    sizes = jnp.asarray(layout.sizes, dtype)
    sums = dict(zip(listed, layout.leaf_sums(list(listed.values()))))
    return sums | {name: value.astype(dtype) * sizes for name, value in entries.items() if not isinstance(value, list)}


def _step(
    state: LearningInMemoryState,
    inputs: BarrierInputs,
    half_tilts: list[Float[Array, "..."]] | None,
    leaves: list[Array],
    params: PyTree | None,
    hops: Hops,
    still: tuple[bool, ...],
    optimizer_heat: Float[Array, "state_leaves"] | None = None,
) -> tuple[list[Array], LearningInMemoryState]:
    """One step of the memory: move the barrier, charge every cell, draw the hops."""
    cell, ledger = state.cell, state.ledger
    if not leaves:  # a mask that leaves nothing: there is nothing to move and no block to add to
        return leaves, state._replace(ledger=dataclasses.replace(ledger, steps=ledger.steps + 1))
    layout = Blocks(leaves)
    barrier, work, clipped = move_barrier(state.barrier, inputs, layout)
    heights = per_block(barrier.height, layout)
    log_exchanges = [cell.log_exchange(height) for height in heights]
    if half_tilts is None:
        assert inputs.drift is not None
        drifts, held = layout.pack(inputs.drift), None
    else:
        tilted = [_tilted_drift(*item) for item in zip(layout.pack(half_tilts), heights, log_exchanges)]
        drifts, held = [drift for drift, _ in tilted], [is_held for _, is_held in tilted]
    responses = [numerics.cell_response(*item) for item in zip(drifts, log_exchanges)]
    affinities = [affinity for affinity, _ in responses]
    activities = [activity for _, activity in responses]
    if held is None:
        held = [cell.is_saturated(drift, height) for drift, height in zip(drifts, heights)]

    moves = _draw(hops, state.key, ledger.steps, drifts, log_exchanges, activities)
    moves, ends = _inside(cell, moves, drifts, params, layout, hops)
    if moves is not None:
        moved = [_to_weight(move, cell, leaf) for move, leaf in zip(layout.unpack(moves), leaves)]
    elif half_tilts is not None:
        moved = [_to_weight(drift, cell, leaf) for drift, leaf in zip(layout.unpack(drifts), leaves)]
    else:
        moved = leaves
    moved = [jnp.zeros_like(move) if f else move for move, f in zip(moved, still)]

    entries = {
        "heat": [drift * affinity for drift, affinity in zip(drifts, affinities)],
        "path": [jnp.abs(drift) for drift in drifts],
        "saturated": [is_held.astype(drift.dtype) for is_held, drift in zip(held, drifts)],
        "actuation": work,
        "hops": activities,
        "barrier_clipped": clipped,
        "shallow": map_value(barrier.height, lambda b: (b < VALID_FROM_BARRIER).astype(b.dtype)),
    }
    if hops != "mean":
        assert moves is not None
        entries["realised_heat"] = [affinity * move for affinity, move in zip(affinities, moves)]
    if ends is not None:
        entries["range_clipped"] = ends
    compare = {}
    given = inputs if inputs.drift is not None else inputs._replace(drift=layout.unpack(drifts))
    record = StepRecord(given, layout, drifts, heights, activities)
    for name, (policy, policy_state) in state.compare.items():
        entries[f"compare/{name}/heat"], entries[f"compare/{name}/actuation"], policy_state = policy.charge(
            record, policy_state
        )
        compare[name] = ChargedComparison(policy, policy_state)
    kept = {name: value for name, value in entries.items() if name in ledger.blocks}
    sums = _leaf_sums({name: value for name, value in entries.items() if name not in ledger.blocks}, layout)
    if any(still):
        # What does not move keeps its barrier shut: nothing is charged to it.
        moving = jnp.asarray([not f for f in still])
        sums = {name: jnp.where(moving, value, 0.0) for name, value in sums.items()}
        shares = layout.spread(moving.astype(jnp.result_type(float)))
        kept = {
            name: [jnp.where(share > 0, v, jnp.zeros_like(v)) for v, share in zip(value, shares)]
            for name, value in kept.items()
        }
    ledger = ledger.add(kept | sums, optimizer_heat)
    return moved, state._replace(ledger=ledger, barrier=barrier, compare=compare)


def _tilted_drift(half_tilt, barrier, log_exchange):
    """Mean move 2g sinh(F/2) of a tilted cell [levels], and where the tilt was held at the barrier."""
    held = jnp.clip(half_tilt, -barrier, barrier)
    is_small = jnp.abs(held) < 1
    direct = 2 * jnp.exp(log_exchange) * jnp.sinh(jnp.where(is_small, held, 1.0))
    # ln g inside the exponentials: for |F|/2 <= B they stay below k0 τ, where g and sinh alone may not be floats.
    wide = jnp.exp(log_exchange + held) - jnp.exp(log_exchange - held)
    return jnp.where(is_small, direct, wide), jnp.abs(half_tilt) > barrier


def _heats(height: BarrierValue, drifts: list[Float[Array, "..."]], cell: ArrheniusCell, layout: Blocks):
    return [cell.heat(drift, height) for drift, height in zip(drifts, per_block(height, layout))]


def _draw(hops, key, step: Int[Array, ""], drifts, log_exchanges, activities):
    """Displacements of one step, per block [levels], or None where they are the drifts themselves."""
    if hops == "mean":
        return None
    moves = []
    for i, (drift, log_exchange, activity) in enumerate(zip(drifts, log_exchanges, activities)):
        own = told_apart(key, drift)
        if hops == "exact":
            moves.append(hop_sampling.exact_step(i, own, step, drift, log_exchange))
        else:
            moves.append(hop_sampling.gaussian_hops(*step_words(own, i, step, drift.shape), drift, activity))
    return moves


def _inside(cell: ArrheniusCell, moves, drifts, params, layout: Blocks, hops):
    """The displacements that keep the weights inside the cell's range, and which were stopped at its end."""
    if cell.levels is None:
        return moves, None
    if params is None:
        raise ValueError(
            "This cell has a lowest and highest level: call `optimizer.update(gradients, state, params)` with the "
            "parameters, or leave `levels` and `bits` out of the cell."
        )
    # Divided: a weight at the end of the range must not come out an ulp beyond it.
    levels = layout.pack([_wide(p) / cell.lsb.astype(compute_dtype(p.dtype)) for p in jax.tree.leaves(params)])
    inside, stopped = [], []
    for level, move in zip(levels, drifts if moves is None else moves):
        level = jnp.round(level) if hops == "exact" else level
        wanted = level + move
        allowed = cell.clip_levels(wanted)
        inside.append(allowed - level)
        stopped.append((allowed != wanted).astype(level.dtype))
    return inside, stopped


def _to_weight(displacement, cell: ArrheniusCell, like):
    return (displacement * cell.lsb.astype(displacement.dtype)).astype(like.dtype)


def _charged_state_leaves(inner_state, like: list[Any]) -> list[Array]:
    """Float arrays of the optimizer's state that are shaped like a parameter: momentum, second moments and the like."""
    shapes = {tuple(leaf.shape) for leaf in like}
    return [
        leaf
        for leaf in jax.tree.leaves(inner_state)
        if hasattr(leaf, "shape") and tuple(leaf.shape) in shapes and jnp.issubdtype(leaf.dtype, jnp.floating)
    ]


def _charge_optimizer(memory, old_inner, new_inner, inputs: BarrierInputs, leaves):
    """Heat and barrier work of the writes to the optimizer's own state, per charged array [kT]."""
    cell, barrier = memory
    old, new = _charged_state_leaves(old_inner, leaves), _charged_state_leaves(new_inner, leaves)
    drift = [_levels(b - a, cell) for a, b in zip(old, new)]
    layout = Blocks(drift)
    barrier, work, _ = move_barrier(barrier, inputs._replace(drift=drift, gradient=drift, cell=cell), layout)
    heats = _heats(barrier.height, layout.pack(drift), cell, layout)
    sums = _leaf_sums({"heat": heats, "actuation": work}, layout)
    return (cell, barrier), sums["heat"] + sums["actuation"]
