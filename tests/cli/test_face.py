"""The face itself: help, version, errors, and text made harmless."""

from __future__ import annotations

import re
import shlex
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from tests.cli.conftest import EMAIL, Face
from undercroft.cli.console import columns, set_command
from undercroft.cli.plain import to_json
from undercroft.cli.safe import brief, cut, named, safe, took

COMMANDS = ["run", "resume", "approve", "reject", "settle", "turns", "show", "check", "demo"]
WILD = st.text(st.characters(codec=None), max_size=60)
DATA: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WILD | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WILD, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(face: Face, name: str) -> None:
    """Help fits 80 columns and shows one example, which names the command."""
    result = face.use(name, "--help")
    assert result.exit_code == 0
    assert f"Example: undercroft {name}" in " ".join(result.stdout.split())
    assert all(cell_len(line) <= 80 for line in result.stdout.splitlines())
    assert name in face.use("--help").stdout


def test_the_version_is_one_line(face: Face) -> None:
    """`--version` prints the name and the version."""
    result = face.use("--version")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)
    assert result.stdout.startswith("undercroft ")


def test_a_traceback_is_shown_only_on_demand(face: Face) -> None:
    """An error is one message; --traceback shows where it comes from."""
    assert "Traceback" not in face.use("show", "last").stderr
    asked = face.use("--traceback", "show", "last")
    assert asked.exit_code == 2
    assert "Traceback" in asked.stderr
    assert "StoreError" in asked.stderr


def test_a_bug_is_told_as_one(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw is exit code 2 and not 1, which means findings."""
    face.use("run", "app.py:order", "--input", EMAIL)
    monkeypatch.setenv("COLUMNS", "80")
    from undercroft.cli import reading  # noqa: PLC0415  only here

    def broken(*_: object, **__: object) -> None:
        raise KeyError("\x1b[31mlost")

    monkeypatch.setattr(reading, "read_turn", broken)
    result = face.use("show", "last")
    assert result.exit_code == 2
    assert "That should not happen" in result.stderr
    assert "\x1b" not in result.stderr


def test_no_colours_without_a_terminal(face: Face) -> None:
    """What is piped holds no escape sequences, so it can be searched and compared."""
    result = face.process("run", "app.py:order", "--input", EMAIL)
    assert "\x1b" not in result.stdout + result.stderr
    assert result.stdout.startswith("◌ waiting  t-")


@given(WILD)
def test_safe_text_only_prints(text: str) -> None:
    """Nothing is left that moves, hides, reorders or cannot be encoded; letters stay."""
    shown = safe(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\U000e0000-\U000e007f]", shown)
    shown.encode()
    assert safe(shown) == shown
    assert len(safe(text, lines=True).splitlines()) <= len(text) + 1


@given(WILD, st.integers(1, 40))
def test_cut_text_fits(text: str, width: int) -> None:
    """What is cut is as wide as asked at most, in columns and not in characters."""
    assert cell_len(cut(safe(text), width)) <= width


@given(DATA, st.integers(40, 80))
def test_any_value_fits_on_a_line(value: Any, width: int) -> None:
    """A value of any size is one harmless line of the width there is."""
    for text in (brief(value, width), named({"name": value, "other": value}, width)):
        assert cell_len(text) <= width
        assert safe(text) == text
    assert cell_len(named({"name": value}, width)) <= width


@given(DATA)
def test_any_value_is_json(value: Any) -> None:
    """--json never fails and never holds a control character."""
    if isinstance(value, str) and any(unicodedata.category(c) == "Cs" for c in value):
        return  # no journal holds half a character: it could not be written
    try:
        text = to_json(value)
    except UnicodeEncodeError:
        return  # likewise, further inside
    assert not [c for c in text if unicodedata.category(c) == "Cc" and c != "\n"]


@given(st.floats(0, 1e9))
def test_durations_are_short(seconds: float) -> None:
    """A duration fits its column and never reads as nothing."""
    text = took(seconds)
    assert 0 < len(text) <= 9
    assert not re.match(r"0(\.0*)? ", text)


@given(st.lists(WILD.filter(bool), min_size=1, max_size=6), st.integers(40, 100))
def test_a_printed_command_is_safe_to_copy(values: list[str], width: int) -> None:
    """A shell that is given a printed command gets those words, and runs nothing else."""
    words = ["undercroft", "resume", *values, "--db", "a b.db"]
    text = set_command(words, width, "    ").plain
    assert shlex.split(text.replace("\\\n", " ")) == [safe(word) for word in words]


@given(st.lists(WILD, min_size=2, max_size=4))
def test_cells_stand_in_their_columns(cells: list[str]) -> None:
    """Each cell begins where it should, whatever stands before it."""
    line = columns(*((Text(safe(cell)), 10) for cell in cells)).plain
    assert cell_len(line) <= 10 * len(cells)
