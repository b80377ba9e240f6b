"""Errors as clients of services raise them, without the clients."""

from __future__ import annotations

import json
from typing import Any

from undercroft.layers.breakers.classes import (
    DEFAULT_TABLE,
    Blame,
    Judged,
)
from undercroft.model.step import ErrorClass

T, O, P = ErrorClass.TRANSIENT, ErrorClass.OVERLOADED, ErrorClass.PERMANENT  # noqa: E741  one letter each, for a table
D, U = ErrorClass.DOMAIN, ErrorClass.UNKNOWN
VENDOR, ACCOUNT, CALLER = Blame.VENDOR, Blame.ACCOUNT, Blame.CALLER
UNSURE, NOBODY = Blame.UNSURE, Blame.NOBODY


def made(path: str, *bases: type[BaseException], **attributes: Any) -> Any:
    """Return an error that looks like one of a library: `httpx.ReadTimeout`."""
    module, _, name = path.rpartition(".")
    fields = {"__module__": module, **attributes}
    return type(name, bases or (Exception,), fields)(f"made {name}")


class Response:
    """Looks like an HTTP response."""

    def __init__(
        self, status_code: int, body: Any = None, headers: dict[str, str] | None = None
    ) -> None:
        self.status_code = status_code
        self.headers = headers or {}
        self.content = b"" if body is None else json.dumps(body).encode()


def http(status: int, body: Any = None, headers: dict[str, str] | None = None) -> Any:
    """Return an `httpx.HTTPStatusError`."""
    return made("httpx.HTTPStatusError", response=Response(status, body, headers))


def sdk(path: str, status: int | None, body: Any, headers: dict[str, str] | None = None) -> Any:
    """Return an error as the clients of OpenAI and Anthropic raise them."""
    family = path.partition(".")[0]
    base = type(made(f"{family}.APIError"))
    known: dict[str, Any] = {"body": body}
    if status is not None:
        known |= {"status_code": status, "response": Response(status, None, headers)}
    return made(path, base, **known)


def judge(error: BaseException, *, changes: bool = False) -> Judged:
    """Return what the table says."""
    return DEFAULT_TABLE.judge(error, changes=changes)


OPENAI_LIMIT = {"message": "Slow down.", "type": "tokens", "code": "rate_limit_exceeded"}
OPENAI_QUOTA = {"message": "Pay.", "type": "insufficient_quota", "code": "insufficient_quota"}


def anthropic(kind: str, message: str = "No.", **more: Any) -> dict[str, Any]:
    """Return a body of Anthropic's."""
    return {"type": "error", "error": {"type": kind, "message": message, **more}}


def raised(error: BaseException, *, cause: Any = None, context: Any = None) -> Any:
    """Return `error` as it is raised from `cause`, or while `context` is handled."""
    if cause is not None:
        error.__cause__ = cause
    if context is not None:
        error.__context__ = context
    return error
