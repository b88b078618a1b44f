"""Programs of the docs and of `examples/` in this process: what is compiled for one is there for the next, and nothing is imported twice."""

import contextlib
import importlib
import io
import os
import pathlib
import runpy
import subprocess
import sys
import warnings
from unittest import mock

import jax

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


@contextlib.contextmanager
def as_a_user(folder, arguments):
    """JAX and Python as they are outside of these tests, and a working directory and words of a command; what is printed is caught."""
    out, before = io.StringIO(), os.getcwd()
    os.chdir(folder)
    try:
        with (
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
            warnings.catch_warnings(),
            mock.patch.object(sys, "argv", list(map(str, arguments))),
            contextlib.redirect_stdout(out),
        ):
            warnings.simplefilter("default")
            yield out
    finally:
        os.chdir(before)


def run_block(code, folder):
    """What a piece of Python prints."""
    with as_a_user(folder, [""]) as out:
        exec(compile(code, "<block>", "exec"), {"__name__": "__main__"})
    return out.getvalue()


def run_file(path, folder, *arguments):
    """What a program prints."""
    with as_a_user(folder, [path, *arguments]) as out, mock.patch.object(sys, "path", [str(path.parent), *sys.path]):
        runpy.run_path(str(path), run_name="__main__")
    return out.getvalue()


def run_example(name, *arguments):
    """What a program of `examples/` prints, from the root."""
    return run_file(EXAMPLES / name, EXAMPLES.parent, *arguments)


def module_of(path):
    """A program as a module, which finds its neighbours."""
    with mock.patch.object(sys, "path", [str(path.parent), *sys.path]):
        return importlib.import_module(path.stem)


def said_on_devices(program, devices):
    """What a program prints, word by word, in a process of its own that has so many host devices; and what it says on stderr."""
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    process = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | flags, capture_output=True, text=True, timeout=300
    )
    return process.stdout.split(), process.stderr
