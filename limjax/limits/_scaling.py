"""How much computation and data a model of a given size is trained with, by published scaling laws.

All four are power laws of the size once the compute-optimal balance is solved for: FLOP and tokens are each a
prefactor times a power of the number of parameters. None was fitted anywhere near 1e15 parameters; the result says so.
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from limjax.limits._arguments import chosen
from limjax.numerics._guards import finite
from limjax.numerics.checks import positive_number

_PETAFLOP_DAY = 8.64e19


@dataclass(frozen=True)
class ScalingLaw:
    """Compute-optimal FLOP and tokens as powers of the number of parameters.

    Attributes:
        key: what `Workload(scaling=...)` takes.
        title: how a table calls it.
        log_flops: ln of the FLOP at one parameter.
        flops_exponent: power of the parameters in the FLOP.
        log_tokens: ln of the tokens at one parameter.
        tokens_exponent: power of the parameters in the tokens.
        fitted: smallest and largest number of parameters of the models it was fitted on.
        formula: the law in one line.
        source: where it was published.
    """

    key: str
    title: str
    log_flops: float
    flops_exponent: float
    log_tokens: float
    tokens_exponent: float
    fitted: tuple[float, float]
    formula: str
    source: str

    def flops(self, parameters: ArrayLike) -> Float[Array, "..."]:
        """FLOP at given sizes, differentiable and vectorised.

        Args:
            parameters: number of parameters.

        Returns:
            FLOP.
        """
        return _power(self.log_flops, self.flops_exponent, parameters)

    def tokens(self, parameters: ArrayLike) -> Float[Array, "..."]:
        """Tokens at given sizes, differentiable and vectorised.

        Args:
            parameters: number of parameters.

        Returns:
            Tokens.
        """
        return _power(self.log_tokens, self.tokens_exponent, parameters)


def _power(log_factor: float, exponent: float, parameters: ArrayLike) -> Float[Array, "..."]:
    return jnp.exp(log_factor + exponent * jnp.log(jnp.asarray(parameters, jnp.result_type(float))))


def _parametric(key: str, title: str, source: str, *, a: float, b: float, alpha: float, beta: float) -> ScalingLaw:
    # min over D of A/N^α + B/D^β at C = 6ND gives N = G (C/6)^(β/(α+β)), G = (αA/βB)^(1/(α+β)).
    log_g = math.log(alpha * a / (beta * b)) / (alpha + beta)
    power = (alpha + beta) / beta
    return ScalingLaw(
        key=key,
        title=title,
        log_flops=math.log(6) - power * log_g,
        flops_exponent=power,
        log_tokens=-power * log_g,
        tokens_exponent=power - 1,
        fitted=(70e6, 16e9),
        formula=f"loss = E + {a:g}/N^{alpha:g} + {b:g}/D^{beta:g}, C = 6ND",
        source=source,
    )


# N = 1.3e9 C^0.73 turned round: ln C = ln N / 0.73 - this, C in PF-days.
_KAPLAN_SHIFT = math.log(1.3e9) / 0.73

LAWS: dict[str, ScalingLaw] = {
    law.key: law
    for law in (
        ScalingLaw(
            key="kaplan",
            title="Kaplan",
            log_flops=math.log(_PETAFLOP_DAY) - _KAPLAN_SHIFT,
            flops_exponent=1 / 0.73,
            log_tokens=math.log(2e10) - 0.27 * _KAPLAN_SHIFT,
            tokens_exponent=0.27 / 0.73,
            fitted=(768.0, 1.5e9),
            formula="N = 1.3e9 C^0.73 and D = 2e10 C^0.27, C in PF-days; two fits, which 6ND meets within a factor of two",
            source="Kaplan et al. 2020, arXiv:2001.08361",
        ),
        ScalingLaw(
            key="chinchilla",
            title="Chinchilla 20:1",
            log_flops=math.log(120.0),
            flops_exponent=2.0,
            log_tokens=math.log(20.0),
            tokens_exponent=1.0,
            fitted=(70e6, 16e9),
            formula="D = 20 N, C = 6ND",
            source="Hoffmann et al. 2022, arXiv:2203.15556, approaches 1 and 2 rounded to 20 tokens per parameter",
        ),
        _parametric(
            "chinchilla-3",
            "Chinchilla approach 3",
            "Hoffmann et al. 2022, arXiv:2203.15556, approach 3",
            a=406.4,
            b=410.7,
            alpha=0.34,
            beta=0.28,
        ),
        _parametric(
            "besiroglu",
            "Besiroglu refit",
            "Besiroglu et al. 2024, arXiv:2404.10102, refit of approach 3",
            a=482.01,
            b=2085.43,
            alpha=0.3478,
            beta=0.3658,
        ),
    )
}
"""The laws by key: kaplan, chinchilla, chinchilla-3, besiroglu."""


@dataclass(frozen=True)
class ComputeOptimal:
    """What a scaling law says about one size.

    Attributes:
        law: the law.
        parameters: number of parameters.
        flops: FLOP.
        tokens: tokens.
        extrapolation: how many times beyond the fitted range the size is; 1 inside it.
    """

    law: ScalingLaw
    parameters: float
    flops: float
    tokens: float
    extrapolation: float

    @property
    def is_extrapolated(self) -> bool:
        """Whether the size is outside the range the law was fitted on."""
        return self.extrapolation > 1

    @property
    def note(self) -> str:
        """The law, its range, and how far beyond it the size is, in one line."""
        low, high = self.law.fitted
        fitted = f"fitted on {low:.3g} to {high:.3g} parameters"
        beyond = f", here {self.extrapolation:.2g} times outside it" if self.is_extrapolated else ""
        return f"{self.law.title}: {self.law.formula}; {fitted}{beyond}"


@finite
def compute_optimal(parameters: float, law: str = "kaplan") -> ComputeOptimal:
    """FLOP and tokens of a compute-optimal training.

    Args:
        parameters: number of parameters.
        law: kaplan, chinchilla, chinchilla-3 or besiroglu.

    Returns:
        FLOP and tokens, and whether the law was stretched beyond the sizes it was fitted on.

    Raises:
        ValueError: if the size is not a positive number, or the law unknown.

    Example:
        >>> result = compute_optimal(1e15)
        >>> f"{result.flops:.4e} FLOP, {result.tokens:.3e} tokens, {result.is_extrapolated}"
        '9.9909e+27 FLOP, 3.007e+12 tokens, True'
    """
    chosen = get_law(law)
    size = positive_number(parameters, "parameters", "It is the number of trained weights, for example 1e15.")
    low, high = chosen.fitted
    return ComputeOptimal(
        law=chosen,
        parameters=size,
        # In float64: at exponents near 65, those of 1e28 FLOP, float32 would lose two of its seven digits.
        flops=math.exp(chosen.log_flops + chosen.flops_exponent * math.log(size)),
        tokens=math.exp(chosen.log_tokens + chosen.tokens_exponent * math.log(size)),
        extrapolation=max(size / high, low / size, 1.0),
    )


def get_law(name: str) -> ScalingLaw:
    """A scaling law by its key.

    Args:
        name: kaplan, chinchilla, chinchilla-3 or besiroglu.

    Returns:
        The law.

    Raises:
        ValueError: if there is no such law.
    """
    return chosen(LAWS, name, "scaling")
