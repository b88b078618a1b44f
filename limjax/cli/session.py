"""What `limjax train` does around `limjax.train`: settings, progress, the output folder."""

import contextlib
import json
import pathlib
import sys
import time
from typing import Any

import jax
from rich.console import Console

from limjax import runs
from limjax.barriers.specification import barrier_from_name
from limjax.files import local_path, read_json, sole_use, write_json
from limjax.hops import hops_of
from limjax.levels import to_levels
from limjax.numerics.checks import INT32_MAX, whole_number
from limjax.parallel import any_process, check_batch, check_microbatches, devices_here, interrupts_noted, make_mesh
from limjax.physics.cell import ArrheniusCell
from limjax.tasks import get_task, task_names
from limjax.tasks.task import log_rate_factor
from limjax.training import UNSAVED, HistoryRow, Result, TrainResult, train

_DEFAULTS = {
    "task": "digits-mlp",
    "hops": "exact",
    "attempt_rate": 1e9,
    "step_time": 1e-3,
    "temperature": 300.0,
    "seed": 0,
}
_NEW_RUN = "Put back the file as the run wrote it, or start a new run with another --out; nothing was changed."
_NEEDED = object()
# What each setting of a run folder is, in types and in words, and what it is where it is missing.
_KINDS = {
    "task": (str, "the name of a task", _NEEDED),
    "barrier": (str, "the name of a barrier", _NEEDED),
    "hops": (str, "mean, gaussian or exact", _NEEDED),
    "steps": (int, "a whole number", _NEEDED),
    "batch_size": (int, "a whole number", _NEEDED),
    "learning_rate": (int | float, "a number", _NEEDED),
    "lsb": (int | float, "a number", _NEEDED),
    "attempt_rate": (int | float, "a number", _NEEDED),
    "step_time": (int | float, "a number", _NEEDED),
    "temperature": (int | float, "a number", _NEEDED),
    "seed": (int, "a whole number", _NEEDED),
    "learning_rate_factor": (list, "a list of numbers", None),
    "bits": (int, "a whole number", None),
    "storage": (str, "int8 or int16", None),
    "mesh": (str, "a mesh such as data=1", None),
    "microbatches": (int, "a whole number", None),
}
_PLAIN_LINE_SECONDS = 2.0
_EXIT_CODES = {Result.completed: 0, Result.nonfinite: 1, Result.interrupted: 130}


def run_training(given: dict[str, Any], *, out: str | None, resume: bool, json_output: bool, figures: bool) -> int:
    """Runs or resumes a training run from the options given on the command line.

    Args:
        given: options by name, None where not given.
        out: output folder, or None.
        resume: whether to continue the run in `out`.
        json_output: whether stdout carries the summary as JSON and nothing else.
        figures: whether to draw.

    Returns:
        The exit code: 0, 1 if the run became non-finite, 130 if it was interrupted.

    Raises:
        ValueError: for wrong input; nothing was written then, unless to a new folder.
    """
    console = Console(stderr=json_output, markup=False)
    if given["task"] == "help":
        console.print("Tasks: " + ", ".join(task_names()))
        return 0
    devices_here()
    if out is not None:
        local_path(out, "--out")
    given = {**given, "learning_rate_factor": _factors(given["learning_rate_factor"])}
    settings = _stored_settings(given, out) if resume else _new_settings(given)
    arguments = _arguments(settings)
    # From here to the end a signal is noted, so that no folder is left that blocks the next run, and no result is lost.
    with interrupts_noted(), contextlib.ExitStack() as stack:
        folder = _folder(settings, out, resume, stack)
        if jax.process_index() > 0:
            # On several hosts all train, and one speaks and writes.
            result = train(**arguments, checkpoints=str(folder / runs.CHECKPOINTS), resume=resume)
            return _EXIT_CODES[result.result]
        progress = _Progress(console, settings)
        try:
            with progress:
                result = train(
                    **arguments,
                    checkpoints=str(folder / runs.CHECKPOINTS),
                    resume=resume,
                    on_progress=progress,
                )
        except BaseException:
            if not resume:
                _remove_unused(folder)
            raise
        saved = runs.save_parts(result, folder, figures=figures)
        _print_outcome(console, result, folder, saved)
        if json_output:
            print(json.dumps(result.summary, indent=2))
    problems = [*saved.undrawn, *saved.lost, *(said for said in result.report.warnings if said.startswith(UNSAVED))]
    if problems:
        kept = ", ".join(path.name for path in saved.written) or "nothing"
        print(f"limjax: {'; '.join(problems)}. In {folder} there is {kept}.", file=sys.stderr)
    return _EXIT_CODES[result.result] or (1 if saved.lost else 0)


def _remove_unused(folder: pathlib.Path) -> None:
    """Removes the folder of a run that failed before there was anything to keep."""
    store = folder / runs.CHECKPOINTS
    if store.is_dir() and any(path.name.isdigit() for path in store.iterdir()):
        return
    runs.remove_if_empty(store)
    if not store.exists() and {path.name for path in folder.iterdir()} == {runs.SETTINGS}:
        (folder / runs.SETTINGS).unlink()
        runs.remove_if_empty(folder)


def _folder(settings: dict[str, Any], out: str | None, resume: bool, stack: contextlib.ExitStack) -> pathlib.Path:
    """The output folder; a new one is made by process 0, when everything else that can be wrong was looked at."""
    if jax.process_count() > 1 and out is None:
        raise ValueError("A run of several processes needs --out: a folder that all of them see.")
    folder, problem = pathlib.Path(str(out)), None
    if jax.process_index() == 0:
        try:
            if resume:
                stack.enter_context(sole_use(folder))
            else:
                folder = runs.new_folder(out, settings["task"])
                stack.enter_context(sole_use(folder))
                runs.check_free(folder)  # until it was locked, another process could write to a folder that was there
                write_json(folder / runs.SETTINGS, settings)
        except (ValueError, OSError) as error:  # the others wait for the answer, whatever went wrong
            problem = error
    if any(any_process(problem is not None)):
        raise problem or ValueError("Process 0 could not make the output folder; its message says why.")
    return folder


def _new_settings(given: dict[str, Any]) -> dict[str, Any]:
    settings = {key: _DEFAULTS.get(key) if value is None else value for key, value in given.items()}
    defaults = get_task(str(settings["task"])).defaults
    for key in ("steps", "batch_size", "learning_rate", "lsb", "barrier"):
        if settings[key] is None:
            settings[key] = getattr(defaults, key)
    if settings["mesh"] is not None:
        # Kept with the run, so that it is the same run when it is resumed on another mesh.
        devices = make_mesh(settings["mesh"]).devices.size
        settings["microbatches"] = check_microbatches(settings["microbatches"], devices)
    elif settings["microbatches"] is not None:
        raise ValueError("--microbatches needs a mesh: add --mesh data=1, or leave it out.")
    return settings


def _stored_settings(given: dict[str, Any], out: str | None) -> dict[str, Any]:
    if out is None:
        raise ValueError("--resume needs --out: the folder of the run to continue, for example --out runs/digits-mlp.")
    runs.check_kinds(pathlib.Path(out))
    path = pathlib.Path(out) / runs.SETTINGS
    settings = _checked(read_json(path, _NEW_RUN), path)
    for key, value in given.items():
        if key == "mesh":
            # Another mesh is another way to compute the same run, if gradients were summed in its order from the start.
            if value is not None and settings.get("mesh") is None:
                raise ValueError(
                    f"The run in {out} was started without a mesh and cannot go on on --mesh {value}: gradients would be "
                    "summed in another order. Leave --mesh out, or start a new run with --mesh data=1 --microbatches 8."
                )
            settings[key] = value if value is not None else settings.get(key)
        elif value is not None and value != settings.get(key):
            raise ValueError(
                f"The run in {out} has {key} = {settings.get(key)!r}, but --{key.replace('_', '-')} {value} was given. A "
                "resumed run keeps its settings: leave the option out, or start a new run with another --out."
            )
    return settings


def _checked(settings: dict[str, Any], path: pathlib.Path) -> dict[str, Any]:
    """Settings as they were written, or an error that names the file and the key."""
    for key, (kind, words, default) in _KINDS.items():
        if key not in settings:
            if default is _NEEDED:
                raise ValueError(f"{path} is damaged: it has no {key!r}, which is {words}. {_NEW_RUN}")
            settings[key] = default
        value = settings[key]
        is_given = value is not None or default is _NEEDED
        if is_given and (isinstance(value, bool) or not isinstance(value, kind)):
            raise ValueError(f"{path} is damaged: {key!r} is {str(value)[:40]!r}, but it has to be {words}. {_NEW_RUN}")
    factors = settings["learning_rate_factor"]
    if factors is not None and not all(isinstance(x, int | float) and not isinstance(x, bool) for x in factors):
        raise ValueError(f"{path} is damaged: 'learning_rate_factor' has to be a list of numbers. {_NEW_RUN}")
    return settings


def _factors(text: str | None) -> list[float] | None:
    """Factors on the learning rate: from the JSON file that tuning wrote, or numbers with commas."""
    if text is None:
        return None
    if text.endswith(".json"):
        try:
            factors = read_json(
                pathlib.Path(text), "Give --learning-rate-factor the tune.json that `limjax tune` wrote."
            )["learning_rate_factor"]
        except KeyError:
            raise ValueError(f"{text} has no learning_rate_factor; `limjax tune` writes one to tune.json.") from None
        if not isinstance(factors, list) or not all(isinstance(x, int | float) for x in factors):
            raise ValueError(
                f"learning_rate_factor in {text} must be a list of numbers, got {str(factors)[:40]!r}; `limjax tune` writes one."
            )
        return factors
    try:
        return [float(x) for x in text.split(",")]
    except ValueError:
        raise ValueError(
            f"--learning-rate-factor must be a tune.json or numbers with commas between them, got {text!r}."
        ) from None


def _arguments(settings: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `train`; whatever is wrong with the settings is raised here."""
    task = get_task(settings["task"])
    if task.train is not None:
        task.check_batch_size(settings["batch_size"])
    cell = ArrheniusCell(
        lsb=settings["lsb"],
        attempt_rate=settings["attempt_rate"],
        step_time=settings["step_time"],
        temperature=settings["temperature"],
        bits=settings.get("bits"),
    )
    hops = hops_of(settings["hops"]).name
    if settings.get("storage") is not None:
        to_levels((), cell, settings["storage"])
        if hops != "exact":
            raise ValueError(f"--storage {settings['storage']} keeps whole levels: use --hops exact, not {hops}.")
    log_rate_factor(settings.get("learning_rate_factor"))
    for name in ("steps", "batch_size"):
        if not 1 <= settings[name] <= INT32_MAX:
            said = "at least 1" if settings[name] < 1 else f"at most {INT32_MAX}"
            raise ValueError(f"--{name.replace('_', '-')} must be {said}, got {settings[name]}.")
    whole_number(settings["seed"], "--seed", 0, 2**32 - 1, said="from 0 to 2**32 - 1")
    if settings.get("mesh") is not None and task.train is not None:
        devices = make_mesh(settings["mesh"]).devices.size
        check_batch(settings["batch_size"], check_microbatches(settings["microbatches"], devices))
    barrier_from_name(settings["barrier"], cell, settings["steps"], settings["learning_rate"])
    names = ("barrier", "hops", "steps", "batch_size", "learning_rate", "learning_rate_factor", "seed", "mesh",
             "microbatches", "storage")  # fmt: skip
    return {"task": task, "cell": cell, **{name: settings.get(name) for name in names}}


class _Progress:
    """A live line in a terminal, a plain line every few seconds elsewhere."""

    def __init__(self, console: Console, settings: dict[str, Any]):
        self._console = console
        self._settings = settings
        self._live = None
        self._last_line = 0.0
        self._speed_from: tuple[int, float] | None = None

    def __enter__(self):
        s = self._settings
        self._console.print(
            f"limjax: {s['task']}, {s['steps']} steps, barrier {s['barrier']}, hops {s['hops']}, seed {s['seed']} "
            "(Ctrl-C saves and reports)"
        )
        if self._console.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), TimeElapsedColumn())
            self._live = Progress(*columns, console=self._console, transient=True)
            self._task = self._live.add_task("compiling", total=s["steps"])
            self._live.start()
        return self

    def __exit__(self, *_):
        if self._live is not None:
            self._live.stop()

    def __call__(self, row: HistoryRow, seconds_left: float) -> None:
        now = time.monotonic()
        self._speed_from = self._speed_from or (row.step, now)
        elapsed = now - self._speed_from[1]
        speed = (row.step - self._speed_from[0]) / elapsed if elapsed > 0 else float("nan")
        accuracy = "" if row.test_accuracy != row.test_accuracy else f"  accuracy {row.test_accuracy:.4f}"
        left = "" if seconds_left != seconds_left else f"  {seconds_left:.0f} s left"
        rate = "" if speed != speed else f"  {speed:.0f} steps/s"
        line = f"step {row.step}/{self._settings['steps']}  loss {row.loss:.4f}{accuracy}  {row.heat_kt:.3g} kT/parameter{rate}{left}"
        if self._live is not None:
            self._live.update(self._task, completed=row.step, description=line)
        elif now - self._last_line > _PLAIN_LINE_SECONDS or row.step == self._settings["steps"]:
            self._last_line = now
            # Plain print: rich would wrap a long line at 80 columns when there is no terminal.
            print(line, file=sys.stderr if self._console.stderr else sys.stdout, flush=True)


def _print_outcome(console: Console, result: TrainResult, folder: pathlib.Path, saved: runs.Saved) -> None:
    summary = result.summary
    console.print(result.report)
    accuracy = summary["test_accuracy"]
    reached = f"test accuracy {accuracy:.4f}, test loss {summary['test_loss']:.4f}" if accuracy is not None else (
        f"test loss {summary['test_loss']:.4g}" if summary["test_loss"] is not None else f"loss {summary['train_loss']:.4g}"
    )  # fmt: skip
    line = f"{reached}; {summary['heat_kt_per_parameter']:.3g} kT of heat per parameter, {summary['heat_joules']:.3g} J in all"
    if summary["ratio"] is not None:
        line += f"; the cheapest other memory ({summary['compared_with']}) would have cost {summary['ratio']:.3g} times as much"
    console.print(line + ".", highlight=False)
    console.print(f"Outcome: {result.result}. {result.result.help}", highlight=False)
    console.print(f"Wrote {folder}/: {', '.join(_written(saved))}", highlight=False, soft_wrap=True)


def _written(saved: runs.Saved) -> list[str]:
    names = [path.name for path in saved.written]
    pictures = [name for name in names if name.endswith(".png")]
    others = [name for name in names if name not in pictures and name != runs.PAGE]
    return others + ["figures (PNG)"] * bool(pictures) + [runs.PAGE] * (runs.PAGE in names)
