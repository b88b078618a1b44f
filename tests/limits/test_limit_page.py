"""The numbers of docs/limits.md are those of the code and of the stored measurements."""

import json
import math
import pathlib
import re

import pytest

from limjax.limits import convergence_heat, energy_limits, fit_path, fit_power_law, load_catalogue, path_per_step

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs/limits.md").read_text()


def number(text):
    return float(text.replace(",", "").replace("−", "-"))


@pytest.mark.slow
def test_table_of_conventions():
    limits = energy_limits(1e15)
    stacks = {stack.workload.convention: stack for stack in (limits.stack, *limits.others)}
    rows = re.findall(r"^\| (Kaplan|Chinchilla 20:1) \| ([^|]+) \|(.*)\|$", PAGE, re.M)
    assert {f"{law}, {update}" for law, update, _ in rows} == set(stacks)
    for law, update, cells in rows:
        stack = stacks[f"{law}, {update}"]
        head = stack.headline
        expected = [
            stack.workload.total_flops,
            stack.workload.update_count,
            head.landauer_joules,
            head.lim_low_joules,
            head.lim_high_joules,
            head.accelerator_joules,
        ]
        assert [number(n) for n in re.findall(r"[\d.]+(?:e\d+)?", cells)] == pytest.approx(expected, rel=5e-3)


def test_table_of_the_law():
    stack = energy_limits(1e15).stack
    accelerator, law = stack.headline.accelerator_joules, stack.law
    expected = (law.convergence_joules, law.write_joules, law.token_joules, law.flop_joules)
    rows = re.findall(r"^\| law, [^|]+ \| ([\d.e-]+) \| ([\d.]+) \|$", PAGE, re.M)
    assert [number(joules) for joules, _ in rows] == pytest.approx(expected, rel=5e-3)
    assert [number(orders) for _, orders in rows] == pytest.approx(
        [math.log10(accelerator / e) for e in expected], abs=0.06
    )


def test_table_of_the_approaches():
    heat = convergence_heat(8.0)
    expected = (heat.static, heat.constant, heat.rate_matched, heat.loss_following, heat.law)
    rows = re.findall(r"^\| [^|]+ \| [^|]+ \| ([\d.,]+) kT", PAGE, re.M)
    assert [number(row) for row in rows] == pytest.approx([float(e) for e in expected], rel=5e-3)


def test_measured_widths():
    content = json.loads((ROOT / "benchmarks/results/widths.json").read_text())
    assert set(content["networks"]) == {"digits-mlp", "char-transformer"} and content["versions"] and content["machine"]
    for name, network in content["networks"].items():
        runs = network["runs"]
        assert len({run["width"] for run in runs}) >= 4
        path = fit_path(runs)
        assert all(run["path_per_step"] == path_per_step(run) for run in runs)
        heat = fit_power_law([r["parameters"] for r in runs], [r["heat_kt"] / r["path_levels"] for r in runs])
        row = re.search(rf"^\| `{name}`, (\d+) steps \| (.*) \|$", PAGE, re.M)
        cells = [number(n) for n in re.findall(r"−?[\d][\d,.]*\d|\b\d\b", row[2])]
        expected = [*path.fitted, len(runs)]
        for fit, stored in ((path, "path_fit"), (heat, "heat_per_level_fit")):
            assert network[stored]["exponent"] == pytest.approx(fit.exponent)
            expected += [fit.exponent, fit.exponent_low, fit.exponent_high]
        assert cells == pytest.approx(expected, abs=5.1e-3)


def test_numbers_in_the_text():
    timing = json.loads((ROOT / "benchmarks/results/limits_cpu.json").read_text())
    million = timing["variants"]["workload_energies"]
    assert timing["workloads"] == 1_000_000 and million["median_seconds"] < 1 and million["finite_share"] == 1
    assert f"{1000 * million['median_seconds']:.1f} ms on two CPU cores" in PAGE
    runs = [record.joules_per_flop * 1e12 for record in load_catalogue().of("run")]
    assert f"from {min(runs):.1f} to {max(runs):.1f} pJ/FLOP" in PAGE
    assert f"{energy_limits(1e15).stack.headline.orders_below_accelerator:.1f} orders below an H100" in PAGE.replace(
        "\n", " "
    )
