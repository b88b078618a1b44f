"""Counter-based random words that the compiler fuses with the update that uses them.

A word is a function of (key, leaf, step, element) and of nothing else: no state to carry, no array of bits in memory,
and the same words on one device and on a thousand.

Source: Salmon, Moraes, Dror & Shaw, Parallel random numbers: as easy as 1, 2, 3, SC'11, doi 10.1145/2063384.2063405:
Threefry-2x32; 13 rounds are their fastest setting that passes every BigCrush test, 20 their default.
"""

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, UInt32

# Rotation distances of Threefry-2x32, used in turn, and the parity constant of the third key word.
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
# Keeps the keys of members apart from those of arrays.
_MEMBER = 0x4D454D42
_PARITY = 0x1BD11BDA


def threefry_words(
    key: UInt32[Array, "2"],
    counter0: UInt32[Array, "..."],
    counter1: UInt32[Array, "..."],
    rounds: int = 13,
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """Threefry-2x32: two random words for every pair of counters, by additions, rotations and exclusive ors alone.

    Args:
        key: two words.
        counter0: first counter; an iota here keeps the whole computation in registers.
        counter1: second counter, a scalar or of the same shape.
        rounds: 13 passes BigCrush, 20 has a margin.

    Returns:
        Two arrays of words of the common shape, a bijection of the two counters for every key.

    Cost: about 5 integer operations a round and element; no memory traffic when fused.

    Example:
        >>> import jax.numpy as jnp
        >>> zero = jnp.uint32(0)
        >>> first, second = threefry_words(jnp.zeros(2, jnp.uint32), zero, zero, rounds=20)
        >>> f"{first:08x} {second:08x}"
        '6b200159 99ba4efe'

    Source: Salmon et al., doi 10.1145/2063384.2063405, section 4.2.
    """
    schedule = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(_PARITY))
    x0, x1 = counter0 + schedule[0], counter1 + schedule[1]
    for i in range(rounds):
        distance = _ROTATIONS[i % 8]
        x0 = x0 + x1
        x1 = ((x1 << jnp.uint32(distance)) | (x1 >> jnp.uint32(32 - distance))) ^ x0
        # The paper's key schedule: after every four rounds two key words in turn and the number of the turn.
        if i % 4 == 3:
            turn = i // 4 + 1
            x0 = x0 + schedule[turn % 3]
            x1 = x1 + (schedule[(turn + 1) % 3] + jnp.uint32(turn))
    return x0, x1


def key_words(key: Array) -> UInt32[Array, "2"]:
    """The two words that stand for a JAX random key.

    Args:
        key: `jax.random.key(...)` of any implementation, or a legacy `jax.random.PRNGKey(...)`.

    Returns:
        The key's own data for Threefry; two words drawn from it for other implementations.

    Raises:
        ValueError: if `key` is not one random key.

    Example:
        >>> import jax
        >>> key_words(jax.random.key(7)).tolist()
        [0, 7]
    """
    remedy = "Pass one random key, for example key=jax.random.key(0)."
    if not isinstance(key, jax.Array | np.ndarray):
        raise ValueError(f"key must be a JAX random key, got {key!r}. {remedy}")
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape != ():
            raise ValueError(f"key must be a single JAX random key, got an array of shape {key.shape}. {remedy}")
        if str(jax.random.key_impl(key)) == "threefry2x32":
            return jax.random.key_data(key)
        # The data of other implementations are of another length: four words for `rbg`.
        return jax.random.bits(key, (2,), jnp.uint32)
    # Legacy keys have two words, those of `rbg` four, which JAX reads only where that is the default implementation.
    if key.dtype == jnp.uint32 and key.shape == (2,):
        return jnp.asarray(key)
    if key.dtype == jnp.uint32 and key.shape == (4,):
        with contextlib.suppress(TypeError):
            return jax.random.bits(jnp.asarray(key), (2,), jnp.uint32)
    raise ValueError(f"key must be a JAX random key, got {key!r}. {remedy}")


def step_words(
    key_words: UInt32[Array, "2"], leaf: int, step: Integer[Array, ""], shape: tuple[int, ...]
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """Two independent words for every element of one parameter array at one step.

    The counter of an element is its place in row-major order, computed from its indices, so the words do not depend
    on how the array is laid out over devices.

    Args:
        key_words: from `key_words`.
        leaf: number of the array in the parameter tree; each has a key of its own.
        step: number of the step, may be traced; taken modulo 2^32.
        shape: shape of the array, at most 2^32 elements.

    Returns:
        `(first, second)` of that shape.

    Raises:
        ValueError: if the array has more than 2^32 elements.

    Cost: 13 Threefry rounds per element.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> words = key_words(jax.random.key(0))
        >>> first, second = step_words(words, leaf=0, step=jnp.int32(5), shape=(2, 3))
        >>> first.shape, bool((first == second).any())
        ((2, 3), False)
    """
    if math.prod(shape) > 2**32:
        raise ValueError(f"One array can have at most 2**32 elements, got shape {shape}. Split it into several leaves.")
    # The derived key is a function of the leaf alone, so XLA computes it once; 20 rounds cost nothing here.
    leaf_key = jnp.stack(threefry_words(key_words, jnp.uint32(leaf), jnp.uint32(0), rounds=20))
    return threefry_words(leaf_key, _linear_index(shape), step.astype(jnp.uint32))


def told_apart(key_words: UInt32[Array, "2"], like: Array) -> UInt32[Array, "2"]:
    """The key of one member of an ensemble, or of one shard: the same key, unless something else tells `like` apart.

    Under `jax.vmap` as `member_key`. Under `shard_map`, where `like` varies over mesh axes that the key does not, their indices
    are folded in; what is the same on all shards keeps the key. Elsewhere nothing is done, so that a run draws the same hops
    as always.

    Args:
        key_words: from `key_words`.
        like: the requested updates of the array that hops are drawn for: another array of the same step may vary otherwise.

    Returns:
        Key words.
    """
    # In one order on every host: folding does not commute, and the order of a set of names differs between processes.
    for axis in sorted(axes_of(like) - axes_of(key_words)):
        key_words = folded(key_words, jax.lax.axis_index(axis))
    return member_key(key_words, [like])


def member_key(key_words: UInt32[Array, "2"], arrays: Sequence[Array]) -> UInt32[Array, "2"]:
    """The key of one member of an ensemble: under `jax.vmap` over any of the arrays with one key for all, its number is folded in.

    Args:
        key_words: from `key_words`; a key per member stays as it is.
        arrays: what may differ between members.

    Returns:
        Key words.
    """
    # A custom_vmap has no reverse mode, and a key no derivative.
    return _member_key(key_words, jax.lax.stop_gradient(list(arrays)))


def axes_of(x: Any) -> frozenset:
    """Mesh axes of a surrounding `shard_map` over which a value differs."""
    return jax.typeof(x).manual_axis_type.varying


def over_shards(total: Float[Array, "..."], members: Array | None = None) -> Float[Array, "..."]:
    """The sum over the shards of a surrounding `shard_map` that hold different parts; elsewhere the number itself.

    Under `shard_map(check_vma=False)` and `jax.pmap` arrays do not say over which axes they differ: there it is this shard's own sum.

    Args:
        total: this shard's own sum.
        members: a value that parts of one model share, such as its loss. Axes over which it differs have members of an ensemble, each of
            which is summed over alone.

    Returns:
        The sum over all of them, the same on each, or this shard's own.
    """
    axes = _parts(total, members)
    return jax.lax.psum(total, axes) if axes else total


def shards_of(x: Array, members: Array | None = None) -> int:
    """How many shards hold different parts of an array, as `over_shards` counts them; 1 outside of `shard_map`."""
    axes = _parts(x, members)
    # The psum of Python's 1 is known while tracing: an int that shapes and divisions may use.
    return jax.lax.psum(1, axes) if axes else 1


def _parts(x: Array, members: Array | None) -> tuple:
    """Mesh axes that part an array, and do not part members of an ensemble."""
    return tuple(sorted(axes_of(x) - (frozenset() if members is None else axes_of(members))))


def folded(key_words: UInt32[Array, "2"], number: Integer[Array, ""] | int) -> UInt32[Array, "2"]:
    """Another key made of a key and a number, as `jax.random.fold_in`."""
    counter = jnp.uint32(number) if isinstance(number, int) else number.astype(jnp.uint32)
    return jnp.stack(threefry_words(key_words, counter, jnp.uint32(_MEMBER), rounds=20))


# The identity, but for its batching rule, which is told over which of the arrays `vmap` maps.
@jax.custom_batching.custom_vmap
def _member_key(key_words: UInt32[Array, "2"], arrays: list[Array]) -> UInt32[Array, "2"]:
    del arrays
    return key_words


@_member_key.def_vmap
def _member_key_rule(
    axis_size: int, is_mapped: Sequence[Any], key_words: UInt32[Array, "..."], arrays: list[Array]
) -> tuple[UInt32[Array, "..."], bool]:
    if is_mapped[0]:
        return key_words, True
    if not any(is_mapped[1]):
        return key_words, False
    # Outer maps first: they see this call, and their members' keys are folded once more here.
    key_words = _member_key(key_words, [x[0] if mapped else x for x, mapped in zip(arrays, is_mapped[1])])
    return jax.vmap(folded, (None, 0))(key_words, jnp.arange(axis_size)), True


def _linear_index(shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    # From the index along each axis, not a flat range that is reshaped: every device computes its own part, however
    # the array is split, and the compiler has nothing to store or to send.
    index = jnp.zeros(shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        along = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
        # A stride of 2^32 is that of an axis of size 1, whose index is 0, or of an array without elements.
        index = index + (along if stride == 1 else along * jnp.uint32(stride % 2**32))
        stride *= shape[axis]
    return index
