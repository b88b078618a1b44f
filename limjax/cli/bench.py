"""`limjax bench`."""

import json as json_text
import os
import pathlib
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from limjax import runs
from limjax._files import local_path, read_json, reason, write_text
from limjax.benchmarks import (
    measure_activities,
    measure_memory,
    measure_samplers,
    measure_startup,
    measure_steps,
    measure_training,
)
from limjax.cli.console import attempted
from limjax.tasks import get_task
from limjax.versions import machine

_PARTS = ("steps", "activities", "samplers", "training", "memory", "startup")


def bench(
    sizes: Annotated[
        str, typer.Option(help="Numbers of parameters of the step, with commas; 1e9 is fine.")
    ] = "1e4,1e6",
    rounds: Annotated[int, typer.Option(help="Rounds of every timing; medians are shown.")] = 20,
    task: Annotated[str, typer.Option(help="Task whose training step is timed.")] = "digits-mlp",
    batch_size: Annotated[int | None, typer.Option(help="Examples per step of --task; default the task's.")] = None,
    only: Annotated[
        str | None,
        typer.Option(help="Only these parts, with commas: steps, activities, samplers, training, memory, startup."),
    ] = None,
    out: Annotated[str | None, typer.Option(help="JSON file to write to; default none.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout, tables to stderr.")] = False,
) -> None:
    """Measure what limjax costs on this machine, as ratios to named references in the same run."""
    console = Console(stderr=json, markup=False)
    counts = _sizes(sizes)
    parts = _PARTS if only is None else tuple(only.split(","))
    if not set(parts) <= set(_PARTS):
        raise ValueError(f"--only names parts of {', '.join(_PARTS)}, got {only!r}.")
    if rounds < 1:
        raise ValueError(f"--rounds must be at least 1, got {rounds}.")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {batch_size}.")
    if get_task(task).train is None:
        raise ValueError(f"--task must be a task with training data, got {task!r}; for example digits-mlp.")
    path = None if out is None else _checked_file(out)
    content = machine()
    measure = {
        "steps": lambda: measure_steps(counts, rounds),
        "activities": lambda: measure_activities(rounds=rounds),
        "samplers": lambda: measure_samplers(rounds=rounds),
        "training": lambda: measure_training(task, rounds, batch_size=batch_size),
        "memory": measure_memory,
        "startup": measure_startup,
    }
    show = {
        "steps": _steps, "activities": _activities, "samplers": _samplers, "training": _training, "memory": _memory,
        "startup": _startup,
    }  # fmt: skip
    console.print(f"limjax bench on {content['device']}, jax {content['versions']['jax']} (Ctrl-C keeps what is done)")
    try:
        for part in parts:
            with console.status(f"measuring {part}"):
                content[part] = measure[part]()
            console.print(show[part](content[part]))
    except KeyboardInterrupt:
        console.print("Interrupted; the parts above are complete.")
    problem = None
    if path is not None:
        problem = attempted(lambda: write_text(path, json_text.dumps(content, indent=1) + "\n"), str(out))
        if problem is None:
            console.print(f"Wrote {out}", soft_wrap=True)
    # What no file holds is printed: a measurement is not lost to a full disk.
    if json or problem is not None:
        print(json_text.dumps(content, indent=1))
    if problem is not None:
        print(f"limjax: {problem}; the numbers were printed.", file=sys.stderr)
        raise typer.Exit(1)


def _checked_file(out: str) -> pathlib.Path:
    """A file to write to, which may hold an earlier benchmark and nothing else."""
    path = local_path(out, "--out")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ValueError(f"The folder of --out {out} does not exist; make it first.")
    if os.path.lexists(path):
        if path.is_symlink() or not path.is_file() or not os.access(path, os.W_OK):
            raise ValueError(f"--out {out} cannot be written to; name a JSON file in a folder of yours.")
        try:
            earlier = read_json(path, "")
        except ValueError:
            earlier = {}
        if not {"device", "versions"} <= set(earlier):
            raise ValueError(
                f"--out {out} holds something else than a benchmark; nothing was overwritten. Name a new file."
            )
    try:
        runs.try_writing(folder)
    except OSError as error:
        raise ValueError(f"--out {out} cannot be written to: {reason(error)}. Name a file in another folder.") from None
    return path


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(float(part)) for part in text.split(",")]
    except (ValueError, OverflowError):
        raise ValueError(f"--sizes takes numbers with commas, for example 1e4,1e6; got {text!r}.") from None
    if any(not 1 <= size <= 2**32 for size in sizes):
        raise ValueError(f"--sizes must be from 1 to 2**32 (one array), got {text!r}.")
    return sizes


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table


def _steps(rows: list[dict[str, Any]]) -> Table:
    table = _table("Optimizer step on one array", "mode", "parameters", "ms", "ns/parameter", "ratio to Adam")
    for r in rows:
        numbers = (f"{1e3 * r['seconds']:.3f}", f"{r['nanoseconds_per_parameter']:.3f}", f"{r['ratio']:.2f}")
        table.add_row(r["mode"], f"{r['parameters']:,}", *numbers, end_section="bytes_per_second" in r)
    return table


def _activities(rows: list[dict[str, Any]]) -> Table:
    table = _table(
        "Step with exact hops", "mode", "barrier [kT]", "request [levels]", "hops", "million/s", "ratio to Adam"
    )
    for r in rows:
        numbers = f"{r['hops_per_parameter']:.3g}", f"{1e-6 * r['parameters_per_second']:.0f}", f"{r['ratio']:.2f}"
        table.add_row(r["mode"], f"{r['barrier_kt']:g}", f"{r['request_levels']:g}", *numbers)
    return table


def _samplers(rows: list[dict[str, Any]]) -> Table:
    table = _table("Hops of 1e6 parameters", "sampler", "rate", "limjax [ms]", "jax.random [ms]", "times faster")
    for r in rows:
        numbers = (f"{1e3 * r['seconds']:.2f}", f"{1e3 * r['jax_seconds']:.1f}", f"{r['ratio']:.1f}")
        table.add_row(r["sampler"], f"{r['rate']:g}", *numbers)
    return table


def _training(rows: list[dict[str, Any]]) -> Table:
    first = rows[0]
    title = f"Training step of {first['task']}, {first['parameters']:,} parameters, batches of {first['batch_size']}"
    table = _table(title, "variant", "µs", "ratio to the bare optimizer")
    for r in rows:
        table.add_row(r["variant"], f"{1e6 * r['seconds']:.1f}", f"{r['ratio']:.2f}")
    return table


def _memory(rows: list[dict[str, Any]]) -> Table:
    table = _table(
        "Bytes per float32 parameter: held (gradient not counted) and moved by a step", "mode", "expected", "allocated",
        "temporary", "moved", "one pass", "kernels",
    )  # fmt: skip
    for r in rows:
        held = str(r["expected"]), f"{r['allocated']:.2f}", f"{r['temporary']:.2f}"
        table.add_row(r["mode"], *held, f"{r['traffic']:.0f}", str(r["least_traffic"]), str(r["kernels"]))
    return table


def _startup(content: dict[str, Any]) -> Table:
    table = _table("Before the first step", "what", "s")
    table.add_row("import limjax", f"{content['import_seconds']:.2f}")
    table.add_row("import jax, equinox, optax alone", f"{content['jax_import_seconds']:.2f}")
    for mode, seconds in content["compile_seconds"].items():
        table.add_row(f"compile step: {mode}", f"{seconds:.2f}")
    return table
