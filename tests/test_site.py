"""The site asks nothing of a network, and its formulas and search work from files."""

import functools
import html
import http.server
import pathlib
import re
import subprocess
import sys
import threading
import urllib.parse

import browser
import pytest
import yaml

from limjax import memory
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


def test_the_page_of_optimizers_begins_with_what_users_call_and_leaves_nothing_out():
    listed = re.findall(r"^        - (\w+)$", (DOCS / "api/optimizer.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(memory.__all__) and listed[0] == "learning_in_memory"


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


needs_a_browser = pytest.mark.skipif(not browser.IS_HERE, reason="needs chromium")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]  # with -q it is strict no longer
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def drawn():
    with browser.chromium() as draw:
        yield draw


@pytest.fixture(params=["file", "http"])
def address(request, site):
    """Where the site begins: as files, or from a server on this machine."""
    if request.param == "file":
        yield site.as_uri()
        return

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.slow
def test_nothing_in_the_site_is_asked_of_a_network(site):
    assert list(site.rglob("*.html"))
    for page in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"?(https?:[^\" >]+)", page.read_text())
        assert [x for x in loaded if "mkdocs" not in x] == [], page


@pytest.mark.slow
@needs_a_browser
def test_a_browser_shows_formulas(drawn, address):
    shown, _ = drawn(f"{address}/physics.html", until="document.querySelector('.katex')")
    assert shown.count('class="katex"') == shown.count('class="arithmatex"') > 50 and "katex-error" not in shown


@pytest.mark.slow
@needs_a_browser
def test_a_browser_finds_words(drawn, address):
    found = r"(\d+) matching documents"
    shown, _ = drawn(f"{address}/index.html?q=landauer", until=f"/{found}/.test(document.body.innerText)")
    assert int(re.search(found, shown)[1]) >= 3 and "glossary.html" in shown and "landauer-line" in shown


@pytest.mark.slow
@needs_a_browser
@pytest.mark.parametrize("page", ["index", "start", "own_loop", "barriers", "physics", "limits", "gallery"])
def test_no_page_is_wider_than_a_phone(drawn, site, page):
    _, overflow = drawn((site / f"{page}.html").as_uri(), width=390)
    assert overflow <= 0


@pytest.mark.slow
@needs_a_browser
def test_every_link_and_figure_of_the_site_is_there(drawn, address, site):
    """As a browser resolves them, with the place on the page; a page or two as it has them after its scripts ran."""
    pages = {page.relative_to(site).as_posix(): page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    pages |= {name: drawn(f"{address}/{name}")[0] for name in ("index.html", "howto.html")}
    pages.pop("404.html")  # its addresses are those of the published site
    places = {name: set(re.findall(r"\bid=\"?([^\" >]+)", text)) for name, text in pages.items()}
    for name, text in pages.items():
        for target in re.findall(r"<(?:a|img)\b[^>]*?\b(?:href|src)=\"?([^\" >]+)", text):
            path, _, place = urllib.parse.urljoin(f"{address}/{name}", html.unescape(target)).partition("#")
            if not path.startswith(address):
                assert re.match(r"https?:|mailto:", path), f"{name}: {target}"
                continue
            inside = urllib.parse.unquote(path.removeprefix(f"{address}/").partition("?")[0]) or "index.html"
            assert (site / inside).is_file(), f"{name}: {target}"
            known = not place or inside not in places or urllib.parse.unquote(place) in places[inside]
            assert known or place.startswith("__"), f"{name}: {target}"
