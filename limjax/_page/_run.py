"""The page of one run."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from limjax._kept_run import KeptRun, finite
from limjax._page._html import page, plot, table, text
from limjax.memory import LayerReport, LedgerHistory, Report
from limjax.memory._layer_report import short, short_work
from limjax.memory.comparisons._names import comparison_words
from limjax.physics.units import LN2

_NOT_LISTED = ("report", "verdict", "warnings")


def run_page(run: KeptRun, pictures: Mapping[str, tuple[str, str]]) -> str:
    """The page of a run: what it comes to, its table, where and when the heat went, its figures and all its numbers.

    Args:
        run: the run.
        pictures: SVG and caption of each figure by name.

    Returns:
        HTML in one file.
    """
    s = run.summary
    sections = (
        _heading(run),
        _ending(run),
        _when(run),
        _table(run.report),
        _others(run.report),
        _joules(s),
        _figures(pictures),
        _numbers(s),
        "<p>Heat is the closed-form model heat of the weight memory. Computing gradients, reading weights and the controller "
        "that sets the barrier are not counted.</p>",
    )
    return page(f"limjax: {s['task']}", "\n".join(section for section in sections if section))


def _heading(run: KeptRun) -> str:
    s = run.summary
    accuracy, loss = s.get("test_accuracy"), s.get("train_loss")
    reached = "" if loss is None else f", training loss {loss:.4g}"
    reached = f", test accuracy {accuracy:.4f}" if accuracy is not None else reached
    verdict = "" if "verdict" not in s else f"<p class=verdict><b>Verdict.</b> {text(s['verdict'])}</p>"
    warnings = "".join(f"<p class=warning><b>Warning.</b> {text(said)}</p>" for said in s.get("warnings") or [])
    return (
        f"<h1>{text(s['task'])}: {short(s['heat_kt'] / max(s['parameters'], 1))} kT of heat per parameter</h1>\n"
        f"<p>{s['parameters']:,} parameters, {s['steps']:,} steps{reached}; barrier {text(s.get('barrier_settings', s['barrier']))}, hops "
        f"{text(s['hops'])}, seed {text(str(s['seed']))}.</p>\n{verdict}{warnings}"
    )


def _ending(run: KeptRun) -> str:
    """What there is to say of a run that did not come to its end, in place of empty axes."""
    s = run.summary
    if s["result"] == "completed":
        return ""
    help_text = s.get("help", "")
    begun = (
        f"This run ended ({text(s['result'])}) after {s['steps']:,} of {s['requested_steps']:,} steps."
        if s["steps"]
        else f"This run ended ({text(s['result'])}) before its first step: there is nothing to draw."
    )
    return f"<p class=warning><b>{begun}</b> {text(help_text)}</p>"


def _when(run: KeptRun) -> str:
    """The plot over time, and when half of the heat was gone."""
    if not run.history:
        return ""
    said = _half(run)
    return (
        "<h2>When the heat went, and where</h2>\n"
        f"{said}{plot('heat', _views(run))}"
        "<p>Yardsticks in the first view: the same updates on other memories; ln 2 for every update of the run, growing with it; "
        "and the least heat of a bowl whose loss falls as far, 2 ln(L0/LT), which is a yardstick and no bound of a network.</p>"
    )


def _half(run: KeptRun) -> str:
    heat, steps = np.array([row.heat_kt_per_parameter for row in run.history]), [row.step for row in run.history]
    if not heat[-1] > 0:
        return "<p>No heat was dissipated.</p>"
    # The largest of truth values, and of equal ones the first: the first row with half of it.
    gone = int(np.argmax(heat >= heat[-1] / 2))
    return f"<p>Half of the heat was gone by step {steps[gone]:,} of {steps[-1]:,}.</p>"


def _views(run: KeptRun) -> dict[str, Any]:
    steps = [row.step for row in run.history]

    def column(values: Any, name: str, **options: Any) -> dict[str, Any]:
        return {"name": name, "x": steps, "y": finite(values), **options}

    rows = run.history
    total = [
        column([row.heat_kt_per_parameter for row in rows], "heat"),
        column([row.actuation_kt_per_parameter for row in rows], "barrier work"),
        column([row.compared_kt_per_parameter for row in rows], "cheapest other memory", dashed=True),
        column([row.static_heat_kt_per_parameter for row in rows], "static barrier, ten years", dashed=True),
        column([LN2 * row.step for row in rows], "ln 2 per update", dashed=True),
    ]
    bound = run.summary.get("bowl_bound_kt_per_parameter")
    if bound is not None:
        total.append(column([bound] * len(rows), "bowl, 2 ln(L0/LT)", dashed=True))
    unit = "kT per parameter"
    shown = [series for series in total if any(y is not None for y in series["y"])]
    views = {"all layers": {"series": shown, "x": "step", "y": f"since the start [{unit}]", "unit": unit, "log": True}}
    if run.layers is not None and run.layers.step.size:
        views |= _layer_views(run.layers, unit)
    views["barrier"] = {
        "series": [column([row.barrier_kt for row in rows], "mean barrier")],
        "x": "step",
        "y": "barrier [kT]",
        "unit": "kT",
    }
    return views


def _layer_views(layers: LedgerHistory, unit: str) -> dict[str, Any]:
    steps = layers.step
    heat = layers.column("heat") / np.maximum(np.array(layers.layers.parameters), 1)
    # Against 0 at the start: where the first row comes late, its rate is the mean up to there.
    rate = np.diff(heat, axis=0, prepend=0.0) / np.diff(steps, prepend=0)[:, None]
    return {
        word: {
            "series": [
                {"name": name, "x": steps.tolist(), "y": finite(values[:, i])}
                for i, name in enumerate(layers.layers.names)
            ],
            "x": "step",
            "y": f"{said} [{unit}]",
            "unit": unit,
        }
        for word, values, said in (("per layer", heat, "since the start"), ("per layer and step", rate, "per step"))
    }


def _table(report: Report | None) -> str:
    if report is None:
        return "<p>This run was written by an earlier version, which kept no table of its layers.</p>"
    header = [
        "layer",
        "parameters",
        "path [levels]",
        "net [levels]",
        "useful hops",
        "heat [kT]",
        "heat [J]",
        "work [kT]",
    ]
    if report.compared_with is not None:
        header += [f"{report.compared_with} [kT]", "ratio"]
    rows = [_cells(row, report.compared_with is not None) for row in (*report.layers, report.total)]
    return (
        f"<h2>Heat ledger after {report.steps:,} steps</h2>\n{table(header, rows, last_is_total=True)}"
        "<p>All per parameter but joules.</p>"
    )


def _cells(row: LayerReport, compared: bool) -> list[str]:
    n = max(row.parameters, 1)

    def each(value: float | None) -> str:
        return "–" if value is None else short(value / n)

    useful = "–" if row.useful_fraction is None else f"{100 * row.useful_fraction:.3g} %"
    cells = [row.name, f"{row.parameters:,}", each(row.path_levels), each(row.net_levels), useful, each(row.heat_kt)]
    cells += [f"{row.heat_joules:.2e}", short_work(row.actuation_kt / n)]
    if compared:
        cells += [each(row.compared_kt), "–" if row.ratio is None else f"{short(row.ratio)}x"]
    return cells


def _others(report: Report | None) -> str:
    if report is None or not report.comparisons:
        return ""
    # Of a run that dissipated nothing the ratio is huge, and not a division by zero.
    n, own = max(report.total.parameters, 1), max(report.total.energy_kt, 1e-300)
    rows = [
        [name, short(cost / n), f"{short(cost / own)}x", comparison_words(name) or "of your own"]
        for name, cost in report.comparisons.items()
    ]
    rows.append(["this run", short(report.total.energy_kt / n), "1x", "heat and barrier work"])
    return "<h2>The same updates on other memories</h2>\n" + table(
        ["memory", "kT per parameter", "times this run", "what it is"], rows, last_is_total=True, words=True
    )


def _joules(summary: Mapping[str, Any]) -> str:
    """The section about the gap from the machine to the limits, without which a page is still whole."""
    from limjax.gap import energy_gap, gap_html

    try:
        found = gap_html(energy_gap(dict(summary)))
    except (
        ValueError,
        KeyError,
    ):  # a cell of one's own without the numbers that are needed, or a run of an earlier version
        return ""
    return f"<h2>Where the joules are</h2>\n<div class=wide>{found}</div>\n<p>The figure: <code>limjax gap RUN --out gap.png</code>.</p>"


def _figures(pictures: Mapping[str, tuple[str, str]]) -> str:
    drawn = "\n".join(
        f"<figure>{svg}<figcaption>{text(caption)}</figcaption></figure>" for svg, caption in pictures.values()
    )
    return f"<h2>Figures</h2>\n{drawn}" if drawn else ""


def _numbers(summary: Mapping[str, Any]) -> str:
    rows = "\n".join(
        f"<tr><th scope=row>{text(name)}</th><td>{text(_plain(value))}</td></tr>"
        for name, value in summary.items()
        if name not in _NOT_LISTED
    )
    return f"<details><summary>All numbers</summary><div class=wide><table class=all>{rows}</table></div></details>"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "; ".join(map(_plain, value)) or "none"
    return "–" if value is None else str(value)
