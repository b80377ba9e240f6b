"""The table of the frameworks' programs says what was measured, and nothing where nothing was."""

from __future__ import annotations

from typing import Any

from bench.frameworks.table import NOTHING, ROWS, rendered


def report(balance: int, order: list[str], paid: int, calls: int) -> dict[str, Any]:
    """Return what a framework's run prints."""
    return {
        "framework": "Loop",
        "python": "3.11.7",
        "versions": {"loop": "1.2", "client": "3.4"},
        "lines": 2,
        "programs": {
            "two_withdrawals": {"balance": balance},
            "approval_with_siblings": {"balance": balance, "order": order},
            "approval_answered_twice": {"one_by_one": {"paid": 1}, "at_once": {"paid": paid}},
            "effect_before_a_crash": {"paid": paid},
            "fails_for_ever": {"calls": calls, "stopped": "" if calls > 9 else "Refused"},
        },
    }


def cells(table: str) -> list[list[str]]:
    """Return the lines of the table, by cells."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_each_program_stands_with_what_it_did_before_and_after() -> None:
    """Before and after stand side by side, in the order of the programs."""
    before = report(70, ["write_note", "yes", "pay"], 2, 50)
    after = report(20, ["yes"], 1, 3)
    head, _, *lines, changed = cells(rendered([before], [after]))
    assert head == ["program", "right", "Loop 1.2, before", "after"]
    assert [line[2:] for line in lines] == [
        ["70 left", "20 left"],
        ["write_note before the yes, 70 left", "nothing before the yes, 20 left"],
        ["paid once; at once paid 2 times", "paid once; at once paid once"],
        ["paid 2 times", "paid once"],
        ["50 calls, then the end of the measurement", "3 calls, then Refused"],
    ]
    assert changed[2:] == [NOTHING, "2"]


def test_ways_to_pause_are_told_apart() -> None:
    """A framework with several ways to pause has each of them in its cell."""
    one = report(0, [], 1, 1)
    one["programs"]["approval_with_siblings"] = {
        "batched": {"balance": 50, "order": ["yes", "pay"]},
        "per_call": {"balance": 60, "order": ["pay", "yes"]},
    }
    (line,) = [line for line in cells(rendered([one], [])) if line[0] == ROWS[1][1]]
    assert line[2] == (
        "batched: nothing before the yes, 50 left; per_call: pay before the yes, 60 left"
    )


def test_what_was_not_run_is_not_told() -> None:
    """A program or a framework without a measurement has a dash, not a guess."""
    one = report(70, ["yes"], 2, 50)
    del one["programs"]["fails_for_ever"]
    table = cells(rendered([one], []))
    assert table[-2][2:] == [NOTHING, NOTHING]
    assert all(line[3] == NOTHING for line in table[2:])


def test_versions_stand_under_the_table() -> None:
    """Each package is named once, with its version, and so is each Python."""
    one = report(70, ["yes"], 2, 50)
    assert rendered([one, one], []).endswith("\nPython 3.11.7; loop 1.2, client 3.4.\n")
