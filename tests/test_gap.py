"""The gap of a run: every line from an independent count, in words, as tables and as a figure."""

import csv
import io
import json
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from command_line import refused, run

import limjax
from limjax.devices import GivenEnergy, Pulse, PulsedCell, get_device
from limjax.gap import KINDS, energy_gap, gap_html, gap_latex, gap_text, with_flops
from limjax.gap._chance import of_pulses
from limjax.physics._pulses import Place
from limjax.plots.gap import gap_figure
from limjax.training import flops_per_step

pytestmark = pytest.mark.optax

KT = 1.380649e-23 * 300.0
SUMMARY = {
    "task": "of my own", "parameters": 1000, "steps": 50, "lsb": 2**-9, "path_levels": 2500.0, "temperature": 300.0,
    "heat_joules": 5000 * KT, "actuation_kt": 300.0, "consolidation_kt": 200.0, "static_heat_kt": 1e6, "realised_heat_kt": 4990.0,
    "bowl_bound_kt_per_parameter": 4.0, "hops": "exact", "flops_per_step": 2e6,
}  # fmt: skip


@pytest.fixture(scope="module")
def gap():
    return energy_gap(SUMMARY)


def test_every_line_by_hand(gap):
    bits = 10  # 1024 levels of 2^-9 in a window of 2
    writes = 1000 * 50 * bits
    expected = {
        "arithmetic": 2e6 * 50 * 700 / 989e12,
        "read/HBM2": 2 * writes * 3.9e-12,
        "write/DRAM": writes * 5e-15,
        "keep/PCM": 1000 * bits * 7.1e-12,
        # 2500 levels of 2^-9 are 4.88 of weight; ECRAM has a pulse of 1 fJ for 2/1000 of weight.
        "pulses/ecram": 2500 / 512 / 2e-3 * 1e-15,
        # 255 levels in the window, 8 bits rewritten for each that the weights are moved by.
        "pulses/sram": 2500 / 512 * 255 / 2 * 8 * 0.5e-15,
        "static": 1e6 * KT,
        "heat": 5300 * KT,
        "hops": 4990 * KT,
        "keep/barrier": 200 * KT,
        "law": 4000 * KT,
        "landauer": math.log(2) * 50_000 * KT,
    }
    for key, joules in expected.items():
        assert gap.line(key).joules == pytest.approx(joules, rel=1e-6), key
    assert {line.kind for line in gap.lines} == {"bound", "estimate", "model", "simulated"} <= {*KINDS}
    assert all(line.source for line in gap.lines)
    # Ranges are those of the catalogue, also where a device refers to it; 0.5 is the value of two records in different units.
    assert gap.line("write/DRAM").high == pytest.approx(writes * 500e-15)
    for name, ends in (("sram", (0.5e-15, 50e-15)), ("stt-mram", (0.1e-12, 2.5e-12))):
        line = gap.line(f"pulses/{name}")
        assert line.low is not None and line.high is not None
        rewritten = 2500 / 512 * 255 / 2 * 8
        assert (line.low / rewritten, line.high / rewritten) == pytest.approx(ends)
    assert any("capacitor" in said for said in gap.missing) and not any("capacitor" in line.key for line in gap.lines)


def test_words_of_bits_are_rewritten_once_a_step_at_most():
    far = energy_gap(SUMMARY | {"path_levels": 1e9}, devices=[get_device("sram")])
    assert far.line("pulses/sram").joules == pytest.approx(1000 * 50 * 8 * 0.5e-15)


def test_the_words_are_the_quotients_of_the_lines(gap):
    text = " ".join(gap.words)
    whole = math.log10(gap.line("arithmetic").joules / gap.line("law").joules)
    precision = math.log10(1000 * 50 * 10 / 2500)
    assert f"lie {whole:.1f} orders" in text and f"of which {precision:.1f} are precision" in text
    for wall in ("Memory wall", "Update wall", "Driver", "Consolidation wall", "What is left"):
        assert wall in text
    reading = [line for line in gap.lines if line.group == "read"]
    most = math.log10(max(line.joules for line in reading) / gap.line("heat").joules)
    assert f"to {most:.1f} (DRAM, off chip, 45 nm) orders" in text


def test_a_run_below_the_yardstick_of_a_bowl_says_so():
    words = energy_gap(SUMMARY | {"bowl_bound_kt_per_parameter": 530.0}).words
    assert words[-1].startswith("The run lies 2.0 orders below the law: that holds for a bowl")
    assert "to heat and barrier work" in words[0]


def test_pulses_of_a_line_are_those_that_a_run_on_the_device_gives():
    """A linear device: whole pulses have the requests as their mean, and no more than their number as variance."""
    device = get_device("levels=200,pulse_energy=1fJ")
    params = {"w": jnp.linspace(-0.5, 0.5, 400)}
    task = limjax.Task("bowl", lambda key: params, lambda p, batch: jnp.sum(p["w"] ** 2) / 2)
    summary = limjax.train(task, cell=device.cell(), optimizer=optax.sgd(0.02), steps=20, compare=()).summary
    gap = energy_gap(summary, devices=[device])
    drawn, counted = gap.line("device"), gap.lines[[line.group for line in gap.lines].index("pulses")]
    assert drawn.kind == "simulated" and counted.kind == "estimate"
    # The ledger's path is the mean of the requests; six standard deviations of the rounding.
    pulses = drawn.joules / 1e-15
    assert abs(pulses - counted.joules / 1e-15) < 6 * math.sqrt(pulses)
    assert "the pulses of its device take" in " ".join(gap.words)


def test_flops_of_a_product_of_matrices():
    """Forward 2 b m n, the gradient of the weights as much again, and work for each element that is small beside it."""
    b, m, n = 32, 48, 24
    x = np.ones((b, m), np.float32)
    task = limjax.Task(
        "product",
        lambda key: {"w": jnp.zeros((m, n))},
        lambda p, batch: jnp.sum((batch @ p["w"]) ** 2),
        train=x,
    )
    flops = flops_per_step(task, optax.sgd(0.1), b)
    assert flops is not None and 4 * b * m * n <= flops < 4 * b * m * n + 10 * (m * n + b * n)


def test_flops_of_an_older_summary_are_counted_and_of_a_task_of_ones_own_they_are_not_known():
    old = {key: value for key, value in SUMMARY.items() if key != "flops_per_step"}
    said = " ".join(energy_gap(with_flops(old)).missing)
    assert "FLOP of a step are not known" in said
    summary = limjax.train("quadratic", hops="mean", steps=4, compare=()).summary
    counted = with_flops({key: value for key, value in summary.items() if key != "flops_per_step"})
    assert counted["flops_per_step"] == summary["flops_per_step"] > 0


def test_measured_joules_are_called_what_they_are():
    measured = {
        "joules": 12.0,
        "above_idle_joules": 7.0,
        "uncertainty_joules": 1.5,
        "method": "counters",
        "seconds": 2.0,
        "steps": SUMMARY["steps"],
    }
    gap = energy_gap(SUMMARY | {"measured": measured | {"kind": "measured"}})
    part = energy_gap(SUMMARY | {"measured": measured | {"kind": "measured", "steps": 3}})
    assert "machine, training, 3 of 50 steps" in [line.name for line in part.lines]
    assert not part.words[0].startswith("From machine")
    assert not [
        x for x in energy_gap(SUMMARY | {"measured": measured | {"steps": 0}}).lines if x.key.startswith("machine/")
    ]
    line = gap.line("machine/joules")
    assert (line.kind, line.low, line.high, line.source) == ("measured", 10.5, 13.5, "counters")
    assert gap.words[0].startswith("From machine, training (12 J, measured)")
    assumed = energy_gap(SUMMARY | {"measured": measured | {"kind": "estimate"}})
    assert assumed.line("machine/joules").kind == "estimate"
    none = energy_gap(SUMMARY | {"measured": {"joules": None, "reason": "there is no counter."}})
    assert "the machine's energy: there is no counter" in none.missing


def test_a_table_of_runs_names_every_kind_and_source(gap):
    """One run is measured, two are reckoned from a power, and their devices differ."""
    measured = {"joules": 12.0, "seconds": 2.0, "steps": SUMMARY["steps"]}
    ways = ({"kind": "measured", "method": "counters"}, *[{"kind": "estimate", "method": "65 W"}] * 2)
    own = [{"device_joules": 1e-9, "pulses": 1e6, "memory_device": name} for name in ("ecram", "reram", "reram")]
    gaps = [energy_gap(SUMMARY | more | {"measured": measured | way}) for more, way in zip(own, ways)]
    text, latex = gap_text(gaps, 120), gap_latex(gaps)
    numbers = {said: number for number, said in re.findall(r"^\((\d+)\) (.*)$", text, re.MULTILINE)}
    assert {"counters", "65 W"} <= numbers.keys()
    rows = text.splitlines()
    place = next(i for i, row in enumerate(rows) if row.startswith("  machine, training"))
    assert rows[place].split()[-2:] == ["measured", f"({numbers['counters']})"]
    assert rows[place + 1].split() == ["estimate", f"({numbers['65 W']})"]
    row = next(row for row in latex.splitlines() if row.startswith("machine, training"))
    assert row.endswith(rf"measured, estimate & {numbers['counters']}, {numbers['65 W']} \\")
    named = [number for said, number in numbers.items() if "device ecram" in said or "device reram" in said]
    row = next(row for row in latex.splitlines() if row.startswith("pulses of its device"))
    assert len(named) == 2 and row.endswith(rf"simulated & {', '.join(named)} \\")
    assert max(map(len, gap_text(gaps, 80).splitlines())) <= 80


def test_the_interval_of_the_hops_is_what_poisson_hops_scatter_by():
    """Hops up and down at rates g e^(±F/2), drawn by NumPy: exact where all have one affinity, narrower where affinities differ."""
    rng, weights, seeds = np.random.default_rng(0), 500, 2000
    for affinities in (np.full(weights, 0.01), np.full(weights, 3.0), np.linspace(0.1, 6.0, weights)):
        up, down = 2.0 * np.exp(affinities / 2), 2.0 * np.exp(-affinities / 2)
        heats = ((rng.poisson(up, (seeds, weights)) - rng.poisson(down, (seeds, weights))) * affinities).sum(axis=1)
        heat, path = float(((up - down) * affinities).sum()), float((up - down).sum())
        summary = SUMMARY | {
            "parameters": weights,
            "path_levels": path,
            "heat_joules": heat * KT,
            "realised_heat_kt": heat,
        }
        line = energy_gap(summary, devices=[]).line("hops")
        assert line.low is not None and line.high is not None and line.low >= 0
        half, drawn = (line.high - line.joules) / KT, 1.96 * heats.std()
        if np.ptp(affinities) == 0:
            assert half == pytest.approx(drawn, rel=5 / math.sqrt(2 * seeds))  # five standard errors of a deviation
        else:
            assert 0.5 * drawn < half < drawn


@pytest.mark.parametrize(
    "cell",
    [
        get_device("sram").cell(),
        PulsedCell(Pulse(energy=GivenEnergy(1e-15)), Pulse(energy=GivenEnergy(1e-13))),
        PulsedCell(Pulse(energy=GivenEnergy(1e-15)), Pulse(energy=GivenEnergy(1e-15))),
    ],
    ids=["words", "unequal", "equal"],
)
def test_pulses_scatter_no_more_than_their_interval(cell):
    """Small requests up and down, drawn 300 times, so that a deviation is known to 4 %; no wider than rare pulses of unequal energy make it."""
    drifts = 0.05 * jnp.where(jnp.arange(4000) % 10 == 0, -1.0, 1.0)
    draw = jax.jit(
        jax.vmap(
            lambda words: (
                cell.deliver(drifts, 0.0 * drifts, Place(0, jnp.int32(1), words, True)).charges["device_joules"].sum()
            )
        )
    )
    joules = np.asarray(draw(jax.random.bits(jax.random.key(4), (300, 2), jnp.uint32)), np.float64)
    low, high = of_pulses(float(joules.mean()), cell.write_joules)
    drawn = 2 * 1.96 * joules.std()
    assert 0.85 * drawn < high - low < 1.35 * drawn


def test_intervals_over_seeds():
    """Student's t by its table: 4.303 for three runs, and a run more is within sqrt(1 + 1/3) of that."""
    pulsed = {key: value for key, value in SUMMARY.items() if key != "static_heat_kt"} | {
        "pulses": 1e6,
        "write_joules": 4e-15,
    }
    runs = [pulsed | {"seed": i, "device_joules": 1e-9 * x} for i, x in enumerate((1.0, 1.1, 1.2))]
    alone = energy_gap(runs[0]).line("device")
    assert (alone.low, alone.high) == pytest.approx((1e-9 * (1 - 3.92e-3), 1e-9 * (1 + 3.92e-3)))
    gap = energy_gap(runs[0], seeds=[*runs[1:], dict(runs[0])])
    line, margin = gap.line("device"), 4.303 * 0.1e-9 * math.sqrt(4 / 3)
    assert (line.low, line.high) == pytest.approx((1.1e-9 - margin, 1.1e-9 + margin), rel=1e-3)
    assert line.joules == 1e-9 and "from 3 seeds" in line.note
    assert gap.words[-1] == (
        "Over 3 seeds (mean ± standard deviation): pulses of its device 1.1e-09 J ± 9.1 %, heat of the hops drawn 2.07e-17 J ± 0 %."
    )
    assert "seeds" not in energy_gap(runs[0], seeds=[dict(runs[0])]).words[-1]  # the same run again tells nothing


def test_bounds_say_what_they_are_bounds_of(gap):
    for text in (gap_text([gap, gap], 80), gap_html(gap), gap_latex([gap])):
        said = " ".join(text.split())
        assert "Bound, LIM law for its loss: 2 ln(L0/LT) kT a weight: a bound of a bowl" in said
        assert said.count("no theorem says that an update erases one") == 1


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits(gap, width):
    for gaps in ([gap], [gap, gap], [gap] * 7):
        lines = gap_text(gaps, width).splitlines()
        assert max(map(len, lines)) <= width
        # No name is broken: every row of a line has its number.
        rows = [line for line in lines if line.startswith("  ")]
        assert len([row for row in rows if " estimate " in row or " bound " in row or " model " in row]) >= 25
        assert not any("…" in line for line in lines)
        assert all(f"[{i + 1}] J" in " ".join(lines) for i in range(len(gaps))) or len(gaps) == 1
    assert "never added" in gap_html(gap) and "Landauer" in gap_html(gap)


def test_the_figure_tells_kinds_apart_without_colour(gap):
    axes = gap_figure([gap]).axes[0]
    markers = {line.get_marker() for line in axes.lines if len(line.get_xdata()) == 1}
    assert markers == {"^", "o", "|", "D"}
    assert axes.get_xscale() == "log"
    still = SUMMARY | {"heat_joules": 0.0, "actuation_kt": 0.0, "path_levels": 0.0}
    assert gap_figure([energy_gap(still)]).axes  # a run that was stopped before its first step


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"path_levels": None}, "path_levels must be a number"),
        ({"parameters": 0}, "must be above 0"),
        ({"lsb": True}, "lsb must be a number"),
    ],
)
def test_what_is_no_run_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        energy_gap(SUMMARY | change)
    with pytest.raises(ValueError, match="Near names"):
        energy_gap(SUMMARY, hardware="H1000 SXM bf16")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "summary.json").write_text(json.dumps(SUMMARY))
    return tmp_path


def test_the_command(capsys, folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(capsys, "gap", folder / "one", "--out", folder / "gap.png")
    assert code == 0 and "orders of magnitude" in out and max(map(len, out.splitlines()[:40])) <= 80
    assert (folder / "gap.png").stat().st_size > 10_000
    (folder / "two").mkdir()
    (folder / "two" / "summary.json").write_text(json.dumps(SUMMARY | {"seed": 1, "realised_heat_kt": 5100.0}))
    both = run(capsys, "gap", folder / "one", folder / "two")[1]
    assert " ".join(both.split()).count("Over 2 seeds (mean ± standard deviation): heat of the hops drawn") == 2
    found = json.loads(run(capsys, "gap", folder / "one", folder / "one" / "summary.json", "--json")[1])["runs"]
    assert found[0]["lines"] == found[1]["lines"] and len(found[0]["lines"]) > 25
    rows = list(csv.DictReader(io.StringIO(run(capsys, "gap", folder / "one", "--csv")[1])))
    heat = next(row for row in rows if row["key"] == "heat")
    assert float(heat["joules"]) == pytest.approx(5300 * KT) and heat["kind"] == "model" and heat["run"] == "one"
    latex = run(capsys, "gap", folder / "one", "--latex")[1]
    assert latex.count(r"\\") > 30 and latex.startswith(r"\begin{tabular}") and "10^{-" in latex


def test_the_command_refuses(capsys, folder):
    assert "has no summary.json" in refused(capsys, "gap", folder)
    assert "does not exist" in refused(capsys, "gap", folder / "three")
    assert "one of them" in refused(capsys, "gap", folder / "one", "--json", "--csv")
    assert "must end in .png" in refused(capsys, "gap", folder / "one", "--out", folder / "gap.txt")
    assert "bits must be" in refused(capsys, "gap", folder / "one", "--bits", 0)
    assert "--weight-range must" in refused(capsys, "gap", folder / "one", "--weight-range", -1)
    (folder / "one" / "summary.json").write_text("{}")
    assert "parameters must be a number" in refused(capsys, "gap", folder / "one")
