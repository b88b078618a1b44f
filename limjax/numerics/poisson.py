"""Normal and Poisson variates from random words by inversion: a fixed number of operations, no loop and no table.

Every function works element by element, so that it fuses with the update around it, on any device and under any `vmap`.

The normal quantile is a rational function of ln 4p(1-p), in the spirit of Giles, Approximating the erfinv function, GPU
Computing Gems Jade (2011) 109; the inverse of the Poisson law is that of Giles, ACM TOMS 42, 7 (2016), Algorithm 955,
doi 10.1145/2699466, with coefficients of this project's own: least squares, reweighted towards equal error in
probability, against the incomplete gamma function at every (rate, count) (`examples/fit_coefficients.py`).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from limjax.numerics._elementary import normal_log, polynomial

# Below this rate the survival function is summed, above it the asymptotic inverse is used. Summing up to TERMS hops
# there loses the probability of more, 2e-9 at the rate 4, and about that of the words' 32 bits.
FEW = 4.0
TERMS = 20
# The same with fewer terms: P(N > 8) is 5e-10 at this rate.
RARE = 0.4
RARE_TERMS = 8
# Width of the dither of the normal variate, see _dither: it adds 3e-7 to the variance of 1.
_DITHER = 2.0**-9
# x = 1 - 2p: quantile = x P(w)/Q(w), w = -ln(4p(1-p)) up to 22; absolute error 6e-8, 5e-8 beyond |z| = 3.
# The least p is 2^-33, and its w is 31 ln 2 = 21.5.
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
    # x = 1 - 2p from a signed integer: near p = 1/2 it keeps the digits that the difference of floats would lose, and a
    # word and its complement give the same number with opposite signs.
    signed = jax.lax.bitcast_convert_type(word ^ jnp.uint32(0x7FFFFFFF), jnp.int32)
    x = (signed.astype(dtype) + 0.5) * 2.0**-31
    # The distance to the nearer end of the words: 31 bits, so the conversion may be the cheaper signed one.
    folded = jnp.where(signed < 0, ~signed, signed) ^ jnp.int32(0x7FFFFFFF)
    tail = (folded.astype(dtype) + 0.5) * 2.0**-32
    # The same for p and 1 - p: one rational function serves both tails, and x has the sign.
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
    uniform = unit_uniform(high, low, rate.dtype)
    # Both branches are computed: each is given a rate that it holds for, so that the other one stays finite too.
    few = few_counts(uniform, jnp.clip(rate, 0.0, FEW))
    many = many_counts(high, jnp.maximum(rate, FEW))
    return jnp.where(rate < FEW, few, many)


def unit_uniform(high: UInt32[Array, "..."], low: UInt32[Array, "..."], dtype: Any) -> Float[Array, "..."]:
    """A uniform in (0, 1) from two words, `(high + low 2^-32) 2^-32`, resolved to 2^-64 near zero.

    Two uniforms of the same words, one with them exchanged, are tied only where one of them is below about 2^-32: there the other
    decides its trailing digits, so that events of probability p and q have joint probability p q up to an absolute error 2^-32.
    """
    # The half keeps it from 0, where every count would be reached. In float32 the largest words round up to 1, and an
    # event of probability 1, asked for as u < 1, would now and then not happen: hence the minimum.
    uniform = (high.astype(dtype) + (low.astype(dtype) + 0.5) * 2.0**-32) * 2.0**-32
    return jnp.minimum(uniform, 1 - float(jnp.finfo(dtype).epsneg))


def few_counts(uniform: Float[Array, "..."], rate: Float[Array, "..."], terms: int = TERMS) -> Float[Array, "..."]:
    """Counts for rates up to FEW, from u e^rate < sum of rate^k / k! over k > n; `terms` is even, and the largest count."""
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
    # e^rate is the sum of the same terms: no exponential, and no threshold comes out above it by rounding.
    scaled = uniform * (1 + survival)
    count = (scaled < survivals[0]).astype(jnp.int32)
    for survival in survivals[1:]:
        count = count + (scaled < survival).astype(jnp.int32)
    return count.astype(rate.dtype)


def many_counts(word: UInt32[Array, "..."], rate: Float[Array, "..."]) -> Float[Array, "..."]:
    """Counts for rates from FEW: floor of the asymptotic inverse, its large part kept apart from the fraction."""
    root = jnp.sqrt(rate)
    inverse = 1 / rate
    z = jnp.maximum(normal_quantile(word, rate.dtype) + _dither(word, rate.dtype), _LOWEST * root)
    s = z * (root * inverse)
    shift = polynomial(_SHIFT[2], s)
    shift = polynomial(_SHIFT[1], s) + inverse * shift
    shift = polynomial(_SHIFT[0], s) + inverse * shift
    # Added before the floor, a large rate would leave a float32 no digits for the fraction that the floor decides on.
    whole = jnp.floor(rate)
    beyond = ((rate - whole) + (shift + z * z * polynomial(_SQUARE, s))) + root * z
    return jnp.maximum(whole + jnp.floor(beyond), 0.0)


def _dither(word: UInt32[Array, "..."], dtype: Any) -> Float[Array, "..."]:
    """A uniform of width _DITHER and mean 0 from the 8 lowest bits, which the float32 quantile hardly sees."""
    low = jax.lax.bitcast_convert_type(word & jnp.uint32(0xFF), jnp.int32)
    return (low.astype(dtype) - 127.5) * (_DITHER / 256)
