"""One JSON document on stdout, for programs."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import msgspec

# JSON escapes the first 32 by itself; the rest would reach a terminal as they are.
_HARMFUL = re.compile(
    "[\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def to_json(value: Any) -> str:
    """Return any value of this package as JSON; bytes are base64."""
    text = msgspec.json.format(_encoded(value), indent=2).decode()
    return _HARMFUL.sub(_escaped, text)


def to_line(value: Any) -> str:
    """Return any value of this package as JSON on one line."""
    return _HARMFUL.sub(_escaped, _encoded(value).decode())


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=_plain)
    except (TypeError, ValueError, OverflowError):
        # Keys that are no text, or numbers too large for JSON: as text, rather than not at all.
        return msgspec.json.encode(
            msgspec.to_builtins(value, str_keys=True, enc_hook=_plain), enc_hook=_plain
        )


def print_json(value: Any) -> None:
    """Print `value` as one JSON document."""
    sys.stdout.write(to_json(value) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseException):
        return {"type": type(value).__name__, "message": str(value)}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return str(value)
