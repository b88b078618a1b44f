"""The gap in words: how many orders lie between which lines, and what each of them is made of."""

from collections.abc import Mapping, Sequence

from limjax.gap._facts import RunFacts
from limjax.gap._lines import Line, orders


def gap_words(run: RunFacts, lines: Sequence[Line], bits: int) -> tuple[str, ...]:
    """Sentences about the lines of a run.

    Args:
        run: the run.
        lines: of it.
        bits: of a word that is written.

    Returns:
        One sentence for the whole gap, and one for each wall that there is.
    """
    by_key = {line.key: line for line in lines}
    said = [
        _whole(by_key), _machine(by_key), _memory_wall(by_key), _update_wall(run, by_key, bits), _driver(by_key),
        _consolidation_wall(by_key), _to_the_law(by_key),
    ]  # fmt: skip
    return tuple(sentence for sentence in said if sentence)


def _whole(lines: Mapping[str, Line]) -> str:
    top = lines.get("machine/joules") or lines.get("arithmetic")
    # Every run has a line "heat", so that there is a least.
    bottom = min((lines[key] for key in ("law", "heat") if key in lines), key=lambda line: line.joules)
    if top is None:
        return ""
    gap = orders(top.joules, bottom.joules)
    if gap is None:
        return ""
    return f"From {_named(top)} to {_named(bottom)} lie {gap:.1f} orders of magnitude."


def _named(line: Line) -> str:
    return f"{line.name} ({line.joules:.2g} J, {line.kind})"


def _machine(lines: Mapping[str, Line]) -> str:
    top, bottom = lines.get("machine/joules"), lines.get("arithmetic")
    gap = None if top is None or bottom is None else orders(top.joules, bottom.joules)
    if top is None or gap is None:
        return ""
    return f"Machine: {gap:.1f} orders from its energy ({top.kind}) down to the arithmetic at peak: idle units, host, and ledger and hops that are simulated."


def _memory_wall(lines: Mapping[str, Line]) -> str:
    reads = [line for key, line in lines.items() if key.startswith("read/")]
    if not reads:
        return ""
    span = _span(reads, lines["heat"])
    return (
        "" if span is None else f"Memory wall: reading the weights takes {span} orders more than the heat of this run."
    )


def _update_wall(run: RunFacts, lines: Mapping[str, Line], bits: int) -> str:
    span = _span([line for line in lines.values() if line.group == "write"], lines["heat"])
    if span is None:
        return ""
    text = f"Update wall: writing them {span} orders"
    # Orders add up: bits rewritten over levels moved, times the price of a bit over the heat of a level.
    precision = orders(float(run.parameters) * run.steps * bits, run.path_levels)
    if precision is not None:
        text += f", of which {precision:.1f} are precision ({bits} bits rewritten where an update moves {_per_update(run):.2g} levels) and the rest the price of a write"
    return text + "."


def _per_update(run: RunFacts) -> float:
    return run.path_levels / max(run.parameters * run.steps, 1)


def _driver(lines: Mapping[str, Line]) -> str:
    device, static, heat = lines.get("device"), lines.get("static"), lines["heat"]
    if device is not None:
        gap = orders(device.joules, heat.joules)
        return (
            ""
            if gap is None
            else f"Driver: the pulses of its device take {gap:.1f} orders more than an ideal drive of the same moves."
        )
    zoo = [line for line in lines.values() if line.group == "pulses"]
    if static is None or not zoo:
        return ""
    span, wall = _span(zoo, static), orders(static.joules, heat.joules)
    if span is None or wall is None:
        return ""
    return f"Driver: the pulses of the zoo take {span} orders more than an ideal drive over a barrier of ten years, and that barrier takes {wall:.1f} orders more than the one of this run."


def _consolidation_wall(lines: Mapping[str, Line]) -> str:
    copies = [line for key, line in lines.items() if key.startswith("keep/") and line.kind == "estimate"]
    raised = lines.get("keep/barrier")
    span = None if raised is None else _span(copies, raised)
    return (
        ""
        if span is None
        else f"Consolidation wall: copying the result once takes {span} orders more than raising the barriers."
    )


def _to_the_law(lines: Mapping[str, Line]) -> str:
    law, heat, landauer = lines.get("law"), lines["heat"], lines.get("landauer")
    gap = None if law is None else orders(heat.joules, law.joules)
    if gap is None:
        return ""
    if gap >= 0:
        text = f"What is left, {gap:.1f} orders from this run down to the law, is haste, noise of the gradients, and barriers that are not the best"
    else:
        text = f"The run lies {-gap:.1f} orders below the law: that holds for a bowl, in which every weight has to come as far as the loss fell"
    below = None if landauer is None else orders(landauer.joules, heat.joules)
    if below is not None:
        text += f"; Landauer's line, which counts a bit for every weight and step, lies {abs(below):.1f} orders {'above' if below > 0 else 'below'} this run"
    return text + "."


def _span(lines: Sequence[Line], under: Line) -> str | None:
    """Orders from the thriftiest and from the thirstiest of some lines down to another, with their names."""
    known = sorted((gap, line.name) for line in lines if (gap := orders(line.joules, under.joules)) is not None)
    if not known:
        return None
    (least, first), (most, last) = known[0], known[-1]
    return (
        f"{least:.1f} ({_bare(first)})"
        if len(known) == 1
        else f"{least:.1f} ({_bare(first)}) to {most:.1f} ({_bare(last)})"
    )


def _bare(name: str) -> str:
    return name.removeprefix("from ").removeprefix("to ").removeprefix("copied once to ")
