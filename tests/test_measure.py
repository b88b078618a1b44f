"""The machine's energy: windows over counters that were recorded, counters as zeus gives them, and what is said where there is none."""

import dataclasses
import json
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest
from command_line import refused, run

import limjax
from limjax import runs
from limjax.cli.train import Energy, _counters
from limjax.measure import (
    AssumedWatts,
    Fineness,
    NoCounters,
    Reading,
    RecordedCounters,
    RunMeter,
    ZeusCounters,
    counters_here,
    energy_between,
    energy_window,
    measured_text,
)

pytestmark = pytest.mark.optax

QUICK = ["train", "--task", "quadratic", "--steps", "4", "--hops", "mean", "--no-figures"]

# Idle 2 s at 40 W and 10 W, compiling 3 s, training 10 s at 140 W and 30 W.
TRACE = [
    (0.0, 100.0, 7.0), (2.0, 180.0, 27.0),
    (2.0, 180.0, 27.0), (5.0, 480.0, 77.0),
    (5.0, 480.0, 77.0), (15.0, 1880.0, 377.0),
]  # fmt: skip


def trace(rows=TRACE):
    return [Reading(seconds, {"GPU 0": gpu, "CPU 0": cpu}) for seconds, gpu, cpu in rows]


def test_a_training_over_a_recorded_trace():
    counters = RecordedCounters(trace(), fineness=Fineness(0.1, 0.5))
    summary = limjax.train("quadratic", hops="mean", steps=4, compare=(), counters=counters).summary
    told = summary["measured"]
    assert told["kind"] == "measured" and told["steps"] == 4 and told["reason"] is None
    assert (told["joules"], told["seconds"], told["watts"]) == pytest.approx((1700.0, 10.0, 170.0))
    assert told["idle_watts"] == pytest.approx(50.0) and told["above_idle_joules"] == pytest.approx(1200.0)
    assert told["compilation"] == pytest.approx({"joules": 350.0, "seconds": 3.0})
    # A tenth of a second of each power and half a joule of each counter; of the idle machine five times that of its window.
    assert told["uncertainty_joules"] == pytest.approx(0.1 * 170 + 2 * 0.5)
    assert told["above_idle_uncertainty_joules"] == pytest.approx(18.0 + 5 * (0.1 * 50 + 1.0))
    assert told["counters"]["CPU 0"]["idle_watts"] == pytest.approx(10.0)
    assert "1700 ± 18 J" in measured_text(told) and "350 J more" in measured_text(told)
    line = limjax.gap.energy_gap(summary).line("machine/joules")
    assert (line.joules, line.low, line.high, line.kind) == (1700.0, 1682.0, 1718.0, "measured")


def test_measuring_changes_no_number_of_the_run():
    plain = limjax.train("quadratic", hops="mean", steps=4, compare=())
    metered = limjax.train("quadratic", hops="mean", steps=4, compare=(), counters=AssumedWatts(20.0))
    np.testing.assert_array_equal(plain.params["w"], metered.params["w"])
    assert plain.summary["heat_kt"] == metered.summary["heat_kt"] and "measured" not in plain.summary
    told = metered.summary["measured"]
    assert told["kind"] == "estimate" and told["uncertainty_joules"] is None and "idle_watts" not in told
    assert told["joules"] == pytest.approx(20 * told["seconds"], rel=1e-6)
    assert measured_text(told).startswith("An estimate, not a measurement")


def test_a_counter_that_went_back_gives_no_number():
    meter = RunMeter(RecordedCounters(trace([*TRACE[:2], *TRACE[4:5], (15.0, 3.0, 377.0)])))
    meter.idle()
    with meter.window("training"):
        pass
    told = meter.summary(4)
    assert told["joules"] is None and "GPU 0 went back" in told["reason"]
    with pytest.raises(ValueError, match="the clock went back"):
        energy_between(Reading(2.0, {}), Reading(1.0, {}), NoCounters("none"))


def test_traces_of_files(tmp_path):
    rows = [{"seconds": reading.seconds, "joules": reading.joules} for reading in trace()]
    (tmp_path / "a.json").write_text(json.dumps({"method": "a meter", "readings": rows}))
    lines = ["seconds,GPU 0,CPU 0", *(",".join(map(str, row)) for row in TRACE)]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    for name, method in (("a.json", "a meter"), ("a.csv", "the trace a.csv")):
        counters = RecordedCounters.of(tmp_path / name)
        with energy_window(counters) as window:
            pass
        assert window.energy is not None and window.energy.method == method
        assert (window.energy.total, window.energy.watts) == pytest.approx((100.0, 50.0))
    (tmp_path / "b.csv").write_text("seconds,CPU 0\n1.0,much\n")
    for name in ("b.csv", "c.json"):
        with pytest.raises(ValueError, match="A trace is JSON with"):
            RecordedCounters.of(tmp_path / name)
    with pytest.raises(ValueError, match="all with the same counters"):
        RecordedCounters([])


def test_a_window_waits_for_what_is_under_way():
    """The reading at the end is taken after the work is done: here it finds its result."""

    class Asking(NoCounters):
        def __init__(self):
            super().__init__("asks")
            self.reason, self.fineness, self.ready = None, {"asked": Fineness(0.0, 0.0)}, []

        def read(self):
            self.ready.append(all(array.is_ready() for array in kept))
            return Reading(float(len(self.ready)), {"asked": float(len(self.ready))})

    kept, counters = [], Asking()
    with energy_window(counters) as window:
        x = jnp.ones((600, 600))
        for _ in range(30):
            x = x @ x / 600
        kept.append(x)
    assert counters.ready == [True, True] and window.energy is not None


def fake_zeus(monkeypatch, gpus, cpus):
    """A package with what limjax asks of zeus."""

    def found(what):
        def get():
            if isinstance(what, Exception):
                raise what
            return what

        return get

    device = types.SimpleNamespace(get_gpus=found(gpus), get_cpus=found(cpus))
    zeus = types.ModuleType("zeus")
    zeus.device = device
    monkeypatch.setitem(sys.modules, "zeus", zeus)
    monkeypatch.setitem(sys.modules, "zeus.device", device)


class Cpus:
    energy = 5000.0

    def __len__(self):
        return 2

    def get_total_energy_consumption(self, i):
        return types.SimpleNamespace(cpu_mj=self.energy + i, dram_mj=250.0 if i == 0 else None)

    def supports_get_dram_energy_consumption(self, i):
        return i == 0


class Gpus:
    def __len__(self):
        return 2

    def supports_get_total_energy_consumption(self, i):
        return i == 1

    def get_total_energy_consumption(self, i):
        return 123_456

    def get_name(self, i):
        return "A GPU"


def test_counters_as_zeus_gives_them(monkeypatch):
    fake_zeus(monkeypatch, Gpus(), Cpus())
    counters = ZeusCounters()
    expected = {"GPU 1 (A GPU)": 123.456, "CPU 0": 5.0, "DRAM 0": 0.25, "CPU 1": 5.001}
    assert counters.read().joules == pytest.approx(expected)
    assert counters.reason is None and counters.fineness["CPU 0"].seconds < counters.fineness["GPU 1 (A GPU)"].seconds
    fake_zeus(monkeypatch, RuntimeError("No driver. Install one."), Cpus())
    assert set(ZeusCounters().read().joules) == {"CPU 0", "DRAM 0", "CPU 1"}


def test_no_counter_is_one_sentence_and_no_number(monkeypatch, capsys, tmp_path):
    fake_zeus(monkeypatch, RuntimeError("No driver. Install one."), PermissionError("RAPL needs root. Or a daemon."))
    counters = counters_here()
    assert isinstance(counters, NoCounters)
    assert counters.reason == (
        "this machine has no energy counter that can be read (GPU: No driver; CPU and DRAM: RAPL needs root)"
    )
    assert isinstance(counters_here(30.0), AssumedWatts)
    assert isinstance(_counters(Energy(assume_watts=30.0)), AssumedWatts) and _counters(Energy()) is None
    passed = []
    monkeypatch.setattr("limjax.cli.train._train", lambda *arguments: passed.append(arguments[-1]) or 0)
    code, out, _ = run(capsys, *QUICK, "--measure", "--out", tmp_path / "run")
    assert code == 0 and isinstance(passed[0], NoCounters)
    assert (
        " ".join(out.split()).count("The machine's energy will not be known: this machine has no energy counter") == 1
    )
    meter = RunMeter(passed[0])
    meter.idle()
    with meter.window("training"):
        pass
    told = meter.summary(4)
    assert told["joules"] is None and told["reason"] == counters.reason


@pytest.mark.slow
def test_the_command_measures_and_says_so(monkeypatch, capsys, tmp_path):
    counters = RecordedCounters(trace(), fineness=Fineness(0.1, 0.5))
    monkeypatch.setattr("limjax.measure.counters_here", lambda watts=None: counters)
    code, out, _ = run(capsys, *QUICK, "--measure", "--out", tmp_path / "run")
    told = json.loads((tmp_path / "run" / "summary.json").read_text())["measured"]
    assert code == 0 and told["joules"] == 1700.0
    assert "Measured: 1700 ± 18 J in 10 s of training (a recorded trace)" in " ".join(out.split())


@pytest.mark.slow
def test_a_resume_without_a_step_keeps_what_was_measured(capsys, tmp_path):
    words = (*QUICK, "--assume-watts", 50, "--out", tmp_path / "run")
    code, _, _ = run(capsys, *words)
    first = json.loads((tmp_path / "run" / "summary.json").read_text())["measured"]
    assert code == 0 and first["steps"] > 0 and first["joules"] > 0
    for more in (("--assume-watts", 50), ()):
        code, out, _ = run(capsys, "train", "--resume", *more, "--no-figures", "--json", "--out", tmp_path / "run")
        assert code == 0 and json.loads(out)["measured"] == first
        assert json.loads((tmp_path / "run" / "summary.json").read_text())["measured"] == first


def test_an_earlier_measurement_stands_where_none_was_made(tmp_path):
    result = limjax.train("quadratic", hops="mean", steps=2, compare=(), counters=AssumedWatts(5.0))
    now, before = result.summary["measured"], {"kind": "measured", "joules": 3.0, "seconds": 1.0, "steps": 4}

    def joined(measured):
        (tmp_path / "summary.json").write_text(json.dumps({"measured": before}))
        summary = {key: value for key, value in result.summary.items() if key != "measured"}
        summary |= {} if measured is None else {"measured": measured}
        again = runs.with_earlier_measurement(dataclasses.replace(result, summary=summary), tmp_path)
        return again.summary.get("measured")

    assert joined(now) == now and joined(None) == joined(now | {"steps": 0}) == before
    before = {"measured": "no"}  # damaged: it is written again in any case
    assert joined(now | {"steps": 0}) == now | {"steps": 0}


def test_zeus_that_is_not_there_is_refused_before_any_work(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zeus", None)
    said = refused(capsys, *QUICK, "--measure", "--out", tmp_path / "run")
    assert "pip install 'limjax[measure]'" in said and not (tmp_path / "run").exists()
    assert "--assume-watts must" in refused(capsys, *QUICK, "--assume-watts", -1, "--out", tmp_path / "run")
