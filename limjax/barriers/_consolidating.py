"""The barrier that keeps what was learnt: it rises with a weight's importance, within a budget, and is released slowly."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from limjax.barriers._base import AbstractBarrier, BarrierInputs, RunShape, Scope, Tuned
from limjax.barriers._rule import AbstractRule, zeros_of
from limjax.barriers._rules import UseRule, rule_of, rule_text
from limjax.numerics._roots import monotone_root
from limjax.numerics.checks import checked_leaf, compute_dtype
from limjax.physics import actuation

# A tenth in the logarithm of a budget is some kT of barrier.
_TUNED_IF_SET = {"budget": Tuned(0.1, log=True), "release": Tuned(log=True)}


class Account(NamedTuple):
    """State of a `ConsolidatingBarrier` whose cells count what they spend.

    Attributes:
        rule: state of the rule.
        spent: barrier work of each cell so far [kT].
        height: its barrier after the last step, -1 before the first [kT].
    """

    rule: Any
    spent: PyTree
    height: PyTree


class ConsolidatingBarrier(AbstractBarrier):
    r"""$B_i = B_0 + C_i$: every parameter's barrier is that of a plastic cell and what consolidates it.

    In a cell whose driver can run out (`max_affinity`) a barrier higher by C moves at most $e^{-C}$ as far in a step: it keeps its weight
    against hops and against further learning at once. Nothing is copied; the price is the work to raise it, once, and dearer
    updates from then on.

    Args:
        plastic: B0, of a cell that nothing consolidated. [kT]
        rule: what consolidates: `limjax.FisherRule`, `PathIntegralRule`, `LyapunovRule`, `UseRule` or `MetaplasticRule`, or its text
            such as "fisher:strength=100". The first three act when a task ends (`limjax.consolidate`), the others at every step.
        budget: barrier work that one cell may spend over the whole run, from its first barrier on (for that it is not charged) and less what
            the driver gets back, above 0; None for no end but the cell's highest barrier. 1 kT is 4.14e-21 J at 300 K. [kT]
        release: time after which an importance has faded to 1/e, or None for never. A barrier falls by at most 1 kT in it. [s]

    Raises:
        ValueError: if a number is out of its range; on update, for what the rule needs and does not get.

    Where barriers only rise, without release and not by the weight itself, what is spent is the free energy of where they stand, and the
    budget is one highest barrier for all. Where they fall and rise again every rise is paid anew, as in the ledger: then each cell keeps
    account, and one that has spent its budget is raised no more, however low it stands.

    Cost: one logarithm per parameter and step, and the state of the rule: two numbers per parameter for Fisher, five and a bit
    for the path integral, four and a bit for the Lyapunov function, one for use, none for metaplasticity.
    With a budget and barriers that fall, two more and six steps of Newton's method.

    Example:
        >>> import jax.numpy as jnp, optax, limjax
        >>> barrier = limjax.ConsolidatingBarrier(14.0, limjax.FisherRule(strength=100.0))
        >>> opt = limjax.learning_in_memory(optax.sgd(0.1), limjax.ArrheniusCell(max_affinity=4.0), barrier)
        >>> params, gradient = jnp.ones(2), jnp.array([0.0, 1e-3])
        >>> _, state = opt.update(gradient, opt.init(params), params)
        >>> state = limjax.consolidate(state, params)
        >>> _, state = opt.update(gradient, state, params)
        >>> [f"{height:.2f}" for height in state.barrier.height.value[0]]
        ['14.00', '18.62']

    Source: the derivation is in docs/consolidation.md.
    """

    name: ClassVar[str] = "consolidating"
    tuned: ClassVar[Mapping[str, Tuned]] = {"plastic": Tuned(low=0.0)}
    level: ClassVar[tuple[str, float] | None] = ("plastic", 1.0)
    shape_free: ClassVar[bool] = True
    moves_still: ClassVar[bool] = True
    plastic: Float[Array, ""]
    rule: AbstractRule
    budget: Float[Array, ""] | None
    release: Float[Array, ""] | None

    def __init__(
        self,
        plastic: ArrayLike = 12.0,
        rule: AbstractRule | str | None = None,
        budget: ArrayLike | None = None,
        release: ArrayLike | None = None,
    ):
        def positive(value, name, remedy):
            return (
                None if value is None else checked_leaf(value, name, low=0.0, open_low=True, remedy=remedy, single=True)
            )

        self.plastic = checked_leaf(plastic, "plastic", low=0.0, remedy="It is a barrier in kT.", single=True)
        self.rule = UseRule() if rule is None else rule_of(rule)
        self.budget = positive(budget, "budget", "It is work in kT; 0.2 lifts a barrier of 14 kT to 21.")
        self.release = positive(release, "release", "It is a time in seconds; None keeps for ever.")
        if release is not None and not self.rule.keeps:
            raise ValueError(
                f"release = {release!r} is how an importance fades, but the rule {self.rule.name!r} keeps none: leave it out."
            )

    @classmethod
    def of_run(
        cls,
        run: RunShape,
        /,
        plastic: float | None = None,
        scale: float = 30.0,
        budget: float | None = None,
        release: float | None = None,
    ) -> "ConsolidatingBarrier":
        """By name, in a run of one task that nobody says is over, the barrier follows use, from `RunShape.opening` on."""
        return cls(run.opening if plastic is None else plastic, UseRule(scale), budget, release)

    def tuned_numbers(self) -> Mapping[str, Tuned]:
        """The plastic barrier, the rule's numbers, and those of budget and release that are set."""
        own = {name: tuned for name, tuned in _TUNED_IF_SET.items() if getattr(self, name) is not None}
        return {**self.tuned, **{f"rule.{name}": tuned for name, tuned in self.rule.tuned.items()}, **own}

    def arguments(self) -> dict[str, Any]:
        numbers = {name: getattr(self, name) for name in ("plastic", "budget", "release")}
        return {name: None if x is None else float(x) for name, x in numbers.items()} | {"rule": rule_text(self.rule)}

    @property
    def scope(self) -> Scope:
        return "parameter"

    @property
    def reads_weights(self) -> bool:
        return self.rule.reads_weights

    @property
    def keeps_account(self) -> bool:
        """Whether each cell counts what it has spent: barriers that fall and rise again pay every time."""
        return self.budget is not None and (self.release is not None or not self.rule.keeps)

    def init(self, params: PyTree) -> Any:
        state = self.rule.init(params)
        if not self.keeps_account:
            return state
        # No barrier is below 0, so that -1 marks the cells that have had none.
        return Account(state, zeros_of(params), jax.tree.map(lambda h: h - 1, zeros_of(params)))

    def highest(self, top: Float[Array, ""]) -> Float[Array, ""]:
        """The barrier at which the budget is spent: ΔF(B) = ΔF(B0) + budget, at most the cell's highest.

        Args:
            top: the cell's highest barrier [kT].

        Returns:
            B [kT].
        """
        # One root for all cells: 12 steps cost nothing. A start above the cell's range would turn the bracket round.
        return top if self.budget is None else _raised_by(self.budget, jnp.minimum(self.plastic, top), top, 12)

    def evaluate(self, inputs: BarrierInputs, state: Any) -> tuple[Any, Any]:
        # With the step time of this step's cell, which is a leaf and may itself be tuned.
        keep = None if self.release is None else jnp.exp(-inputs.cell.step_time / self.release)
        inputs = _known(inputs)
        if self.keeps_account:
            return self._on_account(inputs, state, keep)
        state = self.rule.follow(inputs, state, keep)
        # Cells with lower ends than this are clipped to their own when the barrier is moved.
        top = jnp.max(inputs.cell.max_barrier)
        limit = None if self.budget is None else self.highest(top.astype(self.plastic.dtype))

        def height(consolidation):
            barrier = self.plastic.astype(consolidation.dtype) + consolidation
            return barrier if limit is None else jnp.minimum(barrier, limit.astype(barrier.dtype))

        return [height(c) for c in self.rule.heights(inputs, state)], state

    def _on_account(self, inputs: BarrierInputs, state: Any, keep: Float[Array, ""] | None) -> tuple[Any, Any]:
        """The barriers, none higher than what is left of its cell's budget lifts it, and the account with this step's work."""
        cell, budget, rule_state = inputs.cell, self.budget, self.rule.follow(inputs, state.rule, keep)

        assert budget is not None

        def moved(consolidation, spent, before, started):
            dtype = spent.dtype
            low, top = cell.min_barrier.astype(dtype), cell.max_barrier.astype(dtype)
            # Clipped here already, as the ledger charges the way that a barrier really moves.
            wanted = jnp.clip(self.plastic.astype(dtype) + consolidation, low, top)
            # As in the ledger, a cell starts out at its barrier where it first moves, wherever its weight puts that.
            before = jnp.where((before < 0) | ~started, wanted, before)
            # A rise also takes a finite-time excess, which `_raised_by` leaves out: the account may be overdrawn by it.
            left = jnp.maximum(budget.astype(dtype) - spent, 0.0)
            # A fall is always allowed. `top` may be below where the cell stands if its range was changed between steps.
            height = jnp.minimum(wanted, _raised_by(left, before, jnp.maximum(before, top), 6))
            return height, spent + cell.actuation(before, height)

        started = [jnp.ones((), bool)] * len(state.spent) if inputs.started is None else inputs.started
        cells = zip(self.rule.heights(inputs, rule_state), state.spent, state.height, started)
        pairs = [moved(*each) for each in cells]
        heights = [height for height, _ in pairs]
        return heights, Account(rule_state, [spent for _, spent in pairs], heights)

    def task_ended(self, state: Any, weights: list[Float[Array, "..."]]) -> Any:
        if self.keeps_account:
            # The account goes on: the budget is that of the whole run, not of a task.
            return state._replace(rule=self.rule.task_ended(state.rule, weights))
        return self.rule.task_ended(state, weights)


def _known(inputs: BarrierInputs) -> BarrierInputs:
    """The inputs with 0 for gradients and requests that are no number, or whose squares are none: they teach nothing, and sums are for good."""

    def known(arrays):
        return [
            jnp.where(jnp.isfinite(jnp.square(wide)), wide, 0.0)
            for wide in (x.astype(compute_dtype(x.dtype)) for x in arrays)
        ]

    drift = None if inputs.drift is None else known(inputs.drift)
    return inputs._replace(gradient=known(inputs.gradient), drift=drift)


def _raised_by(work: Float[Array, "..."], low: Float[Array, "..."], top: Float[Array, "..."], iterations: int) -> Any:
    """The barrier that so much work raises from `low`, ΔF(B) = ΔF(low) + work, at most `top` [kT]."""
    # ΔF is ½ ln πB for all but the lowest barriers: a start that Newton's method makes exact in a few steps.
    low, top = jnp.broadcast_arrays(low, top)
    # Half a kT more, or the guess could not leave 0. From 20 kT of work on it is beyond every cell,
    # and e^(2 work) is soon beyond a float.
    guess = jnp.clip(low + (low + 0.5) * jnp.expm1(2 * jnp.minimum(work, 20.0)), low, top)
    spent = actuation.free_energy(low) + work
    return monotone_root(lambda barrier: actuation.free_energy(barrier) - spent, guess, low, top, iterations)
