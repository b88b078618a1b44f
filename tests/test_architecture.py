"""Imports go one way, `import limjax` is light, and a class is abstract or final."""

import ast
import importlib
import inspect
import pathlib
import pkgutil
import re
import subprocess
import sys

import limjax
from limjax.barriers import AbstractBarrier

PACKAGE = pathlib.Path(limjax.__file__).parent

# What each room may import, besides itself and the ground floor, `numerics`.
_STEP = {"physics", "barriers", "blocks", "columns", "ledger", "barrier_state", "comparisons", "hops"}
_LEDGER = _STEP | {"step", "optimizer", "report", "devices"}
ALLOWED = {
    "numerics": set(),
    "physics": set(),
    "barriers": {"physics"},
    "limits": {"physics"},
    "devices": {"physics", "limits", "files"},
    "simulate": {"physics"},
    "blocks": {"physics"},
    "barrier_state": {"physics", "barriers", "blocks"},
    "columns": {"physics", "barrier_state"},
    "hops": {"physics"},
    "ledger": {"physics", "blocks", "columns"},
    "leaves": set(),
    "hyperparameters": {"leaves"},
    "comparisons": {"physics", "barriers", "blocks", "ledger", "barrier_state"},
    "step": _STEP,
    "optimizer_state": _STEP | {"leaves", "step"},
    "memory": _STEP | {"leaves", "step", "hyperparameters", "optimizer_state"},
    "groups": {"physics", "barriers", "leaves"},
    "optimizer": {"physics", "barriers", "leaves", "columns", "ledger", "hops", "step", "memory", "groups"},
    "pulse_report": {"ledger"},
    "report": {"physics", "pulse_report", "blocks", "ledger", "comparisons", "limits", "optimizer"},
    "tasks": {"physics"},
    "files": set(),
    "fingerprints": set(),
    "flax_states": {"barriers", "comparisons", "ledger"},
    "checkpoints": {"files"},
    "parallel": {"physics", "blocks"},
    "levels": {"physics", "groups", "leaves", "step"},
    "allocator": set(),
    "training": _LEDGER | {"tasks", "checkpoints", "parallel", "levels", "fingerprints", "versions"},
    "versions": set(),
    "sweeps": _LEDGER | {"tasks", "training", "parallel", "levels"},
    "benchmarks": _LEDGER | {"tasks", "training", "versions"},
    "tuning": _LEDGER | {"tasks", "training", "files", "levels", "fingerprints"},
    "runs": _LEDGER | {"tasks", "training", "plots", "files"},
    "plots": _LEDGER | {"devices", "tasks", "training", "tuning", "limits", "simulate"},
}


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("limjax"):
            names = [node.module] if node.module != "limjax" else [f"limjax.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("limjax")]
        else:
            continue
        yield from (name.split(".")[1] for name in names if "." in name)


def test_imports_go_one_way():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room in ("__init__", "__main__", "cli"):
            continue
        assert room in ALLOWED, f"say in this test what {room} may import"
        allowed = ALLOWED[room] | {room} | ({"numerics"} if room != "numerics" else set())
        wrong += [f"{path.name}: {other}" for other in _imports(path) if other not in allowed]
    assert not wrong


def test_importing_limjax_imports_no_extra():
    heavy = ("matplotlib", "typer", "rich", "sklearn", "orbax", "scipy.stats", "flax")
    code = f"import sys, limjax; print([name for name in {heavy!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_barriers_are_abstract_or_final():
    for module in pkgutil.walk_packages(limjax.__path__, "limjax."):
        importlib.import_module(module.name)

    def subclasses(cls):
        for sub in cls.__subclasses__():
            yield sub
            yield from subclasses(sub)

    found = [cls for cls in subclasses(AbstractBarrier) if cls.__module__.startswith("limjax")]
    assert len(found) >= 7
    for cls in found:
        assert inspect.isabstract(cls) or not cls.__subclasses__(), f"{cls.__name__} is concrete and has subclasses"


def test_public_names_exist_and_have_docstrings():
    for name in limjax.__all__:
        assert getattr(limjax, name).__doc__, name


def test_the_page_about_the_house_names_what_is_there():
    root = PACKAGE.parent
    text = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = [name for name in re.findall(r"`([\w./]+)`", text) if name.endswith((".py", "/"))]
    assert len(named) > 12
    assert [name for name in named if not ((root / name).exists() or list(PACKAGE.rglob(name)))] == []
