"""Continual learning: the sequences, what each method adds and keeps, and the command."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limjax.consolidation import (
    ContinualSettings,
    Examples,
    SequenceResult,
    best_memory,
    compare_methods,
    get_sequence,
    method_of,
    permuted_digits,
    rotated_digits,
    split_digits,
    table,
    train_sequence,
)
from limjax.consolidation._learn import Data, Learner, Place, _batches, fisher_diagonal
from limjax.consolidation._run import levels_moved
from limjax.tasks import _networks as networks
from limjax.tasks._digits import _digits

pytestmark = pytest.mark.optax
TINY = ContinualSettings("split-digits", "task", steps=3, width=4, batch_size=8)


def test_split_digits_are_pairs():
    for scenario, outputs in (("task", 10), ("domain", 2), ("class", 10)):
        sequence = split_digits(scenario)
        assert len(sequence.train) == 5 and sequence.outputs == outputs
        for k, part in enumerate(sequence.train):
            assert set(part.label) == ({0, 1} if scenario == "domain" else {2 * k, 2 * k + 1})
    assert (
        sum(len(part.label) for part in split_digits().train) + sum(len(part.label) for part in split_digits().test)
        == 1797
    )


def test_outputs_compete_as_the_scenarios_say():
    task, domain, cls = (split_digits(name).competing() for name in ("task", "domain", "class"))
    for stage in range(5):
        for j in range(5):
            assert set(np.flatnonzero(task[stage, j])) == {2 * j, 2 * j + 1}
            assert domain[stage, j].all()
            assert set(np.flatnonzero(cls[stage, j])) == set(range(2 * stage + 2))
    assert permuted_digits("class", 3).competing()[1].sum(axis=-1).tolist() == [20, 20, 20]
    with pytest.raises(ValueError, match="scenario must be one of task, domain, class, got 'none'"):
        split_digits("none")
    with pytest.raises(ValueError, match="tasks must be one of"):
        get_sequence("mnist", "task")
    with pytest.raises(ValueError, match=r"at least 2.*got 1"):
        permuted_digits(tasks=1)
    with pytest.raises(ValueError, match=r"at least 2 tasks, got 1: with one there is nothing to forget"):
        dataclasses.replace(split_digits(), train=split_digits().train[:1])


def test_permuted_and_rotated_digits_are_the_same_digits():
    plain, permuted = Examples(**_digits()[0]), permuted_digits(tasks=3)
    assert (permuted.train[0].image == plain.image).all()
    for part in permuted.train[1:]:
        assert not (part.image == plain.image).all()
        assert (np.sort(part.image, axis=1) == np.sort(plain.image, axis=1)).all() and (part.label == plain.label).all()
    turned = rotated_digits(tasks=3).train
    np.testing.assert_allclose(turned[0].image, plain.image, atol=1e-6)
    square = plain.image.reshape(-1, 8, 8)
    np.testing.assert_allclose(turned[2].image.reshape(-1, 8, 8), square[:, ::-1, ::-1], atol=1e-5)
    quarter = turned[1].image.reshape(-1, 8, 8)
    ways = [np.abs(quarter - np.rot90(square, k, axes=(1, 2))).max() for k in (1, 3)]
    assert min(ways) < 1e-5


@pytest.mark.slow
def test_the_fisher_diagonal_is_the_mean_of_squared_gradients():
    place = Place.of(split_digits("domain"))
    params = networks.init_mlp(jax.random.key(1), (64, 3, 2))
    found = fisher_diagonal(params, place, jnp.asarray(2), jax.random.key(5))
    size = int(place.train.size[2])
    image = place.train.image[2, :size]

    def score(params, x, label):
        return jax.nn.log_softmax(networks.apply_mlp(params, x[None])[0])[label]

    # The exact expectation over labels; labels here are drawn, so it holds within their standard error.
    chance = jax.nn.softmax(networks.apply_mlp(params, image))
    squares = [jax.vmap(lambda x, k=k: jax.tree.map(jnp.square, jax.grad(score)(params, x, k)))(image) for k in (0, 1)]
    for name in params:
        for part in params[name]:
            s = [np.asarray(sq[name][part], np.float64).reshape(size, -1) for sq in squares]
            p = np.asarray(chance, np.float64)
            mean = (p[:, :1] * s[0] + p[:, 1:] * s[1]).mean(axis=0)
            spread = np.sqrt((p[:, :1] * p[:, 1:] * (s[0] - s[1]) ** 2).sum(axis=0)) / size
            got = np.asarray(found[name][part]).ravel()
            # Five standard errors; 200 numbers: a false alarm in 1e-4 of cases.
            assert (np.abs(got - mean) <= 5 * spread + 1e-6).all()


def test_penalties_are_their_formulas():
    params = {"w": jnp.array([1.0, -2.0]), "b": jnp.array([0.5])}
    anchors = [
        {"w": jnp.array([0.2, 0.1]), "b": jnp.array([0.0])},
        {"w": jnp.array([-1.0, 3.0]), "b": jnp.array([2.0])},
    ]
    fishers = [{"w": jnp.array([2.0, 0.5]), "b": jnp.array([1.0])}, {"w": jnp.array([0.1, 4.0]), "b": jnp.array([0.0])}]

    def pull(text, decay=1.0):
        method = method_of(text)
        kept = method.init(params)
        for anchor, fisher in zip(anchors, fishers):
            kept = method.after_task(kept, anchor, fisher)
        return jax.grad(method.penalty)(params, kept)

    for name in params:
        expected = 3.0 * sum(f[name] * (params[name] - a[name]) for a, f in zip(anchors, fishers))
        np.testing.assert_allclose(pull("ewc:strength=3")[name], expected, rtol=1e-6)
        stiffness = 0.5 * fishers[0][name] + fishers[1][name]
        online = 3.0 * stiffness * (params[name] - anchors[1][name])
        np.testing.assert_allclose(pull("online-ewc:strength=3,decay=0.5")[name], online, rtol=1e-6)
    si = method_of("si:strength=0.7,damping=0.1")
    kept = si.init(anchors[0])
    kept = si.after_step(kept, anchors[0], params, {"w": jnp.array([-1.0, 2.0]), "b": jnp.array([3.0])})
    kept = si.after_task(kept, params, None)
    # ω = -g Δw: 0.8, 4.2, and -1.5, which counts as 0.
    way = np.array([0.8, -2.1, 0.5])
    importance = np.array([0.8, 4.2, 0.0]) / (way**2 + 0.1)
    moved = jax.tree.map(lambda w: w + 0.25, params)
    got = jax.grad(si.penalty)(moved, kept)
    np.testing.assert_allclose(np.concatenate([got["w"], got["b"]]), 2 * 0.7 * importance * 0.25, rtol=1e-5)


@pytest.mark.parametrize("name", ["ewc", "online-ewc", "si"])
def test_a_wrong_strength_is_that_of_a_penalty(name):
    with pytest.raises(
        ValueError, match=r"strength must be .* at least 0, got -1\.0\. It is ., the weight of the penalty in the loss"
    ):
        method_of(f"{name}:strength=-1")


@pytest.mark.slow
def test_replay_shows_kept_examples_and_joint_all_tasks():
    place = Place.of(split_digits("task"))
    method = method_of("replay:examples=3")
    shown = jnp.asarray([[0, 1, 2]] * 5)
    learner = Learner(None, None, None, shown, jax.random.key(0))
    new, old = _batches(
        ContinualSettings(batch_size=400), method, place, learner.shown, jnp.asarray(3), jax.random.key(1)
    )
    assert set(np.asarray(new.task)) == {3} and set(np.asarray(old.task)) == {0, 1, 2}
    kept = {tuple(x) for j in range(3) for x in np.asarray(place.train.image[j, :3]).tolist()}
    assert {tuple(x) for x in np.asarray(old.image).tolist()} == kept
    (both,) = _batches(
        ContinualSettings(batch_size=4000), method_of("joint"), place, shown, jnp.asarray(2), jax.random.key(1)
    )
    counts = np.bincount(np.asarray(both.task), minlength=5)
    expected = np.asarray(place.train.size[:3]) / np.asarray(place.train.size[:3]).sum()
    assert counts[3:].sum() == 0 and (np.abs(counts[:3] / 4000 - expected) < 5 * np.sqrt(expected / 4000)).all()
    assert int(Data.of(split_digits().test).size[0]) == len(split_digits().test[0].label)


def test_what_a_result_says_of_itself():
    matrix = ((1.0, 0.2, 0.1), (0.7, 0.9, 0.3), (0.6, 0.5, 0.8))
    result = SequenceResult(
        "ewc", 0, matrix, (10.0, 20.0, 30.0), (0.0, 1.0, 2.0), 0.25, 100, 4, 2, 0, 0, ((14.0,), (100,)), 1.0
    )
    assert result.final_accuracy == pytest.approx(1.9 / 3) and result.new_accuracy == pytest.approx(0.9)
    assert result.backward_transfer == pytest.approx((-0.4 - 0.4) / 2)
    assert result.forgetting == pytest.approx((0.4 + 0.4) / 2)
    assert best_memory().name == "FeFET"
    assert result.copy_joules(8) == pytest.approx(4 * 100 * 8 * 3.2e-15)
    assert result.copy_joules(8, "PCM") == pytest.approx(4 * 100 * 8 * 7.1e-12)
    numbers = result.summary(8)
    assert numbers["heat_kt_per_parameter"] == pytest.approx(0.6)
    assert numbers["actuation_joules"] == pytest.approx(3 * 4.141947e-21)
    assert numbers["copy_joules_nor_flash"] == pytest.approx(4 * 100 * 8 * 0.32e-9)
    assert SequenceResult.from_json(json.loads(json.dumps(result.to_json()))) == result
    # A file of an earlier version does not say what its copies would have taken in learning-in-memory cells.
    earlier = {name: value for name, value in result.to_json().items() if name != "copy_heat_kt"}
    assert SequenceResult.from_json(earlier) == result and numbers["copy_heat_kt_per_parameter"] is None
    assert table([result], 8)[0]["copy_heat_kt_per_parameter"] is None
    told = dataclasses.replace(result, copy_heat_kt=250.0)
    assert told.summary(8)["copy_heat_kt_per_parameter"] == 2.5
    (row,) = table([result, result], 8)
    assert row["seeds"] == 2 and row["final_accuracy_error"] == 0.0


def test_what_a_method_keeps_and_what_it_writes():
    """Numbers per weight, against the arrays that there are: two for elastic weight consolidation whatever the number of tasks."""
    params = {"w": jnp.array([1.0, -2.0]), "b": jnp.array([0.5])}
    for text, published in (("ewc", 8), ("online-ewc", None), ("si", None), ("fine-tune", None), ("barrier", None)):
        method = method_of(text)
        kept = method.init(params)
        for _ in range(4):
            kept = method.after_task(kept, params, jax.tree.map(jnp.square, params))
        assert len(method.long_term(kept)) == method.copies.written
        assert (method.copies.published and method.copies.published(4)) == published
    rules = {"fisher": 1, "path-integral": 3, "lyapunov": 3, "use": 0, "metaplastic": 0, "fisher:release=1": 2}
    rules |= {"use:release=1": 0, "metaplastic:budget=0.1": 1, "fisher:budget=0.1": 1}
    assert {rule: method_of(f"barrier:{rule}").running for rule in rules} == rules
    for rule, running in rules.items():
        if ":" in rule or rule == "use":
            continue
        state = method_of(f"barrier:{rule}").barrier(16.0).init(params)
        # Every array of the rule but the importance, and where the task began, changes in each step.
        standing = {"fisher": 1, "path-integral": 2, "lyapunov": 1, "metaplastic": 0}[rule]
        arrays = [x for x in jax.tree.leaves(state) if x.ndim]
        assert sum(x.size for x in arrays if x.dtype != bool) == (running + standing) * 3
        # And a bit for each weight where what moved does not tell what had a gradient.
        bits = 3 if rule in ("path-integral", "lyapunov") else 0
        assert sum(x.size for x in arrays if x.dtype == bool) == bits
    # From (0, 1) at a largest of 1 to (2, -4) at a largest of 4: levels 0 and 127 to 64 and -127.
    moved = levels_moved({"w": jnp.array([0.0, 1.0])}, {"w": jnp.array([2.0, -4.0])}, 8)
    assert moved == 64 + 254 and levels_moved(jnp.zeros(2), jnp.zeros(2), 8) == 0


def test_one_method_leaves_its_traces_and_goes_on(tmp_path):
    said = []
    found = compare_methods(TINY, ["barrier:fisher:strength=20"], 1, tmp_path, lambda words, left: said.append(words))
    (result,) = found.results
    assert [len(row) for row in result.accuracy] == [5] * 5 and len(said) == 5
    assert result.actuation_kt[0] == pytest.approx(0, abs=1e-6) and min(result.actuation_kt[1:]) > 0
    assert result.barriers[0][0] == 16.0 and sum(result.barriers[1]) == result.parameters
    file = tmp_path / "barrier-fisher-strength-20-seed-0.json"
    before = file.stat().st_mtime_ns
    again = compare_methods(TINY, ["barrier:fisher:strength=20"], 1, tmp_path)
    assert file.stat().st_mtime_ns == before and again.results == found.results
    # What an earlier version trained, with another mean of the importance, is not put beside it.
    kept, table = json.loads(file.read_text()), (tmp_path / "continual.json").read_bytes()
    assert kept.pop("format") == method_of("barrier").format > 1
    file.write_text(json.dumps(kept))
    with pytest.raises(ValueError, match=r"gave other results \(format 1, here 3\): remove that file"):
        compare_methods(TINY, ["barrier:fisher:strength=20"], 1, tmp_path)
    assert (tmp_path / "continual.json").read_bytes() == table
    with pytest.raises(ValueError, match="has steps = 3, but 4 was given"):
        compare_methods(ContinualSettings(steps=4, width=4, batch_size=8), ["joint"], 1, tmp_path)
    budgeted = method_of("barrier:fisher:strength=20,budget=0.25").barrier(16.0)
    assert (budgeted.rule.strength, budgeted.budget) == (20.0, 0.25)
    for wrong in (
        "barrier:fisher:budget=x",
        "ewk",
        "ewc:strenth=1",
        "ewc:strength",
        "replay:examples=0.5",
        "barrier:fish",
    ):
        with pytest.raises(ValueError, match=r"method|examples"):
            compare_methods(TINY, [wrong], 1, tmp_path)


@pytest.mark.slow
def test_consolidated_weights_forget_less():
    """Task-incremental split-digits, the same two seeds of each: raising barriers keeps what was learnt."""
    settings = ContinualSettings("split-digits", "task", steps=200)
    plain, kept = (
        [train_sequence(settings, method, seed) for seed in range(2)]
        for method in ("fine-tune", "barrier:fisher:strength=50")
    )
    assert np.mean([r.backward_transfer for r in kept]) > np.mean([r.backward_transfer for r in plain]) + 0.01
    assert np.mean([r.new_accuracy for r in kept]) > 0.95
    again = train_sequence(settings, "fine-tune", 1)
    assert again.accuracy == plain[1].accuracy and again.heat_kt == plain[1].heat_kt


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    ["joint", "ewc", "online-ewc", "si", "replay", "barrier:metaplastic", "barrier:use", "barrier:path-integral"],
)
@pytest.mark.parametrize("scenario", ["domain", "class"])
def test_every_method_in_every_scenario(method, scenario):
    settings = ContinualSettings("rotated-digits", scenario, steps=3, width=4, batch_size=8)
    result = train_sequence(settings, method)
    assert np.isfinite(result.matrix).all() and sum(result.heat_kt) > 0


@pytest.mark.slow
def test_the_command(tmp_path):
    import subprocess
    import sys

    words = [
        "continual",
        "--method",
        "fine-tune",
        "--method",
        "barrier",
        "--steps",
        "3",
        "--width",
        "4",
        "--seeds",
        "1",
        "--json",
        "--out",
    ]
    run = subprocess.run(
        [sys.executable, "-m", "limjax", *words, str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    content = json.loads(run.stdout)
    assert [row["method"] for row in content["methods"]] == ["fine-tune", "barrier"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"continual.json", "accuracy_matrix.png", "heat_per_task.png", "barriers.png"} <= names
