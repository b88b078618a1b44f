"""`limjax train`."""

import contextlib
import dataclasses
import json as json_text
import pathlib
import sys
import time
from typing import Annotated, Any

import jax
import typer
from rich.console import Console

from limjax import runs
from limjax._files import local_path, read_json, sole_use, write_json
from limjax.cli import options
from limjax.cli.console import Lines
from limjax.parallel import any_process, devices_here, initialize, interrupts_noted
from limjax.tasks import get_task, task_names
from limjax.training import (
    UNSAVED,
    HistoryRow,
    Result,
    RunSettings,
    TrainResult,
    beside_plain,
    execute,
    plain_run,
    prepare,
)

_CHEAP_SECONDS = 60.0
_NEW_RUN = "Put back the file as the run wrote it, or start a new run with another --out; nothing was changed."
_EXIT_CODES = {Result.nonfinite: 1, Result.interrupted: 130}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The fields of `RunSettings`; None where nothing was said."""

    task: Annotated[str | None, typer.Option(help="What to train; default digits-mlp. `--task help` lists them.")] = (
        None
    )
    barrier: Annotated[
        str | None,
        typer.Option(help="Barrier policy, with arguments after a colon: lyapunov:start=8. Default the task's."),
    ] = None
    hops: Annotated[str | None, typer.Option(help="mean, gaussian or exact; default exact.")] = None
    steps: Annotated[int | None, typer.Option(help="Optimizer steps; default the task's.")] = None
    batch_size: options.BatchSize = None
    learning_rate: options.LearningRate = None
    learning_rate_factor: Annotated[
        str | None,
        typer.Option(
            help="Factors on the schedule over the run: the tune.json of a tuned learning rate, or 1.2,1.1,0.8."
        ),
    ] = None
    lsb: options.LsbOrBits = None
    attempt_rate: Annotated[float | None, typer.Option(help="Attempt rate k0 [1/s]; default 1e9.")] = None
    step_time: Annotated[float | None, typer.Option(help="Duration of one step [s]; default 1e-3.")] = None
    temperature: Annotated[float | None, typer.Option(help="Temperature of the cells [K]; default 300.")] = None
    seed: Annotated[int | None, typer.Option(help="Seed of initialisation, batches and hops; default 0.")] = None
    bits: options.Bits = None
    storage: Annotated[
        str | None, typer.Option(help="int8 or int16: keep weights as level numbers, with --bits and exact hops.")
    ] = None
    memory_device: Annotated[
        str | None,
        typer.Option(
            "--device", help="Memory that keeps the weights: a name of `limjax device list`, or a .toml file."
        ),
    ] = None
    max_affinity: Annotated[
        float | None,
        typer.Option(
            help="Largest affinity of the cells' driver [kT]: beyond it a request is dropped and counted; default no end."
        ),
    ] = None
    stop_at_heat: Annotated[
        float | None,
        typer.Option(
            "--budget-kt", help="End when heat and barrier work per parameter reach this [kT]; --resume may raise it."
        ),
    ] = None
    stop_at_loss: Annotated[
        float | None, typer.Option(help="End when the training loss, mean over a fiftieth of the run, is this low.")
    ] = None
    mesh: Annotated[
        str | None, typer.Option(help="Train on several devices: data=4,model=2. Batches are split over all of them.")
    ] = None
    microbatches: Annotated[
        int | None,
        typer.Option(
            help="Pieces of a batch on a mesh; equal numbers give equal bits on any mesh. Default one a device."
        ),
    ] = None


@dataclasses.dataclass(frozen=True)
class Hosts:
    """The processes that train together."""

    distributed: Annotated[
        bool,
        typer.Option("--distributed", help="One process per host; under SLURM, Open MPI and on TPU pods that is all."),
    ] = False
    coordinator: Annotated[
        str | None, typer.Option(help="host:port of process 0, where --distributed cannot find it by itself.")
    ] = None
    processes: Annotated[int | None, typer.Option(help="Number of processes, with --coordinator.")] = None
    process: Annotated[int | None, typer.Option(help="Number of this process from 0, with --coordinator.")] = None


@dataclasses.dataclass(frozen=True)
class Energy:
    """What is known of the machine's energy."""

    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the machine's energy, by zeus (pip install 'limjax[measure]').")
    ] = False
    assume_watts: Annotated[
        float | None,
        typer.Option(help="Power of the machine [W] for an estimate; with --measure where no counter can be read."),
    ] = None


def train(
    *,
    settings: Settings,
    out: options.NewFolder = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out from its checkpoint.")] = False,
    hosts: Hosts,
    energy: Energy,
    plain: Annotated[
        bool | None,
        typer.Option(
            "--plain/--no-plain",
            help="Train without a memory as well, with the same seed, for the verdict; default if the run took less than a minute.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print summary.json to stdout, progress to stderr.")] = False,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw the figures and report.html.")] = True,
) -> None:
    """Train a network on physical memory and print where the heat went."""
    given = {name: value for name, value in vars(settings).items() if value is not None}
    if hosts.distributed or hosts.coordinator is not None:
        # Before anything asks JAX for its devices: afterwards it can join no other process.
        initialize(hosts.coordinator, hosts.processes, hosts.process)
    elif hosts.processes is not None or hosts.process is not None:
        raise ValueError("--processes and --process belong to --distributed or --coordinator host:port.")
    if plain and jax.process_count() > 1:
        raise ValueError("--plain trains on one process: leave it out of a run on several hosts.")
    if settings.task == "help":
        typer.echo("Tasks: " + ", ".join(task_names()), err=json)
        return
    devices_here()
    if out is not None:
        local_path(out, "--out")
    counters = _counters(energy)
    chosen = _settings(given, out, resume)
    console = Console(stderr=json, markup=False)
    if counters is not None and counters.reason is not None:
        console.print(f"The machine's energy will not be known: {counters.reason}.", highlight=False)
    raise typer.Exit(_train(chosen, out, resume, console, json, figures, plain, counters))


def _counters(energy: Energy) -> Any:
    """The counters that are asked for, looked for before any work; None where none are."""
    if not energy.measure and energy.assume_watts is None:
        return None
    from limjax.measure import AssumedWatts, counters_here

    if energy.measure or energy.assume_watts is None:
        return counters_here(energy.assume_watts)
    return AssumedWatts(energy.assume_watts)


def _settings(given: dict[str, Any], out: str | None, resume: bool) -> RunSettings:
    """The settings of a new run, or those of the run to continue, on the mesh that is asked for now."""
    if "learning_rate_factor" in given:
        given = given | {"learning_rate_factor": _factors(given["learning_rate_factor"])}
    if not resume:
        return RunSettings.of(get_task(given.get("task", "digits-mlp")), **given)
    if out is None:
        raise ValueError("--resume needs --out: the folder of the run to continue, for example --out runs/digits-mlp.")
    runs.check_kinds(pathlib.Path(out))
    _check_continues(pathlib.Path(out))
    path = pathlib.Path(out) / runs.SETTINGS
    content = read_json(path, _NEW_RUN)
    try:
        stored = RunSettings.from_json(content)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {str(error).rstrip('.')}. {_NEW_RUN}") from None
    return stored.continued(f"The run in {out}", given)


def _check_continues(folder: pathlib.Path) -> None:
    """Refuses the folder of a run that got somewhere and has no checkpoint of it: to start over would write over what it found.

    Args:
        folder: of a run that is to go on.

    Raises:
        ValueError: if it holds results and no checkpoint.
    """
    kept = folder / runs.CHECKPOINTS
    if not (folder / runs.SUMMARY).exists() or (kept.is_dir() and any(path.name.isdigit() for path in kept.iterdir())):
        return  # a run that was stopped before its first checkpoint has no summary either, and begins
    raise ValueError(
        f"--out {folder} holds the results of a run ({runs.SUMMARY}) and no checkpoint of it in {kept}: there is nothing to continue from, and a "
        "run from the start would write over them. Bring the checkpoints back, or start a new run with another --out. Nothing was overwritten."
    )


def _train(
    settings: RunSettings,
    out: str | None,
    resume: bool,
    console: Console,
    json: bool,
    figures: bool,
    plain: bool | None,
    counters: Any = None,
) -> int:
    """Trains, writes the folder and prints what came out; returns the exit code."""
    # All that settings can have wrong is found here, before there is a folder.
    run = prepare(settings).settled()
    # From here to the end a signal is noted, so that no folder is left that blocks the next run, and no result is lost.
    with interrupts_noted() as interrupted, contextlib.ExitStack() as stack:
        folder = _folder(run.settings, out, resume, stack)
        checkpoints = str(folder / runs.CHECKPOINTS)
        if jax.process_index() > 0:
            # On several hosts all train, and one speaks and writes.
            return _EXIT_CODES.get(execute(run, checkpoints, resume, counters=counters).result, 0)
        try:
            with _Progress(console, run.settings) as progress:
                result = execute(run, checkpoints, resume, on_progress=progress, counters=counters)
        except BaseException:
            if not resume:
                _remove_unused(folder)
            raise
        if resume:
            result = runs.with_earlier_measurement(result, folder)
        if _wants_plain(plain, result):
            console.print(
                "Training the same without a memory, for the verdict (--no-plain leaves it out) ...", highlight=False
            )
            try:
                beside = plain_run(run, result.summary["steps"], lambda: bool(interrupted()))
            except BaseException as error:  # what was trained is worth more than what it is compared with
                runs.save_parts(result, folder, figures=False)
                if not isinstance(error, Exception):
                    raise
                console.print(f"The plain run failed ({error}); there is no comparison with it.", highlight=False)
                beside = None
            result = result if beside is None else beside_plain(result, beside)
        saved = runs.save_parts(result, folder, figures=figures)
        _print_outcome(console, result, folder, saved)
        if json:
            print(json_text.dumps(result.summary, indent=2))
    problems = [*saved.undrawn, *saved.lost, *(said for said in result.report.warnings if said.startswith(UNSAVED))]
    if problems:
        kept = ", ".join(path.name for path in saved.written) or "nothing"
        print(f"limjax: {'; '.join(problems)}. In {folder} there is {kept}.", file=sys.stderr)
    # A figure or a last checkpoint that failed leaves the code as it was: the numbers are there.
    return _EXIT_CODES.get(result.result) or (1 if saved.lost else 0)


def _wants_plain(asked: bool | None, result: TrainResult) -> bool:
    """Whether the run has something to compare and comparing it is cheap, unless that was said."""
    is_whole = result.result in (Result.completed, Result.spent, Result.reached)
    cheap = result.summary["wall_seconds"] < _CHEAP_SECONDS and jax.process_count() == 1
    return is_whole and (cheap if asked is None else asked)


def _factors(text: str) -> list[float]:
    """Factors on the learning rate: from the JSON file that tuning wrote, or numbers with commas."""
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


def _remove_unused(folder: pathlib.Path) -> None:
    """Removes the folder of a run that failed before there was anything to keep."""
    store = folder / runs.CHECKPOINTS
    # A whole checkpoint is named by its step alone; one whose writing was cut off has more in its name.
    if store.is_dir() and any(path.name.isdigit() for path in store.iterdir()):
        return
    runs.remove_if_empty(store)
    if not store.exists() and {path.name for path in folder.iterdir()} == {runs.SETTINGS}:
        (folder / runs.SETTINGS).unlink()
        runs.remove_if_empty(folder)


def _folder(settings: RunSettings, out: str | None, resume: bool, stack: contextlib.ExitStack) -> pathlib.Path:
    """The output folder; a new one is made by process 0, when everything else that can be wrong was looked at."""
    if jax.process_count() > 1 and out is None:
        raise ValueError("A run of several processes needs --out: a folder that all of them see.")
    folder, problem = pathlib.Path(str(out)), None
    if jax.process_index() == 0:
        try:
            if resume:
                stack.enter_context(sole_use(folder))
            else:
                folder = runs.new_folder(out, settings.task)
                stack.enter_context(sole_use(folder))
                runs.check_free(folder)  # until it was locked, another process could write to a folder that was there
            write_json(
                folder / runs.SETTINGS, settings.to_json()
            )  # also of a resumed run: a budget that was raised is raised for good
        except (ValueError, OSError) as error:  # the others wait for the answer, whatever went wrong
            problem = error
    if any(any_process(problem is not None)):
        raise problem or ValueError("Process 0 could not make the output folder; its message says why.")
    return folder


class _Progress:
    """A live line in a terminal, a plain line every few seconds elsewhere."""

    def __init__(self, console: Console, settings: RunSettings):
        self._console = console
        self._settings = settings
        self._live = None
        self._lines = Lines(console)
        self._speed_from: tuple[int, float] | None = None

    def __enter__(self):
        s = self._settings
        self._console.print(
            f"limjax: {s.task}, {s.steps} steps, barrier {s.barrier}, hops {s.hops}, seed {s.seed} "
            "(Ctrl-C saves and reports)"
        )
        if self._console.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), TimeElapsedColumn())
            self._live = Progress(*columns, console=self._console, transient=True)
            self._task = self._live.add_task("compiling", total=s.steps)
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
        # What differs from itself is NaN: a task without accuracy, a time that nobody knows yet.
        accuracy = "" if row.test_accuracy != row.test_accuracy else f"  acc. {row.test_accuracy:.4f}"
        left = "" if seconds_left != seconds_left else f"  {seconds_left:.0f} s left"
        # Within 80 columns for a run of some thousand steps.
        rate = "" if speed != speed else f"  {speed:.0f} steps/s"
        heat = f"{row.heat_kt_per_parameter:.3g} kT/par."
        line = f"step {row.step}/{self._settings.steps}  loss {row.loss:.4f}{accuracy}  {heat}{rate}{left}"
        if self._live is not None:
            self._live.update(self._task, completed=row.step, description=line)
        else:
            self._lines.say(line, always=row.step == self._settings.steps)


def _print_outcome(console: Console, result: TrainResult, folder: pathlib.Path, saved: runs.Saved) -> None:
    summary = result.summary
    console.print(result.report)
    line = f"{_reached(summary)}; {summary['heat_kt_per_parameter']:.3g} kT of heat per parameter, {summary['heat_joules']:.3g} J in all."
    console.print(line, highlight=False)
    console.print(f"Verdict: {summary['verdict']}", highlight=False)
    if summary.get("memory_assumed"):
        console.print(f"Assumed of the device: {'; '.join(summary['memory_assumed'])}.", highlight=False)
    if summary.get("measured", {}).get("joules") is not None:  # why there is no number was said before the training
        from limjax.measure import measured_text

        console.print(measured_text(summary["measured"]), highlight=False)
    console.print(f"Outcome: {result.result}. {result.result.help}", highlight=False)
    console.print(f"Wrote {folder}/: {', '.join(_written(saved))}", highlight=False, soft_wrap=True)


def _reached(summary: dict[str, Any]) -> str:
    """What there is of accuracy and loss: after a diverged step the loss may be no number where the accuracy is one."""
    accuracy, test, train = (summary[name] for name in ("test_accuracy", "test_loss", "train_loss"))
    if accuracy is not None:
        return f"test accuracy {accuracy:.4f}" + ("" if test is None else f", test loss {test:.4f}")
    if test is not None:
        return f"test loss {test:.4g}"
    return "loss not finite" if train is None else f"loss {train:.4g}"


def _written(saved: runs.Saved) -> list[str]:
    names = [path.name for path in saved.written]
    pictures = [name for name in names if name.endswith(".png")]
    others = [name for name in names if name not in pictures and name != runs.PAGE]
    return others + ["figures (PNG)"] * bool(pictures) + [runs.PAGE] * (runs.PAGE in names)
