"""From bytes to documents: one JSON value each, with the place where it stands.

Reads JSON lines, a JSON document, several one after another, a list at the top of a document or
under a key of it, and plain text. What can be streamed is, so memory stays flat.
Keeps: a bad line costs that line; of what is cut off all that came before is read; nesting, lines
and texts are bounded. Strings are valid Unicode, and numbers are finite.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import ijson
import msgspec

from undercroft.doctor.growing import DEPTH_MAX, Grower, Grown
from undercroft.doctor.opening import Opened
from undercroft.doctor.problems import Problem

LINE_BYTES_MAX = 32 * 1024 * 1024
TEXT_BYTES_MAX = 32 * 1024 * 1024
# How far a file is looked into for the end of its first line.
_PEEK_BYTES = 8 * 1024 * 1024
_PEEKED_LINES = 20
_BUFFER_BYTES = 256 * 1024
# So large a document is read once more by a parser that takes more, where the first gives up.
_WHOLE_BYTES_MAX = 64 * 1024 * 1024
_BAD_LINES_SHOWN = 20
_INT_DIGITS_MAX = 30
_SPACE = b" \t\r\n"
# What a line such as "[user] hello" does not begin like.
_JSON_BEGINS = re.compile(rb"\{\s*(?:[\"}]|\Z)|\[\s*(?:[\[\]{\"\d-]|true|false|null|NaN|\Z)")


@dataclass(frozen=True, slots=True)
class Found:
    """A document.

    Attributes:
        place: The file, and the line or element of it.
        cut: Whether the input ends in the middle of it.
    """

    value: Any
    place: str
    cut: bool = False


def read_documents(opened: Opened, containers: Iterable[str]) -> Iterator[Found | Problem]:
    """Yield the documents of what was opened, and what could not be read of it.

    Args:
        opened: The bytes.
        containers: Keys at the top of a large document under which its documents are a list.
    """
    start = opened.file.tell()
    head = opened.file.read(_PEEK_BYTES)
    opened.file.seek(start)
    shape = _shape(head, whole=len(head) < _PEEK_BYTES)
    if shape == "empty":
        yield Problem(opened.name, "there is only white space in it", "Was anything recorded?")
    elif shape == "lines":
        yield from _lines(opened)
    elif shape == "json":
        yield from _json(opened, frozenset(containers))
    else:
        yield from _text(opened)
    if opened.fault:
        yield Problem(opened.name, f"it cannot be read to its end: {opened.fault}")


def _shape(head: bytes, *, whole: bool) -> str:
    """Say what is in a file that begins like this: `lines`, `json`, `text`, or nothing."""
    bare = head.lstrip(_SPACE)
    if not bare:
        return "empty" if whole else "text"
    lines = [line.strip(_SPACE) for line in bare.split(b"\n", _PEEKED_LINES + 1)]
    # The last may go on beyond what was looked at, or be many.
    complete = [
        line for line in (lines if whole and len(lines) <= _PEEKED_LINES else lines[:-1]) if line
    ]
    if _JSON_BEGINS.match(bare):
        first = complete[0] if complete else b""
        if first and _parses(first):
            return "json" if first[:1] == b"[" and len([x for x in lines if x]) == 1 else "lines"
        # A bad first line among good ones, or a document over many lines?
        if len(first) > 1 and any(line[:1] == b"{" and _parses(line) for line in complete[1:]):
            return "lines"
        return "json"
    good = sum(line[:1] == b"{" and _parses(line) for line in complete)
    if good and 2 * good >= len(complete):
        return "lines"
    return "json" if whole and len(complete) == 1 and _parses(complete[0]) else "text"


def _parses(line: bytes) -> bool:
    try:
        _decoded(line)
    except (ValueError, RecursionError):
        return False
    return True


# --- lines -------------------------------------------------------------------------------------


def _lines(opened: Opened) -> Iterator[Found | Problem]:
    bad = 0
    for number, line, whole in _each_line(opened.file):
        place = f"{opened.name}:{number}"
        if not whole:
            mib = LINE_BYTES_MAX // 1024 // 1024
            yield Problem(place, f"the line is longer than {mib} MiB, and was left out")
            continue
        if not line.strip(_SPACE):
            continue
        try:
            value = _decoded(line)
        except RecursionError:
            yield from _deep(line, place)
        except ValueError as error:
            if not line.endswith(b"\n"):
                yield from _cut(line, place)
                continue
            bad += 1
            if bad <= _BAD_LINES_SHOWN:
                yield Problem(place, f"the line is no JSON: {_first_line(error)}", _REST)
        else:
            yield Found(value, place)
    if bad > _BAD_LINES_SHOWN:
        yield Problem(opened.name, f"{bad - _BAD_LINES_SHOWN} more lines are no JSON", _REST)


_REST = "The others were read."


def _each_line(file: BinaryIO) -> Iterator[tuple[int, bytes, bool]]:
    """Yield lines with their numbers, and whether they are whole."""
    number = 0
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        whole = len(line) <= LINE_BYTES_MAX
        yield number, line if whole else b"", whole
        while not whole and not line.endswith(b"\n"):
            line = file.readline(LINE_BYTES_MAX)
            if not line:
                return


def _cut(line: bytes, place: str) -> Iterator[Found | Problem]:
    """Read what there is of a last line that has no end."""
    kept = list(_grown(line))
    for value in kept:
        yield Found(value, place, cut=True)
    yield Problem(place, "the file ends in the middle of this line", _CUT if kept else "")


_CUT = "What comes before was read."


def _deep(line: bytes, place: str) -> Iterator[Found | Problem]:
    kept = list(_grown(line))
    for value in kept:
        yield Found(value, place)
    yield Problem(place, _TOO_DEEP)


def _grown(line: bytes) -> Iterator[Any]:
    """Yield what can be read of a damaged value."""
    grower = Grower(_events(io.BytesIO(line)))
    for one in grower:
        # A list is a document here, and was given out in parts.
        if one.index is None:
            yield one.value
    rest = grower.rest()
    if rest is not None and rest.index is None:
        yield rest.value


def _decoded(line: bytes) -> Any:
    """Return the value of a line.

    Raises:
        ValueError: It is no JSON.
        RecursionError: It is nested too deeply.
    """
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeError):
        # The standard library reads what others write: NaN, lone surrogates, huge numbers.
        text = line.decode("utf-8", "replace")
        return clean(json.loads(text, strict=False, parse_int=_whole_number))


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _INT_DIGITS_MAX else float(digits)


def clean(value: Any) -> Any:
    """Return `value` with strings that are valid Unicode, and None for what is no number."""
    if isinstance(value, str):
        return value if value.isascii() else _valid(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {_valid(key): clean(item) for key, item in value.items()}
    return value


def _valid(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _first_line(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        # Of a line of a file its own number says nothing.
        return f"{error.msg}, at column {error.colno}"
    return str(error).partition("\n")[0][:200]


# --- one document, or a list of them -----------------------------------------------------------


class _Counted:
    """A file that knows how much was read of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._bytes = 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._bytes += len(data)
        return data

    def so_far(self) -> int:
        return self._bytes


def _events(file: Any) -> Iterator[tuple[str, Any]]:
    # Numbers beyond its range end this parser, in either way; then `_whole` takes over.
    return iter(
        ijson.basic_parse(file, use_float=True, multiple_values=True, buf_size=_BUFFER_BYTES)
    )


def _json(opened: Opened, containers: frozenset[str]) -> Iterator[Found | Problem]:
    start, given = opened.file.tell(), 0
    counted = _Counted(opened.file)
    grower = Grower(_events(counted), containers, counted.so_far)
    for one in grower:
        given += 1
        yield Found(one.value, _place(opened.name, one.index))
    if grower.too_deep:
        yield Problem(opened.name, _TOO_DEEP)
    if grower.broken:
        yield from _mended(opened, start, given, grower)


_TOO_DEEP = f"it is nested more than {DEPTH_MAX} deep, and was read so far"


def _place(name: str, index: int | None) -> str:
    return name if index is None else f"{name}[{index}]"


def _mended(opened: Opened, start: int, given: int, grower: Grower) -> Iterator[Found | Problem]:
    """Read on where the first parser gave up."""
    truncated = "EOF" in grower.broken
    if not truncated:
        whole = _whole(opened, start)
        if whole is not None:
            for n, one in enumerate(whole):
                if n >= given:
                    yield Found(one.value, _place(opened.name, one.index))
            return
    rest = grower.rest()
    if rest is not None:
        given += 1
        yield Found(rest.value, _place(opened.name, rest.index), cut=True)
    place = opened.name if rest is None else _place(opened.name, rest.index)
    mend = _CUT if given else "Is it a trace?"
    if truncated:
        size = opened.file.tell()
        yield Problem(place, f"the file ends in the middle of a value, after {size} bytes", mend)
    else:
        yield Problem(place, f"what follows is no JSON: {grower.broken}", mend)


def _whole(opened: Opened, start: int) -> list[Grown] | None:
    """Return the values of a document that only the standard library reads; None if it cannot."""
    opened.file.seek(start)
    data = opened.file.read(_WHOLE_BYTES_MAX + 1)
    if len(data) > _WHOLE_BYTES_MAX:
        return None
    try:
        value = _decoded(data)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list):
        return [Grown(item, n) for n, item in enumerate(value)]
    return [Grown(value)]


# --- text --------------------------------------------------------------------------------------


def _text(opened: Opened) -> Iterator[Found | Problem]:
    data = opened.file.read(TEXT_BYTES_MAX + 1)
    whole = len(data) <= TEXT_BYTES_MAX
    text = data[:TEXT_BYTES_MAX].decode("utf-8", "replace")
    yield Found(text, opened.name, cut=not whole)
    if not whole:
        mib = TEXT_BYTES_MAX // 1024 // 1024
        yield Problem(opened.name, f"it is a text of more than {mib} MiB, and was read so far")
