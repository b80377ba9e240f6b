"""How a call ended, told from the text of its result where a format has no status.

Keeps: the table in `status_table` is all that decides; a result that merely speaks of an error,
as a document or a search hit does, did not fail. The beginning of a text decides, or its end
where a program says there how it ended.
Leaves to `breakers.known`: what HTTP statuses and providers' codes mean for the next attempt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from undercroft.doctor.arguments import as_text, bounded, read_value
from undercroft.doctor.naming import read_name
from undercroft.doctor.status_objects import folded, said_words
from undercroft.doctor.status_table import CLASSES, PHRASES, TELLS, TERSE_CHARS, Tell
from undercroft.layers.breakers.known import WORDS, of_status
from undercroft.model.case import Access, CallStatus

ERROR_CHARS_MAX = 500
_HEAD_CHARS = 2_000
_LINE_CHARS = 200
_RAISED_LINES_MAX = 200
_TAIL_CHARS = 20_000
_JSON_CHARS_MAX = 200_000
_DEPTH_MAX = 4

_HTTP = re.compile(
    r"(?:\b(?:http(?:/\d(?:\.\d)?)?|(?:status|error)(?:[ _]code)?|code|returned|with|got"
    r"|received)[ :='\"]{0,3}"
    r"|^\W{0,3}(?:(?:client |server )?error:? ?'?)?)([45]\d\d)"
    rf"(?=$|[:'\",.)\]]| ?(?:-|client error|server error|for\b|{PHRASES}))",
    re.IGNORECASE,
)
_CODE = re.compile(r"\b(?:[a-z]{3,30}(?:_[a-z]{1,30}){1,6}|[A-Z]\w{3,60}Exception)\b")
_EXIT = re.compile(
    r"\W{0,3}(?:(?:the )?(?:process|command|script|program)\b[^\n]{0,80}? )?"
    r"(?:(?:exited|failed|finished|completed|returned|ended) (?:with )?(?:an? )?(?:non-zero )?"
    r"(?:exit )?(?:code|status)|(?:exit[ _-]?(?:code|status)|return[ _]?code))"
    r"[ :=]{0,3}(-?\d{1,10})\b",
    re.IGNORECASE,
)
# What stands before the words themselves: a fence, a comment, the name of a variable, quotes.
_LEAD = re.compile(
    r"\s{0,100}(?:```\w{0,20}\s{1,5})?(?:#\s{0,4})?(?:[A-Za-z_]\w{0,60} {0,4}= {0,4}(?=[\"']))?"
    r"[\"'`*\s]{0,8}"
)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]{0,20}[A-Za-z]|[\x00\ufeff\u200b-\u200f\u202a-\u202e]")
_RAISED = re.compile(
    r"(?:[A-Za-z_]\w{0,40}\.){0,6}[A-Za-z_]\w{0,60}(?:Error|Exception|Interrupt|Exit)\b"
)
_TRACEBACK = "Traceback (most recent call last):"
# Keys under which a tool's wrapper puts what the tool said.
_WRAPS = frozenset(("message", "msg", "detail", "text", "content", "result", "output", "response"))
# Tools that bring back documents.
_READS = re.compile(
    r"search|browse|fetch|read|\bcat\b|grep|open|view|visit|scrape|crawl|retriev|query|lookup",
    re.IGNORECASE,
)

# Tools that bring back what somebody wrote, or tell how something is; and those whose success is
# a refusal.
_TELLS_OF = re.compile(
    r"status|health|ping|check|monitor|state|probe|search|history|log|file|page|doc|note|faq|polic"
    r"|messag|mail|article|comment|text|url|web|browse|grep|\bcat\b|knowledge|review|transcript",
    re.IGNORECASE,
)
_NEGATES = re.compile(r"reject|declin|den[iy]|refus|fail|block|disabl|invalid|error", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Inferred:
    """How a call ended, as its result lets infer.

    Attributes:
        error: What went wrong, in the result's words; empty where nothing did.
        error_class: `transient`, `overloaded`, `permanent`, `domain` or `unknown`; empty where
            nothing went wrong.
    """

    status: CallStatus
    error: str = ""
    error_class: str = ""


_OK, _FAILED = Inferred(CallStatus.OK), CallStatus.FAILED


def infer_status(result: str, *, name: str = "") -> Inferred:
    """Return how the call ended whose result this is.

    Args:
        result: Its text, whole.
        name: Of the tool. What a tool that brings back documents returns counts as a word
            about the call only where it is very short.
    """
    return _of_text(result, name, 0)


def error_class_of(error: str) -> str:
    """Return what the words of an error mean for the next attempt."""
    words = error[:_HEAD_CHARS]
    for code in _CODE.findall(words[:_LINE_CHARS]):
        kind = WORDS.get(code.casefold())
        if kind is not None:
            return kind.read.value
    found = _HTTP.search(words[:_LINE_CHARS])
    if found:
        return of_status(int(found[1])).read.value
    return next((name for name, pattern in CLASSES if pattern.search(words)), "unknown")


def _of_text(result: str, name: str, depth: int) -> Inferred:
    text = result.strip()
    if not text:
        return _OK
    if text[0] in '{["' and len(text) <= _JSON_CHARS_MAX:
        value = read_value(text)
        if value is not None and (depth < _DEPTH_MAX or not isinstance(value, str)):
            return _of_value(value, name, depth + 1)
    exited = _exited(text)
    if exited is not None:
        return exited
    head = _ESCAPES.sub("", text[:_HEAD_CHARS])
    lead = _LEAD.match(head)
    head = head[lead.end() :] if lead else head
    few = TERSE_CHARS if _READS.search(name[:_LINE_CHARS]) else 0
    for tell in TELLS:
        most = min(tell.chars_max, few or tell.chars_max)
        if tell.pattern is None or (tell.chars_max and len(text) > most):
            continue
        if tell.of and not _is_of(tell, name):
            continue
        if tell.pattern.match(head):
            return _told(tell, _raised(text) or head)
    raised = _raised(text)
    return Inferred(_FAILED, raised, error_class_of(raised)) if raised else _OK


def _of_value(value: Any, name: str, depth: int) -> Inferred:
    """What an object, or the one thing that a wrapper holds, says of its call."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str) and depth <= _DEPTH_MAX:
        return _of_text(value, name, depth)
    if not isinstance(value, dict) or depth > _DEPTH_MAX:
        return _OK
    spelled = folded(value)
    for tell in TELLS:
        said = tell.object(spelled) if tell.object is not None else None
        if said is not None and (not tell.of or _is_of(tell, name)):
            return _told(tell, said)
    spelled.pop("type", None)
    wrapped = len(spelled) == 1 and _WRAPS.issuperset(spelled)
    return _of_value(next(iter(spelled.values())), name, depth + 1) if wrapped else _OK


@lru_cache(1 << 12)
def _is_of(tell: Tell, name: str) -> bool:
    """Whether a row of the table is of tools with this name."""
    if tell.of == "no_documents":
        return _TELLS_OF.search(name[:_LINE_CHARS]) is None
    # What rejects or marks as failed says that it has rejected.
    return read_name(name).access is Access.WRITE and not _NEGATES.search(name[:_LINE_CHARS])


def _told(tell: Tell, words: str) -> Inferred:
    error = _line(words).rstrip("\"'`")
    if tell.status is CallStatus.WAITING:
        return Inferred(tell.status)
    return Inferred(tell.status, error, tell.error_class or error_class_of(error))


def _exited(text: str) -> Inferred | None:
    """What a program's exit code says, at the beginning of the text or in its last line."""
    first = text[:_LINE_CHARS].partition("\n")[0]
    last = text[-_LINE_CHARS:].rpartition("\n")[2]
    for line in (first, last):
        found = _EXIT.match(line)
        if found:
            if int(found[1]) == 0:
                return _OK
            more = _raised(text) or (text if line is first else f"{line}: {text}")
            error = _line(more)
            if not error.startswith(line.strip()):
                error = bounded(f"{line.strip()}: {error}", ERROR_CHARS_MAX)
            return Inferred(_FAILED, error, error_class_of(error))
    return None


def _raised(text: str) -> str:
    """Return the last lines of a traceback that ends the text; empty where none does."""
    if _TRACEBACK not in text[:_HEAD_CHARS] and _TRACEBACK not in text[-_TAIL_CHARS:]:
        return ""
    # What follows an empty line is no part of it: somebody goes on to speak of it.
    block = re.split(r"\n[ \t\r]{0,9}\n", text[-_TAIL_CHARS:])[-1]
    lines = [line for line in block.splitlines()[-_RAISED_LINES_MAX:] if line.strip()]
    last = next((n for n in reversed(range(len(lines))) if _RAISED.match(lines[n])), None)
    return "" if last is None else " ".join(lines[last:])


def status_of(result: object, *, name: str = "") -> Inferred:
    """Return as `infer_status` does, of a result that need not be text."""
    if isinstance(result, Mapping | list):
        return _of_value(result, name, 0)
    return infer_status(as_text(result), name=name)


def said_error(error: object) -> str:
    """Return the words of an error that a record keeps as text or as an object."""
    words = said_words(error) or (as_text(error) if error else "")
    return _line(words)


def _line(words: str) -> str:
    return bounded(" ".join(words[: 2 * ERROR_CHARS_MAX].split()), ERROR_CHARS_MAX)
