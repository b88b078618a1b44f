"""Imports go one way, `import limjax` is light, and a class is abstract or final."""

import ast
import importlib
import inspect
import pathlib
import pkgutil
import re
import statistics
import subprocess
import sys

import pytest

import limjax
from limjax.barriers import AbstractBarrier

PACKAGE = pathlib.Path(limjax.__file__).parent

# What each room may import, besides itself and the ground floor, `numerics`.
_RUN = {"physics", "barriers", "devices", "memory", "tasks", "training"}
ALLOWED = {
    "numerics": set(),
    "physics": set(),
    "barriers": {"physics", "_files"},
    "limits": {"physics"},
    "devices": {"physics", "limits", "_files"},
    "simulate": {"physics"},
    "memory": {"physics", "barriers", "limits", "_files"},
    "tasks": {"physics", "_files"},
    "_files": set(),
    "_summaries": {"_files"},
    "_fingerprints": set(),
    "flax_states": {"barriers", "memory"},
    "checkpoints": {"_files"},
    "parallel": {"physics", "memory"},
    "allocator": set(),
    "measure": set(),
    "training": _RUN | {"_files", "checkpoints", "parallel", "measure", "_fingerprints", "versions"},
    "versions": set(),
    "consolidation": _RUN | {"tuning", "limits", "parallel", "_files", "_summaries", "versions"},
    "sweeps": _RUN | {"parallel", "_files", "_fingerprints"},
    "benchmarks": _RUN | {"versions"},
    "tuning": _RUN | {"_files", "_fingerprints"},
    "gap": {"physics", "limits", "devices", "tasks", "training"},
    "_kept_run": _RUN | {"_files", "_summaries"},
    "_page": _RUN | {"_files", "_kept_run", "gap"},
    "runs": _RUN | {"plots", "_files", "_summaries", "_kept_run", "_page"},
    "scaling": _RUN | {"limits", "tuning", "runs", "parallel", "_files", "_summaries", "versions"},
    "plots": _RUN | {"consolidation", "sweeps", "tuning", "limits", "simulate", "gap"},
}

# The same for the files of the memory: what each may import of the others, besides the cells and barriers outside.
_STEP = {"_blocks", "_field", "_columns", "_ledger", "_charged_barrier", "_hops", "comparisons", "_state"}
_REPORT = {"_layer_report", "_pulse_report", "_leaves", "_ledger", "_state", "comparisons"}
IN_MEMORY = {
    "_blocks": set(),
    "_field": {"_blocks"},
    "_charged_barrier": {"_blocks", "_field"},
    "_columns": {"_field"},
    "_hops": set(),
    "_event_file": set(),
    "_history": {"_event_file", "_leaves", "_ledger", "_state", "_report_parts"},
    "_leaves": set(),
    "_hyperparameters": {"_leaves"},
    "_groups": {"_leaves"},
    "_ledger": {"_blocks", "_columns"},
    "comparisons": {"_blocks", "_field", "_charged_barrier", "_ledger"},
    "_state": {"_field", "_charged_barrier", "_ledger", "comparisons"},
    "_step": _STEP,
    "_optimizer_state": _STEP | {"_leaves", "_step"},
    "_memory": _STEP | {"_leaves", "_step", "_hyperparameters", "_optimizer_state"},
    "_optimizer": _STEP | {"_leaves", "_groups", "_memory"},
    "_retention": _STEP | {"_step", "_leaves"},
    "_consolidate": _STEP | {"_step", "_retention"},
    "levels": {"_groups", "_leaves", "_step"},
    "_layer_report": set(),
    "_pulse_report": {"_ledger"},
    "_report": _REPORT,
    "_report_parts": _REPORT,
    "_report_warnings": _REPORT | {"_report_parts"},
    "_make_report": _REPORT | {"_report", "_report_parts", "_report_warnings"},
}


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("limjax"):
            names = [node.module] if node.module != "limjax" else [f"limjax.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("limjax")]
        else:
            continue
        yield from names


def _wrong(folder, allowed, depth):
    """Imports that `allowed` does not name, of the files in a folder; rooms are told apart by the word at `depth` of a module's name."""
    for path in folder.rglob("*.py"):
        room = path.relative_to(folder).parts[0].removesuffix(".py")
        if room in ("__init__", "__main__", "cli"):
            continue
        assert room in allowed, f"say in this test what {room} may import"
        prefix = ".".join(["limjax", *folder.relative_to(PACKAGE).parts]) + "."
        others = {name.split(".")[depth] for name in _imports(path) if name.startswith(prefix)}
        yield from (f"{path.name}: {other}" for other in others - allowed[room] - {room, "numerics"})


def test_imports_go_one_way():
    assert [*_wrong(PACKAGE, ALLOWED, 1)] == []
    assert [*_wrong(PACKAGE / "memory", IN_MEMORY, 2)] == []


def test_no_function_hides_the_module_of_its_name():
    for room in ("tuning", "simulate", "numerics"):
        package = importlib.import_module(f"limjax.{room}")
        modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
        assert not modules & set(getattr(package, "__all__", ())), room


def test_importing_limjax_imports_no_extra():
    heavy = ("matplotlib", "typer", "rich", "sklearn", "orbax", "scipy.stats", "flax")
    code = f"import sys, limjax; print([name for name in {heavy!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_modules_that_the_docs_name_are_there_after_one_import():
    code = "import limjax; print([getattr(limjax, name).__name__ for name in limjax._LAZY]); print('limits' in dir(limjax))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:2] == [str([f"limjax.{name}" for name in limjax._LAZY]), "True"]
    with pytest.raises(AttributeError, match="limjax has no 'limit'"):
        _ = limjax.limit


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


def test_what_is_public_is_on_the_api_pages():
    """A module is private by its name, or its names are on a page; a package is there by what it exports."""
    pages = "".join(page.read_text(encoding="utf-8") for page in (PACKAGE.parent / "docs" / "api").glob("*.md"))
    shown = set(re.findall(r"^::: (\S+)$", pages, re.M))
    public = {"limjax.memory.comparisons"}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(("limjax", *path.relative_to(PACKAGE).with_suffix("").parts))
        is_inside = any(part.startswith("_") for part in name.removesuffix(".__init__").split("."))
        if not is_inside and not name.startswith("limjax.cli") and path.name != "__init__.py":
            public.add(name)
    packages = {name for name in shown if (PACKAGE.parent / name.replace(".", "/")).is_dir()}
    assert public - {"limjax.memory.comparisons"} == shown - packages
    for name in packages:
        assert importlib.import_module(name).__all__, name


def test_public_names_exist_and_have_docstrings():
    for name in limjax.__all__:
        assert getattr(limjax, name).__doc__, name


def test_the_page_about_the_house_names_what_is_there():
    root = PACKAGE.parent
    text = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = [name for name in re.findall(r"`([\w./]+)`", text) if name.endswith((".py", "/"))]
    assert len(named) > 12
    assert [name for name in named if not ((root / name).exists() or list(PACKAGE.rglob(name)))] == []


def test_modules_are_short_and_no_function_takes_more_than_a_dozen_arguments():
    files = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    lengths = {path: text.count("\n") for path, text in files.items()}
    assert statistics.median(lengths.values()) <= 150
    assert [str(path) for path, length in lengths.items() if length > 450] == []
    long = []
    for path, text in files.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                every = node.args
                count = len(every.posonlyargs + every.args + every.kwonlyargs) - _is_method(every)
                # `train` takes the fields of RunSettings as keywords, as the public interface promises.
                if count > 12 and getattr(node, "name", "") != "train":
                    long.append(f"{path}:{node.lineno} takes {count}")
    assert long == []


def _is_method(arguments: ast.arguments) -> bool:
    return bool(arguments.args) and arguments.args[0].arg in ("self", "cls")
