"""Whatever stands in a summary.json, who reads it says what is wrong in one paragraph that names file and key."""

import copy
import json
import math
import pathlib
import random
import shutil

import pytest
from command_line import refused, run
from unchecked import unchecked_types

import limjax
from limjax import limits, runs
from limjax._files import read_as, read_part
from limjax._kept_run import KeptRun
from limjax._page import comparison_page, grouped, run_page
from limjax.gap import energy_gap, gap_text
from limjax.training import RunSettings, execute, prepare

pytestmark = pytest.mark.optax

TASK = limjax.tasks.get_task("diabetes-regression")
WRONG = [None, True, "x", "", [], {}, [1], {"mean": "x"}, -1, 0, 1.5, math.nan, math.inf, 10**400, "1e3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    settings = RunSettings.of(TASK, steps=4, batch_size=8, hops="mean")
    runs.save_run(execute(prepare(settings, TASK, compare=("static",))), folder, figures=False)
    return folder


def alone(folder, place):
    return shutil.copytree(folder, place, ignore=shutil.ignore_patterns("*.npz", "*.png"))


def places(content, here=()):
    """Every key of nested objects."""
    for key, value in content.items():
        yield (*here, key)
        if isinstance(value, dict) and here in ((), ("report",)):
            yield from places(value, (*here, key))


def with_value(content, place, value):
    changed = copy.deepcopy(content)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return changed


@pytest.mark.parametrize("count", [60, pytest.param(600, marks=pytest.mark.slow)])
def test_one_key_is_wrong_or_missing(folder, tmp_path, count):
    content = json.loads((folder / "summary.json").read_text())
    damaged = [(place, value) for place in places(content) for value in (..., *WRONG)]
    damaged = random.Random(count).sample(damaged, count)
    copied, whole = alone(folder, tmp_path / "run"), KeptRun.read(folder)
    told, silent = 0, []
    for place, value in damaged:
        (copied / "summary.json").write_text(json.dumps(with_value(content, place, value)))
        with unchecked_types():
            try:
                kept = KeptRun.read(copied)
            except ValueError as error:
                assert str(copied) in str(error) and "limjax train" in str(error), (place, value)
                assert "summary.json" in str(error) or place[0] == "report"  # layers.csv that fits no table of them
                assert "\n" not in str(error) and (
                    len(place) > 1 or repr(place[0]) in str(error) or place == ("report",)
                )
                told += 1
                continue
            try:  # what was let through does no harm
                run_page(kept, {})
                comparison_page(grouped([whole, kept]))
                gap_text([energy_gap(kept.summary)], 80)
            except ValueError as error:
                if "limjax train" not in str(error) and "same run twice" not in str(error):
                    silent.append((place, value, error))
            except Exception as error:
                silent.append((place, value, repr(error)))
    assert silent == [] and told > 0.2 * len(damaged)


def test_settings_measurements_and_projections_refuse_by_value(folder):
    """What a resume, `limjax scale` and `limjax limits --from` read: the same values, and never anything but a ValueError."""
    summary = json.loads((folder / "summary.json").read_text())
    measured = json.loads((pathlib.Path(limits.__file__).parent / "catalogue" / "growth.json").read_text())["runs"][0]
    config = RunSettings.of(TASK, steps=4, learning_rate_factor=(1.0, 2.0), stop_at_heat=3.0).to_json()
    workload, refusals = limits.Workload(1e9), 0
    readers = ((config, RunSettings.from_json), (measured, limits.MeasuredRun.from_json))
    with unchecked_types():
        for content, read in (*readers, (summary, lambda found: limits.project(found, workload))):
            for key in content:
                for value in (..., *WRONG):
                    try:
                        read(with_value(content, (key,), value))
                    except ValueError:
                        refusals += 1
    assert refusals > 200


def test_files_of_a_sweep_name_themselves(tmp_path):
    path = tmp_path / "one.json"
    for content in ("{}", '{"a": [1]}', '{"a": 1e400}', '{"settings": 3}'):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"one\.json is damaged \(.*\)\. Mend it\."):
            read_as(path, lambda found: {"x": found["a"].name}, "Mend it.")
    with pytest.raises(ValueError, match=r"one\.json is damaged: 'settings' is a number where an object"):
        read_part(path, "settings", "Mend it.")
    assert read_part(path, "others", "") == {}


def test_commands_name_the_key(capsys, folder, tmp_path):
    copied = alone(folder, tmp_path / "run")
    content = json.loads((folder / "summary.json").read_text())
    (copied / "summary.json").write_text(json.dumps(with_value(content, ("attempt_rate",), "fast")))
    for words in (("report", copied), ("report", copied, folder), ("gap", copied)):
        said = refused(capsys, *words)
        assert "'attempt_rate' must be a positive number" in said and "got 'fast'" in said and "summary.json" in said
    (copied / "summary.json").write_text(json.dumps(with_value(content, ("attempt_rate",), ...)))
    assert "it has no 'attempt_rate'" in refused(capsys, "report", copied)
    (copied / "summary.json").write_text(json.dumps(with_value(content, ("heat_kt",), 10**400)))
    assert "heat_kt" in refused(capsys, "gap", copied)


def test_a_history_of_an_earlier_version_is_read_the_same(capsys, folder, tmp_path):
    copied = alone(folder, tmp_path / "run")
    header, *rows = (copied / "history.csv").read_text().splitlines()
    then = "step,loss,test_loss,test_accuracy,heat_kt,actuation_kt,static_heat_kt,compared_kt,barrier_kt,seconds"
    (copied / "history.csv").write_text("\n".join([then, *rows]))
    assert header != then and repr(KeptRun.read(copied).history) == repr(KeptRun.read(folder).history)
    (copied / "history.csv").write_text(
        "\n".join([then.replace("heat_kt,actuation_kt", "actuation_kt,heat_kt"), *rows])
    )
    assert "its columns are not those of a history" in refused(capsys, "report", copied)


def test_rows_that_are_too_large_are_damage(capsys, folder, tmp_path):
    copied = alone(folder, tmp_path / "run")
    header, *rows = (copied / "history.csv").read_text().splitlines()
    (copied / "history.csv").write_text("\n".join([header, "inf" + rows[0][rows[0].index(",") :]]))
    assert "history.csv is damaged" in refused(capsys, "report", copied)


@pytest.mark.slow
def test_barriers_of_ones_own_are_told_apart_by_their_numbers(tmp_path):
    settings = RunSettings.of(TASK, steps=2, batch_size=8, hops="mean")
    kept = []
    for name, height, seed in (("a", 10.0, 0), ("b", 10.0, 1), ("c", 14.0, 0)):
        folder = tmp_path / name
        folder.mkdir()
        barrier = limjax.StaticBarrier(height)
        result = limjax.train(
            TASK, barrier=barrier, steps=2, batch_size=8, hops="mean", seed=seed, compare=(), granularity="leaf"
        )
        runs.save_run(result, folder, figures=False)
        kept.append(KeptRun.read(folder))
    groups = grouped(kept)
    assert [len(group.runs) for group in groups] == [2, 1] and settings.task == TASK.name
    assert len({group.name for group in groups}) == 2 and all(group.name.startswith("barrier ") for group in groups)


def test_interrupted_runs_are_not_averaged_with_whole_ones(capsys, folder, tmp_path):
    content = json.loads((folder / "summary.json").read_text())
    others = {"one": {"seed": 1}, "two": {"seed": 2, "result": "interrupted", "steps": 2, "heat_kt": 0.0}}
    for name, given in others.items():
        copied = alone(folder, tmp_path / name)
        (copied / "summary.json").write_text(json.dumps(content | given))
    code, out, err = run(
        capsys, "report", folder, tmp_path / "one", tmp_path / "two", "--out", tmp_path / "page.html", "--json"
    )
    groups = json.loads(out)
    assert code == 0 and [group["seeds"] for group in groups] == [[0, 1], [2]]
    assert groups[1]["name"].endswith("interrupted after 2 steps") and "interrupted after" in " ".join(err.split())
    assert groups[0]["means"]["heat [kT/parameter]"] == content["heat_kt"] / content["parameters"]
    assert "Ended before all steps" in (tmp_path / "page.html").read_text()
