"""Trainings of growing size, one after the other, each in the folder of an ordinary run."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from limjax import runs
from limjax._files import read_as, read_part, renew, write_json
from limjax._summaries import read_summary
from limjax.limits import MeasuredRun, fit_growth, leave_largest_out
from limjax.limits._growth import EARLIER, QUANTITIES
from limjax.limits._measured import SCALING_FILE
from limjax.numerics._present_names import with_present_names
from limjax.numerics._result_code import ResultCode
from limjax.parallel import interrupts_noted
from limjax.scaling._measure import measurement
from limjax.scaling._requests import Bins, halved, watched
from limjax.scaling._settings import ScaleSettings
from limjax.tasks import Task
from limjax.tasks._language import Shape
from limjax.tasks._text import python_source
from limjax.training import RunSettings, TrainResult, execute, prepare
from limjax.tuning import Progress
from limjax.versions import machine

MEASUREMENT = "measurement.json"
# A token of 1e4 parameters took a seventh of the time of one of 1e6, two cores.
_BESIDES = 1e5
_REMEDY = "Remove that run's folder, and it is trained again."


class ScaleResult(NamedTuple):
    """What was measured so far.

    Attributes:
        result: how the sweep ended.
        settings: what was asked for, now and before.
        measurements: the numbers of each finished training with a memory, by name, with the `plain_loss` of its twin.
    """

    result: ResultCode
    settings: ScaleSettings
    measurements: list[dict[str, Any]]

    @property
    def runs(self) -> list[MeasuredRun]:
        """The measurements as fits take them."""
        return [MeasuredRun.from_json(content) for content in self.measurements]

    def to_json(self) -> dict[str, Any]:
        """Runs, fits and where the numbers come from, ready for JSON. What cannot be fitted has a reason in its place."""
        text, measured = python_source(), self.runs
        return {
            "settings": self.settings.to_json(),
            "result": str(self.result),
            "text": {"bytes": int(text.train.size + text.test.size), "files": text.files, "sha256": text.sha256},
            "machine": machine(),
            "runs": self.measurements,
            "fits": {name: _attempted(fit_growth, measured, name) for name in QUANTITIES},
            "leave_largest_out": {name: _attempted(leave_largest_out, measured, name) for name in QUANTITIES},
        }


def _attempted(fit: Callable[..., Any], measured: list[MeasuredRun], quantity: str) -> dict[str, Any]:
    try:
        return fit(measured, quantity).as_dict()
    except ValueError as error:
        return {"reason": str(error)}


class _Job(NamedTuple):
    """One training."""

    folder: pathlib.Path
    task: Task
    settings: RunSettings
    parameters: int
    plain: bool

    @property
    def words(self) -> str:
        return f"{self.settings.task}, seed {self.settings.seed}" + (", without memory" if self.plain else "")

    @property
    def batch_tokens(self) -> int:
        assert self.task.train is not None
        return self.settings.batch_size * (self.task.train["text"].shape[1] - 1)

    def finished(self) -> dict[str, Any] | None:
        """Its numbers, if it was trained to its end."""
        summary = self.folder / runs.SUMMARY
        if not summary.exists():
            return None
        found = read_summary(summary, _REMEDY, ("result", "test_loss"))
        if found["result"] != ResultCode.completed:
            return None
        if self.plain:
            return found
        return read_as(self.folder / MEASUREMENT, _numbers, _REMEDY)


def _numbers(content: dict[str, Any]) -> dict[str, Any]:
    """The content of `measurement.json`, if it has what a run has, under the names of now."""
    # The twin's loss is not in this file: a number in its place, for the check alone.
    MeasuredRun.from_json({"plain_loss": 1.0} | content)
    return with_present_names(content, EARLIER)


def measure_growth(settings: ScaleSettings, folder: pathlib.Path, progress: Progress | None = None) -> ScaleResult:
    """Trains every size with every seed, with a memory and without one, or goes on with that.

    Every training has a folder of its own, `language-10k-seed-0` and, without a memory, `language-10k-seed-0-plain`, with the files of
    `limjax train`; with a memory also `measurement.json`. Finished ones are not trained again, and one that was stopped goes on from
    its checkpoint. What the folder holds of other sizes and seeds is among the measurements. With the memory the ledger is kept per array.

    Args:
        settings: what is measured.
        folder: where runs are kept; it exists.
        progress: told of every training.

    Returns:
        The measurements. After Ctrl-C the state is saved, and nothing more is run; a loss that is not finite ends the sweep as well.

    Raises:
        ValueError: for a wrong setting, or a folder that was measured with other ones.
    """
    path, both = folder / SCALING_FILE, settings
    if path.exists():
        both = settings.joined(read_part(path, "settings", _REMEDY), str(folder))
    progress = Progress() if progress is None else progress
    jobs = _jobs(both, folder)
    # What was measured before is read, but only what is asked for now is trained.
    asked = {job.folder for job in _jobs(settings, folder)}
    waiting = [job for job in jobs if job.folder in asked and job.finished() is None]
    progress.plan(sum(job.settings.steps * _work(job) for job in waiting), len(waiting))
    code = ResultCode.completed
    with interrupts_noted() as interrupted:
        # What there is so far says what was asked for, also if the first training is stopped.
        write_json(path, _result(code, both, jobs).to_json() | {"result": "running"})
        # After `_result` has read the finished ones: a damaged file is refused before any other is written again.
        for job in jobs:
            renew(job.folder / MEASUREMENT, EARLIER)
        for job in waiting:
            code = ResultCode.interrupted if interrupted() else _trained(job, progress)
            if code is not ResultCode.completed:
                break
        found = _result(code, both, jobs)
        write_json(path, found.to_json())
    return found


def _jobs(settings: ScaleSettings, folder: pathlib.Path) -> list[_Job]:
    jobs = []
    for size in settings.sizes:
        task = settings.task(size)
        for seed in range(settings.seeds):
            # In pairs, which `_result` relies on.
            for plain in (False, True):
                name = f"{task.name}-seed-{seed}" + ("-plain" if plain else "")
                run = settings.run_settings(task, size, seed, plain)
                jobs.append(_Job(folder / name, task, run, Shape.of(size).parameters, plain))
    return jobs


def _work(job: _Job) -> float:
    """What a step takes, for the time that is left: tokens times parameters, and what a token takes besides in a small model."""
    return (job.parameters + _BESIDES) * float(job.batch_tokens)


def _trained(job: _Job, progress: Progress) -> ResultCode:
    """Trains a job to its end or until it is stopped, and writes its folder."""
    steps = job.settings.steps
    inner = job.task.defaults.make_optimizer(job.task.defaults.make_schedule(job.settings.learning_rate, steps))
    run = prepare(
        job.settings,
        job.task,
        optimizer=inner if job.plain else watched(inner, Bins.of(steps)),
        compare=(),
        granularity="leaf",
        gradient=None if job.plain else halved(job.task.loss),
    )
    job.folder.mkdir(parents=True, exist_ok=True)
    # Before the training, so that the folder of one that is stopped says what it is.
    write_json(job.folder / runs.SETTINGS, run.settings.to_json())
    taken, unit = 0, _work(job)

    def told(row, _):
        nonlocal taken
        # Without a memory nothing is dissipated: what its ledger counts is another memory's.
        heat = "" if job.plain else f", {row.heat_kt_per_parameter:.3g} kT/parameter"
        words = f"{job.words}: step {row.step}/{steps}, loss {row.loss:.4f}{heat}"
        progress.did(words, runs=max(0, row.step - taken) * unit, program=job.folder.name)
        taken = row.step

    progress.did(f"{job.words}: compiling")
    # Without a checkpoint it begins: a training that is new and one that was stopped are the same call.
    result = execute(run, str(job.folder / runs.CHECKPOINTS), resume=True, on_progress=told)
    if result.result is not ResultCode.completed:
        return result.result
    # A loss over all the data may be no number where that of every step was one; there is no law through it.
    if any(result.summary[name] is None for name in ("initial_loss", "train_loss", "test_loss")):
        return ResultCode.nonfinite
    _written(job, result)
    return ResultCode.completed


def _written(job: _Job, result: TrainResult) -> None:
    # Before the summary, which `finished` looks for first: a run that was killed between the two is taken up again.
    if not job.plain:
        write_json(job.folder / MEASUREMENT, measurement(result, job.settings, job.batch_tokens))
    lost = runs.save_parts(result, job.folder, figures=False).lost
    if lost:
        # With a number, as only then an OSError has its words as `strerror`, which messages show.
        raise OSError(0, f"{'; '.join(lost)} in {job.folder}")


def _result(code: ResultCode, settings: ScaleSettings, jobs: list[_Job]) -> ScaleResult:
    """What the finished pairs measured."""
    found = []
    for memory, plain in zip(jobs[::2], jobs[1::2]):
        numbers, twin = memory.finished(), plain.finished()
        if numbers is not None and twin is not None:
            found.append(numbers | {"plain_loss": twin["test_loss"]})
    return ScaleResult(code, settings, found)
