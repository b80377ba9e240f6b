"""What a call was given, from whatever way a record writes it down.

Keeps: never raises; what cannot be read as an object is kept as text, and its size is bounded.
"""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Mapping
from typing import Any, TypeGuard

import msgspec

TEXT_CHARS_MAX = 1_000_000
RAW_CHARS_MAX = 10_000
# Beyond these Python's own parser may give up hard instead of raising.
_LITERAL_CHARS_MAX = 100_000
_LITERAL_DEPTH_MAX = 50
_TWICE = 2


def read_arguments(raw: object) -> tuple[Mapping[str, Any] | None, str]:
    """Return arguments as a mapping, or None and the text that could not be read as one.

    Args:
        raw: An object, the JSON text of one, or a Python literal of one as text. Nothing at
            all, as of a call without parameters, is an empty object.
    """
    for _ in range(_TWICE):  # some systems write the JSON text of a JSON text
        if raw is None:
            return {}, ""
        if _is_object(raw):
            return raw, ""
        if not isinstance(raw, str | bytes | bytearray):
            return None, bounded(as_text(raw))
        text = raw if isinstance(raw, str) else bytes(raw).decode("utf-8", "replace")
        text = text.strip()
        if not text:
            return {}, ""
        read = read_value(text)
        if not _is_object(read) and not isinstance(read, str):
            return None, bounded(text)
        raw = read
    return (raw, "") if _is_object(raw) else (None, bounded(as_text(raw)))


def read_value(text: str) -> Any:
    """Return what `text` says as JSON or as a Python literal; None where it says neither."""
    if len(text) > TEXT_CHARS_MAX:
        return None
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError, UnicodeError):
        pass
    try:
        # The standard library reads what others write: NaN, lone surrogates, huge integers.
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return _literal(text)


def _literal(text: str) -> Any:
    if len(text) > _LITERAL_CHARS_MAX or not text.startswith(("{", "[", "(", "'", '"')):
        return None
    # Brackets within strings count too: rather one too few is read than a parser broken.
    if sum(map(text.count, "([{")) > _LITERAL_DEPTH_MAX and _depth(text) > _LITERAL_DEPTH_MAX:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in somebody else's text
            return plain(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _depth(text: str) -> int:
    depth = deepest = 0
    for char in text:
        if char in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in ")]}":
            depth -= 1
    return deepest


def plain(value: Any) -> Any:
    """Return a Python literal as JSON knows it: lists for tuples and sets, text for keys."""
    if isinstance(value, dict):
        return {k if isinstance(k, str) else str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=repr)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def as_text(value: object) -> str:
    """Return `value` as text: itself, or its JSON; never raises."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, TypeError, RecursionError):
        return f"({type(value).__name__} that cannot be written as text)"


def bounded(text: str, chars_max: int = RAW_CHARS_MAX) -> str:
    """Return `text`, cut off at `chars_max` characters."""
    return text if len(text) <= chars_max else f"{text[: chars_max - 1]}…"


def _is_object(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
