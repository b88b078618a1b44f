"""Threefry words: published vectors, statistics with stated false-alarm rates, and independence of the layout."""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st
from jax.extend.random import threefry_2x32

from limjax.numerics.counters import key_words, step_words, threefry_words

# Known answers of the Random123 distribution: rounds, counters, key, words.
KNOWN_ANSWERS = [
    (13, (0, 0), (0, 0), (0x9D1C5EC6, 0x8BD50731)),
    (13, (0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0xFD36D048, 0x2D17272C)),
    (13, (0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xBA3E4725, 0xF27D669E)),
    (20, (0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    (20, (0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
    (20, (0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]

# One shape for all statistics, and the false-alarm rate of every single test.
DRAWS = 1 << 17
FALSE_ALARM = 1e-7

draw = jax.jit(step_words, static_argnums=(1, 3))


def _words(seed=0, leaf=0, step=0, shape=(DRAWS,)):
    return [np.asarray(w) for w in draw(key_words(jax.random.key(seed)), leaf, jnp.int32(step), shape)]


@pytest.mark.parametrize(("rounds", "counter", "key", "words"), KNOWN_ANSWERS)
def test_known_answers(rounds, counter, key, words):
    got = threefry_words(jnp.array(key, jnp.uint32), jnp.uint32(counter[0]), jnp.uint32(counter[1]), rounds)
    assert tuple(int(w) for w in got) == words


def test_twenty_rounds_agree_with_jax():
    key = jnp.array([0x12345678, 0x9ABCDEF0], jnp.uint32)
    count = jax.random.bits(jax.random.key(0), (2000,), jnp.uint32)
    ours = jnp.concatenate(threefry_words(key, count[:1000], count[1000:], rounds=20))
    np.testing.assert_array_equal(ours, threefry_2x32(key, count))


def test_words_are_uniform():
    for word in _words():
        for shift in (0, 8, 16, 24):
            counts = np.bincount((word >> np.uint32(shift)) & np.uint32(0xFF), minlength=256)
            assert st.chisquare(counts).pvalue > FALSE_ALARM


def _assert_independent(a, b):
    """No bit of one word follows a bit of the other (1024 correlations), nor their leading bits jointly."""
    bits = [np.unpackbits(w.view(np.uint8).reshape(-1, 4), axis=1).astype(np.float32) * 2 - 1 for w in (a, b)]
    correlation = bits[0].T @ bits[1] / np.sqrt(len(a))
    assert np.abs(correlation).max() < st.norm.isf(FALSE_ALARM / 2 / correlation.size)
    cells = ((a >> np.uint32(28)) << np.uint32(4)) | (b >> np.uint32(28))
    assert st.chisquare(np.bincount(cells, minlength=256)).pvalue > FALSE_ALARM
    assert (a == b).sum() < st.poisson.isf(FALSE_ALARM, len(a) / 2.0**32) + 1


def test_words_are_independent():
    first, second = _words()
    _assert_independent(first, second)
    _assert_independent(first[:-1], first[1:])
    _assert_independent(first[:-1024], first[1024:])


@pytest.mark.representatives(2)
@pytest.mark.parametrize(
    "other", [{"step": 1}, {"leaf": 1}, {"seed": 1}, {"step": -1}, {"leaf": 1, "step": 1}], ids=str
)
def test_words_of_other_steps_leaves_and_seeds_are_independent(other):
    (first, second), other = _words(), _words(**other)
    _assert_independent(first, other[0])
    _assert_independent(second, other[0])
    _assert_independent(second, other[1])


def test_steps_of_one_element_are_uniform_and_serially_independent():
    words = key_words(jax.random.key(9))
    steps = jnp.arange(DRAWS, dtype=jnp.int32)
    first, second = jax.jit(jax.vmap(lambda s: step_words(words, 2, s, ())))(steps)
    first, second = np.asarray(first), np.asarray(second)
    assert st.chisquare(np.bincount(first >> np.uint32(24), minlength=256)).pvalue > FALSE_ALARM
    _assert_independent(first[:-1], first[1:])
    _assert_independent(first, second)


def test_words_depend_on_the_row_major_index_only():
    flat = _words(shape=(24,))
    for shape in ((24,), (4, 6), (2, 3, 4), (24, 1)):
        for a, b in zip(_words(shape=shape), flat):
            assert a.shape == shape
            np.testing.assert_array_equal(a.ravel(), b)
    assert _words(shape=())[0] == flat[0][0]
    assert _words(shape=(0, 3))[0].shape == (0, 3)


def test_same_words_under_jit_and_vmap():
    keys = jax.random.split(jax.random.key(3), 5)
    words = jnp.stack([key_words(k) for k in keys])
    shape = (7, 11)
    plain = [draw(w, 4, jnp.int32(9), shape) for w in words]
    mapped = jax.jit(jax.vmap(lambda k, s: step_words(k, 4, s, shape), (0, None)))(words, jnp.int32(9))
    for i in range(5):
        for j in range(2):
            np.testing.assert_array_equal(mapped[j][i], plain[i][j])
    unsigned = draw(words[0], 4, jnp.uint32(9), shape)
    np.testing.assert_array_equal(unsigned[0], plain[0][0])


def test_same_words_on_eight_devices():
    """In a process of its own, with eight host devices; every word of one device and of eight is compared."""
    script = """
        import jax, jax.numpy as jnp, numpy as np
        from jax.sharding import Mesh, NamedSharding, PartitionSpec
        from limjax.physics._hops import exact_hops
        from limjax.numerics.counters import key_words, step_words

        assert jax.device_count() == 8
        mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("x", "y"))
        sharding = NamedSharding(mesh, PartitionSpec("x", "y"))
        words, shape = key_words(jax.random.key(0)), (16, 6)
        draw = lambda: step_words(words, 1, jnp.int32(5), shape)
        alone = jax.jit(draw)()
        shared = jax.jit(draw, out_shardings=(sharding, sharding))()
        for a, b in zip(alone, shared):
            assert len(b.sharding.device_set) == 8
            np.testing.assert_array_equal(a, b)
        rate = jnp.geomspace(1e-3, 1e3, 96).reshape(shape)
        move = jax.jit(lambda r: exact_hops(*draw(), r, r))
        split = move.lower(jax.device_put(rate, sharding)).compile()
        assert not any(op in split.as_text() for op in ("all-gather", "all-reduce", "all-to-all", "collective-permute"))
        moved = split(jax.device_put(rate, sharding))
        assert len(moved.sharding.device_set) == 8
        np.testing.assert_array_equal(moved, move(rate))
        print("same")
    """
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and done.stdout.strip() == "same", done.stderr


def test_key_words_of_every_kind_of_key():
    np.testing.assert_array_equal(key_words(jax.random.key(5)), [0, 5])
    np.testing.assert_array_equal(key_words(jax.random.PRNGKey(5)), [0, 5])
    for implementation in ("rbg", "unsafe_rbg"):
        first, again, other = (key_words(jax.random.key(s, impl=implementation)) for s in (5, 5, 6))
        assert first.shape == (2,) and first.dtype == jnp.uint32
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()
    jitted = jax.jit(key_words)(jax.random.key(5))
    np.testing.assert_array_equal(jitted, [0, 5])


@pytest.mark.parametrize(
    "wrong", [0, 17, None, "seed", np.arange(2), jnp.arange(3), np.uint32(3), np.zeros(4, np.uint32)]
)
def test_what_is_not_a_key_is_refused(wrong):
    key_words_unchecked = getattr(key_words, "__wrapped__", key_words)
    with pytest.raises(ValueError, match=r"key must be .*jax\.random\.key\(0\)"):
        key_words_unchecked(wrong)


def test_an_array_of_keys_is_refused():
    with pytest.raises(ValueError, match=r"single JAX random key, got an array of shape \(4,\)"):
        key_words(jax.random.split(jax.random.key(0), 4))


@pytest.mark.parametrize("shape", [(1, 2**32), (2**32, 1), (1, 2**16, 1, 2**16)], ids=str)
def test_the_largest_arrays_have_words(shape):
    for words in jax.eval_shape(lambda: step_words(jnp.zeros(2, jnp.uint32), 0, jnp.int32(0), shape)):
        assert words.shape == shape


def test_arrays_beyond_the_counter_are_refused():
    with pytest.raises(ValueError, match="Split it"):
        step_words(jnp.zeros(2, jnp.uint32), 0, jnp.int32(0), (2**17, 2**16))
