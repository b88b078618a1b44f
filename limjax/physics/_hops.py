"""Random hops of one step from random words: exact Poisson counts or their Gaussian limit.

`exact_hops` and `gaussian_hops` work element by element, so that they fuse with the update around them; `exact_step` chooses
between the branches of the Poisson inverse.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, UInt32

from limjax.numerics import poisson
from limjax.numerics.counters import step_words
from limjax.numerics.poisson import normal_quantile, poisson_inverse_cdf
from limjax.physics._abstract_cell import AbstractCell

CHOOSE_FROM = 1024
"""Elements of an array from which a CPU chooses between the branches of the Poisson inverse."""
ALL_BRANCHES_FROM = 2**15
"""Elements from which it chooses between all of them; below only that of few hops is told apart from any number, as what the others save
in ten thousand steps is less than they take to compile, a second."""
CHOOSE_FROM_ON_ACCELERATORS = 2**22
"""The same elsewhere, where the host may have to wait for the choice, some 20 µs."""


def exact_hops(
    w0: UInt32[Array, "..."],
    w1: UInt32[Array, "..."],
    up: Float[Array, "..."],
    down: Float[Array, "..."],
) -> Float[Array, "..."]:
    """Displacement of one step: Poisson(up) - Poisson(down), a whole number of levels.

    The derivative is that of a displacement whose noise is stretched with its standard deviation, as Gaussian noise is:
    `d displacement = d up - d down + n (d up + d down) / 2(up + down)` with `n` the displacement less its mean. (That of the sample is
    0 almost everywhere.) Averaged over the hops it is the derivative of the mean of any function that is quadratic over a hop, noise
    included, and wrong by the third derivative times the request for others: without bias in practice on a ladder fine enough to
    train on.

    Args:
        w0: words.
        w1: words of the same shape, independent of `w0`.
        up: rate of the hops up [hops per step].
        down: rate of the hops down [hops per step], of the same dtype.

    Returns:
        Displacement [levels], a whole number.

    Cost: two `poisson_inverse_cdf`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> w = jnp.uint32(2**30), jnp.uint32(2**31)
        >>> float(exact_hops(*w, jnp.float32(2.0), jnp.float32(1.0)))
        2.0
        >>> f"{jax.grad(exact_hops, argnums=2)(*w, jnp.float32(2.0), jnp.float32(1.0)):.4f}"
        '1.1667'
    """
    # One pair of words serves both counts, exchanged: they are tied only below 2^-32 (`unit_uniform`).
    rates = jax.lax.stop_gradient((up, down))
    displacement = poisson_inverse_cdf(w0, w1, rates[0]) - poisson_inverse_cdf(w1, w0, rates[1])
    return stretched(displacement, up - down, up + down)


@jax.custom_jvp
def stretched(
    displacement: Float[Array, "..."], mean: Float[Array, "..."], activity: Float[Array, "..."]
) -> Float[Array, "..."]:
    """The displacement, with the derivative of one whose noise grows and shrinks with its standard deviation."""
    del mean, activity
    return displacement


@stretched.defjvp
def _stretched_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    displacement, mean, activity = primals
    _, mean_dot, activity_dot = tangents
    is_positive = activity > 0
    # Noise n = sqrt(A) ξ with ξ held: dn/dA = n/2A.
    share = 0.5 * (displacement - mean) / jnp.where(is_positive, activity, 1.0)
    tangent = mean_dot + jnp.where(is_positive, share * activity_dot, 0.0)
    return displacement, jnp.broadcast_to(tangent, displacement.shape)


def exact_step(
    leaf: int,
    key: UInt32[Array, "2"],
    step: Integer[Array, ""],
    cell: AbstractCell,
    drift: Float[Array, "..."],
    barrier: Float[Array, "..."],
) -> Float[Array, "..."]:
    """The hops of one step of one array: `exact_hops` of `step_words` at the cell's rates, and its derivative.

    The sampler is as dear as its operations are many: only the branch of the inverse is computed that the rates of the array need,
    where bounds of them show that it is the same for all, for arrays from `CHOOSE_FROM` elements on a CPU and from
    `CHOOSE_FROM_ON_ACCELERATORS` elsewhere. As a kernel of its own a branch also writes none of its rates and words to memory.

    Args:
        leaf: number of the array in the parameter tree.
        key: from `key_words`.
        step: number of the step.
        cell: the memory cell.
        drift: d [levels].
        barrier: B, a scalar or broadcastable to `drift`, of its dtype [kT].

    Returns:
        Displacement [levels], a whole number; NaN where the request is.

    Example:
        >>> import jax, jax.numpy as jnp, limjax
        >>> from limjax.numerics.counters import key_words
        >>> cell, key = limjax.ArrheniusCell(), key_words(jax.random.key(0))
        >>> exact_step(0, key, jnp.int32(1), cell, jnp.zeros(4), jnp.float32(12.0)).shape
        (4,)
    """
    # Counts are constant in pieces: nothing inside is differentiated, `stretched` says what the derivative is.
    moved = _drawn(leaf, *jax.lax.stop_gradient((key, step, cell, drift, barrier)))
    return stretched(moved, drift, cell.response(drift, barrier).activity)


@functools.partial(jax.jit, static_argnums=0, inline=True)
def _drawn(
    leaf: int,
    key: UInt32[Array, "2"],
    step: Integer[Array, ""],
    cell: AbstractCell,
    drift: Float[Array, "..."],
    barrier: Float[Array, "..."],
) -> Float[Array, "..."]:
    # Compiled as one outside of `jit` too: the functions below are new ones at every call.
    def any_rates(key, step, cell, drift, barrier):
        rates = cell.response(drift, barrier)
        return exact_hops(*step_words(key, leaf, step, drift.shape), rates.up, rates.down)

    # What a choice saves on a small array is less than the launch of a step, and the branches take half of its compilation.
    chosen = _by_rates(leaf, any_rates)
    on_cpu, elsewhere = (
        chosen if drift.size >= least else any_rates for least in (CHOOSE_FROM, CHOOSE_FROM_ON_ACCELERATORS)
    )
    return jax.lax.platform_dependent(key, step, cell, drift, barrier, cpu=on_cpu, default=elsewhere)


def _by_rates(leaf: int, any_rates: Callable[..., Any]) -> Callable[..., Any]:
    """`any_rates`, but with fewer branches of the inverse where bounds of the rates show that the others are not needed."""

    def only(displacement):
        def draw(key, step, cell, drift, barrier):
            words, rates = step_words(key, leaf, step, drift.shape), cell.response(drift, barrier)
            # Branches that count by comparisons make 0 hops of NaN, and a request that failed must be seen.
            return jnp.where(jnp.isnan(drift), drift, displacement(*words, rates.up, rates.down))

        return draw

    def same(inverse):
        return only(lambda w0, w1, up, down: inverse(w0, w1, up) - inverse(w1, w0, down))

    def few(terms):
        return lambda high, low, rate: poisson.few_counts(poisson.unit_uniform(high, low, rate.dtype), rate, terms)

    rare = few(poisson.RARE_TERMS)

    def one_way(w0, w1, up, down):
        """Hops against the request are rare, those along it of any number: the same words as elsewhere for both."""
        is_up = up > down
        along = poisson_inverse_cdf(jnp.where(is_up, w0, w1), jnp.where(is_up, w1, w0), jnp.maximum(up, down))
        against = rare(jnp.where(is_up, w1, w0), jnp.where(is_up, w0, w1), jnp.minimum(up, down))
        return jnp.where(is_up, along - against, against - along)

    branches = (
        same(rare),
        same(few(poisson.TERMS)),
        same(lambda w0, _, rate: poisson.many_counts(w0, rate)),
        only(one_way),
    )

    @jax.custom_batching.custom_vmap
    def draw(key, step, cell, drift, barrier):
        lowest, highest, smaller = cell.rate_bounds(drift, barrier)
        # A bound that is NaN passes no comparison: what is left are branches that fit any number of hops.
        conditions = highest < poisson.RARE, highest < poisson.FEW, lowest >= poisson.FEW, smaller < poisson.RARE
        offered = slice(None) if drift.size >= ALL_BRANCHES_FROM else slice(1, 2)  # of few hops
        # The first that holds.
        branch = jnp.argmax(jnp.stack([*conditions[offered], jnp.bool_(True)]))
        return jax.lax.switch(branch, [*branches[offered], any_rates], key, step, cell, drift, barrier)

    @draw.def_vmap
    def _(axis_size, is_mapped, *arguments):
        # A mapped choice would compute all branches.
        axes = jax.tree.map(lambda mapped: 0 if mapped else None, tuple(is_mapped))
        return jax.vmap(any_rates, axes, axis_size=axis_size)(*arguments), True

    return draw


def gaussian_hops(
    w0: UInt32[Array, "..."],
    w1: UInt32[Array, "..."],
    drift: Float[Array, "..."],
    activity: Float[Array, "..."],
) -> Float[Array, "..."]:
    """Displacement of one step in the Gaussian limit: `drift + sqrt(activity) ξ`, ξ standard normal.

    The derivative is the pathwise one: 1 in the drift, `ξ / (2 sqrt(activity))` in the activity, and 0 there where the
    activity is 0.

    Args:
        w0: words, which decide ξ.
        w1: not used; here so that both kinds of hops are called alike.
        drift: mean displacement [levels].
        activity: variance of the displacement [levels²], at least 0, of the same dtype.

    Returns:
        Displacement [levels]. ξ is never beyond ±6.34, the quantile of 2^-33.

    Cost: one `normal_quantile` and a root.

    Example:
        >>> import jax.numpy as jnp
        >>> word = jnp.uint32(0.158655254 * 2**32)
        >>> f"{gaussian_hops(word, word, jnp.float32(1.0), jnp.float32(4.0)):.4f}"
        '3.0000'
    """
    del w1
    is_positive = activity > 0
    # Twice: the infinite slope of the root at 0 would reach the gradient through the branch that is not taken.
    spread = jnp.where(is_positive, jnp.sqrt(jnp.where(is_positive, activity, 1.0)), 0.0)
    return drift + spread * normal_quantile(w0, drift.dtype)
