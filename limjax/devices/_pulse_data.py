"""Measured pulses: from a CSV file or arrays to readings, with one clear sentence where they are wrong."""

import csv
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

COLUMNS = {
    "pulse": "number of the pulse, counted on or from the start of each sweep",
    "conductance": "read after it [S]",
    "direction": "up or down (or 1 and -1)",
    "voltage": "of the pulse [V], optional",
    "width": "of the pulse [s], optional",
    "current": "during the pulse [A], optional",
    "device": "which one it is, optional",
    "cycle": "which run through up and down, optional",
}
"""Columns of a file of pulses."""

_REQUIRED = ("pulse", "conductance", "direction")
_UP, _DOWN = (
    ("up", "1", "+1", "1.0", "+", "ltp", "set", "potentiation"),
    ("down", "-1", "-1.0", "-", "ltd", "reset", "depression"),
)
_LARGEST = 10.0  # [S]: no device of a memory has 0.1 ohm
_FEWEST = 5


class Pulses(NamedTuple):
    """Measured pulses, one entry for each reading.

    Attributes:
        pulse: number of the pulse.
        conductance: read after it [S]; NaN where a reading is missing.
        up: whether it was a pulse up.
        series: number of the device and cycle.
        voltage: of the pulse [V], or None.
        width: of the pulse [s], or None.
        current: during the pulse [A], or None.
    """

    pulse: Float[np.ndarray, "readings"]
    conductance: Float[np.ndarray, "readings"]
    up: Bool[np.ndarray, "readings"]
    series: Float[np.ndarray, "readings"]
    voltage: Float[np.ndarray, "readings"] | None
    width: Float[np.ndarray, "readings"] | None
    current: Float[np.ndarray, "readings"] | None


def read_pulses(data: str | os.PathLike[str] | Mapping[str, Any]) -> Pulses:
    """Pulses from a CSV file or from arrays by name.

    Args:
        data: a file whose first line names its columns, or a mapping from these names to arrays: see `COLUMNS`. A line may leave the
            conductance empty where it was not read.

    Returns:
        The pulses.

    Raises:
        ValueError: if a column is missing or a number wrong; the message names column, row and unit.

    Example:
        >>> pulses = read_pulses({"pulse": [0, 1, 2, 3, 4, 5], "conductance": [1e-6, 2e-6, 3e-6, 2e-6, 1e-6, 1e-6],
        ...     "direction": ["up", "up", "up", "down", "down", "down"]})
        >>> pulses.up.tolist()
        [True, True, True, False, False, False]
    """
    where, table = ("The arrays", dict(data)) if isinstance(data, Mapping) else read_table(pathlib.Path(data))
    missing = [name for name in _REQUIRED if name not in table]
    if missing:
        raise ValueError(
            f"{where}: no column {missing[0]!r}; there are {', '.join(map(repr, table)) or 'none'}. It needs pulse (its number), "
            "conductance (in siemens) and direction (up or down), named in the first line; voltage [V], width [s], current [A], device and "
            "cycle may follow."
        )
    lengths = {name: len(column) for name, column in table.items() if name in COLUMNS}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"{where}: columns have different lengths, {', '.join(f'{k} {v}' for k, v in lengths.items())}."
        )
    if lengths["pulse"] < _FEWEST:
        raise ValueError(
            f"{where}: {lengths['pulse']} readings are too few to fit a law of steps; it takes {_FEWEST} at least."
        )
    pulse = numbers_of(where, table, "pulse", "a count")
    conductance = numbers_of(where, table, "conductance", "siemens", gaps=True)
    direction = [_direction(where, row, word) for row, word in enumerate(table["direction"])]
    wrong = np.flatnonzero((conductance < 0) | (conductance > _LARGEST))
    if wrong.size:
        raise ValueError(
            f"{where}, column conductance, row {wrong[0] + 1}: {conductance[wrong[0]]:g} is no conductance in siemens (from 0 to "
            f"{_LARGEST:g}). 1 µS is 1e-6; a resistance in ohm must be inverted."
        )
    # The initial values are for a column without any reading, which comes to the same end.
    if not np.nanmax(conductance, initial=0.0) > np.nanmin(conductance, initial=np.inf):
        raise ValueError(f"{where}, column conductance: all readings are the same, so that there are no steps to fit.")
    optional = {
        name: numbers_of(where, table, name, unit, gaps=True) if name in table else None
        for name, unit in (("voltage", "volts"), ("width", "seconds"), ("current", "amperes"))
    }
    width = optional["width"]
    if width is not None and (wrong := np.flatnonzero(~(width > 0) & ~np.isnan(width))).size:
        raise ValueError(
            f"{where}, column width, row {wrong[0] + 1}: {width[wrong[0]]:g} is no width in seconds. 100 ns are 1e-7."
        )
    # Without both columns there is nothing to zip, and all pulses are one series.
    labels = list(zip(*(list(map(str, table[name])) for name in ("device", "cycle") if name in table))) or [()] * len(
        pulse
    )
    known = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    series = np.array([known[label] for label in labels], np.float64)
    return Pulses(pulse, conductance, np.array(direction), series, **optional)


def read_table(path: pathlib.Path) -> tuple[str, dict[str, list[str]]]:
    """A CSV file whose first line names its columns; empty lines and lines that begin with # are left out.

    Args:
        path: the file.

    Returns:
        What to call it in messages, and its columns as texts.

    Raises:
        ValueError: if it is no such file.
    """
    try:
        # Spreadsheets write a byte order mark, which would become part of the first name.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"There is no file {path}: give a CSV file whose first line names its columns.") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise ValueError(f"{path} is no text file with comma-separated values.") from None
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    rows = list(csv.reader(lines, delimiter=";" if lines and ";" in lines[0] else ","))
    if len(rows) < 2:
        raise ValueError(
            f"{path} holds no readings: it needs a line with the names of its columns and one line for each pulse."
        )
    names = [name.strip().lower() for name in rows[0]]
    # A line of another length may lack any of its values, not only the last.
    short = next((i for i, row in enumerate(rows[1:]) if len(row) != len(names)), None)
    if short is not None:
        raise ValueError(
            f"{path}, row {short + 1}: {len(rows[short + 1])} values, but the first line names {len(names)} columns."
        )
    return str(path), {name: [row[i].strip() for row in rows[1:]] for i, name in enumerate(names)}


def numbers_of(where: str, table: Mapping[str, Any], name: str, unit: str, gaps: bool = False):
    """A column as numbers; what is left empty is NaN, where that may be.

    Raises:
        ValueError: for a word that is no number; the message names file, column, row and unit.
    """
    values = []
    for row, word in enumerate(table[name]):
        is_empty = word is None or (isinstance(word, str) and word.lower() in ("", "nan", "na", "-"))
        try:
            # By way of its text: `float` would take True for 1.
            value = float("nan") if is_empty else float(str(word))
        except (TypeError, ValueError):
            value = None
        if value is None or (not np.isfinite(value) and not (gaps and np.isnan(value))):
            raise ValueError(f"{where}, column {name}, row {row + 1}: expected a number ({unit}), got {word!r}.")
        values.append(value)
    return np.array(values, np.float64)


def _direction(where: str, row: int, word: Any) -> bool:
    text = str(word).strip().lower()
    if text in _UP:
        return True
    if text in _DOWN:
        return False
    raise ValueError(f"{where}, column direction, row {row + 1}: expected up or down (or 1 and -1), got {word!r}.")
