"""Which of some designs is best on validation runs of further seeds."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from limjax.tuning._abstract_problem import Design
from limjax.tuning._members import TYPICAL_PRICE, Judgement, Member
from limjax.tuning._progress import Progress
from limjax.tuning._variables import raised

# A limit counts as kept within half a percent: the seeds' own scatter is larger.
_FEASIBLE = 0.005
# So many candidates are raised or lowered until they keep the limit, between these shifts [kT], in so many halvings.
# After the last one the shift is known to 8 kT / 2**6, an eighth of a kT. The first one lands on the candidate itself, which is judged.
_CALIBRATED, _SHIFTS, _HALVINGS = 2, (-4.0, 4.0), 6


class Candidate(NamedTuple):
    designs: tuple[Design, ...]
    judgements: tuple[Judgement, ...]

    @property
    def violation(self) -> float:
        # NaN wins, unlike in max().
        return float(np.max([j.violation for j in self.judgements]))

    @property
    def goal(self) -> float:
        return sum(j.goal for j in self.judgements)

    @property
    def merit(self) -> float:
        """What it is worth once its level is put right, at a typical price of the limit."""
        merit = self.goal + TYPICAL_PRICE * sum(j.violation for j in self.judgements)
        # NaN compares false with everything: `sorted` would put it anywhere.
        return merit if math.isfinite(merit) else math.inf

    @property
    def is_broken(self) -> bool:
        # Not `violation > ...`: a NaN must count as broken.
        return not (self.violation <= _FEASIBLE and math.isfinite(self.goal))


class _Jury:
    """Judges designs one after the other, and keeps what it said."""

    def __init__(self, members: Sequence[Member], progress: Progress, planned: int):
        self._members, self._progress, self._planned = members, progress, planned
        self.judged: list[Candidate] = []

    def __call__(self, designs: tuple[Design, ...]) -> Candidate:
        self._progress.did(f"validation of candidate {len(self.judged) + 1} of at most {self._planned}")
        self.judged.append(Candidate(designs, tuple(m.judge(d) for m, d in zip(self._members, designs))))
        self._progress.did(runs=sum(m.selection for m in self._members), program="validation")
        return self.judged[-1]

    @property
    def best(self) -> Candidate | None:
        """The best so far, if any was judged."""
        usable = [c for c in self.judged if math.isfinite(c.violation) and math.isfinite(c.goal)]
        if not usable:
            # Nothing finite: what was judged first, the design that the search started from.
            return self.judged[0] if self.judged else None
        # Among those that break the limit the goal is no guide; the nearest to it is taken.
        return min(usable, key=lambda c: (c.is_broken, c.violation if c.is_broken else c.goal))


def selected(
    members: Sequence[Member], designs: Sequence[tuple[Design, ...]], progress: Progress
) -> tuple[Candidate | None, bool]:
    """The best of some designs on validation runs of further seeds, and whether Ctrl-C ended the choice.

    Under a limit the most promising are first raised or lowered as a whole until they just keep it: the gradient of a noisy
    loss settles the shape of a barrier sooner than its level.
    """
    is_limited = members[0].objective.limited != "nothing"
    jury = _Jury(members, progress, len(designs) + is_limited * _CALIBRATED * _HALVINGS)
    try:
        for each in designs:
            jury(each)
        if is_limited:
            for candidate in sorted(jury.judged, key=lambda c: c.merit)[:_CALIBRATED]:
                _calibrate(members, candidate, jury)
    except KeyboardInterrupt:
        return jury.best, True
    return jury.best, False


def _calibrate(members: Sequence[Member], unmoved: Candidate, jury: _Jury) -> None:
    """Has designs judged on the way to the least whole-barrier shift that keeps the limits, by halving an interval of kT."""
    # A higher barrier lets fewer hops pass, for more heat: up for a limit on the loss, down for one on the energy.
    towards = 1.0 if members[0].objective.limited == "loss" else -1.0
    # `high` keeps the limit once it is judged, `low` is taken not to: halving closes in on the least shift that does.
    low, high = (towards * x for x in _SHIFTS)
    for k in range(_HALVINGS + 1):
        shift = high if k == 0 else 0.5 * (low + high)
        candidate = unmoved
        if shift != 0:
            moved = tuple(raised(design, shift) for design in unmoved.designs)
            if any(design is None for design in moved):
                return
            candidate = jury(moved)  # pyright: ignore[reportArgumentType]  # none of them is None
        if not candidate.is_broken:
            high = shift
        # Not even the end of the interval keeps the limit: what lies between is not worth the runs.
        elif k == 0:
            return
        else:
            low = shift
