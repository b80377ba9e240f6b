"""The ledger on recorded conversations: what users stated fits in its share, and all of it.

The recordings are read in place and nothing of them is kept. Identifiers are found by rules that
have nothing in common with those of the ledger.
"""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from undercroft.layers.context.identifiers.ledger import Ledger

TRACES = Path(__file__).parents[4] / "shared" / "data" / "traces"
SESSION_CHARS_MIN = 80_000  # about 20 k tokens
TOKENS_MAX = 1000
RULES = [
    re.compile(rule)
    for rule in (
        r"[\w.+-]+@[\w-]+\.\w+",
        r"#?\w*\d\w*",
        r"\b[a-z]+(?:_[a-z0-9]+)+\b",
        r"\b[A-Z]{3,}\b",
        r"\$\d+(?:,\d{3})*(?:\.\d+)?",
        r"\b(?:May|June) \d{1,2}\b",
        r"(?<=[a-z,] )[A-Z][a-z]{2,}(?: [A-Z][a-z]+)*\b",
        r"\d{4}-\d\d-\d\d",
    )
]


def count(text: str) -> int:
    """Return more tokens than there are: ids have about three characters each."""
    return -(-len(text) // 3)


def sessions(name: str) -> list[list[dict[str, Any]]]:
    """Return the conversations of a set, stitched into long sessions."""
    path = TRACES / name / "traces.jsonl.gz"
    if not path.exists():
        pytest.skip(f"the recorded traces are not beside the project: {path}")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        talks = [json.loads(line)["messages"] or [] for line in lines]
    found: list[list[dict[str, Any]]] = [[]]
    for talk in talks:
        found[-1] += [message for message in talk if message["role"] != "system"]
        if sum(len(str(message.get("content"))) for message in found[-1]) > SESSION_CHARS_MIN:
            found.append([])
    return found[:-1]


@pytest.mark.parametrize("name", ["tau_airline", "tau_retail"])
def test_no_value_that_a_user_stated_is_lost(name: str) -> None:
    """With every message gone, a thousand tokens of ledger hold all that users stated."""
    for session in sessions(name):
        ledger = Ledger()
        stated: dict[str, str] = {}
        for item, message in enumerate(session):
            text = str(message.get("content") or "")
            if message["role"] == "user":
                ledger.user(item, text)
                stated |= {v.casefold(): v for rule in RULES for v in rule.findall(text)}
            elif message["role"] == "tool":
                ledger.result(item, str(message.get("name")), text)
            for call in message.get("tool_calls") or []:
                asked = call["function"]
                ledger.call(item, asked["name"], asked["arguments"])

        text = ledger.render(TOKENS_MAX, count, lambda _: True)

        assert count(text) <= TOKENS_MAX
        lost = [value for folded, value in stated.items() if folded not in text.casefold()]
        assert not lost
