"""The examples of the limits run as a user would run them."""

import json
import pathlib
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def run(name, *arguments):
    command = [sys.executable, EXAMPLES / name, *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.slow
def test_limits_stack():
    out = run("limits_stack.py")
    assert "22.18 kT by the law" in out and "loss_following 44.6" in out and "It is cheapest at 11.0904" in out
    assert "8.3e+07 J if every FLOP is one" in out and "Kaplan, optimizer write: Landauer 69 J at 8 bits" in out


@pytest.mark.slow
def test_project_widths(tmp_path):
    out = run("project_widths.py", "--quick", "--seeds", 1, "--out", tmp_path / "widths.json")
    assert "path per parameter and step ∝ N^" in out
    content = json.loads((tmp_path / "widths.json").read_text())
    for network in content["networks"].values():
        assert len(network["runs"]) == 4 and len(network["projections"]) == 3
