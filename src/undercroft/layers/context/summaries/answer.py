"""What a model answers when it is asked for a summary: its shape, before anything is believed.

Keeps: whatever an answer is, it is read or refused in time linear in what may be read; nothing
that says two things at once is taken for one of them.
Unknown fields are ignored: what had to be said must be said in those that are known.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

DEPTH_MAX = 16
# A token is seldom longer, however an answer is laid out; what has more is not worth reading.
CHARS_PER_TOKEN = 32
CHARS_LEAST = 4096
SHOWN_CHARS = 40
_PROBLEM_CHARS = 200

# A string that is not closed reaches to the end, so that each character is looked at once.
_NESTING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)


class AnswerFact(msgspec.Struct, frozen=True):
    """A fact as a model writes it down."""

    text: str
    sources: tuple[str, ...]
    supersedes: tuple[str, ...] = ()


class AnswerEntry(msgspec.Struct, frozen=True):
    """A decision, an open item or a failed attempt as a model writes it down."""

    text: str
    sources: tuple[str, ...]
    why: str = ""


class AnswerArtifact(msgspec.Struct, frozen=True):
    """An artifact as a model writes it down."""

    name: str
    sources: tuple[str, ...]
    text: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What a model answered, of the right shape and not yet checked against anything."""

    intent: str = ""
    decisions: tuple[AnswerEntry, ...] = ()
    facts: tuple[AnswerFact, ...] = ()
    artifacts: tuple[AnswerArtifact, ...] = ()
    open_items: tuple[AnswerEntry, ...] = ()
    failed: tuple[AnswerEntry, ...] = ()


class Unusable(Exception):  # noqa: N818  it never leaves the reading: `read` returns `Invalid`
    """An answer is not used; `rule` is one word for why."""

    def __init__(self, rule: str, problem: str) -> None:
        super().__init__(rule, problem)
        self.rule, self.problem = rule, problem


def parse(text: str, tokens_max: int) -> Answer:
    """Return the answer that `text` is, without the code fence that it may stand in.

    Raises:
        Unusable: It is none.
    """
    length_max = CHARS_LEAST + CHARS_PER_TOKEN * tokens_max
    if len(text) > length_max:
        raise Unusable(
            "long", f"the answer has {len(text)} characters; at most {length_max} are read"
        )
    text = _unfenced(text.strip())
    if not text:
        raise Unusable("empty", "the model answered nothing")
    if not text.startswith("{"):
        raise Unusable("prose", f"the answer is no JSON object; it begins {shown(text)}")
    _check_depth(text)
    try:
        data = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        problem = f"the answer is no JSON object: {_plain(str(error))}"
        raise Unusable("prose", problem) from None
    try:
        return msgspec.convert(data, Answer)
    except msgspec.ValidationError as error:
        problem = f"the answer has another shape: {_plain(str(error))}"
        raise Unusable("shape", problem) from None


def shown(text: str, length_max: int = SHOWN_CHARS) -> str:
    """Return a text for an error message: quoted, printable, short."""
    return ascii(text) if len(text) <= length_max else ascii(text[:length_max]) + "..."


def _plain(problem: str) -> str:
    return ascii(problem[:_PROBLEM_CHARS])[1:-1]


def _unfenced(text: str) -> str:
    first, _, rest = text.partition("\n")
    label = first[3:].strip()
    if first.startswith("```") and rest.endswith("```") and (label.isalnum() or not label):
        return rest[:-3].strip()
    return text


def _check_depth(text: str) -> None:
    depth = 0
    for found in _NESTING.finditer(text):
        mark = found[0]
        depth += (mark in "[{") - (mark in "]}")
        if depth > DEPTH_MAX:
            raise Unusable("deep", f"the answer is nested deeper than {DEPTH_MAX}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the field {shown(key)} is there twice")
        made[key] = value
    return made


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
