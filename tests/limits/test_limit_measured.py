"""Power laws of measured trainings: recovered, with bands that cover, checked on the largest size, continued to a larger one."""

import dataclasses
import json
import math

import numpy as np
import pytest

from limjax.cli import main
from limjax.limits import MeasuredRun, fit_growth, fit_power_law, leave_largest_out, measured_limit, read_measured
from limjax.limits._growth import QUANTITIES
from limjax.limits._measured import SCALING_FILE
from limjax.physics.units import thermal_energy_joules
from limjax.plots.scaling import energy_by_steps, growth, save_growth_figure

SIZES = (10_000, 30_000, 100_000, 300_000)


def runs(power=0.2, scatter=0.0, sizes=SIZES, seeds=3, rng=None, **changes):
    rng = np.random.default_rng(0) if rng is None else rng
    made = []
    for size in sizes:
        for seed in range(seeds):
            heat = 5.0 * size**power * np.exp(scatter * rng.normal())
            numbers = dict(
                parameters=size, tokens=20.0 * size, batch_tokens=512.0, lsb=2.0**-10, seed=seed, loss=2.0, plain_loss=1.99,
                heat_kt_per_parameter=heat, actuation_kt_per_parameter=0.1 * heat, effective_updates=3.0 * size**0.5,
                law_kt_per_parameter=2.0 + 6.0 * size**0.5,
            )  # fmt: skip
            made.append(MeasuredRun(**(numbers | changes)))
    return made


def test_an_exact_power_law_is_found_with_a_band_of_no_width():
    fit = fit_growth(runs())
    assert fit.exponents == {"parameters": pytest.approx(0.2)}
    assert fit.band() == pytest.approx((0.2, 0.2))
    assert fit.predict(1e15) == pytest.approx([5.5 * 1e15**0.2] * 3, rel=1e-6)
    assert fit.extrapolation(1e15) == pytest.approx(1e15 / 3e5) and fit.extrapolation(5e4) == 1
    assert fit_growth(runs(), "effective_updates").exponents["parameters"] == pytest.approx(0.5)


def test_several_powers_are_told_apart_if_they_vary_apart():
    several = [
        dataclasses.replace(run, lsb=lsb, heat_kt_per_parameter=run.heat_kt_per_parameter * (lsb / 2**-10) ** -0.7)
        for run in runs()
        for lsb in (2.0**-10, 2.0**-8)
    ]
    fit = fit_growth(several, "heat_kt_per_parameter")
    assert fit.exponents == pytest.approx({"parameters": 0.2, "lsb": -0.7})
    assert fit.predict(1e6, lsb=2.0**-12)[0] == pytest.approx(5 * 1e6**0.2 * 4**0.7)
    together = [dataclasses.replace(run, batch_tokens=float(run.parameters)) for run in runs()]
    with pytest.raises(ValueError, match="vary together"):
        fit_growth(together)


def test_sizes_may_be_close():
    """Within a tenth they were taken for one size, whose power was then missing."""
    close = runs(sizes=(10_000, 10_500))
    assert fit_growth(close).exponents == {"parameters": pytest.approx(0.2)}
    longer = [dataclasses.replace(run, tokens=(1 + run.seed) * run.tokens) for run in close]
    assert measured_limit(longer, 1e6).exponent == pytest.approx(0.2)
    with pytest.raises(ValueError, match="parameters vary together in these runs, or hardly"):
        fit_growth(runs(sizes=(10**9, 10**9 + 1)))


def test_bands_are_like_those_of_student_and_cover_as_often():
    """Beside Student's interval of the same points, an independent route."""
    rng, covered, widths = np.random.default_rng(7), 0, []
    for _ in range(60):
        made = runs(scatter=0.05, rng=rng)
        low, high = fit_growth(made, confidence=0.9).band()
        student = fit_power_law(
            [run.parameters for run in made], [run.energy_kt_per_parameter for run in made], confidence=0.9
        )
        covered += low <= 0.2 <= high
        widths.append((high - low) / (student.exponent_high - student.exponent_low))
    # At a true coverage of 75 %, fewer than 30 of 60 come once in 100,000.
    assert covered >= 30
    # Resampling four sizes is rough; a band of half or twice the width would be another thing.
    assert 0.5 < np.median(widths) < 2


def test_the_same_runs_give_the_same_band_in_any_order():
    made = runs(scatter=0.1)
    assert fit_growth(made).band() == fit_growth(list(made)).band()
    assert fit_growth(made[::-1]).exponents["parameters"] == pytest.approx(fit_growth(made).exponents["parameters"])


def test_the_largest_size_is_foretold_by_the_others():
    right = leave_largest_out(runs())
    assert right.parameters == 300_000 and abs(right.error) < 1e-9
    bent = [
        dataclasses.replace(run, heat_kt_per_parameter=(1 + (run.parameters == 300_000)) * run.heat_kt_per_parameter)
        for run in runs(scatter=0.01)
    ]
    wrong = leave_largest_out(bent, "heat_kt_per_parameter")
    assert not wrong.is_within and wrong.error == pytest.approx(-0.5, abs=0.05)
    assert set(wrong.as_dict()) == {"parameters", "measured", "predicted", "low", "high", "error", "is_within"}


def test_a_larger_model_by_hand():
    limit = measured_limit(runs(scatter=0.05), 1e15, temperature=310.0)
    fit = fit_growth(runs(scatter=0.05))
    kt = thermal_energy_joules(310.0)
    assert limit.kt_per_parameter == fit.predict(1e15)[0]
    assert limit.joules == pytest.approx(limit.kt_per_parameter * 1e15 * kt)
    assert limit.low_joules < limit.joules < limit.high_joules
    assert limit.exponent_low < limit.exponent < limit.exponent_high
    assert limit.law_joules == pytest.approx(fit_growth(runs(), "law_kt_per_parameter").predict(1e15)[0] * 1e15 * kt)
    steps = [run.energy_kt_per_parameter / (run.tokens / run.batch_tokens) for run in runs(scatter=0.05)]
    assert limit.kt_per_step_low == pytest.approx(min(steps)) and limit.kt_per_step_high == pytest.approx(max(steps))
    assert limit.kt_per_step == pytest.approx(math.prod(steps) ** (1 / len(steps)))
    assert limit.step_joules == pytest.approx(limit.kt_per_step * 1e15 * kt)
    assert "times beyond" in limit.assumptions and max(map(len, limit.text(80).splitlines())) <= 80
    again = [dataclasses.replace(run, law_kt_per_parameter=run.law_kt_per_parameter) for run in runs()]
    assert measured_limit(again, 1e6).sizes == SIZES


def test_what_cannot_be_fitted_is_said():
    for call, words in (
        (lambda: fit_growth(runs(sizes=(10_000,))), "at least two sizes, got 1"),
        (lambda: fit_growth(runs(), "heat"), "quantity must be one of"),
        (lambda: fit_growth(runs(), confidence=1.0), "confidence must be"),
        (lambda: fit_growth(runs(effective_updates=0.0), "effective_updates"), "must be positive in every run"),
        (lambda: leave_largest_out(runs(sizes=SIZES[:2])), "at least two sizes, got 1"),
        (lambda: runs(heat_kt_per_parameter=-1.0), "heat_kt_per_parameter must be a positive number"),
        (lambda: MeasuredRun.from_json({"parameters": 3}), "lacks tokens"),
        (lambda: fit_growth(runs()).predict(-1.0), "parameters must be a positive number"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def saved(folder, made):
    content = {"runs": [dataclasses.asdict(run) | {"task": "language"} for run in made]}
    (folder / SCALING_FILE).write_text(json.dumps(content))
    return folder


def test_files(tmp_path):
    made = runs()
    assert read_measured(saved(tmp_path, made)) == made == read_measured(tmp_path / SCALING_FILE)
    now = (tmp_path / SCALING_FILE).read_text()
    earlier = now.replace("_kt_per_parameter", "_kt")  # as versions wrote them that had these names for means
    (tmp_path / SCALING_FILE).write_text(earlier)
    assert '"law_kt"' in earlier != now and read_measured(tmp_path) == made
    for wrong in ("{", "[]", '{"runs": [1]}', '{"runs": [{}]}', '{"fits": 1}'):
        (tmp_path / SCALING_FILE).write_text(wrong)
        with pytest.raises(ValueError, match="holds no measured runs"):
            read_measured(tmp_path)
    with pytest.raises(ValueError, match="cannot be read"):
        read_measured(tmp_path / "nothing")


@pytest.mark.slow
def test_the_command_continues_what_was_measured(tmp_path, capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["limits", "--parameters", "1e15", *arguments])
        return end.value.code or 0, capsys.readouterr()

    folder, made = str(saved(tmp_path, runs(scatter=0.05))), runs(scatter=0.05)
    code, said = run("--from", folder, "--json")
    measured, expected = json.loads(said.out)["measured"], measured_limit(made, 1e15)
    assert code == 0 and set(measured) > {
        "joules",
        "low_joules",
        "high_joules",
        "kt_per_parameter",
        "exponent",
        "sizes",
    }
    assert measured["joules"] == expected.joules and measured["sizes"] == list(SIZES)
    code, said = run("--from", folder)
    assert code == 0 and "Measured and continued" in said.out and max(map(len, said.out.splitlines())) <= 100
    code, said = run("--from", str(tmp_path / "none"))
    assert code == 2 and "cannot be read" in said.err


def test_the_figure_shows_where_extrapolation_begins(tmp_path):
    fig = growth(runs(scatter=0.05))
    (ax,) = fig.axes
    low, high = ax.get_xlim()
    assert low <= 1e4 and high >= 1e16
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert len(dashed) == 1 and dashed[0].get_xdata()[0] == pytest.approx(3e5)
    assert dashed[0].get_ydata()[-1] == pytest.approx(measured_limit(runs(scatter=0.05), 1e16).joules)
    assert "extrapolation" in [text.get_text() for text in ax.texts]
    assert save_growth_figure(runs(), tmp_path) == "growth.png" and (tmp_path / "growth.png").stat().st_size > 10_000


def test_the_figure_of_steps_has_every_run_and_the_mean_of_a_step():
    both = [*runs(), *runs(batch_tokens=2048.0)]
    (ax,) = energy_by_steps(both).axes
    points = [xy for collection in ax.collections for xy in collection.get_offsets().tolist()]
    assert sorted(points) == sorted([run.tokens / run.batch_tokens, run.energy_kt_per_parameter] for run in both)
    x, y = ax.lines[0].get_data()
    np.testing.assert_allclose(np.asarray(y) / x, measured_limit(both, 1e6).kt_per_step)
    assert [text.get_text() for text in ax.get_legend().get_texts()][:2] == ["512 tokens a step", "2,048 tokens a step"]
    with pytest.raises(ValueError, match="none"):
        energy_by_steps([])


def test_all_that_is_fitted_is_a_number_of_a_run():
    assert all(getattr(runs()[0], name) > 0 for name in QUANTITIES)


def test_runs_come_with_the_library(capsys):
    runs = read_measured()
    assert len({run.parameters for run in runs}) >= 3 and len({run.seed for run in runs}) >= 3
    with pytest.raises(SystemExit) as end:
        main(["limits", "--parameters", "1e15", "--json"])
    measured = json.loads(capsys.readouterr().out)["measured"]
    assert not end.value.code and measured["joules"] == measured_limit(runs, 1e15).joules
    assert measured["low_joules"] <= measured["joules"] <= measured["high_joules"]


def test_batch_sizes_of_several_folders(tmp_path):
    """Heat that falls as the batch grows: found from two folders of one batch size each, and used where it is asked for."""
    folders = []
    for batch in (512.0, 2048.0):
        folders.append(tmp_path / f"{batch:.0f}")
        folders[-1].mkdir()
        fallen = {run: run.heat_kt_per_parameter * (512 / batch) ** 0.9 for run in runs()}
        less = {"batch_tokens": batch, "actuation_kt_per_parameter": 0.0}
        saved(
            folders[-1],
            [dataclasses.replace(run, heat_kt_per_parameter=heat, **less) for run, heat in fallen.items()],
        )
    both = read_measured(*folders)
    limit = measured_limit(both, 1e6, batch_tokens=4096.0)
    assert limit.batch_exponent == pytest.approx(-0.9) and limit.batch_tokens == 4096
    assert limit.kt_per_parameter == pytest.approx(5 * 1e6**0.2 * 8**-0.9)
    assert measured_limit(both, 1e6).batch_tokens == pytest.approx(1024)
    with pytest.raises(ValueError, match="one batch size"):
        measured_limit(runs(), 1e6, batch_tokens=4096.0)
