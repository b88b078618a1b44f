"""The README's commands are the ones CI runs, its Python and that of the docs runs, its numbers are measured ones."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
from programs import run_block
from typer.main import get_command

from limjax.barriers import barrier_from_name, barrier_names
from limjax.cli import build_app
from limjax.physics import ArrheniusCell
from limjax.tasks import task_names

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Whole tunings, a run on eight devices, and others that compile for long.
SLOW_BLOCKS = (
    "tuning-0",
    "tuning-1",
    "pod-0",
    "pod-2",
    "limits-0",
    "own_loop-1",
    "own_loop-5",
    "own_loop-7",
    "own_loop-8",
    "own_loop-10",
    "own_loop-11",
    "own_loop-12",
    "own_loop-13",
    "training-1",
    "device-1",
    "scale-0",
    "howto-0",
    "howto-1",
    "howto-2",
    "howto-4",
    "howto-5",
    "howto-6",
)
SLOW_PAGES = ("gallery",)  # trainings, mostly
# A block of text right below a program is what it prints.
BLOCKS = [
    pytest.param(
        block,
        shown,
        id=f"{page.stem}-{i}",
        marks=pytest.mark.slow if page.stem in SLOW_PAGES or f"{page.stem}-{i}" in SLOW_BLOCKS else (),
    )
    for page in PAGES
    for i, (block, shown) in enumerate(
        re.findall(r"```python\n(.*?)```(?:\s*```text\n(.*?)```)?", page.read_text(), re.DOTALL)
    )
]
DECIMAL = re.compile(r"-?\d+\.\d+")
COMMANDS = [line.split("#")[0].strip() for line in README.splitlines() if line.startswith("limjax ")]


@pytest.mark.optax
@pytest.mark.parametrize(("block", "shown"), BLOCKS)
def test_python_block_runs_and_prints_what_is_shown(block, shown, tmp_path):
    """Words and whole numbers are those shown; decimals within 1 %, as other processors round and hop otherwise."""
    out = with_eight_devices(block, tmp_path) if "make_mesh" in block else run_block(block, tmp_path)
    if shown:
        assert DECIMAL.sub("#", out) == DECIMAL.sub("#", shown)
        numbers = [list(map(float, DECIMAL.findall(text))) for text in (out, shown)]
        assert numbers[0] == pytest.approx(numbers[1], rel=0.01)


def with_eight_devices(block, folder):
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-c", block]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300, env=environment)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.slow
def test_the_first_block_runs_in_a_process_of_its_own(tmp_path):
    block = BLOCKS[0].values[0]
    run = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
@pytest.mark.optax
def test_the_first_block_is_a_loop_that_learns_without_a_warning(tmp_path):
    block = BLOCKS[0].values[0]
    out = run_block(f"{block}\nprint('loss', float(loss))", tmp_path)
    assert "Heat ledger after 200 steps" in out and "Warning" not in out
    # It starts at a loss of 1, and the hop noise of three weights leaves a few squared levels per thousand.
    assert float(out.rsplit("loss ", 1)[1]) < 0.02


def test_the_two_commands_are_there():
    commands = re.findall(r"```bash\n(python3 -m venv [^\n]*)\n```", README)
    assert commands == [
        "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/limjax train",
        'python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/pytest',
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_line_is_one_the_program_takes(command):
    """Parses, without running it: unknown commands, options, tasks and barriers are what docs get wrong."""
    _, name, *arguments = shlex.split(command)
    options = get_command(build_app()).commands[name].make_context(name, arguments).params
    assert options.get("task") in (None, *task_names())
    if options.get("barrier") is not None:
        barrier_from_name(options["barrier"], ArrheniusCell(), 100, 1e-3)


def test_the_numbers_are_those_of_the_table():
    quoted = re.findall(r"[\d.,]+ ± [\d.,]*\d", README)
    assert quoted
    table = (ROOT / "docs/results/digits.md").read_text()
    assert [number for number in quoted if number not in table] == []


def test_barrier_page_lists_every_barrier_and_its_arguments():
    text = (ROOT / "docs/barriers.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (`[a-z_]+[=`].*) \|$", text, re.MULTILINE))
    assert set(rows) == set(barrier_names())
    for name, row in rows.items():
        with pytest.raises(ValueError, match="the arguments of") as error:
            barrier_from_name(f"{name}:?", ArrheniusCell(), 100, 1e-3)
        known = str(error.value).rsplit(" are ", 1)[1].rstrip(".").split(", ")
        assert re.findall(r"`([a-z_]+)[=`]", row) == known
        numbers = {key: float(value) for key, value in re.findall(r"`([a-z_]+)=([\d.e]+)`", row)}
        given = ",".join(f"{key}={value!r}" for key, value in numbers.items())
        assert str(barrier_from_name(f"{name}:{given}", ArrheniusCell(), 100, 1e-3)) == str(
            barrier_from_name(name, ArrheniusCell(), 100, 1e-3)
        ), f"the defaults of {name} in docs/barriers.md are not those of the code"


def test_relative_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith(("http:", "https:")):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
