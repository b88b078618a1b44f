"""`limjax simulate`."""

import json as json_text
import math
from typing import Annotated, Any

import jax
import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from limjax import runs
from limjax._files import write_json, write_whole
from limjax.cli import options
from limjax.cli.console import Lines, attempted, drawn, say_lost
from limjax.simulate import SYSTEMS, CellComparison, OptimiseCode, SystemRun, compare_cell, simulate_system

_NUMBERS, _ARRAYS = "simulation.json", "trajectories.npz"
# With fewer than that, the mean of exp(-work) and its error mean little.
_FEW = 100
_BARRIERS, _TILTS, _LANGEVIN = (2.0, 5.0, 8.0), (0.1, 0.3, 1.0), 8000


def simulate(
    system: Annotated[str, typer.Argument(help="erasure, trap, crossing or cell.")],
    optimise: Annotated[bool, typer.Option("--optimise", help="First find the best protocol by gradient.")] = False,
    trajectories: Annotated[int, typer.Option(help="Independent trajectories.")] = 10_000,
    steps: Annotated[int | None, typer.Option(help="Time steps of each; default the system's.")] = None,
    outer_steps: Annotated[int | None, typer.Option(help="Steps of the descent; default the system's.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all randomness.")] = 0,
    out: options.NewFolder = None,
    json: Annotated[bool, typer.Option("--json", help="Print simulation.json to stdout, progress to stderr.")] = False,
    figures: options.Figures = True,
) -> None:
    """Simulate a small system with work and heat, and check it: erasing a bit, dragging a trap, crossing a barrier, a cell."""
    console = Console(stderr=json, markup=False)
    lines = Lines(console)
    if outer_steps is not None and not optimise:
        raise ValueError(
            f"--outer-steps {outer_steps} is of the descent to the best protocol: add --optimise, or leave it out."
        )
    if system not in SYSTEMS:
        raise ValueError(f"Unknown system {system!r}; there are {', '.join(SYSTEMS)}.")
    folder = runs.new_folder(out, f"simulate-{system}")
    with runs.held(folder):
        console.print(f"limjax simulate {system}: {SYSTEMS[system].help}", highlight=False)
        run = simulate_system(
            system,
            optimise=optimise,
            trajectories=trajectories,
            steps=steps,
            outer_steps=outer_steps,
            seed=seed,
            on_progress=lambda row, left: lines.say(
                f"descent step {row.step + 1}  cost {row.cost:.4f} kT" + (f"  {left:.0f} s left" if row.step else ""),
                always=row.step == 0,
            ),
        )
        rows: list[CellComparison] = []
        if system == "cell":
            console.print("The same cell by the closed form, by jumps and by trajectories ...")
            rows = compare_cell(_BARRIERS, _TILTS, jax.random.key(seed), trajectories=_LANGEVIN)
        summary = run.to_dict()
        if rows:
            summary["ledger"] = [row._asdict() for row in rows]
        writes = {
            _NUMBERS: lambda: write_json(folder / _NUMBERS, summary),
            _ARRAYS: lambda: write_whole(folder / _ARRAYS, lambda file: _write_arrays(file, run)),
        }
        lost = {name: problem for name, write in writes.items() if (problem := attempted(write, name)) is not None}
        written = [name for name in writes if name not in lost]
        if figures:
            from limjax.plots.simulation import save_simulation_figures

            written += drawn(lambda: save_simulation_figures(run, folder, rows))
    _print_table(console, run)
    if run.optimised is None and SYSTEMS[system].optimise is not None:
        console.print(
            f"This is the protocol made by hand that others are measured against; `limjax simulate {system} --optimise` finds a better one.",
            highlight=False,
        )  # fmt: skip
    if rows:
        console.print(_comparison_table(rows))
    if run.optimised is not None:
        console.print(f"Outcome: {run.optimised.result}. {run.optimised.result.help}", highlight=False)
    if json:
        print(json_text.dumps(summary, indent=2))
    if lost:
        raise typer.Exit(
            say_lost(console, folder, list(lost.values()), {_NUMBERS: summary} if _NUMBERS in lost else {})
        )
    console.print(f"Wrote {folder}/: {', '.join(written)}", highlight=False, soft_wrap=True)
    if run.optimised is not None and run.optimised.result is OptimiseCode.interrupted:
        raise typer.Exit(130)


def _write_arrays(file: Any, run: SystemRun) -> None:
    np.savez_compressed(
        file,
        work_kt=np.asarray(run.trajectories.work),
        heat_kt=np.asarray(run.trajectories.heat),
        position=np.asarray(run.trajectories.position),
        times=np.asarray(run.trajectories.times),
        frames=np.asarray(run.trajectories.frames),
    )


def _print_table(console: Console, run: SystemRun) -> None:
    summary = run.to_dict()
    console.print(
        f"{run.system}, {run.protocol_name}: {summary['trajectories']:,} trajectories of {run.steps:,} steps in "
        f"{run.seconds:.2g} s", highlight=False, soft_wrap=True,
    )  # fmt: skip
    table = Table()
    for name in ("", "value", "± s.e."):
        table.add_column(name, justify="left" if not name else "right")
    table.add_row("work / kT", f"{summary['work_kt']:.4f}", f"{summary['work_stderr_kt']:.4f}")
    if run.fokker_planck_work_kt is not None:
        table.add_row("work by the density equation / kT", f"{run.fokker_planck_work_kt:.4f}", "")
    table.add_row("heat / kT", f"{summary['heat_kt']:.4f}", f"{summary['heat_stderr_kt']:.4f}")
    if run.error_rate is not None:
        p, n = run.error_rate, summary["trajectories"]
        # The standard error of a share of independent trajectories, that of a binomial.
        table.add_row("ended in the wrong place", f"{p:.4%}", f"{(p * (1 - p) / n) ** 0.5:.4%}")
    check = summary["jarzynski"]
    table.add_row(
        f"free energy by Jarzynski / kT, exactly {check['expected_kt']:g}",
        f"{check['free_energy_kt']:.3f}", f"{check['stderr_kt']:.3f}",
    )  # fmt: skip
    if check["effective_trajectories"] < _FEW:
        table.add_row(f"  not converged: {check['effective_trajectories']:.0f} trajectories carry its mean", "", "")
    console.print(table)


def _comparison_table(rows: list[CellComparison]) -> Table:
    table = Table(
        title="Drift in levels per level²/D, barrier B and affinity F in kT",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for name in ("B", "F", "closed form", "jumps", "washboard", "Langevin", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    for r in rows:
        table.add_row(
            f"{r.barrier:g}", f"{r.affinity:.3g}", f"{r.ladder_drift:.4g}", _with_error(r.jump_drift),
            f"{r.washboard_drift:.4g}", _with_error(r.langevin_drift), f"{r.ratio:.3f}",
        )  # fmt: skip
    return table


def _with_error(pair: tuple[float, float]) -> str:
    """0.1254(19) for 0.1254 ± 0.0019."""
    value, error = pair
    if not error > 0:
        return f"{value:.4g}"
    # Two digits of the error, and as many of the value.
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f}({round(error * 10**digits)})"
