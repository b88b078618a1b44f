r"""Energy landscapes U(x, control) [kT] with control parameters that a protocol moves.

Any function of a position and a control that returns one energy will do; these are the ones the library's formulas are
about. Positions are scalars here, lengths are in units of the landscape.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from limjax.numerics.checks import checked_leaf

_LENGTH = "It is a length in units of the landscape."


class QuarticDoubleWell(eqx.Module):
    r"""$U = E((x/x_0)^2-1)^2 - Fx$, control (E, F): barrier height [kT] and tilt [kT per unit length].

    Args:
        width: x0, half the distance of the two minima.
        height: E where the control is the tilt alone (a scalar); None takes (E, F) as control.

    Raises:
        ValueError: if the width is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> well = QuarticDoubleWell()
        >>> float(well(jnp.array(0.0), jnp.array([4.0, 0.0])))
        4.0

    Source: Hänggi, Talkner & Borkovec, Rev. Mod. Phys. 62, 251 (1990).
    """

    width: Float[Array, ""]
    height: Float[Array, ""] | None

    def __init__(self, width: ArrayLike = 1.0, height: ArrayLike | None = None):
        self.width = checked_leaf(width, "width", low=0.0, open_low=True, remedy=_LENGTH)
        self.height = None if height is None else checked_leaf(height, "height", low=0.0, remedy="It is in kT.")

    def __call__(self, x: Float[Array, ""], control: Float[Array, "..."]) -> Float[Array, ""]:
        height, tilt = (control[0], control[1]) if self.height is None else (self.height.astype(x.dtype), control)
        return height * jnp.square(jnp.square(x / self.width.astype(x.dtype)) - 1) - tilt * x


class CosineWashboard(eqx.Module):
    r"""$U = \tfrac12B(1-\cos2\pi x) - Fx$, control (B, F): barrier and affinity per level [kT]; the memory cell's ladder.

    Example:
        >>> import jax.numpy as jnp
        >>> float(CosineWashboard()(jnp.array(0.5), jnp.array([10.0, 2.0])))
        9.0

    Source: physics.md section 1; Lifson & Jackson, J. Chem. Phys. 36, 2410 (1962).
    """

    def __call__(self, x: Float[Array, ""], control: Float[Array, "2"]) -> Float[Array, ""]:
        # sin² keeps the digits near the minima.
        return control[0] * jnp.square(jnp.sin(jnp.pi * x)) - control[1] * x


class MovingTrap(eqx.Module):
    r"""$U = \tfrac12k\lvert x-\lambda\rvert^2$, control: the centre λ; any number of dimensions.

    Args:
        stiffness: k [kT per unit length²].

    Raises:
        ValueError: if the stiffness is not positive.

    Source: Schmiedl & Seifert, Phys. Rev. Lett. 98, 108301 (2007), case I.
    """

    stiffness: Float[Array, ""]

    def __init__(self, stiffness: ArrayLike = 1.0):
        self.stiffness = checked_leaf(stiffness, "stiffness", low=0.0, open_low=True, remedy="It is in kT per length².")

    def __call__(self, x: Float[Array, "..."], control: Float[Array, "..."]) -> Float[Array, ""]:
        return 0.5 * self.stiffness.astype(x.dtype) * jnp.sum(jnp.square(x - control))


class StiffnessTrap(eqx.Module):
    r"""$U = \tfrac12\lambda x^2$, control: the stiffness λ.

    Source: Schmiedl & Seifert, Phys. Rev. Lett. 98, 108301 (2007), case II.
    """

    def __call__(self, x: Float[Array, "..."], control: Float[Array, ""]) -> Float[Array, ""]:
        return 0.5 * control * jnp.sum(jnp.square(x))


class TrappedDoubleWell(eqx.Module):
    r"""$U = -\ln(e^{-\kappa(x+1)^2/2}+e^{-\kappa(x-1)^2/2}) + \tfrac12k_s(x-\lambda)^2$, control: the trap's centre λ.

    A molecule with two states, pulled over its barrier by a trap.

    Args:
        curvature: κ; the barrier between the wells is about κ/2 - ln 2.
        stiffness: k_s of the trap.

    Raises:
        ValueError: if a number is not positive.

    Source: Engel, Smith & Brenner, Phys. Rev. X 13, 041032 (2023); the defaults are their 10 kT case in units of half the
    distance of the wells, `reference_values.json`.
    """

    curvature: Float[Array, ""]
    stiffness: Float[Array, ""]

    def __init__(self, curvature: ArrayLike = 21.3863, stiffness: ArrayLike = 9.562514941429596):
        remedy = "It is in kT per unit length²."
        self.curvature = checked_leaf(curvature, "curvature", low=0.0, open_low=True, remedy=remedy)
        self.stiffness = checked_leaf(stiffness, "stiffness", low=0.0, open_low=True, remedy=remedy)

    def __call__(self, x: Float[Array, ""], control: Float[Array, ""]) -> Float[Array, ""]:
        kappa, trap = self.curvature.astype(x.dtype), self.stiffness.astype(x.dtype)
        # logaddexp(a, b) of the two wells with the common part taken out: ln(2 cosh κx), written for large |x|.
        softened = jnp.abs(kappa * x) + jnp.log1p(jnp.exp(-2 * jnp.abs(kappa * x)))
        return 0.5 * kappa * (jnp.square(x) + 1) - softened + 0.5 * trap * jnp.square(x - control)


class SwitchedDoubleWell(eqx.Module):
    r"""$U = \tfrac12(x-Sc_1)^2 + c_0c_1(S+\mathrm{sgn}\,c_0)$, $S=\mathrm{sgn}(x-c_0)$, control (c0, c1).

    Two half parabolas that meet at c0 with minima at ±c1, the virtual potential of a cantilever with feedback. The force
    jumps at c0, which a pathwise gradient does not see; for gradients the sign can be softened.

    Args:
        softness: width of $\tanh((x-c_0)/\mathrm{softness})$ in place of the sign; 0 is the potential itself.

    Raises:
        ValueError: if the softness is negative.

    Source: Dago et al., Phys. Rev. Lett. 126, 170601 (2021); Barros et al., arXiv:2409.15050; the erasure problem of
    Whitelam et al., arXiv:2506.15122.
    """

    softness: Float[Array, ""]
    # Static: the sharp potential never traces the division by a softness of 0, whose gradient would be NaN.
    is_soft: bool = eqx.field(static=True)

    def __init__(self, softness: float = 0.0):
        self.softness = checked_leaf(softness, "softness", low=0.0, remedy="0 is the sharp potential.")
        self.is_soft = bool(softness > 0)

    def __call__(self, x: Float[Array, ""], control: Float[Array, "2"]) -> Float[Array, ""]:
        c0, c1 = control[0], control[1]
        side = jnp.tanh((x - c0) / self.softness.astype(x.dtype)) if self.is_soft else jnp.sign(x - c0)
        # (x - S c1)² with S² = 1; a soft S would lower the parabolas inside the switch.
        return 0.5 * (jnp.square(x) + jnp.square(c1)) - side * c1 * (x - c0) + jnp.abs(c0) * c1


def force(
    potential: Callable[[Float[Array, "..."], Float[Array, "..."]], Float[Array, ""]],
    x: Float[Array, "..."],
    control: Float[Array, "..."],
) -> Float[Array, "..."]:
    """-∂U/∂x of any potential.

    Args:
        potential: U(x, control).
        x: position.
        control: control.

    Returns:
        The force [kT per unit length], of the position's shape.
    """
    return -jax.grad(potential)(x, control)
