"""Times of candidates beside a floor, the first of them: a table on the console and a JSON file, for the benchmarks of this folder."""

import json
import pathlib
import statistics

import jax
from rich.console import Console
from rich.table import Table

from limjax.benchmarks import median_ratio
from limjax.versions import machine

RESULTS = pathlib.Path(__file__).parent / "results"


def tell(name: str, kind: str, title: str, seconds: dict[str, list[float]], elements: int) -> None:
    """Prints and writes `results/<name>_<platform>.json`.

    Args:
        name: of the benchmark.
        kind: what a candidate is, the heading and key of its name.
        title: of the table.
        seconds: times of each candidate, round by round [s].
        elements: how many elements each handles in that time.
    """
    table = Table(kind, "ns per element", "ratio to the floor", title=title)
    floor, rows = next(iter(seconds.values())), []
    for candidate, times in seconds.items():
        nanoseconds, ratio = 1e9 * statistics.median(times) / elements, median_ratio(times, floor)
        rows.append({kind: candidate, "nanoseconds_per_element": nanoseconds, "ratio": ratio})
        table.add_row(candidate, f"{nanoseconds:.2f}", f"{ratio:.2f}")
    Console().print(table)
    content = {**machine(), "elements": elements, "rounds": len(floor), "rows": rows}
    (RESULTS / f"{name}_{jax.devices()[0].platform}.json").write_text(json.dumps(content, indent=1) + "\n")
