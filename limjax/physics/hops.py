"""Random hops of one step from random words: exact Poisson counts or their Gaussian limit.

Every function but `exact_step` works element by element with a fixed number of operations, no loop and no table, so that it
fuses with the update around it, on any device and under any `vmap`. `exact_step` chooses between them on a CPU.

The normal quantile is a rational function of ln 4p(1-p), in the spirit of Giles, Approximating the erfinv function, GPU
Computing Gems Jade (2011) 109; the inverse of the Poisson law is that of Giles, ACM TOMS 42, 7 (2016), Algorithm 955,
doi 10.1145/2699466, with coefficients of this project's own: least squares, reweighted towards equal error in
probability, against the incomplete gamma function at every (rate, count).
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, UInt32

from limjax.physics.numerics import cell_response, hop_rates, normal_log, polynomial
from limjax.physics.random import step_words

# Below this rate the survival function is summed, above it the asymptotic inverse is used. Summing up to _TERMS hops
# there loses the probability of more, 2e-9 at the rate 4, and about that of the words' 32 bits.
_FEW = 4.0
_TERMS = 20
# The same with fewer terms: P(N > 8) is 5e-10 at this rate.
_RARE = 0.4
_RARE_TERMS = 8
# Width of the dither of the normal variate, see _dither: it adds 3e-7 to the variance of 1.
_DITHER = 2.0**-9

# x = 1 - 2p: quantile = x P(w)/Q(w), w = -ln(4p(1-p)) up to 22; absolute error 6e-8, 5e-8 beyond |z| = 3.
_QUANTILE_NUMERATOR = (
    1.253314091,
    0.4476699054,
    0.09113706909,
    0.01255655055,
    0.00114306197,
    5.995635349e-05,
    1.95620348e-07,
)
_QUANTILE_DENOMINATOR = (
    1.0,
    0.09538904741,
    0.03471369832,
    0.002319851755,
    0.0002501943982,
    3.798346598e-06,
)
# With s = z/sqrt(rate): count + 1 crosses an integer at
# rate + sqrt(rate) z + z² A(s) + B0(s) + B1(s)/rate + B2(s)/rate². The leading 1/6, 1/3 and -8/405 are the series'.
_SQUARE = (
    0.16666826,
    -0.013783961,
    0.0036869636,
    -0.001666537,
    0.00051115416,
    -0.00017875161,
    0.00023868761,
    -0.00011277415,
    1.7375217e-05,
)
_SHIFT = (
    (0.33333589, -0.027910942, 0.0085200034, -0.003799745, 0.0034123859, 0.0011300448, -0.0012862045),
    (-0.019768756, 0.018416596, -0.014261595, 0.007129363, -0.011082768, 0.0045427365),
    (-0.00021041438, -0.0010824361, 0.0060059318, -1.4713933e-05),
)
# Below this s the count is 0, and the fit no longer holds.
_LOWEST = -1.35


def uniform_pair(
    w0: UInt32[Array, "..."], w1: UInt32[Array, "..."], dtype=np.float32
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Two uniforms in (0, 1) from two words, both resolved to 2^-64 near zero.

    `(w0 + w1 2^-32) 2^-32` and `(w1 + w0 2^-32) 2^-32`: each alone is a 64-bit uniform, rounded. The second word of
    one is the first of the other, which ties them only where one of them is below about 2^-32: there the other decides
    its trailing digits, so that events of probability p and q have joint probability p q up to an absolute error 2^-32.

    Args:
        w0: words.
        w1: words of the same shape, independent of `w0`.
        dtype: of the result.

    Returns:
        Two arrays in the open interval: the smallest value is 2^-65, the largest the float below 1.

    Example:
        >>> import jax.numpy as jnp
        >>> up, down = uniform_pair(jnp.uint32(0), jnp.uint32(2**31))
        >>> f"{up:.3e} {down:.1f}"
        '1.164e-10 0.5'
    """
    return _uniform(w0, w1, dtype), _uniform(w1, w0, dtype)


def normal_quantile(word: UInt32[Array, "..."], dtype: Any = np.float32) -> Float[Array, "..."]:
    """Standard normal variate from one word: the upper-tail quantile of p = (word + 1/2) 2^-32.

    Small words give large values. Both tails come from integers, so neither loses digits: the extreme values are
    ±6.34, and `word` and its complement give opposite ones.

    Args:
        word: random words.
        dtype: float32 or float64.

    Returns:
        Finite standard normal values; absolute error 6e-8 in float64, a few ulp more in float32.

    Cost: one logarithm (of 9 multiplications in float32), 11 more and a division.

    Example:
        >>> import jax.numpy as jnp
        >>> f"{normal_quantile(jnp.uint32(0)):.3f} {normal_quantile(jnp.uint32(2**32 - 1)):.3f}"
        '6.338 -6.338'
    """
    signed = jax.lax.bitcast_convert_type(word ^ jnp.uint32(0x7FFFFFFF), jnp.int32)
    x = (signed.astype(dtype) + 0.5) * 2.0**-31
    # The distance to the nearer end of the words: 31 bits, so the conversion may be the cheaper signed one.
    folded = jnp.where(signed < 0, ~signed, signed) ^ jnp.int32(0x7FFFFFFF)
    tail = (folded.astype(dtype) + 0.5) * 2.0**-32
    w = -normal_log(4 * tail * (1 - tail))
    return x * (polynomial(_QUANTILE_NUMERATOR, w) / polynomial(_QUANTILE_DENOMINATOR, w))


def poisson_inverse_cdf(
    high: UInt32[Array, "..."], low: UInt32[Array, "..."], rate: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Poisson count of given rate by inversion of the survival function.

    N is the number of n with `u < P(N > n)`, u = (high + low 2^-32) 2^-32: small words mean many hops, so that
    `P(N >= 1) = 1 - exp(-rate)` holds to rounding down to rates of 1e-12. Below the rate 4 the terms of the survival
    function are summed from the smallest up (all positive: no cancellation); above it N is the floor of an asymptotic
    inverse in the normal quantile of `high`, dithered by 2^-10 standard deviations either way so that the 24 digits of
    a float32 leave no comb on the counts of large rates.

    Args:
        high: leading words.
        low: trailing words; they matter below the rate 4 only.
        rate: mean number of hops, at least 0, of the shape of the words or broadcastable to it.

    Returns:
        Counts, as floats of the dtype of `rate`. From the exact law: total variation below 1e-5 up to the rate 1e5,
        and 3e-5 at 1e6 in float32 (rounding noise between neighbouring counts, 1e-6 when averaged over 50 of them);
        tail probabilities within 3 % down to 1e-8. Above the rate 2^24 float32 cannot hold every integer and the counts
        are those it can. No NaN for any finite rate.

    Cost: about 20 multiplications and 20 comparisons for one branch, 45 multiplications for the other; both are done.

    Example:
        >>> import jax.numpy as jnp
        >>> rate = jnp.float32(1e-10)
        >>> [float(poisson_inverse_cdf(jnp.uint32(w), jnp.uint32(0), rate)) for w in (0, 1)]
        [1.0, 0.0]

    Source: Giles, doi 10.1145/2699466.
    """
    uniform = _uniform(high, low, rate.dtype)
    few = _few(uniform, jnp.clip(rate, 0.0, _FEW))
    many = _many(high, jnp.maximum(rate, _FEW))
    return jnp.where(rate < _FEW, few, many)


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
        >>> from limjax.physics.random import key_words
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
        return only(lambda high, low, rate: _few(_uniform(high, low, rate.dtype), rate, terms))

    branches = few(_RARE_TERMS), few(_TERMS), only(lambda high, low, rate: _many(high, rate)), any_rates

    @jax.custom_batching.custom_vmap
    def draw(key, step, drift, log_exchange):
        # The rates multiply to g² and differ by |d|: the larger is at most |d| + g.
        highest = jnp.max(jnp.abs(drift), initial=0.0) + jnp.exp(jnp.max(log_exchange, initial=-jnp.inf))
        lowest = jnp.exp(2 * jnp.min(log_exchange, initial=jnp.inf)) / highest
        branch = jnp.where(highest < _RARE, 0, jnp.where(highest < _FEW, 1, jnp.where(lowest >= _FEW, 2, 3)))
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


def _uniform(high, low, dtype):
    uniform = (high.astype(dtype) + (low.astype(dtype) + 0.5) * 2.0**-32) * 2.0**-32
    return jnp.minimum(uniform, 1 - float(jnp.finfo(dtype).epsneg))


def _few(uniform, rate, terms=_TERMS):
    """Counts for rates up to _FEW, from u e^rate < sum of rate^k / k! over k > n; `terms` is even, and the largest count."""
    # Two interleaved chains of powers and of sums: half the latency, which is what this costs on a CPU.
    square = rate * rate
    powers = [rate, square]
    while len(powers) < terms + 2:
        powers.append(powers[-2] * square)
    term = [power * (1 / math.factorial(k)) for k, power in enumerate(powers, start=1)]
    # What lies beyond the last term kept is a geometric series to the accuracy it needs.
    beyond = 1 + rate * (1 / (terms + 3)) * (1 + rate * (1 / (terms + 4)))
    survival = term[terms] + term[terms + 1] * beyond
    survivals = []
    for n in range(terms - 1, 0, -2):
        survivals.append(survival + term[n])
        survival = survival + (term[n] + term[n - 1])
        survivals.append(survival)
    scaled = uniform * (1 + survival)
    count = (scaled < survivals[0]).astype(jnp.int32)
    for survival in survivals[1:]:
        count = count + (scaled < survival).astype(jnp.int32)
    return count.astype(rate.dtype)


def _many(word, rate):
    """Counts for rates from _FEW: floor of the asymptotic inverse, its large part kept apart from the fraction."""
    root = jnp.sqrt(rate)
    inverse = 1 / rate
    z = jnp.maximum(normal_quantile(word, rate.dtype) + _dither(word, rate.dtype), _LOWEST * root)
    s = z * (root * inverse)
    shift = polynomial(_SHIFT[2], s)
    shift = polynomial(_SHIFT[1], s) + inverse * shift
    shift = polynomial(_SHIFT[0], s) + inverse * shift
    whole = jnp.floor(rate)
    beyond = ((rate - whole) + (shift + z * z * polynomial(_SQUARE, s))) + root * z
    return jnp.maximum(whole + jnp.floor(beyond), 0.0)


def _dither(word, dtype):
    """A uniform of width _DITHER and mean 0 from the 8 lowest bits, which the float32 quantile hardly sees."""
    low = jax.lax.bitcast_convert_type(word & jnp.uint32(0xFF), jnp.int32)
    return (low.astype(dtype) - 127.5) * (_DITHER / 256)
