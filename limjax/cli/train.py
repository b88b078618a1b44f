"""`limjax train`."""

from typing import Annotated

import typer


def train(
    task: Annotated[
        str | None, typer.Option(help="What to train; default digits-mlp. `--task help` lists them.")
    ] = None,
    barrier: Annotated[
        str | None,
        typer.Option(help="Barrier policy, with arguments after a colon: lyapunov:start=8. Default the task's."),
    ] = None,
    hops: Annotated[str | None, typer.Option(help="mean, gaussian or exact; default exact.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps; default the task's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per step; default the task's.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate; default the task's.")] = None,
    learning_rate_factor: Annotated[
        str | None,
        typer.Option(
            help="Factors on the schedule over the run: the tune.json of a tuned learning rate, or 1.2,1.1,0.8."
        ),
    ] = None,
    lsb: Annotated[float | None, typer.Option(help="One level, in weight units; default the task's.")] = None,
    attempt_rate: Annotated[float | None, typer.Option(help="Attempt rate k0 [1/s]; default 1e9.")] = None,
    step_time: Annotated[float | None, typer.Option(help="Duration of one step [s]; default 1e-3.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Temperature of the cells [K]; default 300.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of initialisation, batches and hops; default 0.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder to write to; default the next free one under runs/.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out from its checkpoint.")] = False,
    bits: Annotated[
        int | None, typer.Option(help="Bits of a cell: levels from -2^(bits-1) to 2^(bits-1) - 1; default no end.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="int8 or int16: keep weights as level numbers, with --bits and exact hops.")
    ] = None,
    mesh: Annotated[
        str | None, typer.Option(help="Train on several devices: data=4,model=2. Batches are split over all of them.")
    ] = None,
    microbatches: Annotated[
        int | None,
        typer.Option(
            help="Pieces of a batch on a mesh; equal numbers give equal bits on any mesh. Default one a device."
        ),
    ] = None,
    distributed: Annotated[
        bool,
        typer.Option("--distributed", help="One process per host; under SLURM, Open MPI and on TPU pods that is all."),
    ] = False,
    coordinator: Annotated[
        str | None, typer.Option(help="host:port of process 0, where --distributed cannot find it by itself.")
    ] = None,
    processes: Annotated[int | None, typer.Option(help="Number of processes, with --coordinator.")] = None,
    process: Annotated[int | None, typer.Option(help="Number of this process from 0, with --coordinator.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print summary.json to stdout, progress to stderr.")] = False,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw the figures and report.html.")] = True,
) -> None:
    """Train a network on physical memory and print where the heat went."""
    if distributed or coordinator is not None:
        from limjax.parallel import initialize

        initialize(coordinator, processes, process)
    elif processes is not None or process is not None:
        raise ValueError("--processes and --process belong to --distributed or --coordinator host:port.")
    from limjax.cli.session import run_training

    given = {
        "task": task,
        "barrier": barrier,
        "hops": hops,
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "learning_rate_factor": learning_rate_factor,
        "lsb": lsb,
        "attempt_rate": attempt_rate,
        "step_time": step_time,
        "temperature": temperature,
        "seed": seed,
        "bits": bits,
        "storage": storage,
        "mesh": mesh,
        "microbatches": microbatches,
    }
    code = run_training(given, out=out, resume=resume, json_output=json, figures=figures)
    raise typer.Exit(code)
