"""What requests are made of, signal and noise: how many independent gradients stand behind a training."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from limjax.numerics.checks import whole_number

_MOST_BINS, _HALF = 64, 8


class RequestSums(NamedTuple):
    """State of `watched`.

    Attributes:
        steps: steps taken.
        first: sum of the requests of the first half of a pair, in the structure of the parameters.
        second: the same of the second half.
        products: sums over pairs and over the parameters of each leaf of first × second, shape (bins, leaves).
        losses: sums of the losses, shape (bins,).
        inner: state of the optimizer.
    """

    steps: Int[Array, ""]
    first: PyTree
    second: PyTree
    products: Float[Array, "bins leaves"]
    losses: Float[Array, "bins"]
    inner: Any


class Bins(NamedTuple):
    """How the steps of a run are counted.

    Attributes:
        half: K, steps in one half of a pair.
        pairs: pairs in a bin.
        bins: number of bins.
    """

    half: int
    pairs: int
    bins: int

    @classmethod
    def of(cls, steps: int) -> "Bins":
        """Bins for a run: at most 64 of them, of pairs of twice 8 steps, or fewer in a short run.

        Args:
            steps: length of the run, at least 2.

        Returns:
            The bins.

        Raises:
            ValueError: if the run is shorter.

        Example:
            >>> Bins.of(400), Bins.of(20_000)
            (Bins(half=8, pairs=1, bins=25), Bins(half=8, pairs=20, bins=62))
        """
        whole_number(steps, "steps", 2)
        half = min(_HALF, max(1, steps // 16))
        pairs = -(-steps // (2 * half * _MOST_BINS))
        return cls(half, pairs, max(1, steps // (2 * half * pairs)))

    @property
    def steps(self) -> int:
        """Steps in a bin."""
        return 2 * self.half * self.pairs


def watched(optimizer: optax.GradientTransformation, bins: Bins) -> optax.GradientTransformationExtraArgs:
    r"""The same optimizer, which also counts how much of its requests is signal.

    A request before momentum, $z = g/\sqrt{\hat v}$ with Adam's second moment (the gradient itself where there is none), divided by
    its root mean square over the array, has $\langle z^2\rangle = 1 = m^2 + N$: the square of its mean over batches, and the variance
    of one batch. Noise of different steps is independent, so that sums over K steps and over the K after them give
    $\langle\Delta_a\Delta_b\rangle = K^2 m^2$. Momentum averages both alike and does not change N/m².

    Args:
        optimizer: the optimizer; what it asks for is handed on as it is.
        bins: how steps are counted; steps beyond the last bin are not.

    Returns:
        The optimizer with a `RequestSums` as its state. Give `value=loss` to its update.

    Cost: two arrays of the size of the parameters, one pass over them.
    """
    inner = optax.with_extra_args_support(optimizer)

    def init(params):
        zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
        return RequestSums(
            jnp.zeros((), jnp.int32),
            zeros,
            jax.tree.map(jnp.copy, zeros),
            jnp.zeros((bins.bins, len(jax.tree.leaves(params))), jnp.float32),
            jnp.zeros(bins.bins, jnp.float32),
            inner.init(params),
        )

    def update(updates, state, params=None, *, value=None, **extra_args):
        passed = extra_args if value is None else {"value": value, **extra_args}
        wanted, after = inner.update(updates, state.inner, params, **passed)
        place = state.steps % (2 * bins.half)
        is_first, ends = place < bins.half, place == 2 * bins.half - 1
        asked = _before_momentum(updates, after)
        first = jax.tree.map(lambda total, z: total + jnp.where(is_first, z, jnp.zeros_like(z)), state.first, asked)
        second = jax.tree.map(lambda total, z: total + jnp.where(is_first, jnp.zeros_like(z), z), state.second, asked)
        products = [jnp.sum(a * b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second))]
        index = state.steps // bins.steps
        added = jnp.where(ends, jnp.stack(products), jnp.zeros(len(products), jnp.float32))
        loss = jnp.zeros((), jnp.float32) if value is None else jnp.asarray(value).astype(jnp.float32)
        return wanted, RequestSums(
            state.steps + 1,
            jax.tree.map(lambda x: jnp.where(ends, jnp.zeros_like(x), x), first),
            jax.tree.map(lambda x: jnp.where(ends, jnp.zeros_like(x), x), second),
            state.products.at[index].add(added, mode="drop"),
            state.losses.at[index].add(loss, mode="drop"),
            after,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _before_momentum(gradient: PyTree, inner_state: Any) -> PyTree:
    """Requests as an optimizer without momentum would make them, of unit mean square in every array."""
    moments = optax.tree.get_all_with_path(inner_state, "nu")
    scale = moments[0][1] if moments else jax.tree.map(jnp.ones_like, gradient)

    def request(g, v):
        z = (g * jax.lax.rsqrt(v + jnp.asarray(1e-30, v.dtype))).astype(jnp.float32)
        return z * jax.lax.rsqrt(jnp.mean(z * z) + 1e-30)

    return jax.tree.map(request, gradient, scale)


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


class EffectiveUpdates(NamedTuple):
    """How many independent gradients stand behind a training.

    Attributes:
        per_parameter: n_eff.
        unresolved: share of the bins whose signal could not be told from 0, where n_eff is too small.
    """

    per_parameter: float
    unresolved: float


def effective_updates(
    products: Float[np.ndarray, "bins"],
    losses: Float[np.ndarray, "bins"],
    initial_loss: float,
    size: int,
    bins: Bins,
) -> EffectiveUpdates:
    r"""The law's number of gradients that have to be averaged, from the signal and the noise in requests.

    In a bowl with distance n from the minimum and curvature h, $m^2 = u^2 L$ and $N = u^2\sigma^2/h^2$, so that the law's
    $n = (\sigma^2/h^2)(1/L_T - 1/L_0)$ is

    $$ n_\mathrm{eff} = \int \frac{N}{m^2}\, d\ln\frac1L : $$

    an e-fold of the loss takes as many independent gradients as the noise of one is stronger than its signal. For a network this is
    the definition; L is its training loss, with everything in it that training cannot remove, so that e-folds are
    counted too few, and m² and N are means over the parameters of an array.

    Args:
        products: $\sum_\mathrm{pairs} \langle\Delta_a\Delta_b\rangle$ per parameter in every bin.
        losses: mean training loss of every bin.
        initial_loss: before the first step.
        size: number of parameters the products are means over.
        bins: how steps were counted.

    Returns:
        The number, and how much of it is only a lower bound. A falling number is possible where the loss rose.
    """
    signal = products / (bins.pairs * bins.half**2)
    # The standard error of a mean of products of noise; below it a signal is not told from none.
    least = 1 / (bins.half * np.sqrt(bins.pairs * size))
    resolved = np.minimum(np.maximum(signal, least), 1.0)
    ratio = 1 / resolved - 1
    falls = -np.diff(np.log(np.concatenate([[initial_loss], losses])))
    between = 0.5 * (ratio[1:] + ratio[:-1])
    return EffectiveUpdates(float(ratio[0] * falls[0] + between @ falls[1:]), float(np.mean(signal < least)))
