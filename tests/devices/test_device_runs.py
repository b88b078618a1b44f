"""Training on devices: settings, report, and the command line."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from device_curves import measured

import limjax
from limjax.cli import main
from limjax.devices import get_device, read_device
from limjax.plots.devices import response_figure
from limjax.tasks import get_task
from limjax.training import RunSettings, prepare

pytestmark = pytest.mark.optax


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    out = capsys.readouterr()
    return end.value.code or 0, out.out, out.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A device that was fitted from a file, and a run on it."""
    folder = tmp_path_factory.mktemp("device")
    data = measured("soft-bounds", np.random.default_rng(11), sweep=20, cycles=2)
    data |= {"voltage": [2.0] * 80, "width": [1e-7] * 80}
    rows = [",".join(data), *(",".join(map(str, row)) for row in zip(*data.values()))]
    (folder / "pulses.csv").write_text("\n".join(rows))
    (folder / "kept.csv").write_text(
        "time,temperature,failures,cells\n1e4,400,12,1000\n1e4,430,160,1000\n1e4,460,800,1000\n"
    )
    fit = ["device", "fit", folder / "pulses.csv", "--law", "soft-bounds", "--retention", folder / "kept.csv"]
    train = [
        "train",
        "--task",
        "diabetes-regression",
        "--steps",
        20,
        "--lsb",
        0.25,
        "--device",
        folder / "mine.toml",
        "--no-figures",
    ]
    for arguments in ([*fit, "--out", folder / "mine.toml"], [*train, "--out", folder / "run"]):
        with pytest.raises(SystemExit) as end:
            main(list(map(str, arguments)))
        assert not end.value.code
    return folder


@pytest.mark.slow
def test_from_a_file_of_pulses_to_a_run(folder):
    device = read_device(folder / "mine.toml")
    assert (folder / "mine.png").stat().st_size > 5000
    assert device.si("voltage", "up") == 2.0 and device.si("activation_energy") is not None
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert summary["memory_device"] == str(folder / "mine.toml") and summary["steps"] == 20
    assert summary["memory_assumed"] == list(device.assumed)
    assert summary["pulses"] > 0 and summary["device_joules"] > 0 and summary["device_seconds"] > 0
    assert summary["device_seconds"] == pytest.approx(1e-7 * summary["pulses"], rel=1e-5)
    assert summary["device_over_ideal_drive"] == pytest.approx(summary["device_joules"] / summary["heat_joules"])
    cell = device.cell()
    assert summary["final_barrier_kt"] == pytest.approx(float(cell.own_barrier), rel=1e-5)
    assert summary["attempt_rate"] == pytest.approx(float(cell.attempt_rate), rel=1e-6)
    ledger = np.load(folder / "run" / "ledger.npz")
    assert {"pulses", "device_joules", "device_seconds", "misplaced"} <= {name.split("/")[0] for name in ledger}


@pytest.mark.slow
def test_a_run_goes_on_and_nothing_is_overwritten(folder, capsys):
    code, out, _ = run(capsys, "train", "--resume", "--out", folder / "run", "--no-figures")
    assert code == 0 and "J at the device" in out and "Assumed of the device: spread" in out
    code, _, err = run(capsys, "train", "--resume", "--out", folder / "run", "--device", "ecram")
    assert code == 2 and "memory_device" in err and err.count("\n") == 1
    code, _, err = run(capsys, "device", "fit", folder / "pulses.csv", "--out", folder / "mine.toml")
    assert code == 2 and "not overwritten" in err


def test_show_and_list(capsys):
    code, out, _ = run(capsys, "device", "list")
    assert code == 0 and "ecram" in out and "assumed" in out
    code, out, _ = run(capsys, "device", "show", "pcm")
    assert (
        code == 0
        and "doi:10.3389/fnins.2020.00406" in out.replace("\n", "")
        and "Not known: the width of a pulse" in out
    )
    told = json.loads(run(capsys, "device", "show", "stt-mram", "--json")[1])
    assert told["numbers"]["pulse_energy"]["source"].startswith("ITRS") and told["barrier_is_known"]
    assert len(json.loads(run(capsys, "device", "list", "--json")[1])) == 12


@pytest.mark.slow
def test_figures(folder, capsys):
    run(capsys, "device", "show", "pcm", "--figure", folder / "pcm.png")
    assert (folder / "pcm.png").stat().st_size > 5000
    assert response_figure(get_device("ag-a-si")).axes[0].get_ylabel() == "step [nominal pulses]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "--device", "ecramm"), "Near names: ecram"),
        (("train", "--device", "ecram", "--bits", "4"), "bits is what a device says of itself"),
        (("train", "--device", "ecram", "--attempt-rate", "1e8"), "--attempt-rate is what a device says"),
        (("device", "show", "nowhere.toml"), "cannot be read"),
        (("device", "fit", "nowhere.csv", "--out", "x.txt"), "must end in .toml"),
        (("device", "fit", "nowhere.csv", "--out", "no/such/x.toml"), "there is no folder"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(capsys, arguments, said):
    code, _, err = run(capsys, *arguments)
    assert code == 2 and said in err and err.count("\n") == 1


def test_figures_are_refused_before_any_work(capsys, tmp_path):
    (tmp_path / "mine.png").write_text("of somebody")
    (tmp_path / "foo.png").symlink_to("nowhere")
    fit = ["device", "fit", "nowhere.csv", "--out", tmp_path / "mine.toml"]
    show = ["device", "show", "pcm", "--figure"]
    for words, said in (
        (fit, "mine.png is there already"),
        ([*show, tmp_path / "mine.png"], "--figure"),
        ([*show, tmp_path / "foo.png"], "is there already"),
        ([*show, tmp_path / "foo"], "--figure must end in .png, .pdf or .svg"),
        ([*show, tmp_path / "foo.xyz"], "--figure must end in .png, .pdf or .svg"),
    ):
        code, out, err = run(capsys, *words)
        assert code == 2 and out == "" and said in err and err.count("\n") == 1
    assert "There is no file nowhere.csv" in run(capsys, *fit, "--no-figures")[2]
    assert {path.name for path in tmp_path.iterdir()} == {"mine.png", "foo.png"}
    assert (tmp_path / "mine.png").read_text() == "of somebody"


@pytest.mark.slow
def test_settings_of_a_device():
    settings = RunSettings.of(get_task("quadratic"), memory_device="stt-mram", steps=4, temperature=350.0, seed=3)
    assert settings.barrier.startswith("static:height=55.6") and settings.lsb == pytest.approx(2 / 255)
    made = prepare(settings)
    assert float(made.barrier.height) == pytest.approx(float(made.cell.own_barrier), rel=1e-5)
    assert made.cell.word_bits == 8 and float(made.cell.temperature) == 350.0
    assert RunSettings.from_json(settings.to_json()) == settings
    # The spread of devices is another one for another seed.
    spread = [
        prepare(RunSettings.of(get_task("quadratic"), memory_device="ecram", seed=s)).cell.spread.seed for s in (0, 1)
    ]
    assert spread == [0, 1]


@pytest.mark.slow
def test_a_cell_in_the_users_own_call_brings_its_barrier():
    cell = get_device("levels=1000,pulse_energy=1fJ,pulse_time=10ms").cell()
    result = limjax.train("quadratic", cell=cell, steps=3, hops="exact", compare=())
    assert result.summary["final_barrier_kt"] == pytest.approx(49.50, abs=0.01)
    assert result.summary["device_joules"] == pytest.approx(1e-15 * result.summary["pulses"], rel=1e-5)
    assert "s one cell after the other" in str(result.report) and "ideal drive" in str(result.report)
    assert "pulses" not in limjax.train("quadratic", steps=3, compare=()).summary


@pytest.mark.slow
def test_the_report_says_why_an_asymmetric_device_stalls():
    """Soft bounds and a weight far from where steps cancel: what is delivered is not what was asked for."""
    cell = get_device("law=soft-bounds,levels=200,bound_up=1,bound_down=1").cell()
    optimizer = limjax.learning_in_memory(optax.sgd(1.0), cell, hops="exact", key=jax.random.key(0))
    params = {"w": jnp.full(400, 0.8)}
    state, step = optimizer.init(params), jax.jit(optimizer.update)
    rng = np.random.default_rng(0)
    for _ in range(40):
        noise = {"w": jnp.asarray(0.03 * rng.standard_normal(400), jnp.float32)}
        moved, state = step(noise, state, params)
        params = optax.apply_updates(params, moved)
    report = limjax.report(state, params)
    # Requests of mean zero: drawn to the middle, where steps are equal.
    assert float(np.mean(params["w"])) < 0.4
    assert any("where they cancel" in said for said in report.warnings)
    assert report.device is not None and report.device.misplaced_fraction > 0.2


@pytest.mark.slow
def test_two_memories_in_one_model():
    """A device for one layer, a cell of the paper for the other: pulses are told of the first alone."""
    groups = {
        "a": (get_device("ecram").cell(), limjax.StaticBarrier(49.5)),
        "": (limjax.ArrheniusCell(), limjax.StaticBarrier(12.0)),
    }
    optimizer = limjax.learning_in_memory(optax.sgd(0.1), groups, hops="exact", key=jax.random.key(0), compare=())
    params = {"a": jnp.zeros(20), "b": jnp.zeros(20)}
    moved, state = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    ledgers = limjax.get_ledgers(state)
    assert sorted(ledger.pulses is None for ledger in ledgers.values()) == [False, True]
    assert limjax.report(state, optax.apply_updates(params, moved)).device is None
