"""What the page on observability shows of the command line is what that prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.docs.test_snippets import BLOCK, ROOT, blocks
from undercroft.cli.main import app
from undercroft.queries import list_turns

PAGE = ROOT / "docs" / "observability.md"
TURN = re.compile(r"t-[0-9a-f]{11}-[0-9a-f]{12}")
# What is another one each time, and how much room it takes.
PASSING = [
    (TURN, "TURN"),
    (re.compile(r"…[0-9a-f]{9,10}\b"), "…TURN"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|\d\d-\d\d \d\d:\d\d|\d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"<0\.1 ms|\d+(?:\.\d+)? (?:ms|s)\b"), "DURATION"),
    (re.compile(r"[━┄]+"), "━"),
    (re.compile(r"◆ critical path|◆"), ""),
    (re.compile(r"parallel .*? What did", re.DOTALL), "What did"),
    (re.compile(r"\s+"), " "),
]


def lasting(text: str) -> str:
    """Return what of a text is the same each time."""
    for pattern, name in PASSING:
        text = pattern.sub(name, text)
    return text.strip()


def test_the_commands_of_the_page_print_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them, on the journal that the page's own Python makes; times and ids apart."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNDERCROFT_DB", raising=False)
    code = compile(blocks(PAGE, "python"), str(PAGE), "exec", dont_inherit=True)
    exec(code, {"__name__": "snippet"})  # noqa: S102  our own page
    text = PAGE.read_text(encoding="utf-8")
    ours = sorted(head.turn_id for head in list_turns("shop.db"))
    theirs = sorted(set(TURN.findall(text)))
    assert len(theirs) == len(ours)
    shown = [said for language, said in BLOCK.findall(text) if language == "console"]
    assert len(shown) > 5
    for block in shown:
        command, _, said = block.partition("\n")
        for their, our in zip(theirs, ours, strict=True):
            command = command.replace(their, our)
        words = command.removeprefix("$ undercroft ").split()
        result = CliRunner().invoke(app, words, env={"COLUMNS": "80"})
        assert not result.stderr, result.stderr
        assert lasting(result.stdout) == lasting(said), command
