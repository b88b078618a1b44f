"""The limits in ten lines each: one weight, one training, a gradient through both.

A weight that has to come 256 levels nearer, to within one; the stack of limits for a brain-scale training; and what one
more bit, or a little more time, changes.
"""

import math

import jax

from limjax.limits import approaches, bounds, direct, energy_limits, law, workload_energies

# One weight: energy, speed and precision. The law is 2 ln(L0/LT), cheapest at uT = ln(L0/LT).
ratio = 256.0**2
print(f"256 levels to one: {bounds.convergence(ratio):.2f} kT by the law; by training time in relaxation times uT:")
for contraction in (6.65, 8.3, 11.1, 22.0):
    heat = {a.name: float(approaches.heat(a, 256.0, contraction, 1.1)) for a in approaches.APPROACHES}
    print(f"  uT = {contraction:5.2f}: " + ", ".join(f"{name} {kt:.4g} kT" for name, kt in heat.items()))
print(
    f"  the best curve there is for uT = 8.3: {direct.optimum(256.0, 8.3, 1.1, knots=12, iterations=30).heat_kt:.1f} kT"
)

# With minibatch noise, 2 kT for every gradient averaged; and backwards: how long for 25 kT, how far for 10.
noisy = bounds.convergence(ratio, averaged=100.0)
time, fall = law.contraction_for_heat(ratio, 25.0), law.loss_ratio_for_heat(math.log(100.0), 10.0)
print(
    f"  {noisy:.0f} kT if 100 gradients are averaged; 25 kT need uT = {time:.2f}; 10 kT let the loss fall {fall:.0f} times"
)
try:
    bounds.convergence(ratio, 5.0)
except ValueError as error:
    print(f"  refused: {error}")

# One training, and how the number moves with the convention.
limits = energy_limits(1e15)
head, said = limits.stack.headline, limits.stack.law
print(f"\n1e15 parameters: law {said.convergence_joules:.1e} J for one convergence, {said.write_joules:.0f} J if every")
print(f"  optimizer write is an effective update, {said.flop_joules:.1e} J if every FLOP is one;")
print(f"  reconstruction of the paper {head.lim_low_joules:.1e} to {head.lim_high_joules:.1e} J,")
print(f"  {limits.stack.hardware.name} {head.accelerator_joules:.1e} J")
for other in limits.others:
    print(f"  {other.workload.convention}: Landauer {other.headline.landauer_joules:.2g} J at 8 bits")


# Everything is differentiable: what one more bit and 1 % more time change.
def energy(bits, factor):
    return workload_energies(1e15, bits, factor).convergence


joules, (by_bits, by_factor) = jax.value_and_grad(energy, (0, 1))(8.0, 0.8)
print(
    f"\nOne convergence of 1e15 weights: {joules:.2e} J, {by_bits:+.1e} J a bit, {0.008 * by_factor:+.1e} J for 1 % more time"
)
