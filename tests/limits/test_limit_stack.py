"""The stack and its headline, the conventions side by side, scans over many workloads, and the figures."""

import inspect
import itertools
import json
import math
import pkgutil
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limit_checks import check_gradient, quick_jit

from limjax import limits
from limjax.limits import (
    Conditions,
    Workload,
    approaches,
    bounds,
    build_stack,
    compute_optimal,
    convergence_heat,
    energy_limits,
    load_catalogue,
    workload_energies,
)
from limjax.limits._lines import AbstractLine, Training, lines_of
from limjax.limits._tables import joules_text
from limjax.limits.approaches import APPROACHES, ConstantExchange, LossFollowing, RateMatched
from limjax.limits.figures import figure_data
from limjax.limits.scans import Scan, scan_bits, scan_contraction, scan_parameters, scan_time
from limjax.physics.units import LN2, thermal_energy_joules

KT = thermal_energy_joules(300.0)
CHIP = load_catalogue().get("accelerator", "H100 SXM bf16")


@pytest.fixture(scope="module")
def headline():
    return energy_limits(1e15)


# The headline.


def test_headline_of_the_paper(headline):
    head = headline.stack.headline
    assert 1e8 < head.lim_low_joules < head.lim_high_joules < 1e9
    assert head.lim_low_joules < head.landauer_joules < head.lim_high_joules
    assert 1e15 < head.accelerator_joules < 1e16
    assert 6 < head.orders_below_accelerator < 7
    # the accelerators of the catalogue, from the best format of the newest
    every = [compute_optimal(1e15).flops * record.joules_per_flop for record in load_catalogue().of("accelerator")]
    assert 1e15 < min(every) < 1.2e15 and max(every) < 5e16


def test_reconstruction_from_the_reference(reference):
    entry = reference["brain_scale_energy_reconstruction"]
    c, rel = entry["inputs"]["C_FLOP"], entry["tolerance"]["rel"]
    assert compute_optimal(1e15).flops == pytest.approx(c, rel=1e-3)
    for bits in entry["inputs"]["bits"]:
        head = build_stack(Workload(1e15, flops=c, bits=bits)).headline
        assert head.landauer_joules == pytest.approx(entry["expected"][f"landauer_J_b{bits}"], rel=rel)
    for joules, expected in zip(entry["inputs"]["accelerator_J_per_FLOP"], entry["expected"]["accelerator_J"]):
        assert c * joules == pytest.approx(expected, rel=rel)
    assert head.accelerator_joules == pytest.approx(c * 7.0778e-13, rel=1e-4)


def test_other_conventions_beside_it(headline):
    beside = {other.workload.convention: other.headline for other in headline.others}
    assert set(beside) == {
        "Kaplan, token × parameter",
        "Kaplan, optimizer write",
        "Chinchilla 20:1, every FLOP",
        "Chinchilla 20:1, optimizer write",
    }
    writes = beside["Kaplan, optimizer write"]
    assert writes.landauer_joules == pytest.approx(69.06, rel=1e-3)
    chinchilla = beside["Chinchilla 20:1, every FLOP"]
    assert chinchilla.lim_low_joules > 1e12 and chinchilla.lim_high_joules == pytest.approx(1.1e13, rel=0.01)
    assert beside["Kaplan, token × parameter"].landauer_joules == pytest.approx(
        1e15 * compute_optimal(1e15).tokens * 8 * LN2 * KT
    )
    asked = energy_limits(1e15, scaling="chinchilla", updates="optimizer")
    assert asked.stack.headline == beside["Chinchilla 20:1, optimizer write"]
    assert {o.workload.scaling for o in asked.others} == {"chinchilla", "kaplan"}
    given = energy_limits(1e15, tokens=1e12)
    assert [o.workload.updates for o in given.others] == ["token", "optimizer"]


def test_only_the_papers_inputs_are_called_a_reconstruction(headline):
    marked = [entry.name for entry in headline.stack.entries if entry.reconstruction]
    assert marked == ["LIM, 4 bits per update", "LIM, 32 bits per update"]
    assert all("reconstruction" in headline.stack.entry(name).assumptions for name in marked)
    for other in headline.others:
        assert not any(entry.reconstruction for entry in other.entries)
    warm = build_stack(Workload(1e15), conditions=Conditions(temperature=310.0))
    assert not any(entry.reconstruction for entry in warm.entries)


# The lines.


def test_lines_are_final_and_modules_are_not_hidden():
    lines = AbstractLine.__subclasses__()
    assert len(lines) >= 14 and not any(line.__subclasses__() for line in lines)
    assert {type(line) for line in lines_of(Training(Workload(1e9), Conditions(), CHIP))} == set(lines)
    for module in pkgutil.iter_modules(limits.__path__):
        assert inspect.ismodule(getattr(limits, module.name, limits)), module.name


def test_numbers_of_the_tables_are_short():
    assert [joules_text(x) for x in (8.284e7, 1940.0, 24.86, 1.6, 9.97e-3, math.nan)] == [
        "8.28e7",
        "1.94e3",
        "24.9",
        "1.60",
        "9.97e-3",
        "-",
    ]


def test_every_line_by_its_own_bound(headline):
    stack = headline.stack
    n, count, bits = 1e15, compute_optimal(1e15).flops, 8
    theta, seconds = 2 * 8 * math.log(2), 90 * 86400.0
    barrier = float(bounds.retention(315576000.0))
    steps = compute_optimal(1e15).tokens / 1e6
    expected = {
        "LIM law, per effective update": count * 2,
        "training-set energy": 2 * n * compute_optimal(1e15).tokens,
        "controller's information": count * 0.5 * math.log(1.01),
        "Landauer erasure": count * bits * LN2,
        "direction error": count * 0.998 * math.log(999),
        "precision (TUR)": count * 2,
        "readout": count * bits * LN2,
        "static barrier, per update": count * 2 * math.asinh(steps / seconds / 2e9 * math.exp(barrier)),
        "speed": n * 2 * 256 * math.asinh(256 / (2e9 * math.exp(-2) * seconds)),
        "actuation": n * float(bounds.actuation(0.0, barrier)),
        "LIM, static barrier": n * float(approaches.static(256.0, theta, barrier, 1e9 * seconds).heat_kt),
        "LIM, best constant barrier": n * float(approaches.heat(ConstantExchange(), 256.0, theta, 1.0)),
        "LIM, rate-matched": n * float(approaches.heat(RateMatched(), 256.0, theta, 1.0)),
        "LIM, loss-following": n * float(approaches.heat(LossFollowing(), 256.0, theta, 1.0)),
        "LIM law, one convergence": n * 2 * math.log(65536.0),
        "LIM, 4 bits per update": count * 4 * LN2,
        "LIM, 32 bits per update": count * 32 * LN2,
        "accelerator, H100 SXM bf16": count * 700 / 989e12 / KT,
    }
    assert [entry.name for entry in stack.entries] == list(expected)
    for entry in stack.entries:
        assert entry.joules == pytest.approx(expected[entry.name] * KT, rel=1e-5), entry.name
        assert entry.joules_per_parameter == pytest.approx(entry.joules / n)
        assert entry.assumptions and entry.source and "\n" not in entry.assumptions
    with pytest.raises(ValueError, match="no line 'gravity'; it has LIM law, per effective update"):
        stack.entry("gravity")


def test_the_stack_follows_what_it_is_given():
    base = build_stack(Workload(1e12))
    hot = build_stack(Workload(1e12), conditions=Conditions(temperature=600.0))
    assert hot.headline.landauer_joules == pytest.approx(2 * base.headline.landauer_joules)
    assert hot.headline.accelerator_joules == base.headline.accelerator_joules
    precise = build_stack(
        Workload(1e12), conditions=Conditions(error=1e-9, relative_error=0.1, contraction_factor=0.75)
    )
    assert precise.entry("direction error").joules > base.entry("direction error").joules
    assert precise.entry("precision (TUR)").joules == pytest.approx(100 * base.entry("precision (TUR)").joules)
    # haste: θ²/(θ - ℓ/2) at θ = ¾ ℓ is 9/8 of 2ℓ
    for line, rel in (("LIM, loss-following", 0.04), ("LIM law, one convergence", 1e-9)):
        assert precise.entry(line).joules == pytest.approx(9 / 8 * base.entry(line).joules, rel=rel)
    coarse = build_stack(Workload(1e12), conditions=Conditions(loss_ratio=100.0))
    assert coarse.law.kt_per_parameter == pytest.approx(2 * math.log(100.0))
    quick = build_stack(Workload(1e12, time=60.0))
    assert quick.entry("LIM, static barrier").joules > base.entry("LIM, static barrier").joules
    assert "90 days" in base.entry("speed").assumptions and "90 days" not in quick.entry("speed").assumptions
    assert "B200 fp4" in build_stack(Workload(1e12), hardware="b200 FP4").entries[-1].name


@pytest.mark.slow
def test_a_workload_may_be_larger_than_float32_holds():
    most = build_stack(Workload(1e30, tokens=1e60))
    assert most.entry("training-set energy").joules == pytest.approx(2e90 * KT)
    # asinh x is ln 2x for large x: 2 (B + ln(rate/k0)) an update
    one = 2 * (Conditions().retention_barrier + math.log(1e60 / 1e6 / (90 * 86400.0) / 1e9))
    assert most.entry("static barrier, per update").joules == pytest.approx(6e90 * one * KT)


def test_the_law_says_at_what_time_it_is(headline):
    words = headline.stack.entry("LIM law, one convergence").assumptions
    hasty = build_stack(Workload(1e15), conditions=Conditions(contraction_factor=0.7))
    said = hasty.entry("LIM law, one convergence").assumptions
    assert words.startswith("2 ln(L0/LT) at uT = ln(L0/LT),")
    assert said.startswith("(uT)²/(uT - ½ ln(L0/LT)) at uT = 0.7 ln(L0/LT),")
    # the first exchange is u (1 - ½/0.7) L0 hops a step
    for text, share in ((words, 0.5), (said, 0.7 - 0.5)):
        seconds = share * math.log(65536.0) * 65536.0 / (1e9 * math.exp(-2.0))
        assert f"allows it in {seconds:.2g} s or more" in text


def test_a_loss_ratio_out_of_reach_says_what_is_left():
    with pytest.raises(ValueError, match="the hops of the requests alone leave"):
        energy_limits(1e12, conditions=Conditions(loss_ratio=1e8, contraction_factor=0.6))


def test_the_law_in_numbers(headline):
    """2 kT per effective update under the three conventions: 8.3e7 J if every FLOP is one, 25 J if every write is."""
    law = headline.stack.law
    assert law.flop_joules == pytest.approx(8.28e7, rel=2e-3) and law.write_joules == pytest.approx(24.9, rel=2e-3)
    assert law.token_joules == pytest.approx(2 * KT * 1e15 * compute_optimal(1e15).tokens, rel=1e-9)
    assert law.kt_per_parameter == pytest.approx(float(bounds.convergence(65536.0)), rel=1e-6)
    assert law.convergence_joules == pytest.approx(1e15 * KT * 32 * LN2, rel=1e-9)
    # at a given time it is the same formula as everywhere
    hasty = build_stack(Workload(1e15), conditions=Conditions(contraction_factor=0.7)).law
    assert hasty.kt_per_parameter == pytest.approx(float(bounds.convergence(65536.0, 0.7 * 16 * LN2)), rel=1e-5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"temperature": 0.0}, "temperature must be a positive"),
        ({"error": 0.5}, r"error must be below 0\.5"),
        ({"retention_failure": 1.0}, "retention_failure must be below 1"),
        ({"loss_ratio": -1.0}, "loss_ratio must be a positive"),
        ({"loss_ratio": 1.0}, "loss_ratio must be above 1"),
        ({"contraction_factor": 0.5}, r"contraction_factor must be above 0\.5"),
        ({"contraction_factor": math.nan}, "contraction_factor must be a positive"),
    ],
)
def test_wrong_conditions(wrong, words):
    with pytest.raises(ValueError, match=words):
        Conditions(**wrong)


def test_json_keys_and_text(headline):
    content = json.loads(json.dumps(headline.as_dict()))
    assert list(content) == ["workload", "stack", "headline", "convergence", "law"]
    assert set(content["convergence"]) == {"kt_per_parameter", "joules", "loss_ratio"}
    assert set(content["law"]) == {"flop_joules", "token_joules", "write_joules"}
    keys = {"name", "approach", "joules", "joules_per_parameter", "assumptions", "source", "reconstruction"}
    assert all(set(entry) == keys for entry in content["stack"])
    names = [entry["name"] for entry in content["stack"]]
    assert len(set(names)) == len(names)
    assert any("Chinchilla" in name for name in names)
    assert set(content["headline"]) == {
        "lim_low_joules",
        "lim_high_joules",
        "landauer_joules",
        "accelerator_joules",
        "orders_below_accelerator",
    }
    text = headline.text(80)
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    for number in ("1.15e8", "9.18e8", "2.29e8", "7.07e15", "69.1", "2.76e12", "8.28e7", "24.9"):
        assert number in text
    assert "reconstruction" in text.lower()
    # every line of the stack says what it assumes
    flowing = " ".join(text.split())
    for entry in headline.stack.entries:
        assert f"- {entry.name}: {entry.assumptions} ({entry.source})" in flowing


# Many workloads.


def test_a_grid_of_workloads_is_the_stack_of_each():
    sizes = np.array([1e6, 1e9, 1e15], np.float32)
    bits = np.array([4.0, 8.0, 16.0], np.float32)
    grid = jax.jit(jax.vmap(lambda n, b: workload_energies(n, b)))(sizes, bits)
    for i, (n, b) in enumerate(zip(sizes, bits)):
        stack = build_stack(Workload(float(n), bits=int(b)))
        assert float(grid.landauer[i]) == pytest.approx(stack.headline.landauer_joules, rel=2e-4)
        assert float(grid.accelerator[i]) == pytest.approx(stack.headline.accelerator_joules, rel=1e-3)
        assert float(grid.law[i]) == pytest.approx(stack.law.flop_joules, rel=2e-4)
        assert float(grid.convergence[i]) == pytest.approx(stack.law.convergence_joules, rel=2e-4)


def test_many_workloads_at_once():
    """20,000 here; benchmarks/limits.py times a million."""
    key = jax.random.split(jax.random.key(0), 3)
    sizes = jnp.exp(jax.random.uniform(key[0], (20000,), jnp.float32, math.log(1e6), math.log(1e16)))
    bits = jax.random.uniform(key[1], (20000,), jnp.float32, 2.0, 16.0)
    factor = jax.random.uniform(key[2], (20000,), jnp.float32, 0.6, 2.0)
    energies = quick_jit(jax.vmap(workload_energies))(sizes, bits, factor)
    assert all(np.isfinite(e).all() and (e > 0).all() for e in energies)
    assert (energies.convergence > sizes * KT * 4 * LN2 * bits * 0.9999).all()
    for updates in ("token", "optimizer"):
        landauer = quick_jit(lambda *a: workload_energies(*a, updates=updates).landauer)(sizes, bits, factor)  # noqa: B023
        assert np.isfinite(landauer).all() and (landauer < energies.landauer * 4).all()


def test_a_training_takes_at_least_one_step():
    """Of 1,000 parameters and 20,000 tokens, in batches of a million: as `Workload` counts."""
    few = Workload(1e3, scaling="chinchilla", updates="optimizer")
    assert few.total_steps == 1
    law = workload_energies(1e3, scaling="chinchilla", updates="optimizer").law
    assert float(law) == pytest.approx(2 * few.update_count * KT, rel=1e-5)


@pytest.mark.slow
def test_gradients_of_a_workload():
    check_gradient(
        lambda *a: sum(jnp.log(e) for e in workload_energies(*a)), (1e9, 8.0, 1.3), (1e15, 4.0, 1.8), single=5e-3
    )


def test_wrong_names_of_a_grid():
    with pytest.raises(ValueError, match="scaling must be one of"):
        workload_energies(1e9, scaling="moore")
    with pytest.raises(ValueError, match="updates must be one of"):
        workload_energies(1e9, updates="step")


@pytest.mark.slow
def test_convergence_heat_is_that_of_the_approaches():
    heat = convergence_heat(8.0)
    for got, approach in zip(heat[1:], APPROACHES):
        assert float(got) == pytest.approx(float(approaches.heat(approach, 256.0, 16 * LN2, 1.0)), rel=1e-5)
    given = convergence_heat(8.0, 1000.0, 0.8)
    assert float(given.law) == pytest.approx(float(bounds.convergence(1000.0, 0.8 * math.log(1000.0))), rel=1e-5)
    many = convergence_heat(np.array([4.0, 8.0], np.float32))
    assert float(many.loss_following[1]) == pytest.approx(float(heat.loss_following), rel=1e-4)
    # a given ratio is that of every one of them
    several = convergence_heat(np.array([6.0, 8.0], np.float32), 1000.0, 0.8)
    assert [x.shape for x in several] == [(2,)] * 5
    assert several.law == pytest.approx(float(given.law), rel=1e-6)


# Scans and figures.


def test_scan_over_parameters_meets_the_stack():
    scan = scan_parameters(1e6, 1e16, points=11)
    lines = {line.label: line.values for line in scan.lines}
    at = int(np.argmin(np.abs(np.log(scan.x / 1e15))))
    stack = build_stack(Workload(1e15))
    assert scan.x[at] == pytest.approx(1e15)
    assert lines["Landauer per FLOP, Kaplan"][at] == pytest.approx(stack.headline.landauer_joules, rel=1e-6)
    assert lines["LIM, law, one convergence"][at] == pytest.approx(stack.law.convergence_joules, rel=1e-4)
    assert lines["LIM, static barrier, one convergence"][at] == pytest.approx(
        stack.entry("LIM, static barrier").joules, rel=1e-4
    )
    _, low, high = scan.band
    assert (low[at], high[at]) == pytest.approx((stack.headline.lim_low_joules, stack.headline.lim_high_joules))
    assert len(scan.runs) == 8 and all(scan.x[0] < run.details["parameters"] < scan.x[-1] for run in scan.runs)


@pytest.mark.slow
def test_scans_over_time_and_bits():
    scan = scan_contraction(1e12, points=20)
    by = {line.label: line.values for line in scan.lines}
    known = np.isfinite(by["loss-following"])
    assert 10 < known.sum() < 20 and np.isfinite(by["law, open barrier"]).all()
    # haste and slowness both cost; no approach is below the law in any time
    assert scan.x[np.nanargmin(by["loss-following"])] == pytest.approx(16 * LN2, rel=0.25)
    for label in ("loss-following", "rate-matched", "best constant barrier"):
        assert (by[label][np.isfinite(by[label])] > by["law, in any time"][0]).all()
    scan = scan_time(1e12, points=30)
    by = {line.label: line.values for line in scan.lines}
    assert (np.diff(by["static barrier"]) < 0).all()
    ladder = ("static barrier", "best constant barrier", "rate-matched", "loss-following", "law, open barrier")
    for more, less in itertools.pairwise(ladder):
        assert (by[less] <= by[more] * 1.02).all(), (more, less)
    # a ratio that few bits cannot hold leaves a gap
    coarse = {line.label: line.values for line in scan_bits(1e15, conditions=Conditions(loss_ratio=1000.0)).lines}
    constant = coarse["LIM, constant barrier, one convergence"]
    assert np.isnan(constant[0]) and np.isfinite(constant[6:]).all()
    scan = scan_bits(1e15)
    by = {line.label: line.values for line in scan.lines}
    stack = build_stack(Workload(1e15))
    assert by["Landauer per FLOP"][6] == pytest.approx(stack.headline.landauer_joules, rel=1e-6)
    constant = by["LIM, constant barrier, one convergence"][6]
    assert constant == pytest.approx(stack.entry("LIM, best constant barrier").joules, rel=1e-4)
    assert by["H100 SXM bf16"][6] == pytest.approx(stack.headline.accelerator_joules)


@pytest.mark.slow
def test_figures_show_everything_with_units(headline, tmp_path):
    from limjax.plots.limits import limit_figures, save_figures

    data = figure_data(headline)
    for _, bars in data.walls:
        assert all(bar.compute == pytest.approx(headline.stack.headline.accelerator_joules) for bar in bars)
    given = figure_data(energy_limits(1e9, steps=1e4, batch=1e5)).walls[1][1][0]
    assert given.compute == pytest.approx(6e9 * 1e9 * 700 / 989e12)
    drawn = limit_figures(data)
    assert list(drawn) == ["energy_parameters", "energy_contraction", "energy_time", "energy_bits", "walls"]
    for name, fig in drawn.items():
        ax = fig.axes[0]
        assert "[J]" in (ax.get_xlabel() if name == "walls" else ax.get_ylabel()), name
        if name != "walls":
            assert ax.get_yscale() == "log" and ax.get_xlabel()
    # Every part of every architecture is a point, where it is anything at all.
    for ax, (_, bars) in zip(drawn["walls"].axes, data.walls, strict=True):
        parts = {getattr(bar, part) for bar in bars for part in ("compute", "memory", "update", "consolidation")} - {
            0.0
        }
        assert (
            ax.get_xscale() == "log"
            and {line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o" and line.get_xdata().size}
            == parts
        )
    text = " ".join(t.get_text() for t in drawn["energy_parameters"].findobj(match=lambda a: hasattr(a, "get_text")))
    for label in ("GPT-3 175B", "Landauer per FLOP, Kaplan", "reconstruction", "LIM, law", "H100"):
        assert label in text, label
    paths = save_figures({"walls": drawn["walls"]}, tmp_path / "new")
    assert [path.name for path in paths] == ["walls.png"] and paths[0].stat().st_size > 10000
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written to"):
        save_figures({}, tmp_path / "file")


def test_labels_at_the_ends_of_curves_stay_apart():
    from limjax.plots.limits import limit_curves

    fig = limit_curves(scan_parameters(points=5), "title")
    places = sorted(a.get_position()[1] for a in fig.axes[0].texts if a.get_position()[0] == 1.03)
    assert len(places) == 11 and min(np.diff(places)) > 0.035
    assert not re.search("nan", fig.axes[0].get_title())


def test_one_training_run_has_its_number_above_it():
    from limjax.plots.limits import limit_curves

    run = load_catalogue().of("run")[0]
    drawn = limit_curves(Scan("parameters", np.array([1e8, 1e12]), (), None, (run,), ""), "title")
    (number,) = (text for text in drawn.axes[0].texts if text.get_text() == "1")
    assert number.xyann == (0, 8)
