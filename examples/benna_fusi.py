"""A synapse of several coupled ladders: memories that fade as one over the root of time (Benna & Fusi, Nature Neuroscience 19, 1697 (2016)).

Their synapse is a chain of beakers of growing size, joined by ever thinner tubes. A beaker is a ladder and its size is a barrier:
springs κ_k between neighbours, E = Σ κ_k (u_k - u_k+1)²/2, tilt every ladder by F = -∂E/∂u, and it moves by its exchange g_k = k0 τ e^-B_k,

    du_k/dt = -g_k ∂E/∂u_k,        size of the beaker C_k = 1/g_k, twice as large for ln 2 more barrier.

With C_k = 2^(k-1) and κ_k = 2^(1-k) what is written into the first ladder sinks down the chain, and what can still be read from
it falls as t^(-1/2) until the last one is reached, where a single ladder of the same speed falls as e^(-t). Nothing drives it: all it
dissipates is the energy of the springs, given in when the memory was written (and a little more, as the tilt is that of a step's start). Hops
scatter a ladder by the thermal spread of its springs, √(1/κ) levels: what is left of the memory is read over many synapses.

The chain is told to `gradient_tilt` as a loss, one barrier for each ladder of a synapse. Beside the hops stands the power of a matrix.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax

import limjax

LADDERS, FIRST_BARRIER = 6, 12.5  # number, kT
SPRING, WRITTEN = 0.02, 30.0  # kT per level², levels


def energy(u: jax.Array) -> jax.Array:
    """Energy of the springs of all synapses, shape (synapses, ladders) [kT]."""
    springs = SPRING * 2.0 ** -jnp.arange(u.shape[1] - 1)
    return 0.5 * jnp.sum(springs * jnp.square(u[:, 1:] - u[:, :-1]))


def simulated(pattern: jax.Array, steps: int, hops: str) -> tuple[np.ndarray, limjax.Ledger, jax.Array]:
    """Overlap of the first ladders with the pattern after each step [levels], the ledger, and where the ladders end."""
    cell = limjax.ArrheniusCell(lsb=1.0)
    barrier = limjax.StaticBarrier(FIRST_BARRIER + np.log(2.0) * np.arange(LADDERS))
    memory = limjax.gradient_tilt(cell, barrier, coupling=1.0, hops=hops, key=jax.random.key(1), track=("heat",))
    start = jnp.zeros((len(pattern), LADDERS)).at[:, 0].set(WRITTEN * pattern)

    @jax.jit
    def run(u, state):
        def step(carry, _):
            u, state = carry
            updates, state = memory.update(jax.grad(energy)(u), state, u)
            u = optax.apply_updates(u, updates)
            return (u, state), jnp.mean(pattern * u[:, 0])

        return jax.lax.scan(step, (u, state), None, length=steps)

    (u, state), overlap = run(start, memory.init(start))
    return np.asarray(overlap), limjax.get_ledger(state), u


def foretold(steps: int) -> np.ndarray:
    """The same overlap from the linear law, by one matrix [levels]."""
    springs = SPRING * 2.0 ** -np.arange(LADDERS - 1)
    stretch = np.diff(np.eye(LADDERS), axis=0)  # of each spring, from where the ladders stand
    exchange = 1e9 * 1e-3 * np.exp(-FIRST_BARRIER) * 2.0 ** -np.arange(LADDERS)
    step = np.eye(LADDERS) - exchange[:, None] * (stretch.T @ (springs[:, None] * stretch))
    u, found = WRITTEN * np.eye(LADDERS)[0], []
    for _ in range(steps):
        u = step @ u
        found.append(u[0])
    return np.asarray(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--synapses", type=int, default=4000)
    parser.add_argument("--figure", help="Draw the overlap to this file.")
    options = parser.parse_args()
    pattern = jnp.where(jax.random.bernoulli(jax.random.key(0), shape=(options.synapses,)), 1.0, -1.0)
    law, (mean, ledger, end) = foretold(options.steps), simulated(pattern, options.steps, "mean")
    hops = simulated(pattern, options.steps, "exact")[0]
    rate = 1e6 * np.exp(-FIRST_BARRIER) * SPRING  # of the first ladder alone, with its far end held
    print("   t    chain: law   mean   hops    one ladder  [levels]")
    times = np.unique(np.geomspace(1, options.steps, 9).astype(int))
    for t in times:
        one = WRITTEN * (1 - rate) ** t
        print(f"{t:5d} {law[t - 1]:12.2f} {mean[t - 1]:6.2f} {hops[t - 1]:6.2f} {one:12.2g}")
    window = slice(round(3 / rate), min(options.steps, round(4.0 ** (LADDERS - 2) / rate)))
    t = np.arange(1, options.steps + 1)[window]
    if len(t) > 1:
        print(f"falls as t^{np.polyfit(np.log(t), np.log(law[window]), 1)[0]:.2f} from step {t[0]} to {t[-1]}")
    heat = np.asarray(ledger.heat.total[0]).reshape(options.synapses, LADDERS).mean(axis=0)
    given = 0.5 * SPRING * WRITTEN**2 - float(energy(end)) / options.synapses
    for k, kt in enumerate(heat):
        print(f"ladder {k + 1}: barrier {FIRST_BARRIER + k * np.log(2):.2f} kT, heat {kt:.4f} kT per synapse")
    print(f"heat {heat.sum():.3f} kT per synapse, the springs lost {given:.3f}")
    if options.figure:
        from limjax.plots._style import ACCENT, OTHER, OWN, figure

        fig, (ax,) = figure(5.6, 3.8)
        t = np.arange(1, options.steps + 1)
        ax.loglog(t, hops, color=OTHER, linewidth=0.8, label="hops")
        ax.loglog(t, law, color=OWN, label=f"chain of {LADDERS} ladders, law")
        ax.loglog(t, WRITTEN * (1 - rate) ** t, "--", color=ACCENT, label="one ladder")
        ax.loglog(t, law[len(t) // 20] * np.sqrt(t[len(t) // 20] / t), ":", color="0.4", label="$t^{-1/2}$")
        ax.set_ylim(0.3, 40)
        ax.set_xlabel("steps")
        ax.set_ylabel("overlap [levels]")
        ax.legend(frameon=False, fontsize=8)
        fig.savefig(options.figure)


if __name__ == "__main__":
    main()
