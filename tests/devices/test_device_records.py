"""Device files: the zoo says where every number comes from, and what is wrong is named."""

import jax.numpy as jnp
import numpy as np
import pytest
from device_curves import measured

from limjax.devices import (
    LinearSteps,
    OhmicEnergy,
    PulsedCell,
    device_names,
    fit_pulses,
    fitted_device,
    get_device,
    read_device,
)
from limjax.devices._numbers import HOW, NUMBERS
from limjax.devices._records import ZOO
from limjax.limits import load_catalogue
from limjax.physics._pulses import Place

WANTED = {
    "ecram", "reram-hfo2", "pcm", "fefet", "stt-mram", "nor-flash", "fowler-nordheim", "capacitor", "sram", "dram", "ag-a-si",
    "reram-hfo2-array",
}  # fmt: skip


def test_the_zoo_is_whole_and_every_number_has_a_source():
    assert set(device_names()) == WANTED
    for name in device_names():
        device = get_device(name)
        assert device.name == name and device.title
        for number in device.numbers.values():
            assert number.how in HOW and 1990 < number.year < 2030 and len(number.source) > 10, (name, number.name)
            assert number.how != "derived" or number.note, (name, number.name)
        cell = device.cell()
        lowest, highest = np.asarray(cell.levels)
        assert highest - lowest == pytest.approx(device.levels, rel=1e-6)
        assert float(cell.lsb) == pytest.approx(2.0 / device.levels, rel=1e-6)
        assert float(cell.max_barrier) > float(cell.own_barrier)
        # What is not known has no column, and is said.
        assert ("device_joules" in cell.charges) == ("the energy of a pulse" not in device.missing)
        assert ("device_seconds" in cell.charges) == ("the width of a pulse" not in device.missing)


def test_no_number_stands_twice():
    """Energies that the catalogue of the limits has are referred to."""
    for name, record in (
        ("pcm", "PCM"),
        ("sram", "SRAM"),
        ("fefet", "FeFET"),
        ("nor-flash", "NOR flash"),
        ("stt-mram", "STT-MRAM"),
    ):
        energy = get_device(name).numbers["pulse_energy"]
        assert energy.si == load_catalogue().get("memory_cell", record).si
        assert f"{energy.value}" not in (ZOO / f"{name}.toml").read_text().split("[numbers.pulse_energy]")[1]


def test_the_simulators_example_has_its_curves():
    """Silver in amorphous silicon: NeuroSim's closed form, 97 pulses up and 100 down, nonlinearities 2.4 and -4.88."""
    cell = get_device("ag-a-si").cell()
    low, high = (float(x) for x in cell.levels)
    place = Place(0, jnp.int32(0), None, True)
    for way, pulses, a in ((1, 97, 0.499181), (-1, 100, 0.200303)):
        start = low if way > 0 else high
        noiseless = cell.up if way > 0 else cell.down
        plain = PulsedCell(noiseless, lsb=1.0, levels=(low, high))
        for n in (5, 40, pulses):
            moved = plain.deliver(jnp.float32(way * n), jnp.float32(start), place).mean
            expected = (1 - np.exp(-n / (a * pulses))) / (1 - np.exp(-1 / a))
            assert way * float(moved) / (high - low) == pytest.approx(expected, rel=2e-3)
    # V² G t at full conductance: 118 pJ a pulse up.
    assert isinstance(cell.up.energy, OhmicEnergy)
    assert float(cell.up.energy.joules(jnp.float32(1.0))) == pytest.approx(3.2**2 * 38.462e-9 * 300e-6, rel=1e-5)


def test_retention_becomes_a_barrier():
    mram, dram = get_device("stt-mram"), get_device("dram")
    # Ten years at 120 °C and 1e-4, counted one way at 1 GHz: 49.5 kT there, more at room temperature.
    assert float(mram.cell(temperature=393.15).own_barrier) == pytest.approx(49.5, abs=0.01)
    assert float(mram.cell().own_barrier) == pytest.approx(49.5 * 393.15 / 300, abs=0.02)
    assert float(dram.cell().own_barrier) == pytest.approx(
        (np.log(1e9 * 0.064) - np.log(1e-4)) * 358.15 / 300, abs=0.01
    )
    assert any("ten years" in said for said in get_device("ecram").assumed)
    assert any("1 GHz" in said for said in mram.assumed) and any(
        "word bits = 8 is chosen" in said for said in mram.assumed
    )


@pytest.mark.slow
def test_a_fitted_device_is_written_and_read(tmp_path):
    data = measured("soft-bounds", np.random.default_rng(3))
    way = np.array(data["direction"]) == "up"
    data |= {"voltage": np.where(way, 2.0, -1.5), "width": np.full(240, 1e-7)}
    fit = fit_pulses(data, "soft-bounds")
    device = fitted_device(fit, "mine")
    path = tmp_path / "mine.toml"
    path.write_text(device.to_toml(), encoding="utf-8")
    again = read_device(path)
    assert again == device and again.missing == ("spread between devices", "retention")
    cell = again.cell()
    assert isinstance(cell.up.energy, OhmicEnergy) and float(cell.down.energy.volts) == 1.5
    # What the cell does with a pulse in the middle is the step that was fitted there.
    plain = PulsedCell(cell.up, cell.down, lsb=1.0, levels=tuple(float(x) for x in cell.levels))
    window = float(device.si("conductance_high") - device.si("conductance_low"))
    for sign, name in ((1.0, "step_up"), (-1.0, "step_down")):
        moved = plain.deliver(jnp.float32(sign), jnp.float32(0.0), Place(0, jnp.int32(0), None, True)).mean
        siemens = sign * float(moved) / device.levels * window
        # The middle of the window is near that of the range.
        assert siemens == pytest.approx(fit.numbers[name].value, rel=0.1)


def test_a_linear_fit_is_a_linear_device():
    device = fitted_device(fit_pulses(measured("linear", np.random.default_rng(4)), "linear"), "straight")
    assert device.law == "linear" and isinstance(device.cell().up.steps, LinearSteps)


GOOD = (ZOO / "ecram.toml").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("law = [", r"not valid TOML"),
        (
            GOOD.replace('law = "soft-bounds"', 'law = "cubic"'),
            r"law must be one of linear, soft-bounds, exponential, got 'cubic'",
        ),
        (GOOD.replace("title =", "titel ="), r"unknown entry 'titel'"),
        (GOOD.replace("[numbers.levels]", "[numbers.level]"), r"level is no number of a device. Near: levels"),
        (GOOD.replace('unit = "fJ"', 'unit = "fW"'), r"pulse_energy: unit must be an energy such as pJ, got 'fW'"),
        (GOOD.replace('how = "projected"', 'how = "guessed"'), r"how must be one of measured.*'guessed'"),
        (GOOD.replace("value = 1000.0", "value = -3"), r"levels: value must be a number of at least 0, got -3"),
        (
            GOOD.replace("value = 1000.0", "value = [1, 2]"),
            r"levels: value must be a number of at least 0, got \[1, 2\]",
        ),
        (GOOD.replace("value = 1000.0", "value = 0"), r"levels, the nominal pulses from end to end"),
        (GOOD.replace("year = 2018\n", "", 1), r"levels lacks year. Every number says where it comes from"),
        (GOOD.replace('law = "soft-bounds"', 'law = "exponential"'), r"exponential needs nonlinearity"),
    ],
)
def test_wrong_files_are_named(tmp_path, text, said):
    path = tmp_path / "device.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as error:
        read_device(path)
    assert "device.toml" in str(error.value)


def test_a_device_of_a_few_numbers():
    device = get_device("levels=1000, pulse_energy=1fJ, pulse_time=10 ms")
    assert device.si("pulse_energy") == 1e-15 and device.si("pulse_time") == 1e-2 and device.levels == 1000
    assert get_device("law=soft-bounds,levels=50,noise=0.3").cell().noise is not None
    for micro in "u\u00b5\u03bc":
        assert get_device(f"levels=1e3,pulse_time=10{micro}s").si("pulse_time") == pytest.approx(1e-5)
    held = get_device("levels=1000,retention_time=3e8s")
    energies = [float(held.cell(temperature=t).retention.activation_ev) for t in (77.0, 300.0, 400.0)]
    assert energies == [energies[0]] * 3  # of a material, whatever the temperature of the run
    assert float(held.cell(temperature=400.0).own_barrier) == pytest.approx(0.75 * float(held.cell().own_barrier))
    assert any("300 K" in said for said in held.assumed)
    # 0 is a number that is known.
    still = get_device("levels=100,size_down=0,pulse_time=0s")
    assert float(still.cell().down.size) == 0 and float(still.cell().up.size) == 1
    assert "the width of a pulse" not in still.missing and "device_seconds" in still.cell().charges
    for text, said in (
        ("levels=1..2", r"expected levels=number.*got levels=1..2"),
        ("levels=100000m1", r"levels: unit must be 1, a plain number, got 'm1'"),
        ("levels=100,retention_time=0s", r"retention_time: value must be above 0, got 0"),
        ("levels=100,retention_time=1s,retention_temperature=0", r"retention_temperature: value must be above 0"),
        ("levels=100,activation_energy=1eV,attempt_rate=0", r"attempt_rate: value must be above 0, got 0"),
        ("levels=100,zero=3", r"zero: value must be a share from 0 to 1, got 3"),
        ("word_bits=2.5", r"word_bits: value must be a whole number from 1 to 24, got 2.5"),
        ("word_bits=2000", r"word_bits: value must be a whole number from 1 to 24, got 2000"),
        ("levels=many", r"expected levels=number"),
        ("levels=100,pulse_time=3 V", r"pulse_time: unit must be a time"),
        ("pulse_time=3s", r"levels, the nominal pulses"),
        ("levels=100,law=odd", r"law must be one of"),
        ("level=100", r"level is no number of a device"),
    ):
        with pytest.raises(ValueError, match=said):
            get_device(text)


@pytest.mark.parametrize("text", ["law=soft-bounds,bound=0", "law=exponential,nonlinearity=0"])
def test_a_shape_of_zero_is_not_taken_for_a_missing_one(text):
    with pytest.raises(ValueError, match=r"(bound|nonlinearity) must be .*got 0"):
        get_device(f"levels=100,{text}").cell()


def test_names_that_are_not_known():
    with pytest.raises(ValueError, match=r"no device 'ecramm'. Near names: ecram"):
        get_device("ecramm")
    with pytest.raises(ValueError, match=r"cannot be read"):
        get_device("nowhere.toml")
    assert {"levels", "pulse_energy", "pulse_energy_up"} <= set(NUMBERS)
