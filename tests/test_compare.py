"""Barriers side by side: the runs of `limjax.train`, kept in a file that goes on, with the standard errors of a textbook."""

import dataclasses
import json
import math
import os
import signal
import types

import jax.numpy as jnp
import numpy as np
import pytest
from command_line import refused, run
from unchecked import unchecked_types

import limjax
import limjax.cli.compare as command
from limjax.barriers._base import BarrierInputs
from limjax.cli.compare import _names
from limjax.numerics._result_code import ResultCode
from limjax.plots import comparing
from limjax.sweeps import SweepResult, _compare, _table, compare

pytestmark = pytest.mark.optax

WORDS = {"seeds": 3, "hops": "mean", "steps": 20}
BARRIERS = ["static:height=10", "lyapunov:start=11"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare") / "not" / "there"  # a folder that is made
    compare("quadratic", BARRIERS, folder=folder, **WORDS)
    return folder


def test_rows_are_runs_of_train_with_their_errors(folder):
    seen = []
    found = compare("quadratic", BARRIERS, folder=folder, **WORDS, on_progress=lambda *x: seen.append(x))
    assert seen == [] and [row.barrier for row in found.rows] == ["plain training", *BARRIERS]
    ran = limjax.train("quadratic", barrier=BARRIERS[1], hops="mean", steps=20, seed=2, compare=()).summary
    row = found.rows[2]
    np.testing.assert_allclose(row.heat_kt_per_parameter[2], ran["heat_kt_per_parameter"], rtol=1e-4)
    np.testing.assert_allclose(row.test_loss[2], ran["test_loss"], rtol=1e-4)
    values = [row.heat_kt_per_parameter[i] for i in range(3)]
    mean = sum(values) / 3
    by_hand = (sum((x - mean) ** 2 for x in values) / 2 / 3) ** 0.5
    assert row.mean("heat_kt_per_parameter") == pytest.approx((mean, by_hand))
    # Requests are rounded nowhere with the mean of the hops: what is reached is what plain training reaches.
    np.testing.assert_allclose(row.test_loss, found.plain.test_loss, rtol=1e-3)
    assert np.isnan(found.plain.heat_kt_per_parameter).all() and np.isnan(found.lost(row)[0])
    assert len(comparing.barriers(found).axes[0].get_legend().get_texts()) == 3


def compared(losses, energies, plain=(2.0, 4.0)):
    """A comparison of plain training and rows of these losses and energies, one pair of seeds each."""
    nothing = np.full(len(plain), np.nan)
    rows = [_compare.Compared(_compare.PLAIN, np.array(plain), nothing, nothing, nothing)]
    for loss, energy in zip(losses, energies):
        # Heat and work together are what is paid.
        shares = 0.75 * np.array(energy), 0.25 * np.array(energy)
        rows.append(_compare.Compared(str(energy), np.array(loss), nothing, *shares))
    return _compare.CompareResult(ResultCode.completed, {}, tuple(rows))


def test_the_energy_at_an_excess_is_read_between_the_rows():
    # Excesses of 4, 1 and 3 % over the mean of two seeds, whose own differ; the dearest is worse than what is cheaper.
    found = compared([(2.10, 4.12), (2.00, 4.08), (2.06, 4.12)], [(4.0, 6.0), (15.0, 25.0), (80.0, 80.0)])
    rows = found.rows[1:]
    np.testing.assert_allclose(found.excess(rows[0]), (0.05, 0.03))
    # Half way in 1/Q between 5 and 20 kT, where the excess is 2.5 %.
    value, error = found.energy_at(rows, 0.025)
    assert value == pytest.approx(8.0)
    # By hand: the second seed alone has 3 and 2 % at 6 and 25 kT, the first 5 and 0 % at 4 and 15.
    alone = 1 / (1 / 6 + 0.5 * (1 / 25 - 1 / 6)), 1 / (1 / 4 + 0.5 * (1 / 15 - 1 / 4))
    assert error == pytest.approx(abs(alone[0] - alone[1]) / 2)
    # The cheapest of two that are alike, whatever comes after; a row that failed does not count.
    alike = compared(
        [(2.08, 4.16), (2.02, 4.04), (2.02, 4.04), (np.nan, 4.0)], [(e, e) for e in (5.0, 20.0, 80.0, 9.0)]
    )
    assert alike.energy_at(alike.rows[1:], 0.01 + 1e-9)[0] == pytest.approx(20.0)
    # Rows in any order; quieter than the cheapest, and than any.
    assert found.energy_at(rows[::-1], 0.025)[0] == pytest.approx(8.0)
    assert found.energy_at(rows, 0.05)[0] == 5.0 and np.isnan(found.energy_at(rows, 0.005)[0])
    one = compared([[2.1]], [[5.0]], [2.0])
    assert one.energy_at(one.rows[1:], 0.06) == (5.0, pytest.approx(np.nan, nan_ok=True))


def test_an_excess_needs_plain_training_of_the_same_seeds_and_a_positive_loss():
    found = compared([(2.1, 4.2)], [(5.0, 5.0)])
    for rows, message in (
        ([], "at least one barrier"),
        (found.rows[:1], "plain training dissipates nothing"),
        (compared([(2.1, 4.2, 1.1)], [(5.0,) * 3], (2.0, 4.0, 1.0)).rows[1:], "3 seeds and plain training 2"),
    ):
        with pytest.raises(ValueError, match=message):
            found.energy_at(rows, 0.01)
    with pytest.raises(ValueError, match="plain=True"):
        _compare.CompareResult(ResultCode.completed, {}, found.rows[1:]).excess(found.rows[1])
    below = compared([(-2.0, 4.0)], [(5.0, 5.0)], (-2.1, 4.0))
    with pytest.raises(ValueError, match=r"above 0.*-2\.1"):
        below.excess(below.rows[1])


def test_a_file_goes_on_with_more_barriers_and_keeps_what_it_has(folder):
    content = json.loads((folder / "compare.json").read_text(), parse_constant=pytest.fail)
    # A number that no training gives: it is read, not made again.
    content["rows"][1]["heat_kt_per_parameter"][0] = 123.0
    (folder / "compare.json").write_text(json.dumps(content))
    found = compare("quadratic", ["static:height=12"], folder=folder, plain=False, **WORDS)
    assert [row.barrier for row in found.rows] == ["static:height=12"]
    kept = json.loads((folder / "compare.json").read_text())["rows"]
    assert {row["barrier"] for row in kept} == {"plain training", *BARRIERS, "static:height=12"}
    assert next(row for row in kept if row["barrier"] == BARRIERS[0])["heat_kt_per_parameter"][0] == 123.0
    before = (folder / "compare.json").read_bytes()
    with pytest.raises(ValueError, match=r"is a comparison with steps = 20, but 30 was asked for"):
        compare("quadratic", BARRIERS, folder=folder, **WORDS | {"steps": 30})
    assert (folder / "compare.json").read_bytes() == before


def test_a_file_of_an_earlier_version_is_read_the_same_and_written_again(folder, tmp_path):
    compare("quadratic", BARRIERS, folder=tmp_path / "now", **WORDS)
    now, earlier = tmp_path / "now" / "compare.json", tmp_path / "compare.json"
    earlier.write_text(now.read_text().replace("_kt_per_parameter", "_kt").replace("energy_kt", "cost_kt"))
    assert "mean_cost_kt" in json.loads(earlier.read_text())["rows"][0]
    known = compare("quadratic", BARRIERS, folder=tmp_path, **WORDS, on_progress=lambda *_: pytest.fail("trained"))
    assert json.dumps(known.to_json()) == json.dumps(json.loads(now.read_text()))
    assert earlier.read_bytes() == now.read_bytes()


def spline(*shifts):
    """Of so many knots that `repr` does not say them."""
    return [limjax.SplineBarrier(np.linspace(9.0, 16.0, 12) + shift, 20) for shift in shifts]


@pytest.fixture
def highest(monkeypatch):
    """Comparisons in which a row's heat is the barrier at the last step: nothing is trained."""

    def trained(task, points, *, seeds, **others):
        inputs = BarrierInputs(jnp.asarray(19), None, None, [], points[0].cell)
        height = float(points[0].barrier.evaluate(inputs, ())[0])
        return SweepResult(*[np.full((1, len(seeds)), height)] * 4)

    monkeypatch.setattr(_compare, "sweep", trained)

    def call(barriers, **given):
        found = compare("quadratic", barriers, plain=False, **WORDS, **given)
        return [round(float(row.heat_kt_per_parameter[0]), 4) for row in found.rows]

    return call


def test_barriers_of_one_name_are_told_apart_by_their_numbers(highest, tmp_path):
    assert highest(spline(0.0, 5.0)) == [16.0, 21.0]
    assert highest(spline(0.0), folder=tmp_path) == [16.0]
    assert highest(spline(5.0, 0.0), folder=tmp_path) == [21.0, 16.0]
    rows = json.loads((tmp_path / "compare.json").read_text())["rows"]
    assert len(rows) == 2 == len({row["fingerprint"] for row in rows}) and rows[0]["barrier"] == rows[1]["barrier"]
    found = compare("quadratic", spline(0.0, 5.0), plain=False, **WORDS)
    assert found.labels == [found.rows[0].barrier, f"{found.rows[0].barrier} (2)"]
    legend = [text.get_text() for text in comparing.barriers(found).axes[0].get_legend().get_texts()]
    assert legend == found.labels and "(2)" in str(found)
    rising = [limjax.ScheduledBarrier(lambda step, kt=kt: 9.0 + kt * step) for kt in (0.0, 1.0)]
    assert highest(rising) == [9.0, 28.0]
    with pytest.raises(ValueError, match="twice"):
        highest(spline(0.0, 0.0))


def test_a_barrier_file_that_changed_is_another_barrier(highest, tmp_path):
    path = str(tmp_path / "x.json")
    for shift in (0.0, 5.0, 0.0):
        limjax.save_barrier(*spline(shift), path)
        assert highest([path], folder=tmp_path) == [16.0 + shift]
    assert len(json.loads((tmp_path / "compare.json").read_text())["rows"]) == 2
    # Nor does the name of a file say what is no number of the barrier.
    kinds = [limjax.MomentBarrier(granularity=kind) for kind in ("leaf", "parameter")]
    assert len({_compare._fingerprint(barrier) for barrier in kinds}) == 2


def test_rows_without_fingerprint_count_where_the_name_says_all(highest, tmp_path):
    """Those of an earlier version."""
    barriers = [*spline(0.0), limjax.StaticBarrier(12.0), "static:height=10"]
    highest(barriers, folder=tmp_path)
    path = tmp_path / "compare.json"
    content = json.loads(path.read_text())
    for row in content["rows"]:
        row.pop("fingerprint", None)
        row["heat_kt_per_parameter"] = [123.0] * 3
    path.write_text(json.dumps(content))
    assert highest(barriers, folder=tmp_path) == [16.0, 123.0, 123.0]
    kept = json.loads(path.read_text())["rows"]
    assert [row["heat_kt_per_parameter"][0] for row in kept] == [16.0, 123.0, 123.0, 123.0]


@pytest.mark.parametrize("seeds", [0, -1, [], [-1], [1.5], [2**32], [True], [[1]], [[1], [1, 2]], "12"])
def test_wrong_seeds_are_refused(seeds):
    with unchecked_types(), pytest.raises(ValueError, match="seeds must be a"):
        compare("quadratic", BARRIERS, seeds=seeds)


def test_a_signal_ends_it_after_the_barrier_under_way(tmp_path):
    def stop(done, count, name):
        assert count == 2
        os.kill(os.getpid(), signal.SIGINT)

    found = compare("quadratic", BARRIERS, folder=tmp_path, plain=False, **WORDS, on_progress=stop)
    assert str(found.result) == "interrupted" and [row.barrier for row in found.rows] == BARRIERS[:1]
    rest = compare("quadratic", BARRIERS, folder=tmp_path, plain=False, **WORDS)
    heats = [result.rows[0].heat_kt_per_parameter.tolist() for result in (rest, found)]
    assert str(rest.result) == "completed" and heats[0] == heats[1]


def test_a_folder_that_cannot_be_made_is_said_before_any_work(folder):
    with pytest.raises(ValueError, match=r"compare\.json cannot be made \("):
        compare(
            "quadratic", BARRIERS, folder=folder / "compare.json", **WORDS, on_progress=lambda *_: pytest.fail("worked")
        )


def test_a_comparison_prints_as_its_table(folder):
    said = str(compare("quadratic", BARRIERS, folder=folder, **WORDS))
    assert all(name in said for name in ("plain training", "test loss", "above", *BARRIERS)) and "Compared(" not in said


def test_on_the_command_line(capsys, folder):
    words = [
        "compare",
        "--task",
        "quadratic",
        "--barriers",
        "static:height=10",
        "--seeds",
        3,
        "--hops",
        "mean",
        "--steps",
        20,
    ]
    code, out, err = run(capsys, *words, "--out", folder, "--json")
    assert code == 0 and json.loads(out)["rows"][0]["barrier"] == "plain training" and "static:height=10" in err
    assert (folder / "compare.png").exists()
    assert _names("lyapunov:start=8,end=3, static,moment") == ["lyapunov:start=8,end=3", "static", "moment"]


def named(names, losses, energies, plain=(2.0, 4.0)):
    """As `compared`, with names for the barriers."""
    found = compared(losses, energies, plain)
    rows = [dataclasses.replace(row, barrier=name) for row, name in zip(found.rows[1:], names)]
    settings = {"task": "quadratic", "steps": 1, "hops": "exact", "seeds": list(range(len(plain)))}
    return dataclasses.replace(found, settings=settings, rows=(found.rows[0], *rows))


def test_energy_at_an_excess_is_read_between_barriers_of_one_form(capsys, tmp_path, monkeypatch):
    names = ("moment:scale=1", "moment:scale=0.3", "moment:scale=0.2,granularity=leaf", "static")
    losses = [(2.10, 4.12), (2.00, 4.08), (2.02, 4.04), (2.50, 5.00)]
    found = named(names, losses, [(4.0, 6.0), (15.0, 25.0), (9.0, 9.0), (1.0, 1.0)])
    monkeypatch.setattr(command, "compared", lambda *_, **__: found)
    words = ("compare", "--out", tmp_path, "--no-figures", "--excess", "0.03,0.3", "--json")
    code, out, err = run(capsys, *words)
    energy, error = found.energy_at(found.rows[1:3], 0.03)
    assert code == 0 and 5 < energy < 20
    # Lines break at the width of the terminal.
    said = " ".join(err.split())
    assert (
        f"Heat and work for a loss 3 % above plain training's: moment {energy:.3g} ± {error:.2g} kT/parameter; "
        "moment:granularity=leaf at most 9 ± 0 kT/parameter; static not reached." in said
    )
    assert "30 % above plain training's: moment at most 5 ± 1 kT/parameter; " in said
    # 2.10 and 4.12 are above 2 and 4 by 5 and 3 percent.
    assert "above" in said and "4.0 ± 1.0" in said
    content = json.loads(out)["at_excess"]
    assert [(each["form"], each["excess"], each["is_bound"]) for each in content[:3]] == [
        ("moment", 0.03, False), ("moment:granularity=leaf", 0.03, True), ("static", 0.03, False),
    ]  # fmt: skip
    assert content[0]["energy_kt_per_parameter"] == pytest.approx(energy)
    assert content[2]["energy_kt_per_parameter"] is None
    assert content[0]["barriers"] == ["moment:scale=1", "moment:scale=0.3"]


def test_a_row_that_is_no_number_does_not_hide_a_bound():
    losses, energies = [(math.nan, 4.0), (2.02, 4.04)], [(1.0, 1.0), (9.0, 9.0)]
    (at,) = _table.energies_at(named(("moment:scale=1", "moment:scale=0.1"), losses, energies), [0.03])
    assert at.is_bound and at.energy_kt_per_parameter == pytest.approx(9.0)


@pytest.mark.parametrize(
    ("plain", "rows", "said"),
    [((-2.0, 4.0), 2, "No heat at an excess of the loss: A share of the loss needs one above 0"), ((2.0, 4.0), 1, "")],
    ids=["negative", "stopped before its first barrier"],
)
def test_a_comparison_without_an_excess_is_told_in_full(capsys, tmp_path, monkeypatch, plain, rows, said):
    found = named(("static",), [(2.0, 4.0)], [(1.0, 1.0)], plain)
    monkeypatch.setattr(command, "compared", lambda *_, **__: dataclasses.replace(found, rows=found.rows[:rows]))
    code, out, _ = run(capsys, "compare", "--out", tmp_path, "--no-figures", "--excess", "0.03")
    assert code == 0 and said in " ".join(out.split()) and "Outcome: completed." in out
    assert "above plain" not in out


def test_an_excess_is_checked_before_anything_is_trained(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "compared", lambda *_, **__: pytest.fail("trained"))
    for words, said in (
        (("--excess", "0.1", "--no-plain"), "leave out --no-plain"),
        (("--excess", "0.1", "--hops", "mean"), "take gaussian or exact"),
        (("--excess", "0"), "positive"),
    ):
        assert said in refused(capsys, "compare", "--out", tmp_path / "new", *words)
    assert not (tmp_path / "new").exists()


def test_the_time_left_is_that_of_what_is_trained_now(capsys, tmp_path, monkeypatch):
    clock = iter([100.0, 110.0, 120.0])

    def trains(*_, on_progress, **__):
        for done in (4, 5, 6):  # four of eight were trained before, each of the others takes 10 s
            on_progress(done, 8, f"barrier {done}")
        raise ValueError("enough")

    monkeypatch.setattr(command, "compared", trains)
    monkeypatch.setattr(command, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    _, out, _ = run(capsys, "compare", "--out", tmp_path / "new")
    lines = [line for line in out.splitlines() if "/8: barrier" in line]
    assert [line.partition("seeds")[2].strip() for line in lines] == ["", "30 s left", "20 s left"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--barriers", "lyapunow"], "Unknown barrier 'lyapunow'"),
        (["--barriers", ","], "barriers must be a list of barriers"),
        (["--barriers", "static,static"], "barriers names 'static' twice"),
        (["--task", "digit"], "Unknown task 'digit'"),
    ],
)
def test_wrong_words_leave_no_folder(capsys, tmp_path, words, said):
    assert said in refused(capsys, "compare", *words, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("text", ["[]", '{"rows": 3}', '{"rows": [{"barrier": "static"}]}', "{"])
def test_damaged_files_are_left_alone(folder, tmp_path, text):
    content = json.loads((folder / "compare.json").read_text())
    broken = json.dumps(content | json.loads(text)) if text.startswith('{"') else text
    (tmp_path / "compare.json").write_text(broken)
    with pytest.raises(ValueError, match=r"compare.json is damaged"):
        compare("quadratic", BARRIERS, folder=tmp_path, **WORDS)
    assert (tmp_path / "compare.json").read_text() == broken
