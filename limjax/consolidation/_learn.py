"""Training through a sequence of tasks on one memory: the compiled pieces."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from limjax.barriers import AbstractBarrier
from limjax.consolidation._methods import AbstractMethod
from limjax.consolidation._sequence import Examples, TaskSequence
from limjax.consolidation._settings import ContinualSettings
from limjax.memory import consolidate, learning_in_memory, snap
from limjax.memory._hops import hops_of
from limjax.physics._abstract_cell import AbstractCell
from limjax.tasks import TaskDefaults
from limjax.tasks import _networks as networks

# Gradients of single examples are as large as the network: only so many are held at a time.
_CHUNK = 64


class Data(NamedTuple):
    """All examples of a sequence, in arrays of equal length for every task.

    Attributes:
        image: shape (tasks, most examples, inputs).
        label: shape (tasks, most examples).
        size: how many of them there are, shape (tasks,).
    """

    image: Float[Array, "tasks most inputs"]
    label: Int[Array, "tasks most"]
    size: Int[Array, "tasks"]

    @classmethod
    def of(cls, parts: tuple[Examples, ...]) -> "Data":
        """The examples, padded with zeros."""
        most = max(len(part.label) for part in parts)
        # Of one length, so that a task is an index that may be traced, and one program learns them all.
        image = np.stack([np.pad(part.image, ((0, most - len(part.label)), (0, 0))) for part in parts])
        label = np.stack([np.pad(part.label, (0, most - len(part.label))) for part in parts])
        counts = [len(part.label) for part in parts]
        numbers = jnp.asarray(image, jnp.result_type(float))
        return cls(numbers, jnp.asarray(label, jnp.int32), jnp.asarray(counts, jnp.int32))


class Place(NamedTuple):
    """A sequence on the device.

    Attributes:
        train: examples to learn from.
        competing: which outputs compete at a stage for an example of a task.
    """

    train: Data
    competing: Bool[Array, "stages tasks outputs"]

    @classmethod
    def of(cls, sequence: TaskSequence) -> "Place":
        """The sequence on the device."""
        return cls(Data.of(sequence.train), jnp.asarray(sequence.competing()))


class Learner(NamedTuple):
    """Where a training stands.

    Attributes:
        params: the weights.
        state: the optimizer's state, with ledger and barriers.
        kept: what the method keeps.
        shown: which examples of each task are kept to be replayed, shape (tasks, examples).
        key: of all that is random.
    """

    params: PyTree
    state: Any
    kept: Any
    shown: Int[Array, "tasks examples"]
    key: Array


class Medium(eqx.Module):
    """What the weights are kept in, and how they learn.

    Attributes:
        cell: the memory cell.
        barrier: who sets the barrier.
        log_rate: knots over the whole sequence of the logarithm of a factor on the learning rate, or None.
        steps: of the whole sequence, where there is such a factor.
        differentiable: whether derivatives are taken through it.
    """

    cell: AbstractCell
    barrier: AbstractBarrier
    log_rate: Float[Array, "knots"] | None = None
    steps: int = eqx.field(static=True, default=0)
    differentiable: bool = eqx.field(static=True, default=False)

    @classmethod
    def of(cls, settings: ContinualSettings, method: AbstractMethod) -> "Medium":
        """That of a method."""
        return cls(settings.cell(), method.barrier(settings.plastic))

    def optimizer(self, settings: ContinualSettings, key: Array) -> optax.GradientTransformationExtraArgs:
        """Adam on this memory."""
        rate = settings.learning_rate
        if self.log_rate is not None:
            rate = TaskDefaults(schedule="constant").make_schedule(rate, self.steps, self.log_rate)
        return learning_in_memory(
            optax.adam(rate, eps_root=1e-20 if self.differentiable else 0.0),  # see `TaskDefaults.make_optimizer`
            self.cell,
            self.barrier,
            hops=hops_of(settings.hops),
            key=key,
            granularity="leaf",
            compare=(),
            compensated=not self.differentiable,
        )


@eqx.filter_jit
def started(
    settings: ContinualSettings, method: AbstractMethod, medium: Medium, place: Place, seed: Int[Array, ""]
) -> Learner:
    """A network before its first task."""
    # Split alike for every method: with one seed all begin with the same network and draw with the same keys.
    start, hop_key, show, key = jax.random.split(jax.random.key(seed), 4)
    inputs, outputs = place.train.image.shape[-1], place.competing.shape[-1]
    params = networks.init_mlp(start, (inputs, settings.width, settings.width, outputs))
    params = jax.tree.map(lambda w: w.astype(jnp.result_type(float)), params)
    # Exact hops are whole levels: weights stay on the ladder if they begin on it.
    if hops_of(settings.hops).is_noisy:
        params = snap(params, medium.cell)
    state = medium.optimizer(settings, hop_key).init(params)
    draws = jax.random.uniform(show, (len(place.train.size), max(method.replayed, 1)))
    # Draws are at most 1 - 2^-23: times a number of examples they round to less than it.
    shown = jnp.floor(draws * place.train.size[:, None]).astype(jnp.int32)
    return Learner(params, state, method.init(params), shown, key)


@eqx.filter_jit
def learnt(
    settings: ContinualSettings, method: AbstractMethod, medium: Medium, place: Place, learner: Learner, stage: Array
) -> Learner:
    """The network after the steps of one task."""
    key = jax.random.fold_in(learner.key, stage)
    optimizer = medium.optimizer(settings, key)  # its state has a key of its own
    competing = place.competing[stage]

    def loss_of(params, batches):
        losses = [_loss(params, batch, competing) for batch in batches]
        if len(losses) == 1:
            return losses[0]
        # The new task counts as much as each of the old ones.
        share = 1 / (stage + 1).astype(losses[0].dtype)
        return share * losses[0] + (1 - share) * losses[1]

    def step(carry, number):
        params, state, kept = carry
        batches = _batches(settings, method, place, learner.shown, stage, jax.random.fold_in(key, number))
        loss, gradient = jax.value_and_grad(loss_of)(params, batches)
        # Apart from the task's gradient, of which alone the path integral of synaptic intelligence is made.
        pull = jax.grad(method.penalty)(params, kept)
        whole = jax.tree.map(jnp.add, gradient, pull)
        # A barrier that follows the loss follows that of the task, without the springs.
        updates, state = optimizer.update(whole, state, params, value=loss)
        after = optax.apply_updates(params, updates)
        return (after, state, method.after_step(kept, params, after, gradient)), loss

    carry = learner.params, learner.state, learner.kept
    (params, state, kept), _ = jax.lax.scan(step, carry, jnp.arange(settings.steps))
    return learner._replace(params=params, state=state, kept=kept)


@eqx.filter_jit
def remembered(method: AbstractMethod, place: Place, learner: Learner, stage: Array) -> Learner:
    """The network when a task is over and another one will come."""
    fisher = None
    if method.needs_fisher:
        # Below 0, so that no task's steps have the same key.
        fisher = fisher_diagonal(learner.params, place, stage, jax.random.fold_in(learner.key, -1 - stage))
    kept = method.after_task(learner.kept, learner.params, fisher)
    return learner._replace(kept=kept, state=consolidate(learner.state, learner.params))


def fisher_diagonal(params: PyTree, place: Place, stage: Array, key: Array) -> PyTree:
    """Diagonal of the Fisher information over a task's examples: squared gradients with labels that the network draws.

    Args:
        params: the weights.
        place: the sequence.
        stage: number of the task.
        key: of the labels.

    Returns:
        Mean squared gradients, like the parameters [(nats/weight)²].
    """
    image, competing = place.train.image[stage], place.competing[stage, stage]
    # Infinite only here, where labels are drawn: in a cross entropy 0 · ln 0 would be NaN, and -1e9 stands for it.
    logits = jnp.where(competing[None], networks.apply_mlp(params, image), -jnp.inf)
    label = jax.random.categorical(key, logits)
    weight = (jnp.arange(image.shape[0]) < place.train.size[stage]).astype(image.dtype)
    missing = -image.shape[0] % _CHUNK
    padded = [jnp.pad(x, ((0, missing), *((0, 0),) * (x.ndim - 1))) for x in (image, label, weight)]

    def squares(item):
        # A batch of one: what is wanted is the mean of squares, and not the square of a batch's mean.
        batch = Batch(item[0][None], item[1][None], jnp.asarray([stage]))
        gradient = jax.grad(_loss)(params, batch, place.competing[stage])
        return jax.tree.map(lambda g: item[2] * g * g, gradient)

    def chunk(total, items):
        return jax.tree.map(lambda old, s: old + jnp.sum(s, axis=0), total, jax.vmap(squares)(items)), None

    chunks = [x.reshape(-1, _CHUNK, *x.shape[1:]) for x in padded]
    total, _ = jax.lax.scan(chunk, jax.tree.map(jnp.zeros_like, params), tuple(chunks))
    return jax.tree.map(lambda t: t / place.train.size[stage].astype(t.dtype), total)


@eqx.filter_jit
def accuracies(params: PyTree, test: Data, competing: Bool[Array, "tasks outputs"]) -> Float[Array, "tasks"]:
    """Share of each task's test examples that are told right."""
    return _share(params, test, competing, lambda logits, label: jnp.argmax(logits, axis=-1) == label)


def soft_errors(params: PyTree, test: Data, competing: Bool[Array, "tasks outputs"]) -> Float[Array, "tasks"]:
    """Share of each task's examples that a network which draws its answers tells wrong: one minus a smooth accuracy."""

    def chance(logits, label):
        return jnp.take_along_axis(jax.nn.softmax(logits), label[:, None], axis=-1)[:, 0]

    return 1 - _share(params, test, competing, chance)


def _share(
    params: PyTree, test: Data, competing: Bool[Array, "tasks outputs"], rightness: Callable[[Array, Array], Array]
) -> Float[Array, "tasks"]:
    """Mean of how right the network is over each task's examples."""

    def of_task(image, label, count, mask):
        logits = jnp.where(mask[None], networks.apply_mlp(params, image), -1e9)
        right = rightness(logits, label).astype(logits.dtype)
        return jnp.sum(jnp.where(jnp.arange(len(label)) < count, right, 0.0)) / count.astype(logits.dtype)

    return jax.vmap(of_task)(*test, competing)


class Batch(NamedTuple):
    """Some examples, and which task each is of."""

    image: Float[Array, "batch inputs"]
    label: Int[Array, "batch"]
    task: Int[Array, "batch"]


def _loss(params: PyTree, batch: Batch, competing: Bool[Array, "tasks outputs"]) -> Float[Array, ""]:
    logits = networks.apply_mlp(params, batch.image)
    return networks.cross_entropy(jnp.where(competing[batch.task], logits, -1e9), batch.label)


def _batches(
    settings: ContinualSettings,
    method: AbstractMethod,
    place: Place,
    shown: Int[Array, "tasks examples"],
    stage: Int[Array, ""],
    key: Array,
) -> list[Batch]:
    """New examples, and as many kept ones for a method that has some."""
    data, size = place.train, (settings.batch_size,)
    first, second, third = jax.random.split(key, 3)
    task = jnp.broadcast_to(stage, size)
    if method.cumulative:
        ends = jnp.cumsum(data.size)
        place_in_all = jnp.floor(jax.random.uniform(second, size) * ends[stage])
        # Tasks are drawn by their sizes: every example of all tasks so far is as likely as the next.
        task = jnp.sum((place_in_all[:, None] >= ends[None]).astype(jnp.int32), axis=1)
    number = jnp.floor(jax.random.uniform(first, size) * data.size[task]).astype(jnp.int32)
    batches = [Batch(data.image[task, number], data.label[task, number], task)]
    if method.replayed:
        # The first task has none before it: it is shown its own, which `loss_of` counts with the weight 0.
        old = jnp.floor(jax.random.uniform(second, size) * jnp.maximum(stage, 1)).astype(jnp.int32)
        number = shown[old, jax.random.randint(third, size, 0, method.replayed)]
        batches.append(Batch(data.image[old, number], data.label[old, number], old))
    return batches
