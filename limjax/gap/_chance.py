"""How far chance moves what was simulated: within one run from its own counts, between runs from their seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from limjax.gap._facts import RunFacts
from limjax.gap._lines import Line

NORMAL_95 = 1.96
_SIMULATED = {"device": "device_joules", "hops": "realised_heat_kt"}
"""Lines that are drawn by chance, and what the summary calls them."""


def of_hops(run: RunFacts, realised_kt: float) -> tuple[float, float]:
    """95 % interval of the heat of the hops, for the requests of this run.

    Hops of a step with mean d and variance A at the affinity F release a heat of mean dF and variance F²A = dF · F coth(F/2), as
    d = A tanh(F/2). Summed with the mean affinity Σ dF/Σ|d| that is the least it can be: F coth(F/2) is convex and above 2, which is the
    thermodynamic uncertainty relation.

    Args:
        run: its closed-form heat and path.
        realised_kt: heat of the hops that were drawn [kT].

    Returns:
        Lower and upper end [kT].
    """
    heat = run.heat_joules / run.kt
    affinity = heat / run.path_levels if run.path_levels > 0 else 0.0
    # F coth(F/2) tends to 2, as 0/0.
    factor = 2.0 if affinity < 1e-6 else affinity / math.tanh(affinity / 2)
    margin = NORMAL_95 * math.sqrt(factor * heat)
    return max(realised_kt - margin, 0.0), realised_kt + margin


def of_pulses(joules: float, write_joules: float | None) -> tuple[float, float] | tuple[None, None]:
    """95 % interval of the joules of pulses, for the requests of this run.

    A request is rounded by chance, which varies by r(1 - r) with r what is behind its point. Where the pulse more, or the word that is
    rewritten, takes e, the joules vary by e²r(1 - r), at most by the largest e times what the request takes in the mean, er: so all of
    them by at most the root of the largest e times their joules.

    Args:
        joules: of the pulses [J].
        write_joules: the largest e (`AbstractCell.write_joules`) [J].

    Returns:
        Lower and upper end [J].
    """
    if write_joules is None or not write_joules > 0:
        return None, None
    margin = NORMAL_95 * math.sqrt(write_joules * joules)
    return max(joules - margin, 0.0), joules + margin


def over_seeds(lines: Sequence[Line], run: RunFacts, others: Sequence[Mapping[str, Any]]) -> tuple[list[Line], str]:
    """The lines with intervals from runs of other seeds where energies are simulated.

    Args:
        lines: of the run.
        run: the run.
        others: summaries of runs that differ from it in the seed alone.

    Returns:
        The lines; what is simulated in two runs or more has the interval that holds another seed with 95 % (Student's t), and what that is
        in words, or nothing.
    """
    from scipy.special import stdtrit

    # One of each seed: the same run given twice would count as agreement. This run comes last and stands for its seed.
    summaries = list({repr(one.get("seed")): one for one in (*others, run.summary)}.values())
    count, found, said = len(summaries), [], []
    for line in lines:
        facts = [RunFacts.of(one, run.name) for one in summaries] if line.key in _SIMULATED else []
        key = _SIMULATED.get(line.key, "")
        values = [fact.joules(key) if key.endswith("_kt") else fact.number(key) for fact in facts]
        known = [value for value in values if value is not None]
        # A mean over some of the seeds would be given out as one over all.
        if len(known) < 2 or len(known) < count:
            found.append(line)
            continue
        mean = math.fsum(known) / count
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (count - 1))
        # Where another run will lie, not where the mean does: its own scatter and that of the mean.
        margin = float(stdtrit(count - 1, 0.975)) * deviation * math.sqrt(1 + 1 / count)
        alone = line.note.partition("; the interval is")[0]  # what chance does within one run is said of one run
        note = f"{alone}; the interval holds another seed with 95 %, from {count} seeds"
        found.append(replace(line, low=max(mean - margin, 0.0), high=mean + margin, note=note))
        said.append(f"{line.name} {mean:.3g} J ± {100 * deviation / mean if mean > 0 else 0.0:.2g} %")
    text = f"Over {count} seeds (mean ± standard deviation): {', '.join(said)}." if said else ""
    return found, text
