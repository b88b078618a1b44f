"""What requests are made of, signal and noise: how many independent gradients stand behind a training."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from limjax.numerics.checks import whole_number

_MOST_BINS, _LEAST_STEPS = 32, 8
_BESIDE = 2  # bins on each side that a signal is averaged over
_PRIOR = 8.0  # steps that the mean second moment of an array counts for beside that of each parameter


class RequestSums(NamedTuple):
    """State of `watched`, with sums over the parameters of each leaf and the steps of each bin.

    Attributes:
        steps: steps taken.
        products: sums of the request of one half of a batch times that of the other, shape (bins, leaves).
        scatter: sums over steps of the square of a step's sum of products, shape (bins, leaves).
        squares: sums of the squares of the requests, shape (bins, leaves).
        promises: sums of the fall of the loss that a step promises to first order, what it asks for times the gradient of its batch
            [loss units], shape (bins, leaves).
        losses: sums of the losses, shape (bins,).
        forgotten: 1 - b2, the share of its past that the optimizer's second moment forgets in a step, as its first step shows.
        inner: state of the optimizer.
    """

    steps: Int[Array, ""]
    products: Float[Array, "bins leaves"]
    scatter: Float[Array, "bins leaves"]
    squares: Float[Array, "bins leaves"]
    promises: Float[Array, "bins leaves"]
    losses: Float[Array, "bins"]
    forgotten: Float[Array, ""]
    inner: Any


class Bins(NamedTuple):
    """How the steps of a run are counted.

    Attributes:
        steps: steps in a bin, at least 2.
        bins: number of bins.
    """

    steps: int
    bins: int

    @classmethod
    def of(cls, steps: int) -> "Bins":
        """Bins for a run: at most 32, of at least 8 steps where the run has them.

        Args:
            steps: length of the run, at least 2.

        Returns:
            The bins.

        Raises:
            ValueError: if the run is shorter.

        Example:
            >>> Bins.of(400), Bins.of(20_000)
            (Bins(steps=13, bins=30), Bins(steps=625, bins=32))
        """
        whole_number(steps, "steps", 2)
        each = min(steps, max(_LEAST_STEPS, -(-steps // _MOST_BINS)))
        return cls(each, steps // each)


def halved(loss: Callable[[PyTree, PyTree], Array]) -> Callable[[PyTree, PyTree], tuple[Array, PyTree, dict[str, Any]]]:
    """Loss and gradient of a batch, and what its two halves differ by.

    Args:
        loss: mean loss of parameters and a batch, arrays with a leading axis of an even number of examples.

    Returns:
        A function of parameters and a batch that returns the loss, the gradient, and `half_difference`, half the gradient of the first
        half of the batch less half that of the second.

    Cost: the products of one gradient, and two gradients kept.
    """

    def both(params, batch):
        halves = jax.tree.map(lambda x: x.reshape(2, x.shape[0] // 2, *x.shape[1:]), batch)
        losses, gradients = jax.vmap(jax.value_and_grad(loss), in_axes=(None, 0))(params, halves)
        mean = jax.tree.map(lambda g: 0.5 * (g[0] + g[1]), gradients)
        return jnp.mean(losses), mean, {"half_difference": jax.tree.map(lambda g: 0.5 * (g[0] - g[1]), gradients)}

    return both


def watched(optimizer: optax.GradientTransformation, bins: Bins) -> optax.GradientTransformationExtraArgs:
    r"""The same optimizer, which also counts how much of its requests is signal.

    A request before momentum is $z = g/\sqrt{v}$, with Adam's second moment of the steps before, or the gradient itself where there is none.
    Of few steps a second moment is no measure, and one over it has no mean: that of the whole array counts for 8 steps. The two halves of a
    batch are independent and have one mean, so that the product of their requests has the mean $\langle z\rangle^2$, without bias, at the
    very weights of that step: noise that has moved these does not come into it. With half the difference d,
    that product is $z_a z_b = (g^2 - d^2)/v$. Momentum averages signal and noise alike: it does not change how many batches
    it takes to tell one from the other.

    Args:
        optimizer: the optimizer; what it asks for is handed on as it is.
        bins: how steps are counted; steps beyond the last bin are not.

    Returns:
        The optimizer with a `RequestSums` as its state. Give `value=loss` and `half_difference`, of `halved`, to its update.

    Cost: four passes over the parameters.
    """
    inner = optax.with_extra_args_support(optimizer)

    def init(params):
        shape = bins.bins, len(jax.tree.leaves(params))
        # Arrays of their own, so that the state can be donated.
        products, scatter, squares, promises = (jnp.zeros(shape, jnp.float32) for _ in range(4))
        losses, forgotten = jnp.zeros(bins.bins, jnp.float32), jnp.zeros((), jnp.float32)
        steps = jnp.zeros((), jnp.int32)
        return RequestSums(steps, products, scatter, squares, promises, losses, forgotten, inner.init(params))

    def update(updates, state, params=None, *, value=None, half_difference=None, **extra_args):
        if value is None or half_difference is None:
            raise ValueError(
                "A watched optimizer needs value and half_difference in its update: the loss, and what `halved` tells."
            )
        wanted, after = inner.update(updates, state.inner, params, value=value, **extra_args)
        index = state.steps // bins.steps
        forgotten = jnp.where(state.steps == 0, _forgotten(updates, after), state.forgotten)
        products, squares = _sums(updates, half_difference, state, after, forgotten)

        def with_step(sums, of_step):
            return sums.at[index].add(of_step.astype(jnp.float32), mode="drop")

        return wanted, RequestSums(
            state.steps + 1,
            with_step(state.products, products),
            with_step(state.scatter, products * products),
            with_step(state.squares, squares),
            with_step(state.promises, _promises(updates, wanted)),
            with_step(state.losses, jnp.asarray(value)),
            forgotten,
            after,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _forgotten(gradient: PyTree, after: Any) -> Array:
    """1 - b2 from the first step, after which the second moment is that share of the squared gradient; 1 without a second moment."""
    moment = _second_moment(after)
    if moment is None:
        return jnp.ones((), jnp.float32)
    squares, moved = (
        sum((jnp.sum(x.astype(jnp.float32)) for x in jax.tree.leaves(tree)), jnp.zeros((), jnp.float32))
        for tree in (jax.tree.map(jnp.square, gradient), moment)
    )
    return jnp.where(squares > 0, moved / jnp.where(squares > 0, squares, 1.0), 1.0)


def _promises(gradient: PyTree, wanted: PyTree) -> Array:
    """The fall of the loss that a step promises, by leaf; what momentum brings from other batches is in it."""
    pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted))
    return jnp.stack([-jnp.sum(g.astype(jnp.float32) * w.astype(jnp.float32)) for g, w in pairs])


def _sums(
    gradient: PyTree, half_difference: PyTree, state: RequestSums, after: Any, forgotten: Array
) -> tuple[Array, Array]:
    """Products of the halves' requests and squares of the whole's, summed over each leaf."""
    # A moment with this very batch in it would be small where the gradient happens to be.
    moments = [
        jax.tree.map(jnp.ones_like, gradient) if moment is None else moment
        for moment in map(_second_moment, (state.inner, after))
    ]
    steps = state.steps.astype(jnp.float32)
    # A moving average that began at 0 is too small by this much; uncorrected, the first steps would outweigh all others of their bin.
    begun = -jnp.expm1(jnp.maximum(steps, 1.0) * jnp.log1p(-jnp.minimum(forgotten, 1 - 1e-6)))

    def of_leaf(g, d, *moments):
        g, d, before, now = (x.astype(jnp.float32) for x in (g, d, *moments))
        # Before the first step there is no moment: the mean of the array stands in, to which one element adds little.
        v = jnp.where(steps > 0, before, jnp.mean(now))
        # The small number is for an array without any gradient, whose requests are then 0.
        v = (steps * v + _PRIOR * jnp.mean(v)) / ((steps + _PRIOR) * begun) + 1e-30
        # The halves have the gradients g + d and g - d; a difference of squares would lose digits of a small product.
        return jnp.sum((g - d) * (g + d) / v), jnp.sum(g * g / v)

    pairs = [of_leaf(*leaves) for leaves in zip(*map(jax.tree.leaves, (gradient, half_difference, *moments)))]
    products, squares = zip(*pairs)
    return jnp.stack(products), jnp.stack(squares)


def _second_moment(inner: Any) -> PyTree | None:
    """That of an optimizer's state, or None if it keeps none."""
    moments = optax.tree.get_all_with_path(inner, "nu")
    return moments[0][1] if moments else None


def request_sums(state: PyTree) -> RequestSums:
    """The counts inside an optax state.

    Args:
        state: state of an optimizer that wraps a `watched` one.

    Returns:
        The counts.

    Raises:
        ValueError: if there are none.
    """
    leaves = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, RequestSums))
    for leaf in leaves:
        if isinstance(leaf, RequestSums):
            return leaf
    raise ValueError("The state holds no counts of requests: wrap the optimizer in `watched` before it is initialised.")


class Signal(NamedTuple):
    """m², the share of the squared mean in the mean square of requests, over some arrays and in every bin.

    Attributes:
        share: its estimate, which may be negative where there is none.
        error: its standard error, from the scatter of the steps of a bin; arrays share the batch, so their errors are added as if they
            were one.
    """

    share: Float[np.ndarray, "bins"]
    error: Float[np.ndarray, "bins"]

    @classmethod
    def of(cls, sums: RequestSums, bins: Bins, leaves: Any = slice(None)) -> "Signal":
        """The signal in some leaves.

        Args:
            sums: of a run.
            bins: how its steps were counted.
            leaves: numbers of the leaves.

        Returns:
            The signal.
        """
        products, scatter, squares = (
            np.asarray(of, np.float64)[:, leaves] for of in (sums.products, sums.scatter, sums.squares)
        )
        n, whole = bins.steps, squares.sum(axis=1)
        # The variance of a sum over n steps.
        variance = np.maximum(scatter - products**2 / n, 0.0) * n / (n - 1)
        return cls(products.sum(axis=1) / whole, np.sqrt(variance).sum(axis=1) / whole)


class EffectiveUpdates(NamedTuple):
    """How many independent gradients stand behind a training.

    Attributes:
        per_parameter: n_eff.
        unresolved: share of the bins whose signal could not be told from 0, where n_eff is too small.
    """

    per_parameter: float
    unresolved: float


def effective_updates(signal: Signal, losses: Float[np.ndarray, "bins"], initial_loss: float) -> EffectiveUpdates:
    r"""The law's number of gradients that have to be averaged, from the signal and the noise in requests.

    In a bowl with distance n from the minimum and curvature h, $m^2 = u^2 L$ and $N = u^2\sigma^2/h^2$, so that the law's
    $n = (\sigma^2/h^2)(1/L_T - 1/L_0)$ is

    $$ n_\mathrm{eff} = \int \frac{N}{m^2}\, d\ln\frac1L : $$

    an e-fold of the loss takes as many independent gradients as the noise of one is stronger than its signal. For a network this is
    the definition, and no bound: L is its training loss, with everything in it that training cannot remove, all parameters are
    charged its whole fall, also those that had little part in it, and m² and N are means over the parameters of an array and five
    neighbouring bins.

    Args:
        signal: in every bin.
        losses: mean training loss of every bin.
        initial_loss: before the first step.

    Returns:
        The number, and how much of it is only a lower bound. A falling number is possible where the loss rose.
    """
    # One bin is noisy: m² is averaged over neighbours before it is divided by, fewer of them at the ends.
    around = [slice(max(0, i - _BESIDE), i + _BESIDE + 1) for i in range(len(losses))]
    share = np.array([signal.share[near].mean() for near in around])
    least = np.array([np.sqrt(np.mean(signal.error[near] ** 2) / len(signal.error[near])) for near in around])
    # Below its standard error a signal is not told from none.
    resolved = np.minimum(np.maximum(share, least), 1.0)
    ratio = 1 / resolved - 1
    falls = -np.diff(np.log(np.concatenate([[initial_loss], losses])))
    # Trapezoids in ln L between the bins; the fall from the initial loss to the first bin is at the ratio of that bin.
    between = 0.5 * (ratio[1:] + ratio[:-1])
    return EffectiveUpdates(float(ratio[0] * falls[0] + between @ falls[1:]), float(np.mean(share < least)))
