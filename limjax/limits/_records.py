"""The catalogue: what hardware and training runs cost, each number with its range, year, source and how it was obtained.

The package's own files are `limjax/limits/catalogue/*.toml`; a user's file has the same form and may replace records by
name.
"""

import difflib
import functools
import math
import os
import pathlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from limjax.limits._arguments import chosen
from limjax.numerics.checks import positive_number, whole_number

UNITS = {
    "J/FLOP": 1.0,
    "pJ/FLOP": 1e-12,
    "fJ/FLOP": 1e-15,
    "J/bit": 1.0,
    "nJ/bit": 1e-9,
    "pJ/bit": 1e-12,
    "fJ/bit": 1e-15,
    "J": 1.0,
    "kWh": 3.6e6,
    "MWh": 3.6e9,
    "GWh": 3.6e12,
    "W": 1.0,
    "count": 1.0,
}
"""Units a record may use, and their size in joules, joules per FLOP or bit, watts or ones."""


class Kind(NamedTuple):
    """What a kind of records looks like.

    Attributes:
        unit: how its unit ends, `energy` for an energy, or nothing for any unit.
        required: further numbers that it must have.
        optional: further numbers that it may have.
    """

    unit: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


KINDS = {
    "accelerator": Kind("/FLOP", ("peak_flops", "power_w")),
    "memory_cell": Kind("/bit"),
    "access": Kind("/bit"),
    "run": Kind("energy", ("parameters", "tokens"), ("flops",)),
    "brain": Kind(""),
}
"""Kinds of records by the name of their table."""

HOW = ("datasheet", "measured", "estimated")
"""How a value may have been obtained."""

_COMMON = ("name", "value", "unit", "low", "high", "year", "source", "how")


@dataclass(frozen=True)
class Record:
    """One number of the catalogue.

    Attributes:
        kind: one of `KINDS`.
        name: unique among its kind.
        value: in `unit`.
        unit: one of `UNITS`.
        low: lower end of the range, in `unit`.
        high: upper end of the range, in `unit`.
        year: of the source or of the hardware.
        source: where it was published.
        how: `datasheet`, `measured` or `estimated`.
        note: what else to know.
        details: further numbers of its kind: peak and power of an accelerator, parameters and tokens of a run.
    """

    kind: str
    name: str
    value: float
    unit: str
    low: float
    high: float
    year: int
    source: str
    how: str
    note: str = ""
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def si(self) -> float:
        """The value in joules, joules per FLOP, joules per bit, watts or ones."""
        return self.value * UNITS[self.unit]

    @property
    def range_si(self) -> tuple[float, float]:
        """The range in the same units as `si`."""
        return self.low * UNITS[self.unit], self.high * UNITS[self.unit]

    @property
    def joules_per_flop(self) -> float:
        """Energy per operation: power over peak for an accelerator, energy over FLOP for a run [J/FLOP].

        Raises:
            ValueError: for other kinds.
        """
        if self.kind == "accelerator":
            return self.details["power_w"] / self.details["peak_flops"]
        if self.kind == "run":
            return self.si / self.flops
        raise ValueError(f"{self.name} is a {self.kind}, which has no energy per FLOP.")

    @property
    def flops(self) -> float:
        """FLOP of a training run: as published, else 6 × parameters × tokens.

        Raises:
            ValueError: for other kinds.
        """
        if self.kind != "run":
            raise ValueError(f"{self.name} is a {self.kind}, not a training run.")
        return self.details.get("flops", 6 * self.details["parameters"] * self.details["tokens"])


@dataclass(frozen=True)
class Catalogue:
    """Records by kind and name.

    Attributes:
        records: `{kind: {name: record}}`.

    Example:
        >>> catalogue = load_catalogue()
        >>> f"{catalogue.get('accelerator', 'H100 SXM bf16').joules_per_flop:.3e}"
        '7.078e-13'
    """

    records: Mapping[str, Mapping[str, Record]]

    def of(self, kind: str) -> list[Record]:
        """All records of one kind, in the order of the files.

        Args:
            kind: one of `KINDS`.

        Returns:
            The records.

        Raises:
            ValueError: for an unknown kind.
        """
        chosen(KINDS, kind, "kind")
        return list(self.records.get(kind, {}).values())

    def get(self, kind: str, name: str) -> Record:
        """One record; upper and lower case are the same.

        Args:
            kind: one of `KINDS`.
            name: its name, or a part of it that fits one record alone.

        Returns:
            The record.

        Raises:
            ValueError: for an unknown kind or name; the message lists near names.
        """
        known = {record.name.lower(): record for record in self.of(kind)}
        wanted = name.strip().lower()
        # Before parts of names, as one name may be a part of another: "HBM2", say, beside an "HBM2e" of the user.
        if wanted in known:
            return known[wanted]
        containing = [key for key in known if wanted and wanted in key]
        if len(containing) == 1:
            return known[containing[0]]
        near = containing or _near(wanted, list(known))
        names = ", ".join(known[key].name for key in near or known)
        said = "fits several records" if containing else "is not in the catalogue"
        hint = "Name one of" if containing else ("Near names:" if near else "Known names:")
        raise ValueError(f"{kind.replace('_', ' ')} {name!r} {said}. {hint} {names}.")


def _near(wanted: str, names: list[str]) -> list[str]:
    # Compared by the start as well as as a whole, so that "H10" and "h100sxm" both find "H100 SXM bf16".
    def closeness(name: str) -> float:
        short = name[: max(len(wanted), 3)]
        return max(difflib.SequenceMatcher(None, wanted, text).ratio() for text in (name, short, name.replace(" ", "")))

    ranked = sorted(names, key=closeness, reverse=True)
    return [name for name in ranked if closeness(name) >= 0.6][:4]


def load_catalogue(*files: str | os.PathLike) -> Catalogue:
    """The package's catalogue with a user's files on top.

    A file holds `[[accelerator]]`, `[[memory_cell]]`, `[[access]]`, `[[run]]` or `[[brain]]` tables, each with name,
    value, unit, low, high, year, source and how; accelerators also peak_flops and power_w, runs parameters, tokens and,
    if published, flops. A record with a known name replaces the package's.

    Args:
        files: paths of further TOML files.

    Returns:
        The catalogue.

    Raises:
        ValueError: if a file cannot be read, or a record lacks something or contradicts itself; the message names the
            file and the record.

    Example:
        >>> len(load_catalogue().of("run"))
        8
    """
    # Copies: `_own` is kept for the whole process, and a user's records must not stay in it.
    merged = {kind: dict(records) for kind, records in _own().items()}
    for file in files:
        for record in read_records(file):
            merged.setdefault(record.kind, {})[record.name] = record
    return Catalogue(MappingProxyType({kind: MappingProxyType(records) for kind, records in merged.items()}))


@functools.cache
def _own() -> dict[str, dict[str, Record]]:
    records: dict[str, dict[str, Record]] = {}
    # Sorted, as the order of a folder is that of its file system and would reach the tables.
    for path in sorted((pathlib.Path(__file__).parent / "catalogue").glob("*.toml")):
        for record in read_records(path):
            records.setdefault(record.kind, {})[record.name] = record
    return records


def read_toml(path: pathlib.Path, what: str) -> dict[str, Any]:
    """The content of a TOML file.

    Args:
        path: the file.
        what: what it is, for the message.

    Returns:
        Its tables and values.

    Raises:
        ValueError: if it cannot be read or is no TOML; the message names it.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"The {what} file {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"The {what} file {path} is not valid TOML: {error}.") from None


def read_records(file: str | os.PathLike) -> list[Record]:
    """The records of one TOML file, checked.

    Args:
        file: its path.

    Returns:
        The records.

    Raises:
        ValueError: as `load_catalogue`.
    """
    path = pathlib.Path(file)
    content = read_toml(path, "catalogue")
    records = []
    for kind, tables in content.items():
        if kind not in KINDS:
            raise ValueError(f"{path}: unknown table [[{kind}]]; use one of {', '.join(KINDS)}.")
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise ValueError(f"{path}: write records as [[{kind}]], with two brackets.")
        records += [_record(path, kind, table) for table in tables]
    seen = set()
    for record in records:
        if (record.kind, record.name) in seen:
            raise ValueError(f"{path}: two records of {record.kind} are called {record.name!r}.")
        seen.add((record.kind, record.name))
    return records


def _record(path: pathlib.Path, kind: str, table: Mapping[str, Any]) -> Record:
    where = f"{path}: {kind} {table.get('name', '(without a name)')!r}"
    suffix, required, optional = KINDS[kind]
    allowed = {*_COMMON, "note", *required, *optional}
    missing = [key for key in (*_COMMON, *required) if key not in table]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}. Every record says where its value comes from.")
    unknown = [key for key in table if key not in allowed]
    if unknown:
        raise ValueError(f"{where} has unknown entries: {', '.join(unknown)}. Known: {', '.join(sorted(allowed))}.")
    for key in ("value", "low", "high", *required, *(key for key in optional if key in table)):
        positive_number(table[key], f"{where}: {key}")
    for key in ("name", "source", "unit", "how", *(key for key in ("note",) if key in table)):
        if not isinstance(table[key], str) or not table[key].strip():
            raise ValueError(f"{where}: {key} must be text, got {table[key]!r}.")
    if table["unit"] not in UNITS:
        raise ValueError(f"{where}: unit must be one of {', '.join(UNITS)}, got {table['unit']!r}.")
    is_energy = table["unit"] in ("J", "kWh", "MWh", "GWh")
    if (suffix == "energy" and not is_energy) or (suffix.startswith("/") and not table["unit"].endswith(suffix)):
        expected = "an energy such as MWh" if suffix == "energy" else f"an energy{suffix}"
        raise ValueError(f"{where}: unit must be {expected}, got {table['unit']!r}.")
    if not table["low"] <= table["value"] <= table["high"]:
        raise ValueError(f"{where}: value {table['value']} is outside its range {table['low']} to {table['high']}.")
    if table["how"] not in HOW:
        raise ValueError(f"{where}: how must be one of {', '.join(HOW)}, got {table['how']!r}.")
    whole_number(table["year"], f"{where}: year", 1900, 2100)
    details = {key: float(table[key]) for key in (*required, *optional) if key in table}
    values: dict[str, Any] = {
        key: float(table[key]) if key in ("value", "low", "high") else table[key] for key in _COMMON
    }
    record = Record(kind=kind, **values, note=table.get("note", ""), details=MappingProxyType(details))
    # The tolerance is that of a value written to four digits.
    if kind == "accelerator" and not math.isclose(record.si, record.joules_per_flop, rel_tol=1e-3):
        raise ValueError(
            f"{where}: value {record.value} {record.unit} is not power over peak, {record.joules_per_flop:.4g} J/FLOP."
        )
    return record
