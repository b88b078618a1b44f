"""The built-in tasks: shapes, splits, gradients, causality, determinism, errors."""

import dataclasses
import pathlib
import subprocess
import sys
import urllib.error

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from unchecked import unchecked_types

from limjax.tasks import (
    Task,
    TaskDefaults,
    char_transformer,
    diabetes_regression,
    digits_cnn,
    digits_mlp,
    get_task,
    mnist_cnn,
    quadratic,
    task_names,
)
from limjax.tasks import char_transformer as char_transformer_function
from limjax.tasks._char_transformer import VOCABULARY, apply_transformer, init_transformer
from limjax.tasks.data import shipped
from limjax.training._loop import batch_at

LOCAL = ("digits-mlp", "digits-cnn", "char-transformer", "diabetes-regression", "quadratic")
COUNTS = {
    "digits-mlp": 8_970,
    "digits-cnn": 6_090,
    "char-transformer": 116_385,
    "diabetes-regression": 385,
    "quadratic": 4_096,
}
SIZES = {"digits-mlp": (1437, 360), "digits-cnn": (1437, 360), "diabetes-regression": (353, 89)}


@pytest.fixture(scope="module")
def tasks():
    return {name: get_task(name) for name in LOCAL}


def rows(data):
    """Each example as bytes."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(data)]
    return [b"".join(leaf[i].tobytes() for leaf in leaves) for i in range(len(leaves[0]))]


def line(**changes):
    x = np.linspace(-1, 1, 32, dtype=np.float32)
    arguments = {
        "name": "line",
        "init": lambda key: {"slope": jax.random.normal(key, (), jnp.float32)},
        "loss": lambda params, batch: jnp.mean((params["slope"] * batch["x"] - batch["y"]) ** 2),
        "train": {"x": x, "y": 2 * x},
    }
    return Task(**(arguments | changes))


def unchecked(right, changes):
    """Validates a changed copy as users without a run-time type checker would."""
    wrong = object.__new__(type(right))
    vars(wrong).update({field.name: getattr(right, field.name) for field in dataclasses.fields(right)} | changes)
    wrong.__post_init__()


def sample(task, key, size):
    """A batch as training draws it."""
    return batch_at(jax.tree.map(jnp.asarray, task.train), 0, key, size)


def fake_openml(monkeypatch, function):
    import sklearn.datasets

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", function)


@pytest.mark.representatives(1)
@pytest.mark.parametrize("name", LOCAL)
def test_parameters_loss_and_gradient(tasks, name):
    task = tasks[name]
    assert task.name == name
    params = task.init(jax.random.key(0))
    leaves = jax.tree.leaves(params)
    assert all(isinstance(leaf, jax.Array) and leaf.dtype == jnp.float32 for leaf in leaves)
    assert sum(leaf.size for leaf in leaves) == COUNTS[name]
    batch = sample(task, jax.random.key(1), min(8, task.train_size))
    if name == "char-transformer":
        # Compiling this one takes long: its values and gradients are checked on a smaller one below.
        assert jax.eval_shape(task.loss, params, batch) == jax.ShapeDtypeStruct((), jnp.float32)
        assert jax.eval_shape(task.accuracy, params, batch) == jax.ShapeDtypeStruct((), jnp.float32)
        return

    @jax.jit
    def evaluate(params, batch):
        accuracy = None if task.accuracy is None else task.accuracy(params, batch)
        return *jax.value_and_grad(task.loss)(params, batch), accuracy

    loss, gradient, accuracy = evaluate(params, batch)
    assert loss.shape == () and loss.dtype == jnp.float32 and jnp.isfinite(loss)
    assert jax.tree.structure(gradient) == jax.tree.structure(params)
    for leaf, start in zip(jax.tree.leaves(gradient), leaves, strict=True):
        assert leaf.shape == start.shape and leaf.dtype == jnp.float32
        assert jnp.all(jnp.isfinite(leaf)) and jnp.any(leaf != 0)
    if accuracy is not None:
        assert accuracy.shape == () and accuracy.dtype == jnp.float32 and 0 <= accuracy <= 1


def test_paths_are_readable(tasks):
    params = tasks["digits-mlp"].init(jax.random.key(0))
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(params)]
    assert paths == [f"layer{i}/{kind}" for i in (1, 2, 3) for kind in ("bias", "weight")]
    assert params["layer1"]["weight"].shape == (64, 64)


@pytest.mark.parametrize("name", LOCAL)
def test_the_same_key_gives_the_same_start_and_another_key_another(tasks, name):
    first, again, other = (jax.tree.leaves(tasks[name].init(jax.random.key(seed))) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    if name != "quadratic":
        assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("name", ["digits-mlp", "char-transformer", "diabetes-regression"])
def test_data_are_the_same_at_every_call_and_the_parts_share_no_example(tasks, name):
    task, again = tasks[name], get_task(name)
    for part in ("train", "test"):
        pairs = zip(jax.tree.leaves(getattr(task, part)), jax.tree.leaves(getattr(again, part)), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)
    train, test = rows(task.train), rows(task.test)
    # Source text repeats itself (the same short function stands in two modules), so a few of its windows do too.
    allowed = 0.005 * len(test) if name == "char-transformer" else 0
    assert len(set(train) & set(test)) <= allowed
    assert (len(train), len(test)) == SIZES.get(name, (len(train), len(test)))


def test_digits_are_scaled_and_stratified(tasks):
    train, test = tasks["digits-mlp"].train, tasks["digits-mlp"].test
    images = np.concatenate([train["image"], test["image"]])
    assert images.dtype == np.float32 and images.min() == 0 and images.max() == 1
    # 1,797 images of ten classes: a stratified fifth differs from the exact share by less than one image per class.
    share = np.bincount(train["label"]) + np.bincount(test["label"])
    assert np.all(np.abs(np.bincount(test["label"]) - 0.2 * share) < 1)


def test_diabetes_is_standardised_by_the_training_part(tasks):
    train = tasks["diabetes-regression"].train
    for values in (train["x"], train["y"]):
        np.testing.assert_allclose(values.mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(values.std(0), 1, rtol=1e-5)


@pytest.mark.optax
@pytest.mark.parametrize("name", ["digits-mlp", "diabetes-regression", "quadratic"])
def test_a_short_training_lowers_the_loss(tasks, name):
    task, steps = tasks[name], 60
    optimizer = task.defaults.make_optimizer(task.defaults.make_schedule(task.defaults.learning_rate, steps))
    batch_size = min(32, task.train_size)

    @jax.jit
    def train(params, data_key):
        def step(carry, key):
            params, state = carry
            loss, gradient = jax.value_and_grad(task.loss)(params, sample(task, key, batch_size))
            updates, state = optimizer.update(gradient, state, params)
            return (jax.tree.map(jnp.add, params, updates), state), loss

        return jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(data_key, steps))[1]

    losses = train(task.init(jax.random.key(0)), jax.random.key(1))
    assert jnp.mean(losses[-10:]) < 0.95 * jnp.mean(losses[:5])
    assert np.array_equal(losses, train(task.init(jax.random.key(0)), jax.random.key(1)))


@pytest.mark.slow
@pytest.mark.optax
def test_a_transformer_step_lowers_its_loss():
    task = char_transformer(width=16, layers=1, heads=2, context=16)
    params, batch = task.init(jax.random.key(0)), sample(task, jax.random.key(1), 32)
    value_and_gradient = jax.jit(jax.value_and_grad(task.loss))
    start, gradient = value_and_gradient(params, batch)
    # Untrained logits are near zero, so the loss is near that of a uniform guess.
    assert abs(float(start) - np.log(VOCABULARY)) < 1
    assert all(jnp.all(jnp.isfinite(g)) and jnp.any(g != 0) for g in jax.tree.leaves(gradient))
    for _ in range(5):
        params = jax.tree.map(lambda p, g: p - 0.05 * g, params, gradient)
        loss, gradient = value_and_gradient(params, batch)
    assert loss < start


@pytest.mark.slow
def test_transformer_is_causal():
    params = init_transformer(jax.random.key(0), 16, 2, 12)
    tokens = jax.random.randint(jax.random.key(1), (3, 12), 0, VOCABULARY, jnp.int32)
    apply = jax.jit(lambda tokens: apply_transformer(params, tokens, 2, 4))
    logits = apply(tokens)
    assert logits.shape == (3, 12, VOCABULARY)
    for position in range(12):
        changed = tokens.at[:, position].set((tokens[:, position] + 1) % VOCABULARY)
        new = apply(changed)
        np.testing.assert_array_equal(new[:, :position], logits[:, :position])
        assert jnp.all(jnp.any(new[:, position] != logits[:, position], axis=-1))


def test_text_is_kept_small_and_in_the_vocabulary(tasks):
    for part in (tasks["char-transformer"].train, tasks["char-transformer"].test):
        assert part["text"].dtype == np.uint8 and part["text"].shape[1] == 65
        assert part["text"].max() < VOCABULARY
        # Each window begins with the character the one before ends with: every character is predicted once.
        np.testing.assert_array_equal(part["text"][1:, 0], part["text"][:-1, -1])


def test_missing_source_text_is_said_plainly(monkeypatch, tmp_path):
    module = sys.modules[char_transformer_function.__module__]
    monkeypatch.setattr(module.sysconfig, "get_path", lambda name: str(tmp_path))
    module._text.cache_clear()
    with pytest.raises(ValueError, match=r"lacks .* modules as source: argparse\.py.*ships its \.py files"):
        char_transformer()


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_quadratic_contracts_by_the_rate(rate):
    task = quadratic(cells=8, start_levels=64.0, lsb=2**-8, rate=rate)
    params = task.init(jax.random.key(0))
    np.testing.assert_array_equal(params["w"], np.full(8, 64 * 2**-8, np.float32))
    np.testing.assert_allclose(task.loss(params, None), 0.5 * rate * 8 * 64.0**2, rtol=1e-6)
    eta, lsb = 0.01, 2**-8
    moved = params["w"] - eta * lsb**2 * jax.grad(task.loss)(params, None)["w"]
    np.testing.assert_allclose(moved / params["w"], 1 - rate * eta, rtol=1e-6)
    defaults = task.defaults
    np.testing.assert_allclose(rate * defaults.learning_rate / lsb**2 * defaults.steps, 4.0, rtol=1e-12)
    assert task.train is None and sample(task, jax.random.key(0), 1) is None


def test_batches_are_drawn_with_replacement_and_by_key():
    task = line()
    batch = sample(task, jax.random.key(0), 32)
    np.testing.assert_array_equal(batch["y"], 2 * batch["x"])
    assert set(np.asarray(batch["x"])) <= set(task.train["x"])
    # 32 draws of 32 without a repetition have probability 32!/32^32 = 2e-13.
    assert len(set(np.asarray(batch["x"]))) < 32
    again = sample(task, jax.random.key(0), 32)
    np.testing.assert_array_equal(batch["x"], again["x"])
    assert not np.array_equal(batch["x"], sample(task, jax.random.key(1), 32)["x"])


def test_data_are_those_that_their_maker_makes(tmp_path):
    """From scikit-learn's copies, by the script that made the files of the package."""
    example = pathlib.Path(__file__).parents[1] / "examples" / "make_data.py"
    subprocess.run([sys.executable, example, "--out", tmp_path], check=True, timeout=120, capture_output=True)
    for name in ("digits", "diabetes"):
        made = np.load(tmp_path / f"{name}.npz")
        train, test = shipped(name)
        kept = {f"train_{k}": v for k, v in train.items()} | {f"test_{k}": v for k, v in test.items()}
        assert set(made) == set(kept)
        for key, value in kept.items():
            np.testing.assert_array_equal(made[key], value)


def test_mnist_without_scikit_learn_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ValueError, match=r'pip install "limjax\[mnist\]"'):
        mnist_cnn()


def test_mnist_offline_is_one_clear_error(monkeypatch):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    fake_openml(monkeypatch, offline)
    with pytest.raises(
        ValueError, match=r"no route to host.*with a connection.*SCIKIT_LEARN_DATA.*digits-cnn"
    ) as caught:
        mnist_cnn()
    assert "\n" not in str(caught.value)


def test_mnist_online_is_scaled_and_split(monkeypatch):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (70, 784)).astype(np.float64)
    names = []

    def fetch(name, **kwargs):
        names.append(name)
        return pixels, np.array([str(i % 10) for i in range(70)], dtype=object)

    fake_openml(monkeypatch, fetch)
    # The default batch is larger than this stand-in, which only `check_batch_size` minds.
    task = mnist_cnn()
    assert names == ["mnist_784"] and task.train_size == 60
    assert task.train["image"].shape == (60, 28, 28) and task.test["image"].shape == (10, 28, 28)
    np.testing.assert_allclose(task.test["image"].reshape(10, -1), pixels[60:] / 255, rtol=1e-6)
    np.testing.assert_array_equal(task.test["label"], np.arange(10))
    params = task.init(jax.random.key(0))
    batch = sample(task, jax.random.key(1), 8)
    assert jnp.isfinite(task.loss(params, batch)) and 0 <= task.accuracy(params, batch) <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init": 3}, "init of task 'line' must be a function, got 3"),
        ({"loss": None}, "loss of task 'line' must be a function, got None"),
        ({"accuracy": "high"}, "accuracy .* got 'high'"),
        ({"train": {"x": np.ones(3), "y": np.ones(4)}}, r"one leading axis of examples; got shapes \[\(3,\), \(4,\)\]"),
        ({"train": np.float32(1)}, "one leading axis of examples"),
        ({"train": {}}, "hold no arrays; use None"),
        ({"train": np.ones((0, 3))}, "train data of task 'line' are empty"),
        ({"train": np.array([1.0, np.nan])}, "hold NaN or infinity; remove or fill"),
        ({"train": np.array([np.inf, -np.inf])}, "hold NaN or infinity; remove or fill"),
        ({"train": jnp.array([1, np.nan], jnp.bfloat16)}, "hold NaN or infinity; remove or fill"),
        ({"train": np.array([1, 1j * np.inf])}, "hold NaN or infinity; remove or fill"),
        ({"test": {"x": np.ones(3)}}, "must have the same structure"),
        ({"train": None, "test": np.ones(3)}, "must have the same structure"),
    ],
)
def test_a_wrong_task_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        unchecked(line(), changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"learning_rate": float("nan")}, "learning_rate must be a positive number, got nan"),
        ({"lsb": -1.0}, "lsb must be a positive number, got -1.0"),
        ({"schedule": "linear"}, "schedule must be one of cosine, constant, got 'linear'"),
        ({"optimizer": "lion"}, "optimizer must be one of adam, sgd, got 'lion'"),
    ],
)
def test_wrong_defaults_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        unchecked(TaskDefaults(), changes)


def test_cells_of_many_bits_keep_the_lsb_of_the_task():
    defaults = TaskDefaults(lsb=2**-10, largest_weight=3.0)
    assert [defaults.lsb_for(bits) for bits in (12, 13, 2000, 10**30)] == [6 / 4096, *[2**-10] * 3]


def test_wrong_batch_sizes_are_refused():
    with pytest.raises(
        ValueError, match="batch_size 33 is larger than the 32 training examples of line; use 32 or fewer"
    ):
        line().check_batch_size(33)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        line().check_batch_size(0)
    line().check_batch_size(32)


@pytest.mark.parametrize(
    "make",
    [
        lambda: digits_mlp(width=0),
        lambda: digits_mlp(depth=0),
        lambda: char_transformer(width=10, heads=4),
        lambda: char_transformer(context=0),
        lambda: char_transformer(layers=2.0),
        lambda: quadratic(rate=0.0),
        lambda: quadratic(cells=-1),
        lambda: quadratic(cells=2.5),
    ],
)
def test_wrong_sizes_are_refused(make):
    with unchecked_types(), pytest.raises(ValueError, match="got"):
        make()


def test_registry_names_what_it_knows():
    assert {name for name in task_names() if not name.startswith("language-")} == {*LOCAL, "mnist-cnn"}
    with pytest.raises(
        ValueError, match=r"Unknown task 'digit-mlp'; known are .*quadratic.*Did you mean 'digits-mlp'\?"
    ):
        get_task("digit-mlp")


@pytest.mark.representatives(1)
@pytest.mark.parametrize("make", [digits_mlp, digits_cnn, diabetes_regression])
def test_float32_is_kept_with_x64(make, x64):
    task = make()
    params = task.init(jax.random.key(0))
    assert jax.eval_shape(task.loss, params, sample(task, jax.random.key(1), 4)).dtype == jnp.float32


def test_import_leaves_scikit_learn_alone():
    code = "import sys, limjax, limjax.tasks; sys.exit('sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
