"""One memory: cells under one barrier, their ledger and what they are compared with; what wraps an optimizer is outside."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float, PyTree, UInt32

from limjax.barriers._base import AbstractBarrier, BarrierInputs, running_state
from limjax.barriers._consolidating import ConsolidatingBarrier
from limjax.barriers._rules import UseRule
from limjax.memory._blocks import Blocks
from limjax.memory._charged_barrier import init_barrier
from limjax.memory._columns import TRACKED, Setup
from limjax.memory._hops import AbstractHops, HopsName, hops_of
from limjax.memory._hyperparameters import Numbers, copied
from limjax.memory._leaves import (
    Frozen,
    LeafInfo,
    check_parameters,
    check_variation,
    flatten_updates,
    frozen_leaves,
    known_leaves,
    leaf_infos,
    part_of_tree,
    skipped_step,
)
from limjax.memory._ledger import init_ledger
from limjax.memory._optimizer_state import charge_optimizer, stored_arrays
from limjax.memory._state import LearningInMemoryState
from limjax.memory._step import Request, memory_step, to_levels, wide
from limjax.memory.comparisons._base import AbstractComparison, ChargedComparison
from limjax.memory.comparisons._names import Comparable, named_comparisons
from limjax.memory.comparisons._noisy_event import ALIKE, NoisyEventWrite
from limjax.numerics.checks import broadcasting, compute_dtype
from limjax.numerics.counters import axes_of, folded, key_words, member_key
from limjax.physics._abstract_cell import AbstractCell

Compare = Sequence[Comparable] | Mapping[str, Comparable] | Callable[[AbstractCell], Any] | None
"""What a run is compared with: see `limjax.learning_in_memory`."""


class Books(NamedTuple):
    """What is kept of a run: arguments of `limjax.learning_in_memory`.

    Attributes:
        granularity: "parameter" or "leaf".
        track: which sums are kept per parameter.
        compensated: whether the sums keep what rounding drops.
        compare: what the run is compared with.
    """

    granularity: str
    track: Sequence[str]
    compensated: bool
    compare: Compare


def _check_kept(barrier: AbstractBarrier, leaves: Sequence[Any]) -> None:
    """Refuses what cannot be asked for again."""
    if isinstance(barrier, ConsolidatingBarrier) and isinstance(barrier.rule, UseRule):
        raise ValueError(
            "keep_undelivered asks for the same levels again in every step, and the rule of use would count them each time, until the cell is "
            "shut: drop what is not delivered, or take another rule."
        )
    narrow = sorted({str(leaf.dtype) for leaf in leaves if jnp.finfo(leaf.dtype).bits < 32})
    if narrow:
        raise ValueError(
            f"keep_undelivered needs parameters of at least 32 bits, as what is left is rounded away in {', '.join(narrow)}: keep float32 "
            "parameters, or drop what is not delivered."
        )


class Memory:
    """Cells under one barrier, with a ledger: `init` makes their state, `request` and `tilt` take a step.

    The arguments are those of `limjax.learning_in_memory` and `limjax.gradient_tilt`.
    """

    def __init__(
        self,
        cell: AbstractCell,
        barrier: AbstractBarrier,
        *,
        books: Books,
        hops: HopsName | AbstractHops,
        key: Array | None,
        frozen: Frozen | None,
        optimizer: optax.GradientTransformation | None = None,
        optimizer_memory: tuple[AbstractCell, AbstractBarrier] | None = None,
        coupling: ArrayLike | None = None,
        max_move: float | None = None,
        keep_undelivered: bool = False,
    ):
        named = named_comparisons(books.compare, cell)
        self._tracked = _tracked(books.granularity, books.track)
        self._hops = hops_of(hops)
        self._words = _words(self._hops, key)
        self._made = Numbers((cell, barrier, named) if coupling is None else (cell, barrier, named, coupling))
        self._varied = _varied(cell, barrier, named)
        if coupling is not None and jnp.ndim(coupling):
            self._varied["coupling"] = jnp.asarray(coupling)
        self._compensated, self._frozen, self._max_move = books.compensated, frozen, max_move
        self._optimizer, self._optimizer_memory = optimizer, optimizer_memory
        if keep_undelivered and cell.driver_affinity is None:
            raise ValueError(
                "keep_undelivered is for a driver that can run out: give the cell a max_affinity, or leave it out."
            )
        self._keeps = keep_undelivered
        self._reads_weights = barrier.reads_weights or any(comparison.reads_weights for comparison in named.values())
        if optimizer_memory is not None and (different := _varied(*optimizer_memory, {})):
            raise ValueError(
                f"The optimizer's own state is kept in cells that are alike: {', '.join(different)} of optimizer_memory must be "
                "one number."
            )

    def init(self, params: PyTree, inner_state: Any) -> LearningInMemoryState:
        """The state before the first step.

        Args:
            params: parameters, masked where another memory holds them.
            inner_state: state of the wrapped optimizer; without one the coupling takes its place.

        Returns:
            The state.

        Raises:
            TypeError: for a parameter that is no float array.
            ValueError: for numbers of cells that do not fit the parameters.
        """
        check_parameters(params)
        check_variation(params, self._varied)
        self._made.used_for(params)
        cell, barrier, named, *coupling = self._made.copies()
        leaves = jax.tree.leaves(params)
        if self._keeps:
            _check_kept(barrier, leaves)
        layout = Blocks(leaves, not (any(map(_is_split, leaves)) or _differ_in_shards(leaves)), bool(self._varied))
        memory, memory_leaves = None, None
        if self._optimizer_memory is not None:
            assert self._optimizer is not None
            state_leaves = stored_arrays(self._optimizer, inner_state, leaf_infos(params))
            memory_cell, memory_barrier = self._optimizer_memory
            memory = copied(
                (memory_cell, init_barrier(memory_barrier, state_leaves, Blocks(state_leaves, layout.packed)))
            )
            memory_leaves = len(state_leaves)
        ledger = init_ledger(
            params,
            track=self._tracked,
            compensated=self._compensated,
            setup=Setup(
                noisy=self._hops.is_noisy,
                has_range=cell.levels is not None,
                barrier_per_parameter=barrier.scope == "parameter" or layout.varied,
                charges=cell.charges,
                # Pulses have an end of their own: `deliver` says which requests it held, and `_driven` cuts nothing
                # there.
                has_driver_end=cell.driver_affinity is not None and not cell.charges,
            ),
            compare=tuple(named),
            optimizer_leaves=memory_leaves,
            packed=layout.packed,
        )
        return LearningInMemoryState(
            ledger=ledger,
            cell=cell,
            # Copied: an array that stands in two places of a state could not be donated.
            barrier=copied(init_barrier(barrier, params, layout)),
            compare={
                name: copied(ChargedComparison(policy, policy.init(params, layout))) for name, policy in named.items()
            },
            optimizer_memory=memory,
            key=None if self._words is None else _own_key(self._words, params),
            inner=coupling[0] if coupling else inner_state,
            given=self._made.flat(),
            residual=running_state(params, "parameter") if self._keeps else None,
        )

    def request(
        self,
        state: LearningInMemoryState,
        gradient: PyTree,
        updates: PyTree,
        params: PyTree | None,
        value: Any,
        inner_states: tuple[Any, Any],
    ) -> tuple[PyTree, LearningInMemoryState]:
        """A step in which every cell is asked for the update that an optimizer computed.

        Args:
            state: the state.
            gradient: what the optimizer was given.
            updates: what it asks for.
            params: the parameters, or None.
            value: the loss, or None.
            inner_states: the optimizer's state before and after.

        Returns:
            What the cells deliver, and the new state.
        """
        after = inner_states[1]
        state = self._made.into(state)
        cell, infos = state.cell, self._infos(state, params, updates)
        given, unflatten = flatten_updates(updates, infos)
        still = frozen_leaves(self._frozen, infos)
        # Leaves without an update take part as zeros, so that blocks and ledger have one shape in every step; `still`
        # keeps hops and charges off them.
        leaves = [_zeros(u, i) if f else _or_zeros(u, i) for u, i, f in zip(given, infos, still)]
        # A half-precision update is one array for whom it is handed to and for the ledger: fused apart, XLA rounds it twice.
        leaves = [jax.lax.optimization_barrier(u) if jnp.finfo(u.dtype).bits == 16 else u for u in leaves]
        still = tuple(f or u is None for u, f in zip(given, still))
        if state.residual is not None:
            # What was not delivered is asked for again, on top of what the optimizer asks for now.
            with broadcasting():
                owed = [(r * cell.lsb.astype(r.dtype)).astype(u.dtype) for r, u in zip(state.residual, leaves)]
            # A leaf that is not updated is asked for nothing: it stays owed what it is owed (`_kept_back`).
            leaves = [u if f else u + more for u, more, f in zip(leaves, owed, still)]
        with broadcasting():
            drift = [_charged_in(to_levels(u, cell), i) for u, i in zip(leaves, infos)]
        # What is frozen learns nothing: no barrier sees its gradient.
        found = zip(flatten_updates(gradient, infos)[0], infos, still)
        gradients = [_charged_in(_zeros(g, i) if f else _or_zeros(g, i), i) for g, i, f in found]
        inputs = BarrierInputs(state.ledger.steps, _loss(value), drift, gradients, cell, self._weights(params))
        memory, memory_heat = state.optimizer_memory, None
        if memory is not None:
            assert self._optimizer is not None
            old, now = (stored_arrays(self._optimizer, inner, infos) for inner in inner_states)
            memory, memory_heat = charge_optimizer(memory, old, now, inputs, state.ledger.packed)
        moved, new = self._step(state, Request(inputs, leaves, still, _dtypes(infos)), params, memory_heat)
        new = new._replace(inner=after, optimizer_memory=memory)
        # A rejected step leaves the counter of steps as it was, so the next one draws the hops that this one would have
        # drawn. Only the inner state goes on: `optax.apply_if_finite` counts its rejections there.
        skipped = skipped_step(after, [u for u in given if u is not None])
        if skipped is not None:
            moved = [jnp.where(skipped, jnp.zeros_like(m), m) for m in moved]
            new = jax.tree.map(lambda old, now: jnp.where(skipped, old, now), state._replace(inner=after), new)
        return unflatten([None if u is None else m for u, m in zip(given, moved)]), new

    def tilt(
        self, state: LearningInMemoryState, gradient: PyTree, params: PyTree | None, value: Any
    ) -> tuple[PyTree, LearningInMemoryState]:
        """A step in which the gradient tilts the cells.

        Args:
            state: the state.
            gradient: gradient of the loss.
            params: the parameters, or None.
            value: the loss, or None.

        Returns:
            What the cells deliver, and the new state.
        """
        state = self._made.into(state)
        cell, coupling, infos = state.cell, state.inner, self._infos(state, params, gradient)
        given, unflatten = flatten_updates(gradient, infos)
        leaves = [_or_zeros(g, i) for g, i in zip(given, infos)]
        still = tuple(f or g is None for g, f in zip(given, frozen_leaves(self._frozen, infos)))
        with broadcasting():
            # F = -s lsb ∂L/∂w: over one level the loss changes by lsb ∂L/∂w (docs/physics.md, "The gradient as the
            # drive").
            scale = coupling * cell.lsb
            half_tilts = [
                -0.5 * _charged_in(wide(g), i) * scale.astype(compute_dtype(i.dtype)) for g, i in zip(leaves, infos)
            ]
        half_tilts = [jnp.zeros_like(tilt) if f else tilt for tilt, f in zip(half_tilts, still)]
        leaves = [jnp.zeros_like(g) if f else g for g, f in zip(leaves, still)]
        # No requests: the moves follow from the barrier here, so that none can follow them.
        gradients = [_charged_in(g, i) for g, i in zip(leaves, infos)]
        inputs = BarrierInputs(state.ledger.steps, _loss(value), None, gradients, cell, self._weights(params))
        moved, new = self._step(state, Request(inputs, leaves, still, _dtypes(infos), half_tilts), params)
        return unflatten([None if g is None else m for g, m in zip(given, moved)]), new

    def _step(
        self,
        state: LearningInMemoryState,
        request: Request,
        params: PyTree | None,
        optimizer_heat: Float[Array, "state_leaves"] | None = None,
    ) -> tuple[list[Array], LearningInMemoryState]:
        # Only where cells differ: elsewhere a shape that has to be broadcast is a slip that strict JAX settings should
        # report.
        with broadcasting() if self._varied else contextlib.nullcontext():
            return memory_step(state, request, params, self._hops, self._max_move, optimizer_heat)

    def _weights(self, params: PyTree | None) -> list[Float[Array, "..."]] | None:
        """Where the parameters stand, for who reads it."""
        return None if params is None or not self._reads_weights else [wide(p) for p in jax.tree.leaves(params)]

    def _infos(self, state: LearningInMemoryState, params: PyTree | None, updates: PyTree) -> Sequence[LeafInfo]:
        ledger = state.ledger
        return known_leaves(ledger.per_leaf.total.shape[-1], ledger.start, params, self._made.leaves, updates)


def _varied(cell: AbstractCell, barrier: AbstractBarrier, named: Mapping[str, AbstractComparison]) -> dict[str, Array]:
    """The numbers that differ between the cells of one parameter array, by what the user calls them."""
    varied = dict(cell.varied) | {f"{name} of {type(barrier).__name__}": v for name, v in barrier.varied.items()}
    for label, comparison in named.items():
        varied |= {f"{name} of the comparison {label!r}": v for name, v in comparison.varied.items()}
    if cell.varied and any(isinstance(comparison, NoisyEventWrite) for comparison in named.values()):
        raise ValueError(ALIKE)
    return varied


def _words(hops: AbstractHops, key: Array | None) -> UInt32[Array, "2"] | None:
    if not hops.is_noisy:
        return None
    if key is None:
        raise ValueError(f'hops="{hops.name}" draws random hops: pass key=jax.random.key(0), or use hops="mean".')
    return key_words(key)


def _tracked(granularity: str, track: Sequence[str]) -> tuple[str, ...] | None:
    """What is kept per parameter; None for nothing at all, not even the start."""
    if granularity not in ("parameter", "leaf"):
        raise ValueError(f'granularity must be "parameter" or "leaf", got {granularity!r}.')
    if isinstance(track, str) or not set(track) <= set(TRACKED):
        raise ValueError(f'track must name some of {", ".join(TRACKED)}, got {track!r}; for example track=("heat",).')
    return None if granularity == "leaf" else tuple(name for name in TRACKED if name in track)


def _own_key(words: UInt32[Array, "2"], params: PyTree) -> UInt32[Array, "2"]:
    """A copy of the key, told apart between the parts of a masked tree and the members of a `jax.vmap`."""
    words = jnp.array(words, copy=True)
    # Each memory numbers its blocks from 0: with one key the parts of a tree would draw the same hops.
    part = part_of_tree(params)
    if part is not None:
        words = folded(words, part)
    return member_key(words, [leaf for leaf in jax.tree.leaves(params) if isinstance(leaf, jax.Array)])


def _is_split(leaf: Any) -> bool:
    """Whether an array's type says that it is split over devices: on a mesh with explicit axes, where it cannot be made flat."""
    spec = jax.typeof(leaf).sharding.spec if isinstance(leaf, jax.Array) else ()
    return any(axis is not None for axis in spec)


def _differ_in_shards(leaves: Sequence[Any]) -> bool:
    """Whether a surrounding `shard_map` parts some arrays and not others: in one piece the latter would count once for every shard."""
    return len({axes_of(leaf) for leaf in leaves if isinstance(leaf, jax.Array)}) > 1


def _charged_in(leaf: Array, info: LeafInfo) -> Array:
    """An array in the dtype in which its parameters are charged."""
    return leaf.astype(compute_dtype(info.dtype))


def _dtypes(infos: Sequence[LeafInfo]) -> tuple[Any, ...]:
    return tuple(info.dtype for info in infos)


def _or_zeros(leaf: Any, info: LeafInfo) -> Any:
    return _zeros(leaf, info) if leaf is None else leaf


def _zeros(leaf: Any, info: LeafInfo) -> Array:
    """Zeros for an array, split over devices and shards as it is."""
    return jnp.zeros(info.shape, info.dtype) if leaf is None else jnp.zeros_like(leaf, info.dtype, info.shape)


def _loss(value: Any) -> Float[Array, ""] | None:
    """The loss of a step, one real number; an array of one element too where it has axes."""
    if value is None:
        return None
    if callable(getattr(value, "__jax_array__", None)):
        value = value.__jax_array__()  # a variable of Flax
    # Of a list of numbers JAX would make an array too.
    is_one = not isinstance(value, str | tuple | list | dict)
    loss: Any = jnp.asarray(value) if is_one else None
    if loss is None or jnp.iscomplexobj(loss) or loss.size != 1:
        got = f"a {type(value).__name__}" if loss is None else f"{loss.dtype} of shape {loss.shape}"
        raise ValueError(
            f"value= must be the loss of this step, one real number; got {got}. Pass the loss alone, without "
            "what has_aux=True returns beside it, and the mean of the losses of a batch."
        )
    return loss.astype(jnp.result_type(float)).reshape(())
