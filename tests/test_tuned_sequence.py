"""A sequence of tasks as something to tune a consolidation for: its gradients, its parts, and what tuning makes of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.markers import MarkerStyle

import limjax
from limjax.consolidation import ContinualSettings, SequenceProblem, permuted_digits, split_digits
from limjax.plots.consolidation import old_against_new, trade_off
from limjax.tuning import Search, Variables, plain_validation_loss, tuned_fields
from limjax.tuning._members import selection_seeds
from limjax.tuning._result_files import tune_summary

pytestmark = pytest.mark.optax
SETTINGS = ContinualSettings("permuted-digits", "domain", steps=6, width=4, batch_size=16, learning_rate=3e-2)


def _problem(**more):
    return SequenceProblem(SETTINGS, [permuted_digits(tasks=2, seed=k) for k in (1, 2)], **more)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [None, 0.02])
@pytest.mark.parametrize(
    "rule", ["fisher:strength=3", "path-integral:strength=3,damping=0.01", "use:scale=50", "lyapunov:strength=3"]
)
def test_gradients_through_a_sequence_match_finite_differences(x64, rule, budget):
    """Of the smooth error and of heat and work, in every number of the rule, its budget and release, and its plastic barrier."""
    problem = _problem()
    barrier = limjax.ConsolidatingBarrier(12.0, rule, budget, release=0.05)
    variables, data = Variables(problem.design(barrier)), problem.data("train")
    seed = jnp.asarray(3, jnp.uint32)

    def outcomes(point):
        outcome = problem.outcome(variables.to_design(point), seed, data, "gaussian", None)
        return jnp.stack([outcome.loss, outcome.heat_kt_per_parameter, outcome.actuation_kt_per_parameter])

    start = variables.start()
    value, slopes = jax.jit(outcomes), jax.jit(jax.jacrev(outcomes))(start)
    assert float(jnp.max(jnp.abs(value(start)))) > 0.1
    for name in start:
        step = 1e-5
        up, down = (value(start | {name: start[name] + sign * step}) for sign in (1, -1))
        np.testing.assert_allclose(slopes[name], (up - down) / (2 * step), rtol=2e-4, atol=1e-7, err_msg=name)


def test_which_numbers_are_tuned():
    names = dict(tuned_fields(limjax.ConsolidatingBarrier(12.0, "fisher:strength=3", budget=0.2, release=1.0)))
    assert list(names) == ["plastic", "rule.strength", "budget", "release"]
    barrier = limjax.ConsolidatingBarrier(12.0, limjax.PathIntegralRule(2.0, 0.1))
    variables = Variables(_problem().design(barrier), numbers=("rule.damping",))
    start = variables.start()
    assert list(start) == ["rule.damping"]
    moved = variables.to_design({"rule.damping": start["rule.damping"] + 1}).barrier
    np.testing.assert_allclose([moved.plastic, moved.rule.strength, moved.rule.damping], [12, 2, 0.1 * np.e], rtol=1e-6)
    with pytest.raises(
        ValueError, match=r"has no 'rule\.scale' to tune; it has plastic, rule\.strength, rule\.damping"
    ):
        tuned_fields(barrier, ("rule.scale",))
    with pytest.raises(ValueError, match=r"logarithm of rule\.strength: start it above 0"):
        Variables(_problem().design(limjax.ConsolidatingBarrier(12.0, limjax.FisherRule(0.0)))).start()
    with pytest.raises(ValueError, match="numbers must be names"):
        Search(numbers=())


def test_what_is_trained_on_and_what_measures():
    sequences = [permuted_digits(tasks=2, seed=k) for k in (1, 2)]
    problem = SequenceProblem(SETTINGS, sequences, [permuted_digits(tasks=2, seed=3)], validation=0.25)
    whole, tuned, judged = (problem.data(part) for part in ("train", "validation", "test"))
    all_of = len(sequences[0].train[0].label)
    assert (whole.place.train.size == all_of).all() and (whole.measured.size == all_of).all()
    assert (tuned.place.train.size + tuned.measured.size == all_of).all() and judged.measured.size.shape == (1, 2)
    # What is set aside is not trained on, and the two together are all examples.
    for s in (0, 1):
        fit, held = int(tuned.place.train.size[s, 1]), int(tuned.measured.size[s, 1])
        both = np.concatenate([tuned.place.train.image[s, 1, :fit], tuned.measured.image[s, 1, :held]])
        np.testing.assert_array_equal(both, sequences[s].train[1].image)
    np.testing.assert_array_equal(
        judged.measured.image[0, 1, : int(judged.measured.size[0, 1])], problem.held_out[0].test[1].image
    )
    assert problem.old == 0.5 and problem.weighing(0.9).data("test").old == pytest.approx(0.9)
    assert problem.data("test").old == 0.5
    leaves = jax.tree.leaves(problem.described())
    assert leaves == [16, 0.03, 4 * 65 + 4 * 5 + 10 * 5, "permuted-digits"]


def test_pairs_of_digits_in_another_order():
    for scenario in ("task", "domain", "class"):
        sequence, usual = split_digits(scenario, seed=4), split_digits(scenario)
        assert sequence.own.sum(axis=1).tolist() == [2] * 5 and sequence.own.any(axis=0).all()
        assert sum(len(part.label) for part in sequence.train) == sum(len(part.label) for part in usual.train)
        for own, part in zip(sequence.own, sequence.train):
            assert set(part.label) == set(np.flatnonzero(own))
    assert (split_digits("task", seed=4).own != split_digits("task").own).any()


def test_plain_is_fine_tuning():
    problem, barrier = _problem(), limjax.ConsolidatingBarrier(24.0, limjax.FisherRule(1e4))
    design = dataclasses.replace(problem.design(barrier), log_rate=jnp.full(8, -0.5))
    plain = problem.plain(design)
    assert isinstance(plain.barrier, limjax.StaticBarrier) and float(plain.barrier.height) == SETTINGS.plastic
    assert (plain.log_rate == -0.5).all() and plain.log_step_time == design.log_step_time


@pytest.mark.slow
def test_plain_training_is_fine_tuning_and_what_was_tuned_is_trained():
    """A barrier that holds the weights does not change what plain training is; learning rate and step time of a design are trained with."""
    settings = dataclasses.replace(SETTINGS, hops="mean")
    problem = SequenceProblem(settings, [permuted_digits(tasks=2, seed=1)])
    hard = problem.design(limjax.ConsolidatingBarrier(24.0, limjax.FisherRule(1e4)))
    nothing = problem.design(limjax.ConsolidatingBarrier(SETTINGS.plastic, limjax.FisherRule(0.0)))
    loss = plain_validation_loss(problem, hard, 1)
    kept = [
        float(problem.run(one, selection_seeds(1), part="validation", hops="mean").loss[0]) for one in (hard, nothing)
    ]
    assert loss == pytest.approx(kept[1], rel=1e-5) and abs(loss - kept[0]) > 1e-4
    # A learning rate of e^-12 times the settings' moves nothing on its own: there is hardly a request left to be beyond the driver.
    slow = dataclasses.replace(nothing, log_rate=nothing.log_rate - 12.0)
    quick = dataclasses.replace(nothing, log_step_time=nothing.log_step_time - np.log(4.0))
    results = [problem.trained(one, 0) for one in (nothing, nothing.barrier, slow, quick)]
    assert results[0].accuracy == results[1].accuracy and results[0].undelivered > 0.05
    assert results[2].undelivered == 0
    # A quarter of the time is a quarter of the exchange: the driver delivers less.
    assert results[3].undelivered > results[0].undelivered


def test_what_is_no_problem():
    with pytest.raises(ValueError, match="same number of tasks, inputs and outputs"):
        SequenceProblem(SETTINGS, [permuted_digits(tasks=2)], [permuted_digits(tasks=3)])
    with pytest.raises(ValueError, match=r"old must be a weight from 0 .* got 1\.5"):
        _problem(old=1.5)
    with pytest.raises(ValueError, match="at least one TaskSequence"):
        SequenceProblem(SETTINGS, [])
    with pytest.raises(ValueError, match="differentiated as a whole, got gradient='truncated'"):
        limjax.tune(_problem(), search=Search(gradient="truncated"), weights=limjax.Weights(energy=1.0))
    with pytest.raises(ValueError, match="The task is a problem itself: leave problem= out"):
        limjax.tune(_problem(), problem=_problem(), weights=limjax.Weights(energy=1.0))
    with pytest.raises(ValueError, match="trained needs a design with a ConsolidatingBarrier"):
        _problem().trained(_problem().design(limjax.StaticBarrier(16.0)), 0)
    with pytest.raises(ValueError, match="differentiated as a whole, got window=3"):
        problem = _problem()
        design = problem.design(problem.starting(None))
        problem.outcome(design, jnp.asarray(0, jnp.uint32), problem.data("test"), "mean", 3)


@pytest.mark.slow
def test_tuning_brings_the_objective_down():
    """Heat weighs so much that it has to fall, also on the sequence and the seeds that were held out."""
    problem = _problem(held_out=[permuted_digits(tasks=2, seed=5)])
    barrier = limjax.ConsolidatingBarrier(16.0, "fisher:strength=30")
    search = Search(outer_steps=4, seeds=2, held_out=3, selection=3, outer_rate=1.0)
    result = limjax.tune(problem, limjax.tuning.Objective(limjax.Weights(energy=0.1)), search, barrier=barrier)
    assert str(result.result) == "completed"
    assert result.after.energy_kt_per_parameter < result.before.energy_kt_per_parameter
    trained = problem.trained(result.barrier, 0)
    assert trained.matrix.shape == (2, 2) and np.isfinite(trained.heat_kt).all()
    assert (
        tune_summary(result)["task"] == "permuted-digits" and tune_summary(result)["parameters"] == problem.parameters
    )


@pytest.mark.parametrize("strengths", [(1.0, 2.0), (1.0, 2.0, 3.0, 4.0)], ids=len)
def test_the_figure_of_old_against_new_tasks(strengths):
    names = ("old_accuracy", "new_accuracy", "heat_kt_per_parameter")

    def row(budget, strength, *numbers):
        values = dict(zip(names, numbers))
        return {"budget": budget, "strength": strength} | values | {f"{name}_error": 0.01 for name in names}

    grid = [row(b, s, 0.5 + b, 0.9 - b * s, 100 * s) for b in (0.005, 0.2) for s in strengths]
    grid += [row(0.8, s, 0.5 + 0.2, 0.9 - 0.2 * s, 100 * s) for s in strengths]  # no barrier spends so much
    drawn = old_against_new({"plain": row(0, 0, 0.4, 0.95, 300), "grid": grid, "front": [row(0.1, 1.5, 0.7, 0.8, 120)]})
    words = [text.get_text() for text in drawn.axes[0].get_legend().get_texts()]
    assert words == [f"grid, strength {s:g}" for s in strengths] + ["tuned by gradients", "no consolidation"]
    assert [text.get_text() for text in drawn.axes[0].texts] == ["0.005 kT", "0.2 kT"]
    drawn_as = {c.get_label(): c for c in drawn.axes[0].collections if c.get_label() in words}
    assert list(drawn_as) == words
    for label, marker in {"grid, strength 1": "o", "tuned by gradients": "*", "no consolidation": "X"}.items():
        shape = MarkerStyle(marker)
        want = shape.get_path().transformed(shape.get_transform()).vertices
        np.testing.assert_allclose(drawn_as[label].get_paths()[0].vertices, want)
    # The front alone is large, and each set looks like no other.
    assert [label for label, points in drawn_as.items() if points.get_sizes()[0] > 100] == ["tuned by gradients"]
    assert len({points.get_paths()[0].vertices.tobytes() for points in drawn_as.values()}) == len(words)


def test_every_kind_of_method_is_drawn():
    names = ("new_accuracy", "old_accuracy", "heat_kt_per_parameter")
    kinds = {f"kind {k}": {"method": dict(zip(names, (0.9, 0.1 * k, 1.0 + k)))} for k in range(10)}
    (panel, _) = trade_off({"sequence": kinds}).axes
    assert [text.get_text() for text in panel.get_legend().get_texts()] == list(kinds)
    assert [points.get_offsets()[0, 1] for points in panel.collections] == pytest.approx([0.1 * k for k in range(10)])
