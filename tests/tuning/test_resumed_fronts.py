"""Fronts that go on: what is kept of them, and what is refused. Nothing is trained here."""

import json
import pathlib
import shutil
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import limjax
from limjax.cli import main
from limjax.numerics._present_names import with_present_names
from limjax.tasks import quadratic
from limjax.training import RunSettings
from limjax.tuning import (
    Design,
    ParetoPoint,
    Problem,
    TuneCode,
    TuneResult,
    _pareto_points,
    _pareto_sweep,
    pareto_front,
    plain_validation_loss,
)
from limjax.tuning._held_out import MISSING
from limjax.tuning._pareto_points import PointStore, _difference
from limjax.tuning._result_files import pareto_summary

pytestmark = pytest.mark.optax
SETTINGS = RunSettings.of(quadratic(), steps=4)
DONE = MISSING._replace(
    **dict.fromkeys(("loss", "heat_kt_per_parameter", "actuation_kt_per_parameter", "path_levels"), np.ones(2)),
    seconds=1.0,
)
NEW = (
    "selection",
    "pairs",
    "tune_step_time",
    "resample",
    "gradient",
    "window",
    "search_hops",
    "search_seed",
    "numbers",
)
"""Keys of the search in `sweep.json` that earlier sweeps do not have."""
EARLIER = pathlib.Path(__file__).parent / "earlier_front"
"""A folder as an earlier version wrote it."""


def found(problem, start, *others, **named):
    return TuneResult(TuneCode.completed, start.barrier, start, (), DONE, DONE, DONE, {}, None, problem)


def interrupt(*arguments, **named):
    raise KeyboardInterrupt


@pytest.fixture
def front(monkeypatch, tmp_path):
    """A front of two points in a folder, whose points are found at once."""
    monkeypatch.setattr(_pareto_sweep, "tuned", found)
    monkeypatch.setattr(_pareto_sweep, "evaluate", lambda *arguments, **named: DONE)

    def call(**given):
        usual = dict(barrier="static:height=12", energy=[1e-3, 1e-2], hand_made=False, folder=tmp_path / "front")
        return pareto_front(SETTINGS, **(usual | {"devices": jax.local_devices()[:1]} | given))

    return call


def test_ctrl_c_before_the_first_new_point_keeps_the_others(front, monkeypatch):
    assert front().result is TuneCode.completed
    monkeypatch.setattr(_pareto_sweep, "evaluate", interrupt)
    again = front()
    assert again.result is TuneCode.interrupted and len(again.points) == 2
    summary = pareto_summary(again)
    assert summary["hypervolume"] is None and json.dumps(summary, allow_nan=False)


def test_ctrl_c_after_the_last_point_evaluates_nothing_more(front, monkeypatch):
    monkeypatch.setattr(_pareto_sweep, "evaluate_hand_made", lambda *arguments, **named: pytest.fail("evaluated"))

    def stop(done, count, point):
        if done == count:
            raise KeyboardInterrupt

    stopped = front(hand_made=True, on_progress=stop)
    assert stopped.result is TuneCode.interrupted and len(stopped.points) == 2


def test_a_finished_front_is_not_replaced_by_a_part_of_it(front, monkeypatch, tmp_path, capsys):
    words = ["pareto", "--task", "quadratic", "--steps", "4", "--points", "2", "--no-hand-made", "--no-figures"]
    codes = []
    for evaluate in (_pareto_sweep.evaluate, interrupt):
        monkeypatch.setattr(_pareto_sweep, "evaluate", evaluate)
        with pytest.raises(SystemExit) as stopped:
            main([*words, "--out", str(tmp_path / "command")])
        codes.append(stopped.value.code or 0)
    assert codes == [0, 130] and "stays as it was" in capsys.readouterr().out
    kept = json.loads((tmp_path / "command" / "pareto.json").read_text())
    assert kept["result"] == "completed" and kept["plain_test_loss"] == 1.0 and len(kept["points"]) == 2


def test_a_folder_does_not_go_on_under_another_search(front, tmp_path):
    path = tmp_path / "front" / "sweep.json"
    front()
    kept = json.loads(path.read_text())
    assert set(NEW) < set(kept)
    changes = {
        "gradient": "forward", "hops": "mean", "selection": 4, "resample": False, "seed": 3, "pairs": 4,
        "tune_step_time": True,
    }  # fmt: skip
    then = json.loads((EARLIER / "sweep.json").read_text())
    earlier = {name: value for name, value in kept.items() if name in then}
    assert set(earlier) == set(then)
    for content in (kept, earlier):
        path.write_text(json.dumps(content))
        for name, value in changes.items():
            with pytest.raises(ValueError, match=f"holds another sweep: it has (search_)?{name} = .*, but {value!r}"):
                front(**{name: value})
        assert json.loads(path.read_text()) == content
        assert front().result is TuneCode.completed
        # The folder of an earlier version says now what it was.
        assert json.loads(path.read_text()) == kept
    front(gradient="truncated", window=2, folder=tmp_path / "windows")
    with pytest.raises(ValueError, match="it has window = 2, but None"):
        front(gradient="truncated", folder=tmp_path / "windows")


def test_a_folder_does_not_go_on_with_other_numbers_tuned(front, tmp_path):
    some = {"numbers": ("height",), "folder": tmp_path / "some"}
    front(), front(**some)
    with pytest.raises(ValueError, match=r"it has numbers = None, but \['height'\]"):
        front(numbers=("height",))
    with pytest.raises(ValueError, match=r"it has numbers = \['height'\], but None"):
        front(**some | {"numbers": None})
    assert front(**some).result is TuneCode.completed


def test_a_program_that_is_gone_is_named():
    assert _difference({"program": {"loss": "a", "cell": "b"}}, {"program": {"loss": "a"}}) == "it has another cell"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"test_loss": "abc"}, "test_loss is 'abc', no number"),
        ({"log_step_time": None}, "log_step_time is None, no number"),
        ({"log_rate": ["a"]}, r"log_rate is \['a'\], no number"),
        ({"barrier": 3}, "is not a limjax barrier"),
    ],
)
def test_a_damaged_point_is_named(tmp_path, changed, said):
    content = json.loads((EARLIER / "point-000.json").read_text())
    path = tmp_path / "point-000.json"
    path.write_text(json.dumps(with_present_names(content, _pareto_points._EARLIER) | changed))
    with pytest.raises(ValueError, match=f"point-000.json.*{said}"):
        PointStore(tmp_path, {}).load(0, {})


@pytest.mark.usefixtures("x64")
def test_a_kept_point_comes_back_to_the_last_digit(tmp_path):
    design = Design(limjax.StaticBarrier(12.0), jnp.log(limjax.ArrheniusCell().step_time), jnp.linspace(-0.1, 0.3, 8))
    point = ParetoPoint({"energy": 1.0}, "completed", design, 1.0, 0.1, 2.0, 0.1, 1.0, False)
    store = PointStore(tmp_path, {})
    store.save(0, point)
    kept = store.load(0, point.setting)
    assert eqx.tree_equal(kept.design, design) and repr(kept) == repr(point)


def test_plain_training_has_no_end_of_the_driver(front, monkeypatch):
    """Neither that of a front nor that of the limit "plain": under one nothing would be delivered."""
    ran = []
    monkeypatch.setattr(_pareto_sweep, "evaluate", lambda problem, *others, **named: ran.append(problem) or DONE)
    monkeypatch.setattr(Problem, "run", lambda self, *others, **named: ran.append(self) or DONE)
    driven = RunSettings.of(quadratic(), steps=4, max_affinity=10.0)
    found = pareto_front(driven, barrier="static:height=12", energy=[1e-3], hand_made=False)
    plain_validation_loss(found.problem, found.problem.design(limjax.StaticBarrier(12.0)))
    assert found.problem.cell.driver_affinity == 10.0 and len(ran) == 2
    free = eqx.tree_at(lambda cell: cell.max_affinity, found.problem.cell, None)
    assert ran[0] is ran[1] and eqx.tree_equal(ran[0].cell, free) and ran[0].plain_problem is ran[0]


def test_points_of_an_earlier_version_are_read_the_same_and_written_again(front, monkeypatch, tmp_path):
    """One as the version before wrote it, and one of today under the names of then."""
    first = front()
    files = [tmp_path / "front" / f"point-00{i}.json" for i in range(2)]
    now = files[1].read_text()
    shutil.copy(EARLIER / "point-000.json", files[0])
    then = now.replace("energy_kt_per_parameter_error", "energy_error").replace("_kt_per_parameter", "_kt")
    files[1].write_text(then.replace('"test_loss', '"loss'))
    assert {"loss", "loss_error", "energy_kt", "energy_error"} <= set(json.loads(files[1].read_text()))
    monkeypatch.setattr(_pareto_sweep, "tuned", lambda *arguments, **named: pytest.fail("tuned again"))
    kept = front().points
    assert repr(kept[1]._replace(is_front=False)) == repr(first.points[1]._replace(is_front=False))
    assert files[1].read_text() == now
    assert (kept[0].test_loss, kept[0].energy_kt_per_parameter) == (20281842.0, 0.02593567967414856)
    assert set(json.loads(files[0].read_text())) == set(json.loads(now))


def test_earlier_fronts_with_time_tuned_the_step_time(front, tmp_path):
    path = tmp_path / "front" / "sweep.json"
    front(time=[0.1])
    kept = json.loads(path.read_text())
    assert kept["tune_step_time"] is True
    path.write_text(json.dumps({name: value for name, value in kept.items() if name not in NEW}))
    assert front(time=[0.1]).result is TuneCode.completed


def test_what_another_device_finishes_after_ctrl_c_is_kept(front, monkeypatch, tmp_path):
    begun = threading.Event()

    def run(problem, start, objective, search, progress, on_progress, **named):
        if float(objective.energy) < 5e-3:  # the first device, where Ctrl-C comes
            begun.wait(60)
            raise KeyboardInterrupt
        begun.set()
        try:
            while True:  # until it would be told to stop, had it outer steps left
                on_progress(None, 0.0)
        except KeyboardInterrupt:
            return found(problem, start)

    monkeypatch.setattr(_pareto_sweep, "tuned", run)
    stopped = front(devices=jax.local_devices()[:1] * 2)
    assert stopped.result is TuneCode.interrupted and [p.setting["energy"] for p in stopped.points] == [1e-2]
    assert (tmp_path / "front" / "point-001.json").exists()
