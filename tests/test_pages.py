"""The page of a run says what the run was, asks nothing of a network, is rebuilt from the folder, and compares runs over seeds."""

import html.parser
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess

import matplotlib.figure
import numpy as np
import pytest
from command_line import refused, run

import limjax
from limjax import parallel, runs
from limjax._kept_run import KeptRun
from limjax._page import grouped
from limjax.training import RunSettings, execute, prepare

pytestmark = pytest.mark.optax

TASK = limjax.tasks.get_task("diabetes-regression")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    settings = RunSettings.of(TASK, steps=6, batch_size=8, hops="mean")
    runs.save_run(execute(prepare(settings, TASK, compare=("static", "run-static"))), folder)
    return folder


class Reader(html.parser.HTMLParser):
    """Tags that are opened and closed, addresses, and the rows of tables."""

    def __init__(self, markup):
        super().__init__()
        self.open, self.addresses, self.rows, self.wrong = [], [], [], []
        self.feed(markup)

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href", "action")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in ("meta", "br", "img", "path", "use", "rect", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        if tag in ("path", "use", "rect", "line"):
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_the_page_is_whole_and_alone(folder):
    markup = (folder / "report.html").read_text(encoding="utf-8")
    found = Reader(markup)
    assert found.wrong == [] and found.open == []
    # Figures are drawn in the page: an address is a piece of the same page, or a picture in it.
    assert [x for x in found.addresses if not x.startswith(("#", "data:image/png;base64,"))] == []
    assert not re.search(r"url\((?!#)|@import|fetch\(|XMLHttp", markup)
    assert markup.count("<svg") == 5 and "width=device-width" in markup and "@media print" in markup
    assert len({*re.findall(r'<clipPath id="(\w+)"', markup)}) == markup.count("<clipPath id")


def test_the_table_has_the_numbers_of_the_run(folder):
    summary = json.loads((folder / "summary.json").read_text(), parse_constant=pytest.fail)
    rows = Reader((folder / "report.html").read_text(encoding="utf-8")).rows
    total = next(row for row in rows if row[0] == "total")
    assert total[1] == f"{summary['parameters']:,}"
    assert float(total[5]) == pytest.approx(summary["heat_kt"] / summary["parameters"], rel=0.01)
    assert [row[0] for row in rows if row[0].startswith("layer")] == ["layer", "layer1", "layer2"]


def test_the_plot_has_the_history_and_its_layers(folder):
    data = re.search(r'<script type="application/json">(.*?)</script>', (folder / "report.html").read_text(), re.DOTALL)
    views = json.loads(data[1], parse_constant=pytest.fail)
    kept = KeptRun.read(folder)
    series = {line["name"]: line for line in views["all layers"]["series"]}
    np.testing.assert_allclose(series["heat"]["y"], [row.heat_kt_per_parameter for row in kept.history])
    assert series["heat"]["x"] == [row.step for row in kept.history]
    layers = views["per layer"]["series"]
    sizes = [layer.parameters for layer in kept.report.layers]
    together = sum(np.array(line["y"]) * size for line, size in zip(layers, sizes)) / sum(sizes)
    np.testing.assert_allclose(together, series["heat"]["y"], rtol=1e-5)


def test_a_page_is_rebuilt_from_the_folder(capsys, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / folder.name)
    before = (copy / "report.html").read_text()
    (copy / "report.html").unlink()
    code, out, _ = run(capsys, "report", copy)
    assert code == 0 and "report.html" in out
    assert Reader((copy / "report.html").read_text()).rows == Reader(before).rows


def altered(folder, copy, **given):
    """The same run with other numbers in its summary."""
    shutil.copytree(folder, copy)
    summary = json.loads((copy / "summary.json").read_text()) | given
    (copy / "summary.json").write_text(json.dumps(summary))
    return copy


def test_runs_side_by_side(capsys, folder, tmp_path):
    others = [altered(folder, tmp_path / f"seed{i}", seed=i, test_loss=1.0 + i) for i in (1, 2)]
    last = altered(folder, tmp_path / "static", barrier_settings="static:height=12")
    words = [folder, *others, last, "--out", tmp_path / "page.html", "--json"]
    code, out, err = run(capsys, "report", *words)
    groups = json.loads(out, parse_constant=pytest.fail)
    assert code == 0 and [len(group["runs"]) for group in groups] == [3, 1] and "static:height=12" in err
    values = [json.loads((path / "summary.json").read_text())["test_loss"] for path in (folder, *others)]
    assert groups[0]["means"]["test loss"] == pytest.approx(statistics.mean(values))
    assert groups[0]["errors"]["test loss"] == pytest.approx(statistics.stdev(values) / 3**0.5)
    assert groups[1]["errors"]["test loss"] is None
    found = Reader((tmp_path / "page.html").read_text())
    assert found.wrong == [] and found.open == [] and found.addresses == []
    with pytest.raises(ValueError, match=r"are the same run twice \(seed 0\): leave one out"):
        grouped([KeptRun.read(folder), KeptRun.read(folder)])


@pytest.mark.parametrize(
    ("barriers", "names"),
    [
        (
            ["static/f1", "static/f2", "lyapunov/f3"],
            ["static, barrier f1", "static, barrier f2", "lyapunov, barrier f3"],
        ),
        (["static/f1", "lyapunov/f3"], ["static", "lyapunov"]),
        (["static/f1", "static/f2"], ["barrier f1", "barrier f2"]),
    ],
)
def test_no_two_groups_have_one_name(barriers, names):
    common = {"task": "t", "seed": 0, "parameters": 1, "heat_kt": 1.0, "actuation_kt": 0.0}
    found = []
    for barrier in barriers:
        settings, fingerprint = barrier.split("/")
        given = {"barrier": settings, "barrier_settings": settings, "barrier_fingerprint": fingerprint}
        found.append(KeptRun(barrier, common | given, (), None, None, None))
    assert [group.name for group in grouped(found)] == names


def test_a_figure_that_fails_is_left_out_of_a_page_that_is_rebuilt(capsys, folder, tmp_path, monkeypatch):
    def broken():
        raise RuntimeError("no such font")

    def strange():
        figure = matplotlib.figure.Figure(figsize=(1, 1))
        figure.text(0, 0.5, "\u5fc3")  # warns of a glyph that the font does not have
        return figure

    copy = shutil.copytree(folder, tmp_path / "run")
    monkeypatch.setattr(runs, "_pictures", lambda _: {"barrier": broken, "heat_map": strange})
    with pytest.warns(RuntimeWarning) as warned:
        runs.rebuild_page(copy)
    assert [str(warning.message) for warning in warned] == ["barrier is left out of report.html: no such font"]
    assert (copy / "report.html").read_text(encoding="utf-8").count("<figure><svg") == 1
    code, _, err = run(capsys, "report", copy)
    assert code == 0 and err == "limjax: barrier is left out of report.html: no such font\n"
    monkeypatch.setattr(runs, "_pictures", lambda _: broken())
    code, _, err = run(capsys, "report", copy)
    assert code == 1 and "the figures could not be drawn: no such font" in err and err.count("\n") == 1


def test_a_run_that_ended_at_once_says_so(tmp_path):
    with parallel.interrupts_noted():
        os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C while the first step is compiled
        result = execute(prepare(RunSettings.of(TASK, hops="mean"), TASK, compare=()))
    assert str(result.result) == "interrupted" and result.summary["steps"] == 0
    written = {path.name for path in runs.save_run(result, tmp_path)}
    assert not [name for name in written if name.endswith(".png")]
    markup = (tmp_path / "report.html").read_text()
    assert "before its first step: there is nothing to draw" in markup and "<svg" not in markup
    runs.rebuild_page(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", "{"), ("summary.json", '{"task": 3}'), ("history.csv", "step\n1,2"), ("layers.csv", "step,loss\n"),
        ("ledger.npz", "no archive"),
    ],
)  # fmt: skip
def test_damaged_folders_are_named_and_left_alone(capsys, folder, tmp_path, name, content):
    copy = shutil.copytree(folder, tmp_path / "run")
    (copy / name).write_text(content)
    assert name in refused(capsys, "report", copy)
    assert (copy / "report.html").read_bytes() == (folder / "report.html").read_bytes()


def test_wrong_words(capsys, folder, tmp_path):
    assert "holds no summary.json" in refused(capsys, "report", tmp_path)
    copy = altered(folder, tmp_path / "run", seed=1)
    for out in (tmp_path, tmp_path / "page.txt", tmp_path / "none" / "page.html"):
        assert "--out must be an .html file" in refused(capsys, "report", folder, copy, "--out", out)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_draws_the_plot(folder):
    address = pathlib.Path(folder / "report.html").resolve().as_uri()
    words = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--dump-dom",
        "--virtual-time-budget=4000",
        address,
    ]
    found = subprocess.run(words, capture_output=True, text=True, timeout=120).stdout
    legend = found[found.index('class="legend"') :]
    assert legend.count("<li>") >= 4 and "M" in re.search(r'<path d="([^"]*)" fill="none"', found)[1]
