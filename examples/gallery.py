"""The figures of the gallery, by the blocks of its page: what is shown there is what its lines draw.

Runs every block of Python of `docs/gallery.md` and keeps the picture that it saves under `docs/figures/gallery/`. Takes some two minutes
on two cores.

    python examples/gallery.py               # all
    python examples/gallery.py cell speed    # these
"""

import argparse
import contextlib
import pathlib
import re
import tempfile

import matplotlib
import matplotlib.pyplot as plt

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "docs/gallery.md"
SAVED = re.compile(r'savefig\("(\w+)\.png"\)')


def blocks() -> dict[str, str]:
    """The programs of the page, by the name of what they draw."""
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return {SAVED.findall(block)[-1]: block for block in found}


def draw(block: str, folder: pathlib.Path) -> None:
    """Runs one program in a folder, as a reader would."""
    with contextlib.chdir(folder), matplotlib.rc_context({"figure.constrained_layout.use": True, "savefig.dpi": 100}):
        exec(compile(block, "<gallery>", "exec"), {"__name__": "__main__"})


def main(names: list[str], out: pathlib.Path) -> None:
    matplotlib.use("agg")
    known = blocks()
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise SystemExit(f"The gallery has no {', '.join(unknown)}; it has {', '.join(known)}.")
    out.mkdir(parents=True, exist_ok=True)
    for name in names or known:
        with tempfile.TemporaryDirectory() as folder:
            draw(known[name], pathlib.Path(folder))
            (out / f"{name}.png").write_bytes((pathlib.Path(folder) / f"{name}.png").read_bytes())
        plt.close("all")
        print(f"{name}.png", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="figures to draw; all if none is named")
    parser.add_argument(
        "--out", type=pathlib.Path, default=ROOT / "docs/figures/gallery", help="folder of the pictures"
    )
    arguments = parser.parse_args()
    main(arguments.names, arguments.out)
