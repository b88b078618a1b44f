"""One step of the memory, in five stages: the barrier moves, the cells are driven and answer, they hop, all of it is charged."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from limjax.barriers._base import BarrierInputs
from limjax.memory._blocks import Blocks
from limjax.memory._charged_barrier import ChargedBarrier, move_barrier
from limjax.memory._columns import COLUMNS, StepOutcome
from limjax.memory._field import Field, Only, PerParameter, Summable, as_field, leaf_sums
from limjax.memory._hops import AbstractHops
from limjax.memory._ledger import Ledger
from limjax.memory._state import LearningInMemoryState
from limjax.memory.comparisons._base import ChargedComparison, StepRecord
from limjax.numerics.checks import compute_dtype
from limjax.numerics.counters import told_apart
from limjax.physics._abstract_cell import AbstractCell
from limjax.physics._pulses import Delivery, Place


class Request(NamedTuple):
    """What the cells are asked for in one step.

    Attributes:
        inputs: what the barrier may look at; its drift is None where tilts drive the cells.
        leaves: the updates in weights, per leaf, handed on as they are where nothing scatters them.
        still: which leaves do not move.
        dtypes: those of the parameters, in which they are charged: updates may be wider.
        half_tilts: F/2 per leaf [kT], or None where requests drive the cells.
    """

    inputs: BarrierInputs
    leaves: list[Array]
    still: tuple[bool, ...]
    dtypes: tuple[Any, ...]
    half_tilts: list[Float[Array, "..."]] | None = None

    def layout(self, packed: bool) -> Blocks:
        """Which of the leaves share a block, as in the ledger."""
        cells = [jax.ShapeDtypeStruct(leaf.shape, dtype) for leaf, dtype in zip(self.leaves, self.dtypes)]
        return Blocks(cells, packed, still=self.still)


def memory_step(
    state: LearningInMemoryState,
    request: Request,
    params: PyTree | None,
    hops: AbstractHops,
    max_move: float | None = None,
    optimizer_heat: Float[Array, "state_leaves"] | None = None,
) -> tuple[list[Array], LearningInMemoryState]:
    """One step of the memory.

    Args:
        state: the state before it.
        request: what the cells are asked for.
        params: the parameters, or None.
        hops: how cells move.
        max_move: largest mean move that tilts may cause [levels], or None.
        optimizer_heat: heat of the optimizer's own state [kT], if it is charged.

    Returns:
        What the cells deliver, per leaf in weights, and the new state.
    """
    ledger = state.ledger
    if not request.leaves:  # a mask that leaves nothing: there is nothing to move and no block to add to
        return request.leaves, state._replace(ledger=ledger.without_entries())
    layout = request.layout(ledger.packed)
    request = request._replace(inputs=request.inputs._replace(known=state.barrier.known))
    moved_barrier = move_barrier(state.barrier, request.inputs, layout)
    if state.cell.levels is None and not state.cell.reads_weights:
        params = None  # only the ends of a range, and devices, ask where a weight stands
    # Not read by the stages: left in, they would be arguments of the compiled call and part of what it is compiled for.
    before = state._replace(inner=None, optimizer_memory=None, residual=None)
    # Outside of `jax.jit` the cells' stages are compiled as one: operation by operation they take seconds to compile and are slow,
    # more so under `jax.vmap`. Inside, XLA makes nothing of it. The barrier's own code, which may be a user's, runs as written.
    moved, ledger, compare, withheld = _stages(before, request, params, moved_barrier, optimizer_heat, hops, max_move)
    residual = None if state.residual is None else _kept_back(request, layout, withheld, state.residual)
    return moved, state._replace(ledger=ledger, barrier=moved_barrier[0], compare=compare, residual=residual)


@eqx.filter_jit
def _stages(
    state: LearningInMemoryState,
    request: Request,
    params: PyTree | None,
    moved_barrier: tuple[ChargedBarrier, Only, Field],
    optimizer_heat: Float[Array, "state_leaves"] | None,
    hops: AbstractHops,
    max_move: float | None,
) -> tuple[list[Array], Ledger, dict[str, ChargedComparison], list[Array] | None]:
    """What the cells do under the barrier of the step: they are driven, answer, hop, and are charged."""
    cell, ledger = state.cell, state.ledger
    barrier, work, clipped = moved_barrier
    # Made again from the shapes: a layout is no pytree, and as a static argument a new one would compile anew at each
    # call.
    layout = request.layout(ledger.packed)
    heights = barrier.height.blocks(layout)
    asked, held, withheld = _driven(cell, request, layout, heights, max_move)
    deliveries = None
    # Tilts give no pulses: in `gradient_tilt` a device answers by its barrier, as every cell does.
    if cell.charges and held is None:
        deliveries = _delivered(state, params, layout, asked, hops)
        held = [delivery.held for delivery in deliveries]
    drifts = asked if deliveries is None else [delivery.mean for delivery in deliveries]
    # Heat and scatter are those of what comes about on the mean, not of what was asked for beyond the driver.
    responses = [cell.response(*item) for item in zip(drifts, heights)]
    affinities = [response.affinity for response in responses]
    activities = [response.activity for response in responses]
    if held is None:
        held = [cell.is_saturated(*item) for item in zip(drifts, heights)]
    if deliveries is None:
        moves, ends = _hopped(state, hops, params, layout, drifts, heights, activities)
        taken = {name: [jnp.zeros_like(drift) for drift in drifts] for name in cell.charges}
    else:
        # Nothing is drawn without a key: an empty list stands for the mean.
        moves = [delivery.move for delivery in deliveries if delivery.move is not None] or None
        ends = None if cell.levels is None else [delivery.ended for delivery in deliveries]
        taken = {name: [delivery.charges[name] for delivery in deliveries] for name in cell.charges}
    outcome = StepOutcome(
        cell=cell,
        drifts=PerParameter(drifts),
        affinities=PerParameter(affinities),
        activities=PerParameter(activities),
        held=PerParameter(held),
        moves=None if moves is None else PerParameter(moves),
        ends=None if ends is None else PerParameter(ends),
        height=barrier.height,
        work=work,
        clipped=clipped,
        charges={name: PerParameter(blocks) for name, blocks in taken.items()},
        withheld=None if withheld is None else PerParameter(withheld),
    )
    # Where the driver ran out the other memories are charged for what was delivered too (`_compared` unpacks it): the
    # ratio to them is one for the same moves.
    inputs = request.inputs if withheld is None else request.inputs._replace(drift=None)
    compare, charges = _compared(state, inputs, layout, drifts, heights, activities)
    ledger = _charged(ledger, outcome, charges, layout, optimizer_heat)
    if deliveries is None:
        moved = _handed_out(cell, request, layout, drifts if moves is None else moves, moves is None)
        # In the mean the updates themselves are handed out, which know of no end of a driver.
        if withheld is not None and moves is None and request.half_tilts is None:
            moved = _cut(moved, cell, layout, drifts, withheld)
    else:
        moved = _handed_on(cell, request, layout, asked, deliveries)
    # A block hops as a whole, with what stands still in it.
    return [jnp.zeros_like(m) if f else m for m, f in zip(moved, request.still)], ledger, compare, withheld


def _driven(
    cell: AbstractCell,
    request: Request,
    layout: Blocks,
    heights: list[Float[Array, "..."]],
    max_move: float | None,
) -> tuple[list[Float[Array, "..."]], list[Array] | None, list[Float[Array, "..."]] | None]:
    """Mean moves per block [levels]; where the tilt was held, if tilts drive the cells; and what is beyond the driver, or None."""
    if request.half_tilts is None:
        assert request.inputs.drift is not None
        wanted, held = layout.pack(request.inputs.drift), None
    else:
        tilted = [cell.tilted(*item, max_move) for item in zip(layout.pack(request.half_tilts), heights)]
        wanted, held = [drift for drift, _ in tilted], [is_held for _, is_held in tilted]
    if cell.driver_affinity is None or cell.charges:
        return wanted, held, None
    ends = [cell.reach(height) for height in heights]
    reached = [jnp.clip(want, *(end.astype(want.dtype) for end in pair)) for want, pair in zip(wanted, ends)]
    if held is not None:  # what the driver cannot tilt is not held by the barrier
        held = [is_held & (want == reach) for is_held, want, reach in zip(held, wanted, reached)]
    return reached, held, [want - reach for want, reach in zip(wanted, reached)]


def _cut(
    moved: list[Array],
    cell: AbstractCell,
    layout: Blocks,
    drifts: list[Float[Array, "..."]],
    withheld: list[Float[Array, "..."]],
) -> list[Array]:
    """The updates, with those that the driver cannot deliver cut to what it can; the others stay as they are, bit for bit."""
    pairs = zip(moved, layout.unpack(drifts), layout.unpack(withheld))
    return [jnp.where(rest == 0, update, _to_weight(drift, cell, update)) for update, drift, rest in pairs]


def _kept_back(
    request: Request, layout: Blocks, withheld: list[Array] | None, owed: list[Float[Array, "..."]]
) -> list[Float[Array, "..."]]:
    """What the driver did not deliver, per leaf, to be asked for again [levels]."""
    # A leaf that is not updated in this step keeps what it is owed.
    return [old if f else r for r, old, f in zip(layout.unpack(withheld), owed, request.still)]


def _hopped(
    state: LearningInMemoryState,
    hops: AbstractHops,
    params: PyTree | None,
    layout: Blocks,
    drifts: list[Float[Array, "..."]],
    heights: list[Float[Array, "..."]],
    activities: list[Float[Array, "..."]],
) -> tuple[list[Float[Array, "..."]] | None, list[Float[Array, "..."]] | None]:
    """Displacements of hops that scatter and of cells with ends, or None for the mean; and which were stopped at an end, or None."""
    cell, moves = state.cell, None
    if hops.is_noisy:
        assert state.key is not None
        moves = [
            # A key for each block: a `shard_map` may part some of them and leave others the same on all shards.
            hops.draw(told_apart(state.key, drift), i, state.ledger.steps, cell, drift, height, activity)
            for i, (drift, height, activity) in enumerate(zip(drifts, heights, activities))
        ]
    return (moves, None) if cell.levels is None else _inside(cell, moves, drifts, params, layout, hops.on_ladder)


def _delivered(
    state: LearningInMemoryState,
    params: PyTree | None,
    layout: Blocks,
    asked: list[Float[Array, "..."]],
    hops: AbstractHops,
) -> list[Delivery]:
    """What the pulses of a device make of the requests."""
    cell = state.cell
    is_placed = cell.reads_weights or cell.levels is not None
    levels = _levels(cell, params, layout) if is_placed else [None] * len(asked)
    keys = [None if state.key is None else told_apart(state.key, drift) for drift in asked]
    places = [Place(i, state.ledger.steps, key, hops.on_ladder) for i, key in enumerate(keys)]
    return [cell.deliver(*item) for item in zip(asked, levels, places)]


def _levels(cell: AbstractCell, params: PyTree | None, layout: Blocks) -> list[Float[Array, "..."]]:
    """Where the weights stand, per block [levels]."""
    if params is None:
        said = (
            ("The steps of this cell depend on where it stands", "")
            if cell.reads_weights
            else ("This cell has a lowest and highest level", ", or leave `levels` and `bits` out of the cell")
        )
        raise ValueError(f"{said[0]}: call `optimizer.update(gradients, state, params)` with the parameters{said[1]}.")
    # Divided: a weight at the end of the range must not come out an ulp beyond it.
    return layout.pack([wide(p) / cell.lsb.astype(compute_dtype(p.dtype)) for p in jax.tree.leaves(params)])


def _inside(
    cell: AbstractCell,
    moves: list[Float[Array, "..."]] | None,
    drifts: list[Float[Array, "..."]],
    params: PyTree | None,
    layout: Blocks,
    on_ladder: bool,
) -> tuple[list[Float[Array, "..."]], list[Float[Array, "..."]]]:
    """The displacements that keep the weights inside the cell's range, and which were stopped at its end."""
    levels = _levels(cell, params, layout)
    inside, stopped = [], []
    for level, move in zip(levels, drifts if moves is None else moves):
        # A weight is a level times lsb, rounded: without this what is left to the end, and so the move, would be no
        # whole number.
        level = jnp.round(level) if on_ladder else level
        wanted = level + move
        allowed = cell.clip_levels(wanted)
        inside.append(allowed - level)
        stopped.append((allowed != wanted).astype(level.dtype))
    return inside, stopped


def _compared(
    state: LearningInMemoryState,
    inputs: BarrierInputs,
    layout: Blocks,
    drifts: list[Float[Array, "..."]],
    heights: list[Float[Array, "..."]],
    activities: list[Float[Array, "..."]],
) -> tuple[dict[str, ChargedComparison], dict[str, Summable]]:
    """The comparisons after the step, and what it costs on each of them."""
    given = inputs if inputs.drift is not None else inputs._replace(drift=layout.unpack(drifts))
    record = StepRecord(given, layout, drifts, heights, activities)
    compare, charges = {}, {}
    for name, (policy, policy_state) in state.compare.items():
        heat, actuation, policy_state = policy.charge(record, policy_state)
        actuation = actuation if isinstance(actuation, Only) else as_field(actuation)
        charges |= {f"compare/{name}/heat": as_field(heat), f"compare/{name}/actuation": actuation}
        compare[name] = ChargedComparison(policy, policy_state)
    return compare, charges


def _charged(
    ledger: Ledger,
    outcome: StepOutcome,
    charges: dict[str, Summable],
    layout: Blocks,
    optimizer_heat: Float[Array, "state_leaves"] | None,
) -> Ledger:
    """The ledger with the step in it; what does not move is charged nothing but the work of a barrier that does (`move_barrier`)."""
    # Only what this ledger keeps: other columns may have nothing to be computed from, such as hops that were not drawn.
    wanted = {*ledger.blocks, *ledger.rows}
    entries = charges | {column.name: column.of(outcome) for column in COLUMNS if column.name in wanted}
    kept = {name: value.blocks(layout) for name, value in entries.items() if name in ledger.blocks}
    sums = leaf_sums({name: value for name, value in entries.items() if name not in ledger.blocks}, layout)
    for column in COLUMNS:
        scale = None if column.scale is None or column.name not in sums else column.scale(outcome)
        if scale is not None:
            sums[column.name] *= scale.astype(sums[column.name].dtype)
    if layout.moving is not None:
        moving = jnp.asarray(layout.moving)
        moves = layout.spread_truths(moving)
        # What is `Only` some leaves' says itself which of them are charged, those that stand still under a moving barrier included.
        whole = {name for name, value in entries.items() if isinstance(value, Only)}
        # Chosen, not multiplied: 0 times a heat that is not finite would be NaN.
        sums = {name: value if name in whole else jnp.where(moving, value, 0.0) for name, value in sums.items()}
        kept = {
            name: value if name in whole else [jnp.where(m, v, jnp.zeros_like(v)) for v, m in zip(value, moves)]
            for name, value in kept.items()
        }
    return ledger.add(kept | sums, optimizer_heat)


def _handed_out(
    cell: AbstractCell, request: Request, layout: Blocks, displacements: list[Float[Array, "..."]], is_mean: bool
) -> list[Array]:
    """The displacements as updates of the weights; the updates themselves where cells move as they are asked to."""
    if is_mean and request.half_tilts is None:
        return request.leaves
    return [_to_weight(d, cell, leaf) for d, leaf in zip(layout.unpack(displacements), request.leaves)]


def _handed_on(
    cell: AbstractCell, request: Request, layout: Blocks, asked: list[Float[Array, "..."]], deliveries: list[Delivery]
) -> list[Array]:
    """What the device delivers as updates; on average the updates with what it adds, so that a faithful one hands them on bit for bit."""
    is_mean = deliveries[0].move is None
    moves = [d.mean - drift if d.move is None else d.move for d, drift in zip(deliveries, asked)]
    moves = [move if d.relaxed is None else move + d.relaxed for move, d in zip(moves, deliveries)]
    moved = [_to_weight(move, cell, leaf) for move, leaf in zip(layout.unpack(moves), request.leaves)]
    return [leaf + move if is_mean else move for move, leaf in zip(moved, request.leaves)]


def _to_weight(displacement: Float[Array, "..."], cell: AbstractCell, like: Array) -> Array:
    # The product in the wide dtype, so that a half-precision update is rounded once.
    return (displacement * cell.lsb.astype(displacement.dtype)).astype(like.dtype)


def wide(x: Array) -> Float[Array, "..."]:
    """The array in the dtype in which heat is computed."""
    same = x.astype(compute_dtype(x.dtype))
    # XLA keeps more digits of a bfloat16 than it has, where it is widened again: what is charged would not be what is handed out. Not
    # for float16, whose subnormal numbers this would drop.
    return jax.lax.reduce_precision(same, 8, 7) if x.dtype == jnp.bfloat16 else same


def to_levels(update: Array, cell: AbstractCell) -> Float[Array, "..."]:
    """Changes of weights in levels."""
    # Times the reciprocal, within an ulp: XLA on a CPU would write the quotients to memory to divide only once.
    return wide(update) * (1 / cell.lsb.astype(compute_dtype(update.dtype)))
