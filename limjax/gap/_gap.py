"""The gap of a run: every energy of the same training on one scale, from the wall socket to the limit."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from limjax.devices import Device, device_names, get_device
from limjax.gap import _counted, _of_run
from limjax.gap._chance import over_seeds
from limjax.gap._facts import RunFacts
from limjax.gap._lines import GROUPS, Line
from limjax.gap._words import gap_words
from limjax.limits import Catalogue, load_catalogue
from limjax.numerics.checks import positive_number, whole_number

_HARDWARE = "H100 SXM bf16"
_MOST = 1e12  # windows and reads beyond it are slips of the pen


@dataclass(frozen=True)
class Gap:
    """Energies of one training, each of its own kind and never added.

    Attributes:
        run: what is known of the run.
        lines: the energies, in groups, the dearest of a group first.
        conventions: what was counted, a sentence each.
        missing: what is not known and has no line, a sentence each.
        words: how many orders lie between which lines, a sentence each.
    """

    run: RunFacts
    lines: tuple[Line, ...]
    conventions: tuple[str, ...]
    missing: tuple[str, ...]
    words: tuple[str, ...]

    def line(self, key: str) -> Line:
        """One line.

        Args:
            key: `heat`, `law`, `write/DRAM` and so on.

        Returns:
            The line.

        Raises:
            ValueError: if the run has none of that name.
        """
        for line in self.lines:
            if line.key == key:
                return line
        raise ValueError(f"{self.run.name} has no line {key!r}. It has {', '.join(line.key for line in self.lines)}.")

    def as_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        facts = {key: value for key, value in vars(self.run).items() if key != "summary"}
        return {
            **facts,
            "lines": [asdict(line) for line in self.lines],
            "conventions": list(self.conventions),
            "missing": list(self.missing),
            "words": list(self.words),
        }


def energy_gap(
    summary: Mapping[str, Any],
    *,
    name: str = "this run",
    hardware: str = _HARDWARE,
    bits: int | None = None,
    weight_range: float = 2.0,
    reads: float = 2.0,
    devices: Sequence[Device] | None = None,
    catalogue: Catalogue | None = None,
    seeds: Sequence[Mapping[str, Any]] = (),
) -> Gap:
    """Every energy of the same training on one scale.

    Measured joules of the machine, the arithmetic at the peak of an accelerator, reading and writing the weights in every memory of
    the catalogue, the same updates by pulses in every device of the zoo, and the heat of the run beside the law and Landauer's line.

    Args:
        summary: content of the run's `summary.json`, or `TrainResult.summary`.
        name: what to call the run.
        hardware: accelerator of the catalogue that does the arithmetic.
        bits: of a word that holds a weight; None for as many as tell the run's levels apart in the window. [bits]
        weight_range: width of the window of weights, which devices have from one end to the other. [weight units]
        reads: how often a step reads each weight.
        devices: memories written by pulses; None for the zoo.
        catalogue: of hardware; None for the package's.
        seeds: summaries of runs that differ in the seed alone: what was simulated has its interval from them.

    Returns:
        The gap.

    Raises:
        ValueError: if the summary is not that of a run, or a name or number is wrong.

    Example:
        >>> import limjax
        >>> summary = limjax.train("quadratic", hops="mean", steps=50, compare=()).summary
        >>> gap = energy_gap(summary)
        >>> gap.line("law").kind, gap.line("write/DRAM").joules > gap.line("heat").joules
        ('bound', True)
    """
    run = RunFacts.of(summary, name)
    records = load_catalogue() if catalogue is None else catalogue
    chip = records.get("accelerator", hardware)
    width = positive_number(
        weight_range, "weight_range", "It is from the lowest to the highest weight, for example 2.", high=_MOST
    )
    times = positive_number(reads, "reads", "It is how often a step reads each weight, for example 2.", high=_MOST)
    word = run.word_bits(width) if bits is None else whole_number(bits, "bits", 1, 64)
    asked = [get_device(known) for known in device_names()] if devices is None else list(devices)
    priced = {device.name: _counted.pulses(run, device, width, records) for device in asked}
    lines = (
        *_of_run.machine(run),
        *_counted.arithmetic(run, chip),
        *_counted.reading(run, records, word, times),
        *_counted.writing(run, records, word),
        *(line for line in priced.values() if line is not None),
        *_counted.keeping(run, records, word),
        *_of_run.memory(run),
        *_of_run.law(run),
        _counted.landauer(run),
    )
    order = {group: place for place, group in enumerate(GROUPS)}
    ordered = tuple(sorted(lines, key=lambda line: (order[line.group], -line.joules)))
    # Of this run alone, before other seeds change intervals; the quotients are of energies, not of intervals.
    words = gap_words(run, ordered, word)
    if seeds:
        ordered, chance = over_seeds(ordered, run, seeds)
        words = (*words, *filter(None, [chance]))
    unpriced = [known for known, line in priced.items() if line is None]
    return Gap(
        run,
        tuple(ordered),
        _conventions(run, word, width, times, bits is None),
        _missing(run, unpriced),
        words,
    )


def grouped(gaps: Sequence[Gap]) -> dict[str, list[str]]:
    """Keys of the lines of several runs by group, the dearest of a group first.

    Args:
        gaps: one for each run.

    Returns:
        Keys by group, of groups that have any.
    """
    found: dict[str, dict[str, float]] = {group: {} for group in GROUPS}
    for gap in gaps:
        for line in gap.lines:
            known = found[line.group]
            # One order for all columns: a line stands where its dearest run puts it.
            known[line.key] = max(line.joules, known.get(line.key, 0.0))
    return {group: sorted(keys, key=lambda key: -keys[key]) for group, keys in found.items() if keys}


def _conventions(run: RunFacts, bits: int, width: float, reads: float, by_lsb: bool) -> tuple[str, ...]:
    updates = f"{run.parameters:,} weights × {run.steps:,} steps"
    return (
        f"{updates}, a weight a word of {bits} bits"
        + (f", which tell levels of {run.lsb:.3g} apart in a window of {width:g}" if by_lsb else ""),
        f"Reading: every word {reads:g} times a step. Writing: every word at every step. Keeping: every word once",
        f"Pulses: what the optimizer moved, {run.path_levels:.3g} levels in all, in the device's own nominal pulses over that window; memories of "
        "words of bits rewrite a word where its rounded level changes, at most",
        "Published energies are those of cells: lines and drivers add 10 to 100 times. Computing gradients is in the machine and in the "
        "arithmetic alone",
    )


def _missing(run: RunFacts, unpriced: Sequence[str]) -> tuple[str, ...]:
    said = []
    measured = run.summary.get("measured")
    if not isinstance(measured, Mapping):
        said.append("the machine's energy was not measured (limjax train --measure)")
    elif measured.get("joules") is None:
        said.append(f"the machine's energy: {str(measured.get('reason')).rstrip('.')}")
    if run.flops_per_step is None:
        said.append("the FLOP of a step are not known: no line for arithmetic")
    if run.number("pulses") is not None and run.number("device_joules") is None:
        said.append("nobody gave the energy of a pulse of this run's device")
    if unpriced:
        said.append(f"nobody gave the energy of a pulse of {', '.join(unpriced)}")
    if run.number("bowl_bound_kt_per_parameter") is None:
        said.append("the loss did not fall, or is not known: no line for the law")
    return tuple(said)
