"""The words of a page, as a reader sees them."""

import pathlib
import re

DOCS = pathlib.Path(__file__).parents[1] / "docs"


def words_of(page: str) -> str:
    """The text of a page of the docs, with links by their words alone."""
    return re.sub(r"\[([^\]]*)\]\([^)\s]*\)", r"\1", (DOCS / page).read_text())
