"""Random hops of one step from random words: exact Poisson counts or their Gaussian limit.

`exact_hops` and `gaussian_hops` work element by element, so that they fuse with the update around them; `exact_step` chooses
between the branches of the Poisson inverse on a CPU.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, UInt32

from limjax.numerics import poisson
from limjax.numerics.counters import step_words
from limjax.numerics.poisson import normal_quantile, poisson_inverse_cdf
from limjax.physics.response import cell_response, hop_rates


@jax.custom_jvp
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
    return poisson_inverse_cdf(w0, w1, up) - poisson_inverse_cdf(w1, w0, down)


@exact_hops.defjvp
def _exact_hops_jvp(primals, tangents):
    _, _, up, down = primals
    displacement = exact_hops(*primals)
    tangent = tangents[2] - tangents[3] + _stretched(displacement - (up - down), up + down, tangents[2] + tangents[3])
    return displacement, jnp.broadcast_to(tangent, displacement.shape)


def _stretched(noise, activity, change):
    """Change of a noise whose variance is the activity; none where there is no activity."""
    is_positive = activity > 0
    return jnp.where(is_positive, 0.5 * (noise / jnp.where(is_positive, activity, 1.0)) * change, 0.0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def exact_step(
    leaf: int,
    key: UInt32[Array, "2"],
    step: Integer[Array, ""],
    drift: Float[Array, "..."],
    log_exchange: Float[Array, "..."],
) -> Float[Array, "..."]:
    """The hops of one step of one array: `exact_hops` of `step_words` at the rates of `hop_rates`, and its derivative.

    On a CPU, where the sampler is as dear as its operations are many, only the branch of the inverse is computed that the rates
    of the array need, where bounds of them show that it is the same for all; GPUs wait for memory and compute both.

    Args:
        leaf: number of the array in the parameter tree.
        key: from `key_words`.
        step: number of the step.
        drift: d [levels].
        log_exchange: ln g, a scalar or broadcastable to `drift`.

    Returns:
        Displacement [levels], a whole number; NaN where the request is.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from limjax.numerics.counters import key_words
        >>> exact_step(0, key_words(jax.random.key(0)), jnp.int32(1), jnp.zeros(4), jnp.float32(2.0)).shape
        (4,)
    """

    # The rule above is the derivative; where JAX forgets it, in second derivatives of a scan, there is none.
    return _drawn(leaf, *jax.tree.map(jax.lax.stop_gradient, (key, step, drift, log_exchange)))


@exact_step.defjvp
def _exact_step_jvp(leaf, primals, tangents):
    _, _, drift, log_exchange = primals
    moved = exact_step(leaf, *primals)
    _, activity = cell_response(drift, log_exchange)
    # A = sqrt(d² + 4g²), without the squares that may not be floats.
    exchange = jnp.exp(log_exchange)
    safe = jnp.where(activity > 0, activity, 1.0)
    change = (drift / safe) * tangents[2] + 2 * (2 * exchange / safe) * exchange * tangents[3]
    return moved, jnp.broadcast_to(tangents[2] + _stretched(moved - drift, activity, change), moved.shape)


@functools.partial(jax.jit, static_argnums=0, inline=True)
def _drawn(leaf, key, step, drift, log_exchange):
    # Compiled as one outside of `jit` too: the functions below are new ones at every call.
    def any_rates(key, step, drift, log_exchange):
        return exact_hops(*step_words(key, leaf, step, drift.shape), *hop_rates(drift, log_exchange))

    chosen = _by_rates(leaf, any_rates)
    return jax.lax.platform_dependent(key, step, drift, log_exchange, cpu=chosen, default=any_rates)


def _by_rates(leaf, any_rates):
    """`any_rates`, but with one branch of the inverse only where bounds of the rates show that all need the same."""

    def only(inverse):
        def draw(key, step, drift, log_exchange):
            words, rates = step_words(key, leaf, step, drift.shape), hop_rates(drift, log_exchange)
            up, down = (inverse(*pair, rate) for pair, rate in zip((words, words[::-1]), rates))
            return jnp.where(jnp.isnan(drift), drift, up - down)

        return draw

    def few(terms):
        return only(
            lambda high, low, rate: poisson.few_counts(poisson.unit_uniform(high, low, rate.dtype), rate, terms)
        )

    branches = (
        few(poisson.RARE_TERMS),
        few(poisson.TERMS),
        only(lambda high, low, rate: poisson.many_counts(high, rate)),
        any_rates,
    )

    @jax.custom_batching.custom_vmap
    def draw(key, step, drift, log_exchange):
        # The rates multiply to g² and differ by |d|: the larger is at most |d| + g.
        highest = jnp.max(jnp.abs(drift), initial=0.0) + jnp.exp(jnp.max(log_exchange, initial=-jnp.inf))
        lowest = jnp.exp(2 * jnp.min(log_exchange, initial=jnp.inf)) / highest
        branch = jnp.where(
            highest < poisson.RARE, 0, jnp.where(highest < poisson.FEW, 1, jnp.where(lowest >= poisson.FEW, 2, 3))
        )
        return jax.lax.switch(branch, branches, key, step, drift, log_exchange)

    @draw.def_vmap
    def _(axis_size, is_mapped, *arguments):
        # A mapped choice would compute all branches.
        axes = [0 if mapped else None for mapped in is_mapped]
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
    spread = jnp.where(is_positive, jnp.sqrt(jnp.where(is_positive, activity, 1.0)), 0.0)
    return drift + spread * normal_quantile(w0, drift.dtype)
