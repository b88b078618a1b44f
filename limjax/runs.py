"""The folder of a run: what `limjax train` writes and where."""

import contextlib
import csv
import dataclasses
import io
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from limjax._files import local_path, reason, sole_use, write_json, write_text, write_whole
from limjax._kept_run import HISTORY, LAYERS, LEDGER, SUMMARY, KeptRun
from limjax._page import run_page
from limjax._summaries import read_summary
from limjax.memory import per_parameter
from limjax.memory._columns import COLUMNS
from limjax.memory._leaves import leaf_names
from limjax.physics.units import LN2, YEAR_S
from limjax.training import HistoryRow, TrainResult

SETTINGS, PAGE = "config.json", "report.html"
CHECKPOINTS = "checkpoints"
CAPTIONS = {
    "loss_and_heat": "Loss, and what the updates dissipated so far, beside the same updates under a static barrier and on the cheapest of the other memories.",
    "barrier": "The barrier the policy chose.",
    "barrier_law": "The barrier against ln(L0/L): the law of the cheapest training rises by one kT for every e-fold of the loss.",
    "heat_per_layer": "Where the heat went.",
    "heat_map": "Heat of every weight of the largest matrix.",
}
"""The figures of a run and what is said below them."""


def new_folder(wanted: str | None, default_name: str) -> pathlib.Path:
    """A folder for a new run: the one asked for if it is free, else the next free one under `runs/`.

    Two processes that ask at once get two folders.

    Args:
        wanted: path the user asked for, or None.
        default_name: name to number under `runs/` if no path was asked for.

    Returns:
        The folder, made, and tried by writing to it.

    Raises:
        ValueError: if the path asked for holds anything, is no path of this machine, or cannot be written to.
    """
    if wanted is not None:
        folder = local_path(wanted, "--out")
        check_free(folder)
        if not _made(folder):
            check_free(folder)  # it was there already, or another process was faster
    else:
        number = 1
        while True:
            folder = pathlib.Path("runs") / (default_name if number == 1 else f"{default_name}-{number}")
            if _made(folder):
                break
            number += 1
    try:
        try_writing(folder)
    except OSError as error:
        remove_if_empty(folder)
        raise ValueError(
            f"The output folder {folder} cannot be written to: {reason(error)}. Choose another --out."
        ) from None
    return folder


def try_writing(folder: pathlib.Path) -> None:
    """Writes a small file of a name that nobody else has, and removes it again.

    Args:
        folder: an existing folder, which may hold files.

    Raises:
        OSError: if it cannot be written to.
    """
    path = folder / f".limjax-probe-{os.getpid()}"
    # Not empty: a disk without a free block can still make a name.
    write_whole(path, lambda file: file.write(bytes(4096)))
    path.unlink()


@contextlib.contextmanager
def held(folder: pathlib.Path, *, is_new: bool = True) -> Iterator[None]:
    """Inside, this process has the folder for itself; if nothing was written when it fails, the folder goes.

    Args:
        folder: of `new_folder`, or of work that goes on.
        is_new: whether it has to be empty.

    Raises:
        ValueError: if another process has it, or wrote to it before it was locked.
    """
    with sole_use(folder):
        # Only now is it locked: until here another process could write to a folder that was there.
        if is_new:
            check_free(folder)
        try:
            yield
        except BaseException:
            remove_if_empty(folder)
            raise


def check_figures_folder(wanted: str) -> pathlib.Path:
    """A place that figures can be written to; nothing is left there.

    Args:
        wanted: path of a folder, which may exist and hold other files.

    Returns:
        The path.

    Raises:
        ValueError: if it is no path of this machine, is a file, or cannot be made or written to.
    """
    folder = local_path(wanted, "--figures")
    problem = f"The figures cannot be written to {folder}"
    if os.path.lexists(folder) and not folder.is_dir():
        raise ValueError(f"{problem}: it is no folder. Choose another --figures.")
    # The innermost comes first, so that each is empty when its turn to be removed comes.
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try_writing(folder)
    except OSError as error:
        raise ValueError(f"{problem}: {reason(error)}. Choose another --figures.") from None
    finally:
        for path in missing:
            remove_if_empty(path)
    return folder


def check_free(folder: pathlib.Path) -> None:
    """Refuses a place for a new run that holds anything.

    Args:
        folder: the place.

    Raises:
        ValueError: if it is a file, or a folder that is not empty.
    """
    try:
        if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
            return
        # The settings are the first that `limjax train` writes: they tell a run, also one that has only begun.
        kind = "another run" if (folder / SETTINGS).exists() else "other files" if folder.is_dir() else "a file"
    except OSError as error:
        raise _cannot_be_made(folder, error) from None
    remedy = ", or continue that run with `limjax train --resume`" if kind == "another run" else ""
    raise ValueError(f"--out {folder} holds {kind}; nothing was overwritten. Choose a new folder{remedy}.")


def check_kinds(folder: pathlib.Path) -> None:
    """Refuses the folder of a run in which something stands where a file or a folder of the run belongs.

    Args:
        folder: of a run that is to go on.

    Raises:
        ValueError: for a folder in the place of a file, a file in the place of a folder, or a link in the place of either.
    """
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "does not exist"
        raise ValueError(
            f"--out {folder} {kind}, so there is no run to resume; give the folder that `limjax train` named."
        )
    files = (SETTINGS, SUMMARY, HISTORY, LAYERS, LEDGER, PAGE, *(f"{picture}.png" for picture in CAPTIONS))
    for name in (*files, CHECKPOINTS):
        path, wanted = folder / name, "folder" if name == CHECKPOINTS else "file"
        if not os.path.lexists(path):
            continue
        found = "link" if path.is_symlink() else "folder" if path.is_dir() else "file" if path.is_file() else "device"
        if found != wanted:
            raise ValueError(
                f"{path} is a {found}, where a run has a {wanted}: move it away, or start a new run with another --out. "
                "Nothing was overwritten."
            )


def remove_if_empty(folder: pathlib.Path) -> None:
    """Removes a folder that nothing was written to."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def _made(folder: pathlib.Path) -> bool:
    """Whether this process made the folder, and not another one just before."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_be_made(folder, error) from None
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    except OSError as error:
        raise _cannot_be_made(folder, error) from None
    return True


def _cannot_be_made(folder: pathlib.Path, error: OSError) -> ValueError:
    return ValueError(f"The output folder {folder} cannot be made: {reason(error)}. Choose another --out.")


class Saved(NamedTuple):
    """What became of the files of a run.

    Attributes:
        written: the files that were written.
        lost: numbers that could not be written, and why.
        undrawn: figures and pages that could not be made, and why.
    """

    written: list[pathlib.Path]
    lost: list[str]
    undrawn: list[str]


def save_run(result: TrainResult, folder: str | os.PathLike[str], *, figures: bool = True) -> list[pathlib.Path]:
    """Writes everything a run produced, the numbers first.

    Args:
        result: the run.
        folder: existing folder to write to.
        figures: whether to draw the figures and the page that embeds them. One that fails is left out with a warning.

    Returns:
        The files written: `summary.json`, `history.csv`, `layers.csv`, `ledger.npz`, and with figures `loss_and_heat.png`,
        `barrier.png`, `barrier_law.png`, `heat_per_layer.png`, `heat_map.png`, `report.html`.

    Raises:
        ValueError: if the folder is no path of this machine.
        OSError: if numbers cannot be written; every file that can was written then.
    """
    saved = save_parts(result, local_path(folder, "The folder"), figures=figures)
    if saved.lost:
        kept = ", ".join(path.name for path in saved.written) or "nothing"
        raise OSError(f"{'; '.join(saved.lost)}. In {folder} there is {kept}.")
    for problem in saved.undrawn:
        warnings.warn(problem, RuntimeWarning, stacklevel=2)
    return saved.written


def save_parts(result: TrainResult, folder: pathlib.Path, *, figures: bool = True) -> Saved:
    """`save_run` that goes on after a failure and says what failed.

    Args:
        result: the run.
        folder: existing folder to write to.
        figures: whether to draw.

    Returns:
        What was written and what was not.
    """
    written: list[pathlib.Path] = []
    lost: list[str] = []

    def attempt(path: pathlib.Path, write: Callable[[pathlib.Path], Any], failures: list[str]) -> None:
        try:
            write(path)
            written.append(path)
        except Exception as error:  # whatever it is, the other files are written all the same
            failures.append(f"{path.name} could not be written: {reason(error)}")

    arrays = ledger_arrays(result)
    attempt(folder / SUMMARY, lambda path: write_json(path, result.summary), lost)
    attempt(folder / HISTORY, lambda path: write_whole(path, lambda file: _write_history(file, result), "w"), lost)
    attempt(folder / LAYERS, result.layers.to_csv, lost)
    attempt(folder / LEDGER, lambda path: write_whole(path, lambda file: _write_ledger(file, arrays)), lost)
    if not figures:
        return Saved(written, lost, [])
    run = KeptRun.of(result, folder.name, arrays)
    try:
        inline, failed = _drawn(
            run, lambda name, picture: write_whole(folder / name, lambda file: picture.savefig(file, format="png"))
        )
    except OSError as error:
        return Saved(written, lost, [str(error)])
    written += [folder / f"{name}.png" for name in inline]
    undrawn = [f"{name}.png could not be written: {why}" for name, why in failed.items()]
    attempt(folder / PAGE, lambda path: write_text(path, run_page(run, inline)), undrawn)
    return Saved(written, lost, undrawn)


def with_earlier_measurement(result: TrainResult, folder: pathlib.Path) -> TrainResult:
    """A run that went on, with what was measured of it before where nothing was measured of it now.

    Args:
        result: the run.
        folder: of the run, with the summary of where it was before, or without one.

    Returns:
        The result, with the earlier `measured` in its summary if this time no counters were read or no step was taken.
    """
    now = result.summary.get("measured")
    if now is not None and now.get("steps"):
        return result
    try:
        before = read_summary(folder / SUMMARY, "").get("measured")
    except ValueError:  # there is none yet, or what is there is written again in any case
        return result
    if not before or not before.get("steps"):
        return result
    return dataclasses.replace(result, summary=result.summary | {"measured": before})


def _write_history(file: Any, result: TrainResult) -> None:
    writer = csv.writer(file)
    writer.writerow(HistoryRow._fields)
    writer.writerows(result.history)


def _write_ledger(file: Any, arrays: dict[str, np.ndarray]) -> None:
    np.savez_compressed(file, allow_pickle=False, **arrays)


def ledger_arrays(result: TrainResult) -> dict[str, np.ndarray]:
    """The ledger's sums as NumPy arrays, named `heat_kt/<path of the parameter>` and the like.

    Args:
        result: the run.

    Returns:
        Arrays by name: `heat_kt`, `actuation_kt`, `path_levels`, `saturated`, `hops`, ... with the parameter's path behind
        a slash where they are kept per parameter, and `leaves` with the paths in the order of the per-leaf arrays.
    """
    ledger = result.ledger
    paths = leaf_names([path for path, _ in jax.tree_util.tree_flatten_with_path(result.params)[0]])
    arrays: dict[str, np.ndarray] = {"leaves": np.array(paths), "steps": np.asarray(ledger.steps)}
    units = {"heat": "heat_kt", "actuation": "actuation_kt", "path": "path_levels", "realised_heat": "realised_heat_kt"}
    # `heat_kelvin` serves the joules alone, which the summary has.
    sums = [column.name for column in COLUMNS if column.name != "heat_kelvin"]
    for field in sums:
        entry, name = getattr(ledger, field), units.get(field, field)
        if entry is None:
            continue
        if isinstance(entry.total, list):
            for leaf, value in _named(per_parameter(ledger, field)):
                arrays[f"{name}/{leaf}"] = value
        else:
            arrays[name] = entry.float64()
    for name, comparison in ledger.compare.items():
        arrays[f"compare/{name}/heat_kt"] = comparison.heat.float64()
        arrays[f"compare/{name}/actuation_kt"] = comparison.actuation.float64()
    return arrays


def _named(tree: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return list(zip(leaf_names([path for path, _ in leaves]), (value for _, value in leaves)))


def _drawn(
    run: KeptRun, keep: Callable[[str, Any], None] | None = None
) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """The figures of a run and their captions for its page, and why others failed; `keep` is given each with the name of a file."""
    try:
        pictures = _pictures(run)
    except Exception as error:  # a broken matplotlib, or a backend that is not here
        raise OSError(f"the figures could not be drawn: {reason(error)}") from None
    inline, failed = {}, {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a name in letters that the font does not have
        for name, draw in pictures.items():
            try:
                picture = draw()
                if keep is not None:
                    keep(f"{name}.png", picture)
                # Behind the file: the page has the pictures that could be written, and no others.
                inline[name] = svg(picture, name), CAPTIONS[name]
            except Exception as error:  # whatever it is, the others are drawn all the same
                failed[name] = reason(error)
    return inline, failed


def _pictures(run: KeptRun) -> dict[str, Callable[[], Any]]:
    """How each figure of a run is drawn; one that would have empty axes is left out."""
    from limjax.physics._cell import ArrheniusCell
    from limjax.plots import training as plots

    summary, pictures = run.summary, {}
    if run.history:
        # The barrier of today's memory, ten years (docs/physics.md), as a line to compare with.
        retention = ArrheniusCell(attempt_rate=_mean(summary["attempt_rate"])).retention_barrier(10 * YEAR_S)
        # ln 2 for each parameter and step: Landauer's line, for scale.
        pictures["loss_and_heat"] = lambda: plots.loss_and_heat(run.history, LN2 * summary["steps"])
        pictures["barrier"] = lambda: plots.barrier_height(run.history, float(retention))
        if summary.get("initial_loss") is not None and summary["initial_loss"] > 0:
            pictures["barrier_law"] = lambda: plots.barrier_against_loss(run.history, summary["initial_loss"])
    report, matrix = run.report, run.matrix
    if report is not None and report.steps:
        pictures["heat_per_layer"] = lambda: plots.heat_per_layer(report)
    if matrix is not None and summary["steps"]:
        pictures["heat_map"] = lambda: plots.heat_map(matrix[1], matrix[0])
    return pictures


def _mean(number: Any) -> float:
    """A number of a cell; of cells that differ their mean."""
    return float(number["mean"]) if isinstance(number, dict) else float(number)


def svg(figure: Any, name: str) -> str:
    """A figure as SVG that stands in a page: no header, no fonts of its own, the same for the same figure.

    Args:
        figure: of matplotlib.
        name: told apart from others in the same page.

    Returns:
        The element.
    """
    import matplotlib

    # Ids in an SVG are hashes: with a salt of its own no two figures of a page share one.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), io.StringIO() as file:
        figure.savefig(file, format="svg", metadata={"Date": None})
        markup = file.getvalue()
    markup = markup[markup.index("<svg") :]
    head, _, rest = markup.partition("<metadata>")
    return head + rest.partition("</metadata>")[2] if rest else markup


def rebuild_page(folder: pathlib.Path) -> pathlib.Path:
    """Writes `report.html` of a run again, from the numbers in its folder.

    Args:
        folder: of a run.

    Returns:
        The page. A figure that fails is left out of it with a warning.

    Raises:
        ValueError: if there is no run, or a file of it is damaged.
        OSError: if the page cannot be written, or no figure drawn.
    """
    run = KeptRun.read(folder)
    inline, failed = _drawn(run)
    write_text(folder / PAGE, run_page(run, inline))
    for name, why in failed.items():
        warnings.warn(f"{name} is left out of {PAGE}: {why}", RuntimeWarning, stacklevel=2)
    return folder / PAGE
