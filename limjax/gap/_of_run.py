"""What the run itself says: counters of the machine, pulses of its device, heat of its memory, and the law for its loss."""

from collections.abc import Iterator, Mapping

from limjax.gap._chance import of_hops, of_pulses
from limjax.gap._facts import RunFacts
from limjax.gap._lines import Line

_LEDGER = "the ledger of this run, docs/ledger.md"


def machine(run: RunFacts) -> Iterator[Line]:
    """What counters of the machine said, or what was assumed of it; nothing where there was none."""
    found = run.summary.get("measured")
    if not isinstance(found, Mapping) or not isinstance(found.get("joules"), int | float):
        return
    if found.get("steps") == 0:
        return  # a run that was over when it was resumed
    kind = "measured" if found.get("kind") == "measured" else "estimate"
    # What was measured of a part stands there by that name, and is not what the words compare.
    part = "" if found.get("steps") in (None, run.steps) else f", {found['steps']} of {run.steps} steps"
    seconds = found.get("seconds")
    note = f"{seconds if isinstance(seconds, int | float) else 0.0:.3g} s, compilation and preparation left out"
    named = {"": "machine, training", "above_idle_": "machine, above its idle"}
    for key, name in named.items():
        joules, margin = found.get(f"{key}joules"), found.get(f"{key}uncertainty_joules")
        # Less the idle power a quiet machine may come out below zero, which has no place on a logarithmic scale.
        if isinstance(joules, int | float) and joules > 0:
            ends = (None, None) if margin is None else (max(joules - margin, 0.0), joules + margin)
            yield Line(
                f"machine/{key}joules{part}",
                "machine",
                name + part,
                float(joules),
                kind,
                str(found.get("method")),
                *ends,
                note,
            )


def memory(run: RunFacts) -> Iterator[Line]:
    """Energies of the weight memory: pulses at the device, heat over a static barrier, heat of this run, hops that were drawn."""
    drawn = run.number("device_joules")
    pulsed = run.number("pulses") is not None
    if drawn is not None:
        kind = "model" if run.summary.get("hops") == "mean" else "simulated"
        ends = of_pulses(drawn, run.number("write_joules")) if kind == "simulated" else (None, None)
        chance = "; the interval is what rounding to whole pulses by chance does at most" if ends[0] is not None else ""
        note = f"{run.number('pulses') or 0.0:.3g} pulses; lines and drivers are not in it{chance}"
        source = f"{_LEDGER}, device {run.summary.get('memory_device') or 'of its own'}"
        yield Line("device", "memory", "pulses of its device", drawn, kind, source, *ends, note)
    static = run.joules("static_heat_kt")
    if static and not pulsed:
        note = "the same requests by an ideal drive over a barrier that never moves and holds ten years"
        yield Line("static", "memory", "over a static barrier", static, "model", _LEDGER, note=note)
    work = run.joules("actuation_kt") or 0.0
    drive = "an ideal drive of the moves that its pulses made: " if pulsed else ""
    note = f"{drive}{run.heat_joules:.3g} J of heat and {work:.3g} J of barrier work, both model heat"
    yield Line("heat", "memory", "heat and barrier work", run.memory_joules, "model", _LEDGER, note=note)
    realised = run.joules("realised_heat_kt")
    # Hops against the tilt absorb heat; of few hops the sum may be negative.
    if realised is not None and realised > 0:
        # Of pulses the spread of a move is not that of hops.
        low, high = (None, None) if pulsed else (end * run.kt for end in of_hops(run, realised / run.kt))
        chance = "" if pulsed else "; the interval is the least that other hops for the same requests would make"
        note = f"heat of the hops that were drawn, without barrier work{chance}"
        yield Line("hops", "memory", "heat of the hops drawn", realised, "simulated", _LEDGER, low, high, note)


def law(run: RunFacts) -> Iterator[Line]:
    """2 ln(L0/LT) kT a weight, for the loss of this run."""
    bound = run.joules("bowl_bound_kt_per_parameter")
    if bound is not None and bound > 0:
        note = "2 ln(L0/LT) kT a weight: a bound of a bowl whose loss falls as much, a yardstick of a network"
        yield Line("law", "limit", "LIM law for its loss", bound * run.parameters, "bound", "docs/law.md", note=note)
