"""The command line in tests: in this process, or in one of its own."""

import hashlib
import subprocess
import sys

import pytest

from limjax.cli import main

SMALL = ["train", "--task", "quadratic", "--steps", "6", "--no-figures", "--no-plain"]


def run(capsys, *arguments):
    """Exit code, stdout and stderr of a command in this process."""
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    out = capsys.readouterr()
    return end.value.code or 0, out.out, out.err


def refused(capsys, *arguments):
    """The one paragraph that refuses something."""
    code, _, err = run(capsys, *arguments)
    assert code == 2 and err.count("\n") == 1 and "Traceback" not in err, err
    return err


def program(*arguments, **options):
    """A command in a process of its own, once it has ended."""
    command = [sys.executable, "-m", "limjax", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


def digest(folder):
    """Checksums of all files under a folder, by path."""
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}
