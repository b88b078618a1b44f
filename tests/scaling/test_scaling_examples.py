"""Examples of growing language models and of few bits, with few steps."""

import json
import math
import re
import types

import jax.numpy as jnp
import numpy as np
import pytest
from programs import EXAMPLES, module_of
from programs import run_example as run

import limjax
from limjax.barriers._base import BarrierInputs

pytestmark = pytest.mark.optax


@pytest.mark.slow
def test_growth():
    out = run("growth.py", "--tokens", 1)
    rows = re.findall(r"([\d,]+) parameters: loss (\S+) \(without memory (\S+)\), (\S+) kT of heat", out)
    assert [row[0] for row in rows] == ["3,624", "10,320"]
    assert all(0 < float(number) < 100 for row in rows for number in row[1:])
    assert out.count("attention: ") == 2 and "at 1e15" in out


@pytest.mark.parametrize("folders", [False, pytest.param(True, id="earlier", marks=pytest.mark.slow)])
def test_the_page_of_measured_growth_is_made_of_the_numbers_kept(tmp_path, folders):
    """Of the file that was made with it, or of folders of the version before, which had other names for means."""
    root, paths = EXAMPLES.parent, [EXAMPLES.parent / "benchmarks/results/growth.json"]
    if folders:
        sweeps = json.loads(paths.pop().read_text())["sweeps"]
        for i, content in enumerate(sweeps):
            paths.append(tmp_path / str(i))
            paths[-1].mkdir()
            (paths[-1] / "scaling.json").write_text(json.dumps(content).replace("_kt_per_parameter", "_kt"))
    run("growth_table.py", *paths, "--out", tmp_path)
    for made in ("docs/results/growth.md", "limjax/limits/catalogue/growth.json"):
        assert (tmp_path / made).read_text() == (root / made).read_text()
    for name in ("growth.png", "growth_steps.png"):
        assert (tmp_path / "docs/results" / name).stat().st_size > 10_000


def test_runs_that_were_measured_again_count_once_and_the_later(tmp_path, monkeypatch):
    """Also where a whole sweep was, and called again on what it wrote: what comes with limjax stays of its batch."""
    table, before = module_of(EXAMPLES / "growth_table.py"), EXAMPLES.parent / "benchmarks/results/growth.json"
    # Only files are looked at; the page and its figures have a test of their own.
    monkeypatch.setattr(table, "page", lambda *_: "")
    monkeypatch.setattr(table, "save_growth_figure", lambda *_: None)
    monkeypatch.setattr(table, "energy_by_steps", lambda _: types.SimpleNamespace(savefig=lambda _: None))
    contents = json.loads(before.read_text())["sweeps"]
    batch = contents[0]["runs"][0]["batch_tokens"]
    earlier = [run for content in contents for run in content["runs"]]
    again = [run | {"heat_kt_per_parameter": 1e3 + i} for i, run in enumerate(earlier) if run["batch_tokens"] == batch]
    (tmp_path / "scaling.json").write_text(json.dumps(contents[0] | {"runs": again}))
    out = tmp_path / "out"
    table.main([before, tmp_path], out)
    made = (out / "limjax/limits/catalogue/growth.json").read_text()
    shipped = json.loads(made)
    assert {run["batch_tokens"] for run in shipped["runs"]} == {batch} and len(shipped["runs"]) == len(again)
    assert all(run["heat_kt_per_parameter"] >= 1e3 for run in shipped["runs"])
    assert shipped["provenance"]["settings"]["batch_size"] == contents[0]["settings"]["batch_size"]
    assert len(json.loads((out / "benchmarks/results/growth.json").read_text())["runs"]) == len(earlier)
    table.main([out / "benchmarks/results/growth.json"], out)
    assert (out / "limjax/limits/catalogue/growth.json").read_text() == made


def test_the_price_of_a_step_is_told_of_moment_barriers_and_of_runs_that_counted_it():
    table = module_of(EXAMPLES / "growth_table.py")
    run = {"batch_tokens": 512.0, "parameters": 10, "seed": 0, "steps": 100, "heat_kt_per_parameter": 50.0}
    run |= {"convergence_kt_per_parameter": 3.0, "promised_efolds": 4.0}
    (row,) = [line for line in table._promised([run], "moment:scale=0.1") if line.startswith("| 10 ")]
    # Of 100 steps 96 are in bins; 1.5 e-folds are half of 3 kT.
    assert row == "| 10 | 512.0 | 1 | 100 | 1.50 | 4 | 0.0417 | 1.25 |"
    assert table._promised([run], "lyapunov") == []
    assert table._promised([{name: run[name] for name in run if name != "promised_efolds"}], "moment") == []


def test_a_page_of_growth_is_of_runs_that_differ_in_size_seed_and_batch_alone():
    table = module_of(EXAMPLES / "growth_table.py")
    one = {"settings": {"sizes": [1e4], "seeds": 3, "barrier": "moment", "batch_size": None}, "text": {"sha256": "a"}}
    table._check_alike(
        ["x", "y"], [one, {"settings": {**one["settings"], "batch_size": 32, "bits": None}, "text": one["text"]}]
    )
    for other in (
        {"settings": {**one["settings"], "bits": 8}, "text": one["text"]},
        {"settings": one["settings"], "text": {"sha256": "b"}},
    ):
        with pytest.raises(ValueError, match=r"y has (bits = 8|text = 'b').*Leave that folder out"):
            table._check_alike(["x", "y"], [one, other])


@pytest.mark.slow
def test_precision_table_reads_the_least_cost_between_the_scales(tmp_path):
    out, work = tmp_path / "out", tmp_path / "work"
    few = ("--tasks", "language-10k", "--bits", 4, 8, "--ranges", 1, "--scales", 0.1, 1, "--seeds", 2, "--steps", 6)
    assert run("precision_table.py", *few, "--work", work, "--out", out).count("measured") == 3
    page = (out / "docs/results/precision.md").read_text()
    assert "measured" not in run("precision_table.py", *few, "--work", work, "--out", out)
    assert (out / "docs/results/precision.md").read_text() == page
    assert (out / "docs/results/precision.png").stat().st_size > 10_000
    task = json.loads((out / "benchmarks/results/precision.json").read_text())["tasks"]["language-10k"]
    assert [(row["bits"], row["lsb"], row["scale"]) for row in task["rows"]] == [
        (bits, lsb, scale) for bits, lsb in ((4, 2**-3), (8, 2**-7)) for scale in (0.1, 1)
    ]
    quiet, cheap = (np.mean(task["rows"][i]["heat_kt_per_parameter"]) for i in (2, 3))
    assert quiet > cheap


def test_the_least_cost_at_an_excess():
    cost_at = module_of(EXAMPLES / "precision_table.py").cost_at
    # Two seeds: 4 % above at 1 kT, 1 % above at 100 kT, and a still dearer one that is worse.
    rows = [
        {"test_loss": [loss, 2 * loss], "heat_kt_per_parameter": [heat] * 2, "actuation_kt_per_parameter": [0.0] * 2}
        for loss, heat in ((1.04, 1.0), (1.01, 100.0), (1.02, 1000.0))
    ]
    value, error = cost_at(rows, [1.0, 2.0], 0.025)
    # Half way in 1/kT.
    assert value == pytest.approx(1 / (0.5 * (1 + 0.01))) and error == pytest.approx(0.0, abs=1e-9)
    assert cost_at(rows, [1.0, 2.0], 0.05)[0] == 1.0
    assert math.isnan(cost_at(rows, [1.0, 2.0], 0.005)[0])
    # One seed, in all of a row's numbers.
    one = {name: values[:1] for name, values in rows[0].items()}
    assert math.isnan(cost_at([one], [1.0], 0.5)[1])


def test_the_page_of_the_cost_of_precision_is_made_of_the_numbers_kept():
    cost, root = module_of(EXAMPLES / "precision_cost.py"), EXAMPLES.parent
    content = json.loads((root / cost.RESULT).read_text())
    assert cost.page(content) == (root / "docs/results/precision_cost.md").read_text()
    assert len(cost.draw(content["sizes"]).axes) == len({one["tokens"] for one in content["sizes"]})


def test_other_forms_make_the_laws_disturbance_and_take_its_course():
    """Σ q g is that of the moment barrier for every share, and over the run the scale rises by the factor that was asked for."""
    cost, cell = module_of(EXAMPLES / "precision_cost.py"), limjax.ArrheniusCell()
    rng = np.random.default_rng(0)
    drift, gradient = ([jnp.asarray(rng.lognormal(size=n), jnp.float32) for n in (40, 60)] for _ in range(2))

    def disturbance(barrier, step):
        inputs = BarrierInputs(jnp.int32(step), jnp.float32(2.0), drift, [-g for g in gradient], cell)
        heights, _ = barrier.evaluate(inputs, barrier.init([jnp.zeros(40), jnp.zeros(60)]))
        exchanges = [np.exp(np.asarray(cell.log_exchange(b), np.float64)) for b in heights]
        # One step: the mean squared gradient is its square.
        return float(sum((g * e).sum() for g, e in zip(gradient, exchanges))), np.concatenate(exchanges)

    start, end = (disturbance(limjax.MomentBarrier(0.1), step) for step in (0, 99))
    for name, powers in cost.FORMS.items():
        form, change = cost.OtherForm(0.1, 100, **powers), powers.get("change", 1.0)
        made, other = disturbance(form, 0)
        assert made == pytest.approx(start[0] * change**-0.5, rel=0.01), name
        assert disturbance(form, 99)[0] == pytest.approx(end[0] * change**0.49, rel=0.01), name
        ratio = other / start[1]
        # Only the course leaves every share as it is.
        assert (ratio.std() < 1e-4 * ratio.mean()) == (not {"request_power", "gradient_power"} & set(powers)), name


def test_the_page_of_promises_is_made_of_the_numbers_kept():
    promise, root = module_of(EXAMPLES / "promise_table.py"), EXAMPLES.parent
    content = json.loads((root / promise.RESULT).read_text())
    assert promise.page(content) == (root / promise.PAGE).read_text()


@pytest.mark.slow
def test_promises_are_measured_once(tmp_path, monkeypatch):
    promise = module_of(EXAMPLES / "promise_table.py")
    small = promise.Training(width=16, steps=16, rate=1e-4)
    monkeypatch.setattr(promise, "TABLES", {"width": [small, small._replace(width=24)]})
    monkeypatch.setattr(promise, "WHOLE", [small._replace(cosine=True)])
    promise.main(tmp_path, seeds=1)
    rows = json.loads((tmp_path / promise.RESULT).read_text())["rows"]
    assert [(row["width"], row["cosine"]) for row in rows] == [(16, False), (24, False), (16, True)]
    for row in rows:
        assert sum(row["kinds"].values()) == pytest.approx(row["promised_share"])
        # At a small rate the first order is the fall on the batch itself.
        assert row["kept_share"] == pytest.approx(row["promised_share"], rel=0.1) and row["kept_share"] > 0
    made = (tmp_path / promise.PAGE).read_text()
    monkeypatch.setattr(promise, "measured", lambda *_: pytest.fail("trained again"))
    promise.main(tmp_path, seeds=1)
    assert (tmp_path / promise.PAGE).read_text() == made
    content = json.loads((tmp_path / promise.RESULT).read_text())
    (tmp_path / promise.RESULT).write_text(json.dumps(content | {"text": "another"}))
    with pytest.raises(ValueError, match="another text"):
        promise.main(tmp_path, seeds=1)


@pytest.mark.slow
def test_precision_cost_goes_on(tmp_path, monkeypatch):
    cost = module_of(EXAMPLES / "precision_cost.py")
    monkeypatch.setattr(cost, "TOKENS_PER_PARAMETER", 0.2)  # four steps
    monkeypatch.setattr(cost, "FORMS", dict(list(cost.FORMS.items())[:2]))
    few = cost.Sweep(1e4, 8, 2, (1.0, 0.1))
    arguments = [few], [few._replace(times=2)], few, tmp_path / "work", tmp_path
    cost.main(*arguments)
    made = (tmp_path / "docs/results/precision_cost.md").read_text()
    assert (tmp_path / "docs/results/precision_cost.png").stat().st_size > 10_000
    content = json.loads((tmp_path / cost.RESULT).read_text())
    law = next(iter(content["forms"]["forms"].values()))
    for one, other in zip(law, content["sizes"][0]["rows"]):
        # The form that changes nothing is the barrier of the first table.
        np.testing.assert_allclose(one["energy_kt_per_parameter"], other["energy_kt_per_parameter"], rtol=1e-3)
    assert [one["steps"] for one in (*content["sizes"], *content["longer"])] == [4, 8]
    monkeypatch.setattr("limjax.sweeps._compare._trained", lambda *_: pytest.fail("trained again"))
    cost.main(*arguments)
    assert (tmp_path / "docs/results/precision_cost.md").read_text() == made
