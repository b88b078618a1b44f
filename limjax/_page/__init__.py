"""The pages that teach what a run dissipated: one file each, with figures and a plot inside, that needs no network."""

from limjax._page._comparison import comparison_page, grouped
from limjax._page._run import run_page

__all__ = ["comparison_page", "grouped", "run_page"]
