"""Bodies in which providers say that a call failed.

Keeps: only shapes that OpenAI and Anthropic document are taken for an error; what a tool
answers in its own words, such as `{"error": "not found"}`, is left alone.
Source: OpenAI, "Error codes" and the `error` event of the Responses API; Anthropic, "Errors".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# A body is read so far, and no further.
SIZE_MAX_BYTES = 64 * 1024
MESSAGE_MAX_CHARS = 2_000
_WORD_MAX_CHARS = 100
_ENVELOPE = frozenset({"error", "type", "request_id", "id", "user_id"})


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What a body says.

    Attributes:
        words: Its codes and types in lower case, the most telling first.
        message: For people.
        status: An HTTP status that it names, or None.
    """

    words: tuple[str, ...] = ()
    message: str = ""
    status: int | None = None


def read_body(raw: Any) -> ErrorBody:
    """Return what the body of an error that was raised says; empty if nothing can be read.

    Args:
        raw: Data, or JSON text or bytes; the whole body or what stands in its `error`.
    """
    if isinstance(raw, str | bytes | bytearray):
        if len(raw) > SIZE_MAX_BYTES:
            return ErrorBody()
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError):
            return ErrorBody()
    if isinstance(raw, list) and raw:
        raw = raw[0]
    if not isinstance(raw, Mapping):
        return ErrorBody()
    inner = raw.get("error", raw.get("Error"))
    return _read(inner) if isinstance(inner, Mapping) else _read(raw)


def failed_body(value: Any) -> ErrorBody | None:
    """Return what `value` says if it is a provider's error in place of an answer, else None."""
    if not isinstance(value, dict):
        return None
    if value.get("type") == "error" and isinstance(value.get("code"), str):
        # An event in the stream of OpenAI's Responses API.
        fits = "sequence_number" in value and isinstance(value.get("message"), str)
        return _read(value) if fits else None
    inner = value.get("error")
    if not isinstance(inner, dict) or not isinstance(inner.get("message"), str):
        return None
    return _read(inner) if _encloses(value, inner) else None


def _encloses(value: dict[Any, Any], inner: dict[Any, Any]) -> bool:
    """Whether `value` is nothing but what encloses the error `inner`."""
    if value.get("object") == "response" and value.get("status") == "failed":
        # The answer of OpenAI's Responses API stands for its failure, too.
        return True
    if not _ENVELOPE.issuperset(value) or value.get("type", "error") != "error":
        return False
    kind, code = inner.get("type"), inner.get("code")
    if "type" in value:
        return isinstance(kind, str)
    return isinstance(kind, str) or isinstance(code, str) or _status(code) is not None


def whole_shape(value: Any) -> bool:
    """Whether an error in `value` can only be a provider's, even if its words are not known."""
    inner = value.get("error") if isinstance(value, dict) else None
    if not isinstance(inner, dict) or value.get("type") == "error" or "object" in value:
        return True
    return {"message", "type", "param", "code"}.issubset(inner)


def _read(error: Mapping[Any, Any]) -> ErrorBody:
    details = error.get("details")
    code = error.get("code")
    found = [
        details.get("error_code") if isinstance(details, Mapping) else None,
        code,
        error.get("Code"),
        error.get("status"),
        error.get("type"),
    ]
    words = [w[:_WORD_MAX_CHARS].lower() for w in found if isinstance(w, str) and w]
    message = error.get("message", error.get("Message"))
    text = message[:MESSAGE_MAX_CHARS] if isinstance(message, str) else ""
    return ErrorBody(tuple(dict.fromkeys(words)), text, _status(code))


def _status(code: Any) -> int | None:
    """Some compatible services put the HTTP status there."""
    whole = isinstance(code, int) and not isinstance(code, bool)
    return int(code) if whole and 400 <= code <= 599 else None  # noqa: PLR2004
