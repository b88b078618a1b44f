"""What requests are made of, signal and noise: how many independent gradients stand behind a training."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from limjax.numerics.checks import whole_number

_MOST_BINS, _SPAN = 32, 16
_BESIDE = 2  # bins on each side that a signal is averaged over


class RequestSums(NamedTuple):
    """State of `watched`.

    Attributes:
        steps: steps taken.
        asked: sum of the requests of the span so far, in the structure of the parameters.
        squares: sums over spans and over the parameters of each leaf of the square of that sum, shape (bins, leaves).
        losses: sums of the losses, shape (bins,).
        inner: state of the optimizer.
    """

    steps: Int[Array, ""]
    asked: PyTree
    squares: Float[Array, "bins leaves"]
    losses: Float[Array, "bins"]
    inner: Any


class Bins(NamedTuple):
    """How the steps of a run are counted.

    Attributes:
        span: K, steps whose requests are added up.
        spans: spans in a bin.
        bins: number of bins.
    """

    span: int
    spans: int
    bins: int

    @classmethod
    def of(cls, steps: int) -> "Bins":
        """Bins for a run: at most 32 of them, of spans of 16 steps, or of fewer in a short run.

        Args:
            steps: length of the run, at least 2.

        Returns:
            The bins.

        Raises:
            ValueError: if the run is shorter.

        Example:
            >>> Bins.of(400), Bins.of(20_000)
            (Bins(span=16, spans=1, bins=25), Bins(span=16, spans=40, bins=31))
        """
        whole_number(steps, "steps", 2)
        span = min(_SPAN, max(2, steps // 8))
        spans = -(-steps // (span * _MOST_BINS))
        return cls(span, spans, steps // (span * spans))

    @property
    def steps(self) -> int:
        """Steps in a bin."""
        return self.span * self.spans

    def signal(self, squares: Float[np.ndarray, "*bins"]) -> Float[np.ndarray, "*bins"]:
        """m², the share of the mean in the mean square of requests.

        Args:
            squares: of `RequestSums`, per parameter.

        Returns:
            Its estimate without bias, which may be negative where there is none.
        """
        return (squares / self.spans - self.span) / (self.span * (self.span - 1))

    def resolution(self, size: int) -> float:
        """Standard error of the signal of pure noise, over so many parameters."""
        return math.sqrt(2 / (self.span * (self.span - 1) * self.spans * size))


def watched(optimizer: optax.GradientTransformation, bins: Bins) -> optax.GradientTransformationExtraArgs:
    r"""The same optimizer, which also counts how much of its requests is signal.

    A request before momentum, $z = g/\sqrt{v}$ with Adam's second moment (the gradient itself where there is none), divided by
    its root mean square over the array, has $\langle z^2\rangle = 1 = m^2 + N$: the square of its mean over batches, and the variance
    of one batch. Noise of different steps is independent, so that the sum S over K steps has $\langle S^2\rangle = K + K(K-1)\,m^2$.
    Momentum averages signal and noise alike: it does not change how many batches it takes to tell one from the other.

    Args:
        optimizer: the optimizer; what it asks for is handed on as it is.
        bins: how steps are counted; steps beyond the last bin are not.

    Returns:
        The optimizer with a `RequestSums` as its state. Give `value=loss` to its update.

    Cost: an array of the size of the parameters, two passes over them.
    """
    inner = optax.with_extra_args_support(optimizer)

    def init(params):
        return RequestSums(
            jnp.zeros((), jnp.int32),
            jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params),
            jnp.zeros((bins.bins, len(jax.tree.leaves(params))), jnp.float32),
            jnp.zeros(bins.bins, jnp.float32),
            inner.init(params),
        )

    def update(updates, state, params=None, *, value=None, **extra_args):
        passed = extra_args if value is None else {"value": value, **extra_args}
        wanted, after = inner.update(updates, state.inner, params, **passed)
        ends, index = state.steps % bins.span == bins.span - 1, state.steps // bins.steps
        asked = jax.tree.map(jnp.add, state.asked, _before_momentum(updates, after))
        squares = jnp.stack([jnp.sum(s * s) for s in jax.tree.leaves(asked)])
        loss = jnp.zeros((), jnp.float32) if value is None else jnp.asarray(value).astype(jnp.float32)
        return wanted, RequestSums(
            state.steps + 1,
            jax.tree.map(lambda s: jnp.where(ends, jnp.zeros_like(s), s), asked),
            state.squares.at[index].add(jnp.where(ends, squares, jnp.zeros_like(squares)), mode="drop"),
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
    squares: Float[np.ndarray, "bins"],
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
    the definition, and no bound: L is its training loss, with everything in it that training cannot remove, all parameters are
    charged its whole fall, also those that had little part in it, and m² and N are means over the parameters of an array and five
    neighbouring bins. Noise that has
    moved the weights pulls back by the next request, so that m² is seen too small by uN: as u comes near m²/N, the fastest rate,
    effective updates are counted too many.

    Args:
        squares: of `RequestSums`, per parameter, in every bin.
        losses: mean training loss of every bin.
        initial_loss: before the first step.
        size: number of parameters the squares are means over.
        bins: how steps were counted.

    Returns:
        The number, and how much of it is only a lower bound. A falling number is possible where the loss rose.
    """
    around = [slice(max(0, i - _BESIDE), i + _BESIDE + 1) for i in range(len(squares))]
    signal = np.array([bins.signal(squares)[near].mean() for near in around])
    least = np.array([bins.resolution(size) / math.sqrt(len(squares[near])) for near in around])
    # Below the standard error of pure noise a signal is not told from none.
    resolved = np.minimum(np.maximum(signal, least), 1.0)
    ratio = 1 / resolved - 1
    falls = -np.diff(np.log(np.concatenate([[initial_loss], losses])))
    between = 0.5 * (ratio[1:] + ratio[:-1])
    return EffectiveUpdates(float(ratio[0] * falls[0] + between @ falls[1:]), float(np.mean(signal < least)))
