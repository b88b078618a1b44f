"""`limjax scale`: runs that are those of `limjax train`, that go on where they were stopped, and what is said of them."""

import dataclasses
import json
import types

import numpy as np
import pytest

from limjax import runs as run_files
from limjax.cli import main
from limjax.limits import read_measured
from limjax.numerics._result_code import ResultCode
from limjax.scaling import ScaleSettings, _sweep, halved, measure_growth
from limjax.tasks import language
from limjax.training import execute, prepare
from limjax.tuning import Progress

pytestmark = pytest.mark.optax

TINY = ScaleSettings(sizes=(3e3,), seeds=1, tokens_per_parameter=2.4, barrier="moment:scale=0.1")
MEMORY, PLAIN = "language-3k-seed-0", "language-3k-seed-0-plain"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A sweep of one pair."""
    folder = tmp_path_factory.mktemp("growth")
    return folder, measure_growth(TINY, folder)


@pytest.mark.slow
def test_every_training_has_the_files_of_a_run(measured):
    folder, result = measured
    assert result.result is ResultCode.completed
    (numbers,) = result.measurements
    for name in (MEMORY, PLAIN):
        files = {path.name for path in (folder / name).iterdir()}
        assert files >= {
            run_files.SETTINGS,
            run_files.SUMMARY,
            run_files.LEDGER,
            run_files.HISTORY,
            run_files.CHECKPOINTS,
        }
    summary = json.loads((folder / MEMORY / run_files.SUMMARY).read_text())
    assert numbers["steps"] == summary["steps"] == round(2.4 * 3624 / 512)
    assert numbers["heat_kt_per_parameter"] == pytest.approx(summary["heat_kt"] / 3624)
    assert numbers["hops"] == pytest.approx(summary["hops_mean"] / 3624)
    assert numbers["plain_loss"] == json.loads((folder / PLAIN / run_files.SUMMARY).read_text())["test_loss"]
    assert json.loads((folder / PLAIN / run_files.SETTINGS).read_text())["hops"] == "mean"
    # What is finished is not trained again.
    again = measure_growth(TINY, folder, Progress(lambda words, left: pytest.fail(words)))
    assert again.measurements == result.measurements


@pytest.mark.parametrize("name", ["initial_loss", "train_loss", "test_loss"])
def test_a_loss_that_is_not_finite_at_the_end_ends_the_sweep(tmp_path, monkeypatch, name):
    summary = {"initial_loss": 5.0, "train_loss": 4.0, "test_loss": 4.5} | {name: None}
    ended = types.SimpleNamespace(result=ResultCode.completed, summary=summary)
    monkeypatch.setattr(_sweep, "execute", lambda *_, **__: ended)
    found = measure_growth(TINY, tmp_path)
    assert found.result is ResultCode.nonfinite and not found.measurements
    assert not list(tmp_path.rglob("measurement.json"))


@pytest.mark.slow
def test_what_was_stopped_goes_on_and_is_the_run_of_train(tmp_path):
    """The same heat and loss to the last bit, with the optimizer watched and the training stopped in its middle, for the same gradients."""

    def stop(words, left):
        if "step 4/" in words:
            raise KeyboardInterrupt

    first = measure_growth(TINY, tmp_path, Progress(stop))
    assert first.result is ResultCode.interrupted and first.measurements == []
    said = []
    second = measure_growth(TINY, tmp_path, Progress(lambda words, left: said.append(words)))
    assert second.result is ResultCode.completed and len(second.measurements) == 1
    assert said and not any(words.startswith("language-3k, seed 0: step 1/") for words in said)
    task = language(3e3)
    run = prepare(TINY.run_settings(task, 3e3, 0), task, compare=(), granularity="leaf", gradient=halved(task.loss))
    alone = execute(run).summary
    summary = json.loads((tmp_path / MEMORY / run_files.SUMMARY).read_text())
    for name in ("heat_kt", "actuation_kt", "test_loss", "path_levels", "hops_mean"):
        assert summary[name] == alone[name], name


@pytest.mark.slow
def test_kinds_of_layers_make_up_the_whole(measured):
    (numbers,) = measured[1].measurements
    kinds = numbers["kinds"]
    assert list(kinds) == ["attention", "embedding", "mlp", "output"]
    assert sum(kind["parameters"] for kind in kinds.values()) == numbers["parameters"] == 3624
    for name in ("heat_kt_per_parameter", "actuation_kt_per_parameter", "path_levels", "hops", "effective_updates"):
        total = sum(kind[name] * kind["parameters"] for kind in kinds.values())
        assert numbers[name] == pytest.approx(total / 3624)
    fall = np.log(numbers["initial_loss"] / numbers["train_loss"])
    assert numbers["law_kt_per_parameter"] == pytest.approx(2 * fall + 2 * numbers["effective_updates"])
    assert numbers["law_kt_per_parameter"] > numbers["convergence_kt_per_parameter"] == pytest.approx(2 * fall)
    assert numbers["bin_losses"][0] > numbers["bin_losses"][-1]
    promised = np.sum(np.array(numbers["bin_promises"]) / numbers["bin_losses"])
    assert numbers["promised_efolds"] == pytest.approx(promised) and promised > fall
    assert numbers["promised_efolds"] == pytest.approx(sum(kind["promised_efolds"] for kind in kinds.values()))


@pytest.mark.slow
def test_the_file_holds_runs_fits_and_provenance(measured):
    folder, result = measured
    content = json.loads((folder / "scaling.json").read_text())
    assert content["result"] == "completed" and content["settings"] == json.loads(json.dumps(TINY.to_json()))
    assert len(content["text"]["sha256"]) == 64 and "versions" in content["machine"]
    assert read_measured(folder) == result.runs
    assert "at least two sizes, got 1" in content["fits"]["energy_kt_per_parameter"]["reason"]


@pytest.mark.slow
def test_other_settings_are_refused_and_more_seeds_are_not(measured):
    folder = measured[0]
    with pytest.raises(ValueError, match=r"measured with tokens_per_parameter = 2.4, but 3.0 was given"):
        measure_growth(dataclasses.replace(TINY, tokens_per_parameter=3.0), folder)
    more = dataclasses.replace(TINY, sizes=(1e4,), seeds=2).joined(TINY.to_json() | {"seeds": 3}, "it")
    assert more.sizes == (3e3, 1e4) and more.seeds == 3
    with pytest.raises(ValueError, match="damaged"):
        TINY.joined(TINY.to_json() | {"sizes": None}, "it")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sizes": ()}, "at least one number"),
        ({"sizes": (3e3, 3.1e3)}, "of different networks, but 3000 is 3,624, 3100 is 3,624"),
        ({"sizes": (10.0,)}, "parameters must be"),
        ({"seeds": 0}, "seeds must be"),
        ({"tokens_per_parameter": -1.0}, "tokens_per_parameter must be"),
        ({"lsb": 0.0}, "lsb must be"),
        ({"bits": 0}, "bits must be"),
    ],
)
def test_wrong_settings_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(TINY, **changes)


def test_a_folder_of_an_earlier_version_goes_on(tmp_path):
    """Trainings that are finished, with the names of then in `measurement.json`: nothing is trained."""
    (run, *_), folder = read_measured(), tmp_path / MEMORY
    numbers = dataclasses.asdict(run) | {"kinds": {"mlp": {"heat_kt_per_parameter": 2.0, "hops": 3.0}}}
    for name in (MEMORY, PLAIN):
        (tmp_path / name).mkdir()
        (tmp_path / name / run_files.SUMMARY).write_text('{"result": "completed", "test_loss": 2.5}')
    (folder / "measurement.json").write_text(json.dumps(numbers).replace("_kt_per_parameter", "_kt"))
    assert json.loads((folder / "measurement.json").read_text())["kinds"] == {"mlp": {"heat_kt": 2.0, "hops": 3.0}}
    found = measure_growth(TINY, tmp_path, Progress(lambda words, left: pytest.fail(words)))
    assert found.runs == [dataclasses.replace(run, plain_loss=2.5)] == read_measured(tmp_path)
    for kept in (found.measurements[0], json.loads((tmp_path / "scaling.json").read_text())["runs"][0]):
        assert kept == numbers | {"plain_loss": 2.5}
    assert json.loads((folder / "measurement.json").read_text()) == numbers


def test_few_bits_are_coarse_levels_of_the_memory_alone():
    task, few = language(3e3), dataclasses.replace(TINY, bits=4)
    memory, plain = (few.run_settings(task, 3e3, 0, plain) for plain in (False, True))
    assert (memory.bits, memory.lsb) == (4, 0.125) and (plain.bits, plain.lsb) == (None, task.defaults.lsb)
    assert dataclasses.replace(few, lsb=0.01).run_settings(task, 3e3, 0).lsb == 0.01
    with pytest.raises(ValueError, match="measured with bits = None, but 4 was given"):
        few.joined({name: value for name, value in TINY.to_json().items() if name != "bits"}, "it")


def test_a_training_of_one_step_is_refused():
    with pytest.raises(ValueError, match="is one step at 3000 parameters"):
        dataclasses.replace(TINY, tokens_per_parameter=0.01).run_settings(language(3e3), 3e3, 0)


def test_the_command_refuses_before_any_work(tmp_path, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x")
    for arguments, words in (
        (["--sizes", "1e4,x"], "--sizes must be numbers"),
        (["--sizes", "1e4", "--out", str(tmp_path / "other")], "holds other files"),
        (["--sizes", "1e4", "--seeds", "0"], "seeds must be"),
    ):
        with pytest.raises(SystemExit) as end:
            main(["scale", *arguments])
        assert end.value.code == 2 and words in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_measures_fits_and_draws(tmp_path, capsys):
    arguments = [
        "--sizes",
        "3e3,1e4",
        "--seeds",
        "1",
        "--tokens-per-parameter",
        "2",
        "--out",
        str(tmp_path / "growth"),
        "--json",
    ]
    with pytest.raises(SystemExit) as end:
        main(["scale", *arguments])
    said = capsys.readouterr()
    content = json.loads(said.out)
    assert end.value.code == 0 and len(content["runs"]) == 2
    assert set(content["fits"]["energy_kt_per_parameter"]["exponents"]) == {"parameters"}
    assert "grows as N^" in said.err and (tmp_path / "growth" / "growth.png").is_file()
    with pytest.raises(SystemExit) as end:
        main(["limits", "--parameters", "1e15", "--from", str(tmp_path / "growth"), "--json"])
    assert json.loads(capsys.readouterr().out)["measured"]["sizes"] == [3624, 10320]
