"""What every provider's answers have in common when they are read.

Keeps: whatever came, in whatever shape, becomes an `Answer` or an error of a known type; nothing
of an answer is trusted to be what the documentation says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from undercroft.adapters.models.orderly import UNNAMED
from undercroft.errors import ServiceError
from undercroft.layers.breakers.bodies import read_body
from undercroft.layers.breakers.known import WORDS
from undercroft.layers.context.conversation import clean
from undercroft.layers.context.shapes.usage_shapes import read_usage
from undercroft.model.message import Native, Stop, Usage
from undercroft.model.step import Call

# Our own words for a status of 200 without an answer; the table of errors knows them.
UNREADABLE, EMPTY = "unreadable_answer", "empty_answer"
EXCERPT_CHARS = 200
# Parts that mean nothing without what follows them, and are refused where they stand last.
THOUGHTS = frozenset({"reasoning", "thinking", "redacted_thinking"})


def checked(data: Any, service: str) -> dict[str, Any]:
    """Return the body of an answer, an object that tells of no error.

    Raises:
        ServiceError: It is anything else.
    """
    if not isinstance(data, dict):
        shown = data if isinstance(data, str) else repr(data)
        problem = f"a status of 200, and what came is no answer: {clean(shown[:EXCERPT_CHARS])!r}"
        raise ServiceError(service, problem, None, UNREADABLE)
    error = data.get("error")
    if error or data.get("type") == "error":
        raise failure_of(data, service)
    return data


def failure_of(data: Mapping[str, Any], service: str) -> ServiceError:
    """Return the error that an answer or an event tells of."""
    error = data.get("error")
    said = read_body({"error": {"message": error}} if isinstance(error, str) else dict(data))
    code = next((word for word in said.words if word in WORDS), "")
    code = code or (said.words[0] if said.words else "")
    problem = said.message or f"it says no more than {json.dumps(data, default=str)}"
    return ServiceError(service, clean(problem[:EXCERPT_CHARS]), said.status, clean(code))


def empty(service: str, what: str) -> ServiceError:
    """Return the error that an answer is that holds nothing."""
    return ServiceError(service, f"a status of 200, and {what}", None, EMPTY)


def text(value: Any) -> str:
    """Return a text as it can be written down; empty where it is none."""
    return clean(value) if isinstance(value, str) else ""


def objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return []
    return [each for each in value if isinstance(each, dict)]


def mapping(value: Any) -> dict[str, Any]:
    """Return an object; an empty one where it is none."""
    return value if isinstance(value, dict) else {}


def call_of(name: Any, arguments: Any, call_id: Any) -> Call:
    """Return a proposed call, its arguments as the JSON text that the model wrote."""
    if isinstance(arguments, str):
        given = clean(arguments)
    elif arguments is None:
        given = ""
    else:
        given = clean(json.dumps(arguments, ensure_ascii=False))
    return Call(text(name) or UNNAMED, given, text(call_id) or None)


def is_whole(call: Call) -> bool:
    """Whether the arguments are the text of an object: no beginning of such a text is one."""
    if not isinstance(call.arguments, str):
        return True
    try:
        return isinstance(msgspec.json.decode(call.arguments), dict)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return False


def usage_of(given: Any) -> Usage | None:
    """Return what was counted; None where the provider says nothing, or nonsense."""
    usage = read_usage(given) if isinstance(given, dict) else None
    if usage is None or min(usage.input_tokens, usage.output_tokens, usage.cached_tokens) < 0:
        return None
    return usage


def ended(stop: Stop | None, calls: Sequence[Call]) -> Stop:
    """Return why an answer ended where its calls say it better than the provider does."""
    if stop in (None, Stop.END, Stop.CALLS):
        return Stop.CALLS if calls else Stop.END
    return stop or Stop.END


def native_of(
    provider: str, model: str, parts: list[dict[str, Any]], dropped: Sequence[int] = ()
) -> Native | None:
    """Return what goes back to the provider; None where its own words say nothing that ours do not.

    Args:
        provider: Who gave it.
        model: Which model was asked.
        parts: See `Native`.
        dropped: Numbers of calls that are not kept.
    """
    kept = [part for part in parts if part.get("call") not in dropped or "type" in part]
    while kept and kept[-1].get("type") in THOUGHTS:
        kept.pop()
    if not any("type" in part or len(part) > 1 for part in kept):
        return None
    return Native(provider, model, tuple(kept))
