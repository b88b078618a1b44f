r"""Published results beside the law: what others find training, precision and control to cost.

`training_set_energy` has the form of the law, found independently. `time_dependent_precision` is a theorem under the conditions
it names. `controller_information` and `learning_information` are estimates of what a controller pays, which the law leaves out.

Source: docs/neighbours.md, which says what was read where, and the works named at each function.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from limjax.limits import _arguments
from limjax.numerics._guards import finite
from limjax.numerics.checks import Argument, read


@finite
def training_set_energy(parameters: ArrayLike, tokens: ArrayLike) -> Float[Array, "..."]:
    r"""Tkachenko's bound on training a quasi-static analog network: about $E \gtrsim 2ND$ kT.

    The law of this project says 2 kT per parameter and averaged gradient; it is the same number if each of the D examples is a
    gradient that each of the N parameters has to average.

    Args:
        parameters: N, trained parameters.
        tokens: D, examples of the training set; for a language model its tokens.

    Returns:
        Energy [kT].

    Raises:
        ValueError: if a known argument is not positive.

    Example:
        >>> kt = 4.141947e-21  # J at 300 K
        >>> f"{kt * training_set_energy(1e15, 3.0065e12):.2g} J, {kt * training_set_energy(1e15, 2e16):.2g} J"
        '2.5e+07 J, 1.7e+11 J'

    Source: Tkachenko, arXiv:2503.09980 v3 (2025); formula as in its abstract, derivation not verified. Up to a factor of order one.
    """
    n, d = read(
        Argument(parameters, "parameters", "It is the number of trained parameters, for example 1e9."),
        Argument(tokens, "tokens", "It is the size of the training set, for example 2e10."),
    )
    return 2 * n * d


@finite
def time_dependent_precision(
    relative_error: ArrayLike, time_response: ArrayLike = 1.0, speed_response: ArrayLike = 0.0
) -> Float[Array, "..."]:
    r"""Least entropy production of a displacement X ± δX under a drive that changes in time as λ(vt).

    $$ Σ \ge \frac{2}{δ^2}\left(\frac{\partial\ln X}{\partial\ln T} - \frac{\partial\ln X}{\partial\ln v}\right)^2 $$

    T is how long it runs, v how fast the protocol is played. A steady drive has X ∝ T and gives `bounds.precision`, 2/δ². Played slowly,
    X depends on vT alone and the bound vanishes, while 2/δ² would be wrong. A contraction X = m0 (1 - e^{-uT}) has
    ∂ln X/∂ln T = uT/(e^{uT} - 1).

    Args:
        relative_error: δ, standard deviation of the displacement over its mean.
        time_response: ∂ln X/∂ln T at fixed v, any sign.
        speed_response: ∂ln X/∂ln v at fixed T, any sign; 0 if rates do not depend on time explicitly.

    Returns:
        Entropy production, heat plus what the system's entropy gains [kT].

    Raises:
        ValueError: if a known argument is not finite, or the error not positive.

    Example:
        >>> f"{time_dependent_precision(0.1):.0f} kT, {time_dependent_precision(0.1, 1.0, 0.5):.0f} kT"
        '200 kT, 50 kT'

    Source: Koyuk & Seifert, Phys. Rev. Lett. 125, 260604 (2020), arXiv:2005.02312; read in the abstract only. The formula is derived in
    docs/neighbours.md and tested there against the master equation. It holds for Markov jumps from any initial state with local
    detailed balance at each moment, and a protocol that does not look at the state.
    """
    remedy = "It is a logarithmic derivative of the displacement, for example 1."
    delta, by_time, by_speed = read(
        Argument(relative_error, "relative_error", "It is standard deviation over mean, for example 0.1."),
        Argument(time_response, "time_response", remedy, low=-math.inf, open_low=False),
        Argument(speed_response, "speed_response", remedy, low=-math.inf, open_low=False),
    )
    # Before the square: 1/δ² alone may leave float32.
    ratio = (by_time - by_speed) / delta
    return 2 * ratio * ratio


@finite
def controller_information(signal_to_noise: ArrayLike, requests: ArrayLike = 1.0) -> Float[Array, "..."]:
    r"""An estimate of what a controller pays to know its requests: $Q = \frac{n}{2}\ln(1 + \mathrm{SNR})$ kT.

    Measuring and forgetting takes at least kT times the mutual information of state and reading. Assumed: a Gaussian state read with
    additive Gaussian noise, each reading used once and forgotten, no use of earlier ones, no cost of computing. A state of
    another shape with the same variance gives less information, a controller that predicts gets by with less, a real one pays far more.
    A reading of b independent bits is b ln 2, `bounds.erasure(bits=b)`, whatever the signal.

    Args:
        signal_to_noise: SNR, variance of what is measured over that of the noise; for a gradient h²L/σ².
        requests: n, how many independent readings are made: parameters × steps.

    Returns:
        Least heat of controller and measurement under those assumptions [kT].

    Raises:
        ValueError: if a known argument is negative or not finite.

    Example:
        >>> f"{controller_information(0.01):.5f} kT, {controller_information(4.0**24):.2f} kT"
        '0.00498 kT, 16.64 kT'

    Source: Sagawa & Ueda, Phys. Rev. Lett. 102, 250602 (2009), doi:10.1103/PhysRevLett.102.250602, for the sum of measurement and
    erasure (abstract read; inequality not verified at the source); Shannon (1948) for the Gaussian channel.
    """
    ratio, count = read(
        Argument(signal_to_noise, "signal_to_noise", "It is variance over variance, for example 0.01.", open_low=False),
        Argument(requests, "requests", "It is how many readings are made, for example 1e6.", open_low=False),
    )
    return 0.5 * count * jnp.log1p(ratio)


@finite
def learning_information(loss_ratio: ArrayLike, haste: ArrayLike = 1.0) -> Float[Array, "..."]:
    r"""An estimate of what noisy gradients tell the controller of one weight of a bowl while the loss falls.

    $$ Q = \frac{\ln(L_0/L_T)}{2φ(1-φ/2)} \text{ kT}, \qquad\text{least at φ = 1: } \ln(L_0/L_T) $$

    `controller_information` of SNR = h²L/σ² << 1 summed over the steps of a descent with the free-time barrier of the law: an upper
    end of that sum, as ½ ln(1+SNR) < SNR/2. Slow descents read more gradients than they need, 1/φ times. The memory's own 2 kT per averaged gradient
    comes on top (`law.haste`), so the cheapest whole is near φ = ½ sqrt(ln(L0/LT)/n).

    Args:
        loss_ratio: L0/LT, how many times the loss falls, at least 1.
        haste: φ, learning rate over the fastest one hL/σ², above 0 and at most 1: beyond it the loss
            falls more slowly for more heat.

    Returns:
        Heat per weight under the assumptions of `controller_information` [kT].

    Raises:
        ValueError: if a known argument is out of its range.

    Example:
        >>> f"{learning_information(65536.0):.2f} kT, {learning_information(65536.0, 0.1):.1f} kT"
        '11.09 kT, 58.4 kT'

    Source: derived in docs/neighbours.md.
    """
    ratio, phi = read(
        _arguments.loss_ratio(loss_ratio),
        Argument(haste, "haste", "It is learning rate over fastest learning rate, at most 1.", high=1.0),
    )
    return jnp.log(ratio) / (phi * (2 - phi))
