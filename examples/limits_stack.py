"""The limits in ten lines each: one weight, one training, a gradient through both.

A weight that has to move 256 levels and end within one level; the stack of bounds for a brain-scale training; and what one
more bit, or a little more time, changes.
"""

import jax

from limjax.limits import bounds, energy_limits, workload_energies

# One weight: energy, speed and precision.
print("256 levels to a variance of one level², in aT convergence times:")
for contraction in (5.6, 6.65, 8.3, 11.1):
    heat = {name: float(bounds.approach_heat(name, 256.0, contraction, 1.0)) for name in bounds.APPROACHES}
    print(f"  aT = {contraction:5.2f}: " + ", ".join(f"{name} {kt:.3g} kT" for name, kt in heat.items()))

# Backwards: how long for a tenth of a kT, how precise for ten.
time = bounds.contraction_for_heat("lyapunov", 256.0, 1.0, 0.1)
variance = bounds.variance_for_heat("constant", 256.0, 6.65, 1000.0)
print(f"  0.1 kT needs aT = {time:.2f}; 1000 kT buy a constant barrier a variance of {variance:.3g} levels²")
try:
    bounds.lyapunov_heat(256.0, 5.0, 1.0)
except ValueError as error:
    print(f"  refused: {error}")

# One training, and how the number moves with the convention.
limits = energy_limits(1e15)
head = limits.stack.headline
print(f"\n1e15 parameters: LIM {head.lim_low_joules:.1e} to {head.lim_high_joules:.1e} J (reconstruction),")
print(
    f"  {limits.stack.hardware.name} {head.accelerator_joules:.1e} J, {head.orders_below_accelerator:.1f} orders apart"
)
for other in limits.others:
    print(f"  {other.workload.convention}: Landauer {other.headline.landauer_joules:.2g} J at 8 bits")


# Everything is differentiable: what one more bit and 1 % more time change.
def energy(bits, factor):
    return workload_energies(1e15, bits, factor).lyapunov


joules, (by_bits, by_factor) = jax.value_and_grad(energy, (0, 1))(8.0, 1.2)
print(
    f"\nOne convergence of 1e15 weights: {joules:.2e} J, {by_bits:+.1e} J a bit, {0.012 * by_factor:+.1e} J for 1 % more time"
)
