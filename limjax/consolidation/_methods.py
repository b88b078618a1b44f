"""Ways not to forget: what each adds to the loss, keeps of a task, and writes down for it."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from limjax.barriers import AbstractBarrier, ConsolidatingBarrier, StaticBarrier
from limjax.barriers._rule import AbstractRule, checked_strength
from limjax.barriers._rules import FisherRule
from limjax.numerics.checks import checked_leaf, whole_number


class Copies(NamedTuple):
    """What a method writes down, in numbers per weight, besides the weights themselves.

    Attributes:
        written: numbers per weight written to long-term memory at the end of each task, over those of the task before.
        running: numbers per weight that change in every step, in short-term memory; not charged.
        published: numbers per weight that the published form keeps after so many tasks, where what is implemented needs fewer for the same.
    """

    written: int = 0
    running: int = 0
    published: Callable[[int], int] | None = None


class AbstractMethod(eqx.Module):
    """A way to learn tasks one after the other. Final subclasses say what differs from just going on.

    `name` is how the command line, tables and JSON call it; `format` goes up with every change after which it gives other results, so that
    trainings of before are not put beside new ones.
    """

    name: ClassVar[str]
    format: ClassVar[int] = 1
    cumulative: ClassVar[bool] = False
    needs_fisher: ClassVar[bool] = False
    copies: ClassVar[Copies] = Copies()

    def barrier(self, plastic: float) -> AbstractBarrier:
        """The barrier of the cells.

        Args:
            plastic: barrier of a cell that nothing consolidated [kT].

        Returns:
            The barrier.
        """
        return StaticBarrier(plastic)

    @property
    def replayed(self) -> int:
        """Examples kept of each task, to be seen again."""
        return 0

    @property
    def running(self) -> int:
        """Numbers per weight that change in every step, besides weights, barriers and the optimizer's own; not charged."""
        return self.copies.running

    def long_term(self, kept: Any) -> list[PyTree]:
        """What it writes to long-term memory at the end of each task, of what it keeps."""
        del kept
        return []

    def init(self, params: PyTree) -> Any:
        """What it keeps, before the first task."""
        del params
        return ()

    def penalty(self, params: PyTree, kept: Any) -> Float[Array, ""]:
        """What it adds to the loss."""
        del params, kept
        return jnp.zeros(())

    def after_step(self, kept: Any, before: PyTree, after: PyTree, gradient: PyTree) -> Any:
        """What it keeps, after a step.

        Args:
            kept: what it keeps.
            before: the parameters before the step.
            after: the parameters after it.
            gradient: of the task's own loss.

        Returns:
            The same, of the same structure.
        """
        del before, after, gradient
        return kept

    def after_task(self, kept: Any, params: PyTree, fisher: PyTree) -> Any:
        """What it keeps, after a task.

        Args:
            kept: what it keeps.
            params: the parameters at its end.
            fisher: diagonal of the Fisher information over the task's examples, with labels that the network draws.

        Returns:
            The same, of the same structure.
        """
        del params, fisher
        return kept


class FineTune(AbstractMethod):
    """Just goes on: the lower end."""

    name: ClassVar[str] = "fine-tune"


class Joint(AbstractMethod):
    """Learns each task together with all before it, from all their data: the upper end."""

    name: ClassVar[str] = "joint"
    cumulative: ClassVar[bool] = True


class Anchors(NamedTuple):
    """What quadratic penalties keep: Σ F and Σ F w* over tasks, or the last anchor, per parameter."""

    weight: PyTree
    weighted: PyTree


class AbstractElastic(AbstractMethod):
    """Springs whose stiffness is the Fisher information; `strength` is λ."""

    needs_fisher: ClassVar[bool] = True
    strength: Float[Array, ""]

    def __init__(self, strength: ArrayLike = 1e3):
        self.strength = checked_strength(strength, "It is λ, the weight of the penalty in the loss, for example 1000.")

    def init(self, params: PyTree) -> Anchors:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return Anchors(zeros, zeros)

    def long_term(self, kept: Anchors) -> list[PyTree]:
        return [kept.weight, kept.weighted]


class EWC(AbstractElastic):
    r"""Elastic weight consolidation: a penalty $\frac{λ}{2}\sum_t F_t (w - w_t)^2$, with one anchor and one Fisher diagonal for each task.

    As published it keeps both for each task, two numbers more per weight every time. Their sums $\sum F_t$ and $\sum F_t w_t$ say all that
    the gradient needs: two numbers, whatever the number of tasks, which is what is kept and charged here.

    Args:
        strength: λ, at least 0.

    Source: Kirkpatrick et al., PNAS 114, 3521 (2017), equation 3.
    """

    name: ClassVar[str] = "ewc"
    copies: ClassVar[Copies] = Copies(2, published=lambda tasks: 2 * tasks)

    def penalty(self, params: PyTree, kept: Anchors) -> Float[Array, ""]:
        # Up to a constant: Σ_t F_t (w - w_t)² = (ΣF) w² - 2 (ΣF w*) w + ...
        # The constant would need a third sum, and only the gradient of a penalty is ever asked for.
        terms = jax.tree.map(lambda w, f, fw: jnp.sum(w * (0.5 * f * w - fw)), params, *kept)
        return self.strength * sum(jax.tree.leaves(terms), jnp.zeros(()))

    def after_task(self, kept: Anchors, params: PyTree, fisher: PyTree) -> Anchors:
        weight = jax.tree.map(jnp.add, kept.weight, fisher)
        return Anchors(weight, jax.tree.map(lambda old, f, w: old + f * w, kept.weighted, fisher, params))


class OnlineEWC(AbstractElastic):
    r"""Elastic weight consolidation with one anchor: $\frac{λ}{2} F (w - w^*)^2$, $F \leftarrow γF + F_t$, at the end of each task.

    Args:
        strength: λ, at least 0.
        decay: γ, from 0 to 1.

    Source: Schwarz et al., ICML 2018, arXiv:1805.06370.
    """

    name: ClassVar[str] = "online-ewc"
    copies: ClassVar[Copies] = Copies(2)
    decay: Float[Array, ""]

    def __init__(self, strength: ArrayLike = 1e3, decay: ArrayLike = 1.0):
        super().__init__(strength)
        self.decay = checked_leaf(decay, "decay", low=0.0, high=1.0, remedy="1 forgets no task.", single=True)

    def penalty(self, params: PyTree, kept: Anchors) -> Float[Array, ""]:
        return self.strength * _springs(params, kept.weight, kept.weighted)

    def after_task(self, kept: Anchors, params: PyTree, fisher: PyTree) -> Anchors:
        return Anchors(jax.tree.map(lambda old, f: self.decay * old + f, kept.weight, fisher), params)


class PathState(NamedTuple):
    """What synaptic intelligence keeps: importance, anchor and the way since the task began, per parameter."""

    importance: PyTree
    anchor: PyTree
    path: PyTree


class SynapticIntelligence(AbstractMethod):
    r"""Synaptic intelligence: a penalty $c\,Ω(w - w^*)^2$ with the importance of each parameter along its way.

    Args:
        strength: c, at least 0.
        damping: ξ, above 0. [weight²]

    Source: Zenke, Poole & Ganguli, ICML 2017, arXiv:1703.04200.
    """

    name: ClassVar[str] = "si"
    copies: ClassVar[Copies] = Copies(2, running=1)
    strength: Float[Array, ""]
    damping: Float[Array, ""]

    def __init__(self, strength: ArrayLike = 1.0, damping: ArrayLike = 0.1):
        self.strength = checked_strength(strength, "It is c, the weight of the penalty in the loss, for example 1.")
        remedy = "It is in squares of a weight, for example 0.1."
        self.damping = checked_leaf(damping, "damping", low=0.0, open_low=True, remedy=remedy, single=True)

    def init(self, params: PyTree) -> PathState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return PathState(zeros, params, zeros)

    def penalty(self, params: PyTree, kept: PathState) -> Float[Array, ""]:
        # `_springs` has the ½ of a spring; the published penalty has none.
        return 2 * self.strength * _springs(params, kept.importance, kept.anchor)

    def after_step(self, kept: PathState, before: PyTree, after: PyTree, gradient: PyTree) -> PathState:
        path = jax.tree.map(lambda p, b, a, g: p - g * (a - b), kept.path, before, after, gradient)
        return kept._replace(path=path)

    def after_task(self, kept: PathState, params: PyTree, fisher: PyTree) -> PathState:
        def grown(old, path, anchor, w):
            # A spring of a stiffness below 0 would push the weight away.
            return old + jnp.maximum(path, 0.0) / (jnp.square(w - anchor) + self.damping)

        importance = jax.tree.map(grown, kept.importance, kept.path, kept.anchor, params)
        return PathState(importance, params, jax.tree.map(jnp.zeros_like, params))

    def long_term(self, kept: PathState) -> list[PyTree]:
        return [kept.importance, kept.anchor]


class Replay(AbstractMethod):
    """Keeps some examples of every task and sees as many of them as new ones in each step.

    Args:
        examples: k, kept of each task, at least 1.
    """

    name: ClassVar[str] = "replay"
    examples: int = eqx.field(static=True)

    def __init__(self, examples: float = 10):
        # From text it comes as 5.0; what is not whole is handed on as it is, for the message.
        self.examples = whole_number(int(examples) if float(examples).is_integer() else examples, "examples")

    @property
    def replayed(self) -> int:
        return self.examples


class BarrierConsolidation(AbstractMethod):
    """Nothing is copied and nothing added to the loss: important weights get a higher barrier (`limjax.ConsolidatingBarrier`).

    Args:
        rule: what is important: a rule or its text.
        budget: barrier work that one cell may spend, or None. [kT]
        release: time after which an importance has faded to 1/e, or None. [s]
    """

    name: ClassVar[str] = "barrier"
    # 1: importances over their mean over all weights, 2: over those that moved, 3: over those that had a gradient.
    format: ClassVar[int] = 3
    rule: AbstractRule
    budget: Float[Array, ""] | None
    release: Float[Array, ""] | None

    def __init__(
        self, rule: AbstractRule | str | None = None, budget: ArrayLike | None = None, release: ArrayLike | None = None
    ):
        # Checked by the barrier that they make.
        made = ConsolidatingBarrier(0.0, FisherRule() if rule is None else rule, budget, release)
        self.rule, self.budget, self.release = made.rule, made.budget, made.release

    @property
    def running(self) -> int:
        """The rule's sums; an importance that fades changes in every step as well, and so does a cell's account of its work."""
        # A rule without sums has one number at most, which changes in every step anyway: its fading adds none.
        fades = self.release is not None and self.rule.running > 0
        # One number, what was spent: the height beside it is the barrier itself.
        account = ConsolidatingBarrier(0.0, self.rule, self.budget, self.release).keeps_account
        return self.rule.running + fades + account

    def barrier(self, plastic: float) -> AbstractBarrier:
        return ConsolidatingBarrier(plastic, self.rule, self.budget, self.release)


def _springs(params: PyTree, stiffness: PyTree, anchor: PyTree) -> Float[Array, ""]:
    """½ Σ k (w - w*)²."""
    terms = jax.tree.map(lambda w, k, a: 0.5 * jnp.sum(k * jnp.square(w - a)), params, stiffness, anchor)
    return sum(jax.tree.leaves(terms), jnp.zeros(()))


METHODS = {
    kind.name: kind for kind in (FineTune, Joint, EWC, OnlineEWC, SynapticIntelligence, Replay, BarrierConsolidation)
}
"""Methods by name."""


def method_of(text: str) -> AbstractMethod:
    """A method from text: `ewc:strength=100`, `replay:examples=5`, `barrier:use:scale=300` (a rule and its numbers, `budget=`, `release=`).

    Args:
        text: name of the method, and after a colon its numbers.

    Returns:
        The method.

    Raises:
        ValueError: for an unknown name or number.

    Example:
        >>> method_of("ewc:strength=100").name
        'ewc'
    """
    name, _, rest = text.partition(":")
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {text!r}.")
    if name == BarrierConsolidation.name:
        return _barrier_of(text, rest)
    try:
        pairs = dict(item.split("=") for item in filter(None, rest.split(",")))
        numbers: dict[str, Any] = {key: float(value) for key, value in pairs.items()}
        return METHODS[name](**numbers)
    except (TypeError, ValueError) as error:
        # A number out of its range: the method's own message names it.
        if isinstance(error, ValueError) and "must be" in str(error):
            raise
        raise ValueError(f"method {name!r} does not take {rest!r}; write for example ewc:strength=100.") from None


def _barrier_of(text: str, rest: str) -> BarrierConsolidation:
    """The barrier's method: a rule, its numbers, and those of the barrier among them."""
    # `barrier:budget=0.1` names no rule: names have no equals sign.
    rule, _, numbers = rest.partition(":") if "=" not in rest.partition(":")[0] else ("", "", rest)
    items = [item.partition("=") for item in numbers.split(",") if item]
    own = {key: value for key, _, value in items if key in ("budget", "release")}
    others = ",".join("".join(item) for item in items if item[0] not in own)
    rule = f"{rule}:{others}" if others else rule
    try:
        return BarrierConsolidation(rule or None, **{key: float(value) for key, value in own.items()})
    except ValueError as error:
        raise ValueError(f"method {text!r}: {error}") from None
