"""The folder of a run: what `limjax train` writes and where."""

import base64
import contextlib
import csv
import html
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from limjax._files import local_path, reason, sole_use, write_json, write_text, write_whole
from limjax.memory import per_parameter
from limjax.memory._columns import COLUMNS
from limjax.memory._leaves import leaf_names
from limjax.physics.units import LN2, YEAR_S
from limjax.training import HistoryRow, TrainResult

SETTINGS, SUMMARY, LEDGER, HISTORY, PAGE = "config.json", "summary.json", "ledger.npz", "history.csv", "report.html"
CHECKPOINTS = "checkpoints"
CAPTIONS = {
    "loss_and_heat": "Loss, and what the updates dissipated so far, beside the same updates under a static barrier and on the cheapest of the other memories.",
    "barrier": "The barrier the policy chose.",
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
    for name in (SETTINGS, SUMMARY, HISTORY, LEDGER, PAGE, CHECKPOINTS, *(f"{picture}.png" for picture in CAPTIONS)):
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
        The files written: `summary.json`, `history.csv`, `ledger.npz`, and with figures `loss_and_heat.png`,
        `barrier.png`, `heat_per_layer.png`, `heat_map.png`, `report.html`.

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
    undrawn: list[str] = []

    def attempt(path: pathlib.Path, write: Callable[[pathlib.Path], Any], failures: list[str]) -> None:
        try:
            write(path)
            written.append(path)
        except Exception as error:  # whatever it is, the other files are written all the same
            failures.append(f"{path.name} could not be written: {reason(error)}")

    attempt(folder / SUMMARY, lambda path: write_json(path, result.summary), lost)
    attempt(folder / HISTORY, lambda path: write_whole(path, lambda file: _write_history(file, result), "w"), lost)
    attempt(folder / LEDGER, lambda path: write_whole(path, lambda file: _write_ledger(file, result)), lost)
    if not figures:
        return Saved(written, lost, undrawn)
    try:
        pictures = _pictures(result)
    except Exception as error:  # a broken matplotlib, or a backend that is not here
        return Saved(written, lost, [f"the figures could not be drawn: {reason(error)}"])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a name in letters that the font does not have
        for name, draw in pictures.items():
            save = _save_picture(draw)
            attempt(folder / f"{name}.png", save, undrawn)
    drawn = {name: folder / f"{name}.png" for name in pictures if folder / f"{name}.png" in written}
    attempt(folder / PAGE, lambda path: write_text(path, _page(result, drawn)), undrawn)
    return Saved(written, lost, undrawn)


def _write_history(file: Any, result: TrainResult) -> None:
    writer = csv.writer(file)
    writer.writerow(HistoryRow._fields)
    writer.writerows(result.history)


def _write_ledger(file: Any, result: TrainResult) -> None:
    np.savez_compressed(file, allow_pickle=False, **ledger_arrays(result))


def _save_picture(draw: Callable[[], Any]) -> Callable[[pathlib.Path], None]:
    return lambda path: write_whole(path, lambda file: draw().savefig(file, format="png"))


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


def _pictures(result: TrainResult) -> dict[str, Callable[[], Any]]:
    from limjax.physics._cell import ArrheniusCell
    from limjax.plots import training as plots

    retention = ArrheniusCell(attempt_rate=result.summary["attempt_rate"]).retention_barrier(10 * YEAR_S)
    pictures = {
        "loss_and_heat": lambda: plots.loss_and_heat(result.history, LN2 * result.summary["steps"]),
        "barrier": lambda: plots.barrier_height(result.history, float(retention)),
        "heat_per_layer": lambda: plots.heat_per_layer(result.report),
    }
    matrices = []
    if isinstance(result.ledger.heat.total, list):
        matrices = [(name, value) for name, value in _named(per_parameter(result.ledger)) if value.ndim == 2]
    if matrices:
        name, value = max(matrices, key=lambda item: item[1].size)
        pictures["heat_map"] = lambda: plots.heat_map(value, name)
    return pictures


def _page(result: TrainResult, pictures: dict[str, pathlib.Path]) -> str:
    from rich.console import Console

    summary = result.summary
    console = Console(record=True, width=130, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    console.print(result.report)
    table = console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
    console.file.close()
    images = "\n".join(
        f'<figure><img alt="{name}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'
        f"<figcaption>{CAPTIONS[name]}</figcaption></figure>"
        for name, path in pictures.items()
    )
    rows = "\n".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(_plain(value))}</td></tr>" for key, value in summary.items()
    )
    accuracy = summary["test_accuracy"]
    reached = f"test accuracy {accuracy:.4f}" if accuracy is not None else f"training loss {summary['train_loss']:.4g}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>limjax: {html.escape(summary["task"])}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; color: #222; }}
pre {{ font-size: 13px; line-height: 1.25; overflow-x: auto; }} img {{ max-width: 100%; }} figure {{ margin: 1.5rem 0; }}
figcaption {{ color: #555; }} table {{ border-collapse: collapse; font-size: 14px; }}
th {{ text-align: left; font-weight: 600; padding: .1rem 1rem .1rem 0; vertical-align: top; }}
.gap td {{ padding: .1rem 1rem .1rem 0; vertical-align: top; }} .gap th[colspan] {{ padding-top: .6rem; }}
.gap td:nth-child(2), .gap td:nth-child(3) {{ white-space: nowrap; font-variant-numeric: tabular-nums; }}
</style></head><body>
<h1>{html.escape(summary["task"])}: {summary["heat_kt_per_parameter"]:.3g} kT per parameter</h1>
<p>{summary["parameters"]:,} parameters, {summary["steps"]:,} steps, {reached}; barrier {html.escape(summary["barrier"])},
hops {html.escape(summary["hops"])}, seed {summary["seed"]}. Outcome: {html.escape(summary["result"])}.
{html.escape(result.result.help)}</p>
{table}
{images}
{_joules(summary)}
<h2>All numbers</h2><table>{rows}</table>
<p>Heat is the closed-form model heat of the weight memory. Computing gradients, reading weights and the controller
that sets the barrier are not counted.</p>
</body></html>
"""


def _joules(summary: dict[str, Any]) -> str:
    """The section about the gap from the machine to the limits, without which a page is still whole."""
    from limjax.gap import energy_gap, gap_html

    try:
        table = gap_html(energy_gap(summary))
    except ValueError:  # a cell of one's own without the numbers that are needed
        return ""
    return f"<h2>Where the joules are</h2>\n{table}\n<p>The figure: <code>limjax gap RUN --out gap.png</code>.</p>"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        return "; ".join(map(str, value)) or "none"
    return str(value)
