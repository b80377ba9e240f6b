"""Who says what in a text file: `Name: …`, `[role] …`, `Name (to other):`, `---- Name ----`.

Keeps: a line begins a turn only if its name is that of a role, stands in a header, or begins
several lines of the file; the rest belongs to the turn before.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

_NAME = r"[A-Za-z][\w.\-]{0,40}(?: [A-Z][\w.\-]{0,40}){0,3}"
_WHEN = (
    r"(?:\[?\d{1,4}[-/:.]\d{1,2}(?:[-/:.T ,]{1,2}\d{1,4}){0,5}(?:Z|[+-]\d\d:?\d\d)?\]?"
    r"[ \t]{1,4}(?:-[ ])?)?"
)
# In these a name is beyond doubt.
_HEADERS = (
    re.compile(
        rf"{_WHEN}-{{3,40}} ?(?P<name>{_NAME})(?: ?\([^()\n]{{0,60}}\))? ?-{{3,40}}(?P<text>)$"
    ),
    re.compile(rf"{_WHEN}\[(?P<name>{_NAME})\]:? ?(?P<text>.*)$"),
    re.compile(rf"{_WHEN}(?P<name>{_NAME}) \(to {_NAME}\):(?P<text>.*)$"),
    re.compile(rf"#{{1,4}} ?(?P<name>{_NAME}):?(?P<text>)$"),
    re.compile(rf"\*\*(?P<name>{_NAME}):?\*\*:? ?(?P<text>.*)$"),
    re.compile(r"<\|im_start\|>(?P<name>\w{1,40})(?P<text>)$"),
)
_COLON = re.compile(rf"{_WHEN}(?P<name>{_NAME})(?: ?\([^()\n]{{0,60}}\))?: ?(?P<text>.*)$")
_ROLES = frozenset(
    {"user", "human", "assistant", "ai", "system", "agent", "bot", "tool", "customer", "developer"}
)
# What begins lines again and again and is nobody's name.
_NOBODY = frozenset(
    {
        *("note", "warning", "error", "info", "debug", "trace", "critical", "fatal", "output"),
        *("input", "result", "results", "code", "answer", "question", "thought", "thoughts"),
        *("action", "observation", "step", "example", "http", "https", "file", "line", "title"),
        *("url", "date", "time", "source", "summary", "description", "name", "type", "status"),
        *("total", "price", "from", "to", "subject", "reason", "plan", "task", "todo", "id"),
    }
)
_LINE_CHARS = 2_000
_TIMES_MIN = 2


@dataclass(frozen=True, slots=True)
class Turn:
    """What somebody said."""

    name: str
    text: str


def read_turns(text: str) -> list[Turn]:
    """Return the turns of a text; none where nobody can be told from anybody else."""
    lines = text.splitlines()
    begins = [_begin(line) for line in lines]
    often = Counter(begin[0] for begin in begins if begin is not None)
    turns: list[Turn] = []
    name, said = "", list[str]()
    for line, begin in zip(lines, begins, strict=True):
        if begin is None or not _is_name(begin, often):
            said.append(line)
            continue
        if name:
            turns.append(Turn(name, "\n".join(said).strip()))
        name, said = begin[0], [begin[1]] if begin[1] else []
    if name:
        turns.append(Turn(name, "\n".join(said).strip()))
    return turns


def _is_name(begin: tuple[str, str, bool], often: Counter[str]) -> bool:
    name, _, header = begin
    if name.lower() in _NOBODY:
        return False
    return header or name.lower() in _ROLES or often[name] >= _TIMES_MIN


def _begin(line: str) -> tuple[str, str, bool] | None:
    """Return who begins to speak in a line, what, and whether that is a header."""
    if len(line) > _LINE_CHARS and ":" not in line[:_LINE_CHARS]:
        return None
    head = line[:_LINE_CHARS]
    for pattern in _HEADERS:
        found = pattern.match(head)
        if found:
            return found["name"], found["text"] + line[_LINE_CHARS:], True
    found = _COLON.match(head)
    return (found["name"], found["text"] + line[_LINE_CHARS:], False) if found else None
