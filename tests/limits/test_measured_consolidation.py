"""The consolidation wall from a run of `limjax continual`: what is taken of it, what the walls make of it, and what is refused."""

import json

import pytest

from limjax.cli import main
from limjax.limits import Workload, read_consolidation, walls
from limjax.physics.units import thermal_energy_joules


def _row(method, accuracy, heat, work):
    return {
        "method": method,
        "final_accuracy": accuracy,
        "heat_kt_per_parameter": heat,
        "actuation_kt_per_parameter": work,
    }


def _training(method, written=0, examples=0):
    return {"method": method, "written": written, "examples": examples, "parameters": 100}


@pytest.fixture
def run(tmp_path):
    """A run of two barrier methods, one that copies numbers and one that copies examples."""
    content = {
        "settings": {"tasks": "split-digits", "scenario": "task", "copy_bits": 8},
        "methods": [
            _row("fine-tune", 0.8, 100.0, 0.0),
            _row("ewc:strength=1", 0.95, 90.0, 0.0),
            _row("replay:examples=1", 0.9, 95.0, 0.0),
            _row("barrier:use", 0.91, 80.0, 0.5),
            _row("barrier:fisher", 0.93, 130.0, 0.25),
        ],
        "trainings": [
            _training("fine-tune"),
            _training("ewc:strength=1", 8),
            _training("ewc:strength=1", 8),
            _training("replay:examples=1", 0, 250),
            _training("barrier:use"),
            _training("barrier:fisher"),
        ],
    }
    (tmp_path / "continual.json").write_text(json.dumps(content))
    return tmp_path, content


def test_the_best_of_each_kind_is_taken(run):
    found = read_consolidation(run[0])
    assert (found.barrier_method, found.copy_method) == ("barrier:fisher", "ewc:strength=1")
    assert (found.actuation_kt_per_parameter, found.later_heat_kt_per_parameter) == (0.25, 30.0)
    assert found.barrier_kt_per_parameter == 30.25
    assert found.copied_bits == 64 and found.copy_heat_kt_per_parameter is None
    workload = Workload(1e9, tokens=2e10, batch=1e6, bits=16)
    assumed, measured = walls(workload), walls(workload, consolidation=found)
    assert measured[2].consolidation == pytest.approx(1e9 * 30.25 * thermal_energy_joules(300.0))
    for one, other in zip(assumed[:2], measured[:2]):
        # 64 measured bits in place of 16 assumed ones; all else stays.
        assert other.consolidation == pytest.approx(4 * one.consolidation)
        assert (other.compute, other.memory, other.update) == (one.compute, one.memory, one.update)
    assert "as measured on split-digits (task-incremental): barrier:fisher, 0.25 kT" in measured[2].assumptions


def test_what_was_not_measured_stays_as_assumed(run):
    folder, content = run
    content["methods"] = [row for row in content["methods"] if row["method"] in ("replay:examples=1", "fine-tune")]
    (folder / "continual.json").write_text(json.dumps(content))
    found, workload = read_consolidation(folder / "continual.json"), Workload(1e9, tokens=2e10, batch=1e6, bits=16)
    assert found.barrier_kt_per_parameter is None and found.copied_bits == 20
    assert walls(workload, consolidation=found)[2] == walls(workload)[2]
    content["methods"] = content["methods"][:1]
    (folder / "continual.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"No method in .* raised barriers or copied anything: add one"):
        read_consolidation(folder)


@pytest.mark.parametrize(
    ("plain", "result", "later", "kt", "words"),
    [
        (None, "completed", None, 0.25, "later heat not measured, add --method fine-tune"),
        (float("nan"), "completed", None, 0.25, "later heat not measured, add --method fine-tune"),
        (150.0, "completed", -20.0, 0.25, "20 kT less heat of updates than fine-tuning"),
        (100.0, "interrupted", 30.0, 30.25, "a run that is interrupted): barrier:fisher, 0.25 kT of barrier and 30 kT"),
    ],
)
def test_later_heat_is_said_to_be_what_it_is(run, plain, result, later, kt, words):
    """Heat that was not measured is no zero, cooling pays nothing back, and half a run is called that."""
    folder, content = run
    content["methods"][0]["heat_kt_per_parameter"] = plain
    if plain is None:
        del content["methods"][0], content["trainings"][0]
    content["result"] = result
    (folder / "continual.json").write_text(json.dumps(content))
    found = read_consolidation(folder)
    assert (found.later_heat_kt_per_parameter, found.barrier_kt_per_parameter, found.result) == (later, kt, result)
    assert words in walls(Workload(1e9, tokens=2e10, batch=1e6, bits=16), consolidation=found)[2].assumptions


@pytest.mark.parametrize("change", [{"trainings": []}, {"trainings": [_training("fine-tune") | {"parameters": 0}]}])
def test_a_damaged_run_is_named(run, change):
    folder, content = run
    content["methods"] = content["methods"][:1]
    (folder / "continual.json").write_text(json.dumps(content | change))
    with pytest.raises(ValueError, match=r"continual.json holds no trainings through a sequence"):
        read_consolidation(folder)


def test_what_is_no_run(tmp_path):
    with pytest.raises(
        ValueError, match=r"cannot be read: .* Give --consolidation-from the folder of `limjax continual`"
    ):
        read_consolidation(tmp_path)
    for text in ("[]", "{", '{"settings": {}}', "[" * 100_000):
        (tmp_path / "continual.json").write_text(text)
        with pytest.raises(ValueError, match="holds no trainings through a sequence"):
            read_consolidation(tmp_path)


def test_the_command_says_it(run, capsys):
    words = ["limits", "--parameters", "1e9", "--tokens", "2e10", "--consolidation-from", str(run[0])]
    for more in ([], ["--json"]):
        with pytest.raises(SystemExit) as stopped:
            main([*words, *more])
        assert stopped.value.code in (0, None)
        out = capsys.readouterr().out
        if more:
            content = json.loads(out)
            assert content["consolidation"]["barrier_method"] == "barrier:fisher"
            assert [bar["architecture"] for bar in content["walls"]][2] == "learning-in-memory"
        else:
            assert "The walls, per part [J]:" in out and "barrier:fisher" in out
