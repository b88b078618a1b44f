"""Constants and the conversion between kT, joules and electronvolts.

Inside the library every energy is in kT: 1 kT at 300 K is 4.14e-21 J, which is zero in float16 and whose square is
zero in float32. Joules appear only where a number leaves the library, and there in Python floats (float64).
"""

import math

from limjax.numerics._guards import finite
from limjax.numerics.checks import finite_number, positive_number

BOLTZMANN_J_PER_K = 1.380649e-23
"""Boltzmann constant [J/K], exact in the SI of 2019."""

ELEMENTARY_CHARGE_C = 1.602176634e-19
"""Elementary charge [C], exact in the SI of 2019."""

YEAR_S = 365.25 * 86400.0
"""Julian year [s]."""

LN2 = math.log(2.0)
"""Landauer's minimum for one bit [kT]."""


def thermal_energy_joules(temperature: float) -> float:
    """One kT in joules.

    Args:
        temperature: temperature [K], positive and finite.

    Returns:
        k_B T [J].

    Raises:
        ValueError: if the temperature is not positive and finite.

    Example:
        >>> f"{thermal_energy_joules(300.0):.6e}"
        '4.141947e-21'
    """
    return BOLTZMANN_J_PER_K * positive_number(
        temperature, "temperature", "It is in kelvin; room temperature is 300.0."
    )


@finite
def kt_to_joules(energy_kt: float, temperature: float) -> float:
    """Energy in kT to joules.

    Args:
        energy_kt: energy [kT].
        temperature: temperature [K].

    Returns:
        Energy [J].

    Raises:
        ValueError: if the energy is not finite, or the temperature not positive and finite.

    Example:
        >>> f"{kt_to_joules(LN2, 300.0):.6e}"
        '2.870979e-21'
    """
    return finite_number(energy_kt, "energy_kt") * thermal_energy_joules(temperature)


@finite
def kt_to_electronvolts(energy_kt: float, temperature: float) -> float:
    """Energy in kT to electronvolts.

    Args:
        energy_kt: energy [kT].
        temperature: temperature [K].

    Returns:
        Energy [eV].

    Raises:
        ValueError: if the energy is not finite, or the temperature not positive and finite.

    Example:
        >>> f"{kt_to_electronvolts(LN2, 300.0):.6f}"
        '0.017919'
    """
    return kt_to_joules(energy_kt, temperature) / ELEMENTARY_CHARGE_C
