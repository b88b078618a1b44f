"""Fronts, and what tuning writes."""

import json
import math
import pathlib
import shutil
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pytest
from curve import BARRIERS, START, curve_task
from unchecked import unchecked_types

import limjax
from limjax.barriers import barrier_from_json, barrier_to_json, load_barrier, save_barrier
from limjax.cli import main
from limjax.plots.tuning import _hand_made_points, where_the_heat_goes
from limjax.tasks import quadratic
from limjax.training import RunSettings
from limjax.tuning import (
    Design,
    Evaluation,
    HandMade,
    ParetoPoint,
    TuneCode,
    Variables,
    best_hand_made,
    evaluate,
    evaluate_hand_made,
    held_out_seeds,
    hypervolume,
    non_dominated,
    pareto_front,
)
from limjax.tuning._pareto_sweep import _front, hand_made_on_front

pytestmark = pytest.mark.optax


# -- fronts ------------------------------------------------------------------------------------------------------------


def test_non_dominated_and_hypervolume_against_enumeration():
    generator = np.random.default_rng(0)
    for objectives in (2, 3):
        points = generator.integers(0, 6, (30, objectives)).astype(float)
        mask = non_dominated(points)
        for i, p in enumerate(points):
            beaten = any((q <= p).all() and (q < p).any() for q in points)
            assert mask[i] == (not beaten)
        # Unit cells below the reference that some point beats.
        cells = np.stack(np.meshgrid(*[np.arange(6)] * objectives, indexing="ij"), -1).reshape(-1, objectives)
        covered = sum((points <= cell).all(axis=1).any() for cell in cells)
        assert hypervolume(points, [6.0] * objectives) == covered
        assert hypervolume(points[mask], [6.0] * objectives) == covered
    assert not non_dominated(np.array([[math.nan, 0.0], [1.0, 1.0]]))[0]
    assert hypervolume(np.array([[2.0, 2.0]]), [1.0, 1.0]) == 0.0


@pytest.mark.slow
def test_pareto_front_is_monotonic_and_resumes(tmp_path):
    settings = dict(
        cell=limjax.ArrheniusCell(lsb=2.0**-8), barrier=limjax.SplineBarrier([12.0, 13.0], 25), energy=[1e-3, 1e-1], steps=25,
        batch_size=16, learning_rate=2e-2, outer_steps=8, outer_rate=0.5, seeds=1, held_out=1, hand_made=False, folder=tmp_path / "sweep",
    )  # fmt: skip
    done = []

    def stop(count, total, point):
        done.append(count)
        raise KeyboardInterrupt

    first = pareto_front(curve_task(), **settings, devices=jax.local_devices()[:1], on_progress=stop)
    assert str(first.result) == "interrupted" and len(first.points) == 1
    whole = pareto_front(curve_task(), **settings, devices=jax.local_devices()[:1])
    assert str(whole.result) == "completed" and len(whole.points) == 2
    assert whole.points[0].test_loss == first.points[0].test_loss
    assert whole.points[0].energy_kt_per_parameter > whole.points[1].energy_kt_per_parameter
    assert whole.hypervolume >= 0 and set(whole.reference) == {"test_loss", "energy_kt_per_parameter"}
    with pytest.raises(ValueError, match="holds another sweep"):
        pareto_front(curve_task(), **{**settings, "energy": [1e-3]})


@pytest.mark.slow
def test_hand_made_policies(problem):
    policies = {"static": {"12": limjax.StaticBarrier(12.0), "20": limjax.StaticBarrier(20.0)}}
    results = evaluate_hand_made(problem, held_out_seeds(3), policies=policies)
    plain = evaluate(problem, limjax.StaticBarrier(20.0), held_out_seeds(3), hops="mean")
    best = best_hand_made(results, plain)
    assert [r.setting for r in results] == ["12", "20"]
    assert best is not None and best.evaluation.is_no_worse_than(plain)
    from limjax.tuning import hand_made_policies

    grid = hand_made_policies(problem)
    from limjax.tuning import LAW_FAMILIES

    assert set(LAW_FAMILIES) < set(grid) and len(grid) == 9
    assert all(len(settings) == 8 for family, settings in grid.items() if family != LAW_FAMILIES[0])


# -- files and commands ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BARRIERS)
def test_barrier_files(tmp_path, name):
    barrier = BARRIERS[name]()
    save_barrier(barrier, tmp_path / "barrier.json")
    back = load_barrier(tmp_path / "barrier.json")
    assert eqx.tree_equal(barrier, back)
    if name.startswith(("spline", "learned")):
        assert float(load_barrier(tmp_path / "barrier.json", 77).steps) == 77.0 == float(barrier.stretched(77).steps)


@pytest.mark.parametrize(
    ("barrier", "number"),
    [
        (limjax.StaticBarrier(1.0), "height"),
        (limjax.LyapunovBarrier(1.0), "start"),
        (limjax.FowlerNordheimBarrier(1.0), "start"),
        (limjax.SplineBarrier([1.0, 9.0], 36), "knots"),
        (limjax.ConsolidatingBarrier(1.0), "plastic"),
    ],
)
def test_a_barrier_is_lowered_to_what_a_file_may_hold(tmp_path, barrier, number):
    def tuned(value):
        design = Design(barrier, jnp.zeros(()), jnp.zeros(2))
        variables = Variables(design, numbers=(number,))
        return getattr(variables.to_design({number: variables.start()[number] + value}).barrier, number)

    wanted = np.maximum(np.asarray(getattr(barrier, number)) - 2.0, 0.0)
    lowered = barrier.raised(-2.0)
    np.testing.assert_array_equal(getattr(lowered, number), wanted)
    np.testing.assert_array_equal(tuned(-2.0), wanted)
    # It could not come back from where its slope is 0.
    assert float(jax.grad(lambda value: jnp.sum(tuned(value)))(-2.0)) == wanted.size
    (tmp_path / "linked.json").symlink_to(tmp_path / "another.json")
    save_barrier(lowered, tmp_path / "linked.json")
    assert eqx.tree_equal(lowered, load_barrier(tmp_path / "linked.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["linked.json"]


def test_wrong_barrier_files_are_named(tmp_path):
    path = tmp_path / "barrier.json"
    with pytest.raises(ValueError, match="cannot be read"):
        load_barrier(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        load_barrier(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="is not a limjax barrier"):
        load_barrier(path)
    content = barrier_to_json(limjax.StaticBarrier(3.0))
    with pytest.raises(ValueError, match="wrong arguments"):
        barrier_from_json({**content, "arguments": {"tall": 3.0}})
    with pytest.raises(ValueError, match="holds a function"):
        save_barrier(limjax.ScheduledBarrier(lambda step: 9.0 + 0.0 * step), path)


def run(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main([str(w) for w in words])
    captured = capsys.readouterr()
    return stopped.value.code or 0, captured.out, captured.err


QUICK = [
    "--task",
    "diabetes-regression",
    "--steps",
    16,
    "--outer-steps",
    2,
    "--seeds",
    1,
    "--held-out",
    2,
    "--barrier",
    "spline:knots=2",
]


@pytest.mark.slow
def test_tune_command_and_the_barrier_it_writes(capsys, tmp_path):
    folder = tmp_path / "tuned"
    code, out, _ = run(capsys, "tune", *QUICK, "--tune-learning-rate", "--no-hand-made", "--json", "--out", folder)
    assert code == 0
    summary = json.loads(out)
    promised = {
        "task",
        "heat_kt_per_parameter",
        "test_loss",
        "plain_test_loss",
        "best_hand_made",
        "ratio",
        "seeds",
        "result",
    }
    assert promised <= set(summary) and json.loads((folder / "tune.json").read_text()) == summary
    assert {"barrier.json", "tune.npz", "front.png", "barrier.png", "heat.png", "descent.png"} <= {
        p.name for p in folder.iterdir()
    }
    words = ["--task", "diabetes-regression", "--steps", 20, "--barrier", folder / "barrier.json", "--no-figures"]
    words += ["--learning-rate-factor", folder / "tune.json"]
    code, out, _ = run(capsys, "train", *words, "--json", "--out", tmp_path / "run")
    trained = json.loads(out)
    assert code == 0 and trained["barrier"] == "spline"
    assert trained["learning_rate_factor"] == summary["learning_rate_factor"] != [1.0] * 8


@pytest.mark.slow
def test_pareto_command(capsys, tmp_path):
    folder = tmp_path / "front"
    words = ["--points", 2, "--no-hand-made", "--json", "--out", folder]
    code, out, _ = run(capsys, "pareto", *QUICK, *words)
    assert code == 0
    summary = json.loads(out)
    assert {"points", "hypervolume", "hand_made"} <= set(summary) and len(summary["points"]) == 2
    assert (folder / "front.png").exists() and pathlib.Path(folder / "point-001.json").exists()
    code, _, err = run(capsys, "pareto", *QUICK, "--points", 3, "--no-hand-made", "--out", folder)
    assert code == 2 and "holds another sweep" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tune", "--task", "nothing"], "nothing"),
        (["tune", "--barrier", "nothing"], "Unknown barrier"),
        (["tune", "--max-loss", "little"], "--max-loss must be a number"),
        (["tune", "--per-layer", "--barrier", "static"], "--per-layer"),
        (["tune", "--energy-weight", "-1"], "energy weight"),
        (["pareto", "--energy", "1"], "--energy needs two numbers"),
        (["pareto", "--time", "a"], "--time must be numbers"),
        (["pareto", "--mode", "other"], "mode must be"),
    ],
)
def test_wrong_options_end_in_one_paragraph(capsys, tmp_path, words, said):
    folder = tmp_path / "out"
    code, _, err = run(capsys, *words, "--out", folder)
    assert code == 2 and said in err and err.count("\n") == 1
    assert not folder.exists() or not any(folder.iterdir())


@pytest.mark.slow
def test_equal_points_stand_on_the_front_once(problem):
    design = problem.design(START)
    point = ParetoPoint({"energy": 1.0, "time": 0.0}, "completed", design, 1.0, 0.1, 2.0, 0.1, 1.0, False)
    plain = evaluate(problem, START, held_out_seeds(2))
    policies = [HandMade("static", str(x), START, plain._replace(loss=plain.loss * 0 + x)) for x in (0.5, 5.0)]
    points = [point, point, point._replace(test_loss=0.5, energy_kt_per_parameter=1e9)]
    result = _front(TuneCode.completed, points, False, policies, plain, problem)
    assert [p.is_front for p in result.points] == [True, False, True]
    assert hand_made_on_front(result).tolist() == [True, False]


def test_every_family_and_every_layer_is_drawn():
    figure = matplotlib.figure.Figure()
    families = [f"family {k}" for k in range(12)]
    one = Evaluation(*(np.ones(1) for _ in range(4)), seconds=1.0)
    ax = figure.subplots()
    _hand_made_points(ax, [HandMade(family, "", START, one) for family in families], 3.0)
    assert [line.get_label() for line in ax.lines] == families

    layers = [SimpleNamespace(name=f"{n} numbers", heat_kt=6.0 * n, actuation_kt=3.0 * n, parameters=n) for n in (0, 2)]
    row = SimpleNamespace(step=4, heat_kt_per_parameter=6.0, actuation_kt_per_parameter=3.0)
    with unchecked_types():
        left = where_the_heat_goes(SimpleNamespace(report=SimpleNamespace(layers=layers), history=[row])).axes[0]
    assert [[bar.get_width() for bar in bars] for bars in left.containers] == [[0, 6], [0, 3]]


EARLIER = pathlib.Path(__file__).with_name("earlier_front")
"""A folder as `pareto` wrote it before settings, trade-off and search were objects, without its second point."""


@pytest.mark.slow
def test_an_earlier_sweep_goes_on_or_is_refused(tmp_path):
    folder = tmp_path / "front"
    shutil.copytree(EARLIER, folder)
    kept = json.loads((folder / "sweep.json").read_text())
    settings = RunSettings.of(quadratic(), steps=4)
    how = dict(barrier="static:height=12", energy=[1e-3, 1e-2], outer_steps=1, seeds=1, held_out=1, hand_made=False)
    how |= dict(folder=folder, devices=jax.local_devices()[:1])
    # Fingerprints are those of one version of JAX.
    fresh = pareto_front(settings, **(how | dict(energy=[1.0], folder=tmp_path / "fresh")))
    now = json.loads((tmp_path / "fresh" / "sweep.json").read_text())
    assert set(kept) < set(now) and set(kept["program"]) == set(now["program"])
    (folder / "sweep.json").write_text(json.dumps(kept | {"program": now["program"]}))
    result = pareto_front(settings, **how)
    point = json.loads((EARLIER / "point-000.json").read_text())
    assert fresh.result is result.result is TuneCode.completed and result.points[0].test_loss == point["loss"]
    renewed, made = (set(json.loads((folder / f"point-00{i}.json").read_text())) for i in range(2))
    assert renewed == made != set(point)
    for changed, said in (
        ({"outer_steps": 2}, "outer_steps = 1, but 2"),
        ({"energy": [1e-3]}, "points = "),
        ({"gradient": "forward"}, "gradient = 'reverse', but 'forward'"),
    ):
        with pytest.raises(ValueError, match=f"holds another sweep: it has {said}"):
            pareto_front(settings, **(how | changed))
    (folder / "sweep.json").write_text(json.dumps({"mode": "weights"}))
    with pytest.raises(ValueError, match="made by an earlier version and does not say its task"):
        pareto_front(settings, **how)
