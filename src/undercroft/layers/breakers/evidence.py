"""What an error says of itself, and what it was raised from.

Keeps: bounded work, whatever the error holds; nothing is waited for, and nothing that a stranger
wrote can make it fail but by being looked at. No client library has to be installed.
Leaves to `known`: what is known of whom. To `classes`: what follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from undercroft.errors import (
    BreakerOpenError,
    CallRefusedError,
    DeadlineError,
    DomainError,
    OverloadedError,
    ServiceError,
    StreamBrokenError,
    StreamShownError,
    UndercroftError,
    UnknownOutcomeError,
)
from undercroft.layers.breakers import known
from undercroft.layers.breakers.bodies import SIZE_MAX_BYTES, ErrorBody, read_body
from undercroft.layers.breakers.hints import retry_after_s, told_not_to
from undercroft.layers.breakers.known import Blame, Kind
from undercroft.model.step import ErrorClass

# So many errors of a chain are looked at.
LINKS_MAX = 32
_CLASSES_MAX = 32
RETRIED = frozenset({ErrorClass.TRANSIENT, ErrorClass.OVERLOADED})
# Of these, bodies and codes are words of a provider, with or without an HTTP status.
_WORDED = frozenset({"openai", "anthropic", "botocore", "grpc", "google"})
_STREAMS = frozenset({"openai", "anthropic"})


@dataclass(frozen=True, slots=True)
class Link:
    """One error of a chain.

    Attributes:
        sure: Whether something is known of it.
        generic: Whether it is Python's own, as any library may meet it on its way.
        explained: Whether it is only the reason of another that says nothing was sent.
        hidden: Whether whoever raised the error above it did not want it shown.
        caused: Whether the first error of the chain was raised from it, in so many words.
    """

    kind: Kind
    why: str
    sure: bool = True
    generic: bool = False
    retry_after_s: float | None = None
    explained: bool = False
    hidden: bool = False
    caused: bool = False


def links_of(error: BaseException, wall_s: float | None) -> tuple[list[Link], bool]:
    """`error` and what it was raised from or during; and whether that is all of it."""
    found: list[Link] = []
    seen: set[int] = set()
    todo: list[tuple[BaseException, bool, bool, bool]] = [(error, False, False, False)]
    while todo and len(found) < LINKS_MAX:
        node, hidden, explained, caused = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        link = _look(node, wall_s)
        explained = explained and link.generic
        if explained or hidden or caused:
            link = replace(link, explained=explained, hidden=hidden, caused=caused)
        found.append(link)
        cause, context = _get(node, "__cause__"), _get(node, "__context__")
        if isinstance(context, BaseException) and context is not cause:
            suppressed = bool(_get(node, "__suppress_context__"))
            todo.append((context, hidden or suppressed, False, False))
        if isinstance(cause, BaseException):
            reason = explained or link.kind is known.UNSENT
            todo.append((cause, hidden, reason, node is error))
    return found, not todo


def _look(error: BaseException, wall_s: float | None) -> Link:
    """What one error says of itself."""
    name = type(error).__name__
    if isinstance(error, UndercroftError):
        return _ours(error, name)
    if not isinstance(error, Exception):
        # Cancelled, interrupted, told to exit: that says nothing about who was called.
        return Link(known.NEVER, name)
    family, kind = _named(type(error))
    if family == "mcp" and kind is not None:
        # Its codes are those of JSON-RPC, whatever HTTP means by the same number.
        return Link(*_by_code(error, kind, name))
    status = _status(error, family)
    if status is not None or family in _WORDED:
        return _answered(error, family, kind, status, wall_s)
    if kind is None:
        return _pythons(error, name)
    return Link(kind, name, sure=kind is not known.BUG, generic=family in {"ssl", "socket"})


def _by_code(error: BaseException, kind: Kind, name: str) -> tuple[Kind, str]:
    """What a code of JSON-RPC says, where there is one that we know."""
    code = _get(error, "code")
    if type(code) is not int or kind is not known.BROKEN:
        return kind, name
    return known.RPC_CODES.get(code, kind), f"{name} {code}"


def _pythons(error: BaseException, name: str) -> Link:
    for types, kind in known.BUILTINS:
        if isinstance(error, types):
            return Link(kind, name, sure=kind is not known.BUG, generic=True)
    return Link(known.FAILED, name, sure=False, generic=True)


def _ours(error: UndercroftError, name: str) -> Link:  # noqa: PLR0911  a line for each
    match error:
        case ServiceError():
            body = ErrorBody(_words([error.code]), _text(error.problem), None)
            status = _whole(error.status, least=300)
            kind, why = _said_in(body, status)
            hint = error.retry_after_s
            if hint is not None:
                hint = max(hint, 0.0) if math.isfinite(hint) else None
            return Link(kind or known.FAILED, why or name, retry_after_s=hint)
        case BreakerOpenError() | OverloadedError():
            return Link(known.NOT_NOW, name, retry_after_s=error.retry_in_s)
        case CallRefusedError():
            return Link(known.NEVER, name)
        case UnknownOutcomeError():
            return Link(known.IN_DOUBT, name)
        case DomainError():
            return Link(known.SAID_NO, name)
        case DeadlineError():
            return Link(known.BROKEN, name)
        case StreamShownError():
            # The service's failure; but a second answer would go to whoever saw half of the first.
            return Link(known.FAILED, name)
        case StreamBrokenError():
            return Link(known.WRAPS, name)
        case _:
            return Link(known.BUG, name, sure=False)


def _answered(
    error: BaseException, family: str, kind: Kind | None, status: int | None, wall_s: float | None
) -> Link:
    """What an error says that brings an answer of the service: status, body, headers."""
    name = type(error).__name__
    said, why = _said_in(_body(error, family, status), status)
    if said is None:
        # Nothing but its type.
        if kind is None:
            return Link(known.FAILED, name, sure=False)
        said, why = kind, name
    elif status is None and family in _STREAMS and said.change in RETRIED:
        # It had begun to answer, so whatever it was asked to do may have been done.
        said = replace(said, change=ErrorClass.UNKNOWN)
    headers = _headers(error)
    if headers is None:
        return Link(said, why)
    if said.read in RETRIED and told_not_to(headers):
        never = ErrorClass.PERMANENT
        change = never if said.change in RETRIED else said.change
        return Link(replace(said, read=never, change=change), f"{why}, not to be tried again")
    limits = said.blame is Blame.ACCOUNT
    return Link(said, why, retry_after_s=retry_after_s(headers, wall_s=wall_s, limits=limits))


def _said_in(body: ErrorBody, status: int | None) -> tuple[Kind | None, str]:
    """What the words of a body and the status mean together, and which of them decided."""
    status = body.status if status is None else status
    http = "" if status is None else f"HTTP {status}"
    refused = status is None or status < 500  # noqa: PLR2004
    if refused and body.message:
        text = body.message.lower()
        for phrase, kind in known.PHRASES:
            if phrase in text:
                return kind, f"{http} {phrase}".lstrip()
    for kind in (known.QUOTA, known.OVERLOAD, known.TOO_MANY):
        for word in body.words:
            if known.WORDS.get(word) is kind:
                # Whoever answers "too much" with 5xx is short of capacity for everybody.
                ours = kind is not known.TOO_MANY or refused
                return kind if ours else known.OVERLOAD, f"{http} {word}".lstrip()
    if status is not None:
        return known.of_status(status), http
    return next(((known.WORDS[w], w) for w in body.words if w in known.WORDS), (None, ""))


def kind_of(error_type: type[BaseException]) -> Kind | None:
    """Return what is known of a type of errors of a client library; None where nothing is."""
    return _named(error_type)[1]


def _named(error_type: type[BaseException]) -> tuple[str, Kind | None]:
    """The library that an error comes from, and what is known of its type."""
    family = ""
    for base in error_type.__mro__[:_CLASSES_MAX]:
        module = _get(base, "__module__")
        root = module.partition(".")[0] if isinstance(module, str) else ""
        if not family and (root in known.TYPES or root in _WORDED):
            family = root
        kind = known.TYPES[root].get(base.__name__) if root in known.TYPES else None
        if kind is not None:
            return root, kind
    return family, None


def _status(error: BaseException, family: str) -> int | None:
    """The HTTP status that says what went wrong; one that says it went well is none."""
    if family == "aiohttp" and _get(error, "__cause__") is not None:
        # It says 400 of an answer that it could not read; nobody had answered 400.
        return None
    response = _get(error, "response")
    places = [(error, "status_code"), (error, "status"), (response, "status_code")]
    for holder, name in (*places, (response, "status"), (error, "http_status")):
        found = _whole(None if holder is None else _get(holder, name), least=300)
        if found is not None:
            return found
    if family == "botocore" and isinstance(response, dict):
        meta = response.get("ResponseMetadata")
        return _whole(meta.get("HTTPStatusCode"), least=400) if isinstance(meta, dict) else None
    # A code may be anything; only what looks like an error counts.
    return _whole(_get(error, "code"), least=400)


def _whole(value: Any, *, least: int) -> int | None:
    """An HTTP status, or None."""
    if isinstance(value, str):
        value = int(value) if len(value) == 3 and value.isascii() and value.isdigit() else None  # noqa: PLR2004
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return int(value) if least <= value <= 599 else None  # noqa: PLR2004


def _headers(error: BaseException) -> Any:
    response = _get(error, "response")
    if isinstance(response, dict):
        meta = response.get("ResponseMetadata")
        return meta.get("HTTPHeaders") if isinstance(meta, dict) else None
    headers = _get(response, "headers")
    return _get(error, "headers") if headers is None else headers


def _body(error: BaseException, family: str, status: int | None) -> ErrorBody:
    response = _get(error, "response")
    body = read_body(response if isinstance(response, dict) else _get(error, "body"))
    if family in _WORDED:
        code = _get(error, "code")
        if callable(code):
            # grpc hands its status out that way.
            code = _call(code)
        more = [code, _get(_get(error, "grpc_status_code"), "name"), _get(error, "type")]
        more.insert(1, _get(code, "name"))
        return replace(body, words=tuple(dict.fromkeys((*body.words, *_words(more)))))
    if not body.words and not body.message and status is not None and 400 <= status < 500:  # noqa: PLR2004
        # Of a plain HTTP client; only what it has read already, and no more of it than a bit.
        # (`content` of requests would read what is not there yet, and block.)
        content = _get(response, "_content" if family == "requests" else "content")
        if isinstance(content, bytes) and len(content) <= SIZE_MAX_BYTES:
            return read_body(content)
    return body


def _words(found: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(w)[:100].lower() for w in found if isinstance(w, str) and w)


def _text(value: Any) -> str:
    return value[:2_000] if isinstance(value, str) else ""


def _get(holder: Any, name: str) -> Any:
    """An attribute; None where there is none, and where looking for it fails."""
    try:
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001  properties of strangers
        return None


def _call(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception:  # noqa: BLE001  methods of strangers
        return None
