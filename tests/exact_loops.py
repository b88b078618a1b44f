"""An open memory with exact hops around any optimizer, and its ledger."""

import jax

import limjax

CELL = limjax.ArrheniusCell()
OPEN = limjax.StaticBarrier(8.0)


def exact(inner, barrier=OPEN, **options):
    return limjax.learning_in_memory(inner, CELL, barrier, hops="exact", key=jax.random.key(3), **options)


def ledger_of(state):
    return limjax.get_ledger(state)
