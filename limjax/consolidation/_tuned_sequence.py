"""A whole sequence of tasks as one differentiable function of its barrier: what `limjax.tune` tunes a consolidation for."""

import copy
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from limjax.barriers import AbstractBarrier, ConsolidatingBarrier, StaticBarrier
from limjax.consolidation._learn import Data, Medium, Place, learnt, remembered, soft_errors, started
from limjax.consolidation._methods import BarrierConsolidation
from limjax.consolidation._result import SequenceResult
from limjax.consolidation._run import trained_on
from limjax.consolidation._sequence import Examples, TaskSequence, get_sequence
from limjax.consolidation._settings import ContinualSettings
from limjax.memory import get_ledger
from limjax.memory._hops import HopsName
from limjax.numerics.checks import finite_number
from limjax.physics._abstract_cell import AbstractCell
from limjax.tuning import AbstractProblem, Design, Outcome
from limjax.tuning._abstract_problem import Part, check_share


class Parts(NamedTuple):
    """What runs learn from and are judged by, for several sequences at once.

    Attributes:
        place: of every sequence, stacked.
        measured: examples that measure the errors, stacked.
        old: weight of the old tasks.
    """

    place: Place
    measured: Data
    old: Float[Array, ""]


class SequenceProblem(AbstractProblem):
    r"""Tasks one after the other as a problem of `limjax.tune`: few numbers of a barrier, by gradients through all tasks.

    The loss is smooth: the share of examples that a network which draws its answers tells wrong, $1 - \langle p_{right}\rangle$, of old
    tasks at the end (all but the last) and of each task when it was just learnt,

    $$ L = a\,E_{old} + (1 - a)\,E_{new}. $$

    Heat and barrier work are those of the whole sequence. A run takes the sequence that its seed falls on; a part of its training
    examples is set aside to measure errors while tuning. The result is judged on the held-out sequences and their test examples.

    Args:
        settings: network, steps of a task, cell, plastic barrier.
        sequences: to tune on, of equal numbers of tasks, inputs and outputs; None takes the one that the settings name.
        held_out: to judge on; None takes the same ones.
        old: a, the weight of old tasks, 0 to 1; None takes their share of all tasks.
        validation: share of the training examples set aside.

    Raises:
        ValueError: for a number out of its range, or sequences that differ in shape.

    Example:
        >>> from limjax.consolidation import ContinualSettings, SequenceProblem, split_digits
        >>> settings = ContinualSettings("split-digits", "domain", steps=2, width=4, batch_size=8)
        >>> problem = SequenceProblem(settings, [split_digits("domain", seed) for seed in (1, 2)], [split_digits("domain")])
        >>> problem.steps, problem.parameters, problem.old  # and then limjax.tune(problem, barrier="fisher:strength=10")
        (10, 290, 0.8)

    Source: the derivation of the barrier is in docs/consolidation.md; this loss is the project's own.
    """

    windows: ClassVar[bool] = False

    def __init__(
        self,
        settings: ContinualSettings,
        sequences: Sequence[TaskSequence] | None = None,
        held_out: Sequence[TaskSequence] | None = None,
        *,
        old: float | None = None,
        validation: float = 0.2,
    ):
        self.settings = settings
        self.sequences = tuple([get_sequence(settings.tasks, settings.scenario)] if sequences is None else sequences)
        self.held_out = self.sequences if held_out is None else tuple(held_out)
        tasks = _check_alike(self.sequences + self.held_out)
        super().__init__(settings.cell(), settings.steps * tasks, check_share(validation))
        self.tasks, self.old = tasks, _checked_old((tasks - 1) / tasks if old is None else old)
        inputs, outputs = self.sequences[0].train[0].image.shape[-1], self.sequences[0].outputs
        sizes = (inputs, settings.width, settings.width, outputs)
        self.parameters = sum((a + 1) * b for a, b in itertools.pairwise(sizes))
        self._parts: dict[str, Parts] = {}

    def weighing(self, old: float) -> "SequenceProblem":
        """The same problem, and the same compiled programs, with another weight of the old tasks.

        Args:
            old: a, 0 to 1.

        Returns:
            The problem.
        """
        # A shallow copy, which shares programs and data: `old` reaches a program with the data, and not through `self`.
        other = copy.copy(self)
        other.old = _checked_old(old)
        return other

    def starting(self, barrier: AbstractBarrier | str | None) -> AbstractBarrier:
        """Where the search starts: a barrier, or a rule's text such as "fisher:strength=100", behind the settings' plastic barrier."""
        if isinstance(barrier, AbstractBarrier):
            return barrier
        return ConsolidatingBarrier(self.settings.plastic, "fisher" if barrier is None else barrier)

    def described(self) -> dict[str, Any]:
        """What a file says of it."""
        numbers = {name: getattr(self.settings, name) for name in ("batch_size", "learning_rate")}
        return {"task": self.sequences[0].name, "parameters": self.parameters, **numbers}

    def data(self, part: Part) -> Parts:
        """Places and measures of the tuning sequences, or with "test" of the held-out ones."""
        if part not in self._parts:
            chosen = self.held_out if part == "test" else self.sequences
            fits = [sequence.train for sequence in chosen]
            measured = [sequence.test if part == "test" else sequence.train for sequence in chosen]
            if part == "validation" and self.validation > 0:
                split = [[_set_aside(examples, self.validation) for examples in each] for each in fits]
                fits, measured = ([tuple(pair[i] for pair in each) for each in split] for i in (0, 1))
            competing = jnp.asarray(np.stack([sequence.competing() for sequence in chosen]))
            place = Place(_stacked(fits), competing)
            self._parts[part] = Parts(place, _stacked(measured), jnp.asarray(self.old))
        # What is kept may be shared with a problem of another weight.
        return self._parts[part]._replace(old=jnp.asarray(self.old))

    def outcome(
        self, design: Design, seed: Integer[Array, ""], data: Parts, hops: HopsName, window: int | None
    ) -> Outcome:
        """One run through a sequence, differentiable in the design.

        Args:
            design: what may be changed.
            seed: of network, examples, hops and the choice of the sequence.
            data: of `data`.
            hops: "gaussian" or "exact" for gradients through the noise; "mean" has none.
            window: None; a sequence is differentiated as a whole.

        Returns:
            The outcome; `loss` is the smooth error.

        Raises:
            ValueError: for a window.
        """
        if window is not None:
            raise ValueError(f"A sequence is differentiated as a whole, got window={window!r}: use gradient='reverse'.")
        count = data.measured.size.shape[0]
        # Seeds are traced and mapped over: sequences lie in one array, and each run indexes its own.
        place, measured = jax.tree.map(lambda x: x[seed % count], (data.place, data.measured))
        settings = dataclasses.replace(self.settings, hops=hops)
        medium = Medium(self._cell_of(design), design.barrier, design.log_rate, self.steps, differentiable=True)
        method = BarrierConsolidation()  # says only that nothing is added to the loss; the barrier is the design's
        learner = started(settings, method, medium, place, seed.astype(jnp.int32))

        # A scan compiles one task; the backward pass learns it again, so that only one task's steps are kept.
        @eqx.filter_checkpoint
        def one_task(learner, stage):
            learner = learnt(settings, method, medium, place, learner, stage)
            error = soft_errors(learner.params, measured, place.competing[stage])[stage]
            # Also after the last task, as every round of a scan is alike: no step follows that would charge the work.
            return remembered(method, place, learner, stage), error

        learner, new = jax.lax.scan(one_task, learner, jnp.arange(self.tasks, dtype=jnp.int32))
        kept = soft_errors(learner.params, measured, place.competing[-1])[:-1]
        # New: each task by the network as it was then. Old: all but the last by the network as it is at the end.
        share = data.old.astype(new.dtype)
        loss = share * jnp.mean(kept) + (1 - share) * jnp.mean(new)
        return self.outcome_of(loss, get_ledger(learner.state), design)

    def plain(self, design: Design) -> Design:
        """Fine-tuning: the settings' plastic barrier for all, with the learning rate and step time of the design."""
        return Design(StaticBarrier(self.settings.plastic), design.log_step_time, design.log_rate)

    def trained(self, design: Design | ConsolidatingBarrier, seed: int) -> SequenceResult:
        """One training with a design through the held-out sequence that the seed falls on, with exact hops, as `train_sequence` does it.

        Args:
            design: what was tuned (`TuneResult.design`), with its learning rate and step time, or only its barrier, with those of the settings.
            seed: whole number.

        Returns:
            Accuracies, heat and barrier work.

        Raises:
            ValueError: for a barrier that consolidates nothing.
        """
        whole = design if isinstance(design, Design) else self.design(design)
        barrier = whole.barrier
        if not isinstance(barrier, ConsolidatingBarrier):
            raise ValueError(f"trained needs a design with a ConsolidatingBarrier, got {barrier!r}.")
        # A barrier alone has no learning rate of its own: the knots that `design` gave it are all 0.
        rate = whole.log_rate if whole is design else None
        medium = Medium(self._cell_of(whole), barrier, rate, self.steps)
        settings = dataclasses.replace(self.settings, hops="exact")
        method = BarrierConsolidation(barrier.rule, barrier.budget, barrier.release)
        sequence = self.held_out[seed % len(self.held_out)]
        return trained_on(medium, settings, method, seed, sequence, method.name)

    def _cell_of(self, design: Design) -> AbstractCell:
        return eqx.tree_at(lambda c: c.step_time, self.cell, jnp.exp(design.log_step_time))


def _checked_old(old: float) -> float:
    value = finite_number(old, "old", "It is the weight of old tasks, from 0 to 1.")
    if not 0 <= value <= 1:
        raise ValueError(f"old must be a weight from 0 (only new tasks count) to 1 (only old ones), got {old!r}.")
    return value


def _set_aside(examples: Examples, share: float) -> tuple[Examples, Examples]:
    """The examples without their last ones, and those."""
    # The shipped digits are in mixed order: their last ones are a fair part of them.
    first = len(examples.label) - max(1, round(share * len(examples.label)))
    return Examples(examples.image[:first], examples.label[:first]), Examples(
        examples.image[first:], examples.label[first:]
    )


def _stacked(parts: Sequence[tuple[Examples, ...]]) -> Data:
    """Examples of several sequences in arrays of equal length."""
    each = [Data.of(tuple(part)) for part in parts]
    most = max(data.label.shape[1] for data in each)

    def longer(x):
        # The numbers of examples are the only array with one axis, and say where the padding begins.
        return jnp.pad(x, ((0, 0), (0, most - x.shape[1]), *((0, 0),) * (x.ndim - 2))) if x.ndim > 1 else x

    return jax.tree.map(lambda *x: jnp.stack([longer(one) for one in x]), *each)


def _check_alike(sequences: Sequence[TaskSequence]) -> int:
    """The number of tasks of sequences that one network can learn."""
    if not sequences:
        raise ValueError("sequences and held_out must name at least one TaskSequence each.")
    shapes = [(len(each.train), each.train[0].image.shape[-1], each.outputs) for each in sequences]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"sequences must have the same number of tasks, inputs and outputs, got {sorted(set(shapes))}: give sequences of one kind."
        )
    return shapes[0][0]
