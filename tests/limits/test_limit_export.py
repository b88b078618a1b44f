"""Rows and tables of the limits against the numbers they are made of."""

import csv
import io
import re

import pytest
from command_line import refused, run

from limjax.limits import energy_limits
from limjax.limits._export import _number


def test_rows_are_the_lines_of_every_convention():
    limits = energy_limits(7e9, tokens=2e12)
    rows = list(csv.DictReader(io.StringIO(limits.csv())))
    stacks = [limits.stack, *limits.others]
    assert [s.workload.updates for s in stacks] == ["flop", "token", "optimizer"]
    for stack in stacks:
        for entry in stack.entries:
            update = stack.workload.updates if entry.per_update else ""
            (row,) = [row for row in rows if (row["line"], row["one_update_is_every"]) == (entry.name, update)]
            assert float(row["joules"]) == entry.joules and row["assumptions"] == entry.assumptions
    assert len(rows) == sum(len(s.entries) for s in stacks) - 2 * sum(not e.per_update for e in stacks[0].entries)


def test_the_table_has_the_same_numbers_in_as_many_columns():
    limits = energy_limits(1e15)
    text = limits.latex()
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    count = 1 + len(limits.others)
    assert all(line.count(" & ") in (1, count) for line in lines)
    assert len(lines) == 2 + len(limits.stack.entries)
    row = next(line for line in lines if line.startswith("Landauer"))
    found = [float(f"{a}e{b or 0}") for a, b in re.findall(r"\$([\d.]+)(?:\\times10\^\{(-?\d+)\})?\$", row)]
    expected = [stack.entry("Landauer erasure").joules for stack in (limits.stack, *limits.others)]
    assert found == pytest.approx(expected, rel=0.006)


@pytest.mark.parametrize(
    ("value", "text"), [(999.4, "$999$"), (999.7, r"$1.00\times10^{3}$"), (0.00999, r"$9.99\times10^{-3}$")]
)
def test_numbers_of_the_table(value, text):
    assert _number(value) == text


def test_on_the_command_line(capsys):
    words = ["limits", "--parameters", "7e9", "--tokens", "2e12", "--scaling", "chinchilla"]
    code, out, err = run(capsys, *words, "--csv")
    assert code == 0 and out == energy_limits(7e9, tokens=2e12).csv() and "--scaling chinchilla is not used" in err
    assert "give one of them" in refused(capsys, *words, "--csv", "--latex")
    code, out, _ = run(capsys, *words[:5])
    assert code == 0 and "given     given" not in out and "computation as given" in out
