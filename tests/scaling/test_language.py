"""Language models of any size: counts, causality, positions, one step of one size at all widths; the text and its cache."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limjax.tasks import _text as text_module
from limjax.tasks import get_task, language, task_names
from limjax.tasks._language import Shape, _rotated, apply_language, init_language, size_text, steps_for
from limjax.tasks._text import Text, cache_folder, python_source, read_cached, write_cached
from limjax.training._loop import batch_at

SMALL = Shape(8, 2, 8, 16)


@pytest.mark.parametrize("size", [3e3, 1e4, 3e4, 1e5, 3e5, 1e6, 1e7, 1e8])
@pytest.mark.parametrize("tied", [True, False])
def test_counts_are_those_of_the_parameters(size, tied):
    shape = Shape.of(size, tied)
    params = jax.eval_shape(lambda key: init_language(key, shape), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == shape.parameters
    assert shape.width % shape.head == 0 and shape.head % 2 == 0
    if size >= 1e4 and tied:
        assert abs(shape.parameters / size - 1) < 0.11
    # No neighbour, one head wider or narrower, is nearer.
    for other in (shape.width - shape.head, shape.width + shape.head):
        if other > 0:
            assert abs(shape._replace(width=other).parameters - size) >= abs(shape.parameters - size)


def test_names_and_settings():
    named = [name for name in task_names() if name.startswith("language-")]
    assert named == [f"language-{size}" for size in ("10k", "30k", "100k", "300k", "1m", "10m", "100m")]
    task = get_task("language-10k")
    assert task.name == "language-10k" == f"language-{size_text(1e4)}"
    assert task.defaults.steps == steps_for(Shape.of(1e4), 20.0, 8) == round(20 * 10_320 / 512)
    for wrong in (10.0, 0.0, -1e4, float("nan")):
        with pytest.raises(ValueError, match="parameters must be a positive number"):
            Shape.of(wrong)


@pytest.mark.slow
def test_a_prediction_sees_what_was_before_it_and_nothing_after():
    params = init_language(jax.random.key(0), SMALL)
    text = jax.random.randint(jax.random.key(1), (1, 16), 0, 256)
    apply = jax.jit(lambda t: apply_language(params, t, SMALL))
    logits, changed = apply(text), apply(text.at[0, 9].set((text[0, 9] + 1) % 256))
    assert logits.shape == (1, 16, 256) and logits.dtype == jnp.float32
    assert np.array_equal(logits[0, :9], changed[0, :9])
    assert np.abs(np.asarray(logits - changed))[0, 9:].max(axis=1).min() > 0


def test_rotary_positions_make_scores_depend_on_distance_alone():
    query, key = jax.random.normal(jax.random.key(2), (2, 8), jnp.float32)
    q, k = (np.asarray(_rotated(jnp.broadcast_to(x, (1, 12, 1, 8))))[0, :, 0] for x in (query, key))
    scores = q @ k.T
    for distance in range(-11, 12):
        assert np.ptp(np.diagonal(scores, distance)) < 1e-5
    assert scores[0, 0] == pytest.approx(float(query @ key), abs=1e-5)
    assert np.ptp(scores[:, 0]) > 0.1


@pytest.mark.slow
def test_a_step_of_one_size_wins_as_much_at_all_widths():
    """The fall of the loss by a step of one size against the gradient's sign, as Adam's first, which muP keeps from width to width."""
    text = jax.random.randint(jax.random.key(3), (4, 17), 0, 256)
    falls = []
    for width in (16, 64):
        shape = Shape(width, 2, 8, 16)

        @jax.jit
        def fall(params, shape=shape):
            def loss(params):
                logits = apply_language(params, text[:, :-1], shape)
                return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), text[:, 1:, None], axis=-1))

            value, gradient = jax.value_and_grad(loss)(params)
            return value - loss(jax.tree.map(lambda p, g: p - 1e-3 * jnp.sign(g), params, gradient))

        falls.append(np.mean([float(fall(init_language(jax.random.key(seed), shape))) for seed in range(4)]))
    # In the usual parameters a network four times wider wins four times as much.
    assert falls[1] == pytest.approx(falls[0], rel=0.15)


@pytest.mark.slow
def test_bfloat16_is_float32_to_its_precision():
    params = init_language(jax.random.key(0), SMALL)
    text = jax.random.randint(jax.random.key(1), (2, 16), 0, 256)
    exact, rough = (np.asarray(apply_language(params, text, SMALL, kind)) for kind in ("float32", "bfloat16"))
    # Eight bits of precision in a dozen products: half a percent of each, more where they cancel.
    assert 0 < np.abs(rough - exact).max() < 0.05 * np.abs(exact).max()


def test_batches_are_windows_of_the_text_drawn_by_seed_and_step():
    task, text = language(4e3), python_source()
    windows = task.train["text"]
    assert windows.dtype == np.uint8 and np.shares_memory(windows, text.train)
    assert np.array_equal(windows[3], text.train[3 * 64 : 4 * 64 + 1])
    key = jax.random.key(5)
    data = {"text": jnp.asarray(windows[:1000])}
    first, again, other = (batch_at(data, step, key, 8)["text"] for step in (7, 7, 8))
    assert first.shape == (8, 65) and np.array_equal(first, again) and not np.array_equal(first, other)
    assert {bytes(row) for row in np.asarray(first)} <= {bytes(row) for row in windows[:1000]}


# The text


def test_text_is_of_whole_files_and_its_parts_share_none():
    text = python_source()
    assert text.train.size + text.test.size > 5_000_000 and text.files > 300
    assert 0.01 < text.test.size / text.train.size < 0.2
    assert isinstance(text.train, np.memmap) or text.train.flags.owndata is False
    heads = {bytes(text.test[i : i + 200]) for i in range(0, text.test.size - 200, 5000)}
    whole = text.train.tobytes()
    assert sum(head in whole for head in heads) < 0.05 * len(heads)  # licence texts occur in many files


def small_text():
    train, test = np.arange(100, dtype=np.uint8), np.arange(7, dtype=np.uint8)
    return Text(train, test, 3, text_module._digest(train, test))


def test_a_cached_text_comes_back_mapped_and_a_damaged_one_does_not(tmp_path):
    path, text = tmp_path / "deep" / "text.bin", small_text()
    assert read_cached(path) is None
    write_cached(text, path)
    found = read_cached(path)
    assert found is not None and found.files == 3 and found.sha256 == text.sha256
    assert isinstance(found.train, np.memmap) and not found.train.flags.writeable
    assert np.array_equal(found.train, text.train) and np.array_equal(found.test, text.test)
    assert [file.name for file in path.parent.iterdir()] == ["text.bin"]
    good = path.read_bytes()
    for wrong in (good[:-1], good[:500], b"[" + good[1:], good[:-1] + b"\xff", b""):
        path.write_bytes(wrong)
        assert read_cached(path) is None
    # The checksum does not tell where the parts meet.
    header = json.loads(good[:1024])
    for changed in ({"train": 1.5}, {"train": "7"}, {"train": -7}, {"train": 0}, {"train": 107}, {"files": None}):
        path.write_bytes(json.dumps(header | changed).encode().ljust(1024) + good[1024:])
        assert read_cached(path) is None, changed


def test_where_the_cache_is_and_what_happens_without_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "limjax"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert cache_folder().name == "limjax" and cache_folder().parent.name == ".cache"
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    text = small_text()
    assert text_module._kept(text, blocked / "limjax" / "text.bin") is text
    assert text_module._kept(text, tmp_path / "limjax" / "text.bin") is not text


def test_a_python_without_source_is_refused(tmp_path):
    (tmp_path / "one.py").write_text("x = 1\n")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "two.py").write_text("x = 2\n")
    names = [name for name, _ in text_module._source_files(tmp_path)]
    assert names == ["one.py"]
    with pytest.raises(ValueError, match="holds only"):
        text_module._assembled(tmp_path, names)
