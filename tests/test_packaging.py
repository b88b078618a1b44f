"""What an installed limjax needs and holds."""

import pathlib
import re
import subprocess
import sys
from importlib import metadata

import pytest
from lowest_versions import lowest

import limjax
from limjax.versions import versions

ROOT = pathlib.Path(__file__).parents[1]


def test_every_requirement_has_a_lower_bound_and_what_runs_here_is_not_below_it():
    def numbers(version):
        return tuple(map(int, re.findall(r"\d+", version)[:3]))

    for line in lowest("test"):
        name, bound = line.split("==")
        assert numbers(metadata.version(name)) >= numbers(bound), line


def test_the_list_of_lowest_versions_is_a_program():
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "lowest_versions.py"], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines() == lowest() and "jax==" in done.stdout and "pytest" not in done.stdout
    with pytest.raises(ValueError, match="no extra 'tests'"):
        lowest("tests")


def test_versions_of_what_is_installed_and_of_a_source_folder(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    installed = versions()
    assert installed["limjax"] == limjax.__version__ == metadata.version("limjax")
    assert installed["jax"] == metadata.version("jax") and installed["numpy"] == metadata.version("numpy")
    monkeypatch.setattr(metadata, "version", missing)
    assert versions() == installed
