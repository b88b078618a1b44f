"""Two tasks in your own loop: the first is consolidated by raising barriers before the second, and then left alone for a day.

python examples/consolidate.py --steps 200
"""

import argparse

import jax
import jax.numpy as jnp
import optax

import limjax
from limjax.consolidation import split_digits


def network(params, image):
    """Logits of one hidden layer."""
    return jax.nn.relu(image @ params["hidden"]) @ params["out"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    sequence = split_digits("domain")
    cell = limjax.ArrheniusCell(max_affinity=6.0)
    keys = jax.random.split(jax.random.key(0), 3)
    start = {
        "hidden": 0.18 * jax.random.normal(keys[0], (64, 32)),
        "out": 0.18 * jax.random.normal(keys[1], (32, 2)),
    }

    def loss_of(params, image, label):
        return optax.softmax_cross_entropy_with_integer_labels(network(params, image), label).mean()

    def accuracy(params, task):
        right = jnp.argmax(network(params, sequence.test[task].image), axis=1) == sequence.test[task].label
        return float(right.mean())

    barriers = {
        "static": limjax.StaticBarrier(16.0),
        "consolidating": limjax.ConsolidatingBarrier(16.0, limjax.FisherRule(strength=50.0)),
    }
    for name, barrier in barriers.items():
        optimizer = limjax.learning_in_memory(optax.adam(1e-3), cell, barrier, hops="exact", key=keys[2], compare=())
        params = limjax.snap(start, cell)
        state = optimizer.init(params)

        @jax.jit
        def step(params, state, image, label, optimizer=optimizer):
            loss, gradient = jax.value_and_grad(loss_of)(params, image, label)
            updates, state = optimizer.update(gradient, state, params, value=loss)
            return optax.apply_updates(params, updates), state

        for task in (0, 1):
            part = sequence.train[task]
            for _ in range(steps):
                params, state = step(params, state, part.image, part.label)
            state = limjax.consolidate(state, params)
        print(f"{name}: first task {accuracy(params, 0):.3f}, second {accuracy(params, 1):.3f}")
    ledger = limjax.get_ledger(state)
    weights = sum(leaf.size for leaf in jax.tree.leaves(params))
    print(f"barrier work {limjax.total(ledger, 'actuation') / weights:.3f} kT per weight")
    for seconds in (1.0, 100.0):
        left = limjax.retain(params, state, seconds, key=jax.random.key(1))
        print(f"after {seconds:g} s alone: first task {accuracy(left, 0):.3f}")
    day = limjax.holding(cell, 16.0, 4.0, 86400.0)
    print(
        f"a day within 2 levels: raised barrier {day.actuation_kt:.2f} kT, refresh {day.refresh_kt:.1e} kT per weight"
    )


if __name__ == "__main__":
    main()
