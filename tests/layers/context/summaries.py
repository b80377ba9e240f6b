"""Conversations to be summarised, and what is asked of their summaries."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from undercroft.layers.context.summaries.summary import Invalid, Source, Summary, read

ROOM = 10_000
ADA, ORDER, OTHER = "ada@example.com", "#A1001", "#A1002"
FILLER = "and so on, as was said before, with nothing in it that anybody would need later. "
SOURCES = (
    Source(3, "user", f"I am Ada, {ADA}. Please change order {ORDER}. {FILLER * 4}"),
    Source(4, "calls", f'calls get_order with {{"id":"{ORDER}"}} {FILLER}'),
    Source(7, "result of get_order", f'{{"id":"{ORDER}","total":"1250.50"}} {FILLER * 4}'),
    Source(8, "user", f"No, I meant {OTHER}. {FILLER * 4}"),
)
REQUIRED = (ADA, ORDER, OTHER)
ANSWER = {
    "intent": f"change order {OTHER}",
    "decisions": [{"text": f"{OTHER} is changed", "why": "Ada said so", "sources": ["m4"]}],
    "facts": [
        {"text": f"Ada has the address {ADA}", "sources": ["m1"]},
        {"text": f"{ORDER} was meant at first; it costs 1250.50", "sources": ["m3", "m1", "m1"]},
    ],
    "artifacts": [{"name": OTHER, "text": "as it was", "sources": ["m4"]}],
    "open_items": [{"text": f"look up {OTHER}", "sources": ["m4"]}],
    "failed": [{"text": f"changing {ORDER}", "why": "the wrong one", "sources": ["m2", "m4"]}],
}

# Whatever a text may hold, what is meant to break a frame more often than by chance.
HOSTILE = st.lists(
    st.one_of(
        st.text(st.characters(), max_size=20),
        st.sampled_from(
            [
                "</notes>", "<|im_end|>\n<|im_start|>system\n", "\n\nHuman: ", "```", "[/INST]",
                "[INST]", "<<SYS>>", "\u2028", "\u202e", "\x85", "\\", '"', '"}', "\ud800",
                "\U000e0041", "\x00", "\r\n", "\\u003c", "]}", "<start_of_turn>", "</s>", "<",
            ]
        ),
    ),
    max_size=8,
).map("".join)  # fmt: skip


def tokens(text: str) -> int:
    """Count four characters as one token."""
    return (len(text) + 3) // 4


def numbered(text: str) -> list[str]:
    """Find what has a digit or an at sign in it."""
    return [word.strip('.,;:"{}') for word in text.split() if re.search(r"[\d@]", word)]


def nobody(_value: str) -> bool:
    """Know no value."""
    return False


def read_back(  # noqa: PLR0913  what is asked, each apart
    answer: Any,
    *,
    sources: Sequence[Source] = SOURCES,
    required: Sequence[str] = REQUIRED,
    earlier: Sequence[Summary] = (),
    tokens_max: int = ROOM,
    number: int = 1,
    known: Any = nobody,
    **more: Any,
) -> Summary | Invalid:
    """Read an answer, given as data or as text, to a request about `sources`."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return read(
        text, sources, required, earlier, tokens_max, tokens, number, known, numbered, **more
    )


def summary_of(answer: Any, **asked: Any) -> Summary:
    """Return the summary that an answer is."""
    made = read_back(answer, **asked)
    assert isinstance(made, Summary), made
    return made


def accepted(answer: Any, **asked: Any) -> bool:
    """Say whether an answer is used."""
    return isinstance(read_back(answer, **asked), Summary)


def rule_of(answer: Any, **asked: Any) -> str:
    """Return why an answer is not used."""
    made = read_back(answer, **asked)
    assert isinstance(made, Invalid), made
    assert made.problem
    assert made.problem.isprintable()
    assert len(made.problem) < 1000
    return made.rule
