"""The gap from the wall socket to the limit: every energy of the same training on one scale, each of its own kind."""

from limjax.gap._facts import RunFacts
from limjax.gap._flops import with_flops
from limjax.gap._gap import Gap, energy_gap, grouped
from limjax.gap._lines import GROUPS, KINDS, Line
from limjax.gap._tables import gap_csv, gap_html, gap_latex, gap_text

__all__ = [
    "GROUPS",
    "KINDS",
    "Gap",
    "Line",
    "RunFacts",
    "energy_gap",
    "gap_csv",
    "gap_html",
    "gap_latex",
    "gap_text",
    "grouped",
    "with_flops",
]
