"""The catalogue: sources, arithmetic of its records, what is wrong with a user's file; and the walls built on it."""

import math
import re

import pytest

from limjax.limits import Workload, load_catalogue, walls
from limjax.limits._records import HOW, KINDS, UNITS
from limjax.physics.units import thermal_energy_joules

CATALOGUE = load_catalogue()

GOOD = """
[[accelerator]]
name = "Mine"
peak_flops = 1e15
power_w = 500
value = 0.5
low = 0.5
high = 1.0
unit = "pJ/FLOP"
year = 2025
source = "our lab book"
how = "measured"
"""


def test_every_record_has_a_source():
    records = [record for kind in KINDS for record in CATALOGUE.of(kind)]
    assert len(records) >= 30 and all(CATALOGUE.of(kind) for kind in KINDS)
    for record in records:
        assert len(record.source) > 10 and re.search(r"arXiv|doi:|data sheet|ITRS|model card", record.source), record
        assert record.how in HOW and record.unit in UNITS and 1990 <= record.year <= 2026
        assert 0 < record.low <= record.value <= record.high
        low, high = record.range_si
        assert low <= record.si <= high


def test_accelerators_against_peak_and_power(reference):
    entry = reference["accelerator_peak_J_per_FLOP"]
    names = {"V100 SXM2": "V100 SXM2 fp16", "A100 SXM": "A100 SXM bf16", "TPU v4 bf16 (192W max)": "TPU v4 bf16"}
    names |= {"H200 SXM bf16": "H200 SXM bf16"}
    for name, expected in entry["expected"].items():
        record = CATALOGUE.get("accelerator", names.get(name, name))
        given = entry["inputs"][name]
        assert (record.details["peak_flops"], record.details["power_w"]) == (given["peak"], given["tdp"])
        assert record.joules_per_flop == pytest.approx(expected, rel=entry["tolerance"]["rel"])
        assert record.si == pytest.approx(expected, rel=1e-3)
    assert len(entry["expected"]) == len(CATALOGUE.of("accelerator"))
    # what training runs reach: 40 % of peak
    for record in CATALOGUE.of("accelerator"):
        assert record.high == pytest.approx(record.value / 0.4, rel=0.01)


def test_training_runs_against_energy_and_operations(reference):
    entry = reference["training_runs_J_per_FLOP"]
    for name, expected in entry["expected"].items():
        record = CATALOGUE.get("run", name.split(" (")[0])
        assert record.si == pytest.approx(entry["inputs"][name]["energy_J"], rel=1e-6)
        assert record.flops == pytest.approx(entry["inputs"][name]["FLOP"], rel=entry["tolerance"]["rel"])
        assert record.joules_per_flop == pytest.approx(expected, rel=entry["tolerance"]["rel"])
    for record in CATALOGUE.of("run"):
        assert record.flops == pytest.approx(6 * record.details["parameters"] * record.details["tokens"], rel=0.03)
        # no run is below the best accelerator, none above a hundred times the worst
        assert 1.1e-13 < record.joules_per_flop < 1e-10


def test_device_hours_behind_the_estimates():
    """The arithmetic in the notes: hours × rating."""
    for name, hours, watts, overhead in (
        ("PaLM 540B", 8404992, 378.5, 1.08),
        ("BLOOM 176B", 1082990, 400, 1),
        ("Llama-2 70B", 1720320, 400, 1),
        ("Llama-3.1 405B", 30.84e6, 700, 1),
        ("DeepSeek-V3 (37B active)", 2.788e6, 700, 1),
    ):
        assert CATALOGUE.get("run", name).si == pytest.approx(hours * 3600 * watts * overhead, rel=1e-6)


def test_cells_and_access_are_of_the_order_published():
    joules = {record.name: record.si for record in [*CATALOGUE.of("memory_cell"), *CATALOGUE.of("access")]}
    assert joules["SRAM"] == pytest.approx(0.5e-15) and joules["DRAM"] == pytest.approx(5e-15)
    assert joules["HBM2"] == pytest.approx(3.9e-12)
    assert joules["SRAM 8 KB, 45 nm"] == pytest.approx(10e-12 / 64, rel=0.01)
    low, high = CATALOGUE.get("access", "DRAM, off chip, 45 nm").range_si
    assert low == pytest.approx(1.3e-9 / 64, rel=0.01) and high == pytest.approx(2.6e-9 / 64, rel=0.01)
    for record in CATALOGUE.of("memory_cell"):
        if "geometric mean" in record.note:
            assert record.value == pytest.approx((record.low * record.high) ** 0.5, rel=0.02), record.name
    # Consolidation: 1e8 to 1e12 kT a bit in flash or PCM, where raising a barrier takes about 2.5.
    kt = thermal_energy_joules(300.0)
    for name in ("PCM", "NOR flash"):
        assert all(1e8 < end / kt < 1e12 for end in CATALOGUE.get("memory_cell", name).range_si)


def test_names_are_found_and_near_ones_listed():
    assert CATALOGUE.get("accelerator", "h100 sxm BF16").name == "H100 SXM bf16"
    assert CATALOGUE.get("accelerator", "A100").name == "A100 SXM bf16"
    with pytest.raises(ValueError, match=r"'H100' fits several records\. Name one of H100 SXM bf16, H100 SXM fp8\."):
        CATALOGUE.get("accelerator", "H100")
    with pytest.raises(ValueError, match=r"'H10O SXM bf16' is not in the catalogue\. Near names: H100 SXM bf16"):
        CATALOGUE.get("accelerator", "H10O SXM bf16")
    with pytest.raises(ValueError, match="Known names: SRAM, DRAM"):
        CATALOGUE.get("memory_cell", "abacus with beads")
    with pytest.raises(ValueError, match="kind must be one of"):
        CATALOGUE.get("abacus", "x")


def test_a_users_file_adds_and_replaces(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD + GOOD.replace('"Mine"', '"H100 SXM bf16"'))
    catalogue = load_catalogue(path)
    assert catalogue.get("accelerator", "Mine").joules_per_flop == 5e-13
    assert catalogue.get("accelerator", "H100 SXM bf16").source == "our lab book"
    assert CATALOGUE.get("accelerator", "H100 SXM bf16").source != "our lab book"
    assert len(catalogue.of("run")) == len(CATALOGUE.of("run"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda t: t.replace('source = "our lab book"\n', ""),
            ("'Mine'", "lacks source", "where its value comes from"),
        ),
        (lambda t: t.replace("value = 0.5", "value = 5.0"), ("'Mine'", "outside its range 0.5 to 1.0")),
        (
            lambda t: t.replace("high = 1.0", "high = 9.0").replace("value = 0.5", "value = 5.0"),
            ("not power over peak",),
        ),
        (lambda t: t.replace("value = 0.5", "value = -0.5"), ("value must be a positive number", "-0.5")),
        (lambda t: t.replace("value = 0.5", 'value = "half"'), ("value must be a positive number", "'half'")),
        (lambda t: t.replace("pJ/FLOP", "pJ/flop"), ("unit must be one of", "'pJ/flop'")),
        (lambda t: t.replace("pJ/FLOP", "pJ/bit"), ("unit must be an energy/FLOP", "'pJ/bit'")),
        (
            lambda t: t.replace('"measured"', '"guessed"'),
            ("how must be one of datasheet, measured, estimated", "guessed"),
        ),
        (lambda t: t.replace("year = 2025", "year = 25"), ("year must be a whole number from 1900 to 2100", "25")),
        (lambda t: t.replace("power_w = 500\n", ""), ("lacks power_w",)),
        (lambda t: t + "colour = 3\n", ("unknown entries: colour",)),
        (lambda t: t.replace("[[accelerator]]", "[[chip]]"), ("unknown table [[chip]]", "accelerator")),
        (lambda t: t.replace("[[accelerator]]", "[accelerator]"), ("two brackets",)),
        (lambda t: t + t, ("two records of accelerator are called 'Mine'",)),
        (lambda t: t.replace('"our lab book"', '" "'), ("source must be text",)),
        (lambda t: t.replace("= 0.5", "="), ("not valid TOML",)),
    ],
)
def test_a_broken_file_is_told_apart(tmp_path, change, words):
    path = tmp_path / "broken.toml"
    path.write_text(change(GOOD))
    with pytest.raises(ValueError) as error:
        load_catalogue(path)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "broken.toml" in str(error.value) and len(str(error.value).splitlines()) == 1


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        load_catalogue(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not valid TOML"):
        load_catalogue(tmp_path / "binary.toml")


def test_a_run_needs_an_energy_and_other_kinds_have_no_operations(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(
        '[[run]]\nname = "r"\nparameters = 1e9\ntokens = 2e10\nvalue = 3.0\nlow = 2.0\nhigh = 4.0\nunit = "W"\n'
        'year = 2025\nsource = "our lab book"\nhow = "measured"\n'
    )
    with pytest.raises(ValueError, match="unit must be an energy such as MWh, got 'W'"):
        load_catalogue(path)
    with pytest.raises(ValueError, match="not a training run"):
        _ = CATALOGUE.get("access", "HBM2").flops
    with pytest.raises(ValueError, match="no energy per FLOP"):
        _ = CATALOGUE.get("access", "HBM2").joules_per_flop


# Walls.


def test_walls_by_hand():
    """1e9 parameters, 2e10 tokens one by one, 16 bits."""
    von, cim, lim = walls(Workload(1e9, tokens=2e10, batch=1.0, bits=16))
    steps, bits = 2e10, 16e9
    assert von.compute == cim.compute == lim.compute == pytest.approx(1.2e20 * 700 / 989e12)
    assert von.memory == pytest.approx(steps * 2 * bits * 3.9e-12) and cim.memory == lim.memory == 0
    assert von.update == cim.update == pytest.approx(steps * bits * 5e-15)
    assert von.consolidation == cim.consolidation == pytest.approx(bits * 0.32e-9)
    kt = thermal_energy_joules(300.0)
    # the law for one convergence of 16 bits
    assert lim.update == pytest.approx(1e9 * kt * 64 * math.log(2)) and lim.consolidation == pytest.approx(
        1e9 * kt * 2.41
    )
    assert von.total == von.compute + von.memory + von.update + von.consolidation
    assert von.as_dict()["total"] == von.total > cim.total > lim.total
    for bar in (von, cim, lim):
        assert "H100 SXM bf16" in bar.assumptions


def test_walls_scale_and_take_names():
    workload = Workload(1e9, tokens=2e10, batch=1e6)
    base = walls(workload)[0]
    more = walls(
        workload, reads=4.0, transfers=3.0, hardware="B200 fp4", access="SRAM 8 KB", write="PCM", storage="PCM"
    )[0]
    assert more.memory == pytest.approx(base.memory * 2 * 0.156 / 3.9)
    assert more.update == pytest.approx(base.update * 7.1e-12 / 5e-15)
    assert more.consolidation == pytest.approx(base.consolidation * 3 * 7.1e-12 / 0.32e-9)
    for wrong, words in (
        ({"hardware": "H10O"}, "Near names: H100"),
        ({"write": "DRAN"}, "Near names: DRAM"),
        ({"reads": 0.0}, "reads must be a positive"),
        ({"transfers": -1.0}, "transfers must be"),
        ({"lim_heat_kt": -1.0}, "lim_heat_kt must be"),
        ({"temperature": 0.0}, "temperature must be"),
    ):
        with pytest.raises(ValueError, match=words):
            walls(workload, **wrong)
