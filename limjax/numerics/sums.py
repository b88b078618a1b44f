"""Sums that keep what rounding drops."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from limjax.numerics._hosts import whole


class CompensatedSum(NamedTuple):
    """Running sums with the low-order part that rounding would have dropped (Kahan, CACM 8, 40, 1965).

    `total` alone is right to one ulp; `total + residual` in float64 is better still. With `residual` None the sum is a
    plain one: faster, and wrong by about 1 % after 1e7 float32 additions.

    Attributes:
        total: the sums, any pytree of arrays.
        residual: what is still missing from `total`, or None for plain sums.
    """

    total: PyTree
    residual: PyTree | None

    @staticmethod
    def zeros(like: PyTree, compensated: bool = True) -> "CompensatedSum":
        """Sums of zero with the shapes, dtypes and shardings of `like`."""

        def zeros():
            return jax.tree.map(jnp.zeros_like, like)

        return CompensatedSum(zeros(), zeros() if compensated else None)

    def add(self, value: PyTree) -> "CompensatedSum":
        """The sums with `value`, of the same structure, added; the order of the operations is the algorithm."""
        if self.residual is None:
            # A compiled loop carries the sums, so that their dtype may not change.
            return CompensatedSum(jax.tree.map(lambda old, x: old + x.astype(old.dtype), self.total, value), None)
        # What the last addition lost goes in first; `new - old` is what arrived, and the rest is kept. XLA leaves the
        # order of floating-point additions alone, as JAX sets no fast-math flag: else the residual would become 0.
        corrected = jax.tree.map(jnp.add, value, self.residual)
        total = jax.tree.map(jnp.add, self.total, corrected)
        residual = jax.tree.map(lambda new, increment, old: increment - (new - old), total, corrected, self.total)
        return CompensatedSum(total, residual)

    def float64(self) -> PyTree:
        """The sums in NumPy float64, residual included."""
        total = jax.tree.map(lambda x: np.asarray(whole(x), np.float64), self.total)
        if self.residual is None:
            return total
        # Widened before they are added: in float32 the sum would round the residual away again.
        return jax.tree.map(lambda x, r: np.asarray(x + np.asarray(whole(r), np.float64)), total, self.residual)
