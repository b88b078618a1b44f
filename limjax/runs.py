"""The folder of a run: what `limjax train` writes and where."""

import base64
import csv
import html
import json
import os
import pathlib
from typing import Any

import jax
import numpy as np

from limjax.ledger import per_parameter
from limjax.physics.units import LN2, YEAR_S
from limjax.training import HistoryRow, TrainResult

SETTINGS, SUMMARY, LEDGER, HISTORY, PAGE = "config.json", "summary.json", "ledger.npz", "history.csv", "report.html"
CHECKPOINTS = "checkpoints"


def new_folder(wanted: str | None, default_name: str) -> pathlib.Path:
    """A folder for a new run: the one asked for if it is free, else the next free one under `runs/`.

    Args:
        wanted: path the user asked for, or None.
        default_name: name to number under `runs/` if no path was asked for.

    Returns:
        The folder, made.

    Raises:
        ValueError: if the path asked for holds anything.
    """
    if wanted is None:
        number = 1
        while True:
            folder = pathlib.Path("runs") / (default_name if number == 1 else f"{default_name}-{number}")
            if not folder.exists():
                break
            number += 1
    else:
        folder = pathlib.Path(wanted)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            kind = "another run" if (folder / SETTINGS).exists() else "other files" if folder.is_dir() else "a file"
            raise ValueError(
                f"--out {folder} holds {kind}; nothing was overwritten. Choose a new folder, or continue that run with "
                "--resume."
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"The output folder {folder} cannot be made: {error.strerror}. Choose another --out."
        ) from None
    return folder


def write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes JSON in one piece: to a temporary file that is then renamed."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, path)


def save_run(result: TrainResult, folder: str | os.PathLike[str], *, figures: bool = True) -> list[pathlib.Path]:
    """Writes everything a run produced.

    Args:
        result: the run.
        folder: existing folder to write to.
        figures: whether to draw the figures and the page that embeds them.

    Returns:
        The files written: `summary.json`, `history.csv`, `ledger.npz`, and with figures `loss_and_heat.png`,
        `barrier.png`, `heat_per_layer.png`, `heat_map.png`, `report.html`.

    Raises:
        OSError: if a file cannot be written.
    """
    folder = pathlib.Path(folder)
    write_json(folder / SUMMARY, result.summary)
    with open(folder / HISTORY, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HistoryRow._fields)
        writer.writerows(result.history)
    np.savez_compressed(folder / LEDGER, allow_pickle=False, **ledger_arrays(result))
    written = [folder / SUMMARY, folder / HISTORY, folder / LEDGER]
    if figures:
        pictures = _draw(result)
        for name, picture in pictures.items():
            picture.savefig(folder / f"{name}.png")
            written.append(folder / f"{name}.png")
        (folder / PAGE).write_text(_page(result, {name: folder / f"{name}.png" for name in pictures}))
        written.append(folder / PAGE)
    return written


def ledger_arrays(result: TrainResult) -> dict[str, np.ndarray]:
    """The ledger's sums as NumPy arrays, named `heat_kt/<path of the parameter>` and the like.

    Args:
        result: the run.

    Returns:
        Arrays by name: `heat_kt`, `actuation_kt`, `path_levels`, `saturated`, `hops`, ... with the parameter's path behind
        a slash where they are kept per parameter, and `leaves` with the paths in the order of the per-leaf arrays.
    """
    ledger = result.ledger
    paths = [_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(result.params)[0]]
    arrays: dict[str, np.ndarray] = {"leaves": np.array(paths), "steps": np.asarray(ledger.steps)}
    units = {"heat": "heat_kt", "actuation": "actuation_kt", "path": "path_levels", "realised_heat": "realised_heat_kt"}
    sums = (
        "heat",
        "path",
        "saturated",
        "actuation",
        "hops",
        "realised_heat",
        "range_clipped",
        "barrier_clipped",
        "shallow",
    )
    for field in sums:
        entry, name = getattr(ledger, field), units.get(field, field)
        if entry is None:
            continue
        if isinstance(entry.total, list):
            for path, value in jax.tree_util.tree_flatten_with_path(per_parameter(ledger, field))[0]:
                arrays[f"{name}/{_name(path)}"] = value
        else:
            arrays[name] = entry.float64()
    for name, comparison in ledger.compare.items():
        arrays[f"compare/{name}/heat_kt"] = comparison.heat.float64()
        arrays[f"compare/{name}/actuation_kt"] = comparison.actuation.float64()
    return arrays


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _draw(result: TrainResult) -> dict[str, Any]:
    from limjax.physics.cell import ArrheniusCell
    from limjax.plots import training as plots

    retention = ArrheniusCell(attempt_rate=result.summary["attempt_rate"]).retention_barrier(10 * YEAR_S)
    pictures = {
        "loss_and_heat": plots.loss_and_heat(result.history, LN2 * result.summary["steps"]),
        "barrier": plots.barrier_height(result.history, float(retention)),
        "heat_per_layer": plots.heat_per_layer(result.report),
    }
    matrices = []
    if isinstance(result.ledger.heat.total, list):
        heat = jax.tree_util.tree_flatten_with_path(per_parameter(result.ledger))[0]
        matrices = [(path, value) for path, value in heat if value.ndim == 2]
    if matrices:
        path, value = max(matrices, key=lambda item: item[1].size)
        pictures["heat_map"] = plots.heat_map(value, _name(path))
    return pictures


def _page(result: TrainResult, pictures: dict[str, pathlib.Path]) -> str:
    from rich.console import Console

    summary = result.summary
    console = Console(record=True, width=130, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(result.report)
    table = console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
    console.file.close()
    captions = {
        "loss_and_heat": "Loss, and what the updates dissipated so far, beside the same updates under a static barrier and on the cheapest of the other memories.",
        "barrier": "The barrier the policy chose.",
        "heat_per_layer": "Where the heat went.",
        "heat_map": "Heat of every weight of the largest matrix.",
    }
    images = "\n".join(
        f'<figure><img alt="{name}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'
        f"<figcaption>{captions[name]}</figcaption></figure>"
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
</style></head><body>
<h1>{html.escape(summary["task"])}: {summary["heat_kt_per_parameter"]:.3g} kT per parameter</h1>
<p>{summary["parameters"]:,} parameters, {summary["steps"]:,} steps, {reached}; barrier {html.escape(summary["barrier"])},
hops {html.escape(summary["hops"])}, seed {summary["seed"]}. Outcome: {html.escape(summary["result"])}.
{html.escape(result.result.help)}</p>
{table}
{images}
<h2>All numbers</h2><table>{rows}</table>
<p>Heat is the closed-form model heat of the weight memory. Computing gradients, reading weights and the controller
that sets the barrier are not counted.</p>
</body></html>
"""


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        return "; ".join(map(str, value)) or "none"
    return str(value)
