"""`limjax limits`: what it prints, its JSON, and one paragraph with exit code 2 for everything that is wrong."""

import json

import pytest

from limjax.cli import main


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(["limits", *map(str, arguments)])
    out = capsys.readouterr()
    return end.value.code or 0, out.out, out.err


@pytest.mark.slow
def test_headline(capsys):
    code, out, err = run(capsys, "--parameters", "1e15")
    assert code == 0 and not err
    for text in (
        "law, one convergence, 22.2 kT",
        "1.15e8 to 9.18e8",
        "7.07e15",
        "B200 fp4 to TPU v3 bf16",
        "Kaplan",
        "Chinchilla 20:1",
        "optimizer write",
        "8.28e7",
        "24.9",
        "69.1",
    ):
        assert text in out
    assert "econstruction" in out and "arXiv:2402.14878 v1" in out
    assert max(map(len, out.splitlines())) <= 100


def test_json(capsys):
    code, out, err = run(capsys, "--parameters", "1e15", "--json")
    content = json.loads(out)
    assert code == 0 and not err
    assert set(content) == {"workload", "stack", "headline", "convergence", "law", "measured"}
    assert content["convergence"]["loss_ratio"] == 65536 and content["convergence"][
        "kt_per_parameter"
    ] == pytest.approx(22.18, abs=0.005)
    assert set(content["law"]) == {"flop_joules", "token_joules", "write_joules"}
    assert content["law"]["flop_joules"] == pytest.approx(8.28e7, rel=2e-3)
    assert set(content["headline"]) == {
        "lim_low_joules",
        "lim_high_joules",
        "landauer_joules",
        "accelerator_joules",
        "orders_below_accelerator",
    }
    keys = {"name", "approach", "joules", "joules_per_parameter", "assumptions", "source", "reconstruction"}
    assert all(set(entry) == keys for entry in content["stack"])
    assert content["workload"]["parameters"] == 1e15 and content["workload"]["is_extrapolated"]
    assert 6 < content["headline"]["orders_below_accelerator"] < 7


def test_options_reach_the_stack(capsys, tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text(
        '[[accelerator]]\nname = "Mine"\npeak_flops = 1e15\npower_w = 500\nvalue = 0.5\nlow = 0.5\nhigh = 1.0\n'
        'unit = "pJ/FLOP"\nyear = 2025\nsource = "our lab book"\nhow = "measured"\n'
    )
    options = ["--tokens", "2e10", "--batch", "1e5", "--bits", "4", "--updates", "optimizer", "--time", "60"]
    options += ["--loss-ratio", "100", "--hardware", "Mine", "--catalogue", mine, "--temperature", "350", "--json"]
    code, out, _ = run(capsys, "--parameters", "1e9", *options)
    content = json.loads(out)
    assert code == 0 and content["workload"]["update_count"] == 2e14 and content["workload"]["time"] == 60
    assert content["headline"]["accelerator_joules"] == pytest.approx(1.2e20 * 5e-13)
    assert content["headline"]["landauer_joules"] == pytest.approx(2e14 * 4 * 1.380649e-23 * 350 * 0.6931471805599453)
    assert content["convergence"]["loss_ratio"] == 100
    assert next(entry["source"] for entry in content["stack"] if entry["approach"] == "accelerator") == "our lab book"


@pytest.mark.slow
def test_figures(capsys, tmp_path):
    code, out, _ = run(capsys, "--parameters", "1e15", "--figures", tmp_path / "figures")
    names = {"energy_parameters", "energy_contraction", "energy_time", "energy_bits", "walls", "growth"}
    assert code == 0 and {path.stem for path in (tmp_path / "figures").iterdir()} == names
    assert "Figures: " in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--parameters", "-1e15"], ("parameters must be a positive", "got -1e+15.")),
        (["--parameters", "0"], ("parameters must be a positive",)),
        (["--parameters", "nan"], ("parameters must be a positive", "nan")),
        (["--parameters", "1e15", "--bits", "0"], ("bits must be a whole number from 1 to 32", "got 0")),
        (["--parameters", "1e15", "--bits", "64"], ("bits must be a whole number from 1 to 32", "got 64")),
        (
            ["--parameters", "1e9", "--flops", "1e22", "--tokens", "1e9"],
            ("in conflict", "1e+22", "1e+09", "Give one of"),
        ),
        (["--parameters", "1e15", "--hardware", "H10O"], ("not in the catalogue", "Near names: H100 SXM bf16")),
        (["--parameters", "1e15", "--hardware", "H100"], ("fits several", "H100 SXM bf16, H100 SXM fp8")),
        (["--parameters", "1e15", "--scaling", "moore"], ("scaling must be one of kaplan",)),
        (["--parameters", "1e15", "--updates", "step"], ("updates must be one of flop, token, optimizer",)),
        (["--parameters", "1e15", "--time", "0"], ("time must be a positive",)),
        (["--parameters", "1e15", "--temperature", "-3"], ("temperature must be a positive",)),
        (["--parameters", "1e15", "--catalogue", "none.toml"], ("none.toml cannot be read",)),
        (["--parameters", "1e15", "--batch", "0"], ("batch must be a positive",)),
        (["--parameters", "1e300"], ("from 1 to 1e+30", "1e+300")),
        (["--parameters", "1e-300"], ("from 1 to 1e+30", "1e-300")),
        (["--parameters", "1e15", "--batch", "1e-300"], ("batch must be", "1e-300")),
        (["--parameters", "1e15", "--loss-ratio", "0.5"], ("--loss-ratio must be above 1", "0.5")),
    ],
)
def test_wrong_input_is_one_paragraph(capsys, arguments, words):
    code, out, err = run(capsys, *arguments)
    assert code == 2 and not out
    assert err.startswith("limjax: ") and len(err.strip().splitlines()) == 1
    assert all(word in err for word in words), err


def test_what_is_no_number_or_no_option_ends_with_a_usage_message(capsys):
    for arguments in (["--parameters", "many"], ["--parameters", "1e15", "--colour", "red"], []):
        code, _, err = run(capsys, *arguments)
        assert code == 2 and "Usage" in err
