"""Summaries of recorded conversations: what a faithful summariser says of them is used.

The recordings are read in place and nothing of them is kept.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.layers.context.ideal import ideal
from tests.layers.context.summaries import tokens
from undercroft.layers.context.identifiers.extract import extract
from undercroft.layers.context.summaries.summary import Source, Summary, ask, read, said

TRACES = Path(__file__).parents[4] / "shared" / "data" / "traces"
EVERY = 9


def found(text: str) -> list[str]:
    """Return what the house's own rules find in a text."""
    return [one.value for one in extract(text)]


def conversations(name: str) -> list[list[Source]]:
    """Return every so many conversations of a set, if they are worth a summary."""
    path = TRACES / name / "traces.jsonl.gz"
    if not path.exists():
        pytest.skip(f"the recorded traces are not beside the project: {path}")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        traces = [json.loads(line)["messages"] for line in list(lines)[::EVERY]]
    talks = [
        [
            Source(place, one["role"], str(one.get("content") or ""))
            for place, one in enumerate(messages)
            if one["role"] != "system"
        ]
        for messages in traces
    ]
    return [talk for talk in talks if sum(tokens(one.text) for one in talk) > 1000]


@pytest.mark.parametrize("name", ["tau_airline", "tau_retail"])
def test_faithful_summaries_of_recorded_conversations_are_used(name: str) -> None:
    """Every identifier that users stated is asked for, copied and shown; none counts as invented.

    Each conversation is summarised in two halves, the second together with the first's summary.
    """
    for talk in conversations(name):
        earlier: list[Summary] = []
        stated: dict[str, str] = {}
        half = len(talk) // 2
        for number, part in enumerate((talk[:half], talk[half:]), 1):
            stated |= {v.casefold(): v for s in part if s.role == "user" for v in found(s.text)}
            required = list(stated.values())
            messages = ask(part, required, earlier, 2000, count=tokens)
            made = read(
                ideal(messages, count=tokens), part, required, earlier, 2000, tokens, number,
                lambda _: False, found, replaces_tokens=10_000,
            )  # fmt: skip
            assert isinstance(made, Summary), made
            earlier = [made]
        text = " ".join(said(earlier)).casefold()
        assert [value for value in stated if " ".join(value.split()) not in text] == []
        assert earlier[0].covers == tuple(source.item for source in talk)
