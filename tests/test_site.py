"""The site asks nothing of a network, and its formulas and search work from files."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from limjax.barriers import barrier_names

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"


class Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, whose Python tags mean nothing here."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
SETTINGS = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)


def test_what_pages_load_lies_in_the_site():
    loaded = [*SETTINGS["extra_javascript"], *SETTINGS["extra_css"], *SETTINGS["extra"]["polyfills"]]
    assert len(loaded) >= 4 and [name for name in loaded if not (DOCS / name).is_file()] == []
    assert SETTINGS["theme"]["font"] is False and "offline" in SETTINGS["plugins"]
    for name in loaded:
        content = (DOCS / name).read_text(encoding="utf-8")
        for address in re.findall(r"url\(([^)]*)\)", content) if name.endswith(".css") else ():
            assert ((DOCS / name).parent / address).is_file(), address
        assert not re.search(r"""(src|href|import|fetch)\W{1,3}https?:""", content), name
    for package in ("katex", "iframe-worker"):
        assert "MIT" in (DOCS / "assets" / package / "LICENSE").read_text(encoding="utf-8")


def test_every_page_is_on_the_path():
    def leaves(nav):
        for item in nav:
            value = next(iter(item.values())) if isinstance(item, dict) else item
            yield from leaves(value) if isinstance(value, list) else [value]

    listed = list(leaves(SETTINGS["nav"]))
    assert len(listed) == len(set(listed))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - {"assets/README.md"}
    assert pages == set(listed)
    assert [next(iter(item)) for item in SETTINGS["nav"]][:4] == ["Home", "Start", "Tutorials", "How-to"]


def test_every_page_says_first_what_it_is_good_for():
    """In the first two sentences of a page that is no table of results and no list of an API, the reader is told what they can do."""
    for path in sorted(DOCS.glob("*.md")):
        paragraph = re.sub(r"\s+", " ", path.read_text(encoding="utf-8").split("\n\n")[1])
        first_two = " ".join(re.split(r"(?<=[.?!:])\s", paragraph)[:2])
        assert re.search(r"\byou (can|will|find|get|see|look)\b", first_two, re.I), f"{path.name}: {first_two}"


TERMS = {
    "kt": "kT", "level": "levels?", "exchange": "exchange", "activity": "activity", "actuation": "actuation", "hop": "hops?",
    "affinity": "affinity", "retention": "retention", "attempt-rate": "attempt rates?",
}  # fmt: skip
# Programs, headings, rows of tables, figures, other links, code, formulas and units in brackets are no first use in the text.
NO_TEXT = re.compile(
    r"```.*?```|^#[^\n]*$|^\|[^\n]*$|!\[[^\]]*\]\([^)]*\)|\[[^\]]*\]\([^)]*\)|`[^`\n]*`|\\\(.*?\\\)|\\\[.*?\\\]|<[^>\n]*>"
    r"|\[[a-zA-Z]*(?:levels|kT)[^\]]*\]",
    re.DOTALL | re.MULTILINE,
)


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_a_word_of_the_glossary_leads_there_where_it_is_first_used(path):
    if path.stem in ("glossary", "architecture", "index"):  # itself, a page of rooms, and one of doors
        pytest.skip("uses words before they are needed")
    page = path.read_text(encoding="utf-8")
    text = NO_TEXT.sub(lambda match: "\0" * len(match[0]), page)
    for entry, word in TERMS.items():
        used = re.search(rf"(?<![\w-]){word}(?![\w-])", text)
        link = page.find(f"](glossary.md#{entry})")
        assert used is None or 0 <= link < used.start(), f"{path.name}: link {used[0]!r} to glossary.md#{entry}"


def test_the_decision_figure_takes_barriers_that_there_are():
    """The same barriers as its table, by their names; and the table has a row for each of them."""
    figure = (DOCS / "figures/which_barrier.svg").read_text(encoding="utf-8")
    page = (DOCS / "barriers.md").read_text(encoding="utf-8")
    table = page[page.index("## Which barrier should I take?") : page.index("## When to take which")]
    rows = {
        name
        for row in re.findall(r"^\| .* \| (`.*) \| .* \|$", table, re.MULTILINE)
        for name in re.findall(r"`([a-z-]+)`", row)
    }
    named = {name for name in barrier_names() if re.search(rf"[>: ]{name}[.<, ]", figure)}
    assert named == rows and named >= {"static", "moment", "lyapunov"}


def gallery():
    """Figure and program of each entry."""
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    return re.findall(r"^!\[[^\]]+\]\((\S+\.png)\)[^\n]*\n\n```python\n(.*?)```", page, re.DOTALL | re.MULTILINE)


def test_the_gallery_shows_what_ten_lines_draw():
    assert len(gallery()) >= 10
    for picture, block in gallery():
        assert f'savefig("{pathlib.Path(picture).name}")' in block and (DOCS / picture).stat().st_size < 200_000
        assert len([line for line in block.splitlines() if line.strip()]) <= 10, picture
    shown = re.findall(r"\]\((figures/gallery/\S+)\)", (DOCS / "gallery.md").read_text(encoding="utf-8"))
    kept = {f"figures/gallery/{path.name}" for path in (DOCS / "figures/gallery").iterdir()}
    assert set(shown) == kept and len(shown) == 2 * len(gallery())  # small on top, and beside its program


def drawn(address):
    """A page as a browser has it after its scripts ran."""
    words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--virtual-time-budget=15000"]
    return subprocess.run([*words, address], capture_output=True, text=True, timeout=120).stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_shows_formulas_of_the_built_site(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    assert list((tmp_path / "site").rglob("*.html"))
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"?(https?:[^\" >]+)", page.read_text())
        assert [x for x in loaded if "mkdocs" not in x] == [], page
    address = (tmp_path / "site" / "physics.html").as_uri()
    shown = drawn(address)
    assert shown.count('class="katex"') == shown.count('class="arithmatex"') > 50 and "katex-error" not in shown
    assert (tmp_path / "site" / "search" / "search_index.js").stat().st_size > 10_000
    # Search works in files too.
    assert "matching documents" in drawn(f"{(tmp_path / 'site' / 'index.html').as_uri()}?q=landauer")
