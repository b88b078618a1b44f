"""Writes docs/results/performance.md and its figure from the JSON files of the other benchmarks.

limjax bench --sizes 1e4,1e5,1e6,1e7,3e7 --out benchmarks/results/bench_cpu.json
taskset -c 0 limjax bench --only steps,activities --sizes 200704,1048576 --out benchmarks/results/bench_cpu_one_core.json
python benchmarks/language.py
python benchmarks/accelerator.py       # where there is one
python benchmarks/random_numbers.py
python benchmarks/barrier_work.py
python benchmarks/allocator.py
python benchmarks/tuning.py
python benchmarks/page.py
"""

import json
import pathlib

from limjax.plots._style import figure

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"


def read(pattern: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(pattern))]


def named(content: dict) -> str:
    versions = content["versions"]
    count = content.get("cpu_cores")
    cores = f", {count} core{'s' if count > 1 else ''}" if count and content["device"].startswith("cpu") else ""
    return f"{content['device']}{cores}, Python {versions['python']}, jax {versions['jax']}"


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(r) + " |" for r in rows),
        "",
    ]


def steps(bench: dict) -> list[str]:
    rows = bench["steps"]
    sizes = sorted({r["parameters"] for r in rows})
    modes = list(dict.fromkeys(r["mode"] for r in rows))
    at = {(r["mode"], r["parameters"]): r for r in rows}
    lines = ["Nanoseconds per parameter of one step on one array, and the ratio to bare Adam of the same size:", ""]
    if not bench["device"].startswith("cpu") and bench.get("steps_per_wait", 1) == 1:
        lines.insert(
            1,
            "Every step is waited for before the next is started, which adds some tenths of a millisecond to each time.",
        )
    digits = 2 if bench["device"].startswith("cpu") else 4
    cells = [
        [mode, *(f"{at[mode, n]['nanoseconds_per_parameter']:.{digits}f} ({at[mode, n]['ratio']:.2f}x)" for n in sizes)]
        for mode in modes
    ]
    lines += table(["mode", *(f"{n:,}" for n in sizes)], cells)
    return lines


def activities(bench: dict) -> list[str]:
    rows = [
        [r["mode"], f"{r['barrier_kt']:g}", f"{r['request_levels']:g}", f"{r['hops_per_parameter']:.3g}",
         f"{1e-6 * r['parameters_per_second']:.0f}", f"{r['ratio']:.2f}"]
        for r in bench["activities"]
    ]  # fmt: skip
    size = bench["activities"][0]["parameters"]
    note = (
        f"Exact hops at other barriers and requests, {size:,} parameters; hops are those of one parameter in one step:"
    )
    header = ["mode", "barrier [kT]", "request [levels]", "hops", "million parameters per second", "ratio to Adam"]
    return [note, "", *table(header, rows)]


def largest(bench: dict) -> list[str]:
    rows = [
        [
            r["mode"],
            *((f"{r['nanoseconds_per_parameter']:.3f}", f"{r['ratio']:.2f}") if r["fits"] else ("does not fit", "")),
        ]
        for r in bench["largest"]
    ]
    note = f"{bench['largest'][0]['parameters']:.0e} parameters, every mode alone beside bare Adam:"
    return [note, "", *table(["mode", "ns per parameter", "ratio to Adam"], rows)]


def samplers(bench: dict) -> list[str]:
    rows = [
        [
            r["sampler"],
            f"{r['rate']:g}",
            f"{1e3 * r['seconds']:.2f}",
            f"{1e3 * r['jax_seconds']:.1f}",
            f"{r['ratio']:.0f}",
        ]
        for r in bench["samplers"]
    ]
    note = "Hops of 1e6 parameters, words included, against two `jax.random.poisson` (exact) or a `jax.random.normal`:"
    return [note, "", *table(["sampler", "rate", "limjax [ms]", "jax.random [ms]", "times faster"], rows)]


def training(bench: dict) -> list[str]:
    rows = [[r["variant"], f"{1e6 * r['seconds']:.0f}", f"{r['ratio']:.2f}"] for r in bench["training"]]
    name = bench["training"][0]["task"]
    return [f"Training step of {name}, gradient included:", "", *table(["variant", "µs", "ratio"], rows)]


def memory(bench: dict) -> list[str]:
    rows = [
        [r["mode"], str(r["expected"]), f"{r['allocated']:.2f}", f"{r['temporary']:.1f}", f"{r['traffic']:.0f}",
         str(r["least_traffic"]), str(r["kernels"])]
        for r in bench["memory"]
    ]  # fmt: skip
    note = (
        "Bytes per float32 parameter. Held: parameters and state without the gradient, by design and as `memory_analysis` of the "
        "compiled step has it. Moved: what its kernels read and write by XLA's own count, and what a single pass over memory would; on a CPU a kernel "
        "has one output, so that several kernels read the same arrays."
    )
    return [note, "", *table(["mode", "expected", "allocated", "temporary", "moved", "one pass", "kernels"], rows)]


def startup(bench: dict) -> list[str]:
    start = bench["startup"]
    rows = [["import limjax", f"{start['import_seconds']:.2f}"]]
    rows += [["import jax, equinox, optax alone", f"{start['jax_import_seconds']:.2f}"]]
    rows += [[f"compile the step: {mode}", f"{s:.2f}"] for mode, s in start["compile_seconds"].items()]
    note = "Before the first step; files and compiler warm, compilation of one array of 10,000 parameters with everything it calls:"
    return [note, "", *table(["what", "seconds"], rows)]


def allocator(content: dict) -> list[str]:
    rows = content["rows"]
    modes = list(dict.fromkeys(r["mode"] for r in rows))
    cases = list(dict.fromkeys((r["parameters"], r["freed_memory"]) for r in rows))
    at = {(r["mode"], r["parameters"], r["freed_memory"]): r for r in rows}
    note = (
        "Nanoseconds per parameter of one step, and page faults, in a process that returns freed memory to the system and in one "
        "that keeps it ([`keep_freed_memory`](../api/parallel.md); the `limjax` command does, and so do the tables above):"
    )
    cells = [
        [
            f"{size:.0e}",
            freed,
            *(
                f"{at[mode, size, freed]['nanoseconds_per_parameter']:.2f} ({at[mode, size, freed]['page_faults_per_step']:,.0f})"
                for mode in modes
            ),
        ]
        for size, freed in cases
    ]
    return [note, "", *table(["parameters", "freed memory", *modes], cells)]


def language(content: dict) -> list[str]:
    rows = content["rows"]
    batches = list(dict.fromkeys(r["batch_size"] for r in rows))
    at = {(r["variant"], r["batch_size"]): r for r in rows}
    note = (
        f"Training step of {rows[0]['task']}, {rows[0]['parameters']:,} parameters, {content['context']} tokens an example, gradient "
        f"included: milliseconds, and the ratio to the bare optimizer in the same rounds, median of {rows[0]['processes']} processes (least to "
        "largest). Gradients take longer with a larger batch, the memory does not:"
    )
    cells = [
        [
            variant,
            *(
                f"{1e3 * at[variant, n]['seconds']:.0f}, {at[variant, n]['ratio']:.2f} ({at[variant, n]['low']:.2f} to {at[variant, n]['high']:.2f})"
                for n in batches
            ),
        ]
        for variant in dict.fromkeys(r["variant"] for r in rows)
    ]
    return [note, "", *table(["variant", *(f"batch {n}" for n in batches)], cells)]


def draw(bench: dict):
    fig, (ax,) = figure()
    for mode in dict.fromkeys(r["mode"] for r in bench["steps"]):
        rows = [r for r in bench["steps"] if r["mode"] == mode]
        style = "--" if mode in ("Adam", "one array read and written (x + 1)") else "-"
        sizes, times = [r["parameters"] for r in rows], [r["nanoseconds_per_parameter"] for r in rows]
        ax.loglog(sizes, times, style, marker="o", markersize=3, label=mode)
    ax.set_xlabel("parameters of one array")
    ax.set_ylabel("time of a step [ns per parameter]")
    ax.legend(
        frameon=False, fontsize=7, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0)
    )  # no corner is free in all
    return fig


def main() -> None:
    lines = [
        "# Speed and memory",
        "",
        "Measured by `limjax bench` and the scripts in `benchmarks/`; each table names its machine. Ratios are medians over rounds in "
        "which all candidates take turns; absolute times on a shared machine mean little.",
    ]
    for path in sorted(RESULTS.glob("bench_*.json")):
        bench = json.loads(path.read_text())
        if "versions" not in bench:  # two versions side by side, which is no table of this page
            continue
        lines += ["", f"## {named(bench)}", ""]
        lines += [bench["note"], ""] if "note" in bench else []
        for part in (steps, largest, activities, samplers, training, memory, startup):
            if part.__name__ in bench:
                lines += part(bench)
        if len({row["parameters"] for row in bench["steps"]}) > 1:  # one size makes no curve
            name = f"step_cost_{path.stem.removeprefix('bench_')}.png"
            draw(bench).savefig(ROOT / "docs/figures" / name)
            lines += [f"![Time of a step against the number of parameters](../figures/{name})", ""]
    for content in read("allocator_*.json"):
        lines += [f"## Keeping freed memory: {named(content)}", "", *allocator(content)]
    for content in read("language_*.json"):
        lines += [f"## Training a language model: {named(content)}", "", *language(content)]
    for content in read("random_numbers_*.json"):
        rows = [[r["generator"], f"{r['nanoseconds_per_element']:.2f}", f"{r['ratio']:.2f}"] for r in content["rows"]]
        lines += [f"## Random numbers: {named(content)}", ""]
        lines += [f"{content['elements']:,} weights moved by Gaussian hops, one pass where the generator fuses:", ""]
        lines += table(["generator", "ns per weight", "ratio to no randomness"], rows)
    for content in read("barrier_work_*.json"):
        rows = [[r["what"], f"{r['nanoseconds_per_element']:.2f}", f"{r['ratio']:.2f}"] for r in content["rows"]]
        lines += [f"## Work of barriers: {named(content)}", ""]
        lines += [
            f"{content['elements']:,} barriers moved a little, and an Adam step that moves as many by the law:",
            "",
        ]
        lines += table(["what", "ns per barrier", "ratio to the floor"], rows)
    for content in read("tuning_cost_*.json"):
        rows = [
            [r["barrier"], str(r["steps"]), f"{r['forward_seconds']:.2f}", f"{r['gradient_seconds']:.2f}", f"{r['ratio']:.2f}",
             f"{r['gradient_bytes'] / 2**20:.1f}"]
            for r in content["rows"]
        ]  # fmt: skip
        lines += [f"## A gradient through training: {named(content)}", ""]
        lines += [f"digits-mlp, {content['seeds']} seeds in one loop:", ""]
        lines += table(
            ["barrier", "steps", "forward [s]", "gradient [s]", "ratio", "memory of the gradient [MiB]"], rows
        )
        if "kind_seeds" not in content:
            continue
        rows = [
            [r["gradient"], f"{r['cosine']:.3f}", f"{r['length']:.2f}", f"{r['scatter']:.2f}", f"{r['ratio']:.1f}",
             f"{r['bytes'] / 2**20:.1f}"]
            for r in content["kinds"]
        ]  # fmt: skip
        lines += [
            f"The four ways to it, for a spline of 16 knots, {content['rows'][0]['steps']} steps and {content['kind_seeds']} seeds, "
            "against the mean of the exact gradient over four times as many other seeds; its length is 1, scatter is the standard "
            "error of the vector over the seeds:",
            "",
        ]
        lines += table(["gradient", "cosine", "length", "scatter", "time / forward run", "memory [MiB]"], rows)
    (ROOT / "docs/results/performance.md").write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
